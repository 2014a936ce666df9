//! What an optimizer does to every parameter, in one pass over memory.

use rayon::prelude::*;

use crate::Isa;
use crate::simd::{Kernel, Simd};

/// Numbers that a thread takes at a time.
const PART: usize = 1 << 14;

/// One update of Adam with decoupled weight decay: with the corrections of its moments,
///
/// ```text
/// m ← β₁m + (1 − β₁)g       v ← β₂v + (1 − β₂)g²
/// θ ← keep · θ − rate · m / (√(v / correction) + ε)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamUpdate {
    /// Decay of the first moment, β₁.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// Added to the root of the second moment, ε.
    pub epsilon: f32,
    /// What weight decay leaves of a parameter, 1 − lr · λ.
    pub keep: f32,
    /// The learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1 − β₂ᵗ.
    pub correction: f32,
}

struct Adam<'a> {
    of: AdamUpdate,
    parameter: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: &'a [f32],
}

impl Kernel for Adam<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let AdamUpdate {
            beta1,
            beta2,
            epsilon,
            keep,
            rate,
            correction,
        } = self.of;
        // 1 − β in f64: the difference of two f32 would lose digits.
        let (rest1, rest2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        let moments = self.first.iter_mut().zip(self.second);
        let numbers = self.parameter.iter_mut().zip(self.gradient);
        for ((parameter, g), (m, v)) in numbers.zip(moments) {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            let root = (*v / correction).sqrt() + epsilon;
            *parameter = keep * *parameter - rate * *m / root;
        }
    }
}

/// Updates parameters and moments by a gradient.
///
/// # Panics
/// When the four do not have the same length.
pub fn adam(
    isa: Isa,
    of: AdamUpdate,
    parameter: &mut [f32],
    [first, second]: [&mut [f32]; 2],
    gradient: &[f32],
) {
    let lens = [parameter.len(), first.len(), second.len()];
    assert_eq!(lens, [gradient.len(); 3], "two moments for each gradient");
    let moments = first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART));
    let numbers = parameter
        .par_chunks_mut(PART)
        .zip(gradient.par_chunks(PART));
    numbers
        .zip(moments)
        .for_each(|((parameter, gradient), (first, second))| {
            isa.run(Adam {
                of,
                parameter,
                first,
                second,
                gradient,
            });
        });
}

struct Mix<'a>(&'a mut [f32], &'a [f32], f64);

impl Kernel for Mix<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let (decay, rest) = (self.2 as f32, (1.0 - self.2) as f32);
        for (average, new) in self.0.iter_mut().zip(self.1) {
            *average = decay * *average + rest * new;
        }
    }
}

/// `average ← decay · average + (1 − decay) · new`.
///
/// # Panics
/// When the two do not have the same length.
pub fn mix(isa: Isa, average: &mut [f32], new: &[f32], decay: f64) {
    assert_eq!(average.len(), new.len(), "an average for each number");
    average
        .par_chunks_mut(PART)
        .zip(new.par_chunks(PART))
        .for_each(|(average, new)| isa.run(Mix(average, new, decay)));
}

struct Squares<'a>(&'a [f32], &'a mut f64);

impl Kernel for Squares<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        const LANES: usize = 16;
        const BLOCK: usize = 64 * LANES;
        for block in self.0.chunks(BLOCK) {
            let mut sums = [0.0f32; LANES];
            let whole = block.chunks_exact(LANES);
            let rest: f32 = whole.remainder().iter().map(|x| x * x).sum();
            for row in whole {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x * x;
                }
            }
            *self.1 += f64::from(rest) + sums.iter().map(|x| f64::from(*x)).sum::<f64>();
        }
    }
}

/// Σ x², whatever the number of threads.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    let part = |part: &[f32]| {
        let mut sum = 0.0;
        isa.run(Squares(part, &mut sum));
        sum
    };
    let parts: Vec<f64> = x.par_chunks(PART).map(part).collect();
    parts.iter().sum()
}
