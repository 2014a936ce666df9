//! Structural similarity over five scales.
//!
//! Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
//! 2003: MS-SSIM = Π_k c_k^w_k · s^w_5, k = 1..=4, where c_k is the mean contrast and structure
//! term at scale k, s the mean SSIM at scale 5, and w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333.
//! Each scale halves the one before by the mean of 2×2 pixels; an odd last row or column is left
//! out. Every term is averaged over windows and planes before the product.

use crate::error::{ImageError, Result};
use crate::metrics::planes::{Planes, check_pair};
use crate::metrics::ssim::{REACH, WINDOW, compare};

/// The exponent of each scale, the finest first.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// The shortest side that leaves a window at the coarsest scale.
const SHORTEST: usize = WINDOW << (WEIGHTS.len() - 1);

/// The multiscale structural similarity of two pictures, 0..=1 and 1 for equal ones.
///
/// A scale whose mean term is negative, as of a picture and its negative, has no real power; it
/// counts as 0, and so does the product.
///
/// # Errors
/// [`ImageError::Shape`] when the pictures differ in size or channels, or a side is below 176.
pub fn ms_ssim(a: &Planes, b: &Planes) -> Result<f64> {
    let factors = ms_ssim_factors(a, b)?;
    Ok(factors
        .iter()
        .zip(WEIGHTS)
        .map(|(factor, weight)| factor.max(0.0).powf(weight))
        .product())
}

/// What [`ms_ssim`] is the weighted product of, the finest scale first: four contrast terms and
/// the SSIM of the coarsest scale, each -1..=1.
///
/// # Errors
/// Those of [`ms_ssim`].
pub fn ms_ssim_factors(a: &Planes, b: &Planes) -> Result<[f64; 5]> {
    check_pair(a, b)?;
    if a.height < SHORTEST || a.width < SHORTEST {
        return Err(ImageError::Shape(format!(
            "MS-SSIM needs sides of at least {SHORTEST} pixels, the pictures have {}x{}; compare \
             them by SSIM",
            a.width, a.height
        )));
    }
    let mut factors = [0.0; WEIGHTS.len()];
    let (mut a, mut b) = (a.clone(), b.clone());
    for (scale, factor) in factors.iter_mut().enumerate() {
        let coarsest = scale + 1 == WEIGHTS.len();
        let mut sum = 0.0;
        for channel in 0..a.channels {
            compare(a.plane(channel), b.plane(channel), a.width, |terms| {
                sum += if coarsest {
                    terms.similarity()
                } else {
                    terms.contrast
                };
            });
        }
        let windows = (a.height - 2 * REACH) * (a.width - 2 * REACH);
        *factor = sum / (a.channels * windows) as f64;
        if !coarsest {
            (a, b) = (halve(&a), halve(&b));
        }
    }
    Ok(factors)
}

/// The means of 2×2 pixels; an odd last row or column is left out.
fn halve(planes: &Planes) -> Planes {
    let (height, width) = (planes.height / 2, planes.width / 2);
    let mut values = Vec::with_capacity(planes.channels * height * width);
    for channel in 0..planes.channels {
        let plane = planes.plane(channel);
        for rows in plane.chunks_exact(2 * planes.width) {
            let (top, bottom) = rows.split_at(planes.width);
            let pairs = top.chunks_exact(2).zip(bottom.chunks_exact(2));
            values
                .extend(pairs.map(|(top, bottom)| (top[0] + top[1] + bottom[0] + bottom[1]) / 4.0));
        }
    }
    Planes {
        channels: planes.channels,
        height,
        width,
        values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(level: f64, height: usize, width: usize) -> Planes {
        Planes::new(1, height, width, vec![level; height * width]).unwrap()
    }

    #[test]
    fn halves_are_means_of_four() {
        let values = (0..30).map(f64::from).collect();
        let halved = halve(&Planes::new(2, 3, 5, values).unwrap());
        assert_eq!((halved.channels, halved.height, halved.width), (2, 1, 2));
        // (0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, and 15 more in the second plane.
        assert_eq!(halved.values, [3.0, 5.0, 18.0, 20.0]);
    }

    #[test]
    fn flat_pictures_leave_the_luminance_of_the_last_scale() {
        // ((2 · 100 · 120 + 6.5025) / (100² + 120² + 6.5025))^0.1333.
        let ours = ms_ssim(&flat(100.0, 176, 177), &flat(120.0, 176, 177)).unwrap();
        assert!((ours - 0.997_799_660_260_244).abs() < 1e-9, "{ours}");
    }

    #[test]
    fn equal_pictures_have_one_and_negatives_none() {
        let texture = |sign: f64| {
            let level = |i: usize| 128.0 + sign * ((i * i * 7 + i * 13) % 101) as f64;
            let values = (0..176 * 176).map(level).collect();
            Planes::new(1, 176, 176, values).unwrap()
        };
        assert_eq!(ms_ssim(&texture(1.0), &texture(1.0)).unwrap(), 1.0);
        let factors = ms_ssim_factors(&texture(1.0), &texture(-1.0)).unwrap();
        assert!(factors[0] < -0.9, "{factors:?}");
        assert_eq!(ms_ssim(&texture(1.0), &texture(-1.0)).unwrap(), 0.0);
    }

    #[test]
    fn small_pictures_are_refused() {
        for (height, width) in [(175, 176), (176, 175)] {
            let small = flat(0.0, height, width);
            let error = ms_ssim(&small, &small).unwrap_err().to_string();
            assert!(error.contains("176"), "{error}");
        }
        assert!(ms_ssim(&flat(0.0, 176, 176), &flat(0.0, 176, 177)).is_err());
    }
}
