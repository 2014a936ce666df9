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

/// Numbers of a row that are compared or added side by side.
const LANES: usize = 16;

/// The largest number of a row.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (most, value) in lanes.iter_mut().zip(chunk) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    for (most, value) in lanes.iter_mut().zip(rest) {
        *most = if *value > *most { *value } else { *most };
    }
    let mut most = f32::NEG_INFINITY;
    for value in lanes {
        most = if value > most { value } else { most };
    }
    most
}

/// Σ e^(l − top) of a row.
#[inline(always)]
fn sum_of_exp(row: &[f32], top: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, value) in lanes.iter_mut().zip(chunk) {
            *sum += exp(*value - top);
        }
    }
    for (sum, value) in lanes.iter_mut().zip(rest) {
        *sum += exp(*value - top);
    }
    lanes.iter().sum()
}

/// Σ of a row.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, value) in lanes.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    for (sum, value) in lanes.iter_mut().zip(rest) {
        *sum += value;
    }
    lanes.iter().sum()
}

/// −log p of one of `k` values for each row of logits, `log Σ e^l − l_target`:
/// `[rows, k], [rows] → [rows]`. The targets are whole numbers below `k`.
///
/// # Panics
/// When there are no logits for a target, or a target is no number below `k`.
pub fn cross_entropy(isa: Isa, logits: &[f32], targets: &[f32], k: usize) -> Vec<f32> {
    struct Loss<'a>(&'a [f32], &'a [f32], usize);
    impl Map for Loss<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(logits, targets, k) = *self;
            let rows = logits[from * k..(from + result.len()) * k].chunks_exact(k);
            let targets = &targets[from..from + result.len()];
            for ((nats, row), target) in result.iter_mut().zip(rows).zip(targets) {
                let top = largest(row);
                *nats = sum_of_exp(row, top).ln() + (top - row[*target as usize]);
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * self.2 * c
        }
    }
    expect_rows(logits, targets, k);
    map(isa, targets.len(), 1, &Loss(logits, targets, k))
}

/// The gradient of [`cross_entropy`] to the logits, `g · (softmax(l) − onehot(target))`.
///
/// # Panics
/// As [`cross_entropy`], and when the gradient is not one number for each target.
pub fn cross_entropy_backward(
    isa: Isa,
    gradient: &[f32],
    logits: &[f32],
    targets: &[f32],
    k: usize,
) -> Vec<f32> {
    struct Back<'a>([&'a [f32]; 3], usize);
    impl Map for Back<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self([gradient, logits, targets], k) = *self;
            let rows = logits[from..from + result.len()].chunks_exact(k);
            let part = from / k..(from + result.len()) / k;
            let of_rows = gradient[part.clone()].iter().zip(&targets[part]);
            let all = result.chunks_exact_mut(k).zip(rows).zip(of_rows);
            for ((result, row), (g, target)) in all {
                let top = largest(row);
                for (y, logit) in result.iter_mut().zip(row) {
                    *y = exp(*logit - top);
                }
                let factor = g / sum(result);
                for y in result.iter_mut() {
                    *y *= factor;
                }
                result[*target as usize] -= g;
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * c
        }
    }
    expect_rows(logits, targets, k);
    assert_eq!(gradient.len(), targets.len(), "a gradient for each target");
    map(isa, logits.len(), k, &Back([gradient, logits, targets], k))
}

fn expect_rows(logits: &[f32], targets: &[f32], k: usize) {
    assert!(
        k > 0 && logits.len() == targets.len() * k,
        "{} logits are not {k} for each of {} targets",
        logits.len(),
        targets.len()
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropies_and_gradients_are_those_of_f64() {
        for (rows, k) in [(7, 1), (9, 3), (50, 4), (5, 16), (6, 37), (300, 256)] {
            let logits: Vec<f32> = (0..rows * k)
                .map(|i| (i as f32 * 0.7).sin() * 9.0)
                .collect();
            let targets: Vec<f32> = (0..rows).map(|row| (row * 5 % k) as f32).collect();
            let gradient: Vec<f32> = (0..rows).map(|row| (row as f32 * 1.3).cos()).collect();
            for isa in Isa::available() {
                let nats = cross_entropy(isa, &logits, &targets, k);
                let back = cross_entropy_backward(isa, &gradient, &logits, &targets, k);
                for (row, found) in nats.iter().enumerate() {
                    let of: Vec<f64> = logits[row * k..(row + 1) * k]
                        .iter()
                        .map(|logit| f64::from(*logit))
                        .collect();
                    let total: f64 = of.iter().map(|logit| logit.exp()).sum();
                    let target = row * 5 % k;
                    let expected = total.ln() - of[target];
                    let gap = (f64::from(*found) - expected).abs();
                    assert!(gap < 4e-6, "{} {k}: {found} {expected}", isa.name());
                    for (level, logit) in of.iter().enumerate() {
                        let own = f64::from(u8::from(level == target));
                        let expected = f64::from(gradient[row]) * (logit.exp() / total - own);
                        let gap = (f64::from(back[row * k + level]) - expected).abs();
                        assert!(gap < 1e-6, "{} {k}: {gap}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn far_logits_stay_finite() {
        let logits = [1e30, 0.0, -1e30, -1e4, -1e4 - 1.0, -1e4];
        let nats = cross_entropy(Isa::current(), &logits, &[0.0, 1.0], 3);
        assert_eq!(nats[0], 0.0);
        let expected = (2.0 + (-1.0f64).exp()).ln() + 1.0;
        assert!((f64::from(nats[1]) - expected).abs() < 1e-6);
        let back = cross_entropy_backward(Isa::current(), &[1.0; 2], &logits, &[0.0, 1.0], 3);
        assert_eq!(back[..1], [0.0]);
        assert!(back.iter().all(|g| g.is_finite()));
        let nan = cross_entropy(Isa::current(), &[f32::NAN, 0.0], &[1.0], 2);
        assert!(nan[0].is_nan());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_target_beyond_the_logits_is_refused() {
        let isa = Isa::Portable;
        cross_entropy(isa, &[0.0; 3], &[3.0], 3);
    }
}
