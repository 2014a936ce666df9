//! Noise schedules: how much of the image is left after each step.

use serde::{Deserialize, Serialize};

/// A schedule of the discrete process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSchedule {
    /// β from 1e-4 to 0.02 in equal steps (Ho et al., 2020), scaled by 1000/T for other T.
    #[default]
    Linear,
    /// ᾱ(t) = cos²((t/T + 0.008)/1.008 · π/2), β at most 0.999 (Nichol and Dhariwal, 2021).
    Cosine,
}

/// ᾱ after each of `steps` steps: the share of the image's variance that is left.
pub fn alpha_bar(schedule: NoiseSchedule, steps: usize) -> Vec<f64> {
    let n = steps as f64;
    let beta = |t: usize| match schedule {
        NoiseSchedule::Linear => {
            let scale = 1000.0 / n;
            let (low, high) = (scale * 1e-4, scale * 0.02);
            let share = if steps > 1 { t as f64 / (n - 1.0) } else { 0.0 };
            (low + (high - low) * share).min(0.999)
        }
        NoiseSchedule::Cosine => {
            let left = |t: f64| {
                ((t / n + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
                    .cos()
                    .powi(2)
            };
            (1.0 - left(t as f64 + 1.0) / left(t as f64)).min(0.999)
        }
    };
    (0..steps)
        .scan(1.0, |left, t| {
            *left *= 1.0 - beta(t);
            Some(*left)
        })
        .collect()
}
