//! Logistic regression: the classifier of the two-sample test.
//!
//! With features standardised to x, logits f = x·w + b, and labels y of 1 (real) and 0, it minimises
//!
//! mean(ln(1 + e^f) - y f) + ridge/2 |w|²
//!
//! by Newton's method with step halving. The bias is not penalised. The function is strictly convex,
//! so the minimum does not depend on where the search begins.

use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::{product, transposed_product};

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// Newton steps before the search is given up; ten are usual.
const MOST_STEPS: usize = 100;

/// A logistic regression that has learnt.
#[derive(Clone, Debug)]
pub(super) struct Logistic {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// One for each feature, then the bias.
    weights: Vec<f64>,
}

impl Logistic {
    /// Learns that the first `real` rows are real and the others are not.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for a ridge that is not positive and finite, or a search that does not
    /// end; those of [`Features::rows`].
    pub(super) fn fit(features: &Features, real: usize, ridge: f64) -> Result<Self> {
        if !ridge.is_finite() || ridge <= 0.0 {
            return Err(ImageError::Shape(format!(
                "the ridge of a classifier is a positive number, not {ridge}"
            )));
        }
        let (n, d) = (features.len(), features.dims());
        let (mean, deviation) = scale(features)?;
        let mut model = Self {
            mean,
            deviation,
            weights: vec![0.0; d + 1],
        };
        let rows = model.standardised(&features.doubles(0..n)?);
        for _ in 0..MOST_STEPS {
            let logits = product(&rows, &model.weights, [n, d + 1, 1]);
            let (gradient, curvature) = model.derivatives(&rows, &logits, real, ridge);
            let step = solve(&curvature, &gradient)?;
            // Twice the decrease that the step promises.
            let slope = dot(&gradient, &step);
            let before = model.objective(&logits, real, ridge);
            let enough = |share: f64| {
                let after = model.moved(&step, share);
                let logits = product(&rows, &after.weights, [n, d + 1, 1]);
                after.objective(&logits, real, ridge) <= before - 1e-4 * share * slope
            };
            let mut share = 1.0;
            // Near the minimum the decrease is lost in rounding, and Newton's step is right.
            while slope > 1e-10 && !enough(share) {
                share *= 0.5;
                if share < 1e-9 {
                    return Err(not_found());
                }
            }
            model = model.moved(&step, share);
            if slope <= 1e-20 {
                return Ok(model);
            }
        }
        Err(not_found())
    }

    /// The logits of rows: above 0 for what looks real.
    pub(super) fn logits(&self, features: &Features) -> Result<Vec<f64>> {
        let mut logits = Vec::with_capacity(features.len());
        for range in chunks(features.len(), CHUNK) {
            let count = range.len();
            let rows = self.standardised(&features.doubles(range)?);
            logits.extend(product(
                &rows,
                &self.weights,
                [count, self.weights.len(), 1],
            ));
        }
        Ok(logits)
    }

    /// Rows of `d` values as rows of `d + 1`: standardised, and a 1 for the bias.
    fn standardised(&self, rows: &[f64]) -> Vec<f64> {
        let d = self.mean.len();
        let mut out = Vec::with_capacity(rows.len() / d * (d + 1));
        for row in rows.chunks_exact(d) {
            let scales = self.mean.iter().zip(&self.deviation);
            out.extend(row.iter().zip(scales).map(|(x, (mean, s))| (x - mean) / s));
            out.push(1.0);
        }
        out
    }

    /// The gradient of the objective and its matrix of second derivatives.
    fn derivatives(
        &self,
        rows: &[f64],
        logits: &[f64],
        real: usize,
        ridge: f64,
    ) -> (Vec<f64>, Vec<f64>) {
        let (n, width) = (logits.len(), self.weights.len());
        let share = 1.0 / n as f64;
        let chances: Vec<f64> = logits.iter().map(|f| 1.0 / (1.0 + (-f).exp())).collect();
        let errors: Vec<f64> = chances
            .iter()
            .enumerate()
            .map(|(i, p)| share * (p - label(i, real)))
            .collect();
        let mut gradient = transposed_product(rows, &errors, [width, n, 1]);
        let mut curvature = vec![0.0; width * width];
        for range in chunks(n, CHUNK) {
            let part = &rows[range.start * width..range.end * width];
            let weighted: Vec<f64> = part
                .chunks_exact(width)
                .zip(&chances[range.clone()])
                .flat_map(|(row, p)| row.iter().map(move |x| share * p * (1.0 - p) * x))
                .collect();
            let more = transposed_product(part, &weighted, [width, range.len(), width]);
            for (sum, more) in curvature.iter_mut().zip(more) {
                *sum += more;
            }
        }
        for (i, weight) in self.weights[..width - 1].iter().enumerate() {
            gradient[i] += ridge * weight;
            curvature[i * (width + 1)] += ridge;
        }
        (gradient, curvature)
    }

    fn objective(&self, logits: &[f64], real: usize, ridge: f64) -> f64 {
        let weights = &self.weights[..self.weights.len() - 1];
        mean_loss(logits, real) + 0.5 * ridge * dot(weights, weights)
    }

    /// The model a share of `step` further down.
    fn moved(&self, step: &[f64], share: f64) -> Self {
        let weights = self.weights.iter().zip(step);
        Self {
            weights: weights
                .map(|(weight, step)| weight - share * step)
                .collect(),
            ..self.clone()
        }
    }
}

/// The mean logistic loss in nats, the first `real` logits being those of real images.
pub(super) fn mean_loss(logits: &[f64], real: usize) -> f64 {
    let losses = logits
        .iter()
        .enumerate()
        .map(|(i, f)| f.max(0.0) + (-f.abs()).exp().ln_1p() - label(i, real) * f);
    losses.sum::<f64>() / logits.len() as f64
}

fn label(row: usize, real: usize) -> f64 {
    if row < real { 1.0 } else { 0.0 }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn not_found() -> ImageError {
    ImageError::Shape(
        "the classifier of a two-sample test finds no minimum; choose a larger ridge".to_owned(),
    )
}

/// Mean and population deviation of each feature; 1 for the deviation of one that does not change.
fn scale(features: &Features) -> Result<(Vec<f64>, Vec<f64>)> {
    let (n, d) = (features.len() as f64, features.dims());
    let mut mean = vec![0.0; d];
    for range in chunks(features.len(), CHUNK) {
        for row in features.doubles(range)?.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / n);
        }
    }
    let mut deviation = vec![0.0; d];
    for range in chunks(features.len(), CHUNK) {
        for row in features.doubles(range)?.chunks_exact(d) {
            for ((sum, x), mean) in deviation.iter_mut().zip(row).zip(&mean) {
                *sum += (x - mean) * (x - mean) / n;
            }
        }
    }
    for (deviation, mean) in deviation.iter_mut().zip(&mean) {
        // What is left of a constant is the rounding of its mean.
        let still = deviation.sqrt() <= 1e-12 * mean.abs();
        *deviation = if still { 1.0 } else { deviation.sqrt() };
    }
    Ok((mean, deviation))
}

/// x of A x = b, A being symmetric and positive definite.
fn solve(matrix: &[f64], right: &[f64]) -> Result<Vec<f64>> {
    let n = right.len();
    let factors = MatRef::from_row_major_slice(matrix, n, n)
        .llt(Side::Lower)
        .map_err(|_| not_found())?;
    let right = Mat::from_fn(n, 1, |i, _| right[i]);
    let solution = factors.solve(&right);
    Ok((0..n).map(|i| solution[(i, 0)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_that_of_scikit_learn() {
        let rows = [
            0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 4.0, 2.0, // real
            1.0, 0.0, 3.0, 1.0, 5.0, 2.0, 6.0, 6.0,
        ];
        let learn = Features::new(rows.to_vec(), 2).unwrap();
        let ask = Features::new(vec![0.0, 0.0, 2.0, 2.0, 7.0, 1.0], 2).unwrap();
        // scikit-learn 1.9.1: StandardScaler, then LogisticRegression(C = 1/(8 ridge),
        // solver = "newton-cholesky", tol = 1e-14): coef_, intercept_, decision_function.
        for (ridge, weights, logits) in [
            (
                0.01,
                [-1.364_058_238_7, 0.397_356_079_3, 0.018_210_177_5],
                [1.502_125_311_1, 0.560_875_190_5, -3.093_024_175_9],
            ),
            (
                0.5,
                [-0.323_712_801_3, -0.069_648_440_2, -0.002_086_496_0],
                [0.517_787_040_8, 0.115_515_458_1, -0.662_164_257_3],
            ),
        ] {
            let model = Logistic::fit(&learn, 4, ridge).unwrap();
            for (weight, expected) in model.weights.iter().zip(weights) {
                assert!((weight - expected).abs() < 1e-8, "{weight} {expected}");
            }
            for (logit, expected) in model.logits(&ask).unwrap().iter().zip(logits) {
                assert!((logit - expected).abs() < 1e-8, "{logit} {expected}");
            }
        }
    }

    #[test]
    fn losses_by_hand() {
        // ln(1 + e^-1) and ln(1 + e^2); large logits neither overflow nor vanish.
        let expected = 0.5 * ((1.0 + (-1.0f64).exp()).ln() + (1.0 + 2.0f64.exp()).ln());
        assert!((mean_loss(&[1.0, 2.0], 1) - expected).abs() < 1e-15);
        assert_eq!(mean_loss(&[-1000.0], 1), 1000.0);
        assert_eq!(mean_loss(&[1000.0], 1), 0.0);
    }
}
