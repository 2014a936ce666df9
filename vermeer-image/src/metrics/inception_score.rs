//! Inception Score (Salimans et al., 2016): exp E KL(p(y|x) ‖ p(y)) of a classifier's
//! probabilities, the mean over splits.
//!
//! The published value takes the 1,008 logits of the 2015 Inception without the bias of its last
//! layer, 50,000 images in random order and ten splits. In file order a set sorted by class loses
//! up to two thirds of its score. The score knows nothing of the real images: it sees neither copies
//! nor variety inside a class.

use crate::error::{ImageError, Result};
use crate::metrics::NumpyRandom;
use crate::metrics::feature_set::{Features, parts};
use crate::metrics::frechet::BLOCKS;
use crate::metrics::interval::{Interval, jackknife_error, student_quantile};

/// A mean over splits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// The mean of the splits' scores, from 1 to the number of classes.
    pub mean: f64,
    /// Their population deviation.
    pub deviation: f64,
    /// The interval over draws of images, by leaving out one of twenty blocks at a time.
    pub interval: Interval,
}

/// How the images are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// How many.
    pub count: usize,
    /// Seed of the order; `None` keeps the order of the files.
    pub shuffle: Option<u32>,
}

impl Default for Splits {
    /// Ten splits in the order of the seed 2020, as torch-fidelity.
    fn default() -> Self {
        Self {
            count: 10,
            shuffle: Some(2020),
        }
    }
}

/// The Inception Score of logits, one row for each image: softmax in double precision, split i has
/// the rows i·n/count to (i + 1)·n/count of the order.
///
/// # Errors
/// [`ImageError::Shape`] for fewer than two images in each split and each block.
pub fn inception_score(logits: &Features, splits: Splits) -> Result<InceptionScore> {
    let n = logits.len();
    let count = splits.count;
    if count == 0 || n < 2 * count.max(BLOCKS) {
        return Err(ImageError::Shape(format!(
            "an Inception Score of {count} splits needs at least {} images, here are {n}",
            2 * count.max(BLOCKS)
        )));
    }
    let order = match splits.shuffle {
        Some(seed) => NumpyRandom::new(seed).permutation(n),
        None => (0..n).collect(),
    };
    // A split's score needs the sum of p and of Σ p ln p; so does a split without a block.
    let d = logits.dims();
    let mut whole = Vec::with_capacity(count);
    let mut without = vec![Vec::new(); BLOCKS];
    for split in parts(n, count) {
        let mut all = Sums::new(d);
        let mut of_block: Vec<Option<Sums>> = (0..BLOCKS).map(|_| None).collect();
        for chunk in order[split.clone()].chunks(512).enumerate() {
            let (at, rows) = (split.start + 512 * chunk.0, chunk.1);
            let values = logits.select(rows)?.doubles(0..rows.len())?;
            for (place, row) in values.chunks_exact(d).enumerate() {
                let probabilities = softmax(row);
                all.add(&probabilities);
                // Blocks run through all splits, so that leaving one out takes as much of each.
                let block = (at + place) % BLOCKS;
                of_block[block]
                    .get_or_insert_with(|| Sums::new(d))
                    .add(&probabilities);
            }
        }
        whole.push(all.score());
        for (without, block) in without.iter_mut().zip(&of_block) {
            match block {
                Some(block) if block.n == all.n => {}
                Some(block) => without.push(all.less(block).score()),
                None => without.push(all.score()),
            }
        }
    }
    let mean_of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mean = mean_of(&whole);
    let variance = mean_of(
        &whole
            .iter()
            .map(|x| (x - mean) * (x - mean))
            .collect::<Vec<_>>(),
    );
    let without: Vec<f64> = without.iter().map(|values| mean_of(values)).collect();
    let t = student_quantile(0.975, BLOCKS as f64 - 1.0);
    Ok(InceptionScore {
        mean,
        deviation: variance.sqrt(),
        interval: Interval::around(mean, t * jackknife_error(&without)),
    })
}

/// What a score is computed from.
struct Sums {
    n: f64,
    /// Σ p over images, for each class.
    p: Vec<f64>,
    /// Σ p ln p over images and classes.
    p_ln_p: f64,
}

impl Sums {
    fn new(classes: usize) -> Self {
        Self {
            n: 0.0,
            p: vec![0.0; classes],
            p_ln_p: 0.0,
        }
    }

    fn add(&mut self, probabilities: &[f64]) {
        self.n += 1.0;
        for (sum, p) in self.p.iter_mut().zip(probabilities) {
            *sum += p;
            if *p > 0.0 {
                self.p_ln_p += p * p.ln();
            }
        }
    }

    fn less(&self, part: &Self) -> Self {
        Self {
            n: self.n - part.n,
            p: self
                .p
                .iter()
                .zip(&part.p)
                .map(|(all, part)| all - part)
                .collect(),
            p_ln_p: self.p_ln_p - part.p_ln_p,
        }
    }

    /// exp (mean Σ p ln p - Σ p̄ ln p̄).
    fn score(&self) -> f64 {
        let marginal: f64 = self
            .p
            .iter()
            .map(|sum| sum / self.n)
            .filter(|p| *p > 0.0)
            .map(|p| p * p.ln())
            .sum();
        (self.p_ln_p / self.n - marginal).exp()
    }
}

/// exp x over its sum.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_even_answers_score_their_number_of_classes() {
        let row = |class: usize| (0..4).map(move |c| if c == class { 200.0 } else { 0.0 });
        let varied: Vec<f32> = (0..80).flat_map(|i| row(i % 4)).collect();
        let splits = Splits {
            count: 2,
            shuffle: None,
        };
        let score = inception_score(&Features::new(varied, 4).unwrap(), splits).unwrap();
        assert!((score.mean - 4.0).abs() < 1e-12 && score.deviation < 1e-12);
        // One class only, and answers that say nothing, score 1.
        for same in [(0..80).flat_map(|_| row(2)).collect(), vec![0.5f32; 320]] {
            let score = inception_score(&Features::new(same, 4).unwrap(), splits).unwrap();
            assert!((score.mean - 1.0).abs() < 1e-12, "{score:?}");
        }
        let few = Features::new(vec![0.0; 4 * 39], 4).unwrap();
        assert!(inception_score(&few, splits).is_err());
    }

    #[test]
    fn the_interval_does_not_depend_on_the_splits() {
        // 2,000 images of five classes with a probability that differs between images.
        let mut random = NumpyRandom::new(5);
        let logits: Vec<f32> = (0..2000)
            .flat_map(|_| {
                let (class, size) = (random.below(5), 4.0 * random.uniform());
                (0..5).map(move |at| if at == class { size as f32 } else { 0.0 })
            })
            .collect();
        let logits = Features::new(logits, 5).unwrap();
        let half = |count| {
            let splits = Splits {
                count,
                shuffle: None,
            };
            inception_score(&logits, splits)
                .unwrap()
                .interval
                .half_width()
        };
        let (one, ten) = (half(1), half(10));
        assert!((ten / one - 1.0).abs() < 0.1, "{one} and {ten}");
    }
}
