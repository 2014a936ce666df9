//! Sliced Wasserstein distance of order 2 between two sets of features (Bonneel et al., 2015).
//!
//! Along a direction u both sets are sets of numbers, whose 2-Wasserstein distance is that of their
//! quantile functions; the squares are averaged over random directions on the unit sphere:
//!
//! SW² = E_u ∫₀¹ (F⁻¹(t) - G⁻¹(t))² dt,  F and G being the distributions of x·u and y·u.
//!
//! It is 0 or more, lower is better, and 0 only for equal distributions; its unit is that of the
//! features. Moving a set by δ gives |δ|/√d. It grows with the scale of the features and falls with
//! the number of images, so only values of one network and as many images compare. All of the
//! distribution counts, where the Fréchet distance sees mean and covariance alone.
//!
//! Directions are those of POT's `ot.sliced_wasserstein_distance` with the same seed. The approximation
//! without directions (Nadjahi et al., 2021), which dgm-eval calls `sw_approx`, is another number.

use rayon::prelude::*;

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::product;
use crate::metrics::numpy_random::NumpyRandom;

/// Directions that leave a standard error of about 2 % of the distance.
pub const PROJECTIONS: usize = 500;

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// Directions whose projections are in memory at a time.
const BLOCK: usize = 64;

/// A distance and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlicedWasserstein {
    /// The distance: the root of the mean square over directions.
    pub distance: f64,
    /// Its standard error over draws of the directions, the images being fixed; 0 for one direction.
    pub standard_error: f64,
    /// Directions.
    pub projections: usize,
    /// Seed of the directions.
    pub seed: u32,
}

/// The distance along `projections` directions: the columns of
/// `RandomState(seed).randn(d, projections)`, scaled to length 1.
///
/// Sets of different sizes are compared exactly, by the steps of both quantile functions. Memory
/// holds 64 projections of each set; features are read once for each 64.
///
/// # Errors
/// [`ImageError::Shape`] for no projections, a side without images, or features of different
/// lengths; those of [`Features::rows`].
pub fn sliced_wasserstein(
    generated: &Features,
    real: &Features,
    projections: usize,
    seed: u32,
) -> Result<SlicedWasserstein> {
    generated.same_dims(real)?;
    for side in [generated, real] {
        side.at_least(1, "a sliced Wasserstein distance")?;
    }
    if projections == 0 {
        return Err(ImageError::Shape(
            "a sliced Wasserstein distance needs at least 1 projection".to_owned(),
        ));
    }
    let directions = directions(generated.dims(), projections, seed);
    let mut squares = Vec::with_capacity(projections);
    for columns in chunks(projections, BLOCK) {
        let x = project(generated, &directions[columns.clone()])?;
        let y = project(real, &directions[columns])?;
        let block: Vec<f64> = x
            .par_iter()
            .zip(y.par_iter())
            .map(|(x, y)| squared_distance(x, y))
            .collect();
        squares.extend(block);
    }
    let count = projections as f64;
    let mean = squares.iter().sum::<f64>() / count;
    let apart: f64 = squares.iter().map(|s| (s - mean) * (s - mean)).sum();
    let distance = mean.sqrt();
    let standard_error = if projections > 1 && distance > 0.0 {
        // That of the mean square, over the slope of the square.
        (apart / (count - 1.0) / count).sqrt() / (2.0 * distance)
    } else {
        0.0
    };
    Ok(SlicedWasserstein {
        distance,
        standard_error,
        projections,
        seed,
    })
}

/// Unit vectors of `d` values.
fn directions(d: usize, projections: usize, seed: u32) -> Vec<Vec<f64>> {
    let mut random = NumpyRandom::new(seed);
    let mut directions = vec![Vec::with_capacity(d); projections];
    for _ in 0..d {
        for direction in &mut directions {
            direction.push(random.normal());
        }
    }
    for direction in &mut directions {
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
    }
    directions
}

/// The sorted projections of all rows on each direction.
fn project(features: &Features, directions: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
    let (d, count) = (features.dims(), directions.len());
    // [d, count]
    let columns: Vec<f64> = (0..d)
        .flat_map(|i| directions.iter().map(move |direction| direction[i]))
        .collect();
    let mut projected = vec![Vec::with_capacity(features.len()); count];
    for rows in chunks(features.len(), CHUNK) {
        let along = product(
            &features.doubles(rows.clone())?,
            &columns,
            [rows.len(), d, count],
        );
        for row in along.chunks_exact(count) {
            for (values, value) in projected.iter_mut().zip(row) {
                values.push(*value);
            }
        }
    }
    projected
        .par_iter_mut()
        .for_each(|values| values.sort_unstable_by(f64::total_cmp));
    Ok(projected)
}

/// ∫₀¹ (F⁻¹(t) - G⁻¹(t))² dt of two sorted samples.
fn squared_distance(x: &[f64], y: &[f64]) -> f64 {
    let (n, m) = (x.len(), y.len());
    // In steps of 1/(n m) the first sample changes after m, the second after n.
    let (mut i, mut j, mut at, mut sum) = (0, 0, 0, 0.0);
    while i < n && j < m {
        let (x_ends, y_ends) = ((i + 1) * m, (j + 1) * n);
        let end = x_ends.min(y_ends);
        sum += (end - at) as f64 * (x[i] - y[j]) * (x[i] - y[j]);
        at = end;
        i += usize::from(x_ends == end);
        j += usize::from(y_ends == end);
    }
    sum / (n as f64 * m as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[f32], dims: usize) -> Features {
        Features::new(values.to_vec(), dims).unwrap()
    }

    #[test]
    fn quantiles_of_samples_of_different_sizes() {
        // Half of the mass stays at 0, half goes from 3 to 0: 9/2. Two against three: thirds
        // and halves meet at 1/3, 1/2, 2/3, where 0 0 1 1 is subtracted from 0 2 2 4:
        // 2·0 + 1·4 + 1·1 + 2·9 sixths.
        assert!((squared_distance(&[0.0, 3.0], &[0.0]) - 4.5).abs() < 1e-15);
        let thirds = squared_distance(&[0.0, 2.0, 4.0], &[0.0, 1.0]);
        assert!((thirds - 23.0 / 6.0).abs() < 1e-15, "{thirds}");
        assert_eq!(squared_distance(&[1.0, 2.0, 4.0], &[2.0, 3.0, 5.0]), 1.0);
    }

    #[test]
    fn one_feature_has_one_direction() {
        // u is 1 or -1, so every projection gives the distance of the samples themselves.
        let found = sliced_wasserstein(&set(&[0.0, 3.0], 1), &set(&[4.0, 1.0], 1), 7, 0).unwrap();
        assert!((found.distance - 1.0).abs() < 1e-15 && found.standard_error < 1e-9);
        assert_eq!((found.projections, found.seed), (7, 0));
        let same = sliced_wasserstein(&set(&[0.0, 3.0], 1), &set(&[3.0, 0.0], 1), 7, 0).unwrap();
        assert_eq!((same.distance, same.standard_error), (0.0, 0.0));
    }

    #[test]
    fn a_moved_set_is_its_way_over_the_root_of_its_features_away() {
        // δ = (2, -4, 4, 8): |δ|²/4 = 25.
        let values: Vec<f32> = (0..80u16).map(|i| f32::from(i * 29 % 31)).collect();
        let delta = [2.0, -4.0, 4.0, 8.0];
        let moved: Vec<f32> = values
            .iter()
            .zip(delta.iter().cycle())
            .map(|(v, d)| v + d)
            .collect();
        let found = sliced_wasserstein(&set(&moved, 4), &set(&values, 4), 4000, 1).unwrap();
        assert!(
            (found.distance - 5.0).abs() < 4.0 * found.standard_error,
            "{found:?}"
        );
        // (u·δ)² over |δ|² has the variance 2(d - 1)/(d²(d + 2)) of a beta distribution.
        let expected = 100.0 * (2.0f64 * 3.0 / (16.0 * 6.0) / 4000.0).sqrt() / 10.0;
        assert!(
            (found.standard_error / expected - 1.0).abs() < 0.1,
            "{found:?}"
        );
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let one = set(&[1.0, 2.0], 2);
        assert!(sliced_wasserstein(&one, &one, 0, 0).is_err());
        assert!(sliced_wasserstein(&one, &set(&[1.0], 1), 5, 0).is_err());
        assert!(sliced_wasserstein(&one, &set(&[], 2), 5, 0).is_err());
    }
}
