//! Deep convolutional GAN (Radford et al., 2016): a generator of transposed convolutions and a
//! discriminator of strided ones play a two-player game.
//!
//! ```text
//! D minimises  L_real(D(x)) + L_fake(D(G(z))) + γ/2 · R1
//! G minimises  L_gen(D(G(z)))                       z ~ N(0, I)
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | images | `[n, channels, size, size]` | signed |
//! | logits | `[n]` | any; larger means "real" |

pub(crate) mod conditional;
pub(crate) mod networks;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::conditional::ClassGenerator;
pub use self::networks::{
    DcganNetwork, Discriminator, DiscriminatorBlock, Generator, GeneratorBlock, Layout,
};
use crate::loss::adversarial::Adversarial;
use crate::nn::Init;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::game::{Game, GamePipeline, Rules};
use crate::{Error, Result};

/// Settings of a DCGAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DcganConfig {
    /// `radford` or `mnist28`.
    pub network: DcganNetwork,
    /// Numbers in a latent vector. Default 100.
    pub latent: usize,
    /// Channels next to the image; doubled at each halving of the size. Default 64.
    pub width: usize,
    /// `non-saturating`, `least-squares`, `hinge` or `wasserstein`.
    pub loss: Adversarial,
    /// The discriminator's target for real images is one minus this. Default 0.
    pub label_smoothing: f64,
    /// Learning rate of the discriminator over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Updates of the discriminator before each one of the generator. Default 1.
    pub discriminator_steps: usize,
    /// Divides each of the discriminator's weights by its largest singular value (Miyato et
    /// al., 2018) instead of batch normalisation there. Default false.
    pub spectral_norm: bool,
    /// Weight γ of the R1 penalty; 0 switches it off. Default 0.
    ///
    /// Burn has first derivatives only, so γ/2·E‖∇D(x)‖² (Mescheder et al., 2018) is estimated
    /// by a central difference along one random direction v per image:
    /// γ/2·E[((D(x+hv) − D(x−hv)) / 2h)²], h = 0.01, whose expectation over v ~ N(0, I) it is
    /// up to O(h²).
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default 1.
    pub r1_every: u64,
}

impl Default for DcganConfig {
    fn default() -> Self {
        Self {
            network: DcganNetwork::Radford,
            latent: 100,
            width: 64,
            loss: Adversarial::NonSaturating,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            spectral_norm: false,
            r1_gamma: 0.0,
            r1_every: 1,
        }
    }
}

impl DcganConfig {
    fn layout(&self, spec: &DataSpec) -> Layout {
        Layout {
            network: self.network,
            width: self.width,
            side: spec.height,
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            loss: self.loss,
            label_smoothing: self.label_smoothing,
            discriminator_rate: self.discriminator_rate,
            discriminator_steps: self.discriminator_steps,
            spectral_norm: self.spectral_norm,
            r1_gamma: self.r1_gamma,
            r1_every: self.r1_every,
            ..Rules::default()
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> Generator {
        let sizes = [self.latent, spec.channels];
        self.layout(spec).generator(sizes, init)
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> Discriminator {
        let spectral = self.spectral_norm;
        self.layout(spec)
            .discriminator(spec.channels, !spectral, spectral, init)
    }
}

/// A DCGAN in training.
pub type DcganTrainer = Game<Generator, Discriminator>;

/// The family.
pub struct Dcgan;

impl Family for Dcgan {
    type Config = DcganConfig;
    type Trainer = DcganTrainer;

    const INFO: Info = Info {
        id: "dcgan",
        title: "Deep convolutional GAN",
        paper: "Radford, Metz and Chintala, Unsupervised Representation Learning with DCGANs, 2016",
        summary: "sharp images in one pass; training is a game that can collapse, so watch its health",
        sizes: "16×16, 32×32, 64×64 or 128×128 (28×28 with network = \"mnist28\")",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.5,
        beta2: 0.999,
        average_half_life_images: 2_000.0,
    };

    fn natural_size(config: &DcganConfig, height: usize, width: usize) -> (usize, usize) {
        config.network.natural_size(height, width)
    }

    fn check(config: &DcganConfig, spec: &DataSpec) -> Result<()> {
        config.network.check(spec)?;
        if config.latent == 0 || config.width == 0 {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent and width must be at least 1",
            ));
        }
        config.rules().check()
    }

    fn trainer(config: &DcganConfig, context: &TrainerContext) -> Result<DcganTrainer> {
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
        config: &DcganConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let blank = Init::blank(device);
        GamePipeline::load(
            &Self::INFO,
            config.generator(spec, &blank),
            config.discriminator(spec, &blank),
            config.spectral_norm,
            spec,
            weights,
            device,
        )
    }

    /// Knows generator and discriminator of dennisjooo/DCGAN-on-MNIST. The names in the two files
    /// overlap; the generator is the one whose first layer is `layer_stack.1`.
    fn import(
        files: &[TensorMap],
        config: DcganConfig,
    ) -> Result<(DcganConfig, DataSpec, TensorMap)> {
        let (generators, discriminators): (Vec<_>, Vec<_>) = files
            .iter()
            .partition(|tensors| tensors.contains_key("layer_stack.1.weight"));
        let ([generator], [] | [_]) = (&generators[..], &discriminators[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "a DCGAN is one generator, and at most one discriminator beside it",
                "known is the 28×28 DCGAN whose generator has layer_stack.1 … layer_stack.10",
            ));
        };
        let first = generator
            .get("layer_stack.1.weight")
            .map(|t| t.shape.clone())
            .unwrap_or_default();
        let last = generator
            .get("layer_stack.10.weight")
            .map(|t| t.shape.clone())
            .unwrap_or_default();
        let ([latent, _, 4, 4], [width, channels, 4, 4]) = (&first[..], &last[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "these are not the tensors of a known DCGAN generator (no layer_stack.1.weight of [latent, c, 4, 4])",
                "known is the 28×28 DCGAN with layer_stack.1 … layer_stack.10",
            ));
        };
        let config = DcganConfig {
            network: DcganNetwork::Mnist28,
            latent: *latent,
            width: *width,
            ..config
        };
        let spec = DataSpec {
            channels: *channels,
            height: 28,
            width: 28,
            classes: vec![],
            attributes: vec![],
        };
        let blank = Init::blank(&Device::flex());
        let rename = |table: &'static [(&'static str, &'static str)]| {
            move |name: &str| {
                let (place, last) = name.rsplit_once('.').unwrap_or(("", name));
                let place = table
                    .iter()
                    .find(|(own, _)| *own == place)
                    .map_or(place, |(_, foreign)| foreign);
                format!("{place}.{last}")
            }
        };
        let mut weights = TensorMap::new();
        let network = config.generator(&spec, &blank);
        let loaded = crate::import::from_pytorch(
            &network,
            generator,
            rename(&[
                ("blocks.0.conv", "layer_stack.1"),
                ("blocks.0.norm", "layer_stack.2"),
                ("blocks.1.conv", "layer_stack.4"),
                ("blocks.1.norm", "layer_stack.5"),
                ("blocks.2.conv", "layer_stack.7"),
                ("blocks.2.norm", "layer_stack.8"),
                ("out", "layer_stack.10"),
            ]),
        )?;
        weights.extend(
            loaded
                .into_iter()
                .map(|(name, t)| (format!("generator.{name}"), t)),
        );
        if let [discriminator] = discriminators[..] {
            let network = config.discriminator(&spec, &blank);
            let loaded = crate::import::from_pytorch(
                &network,
                discriminator,
                rename(&[
                    ("blocks.0.conv", "layer_stack.0"),
                    ("blocks.1.conv", "layer_stack.2"),
                    ("blocks.1.norm", "layer_stack.3"),
                    ("blocks.2.conv", "layer_stack.5"),
                    ("blocks.2.norm", "layer_stack.6"),
                    ("out", "layer_stack.8"),
                ]),
            )?;
            weights.extend(
                loaded
                    .into_iter()
                    .map(|(name, t)| (format!("discriminator.{name}"), t)),
            );
        }
        Ok((config, spec, weights))
    }

    fn tiny() -> (DcganConfig, DataSpec) {
        let config = DcganConfig {
            latent: 8,
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 32,
                width: 32,
                classes: vec![],
                attributes: vec![],
            },
        )
    }
}
