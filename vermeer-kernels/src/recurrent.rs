//! Recurrence over images: every state sees states that were computed before it.
//!
//! An LSTM (Hochreiter and Schmidhuber, 1997; Gers et al., 2000) has the gates input, forget,
//! candidate and output, a GRU (Cho et al., 2014) reset, update and candidate; those of a position
//! lie behind one another. What the input gives to the gates is known before; the operations here
//! add what the states give, line by line along a [`Path`], and hold the states of the whole map.

mod cell;
mod chain;
mod door;
mod passes;
mod sweep;

use burn::backend::Dispatch;
use burn::prelude::*;

pub use cell::{gru_into, lstm_into};

use crate::operations;
use crate::tensor::ours;
use chain::chain;
use door::Recurrent;

/// The order in which the states of an image are computed, and those that each of them sees.
/// Outside the image states and memories are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Row by row from the top. A state sees the one above on the left, the one above and the one
    /// above on the right, and goes on from the one above.
    Rows,
    /// Diagonal by diagonal from the upper left corner. A state sees the one above and the one on
    /// its left, and goes on from the latter.
    FromLeft,
    /// As [`Path::FromLeft`] in a mirror: from the upper right corner, and on from the right.
    FromRight,
}

impl Path {
    /// Where the states are that a state sees, in rows and columns from its own place: the taps of
    /// the weight in their order.
    pub fn taps(self) -> &'static [(isize, isize)] {
        match self {
            Self::Rows => &[(-1, -1), (-1, 0), (-1, 1)],
            Self::FromLeft => &[(-1, 0), (0, -1)],
            Self::FromRight => &[(-1, 0), (0, 1)],
        }
    }
}

/// What makes a state of its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Lstm,
    Gru,
}

impl Cell {
    /// Gates of each number of a state.
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// The states `[n, h, height, width]` of an LSTM whose input gives `gates` `[n, 4h, height, width]`
/// in the order i, f, g, o. With the states that it sees through `weight` `[4h, h, 1, taps]` added
/// to them, the memory is `c = σ(f)·c_before + σ(i)·tanh(g)` and the state `σ(o)·tanh(c)`.
///
/// The result does not depend on the number of images or threads.
///
/// # Panics
/// When gates, weight and the taps of the path do not agree.
pub fn lstm(gates: Tensor<4>, weight: Tensor<4>, path: Path) -> Tensor<4> {
    recur(gates, weight, Cell::Lstm, path)
}

/// The states `[n, h, height, width]` of a GRU whose input gives `a` `[n, 3h, height, width]` in the
/// order r, z, n. With `b` of the states that it sees through `weight` `[3h, h, 1, taps]`,
/// `r = σ(a_r + b_r)`, `z = σ(a_z + b_z)` and `m = tanh(a_n + r·b_n)`, the state is
/// `(1 − z)·m + z·s_before`.
///
/// The result does not depend on the number of images or threads.
///
/// # Panics
/// As [`lstm`].
pub fn gru(gates: Tensor<4>, weight: Tensor<4>, path: Path) -> Tensor<4> {
    recur(gates, weight, Cell::Gru, path)
}

fn recur(gates: Tensor<4>, weight: Tensor<4>, cell: Cell, path: Path) -> Tensor<4> {
    let [n, all, height, width] = gates.dims();
    let [outputs, h, _, taps] = weight.dims();
    assert!(h > 0, "a state has numbers");
    assert_eq!(
        weight.dims(),
        [cell.gates() * h, h, 1, path.taps().len()],
        "a weight for each gate, number of a state and tap"
    );
    assert_eq!(
        all, outputs,
        "the gates of the input are those of the states"
    );
    operations::add(&[n, all, height, width, h, taps]);
    if !ours(&gates, &[weight.dtype()]) {
        return chain(gates, weight, cell, path);
    }
    Tensor::from_dispatch(Dispatch::recur(
        gates.into_dispatch(),
        weight.into_dispatch(),
        cell,
        path,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [Path; 3] = [Path::Rows, Path::FromLeft, Path::FromRight];

    /// Images, numbers of a state, height and width.
    const SIZES: [[usize; 4]; 8] = [
        [1, 1, 1, 1],
        [2, 3, 4, 5],
        [3, 5, 5, 3],
        [1, 16, 1, 6],
        [2, 8, 6, 1],
        [5, 17, 3, 4],
        [9, 2, 2, 2],
        [2, 32, 9, 7],
    ];

    /// Numbers in −1..1 that are neither small nor alike.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    fn host(t: Tensor<4>) -> Vec<f32> {
        t.into_data().try_to_vec().expect("f32 numbers")
    }

    /// States, and the gradients of a weighted sum of them to gates and weight.
    fn all(
        states: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<4>,
        cell: Cell,
        path: Path,
        [n, h, height, width]: [usize; 4],
    ) -> [Vec<f32>; 3] {
        let device = Device::flex().autodiff();
        let tensor = |shape: [usize; 4], scale: f32, seed: u32| {
            let values = numbers(shape.iter().product(), seed);
            let values: Vec<f32> = values.iter().map(|v| scale * v).collect();
            Tensor::<1>::from_floats(&values[..], &device).reshape(shape)
        };
        let k = cell.gates() * h;
        let gates = tensor([n, k, height, width], 2.0, 1).require_grad();
        let scale = 1.0 / (h as f32).sqrt();
        let weight = tensor([k, h, 1, path.taps().len()], scale, 2).require_grad();
        let result = states(gates.clone(), weight.clone());
        assert_eq!(result.dims(), [n, h, height, width]);
        let loss = result
            .clone()
            .mul(tensor([n, h, height, width], 1.0, 3))
            .sum();
        let gradients = loss.backward();
        // Where there is one line, no state is seen and a chain of operations has no gradient.
        let of_weight = weight.grad(&gradients);
        [
            host(result),
            host(gates.grad(&gradients).expect("gates have a gradient")),
            of_weight.map_or_else(|| vec![0.0; weight.dims().iter().product()], host),
        ]
    }

    #[test]
    fn states_and_gradients_are_those_of_small_operations() {
        for cell in [Cell::Lstm, Cell::Gru] {
            for path in PATHS {
                for size in SIZES {
                    let ours = all(|g, w| recur(g, w, cell, path), cell, path, size);
                    let theirs = all(|g, w| chain(g, w, cell, path), cell, path, size);
                    for (what, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                        assert_eq!(ours.len(), theirs.len());
                        let largest = theirs.iter().fold(1.0f32, |l, v| l.max(v.abs()));
                        for (place, (a, b)) in ours.iter().zip(theirs).enumerate() {
                            assert!(
                                (a - b).abs() < 2e-5 * largest,
                                "{cell:?} {path:?} {size:?}, result {what} at {place}: {a}, not {b}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let bits = |results: [Vec<f32>; 3]| -> Vec<u32> {
            let numbers = results.concat();
            numbers.iter().map(|number| number.to_bits()).collect()
        };
        for (cell, path) in [(Cell::Lstm, Path::Rows), (Cell::Gru, Path::FromRight)] {
            for size in [[7, 5, 6, 5], [2, 32, 9, 28]] {
                let with = |threads: usize| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    let pool = pool.build().expect("a pool of threads");
                    bits(pool.install(|| all(|g, w| recur(g, w, cell, path), cell, path, size)))
                };
                let one = with(1);
                assert!(one == with(2) && one == with(3), "{cell:?} {size:?}");
            }
        }
    }

    #[test]
    fn an_image_does_not_depend_on_its_company() {
        let device = Device::flex();
        let (n, h, height, width) = (5, 6, 4, 7);
        let tensor = |shape: [usize; 4], seed: u32| {
            let values = numbers(shape.iter().product(), seed);
            Tensor::<1>::from_floats(&values[..], &device).reshape(shape)
        };
        for path in PATHS {
            let gates = tensor([n, 4 * h, height, width], 4);
            let weight = tensor([4 * h, h, 1, path.taps().len()], 5);
            let together = host(lstm(gates.clone(), weight.clone(), path));
            for image in 0..n {
                let alone = lstm(gates.clone().narrow(0, image, 1), weight.clone(), path);
                let size = h * height * width;
                assert_eq!(host(alone), together[image * size..(image + 1) * size]);
            }
        }
    }

    /// The first state of a row of one number by hand, and the one below it.
    #[test]
    fn two_rows_are_computed_by_hand() {
        let device = Device::flex();
        let gates = [0.5f32, -1.0, 0.3, 0.8, 0.2, -0.4, 1.0, 0.6];
        let tensor = |values: &[f32], shape: [usize; 4]| {
            Tensor::<1>::from_floats(values, &device).reshape(shape)
        };
        let weight = [
            0.0f32, 0.7, 0.0, 0.0, -0.2, 0.0, 0.0, 0.4, 0.0, 0.0, 0.1, 0.0,
        ];
        let found = host(lstm(
            tensor(&gates, [1, 4, 2, 1]),
            tensor(&weight, [4, 1, 1, 3]),
            Path::Rows,
        ));
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut memory, mut state) = (0.0f64, 0.0f64);
        for (row, found) in found.iter().enumerate() {
            let gate =
                |k: usize| f64::from(gates[2 * k + row]) + state * f64::from(weight[3 * k + 1]);
            let [i, f, g, o] = [0, 1, 2, 3].map(gate);
            memory = sigmoid(f) * memory + sigmoid(i) * g.tanh();
            state = sigmoid(o) * memory.tanh();
            assert!((f64::from(*found) - state).abs() < 1e-6, "row {row}");
        }
    }
}
