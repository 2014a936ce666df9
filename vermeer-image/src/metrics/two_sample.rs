//! Two-sample tests: can generated and real images be told apart?
//!
//! A classifier learns which images are generated (Lopez-Paz and Oquab, 2017). If both sets come
//! from one distribution it is right on half of the images it has not seen; the share it gets right
//! is the statistic. 0.5 is the best a generator can do and 1 means that every image gives itself
//! away. Two classifiers are here:
//!
//! - [`nearest_neighbour_test`]: each image takes the set of its nearest other image
//!   (leave-one-out, 1-NN). Below 0.5 generated images lie closer to real ones than those to each
//!   other, which is what copies do. The shares of the two sides say more than their mean: a low
//!   real share with a high generated one is a generator without variety.
//! - [`classifier_test`]: a logistic regression learns on one half of each set and is judged on the
//!   other. It sees what a hyperplane can separate, and has an exact p-value. Its loss L on the
//!   judged half bounds how far apart the sets are: ln 2 - L estimates a lower bound of their
//!   Jensen-Shannon divergence, in nats, and is negative when it learnt nothing.
//!
//! Both are only as good as the features: no difference found there is none proved elsewhere.

mod logistic;

use std::cmp::Ordering;

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::Features;
use crate::metrics::interval::{CONFIDENCE, Interval, normal_probability, of_share};
use crate::metrics::neighbours::{Neighbour, nearest};
use crate::metrics::numpy_random::NumpyRandom;
use crate::metrics::two_sample::logistic::Logistic;

/// What the nearest neighbours say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearestNeighbourTest {
    /// The share of images whose nearest other image is from their own set, 0..=1; 0.5 is best.
    pub accuracy: f64,
    /// That share among the real images.
    pub real_accuracy: f64,
    /// That share among the generated images.
    pub generated_accuracy: f64,
    /// The accuracy on average if both sets come from one distribution: (n - 1)/(2n - 1).
    pub expected: f64,
    /// The share of images that are the nearest neighbour of their nearest neighbour.
    pub mutual: f64,
    /// The probability of at least this accuracy if both sets come from one distribution.
    pub p_value: f64,
    /// The interval of the accuracy over draws of both sets.
    pub interval: Interval,
    /// Images on each side.
    pub images: usize,
}

/// The leave-one-out accuracy of a nearest-neighbour classifier, by Euclidean distance. An image
/// whose nearest ones of both sets are equally near counts half.
///
/// Images that are each other's neighbours are right or wrong together, so with a share m of them
/// the accuracy varies as that of 2n/(1 + m) independent images (Schilling, 1986); p-value and
/// interval are taken from that.
///
/// # Errors
/// [`ImageError::Shape`] for sets of different sizes, fewer than two images on a side, or features
/// of different lengths; those of [`Features::rows`].
pub fn nearest_neighbour_test(
    generated: &Features,
    real: &Features,
) -> Result<NearestNeighbourTest> {
    let n = common_size(generated, real, 2)?;
    let first = |queries: &Features, among: &Features, same: bool| -> Result<Vec<Neighbour>> {
        Ok(nearest(queries, among, 1, same)?.concat())
    };
    // Real images are 0..n, generated ones n..2n.
    let sides = [
        (
            first(real, real, true)?,
            first(real, generated, false)?,
            0,
            n,
        ),
        (
            first(generated, generated, true)?,
            first(generated, real, false)?,
            n,
            0,
        ),
    ];
    let mut right: Vec<f64> = Vec::with_capacity(2 * n);
    let mut neighbour: Vec<usize> = Vec::with_capacity(2 * n);
    for (own, other, own_from, other_from) in &sides {
        for (own, other) in own.iter().zip(other) {
            let order = own.distance.total_cmp(&other.distance);
            right.push(match order {
                Ordering::Less => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Greater => 0.0,
            });
            neighbour.push(match order {
                Ordering::Less => own_from + own.index,
                Ordering::Equal | Ordering::Greater => other_from + other.index,
            });
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let accuracy = mean(&right);
    let pairs = neighbour.iter().enumerate();
    let mutual = pairs.filter(|(i, j)| neighbour[**j] == *i).count() as f64 / (2 * n) as f64;
    let independent = ((2 * n) as f64 / (1.0 + mutual)).floor();
    let expected = (n - 1) as f64 / (2 * n - 1) as f64;
    Ok(NearestNeighbourTest {
        accuracy,
        real_accuracy: mean(&right[..n]),
        generated_accuracy: mean(&right[n..]),
        expected,
        mutual,
        p_value: normal_probability(
            (expected - accuracy) * 2.0 * ((2 * n) as f64 / (1.0 + mutual)).sqrt(),
        ),
        interval: of_share(
            (accuracy * independent).round() as usize,
            independent as usize,
            CONFIDENCE,
        ),
        images: n,
    })
}

/// How the logistic regression learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierOptions {
    /// Weight of the penalty ridge/2 |w|², against the mean loss per image.
    pub ridge: f64,
    /// Seed of the halves.
    pub seed: u32,
}

impl Default for ClassifierOptions {
    /// A ridge of 0.01, which serves from 64 features to thousands, and the seed 0.
    fn default() -> Self {
        Self {
            ridge: 0.01,
            seed: 0,
        }
    }
}

/// What the logistic regression found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierTest {
    /// The share of judged images that were told rightly, 0..=1; 0.5 is best.
    pub accuracy: f64,
    /// Judged images that were told rightly.
    pub right: usize,
    /// Judged images, half of them real.
    pub judged: usize,
    /// The mean loss on the judged images, in nats; ln 2 for a classifier that knows nothing.
    pub loss: f64,
    /// The probability of at least as many right ones if both sets come from one distribution
    /// (binomial).
    pub p_value: f64,
    /// The interval of the accuracy over draws of judged images, what was learnt being fixed.
    pub interval: Interval,
    /// How it learnt.
    pub options: ClassifierOptions,
}

/// The accuracy of a logistic regression on images that it has not seen.
///
/// The images of each set are ordered by `RandomState(seed).permutation`, the real ones first; the
/// first half of each order is learnt from, the other is judged. Learning minimises the mean
/// logistic loss plus ridge/2 |w|² over features standardised on the learning half, by Newton's
/// method to the minimum: scikit-learn's `LogisticRegression(C = 1/(ridge · images))`. The
/// learning half is held in memory in double precision.
///
/// As many real as generated images are judged, so the count of right ones varies at most as that
/// of fair coins, and the p-value holds or is too large.
///
/// # Errors
/// [`ImageError::Shape`] for sets of different sizes, fewer than four images on a side, features of
/// different lengths, or a ridge that is not positive; those of [`Features::rows`].
pub fn classifier_test(
    generated: &Features,
    real: &Features,
    options: ClassifierOptions,
) -> Result<ClassifierTest> {
    let n = common_size(generated, real, 4)?;
    let mut random = NumpyRandom::new(options.seed);
    let real_order = random.permutation(n);
    let generated_order = random.permutation(n);
    // The real half, then the generated one.
    let both = |real_rows: &[usize], generated_rows: &[usize]| -> Result<Features> {
        let mut values = real.select(real_rows)?.rows(0..real_rows.len())?;
        values.extend(
            generated
                .select(generated_rows)?
                .rows(0..generated_rows.len())?,
        );
        Features::new(values, real.dims())
    };
    let half = n / 2;
    let learnt = both(&real_order[..half], &generated_order[..half])?;
    let model = Logistic::fit(&learnt, half, options.ridge)?;
    let logits = model.logits(&both(&real_order[half..], &generated_order[half..])?)?;
    let (of_real, of_generated) = logits.split_at(n - half);
    let right = of_real.iter().filter(|logit| **logit > 0.0).count()
        + of_generated.iter().filter(|logit| **logit <= 0.0).count();
    let judged = logits.len();
    Ok(ClassifierTest {
        accuracy: right as f64 / judged as f64,
        right,
        judged,
        loss: logistic::mean_loss(&logits, n - half),
        p_value: heads(right, judged),
        interval: of_share(right, judged, CONFIDENCE),
        options,
    })
}

/// The probability that at least `count` of `total` fair coins show heads.
fn heads(count: usize, total: usize) -> f64 {
    if count == 0 {
        return 1.0;
    }
    if 2 * count <= total {
        // The tails are alike, and the sum from here would begin with numbers too small to hold.
        return 1.0 - heads(total - count + 1, total);
    }
    let choices: f64 = (1..=count)
        .map(|i| ((total - count + i) as f64 / i as f64).ln())
        .sum();
    let mut term = (choices - total as f64 * std::f64::consts::LN_2).exp();
    let mut sum = 0.0;
    for k in count..=total {
        sum += term;
        term *= (total - k) as f64 / (k + 1) as f64;
    }
    sum
}

/// The number of images on each side.
fn common_size(generated: &Features, real: &Features, least: usize) -> Result<usize> {
    generated.same_dims(real)?;
    if generated.len() != real.len() {
        return Err(ImageError::Shape(format!(
            "a two-sample test compares sets of one size, here are {} generated and {} real \
             images; take the first {} of each",
            generated.len(),
            real.len(),
            generated.len().min(real.len())
        )));
    }
    real.at_least(least, "a two-sample test")?;
    Ok(real.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn neighbours_on_a_line() {
        // Nearest: 0 → 1, 1 → 0, 5 → 5.5 (generated); 5.5 → 5 (real), 10 → 11, 11 → 10.
        let test = nearest_neighbour_test(&line(&[5.5, 10.0, 11.0]), &line(&[0.0, 1.0, 5.0]));
        let test = test.unwrap();
        assert!((test.accuracy - 4.0 / 6.0).abs() < 1e-15);
        assert!((test.real_accuracy - 2.0 / 3.0).abs() < 1e-15);
        assert!((test.generated_accuracy - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!((test.mutual, test.expected, test.images), (1.0, 0.4, 3));
        // As three independent images: scipy 1.17.1, norm.sf((2/3 - 2/5) · 2 √3).
        assert!(
            (test.p_value - 0.177_805_530_5).abs() < 1e-8,
            "{}",
            test.p_value
        );
    }

    #[test]
    fn copies_and_strangers_are_the_extremes() {
        let real = line(&[0.0, 1.0, 3.0, 7.0]);
        assert_eq!(nearest_neighbour_test(&real, &real).unwrap().accuracy, 0.0);
        let apart = line(&[100.0, 101.0, 103.0, 107.0]);
        let test = nearest_neighbour_test(&apart, &real).unwrap();
        assert_eq!((test.accuracy, test.interval.high), (1.0, 1.0));
        assert!(test.interval.low < 0.6);
        // Both sets are equally near.
        let tied = nearest_neighbour_test(&line(&[1.0, 1.0]), &line(&[1.0, 1.0])).unwrap();
        assert_eq!(tied.accuracy, 0.5);
    }

    #[test]
    fn coins_have_the_binomial_distribution() {
        // By hand; then scipy 1.17.1, binomtest(k, n, alternative="greater").pvalue.
        for (count, total, expected) in [
            (0, 4, 1.0),
            (1, 4, 15.0 / 16.0),
            (2, 4, 11.0 / 16.0),
            (3, 4, 5.0 / 16.0),
            (4, 4, 1.0 / 16.0),
            (60, 100, 0.028_443_966_820_490_444),
            (45, 100, 0.864_373_487_963_082_3),
            (5200, 10_000, 3.296_757_799_336_171_4e-5),
        ] {
            let p = heads(count, total);
            assert!((p / expected - 1.0).abs() < 1e-9, "{count} of {total}: {p}");
        }
    }

    #[test]
    fn a_classifier_sees_what_a_plane_separates() {
        let values: Vec<f32> = (0..40u16).map(|i| f32::from(i * 37 % 41)).collect();
        let moved: Vec<f32> = values.iter().map(|v| v + 60.0).collect();
        let (near, far) = (line(&values), line(&moved));
        let options = ClassifierOptions::default();
        let apart = classifier_test(&far, &near, options).unwrap();
        assert_eq!((apart.right, apart.judged, apart.accuracy), (40, 40, 1.0));
        assert!((apart.p_value / 0.5f64.powi(40) - 1.0).abs() < 1e-9);
        assert!(apart.loss < 0.4);
        // One feature that never changes says nothing: half are right, at a loss of ln 2.
        let flat = line(&[3.0; 40]);
        let blind = classifier_test(&flat, &flat, options).unwrap();
        assert_eq!(blind.accuracy, 0.5);
        assert!((blind.loss - std::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn sets_that_cannot_be_compared_are_errors() {
        let (four, five) = (line(&[1.0; 4]), line(&[1.0; 5]));
        assert!(nearest_neighbour_test(&four, &five).is_err());
        assert!(classifier_test(&four, &five, ClassifierOptions::default()).is_err());
        let one = line(&[1.0]);
        assert!(nearest_neighbour_test(&one, &one).is_err());
        let no_ridge = ClassifierOptions {
            ridge: 0.0,
            ..ClassifierOptions::default()
        };
        assert!(classifier_test(&four, &four, no_ridge).is_err());
    }
}
