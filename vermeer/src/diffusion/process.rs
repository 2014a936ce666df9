//! What noise does to an image, and what the network is asked to predict.
//!
//! Every framework mixes image and noise linearly, and every prediction is a linear mix too:
//!
//! ```text
//! network input  = a·x₀ + b·ε        target = c·x₀ + d·ε        loss = mean (F − target)²
//! ```
//!
//! | framework | a | b | c | d |
//! |---|---|---|---|---|
//! | ddpm, eps | √ᾱ | √(1−ᾱ) | 0 | 1 |
//! | ddpm, x0 | √ᾱ | √(1−ᾱ) | 1 | 0 |
//! | ddpm, v | √ᾱ | √(1−ᾱ) | −√(1−ᾱ) | √ᾱ |
//! | flow | 1−t | t | −1 | 1 |
//! | edm | c_in | c_in·σ | (1−c_skip)/c_out | −c_skip·σ/c_out |
//!
//! For EDM this is Karras' weighted loss λ(σ)(D − x₀)² exactly, because λ·c_out² = 1.

use serde::{Deserialize, Serialize};

use super::{NoiseSchedule, alpha_bar};
use crate::random::Stream;

/// A family of noising processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framework {
    /// The discrete process of Ho et al., 2020.
    #[default]
    Ddpm,
    /// Straight paths from noise to image (Lipman et al., 2023; Liu et al., 2023).
    Flow,
    /// The preconditioning of Karras et al., 2022.
    Edm,
}

/// What the network of the discrete process predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise.
    #[default]
    Eps,
    /// The image.
    X0,
    /// √ᾱ·ε − √(1−ᾱ)·x₀ (Salimans and Ho, 2022).
    V,
}

/// The four coefficients of one noise level, and the time the network is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Share of the image in the network's input.
    pub a: f64,
    /// Share of the noise in the network's input.
    pub b: f64,
    /// Share of the image in the target.
    pub c: f64,
    /// Share of the noise in the target.
    pub d: f64,
    /// The time the network is told.
    pub time: f64,
}

impl Mix {
    /// Coefficients (p, q) with x₀ = p·input + q·F.
    pub fn image(&self) -> (f64, f64) {
        let det = self.a * self.d - self.b * self.c;
        (self.d / det, -self.b / det)
    }

    /// Coefficients (p, q) with ε = p·input + q·F.
    pub fn noise(&self) -> (f64, f64) {
        let det = self.a * self.d - self.b * self.c;
        (-self.c / det, self.a / det)
    }
}

/// A noising process with its schedule.
#[derive(Clone, Debug)]
pub enum Process {
    /// The discrete process: ᾱ of every step, and what the network predicts.
    Ddpm {
        /// Share of the image's variance left after each step.
        alpha_bar: Vec<f64>,
        /// What the network predicts.
        prediction: Prediction,
    },
    /// Straight paths, t in [0, 1].
    Flow,
    /// σ in (0, ∞), standard deviation of the data 0.5.
    Edm,
}

/// Standard deviation of signed pixels that EDM assumes.
const SIGMA_DATA: f64 = 0.5;

impl Process {
    /// The process of these settings.
    pub fn new(
        framework: Framework,
        schedule: NoiseSchedule,
        steps: usize,
        prediction: Prediction,
    ) -> Self {
        match framework {
            Framework::Ddpm => Process::Ddpm {
                alpha_bar: alpha_bar(schedule, steps),
                prediction,
            },
            Framework::Flow => Process::Flow,
            Framework::Edm => Process::Edm,
        }
    }

    /// A level for training: uniform over the steps, uniform in t, or ln σ ~ N(−1.2, 1.2²).
    pub fn draw(&self, random: &mut Stream) -> f64 {
        match self {
            Process::Ddpm { alpha_bar, .. } => random.below(alpha_bar.len() as u64) as f64,
            Process::Flow => f64::from(random.uniform()),
            Process::Edm => (f64::from(random.normal()) * 1.2 - 1.2).exp(),
        }
    }

    /// Four levels from little to much noise, at the 10, 35, 60 and 85 % points of the levels
    /// drawn in training.
    pub fn probe_levels(&self) -> [f64; 4] {
        let shares = [0.10, 0.35, 0.60, 0.85];
        match self {
            Process::Ddpm { alpha_bar, .. } => {
                shares.map(|q| (q * (alpha_bar.len() - 1) as f64).round())
            }
            Process::Flow => shares,
            // Standard normal quantiles of the same shares.
            Process::Edm => [-1.2816, -0.3853, 0.2533, 1.0364].map(|z: f64| (1.2 * z - 1.2).exp()),
        }
    }

    /// The coefficients of a level: a step number, t or σ.
    pub fn mix(&self, level: f64) -> Mix {
        match self {
            Process::Ddpm {
                alpha_bar,
                prediction,
            } => {
                let left = alpha_bar[level as usize];
                let (a, b) = (left.sqrt(), (1.0 - left).sqrt());
                let (c, d) = match prediction {
                    Prediction::Eps => (0.0, 1.0),
                    Prediction::X0 => (1.0, 0.0),
                    Prediction::V => (-b, a),
                };
                Mix {
                    a,
                    b,
                    c,
                    d,
                    time: level,
                }
            }
            Process::Flow => Mix {
                a: 1.0 - level,
                b: level,
                c: -1.0,
                d: 1.0,
                time: 1000.0 * level,
            },
            Process::Edm => {
                let total = level * level + SIGMA_DATA * SIGMA_DATA;
                let (skip, out, input) = (
                    SIGMA_DATA * SIGMA_DATA / total,
                    level * SIGMA_DATA / total.sqrt(),
                    1.0 / total.sqrt(),
                );
                Mix {
                    a: input,
                    b: input * level,
                    c: (1.0 - skip) / out,
                    d: -skip * level / out,
                    time: level.ln() / 4.0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_noise_are_recovered_from_input_and_target() {
        let ddpm = |p| Process::new(Framework::Ddpm, NoiseSchedule::Linear, 1000, p);
        for (process, level) in [
            (ddpm(Prediction::Eps), 500.0),
            (ddpm(Prediction::X0), 500.0),
            (ddpm(Prediction::V), 999.0),
            (Process::Flow, 0.3),
            (Process::Flow, 1.0),
            (Process::Edm, 80.0),
            (Process::Edm, 0.002),
        ] {
            let m = process.mix(level);
            let (x0, eps) = (0.7, -1.3);
            let (input, target) = (m.a * x0 + m.b * eps, m.c * x0 + m.d * eps);
            let ((p, q), (r, s)) = (m.image(), m.noise());
            assert!(
                (p * input + q * target - x0).abs() < 1e-9,
                "{process:?} {level}"
            );
            assert!(
                (r * input + s * target - eps).abs() < 1e-8,
                "{process:?} {level}"
            );
        }
    }

    #[test]
    fn edm_target_is_karras_loss() {
        // λ(σ)·(c_skip·x + c_out·F − x₀)² with λ = (σ²+σ_d²)/(σ·σ_d)², at σ = 2, x₀ = 0.3, ε = 1.1, F = 0.4.
        let (sigma, x0, eps, f) = (2.0, 0.3, 1.1, 0.4);
        let total: f64 = sigma * sigma + 0.25;
        let x = x0 + sigma * eps;
        let d = 0.25 / total * x + sigma * 0.5 / total.sqrt() * f;
        let karras = total / (sigma * 0.5f64).powi(2) * (d - x0).powi(2);
        let m = Process::Edm.mix(sigma);
        let ours = (f - (m.c * x0 + m.d * eps)).powi(2);
        assert!((karras - ours).abs() < 1e-12, "{karras} {ours}");
    }
}
