//! Principal components of features (Pearson, 1901).

use crate::error::Result;
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::{eigen, product};
use crate::metrics::moments::Moments;

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// The directions in which a set varies most.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    mean: Vec<f64>,
    /// `[d, components]`: one direction of length 1 in each column.
    basis: Vec<f64>,
    components: usize,
}

impl Principal {
    /// Of this set: the eigenvectors of its covariance with the largest eigenvalues, at most one for
    /// each feature.
    ///
    /// # Errors
    /// [`crate::ImageError::Shape`] for fewer than two rows.
    pub(super) fn of(features: &Features, components: usize) -> Result<Self> {
        let d = features.dims();
        let components = components.min(d);
        let moments = Moments::of(features)?;
        let (_, vectors) = eigen(&moments.covariance()?, d)?;
        // The largest eigenvalues come last.
        let basis = vectors
            .chunks_exact(d)
            .flat_map(|row| row[d - components..].iter().copied())
            .collect();
        Ok(Self {
            mean: moments.mean().to_vec(),
            basis,
            components,
        })
    }

    /// The components of each row.
    pub(super) fn project(&self, features: &Features) -> Result<Features> {
        let d = self.mean.len();
        let mut values = Vec::with_capacity(features.len() * self.components);
        for range in chunks(features.len(), CHUNK) {
            let count = range.len();
            let mut rows = features.doubles(range)?;
            for row in rows.chunks_exact_mut(d) {
                row.iter_mut()
                    .zip(&self.mean)
                    .for_each(|(x, mean)| *x -= mean);
            }
            let along = product(&rows, &self.basis, [count, d, self.components]);
            values.extend(along.into_iter().map(|value| value as f32));
        }
        Features::new(values, self.components)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_the_plane_has_one_component() {
        // (3, 4) t + (1, 1) with t = -2, 0, 1, 5: the mean is at t = 1, and (3, 4) has length 5.
        let rows = [-2.0f32, 0.0, 1.0, 5.0].map(|t| [3.0 * t + 1.0, 4.0 * t + 1.0]);
        let features = Features::new(rows.concat(), 2).unwrap();
        let principal = Principal::of(&features, 1).unwrap();
        let found = principal.project(&features).unwrap().rows(0..4).unwrap();
        let sign = found[3].signum();
        for (found, expected) in found.iter().zip([-15.0, -5.0, 0.0, 20.0]) {
            assert!((found * sign - expected).abs() < 1e-5, "{found} {expected}");
        }
        // All components keep distances.
        let all = Principal::of(&features, 7)
            .unwrap()
            .project(&features)
            .unwrap();
        assert_eq!(all.dims(), 2);
        let rows = all.rows(0..4).unwrap();
        let apart = (rows[0] - rows[6]).hypot(rows[1] - rows[7]);
        assert!((apart - 35.0).abs() < 1e-4, "{apart}");
    }
}
