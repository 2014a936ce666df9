//! Isolated peaks of a generated spectrum that the real one does not have.
//!
//! The conditions are those of the [module on artefacts](crate::metrics::artifacts); this file holds
//! their arithmetic.

use serde::{Deserialize, Serialize};

use crate::metrics::spectrum::{DECIBELS, Spectrum};

/// Frequencies below this in both directions, in cycles per pixel, are not looked at: there the
/// content of the images has peaks of its own.
const LOWEST: f64 = 0.2;

/// A peak rises so many decibels above its surroundings, against real images.
const RISE_DB: f64 = 4.0;

/// A peak rises so many decibels above its surroundings in the generated spectrum itself.
const OWN_RISE_DB: f64 = 1.0;

/// The median absolute deviation of normal numbers times this is their standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// A peak of the generated spectrum that the real one does not have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Cycles per pixel along the width, in (-½, ½].
    pub x: f64,
    /// Cycles per pixel along the height, in \[0, ½].
    pub y: f64,
    /// How far it rises above its surroundings, against real images, in decibels.
    pub rise_db: f64,
    /// The difference of its excess in deviations.
    pub z: f64,
}

impl Peak {
    /// The shorter one of its periods along the width and the height, in pixels.
    pub fn period(&self) -> f64 {
        1.0 / self.x.abs().max(self.y.abs())
    }
}

/// What a set of peaks looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Harmonics of a period that is a power of two, as strided layers leave.
    Checkerboard {
        /// In pixels.
        period: usize,
    },
    /// Harmonics of another period, as seams of tiles leave.
    Tiles {
        /// In pixels.
        period: usize,
    },
    /// No common period.
    Other,
}

/// Whether a frequency is high enough along the width or the height; of a frequency and its negative,
/// which are the same, the first one.
pub(crate) fn is_looked_at(spectrum: &Spectrum, at: usize) -> bool {
    let (x, y, _) = spectrum.frequency(at);
    x.abs().max(y.abs()) >= LOWEST && at <= negative(spectrum, at)
}

/// The place of the negative frequency.
fn negative(spectrum: &Spectrum, at: usize) -> usize {
    let (width, height) = (spectrum.width(), spectrum.height());
    let (u, v) = (at % width, at / width);
    (height - v) % height * width + (width - u) % width
}

/// The peaks among the frequencies that are looked at, the highest first.
pub(crate) fn peaks(
    real: &Spectrum,
    generated: &Spectrum,
    looked_at: &[usize],
    threshold: f64,
) -> Vec<Peak> {
    let ((real_excess, real_variances), (excess, variances)) = (real.excess(), generated.excess());
    let (m, n) = (real.images() as f64, generated.images() as f64);
    let apart = |at: usize| excess[at] - real_excess[at];
    let all: Vec<f64> = looked_at.iter().map(|at| apart(*at)).collect();
    let centre = median(all.clone());
    let spread = MAD_TO_DEVIATION * median(all.iter().map(|x| (x - centre).abs()).collect());
    let difference: Vec<f64> = generated
        .log_power()
        .iter()
        .zip(real.log_power())
        .map(|(ours, theirs)| ours - theirs)
        .collect();
    // The rise of the frequencies that fulfil every condition.
    let mut rises = vec![f64::NEG_INFINITY; difference.len()];
    let mut deviations = vec![0.0; difference.len()];
    for &at in looked_at {
        let error = (real_variances[at] / m + variances[at] / n).sqrt();
        let deviation = error.max(spread);
        if deviation > 0.0 {
            deviations[at] = apart(at) / deviation;
        }
        let rise = rise_db(generated, &difference, at);
        let own = rise_db(generated, generated.log_power(), at);
        if deviations[at] > threshold && rise >= RISE_DB && own >= OWN_RISE_DB {
            rises[at] = rise;
            rises[negative(generated, at)] = rise;
        }
    }
    let is_highest = |at: usize| {
        let near = [
            (1, 0),
            (1, 1),
            (0, 1),
            (-1, 1),
            (-1, 0),
            (-1, -1),
            (0, -1),
            (1, -1),
        ];
        near.iter()
            .all(|(dx, dy)| rises[generated.step(at, *dx, *dy)] <= rises[at])
    };
    let mut peaks: Vec<Peak> = looked_at
        .iter()
        .copied()
        .filter(|at| rises[*at].is_finite() && is_highest(*at))
        .map(|at| {
            let (x, y, _) = generated.frequency(at);
            let sign = if y < 0.0 { -1.0 } else { 1.0 };
            Peak {
                x: sign * x,
                y: sign * y,
                rise_db: rises[at],
                z: deviations[at],
            }
        })
        .collect();
    peaks.sort_by(|a, b| b.rise_db.total_cmp(&a.rise_db));
    peaks
}

/// How far the values rise, in decibels, above their median at two and three steps to both sides:
/// the least of four directions.
fn rise_db(spectrum: &Spectrum, values: &[f64], at: usize) -> f64 {
    [(1, 0), (0, 1), (1, 1), (1, -1)]
        .iter()
        .map(|(dx, dy)| {
            let around = [-3isize, -2, 2, 3]
                .iter()
                .map(|steps| values[spectrum.step(at, steps * dx, steps * dy)])
                .collect();
            (values[at] - median(around)) * DECIBELS
        })
        .fold(f64::INFINITY, f64::min)
}

/// The middle value, or the mean of the two middle ones; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => 0.5 * (values[middle - 1] + values[middle]),
    }
}

/// The least period that has all peaks among its harmonics, to three quarters of a step of the
/// spectrum; powers of two come first.
pub(crate) fn pattern(peaks: &[Peak], (width, height): (usize, usize)) -> Option<Pattern> {
    if peaks.is_empty() {
        return None;
    }
    let is_harmonic = |cycles: f64, period: usize, size: usize| {
        let turns = cycles * period as f64;
        (turns - turns.round()).abs() / period as f64 <= 0.75 / size as f64
    };
    let fits = |period: &usize| {
        peaks
            .iter()
            .all(|peak| is_harmonic(peak.x, *period, width) && is_harmonic(peak.y, *period, height))
    };
    let longest = width.min(height) / 3;
    if let Some(period) = (2..=longest).filter(|p| p.is_power_of_two()).find(fits) {
        return Some(Pattern::Checkerboard { period });
    }
    Some(match (2..=longest).find(fits) {
        Some(period) => Pattern::Tiles { period },
        None => Pattern::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn a_frequency_and_its_negative_are_one() {
        let spectrum = Spectrum::new(16, 20).unwrap();
        for at in 0..16 * 20 {
            let (x, y, length) = spectrum.frequency(at);
            let other = negative(&spectrum, at);
            assert_eq!(negative(&spectrum, other), at);
            assert!((spectrum.frequency(other).2 - length).abs() < 1e-15);
            let both = [at, other].map(|at| is_looked_at(&spectrum, at));
            assert!(both.contains(&(x.abs().max(y.abs()) >= LOWEST)));
            assert!(at == other || both != [true; 2]);
        }
    }

    #[test]
    fn a_rise_is_above_every_direction() {
        // One unit of the logarithm is 4.343 dB; a ridge along the width does not rise along it.
        let spectrum = Spectrum::new(16, 16).unwrap();
        let mut values = vec![0.0; 256];
        values[5 * 16 + 6] = 1.0;
        assert!((rise_db(&spectrum, &values, 5 * 16 + 6) - 4.342_944_819).abs() < 1e-9);
        for x in 0..16 {
            values[5 * 16 + x] = 1.0;
        }
        assert_eq!(rise_db(&spectrum, &values, 5 * 16 + 6), 0.0);
    }

    #[test]
    fn the_least_period_names_the_pattern() {
        let of = |frequencies: &[(f64, f64)]| {
            let peaks: Vec<Peak> = frequencies
                .iter()
                .map(|&(x, y)| Peak {
                    x,
                    y,
                    rise_db: 10.0,
                    z: 10.0,
                })
                .collect();
            pattern(&peaks, (64, 64))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[(0.5, 0.0), (0.5, 0.5)]),
            Some(Pattern::Checkerboard { period: 2 })
        );
        assert_eq!(
            of(&[(0.25, 0.0), (0.5, 0.5)]),
            Some(Pattern::Checkerboard { period: 4 })
        );
        assert_eq!(
            of(&[(0.375, -0.25)]),
            Some(Pattern::Checkerboard { period: 8 })
        );
        assert_eq!(
            of(&[(2.0 / 7.0, 0.0), (3.0 / 7.0, 0.0)]),
            Some(Pattern::Tiles { period: 7 })
        );
        assert_eq!(
            of(&[(0.5, 0.0), (0.29, 0.0), (0.41, 0.22)]),
            Some(Pattern::Other)
        );
    }
}
