//! Kernel distance between two sets of features (Bińkowski et al., 2018), called KID when the
//! features are the 2,048 of the 2015 Inception.
//!
//! The squared maximum mean discrepancy with the kernel k(x, y) = (x·y/d + 1)³, by the unbiased
//! estimate
//!
//! Σ_{i≠j} k(xᵢ, xⱼ)/(m(m-1)) + Σ_{i≠j} k(yᵢ, yⱼ)/(n(n-1)) - 2 Σ k(xᵢ, yⱼ)/(mn),
//!
//! which is negative about half the time when the sets come from one distribution. The published
//! form is the mean over 100 random subsets of 1,000 images; their deviation is not the error of
//! that mean, as the subsets overlap. [`kernel_distance`] takes all pairs instead and leaves out
//! blocks of images for its interval.

use crate::error::{ImageError, Result};
use crate::metrics::NumpyRandom;
use crate::metrics::feature_set::{Features, parts};
use crate::metrics::frechet::BLOCKS;
use crate::metrics::interval::{Interval, jackknife_error, student_quantile};
use crate::metrics::linear::product_transposed;

/// The subsets of the published form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// How many.
    pub count: usize,
    /// Images of each side in each.
    pub size: usize,
    /// Seed of the draws.
    pub seed: u32,
}

impl Default for Subsets {
    /// 100 subsets of 1,000 images with the seed 2020, as torch-fidelity.
    fn default() -> Self {
        Self {
            count: 100,
            size: 1000,
            seed: 2020,
        }
    }
}

/// A mean over subsets.
#[derive(Clone, Debug, PartialEq)]
pub struct SubsetDistance {
    /// The mean of the estimates.
    pub mean: f64,
    /// Their population deviation.
    pub deviation: f64,
    /// The estimate of each subset.
    pub each: Vec<f64>,
}

/// The mean of the unbiased estimate over random subsets, drawn as torch-fidelity 0.4.0 draws them:
/// `RandomState(seed).choice(n, size, replace=False)`, generated and real in turn.
///
/// `progress` is called with the subsets done and those to do.
///
/// # Errors
/// [`ImageError::Shape`] when a side has fewer images than a subset, or a subset fewer than two.
pub fn kernel_distance_of_subsets(
    generated: &Features,
    real: &Features,
    subsets: Subsets,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SubsetDistance> {
    generated.same_dims(real)?;
    let Subsets { count, size, seed } = subsets;
    let least = generated.len().min(real.len());
    if size < 2 || count == 0 || least < size {
        return Err(ImageError::Shape(format!(
            "{count} subsets of {size} images cannot be drawn from {} generated and {} real ones; \
             choose a subset size from 2 to {least}",
            generated.len(),
            real.len()
        )));
    }
    let mut random = NumpyRandom::new(seed);
    let mut draw = |set: &Features| -> Result<Vec<f64>> {
        let rows = random.permutation(set.len());
        set.select(&rows[..size])?.doubles(0..size)
    };
    let d = generated.dims();
    let mut each = Vec::with_capacity(count);
    for done in 0..count {
        let (x, y) = (draw(generated)?, draw(real)?);
        let within = |x: &[f64]| {
            let all = kernel_sum(x, x, d);
            all - x.chunks_exact(d).map(|x| kernel(dot(x, x), d)).sum::<f64>()
        };
        let m = size as f64;
        each.push(
            (within(&x) + within(&y)) / (m * (m - 1.0)) - 2.0 * kernel_sum(&x, &y, d) / (m * m),
        );
        progress(done + 1, count);
    }
    let mean = each.iter().sum::<f64>() / count as f64;
    let variance = each.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count as f64;
    Ok(SubsetDistance {
        mean,
        deviation: variance.sqrt(),
        each,
    })
}

/// The estimates from all pairs of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelDistance {
    /// Without the pairs of an image with itself: right on average.
    pub unbiased: f64,
    /// With them: never negative.
    pub biased: f64,
    /// The interval of the unbiased estimate over draws of both sides.
    pub interval: Interval,
}

/// The estimates from all pairs of images, with an interval by leaving out one of twenty blocks of
/// each side at a time. Blocks are drawn at random by `seed`: those of files that are sorted by class
/// would differ from each other by far more than draws of images do.
///
/// `progress` is called with the blocks of pairs done and those to do.
///
/// # Errors
/// [`ImageError::Shape`] for fewer than 40 images on a side or features of different lengths.
pub fn kernel_distance(
    generated: &Features,
    real: &Features,
    seed: u32,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<KernelDistance> {
    generated.same_dims(real)?;
    for side in [generated, real] {
        side.at_least(2 * BLOCKS, "a kernel distance")?;
    }
    let (mut done, all) = (0, BLOCKS * (BLOCKS + 1) + BLOCKS * BLOCKS);
    let mut step = || {
        done += 1;
        progress(done, all);
    };
    let ours = blocks(generated, seed);
    let theirs = blocks(real, seed.wrapping_add(1));
    let x = Within::of(generated, &ours, &mut step)?;
    let y = Within::of(real, &theirs, &mut step)?;
    // between[i][j]: sum over the pairs of block i of one side and block j of the other.
    let d = generated.dims();
    let mut between = vec![vec![0.0; BLOCKS]; BLOCKS];
    for (row, ours) in between.iter_mut().zip(&ours) {
        let a = rows(generated, ours)?;
        for (sum, theirs) in row.iter_mut().zip(&theirs) {
            *sum = kernel_sum(&a, &rows(real, theirs)?, d);
            step();
        }
    }
    let rows: Vec<f64> = between.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..BLOCKS)
        .map(|j| between.iter().map(|row| row[j]).sum())
        .collect();
    let all_between: f64 = rows.iter().sum();

    let (m, n) = (generated.len() as f64, real.len() as f64);
    let unbiased = x.unbiased(None) + y.unbiased(None) - 2.0 * all_between / (m * n);
    let biased = x.biased() + y.biased() - 2.0 * all_between / (m * n);
    let without_x: Vec<f64> = (0..BLOCKS)
        .map(|i| {
            let pairs = (m - x.sizes[i]) * n;
            x.unbiased(Some(i)) + y.unbiased(None) - 2.0 * (all_between - rows[i]) / pairs
        })
        .collect();
    let without_y: Vec<f64> = (0..BLOCKS)
        .map(|j| {
            let pairs = m * (n - y.sizes[j]);
            x.unbiased(None) + y.unbiased(Some(j)) - 2.0 * (all_between - columns[j]) / pairs
        })
        .collect();
    // The sides are drawn independently of each other.
    let error = jackknife_error(&without_x).hypot(jackknife_error(&without_y));
    let t = student_quantile(0.975, BLOCKS as f64 - 1.0);
    Ok(KernelDistance {
        unbiased,
        biased,
        interval: Interval::around(unbiased, t * error),
    })
}

/// Rows drawn into twenty blocks.
fn blocks(features: &Features, seed: u32) -> Vec<Vec<usize>> {
    let order = NumpyRandom::new(seed).permutation(features.len());
    let ranges = parts(order.len(), BLOCKS).into_iter();
    ranges.map(|range| order[range].to_vec()).collect()
}

fn rows(features: &Features, block: &[usize]) -> Result<Vec<f64>> {
    features.select(block)?.doubles(0..block.len())
}

/// Rows of each side that are multiplied at a time.
const ROWS: usize = 1024;

/// Sums of the kernel inside one side, by blocks.
struct Within {
    sizes: Vec<f64>,
    /// Pairs of block i with anything, without pairs of a row with itself.
    pairs: Vec<f64>,
    /// Pairs inside block i, without pairs of a row with itself.
    inside: Vec<f64>,
    /// Pairs of rows with themselves.
    own: f64,
}

impl Within {
    fn of(features: &Features, blocks: &[Vec<usize>], step: &mut dyn FnMut()) -> Result<Self> {
        let d = features.dims();
        let mut pairs = vec![0.0; BLOCKS];
        let mut inside = vec![0.0; BLOCKS];
        let mut own = 0.0;
        for (i, ours) in blocks.iter().enumerate() {
            let a = rows(features, ours)?;
            let diagonal: f64 = a.chunks_exact(d).map(|row| kernel(dot(row, row), d)).sum();
            own += diagonal;
            inside[i] = kernel_sum(&a, &a, d) - diagonal;
            pairs[i] += inside[i];
            step();
            for (j, theirs) in blocks.iter().enumerate().skip(i + 1) {
                let sum = kernel_sum(&a, &rows(features, theirs)?, d);
                pairs[i] += sum;
                pairs[j] += sum;
                step();
            }
        }
        Ok(Self {
            sizes: blocks.iter().map(|block| block.len() as f64).collect(),
            pairs,
            inside,
            own,
        })
    }

    /// The mean over pairs of different rows, without block `i`.
    fn unbiased(&self, without: Option<usize>) -> f64 {
        let (mut n, mut sum) = (
            self.sizes.iter().sum::<f64>(),
            self.pairs.iter().sum::<f64>(),
        );
        if let Some(i) = without {
            n -= self.sizes[i];
            // A pair of the block with another one counts in both orders.
            sum -= 2.0 * self.pairs[i] - self.inside[i];
        }
        sum / (n * (n - 1.0))
    }

    /// The mean over all pairs.
    fn biased(&self) -> f64 {
        let n = self.sizes.iter().sum::<f64>();
        (self.pairs.iter().sum::<f64>() + self.own) / (n * n)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn kernel(dot: f64, d: usize) -> f64 {
    let base = dot / d as f64 + 1.0;
    base * base * base
}

/// The kernel summed over all pairs of a row of `a` and a row of `b`.
fn kernel_sum(a: &[f64], b: &[f64], d: usize) -> f64 {
    let mut sum = 0.0;
    for a in a.chunks(ROWS * d) {
        for b in b.chunks(ROWS * d) {
            let products = product_transposed(a, b, [a.len() / d, d, b.len() / d]);
            sum += products.into_iter().map(|dot| kernel(dot, d)).sum::<f64>();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize, factor: u32) -> Features {
        let values = (0..2 * n as u32)
            .map(|i| (i.wrapping_mul(factor) >> 8) as f32 / 8_388_608.0 - 1.0)
            .collect();
        Features::new(values, 2).unwrap()
    }

    /// The definition, pair by pair.
    fn plain(x: &[f64], y: &[f64]) -> f64 {
        let k = |a: &[f64], b: &[f64]| kernel(dot(a, b), 2);
        let rows = |v: &[f64]| v.chunks(2).map(<[f64]>::to_vec).collect::<Vec<_>>();
        let (x, y) = (rows(x), rows(y));
        let within = |x: &[Vec<f64>]| {
            let n = x.len() as f64;
            let sum: f64 = (0..x.len())
                .flat_map(|i| (0..x.len()).filter(move |j| *j != i).map(move |j| (i, j)))
                .map(|(i, j)| k(&x[i], &x[j]))
                .sum();
            sum / (n * (n - 1.0))
        };
        let across: f64 = x.iter().flat_map(|a| y.iter().map(|b| k(a, b))).sum();
        within(&x) + within(&y) - 2.0 * across / (x.len() * y.len()) as f64
    }

    #[test]
    fn all_pairs_and_every_block_left_out_follow_the_definition() {
        let (x, y) = (set(57, 2_654_435_761), set(44, 40_503_997));
        let found = kernel_distance(&x, &y, 0, &mut |_, _| {}).unwrap();
        let (a, b) = (x.doubles(0..57).unwrap(), y.doubles(0..44).unwrap());
        assert!((found.unbiased - plain(&a, &b)).abs() < 1e-12);
        assert!(found.biased >= 0.0 && found.biased > found.unbiased);
        let (of_a, of_b) = (blocks(&x, 0), blocks(&y, 1));
        let left_out = |values: &[f64], block: &[usize]| -> Vec<f64> {
            let rows = values.chunks_exact(2).enumerate();
            let rest = rows.filter(|(row, _)| !block.contains(row));
            rest.flat_map(|(_, row)| row.to_vec()).collect()
        };
        let error =
            |of: &dyn Fn(usize) -> f64| jackknife_error(&(0..BLOCKS).map(of).collect::<Vec<_>>());
        let of_x = error(&|i| plain(&left_out(&a, &of_a[i]), &b));
        let of_y = error(&|i| plain(&a, &left_out(&b, &of_b[i])));
        let half = student_quantile(0.975, 19.0) * of_x.hypot(of_y);
        assert!((found.interval.half_width() - half).abs() < 1e-10);
    }

    #[test]
    fn subsets_larger_than_a_side_are_refused() {
        let subsets = Subsets {
            size: 50,
            ..Subsets::default()
        };
        let (x, y) = (set(57, 3), set(44, 5));
        let error = kernel_distance_of_subsets(&x, &y, subsets, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("from 2 to 44"), "{error}");
    }

    #[test]
    fn sorted_files_have_the_interval_of_shuffled_ones() {
        // Ten classes, far apart, one after the other.
        let mut random = NumpyRandom::new(7);
        let mut sorted = || -> Vec<f32> {
            (0..400)
                .flat_map(|image| [(image / 40) as f32, 1.0, 0.0])
                .map(|x| x + 0.1 * random.normal() as f32)
                .collect()
        };
        let (a, b) = (sorted(), sorted());
        let half = |a: &[f32], b: &[f32]| {
            let set = |values: &[f32]| Features::new(values.to_vec(), 3).unwrap();
            let found = kernel_distance(&set(a), &set(b), 1, &mut |_, _| {}).unwrap();
            found.interval.half_width()
        };
        let shuffled = |rows: &[f32], seed| -> Vec<f32> {
            let order = NumpyRandom::new(seed).permutation(400);
            order
                .iter()
                .flat_map(|row| rows[3 * row..3 * row + 3].to_vec())
                .collect()
        };
        let (files, mixed) = (half(&a, &b), half(&shuffled(&a, 2), &shuffled(&b, 3)));
        assert!((files / mixed).ln().abs() < 0.7, "{files} and {mixed}");
    }
}
