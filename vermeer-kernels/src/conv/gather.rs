//! A convolution as a product of a matrix that is never built: each tile of result positions
//! reads its source pixels through pointers, tap by tap.
//!
//! Every position adds its products in the same order (taps, then channels) whatever tile,
//! image or thread it belongs to, so a result does not depend on its company. Taps that are outside
//! the image for all positions of a tile are skipped, which changes nothing while weights are finite.

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
use super::geometry::{Edge, Phase};
use super::panel::{Panel, Panels, Strides};
use super::tail::Finish;
use crate::Isa;
use crate::memory::{SharedMut, in_parts};
use crate::simd::{Kernel, Portable, Simd};

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

impl Plane {
    /// The channels of one group of several.
    pub(super) fn group(self, group: usize, groups: usize) -> Self {
        let channels = self.channels / groups;
        Self {
            first: self.first + group * channels,
            channels,
            ..self
        }
    }
}

/// A result of so few channels that a vector is better filled with those of the source.
const FEW: usize = 4;

/// Weights as the direct sum reads them.
pub(super) enum Weights {
    Panels(Panels),
    /// For a result of a few channels.
    Rows(Vec<f32>),
}

impl Weights {
    /// The weights of `phase` for a result of `channels` from `depth` channels.
    pub(super) fn pack(
        isa: Isa,
        phase: &Phase,
        (weight, strides): (&[f32], Strides),
        channels: usize,
        depth: usize,
    ) -> Self {
        let (lanes, most) = isa.shape();
        match (1..=FEW).contains(&channels) && depth >= lanes {
            true => Self::Rows(Panels::pack_rows(weight, phase, strides, channels, depth)),
            false => Self::Panels(Panels::pack(
                weight, phase, strides, channels, depth, lanes, most,
            )),
        }
    }
}

/// The direct sum. Where a phase has no taps only the tail is left.
pub(super) fn gather(work: &Work<'_>, weights: &Weights) {
    let isa = work.isa;
    let (lanes, _) = isa.shape();
    let (channels, depth) = (work.result.1.channels, work.source.1.channels);
    let finish = work.finish();
    let zeros = vec![0.0f32; depth + lanes];
    let task = Task::new(work, &finish, &zeros);
    let positions = work.n * work.phase.rows * work.phase.cols;
    let products = depth * channels * work.phase.taps.len();
    in_parts(positions, 24, products)
        .into_par_iter()
        .for_each(|(from, to)| match weights {
            Weights::Rows(rows) => isa.run(Few(&task, rows, from, to)),
            Weights::Panels(panels) => isa.run(Tiles(&task, panels, from, to)),
        });
}

/// Taps that read neighbours in a row of the source.
struct Run {
    dy: isize,
    /// Of the first.
    dx: isize,
    taps: usize,
}

impl Run {
    /// The taps of a phase, in order, as runs; where pixels do not lie side by side, of one tap.
    fn all(phase: &Phase, plane: &Plane) -> Vec<Self> {
        let mut runs: Vec<Self> = vec![];
        let dense = plane.pitch == plane.channels;
        for tap in &phase.taps {
            match runs.last_mut() {
                Some(run) if dense && (run.dy, run.dx + run.taps as isize) == (tap.dy, tap.dx) => {
                    run.taps += 1;
                }
                _ => runs.push(Self {
                    dy: tap.dy,
                    dx: tap.dx,
                    taps: 1,
                }),
            }
        }
        runs
    }
}

/// What the positions of a phase are computed with.
pub(super) struct Task<'a> {
    n: usize,
    pub(super) phase: &'a Phase,
    /// Its taps.
    runs: Vec<Run>,
    /// Address of the source, kept as a number so that threads may share it.
    source: usize,
    pub(super) source_plane: Plane,
    pub(super) finish: &'a Finish,
    edge: Edge,
    /// What a tap outside the source reads.
    zeros: &'a [f32],
    result: &'a SharedMut<'a>,
    result_plane: Plane,
}

/// A result position: its pixel there and its base in the source.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) result: *mut f32,
    image: *const f32,
    y: isize,
    x: isize,
}

impl<'a> Task<'a> {
    /// `zeros` are as many as a pixel of the source has channels, and a vector more.
    pub(super) fn new(work: &Work<'a>, finish: &'a Finish, zeros: &'a [f32]) -> Self {
        let (source, source_plane) = work.source;
        let (result, result_plane) = work.result;
        Self {
            n: work.n,
            phase: work.phase,
            runs: Run::all(work.phase, &source_plane),
            source: source as usize,
            source_plane,
            finish,
            edge: work.edge,
            zeros,
            result,
            result_plane,
        }
    }

    /// Position number `p` of the phase: image by image or, of small ones, pixel by pixel, because
    /// the same pixels of several images have the same taps outside.
    #[inline(always)]
    pub(super) fn position(&self, p: usize) -> Position {
        const SMALL: usize = 16;
        let phase = self.phase;
        let pixels = phase.rows * phase.cols;
        let (image, pixel) = match pixels <= SMALL {
            true => (p % self.n, p / self.n),
            false => (p / pixels, p % pixels),
        };
        let (i, j) = (pixel / phase.cols, pixel % phase.cols);
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

    /// Whether all pixels of a run lie in a position's image.
    #[inline(always)]
    fn has(&self, position: &Position, run: &Run) -> bool {
        let size = &self.source_plane.size;
        let (y, x) = (position.y + run.dy, position.x + run.dx);
        (y as usize) < size[0] && x >= 0 && x as usize + run.taps <= size[1]
    }

    /// The source pixel that a tap reads for a position, or zeros.
    #[inline(always)]
    pub(super) fn source(&self, position: &Position, dy: isize, dx: isize) -> *const f32 {
        let s = &self.source_plane;
        let (y, x) = (position.y + dy, position.x + dx);
        // Numbers below zero are large ones without a sign.
        let inside = (y as usize) < s.size[0] && (x as usize) < s.size[1];
        if !inside && self.edge == Edge::Zeros {
            return self.zeros.as_ptr();
        }
        let (y, x) = match inside {
            true => (y as usize, x as usize),
            false => (
                self.edge.within(y, s.size[0]),
                self.edge.within(x, s.size[1]),
            ),
        };
        // SAFETY: the pixel lies in the image.
        unsafe { position.image.add((y * s.size[1] + x) * s.pitch) }
    }
}

struct Tiles<'a>(&'a Task<'a>, &'a Panels, usize, usize);

impl Kernel for Tiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(task, panels, from, to) = self;
        for panel in &panels.panels {
            let weights = panels.data.as_ptr();
            // SAFETY: `from..to` are positions of the task.
            unsafe {
                match panel.vectors {
                    1 => tiles::<S, 8, 1>(task, panel, weights, from, to),
                    2 => tiles::<S, 6, 2>(task, panel, weights, from, to),
                    3 => tiles::<S, 6, 3>(task, panel, weights, from, to),
                    _ => tiles::<S, 6, 4>(task, panel, weights, from, to),
                }
            }
        }
    }
}

/// The positions `from..to` for one panel, `R` at a time: enough to keep the multipliers busy and
/// few enough for a register for each one's address.
#[inline(always)]
unsafe fn tiles<S: Simd, const R: usize, const V: usize>(
    task: &Task<'_>,
    panel: &Panel,
    weights: *const f32,
    from: usize,
    to: usize,
) {
    let depth = task.source_plane.channels;
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
            let mut weight = weights.add(panel.at);
            let mut start = [S::splat(0.0); V];
            for v in 0..V {
                start[v] = S::load(task.finish.bias.as_ptr().add(panel.first + v * S::LANES));
            }
            let mut sums = [start; R];
            for run in &task.runs {
                let mut whole = true;
                for r in 0..R {
                    whole &= task.has(&places[r], run);
                }
                // The pixels of a run lie side by side if all are in the image.
                let (steps, count) = match whole {
                    true => (1, run.taps * depth),
                    false => (run.taps, depth),
                };
                for step in 0..steps {
                    let mut sources = [std::ptr::null::<f32>(); R];
                    let mut outside = true;
                    for r in 0..R {
                        sources[r] = task.source(&places[r], run.dy, run.dx + step as isize);
                        outside &= sources[r] == task.zeros.as_ptr();
                    }
                    if outside {
                        weight = weight.add(count * V * S::LANES);
                        continue;
                    }
                    for d in 0..count {
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
            }
            // The sums leave their registers in loops of constant length: an index that is not
            // known would keep them in memory all the time.
            let mut kept = [[[0.0f32; 16]; V]; R];
            for r in 0..R {
                for v in 0..V {
                    S::store(kept[r][v].as_mut_ptr(), sums[r][v]);
                }
            }
            for r in 0..rows {
                let row = places[r].result.add(panel.first);
                for v in 0..V {
                    let (at, left) = (row.add(v * S::LANES), panel.valid - v * S::LANES);
                    let channel = panel.first + v * S::LANES;
                    let sum = S::load(kept[r][v].as_ptr());
                    let sum = task.finish.apply::<S>(sum, channel, at, left);
                    match left >= S::LANES {
                        true => S::store(at, sum),
                        false => S::store_part(at, left, sum),
                    }
                }
            }
            first += rows;
        }
    }
}

struct Few<'a>(&'a Task<'a>, &'a [f32], usize, usize);

impl Kernel for Few<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(task, rows, from, to) = self;
        // SAFETY: `from..to` are positions of the task.
        unsafe {
            match task.result_plane.channels {
                1 => dots::<S, 1>(task, rows, from, to),
                2 => dots::<S, 2>(task, rows, from, to),
                3 => dots::<S, 3>(task, rows, from, to),
                FEW => dots::<S, FEW>(task, rows, from, to),
                other => unreachable!("{other} channels are not few"),
            }
        }
    }
}

/// The positions `from..to` for `K` channels, each a sum over vectors of source channels.
#[inline(always)]
unsafe fn dots<S: Simd, const K: usize>(task: &Task<'_>, weights: &[f32], from: usize, to: usize) {
    const R: usize = 4;
    let (taps, depth) = (task.phase.taps.len(), task.source_plane.channels);
    // SAFETY: the positions exist; the weights hold K · taps rows of `depth`; no vector reads
    // past the channels of a pixel.
    unsafe {
        let mut first = from;
        while first < to {
            let rows = R.min(to - first);
            let mut places = [task.position(first); R];
            for r in 1..R {
                places[r] = task.position(first + r.min(rows - 1));
            }
            let mut sums = [[S::splat(0.0); K]; R];
            let mut weight = weights.as_ptr();
            for run in &task.runs {
                let mut whole = true;
                for r in 0..R {
                    whole &= task.has(&places[r], run);
                }
                // Only whole vectors go on from one pixel to the next: a sum's order must not
                // depend on its place in the image.
                let (steps, count) = match whole && depth.is_multiple_of(S::LANES) {
                    true => (1, run.taps * depth),
                    false => (run.taps, depth),
                };
                for step in 0..steps {
                    let mut sources = [std::ptr::null::<f32>(); R];
                    for r in 0..R {
                        sources[r] = task.source(&places[r], run.dy, run.dx + step as isize);
                    }
                    for d in (0..count).step_by(S::LANES) {
                        let left = count - d;
                        let mut x = [S::splat(0.0); R];
                        for r in 0..R {
                            x[r] = match left >= S::LANES {
                                true => S::load(sources[r].add(d)),
                                false => S::load_part(sources[r].add(d), left),
                            };
                        }
                        for k in 0..K {
                            let at = weight.add(k * taps * depth + d);
                            let w = match left >= S::LANES {
                                true => S::load(at),
                                false => S::load_part(at, left),
                            };
                            for r in 0..R {
                                sums[r][k] = S::fma(w, x[r], sums[r][k]);
                            }
                        }
                    }
                    weight = weight.add(count);
                }
            }
            let mut kept = [[0.0f32; FEW]; R];
            for r in 0..R {
                for k in 0..K {
                    kept[r][k] = S::sum(sums[r][k]) + task.finish.bias[k];
                }
            }
            for r in 0..rows {
                let at = places[r].result;
                let sum = task.finish.apply::<Portable>(kept[r], 0, at, K);
                Portable::store_part(at, K, sum);
            }
            first += rows;
        }
    }
}
