//! Probing: how well simple classifiers read labels from features that were learned without them.
//!
//! Features are standardised by mean and spread of the training rows. The linear probe is
//! multinomial logistic regression,
//!
//! ```text
//! minimise  C · Σ_i −log softmax(W x_i + b)[y_i] + ½ ‖W‖²
//! ```
//!
//! the objective of scikit-learn's `LogisticRegression`, which has one minimum; L-BFGS (Liu and
//! Nocedal, 1989) goes there until the gradient of the mean objective is below 1e-7 everywhere.
//! The k-NN probe gives a row the class that most of its k nearest training rows have; among
//! classes with equally many, the one of the nearest.

use std::collections::VecDeque;

use super::linear::{product_transposed, transposed_product};
use super::neighbours::nearest;
use super::{Features, Interval, interval};
use crate::error::{ImageError, Result};

/// Pairs of steps and gradient changes that L-BFGS remembers.
const MEMORY: usize = 12;
/// The largest entry of the gradient of the mean objective at the end.
const FLAT: f64 = 1e-7;
const MOST_ITERATIONS: usize = 2_000;

/// Settings of the probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeOptions {
    /// Inverse strength C of the penalty. Default 1, as scikit-learn's.
    pub inverse_penalty: f64,
    /// Neighbours that vote. Default 20.
    pub neighbours: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            inverse_penalty: 1.0,
            neighbours: 20,
        }
    }
}

/// How often a probe was right.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Share of the test rows that were classified right.
    pub value: f64,
    /// Its 95 % interval (Clopper and Pearson).
    pub interval: Interval,
    /// The share of each class, by label; `None` for a class without test rows.
    pub by_class: Vec<Option<f64>>,
}

/// What both probes read.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Logistic regression.
    pub linear: Accuracy,
    /// Nearest neighbours.
    pub knn: Accuracy,
    /// The share that naming the most frequent training class gets right.
    pub chance: f64,
}

/// Trains both probes on labelled rows and tries them on others; labels count from 0 below
/// `classes`.
///
/// # Errors
/// [`ImageError::Shape`] when rows and labels differ in number, dimensions differ, there are fewer
/// than two classes among the training rows or fewer training rows than neighbours, or when the
/// regression does not converge.
pub fn probe(
    train: (&Features, &[u32]),
    test: (&Features, &[u32]),
    classes: usize,
    options: ProbeOptions,
) -> Result<Probe> {
    let refuse = |reason: String| Err(ImageError::Shape(reason));
    let ((x, labels), (test_x, test_labels)) = (train, test);
    if x.len() != labels.len() || test_x.len() != test_labels.len() {
        return refuse("features and labels differ in number".to_owned());
    }
    if x.dims() != test_x.dims() {
        return refuse(format!(
            "the training features have {} numbers, those of the test {}",
            x.dims(),
            test_x.dims()
        ));
    }
    if let Some(label) = labels
        .iter()
        .chain(test_labels)
        .find(|label| **label as usize >= classes)
    {
        return refuse(format!("label {label} is outside the {classes} classes"));
    }
    let counts = counts(labels, classes);
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return refuse("a probe needs training rows of two classes or more".to_owned());
    }
    if x.len() < options.neighbours || options.neighbours == 0 || test_x.is_empty() {
        return refuse(format!(
            "{} training and {} test rows are too few for {} neighbours",
            x.len(),
            test_x.len(),
            options.neighbours
        ));
    }
    let scale = Scale::of(x)?;
    let (rows, test_rows) = (scale.apply(x)?, scale.apply(test_x)?);
    let regression = Regression::fit(&rows, labels, classes, x.dims(), options.inverse_penalty)?;
    let linear = regression.classes_of(&test_rows);
    let near = nearest(
        &features(&test_rows, x.dims())?,
        &features(&rows, x.dims())?,
        options.neighbours,
        false,
    )?;
    let knn: Vec<u32> = near
        .iter()
        .map(|near| {
            let votes: Vec<u32> = near.iter().map(|n| labels[n.index]).collect();
            vote(&votes, classes)
        })
        .collect();
    let most = counts
        .iter()
        .enumerate()
        .max_by_key(|(label, count)| (**count, usize::MAX - label))
        .map_or(0, |(label, _)| label as u32);
    let chance = test_labels.iter().filter(|label| **label == most).count();
    Ok(Probe {
        linear: accuracy(&linear, test_labels, classes),
        knn: accuracy(&knn, test_labels, classes),
        chance: chance as f64 / test_labels.len() as f64,
    })
}

fn counts(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[*label as usize] += 1;
    }
    counts
}

fn features(rows: &[f64], dims: usize) -> Result<Features> {
    Features::new(rows.iter().map(|value| *value as f32).collect(), dims)
}

/// The class that most votes name; among several, the one named first.
fn vote(votes: &[u32], classes: usize) -> u32 {
    let counts = counts(votes, classes);
    let most = counts.iter().copied().max().unwrap_or_default();
    votes
        .iter()
        .copied()
        .find(|label| counts[*label as usize] == most)
        .unwrap_or_default()
}

fn accuracy(found: &[u32], labels: &[u32], classes: usize) -> Accuracy {
    let (mut right, mut all) = (vec![0usize; classes], vec![0usize; classes]);
    for (found, label) in found.iter().zip(labels) {
        all[*label as usize] += 1;
        right[*label as usize] += usize::from(found == label);
    }
    let total: usize = right.iter().sum();
    let by_class = right
        .iter()
        .zip(&all)
        .map(|(right, all)| (*all > 0).then(|| *right as f64 / *all as f64))
        .collect();
    Accuracy {
        value: total as f64 / labels.len() as f64,
        interval: interval::of_share(total, labels.len(), interval::CONFIDENCE),
        by_class,
    }
}

/// Mean and spread of each column.
struct Scale {
    mean: Vec<f64>,
    spread: Vec<f64>,
}

impl Scale {
    fn of(x: &Features) -> Result<Self> {
        let (n, d) = (x.len() as f64, x.dims());
        let rows = x.rows(0..x.len())?;
        let mut mean = vec![0.0; d];
        for row in rows.chunks_exact(d) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value) / n;
            }
        }
        let mut spread = vec![0.0; d];
        for row in rows.chunks_exact(d) {
            for ((spread, mean), value) in spread.iter_mut().zip(&mean).zip(row) {
                *spread += (f64::from(*value) - mean).powi(2) / n;
            }
        }
        // A column that never changes says nothing, and stays at zero.
        for spread in &mut spread {
            *spread = if *spread > 0.0 { spread.sqrt() } else { 1.0 };
        }
        Ok(Self { mean, spread })
    }

    fn apply(&self, x: &Features) -> Result<Vec<f64>> {
        let rows = x.rows(0..x.len())?;
        let scaled = rows.chunks_exact(self.mean.len()).flat_map(|row| {
            row.iter()
                .zip(&self.mean)
                .zip(&self.spread)
                .map(|((value, mean), spread)| (f64::from(*value) - mean) / spread)
        });
        Ok(scaled.collect())
    }
}

/// Weights `[classes, dims]`, then intercepts `[classes]`.
struct Regression {
    parameters: Vec<f64>,
    classes: usize,
    dims: usize,
}

/// What a regression is fitted to.
struct Problem<'a> {
    rows: &'a [f64],
    labels: &'a [u32],
    penalty: f64,
}

impl Regression {
    fn fit(
        rows: &[f64],
        labels: &[u32],
        classes: usize,
        dims: usize,
        inverse_penalty: f64,
    ) -> Result<Self> {
        let problem = Problem {
            rows,
            labels,
            penalty: 1.0 / (inverse_penalty * labels.len() as f64),
        };
        let mut at = Self {
            parameters: vec![0.0; classes * (dims + 1)],
            classes,
            dims,
        };
        let (mut value, mut gradient) = at.objective(&problem);
        let mut history: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
        for _ in 0..MOST_ITERATIONS {
            if gradient.iter().all(|g| g.abs() < FLAT) {
                return Ok(at);
            }
            let direction = descent(&gradient, &history);
            let slope = dot(&direction, &gradient);
            // Backtracking to a sufficient decrease; the first step is short, as nothing is known.
            let mut length = if history.is_empty() {
                1.0 / dot(&gradient, &gradient).sqrt().max(1.0)
            } else {
                1.0
            };
            let (next, next_value, next_gradient) = loop {
                let next = at.moved(&direction, length);
                let (next_value, next_gradient) = next.objective(&problem);
                if next_value <= value + 1e-4 * length * slope {
                    break (next, next_value, next_gradient);
                }
                length *= 0.5;
                if length < 1e-20 {
                    // No decrease is left in double precision.
                    return Ok(at);
                }
            };
            let step: Vec<f64> = next
                .parameters
                .iter()
                .zip(&at.parameters)
                .map(|(new, old)| new - old)
                .collect();
            let change: Vec<f64> = next_gradient
                .iter()
                .zip(&gradient)
                .map(|(new, old)| new - old)
                .collect();
            if dot(&step, &change) > 0.0 {
                if history.len() == MEMORY {
                    history.pop_front();
                }
                history.push_back((step, change));
            }
            (at, value, gradient) = (next, next_value, next_gradient);
        }
        Err(ImageError::Shape(
            "the logistic regression of the probe does not converge; use a smaller inverse penalty"
                .to_owned(),
        ))
    }

    fn moved(&self, direction: &[f64], length: f64) -> Self {
        let moved = self
            .parameters
            .iter()
            .zip(direction)
            .map(|(value, step)| value + length * step);
        Self {
            parameters: moved.collect(),
            ..*self
        }
    }

    /// Logits `[n, classes]`.
    fn logits(&self, rows: &[f64]) -> Vec<f64> {
        let n = rows.len() / self.dims;
        let (weights, intercepts) = self.parameters.split_at(self.classes * self.dims);
        let mut logits = product_transposed(rows, weights, [n, self.dims, self.classes]);
        for row in logits.chunks_exact_mut(self.classes) {
            for (logit, intercept) in row.iter_mut().zip(intercepts) {
                *logit += intercept;
            }
        }
        logits
    }

    /// The mean objective and its gradient.
    fn objective(&self, problem: &Problem) -> (f64, Vec<f64>) {
        let n = problem.labels.len();
        let mut errors = self.logits(problem.rows);
        let mut loss = 0.0;
        for (row, label) in errors.chunks_exact_mut(self.classes).zip(problem.labels) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            let total = largest + sum.ln();
            loss += total - row[*label as usize];
            for logit in row.iter_mut() {
                *logit = (*logit - total).exp() / n as f64;
            }
            row[*label as usize] -= 1.0 / n as f64;
        }
        let (weights, _) = self.parameters.split_at(self.classes * self.dims);
        let shape = [self.classes, n, self.dims];
        let mut gradient = transposed_product(&errors, problem.rows, shape);
        for (gradient, weight) in gradient.iter_mut().zip(weights) {
            *gradient += problem.penalty * weight;
        }
        let mut intercepts = vec![0.0; self.classes];
        for row in errors.chunks_exact(self.classes) {
            for (sum, error) in intercepts.iter_mut().zip(row) {
                *sum += error;
            }
        }
        gradient.extend(intercepts);
        let value = loss / n as f64 + 0.5 * problem.penalty * dot(weights, weights);
        (value, gradient)
    }

    fn classes_of(&self, rows: &[f64]) -> Vec<u32> {
        let best = |row: &[f64]| {
            let better =
                |best: usize, class: usize| if row[class] > row[best] { class } else { best };
            (1..row.len()).fold(0, better) as u32
        };
        self.logits(rows)
            .chunks_exact(self.classes)
            .map(best)
            .collect()
    }
}

/// The direction of L-BFGS: minus the gradient times the inverse curvature that history tells.
fn descent(gradient: &[f64], history: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(history.len());
    for (step, change) in history.iter().rev() {
        let share = dot(step, &direction) / dot(step, change);
        add(&mut direction, change, -share);
        shares.push(share);
    }
    if let Some((step, change)) = history.back() {
        let scale = dot(step, change) / dot(change, change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((step, change), share) in history.iter().zip(shares.iter().rev()) {
        let back = dot(change, &direction) / dot(step, change);
        add(&mut direction, step, share - back);
    }
    direction
}

fn add(to: &mut [f64], what: &[f64], times: f64) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += times * what;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 4 numbers in three classes that overlap.
    fn rows(n: usize, [a, b, c]: [usize; 3], over: f32) -> (Features, Vec<u32>) {
        let values = (0..n).flat_map(|i| {
            (0..4).map(move |j| {
                let own = if j == i % 3 {
                    (i % 3) as f32 * 0.6
                } else {
                    0.0
                };
                ((a * i + b * j * j) % c) as f32 / over + own
            })
        });
        let labels = (0..n).map(|i| (i % 3) as u32).collect();
        (Features::new(values.collect(), 4).unwrap(), labels)
    }

    #[test]
    fn the_regression_is_that_of_scikit_learn() {
        // sklearn 1.9.1, LogisticRegression(C=1, tol=1e-12) on StandardScaler's columns.
        let (x, labels) = rows(30, [7, 3, 11], 4.0);
        let scaled = Scale::of(&x).unwrap().apply(&x).unwrap();
        let fit = Regression::fit(&scaled, &labels, 3, 4, 1.0).unwrap();
        let expected = [
            0.26886381,
            -0.32047864,
            -0.36031812,
            -0.05963363,
            0.26660562,
            0.75267996,
            -0.9339624,
            -0.01685963,
            -0.53546942,
            -0.43220132,
            1.29428052,
            0.07649327,
            0.27371361,
            -0.14305115,
            -0.13066246,
        ];
        for (ours, theirs) in fit.parameters.iter().zip(expected) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn both_probes_classify_as_scikit_learn_does() {
        let (x, labels) = rows(30, [7, 3, 11], 4.0);
        let (test, truth) = rows(12, [5, 2, 13], 5.0);
        let scale = Scale::of(&x).unwrap();
        let (a, b) = (scale.apply(&x).unwrap(), scale.apply(&test).unwrap());
        let fit = Regression::fit(&a, &labels, 3, 4, 1.0).unwrap();
        assert_eq!(fit.classes_of(&b), [2, 1, 1, 2, 1, 2, 2, 1, 2, 1, 0, 2]);

        // KNeighborsClassifier(3) on the same columns; its row 10 has three classes with one vote
        // each, where it takes the smallest and the nearest is taken here.
        let options = ProbeOptions {
            neighbours: 3,
            ..ProbeOptions::default()
        };
        let found = probe((&x, &labels), (&test, &truth), 3, options).unwrap();
        let theirs = [2, 1, 0, 2, 1, 0, 2, 1, 2, 0, 2, 2];
        assert_eq!(found.knn, accuracy(&theirs, &truth, 3));
        let linear = [2, 1, 1, 2, 1, 2, 2, 1, 2, 1, 0, 2];
        assert_eq!(found.linear, accuracy(&linear, &truth, 3));
        assert_eq!(found.chance, 4.0 / 12.0);
    }

    #[test]
    fn votes_and_shares_by_hand() {
        assert_eq!(vote(&[2, 1, 1], 3), 1);
        assert_eq!(vote(&[2, 1, 0], 3), 2);
        let share = accuracy(&[0, 0, 1], &[0, 1, 1], 3);
        assert_eq!(share.value, 2.0 / 3.0);
        assert_eq!(share.by_class, [Some(1.0), Some(0.5), None]);
    }

    #[test]
    fn what_cannot_be_probed_is_an_error() {
        let (x, labels) = rows(30, [7, 3, 11], 4.0);
        let options = ProbeOptions::default();
        let ones = [1; 30];
        for (labels, classes) in [(&labels[..29], 3), (&labels[..], 2), (&ones[..], 3)] {
            assert!(probe((&x, labels), (&x, labels), classes, options).is_err());
        }
        let many = ProbeOptions {
            neighbours: 31,
            ..options
        };
        assert!(probe((&x, &labels), (&x, &labels), 3, many).is_err());
    }
}
