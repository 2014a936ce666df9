//! Principal components of vectors (Pearson, 1901), in spaces of any size.
//!
//! With the centred rows X `[n, d]` the covariance is XᵀX / (n − 1). Its eigenvectors are taken of
//! the smaller of XᵀX and XXᵀ: v of XXᵀ is Xᵀv of XᵀX, so a thousand codes of three thousand numbers
//! cost a matrix of a thousand.

use vermeer_image::metrics::linear::{eigen, product, product_transposed, transposed_product};

use crate::{Error, Result};

/// Shares of the largest variance below which a component is rounding.
const NOTHING: f64 = 1e-10;

/// The directions in which vectors vary most.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The mean vector.
    pub mean: Vec<f64>,
    /// Directions of length 1, most variance first; of the two signs the one whose largest entry is
    /// positive.
    pub directions: Vec<Vec<f64>>,
    /// The variance along each, with the divisor n − 1.
    pub variances: Vec<f64>,
    /// The variance of all numbers together.
    pub total: f64,
}

impl Principal {
    /// Of rows of `size` numbers: at most `count` components, and none without variance.
    ///
    /// # Errors
    /// [`Error::Settings`] for fewer than two rows; [`Error::Image`] when numbers are not finite.
    pub fn of(rows: &[f32], size: usize, count: usize) -> Result<Self> {
        let n = rows.len().checked_div(size).unwrap_or_default();
        if n < 2 {
            return Err(Error::settings(
                format!("{n} vectors have no principal components"),
                "give more images",
            ));
        }
        let mean = mean(rows, size);
        let centred = centred(rows, &mean);
        let share = 1.0 / (n - 1) as f64;
        let side = size.min(n);
        let scatter = match size <= n {
            true => transposed_product(&centred, &centred, [size, n, size]),
            false => product_transposed(&centred, &centred, [n, size, n]),
        };
        let scatter: Vec<f64> = scatter.into_iter().map(|value| value * share).collect();
        let total = (0..side).map(|i| scatter[i * side + i]).sum();
        let (values, vectors) = eigen(&scatter, side)?;
        let largest = values.last().copied().unwrap_or_default();
        let mut found = Self {
            mean,
            directions: Vec::new(),
            variances: Vec::new(),
            total,
        };
        // The largest eigenvalues come last.
        for place in (0..side).rev().take(count) {
            let variance = values[place];
            if variance <= 0.0 || variance <= NOTHING * largest {
                break;
            }
            let vector: Vec<f64> = (0..side).map(|i| vectors[i * side + place]).collect();
            let direction = match size <= n {
                true => vector,
                false => product(&vector, &centred, [1, n, size]),
            };
            found.directions.push(upright(unit(&direction)));
            found.variances.push(variance);
        }
        Ok(found)
    }

    /// How far a vector lies from the mean along each direction.
    pub fn coordinates(&self, vector: &[f32]) -> Vec<f64> {
        let along = |direction: &Vec<f64>| -> f64 {
            let shares = vector.iter().zip(&self.mean).zip(direction);
            shares
                .map(|((x, mean), d)| (f64::from(*x) - mean) * d)
                .sum()
        };
        self.directions.iter().map(along).collect()
    }

    /// The share of all variance that lies along each direction.
    pub fn shares(&self) -> Vec<f64> {
        let whole = match self.total > 0.0 {
            true => self.total,
            false => 1.0,
        };
        self.variances.iter().map(|v| v / whole).collect()
    }
}

/// The mean of rows of `size` numbers.
pub(super) fn mean(rows: &[f32], size: usize) -> Vec<f64> {
    let share = 1.0 / (rows.len() / size).max(1) as f64;
    let mut mean = vec![0.0; size];
    for row in rows.chunks_exact(size) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += share * f64::from(*value);
        }
    }
    mean
}

fn centred(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    let from_mean = |row: &[f32]| -> Vec<f64> {
        row.iter()
            .zip(mean)
            .map(|(x, mean)| f64::from(*x) - mean)
            .collect()
    };
    rows.chunks_exact(mean.len()).flat_map(from_mean).collect()
}

/// A vector brought to length 1; zeros stay.
pub(super) fn unit(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    match length > 0.0 {
        true => vector.iter().map(|x| x / length).collect(),
        false => vector.to_vec(),
    }
}

/// Of a vector and its opposite the one whose largest entry is positive.
pub(super) fn upright(vector: Vec<f64>) -> Vec<f64> {
    let larger = |best: f64, x: &f64| if x.abs() > best.abs() { *x } else { best };
    match vector.iter().fold(0.0, larger) < 0.0 {
        true => vector.into_iter().map(|x| -x).collect(),
        false => vector,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}");
        }
    }

    /// Small numbers that look random.
    fn rows(n: usize, d: usize) -> Vec<f32> {
        (0..n * d)
            .map(|i| ((i * i * 7 + i * 3) % 23) as f32 / 4.0)
            .collect()
    }

    #[test]
    fn components_are_those_of_numpy() {
        // numpy 2: u, s, vt = svd(x − mean); variances s²/(n − 1), directions vt with the largest
        // entry positive. Once with more rows than numbers, once with fewer.
        let tall = Principal::of(&rows(9, 4), 4, 2).unwrap();
        close(&tall.variances, &[5.277_597_902, 2.409_317_242]);
        let first = [0.388_274_805, 0.614_644_596, -0.603_583_131, -0.327_325_679];
        close(&tall.directions[0], &first);
        let second = [0.695_251_041, -0.229_331_092, -0.147_003_758, 0.665_148_957];
        close(&tall.directions[1], &second);
        close(&[tall.total], &[9.965_277_778]);
        let wide = Principal::of(&rows(4, 6), 6, 9).unwrap();
        close(
            &wide.variances,
            &[11.129_698_238, 6.033_498_026, 0.149_303_736],
        );
        let third = [
            0.135_081_701,
            -0.128_752_261,
            0.697_683_421,
            0.102_102_456,
            -0.161_731_506,
            0.664_704_176,
        ];
        close(&wide.directions[2], &third);
        close(&[wide.total, wide.shares().iter().sum()], &[17.3125, 1.0]);
    }

    #[test]
    fn a_line_has_one_component() {
        // (3, 4) t + (1, 1) with t = −2, 0, 1, 5: variance 25 · 26/3.
        let rows = [-2.0f32, 0.0, 1.0, 5.0].map(|t| [3.0 * t + 1.0, 4.0 * t + 1.0]);
        let found = Principal::of(&rows.concat(), 2, 2).unwrap();
        assert_eq!(found.directions.len(), 1);
        close(&found.directions[0], &[0.6, 0.8]);
        close(&found.variances, &[25.0 * 26.0 / 3.0]);
        close(&found.shares(), &[1.0]);
        close(&found.coordinates(&[7.0, 9.0]), &[5.0]);
        assert!(Principal::of(&[1.0, 2.0], 2, 1).is_err());
    }
}
