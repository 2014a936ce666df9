//! How a game is played.

use crate::loss::adversarial::Adversarial;
use crate::{Error, Result};

/// What the settings of a family say of its training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The losses of the two networks.
    pub loss: Adversarial,
    /// The discriminator's target for real images is one minus this.
    pub label_smoothing: f64,
    /// Learning rate of the discriminator over that of the generator.
    pub discriminator_rate: f64,
    /// Updates of the discriminator before each one of the generator.
    pub discriminator_steps: usize,
    /// Whether the discriminator's weights are divided by their largest singular value.
    pub spectral_norm: bool,
    /// Weight γ of the R1 penalty; 0 switches it off.
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly.
    pub r1_every: u64,
    /// The discriminator's parameters are cut to ± this after each of its updates.
    pub clip: Option<f64>,
    /// Weights of the classification loss for discriminator and generator.
    pub class_weights: [f64; 2],
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            loss: Adversarial::NonSaturating,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            spectral_norm: false,
            r1_gamma: 0.0,
            r1_every: 1,
            clip: None,
            class_weights: [1.0; 2],
        }
    }
}

impl Rules {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting and the remedy.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, remedy: &str| Err(Error::settings(what, remedy));
        if self.discriminator_steps == 0 || self.r1_every == 0 {
            return wrong(
                "a number of 0 in [model]",
                "discriminator_steps and r1_every must be at least 1",
            );
        }
        if self.label_smoothing != 0.0 && !self.loss.has_target() {
            return wrong(
                "model.label_smoothing has no meaning for this loss",
                "leave it at 0, or use loss = \"non-saturating\" or \"least-squares\"",
            );
        }
        if !(0.0..1.0).contains(&self.label_smoothing)
            || self.r1_gamma < 0.0
            || !self.r1_gamma.is_finite()
            || self.discriminator_rate <= 0.0
            || !self.discriminator_rate.is_finite()
        {
            return wrong(
                "a value of [model] is out of range",
                "label_smoothing lies in [0, 1), r1_gamma is zero or larger, discriminator_rate is larger than zero",
            );
        }
        if self.clip.is_some_and(|c| c <= 0.0 || !c.is_finite()) {
            return wrong(
                "model.clip is out of range",
                "it is larger than zero; Arjovsky et al. take 0.01",
            );
        }
        if self
            .class_weights
            .iter()
            .any(|w| *w < 0.0 || !w.is_finite())
        {
            return wrong(
                "a weight of the classification loss is out of range",
                "it is zero or larger",
            );
        }
        if self.class_weights[0] == 0.0 && self.class_weights[1] > 0.0 {
            return wrong(
                "the generator would learn from a classifier that learns nothing",
                "give the discriminator's classification loss a weight above zero too",
            );
        }
        if self.loss == Adversarial::Wasserstein && !self.spectral_norm && self.clip.is_none() {
            return wrong(
                "the Wasserstein loss needs a Lipschitz discriminator",
                "set model.spectral_norm = true where the family has it, or use family wgan",
            );
        }
        Ok(())
    }
}
