//! The recurrence as a chain of Burn's operations, for devices that these kernels do not serve.

use burn::prelude::*;
use burn::tensor::activation;

use super::sweep::{BEFORE, Sweep};
use super::{Cell, Path};

/// States `[n, h, height, width]` of the gates of the input, `[n, gates · h, height, width]`, and the
/// weight `[gates · h, h, 1, taps]`.
pub(super) fn chain(gates: Tensor<4>, weight: Tensor<4>, cell: Cell, path: Path) -> Tensor<4> {
    let [n, all, height, width] = gates.dims();
    let [_, h, _, taps] = weight.dims();
    let device = gates.device();
    let sweep = Sweep::new(path, height, width);
    // The place of each pixel in the order.
    let mut places: Vec<usize> = vec![0; sweep.pixels.len()];
    for (place, pixel) in sweep.pixels.iter().enumerate() {
        places[*pixel] = place;
    }
    let gates: Tensor<3> = gates.reshape([n, all, height * width]);
    let weight: Tensor<4> = weight.permute([2, 0, 3, 1]); // [1, all, taps, h]
    let weight: Tensor<3> = weight.reshape([1, all, taps * h]);
    let mut lines: Vec<Tensor<3>> = Vec::with_capacity(sweep.lines.len());
    // States and memories of the line before with a zero behind, and where that line begins.
    let mut last: Option<(Tensor<3>, Tensor<3>, usize)> = None;
    for (from, to) in sweep.lines.iter().copied() {
        let a = select(gates.clone(), &sweep.pixels[from..to]);
        let (b, before) = match last {
            Some((states, memories, first)) => {
                let tap = |tap: usize| -> Vec<usize> {
                    let source = |place: usize| match sweep.sources(place)[tap] {
                        Some(pixel) => places[pixel] - first,
                        None => from - first,
                    };
                    (from..to).map(source).collect()
                };
                let seen: Vec<Tensor<3>> =
                    (0..taps).map(|k| select(states.clone(), &tap(k))).collect();
                let seen = Tensor::cat(seen, 1); // [n, taps · h, len]
                let goes_on = match cell {
                    Cell::Lstm => memories,
                    Cell::Gru => states,
                };
                let before = select(goes_on, &tap(BEFORE));
                (weight.clone().matmul(seen), before)
            }
            None => (
                Tensor::zeros([n, all, to - from], &device),
                Tensor::zeros([n, h, to - from], &device),
            ),
        };
        let (states, memories) = match cell {
            Cell::Lstm => lstm(a.add(b), before, h),
            Cell::Gru => {
                let states = gru(a, b, before, h);
                (states.clone(), states)
            }
        };
        lines.push(states.clone());
        let padded = |line: Tensor<3>| {
            let outside = Tensor::<3>::zeros([n, h, 1], &device);
            Tensor::cat(vec![line, outside], 2)
        };
        last = Some((padded(states), padded(memories), from));
    }
    select(Tensor::cat(lines, 2), &places).reshape([n, h, height, width])
}

/// The gate `k` of `[n, gates · h, len]`.
fn gate(gates: &Tensor<3>, k: usize, h: usize) -> Tensor<3> {
    gates.clone().narrow(1, k * h, h)
}

/// State and memory.
fn lstm(gates: Tensor<3>, before: Tensor<3>, h: usize) -> (Tensor<3>, Tensor<3>) {
    let open = |k: usize| activation::sigmoid(gate(&gates, k, h));
    let kept = open(1).mul(before);
    let memory = kept.add(open(0).mul(gate(&gates, 2, h).tanh()));
    (open(3).mul(memory.clone().tanh()), memory)
}

fn gru(a: Tensor<3>, b: Tensor<3>, before: Tensor<3>, h: usize) -> Tensor<3> {
    let open = |k: usize| activation::sigmoid(gate(&a, k, h).add(gate(&b, k, h)));
    let (reset, update) = (open(0), open(1));
    let new = gate(&a, 2, h).add(reset.mul(gate(&b, 2, h))).tanh();
    new.clone().add(update.mul(before.sub(new)))
}

/// The pixels of `[n, c, pixels]` in that order.
fn select(x: Tensor<3>, pixels: &[usize]) -> Tensor<3> {
    let pixels: Vec<i64> = pixels.iter().map(|pixel| *pixel as i64).collect();
    let pixels = Tensor::<1, Int>::from_ints(&pixels[..], &x.device());
    x.select(2, pixels)
}
