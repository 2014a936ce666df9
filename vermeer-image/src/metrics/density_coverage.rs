//! Density and coverage (Naeem et al., 2020), with the precision and recall of the same
//! implementation (prdc).
//!
//! With balls around real images to their k-th nearest real neighbour, density is the number of
//! balls a generated image lies in, over k, on average: it can exceed 1, and one outlier among the
//! real images, whose ball is large, moves it little. Coverage is the share of real images whose
//! ball holds a generated image. A point on the border is outside (`<`).

use crate::error::Result;
use crate::metrics::feature_set::Features;
use crate::metrics::interval::{CONFIDENCE, Interval, of_mean, of_share};
use crate::metrics::neighbours::nearest;
use crate::metrics::precision_recall::{PrecisionRecall, count_inside, radii};

/// Density, coverage, precision and recall with one k.
#[derive(Clone, Debug, PartialEq)]
pub struct DensityCoverage {
    /// Precision and recall with `<`.
    pub precision_recall: PrecisionRecall,
    /// The mean number of real balls around a generated image, over k.
    pub density: f64,
    /// Its interval over draws of generated images, the real ones being fixed.
    pub density_interval: Option<Interval>,
    /// Real images whose ball holds a generated image.
    pub covered: usize,
    /// Real images.
    pub real: usize,
}

impl DensityCoverage {
    /// The share of real images whose ball holds a generated image.
    pub fn coverage(&self) -> f64 {
        self.covered as f64 / self.real as f64
    }

    /// The interval of the coverage over draws of real images.
    pub fn coverage_interval(&self) -> Interval {
        of_share(self.covered, self.real, CONFIDENCE)
    }
}

/// Density and coverage with balls to the `k`-th neighbour: 5 in the paper.
///
/// # Errors
/// [`crate::ImageError::Shape`] for a side of no more than `k` images or features of different
/// lengths.
pub fn density_coverage(
    generated: &Features,
    real: &Features,
    k: usize,
) -> Result<DensityCoverage> {
    generated.same_dims(real)?;
    let inside = |distance: f64, radius: f64| distance < radius;
    let real_radii = radii(real, k)?;
    let generated_radii = radii(generated, k)?;
    let balls = count_inside(generated, real, &real_radii, inside)?;
    let of_real = count_inside(real, generated, &generated_radii, inside)?;
    let found = |counts: &[usize]| counts.iter().filter(|count| **count > 0).count();
    let densities: Vec<f64> = balls.iter().map(|count| *count as f64 / k as f64).collect();
    let density = densities.iter().sum::<f64>() / densities.len() as f64;
    let covered = nearest(real, generated, 1, false)?
        .iter()
        .zip(&real_radii)
        .filter(|(nearest, radius)| nearest[0].distance < **radius)
        .count();
    Ok(DensityCoverage {
        precision_recall: PrecisionRecall {
            generated_inside: found(&balls),
            generated: generated.len(),
            real_inside: found(&of_real),
            real: real.len(),
        },
        density,
        density_interval: of_mean(&densities),
        covered,
        real: real.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balls_on_a_line() {
        let line = |values: &[f32]| Features::new(values.to_vec(), 1).unwrap();
        // k = 1: real radii 1, 1, 2 around 0, 1, 3. 2.5 lies in the ball of 3 only, 0.5 in those of
        // 0 and 1, 9 in none; 0, 1 and 3 all have one of them in their ball.
        let found = density_coverage(&line(&[2.5, 0.5, 9.0]), &line(&[0.0, 1.0, 3.0]), 1).unwrap();
        assert_eq!(found.density, 1.0);
        assert_eq!(found.coverage(), 1.0);
        assert_eq!(found.precision_recall.precision(), 2.0 / 3.0);
        // Generated radii 2, 2, 6.5: 0 and 1 in the ball of 0.5, 3 in those of 2.5 and 9.
        assert_eq!(found.precision_recall.recall(), 1.0);
    }
}
