//! The plain differences of two pictures: mean squared and mean absolute error.
//!
//! MSE = mean (a − b)², MAE = mean |a − b|, over all values of all planes, in f64. Both are on
//! the scale 0..=255 of [`Planes`], so an MSE is at most 65,025; divided by 65,025 (an MAE by 255)
//! they are those of pictures in \[0, 1\].

use crate::error::Result;
use crate::metrics::planes::{Planes, check_pair};

/// The mean squared error of two pictures, on the scale 0..=255: 0..=65,025 where nothing is out
/// of range.
///
/// # Errors
/// [`ImageError::Shape`](crate::ImageError::Shape) when the pictures differ in size or channels.
pub fn mse(a: &Planes, b: &Planes) -> Result<f64> {
    mean(a, b, |difference| difference * difference)
}

/// The mean absolute error of two pictures, on the scale 0..=255.
///
/// # Errors
/// [`ImageError::Shape`](crate::ImageError::Shape) when the pictures differ in size or channels.
pub fn mae(a: &Planes, b: &Planes) -> Result<f64> {
    mean(a, b, f64::abs)
}

/// The mean of a function of the differences.
fn mean(a: &Planes, b: &Planes, size: impl Fn(f64) -> f64) -> Result<f64> {
    check_pair(a, b)?;
    let sum: f64 = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(a, b)| size(a - b))
        .sum();
    Ok(sum / a.values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        // Differences 1, -2, 0, 5: squares 1 + 4 + 0 + 25 over 4, sizes 1 + 2 + 0 + 5 over 4.
        let a = Planes::new(1, 2, 2, vec![10.0, 20.0, 30.0, 40.0]).unwrap();
        let b = Planes::new(1, 2, 2, vec![9.0, 22.0, 30.0, 35.0]).unwrap();
        assert_eq!(mse(&a, &b).unwrap(), 7.5);
        assert_eq!(mae(&a, &b).unwrap(), 2.0);
        assert_eq!(mse(&a, &a).unwrap(), 0.0);
        let other = Planes::new(1, 1, 4, vec![0.0; 4]).unwrap();
        assert!(mse(&a, &other).is_err());
        assert!(mae(&a, &other).is_err());
    }
}
