//! The health of a training run: measured signs, stated thresholds, one verdict.

use serde::Serialize;
use vermeer_image::Image;
use vermeer_image::metrics::{LEAST_IMAGES, SMALLEST_SIDE, Spectrum, artifacts};

use crate::Result;
use crate::data::HostBatch;

pub use crate::run::Verdict;

/// The level at which samples are said to share a pattern.
const PATTERN_LEVEL: f64 = 0.01;

/// A pattern that repeats in all samples and not in real images, such as a checkerboard, in words;
/// `None` where there is none, and where images are too few or too small to tell.
///
/// # Errors
/// Those of [`Spectrum::of`].
pub fn shared_pattern(real: &HostBatch, samples: &[Image]) -> Result<Option<String>> {
    let [channels, height, width] = real.shape;
    let enough = samples.len().min(real.batch) >= LEAST_IMAGES;
    if !enough || height.min(width) < SMALLEST_SIDE || !matches!(channels, 1 | 3) {
        return Ok(None);
    }
    let pictures = real.images.chunks_exact(channels * height * width);
    let pictures: vermeer_image::Result<Vec<Image>> = pictures
        .map(|values| Image::from_unit_chw(values, channels, height, width))
        .collect();
    let (real, ours) = (Spectrum::of(&pictures?)?, Spectrum::of(samples)?);
    let report = artifacts(&real, &ours, PATTERN_LEVEL)?;
    Ok(report.pattern.map(|_| report.sentence))
}

/// When a sign is worth watching and when it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Small values are the trouble.
    Below {
        /// Values below this are worth watching.
        watch: f64,
        /// Values below this are bad.
        bad: f64,
    },
    /// Large values are the trouble.
    Above {
        /// Values above this are worth watching.
        watch: f64,
        /// Values above this are bad.
        bad: f64,
    },
}

impl Limit {
    fn judge(self, value: f64) -> Verdict {
        let (watch, bad) = match self {
            Limit::Below { watch, bad } => (value < watch, value < bad),
            Limit::Above { watch, bad } => (value > watch, value > bad),
        };
        match (watch, bad) {
            (_, true) => Verdict::Bad,
            _ if value.is_nan() => Verdict::Bad,
            (true, _) => Verdict::Watch,
            _ => Verdict::Ok,
        }
    }

    fn text(self) -> String {
        match self {
            Limit::Below { watch, bad } => format!("watched below {watch:.3}, bad below {bad:.3}"),
            Limit::Above { watch, bad } => format!("watched above {watch:.3}, bad above {bad:.3}"),
        }
    }
}

/// One measured sign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sign {
    /// What was measured.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What the value says.
    pub verdict: Verdict,
    /// Value, thresholds, meaning and remedy in one sentence.
    pub why: String,
}

/// The signs of one moment and the worst of their verdicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// The worst verdict.
    pub verdict: Verdict,
    /// Every sign.
    pub signs: Vec<Sign>,
}

impl Health {
    /// Judges measured values: (name, value, thresholds, meaning and remedy).
    pub fn judge(measured: Vec<(&'static str, f64, Limit, &'static str)>) -> Self {
        let signs: Vec<Sign> = measured
            .into_iter()
            .map(|(name, value, limit, meaning)| Sign {
                name,
                value,
                verdict: limit.judge(value),
                why: format!("{name} is {value:.4} ({}): {meaning}", limit.text()),
            })
            .collect();
        let rank = |v: &Verdict| match v {
            Verdict::Ok => 0,
            Verdict::Watch => 1,
            Verdict::Bad => 2,
        };
        let verdict = signs
            .iter()
            .map(|s| s.verdict)
            .max_by_key(rank)
            .unwrap_or(Verdict::Ok);
        Self { verdict, signs }
    }

    /// The reasons of a verdict that is not ok.
    pub fn reasons(&self) -> Vec<String> {
        self.signs
            .iter()
            .filter(|s| s.verdict != Verdict::Ok)
            .map(|s| s.why.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkerboard_in_all_samples_is_told() {
        let side = 32;
        let mut random = vermeer_image::metrics::NumpyRandom::new(5);
        let mut images = |count: usize, step: f32| -> Vec<f32> {
            (0..count * side * side)
                .map(|at| {
                    let sign = if (at % side + at / side) % 2 == 0 {
                        step
                    } else {
                        -step
                    };
                    0.375 + 0.25 * random.uniform() as f32 + sign
                })
                .collect()
        };
        let real = HostBatch {
            step: 0,
            images: images(40, 0.0),
            labels: None,
            attributes: None,
            batch: 40,
            shape: [1, side, side],
        };
        let mut told = |count: usize, step: f32| {
            let samples: Vec<Image> = images(count, step)
                .chunks_exact(side * side)
                .map(|values| Image::from_unit_chw(values, 1, side, side).unwrap())
                .collect();
            shared_pattern(&real, &samples).unwrap()
        };
        assert!(told(40, 0.03).unwrap().contains("checkerboard"));
        assert_eq!(told(40, 0.0), None);
        assert_eq!(told(20, 0.03), None);
    }

    #[test]
    fn the_worst_sign_decides() {
        let below = Limit::Below {
            watch: 0.5,
            bad: 0.25,
        };
        let above = Limit::Above {
            watch: 0.97,
            bad: 0.999,
        };
        for (spread, accuracy, verdict) in [
            (0.9, 0.6, Verdict::Ok),
            (0.4, 0.6, Verdict::Watch),
            (0.9, 0.98, Verdict::Watch),
            (0.1, 0.6, Verdict::Bad),
            (0.4, 1.0, Verdict::Bad),
            (f64::NAN, 0.6, Verdict::Bad),
        ] {
            let health = Health::judge(vec![
                ("spread", spread, below, "x"),
                ("accuracy", accuracy, above, "y"),
            ]);
            assert_eq!(health.verdict, verdict, "{spread} {accuracy}");
            assert_eq!(health.reasons().is_empty(), verdict == Verdict::Ok);
        }
    }
}
