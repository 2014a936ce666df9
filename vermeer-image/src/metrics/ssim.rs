//! Structural similarity of two pictures.
//!
//! Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
//! structural similarity", 2004. With local means mu, variances sigma² and covariance sigma_xy
//! under a gaussian window of 11×11 pixels and deviation 1.5,
//!
//! SSIM = (2 mu_x mu_y + C1) (2 sigma_xy + C2) / ((mu_x² + mu_y² + C1) (sigma_x² + sigma_y² + C2)),
//!
//! C1 = (0.01 · 255)², C2 = (0.03 · 255)². Only windows that lie inside the picture count, the
//! moments are those of the population, and planes are averaged. Nothing is reduced beforehand,
//! although the authors' program halves large pictures first when asked to.

use crate::error::{ImageError, Result};
use crate::metrics::planes::{Planes, check_pair};

/// Pixels from the middle of the window to its edge.
pub(super) const REACH: usize = 5;

/// The side of the window.
pub(super) const WINDOW: usize = 2 * REACH + 1;

/// The deviation of the window in pixels.
const SIGMA: f64 = 1.5;

/// Keeps the luminance term finite where both means are zero.
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);

/// Keeps the contrast term finite where both variances are zero.
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// The mean structural similarity of two pictures: 1 for equal ones, around 0 for unrelated ones,
/// at least -1.
///
/// # Errors
/// [`ImageError::Shape`] when the pictures differ in size or channels, or a side is below 11.
pub fn ssim(a: &Planes, b: &Planes) -> Result<f64> {
    check_window(a, b)?;
    let mut sum = 0.0;
    for channel in 0..a.channels {
        compare(a.plane(channel), b.plane(channel), a.width, |terms| {
            sum += terms.similarity();
        });
    }
    let windows = (a.height - 2 * REACH) * (a.width - 2 * REACH);
    Ok(sum / (a.channels * windows) as f64)
}

/// The structural similarity around every pixel that is at least five away from the border:
/// `[channels, height - 10, width - 10]`, values in -1..=1. Its mean is [`ssim`].
///
/// # Errors
/// [`ImageError::Shape`] when the pictures differ in size or channels, or a side is below 11.
pub fn ssim_map(a: &Planes, b: &Planes) -> Result<Planes> {
    check_window(a, b)?;
    let (height, width) = (a.height - 2 * REACH, a.width - 2 * REACH);
    let mut values = Vec::with_capacity(a.channels * height * width);
    for channel in 0..a.channels {
        compare(a.plane(channel), b.plane(channel), a.width, |terms| {
            values.push(terms.similarity());
        });
    }
    Planes::new(a.channels, height, width, values)
}

/// Fails unless both pictures have one size with room for a window.
fn check_window(a: &Planes, b: &Planes) -> Result<()> {
    check_pair(a, b)?;
    if a.height < WINDOW || a.width < WINDOW {
        return Err(ImageError::Shape(format!(
            "the window of SSIM has {WINDOW}x{WINDOW} pixels, the pictures {}x{}; compare them \
             by PSNR, or enlarge both",
            a.width, a.height
        )));
    }
    Ok(())
}

/// The two factors of the similarity under one window.
pub(super) struct Terms {
    /// How alike the means are, 0..=1 for values that are not negative.
    pub(super) luminance: f64,
    /// How alike contrast and structure are, -1..=1.
    pub(super) contrast: f64,
}

impl Terms {
    /// The structural similarity.
    pub(super) fn similarity(&self) -> f64 {
        self.luminance * self.contrast
    }
}

/// Hands the terms of every window inside two planes to `each`, rows from top to bottom. Both
/// sides are at least 11, which the callers check.
pub(super) fn compare(x: &[f64], y: &[f64], width: usize, mut each: impl FnMut(Terms)) {
    let taps = window();
    let power: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * x + y * y).collect();
    let product: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * y).collect();
    let means = blur(x, width, &taps).into_iter().zip(blur(y, width, &taps));
    let moments = blur(&power, width, &taps)
        .into_iter()
        .zip(blur(&product, width, &taps));
    for ((mu_x, mu_y), (power, product)) in means.zip(moments) {
        let power_of_means = mu_x * mu_x + mu_y * mu_y;
        let product_of_means = mu_x * mu_y;
        // The two variances are needed as their sum only.
        let variances = power - power_of_means;
        let covariance = product - product_of_means;
        each(Terms {
            luminance: (2.0 * product_of_means + C1) / (power_of_means + C1),
            contrast: (2.0 * covariance + C2) / (variances + C2),
        });
    }
}

/// The first half of the window along one axis, its middle included. The whole sums to 1.
fn window() -> [f64; REACH + 1] {
    let mut taps = [0.0; REACH + 1];
    for (tap, distance) in taps.iter_mut().zip((0..=REACH).rev()) {
        let steps = distance as f64 / SIGMA;
        *tap = (-0.5 * steps * steps).exp();
    }
    let sum = 2.0 * taps[..REACH].iter().sum::<f64>() + taps[REACH];
    taps.map(|tap| tap / sum)
}

/// The mean under the window at every place where it lies inside the plane.
fn blur(plane: &[f64], width: usize, taps: &[f64; REACH + 1]) -> Vec<f64> {
    let (height, inner) = (plane.len() / width, width - 2 * REACH);
    let mut rows = vec![0.0; height * inner];
    for (row, out) in plane.chunks_exact(width).zip(rows.chunks_exact_mut(inner)) {
        weigh(out, taps, |at| &row[at..at + inner]);
    }
    let mut out = vec![0.0; (height - 2 * REACH) * inner];
    for (top, out) in out.chunks_exact_mut(inner).enumerate() {
        weigh(out, taps, |at| &rows[(top + at) * inner..][..inner]);
    }
    out
}

/// The weighted sum of eleven slices, of which `slice(at)` is number `at`. The window is
/// symmetric, so two slices share a weight; the loop along a slice is the inner one, because its
/// steps do not depend on each other.
fn weigh<'a>(out: &mut [f64], taps: &[f64; REACH + 1], slice: impl Fn(usize) -> &'a [f64]) {
    for (sum, &middle) in out.iter_mut().zip(slice(REACH)) {
        *sum = taps[REACH] * middle;
    }
    for (at, &tap) in taps[..REACH].iter().enumerate() {
        let pairs = slice(at).iter().zip(slice(2 * REACH - at));
        for (sum, (&before, &after)) in out.iter_mut().zip(pairs) {
            *sum += tap * (before + after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 13 rows of 16 pixels, 60 + (37 x + 53 y + k x y) mod 128.
    fn texture(k: usize) -> Planes {
        let level = |x: usize, y: usize| (60 + (37 * x + 53 * y + k * x * y) % 128) as f64;
        let values = (0..13).flat_map(|y| (0..16).map(move |x| level(x, y)));
        Planes::new(1, 13, 16, values.collect()).unwrap()
    }

    fn flat(level: f64, height: usize, width: usize) -> Planes {
        Planes::new(1, height, width, vec![level; height * width]).unwrap()
    }

    #[test]
    fn window_is_the_gaussian_of_eleven_taps() {
        // exp(-d² / 4.5) over its sum; fspecial("gaussian", 11, 1.5) has 0.0708 in the middle.
        let expected = [
            0.00102838, 0.00759876, 0.03600077, 0.10936069, 0.21300554, 0.26601172,
        ];
        for (ours, expected) in window().into_iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-8, "{ours}, not {expected}");
        }
    }

    #[test]
    fn textures_agree_with_scikit_image() {
        // structural_similarity of scikit-image 0.26.0 (gaussian_weights, sigma 1.5, population
        // covariance, data_range 255), the mean and two entries of the map.
        let (a, b) = (texture(11), texture(13));
        let ours = ssim(&a, &b).unwrap();
        assert!((ours - -0.031_753_917_295_554).abs() < 1e-10, "{ours}");
        let map = ssim_map(&a, &b).unwrap();
        assert_eq!((map.channels, map.height, map.width), (1, 3, 6));
        assert!((map.values[0] - -0.462_873_957_620_928).abs() < 1e-10);
        assert!((map.values[2 * 6 + 5] - 0.476_174_419_638_173).abs() < 1e-10);
        let mean = map.values.iter().sum::<f64>() / 18.0;
        assert!((mean - ours).abs() < 1e-12);
    }

    #[test]
    fn flat_pictures_leave_the_luminance() {
        // (2 · 100 · 120 + 6.5025) / (100² + 120² + 6.5025).
        let ours = ssim(&flat(100.0, 12, 11), &flat(120.0, 12, 11)).unwrap();
        assert!((ours - 0.983_610_924_998_369).abs() < 1e-9, "{ours}");
    }

    #[test]
    fn equal_pictures_have_one_and_channels_are_averaged() {
        let (a, b) = (texture(11), texture(13));
        assert_eq!(ssim(&a, &a).unwrap(), 1.0);
        let colour = |planes: [&Planes; 3]| {
            let values = planes.map(|planes| planes.values.clone()).concat();
            Planes::new(3, 13, 16, values).unwrap()
        };
        let ours = ssim(&colour([&a, &a, &b]), &colour([&a, &b, &b])).unwrap();
        let expected = (2.0 + ssim(&a, &b).unwrap()) / 3.0;
        assert!((ours - expected).abs() < 1e-12, "{ours}");
    }

    #[test]
    fn small_pictures_are_refused() {
        for (height, width) in [(10, 11), (11, 10)] {
            let small = flat(0.0, height, width);
            assert!(ssim(&small, &small).is_err());
            assert!(ssim_map(&small, &small).is_err());
        }
        assert!(ssim(&flat(0.0, 11, 11), &flat(0.0, 11, 12)).is_err());
        assert!(ssim(&flat(0.0, 11, 11), &flat(0.0, 11, 11)).is_ok());
    }
}
