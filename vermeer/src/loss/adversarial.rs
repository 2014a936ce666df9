//! The losses of adversarial training, on logits.

use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, log_softmax, relu};
use serde::{Deserialize, Serialize};

/// Which game generator and discriminator play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adversarial {
    /// Goodfellow et al., 2014, with the non-saturating generator loss.
    #[default]
    NonSaturating,
    /// Mao et al., 2017.
    LeastSquares,
    /// Lim and Ye, 2017; Miyato et al., 2018.
    Hinge,
    /// Arjovsky et al., 2017; the discriminator must be spectrally normalised, or its weights cut.
    Wasserstein,
}

impl Adversarial {
    /// Loss of the discriminator on real images; `smoothing` moves their target from 1 to 1 − s
    /// (Salimans et al., 2016), for the two losses that have a target.
    pub fn real(self, logits: Tensor<1>, smoothing: f64) -> Tensor<1> {
        match self {
            Adversarial::NonSaturating => {
                let wrong = log_sigmoid(logits.clone())
                    .neg()
                    .mul_scalar(1.0 - smoothing);
                wrong
                    .add(log_sigmoid(logits.neg()).neg().mul_scalar(smoothing))
                    .mean()
            }
            Adversarial::LeastSquares => logits
                .sub_scalar(1.0 - smoothing)
                .square()
                .mean()
                .mul_scalar(0.5),
            Adversarial::Hinge => relu(logits.neg().add_scalar(1.0)).mean(),
            Adversarial::Wasserstein => logits.mean().neg(),
        }
    }

    /// Loss of the discriminator on generated images.
    pub fn fake(self, logits: Tensor<1>) -> Tensor<1> {
        match self {
            Adversarial::NonSaturating => log_sigmoid(logits.neg()).neg().mean(),
            Adversarial::LeastSquares => logits.square().mean().mul_scalar(0.5),
            Adversarial::Hinge => relu(logits.add_scalar(1.0)).mean(),
            Adversarial::Wasserstein => logits.mean(),
        }
    }

    /// Loss of the generator.
    pub fn generator(self, logits: Tensor<1>) -> Tensor<1> {
        match self {
            Adversarial::NonSaturating => log_sigmoid(logits).neg().mean(),
            Adversarial::LeastSquares => logits.sub_scalar(1.0).square().mean().mul_scalar(0.5),
            Adversarial::Hinge | Adversarial::Wasserstein => logits.mean().neg(),
        }
    }

    /// The logit between "real" and "generated" when the real target is 1 − `smoothing`; a
    /// Wasserstein critic has none, because its outputs are only compared with each other.
    pub fn boundary(self, smoothing: f64) -> Option<f64> {
        match self {
            Adversarial::NonSaturating | Adversarial::Hinge => Some(0.0),
            Adversarial::LeastSquares => Some(0.5 * (1.0 - smoothing)),
            Adversarial::Wasserstein => None,
        }
    }

    /// Whether label smoothing means something for this loss.
    pub fn has_target(self) -> bool {
        matches!(self, Adversarial::NonSaturating | Adversarial::LeastSquares)
    }
}

/// Mean cross-entropy in nats of class logits `[n, classes]` against one-hot rows: `[1]`.
pub fn cross_entropy(logits: Tensor<2>, one_hot: Tensor<2>) -> Tensor<1> {
    log_softmax(logits, 1).mul(one_hot).sum_dim(1).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_that_of_a_hand_worked_case() {
        // Rows (0, ln 3) with class 1 and (0, 0) with class 0: −ln 3/4 and −ln 1/2.
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.0, 3f32.ln()], [0.0, 0.0]], &device);
        let classes = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0]], &device);
        let found: f32 = cross_entropy(logits, classes).into_scalar();
        let expected = 0.5 * ((4.0f32 / 3.0).ln() + 2f32.ln());
        assert!((found - expected).abs() < 1e-6, "{found}");
    }
}
