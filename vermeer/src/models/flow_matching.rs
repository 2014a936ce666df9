//! Flow matching: a network learns the velocity that carries noise to images along straight paths,
//! and sampling follows it. A preset of [`Diffusion`](super::Diffusion).
//!
//! Lipman et al., Flow Matching for Generative Modeling, 2023; the same paths in Liu, Gong and Liu,
//! Flow Straight and Fast (rectified flow), 2023.
//!
//! ```text
//! x_t = (1−t)·x₀ + t·ε        loss = mean (F(x_t, t) − (ε − x₀))²        t uniform in [0, 1)
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x_0` | `[n, channels, height, width]` | signed |
//! | `eps` | as `x_0` | standard normal |
//! | `F` | as `x_0` | any |

use serde::{Deserialize, Serialize};

use super::diffusion::{DiffusionConfig, DiffusionFamily, DiffusionNetwork, Preset, TASKS};
use crate::diffusion::{Framework, Sampler};
use crate::registry::Info;

/// Settings of flow matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowMatchingConfig {
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
    /// Whether the network is told the class of an image. Default false.
    pub conditional: bool,
    /// Share of training images whose class is withheld, for guidance. Default 0.1.
    pub label_dropout: f64,
    /// `euler` or `heun`. Default `heun`.
    pub sampler: Sampler,
    /// Sampling steps; Heun's method passes the network twice in each but the last. Default 25.
    pub steps: usize,
    /// Strength g of classifier-free guidance: (1+g)·F(class) − g·F(no class). Default 0.
    pub guidance: f64,
}

impl Default for FlowMatchingConfig {
    fn default() -> Self {
        Self {
            patch: 1,
            width: 32,
            multipliers: vec![1, 2, 2],
            blocks: 1,
            attention: vec![2],
            groups: 8,
            conditional: false,
            label_dropout: 0.1,
            sampler: Sampler::Heun,
            steps: 25,
            guidance: 0.0,
        }
    }
}

/// The preset.
pub struct FlowMatchingPreset;

/// The family.
pub type FlowMatching = DiffusionFamily<FlowMatchingPreset>;

impl Preset for FlowMatchingPreset {
    type Config = FlowMatchingConfig;

    const INFO: Info = Info {
        id: "flow-matching",
        title: "Flow matching",
        paper: "Lipman, Chen, Ben-Hamu, Nickel and Le, Flow Matching for Generative Modeling, 2023",
        summary: "straight paths from noise to image: images like those of diffusion in as many network passes, without a likelihood here",
        sizes: "any height and width divisible by patch · 2^(levels − 1), 4 by default",
        tasks: TASKS,
    };

    fn settings(config: &FlowMatchingConfig) -> DiffusionConfig {
        let config = config.clone();
        DiffusionConfig {
            network: DiffusionNetwork::Unet,
            patch: config.patch,
            width: config.width,
            multipliers: config.multipliers,
            blocks: config.blocks,
            attention: config.attention,
            groups: config.groups,
            framework: Framework::Flow,
            conditional: config.conditional,
            label_dropout: config.label_dropout,
            sampler: config.sampler,
            steps: config.steps,
            guidance: config.guidance,
            ..DiffusionConfig::default()
        }
    }

    fn tiny() -> FlowMatchingConfig {
        FlowMatchingConfig {
            width: 8,
            multipliers: vec![1, 2],
            attention: vec![1],
            groups: 4,
            conditional: true,
            steps: 3,
            guidance: 1.0,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_flow_framework() {
        let expected = DiffusionConfig {
            framework: Framework::Flow,
            sampler: Sampler::Heun,
            steps: 25,
            ..DiffusionConfig::default()
        };
        let settings = FlowMatchingPreset::settings(&FlowMatchingConfig::default());
        assert_eq!(settings, expected);
    }
}
