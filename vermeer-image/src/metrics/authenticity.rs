//! AuthPct: the share of generated images that are not nearly copies (Alaa et al., 2022).
//!
//! A generated image is authentic when it is farther from its nearest training image than that one
//! is from its own nearest other training image. Two packages give the share different names and
//! zeros, and both are here under the name of the package:
//!
//! - [`authpct_dgm`]: dgm-eval's percentage, 0..=100;
//! - [`authpct_fld`]: fld's, 50 less and of at most 10,000 images of each set, -50..=50.
//!
//! Higher is farther from the training set. There is no value to reach: of new images from the
//! training distribution itself some 40 % are authentic with two independent features and 80 % with
//! sixty-four, so compare with the value of held-out images. Copies lower it, but so do images that
//! are all alike and good, and blurred or noisy images raise it.

use crate::error::Result;
use crate::metrics::feature_set::Features;
use crate::metrics::interval::{CONFIDENCE, Interval, of_share};
use crate::metrics::neighbours::nearest;
use crate::metrics::numpy_random::NumpyRandom;

/// The most images of a set that fld looks at.
const FLD_IMAGES: usize = 10_000;

/// A percentage and what it was counted from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Authenticity {
    /// The value, by the definition of the function that gave it.
    pub value: f64,
    /// Its interval over draws of generated images, the training set being fixed.
    pub interval: Interval,
    /// Generated images that are authentic.
    pub authentic: usize,
    /// Generated images that were looked at.
    pub generated: usize,
    /// Training images that were looked at.
    pub train: usize,
}

/// AuthPct as dgm-eval computes it: the percentage of all generated images that are authentic.
///
/// # Errors
/// [`crate::ImageError::Shape`] for no generated image, fewer than two training images, or features
/// of different lengths; those of [`Features::rows`].
pub fn authpct_dgm(generated: &Features, train: &Features) -> Result<Authenticity> {
    authenticity(generated, train, 0.0)
}

/// AuthPct as fld computes it: that percentage less 50, of at most 10,000 images of each set.
///
/// Larger sets are cut to the first 10,000 of a `RandomState(seed)` permutation, the training set
/// being permuted first: what fld draws after `numpy.random.seed(seed)`.
///
/// # Errors
/// As [`authpct_dgm`].
pub fn authpct_fld(generated: &Features, train: &Features, seed: u32) -> Result<Authenticity> {
    let mut random = NumpyRandom::new(seed);
    let train_order = random.permutation(train.len());
    let generated_order = random.permutation(generated.len());
    let some = |set: &Features, order: &[usize]| set.select(&order[..set.len().min(FLD_IMAGES)]);
    authenticity(
        &some(generated, &generated_order)?,
        &some(train, &train_order)?,
        50.0,
    )
}

/// The percentage less `zero`.
fn authenticity(generated: &Features, train: &Features, zero: f64) -> Result<Authenticity> {
    generated.at_least(1, "AuthPct")?;
    let copied = nearest(generated, train, 1, false)?.concat();
    // The training images in question, each once.
    let mut asked: Vec<usize> = copied.iter().map(|found| found.index).collect();
    asked.sort_unstable();
    asked.dedup();
    // Among all training images the nearest is the image itself, or one that equals it.
    let around = nearest(&train.select(&asked)?, train, 2, false)?;
    let authentic = copied
        .iter()
        .filter(|found| {
            let place = asked.partition_point(|index| *index < found.index);
            around[place][1].distance < found.distance
        })
        .count();
    let percent = |share: f64| 100.0 * share - zero;
    let share = of_share(authentic, generated.len(), CONFIDENCE);
    Ok(Authenticity {
        value: percent(authentic as f64 / generated.len() as f64),
        interval: Interval {
            low: percent(share.low),
            high: percent(share.high),
            ..share
        },
        authentic,
        generated: generated.len(),
        train: train.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn images_on_a_line() {
        // Training images 0, 1 and 10 are 1, 1 and 9 from their nearest others.
        let train = line(&[0.0, 1.0, 10.0]);
        // 1.5 is 0.5 from 1: no. -2 is 2 from 0: yes. 10 is a copy. 18 is 8 from 10: no, 20 is 10
        // from it: yes. -1 is as far from 0 as 1 is: no.
        let generated = line(&[1.5, -2.0, 10.0, 18.0, 20.0, -1.0]);
        let found = authpct_dgm(&generated, &train).unwrap();
        assert_eq!((found.authentic, found.generated, found.train), (2, 6, 3));
        assert!((found.value - 100.0 / 3.0).abs() < 1e-12);
        assert!(found.interval.low < found.value && found.value < found.interval.high);
        let fld = authpct_fld(&generated, &train, 0).unwrap();
        assert!((fld.value + 50.0 / 3.0).abs() < 1e-12);
        assert!((fld.interval.low - found.interval.low + 50.0).abs() < 1e-12);
    }

    #[test]
    fn equal_training_images_are_at_no_distance() {
        let train = line(&[5.0, 5.0, 9.0]);
        let found = authpct_dgm(&line(&[5.5, 5.0]), &train).unwrap();
        assert_eq!(found.authentic, 1);
    }

    #[test]
    fn large_sets_are_cut_by_the_definition_of_fld_only() {
        let many = line(&(0..10_020u16).map(f32::from).collect::<Vec<_>>());
        let found = authpct_fld(&many, &line(&[0.0, 1.0]), 1).unwrap();
        assert_eq!((found.generated, found.train), (10_000, 2));
        let found = authpct_dgm(&many, &line(&[0.0, 1.0])).unwrap();
        assert_eq!(found.generated, 10_020);
    }

    #[test]
    fn too_few_images_are_an_error() {
        assert!(authpct_dgm(&line(&[1.0]), &line(&[1.0])).is_err());
        assert!(authpct_dgm(&line(&[]), &line(&[1.0, 2.0])).is_err());
    }
}
