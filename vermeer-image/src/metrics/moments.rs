//! Mean and covariance of features, which can be added up from parts.
//!
//! Of `n` rows the count, the mean and the sum of squared deviations M2 = Σ (x - mean)(x - mean)ᵀ
//! are kept in double precision, and two parts are joined by the formula of Chan, Golub and LeVeque
//! (1983). So shards, threads and machines give what one pass gives, up to rounding, and memory
//! does not grow with the number of images.

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, chunks};
use crate::metrics::linear::transposed_product;

/// Rows that are taken at a time.
const CHUNK: usize = 1024;

/// Count, mean and squared deviations of features of `d` values.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    n: u64,
    mean: Vec<f64>,
    m2: Vec<f64>,
}

impl Moments {
    /// Of no rows yet, with `dims` values each.
    pub fn new(dims: usize) -> Self {
        Self {
            n: 0,
            mean: vec![0.0; dims],
            m2: vec![0.0; dims * dims],
        }
    }

    /// Of all rows of a set.
    ///
    /// # Errors
    /// Those of [`Features::rows`].
    pub fn of(features: &Features) -> Result<Self> {
        let mut moments = Self::new(features.dims());
        for rows in chunks(features.len(), CHUNK) {
            moments.add(&features.doubles(rows)?);
        }
        Ok(moments)
    }

    /// From parts that were stored: `mean` has `d` values and `m2` has `d · d` in rows.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when they do not fit each other, are not finite, or `m2` is not
    /// symmetric.
    pub fn from_parts(n: u64, mean: Vec<f64>, m2: Vec<f64>) -> Result<Self> {
        let d = mean.len();
        if d == 0 || m2.len() != d * d {
            return Err(ImageError::Shape(format!(
                "a mean of {d} values and a covariance of {} do not fit each other",
                m2.len()
            )));
        }
        if n < 2 {
            return Err(ImageError::Shape(format!(
                "a covariance needs at least 2 images, here are {n}"
            )));
        }
        if !mean.iter().chain(&m2).all(|value| value.is_finite()) {
            return Err(ImageError::Shape(
                "a mean or covariance is not finite".to_owned(),
            ));
        }
        let largest = m2.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let symmetric =
            (0..d).all(|i| (0..i).all(|j| (m2[i * d + j] - m2[j * d + i]).abs() <= 1e-6 * largest));
        if !symmetric {
            return Err(ImageError::Shape(
                "a covariance is not symmetric".to_owned(),
            ));
        }
        Ok(Self { n, mean, m2 })
    }

    /// Adds rows, given one after the other.
    ///
    /// # Panics
    /// When the values are not whole rows.
    pub fn add(&mut self, rows: &[f64]) {
        let d = self.mean.len();
        assert!(rows.len().is_multiple_of(d), "rows of {d} values");
        let n = rows.len() / d;
        if n == 0 {
            return;
        }
        let mut mean = vec![0.0; d];
        for row in rows.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        let centred: Vec<f64> = rows
            .chunks_exact(d)
            .flat_map(|row| row.iter().zip(&mean).map(|(x, mean)| x - mean))
            .collect();
        let m2 = transposed_product(&centred, &centred, [d, n, d]);
        self.merge(&Self {
            n: n as u64,
            mean,
            m2,
        });
    }

    /// Adds the rows of another part.
    ///
    /// # Panics
    /// When its rows have another length.
    pub fn merge(&mut self, other: &Self) {
        let d = self.mean.len();
        assert_eq!(d, other.mean.len(), "moments of features of one length");
        if other.n == 0 {
            return;
        }
        let (ours, theirs) = (self.n as f64, other.n as f64);
        let all = ours + theirs;
        let apart: Vec<f64> = other
            .mean
            .iter()
            .zip(&self.mean)
            .map(|(b, a)| b - a)
            .collect();
        let weight = ours * theirs / all;
        for (i, row) in self.m2.chunks_exact_mut(d).enumerate() {
            let more = &other.m2[i * d..(i + 1) * d];
            for ((sum, more), apart_j) in row.iter_mut().zip(more).zip(&apart) {
                *sum += more + weight * apart[i] * apart_j;
            }
        }
        for (mean, apart) in self.mean.iter_mut().zip(&apart) {
            *mean += apart * theirs / all;
        }
        self.n += other.n;
    }

    /// The moments without those of `part`, which were merged into them.
    ///
    /// # Panics
    /// When the part is of another length, or not smaller.
    #[must_use]
    pub fn without(&self, part: &Self) -> Self {
        let d = self.dims();
        assert!(
            part.dims() == d && part.n < self.n,
            "no part of these moments"
        );
        let n = self.n - part.n;
        let (all, theirs, ours) = (self.n as f64, part.n as f64, n as f64);
        let mean: Vec<f64> = self
            .mean
            .iter()
            .zip(&part.mean)
            .map(|(all_mean, part_mean)| (all * all_mean - theirs * part_mean) / ours)
            .collect();
        let apart: Vec<f64> = part.mean.iter().zip(&mean).map(|(b, a)| b - a).collect();
        let weight = ours * theirs / all;
        let mut m2 = self.m2.clone();
        for (i, row) in m2.chunks_exact_mut(d).enumerate() {
            let less = &part.m2[i * d..(i + 1) * d];
            for ((sum, less), apart_j) in row.iter_mut().zip(less).zip(&apart) {
                *sum -= less + weight * apart[i] * apart_j;
            }
        }
        Self { n, mean, m2 }
    }

    /// The number of rows.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The number of values in a row.
    pub fn dims(&self) -> usize {
        self.mean.len()
    }

    /// The mean, `[d]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The sum of squared deviations, `[d, d]`.
    pub fn m2(&self) -> &[f64] {
        &self.m2
    }

    /// The covariance with the divisor n - 1, `[d, d]`.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for fewer than two rows.
    pub fn covariance(&self) -> Result<Vec<f64>> {
        if self.n < 2 {
            return Err(ImageError::Shape(format!(
                "a covariance needs at least 2 images, here are {}",
                self.n
            )));
        }
        let factor = 1.0 / (self.n - 1) as f64;
        Ok(self.m2.iter().map(|value| value * factor).collect())
    }

    /// The largest rank the covariance can have.
    pub fn rank(&self) -> usize {
        let most = usize::try_from(self.n.saturating_sub(1)).unwrap_or(usize::MAX);
        most.min(self.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<f64> {
        (0..60)
            .map(|i| f64::from((i * 37 + 11) % 23) + 0.25 * f64::from(i % 3))
            .collect()
    }

    #[test]
    fn a_covariance_by_hand() {
        // (0, 0), (2, 4), (4, 2): deviations (-2, -2), (0, 2), (2, 0); squares 8 and 8, products 4.
        let mut moments = Moments::new(2);
        moments.add(&[0.0, 0.0, 2.0, 4.0, 4.0, 2.0]);
        assert_eq!(moments.mean(), [2.0, 2.0]);
        assert_eq!(moments.covariance().unwrap(), [4.0, 2.0, 2.0, 4.0]);
    }

    #[test]
    fn a_part_can_be_taken_out_again() {
        let all = rows();
        let d = 3;
        let of = |values: &[f64]| {
            let mut moments = Moments::new(d);
            moments.add(values);
            moments
        };
        let (part, rest) = all.split_at(5 * d);
        let found = of(&all).without(&of(part));
        let expected = of(rest);
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.mean().iter().zip(expected.mean()) {
            assert!((a - b).abs() < 1e-12);
        }
        for (a, b) in found.m2().iter().zip(expected.m2()) {
            assert!((a - b).abs() < 1e-10, "{a}, not {b}");
        }
    }

    #[test]
    fn shards_add_up_to_the_single_pass() {
        let rows = rows();
        let mut whole = Moments::new(3);
        whole.add(&rows);
        for sizes in [&[1, 1, 18][..], &[7, 13], &[2; 10]] {
            let mut sum = Moments::new(3);
            let mut at = 0;
            for size in sizes {
                let mut shard = Moments::new(3);
                shard.add(&rows[at..at + 3 * size]);
                at += 3 * size;
                sum.merge(&shard);
            }
            assert_eq!(sum.len(), 20);
            let all = |m: &Moments| [m.mean().to_vec(), m.m2().to_vec()].concat();
            for (a, b) in all(&sum).iter().zip(all(&whole)) {
                assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn stored_parts_are_checked() {
        assert!(Moments::from_parts(3, vec![0.0; 2], vec![1.0, 0.5, 0.5, 1.0]).is_ok());
        for (n, m2) in [
            (1, vec![1.0, 0.5, 0.5, 1.0]),
            (3, vec![1.0, 0.5, 0.4, 1.0]),
            (3, vec![1.0, f64::NAN, 0.5, 1.0]),
            (3, vec![1.0; 3]),
        ] {
            assert!(Moments::from_parts(n, vec![0.0; 2], m2).is_err());
        }
    }
}
