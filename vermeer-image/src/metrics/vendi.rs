//! Vendi score (Friedman and Dieng, 2023): how many different images a set effectively holds.
//!
//! The rows are scaled to length 1, K holds their cosine similarities, and λ are the eigenvalues of
//! K/n, which sum to 1. With Shannon's entropy, or Rényi's of order q,
//!
//! VS = exp(-Σ λ ln λ),  VS_q = (Σ λ^q)^(1/(1-q)),  VS_∞ = 1/max λ.
//!
//! The score is between 1 (all images alike) and n or the number of features, whichever is less
//! (all images orthogonal); higher is more varied. No reference set is looked at: noise scores high,
//! and a generator is varied enough when its score comes near that of as many real images by the
//! same network. Features that are all positive are similar to each other, so scores of different
//! networks do not compare. Orders above 1 weigh common images more, orders below 1 rare ones.
//!
//! K/n and the d × d matrix XᵀX/n have the same eigenvalues beside zeros; the smaller one is taken.

use std::ops::Range;

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::{eigenvalues, product_transposed, transposed_product};

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// The Vendi score of cosine similarities, of order 1: the published form.
///
/// # Errors
/// As [`vendi_of_order`].
pub fn vendi(features: &Features) -> Result<f64> {
    vendi_of_order(features, 1.0)
}

/// The Vendi score of any order above 0, [`f64::INFINITY`] among them (Pasarkar and Dieng, 2024).
///
/// Eigenvalues that are rounding errors of zeros are left out, which matters for small orders.
///
/// # Errors
/// [`ImageError::Shape`] for no images, an order that is not positive, or an image whose features
/// are all zero, as it has no direction; those of [`Features::rows`].
pub fn vendi_of_order(features: &Features, order: f64) -> Result<f64> {
    if order.is_nan() || order <= 0.0 {
        return Err(ImageError::Shape(format!(
            "a Vendi score has an order above 0, not {order}"
        )));
    }
    features.at_least(1, "a Vendi score")?;
    let values = spectrum(features)?;
    let largest = values.iter().fold(0.0f64, |most, value| most.max(*value));
    let rounding = 10.0 * largest * values.len() as f64 * f64::EPSILON;
    let shares = values.iter().filter(|value| **value > rounding);
    Ok(if order == 1.0 {
        (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
    } else if order.is_infinite() {
        1.0 / largest
    } else {
        let powers: f64 = shares.map(|p| p.powf(order)).sum();
        powers.powf(1.0 / (1.0 - order))
    })
}

/// The eigenvalues of K/n, without zeros that follow from its rank.
fn spectrum(features: &Features) -> Result<Vec<f64>> {
    let (n, d) = (features.len(), features.dims());
    let share = 1.0 / n as f64;
    if d < n {
        let mut gram = vec![0.0; d * d];
        for rows in chunks(n, CHUNK) {
            let count = rows.len();
            let unit = unit_rows(features, rows)?;
            let more = transposed_product(&unit, &unit, [d, count, d]);
            for (sum, more) in gram.iter_mut().zip(more) {
                *sum += share * more;
            }
        }
        eigenvalues(&gram, d)
    } else {
        let unit = unit_rows(features, 0..n)?;
        let mut kernel = product_transposed(&unit, &unit, [n, d, n]);
        kernel.iter_mut().for_each(|value| *value *= share);
        eigenvalues(&kernel, n)
    }
}

/// These rows, scaled to length 1.
fn unit_rows(features: &Features, rows: Range<usize>) -> Result<Vec<f64>> {
    let first = rows.start;
    let mut values = features.doubles(rows)?;
    for (i, row) in values.chunks_exact_mut(features.dims()).enumerate() {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(ImageError::Shape(format!(
                "all features of image {} are zero, so it has no similarity to others; use \
                 another feature network",
                first + i
            )));
        }
        row.iter_mut().for_each(|x| *x /= length);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &[[f32; 4]], times: usize) -> Features {
        Features::new(rows.concat().repeat(times), 4).unwrap()
    }

    #[test]
    fn orthogonal_images_count_once_each() {
        let axes = [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 2.0, 0.0, 0.0],
            [0.0, 0.0, -3.0, 0.0],
            [0.0, 0.0, 0.0, 0.5],
        ];
        // Four images in four features, the same five times over, and three of the four.
        for (rows, times, count) in [
            (&axes[..], 1, 4.0),
            (&axes[..], 5, 4.0),
            (&axes[1..], 2, 3.0),
        ] {
            for order in [0.5, 1.0, 2.0, f64::INFINITY] {
                let score = vendi_of_order(&set(rows, times), order).unwrap();
                assert!((score - count).abs() < 1e-9, "{order}: {score}");
            }
        }
        let alike = set(&[[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]], 4);
        assert!((vendi(&alike).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_images_at_sixty_degrees() {
        // The cosine is 1/2, so the eigenvalues are 3/4 and 1/4, whatever matrix they come from.
        let rows = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]];
        for times in [1, 5] {
            let set = set(&rows, times);
            for (order, expected) in [
                (1.0, 4.0 / 3.0f64.powf(0.75)),
                (2.0, 1.6),
                (0.5, (0.75f64.sqrt() + 0.5).powi(2)),
                (f64::INFINITY, 4.0 / 3.0),
            ] {
                let score = vendi_of_order(&set, order).unwrap();
                assert!((score - expected).abs() < 1e-9, "{order}: {score}");
            }
        }
    }

    #[test]
    fn what_has_no_score_is_an_error() {
        let rows = set(&[[1.0, 0.0, 0.0, 0.0]], 1);
        assert!(vendi_of_order(&rows, 0.0).is_err());
        assert!(vendi_of_order(&rows, f64::NAN).is_err());
        assert!(vendi(&set(&[[0.0; 4]], 1)).is_err());
        assert!(vendi(&Features::new(Vec::new(), 4).unwrap()).is_err());
    }
}
