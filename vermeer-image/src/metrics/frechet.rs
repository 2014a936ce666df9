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
            return Err(ImageError::Shape(format!(
                "statistics of {d} and of {} features cannot be compared; take both from one \
                 network",
                other.dims()
            )));
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
/// of n and 19n/20 images. The intervals are the jackknife's: of F from the F₋ⱼ, of F∞ from the
/// values it takes without one block.
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
    let mut blocks = Vec::with_capacity(BLOCKS);
    for range in parts(shuffled.len(), BLOCKS) {
        let mut block = Moments::new(generated.dims());
        for rows in shuffled[range].chunks(1024) {
            let rows = generated.select(rows)?;
            block.add(&rows.doubles(0..rows.len())?);
        }
        blocks.push(block);
    }
    spread_of_blocks(reference, &blocks, progress)
}

/// As [`frechet_spread`], of blocks whose moments are known.
///
/// # Errors
/// As [`frechet_spread`].
pub fn spread_of_blocks(
    reference: &FrechetReference,
    blocks: &[Moments],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Spread> {
    let count = blocks.len();
    let sum = |left_out: &[usize]| {
        let mut sum = Moments::new(reference.mean.len());
        for (at, block) in blocks.iter().enumerate() {
            if !left_out.contains(&at) {
                sum.merge(block);
            }
        }
        sum
    };
    let steps = 1 + count;
    let distance = reference.distance(&sum(&[]))?;
    progress(1, steps);
    let mut without = Vec::with_capacity(count);
    for j in 0..count {
        without.push(reference.distance(&sum(&[j]))?);
        progress(2 + j, steps);
    }
    let extrapolate = |all: f64, without: &[f64]| {
        let g = without.len() as f64;
        g * all - (g - 1.0) * without.iter().sum::<f64>() / g
    };
    let extrapolated = extrapolate(distance, &without);
    Ok(Spread {
        distance,
        interval: jackknife(distance, &without),
        extrapolated,
        extrapolated_interval: jackknife(extrapolated, &without),
        without,
    })
}

fn trace(matrix: &[f64], n: usize) -> f64 {
    matrix.iter().step_by(n + 1).sum()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}
