//! Modes without labels: which clusters of the real images a model does not fill.
//!
//! k-means is fitted to features of real images; real images (others, or the same) and generated
//! ones are put into its clusters and their shares compared. NDB (Richardson and Weiss, 2018) is
//! the number of clusters whose two shares differ by a two-proportion z-test at 5 %, uncorrected:
//! z = (a/m - b/n) / √(p (1 - p) (1/m + 1/n)), p = (a + b)/(m + n). NDB/k is near 0.05 where there
//! is no difference, and tells nothing of which modes are lost.
//!
//! That is told by Fisher's exact test in each cluster, one-sided, with Holm's correction: with
//! probability 1 - level no cluster is wrongly called lost. A cluster that is rejected is
//! [`Presence::Missing`] when its generated share is below a tenth of the real one,
//! [`Presence::Rare`] below half of it. [`Presence::Unsure`] is a cluster with so few images that
//! even none generated would be chance.
//!
//! **Error rates** at the level 0.01 on Fashion-MNIST, prototype in numpy and scikit-learn: `k`
//! clusters fitted to `n` images, counts of `n` other real images and of `n` generated ones. Fresh
//! images: seeds in which a cluster was called lost. Three random classes of ten left out: the
//! clusters found of those in which more than half of the real images are of these classes.
//!
//! | features | n, k | seeds | NDB/k, fresh | lost, fresh | found | seeds with any found |
//! |---|---|---|---|---|---|---|
//! | judge, 128 | 500, 10 | 100 | 0.053 | 2 | 90 % | 100 |
//! | judge, 128 | 1,000, 20 | 100 | 0.056 | 1 | 85 % | 100 |
//! | judge, 128 | 1,000, 50 | 100 | 0.056 | 1 | 53 % | 100 |
//! | judge, 128 | 4,000, 80 | 20 | 0.046 | 0 | 83 % | 20 |
//! | pixels | 500, 10 | 100 | 0.055 | 3 | 67 % | 91 |
//! | pixels | 1,000, 20 | 100 | 0.059 | 1 | 74 % | 100 |
//! | pixels | 1,000, 50 | 100 | 0.048 | 1 | 35 % | 99 |
//! | pixels | 4,000, 80 | 20 | 0.042 | 0 | 67 % | 20 |
//!
//! Of the clusters with fewer than 30 % images of the classes left out none was called lost.
//! Counting the very images that the clusters were fitted to, fresh images lost a cluster in 3 of
//! these 640 seeds instead of 9.

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::Features;
use crate::metrics::k_means::KMeans;
use crate::metrics::modes::{MISSING, Presence, RARE};
use crate::metrics::significance::{fisher_less, holm, log_factorials};

/// The z of NDB's test: two-sided, 5 %.
const NDB_Z: f64 = 1.959_963_984_540_054;

/// Images of each set that a cluster should have for its loss to be seen.
const IMAGES_IN_A_CLUSTER: usize = 50;

/// A cluster and its images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterShare {
    /// The number of the cluster.
    pub cluster: usize,
    /// Real images in it.
    pub real: usize,
    /// Generated images in it.
    pub generated: usize,
    /// The p-value of its generated share being no smaller than the real one, uncorrected.
    pub p: f64,
    /// What follows, with the correction for all clusters.
    pub presence: Presence,
}

/// What [`cluster_modes`] finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// All clusters, in their order.
    pub clusters: Vec<ClusterShare>,
    /// The number of real images.
    pub real: usize,
    /// The number of generated images.
    pub generated: usize,
    /// The number of statistically different bins.
    pub ndb: usize,
    /// The share of the real images that lie in lost clusters.
    pub lost_share: f64,
    /// The verdict in words.
    pub sentence: String,
}

impl ClusterReport {
    /// The numbers of the clusters that are missing or rare.
    pub fn lost(&self) -> Vec<usize> {
        self.clusters
            .iter()
            .filter(|cluster| cluster.presence.is_lost())
            .map(|cluster| cluster.cluster)
            .collect()
    }
}

/// How many clusters suit so many images: one for each 50 of the smaller set, from 2 to 100.
pub fn clusters_for(real: usize, generated: usize) -> usize {
    (real.min(generated) / IMAGES_IN_A_CLUSTER).clamp(2, 100)
}

/// Which clusters of real images the generated images lack; the probability that any cluster is
/// wrongly called lost is at most `level`, such as 0.01.
///
/// # Errors
/// [`ImageError::Shape`] when a set is empty or the level is not between 0 and 1; those of
/// [`KMeans::assign`].
pub fn cluster_modes(
    clusters: &KMeans,
    real: &Features,
    generated: &Features,
    level: f64,
) -> Result<ClusterReport> {
    let real = clusters.counts(&clusters.assign(real)?);
    let generated = clusters.counts(&clusters.assign(generated)?);
    compare_counts(&real, &generated, level)
}

/// [`cluster_modes`] from the images in each cluster.
///
/// # Errors
/// [`ImageError::Shape`] when a set is empty, the lengths differ or the level is not between 0 and
/// 1.
pub fn compare_counts(real: &[usize], generated: &[usize], level: f64) -> Result<ClusterReport> {
    let (m, n): (usize, usize) = (real.iter().sum(), generated.iter().sum());
    if m == 0 || n == 0 || real.len() != generated.len() {
        return Err(ImageError::Shape(format!(
            "{m} real images in {} clusters and {n} generated ones in {} cannot be compared",
            real.len(),
            generated.len()
        )));
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(ImageError::Shape(format!(
            "a level lies between 0 and 1, not at {level}"
        )));
    }
    let factorials = log_factorials(m + n);
    let p_value = |a: usize, b: usize| fisher_less([a, m], [b, n], &factorials);
    let p_values: Vec<f64> = real
        .iter()
        .zip(generated)
        .map(|(a, b)| p_value(*a, *b))
        .collect();
    let rejected = holm(&p_values, level);
    let clusters: Vec<ClusterShare> = real
        .iter()
        .zip(generated)
        .enumerate()
        .map(|(cluster, (&real, &generated))| {
            let part = (generated * m) as f64 / (real * n).max(1) as f64;
            ClusterShare {
                cluster,
                real,
                generated,
                p: p_values[cluster],
                presence: if rejected[cluster] && part < MISSING {
                    Presence::Missing
                } else if rejected[cluster] && part < RARE {
                    Presence::Rare
                } else if part < RARE && p_value(real, 0) > level / p_values.len() as f64 {
                    Presence::Unsure
                } else {
                    Presence::Present
                },
            }
        })
        .collect();
    let ndb = clusters
        .iter()
        .filter(|c| two_proportions([c.real, m], [c.generated, n]).abs() > NDB_Z)
        .count();
    let lost: Vec<&ClusterShare> = clusters.iter().filter(|c| c.presence.is_lost()).collect();
    let lost_share = lost.iter().map(|c| c.real).sum::<usize>() as f64 / m as f64;
    let sentence = if lost.is_empty() {
        format!(
            "No mode is seen to be lost: none of {} clusters is shown to hold less than half of its \
             share of {m} real images among {n} generated ones; {} are too small to tell.",
            clusters.len(),
            clusters
                .iter()
                .filter(|c| c.presence == Presence::Unsure)
                .count()
        )
    } else {
        format!(
            "{} of {} clusters are missing or rare among {n} generated images; they hold {:.1} % \
             of {m} real images.",
            lost.len(),
            clusters.len(),
            100.0 * lost_share
        )
    };
    Ok(ClusterReport {
        clusters,
        real: m,
        generated: n,
        ndb,
        lost_share,
        sentence,
    })
}

/// The z of the difference of two shares, by their pooled variance; 0 without any image.
fn two_proportions([a, m]: [usize; 2], [b, n]: [usize; 2]) -> f64 {
    let (m, n) = (m as f64, n as f64);
    let p = (a + b) as f64 / (m + n);
    let deviation = (p * (1.0 - p) * (1.0 / m + 1.0 / n)).sqrt();
    if deviation > 0.0 {
        (a as f64 / m - b as f64 / n) / deviation
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::k_means::k_means;
    use crate::metrics::numpy_random::NumpyRandom;

    #[test]
    fn two_proportions_by_hand() {
        // 30 and 20 of 100: p = 0.25, deviation √(0.1875 · 0.02), z = 0.1 / 0.0612372.
        assert!((two_proportions([30, 100], [20, 100]) - 1.632_993_162).abs() < 1e-8);
        assert_eq!(two_proportions([0, 100], [0, 50]), 0.0);
    }

    #[test]
    fn clusters_are_missing_rare_unsure_or_present() {
        use Presence::{Missing, Present, Rare, Unsure};
        // p-values of scipy 1.17.1: hypergeom.cdf(b, 2000, a + b, 1000).
        let report = compare_counts(&[100, 200, 4, 696], &[5, 60, 0, 935], 0.01).unwrap();
        let presences: Vec<Presence> = report.clusters.iter().map(|c| c.presence).collect();
        assert_eq!(presences, [Missing, Rare, Unsure, Present]);
        for (cluster, expected) in report.clusters.iter().zip([
            2.365_809_440_436_293_6e-25,
            1.611_746_928_523_779_7e-21,
            0.062_312_453_172_004_116,
        ]) {
            assert!((cluster.p / expected - 1.0).abs() < 1e-6, "{cluster:?}");
        }
        assert_eq!(report.lost(), [0, 1]);
        assert!((report.lost_share - 0.3).abs() < 1e-12);
        assert_eq!(report.ndb, 4);
    }

    #[test]
    fn a_group_that_is_left_out_is_found() {
        // Four groups in the plane, 60 rows each; the generated ones leave the last group out.
        let mut random = NumpyRandom::new(7);
        let mut rows = |groups: usize, each: usize| -> Features {
            let mut values = Vec::new();
            for group in 0..groups {
                for _ in 0..each {
                    let (x, y) = ((group % 2) as f64, (group / 2) as f64);
                    values.push((20.0 * x + random.normal()) as f32);
                    values.push((20.0 * y + random.normal()) as f32);
                }
            }
            Features::new(values, 2).unwrap()
        };
        let (real, same, less) = (rows(4, 60), rows(4, 60), rows(3, 80));
        let clusters = k_means(&real, clusters_for(real.len(), less.len()), 0).unwrap();
        assert_eq!(clusters.k(), 4);
        let healthy = cluster_modes(&clusters, &real, &same, 0.01).unwrap();
        assert!(healthy.lost().is_empty(), "{}", healthy.sentence);
        let report = cluster_modes(&clusters, &real, &less, 0.01).unwrap();
        let lost = report.lost();
        assert_eq!(lost, [clusters.assignment[239]]);
        assert_eq!(report.clusters[lost[0]].generated, 0);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        assert!(compare_counts(&[1, 2], &[1], 0.01).is_err());
        assert!(compare_counts(&[0, 0], &[1, 1], 0.01).is_err());
        assert!(compare_counts(&[1, 1], &[0, 0], 0.01).is_err());
        assert!(compare_counts(&[1, 1], &[1, 1], 0.0).is_err());
        assert_eq!(clusters_for(1000, 700), 14);
        assert_eq!(clusters_for(10, 10), 2);
        assert_eq!(clusters_for(100_000, 60_000), 100);
    }
}
