//! The gradient of a convolution to its weight.
//!
//! `gradient[k, c, tap] = Σ_p source[p + tap, c] · output[p, k]`: vectors run over the channels
//! of one side, and a few channels of the other side, each with its tap, share them. The
//! positions are added in blocks of fixed size, so the sum does not depend on the threads.

#![allow(unsafe_code, reason = "pixels are read through computed pointers")]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use rayon::prelude::*;

use super::gather::Plane;
use super::geometry::Phase;
use super::panel::{Panel, split};
use crate::Isa;
use crate::memory::SharedMut;
use crate::simd::{Kernel, Simd};

/// Positions that are added before their sum joins the others.
const BLOCK: usize = 64;
/// Rows of a product: channels, each with its tap.
const ROWS: usize = 6;

/// Writes the gradient of one group, laid out `[k, c, taps]`.
pub(super) fn weight_gradient(
    isa: Isa,
    n: usize,
    phase: &Phase,
    (input, input_plane): (&[f32], Plane),
    (output, output_plane): (&[f32], Plane),
    gradient: &mut [f32],
) {
    let (lanes, most) = isa.shape();
    let (c, k, taps) = (
        input_plane.channels,
        output_plane.channels,
        phase.taps.len(),
    );
    // Vectors over the output's channels, unless the input's fill them better.
    let over_output = k >= lanes || k >= c;
    let (wide, narrow) = if over_output { (k, c) } else { (c, k) };
    let panels = split(wide, lanes, most);
    let items: Vec<Item> = (0..panels.len())
        .flat_map(|panel| {
            let rows: Vec<(usize, usize)> = (0..taps)
                .flat_map(|tap| (0..narrow).map(move |channel| (tap, channel)))
                .collect();
            // Where vectors run over the input, a product has one tap only.
            let blocks: Vec<Vec<(usize, usize)>> = match over_output {
                true => rows.chunks(ROWS).map(<[_]>::to_vec).collect(),
                false => rows
                    .chunks(narrow.max(1))
                    .flat_map(|one| one.chunks(ROWS).map(<[_]>::to_vec))
                    .collect(),
            };
            blocks.into_iter().map(move |rows| Item { panel, rows })
        })
        .collect();
    let task = Task {
        n,
        phase,
        input: input.as_ptr() as usize,
        input_plane,
        output: output.as_ptr() as usize,
        output_plane,
        zeros: &vec![0.0f32; c + lanes],
        panels: &panels,
        over_output,
        gradient: &SharedMut::new(gradient),
    };
    let positions = n * phase.rows * phase.cols;
    let work = positions * wide.min(lanes * most) * ROWS;
    let worth = (1usize << 18).div_ceil(work.max(1));
    let size = items
        .len()
        .div_ceil(rayon::current_num_threads())
        .max(worth);
    items
        .par_chunks(size.max(1))
        .for_each(|items| isa.run(Sums(&task, items)));
}

/// Some rows of one panel.
struct Item {
    panel: usize,
    /// `(tap, channel)` of the narrow side.
    rows: Vec<(usize, usize)>,
}

struct Task<'a> {
    n: usize,
    phase: &'a Phase,
    input: usize,
    input_plane: Plane,
    output: usize,
    output_plane: Plane,
    zeros: &'a [f32],
    panels: &'a [Panel],
    over_output: bool,
    gradient: &'a SharedMut<'a>,
}

struct Sums<'a>(&'a Task<'a>, &'a [Item]);

impl Kernel for Sums<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(task, items) = self;
        let positions = task.n * task.phase.rows * task.phase.cols;
        let width = S::PANEL * S::LANES;
        let mut sums = vec![0.0f32; items.len() * ROWS * width];
        // Pointers of a block: the output's, then the input's for each tap that is needed.
        let mut used: Vec<usize> = items
            .iter()
            .flat_map(|item| item.rows.iter().map(|row| row.0))
            .collect();
        used.sort_unstable();
        used.dedup();
        let slot = |tap: usize| used.binary_search(&tap).expect("listed above");
        let mut outputs = [std::ptr::null::<f32>(); BLOCK];
        let mut inputs = vec![std::ptr::null::<f32>(); used.len() * BLOCK];
        let mut first = 0;
        while first < positions {
            let count = BLOCK.min(positions - first);
            for p in 0..count {
                let (output, image, y, x) = task.position(first + p);
                outputs[p] = output;
                for (slot, tap) in used.iter().enumerate() {
                    inputs[slot * BLOCK + p] = task.source(image, y, x, *tap);
                }
            }
            for (i, item) in items.iter().enumerate() {
                let panel = &task.panels[item.panel];
                let pointers = |tap: usize| &inputs[slot(tap) * BLOCK..][..count];
                let wide: &[*const f32] = match task.over_output {
                    true => &outputs[..count],
                    false => pointers(item.rows[0].0),
                };
                let row = |r: usize| {
                    let (tap, channel) = item.rows[r.min(item.rows.len() - 1)];
                    let list = match task.over_output {
                        true => pointers(tap).as_ptr(),
                        false => outputs.as_ptr(),
                    };
                    (list, channel)
                };
                let rows: [(*const *const f32, usize); ROWS] = std::array::from_fn(row);
                let sums = &mut sums[i * ROWS * width..][..ROWS * width];
                // SAFETY: the pointers are of pixels with the channels that are read, or of
                // zeros as many; the sums have room for ROWS rows of a panel.
                unsafe {
                    match panel.vectors {
                        1 => block::<S, 1>(wide, panel, &rows, sums),
                        2 => block::<S, 2>(wide, panel, &rows, sums),
                        3 => block::<S, 3>(wide, panel, &rows, sums),
                        _ => block::<S, 4>(wide, panel, &rows, sums),
                    }
                }
            }
            first += count;
        }
        let (c, taps) = (task.input_plane.channels, task.phase.taps.len());
        for (i, item) in items.iter().enumerate() {
            let panel = &task.panels[item.panel];
            for (r, (tap, channel)) in item.rows.iter().enumerate() {
                for lane in 0..panel.valid {
                    let value = sums[(i * ROWS + r) * width + lane];
                    let (k, c_at) = match task.over_output {
                        true => (panel.first + lane, *channel),
                        false => (*channel, panel.first + lane),
                    };
                    let at = (k * c + c_at) * taps + task.phase.taps[*tap].index;
                    // SAFETY: every weight belongs to one row of one item.
                    unsafe { *task.gradient.pointer().add(at) = value };
                }
            }
        }
    }
}

impl Task<'_> {
    /// The output's pixel number `p`, its image in the input, and the base there.
    #[inline(always)]
    fn position(&self, p: usize) -> (*const f32, *const f32, isize, isize) {
        let phase = self.phase;
        let (row, j) = (p / phase.cols, p % phase.cols);
        let (image, i) = (row / phase.rows, row % phase.rows);
        let (s, o) = (&self.input_plane, &self.output_plane);
        let (input, output) = (self.input as *const f32, self.output as *const f32);
        // SAFETY: a convolution's own phase lists the output's pixels in order.
        let output = unsafe { output.add(p * o.pitch + o.first) };
        // Wrapping, for an input without pixels has no such place; nothing is read there.
        let image = input.wrapping_add(image * s.size[0] * s.size[1] * s.pitch + s.first);
        let y = (i * phase.source_step[0]) as isize;
        let x = (j * phase.source_step[1]) as isize;
        (output, image, y, x)
    }

    /// The input's pixel that a tap reads, or zeros.
    #[inline(always)]
    fn source(&self, image: *const f32, y: isize, x: isize, tap: usize) -> *const f32 {
        let (s, tap) = (&self.input_plane, &self.phase.taps[tap]);
        let (y, x) = ((y + tap.dy) as usize, (x + tap.dx) as usize);
        if y < s.size[0] && x < s.size[1] {
            // SAFETY: the pixel lies in the image.
            unsafe { image.add((y * s.size[1] + x) * s.pitch) }
        } else {
            self.zeros.as_ptr()
        }
    }
}

/// Adds the products of one block of positions: `sums[r] += Σ_p wide[p] · rows[r][p]`.
#[inline(always)]
unsafe fn block<S: Simd, const V: usize>(
    wide: &[*const f32],
    panel: &Panel,
    rows: &[(*const *const f32, usize); ROWS],
    sums: &mut [f32],
) {
    let last = panel.valid - (V - 1) * S::LANES;
    // SAFETY: see the caller.
    unsafe {
        let mut fresh = [[S::splat(0.0); V]; ROWS];
        for (p, pixel) in wide.iter().enumerate() {
            let pixel = pixel.add(panel.first);
            let mut b = [S::splat(0.0); V];
            for v in 0..V {
                let at = pixel.add(v * S::LANES);
                b[v] = match v + 1 == V && last < S::LANES {
                    true => S::load_part(at, last),
                    false => S::load(at),
                };
            }
            for r in 0..ROWS {
                let (list, channel) = rows[r];
                let a = S::splat(*(*list.add(p)).add(channel));
                for v in 0..V {
                    fresh[r][v] = S::fma(a, b[v], fresh[r][v]);
                }
            }
        }
        for (r, fresh) in fresh.iter().enumerate() {
            for (v, fresh) in fresh.iter().enumerate() {
                let at = sums.as_mut_ptr().add((r * S::PANEL + v) * S::LANES);
                S::store(at, S::add(S::load(at), *fresh));
            }
        }
    }
}
