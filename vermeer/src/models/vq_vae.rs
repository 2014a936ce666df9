//! VQ-VAE (van den Oord et al., Neural Discrete Representation Learning, 2017): an image becomes a
//! small map of codes out of a codebook, and a prior over such maps makes new ones.
//!
//! ```text
//! z = E(x)          k = argmin_i ‖z − e_i‖²          q = z + sg[e_k − z]
//! autoencoder:  loss = mean (x − D(q))² / variance + commitment · mean (z − sg[e_k])²
//! prior:        loss = −log p(k) / places, on the codes as they are, without a way to the encoder
//! ```
//!
//! sg stops gradients. The codebook has none: it follows the encoder by moving averages
//! ([`Codebook`]). Autoencoder and prior learn in one run, the prior from `prior_after_images` on.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | unit |
//! | `z`, `e`, `q` | `[n, code_size, height / f, width / f]` | any |
//! | code maps | `[n, 1, height / f, width / f]` | whole numbers `0..codes` as floats |

mod codebook;
mod network;
mod pipeline;
mod prior;
mod stepper;
#[cfg(test)]
mod tests;
mod trainer;
mod transformer;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::codebook::Codebook;
use self::network::{Decoder, Encoder};
use self::pipeline::VqVaePipeline;
pub use self::prior::{Prior, PriorNetwork};
pub use self::trainer::VqVaeTrainer;
pub use self::transformer::TransformerNet;
use crate::nn::{Init, load};
use crate::optim::part;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::Scalars;
use crate::{Error, Result};

/// Settings of a VQ-VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqVaeConfig {
    /// Channels inside encoder and decoder; even. Default 64.
    pub width: usize,
    /// Residual blocks of the encoder, and of the decoder. Default 2.
    pub residual_blocks: usize,
    /// Channels inside a residual block. Default 32.
    pub residual_width: usize,
    /// How many times smaller than the image a side of the code map is: 2, 4 or 8. Default 4.
    pub downsampling: usize,
    /// Codes in the codebook. Default 256.
    pub codes: usize,
    /// Numbers of a code. Default 32.
    pub code_size: usize,
    /// What the squared error of unit pixels is divided by: about the variance of the data. Default 0.1.
    pub variance: f64,
    /// Weight of the loss that holds the encoder to the codes it chose. Default 0.25.
    pub commitment: f64,
    /// Share of the codebook's averages that a step keeps. Default 0.99.
    pub decay: f64,
    /// Whether dead codes start anew at outputs of the encoder, until the prior begins to learn. Default true.
    pub restart: bool,
    /// Network of the prior: `gated-pixel-cnn` or `transformer`.
    pub prior: PriorNetwork,
    /// Features of the prior; with `transformer` a multiple of 4, its number of heads. Default 64.
    pub prior_width: usize,
    /// Layers of the prior. Default 4.
    pub prior_layers: usize,
    /// Images trained on before the prior begins to learn. Default 50000.
    pub prior_after_images: u64,
    /// Whether the prior is told the class. Default false.
    pub conditional: bool,
}

impl Default for VqVaeConfig {
    fn default() -> Self {
        Self {
            width: 64,
            residual_blocks: 2,
            residual_width: 32,
            downsampling: 4,
            codes: 256,
            code_size: 32,
            variance: 0.1,
            commitment: 0.25,
            decay: 0.99,
            restart: true,
            prior: PriorNetwork::GatedPixelCnn,
            prior_width: 64,
            prior_layers: 4,
            prior_after_images: 50_000,
            conditional: false,
        }
    }
}

impl VqVaeConfig {
    /// The autoencoder for images of `spec`, its parameters drawn by `init`.
    pub fn autoencoder(&self, spec: &DataSpec, init: &Init) -> VqVaeNet {
        VqVaeNet {
            encoder: Encoder::new(self, spec.channels, &init.at("encoder")),
            codebook: Codebook::new(self.codes, self.code_size, init),
            decoder: Decoder::new(self, spec.channels, &init.at("decoder")),
            config: self.clone(),
        }
    }

    /// The prior over the code maps of images of `spec`, its parameters drawn by `init`.
    pub fn prior(&self, spec: &DataSpec, init: &Init) -> Prior {
        Prior::new(self, &self.map(spec), init)
    }

    /// The code maps of images of `spec`, as images of one channel.
    fn map(&self, spec: &DataSpec) -> DataSpec {
        DataSpec {
            channels: 1,
            height: spec.height / self.downsampling,
            width: spec.width / self.downsampling,
            classes: spec.classes.clone(),
            attributes: vec![],
        }
    }

    /// Checks the sizes of the networks.
    fn check_sizes(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if self.width < 2 || !self.width.is_multiple_of(2) {
            return wrong(
                format!("model.width = {}", self.width),
                "half of the channels belong to the first convolution: choose an even number",
            );
        }
        let sizes = [
            ("residual_width", self.residual_width),
            ("code_size", self.code_size),
            ("prior_width", self.prior_width),
            ("prior_layers", self.prior_layers),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return wrong(format!("model.{name} = 0"), "it must be at least 1");
        }
        if !(2..=65_536).contains(&self.codes) {
            return wrong(
                format!("model.codes = {}", self.codes),
                "a codebook has 2 to 65536 codes",
            );
        }
        if ![2, 4, 8].contains(&self.downsampling) {
            return wrong(
                format!("model.downsampling = {}", self.downsampling),
                "each convolution halves the sides: choose 2, 4 or 8",
            );
        }
        if self.prior == PriorNetwork::Transformer && !self.prior_width.is_multiple_of(4) {
            return wrong(
                format!(
                    "model.prior_width = {} with prior = \"transformer\"",
                    self.prior_width
                ),
                "its features are divided among four heads: choose a multiple of 4",
            );
        }
        Ok(())
    }
}

/// What the codebook makes of the encoder's outputs.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The encoder's outputs, one for each place of the maps in turn, `[n · h · w, code_size]`,
    /// without gradients.
    pub vectors: Tensor<2>,
    /// The nearest code at each place, `[n · h · w]`.
    pub codes: Tensor<1, Int>,
    /// These codes, `[n, code_size, h, w]`, without gradients.
    pub nearest: Tensor<4>,
}

impl Quantised {
    /// The number of the code at each place, on the host.
    pub fn numbers(&self) -> Vec<u32> {
        let data = self.codes.clone().into_data().convert::<i64>();
        let codes: Vec<i64> = data.try_into_vec().expect("the data were converted to i64");
        codes.into_iter().map(|code| code as u32).collect()
    }
}

/// The autoencoder.
#[derive(Module, Debug)]
pub struct VqVaeNet {
    encoder: Encoder,
    codebook: Codebook,
    decoder: Decoder,
    #[module(skip)]
    config: VqVaeConfig,
}

impl VqVaeNet {
    /// The codebook.
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// The encoder's outputs `[n, code_size, h / f, w / f]` of unit images.
    pub fn encode(&self, x: Tensor<4>) -> Tensor<4> {
        self.encoder.forward(x.sub_scalar(0.5))
    }

    /// The nearest codes to outputs of the encoder.
    pub fn quantise(&self, z: Tensor<4>) -> Quantised {
        let vectors = vectors(z.clone());
        let codes = self.codebook.nearest(vectors.clone());
        let [n, size, height, width] = z.dims();
        let nearest = self
            .codebook
            .codes()
            .select(0, codes.clone())
            .reshape([n, height, width, size])
            .permute([0, 3, 1, 2]);
        let nearest = match z.is_autodiff() {
            true => Tensor::from_inner(nearest),
            false => nearest,
        };
        Quantised {
            vectors,
            codes,
            nearest,
        }
    }

    /// Images of codes `[n, code_size, h / f, w / f]`, about unit range.
    pub fn decode(&self, codes: Tensor<4>) -> Tensor<4> {
        self.decoder.forward(codes).add_scalar(0.5)
    }

    /// The codes `[n, code_size, h, w]` with these numbers, `[n, h, w]`.
    fn codes_of(&self, numbers: &[u16], [n, height, width]: [usize; 3]) -> Tensor<4> {
        let numbers: Vec<i32> = numbers.iter().map(|number| i32::from(*number)).collect();
        let codes = self.codebook.codes();
        let size = codes.dims()[1];
        let numbers = Tensor::<1, Int>::from_data(&numbers[..], &codes.device());
        codes
            .select(0, numbers)
            .reshape([n, height, width, size])
            .permute([0, 3, 1, 2])
    }

    /// The loss of unit images, `[1]`, what is told of it, and the codes they chose. Scalars:
    /// `loss`, `reconstruction` (over `variance`) and `commitment`.
    pub fn loss(&self, x: Tensor<4>) -> (Tensor<1>, Scalars, Quantised) {
        let z = self.encode(x.clone());
        let quantised = self.quantise(z.clone());
        let nearest = quantised.nearest.clone();
        // The value of the nearest code, the gradient of the encoder's output.
        let q = z.clone().add(nearest.clone().sub(z.clone()).detach());
        let reconstruction = self
            .decode(q)
            .sub(x)
            .square()
            .mean()
            .div_scalar(self.config.variance);
        let commitment = z.sub(nearest).square().mean();
        let loss = reconstruction
            .clone()
            .add(commitment.clone().mul_scalar(self.config.commitment));
        let scalar = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        let scalars = vec![
            ("loss", scalar(&loss)),
            ("reconstruction", scalar(&reconstruction)),
            ("commitment", scalar(&commitment)),
        ];
        (loss, scalars, quantised)
    }

    /// Unit images through their codes.
    pub fn reconstruct(&self, x: Tensor<4>) -> Tensor<4> {
        self.decode(self.quantise(self.encode(x)).nearest)
    }
}

/// The vectors of a map `[n, size, h, w]`, place by place, `[n · h · w, size]`, without gradients.
fn vectors(z: Tensor<4>) -> Tensor<2> {
    let [n, size, height, width] = z.dims();
    z.inner()
        .permute([0, 2, 3, 1])
        .reshape([n * height * width, size])
}

/// The family.
pub struct VqVae;

impl Family for VqVae {
    type Config = VqVaeConfig;
    type Trainer = VqVaeTrainer;

    const INFO: Info = Info {
        id: "vq-vae",
        title: "Vector-quantised VAE",
        paper: "van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017",
        summary: "sharp reconstructions from a small map of discrete codes, and samples drawn code by code",
        sizes: "any height and width divisible by 4 (by 2 or 8 with downsampling = 2 or 8)",
        tasks: &[Task::Generate, Task::Reconstruct, Task::Encode],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 0.0,
    };

    fn natural_size(config: &VqVaeConfig, height: usize, width: usize) -> (usize, usize) {
        let factor = config.downsampling.max(1);
        let round = |side: usize| side.div_ceil(factor).max(1) * factor;
        (round(height), round(width))
    }

    fn check(config: &VqVaeConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        config.check_sizes()?;
        let natural = Self::natural_size(config, spec.height, spec.width);
        if natural != (spec.height, spec.width) {
            return wrong(
                format!(
                    "images of {}×{} do not fit a VQ-VAE with model.downsampling = {}",
                    spec.height, spec.width, config.downsampling
                ),
                &format!(
                    "height and width must be divisible by it: --set data.size=[{},{}]",
                    natural.0, natural.1
                ),
            );
        }
        if !(config.variance.is_finite() && config.variance > 0.0) {
            return wrong(
                format!("model.variance = {}", config.variance),
                "variance must be larger than zero",
            );
        }
        if !(config.commitment.is_finite() && config.commitment >= 0.0) {
            return wrong(
                format!("model.commitment = {}", config.commitment),
                "commitment must be zero or larger",
            );
        }
        if !(0.0..1.0).contains(&config.decay) {
            return wrong(
                format!("model.decay = {}", config.decay),
                "decay lies in [0, 1)",
            );
        }
        if config.conditional && spec.classes.is_empty() {
            return wrong(
                "model.conditional = true, but the images have no classes".into(),
                "use labelled images or set model.conditional = false",
            );
        }
        Ok(())
    }

    fn trainer(config: &VqVaeConfig, context: &TrainerContext) -> Result<VqVaeTrainer> {
        Ok(VqVaeTrainer::new(config, context))
    }

    fn pipeline(
        config: &VqVaeConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let init = Init::blank(device);
        let origin = "model.safetensors".as_ref();
        let net = config.autoencoder(spec, &init);
        let net = load(net, &part(weights, "autoencoder."), origin)?;
        let prior = config.prior(spec, &init);
        let prior = load(prior, &part(weights, "prior."), origin)?;
        Ok(Box::new(VqVaePipeline {
            net: net.valid(),
            prior: prior.valid(),
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    /// Knows no published weights.
    fn import(
        _files: &[TensorMap],
        _config: VqVaeConfig,
    ) -> Result<(VqVaeConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published weights of a VQ-VAE are known",
            "train one with `vermeer train`",
        ))
    }

    fn tiny() -> (VqVaeConfig, DataSpec) {
        let config = VqVaeConfig {
            width: 8,
            residual_blocks: 1,
            residual_width: 4,
            codes: 8,
            code_size: 4,
            prior_width: 8,
            prior_layers: 2,
            prior_after_images: 16,
            conditional: true,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 12,
            width: 8,
            classes: vec!["a".into(), "b".into()],
            attributes: vec![],
        };
        (config, spec)
    }
}
