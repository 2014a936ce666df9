//! The states of images, and the gradients of them, on channels-last slices. A thread takes a few
//! images and goes over all of their lines, so that no line waits for another thread.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, Step};
use super::sweep::{BEFORE, Sweep};
use super::{Cell, Path};
use crate::Isa;
use crate::conv::{Algorithm, Edge, Geometry, weight_gradient};
use crate::dense::Dense;

/// What a pass goes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Images.
    pub(super) n: usize,
    /// Numbers of a state.
    pub(super) h: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) cell: Cell,
    pub(super) path: Path,
}

impl Sizes {
    /// Numbers of the gates of a pixel.
    fn gates(&self) -> usize {
        self.cell.gates() * self.h
    }

    /// Pixels of an image.
    fn pixels(&self) -> usize {
        self.height * self.width
    }

    fn sweep(&self) -> Sweep {
        Sweep::new(self.path, self.height, self.width)
    }
}

/// What the forward pass gives, of each pixel.
pub(super) struct Kept {
    /// `[n, height, width, h]`.
    pub(super) states: Vec<f32>,
    /// The gates as they act, `[n, height, width, gates · h]`.
    pub(super) gates: Vec<f32>,
    /// The memories of an LSTM, or what the states gave to the candidates of a GRU,
    /// `[n, height, width, h]`.
    pub(super) memories: Vec<f32>,
}

/// Images that a thread computes together: a short line of one alone would not fill the products.
fn group(n: usize, sweep: &Sweep) -> usize {
    const ROWS: usize = 32;
    let even = n.div_ceil(rayon::current_num_threads());
    ROWS.div_ceil(sweep.longest().max(1)).min(even).max(1)
}

/// The weight `[k, h, 1, taps]` with the numbers of a tap side by side, `[k, taps · h]`.
fn by_tap(weight: &[f32], h: usize, taps: usize) -> Vec<f32> {
    let mut result: Vec<f32> = Vec::with_capacity(weight.len());
    for output in weight.chunks_exact(h * taps) {
        for tap in 0..taps {
            result.extend(output.iter().skip(tap).step_by(taps));
        }
    }
    result
}

/// The reverse of [`by_tap`].
fn by_channel(weight: &[f32], h: usize, taps: usize) -> Vec<f32> {
    let mut result: Vec<f32> = Vec::with_capacity(weight.len());
    for output in weight.chunks_exact(h * taps) {
        for channel in 0..h {
            result.extend(output.iter().skip(channel).step_by(h));
        }
    }
    result
}

/// `[rows, columns]` with rows and columns exchanged.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let mut result: Vec<f32> = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        result.extend(matrix.iter().skip(column).step_by(columns));
    }
    result
}

/// Where `size` numbers lie that come after `at` as many.
fn span(at: usize, size: usize) -> Range<usize> {
    at * size..(at + 1) * size
}

/// Copies the numbers at `at`, or zeros.
fn fetch(from: &[f32], at: Option<usize>, target: &mut [f32]) {
    match at {
        Some(at) => target.copy_from_slice(&from[span(at, target.len())]),
        None => target.fill(0.0),
    }
}

/// Adds `numbers` to those at `at`.
fn add_at(target: &mut [f32], at: usize, numbers: &[f32]) {
    let target = &mut target[span(at, numbers.len())];
    for (target, number) in target.iter_mut().zip(numbers) {
        *target += *number;
    }
}

/// The states of gates `[n, height, width, gates · h]` and the weight `[gates · h, h, 1, taps]`.
pub(super) fn forward(of: Sizes, gates: &[f32], weight: &[f32]) -> Kept {
    let Sizes { n, h, .. } = of;
    let (pixels, width) = (of.pixels(), of.gates());
    let sweep = of.sweep();
    let matrix = transposed(&by_tap(weight, h, sweep.taps), sweep.taps * h);
    let product = Dense::new(&matrix, sweep.taps * h, width, None);
    let mut kept = Kept {
        states: vec![0.0; n * pixels * h],
        gates: vec![0.0; n * pixels * width],
        memories: vec![0.0; n * pixels * h],
    };
    if n * pixels > 0 {
        let size = group(n, &sweep) * pixels;
        let results = kept
            .states
            .par_chunks_mut(size * h)
            .zip(kept.gates.par_chunks_mut(size * width))
            .zip(kept.memories.par_chunks_mut(size * h));
        gates.par_chunks(size * width).zip(results).for_each(
            |(gates, ((states, active), memories))| {
                let result = Images {
                    states,
                    gates: active,
                    memories,
                };
                forward_images(of, &sweep, &product, gates, result);
            },
        );
    }
    kept
}

/// A part of [`Kept`].
struct Images<'a> {
    states: &'a mut [f32],
    gates: &'a mut [f32],
    memories: &'a mut [f32],
}

fn forward_images(of: Sizes, sweep: &Sweep, product: &Dense, gates: &[f32], result: Images<'_>) {
    let Sizes { h, cell, .. } = of;
    let (pixels, width, taps) = (of.pixels(), of.gates(), sweep.taps);
    let images = gates.len() / (pixels * width);
    let most = images * sweep.longest();
    let mut own: Vec<f32> = vec![0.0; most * width];
    let mut of_states: Vec<f32> = vec![0.0; most * width];
    let mut seen: Vec<f32> = vec![0.0; most * taps * h];
    let mut memory: Vec<f32> = vec![0.0; most * h];
    let mut state: Vec<f32> = vec![0.0; most * h];
    for (from, to) in sweep.lines.iter().copied() {
        let len = to - from;
        let rows = images * len;
        for row in 0..rows {
            let (image, place) = (row / len * pixels, from + row % len);
            let pixel = image + sweep.pixels[place];
            own[span(row, width)].copy_from_slice(&gates[span(pixel, width)]);
            let sources = sweep.sources(place);
            for (tap, source) in sources.iter().enumerate() {
                let at = source.map(|source| image + source);
                fetch(result.states, at, &mut seen[span(row * taps + tap, h)]);
            }
            let at = sources[BEFORE].map(|source| image + source);
            match cell {
                Cell::Lstm => fetch(result.memories, at, &mut memory[span(row, h)]),
                Cell::Gru => fetch(result.states, at, &mut state[span(row, h)]),
            }
        }
        let own = &mut own[..rows * width];
        let of_states = &mut of_states[..rows * width];
        let seen = &seen[..rows * taps * h];
        let (memory, state) = (&mut memory[..rows * h], &mut state[..rows * h]);
        // The first line sees nothing.
        match cell {
            Cell::Lstm => {
                if from > 0 {
                    product.add_to(seen, rows, own);
                }
                cell::lstm_into(own, memory, state, h);
            }
            Cell::Gru => {
                match from {
                    0 => of_states.fill(0.0),
                    _ => product.forward(seen, rows, of_states),
                }
                cell::gru_into(own, of_states, state, h);
                let candidates = of_states.chunks_exact(width).map(|row| &row[2 * h..]);
                for (memory, candidate) in memory.chunks_exact_mut(h).zip(candidates) {
                    memory.copy_from_slice(candidate);
                }
            }
        }
        for row in 0..rows {
            let pixel = row / len * pixels + sweep.pixels[from + row % len];
            result.gates[span(pixel, width)].copy_from_slice(&own[span(row, width)]);
            result.memories[span(pixel, h)].copy_from_slice(&memory[span(row, h)]);
            result.states[span(pixel, h)].copy_from_slice(&state[span(row, h)]);
        }
    }
}

/// The gradients to the gates of the input, `[n, height, width, gates · h]`, and to the weight
/// `[gates · h, h, 1, taps]`, of the gradient to the states and what [`forward`] kept: states, gates
/// and memories.
pub(super) fn backward(
    of: Sizes,
    gradient: &[f32],
    [states, gates, memories]: [&[f32]; 3],
    weight: &[f32],
) -> [Vec<f32>; 2] {
    let Sizes { n, h, cell, .. } = of;
    let (pixels, width) = (of.pixels(), of.gates());
    if n * pixels == 0 {
        return [vec![], vec![0.0; weight.len()]];
    }
    let sweep = of.sweep();
    let matrix = by_tap(weight, h, sweep.taps);
    let product = Dense::new(&matrix, width, sweep.taps * h, None);
    let size = group(n, &sweep) * pixels;
    let mut to_gates: Vec<f32> = vec![0.0; n * pixels * width];
    let sources = states
        .par_chunks(size * h)
        .zip(gates.par_chunks(size * width))
        .zip(memories.par_chunks(size * h))
        .zip(gradient.par_chunks(size * h));
    to_gates.par_chunks_mut(size * width).zip(sources).for_each(
        |(to_gates, (((states, gates), memories), gradient))| {
            let kept = [states, gates, memories];
            backward_images(of, &sweep, &product, gradient, kept, to_gates);
        },
    );
    let to_weight = match cell {
        Cell::Lstm => to_weight(of, &sweep, states, &to_gates),
        Cell::Gru => {
            let mut to_product: Vec<f32> = vec![0.0; to_gates.len()];
            to_product
                .par_chunks_mut(size * width)
                .zip(to_gates.par_chunks(size * width))
                .zip(gates.par_chunks(size * width))
                .for_each(|((to_product, to_gates), gates)| {
                    cell::behind_reset(to_gates, gates, to_product, h);
                });
            to_weight(of, &sweep, states, &to_product)
        }
    };
    [to_gates, to_weight]
}

fn backward_images(
    of: Sizes,
    sweep: &Sweep,
    product: &Dense,
    gradient: &[f32],
    [states, gates, memories]: [&[f32]; 3],
    to_gates: &mut [f32],
) {
    let Sizes { h, cell, .. } = of;
    let (pixels, width, taps) = (of.pixels(), of.gates(), sweep.taps);
    let images = gates.len() / (pixels * width);
    let most = images * sweep.longest();
    // What has come together at each pixel.
    let mut to_states: Vec<f32> = gradient.to_vec();
    let mut to_memories: Vec<f32> = match cell {
        Cell::Lstm => vec![0.0; gradient.len()],
        Cell::Gru => vec![],
    };
    let mut values: Vec<f32> = vec![0.0; most * width];
    let mut to_values: Vec<f32> = vec![0.0; most * width];
    let mut to_product: Vec<f32> = match cell {
        Cell::Lstm => vec![],
        Cell::Gru => vec![0.0; most * width],
    };
    let mut to_seen: Vec<f32> = vec![0.0; most * taps * h];
    let mut kept: Vec<f32> = vec![0.0; most * h];
    let mut before: Vec<f32> = vec![0.0; most * h];
    let mut to_state: Vec<f32> = vec![0.0; most * h];
    let mut to_before: Vec<f32> = vec![0.0; most * h];
    for (from, to) in sweep.lines.iter().rev().copied() {
        let len = to - from;
        let rows = images * len;
        for row in 0..rows {
            let (image, place) = (row / len * pixels, from + row % len);
            let pixel = image + sweep.pixels[place];
            let at = sweep.sources(place)[BEFORE].map(|source| image + source);
            values[span(row, width)].copy_from_slice(&gates[span(pixel, width)]);
            kept[span(row, h)].copy_from_slice(&memories[span(pixel, h)]);
            to_state[span(row, h)].copy_from_slice(&to_states[span(pixel, h)]);
            match cell {
                Cell::Lstm => {
                    fetch(memories, at, &mut before[span(row, h)]);
                    to_before[span(row, h)].copy_from_slice(&to_memories[span(pixel, h)]);
                }
                Cell::Gru => fetch(states, at, &mut before[span(row, h)]),
            }
        }
        let step = Step {
            gates: &values[..rows * width],
            kept: &kept[..rows * h],
            before: &before[..rows * h],
            gradient: &to_state[..rows * h],
        };
        let to_line = &mut to_values[..rows * width];
        match cell {
            Cell::Lstm => cell::lstm_backward(step, &mut to_before[..rows * h], to_line, h),
            Cell::Gru => cell::gru_backward(step, &mut to_before[..rows * h], to_line, h),
        }
        for row in 0..rows {
            let pixel = row / len * pixels + sweep.pixels[from + row % len];
            to_gates[span(pixel, width)].copy_from_slice(&to_line[span(row, width)]);
        }
        if from == 0 {
            continue;
        }
        let to_seen = &mut to_seen[..rows * taps * h];
        match cell {
            Cell::Lstm => product.forward(to_line, rows, to_seen),
            Cell::Gru => {
                let to_product = &mut to_product[..rows * width];
                cell::behind_reset(to_line, &values[..rows * width], to_product, h);
                product.forward(to_product, rows, to_seen);
            }
        }
        for row in 0..rows {
            let (image, place) = (row / len * pixels, from + row % len);
            let sources = sweep.sources(place);
            for (tap, source) in sources.iter().enumerate() {
                if let Some(source) = source {
                    let numbers = &to_seen[span(row * taps + tap, h)];
                    add_at(&mut to_states, image + source, numbers);
                }
            }
            if let Some(source) = sources[BEFORE] {
                let numbers = &to_before[span(row, h)];
                match cell {
                    Cell::Lstm => add_at(&mut to_memories, image + source, numbers),
                    Cell::Gru => add_at(&mut to_states, image + source, numbers),
                }
            }
        }
    }
}

/// The gradient to the weight of that to its products: the states that each pixel sees side by side
/// make it the gradient of a pointwise layer, whose sum does not depend on the threads.
fn to_weight(of: Sizes, sweep: &Sweep, states: &[f32], to_product: &[f32]) -> Vec<f32> {
    let Sizes { n, h, .. } = of;
    let (pixels, taps) = (of.pixels(), sweep.taps);
    let mut seen: Vec<f32> = vec![0.0; n * pixels * taps * h];
    seen.par_chunks_mut(pixels * taps * h)
        .zip(states.par_chunks(pixels * h))
        .for_each(|(seen, states)| {
            for (place, pixel) in sweep.pixels.iter().enumerate() {
                for (tap, source) in sweep.sources(place).iter().enumerate() {
                    fetch(states, *source, &mut seen[span(pixel * taps + tap, h)]);
                }
            }
        });
    let geometry = Geometry {
        n,
        input: [of.height, of.width],
        output: [of.height, of.width],
        c: taps * h,
        k: of.gates(),
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
        algorithm: Algorithm::Direct,
        edge: Edge::Zeros,
    };
    let gradient = weight_gradient(Isa::current(), &geometry, &seen, to_product);
    by_channel(&gradient, h, taps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_put_in_another_order_and_back() {
        // Two outputs of two channels and three taps.
        let weight: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let taps = by_tap(&weight, 2, 3);
        assert_eq!(
            taps,
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]
        );
        assert_eq!(by_channel(&taps, 2, 3), weight);
        assert_eq!(transposed(&weight[..6], 3), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
