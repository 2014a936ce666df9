//! Fréchet distance between two sets of features (Heusel et al., 2017), called FID when the
//! features are the 2,048 of the 2015 Inception.
//!
//! With means μ and covariances Σ (divisor n - 1, double precision)
//!
//! d = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½.
//!
//! The last trace is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, a symmetric matrix
//! without negative eigenvalues. Its rank is at most n - 1 of the smaller set, and only so many
//! eigenvalues are summed: the others are zero, and the roots of their rounding errors would not
//! be. So the value is exact when there are fewer images than features too, where implementations
//! that sum all of them are some 1e-4 off.
//!
//! The distance of `n` images is too large by about c / n (Chong and Forsyth, 2020). [`Spread`]
//! estimates that bias and the interval by leaving out one of twenty blocks of images at a time.

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, parts};
use crate::metrics::interval::{Interval, jackknife};
use crate::metrics::linear::{eigen, eigenvalues, product, sum_of_roots, transposed_product};
use crate::metrics::moments::Moments;

/// Blocks of images that are left out in turn.
pub const BLOCKS: usize = 20;

/// The side that many others are compared with: its mean and the root of its covariance.
#[derive(Clone, Debug)]
pub struct FrechetReference {
    mean: Vec<f64>,
    trace: f64,
    /// `[d, r]`: the eigenvectors times the roots of their eigenvalues.
    root: Vec<f64>,
    rank: usize,
}

impl FrechetReference {
    /// Of these moments.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for fewer than two images.
    pub fn new(moments: &Moments) -> Result<Self> {
        let (d, rank) = (moments.dims(), moments.rank());
        let covariance = moments.covariance()?;
        let (values, vectors) = eigen(&covariance, d)?;
        // The largest eigenvalues come last.
        let roots: Vec<f64> = values[d - rank..]
            .iter()
            .map(|value| value.max(0.0).sqrt())
            .collect();
        let root = vectors
            .chunks_exact(d)
            .flat_map(|row| row[d - rank..].iter().zip(&roots).map(|(v, root)| v * root))
            .collect();
        Ok(Self {
            mean: moments.mean().to_vec(),
            trace: trace(&covariance, d),
            root,
            rank,
        })
    }

    /// The distance to these moments.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for fewer than two images or features of another length.
    pub fn distance(&self, other: &Moments) -> Result<f64> {
        let d = self.mean.len();
        if other.dims() != d {
            return Err(other_length(d, other.dims()));
        }
        let covariance = other.covariance()?;
        let right = product(&covariance, &self.root, [d, d, self.rank]);
        let middle = transposed_product(&self.root, &right, [self.rank, d, self.rank]);
        let values = eigenvalues(&middle, self.rank)?;
        let nonzero = self.rank.min(other.rank());
        let roots: f64 = values[self.rank - nonzero..]
            .iter()
            .map(|value| value.max(0.0).sqrt())
            .sum();
        let means = squared_distance(&self.mean, other.mean());
        Ok(means + self.trace + trace(&covariance, d) - 2.0 * roots)
    }
}

/// The Fréchet distance between two sets.
///
/// # Errors
/// [`ImageError::Shape`] for fewer than two images or features of different lengths.
pub fn frechet_distance(a: &Moments, b: &Moments) -> Result<f64> {
    // The distance is symmetric; the reference's rank is the size of the eigenvalue problem.
    if a.rank() <= b.rank() {
        FrechetReference::new(a)?.distance(b)
    } else {
        FrechetReference::new(b)?.distance(a)
    }
}

/// The Fréchet distance as torch-fidelity 0.4.0 sums it: the real parts of the roots of all
/// eigenvalues of Σ₁ Σ₂, with the rounding errors of those that are zero.
///
/// # Errors
/// As [`frechet_distance`].
pub fn frechet_distance_all_eigenvalues(a: &Moments, b: &Moments) -> Result<f64> {
    let d = a.dims();
    if b.dims() != d {
        return frechet_distance(a, b);
    }
    let (first, second) = (a.covariance()?, b.covariance()?);
    let roots = sum_of_roots(&product(&first, &second, [d, d, d]), d)?;
    Ok(squared_distance(a.mean(), b.mean()) + trace(&first, d) + trace(&second, d) - 2.0 * roots)
}

/// A distance with what its images leave uncertain.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The distance of all images, as it is published: too large by about c / n.
    pub distance: f64,
    /// Its interval over draws of the generated images.
    pub interval: Interval,
    /// The distance of ever more images.
    pub extrapolated: f64,
    /// Its interval.
    pub extrapolated_interval: Interval,
    /// The distance without each block.
    pub without: Vec<f64>,
}

/// The distance of generated images to a reference, the distance they would have if there were
/// ever more of them, and an interval of each over draws of the generated images, the reference
/// being fixed.
///
/// The images fall into twenty consecutive blocks; `shuffled` says the order of the rows. With F
/// the distance of all and F₋ⱼ that without block j, the 1/n term of the bias cancels in
///
/// F∞ = 20 F - 19 mean F₋ⱼ  (Quenouille, 1956),
///
/// which for images in blocks is the same extrapolation to 1/n → 0 as a line through the distances
/// of n and 19n/20 images. The bias is c / n only with several images per feature. The intervals are
/// the jackknife's from the F₋ⱼ: F∞ differs from F by a bias, which varies far less.
///
/// `progress` is called with the distances computed and those to compute.
///
/// # Errors
/// [`ImageError::Shape`] for fewer than 60 images; those of [`FrechetReference::distance`].
pub fn frechet_spread(
    reference: &FrechetReference,
    generated: &Features,
    shuffled: &[usize],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Spread> {
    generated.at_least(3 * BLOCKS, "an interval of a Fréchet distance")?;
    if generated.dims() != reference.mean.len() {
        return Err(other_length(reference.mean.len(), generated.dims()));
    }
    let blocks = parts(shuffled.len(), BLOCKS);
    let moments = |rows: &[usize]| -> Result<Moments> {
        let mut moments = Moments::new(generated.dims());
        for rows in rows.chunks(1024) {
            let rows = generated.select(rows)?;
            moments.add(&rows.doubles(0..rows.len())?);
        }
        Ok(moments)
    };
    let steps = 2 * BLOCKS + 1;
    let mut all = Moments::new(generated.dims());
    for (j, block) in blocks.iter().enumerate() {
        all.merge(&moments(&shuffled[block.clone()])?);
        progress(j + 1, steps);
    }
    let distance = reference.distance(&all)?;
    progress(BLOCKS + 1, steps);
    let mut without = Vec::with_capacity(BLOCKS);
    for (j, block) in blocks.into_iter().enumerate() {
        // A block is read again rather than kept: there are twenty, and each may be large.
        let rest = all.without(&moments(&shuffled[block])?);
        without.push(reference.distance(&rest)?);
        progress(BLOCKS + 2 + j, steps);
    }
    let blocks = BLOCKS as f64;
    let mean = without.iter().sum::<f64>() / blocks;
    let extrapolated = blocks * distance - (blocks - 1.0) * mean;
    Ok(Spread {
        distance,
        interval: jackknife(distance, &without),
        extrapolated,
        extrapolated_interval: jackknife(extrapolated, &without),
        without,
    })
}

fn other_length(ours: usize, theirs: usize) -> ImageError {
    ImageError::Shape(format!(
        "statistics of {ours} and of {theirs} features cannot be compared; take both from one \
         network"
    ))
}

fn trace(matrix: &[f64], n: usize) -> f64 {
    matrix.iter().step_by(n + 1).sum()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::NumpyRandom;

    /// In one dimension d = (μ₁ - μ₂)² + (σ₁ - σ₂)².
    fn by_hand(values: &[f64], mean: f64, deviation: f64) -> f64 {
        let n = values.len() as f64;
        let ours = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - ours) * (x - ours)).sum();
        (ours - mean).powi(2) + ((squares / (n - 1.0)).sqrt() - deviation).powi(2)
    }

    #[test]
    fn the_spread_of_one_feature_is_its_closed_form() {
        let mut random = NumpyRandom::new(3);
        let values: Vec<f32> = (0..100).map(|_| random.normal() as f32).collect();
        let features = Features::new(values.clone(), 1).unwrap();
        // 0 and 4: mean 2, deviation √8.
        let mut real = Moments::new(1);
        real.add(&[0.0, 4.0]);
        let reference = FrechetReference::new(&real).unwrap();
        let order: Vec<usize> = (0..100).collect();
        let (mut last, mut steps) = (0, 0);
        let spread = frechet_spread(&reference, &features, &order, &mut |done, all| {
            (last, steps) = (done, all);
        })
        .unwrap();
        assert_eq!((last, steps), (41, 41));
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let of = |values: &[f64]| by_hand(values, 2.0, 8.0f64.sqrt());
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        close(spread.distance, of(&values));
        let without: Vec<f64> = (0..20)
            .map(|j| of(&[&values[..5 * j], &values[5 * j + 5..]].concat()))
            .collect();
        for (ours, expected) in spread.without.iter().zip(&without) {
            close(*ours, *expected);
        }
        let mean = without.iter().sum::<f64>() / 20.0;
        close(spread.extrapolated, 20.0 * of(&values) - 19.0 * mean);
        // t of 19 degrees (scipy 1.17.1: t.ppf(0.975, 19)) times the jackknife's error.
        let squares: f64 = without.iter().map(|x| (x - mean).powi(2)).sum();
        let half = 2.093_024_054_408_263 * (19.0 / 20.0 * squares).sqrt();
        close(spread.interval.half_width(), half);
        close(spread.extrapolated_interval.half_width(), half);
        let other = Features::new(vec![0.0; 240], 2).unwrap();
        assert!(frechet_spread(&reference, &other, &order, &mut |_, _| {}).is_err());
    }
}
