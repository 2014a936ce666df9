//! Likelihoods of pixels, number by number.

use crate::Isa;
use crate::activation::{exp, sigmoid};
use crate::pixelwise::{Map, map};

/// ln(1 + t) for 0 ≤ t ≤ 1, to 2e-7: 2·artanh(t/(2 + t)) by its series.
#[inline(always)]
fn log1p(t: f32) -> f32 {
    let s = t / (2.0 + t);
    let square = s * s;
    let mut sum = 1.0 / 13.0;
    for odd in [11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    2.0 * s * sum
}

/// −log p(x) of independent Bernoulli variables with logits `l`: `softplus(l) − x·l`, stable for
/// any logit.
///
/// # Panics
/// When the two do not have the same length.
pub fn bernoulli(isa: Isa, logits: &[f32], x: &[f32]) -> Vec<f32> {
    struct Loss<'a>(&'a [f32], &'a [f32]);
    impl Map for Loss<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let part = from..from + result.len();
            let (logits, x) = (&self.0[part.clone()], &self.1[part]);
            for ((y, l), x) in result.iter_mut().zip(logits).zip(x) {
                *y = if *l > 0.0 { *l } else { 0.0 } + log1p(exp(-l.abs())) - x * l;
            }
        }
    }
    assert_eq!(logits.len(), x.len(), "a logit for each variable");
    map(isa, logits.len(), 1, &Loss(logits, x))
}

/// The gradients of [`bernoulli`] to logits and variables: `g·(σ(l) − x)` and `−g·l`.
///
/// # Panics
/// When the three do not have the same length.
pub fn bernoulli_backward(
    isa: Isa,
    gradient: &[f32],
    logits: &[f32],
    x: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    struct ToLogits<'a>([&'a [f32]; 3]);
    impl Map for ToLogits<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let part = from..from + result.len();
            let [gradient, logits, x] = self.0.map(|all| &all[part.clone()]);
            let numbers = gradient.iter().zip(logits).zip(x);
            for (y, ((g, l), x)) in result.iter_mut().zip(numbers) {
                *y = g * (sigmoid(*l) - x);
            }
        }
    }
    struct ToVariables<'a>(&'a [f32], &'a [f32]);
    impl Map for ToVariables<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let part = from..from + result.len();
            let (gradient, logits) = (&self.0[part.clone()], &self.1[part]);
            for ((y, g), l) in result.iter_mut().zip(gradient).zip(logits) {
                *y = -g * l;
            }
        }
    }
    let lens = [gradient.len(), x.len()];
    assert_eq!(lens, [logits.len(); 2], "a gradient for each logit");
    let to_logits = map(isa, logits.len(), 1, &ToLogits([gradient, logits, x]));
    let to_variables = map(isa, logits.len(), 1, &ToVariables(gradient, logits));
    (to_logits, to_variables)
}
