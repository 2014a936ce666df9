//! What makes states of gates, and the gradients of it, on lines of `[rows, gates · h]` numbers.
//!
//! The loops are short and go over whole gates, so that the compiler puts each into vectors.

#![allow(unsafe_code, reason = "the trait's methods are unsafe; these are not")]

use crate::Isa;
use crate::activation::{sigmoid, tanh};
use crate::simd::{Kernel, Simd};

/// σ of each number.
#[inline(always)]
fn sigmoids(x: &mut [f32]) {
    for x in x {
        *x = sigmoid(*x);
    }
}

/// tanh of each number.
#[inline(always)]
fn tanhs(x: &mut [f32]) {
    for x in x {
        *x = tanh(*x);
    }
}

/// One step of an LSTM for each row: of `gates` `[rows, 4h]` in the order i, f, g, o and `memory`
/// `[rows, h]` come the new memory, in its place, and `state` `[rows, h]`. The gates are left as
/// σ(i), σ(f), tanh(g) and σ(o).
///
/// # Panics
/// When `h` is zero or the rows do not agree.
pub fn lstm_into(gates: &mut [f32], memory: &mut [f32], state: &mut [f32], h: usize) {
    expect(state.len(), h, [gates.len(), memory.len()], [4, 1]);
    Isa::current().run(Lstm {
        gates,
        memory,
        state,
        h,
    });
}

struct Lstm<'a> {
    gates: &'a mut [f32],
    memory: &'a mut [f32],
    state: &'a mut [f32],
    h: usize,
}

impl Kernel for Lstm<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let h = self.h;
        let gates = self.gates.chunks_exact_mut(4 * h);
        let memory = self.memory.chunks_exact_mut(h);
        let state = self.state.chunks_exact_mut(h);
        for ((gates, memory), state) in gates.zip(memory).zip(state) {
            let (first, second) = gates.split_at_mut(2 * h);
            let (new, output) = second.split_at_mut(h);
            sigmoids(first);
            tanhs(new);
            sigmoids(output);
            let (input, forget) = first.split_at(h);
            for (((c, i), f), g) in memory.iter_mut().zip(input).zip(forget).zip(&*new) {
                *c = *f * *c + *i * *g;
            }
            for ((s, o), c) in state.iter_mut().zip(&*output).zip(&*memory) {
                *s = *o * tanh(*c);
            }
        }
    }
}

/// One step of a GRU for each row: of `a` and `b` `[rows, 3h]`, what input and states give to the
/// gates in the order r, z, n, and the state before comes the new `state` `[rows, h]`, in its
/// place. `a` is left as r, z and the candidate.
///
/// # Panics
/// As [`lstm_into`].
pub fn gru_into(a: &mut [f32], b: &[f32], state: &mut [f32], h: usize) {
    expect(state.len(), h, [a.len(), b.len()], [3, 3]);
    Isa::current().run(Gru { a, b, state, h });
}

struct Gru<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
    state: &'a mut [f32],
    h: usize,
}

impl Kernel for Gru<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let h = self.h;
        let a = self.a.chunks_exact_mut(3 * h);
        let b = self.b.chunks_exact(3 * h);
        let state = self.state.chunks_exact_mut(h);
        for ((a, b), state) in a.zip(b).zip(state) {
            let (open, new) = a.split_at_mut(2 * h);
            let (of_open, of_new) = b.split_at(2 * h);
            for (open, b) in open.iter_mut().zip(of_open) {
                *open = sigmoid(*open + *b);
            }
            let (reset, update) = open.split_at(h);
            for ((n, r), b) in new.iter_mut().zip(reset).zip(of_new) {
                *n = tanh(*n + *r * *b);
            }
            for ((s, n), z) in state.iter_mut().zip(&*new).zip(update) {
                *s = *n + *z * (*s - *n);
            }
        }
    }
}

/// What a step was made of and led to, and the gradient to its state: all `[rows, h]` but the
/// gates, which are as [`lstm_into`] or [`gru_into`] left them.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) gates: &'a [f32],
    /// The new memory of an LSTM; what the states gave to the candidate of a GRU.
    pub(super) kept: &'a [f32],
    /// The memory of an LSTM or the state of a GRU that the step goes on from.
    pub(super) before: &'a [f32],
    pub(super) gradient: &'a [f32],
}

/// The gradients of an LSTM to its gates and to the memory before, which takes the place of that to
/// the new memory.
pub(super) fn lstm_backward(step: Step<'_>, memory: &mut [f32], gates: &mut [f32], h: usize) {
    expect(step.gradient.len(), h, [gates.len(), memory.len()], [4, 1]);
    Isa::current().run(LstmBackward {
        step,
        memory,
        gates,
        h,
    });
}

struct LstmBackward<'a> {
    step: Step<'a>,
    memory: &'a mut [f32],
    gates: &'a mut [f32],
    h: usize,
}

impl Kernel for LstmBackward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let h = self.h;
        let step = self.step;
        let values = step.gates.chunks_exact(4 * h);
        let kept = step.kept.chunks_exact(h);
        let before = step.before.chunks_exact(h);
        let gradient = step.gradient.chunks_exact(h);
        let sources = values.zip(kept).zip(before).zip(gradient);
        let memory = self.memory.chunks_exact_mut(h);
        let targets = self.gates.chunks_exact_mut(4 * h).zip(memory);
        for ((to_gates, to_memory), (((values, kept), before), gradient)) in targets.zip(sources) {
            let (input, rest) = values.split_at(h);
            let (forget, rest) = rest.split_at(h);
            let (new, output) = rest.split_at(h);
            let (to_input, rest) = to_gates.split_at_mut(h);
            let (to_forget, rest) = rest.split_at_mut(h);
            let (to_new, to_output) = rest.split_at_mut(h);
            let numbers = gradient.iter().zip(output).zip(kept);
            for ((to_o, to_c), ((d, o), c)) in
                to_output.iter_mut().zip(&mut *to_memory).zip(numbers)
            {
                let t = tanh(*c);
                *to_c += *d * *o * (1.0 - t * t);
                *to_o = *d * t * *o * (1.0 - *o);
            }
            let all = to_input.iter_mut().zip(&*to_memory).zip(input).zip(new);
            for (((to_i, d), i), g) in all {
                *to_i = *d * *g * *i * (1.0 - *i);
            }
            let all = to_forget
                .iter_mut()
                .zip(&*to_memory)
                .zip(forget)
                .zip(before);
            for (((to_f, d), f), c) in all {
                *to_f = *d * *c * *f * (1.0 - *f);
            }
            let all = to_new.iter_mut().zip(&*to_memory).zip(input).zip(new);
            for (((to_g, d), i), g) in all {
                *to_g = *d * *i * (1.0 - *g * *g);
            }
            for (to_c, f) in to_memory.iter_mut().zip(forget) {
                *to_c *= *f;
            }
        }
    }
}

/// The gradients of a GRU to `a` and to the state before, as far as it does not go through `b`.
pub(super) fn gru_backward(step: Step<'_>, before: &mut [f32], a: &mut [f32], h: usize) {
    expect(step.gradient.len(), h, [a.len(), before.len()], [3, 1]);
    Isa::current().run(GruBackward { step, before, a, h });
}

struct GruBackward<'a> {
    step: Step<'a>,
    before: &'a mut [f32],
    a: &'a mut [f32],
    h: usize,
}

impl Kernel for GruBackward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let h = self.h;
        let step = self.step;
        let values = step.gates.chunks_exact(3 * h);
        let kept = step.kept.chunks_exact(h);
        let before = step.before.chunks_exact(h);
        let gradient = step.gradient.chunks_exact(h);
        let sources = values.zip(kept).zip(before).zip(gradient);
        let to_before = self.before.chunks_exact_mut(h);
        let targets = self.a.chunks_exact_mut(3 * h).zip(to_before);
        for ((to_a, to_before), (((values, kept), before), gradient)) in targets.zip(sources) {
            let (reset, rest) = values.split_at(h);
            let (update, new) = rest.split_at(h);
            let (to_reset, rest) = to_a.split_at_mut(h);
            let (to_update, to_new) = rest.split_at_mut(h);
            let all = to_new.iter_mut().zip(gradient).zip(update).zip(new);
            for (((to_n, d), z), n) in all {
                *to_n = *d * (1.0 - *z) * (1.0 - *n * *n);
            }
            let all = to_reset.iter_mut().zip(&*to_new).zip(kept).zip(reset);
            for (((to_r, d), b), r) in all {
                *to_r = *d * *b * *r * (1.0 - *r);
            }
            let numbers = gradient.iter().zip(update).zip(new).zip(before);
            for (to_z, (((d, z), n), s)) in to_update.iter_mut().zip(numbers) {
                *to_z = *d * (*s - *n) * *z * (1.0 - *z);
            }
            for ((to_s, d), z) in to_before.iter_mut().zip(gradient).zip(update) {
                *to_s = *d * *z;
            }
        }
    }
}

/// The gradient to `b` of a GRU, `[rows, 3h]`, of that to `a` and of its gates: the candidate's part
/// is behind the reset gate.
pub(super) fn behind_reset(to_a: &[f32], gates: &[f32], to_b: &mut [f32], h: usize) {
    assert_eq!(to_a.len(), gates.len(), "a gradient for each gate");
    assert_eq!(to_a.len(), to_b.len(), "gates of as many rows");
    let rows = to_a.chunks_exact(3 * h).zip(gates.chunks_exact(3 * h));
    for (to_b, (to_a, gates)) in to_b.chunks_exact_mut(3 * h).zip(rows) {
        to_b.copy_from_slice(to_a);
        for (to_n, r) in to_b[2 * h..].iter_mut().zip(&gates[..h]) {
            *to_n *= *r;
        }
    }
}

/// States of `len` numbers, and `lens` that are so many `times` as many.
fn expect(len: usize, h: usize, lens: [usize; 2], times: [usize; 2]) {
    assert!(
        h > 0 && len.is_multiple_of(h),
        "{len} numbers are not states of {h}"
    );
    for (found, times) in lens.into_iter().zip(times) {
        assert_eq!(found, times * len, "{times} numbers for each of a state");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: usize = 5;
    const ROWS: usize = 3;

    /// Numbers in −2..2 that are neither small nor alike.
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
    fn steps_are_their_formulas() {
        let gates = numbers(4 * H * ROWS, 1);
        let before = numbers(H * ROWS, 2);
        let (a, b) = (numbers(3 * H * ROWS, 3), numbers(3 * H * ROWS, 4));
        for isa in Isa::available() {
            let mut left = gates.clone();
            let mut memory = before.clone();
            let mut state = vec![0.0; H * ROWS];
            isa.run(Lstm {
                gates: &mut left,
                memory: &mut memory,
                state: &mut state,
                h: H,
            });
            let (mut open, mut next) = (a.clone(), before.clone());
            isa.run(Gru {
                a: &mut open,
                b: &b,
                state: &mut next,
                h: H,
            });
            let close = |found: f32, expected: f64| {
                let gap = (f64::from(found) - expected).abs();
                assert!(gap < 2e-6, "{}: {found}, not {expected}", isa.name());
            };
            for row in 0..ROWS {
                for j in 0..H {
                    let place = row * H + j;
                    let old = f64::from(before[place]);
                    let gate = |k: usize| f64::from(gates[(row * 4 + k) * H + j]);
                    let [i, f, o] = [0, 1, 3].map(|k| wide_sigmoid(gate(k)));
                    let c = f * old + i * gate(2).tanh();
                    close(memory[place], c);
                    close(state[place], o * c.tanh());
                    for (k, value) in [i, f, gate(2).tanh(), o].into_iter().enumerate() {
                        close(left[(row * 4 + k) * H + j], value);
                    }
                    let of = |t: &[f32], k: usize| f64::from(t[(row * 3 + k) * H + j]);
                    let [r, z] = [0, 1].map(|k| wide_sigmoid(of(&a, k) + of(&b, k)));
                    let n = (of(&a, 2) + r * of(&b, 2)).tanh();
                    close(next[place], (1.0 - z) * n + z * old);
                    for (k, value) in [r, z, n].into_iter().enumerate() {
                        close(open[(row * 3 + k) * H + j], value);
                    }
                }
            }
        }
    }

    /// Gradients meet central differences of `value`.
    fn check(value: impl Fn(&[f32]) -> f64, at: &[f32], gradient: &[f32]) {
        assert_eq!(at.len(), gradient.len());
        for (place, found) in gradient.iter().enumerate() {
            let step = 1.0 / 64.0;
            let moved = |by: f32| {
                let mut x = at.to_vec();
                x[place] += by;
                value(&x)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let found = f64::from(*found);
            assert!((slope - found).abs() < 2e-3, "{place}: {slope} {found}");
        }
    }

    fn product(a: &[f32], b: &[f32]) -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn gradients_of_an_lstm_are_slopes() {
        let gates = numbers(4 * H * ROWS, 5);
        let before = numbers(H * ROWS, 6);
        let (of_state, of_memory) = (numbers(H * ROWS, 7), numbers(H * ROWS, 8));
        let forward = |gates: &[f32], before: &[f32]| {
            let (mut gates, mut memory) = (gates.to_vec(), before.to_vec());
            let mut state = vec![0.0; H * ROWS];
            lstm_into(&mut gates, &mut memory, &mut state, H);
            (gates, memory, state)
        };
        let value = |gates: &[f32], before: &[f32]| {
            let (_, memory, state) = forward(gates, before);
            product(&state, &of_state) + product(&memory, &of_memory)
        };
        let (left, memory, _) = forward(&gates, &before);
        let step = Step {
            gates: &left,
            kept: &memory,
            before: &before,
            gradient: &of_state,
        };
        let (mut to_before, mut to_gates) = (of_memory.clone(), vec![0.0; gates.len()]);
        lstm_backward(step, &mut to_before, &mut to_gates, H);
        check(|x| value(x, &before), &gates, &to_gates);
        check(|x| value(&gates, x), &before, &to_before);
    }

    #[test]
    fn gradients_of_a_gru_are_slopes() {
        let (a, b) = (numbers(3 * H * ROWS, 9), numbers(3 * H * ROWS, 10));
        let before = numbers(H * ROWS, 11);
        let weights = numbers(H * ROWS, 12);
        let forward = |a: &[f32], b: &[f32], before: &[f32]| {
            let (mut a, mut state) = (a.to_vec(), before.to_vec());
            gru_into(&mut a, b, &mut state, H);
            (a, state)
        };
        let value = |a: &[f32], b: &[f32], s: &[f32]| product(&forward(a, b, s).1, &weights);
        let (left, _) = forward(&a, &b, &before);
        let rows = b.chunks_exact(3 * H);
        let kept: Vec<f32> = rows.flat_map(|row| row[2 * H..].to_vec()).collect();
        let step = Step {
            gates: &left,
            kept: &kept,
            before: &before,
            gradient: &weights,
        };
        let mut to_before = vec![0.0; before.len()];
        let (mut to_a, mut to_b) = (vec![0.0; a.len()], vec![0.0; a.len()]);
        gru_backward(step, &mut to_before, &mut to_a, H);
        behind_reset(&to_a, &left, &mut to_b, H);
        check(|x| value(x, &b, &before), &a, &to_a);
        check(|x| value(&a, x, &before), &b, &to_b);
        check(|x| value(&a, &b, x), &before, &to_before);
    }
}
