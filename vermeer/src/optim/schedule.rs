//! Learning-rate schedules: a factor over the steps of a run.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// It stays.
    #[default]
    Constant,
    /// A straight line to zero at the last step.
    Linear,
    /// Half a cosine to zero at the last step.
    Cosine,
}

/// The learning-rate schedule of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The rate after the warm-up.
    pub peak: f64,
    /// Steps of the linear warm-up from zero.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// The shape after the warm-up.
    pub shape: Shape,
}

impl LearningRate {
    /// The rate of step `step`, counted from zero.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let left = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / left as f64).min(1.0);
        self.peak
            * match self.shape {
                Shape::Constant => 1.0,
                Shape::Linear => 1.0 - progress,
                Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_at_hand_worked_steps() {
        let rate = |shape, step| {
            LearningRate {
                peak: 2.0,
                warmup_steps: 4,
                total_steps: 12,
                shape,
            }
            .at(step)
        };
        for (shape, step, expected) in [
            (Shape::Constant, 0, 0.5),
            (Shape::Constant, 3, 2.0),
            (Shape::Constant, 11, 2.0),
            (Shape::Linear, 4, 2.0),
            (Shape::Linear, 8, 1.0),
            (Shape::Cosine, 6, 2.0 * 0.853_553_390_593_273_8), // (1 + cos(π/4)) / 2
            (Shape::Cosine, 12, 0.0),
            (Shape::Cosine, 40, 0.0),
        ] {
            assert!(
                (rate(shape, step) - expected).abs() < 1e-12,
                "{shape:?} {step}"
            );
        }
    }
}
