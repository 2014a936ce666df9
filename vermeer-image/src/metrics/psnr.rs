//! Peak signal-to-noise ratio of two pictures.
//!
//! PSNR = 10 log10(255² / MSE) decibels, the mean squared error over all values of all planes of
//! one pair, in f64. Of several pairs the literature reports the mean of the decibels, not the
//! decibels of the mean error.

use crate::error::Result;
use crate::metrics::pixel_error::mse;
use crate::metrics::planes::Planes;

/// The largest value of a picture.
const PEAK: f64 = 255.0;

/// The peak signal-to-noise ratio of two pictures in decibels. Equal pictures have an infinite
/// one, which is not clamped; the farthest pictures in range, black and white, have 0.
///
/// Whether colours or luma are compared, rounded or not, with or without a border, changes the
/// value by whole decibels: [`Planes`] is where that is chosen.
///
/// # Errors
/// [`ImageError::Shape`](crate::ImageError::Shape) when the pictures differ in size or channels.
pub fn psnr_db(a: &Planes, b: &Planes) -> Result<f64> {
    let error = mse(a, b)?;
    Ok(10.0 * (PEAK * PEAK / error).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(level: f64) -> Planes {
        Planes::new(3, 2, 2, vec![level; 12]).unwrap()
    }

    #[test]
    fn known_ratios() {
        // 20 log10(255 / d) for a constant difference d: 48.1308036 dB for one level.
        for (level, expected) in [(255.0, 0.0), (1.0, 48.130_803_608_679_1), (25.5, 20.0)] {
            let ours = psnr_db(&flat(0.0), &flat(level)).unwrap();
            assert!((ours - expected).abs() < 1e-10, "{ours}, not {expected}");
        }
        assert_eq!(psnr_db(&flat(7.0), &flat(7.0)).unwrap(), f64::INFINITY);
        let other = Planes::new(1, 2, 2, vec![0.0; 4]).unwrap();
        assert!(psnr_db(&flat(0.0), &other).is_err());
    }
}
