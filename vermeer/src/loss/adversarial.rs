//! The losses of adversarial training, on logits.

use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, relu};
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
    /// Arjovsky et al., 2017; the discriminator must be spectrally normalised.
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
