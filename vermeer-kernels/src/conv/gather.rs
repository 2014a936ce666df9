//! A convolution as a product of a matrix that is never built: each tile of result positions
//! reads its source pixels through pointers, tap by tap.
//!
//! Every position adds its products in the same order (taps, then channels) whatever tile,
//! image or thread it belongs to, so a result does not depend on its company.

#![allow(
    unsafe_code,
    reason = "source pixels are read through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use rayon::prelude::*;

use super::Work;
use super::geometry::Phase;
use super::panel::{Panel, Panels};
use crate::Isa;
use crate::memory::{SharedMut, in_parts};
use crate::simd::{Kernel, Simd};

/// A channels-last source or result: `[n, h, w, pitch]`, of which `channels` from `first` count.
#[derive(Clone, Copy)]
pub(crate) struct Plane {
    pub(crate) size: [usize; 2],
    /// Channels of a pixel in memory.
    pub(crate) pitch: usize,
    /// First channel that counts.
    pub(crate) first: usize,
    /// Channels that count.
    pub(crate) channels: usize,
}

/// A result of so few channels that a vector is better filled with those of the source.
const FEW: usize = 4;

/// The direct sum. Where a phase has no taps the result is the bias.
pub(super) fn gather(isa: Isa, n: usize, work: &Work<'_>) {
    let Work {
        phase,
        source: (source, source_plane),
        weight: (weight, strides),
        bias,
        result: (result, result_plane),
    } = *work;
    let (lanes, most) = isa.shape();
    let few = (1..=FEW).contains(&result_plane.channels) && source_plane.channels >= lanes;
    let (channels, depth) = (result_plane.channels, source_plane.channels);
    let panels = match few {
        true => Panels {
            panels: vec![],
            data: Panels::pack_rows(weight, phase, strides, channels, depth),
        },
        false => Panels::pack(weight, phase, strides, channels, depth, lanes, most),
    };
    let mut biases = bias.map_or_else(
        || vec![0.0; channels],
        |bias| bias[result_plane.first..][..channels].to_vec(),
    );
    biases.resize(channels + lanes * most, 0.0);
    let zeros = vec![0.0f32; depth + lanes];
    let task = Task {
        phase,
        source: source.as_ptr() as usize,
        source_plane,
        panels: &panels,
        bias: &biases,
        zeros: &zeros,
        result,
        result_plane,
    };
    let positions = n * phase.rows * phase.cols;
    let work = depth * channels * phase.taps.len();
    in_parts(positions, 24, work)
        .into_par_iter()
        .for_each(|(from, to)| {
            if few {
                isa.run(Few(&task, from, to));
            } else {
                isa.run(Tiles(&task, from, to));
            }
        });
}

struct Task<'a> {
    phase: &'a Phase,
    /// Address of the source, kept as a number so that threads may share it.
    source: usize,
    source_plane: Plane,
    panels: &'a Panels,
    /// One for each channel of the result, and zeros behind for the last panel.
    bias: &'a [f32],
    /// What a tap outside the source reads.
    zeros: &'a [f32],
    result: &'a SharedMut<'a>,
    result_plane: Plane,
}

/// A result position: its pixel there and its base in the source.
#[derive(Clone, Copy)]
struct Position {
    result: *mut f32,
    image: *const f32,
    y: isize,
    x: isize,
}

impl Task<'_> {
    /// Position number `p` of the phase.
    #[inline(always)]
    fn position(&self, p: usize) -> Position {
        let phase = self.phase;
        let (row, j) = (p / phase.cols, p % phase.cols);
        let (image, i) = (row / phase.rows, row % phase.rows);
        let (s, r) = (&self.source_plane, &self.result_plane);
        let y = phase.first[0] + i * phase.step[0];
        let x = phase.first[1] + j * phase.step[1];
        let pixel = (image * r.size[0] + y) * r.size[1] + x;
        let source = self.source as *const f32;
        Position {
            // SAFETY: the pixel lies in the result, as phases cover only its pixels.
            result: unsafe { self.result.pointer().add(pixel * r.pitch + r.first) },
            // Wrapping, for a source without pixels has no such place; nothing is read there.
            image: source.wrapping_add(image * s.size[0] * s.size[1] * s.pitch + s.first),
            y: (i * phase.source_step[0]) as isize,
            x: (j * phase.source_step[1]) as isize,
        }
    }

    /// The source pixel that a tap reads for a position, or zeros.
    #[inline(always)]
    fn source(&self, position: &Position, dy: isize, dx: isize) -> *const f32 {
        let s = &self.source_plane;
        let (y, x) = ((position.y + dy) as usize, (position.x + dx) as usize);
        if y < s.size[0] && x < s.size[1] {
            // SAFETY: the pixel lies in the image.
            unsafe { position.image.add((y * s.size[1] + x) * s.pitch) }
        } else {
            self.zeros.as_ptr()
        }
    }
}

struct Tiles<'a>(&'a Task<'a>, usize, usize);

impl Kernel for Tiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(task, from, to) = self;
        for panel in &task.panels.panels {
            // SAFETY: `from..to` are positions of the task. The tiles fill 32 registers of
            // AVX-512 and 16 of the other sets.
            unsafe {
                match (S::PANEL, panel.vectors) {
                    (_, 1) => tiles::<S, 12, 1>(task, panel, from, to),
                    (4, 2) => tiles::<S, 12, 2>(task, panel, from, to),
                    (_, 2) => tiles::<S, 6, 2>(task, panel, from, to),
                    (_, 3) => tiles::<S, 8, 3>(task, panel, from, to),
                    _ => tiles::<S, 6, 4>(task, panel, from, to),
                }
            }
        }
    }
}

/// The positions `from..to` for one panel, `R` at a time.
#[inline(always)]
unsafe fn tiles<S: Simd, const R: usize, const V: usize>(
    task: &Task<'_>,
    panel: &Panel,
    from: usize,
    to: usize,
) {
    let (taps, depth) = (&task.phase.taps, task.source_plane.channels);
    // SAFETY: the positions exist; the panel holds taps · depth rows of V vectors; a row of the
    // result has `panel.valid` channels from `panel.first`, and only those are written.
    unsafe {
        let mut first = from;
        while first < to {
            let rows = R.min(to - first);
            let mut places = [task.position(first); R];
            for r in 1..R {
                places[r] = task.position(first + r.min(rows - 1));
            }
            let mut weight = task.panels.data.as_ptr().add(panel.at);
            let mut start = [S::splat(0.0); V];
            for v in 0..V {
                start[v] = S::load(task.bias.as_ptr().add(panel.first + v * S::LANES));
            }
            let mut sums = [start; R];
            for tap in taps {
                let mut sources = [std::ptr::null::<f32>(); R];
                for r in 0..R {
                    sources[r] = task.source(&places[r], tap.dy, tap.dx);
                }
                for d in 0..depth {
                    let mut w = [S::splat(0.0); V];
                    for v in 0..V {
                        w[v] = S::load(weight.add(v * S::LANES));
                    }
                    for r in 0..R {
                        let x = S::splat(*sources[r].add(d));
                        for v in 0..V {
                            sums[r][v] = S::fma(w[v], x, sums[r][v]);
                        }
                    }
                    weight = weight.add(V * S::LANES);
                }
            }
            for r in 0..rows {
                let row = places[r].result.add(panel.first);
                for v in 0..V {
                    let left = panel.valid - v * S::LANES;
                    match left >= S::LANES {
                        true => S::store(row.add(v * S::LANES), sums[r][v]),
                        false => S::store_part(row.add(v * S::LANES), left, sums[r][v]),
                    }
                }
            }
            first += rows;
        }
    }
}

struct Few<'a>(&'a Task<'a>, usize, usize);

impl Kernel for Few<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(task, from, to) = self;
        // SAFETY: `from..to` are positions of the task.
        unsafe {
            match task.result_plane.channels {
                1 => dots::<S, 1>(task, from, to),
                2 => dots::<S, 2>(task, from, to),
                3 => dots::<S, 3>(task, from, to),
                FEW => dots::<S, FEW>(task, from, to),
                other => unreachable!("{other} channels are not few"),
            }
        }
    }
}

/// The positions `from..to` for `K` channels, each a sum over vectors of source channels.
#[inline(always)]
unsafe fn dots<S: Simd, const K: usize>(task: &Task<'_>, from: usize, to: usize) {
    const R: usize = 2;
    let (taps, depth) = (&task.phase.taps, task.source_plane.channels);
    let whole = depth / S::LANES * S::LANES;
    // SAFETY: the positions exist; the weights hold K · taps rows of `depth`; no vector reads
    // past the channels of a pixel.
    unsafe {
        let weight = task.panels.data.as_ptr();
        let mut first = from;
        while first < to {
            let rows = R.min(to - first);
            let places: [Position; R] =
                std::array::from_fn(|r| task.position(first + r.min(rows - 1)));
            let mut sums = [[S::splat(0.0); K]; R];
            for (t, tap) in taps.iter().enumerate() {
                let sources: [*const f32; R] =
                    std::array::from_fn(|r| task.source(&places[r], tap.dy, tap.dx));
                let row = |k: usize, d: usize| weight.add((k * taps.len() + t) * depth + d);
                let mut d = 0;
                while d < whole {
                    let x: [S::V; R] = std::array::from_fn(|r| S::load(sources[r].add(d)));
                    for k in 0..K {
                        let w = S::load(row(k, d));
                        for r in 0..R {
                            sums[r][k] = S::fma(w, x[r], sums[r][k]);
                        }
                    }
                    d += S::LANES;
                }
                if whole < depth {
                    let left = depth - whole;
                    let x: [S::V; R] =
                        std::array::from_fn(|r| S::load_part(sources[r].add(whole), left));
                    for k in 0..K {
                        let w = S::load_part(row(k, whole), left);
                        for r in 0..R {
                            sums[r][k] = S::fma(w, x[r], sums[r][k]);
                        }
                    }
                }
            }
            for r in 0..rows {
                for k in 0..K {
                    *places[r].result.add(k) = S::sum(sums[r][k]) + task.bias[k];
                }
            }
            first += rows;
        }
    }
}
