//! Improved precision and recall (Kynkäänniemi et al., 2019).
//!
//! A set's manifold is the union of balls around its images, each with the distance to its k-th
//! nearest neighbour in the set as radius. Precision is the share of generated images inside the
//! real manifold (fidelity), recall the share of real images inside the generated one (variety).
//! Both grow with k and with the number of images, so a value without features, k and numbers
//! means nothing. A point on the border is inside (`<=`).

use crate::error::Result;
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::interval::{CONFIDENCE, Interval, of_share};
use crate::metrics::neighbours::{distance, nearest, squared_distances};

/// Counts of images inside the other side's manifold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Generated images inside the real manifold.
    pub generated_inside: usize,
    /// Generated images.
    pub generated: usize,
    /// Real images inside the generated manifold.
    pub real_inside: usize,
    /// Real images.
    pub real: usize,
}

impl PrecisionRecall {
    /// The share of generated images inside the real manifold.
    pub fn precision(&self) -> f64 {
        self.generated_inside as f64 / self.generated as f64
    }

    /// The share of real images inside the generated manifold.
    pub fn recall(&self) -> f64 {
        self.real_inside as f64 / self.real as f64
    }

    /// The interval of the precision over draws of generated images, the real manifold being fixed.
    pub fn precision_interval(&self) -> Interval {
        of_share(self.generated_inside, self.generated, CONFIDENCE)
    }

    /// The interval of the recall over draws of real images, the generated manifold being fixed.
    pub fn recall_interval(&self) -> Interval {
        of_share(self.real_inside, self.real, CONFIDENCE)
    }
}

/// Improved precision and recall with balls to the `k`-th neighbour: 3 in the paper.
///
/// # Errors
/// [`crate::ImageError::Shape`] for a side of no more than `k` images or features of different
/// lengths.
pub fn precision_recall(
    generated: &Features,
    real: &Features,
    k: usize,
) -> Result<PrecisionRecall> {
    let covered = |points: &Features, centres: &Features| -> Result<usize> {
        let radii = radii(centres, k)?;
        let counts = count_inside(points, centres, &radii, |distance, radius| {
            distance <= radius
        })?;
        Ok(counts.iter().filter(|count| **count > 0).count())
    };
    generated.same_dims(real)?;
    Ok(PrecisionRecall {
        generated_inside: covered(generated, real)?,
        generated: generated.len(),
        real_inside: covered(real, generated)?,
        real: real.len(),
    })
}

/// The distance of each row to its `k`-th nearest other row.
pub(crate) fn radii(features: &Features, k: usize) -> Result<Vec<f64>> {
    let found = nearest(features, features, k, true)?;
    Ok(found
        .iter()
        .filter_map(|row| row.last())
        .map(|last| last.distance)
        .collect())
}

fn rows_of(values: &[f64], d: usize) -> std::slice::ChunksExact<'_, f64> {
    values.chunks_exact(d)
}

/// For each of `points`, in how many balls around `centres` it lies; `inside` takes distance and radius.
pub(crate) fn count_inside(
    points: &Features,
    centres: &Features,
    radii: &[f64],
    inside: impl Fn(f64, f64) -> bool,
) -> Result<Vec<usize>> {
    let d = points.dims();
    let mut counts = vec![0; points.len()];
    for ours in chunks(points.len(), 1024) {
        let a = points.doubles(ours.clone())?;
        for theirs in chunks(centres.len(), 1024) {
            let b = centres.doubles(theirs.clone())?;
            let squares = squared_distances(&a, &b, d);
            let rows = squares.chunks_exact(theirs.len()).zip(rows_of(&a, d));
            for (count, (row, point)) in counts[ours.clone()].iter_mut().zip(rows) {
                let balls = row.iter().zip(&radii[theirs.clone()]).zip(rows_of(&b, d));
                *count += balls
                    .filter(|((square, radius), centre)| {
                        let apart = square.sqrt();
                        // On the border the rounding of products would decide; the distance is
                        // computed as the radius was.
                        let near = (apart - **radius).abs() <= 1e-6 * (1.0 + **radius);
                        inside(if near { distance(point, centre) } else { apart }, **radius)
                    })
                    .count();
            }
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_lie_on_borders_and_count_by_the_rule() {
        // Each k-th neighbour lies on the border of a ball, k = 5: inside for one rule, and for the
        // other k balls hold each point on average: those of its nearer neighbours and its own.
        let mut random = crate::metrics::NumpyRandom::new(11);
        let values: Vec<f32> = (0..200 * 64).map(|_| random.normal() as f32).collect();
        let set = Features::new(values, 64).unwrap();
        let radii = radii(&set, 5).unwrap();
        let total = |inside: fn(f64, f64) -> bool| -> usize {
            count_inside(&set, &set, &radii, inside)
                .unwrap()
                .iter()
                .sum()
        };
        assert_eq!(total(|distance, radius| distance < radius), 200 * 5);
        assert_eq!(total(|distance, radius| distance <= radius), 200 * 6);
    }

    #[test]
    fn balls_on_a_line() {
        let line = |values: &[f32]| Features::new(values.to_vec(), 1).unwrap();
        // k = 1: real radii 1, 1, 2 around 0, 1, 3; generated radii 2, 2, 7 around 4, 2, 11.
        let found = precision_recall(&line(&[4.0, 2.0, 11.0]), &line(&[0.0, 1.0, 3.0]), 1).unwrap();
        // 4 and 2 lie in the ball of 3; 0 (of 2), 1 and 3 lie in generated balls.
        assert_eq!((found.generated_inside, found.real_inside), (2, 3));
        assert_eq!((found.precision(), found.recall()), (2.0 / 3.0, 1.0));
    }
}
