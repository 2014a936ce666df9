//! The cells of recurrent networks over images: what follows the products with the weights, in one
//! pass over channels-last numbers.
//!
//! The gates of a position lie behind one another: input, forget, candidate and output for an LSTM
//! (Hochreiter and Schmidhuber, 1997; Gers et al., 2000), reset, update and candidate for a GRU
//! (Cho et al., 2014).

mod door;

use burn::backend::Dispatch;
use burn::prelude::*;
use burn::tensor::activation;

use crate::Isa;
use crate::activation::{sigmoid, tanh};
use crate::pixelwise::{Map, map};
use crate::tensor::ours;
use door::Recurrent;

/// What a number of a cell takes, in products of a convolution.
const WORK: usize = 32;

/// The memory of an LSTM, `σ(f)·c + σ(i)·tanh(g)`, of gates `[n, 4h, y, x]` in the order i, f, g, o
/// and the memory before, `[n, h, y, x]`.
///
/// # Panics
/// When the gates are not four times as many as the memory.
pub fn lstm_memory(gates: Tensor<4>, memory: Tensor<4>) -> Tensor<4> {
    let h = expect(&gates, &memory, 4);
    if !ours(&gates, &[memory.dtype()]) {
        let part = |k: usize| gates.clone().narrow(1, k * h, h);
        let kept = activation::sigmoid(part(1)).mul(memory);
        return kept.add(activation::sigmoid(part(0)).mul(part(2).tanh()));
    }
    Tensor::from_dispatch(Dispatch::lstm_memory(
        gates.into_dispatch(),
        memory.into_dispatch(),
    ))
}

/// The state of an LSTM, `σ(o)·tanh(c)`, of the gates of [`lstm_memory`] and its result.
///
/// # Panics
/// As [`lstm_memory`].
pub fn lstm_state(gates: Tensor<4>, memory: Tensor<4>) -> Tensor<4> {
    let h = expect(&gates, &memory, 4);
    if !ours(&gates, &[memory.dtype()]) {
        return activation::sigmoid(gates.narrow(1, 3 * h, h)).mul(memory.tanh());
    }
    Tensor::from_dispatch(Dispatch::lstm_state(
        gates.into_dispatch(),
        memory.into_dispatch(),
    ))
}

/// The state of a GRU, `(1 − z)·n + z·s`, with `r = σ(a_r + b_r)`, `z = σ(a_z + b_z)` and
/// `n = tanh(a_n + r·b_n)`, of what input and state give the gates, `a` and `b` `[n, 3h, y, x]` in
/// the order r, z, n, and the state before, `[n, h, y, x]`.
///
/// # Panics
/// When `a` and `b` are not three times as many as the state.
pub fn gru_state(a: Tensor<4>, b: Tensor<4>, state: Tensor<4>) -> Tensor<4> {
    let h = expect(&a, &state, 3);
    expect(&b, &state, 3);
    if !ours(&a, &[b.dtype(), state.dtype()]) {
        let part = |t: &Tensor<4>, k: usize| t.clone().narrow(1, k * h, h);
        let gate = |k: usize| activation::sigmoid(part(&a, k).add(part(&b, k)));
        let (reset, update) = (gate(0), gate(1));
        let new = part(&a, 2).add(reset.mul(part(&b, 2))).tanh();
        return new.clone().add(update.mul(state.sub(new)));
    }
    Tensor::from_dispatch(Dispatch::gru_state(
        a.into_dispatch(),
        b.into_dispatch(),
        state.into_dispatch(),
    ))
}

/// The channels of `state`, of which `gates` has `times` as many at the same positions.
fn expect(gates: &Tensor<4>, state: &Tensor<4>, times: usize) -> usize {
    let [n, h, y, x] = state.dims();
    assert_eq!(
        gates.dims(),
        [n, times * h, y, x],
        "gates are {times} for each number of a state {:?}",
        state.dims()
    );
    h
}

/// The numbers of each of `N` gates of one position.
#[inline(always)]
fn parts<const N: usize>(gates: &[f32]) -> [&[f32]; N] {
    let h = gates.len() / N;
    std::array::from_fn(|k| &gates[k * h..(k + 1) * h])
}

/// [`parts`] to be written.
#[inline(always)]
fn parts_mut(gates: &mut [f32], h: usize) -> [&mut [f32]; 3] {
    let (first, rest) = gates.split_at_mut(h);
    let (second, rest) = rest.split_at_mut(h);
    [first, second, &mut rest[..h]]
}

/// [`lstm_memory`](fn@lstm_memory) of `gates` `[pixels, 4h]` and `memory` `[pixels, h]`.
pub(crate) fn memory(isa: Isa, gates: &[f32], memory: &[f32], h: usize) -> Vec<f32> {
    struct Memory<'a>(&'a [f32], &'a [f32], usize);
    impl Map for Memory<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.2, from + result.len());
            let gates = self.0[4 * from..4 * to].chunks_exact(4 * h);
            let memory = self.1[from..to].chunks_exact(h);
            for ((y, gates), c) in result.chunks_exact_mut(h).zip(gates).zip(memory) {
                let [i, f, g, _] = parts::<4>(gates);
                for ((((y, i), f), g), c) in y.iter_mut().zip(i).zip(f).zip(g).zip(c) {
                    *y = sigmoid(*f) * c + sigmoid(*i) * tanh(*g);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    map(isa, memory.len(), h, &Memory(gates, memory, h))
}

/// The gradients of [`memory`] to the gates and the memory before.
pub(crate) fn memory_backward(
    isa: Isa,
    gradient: &[f32],
    gates: &[f32],
    memory: &[f32],
    h: usize,
) -> (Vec<f32>, Vec<f32>) {
    struct ToGates<'a>([&'a [f32]; 3], usize);
    impl Map for ToGates<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [gradient, gates, memory] = self.0;
            let gates = gates[from..to].chunks_exact(4 * h);
            let gradient = gradient[from / 4..to / 4].chunks_exact(h);
            let memory = memory[from / 4..to / 4].chunks_exact(h);
            let pixels = gates.zip(gradient).zip(memory);
            for (y, ((gates, d), c)) in result.chunks_exact_mut(4 * h).zip(pixels) {
                let [i, f, g, _] = parts::<4>(gates);
                let (first, output) = y.split_at_mut(3 * h);
                output.fill(0.0);
                let [to_i, to_f, to_g] = parts_mut(first, h);
                let targets = to_i.iter_mut().zip(to_f).zip(to_g);
                let sources = i.iter().zip(f).zip(g).zip(d).zip(c);
                for (((to_i, to_f), to_g), ((((i, f), g), d), c)) in targets.zip(sources) {
                    let (i, f, g) = (sigmoid(*i), sigmoid(*f), tanh(*g));
                    *to_i = d * g * i * (1.0 - i);
                    *to_f = d * c * f * (1.0 - f);
                    *to_g = d * i * (1.0 - g * g);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    struct ToMemory<'a>(&'a [f32], &'a [f32], usize);
    impl Map for ToMemory<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.2, from + result.len());
            let gates = self.1[4 * from..4 * to].chunks_exact(4 * h);
            let gradient = self.0[from..to].chunks_exact(h);
            for ((y, gates), d) in result.chunks_exact_mut(h).zip(gates).zip(gradient) {
                let [_, f, _, _] = parts::<4>(gates);
                for ((y, f), d) in y.iter_mut().zip(f).zip(d) {
                    *y = d * sigmoid(*f);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    let to_gates = ToGates([gradient, gates, memory], h);
    (
        map(isa, gates.len(), 4 * h, &to_gates),
        map(isa, memory.len(), h, &ToMemory(gradient, gates, h)),
    )
}

/// [`lstm_state`](fn@lstm_state) of `gates` `[pixels, 4h]` and `memory` `[pixels, h]`.
pub(crate) fn state(isa: Isa, gates: &[f32], memory: &[f32], h: usize) -> Vec<f32> {
    struct State<'a>(&'a [f32], &'a [f32], usize);
    impl Map for State<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.2, from + result.len());
            let gates = self.0[4 * from..4 * to].chunks_exact(4 * h);
            let memory = self.1[from..to].chunks_exact(h);
            for ((y, gates), c) in result.chunks_exact_mut(h).zip(gates).zip(memory) {
                let [_, _, _, o] = parts::<4>(gates);
                for ((y, o), c) in y.iter_mut().zip(o).zip(c) {
                    *y = sigmoid(*o) * tanh(*c);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    map(isa, memory.len(), h, &State(gates, memory, h))
}

/// The gradients of [`state`] to the gates and the memory.
pub(crate) fn state_backward(
    isa: Isa,
    gradient: &[f32],
    gates: &[f32],
    memory: &[f32],
    h: usize,
) -> (Vec<f32>, Vec<f32>) {
    struct ToGates<'a>([&'a [f32]; 3], usize);
    impl Map for ToGates<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [gradient, gates, memory] = self.0;
            let gates = gates[from..to].chunks_exact(4 * h);
            let gradient = gradient[from / 4..to / 4].chunks_exact(h);
            let memory = memory[from / 4..to / 4].chunks_exact(h);
            let pixels = gates.zip(gradient).zip(memory);
            for (y, ((gates, d), c)) in result.chunks_exact_mut(4 * h).zip(pixels) {
                let [_, _, _, o] = parts::<4>(gates);
                let (others, output) = y.split_at_mut(3 * h);
                others.fill(0.0);
                for (((y, o), d), c) in output.iter_mut().zip(o).zip(d).zip(c) {
                    let o = sigmoid(*o);
                    *y = d * tanh(*c) * o * (1.0 - o);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    struct ToMemory<'a>([&'a [f32]; 3], usize);
    impl Map for ToMemory<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [gradient, gates, memory] = self.0;
            let gates = gates[4 * from..4 * to].chunks_exact(4 * h);
            let gradient = gradient[from..to].chunks_exact(h);
            let memory = memory[from..to].chunks_exact(h);
            let pixels = gates.zip(gradient).zip(memory);
            for (y, ((gates, d), c)) in result.chunks_exact_mut(h).zip(pixels) {
                let [_, _, _, o] = parts::<4>(gates);
                for (((y, o), d), c) in y.iter_mut().zip(o).zip(d).zip(c) {
                    let t = tanh(*c);
                    *y = d * sigmoid(*o) * (1.0 - t * t);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    let all = [gradient, gates, memory];
    (
        map(isa, gates.len(), 4 * h, &ToGates(all, h)),
        map(isa, memory.len(), h, &ToMemory(all, h)),
    )
}

/// [`gru_state`](fn@gru_state) of `a` and `b` `[pixels, 3h]` and `before` `[pixels, h]`.
pub(crate) fn gru(isa: Isa, a: &[f32], b: &[f32], before: &[f32], h: usize) -> Vec<f32> {
    struct Gru<'a>([&'a [f32]; 3], usize);
    impl Map for Gru<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [a, b, before] = self.0;
            let a = a[3 * from..3 * to].chunks_exact(3 * h);
            let b = b[3 * from..3 * to].chunks_exact(3 * h);
            let before = before[from..to].chunks_exact(h);
            for (y, ((a, b), s)) in result.chunks_exact_mut(h).zip(a.zip(b).zip(before)) {
                let [ar, az, an] = parts::<3>(a);
                let [br, bz, bn] = parts::<3>(b);
                let of_a = ar.iter().zip(az).zip(an);
                let of_b = br.iter().zip(bz).zip(bn);
                let numbers = of_a.zip(of_b).zip(s);
                for (y, ((((ar, az), an), ((br, bz), bn)), s)) in y.iter_mut().zip(numbers) {
                    let (r, z) = (sigmoid(ar + br), sigmoid(az + bz));
                    let n = tanh(an + r * bn);
                    *y = n + z * (s - n);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    map(isa, before.len(), h, &Gru([a, b, before], h))
}

/// The gradients of [`gru`] to `a`, `b` and the state before.
pub(crate) fn gru_backward(
    isa: Isa,
    gradient: &[f32],
    [a, b, before]: [&[f32]; 3],
    h: usize,
) -> [Vec<f32>; 3] {
    /// The gradient to `a`, or to `b`, whose candidate is behind the reset gate.
    struct ToGates<'a>([&'a [f32]; 4], usize, bool);
    impl Map for ToGates<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [gradient, a, b, before] = self.0;
            let a = a[from..to].chunks_exact(3 * h);
            let b = b[from..to].chunks_exact(3 * h);
            let gradient = gradient[from / 3..to / 3].chunks_exact(h);
            let before = before[from / 3..to / 3].chunks_exact(h);
            let pixels = a.zip(b).zip(gradient.zip(before));
            for (y, ((a, b), (d, s))) in result.chunks_exact_mut(3 * h).zip(pixels) {
                let [ar, az, an] = parts::<3>(a);
                let [br, bz, bn] = parts::<3>(b);
                let [to_r, to_z, to_n] = parts_mut(y, h);
                let targets = to_r.iter_mut().zip(to_z).zip(to_n);
                let of_a = ar.iter().zip(az).zip(an);
                let of_b = br.iter().zip(bz).zip(bn);
                let sources = of_a.zip(of_b).zip(d.iter().zip(s));
                for (((to_r, to_z), to_n), ((((ar, az), an), ((br, bz), bn)), (d, s))) in
                    targets.zip(sources)
                {
                    let (r, z) = (sigmoid(ar + br), sigmoid(az + bz));
                    let n = tanh(an + r * bn);
                    let to_candidate = d * (1.0 - z) * (1.0 - n * n);
                    *to_r = to_candidate * bn * r * (1.0 - r);
                    *to_z = d * (s - n) * z * (1.0 - z);
                    *to_n = if self.2 {
                        to_candidate * r
                    } else {
                        to_candidate
                    };
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    struct ToState<'a>([&'a [f32]; 3], usize);
    impl Map for ToState<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let (h, to) = (self.1, from + result.len());
            let [gradient, a, b] = self.0;
            let a = a[3 * from..3 * to].chunks_exact(3 * h);
            let b = b[3 * from..3 * to].chunks_exact(3 * h);
            let gradient = gradient[from..to].chunks_exact(h);
            for (y, ((a, b), d)) in result.chunks_exact_mut(h).zip(a.zip(b).zip(gradient)) {
                let [_, az, _] = parts::<3>(a);
                let [_, bz, _] = parts::<3>(b);
                for (((y, az), bz), d) in y.iter_mut().zip(az).zip(bz).zip(d) {
                    *y = d * sigmoid(az + bz);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            WORK * c
        }
    }
    let all = [gradient, a, b, before];
    [
        map(isa, a.len(), 3 * h, &ToGates(all, h, false)),
        map(isa, b.len(), 3 * h, &ToGates(all, h, true)),
        map(isa, before.len(), h, &ToState([gradient, a, b], h)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: usize = 5;
    const PIXELS: usize = 3;

    /// Numbers that are neither small nor alike.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| 2.0 * next()).collect()
    }

    fn wide_sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn cells_are_their_formulas() {
        let gates = numbers(4 * H * PIXELS, 1);
        let before = numbers(H * PIXELS, 2);
        let (a, b) = (numbers(3 * H * PIXELS, 3), numbers(3 * H * PIXELS, 4));
        for isa in Isa::available() {
            let c = memory(isa, &gates, &before, H);
            let s = state(isa, &gates, &before, H);
            let u = gru(isa, &a, &b, &before, H);
            for pixel in 0..PIXELS {
                for j in 0..H {
                    let gate = |k: usize| f64::from(gates[pixel * 4 * H + k * H + j]);
                    let old = f64::from(before[pixel * H + j]);
                    let kept = wide_sigmoid(gate(1)) * old;
                    let expected = kept + wide_sigmoid(gate(0)) * gate(2).tanh();
                    assert!((f64::from(c[pixel * H + j]) - expected).abs() < 2e-6);
                    let expected = wide_sigmoid(gate(3)) * old.tanh();
                    assert!((f64::from(s[pixel * H + j]) - expected).abs() < 2e-6);
                    let of = |t: &[f32], k: usize| f64::from(t[pixel * 3 * H + k * H + j]);
                    let r = wide_sigmoid(of(&a, 0) + of(&b, 0));
                    let z = wide_sigmoid(of(&a, 1) + of(&b, 1));
                    let n = (of(&a, 2) + r * of(&b, 2)).tanh();
                    let expected = (1.0 - z) * n + z * old;
                    assert!((f64::from(u[pixel * H + j]) - expected).abs() < 2e-6);
                }
            }
        }
    }

    /// Gradients meet central differences of the sum of `weights · result`.
    fn check(value: impl Fn(&[f32]) -> Vec<f32>, at: &[f32], weights: &[f32], gradient: &[f32]) {
        let total = |x: &[f32]| -> f64 {
            let y = value(x);
            let products = y.iter().zip(weights);
            products.map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        for place in 0..at.len() {
            let step = 1.0 / 64.0;
            let moved = |by: f32| {
                let mut x = at.to_vec();
                x[place] += by;
                total(&x)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let found = f64::from(gradient[place]);
            assert!((slope - found).abs() < 2e-3, "{place}: {slope} {found}");
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let isa = Isa::current();
        let gates = numbers(4 * H * PIXELS, 5);
        let before = numbers(H * PIXELS, 6);
        let weights = numbers(H * PIXELS, 7);
        let (to_gates, to_memory) = memory_backward(isa, &weights, &gates, &before, H);
        check(|x| memory(isa, x, &before, H), &gates, &weights, &to_gates);
        check(|x| memory(isa, &gates, x, H), &before, &weights, &to_memory);
        let (to_gates, to_memory) = state_backward(isa, &weights, &gates, &before, H);
        check(|x| state(isa, x, &before, H), &gates, &weights, &to_gates);
        check(|x| state(isa, &gates, x, H), &before, &weights, &to_memory);

        let (a, b) = (numbers(3 * H * PIXELS, 8), numbers(3 * H * PIXELS, 9));
        let [to_a, to_b, to_state] = gru_backward(isa, &weights, [&a, &b, &before], H);
        check(|x| gru(isa, x, &b, &before, H), &a, &weights, &to_a);
        check(|x| gru(isa, &a, x, &before, H), &b, &weights, &to_b);
        check(|x| gru(isa, &a, &b, x, H), &before, &weights, &to_state);
    }

    /// The fused cells, with gradients through the door, against Burn's operations in a chain.
    #[test]
    fn the_door_gives_value_and_gradient() {
        let device = Device::flex().autodiff();
        let tensor = |values: &[f32], channels: usize| {
            Tensor::<1>::from_floats(values, &device)
                .reshape([1, PIXELS, 1, channels])
                .permute([0, 3, 2, 1])
                .require_grad()
        };
        let host = |t: Tensor<4>| -> Vec<f32> {
            let t = t.permute([0, 3, 2, 1]);
            t.into_data().try_to_vec().expect("f32 numbers")
        };
        let weights = numbers(H * PIXELS, 10);
        let gates = numbers(4 * H * PIXELS, 11);
        let before = numbers(H * PIXELS, 12);
        let (g, m) = (tensor(&gates, 4 * H), tensor(&before, H));
        let c = lstm_memory(g.clone(), m.clone());
        let loss = c.mul(tensor(&weights, H)).sum();
        let gradients = loss.backward();
        let (to_gates, to_memory) = memory_backward(Isa::current(), &weights, &gates, &before, H);
        let found = g.grad(&gradients).expect("gates have a gradient");
        assert_eq!(host(found), to_gates);
        let found = m.grad(&gradients).expect("memory has a gradient");
        assert_eq!(host(found), to_memory);
    }
}
