//! Fully connected layers on slices, for networks that are computed one position at a time.
//!
//! An autoregressive sampler multiplies a few rows by the same weights many thousand times. The
//! weights are packed once, as wide as the processor's vectors, and no tensor is made.

#![allow(unsafe_code, reason = "vectors are read and written by pointers")]

use rayon::prelude::*;

use crate::Isa;
use crate::simd::{Kernel, Simd};

/// Products from which on rows are shared among threads.
const LARGE: usize = 1 << 22;

/// A matrix `[inputs, outputs]` and a vector that is added, packed for this processor.
///
/// The sums of a row go over the inputs in their order, so a row's result is the same to the bit
/// whatever rows are computed with it.
#[derive(Clone, Debug)]
pub struct Dense {
    isa: Isa,
    inputs: usize,
    outputs: usize,
    /// Panels one after another; in each, input by input, the lanes side by side.
    packed: Vec<f32>,
    bias: Option<Vec<f32>>,
    panels: Vec<Panel>,
}

/// Outputs that are computed together.
#[derive(Clone, Copy, Debug)]
struct Panel {
    first: usize,
    /// Vectors, 1 to 4.
    vectors: usize,
    /// Outputs, at most the lanes of the vectors.
    valid: usize,
    /// Where its weights begin.
    at: usize,
}

impl Dense {
    /// A layer of the weight `[inputs, outputs]` in rows.
    ///
    /// # Panics
    /// When weight or bias have another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize, bias: Option<&[f32]>) -> Self {
        Self::on(Isa::current(), weight, inputs, outputs, bias)
    }

    fn on(isa: Isa, weight: &[f32], inputs: usize, outputs: usize, bias: Option<&[f32]>) -> Self {
        assert_eq!(weight.len(), inputs * outputs, "a weight for each pair");
        if let Some(bias) = bias {
            assert_eq!(bias.len(), outputs, "a bias for each output");
        }
        let (lanes, most) = isa.shape();
        let (mut panels, mut packed) = (vec![], vec![]);
        let mut first = 0;
        while first < outputs {
            let valid = (outputs - first).min(lanes * most);
            let vectors = valid.div_ceil(lanes);
            let at = packed.len();
            for input in 0..inputs {
                let row = &weight[input * outputs + first..][..valid];
                packed.extend_from_slice(row);
                packed.resize(at + (input + 1) * vectors * lanes, 0.0);
            }
            panels.push(Panel {
                first,
                vectors,
                valid,
                at,
            });
            first += valid;
        }
        Self {
            isa,
            inputs,
            outputs,
            packed,
            bias: bias.map(<[f32]>::to_vec),
            panels,
        }
    }

    /// Numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out[r] = bias + x[r]·W` for `n` rows.
    ///
    /// # Panics
    /// When `x` is not `[n, inputs]` or `out` not `[n, outputs]`.
    pub fn forward(&self, x: &[f32], n: usize, out: &mut [f32]) {
        self.compute(x, n, out, false);
    }

    /// `out[r] += x[r]·W` for `n` rows, without the bias.
    ///
    /// # Panics
    /// As [`Dense::forward`].
    pub fn add_to(&self, x: &[f32], n: usize, out: &mut [f32]) {
        self.compute(x, n, out, true);
    }

    fn compute(&self, x: &[f32], n: usize, out: &mut [f32], add: bool) {
        assert_eq!(x.len(), n * self.inputs, "{n} rows go in");
        assert_eq!(out.len(), n * self.outputs, "{n} rows come out");
        if n == 0 || self.outputs == 0 {
            return;
        }
        let run = |x: &[f32], out: &mut [f32]| {
            let n = out.len() / self.outputs;
            self.isa.run(Product {
                layer: self,
                x,
                n,
                out,
                add,
            });
        };
        let threads = rayon::current_num_threads();
        if threads == 1 || self.inputs == 0 || n * self.inputs * self.outputs < LARGE {
            return run(x, out);
        }
        let rows = n.div_ceil(2 * threads).next_multiple_of(ROWS);
        x.par_chunks(rows * self.inputs)
            .zip(out.par_chunks_mut(rows * self.outputs))
            .for_each(|(x, out)| run(x, out));
    }
}

/// Rows of a block.
const ROWS: usize = 4;

struct Product<'a> {
    layer: &'a Dense,
    x: &'a [f32],
    n: usize,
    out: &'a mut [f32],
    add: bool,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        for panel in &self.layer.panels {
            // SAFETY: a panel has 1 to `S::PANEL` vectors, which is at most 4.
            unsafe {
                match panel.vectors {
                    1 => self.panel::<S, 1>(*panel),
                    2 => self.panel::<S, 2>(*panel),
                    3 => self.panel::<S, 3>(*panel),
                    _ => self.panel::<S, 4>(*panel),
                }
            }
        }
    }
}

impl Product<'_> {
    /// All rows of a panel of `V` vectors.
    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize>(&mut self, panel: Panel) {
        let mut row = 0;
        // SAFETY: the rows of a block are rows of `x` and `out`.
        unsafe {
            while row + ROWS <= self.n {
                self.block::<S, ROWS, V>(panel, row);
                row += ROWS;
            }
            match self.n - row {
                3 => self.block::<S, 3, V>(panel, row),
                2 => self.block::<S, 2, V>(panel, row),
                1 => self.block::<S, 1, V>(panel, row),
                _ => (),
            }
        }
    }

    /// `R` rows of a panel of `V` vectors.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const V: usize>(&mut self, panel: Panel, row: usize) {
        let Dense {
            inputs,
            outputs,
            packed,
            bias,
            ..
        } = self.layer;
        let (inputs, outputs) = (*inputs, *outputs);
        let lanes = |v: usize| panel.valid.saturating_sub(v * S::LANES).min(S::LANES);
        // SAFETY: rows `row..row + R` exist, a panel's outputs lie in a row, and its weights are
        // `inputs · V` vectors from `panel.at` on.
        unsafe {
            let x = self.x.as_ptr().add(row * inputs);
            let out = self.out.as_mut_ptr().add(row * outputs + panel.first);
            let weights = packed.as_ptr().add(panel.at);
            let mut sums = [[S::splat(0.0); V]; R];
            for v in 0..V {
                let part = lanes(v);
                for (r, sums) in sums.iter_mut().enumerate() {
                    if self.add {
                        let old = out.add(r * outputs + v * S::LANES);
                        sums[v] = S::load_part(old, part);
                    } else if let Some(bias) = bias {
                        let bias = bias.as_ptr().add(panel.first + v * S::LANES);
                        sums[v] = S::load_part(bias, part);
                    }
                }
            }
            for input in 0..inputs {
                let at = weights.add(input * V * S::LANES);
                let mut w = [S::splat(0.0); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = S::load(at.add(v * S::LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = S::splat(*x.add(r * inputs + input));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = S::fma(value, w, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    S::store_part(out.add(r * outputs + v * S::LANES), lanes(v), *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in −1..1 that repeat late.
    fn numbers(count: usize, start: u32) -> Vec<f32> {
        let mut state = start;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn products_are_those_of_f64() {
        for isa in Isa::available() {
            for [n, inputs, outputs] in [
                [1, 1, 1],
                [2, 3, 5],
                [3, 7, 16],
                [4, 16, 64],
                [5, 9, 65],
                [7, 33, 131],
                [9, 2, 48],
            ] {
                let weight = numbers(inputs * outputs, 1);
                let bias = numbers(outputs, 2);
                let x = numbers(n * inputs, 3);
                let layer = Dense::on(isa, &weight, inputs, outputs, Some(&bias));
                let mut out = vec![7.0; n * outputs];
                layer.forward(&x, n, &mut out);
                let mut sum = out.clone();
                layer.add_to(&x, n, &mut sum);
                for row in 0..n {
                    for (output, bias) in bias.iter().enumerate() {
                        let product: f64 = (0..inputs)
                            .map(|i| {
                                f64::from(x[row * inputs + i])
                                    * f64::from(weight[i * outputs + output])
                            })
                            .sum();
                        let once = f64::from(*bias) + product;
                        let place = row * outputs + output;
                        for (found, expected) in [(out[place], once), (sum[place], once + product)]
                        {
                            assert!(
                                (f64::from(found) - expected).abs() < 1e-5,
                                "{}: {n}×{inputs}×{outputs}: {found}, not {expected}",
                                isa.name()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let (inputs, outputs) = (64, 130);
        let weight = numbers(inputs * outputs, 4);
        // Enough rows to be shared among threads.
        let n = LARGE / (inputs * outputs) + 3;
        let x = numbers(n * inputs, 5);
        for isa in Isa::available() {
            let layer = Dense::on(isa, &weight, inputs, outputs, None);
            let mut all = vec![0.0; n * outputs];
            layer.forward(&x, n, &mut all);
            for row in [0, 1, n / 2, n - 2, n - 1] {
                let mut alone = vec![0.0; outputs];
                layer.forward(&x[row * inputs..][..inputs], 1, &mut alone);
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&alone), bits(&all[row * outputs..][..outputs]));
            }
        }
    }
}
