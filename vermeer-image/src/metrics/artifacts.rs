//! Artefacts in the spectrum: checkerboards, seams of tiles and lost sharpness of generated images,
//! against real ones.
//!
//! A pattern that repeats in all images, as the checkerboard of a strided transposed convolution
//! does (Odena et al., 2016), is an isolated peak of the mean spectrum. A frequency f of at least
//! 0.2 cycles per pixel in one direction is a peak when
//!
//! - its excess over its surroundings ([`Spectrum`]) is larger than in real images by more than t
//!   deviations. The deviation is the larger of the standard error over images (Welch) and 1.4826
//!   times the median absolute deviation of that difference over all frequencies, so that a
//!   generator which differs everywhere has no peaks; t is Student's quantile at `level`, divided
//!   among the frequencies (Bonferroni);
//! - the difference of the two mean spectra lies at f at least 4 dB above its median at two and
//!   three steps to both sides, in each of the four directions, so that neither a ridge nor a bend
//!   is a peak; and the generated spectrum itself at least 1 dB.
//!
//! The least period (2, 3, … pixels) that has all peaks among its harmonics names the pattern:
//! powers of two come from strides, others from tiles.
//!
//! **Sharpness**: the difference of [`Spectrum`]'s sharpness, in decibels, with its interval. Below
//! -3 dB as a whole the images are called blurred, above 3 dB noisy.
//!
//! **Error rates** at the level 0.01, prototype in numpy; Fashion-MNIST (28×28) and CIFAR-10 in grey
//! (32×32). Two disjoint draws of 50, 100, 500 and 1,000 images (400, 400, 200 and 60 seeds each):
//! no peak in any of 2,120, the first condition alone in at most 1.7 %; never called blurred or
//! noisy. 165 against 165 photographs of faces (92×112): no peak in 100 seeds. 500 real images
//! against 500 others that were changed so; seeds of 20 with a peak:
//!
//! | change | Fashion-MNIST | CIFAR-10 |
//! |---|---|---|
//! | checkerboard of period 2, ±1 to ±8 levels, or 2 % to 10 % of the brightness | 20 | 20 |
//! | stripes of period 2, ±4 to ±8 | 20 | 20 |
//! | checkerboard of period 4, ±4 or ±8 | 20 | 20 |
//! | checkerboard of period 8, ±4; ±8 | 0; 20 | 20; 20 |
//! | stripes of period 8, ±8 | 0 | 20 |
//! | lines 7 pixels apart, 8 levels; 16 | 5; 20 | 20; 20 |
//! | every other pixel kept, zeros between, smoothed | 20 | 20 |
//! | every other pixel kept and doubled | 0 | 1 |
//! | every other pixel kept, bilinear between | 0, blurred 20 | 0, blurred 20 |
//! | blur of σ 0.5; σ 1 | 0, blurred 20 | 0, blurred 20 |
//! | noise of 8; of 32 levels | 0, noisy 0; 20 | 0, noisy 16; 20 |
//! | 20 principal components kept | 0, blurred 20 | 0, blurred 20 |
//! | Gaussian of 50 principal components | 1, blurred 20 | 0, blurred 20 |
//! | JPEG of quality 50; 20 | 0; 0 | 0; 0 |
//! | three classes left out; one class only | 0; 0 | 0; 0 |
//! | ten images repeated; one image; black images | 0 | 0 |
//!
//! One class only moves the sharpness: trousers alone are called blurred (-4 dB) in 20 of 20.

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::interval::{Interval, student_quantile};
use crate::metrics::spectral_peaks::{Pattern, Peak, is_looked_at, pattern, peaks};
use crate::metrics::spectrum::{DECIBELS, Spectrum};

/// A difference of sharpness counts from here on, in decibels.
const SHARPNESS_DB: f64 = 3.0;

/// Generated images are nearly all alike when the variance of their sharpness is below this part of
/// that of real ones.
const ALIKE: f64 = 0.01;

/// The smallest number of images of each set.
pub const LEAST_IMAGES: usize = 30;

/// Whether generated images have as much fine detail as real ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharpness {
    /// At least 3 dB less power from 1/4 cycle per pixel on.
    Blurred,
    /// Neither.
    Alike,
    /// At least 3 dB more.
    Noisy,
    /// The generated images are nearly all alike, so that their spread says nothing.
    Unsure,
}

/// The difference of two radial profiles at one ring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingDifference {
    /// Cycles per pixel.
    pub frequency: f64,
    /// Generated minus real, relative to frequencies below 1/8, in decibels.
    pub difference_db: f64,
    /// Its interval; those of all rings hold at once.
    pub interval: Interval,
}

/// What [`artifacts`] finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactReport {
    /// The number of real images.
    pub real: usize,
    /// The number of generated images.
    pub generated: usize,
    /// The number of frequencies that were looked at.
    pub frequencies: usize,
    /// How many deviations a peak has at least.
    pub threshold: f64,
    /// The peaks, the highest first; none in healthy images.
    pub peaks: Vec<Peak>,
    /// What they look like.
    pub pattern: Option<Pattern>,
    /// Generated minus real sharpness, in decibels; negative when generated images are softer.
    pub sharpness_db: f64,
    /// Its interval.
    pub sharpness_interval: Interval,
    /// What follows.
    pub sharpness: Sharpness,
    /// The difference of the radial profiles up to 1/2 cycle per pixel.
    pub rings: Vec<RingDifference>,
    /// The frequency from which on every ring lacks at least 3 dB, by its interval.
    pub blurred_from: Option<f64>,
    /// The verdict in words.
    pub sentence: String,
}

/// Peaks of the generated spectrum and its sharpness against the real one. A healthy generator has a
/// peak with a probability of at most `level`, such as 0.01.
///
/// # Errors
/// [`ImageError::Shape`] for spectra of different sizes, of fewer than 30 images, or a level outside
/// (0, 1).
pub fn artifacts(real: &Spectrum, generated: &Spectrum, level: f64) -> Result<ArtifactReport> {
    let size = (real.width(), real.height());
    if size != (generated.width(), generated.height()) {
        return Err(ImageError::Shape(format!(
            "spectra of {}x{} and {}x{} pixels cannot be compared; resize one set",
            size.0,
            size.1,
            generated.width(),
            generated.height()
        )));
    }
    let (m, n) = (real.images(), generated.images());
    if m.min(n) < LEAST_IMAGES {
        return Err(ImageError::Shape(format!(
            "artefacts are looked for in {LEAST_IMAGES} images of each set or more, here are {m} and {n}"
        )));
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(ImageError::Shape(format!(
            "a level lies between 0 and 1, not at {level}"
        )));
    }
    let degrees = m.min(n) as f64 - 1.0;
    let looked_at: Vec<usize> = (0..size.0 * size.1)
        .filter(|at| is_looked_at(real, *at))
        .collect();
    let tests = looked_at.len();
    let threshold = student_quantile(1.0 - level / tests as f64, degrees);
    let peaks = peaks(real, generated, &looked_at, threshold);
    let pattern = pattern(&peaks, size);

    let of_variances = |a: f64, b: f64| (a / m as f64 + b / n as f64).sqrt() * DECIBELS;
    let around = |centre: f64, deviation: f64, tail: f64| {
        let half = student_quantile(1.0 - 0.5 * tail, degrees) * deviation;
        Interval {
            low: centre - half,
            high: centre + half,
            confidence: 1.0 - level,
        }
    };
    let ((real_mean, real_variance), (mean, variance)) = (real.sharpness(), generated.sharpness());
    let sharpness_db = (mean - real_mean) * DECIBELS;
    let sharpness_interval = around(sharpness_db, of_variances(real_variance, variance), level);
    let sharpness = if variance < ALIKE * real_variance {
        Sharpness::Unsure
    } else if sharpness_interval.high < -SHARPNESS_DB {
        Sharpness::Blurred
    } else if sharpness_interval.low > SHARPNESS_DB {
        Sharpness::Noisy
    } else {
        Sharpness::Alike
    };
    let ((real_profile, real_variances), (profile, variances)) =
        (real.profile(), generated.profile());
    let short = size.0.min(size.1);
    let ring_count = short / 2;
    let rings: Vec<RingDifference> = (1..=ring_count)
        .map(|ring| {
            let difference_db = (profile[ring] - real_profile[ring]) * DECIBELS;
            let deviation = of_variances(real_variances[ring], variances[ring]);
            RingDifference {
                frequency: ring as f64 / short as f64,
                difference_db,
                interval: around(difference_db, deviation, level / ring_count as f64),
            }
        })
        .collect();
    let soft = rings
        .iter()
        .rev()
        .take_while(|ring| ring.interval.high < -SHARPNESS_DB)
        .last();
    let mut report = ArtifactReport {
        real: m,
        generated: n,
        frequencies: tests,
        threshold,
        peaks,
        pattern,
        sharpness_db,
        sharpness_interval,
        sharpness,
        blurred_from: soft.map(|ring| ring.frequency),
        rings,
        sentence: String::new(),
    };
    report.sentence = sentence(&report);
    Ok(report)
}

/// The verdict in words.
fn sentence(report: &ArtifactReport) -> String {
    let mut words = match (report.peaks.first(), report.pattern) {
        (Some(peak), Some(pattern)) => {
            let name = match pattern {
                Pattern::Checkerboard { period } => {
                    format!("a checkerboard or stripes of period {period} pixels")
                }
                Pattern::Tiles { period } => format!("a grid of period {period} pixels"),
                Pattern::Other => "a pattern without a common period".to_owned(),
            };
            format!(
                "The generated images share {name}: {} peaks of the spectrum, the highest {:.1} dB \
                 above its surroundings at a period of {:.2} pixels.",
                report.peaks.len(),
                peak.rise_db,
                peak.period()
            )
        }
        _ => "No repeated pattern is seen in the generated images.".to_owned(),
    };
    let (low, high) = (
        report.sharpness_interval.low,
        report.sharpness_interval.high,
    );
    words.push_str(&match report.sharpness {
        Sharpness::Blurred => format!(
            " They are blurred: fine detail has {:.1} to {:.1} dB less power than in real ones.",
            -high, -low
        ),
        Sharpness::Noisy => format!(
            " They are noisy: fine detail has {low:.1} to {high:.1} dB more power than in real ones."
        ),
        Sharpness::Unsure => {
            " The images are nearly all alike, so that nothing is said of their detail.".to_owned()
        }
        Sharpness::Alike => {
            format!(" Their fine detail is within {low:+.1} to {high:+.1} dB of that of real ones.")
        }
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Image, Pixels};
    use crate::metrics::numpy_random::NumpyRandom;

    const WIDTH: usize = 32;
    const HEIGHT: usize = 24;
    const IMAGES: usize = 40;

    /// Noise of 64 grey levels, which `change` makes something of.
    fn spectrum(
        random: &mut NumpyRandom,
        change: impl Fn(&[i32], usize, usize) -> i32,
    ) -> Spectrum {
        let images: Vec<Image> = (0..IMAGES)
            .map(|_| {
                let noise: Vec<i32> = (0..WIDTH * HEIGHT)
                    .map(|_| (random.uniform() * 64.0).floor() as i32 + 96)
                    .collect();
                let samples = (0..WIDTH * HEIGHT)
                    .map(|at| change(&noise, at % WIDTH, at / WIDTH) as u8)
                    .collect();
                Image::new(WIDTH, HEIGHT, 1, Pixels::U8(samples)).unwrap()
            })
            .collect();
        Spectrum::of(&images).unwrap()
    }

    fn level(noise: &[i32], x: usize, y: usize) -> i32 {
        noise[y * WIDTH + x]
    }

    /// The report of changed noise against other noise: numpy's RandomState(5), first the real images,
    /// then the generated ones.
    fn report(change: impl Fn(&[i32], usize, usize) -> i32) -> ArtifactReport {
        let mut random = NumpyRandom::new(5);
        let real = spectrum(&mut random, level);
        let generated = spectrum(&mut random, change);
        artifacts(&real, &generated, 0.01).unwrap()
    }

    fn close(ours: f64, expected: f64) {
        assert!((ours - expected).abs() < 1e-5, "{ours}, not {expected}");
    }

    // The numbers of these tests are those of the numpy 2.4.6 and scipy 1.17.1 prototype.

    #[test]
    fn other_noise_is_healthy() {
        let report = report(level);
        assert_eq!(report.frequencies, 327);
        close(report.threshold, 4.492_624_759_902_913);
        assert!(report.peaks.is_empty(), "{}", report.sentence);
        assert_eq!(report.pattern, None);
        close(report.sharpness_db, 0.366_841_989_199_584_6);
        close(report.sharpness_interval.low, -1.117_369_890_252_415_8);
        close(report.sharpness_interval.high, 1.851_053_868_651_585_2);
        assert_eq!(report.sharpness, Sharpness::Alike);
        assert_eq!(report.blurred_from, None);
    }

    #[test]
    fn a_checkerboard_is_one_peak() {
        let report =
            report(|noise, x, y| level(noise, x, y) + if (x + y) % 2 == 0 { 8 } else { -8 });
        assert_eq!(report.peaks.len(), 1, "{}", report.sentence);
        let peak = report.peaks[0];
        assert_eq!((peak.x, peak.y, peak.period()), (0.5, 0.5, 2.0));
        close(peak.rise_db, 22.278_244_385_280_008);
        close(peak.z, 15.717_516_935_009_034);
        assert_eq!(report.pattern, Some(Pattern::Checkerboard { period: 2 }));
    }

    #[test]
    fn stripes_and_tiles_are_named() {
        let stripes = report(|noise, x, y| level(noise, x, y) + if x % 4 < 2 { 16 } else { -16 });
        assert_eq!(stripes.peaks.len(), 1, "{}", stripes.sentence);
        assert_eq!((stripes.peaks[0].x, stripes.peaks[0].y), (0.25, 0.0));
        close(stripes.peaks[0].rise_db, 22.601_989_983_650_284);
        assert_eq!(stripes.pattern, Some(Pattern::Checkerboard { period: 4 }));
        let tiles = report(|noise, x, y| level(noise, x, y) + if x % 5 == 0 { 40 } else { 0 });
        let found: Vec<(f64, f64)> = tiles.peaks.iter().map(|peak| (peak.x, peak.y)).collect();
        assert_eq!(found, [(0.406_25, 0.0), (0.218_75, 0.0)]);
        close(tiles.peaks[0].rise_db, 20.007_502_040_295_606);
        assert_eq!(tiles.pattern, Some(Pattern::Tiles { period: 5 }));
    }

    #[test]
    fn a_blur_is_told_with_its_frequency() {
        // A filter 1 2 1 along the width.
        let report = report(|noise, x, y| {
            let (left, right) = ((x + WIDTH - 1) % WIDTH, (x + 1) % WIDTH);
            (level(noise, left, y) + 2 * level(noise, x, y) + level(noise, right, y)) / 4
        });
        assert!(report.peaks.is_empty(), "{}", report.sentence);
        assert_eq!(report.sharpness, Sharpness::Blurred);
        close(report.sharpness_db, -10.833_067_693_372_453);
        close(report.sharpness_interval.high, -9.351_333_205_815_026);
        assert_eq!(report.rings.len(), 12);
        let last = report.rings[11];
        close(last.difference_db, -14.269_578_912_527_605);
        close(last.interval.low, -16.285_426_870_075_653);
        close(last.interval.high, -12.253_730_954_979_554);
        assert_eq!(report.blurred_from, Some(0.375));
    }

    #[test]
    fn one_image_again_and_again_has_no_peaks() {
        let mut random = NumpyRandom::new(5);
        let real = spectrum(&mut random, level);
        let mut same = NumpyRandom::new(6);
        let noise: Vec<u8> = (0..WIDTH * HEIGHT)
            .map(|_| (same.uniform() * 64.0) as u8 + 96)
            .collect();
        let image = Image::new(WIDTH, HEIGHT, 1, Pixels::U8(noise)).unwrap();
        let generated = Spectrum::of(std::iter::repeat_n(&image, IMAGES)).unwrap();
        let report = artifacts(&real, &generated, 0.01).unwrap();
        assert!(report.peaks.is_empty(), "{}", report.sentence);
        assert_eq!(report.sharpness, Sharpness::Unsure);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let real = spectrum(&mut NumpyRandom::new(1), level);
        let blank = |width, n| {
            let image = Image::new(width, HEIGHT, 1, Pixels::U8(vec![0; width * HEIGHT])).unwrap();
            Spectrum::of(std::iter::repeat_n(&image, n)).unwrap()
        };
        assert!(artifacts(&real, &blank(WIDTH, 29), 0.01).is_err());
        assert!(artifacts(&real, &blank(WIDTH, 30), 0.01).is_ok());
        assert!(artifacts(&real, &blank(WIDTH + 1, 30), 0.01).is_err());
        assert!(artifacts(&real, &real, 0.0).is_err());
        let black = blank(WIDTH, 30);
        assert!(artifacts(&black, &black, 0.01).unwrap().peaks.is_empty());
    }
}
