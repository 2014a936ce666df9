//! Auxiliary classifier GAN (Odena et al., 2017), in the layout of the DCGAN: the generator is told
//! the class y, and the discriminator also names it.
//!
//! ```text
//! D minimises  L_real(D(x)) + L_fake(D(G(z, y))) + w_D · (C(x, y) + C(G(z, y), y)) + γ/2 · R1
//! G minimises  L_gen(D(G(z, y))) + w_G · C(G(z, y), y)          z ~ N(0, I)
//! ```
//!
//! with C the cross-entropy of the class that the discriminator names and y.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | classes | `[n, classes]` | one-hot; what D says of them, logits |
//! | images | `[n, channels, size, size]` | signed |
//! | logits | `[n]` | any; larger means "real" |

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::Conv2d;

use crate::loss::adversarial::Adversarial;
use crate::models::dcgan::conditional::check_classes;
use crate::models::dcgan::networks::{LAW, quarters};
use crate::models::dcgan::{ClassGenerator, DcganNetwork, Discriminator, Layout};
use crate::nn::{Init, Mode, Spectrum, convolve, matrix};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::game::{Game, GamePipeline, Judges, Opinion, Rules};
use crate::{Error, Result};

/// Settings of an auxiliary classifier GAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcganConfig {
    /// `radford` or `mnist28`.
    pub network: DcganNetwork,
    /// Numbers in a latent vector. Default 100.
    pub latent: usize,
    /// Numbers that the generator is told of a class. Default 32.
    pub class_latent: usize,
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
    /// Weight γ of the R1 penalty, taken by finite differences as in family dcgan; 0 switches it
    /// off. Default 0.
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default 1.
    pub r1_every: u64,
    /// Weight w_D of the classification loss for the discriminator. Default 1.
    pub class_weight: f64,
    /// Weight w_G of the classification loss for the generator. Default 1.
    pub generator_class_weight: f64,
}

impl Default for AcganConfig {
    fn default() -> Self {
        Self {
            network: DcganNetwork::Radford,
            latent: 100,
            class_latent: 32,
            width: 64,
            loss: Adversarial::NonSaturating,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            spectral_norm: false,
            r1_gamma: 0.0,
            r1_every: 1,
            class_weight: 1.0,
            generator_class_weight: 1.0,
        }
    }
}

impl AcganConfig {
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
            class_weights: [self.class_weight, self.generator_class_weight],
            ..Rules::default()
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> ClassGenerator {
        let sizes = [self.latent, self.class_latent];
        ClassGenerator::new(&self.layout(spec), sizes, spec, init)
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> NamingDiscriminator {
        let layout = self.layout(spec);
        let (batch_norm, place) = (!self.spectral_norm, init.at("body"));
        let sizes = [layout.last_width(), spec.classes.len()];
        NamingDiscriminator {
            body: layout.discriminator(spec.channels, batch_norm, false, &place),
            classes: init.at("classes").conv2d(sizes, 4, 1, 0, true, LAW),
        }
    }
}

/// Images to logits, and to logits of classes.
#[derive(Module, Debug)]
pub struct NamingDiscriminator {
    body: Discriminator,
    classes: Conv2d,
}

impl NamingDiscriminator {
    /// Logits `[n]` and logits of the classes `[n, classes]` of signed images; `spectra`, one for
    /// each of its matrices, normalise weights.
    pub fn forward(&self, x: Tensor<4>, mode: Mode, spectra: &[Spectrum]) -> Opinion {
        let maps = self.body.maps(x, mode, spectra); // [n, c, 4, 4]
        let named = convolve(&self.classes, maps.clone(), spectra.last()); // [n, classes, 1, 1]
        let [n, classes, _, _] = named.dims();
        Opinion {
            logits: self.body.logits(maps, spectra),
            classes: Some(named.reshape([n, classes])),
        }
    }
}

impl Judges for NamingDiscriminator {
    fn opinion(
        &self,
        x: Tensor<4>,
        _classes: Option<Tensor<2>>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Opinion {
        self.forward(x, mode, spectra)
    }

    fn features(&self, x: Tensor<4>, spectra: &[Spectrum]) -> Tensor<2> {
        quarters(self.body.maps(x, Mode::Use, spectra))
    }

    /// The convolutions up to the logits, and behind them that of the classes.
    fn matrices(&self) -> Vec<Tensor<2>> {
        let mut weights = self.body.weights();
        weights.push(matrix(self.classes.weight.val().inner()));
        weights
    }
}

/// An auxiliary classifier GAN in training.
pub type AcganTrainer = Game<ClassGenerator, NamingDiscriminator>;

/// The family.
pub struct Acgan;

impl Family for Acgan {
    type Config = AcganConfig;
    type Trainer = AcganTrainer;

    const INFO: Info = Info {
        id: "acgan",
        title: "Auxiliary classifier GAN",
        paper: "Odena, Olah and Shlens, Conditional Image Synthesis with Auxiliary Classifier GANs, 2017",
        summary: "images of a class asked for that are typical of it; needs labelled images",
        sizes: "16×16, 32×32, 64×64 or 128×128 (28×28 with network = \"mnist28\")",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.5,
        beta2: 0.999,
        average_half_life_images: 5_000.0,
    };

    fn natural_size(config: &AcganConfig, height: usize, width: usize) -> (usize, usize) {
        config.network.natural_size(height, width)
    }

    fn check(config: &AcganConfig, spec: &DataSpec) -> Result<()> {
        config.network.check(spec)?;
        check_classes(Self::INFO.id, spec)?;
        if config.latent == 0 || config.class_latent == 0 || config.width == 0 {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent, class_latent and width must be at least 1",
            ));
        }
        config.rules().check()
    }

    fn trainer(config: &AcganConfig, context: &TrainerContext) -> Result<AcganTrainer> {
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
        config: &AcganConfig,
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

    /// There are no published weights that this family knows.
    fn import(
        _files: &[TensorMap],
        _config: AcganConfig,
    ) -> Result<(AcganConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "family acgan knows no published weights",
            "train it; family dcgan imports an unconditional one",
        ))
    }

    fn tiny() -> (AcganConfig, DataSpec) {
        let config = AcganConfig {
            latent: 6,
            class_latent: 3,
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 16,
                width: 16,
                classes: ["a", "b", "c"].map(String::from).to_vec(),
                attributes: vec![],
            },
        )
    }
}
