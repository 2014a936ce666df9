//! Convolutions whose channels do not see each other: vectors run over the channels of both sides.

#![allow(unsafe_code, reason = "pixels are read through computed pointers")]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use rayon::prelude::*;

use super::Work;
use super::gather::{Plane, Task};
use super::geometry::Phase;
use crate::Isa;
use crate::memory::in_parts;
use crate::simd::{Kernel, Simd};

/// Weights as `[tap][channel]`, with room behind for a last vector.
pub(super) fn pack(isa: Isa, phase: &Phase, weight: &[f32], taps: usize) -> Vec<f32> {
    let channels = weight.len() / taps.max(1);
    let all = phase.taps.iter();
    let mut packed: Vec<f32> = all
        .flat_map(|tap| (0..channels).map(|channel| weight[channel * taps + tap.index]))
        .collect();
    packed.resize(packed.len() + isa.shape().0, 0.0);
    packed
}

/// The sum of every channel over its taps.
pub(super) fn depthwise(work: &Work<'_>, weights: &[f32]) {
    let isa = work.isa;
    let finish = work.finish();
    let zeros = vec![0.0f32; work.source.1.channels + isa.shape().0];
    let task = Task::new(work, &finish, &zeros);
    let phase = work.phase;
    let positions = work.n * phase.rows * phase.cols;
    let products = work.source.1.channels * phase.taps.len();
    in_parts(positions, 4, products)
        .into_par_iter()
        .for_each(|(from, to)| isa.run(Positions(&task, weights, from, to)));
}

/// The positions `from..to`, four at a time.
struct Positions<'a>(&'a Task<'a>, &'a [f32], usize, usize);

impl Kernel for Positions<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        const R: usize = 4;
        let Self(task, weights, from, to) = self;
        let channels = task.source_plane.channels;
        // SAFETY: the positions exist; weights, bias and zeros have room for a last vector, and of
        // source and result no vector reaches past the channels of a pixel.
        unsafe {
            let mut first = from;
            while first < to {
                let rows = R.min(to - first);
                let mut places = [task.position(first); R];
                for r in 1..R {
                    places[r] = task.position(first + r.min(rows - 1));
                }
                for channel in (0..channels).step_by(S::LANES) {
                    let left = channels - channel;
                    let mut sums = [S::load(task.finish.bias.as_ptr().add(channel)); R];
                    for (t, tap) in task.phase.taps.iter().enumerate() {
                        let weight = S::load(weights.as_ptr().add(t * channels + channel));
                        for r in 0..R {
                            let source = task.source(&places[r], tap.dy, tap.dx).add(channel);
                            let x = match left >= S::LANES {
                                true => S::load(source),
                                false => S::load_part(source, left),
                            };
                            sums[r] = S::fma(weight, x, sums[r]);
                        }
                    }
                    for r in 0..rows {
                        let at = places[r].result.add(channel);
                        let sum = task.finish.apply::<S>(sums[r], channel, at, left);
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
}

/// Writes the gradient to the weight, `[channels, taps]`: rows of pixels are added up one by one,
/// in an order that does not depend on the threads.
pub(super) fn weight_gradient(
    isa: Isa,
    n: usize,
    phase: &Phase,
    (input, input_plane): (&[f32], Plane),
    (output, output_plane): (&[f32], Plane),
    gradient: &mut [f32],
) {
    let taps = phase.taps.len();
    let channels = input_plane.channels;
    let blocks = channels.div_ceil(isa.shape().0);
    gradient
        .par_chunks_mut((isa.shape().0 * taps).max(1))
        .zip(0..blocks)
        .for_each(|(gradient, block)| {
            isa.run(Gradient {
                n,
                phase,
                input: (input, input_plane),
                output: (output, output_plane),
                channel: block * isa.shape().0,
                gradient,
            });
        });
}

/// The gradient of a vector of channels.
struct Gradient<'a> {
    n: usize,
    phase: &'a Phase,
    input: (&'a [f32], Plane),
    output: (&'a [f32], Plane),
    channel: usize,
    gradient: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            n, phase, channel, ..
        } = self;
        let ((input, from), (output, to)) = (self.input, self.output);
        let taps = phase.taps.len();
        let count = S::LANES.min(from.channels - channel);
        for (t, tap) in phase.taps.iter().enumerate() {
            let mut total = [0.0f64; 16];
            for (image, row) in (0..n).flat_map(|i| (0..phase.rows).map(move |row| (i, row))) {
                let y = (row * phase.source_step[0]) as isize + tap.dy;
                if y < 0 || y as usize >= from.size[0] {
                    continue;
                }
                let above = (image * from.size[0] + y as usize) * from.size[1];
                let result = (image * to.size[0] + row) * to.size[1];
                // SAFETY: the pixels lie in the images, and a vector in the channels of a pixel.
                unsafe {
                    let mut sum = S::splat(0.0);
                    for col in 0..phase.cols {
                        let x = (col * phase.source_step[1]) as isize + tap.dx;
                        if x < 0 || x as usize >= from.size[1] {
                            continue;
                        }
                        let at = (above + x as usize) * from.pitch + from.first + channel;
                        let of = (result + col) * to.pitch + to.first + channel;
                        let x = S::load_part(input.as_ptr().add(at), count);
                        let y = S::load_part(output.as_ptr().add(of), count);
                        sum = S::fma(x, y, sum);
                    }
                    let mut lanes = [0.0f32; 16];
                    S::store(lanes.as_mut_ptr(), sum);
                    for (total, lane) in total.iter_mut().zip(lanes) {
                        *total += f64::from(lane);
                    }
                }
            }
            for (i, total) in total.iter().enumerate().take(count) {
                self.gradient[i * taps + t] = *total as f32;
            }
        }
    }
}
