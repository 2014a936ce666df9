//! Where two pictures differ, as a picture.
//!
//! The colours run from black (equal) over violet, red and orange to a pale yellow (at the
//! stated full scale and beyond): matplotlib's `inferno`, whose lightness rises evenly, so that
//! the map also reads in grey.

use crate::error::Result;
use crate::image::{Image, Pixels};
use crate::metrics::planes::{Planes, check_pair};
use crate::metrics::ssim::{REACH, ssim_map};

/// The smallest full scale, in grey levels: rounding noise stays dark.
const SMALLEST_SCALE: f64 = 8.0;

/// What stands where no window fits: a grey that the colours do not contain.
const NO_VALUE: [u8; 3] = [128; 3];

/// The colours at 0, 1/8, … 1 of the scale.
const COLOURS: [[u8; 3]; 9] = [
    [0, 0, 4],
    [33, 12, 74],
    [87, 16, 109],
    [137, 34, 106],
    [187, 55, 85],
    [227, 89, 50],
    [249, 141, 10],
    [249, 202, 50],
    [252, 255, 164],
];

/// A map of the differences of two pictures and the numbers that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The map: an 8-bit RGB picture of the size of the two.
    pub picture: Image,
    /// The difference that has the last colour; larger ones have it too.
    pub full_scale: f64,
    /// The largest difference of a pixel.
    pub largest: f64,
    /// The mean difference of the pixels.
    pub mean: f64,
}

/// The absolute differences of two pictures, averaged over channels, in levels of 0..=255. The
/// full scale is the largest of them, at least 8.
///
/// # Errors
/// [`ImageError::Shape`](crate::ImageError::Shape) when the pictures differ in size or channels,
/// or cannot be read as [`Planes`].
pub fn difference(a: &Image, b: &Image) -> Result<Difference> {
    let (a, b) = (Planes::rgb(a)?, Planes::rgb(b)?);
    check_pair(&a, &b)?;
    let apart: Vec<f64> = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(a, b)| (a - b).abs())
        .collect();
    let map = over_channels(&apart, a.channels);
    let largest = largest(&map);
    let full_scale = largest.max(SMALLEST_SCALE);
    let samples = map.iter().flat_map(|&d| colour(d / full_scale)).collect();
    Ok(Difference {
        picture: Image::new(a.width, a.height, 3, Pixels::U8(samples))?,
        full_scale,
        largest,
        mean: mean(&map),
    })
}

/// Where the structure of two pictures differs: 1 − SSIM, averaged over channels, on a full scale
/// of 1 (nothing in common). The five pixels along each side, around which no window fits, are
/// grey and belong to neither `largest` nor `mean`.
///
/// # Errors
/// [`ImageError::Shape`](crate::ImageError::Shape) when the pictures differ in size or channels,
/// cannot be read as [`Planes`], or have a side below 11.
pub fn ssim_picture(a: &Image, b: &Image) -> Result<Difference> {
    let (a, b) = (Planes::rgb(a)?, Planes::rgb(b)?);
    let similarity = ssim_map(&a, &b)?;
    let apart: Vec<f64> = similarity.values.iter().map(|value| 1.0 - value).collect();
    let map = over_channels(&apart, similarity.channels);
    let mut samples = NO_VALUE.repeat(a.width * a.height);
    for (y, row) in map.chunks_exact(similarity.width).enumerate() {
        let start = 3 * ((y + REACH) * a.width + REACH);
        let pixels = samples[start..start + 3 * row.len()].chunks_exact_mut(3);
        for (pixel, &apart) in pixels.zip(row) {
            pixel.copy_from_slice(&colour(apart));
        }
    }
    Ok(Difference {
        picture: Image::new(a.width, a.height, 3, Pixels::U8(samples))?,
        full_scale: 1.0,
        largest: largest(&map),
        mean: mean(&map),
    })
}

/// The mean over channels of values `[channels, pixels]`.
fn over_channels(values: &[f64], channels: usize) -> Vec<f64> {
    let area = values.len() / channels;
    let mut sums = vec![0.0; area];
    for plane in values.chunks_exact(area) {
        for (sum, value) in sums.iter_mut().zip(plane) {
            *sum += value / channels as f64;
        }
    }
    sums
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The colour of a share of the full scale; shares outside 0..=1 have that of the nearer end.
fn colour(share: f64) -> [u8; 3] {
    let steps = COLOURS.len() - 1;
    let place = share.clamp(0.0, 1.0) * steps as f64;
    let below = (place as usize).min(steps - 1);
    let weight = place - below as f64;
    let (from, to) = (COLOURS[below], COLOURS[below + 1]);
    [0, 1, 2].map(|channel| {
        let (from, to) = (f64::from(from[channel]), f64::from(to[channel]));
        (from + (to - from) * weight).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(width: usize, channels: usize, samples: Vec<u8>) -> Image {
        let height = samples.len() / width / channels;
        Image::new(width, height, channels, Pixels::U8(samples)).unwrap()
    }

    fn samples(image: &Image) -> &[u8] {
        match image.pixels() {
            Pixels::U8(samples) => samples,
            other => panic!("not bytes: {other:?}"),
        }
    }

    #[test]
    fn differences_by_hand() {
        // Mean absolute differences of the two pixels: (30 + 0 + 0) / 3 and (20 + 40 + 0) / 3.
        let a = bytes(2, 3, vec![100, 50, 0, 10, 200, 7]);
        let b = bytes(2, 3, vec![70, 50, 0, 30, 160, 7]);
        let map = difference(&a, &b).unwrap();
        assert!((map.largest - 20.0).abs() < 1e-12);
        assert!((map.full_scale - 20.0).abs() < 1e-12);
        assert!((map.mean - 15.0).abs() < 1e-12);
        assert_eq!((map.picture.width(), map.picture.height()), (2, 1));
        // Half of the scale, and the whole.
        assert_eq!(samples(&map.picture), [187, 55, 85, 252, 255, 164]);
    }

    #[test]
    fn small_differences_stay_dark() {
        let (a, b) = (bytes(2, 1, vec![5, 9]), bytes(2, 1, vec![5, 11]));
        let map = difference(&a, &b).unwrap();
        assert_eq!((map.largest, map.full_scale, map.mean), (2.0, 8.0, 1.0));
        // A quarter of the scale.
        assert_eq!(samples(&map.picture), [0, 0, 4, 87, 16, 109]);
        assert!(difference(&a, &bytes(1, 1, vec![5, 9])).is_err());
    }

    #[test]
    fn lightness_rises_evenly() {
        // Luma of BT.601; an even rise would be 0.97 a level.
        let luma = |level: u8| {
            let [red, green, blue] = colour(f64::from(level) / 255.0).map(f64::from);
            0.299 * red + 0.587 * green + 0.114 * blue
        };
        for level in 1..=255 {
            let rise = luma(level) - luma(level - 1);
            assert!((0.1..2.0).contains(&rise), "{rise} at {level}");
        }
        assert_eq!(colour(f64::INFINITY), COLOURS[8]);
        assert_eq!(colour(-1.0), COLOURS[0]);
    }

    #[test]
    fn similarity_has_a_grey_border() {
        // A window in the middle only; SSIM of flat 100 and 120 is 0.983610925 (by hand in
        // `ssim`), so one less it is 0.016389, an eighth of the first step of colour.
        let (a, b) = (bytes(11, 1, vec![100; 121]), bytes(11, 1, vec![120; 121]));
        let map = ssim_picture(&a, &b).unwrap();
        assert!((map.mean - 0.016_389_075).abs() < 1e-8, "{}", map.mean);
        assert_eq!((map.largest, map.full_scale), (map.mean, 1.0));
        let pixels: Vec<&[u8]> = samples(&map.picture).chunks_exact(3).collect();
        assert_eq!(pixels[60], [4, 2, 13]);
        let grey = pixels.iter().filter(|pixel| **pixel == [128; 3]).count();
        assert_eq!(grey, 120);
        assert!(ssim_picture(&bytes(10, 1, vec![0; 110]), &bytes(10, 1, vec![0; 110])).is_err());
    }
}
