//! Nearest neighbours among features, by Euclidean distance.
//!
//! Every pair is looked at: |a|² + |b|² - 2 a·b in double precision by matrix products finds the
//! nearest, and their distances are then computed again from the differences, so that equal rows
//! are at distance 0.

use rayon::prelude::*;

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::product_transposed;

/// Rows of each side that are multiplied at a time.
const CHUNK: usize = 1024;

/// A row near another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The Euclidean distance.
    pub distance: f64,
    /// The number of the row.
    pub index: usize,
}

/// The `k` nearest rows of `among` for each row of `queries`, nearest first; of equally near ones
/// the first comes first. With `same` both are one set, and no row is its own neighbour.
///
/// # Errors
/// [`ImageError::Shape`] when `k` is zero, there are fewer than `k` other rows, or the rows have
/// different lengths; those of [`Features::rows`].
pub fn nearest(
    queries: &Features,
    among: &Features,
    k: usize,
    same: bool,
) -> Result<Vec<Vec<Neighbour>>> {
    queries.same_dims(among)?;
    if k == 0 {
        return Err(ImageError::Shape(
            "nearest neighbours need k of at least 1".to_owned(),
        ));
    }
    among.at_least(
        k + usize::from(same),
        &format!("k = {k} nearest neighbours"),
    )?;
    let d = queries.dims();
    let mut found = Vec::with_capacity(queries.len());
    for ours in chunks(queries.len(), CHUNK) {
        let a = queries.doubles(ours.clone())?;
        let mut best: Vec<Vec<Neighbour>> = vec![Vec::with_capacity(k + 1); ours.len()];
        for theirs in chunks(among.len(), CHUNK) {
            let b = among.doubles(theirs.clone())?;
            let squares = squared_distances(&a, &b, d);
            best.par_iter_mut()
                .zip(squares.par_chunks_exact(theirs.len()))
                .enumerate()
                .for_each(|(i, (best, row))| {
                    let own = if same { ours.start + i } else { usize::MAX };
                    let (from, b) = (theirs.start, &b);
                    for (j, square) in row.iter().enumerate() {
                        let worst = best.last().filter(|_| best.len() == k);
                        // Rounding of the square stays below this; what may be near is looked at.
                        let slack = 1e-9 * (1.0 + square.abs());
                        let far = worst
                            .is_some_and(|worst| square - slack > worst.distance * worst.distance);
                        if far || from + j == own {
                            continue;
                        }
                        let distance = distance(&a[i * d..(i + 1) * d], &b[j * d..(j + 1) * d]);
                        insert(
                            best,
                            k,
                            Neighbour {
                                distance,
                                index: from + j,
                            },
                        );
                    }
                });
        }
        found.extend(best);
    }
    Ok(found)
}

/// Keeps the `k` nearest in order.
fn insert(best: &mut Vec<Neighbour>, k: usize, new: Neighbour) {
    let at = best.partition_point(|old| old.distance <= new.distance);
    if at < k {
        best.insert(at, new);
        best.truncate(k);
    }
}

/// The Euclidean distance of two rows.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum::<f64>()
        .sqrt()
}

/// The squared distances of all rows of `a` to all rows of `b`, up to rounding: never negative.
pub(crate) fn squared_distances(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let (m, n) = (a.len() / d, b.len() / d);
    let squares = |rows: &[f64]| -> Vec<f64> {
        rows.chunks_exact(d)
            .map(|row| row.iter().map(|x| x * x).sum())
            .collect()
    };
    let (of_a, of_b) = (squares(a), squares(b));
    let mut out = product_transposed(a, b, [m, d, n]);
    out.par_chunks_exact_mut(n)
        .zip(of_a.par_iter())
        .for_each(|(row, of_a)| {
            for (value, of_b) in row.iter_mut().zip(&of_b) {
                *value = (of_a + of_b - 2.0 * *value).max(0.0);
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn neighbours_on_a_line() {
        let among = line(&[0.0, 10.0, 4.0, 4.0, 5.0]);
        let found = nearest(&line(&[4.0, 100.0]), &among, 3, false).unwrap();
        let indices = |row: &[Neighbour]| row.iter().map(|n| n.index).collect::<Vec<_>>();
        assert_eq!(indices(&found[0]), [2, 3, 4]);
        assert_eq!(found[0][1].distance, 0.0);
        assert_eq!(indices(&found[1]), [1, 4, 2]);
        assert_eq!(found[1][0].distance, 90.0);
        let own = nearest(&among, &among, 1, true).unwrap();
        assert_eq!(indices(&own.concat()), [2, 4, 3, 2, 2]);
    }

    #[test]
    fn sets_larger_than_a_chunk_agree_with_a_plain_search() {
        let values: Vec<f32> = (0..3 * 2500u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0)
            .collect();
        let set = Features::new(values.clone(), 3).unwrap();
        let found = nearest(&set, &set, 2, true).unwrap();
        for query in [0, 1023, 1024, 2499] {
            let row = |i: usize| -> Vec<f64> {
                values[3 * i..3 * i + 3]
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect()
            };
            let mut all: Vec<(f64, usize)> = (0..2500)
                .filter(|i| *i != query)
                .map(|i| (distance(&row(query), &row(i)), i))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (found, (distance, index)) in found[query].iter().zip(all) {
                assert_eq!((found.distance, found.index), (distance, index));
            }
        }
    }

    #[test]
    fn too_few_rows_are_an_error() {
        let set = line(&[1.0, 2.0]);
        assert!(nearest(&set, &set, 2, true).is_err());
        assert!(nearest(&set, &set, 2, false).is_ok());
        assert!(nearest(&set, &set, 0, false).is_err());
    }
}
