//! Cells of a feature space by k-means (Lloyd, 1982).

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::numpy_random::NumpyRandom;

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// Passes over the images before the search is given up, as scikit-learn has it.
const MOST_PASSES: usize = 300;

/// The centres of k-means on these rows, which are held in memory: of `restarts` searches that with
/// the smallest sum of squared distances.
///
/// A search begins with k-means++ (Arthur and Vassilvitskii, 2007): a random row, then rows drawn
/// with chances that grow as the squared distance to the nearest centre so far. It ends when no row
/// changes its centre. A centre that loses all its rows stays where it is.
///
/// # Errors
/// [`ImageError::Shape`] for no cells or restarts, or fewer different rows than cells.
pub(super) fn k_means(
    features: &Features,
    cells: usize,
    restarts: usize,
    seed: u32,
) -> Result<Vec<Vec<f64>>> {
    if cells == 0 || restarts == 0 {
        return Err(ImageError::Shape(
            "k-means needs at least 1 cell and 1 beginning".to_owned(),
        ));
    }
    features.at_least(cells, "k-means of as many cells")?;
    let values = features.doubles(0..features.len())?;
    let rows: Vec<&[f64]> = values.chunks_exact(features.dims()).collect();
    let mut random = NumpyRandom::new(seed);
    let mut best: Option<(f64, Vec<Vec<f64>>)> = None;
    for _ in 0..restarts {
        let found = lloyd(&rows, beginning(&rows, cells, &mut random)?);
        if best.as_ref().is_none_or(|best| found.0 < best.0) {
            best = Some(found);
        }
    }
    Ok(best.map_or_else(Vec::new, |(_, centres)| centres))
}

/// The number of the nearest centre of each row; the first of equally near ones.
pub(super) fn assign(features: &Features, centres: &[Vec<f64>]) -> Result<Vec<usize>> {
    let mut cells = Vec::with_capacity(features.len());
    for range in chunks(features.len(), CHUNK) {
        let rows = features.doubles(range)?;
        cells.extend(
            rows.chunks_exact(features.dims())
                .map(|row| closest(row, centres).0),
        );
    }
    Ok(cells)
}

/// Centres by k-means++.
fn beginning(rows: &[&[f64]], cells: usize, random: &mut NumpyRandom) -> Result<Vec<Vec<f64>>> {
    let mut centres = vec![rows[random.below(rows.len())].to_vec()];
    let mut squares = vec![f64::INFINITY; rows.len()];
    while centres.len() < cells {
        let newest = &centres[centres.len() - 1];
        for (square, row) in squares.iter_mut().zip(rows) {
            *square = square.min(squared_distance(row, newest));
        }
        let all: f64 = squares.iter().sum();
        if all == 0.0 {
            return Err(ImageError::Shape(format!(
                "{} training images that differ do not make {cells} cells; use fewer cells",
                centres.len()
            )));
        }
        let mut left = random.uniform() * all;
        // The last row with a chance stands in when rounding leaves something over.
        let mut drawn = 0;
        for (i, square) in squares.iter().enumerate() {
            if *square > 0.0 {
                drawn = i;
                if left < *square {
                    break;
                }
                left -= square;
            }
        }
        centres.push(rows[drawn].to_vec());
    }
    Ok(centres)
}

/// The sum of squared distances and the centres that Lloyd's algorithm ends with.
fn lloyd(rows: &[&[f64]], mut centres: Vec<Vec<f64>>) -> (f64, Vec<Vec<f64>>) {
    let mut cells = vec![usize::MAX; rows.len()];
    let mut sum = 0.0;
    for _ in 0..MOST_PASSES {
        let mut changed = false;
        sum = 0.0;
        for (cell, row) in cells.iter_mut().zip(rows) {
            let (nearest, square) = closest(row, &centres);
            changed |= nearest != *cell;
            *cell = nearest;
            sum += square;
        }
        if !changed {
            break;
        }
        for (number, centre) in centres.iter_mut().enumerate() {
            let mut mean = vec![0.0; centre.len()];
            let mut count = 0;
            for (_, row) in cells.iter().zip(rows).filter(|(cell, _)| **cell == number) {
                mean.iter_mut().zip(*row).for_each(|(sum, x)| *sum += x);
                count += 1;
            }
            if count > 0 {
                *centre = mean.iter().map(|sum| sum / f64::from(count)).collect();
            }
        }
    }
    (sum, centres)
}

/// The number of the nearest centre and the squared distance to it.
fn closest(row: &[f64], centres: &[Vec<f64>]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (i, centre) in centres.iter().enumerate() {
        let square = squared_distance(row, centre);
        if square < best.1 {
            best = (i, square);
        }
    }
    best
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_by_hand() {
        // From 0 and 1 on 0, 1, 2, 10, 12: means 0 and 6.25, then 1 and 11, and no change.
        let rows: Vec<[f64; 1]> = [0.0, 1.0, 2.0, 10.0, 12.0].map(|x| [x]).to_vec();
        let rows: Vec<&[f64]> = rows.iter().map(|row| &row[..]).collect();
        let (sum, centres) = lloyd(&rows, vec![vec![0.0], vec![1.0]]);
        assert_eq!(centres, [[1.0], [11.0]]);
        assert_eq!(sum, 4.0);
        // A centre without rows stays.
        let (_, centres) = lloyd(&rows, vec![vec![5.0], vec![99.0]]);
        assert_eq!(centres, [[5.0], [99.0]]);
    }

    #[test]
    fn clusters_that_stand_apart_are_found_from_any_seed() {
        let corners = [[0.0f32, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]];
        let values: Vec<f32> = (0..40u8)
            .flat_map(|i| {
                let [x, y] = corners[usize::from(i % 4)];
                [x + f32::from(i % 3), y + f32::from(i % 5)]
            })
            .collect();
        let features = Features::new(values, 2).unwrap();
        for seed in 0..20 {
            let centres = k_means(&features, 4, 3, seed).unwrap();
            let cells = assign(&features, &centres).unwrap();
            assert!(
                (4..40).all(|i| cells[i] == cells[i % 4]),
                "seed {seed}: {cells:?}"
            );
            let mut names = cells[..4].to_vec();
            names.sort_unstable();
            assert_eq!(names, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn too_few_images_are_an_error() {
        let features = Features::new(vec![1.0, 1.0, 1.0, 2.0], 1).unwrap();
        assert!(k_means(&features, 2, 1, 0).is_ok());
        assert!(k_means(&features, 3, 1, 0).is_err());
        assert!(k_means(&features, 5, 1, 0).is_err());
        assert!(k_means(&features, 0, 1, 0).is_err());
    }
}
