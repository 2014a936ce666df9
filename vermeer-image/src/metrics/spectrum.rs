//! The power spectrum of a set of images: how much of each spatial frequency there is.
//!
//! A picture is made grey (luma of BT.601, 0..=255), its mean under the window w is subtracted, and
//! it is multiplied by w, a Hann window in both directions, w(x) = ½ - ½ cos(2π (x + ½)/n). With F
//! its discrete Fourier transform the power is P = |F|² / Σ w²: white noise of variance σ² has σ² at
//! each frequency. What is averaged over images is L = ln(P + 1/12), since 1/12 is the power of
//! rounding to whole grey levels, below which nothing is meant. 4.34 L is in decibels.
//!
//! Three summaries of each image are averaged beside L, so that their spread over images is known:
//! the excess of each frequency over its surroundings, L minus the mean of the 40 frequencies that
//! are two or three steps away; the radial profile, the mean of L in rings one step wide; and the
//! sharpness, the mean of L over frequencies from 1/4 cycle per pixel on. Profile and sharpness are
//! relative to the mean over frequencies below 1/8, so that contrast alone does not move them.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::error::{ImageError, Result};
use crate::image::Image;
use crate::metrics::planes::Planes;

/// Weights of red, green and blue in the luma of ITU-R BT.601.
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// The variance of rounding to whole grey levels.
const ROUNDING: f64 = 1.0 / 12.0;

/// Frequencies below this, in cycles per pixel, are what profiles are relative to.
const LOW: f64 = 0.125;

/// Frequencies from this on, in cycles per pixel, make up the sharpness.
const HIGH: f64 = 0.25;

/// The shortest side that has rings of frequencies on both sides of these bounds.
pub const SMALLEST_SIDE: usize = 16;

/// The decibels of one unit of the logarithm of a power.
pub(crate) const DECIBELS: f64 = 10.0 / std::f64::consts::LN_10;

/// Means and variances over images, of `L` and what follows from it.
///
/// Frequency `(u, v)` is at `v * width + u`: `u` cycles along the width and `v` along the height,
/// those above one half of the size standing for the negative ones.
#[derive(Clone, Debug)]
pub struct Spectrum {
    width: usize,
    height: usize,
    transform: Transform,
    rings: Vec<usize>,
    log_power: Running,
    excess: Running,
    profile: Running,
    sharpness: Running,
}

impl Spectrum {
    /// No image yet, of a set in which all have this size.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for a side below 16 pixels.
    pub fn new(width: usize, height: usize) -> Result<Self> {
        if width.min(height) < SMALLEST_SIDE {
            return Err(ImageError::Shape(format!(
                "spectra are compared of images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, these \
                 are {width}x{height}"
            )));
        }
        let short = width.min(height) as f64;
        let rings: Vec<usize> = (0..width * height)
            .map(|at| (frequency(at, width, height).2 * short).round_ties_even() as usize)
            .collect();
        let many = rings.iter().max().map_or(0, |last| last + 1);
        let points = width * height;
        Ok(Self {
            width,
            height,
            transform: Transform::new(width, height),
            rings,
            log_power: Running::new(points),
            excess: Running::new(points),
            profile: Running::new(many),
            sharpness: Running::new(1),
        })
    }

    /// The spectrum of these images, which have one size.
    ///
    /// # Errors
    /// [`ImageError::Shape`] without images; those of [`Spectrum::new`] and [`Spectrum::add`].
    pub fn of<'a>(images: impl IntoIterator<Item = &'a Image>) -> Result<Self> {
        let mut images = images.into_iter().peekable();
        let Some(first) = images.peek() else {
            return Err(ImageError::Shape(
                "a spectrum needs at least one image".to_owned(),
            ));
        };
        let mut out = Self::new(first.width(), first.height())?;
        for image in images {
            out.add(image)?;
        }
        Ok(out)
    }

    /// Takes one more image into account.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for an image of another size, with transparent pixels, or with values
    /// that are not finite.
    pub fn add(&mut self, image: &Image) -> Result<()> {
        if (image.width(), image.height()) != (self.width, self.height) {
            return Err(ImageError::Shape(format!(
                "an image of {}x{} pixels among those of {}x{}; spectra need one size",
                image.width(),
                image.height(),
                self.width,
                self.height
            )));
        }
        let log_power = self.transform.log_power(&grey(image)?);
        self.excess.add(&self.surroundings(&log_power));
        let (profile, sharpness) = self.summary(&log_power);
        self.profile.add(&profile);
        self.sharpness.add(&[sharpness]);
        self.log_power.add(&log_power);
        Ok(())
    }

    /// The width of the images.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height of the images.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of images.
    pub fn images(&self) -> usize {
        self.log_power.count
    }

    /// The mean over images of ln(P + 1/12) at each frequency.
    pub fn log_power(&self) -> &[f64] {
        &self.log_power.mean
    }

    /// The frequency at this place: cycles per pixel along the width and the height, both in
    /// (-½, ½], and their length.
    pub fn frequency(&self, at: usize) -> (f64, f64, f64) {
        frequency(at, self.width, self.height)
    }

    /// The mean excess of each frequency over its surroundings, and its variance over images.
    pub(crate) fn excess(&self) -> (&[f64], Vec<f64>) {
        (&self.excess.mean, self.excess.variance())
    }

    /// The mean radial profile, ring r at r / min(width, height) cycles per pixel, and its variance.
    pub(crate) fn profile(&self) -> (&[f64], Vec<f64>) {
        (&self.profile.mean, self.profile.variance())
    }

    /// The mean sharpness and its variance over images.
    pub(crate) fn sharpness(&self) -> (f64, f64) {
        (self.sharpness.mean[0], self.sharpness.variance()[0])
    }

    /// The place `dx` and `dy` steps from `at`, around the edges.
    pub(crate) fn step(&self, at: usize, dx: isize, dy: isize) -> usize {
        let wrap = |value: usize, step: isize, size: usize| {
            (value as isize + step).rem_euclid(size as isize) as usize
        };
        wrap(at / self.width, dy, self.height) * self.width + wrap(at % self.width, dx, self.width)
    }

    /// The values minus the mean of those two or three steps away.
    fn surroundings(&self, values: &[f64]) -> Vec<f64> {
        let (wide, near) = (self.box_sums(values, 3), self.box_sums(values, 1));
        let around = wide.iter().zip(&near).map(|(wide, near)| wide - near);
        values
            .iter()
            .zip(around)
            .map(|(value, around)| value - around / 40.0)
            .collect()
    }

    /// For each place the sum of the values at most `reach` steps away along the width and the
    /// height, around the edges.
    fn box_sums(&self, values: &[f64], reach: usize) -> Vec<f64> {
        let (width, height) = (self.width, self.height);
        let mut across: Vec<f64> = Vec::with_capacity(values.len());
        for row in values.chunks_exact(width) {
            let around: Vec<f64> = (0..width + 2 * reach)
                .map(|x| row[(x + width - reach) % width])
                .collect();
            across.extend(
                around
                    .windows(2 * reach + 1)
                    .map(|part| part.iter().sum::<f64>()),
            );
        }
        let mut sums = vec![0.0; values.len()];
        for (y, sums) in sums.chunks_exact_mut(width).enumerate() {
            for step in 0..=2 * reach {
                let from = (y + height + step - reach) % height * width;
                for (sum, value) in sums.iter_mut().zip(&across[from..from + width]) {
                    *sum += value;
                }
            }
        }
        sums
    }

    /// The radial profile and the sharpness of one image.
    fn summary(&self, log_power: &[f64]) -> (Vec<f64>, f64) {
        let mut rings = vec![(0.0, 0.0); self.profile.mean.len()];
        let (mut low, mut high) = ((0.0, 0.0), (0.0, 0.0));
        for (at, (&value, &ring)) in log_power.iter().zip(&self.rings).enumerate() {
            let length = self.frequency(at).2;
            rings[ring] = plus(rings[ring], value);
            if length > 0.0 && length < LOW {
                low = plus(low, value);
            }
            if length >= HIGH {
                high = plus(high, value);
            }
        }
        let base = low.0 / low.1;
        let profile = rings
            .iter()
            .map(|(sum, count)| {
                if *count > 0.0 {
                    sum / count - base
                } else {
                    0.0
                }
            })
            .collect();
        (profile, high.0 / high.1 - base)
    }
}

/// A sum and a count with one value more.
fn plus((sum, count): (f64, f64), value: f64) -> (f64, f64) {
    (sum + value, count + 1.0)
}

/// The frequency at a place, and its length, in cycles per pixel.
fn frequency(at: usize, width: usize, height: usize) -> (f64, f64, f64) {
    let signed = |k: usize, n: usize| {
        let cycles = k as f64 / n as f64;
        if 2 * k > n { cycles - 1.0 } else { cycles }
    };
    let (x, y) = (signed(at % width, width), signed(at / width, height));
    (x, y, x.hypot(y))
}

/// The grey levels of an image, 0..=255, not rounded.
fn grey(image: &Image) -> Result<Vec<f64>> {
    let planes = Planes::rgb(image)?;
    if planes.channels == 1 {
        return Ok(planes.values);
    }
    let mut out = vec![0.0; planes.width * planes.height];
    for (plane, weight) in planes.values.chunks_exact(out.len()).zip(LUMA) {
        for (grey, value) in out.iter_mut().zip(plane) {
            *grey += weight * value;
        }
    }
    Ok(out)
}

/// The windowed transform of images of one size.
#[derive(Clone)]
struct Transform {
    width: usize,
    height: usize,
    window: Vec<f64>,
    rows: Arc<dyn Fft<f64>>,
    columns: Arc<dyn Fft<f64>>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({}x{})", self.width, self.height)
    }
}

impl Transform {
    fn new(width: usize, height: usize) -> Self {
        let hann =
            |at: usize, n: usize| 0.5 - 0.5 * (2.0 * PI * (at as f64 + 0.5) / n as f64).cos();
        let mut planner = FftPlanner::new();
        Self {
            width,
            height,
            window: (0..width * height)
                .map(|at| hann(at % width, width) * hann(at / width, height))
                .collect(),
            rows: planner.plan_fft_forward(width),
            columns: planner.plan_fft_forward(height),
        }
    }

    /// ln(P + 1/12) at each frequency.
    fn log_power(&self, grey: &[f64]) -> Vec<f64> {
        let weight: f64 = self.window.iter().sum();
        let squares: f64 = self.window.iter().map(|w| w * w).sum();
        let sum: f64 = grey.iter().zip(&self.window).map(|(x, w)| x * w).sum();
        let mean = sum / weight;
        let mut rows: Vec<Complex<f64>> = grey
            .iter()
            .zip(&self.window)
            .map(|(x, w)| Complex::new((x - mean) * w, 0.0))
            .collect();
        self.rows.process(&mut rows);
        let mut columns = transposed(&rows, self.width);
        self.columns.process(&mut columns);
        transposed(&columns, self.height)
            .iter()
            .map(|value| (value.norm_sqr() / squares + ROUNDING).ln())
            .collect()
    }
}

/// Rows of `width` values as columns.
fn transposed(values: &[Complex<f64>], width: usize) -> Vec<Complex<f64>> {
    (0..width)
        .flat_map(|column| values.iter().skip(column).step_by(width).copied())
        .collect()
}

/// Mean and variance of each of several values, one image at a time (Welford, 1962).
#[derive(Clone, Debug)]
struct Running {
    count: usize,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Running {
    fn new(values: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; values],
            squares: vec![0.0; values],
        }
    }

    fn add(&mut self, values: &[f64]) {
        self.count += 1;
        let n = self.count as f64;
        for ((mean, square), value) in self.mean.iter_mut().zip(&mut self.squares).zip(values) {
            let before = value - *mean;
            *mean += before / n;
            *square += before * (value - *mean);
        }
    }

    /// The unbiased variances; 0 for fewer than two images.
    fn variance(&self) -> Vec<f64> {
        let degrees = (self.count.max(2) - 1) as f64;
        self.squares.iter().map(|square| square / degrees).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    fn image(
        width: usize,
        height: usize,
        channels: usize,
        value: fn(usize, usize) -> [usize; 3],
    ) -> Image {
        let samples = (0..width * height)
            .flat_map(|at| value(at % width, at / width).into_iter().take(channels))
            .map(|v| (v % 256) as u8)
            .collect();
        Image::new(width, height, channels, Pixels::U8(samples)).unwrap()
    }

    fn close(ours: f64, expected: f64) {
        assert!((ours - expected).abs() < 1e-9, "{ours}, not {expected}");
    }

    #[test]
    fn spectra_are_those_of_numpy() {
        // numpy 2.4.6: fft.fft2 of the windowed image, means and unbiased variances over two images.
        let grey = image(16, 18, 1, |x, y| [x * x * 7 + y * 13 + x * y * 3, 0, 0]);
        let colour = image(16, 18, 3, |x, y| {
            [x * 5 + y * 11, x * y * 7, x * x + y * y * 3]
        });
        let spectrum = Spectrum::of([&grey, &colour]).unwrap();
        assert_eq!(spectrum.images(), 2);
        let (excess, variances) = spectrum.excess();
        for (at, log_power, mean, variance) in [
            (
                0,
                -2.484_906_649_788_000_4,
                -8.557_862_247_191_1,
                0.080_398_649_711_822_5,
            ),
            (
                1,
                5.536_686_314_299_795,
                -0.539_059_422_026_615_4,
                4.973_124_501_958_008,
            ),
            (
                8,
                2.444_922_311_642_168_6,
                -5.357_326_756_512_107,
                5.900_676_731_338_946_5,
            ),
            (
                152,
                4.685_837_041_910_46,
                -2.609_697_533_313_078,
                3.582_729_628_030_879_4,
            ),
            (
                93,
                5.724_712_520_977_821,
                -0.833_847_052_025_187_7,
                3.484_110_670_873_461_5,
            ),
            (
                287,
                6.182_416_875_051_865,
                -0.160_376_455_439_631_2,
                0.054_456_563_084_046_62,
            ),
        ] {
            close(spectrum.log_power()[at], log_power);
            close(excess[at], mean);
            close(variances[at], variance);
        }
        let (profile, variances) = spectrum.profile();
        assert_eq!(profile.len(), 12);
        for (ring, expected) in [
            (0, -7.701_391_953_809_377),
            (1, 0.873_282_192_015_135_9),
            (5, 2.266_963_935_116_116),
            (11, 1.234_671_847_217_492_2),
        ] {
            close(profile[ring], expected);
        }
        close(variances[5], 8.737_766_743_990_97);
        let (mean, variance) = spectrum.sharpness();
        close(mean, 1.889_279_669_111_033_8);
        close(variance, 7.678_484_909_488_344);
    }

    #[test]
    fn a_wave_lies_at_its_frequency() {
        // A cosine of amplitude 100 with four cycles along 32 pixels: under Hann's window its power is
        // (100/2 Σw)² / Σw², with Σw = n/2 and Σw² = 3n/8 in each direction.
        let samples = (0..32 * 32)
            .map(|at| (127.0 + 100.0 * (2.0 * PI * (at % 32) as f64 / 8.0).cos()) as f32 / 255.0)
            .collect();
        let wave = Image::new(32, 32, 1, Pixels::F32(samples)).unwrap();
        let spectrum = Spectrum::of([&wave]).unwrap();
        let power = (50.0f64 * 16.0 * 16.0).powi(2) / (12.0 * 12.0);
        close(spectrum.frequency(4).0, 0.125);
        close(spectrum.frequency(28).0, -0.125);
        for at in [4, 28] {
            assert!((spectrum.log_power()[at] - power.ln()).abs() < 1e-3);
        }
        assert_eq!(spectrum.step(0, -1, -1), 32 * 32 - 1);
    }

    #[test]
    fn what_has_no_spectrum_is_refused() {
        let (small, large) = (
            image(15, 20, 1, |_, _| [0; 3]),
            image(16, 20, 1, |_, _| [0; 3]),
        );
        assert!(Spectrum::of([&small]).is_err());
        assert!(Spectrum::of([&large, &small]).is_err());
        assert!(Spectrum::of(std::iter::empty::<&Image>()).is_err());
        let blank = Spectrum::of([&large, &large]).unwrap();
        for value in blank.log_power() {
            close(*value, ROUNDING.ln());
        }
        close(blank.sharpness().0, 0.0);
    }
}
