//! Denoising diffusion as it began: a chain of a thousand small steps of noise, and a network that
//! learns to predict the noise, so that the chain can be walked back. A preset of
//! [`Diffusion`](super::Diffusion).
//!
//! Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020.
//!
//! ```text
//! x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε        loss = mean (F(x_t, t) − ε)²
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x_0` | `[n, channels, height, width]` | signed |
//! | `eps` | as `x_0` | standard normal |
//! | `F` | as `x_0` | any |

use serde::{Deserialize, Serialize};

use super::diffusion::{DiffusionConfig, DiffusionFamily, DiffusionNetwork, Preset, TASKS};
use crate::diffusion::{Framework, NoiseSchedule, Prediction, Sampler, Variance};
use crate::registry::Info;

/// Settings of a DDPM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdpmConfig {
    /// Side of the square of pixels the U-Net sees as one position (Hoogeboom et al., simple
    /// diffusion, 2023); 2 makes it about four times faster. Default 1.
    pub patch: usize,
    /// Channels of the first level. Default 32.
    pub width: usize,
    /// Channels of each level over `width`; each further level halves the size. Default `[1, 2, 2]`.
    pub multipliers: Vec<usize>,
    /// Residual blocks per level. Default 1.
    pub blocks: usize,
    /// Levels with attention, 0 being the full size. Default `[2]`.
    pub attention: Vec<usize>,
    /// Groups of the group normalisation. Default 8.
    pub groups: usize,
    /// `eps`, `x0` or `v`. Default `eps`.
    pub prediction: Prediction,
    /// `linear` or `cosine`. Default `linear`.
    pub schedule: NoiseSchedule,
    /// Steps of the process. Default 1000.
    pub timesteps: usize,
    /// Whether the network is told the class of an image. Default false.
    pub conditional: bool,
    /// Share of training images whose class is withheld, for guidance. Default 0.1.
    pub label_dropout: f64,
    /// `ddpm`, `ddim`, `euler` or `heun`. Default `ddpm`.
    pub sampler: Sampler,
    /// Sampling steps; also the network passes of a draw of the likelihood bound. Default 1000.
    pub steps: usize,
    /// Share of fresh noise in DDIM steps, 0 to 1. Default 0.
    pub eta: f64,
    /// Variance of ancestral noise, `small` or `large`. Default `small`.
    pub variance: Variance,
    /// Whether samplers clip the predicted image to [−1, 1]. Default true.
    pub clip: bool,
    /// Strength g of classifier-free guidance: (1+g)·F(class) − g·F(no class). Default 0.
    pub guidance: f64,
}

impl Default for DdpmConfig {
    fn default() -> Self {
        Self {
            patch: 1,
            width: 32,
            multipliers: vec![1, 2, 2],
            blocks: 1,
            attention: vec![2],
            groups: 8,
            prediction: Prediction::Eps,
            schedule: NoiseSchedule::Linear,
            timesteps: 1000,
            conditional: false,
            label_dropout: 0.1,
            sampler: Sampler::Ddpm,
            steps: 1000,
            eta: 0.0,
            variance: Variance::Small,
            clip: true,
            guidance: 0.0,
        }
    }
}

/// The preset.
pub struct DdpmPreset;

/// The family.
pub type Ddpm = DiffusionFamily<DdpmPreset>;

impl Preset for DdpmPreset {
    type Config = DdpmConfig;

    const INFO: Info = Info {
        id: "ddpm",
        title: "Denoising diffusion (DDPM)",
        paper: "Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020",
        summary: "diffusion as published, with all of its thousand steps; the one to compare with, and to bound likelihoods with",
        sizes: "any height and width divisible by patch · 2^(levels − 1), 4 by default",
        tasks: TASKS,
    };

    fn settings(config: &DdpmConfig) -> DiffusionConfig {
        let config = config.clone();
        DiffusionConfig {
            network: DiffusionNetwork::Unet,
            patch: config.patch,
            width: config.width,
            multipliers: config.multipliers,
            blocks: config.blocks,
            attention: config.attention,
            groups: config.groups,
            framework: Framework::Ddpm,
            prediction: config.prediction,
            schedule: config.schedule,
            timesteps: config.timesteps,
            conditional: config.conditional,
            label_dropout: config.label_dropout,
            sampler: config.sampler,
            steps: config.steps,
            eta: config.eta,
            variance: config.variance,
            clip: config.clip,
            guidance: config.guidance,
        }
    }

    fn tiny() -> DdpmConfig {
        DdpmConfig {
            width: 8,
            multipliers: vec![1, 2],
            attention: vec![1],
            groups: 4,
            timesteps: 20,
            conditional: true,
            steps: 6,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::DiffusionConfig;

    #[test]
    fn the_defaults_are_those_of_diffusion_but_for_the_sampler() {
        let expected = DiffusionConfig {
            sampler: Sampler::Ddpm,
            steps: 1000,
            ..DiffusionConfig::default()
        };
        assert_eq!(DdpmPreset::settings(&DdpmConfig::default()), expected);
    }
}
