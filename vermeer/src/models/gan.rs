//! The first generative adversarial network (Goodfellow et al., 2014): a generator and a
//! discriminator of fully connected layers play a two-player game.
//!
//! ```text
//! D minimises  −ln σ(D(x)) − ln(1 − σ(D(G(z))))  (+ γ/2 · R1)
//! G minimises  −ln σ(D(G(z)))                       z ~ N(0, I)
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | images | `[n, channels, height, width]` | signed |
//! | logits | `[n]` | any; larger means "real" |

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::{leaky_relu, relu};
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::Linear;

use crate::loss::adversarial::Adversarial;
use crate::nn::{Init, Law, Mode, Spectrum};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::game::{Game, GamePipeline, Generates, Judges, Opinion, Rules};
use crate::{Error, Result};

/// Settings of a GAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanConfig {
    /// Numbers in a latent vector. Default 64.
    pub latent: usize,
    /// Sizes of the generator's hidden layers; the discriminator has them in reverse. Default
    /// `[256, 256]`.
    pub hidden: Vec<usize>,
    /// `non-saturating`, `least-squares` or `hinge`.
    pub loss: Adversarial,
    /// The discriminator's target for real images is one minus this. Default 0.
    pub label_smoothing: f64,
    /// Learning rate of the discriminator over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Updates of the discriminator before each one of the generator. Default 1.
    pub discriminator_steps: usize,
    /// Weight γ of the R1 penalty, taken by finite differences as in family dcgan; 0 switches it
    /// off. Default 0.
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default 1.
    pub r1_every: u64,
}

impl Default for GanConfig {
    fn default() -> Self {
        Self {
            latent: 64,
            hidden: vec![256, 256],
            loss: Adversarial::NonSaturating,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            r1_gamma: 0.0,
            r1_every: 1,
        }
    }
}

/// Slope of the discriminator's leaky ReLU.
const SLOPE: f64 = 0.2;

impl GanConfig {
    fn rules(&self) -> Rules {
        Rules {
            loss: self.loss,
            label_smoothing: self.label_smoothing,
            discriminator_rate: self.discriminator_rate,
            discriminator_steps: self.discriminator_steps,
            r1_gamma: self.r1_gamma,
            r1_every: self.r1_every,
            ..Rules::default()
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> MlpGenerator {
        let pixels = spec.shape().iter().product();
        let (layers, last) = hidden(self.latent, &self.hidden, init);
        MlpGenerator {
            layers,
            out: init.at("out").linear(last, pixels, Law::FanIn),
            latent: self.latent,
            shape: spec.shape(),
        }
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> MlpDiscriminator {
        let pixels = spec.shape().iter().product();
        let sizes: Vec<usize> = self.hidden.iter().rev().copied().collect();
        let (layers, last) = hidden(pixels, &sizes, init);
        MlpDiscriminator {
            layers,
            out: init.at("out").linear(last, 1, Law::FanIn),
        }
    }
}

/// Fully connected layers of these sizes behind `inputs` numbers, and the size of the last.
fn hidden(inputs: usize, sizes: &[usize], init: &Init) -> (Vec<Linear>, usize) {
    let mut from = inputs;
    let mut layers = vec![];
    for (i, size) in sizes.iter().enumerate() {
        layers.push(init.at("layers").at(i).linear(from, *size, Law::FanIn));
        from = *size;
    }
    (layers, from)
}

/// Latents to images: ReLU between the layers, tanh behind them.
#[derive(Module, Debug)]
pub struct MlpGenerator {
    layers: Vec<Linear>,
    out: Linear,
    #[module(skip)]
    latent: usize,
    #[module(skip)]
    shape: [usize; 3],
}

impl MlpGenerator {
    /// Signed images `[n, channels, height, width]` of latents `[n, latent]`.
    pub fn forward(&self, z: Tensor<2>) -> Tensor<4> {
        let n = z.dims()[0];
        let mut x = z;
        for layer in &self.layers {
            x = relu(layer.forward(x)); // [n, hidden]
        }
        let [channels, height, width] = self.shape;
        let pixels = self.out.forward(x).tanh(); // [n, pixels]
        pixels.reshape([n, channels, height, width])
    }
}

impl Generates for MlpGenerator {
    fn latent(&self) -> usize {
        self.latent
    }

    fn images(&self, z: Tensor<2>, _classes: Option<Tensor<2>>, _mode: Mode) -> Tensor<4> {
        self.forward(z)
    }
}

/// Images to logits: leaky ReLU of slope 0.2 between the layers.
#[derive(Module, Debug)]
pub struct MlpDiscriminator {
    layers: Vec<Linear>,
    out: Linear,
}

impl MlpDiscriminator {
    /// Logits `[n]` of signed images.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<1> {
        let logits = self.out.forward(self.hidden(x)); // [n, 1]
        let n = logits.dims()[0];
        logits.reshape([n])
    }

    /// The last hidden layer `[n, hidden]` of signed images.
    fn hidden(&self, x: Tensor<4>) -> Tensor<2> {
        let [n, channels, height, width] = x.dims();
        let mut x = x.reshape([n, channels * height * width]);
        for layer in &self.layers {
            x = leaky_relu(layer.forward(x), SLOPE);
        }
        x
    }
}

impl Judges for MlpDiscriminator {
    fn opinion(
        &self,
        x: Tensor<4>,
        _classes: Option<Tensor<2>>,
        _mode: Mode,
        _spectra: &[Spectrum],
    ) -> Opinion {
        self.forward(x).into()
    }

    fn features(&self, x: Tensor<4>, _spectra: &[Spectrum]) -> Tensor<2> {
        self.hidden(x)
    }

    fn matrices(&self) -> Vec<Tensor<2>> {
        vec![]
    }
}

/// A GAN in training.
pub type GanTrainer = Game<MlpGenerator, MlpDiscriminator>;

/// The family.
pub struct Gan;

impl Family for Gan {
    type Config = GanConfig;
    type Trainer = GanTrainer;

    const INFO: Info = Info {
        id: "gan",
        title: "Generative adversarial network",
        paper: "Goodfellow et al., Generative Adversarial Nets, 2014",
        summary: "the game in its first form, with fully connected networks; to learn from, and as a baseline",
        sizes: "any; small ones, since every pixel has its own weights",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.5,
        beta2: 0.999,
        average_half_life_images: 2_000.0,
    };

    fn natural_size(_config: &GanConfig, height: usize, width: usize) -> (usize, usize) {
        (height, width)
    }

    fn check(config: &GanConfig, spec: &DataSpec) -> Result<()> {
        if config.latent == 0 || config.hidden.is_empty() || config.hidden.contains(&0) {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent and each of one or more hidden layers must be at least 1",
            ));
        }
        if spec.height * spec.width == 0 {
            return Err(Error::settings(
                "images without pixels",
                "set data.size to at least 1",
            ));
        }
        config.rules().check()
    }

    fn trainer(config: &GanConfig, context: &TrainerContext) -> Result<GanTrainer> {
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
        config: &GanConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let blank = Init::blank(device);
        GamePipeline::load(
            &Self::INFO,
            config.generator(spec, &blank),
            config.discriminator(spec, &blank),
            false,
            spec,
            weights,
            device,
        )
    }

    /// Knows generator and discriminator of csinva/gan-vae-pretrained-pytorch: `Sequential`s whose
    /// linear layers are `0`, `2`, `4`. The discriminator is the one that ends in one number.
    fn import(files: &[TensorMap], config: GanConfig) -> Result<(GanConfig, DataSpec, TensorMap)> {
        let mut generators: Vec<(&TensorMap, Vec<[usize; 2]>)> = vec![];
        let mut discriminators: Vec<(&TensorMap, Vec<[usize; 2]>)> = vec![];
        for file in files {
            let sizes = sequence(file);
            match sizes.last() {
                Some([1, _]) => discriminators.push((file, sizes)),
                _ => generators.push((file, sizes)),
            }
        }
        let ([(generator, sizes)], [] | [_]) = (&generators[..], &discriminators[..]) else {
            return Err(unknown(
                "a GAN is one generator, and at most one discriminator beside it",
            ));
        };
        let ([first, ..], [inner @ .., last]) = (&sizes[..], &sizes[..]) else {
            return Err(unknown(
                "these are not the tensors of a known GAN (no 0.weight)",
            ));
        };
        let (latent, pixels) = (first[1], last[0]);
        let hidden: Vec<usize> = inner.iter().map(|[out, _]| *out).collect();
        let config = GanConfig {
            latent,
            hidden,
            ..config
        };
        let side = pixels.isqrt();
        if side * side != pixels || config.hidden.is_empty() {
            return Err(unknown(
                "the generator does not end in a square grey image behind hidden layers",
            ));
        }
        let spec = DataSpec {
            channels: 1,
            height: side,
            width: side,
            classes: vec![],
            attributes: vec![],
        };
        let depth = config.hidden.len();
        let foreign = |name: &str| {
            let (place, last) = name.rsplit_once('.').unwrap_or(("", name));
            let number = match place.strip_prefix("layers.") {
                Some(layer) => layer.parse::<usize>().unwrap_or(depth),
                None => depth,
            };
            format!("{}.{last}", 2 * number)
        };
        let blank = Init::blank(&Device::flex());
        let mut weights = TensorMap::new();
        let network = config.generator(&spec, &blank);
        for (name, tensor) in crate::import::from_pytorch(&network, generator, foreign)? {
            weights.insert(format!("generator.{name}"), tensor);
        }
        if let [(discriminator, _)] = &discriminators[..] {
            let network = config.discriminator(&spec, &blank);
            for (name, tensor) in crate::import::from_pytorch(&network, discriminator, foreign)? {
                weights.insert(format!("discriminator.{name}"), tensor);
            }
        }
        Ok((config, spec, weights))
    }

    fn tiny() -> (GanConfig, DataSpec) {
        let config = GanConfig {
            latent: 8,
            hidden: vec![32, 24],
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 8,
                width: 6,
                classes: vec![],
                attributes: vec![],
            },
        )
    }
}

/// Outputs and inputs of the linear layers `0`, `2`, `4`, … of a `Sequential`.
fn sequence(tensors: &TensorMap) -> Vec<[usize; 2]> {
    let size = |layer: usize| {
        let tensor = tensors.get(&format!("{}.weight", 2 * layer))?;
        <[usize; 2]>::try_from(&tensor.shape[..]).ok()
    };
    (0..).map_while(size).collect()
}

fn unknown(what: &str) -> Error {
    Error::checkpoint(
        "weights",
        what,
        "known are Sequentials of linear layers 0, 2, 4, as in csinva/gan-vae-pretrained-pytorch",
    )
}
