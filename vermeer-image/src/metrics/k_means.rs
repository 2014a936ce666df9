//! k-means: `k` centres such that the rows are near to theirs (Lloyd, 1982), started by k-means++
//! (Arthur and Vassilvitskii, 2007).
//!
//! The first centre is a row at random; each further one is a row drawn with a probability in
//! proportion to its squared distance to the centres so far. Then, in turn, each row goes to its
//! nearest centre and each centre to the mean of its rows, until no row moves. A centre left
//! without rows starts again at the row that is farthest from its own centre.

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::neighbours::squared_distances;
use crate::metrics::numpy_random::NumpyRandom;

/// Turns of moving rows and centres at most.
const TURNS: usize = 100;

/// Rows that are looked at together.
const CHUNK: usize = 1024;

/// Rows in clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// The number of values in a row.
    pub dims: usize,
    /// The centres, one row of `dims` values after the other.
    pub centres: Vec<f64>,
    /// For each row the number of its cluster: its nearest centre, the first of equally near ones.
    pub assignment: Vec<usize>,
    /// The sum of the rows' squared distances to their centres.
    pub inertia: f64,
}

impl KMeans {
    /// The number of clusters.
    pub fn k(&self) -> usize {
        self.centres.len() / self.dims
    }

    /// For each row of another set the number of its nearest centre.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for rows of another length; those of [`Features::rows`].
    pub fn assign(&self, features: &Features) -> Result<Vec<usize>> {
        if features.dims() != self.dims {
            return Err(ImageError::Shape(format!(
                "rows of {} values cannot be put into clusters of rows of {}",
                features.dims(),
                self.dims
            )));
        }
        Ok(closest(features, &self.centres)?.0)
    }

    /// How many rows each cluster has in an assignment to these centres.
    pub fn counts(&self, assignment: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.k()];
        for &cluster in assignment {
            counts[cluster] += 1;
        }
        counts
    }
}

/// The rows in `k` clusters; the same rows and seed give the same clusters.
///
/// # Errors
/// [`ImageError::Shape`] when `k` is zero or there are fewer than `k` different rows; those of
/// [`Features::rows`].
pub fn k_means(features: &Features, k: usize, seed: u32) -> Result<KMeans> {
    if k == 0 {
        return Err(ImageError::Shape(
            "k-means needs at least one cluster".to_owned(),
        ));
    }
    features.at_least(k, &format!("k-means with {k} clusters"))?;
    let mut centres = first_centres(features, k, &mut NumpyRandom::new(seed))?;
    let (mut assignment, mut squares) = closest(features, &centres)?;
    for _ in 0..TURNS {
        centres = means(features, &assignment, &squares, k)?;
        let (next, distances) = closest(features, &centres)?;
        let settled = next == assignment;
        (assignment, squares) = (next, distances);
        if settled {
            break;
        }
    }
    Ok(KMeans {
        dims: features.dims(),
        centres,
        assignment,
        inertia: squares.iter().sum(),
    })
}

/// Of `restarts` clusterings, by `seed` and the seeds that follow it, the one of least inertia.
///
/// # Errors
/// As [`k_means`]; [`ImageError::Shape`] for no restarts.
pub(crate) fn best_k_means(
    features: &Features,
    k: usize,
    restarts: usize,
    seed: u32,
) -> Result<KMeans> {
    let mut best: Option<KMeans> = None;
    for restart in 0..restarts {
        let found = k_means(features, k, seed.wrapping_add(restart as u32))?;
        if best
            .as_ref()
            .is_none_or(|best| found.inertia < best.inertia)
        {
            best = Some(found);
        }
    }
    best.ok_or_else(|| ImageError::Shape("k-means needs at least 1 beginning".to_owned()))
}

/// `k` different rows, by k-means++.
fn first_centres(features: &Features, k: usize, random: &mut NumpyRandom) -> Result<Vec<f64>> {
    let n = features.len();
    let first = random.below(n);
    let mut centres = features.doubles(first..first + 1)?;
    let mut nearest = closest(features, &centres)?.1;
    for have in 1..k {
        let total: f64 = nearest.iter().sum();
        if total <= 0.0 {
            return Err(ImageError::Shape(format!(
                "k-means with {k} clusters needs as many different rows, here are {have}"
            )));
        }
        let mut rest = random.uniform() * total;
        // Rounding may leave a rest after the last row; then it is the last one that can be drawn.
        let mut drawn = 0;
        for (row, &square) in nearest.iter().enumerate() {
            if square > 0.0 {
                drawn = row;
                rest -= square;
                if rest < 0.0 {
                    break;
                }
            }
        }
        let centre = features.doubles(drawn..drawn + 1)?;
        let (_, squares) = closest(features, &centre)?;
        for (old, new) in nearest.iter_mut().zip(squares) {
            *old = old.min(new);
        }
        centres.extend(centre);
    }
    Ok(centres)
}

/// For each row the number of its nearest centre and its squared distance to it. Equal rows are at
/// distance zero: differences are taken, not products, for the nearest one.
fn closest(features: &Features, centres: &[f64]) -> Result<(Vec<usize>, Vec<f64>)> {
    let d = features.dims();
    let k = centres.len() / d;
    let mut assignment = Vec::with_capacity(features.len());
    let mut squares = Vec::with_capacity(features.len());
    for range in chunks(features.len(), CHUNK) {
        let rows = features.doubles(range)?;
        let distances = squared_distances(&rows, centres, d);
        for (row, distances) in rows.chunks_exact(d).zip(distances.chunks_exact(k)) {
            let mut best = 0;
            for (centre, &distance) in distances.iter().enumerate() {
                if distance < distances[best] {
                    best = centre;
                }
            }
            let centre = &centres[best * d..(best + 1) * d];
            assignment.push(best);
            squares.push(
                row.iter()
                    .zip(centre)
                    .map(|(a, b)| (a - b) * (a - b))
                    .sum::<f64>(),
            );
        }
    }
    Ok((assignment, squares))
}

/// The mean of the rows of each cluster; a cluster without rows gets one of the rows that are
/// farthest from their centres.
fn means(features: &Features, assignment: &[usize], squares: &[f64], k: usize) -> Result<Vec<f64>> {
    let d = features.dims();
    let mut sums = vec![0.0; k * d];
    let mut counts = vec![0usize; k];
    for range in chunks(features.len(), CHUNK) {
        let rows = features.doubles(range.clone())?;
        for (row, &cluster) in rows.chunks_exact(d).zip(&assignment[range]) {
            counts[cluster] += 1;
            let sum = &mut sums[cluster * d..(cluster + 1) * d];
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
    let mut order: Vec<usize> = Vec::new();
    if counts.contains(&0) {
        order = (0..features.len()).collect();
        order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]));
    }
    let mut farthest = order.into_iter();
    for (cluster, count) in counts.iter().enumerate() {
        let centre = &mut sums[cluster * d..(cluster + 1) * d];
        if *count > 0 {
            for value in centre {
                *value /= *count as f64;
            }
        } else if let Some(row) = farthest.next() {
            centre.copy_from_slice(&features.doubles(row..row + 1)?);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(values: &[f32], dims: usize) -> Features {
        Features::new(values.to_vec(), dims).unwrap()
    }

    #[test]
    fn two_groups_on_a_line() {
        // By hand: the centres are 1 and 11, each group has a sum of squares of 2.
        let set = features(&[0.0, 10.0, 1.0, 11.0, 2.0, 12.0], 1);
        for seed in 0..10 {
            let found = k_means(&set, 2, seed).unwrap();
            let mut centres = found.centres.clone();
            centres.sort_by(f64::total_cmp);
            assert_eq!(centres, [1.0, 11.0], "seed {seed}");
            assert_eq!(found.inertia, 4.0);
            assert_eq!(found.assignment[0], found.assignment[4]);
            assert_ne!(found.assignment[0], found.assignment[1]);
            assert_eq!(found.counts(&found.assignment), [3, 3]);
            let other = found.assign(&features(&[-5.0, 100.0], 1)).unwrap();
            assert_eq!(other, [found.assignment[0], found.assignment[1]]);
        }
    }

    #[test]
    fn centres_are_means_of_the_rows_nearest_to_them() {
        let values: Vec<f32> = (0..3 * 500u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0)
            .collect();
        let set = features(&values, 3);
        let found = k_means(&set, 7, 3).unwrap();
        assert_eq!(found, k_means(&set, 7, 3).unwrap());
        assert_eq!(found.k(), 7);
        let mut inertia = 0.0;
        for cluster in 0..7 {
            let rows: Vec<usize> = (0..500)
                .filter(|i| found.assignment[*i] == cluster)
                .collect();
            assert!(!rows.is_empty());
            for j in 0..3 {
                let of = |i: &usize| f64::from(values[3 * i + j]);
                let mean = rows.iter().map(of).sum::<f64>() / rows.len() as f64;
                assert!((mean - found.centres[3 * cluster + j]).abs() < 1e-12);
            }
            for i in &rows {
                let square = |centre: usize| -> f64 {
                    (0..3)
                        .map(|j| f64::from(values[3 * i + j]) - found.centres[3 * centre + j])
                        .map(|x| x * x)
                        .sum()
                };
                assert!((0..7).all(|other| square(cluster) <= square(other) + 1e-12));
                inertia += square(cluster);
            }
        }
        assert!((inertia - found.inertia).abs() < 1e-9);
    }

    #[test]
    fn a_centre_without_rows_starts_again() {
        // Three rows, and an assignment that leaves the third cluster empty: it gets the row that
        // is farthest from its centre.
        let set = features(&[0.0, 1.0, 9.0], 1);
        let centres = means(&set, &[0, 0, 1], &[0.0, 1.0, 4.0], 3).unwrap();
        assert_eq!(centres, [0.5, 9.0, 9.0]);
        let found = k_means(&set, 3, 1).unwrap();
        assert_eq!(found.inertia, 0.0);
    }

    #[test]
    fn what_cannot_be_clustered_is_refused() {
        let set = features(&[1.0, 1.0, 2.0], 1);
        assert!(k_means(&set, 0, 0).is_err());
        assert!(k_means(&set, 4, 0).is_err());
        assert!(k_means(&set, 3, 0).is_err());
        let two = k_means(&set, 2, 0).unwrap();
        assert!(two.assign(&features(&[1.0, 1.0], 2)).is_err());
    }
}
