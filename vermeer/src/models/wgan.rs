//! Wasserstein GAN (Arjovsky et al., 2017), in the layout of the DCGAN: a critic that cannot be
//! steep measures how far samples lie from real images, and the generator shortens that way.
//!
//! ```text
//! D minimises  E D(G(z)) − E D(x)      several times, kept Lipschitz
//! G minimises  −E D(G(z))              z ~ N(0, I)
//! ```
//!
//! The critic is kept Lipschitz by cutting its parameters to ±`clip`, as in the paper, or by
//! spectral normalisation (Miyato et al., 2018). It has no batch normalisation, with which the
//! value of one image would depend on the others, and no bias behind its last layer, which would
//! cancel.
//!
//! The paper's optimizer is RMSProp. Adam with beta1 = 0 and beta2 = 0.99, the defaults here, is
//! RMSProp with a smoothing of 0.99 whose mean square is corrected for its start at zero.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | images | `[n, channels, size, size]` | signed |
//! | values of D | `[n]` | any; only differences have a meaning |

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use crate::loss::adversarial::Adversarial;
use crate::models::dcgan::{DcganNetwork, Discriminator, Generator, Layout};
use crate::nn::Init;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::game::{Game, GamePipeline, Rules};
use crate::{Error, Result};

/// How the critic is kept Lipschitz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lipschitz {
    /// Its parameters are cut to a box after each update (Arjovsky et al., 2017).
    #[default]
    Clipping,
    /// Its weights are divided by their largest singular value (Miyato et al., 2018).
    Spectral,
}

/// Settings of a Wasserstein GAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WganConfig {
    /// `radford` or `mnist28`.
    pub network: DcganNetwork,
    /// Numbers in a latent vector. Default 100.
    pub latent: usize,
    /// Channels next to the image; doubled at each halving of the size. Default 64.
    pub width: usize,
    /// `clipping` or `spectral`: how the critic is kept Lipschitz.
    pub lipschitz: Lipschitz,
    /// With clipping, the critic's parameters are cut to ± this. Default 0.01.
    pub clip: f64,
    /// Learning rate of the critic over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Updates of the critic before each one of the generator. Default 5.
    pub discriminator_steps: usize,
}

impl Default for WganConfig {
    fn default() -> Self {
        Self {
            network: DcganNetwork::Radford,
            latent: 100,
            width: 64,
            lipschitz: Lipschitz::Clipping,
            clip: 0.01,
            discriminator_rate: 1.0,
            discriminator_steps: 5,
        }
    }
}

impl WganConfig {
    fn layout(&self, spec: &DataSpec) -> Layout {
        Layout {
            network: self.network,
            width: self.width,
            side: spec.height,
        }
    }

    fn spectral(&self) -> bool {
        self.lipschitz == Lipschitz::Spectral
    }

    fn rules(&self) -> Rules {
        Rules {
            loss: Adversarial::Wasserstein,
            discriminator_rate: self.discriminator_rate,
            discriminator_steps: self.discriminator_steps,
            spectral_norm: self.spectral(),
            clip: (!self.spectral()).then_some(self.clip),
            ..Rules::default()
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> Generator {
        let sizes = [self.latent, spec.channels];
        self.layout(spec).generator(sizes, init)
    }

    /// The critic for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> Discriminator {
        self.layout(spec)
            .discriminator(spec.channels, false, false, init)
    }
}

/// A Wasserstein GAN in training.
pub type WganTrainer = Game<Generator, Discriminator>;

/// The family.
pub struct Wgan;

impl Family for Wgan {
    type Config = WganConfig;
    type Trainer = WganTrainer;

    const INFO: Info = Info {
        id: "wgan",
        title: "Wasserstein GAN",
        paper: "Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017",
        summary: "a game whose critic keeps teaching, however good it is; steadier than dcgan, and slower",
        sizes: "16×16, 32×32, 64×64 or 128×128 (28×28 with network = \"mnist28\")",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 5e-5,
        beta1: 0.0,
        beta2: 0.99,
        average_half_life_images: 5_000.0,
    };

    fn natural_size(config: &WganConfig, height: usize, width: usize) -> (usize, usize) {
        config.network.natural_size(height, width)
    }

    fn check(config: &WganConfig, spec: &DataSpec) -> Result<()> {
        config.network.check(spec)?;
        if config.latent == 0 || config.width == 0 {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent and width must be at least 1",
            ));
        }
        config.rules().check()
    }

    fn trainer(config: &WganConfig, context: &TrainerContext) -> Result<WganTrainer> {
        let init = Init::new(context.seed, &context.device);
        let generator = config.generator(&context.spec, &init.at("generator"));
        let discriminator = config.discriminator(&context.spec, &init.at("discriminator"));
        let rules = config.rules();
        Ok(Game::new(
            &Self::INFO,
            rules,
            generator,
            discriminator,
            context,
        ))
    }

    fn pipeline(
        config: &WganConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let blank = Init::blank(device);
        GamePipeline::load(
            &Self::INFO,
            config.generator(spec, &blank),
            config.discriminator(spec, &blank),
            config.spectral(),
            spec,
            weights,
            device,
        )
    }

    /// There are no published weights that this family knows.
    fn import(
        _files: &[TensorMap],
        _config: WganConfig,
    ) -> Result<(WganConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "family wgan knows no published weights",
            "train it; family dcgan imports one",
        ))
    }

    fn tiny() -> (WganConfig, DataSpec) {
        let config = WganConfig {
            latent: 6,
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 16,
                width: 16,
                classes: vec![],
                attributes: vec![],
            },
        )
    }
}
