//! Autoencoder (Hinton and Salakhutdinov, 2006): an encoder squeezes images into a code of a few
//! numbers, and a decoder makes the images of it again. It is the baseline that other codes are
//! measured against; it has no prior, so it cannot make new images.
//!
//! ```text
//! loss = Σ over pixels of (x̂ − x)², |x̂ − x| or −x ln x̂ − (1 − x) ln (1 − x̂),  x̂ = decode(encode(x))
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x`, `x̂` | `[n, channels, height, width]` | unit |
//! | `code` | `[n, latent]` | any, or [0, 1] |
//! | `location` | `[n, channels, height, width]` | any; `x̂` is (tanh + 1) / 2 of it, or its sigmoid |

mod network;
pub(crate) mod signs;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_image::{ImageBatch, Range};

pub use self::network::{
    CodeShape, CodeUnits, Decoder, Encoder, Nonlinearity, PixelLoss, signed, sum_of_image,
};
pub(crate) use self::network::{channels_of, check_levels, mean_squared_error, rounded};
use crate::data::HostBatch;
use crate::nn::{Init, host, load};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, of_latents, of_shape, rows_in_blocks,
    unsupported,
};
use crate::train::health::Health;
use crate::train::{Draw, Objective, Scalars, Solo, images_to_device};
use crate::{Error, Result};

/// The network of an autoencoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoencoderNetwork {
    /// Convolutions that halve the image, then fully connected layers; mirrored.
    #[default]
    Conv,
    /// Fully connected.
    Mlp,
}

/// Settings of an autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// `conv` or `mlp`.
    pub network: AutoencoderNetwork,
    /// How often convolutions halve the image; not for `mlp`. Default 2.
    pub levels: usize,
    /// Channels after the first halving; twice as many after the others; not for `mlp`. Default 32.
    pub width: usize,
    /// Sizes of the fully connected layers before the code; may be empty. Default 256.
    pub hidden: Vec<usize>,
    /// Size of the code. Default 64.
    pub latent: usize,
    /// `gelu`, `relu` or `sigmoid` between layers.
    pub activation: Nonlinearity,
    /// `linear` or `sigmoid` numbers in the code.
    pub code: CodeUnits,
    /// `mse`, `l1` or `bernoulli`, summed over the pixels.
    pub loss: PixelLoss,
}

impl Default for AutoencoderConfig {
    fn default() -> Self {
        Self {
            network: AutoencoderNetwork::Conv,
            levels: 2,
            width: 32,
            hidden: vec![256],
            latent: 64,
            activation: Nonlinearity::Gelu,
            code: CodeUnits::Linear,
            loss: PixelLoss::Mse,
        }
    }
}

impl AutoencoderConfig {
    fn shape(&self, spec: &DataSpec) -> CodeShape {
        CodeShape {
            image: spec.shape(),
            levels: match self.network {
                AutoencoderNetwork::Conv => self.levels,
                AutoencoderNetwork::Mlp => 0,
            },
            width: self.width,
            hidden: self.hidden.clone(),
            latent: self.latent,
            activation: self.activation,
            code: self.code,
        }
    }

    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> AutoencoderNet {
        let shape = self.shape(spec);
        AutoencoderNet {
            encoder: shape.encoder(&init.at("encoder")),
            decoder: shape.decoder(&init.at("decoder")),
            config: self.clone(),
        }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct AutoencoderNet {
    encoder: Encoder,
    decoder: Decoder,
    #[module(skip)]
    config: AutoencoderConfig,
}

impl AutoencoderNet {
    /// Codes of unit images, `[n, latent]`.
    pub fn encode(&self, x: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(signed(x))
    }

    /// Locations of the pixels of codes, `[n, channels, height, width]`.
    pub fn decode(&self, code: Tensor<2>) -> Tensor<4> {
        self.decoder.forward(code)
    }

    /// Unit pixels of locations.
    pub fn pixels(&self, location: Tensor<4>) -> Tensor<4> {
        self.config.loss.pixels(location)
    }

    /// The loss of each image, `[n]`, for locations of unit images `x`.
    pub fn per_image(&self, location: Tensor<4>, x: Tensor<4>) -> Tensor<1> {
        self.config.loss.per_image(location, x)
    }

    /// Unit images as the network gives them back.
    fn reconstruct(&self, x: Tensor<4>) -> Tensor<4> {
        self.pixels(self.decode(self.encode(x)))
    }
}

impl Objective for AutoencoderNet {
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)> {
        let x = images_to_device(batch, Range::Unit, draw.device());
        let location = self.decode(self.encode(x.clone()));
        let loss = self.per_image(location.clone(), x.clone()).mean();
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let mse = mean_squared_error(self.pixels(location), x);
        Ok((loss, vec![("loss", value), ("mse", mse)]))
    }

    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health> {
        let x = images_to_device(batch, Range::Unit, draw.device());
        let code = self.encode(x.clone());
        let mut measured = signs::of_images(x, self.pixels(self.decode(code.clone())));
        measured.extend(signs::of_codes(code));
        Ok(Health::judge(measured))
    }

    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline> {
        Box::new(AutoencoderPipeline {
            net: self,
            spec: context.spec.clone(),
            device: context.device.clone(),
        })
    }
}

/// The family.
pub struct Autoencoder;

impl Family for Autoencoder {
    type Config = AutoencoderConfig;
    type Trainer = Solo<AutoencoderNet>;

    const INFO: Info = Info {
        id: "autoencoder",
        title: "Autoencoder",
        paper: "Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, 2006",
        summary: "the baseline for codes: the closest reconstructions at a given code size, but no new images",
        sizes: "any height and width divisible by 2 to the power of model.levels (any at all with network = \"mlp\")",
        tasks: &[Task::Reconstruct, Task::Encode],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 0.0,
    };

    fn natural_size(config: &AutoencoderConfig, height: usize, width: usize) -> (usize, usize) {
        match config.network {
            AutoencoderNetwork::Conv => (
                rounded(height, config.levels),
                rounded(width, config.levels),
            ),
            AutoencoderNetwork::Mlp => (height, width),
        }
    }

    fn check(config: &AutoencoderConfig, spec: &DataSpec) -> Result<()> {
        if config.network == AutoencoderNetwork::Conv {
            check_levels(config.levels, spec.height, spec.width)?;
        }
        config.shape(spec).check()
    }

    fn trainer(
        config: &AutoencoderConfig,
        context: &TrainerContext,
    ) -> Result<Solo<AutoencoderNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &AutoencoderConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        let net = load(net, weights, "model.safetensors".as_ref())?;
        Ok(Box::new(AutoencoderPipeline {
            net: net.valid(),
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    /// Knows the convolutional autoencoder of phlippe/uvadlc_notebooks, tutorial 9
    /// (`encoder.net.…`, `decoder.linear.0`, `decoder.net.…`).
    fn import(
        files: &[TensorMap],
        config: AutoencoderConfig,
    ) -> Result<(AutoencoderConfig, DataSpec, TensorMap)> {
        let [tensors] = files else {
            return Err(Error::checkpoint(
                "weights",
                "an autoencoder is one file of tensors",
                "name that file alone",
            ));
        };
        let shape = |name: &str| -> Vec<usize> {
            tensors
                .get(name)
                .map(|tensor| tensor.shape.clone())
                .unwrap_or_default()
        };
        let (first, last) = (
            shape("encoder.net.0.weight"),
            shape("encoder.net.11.weight"),
        );
        let (&[width, channels, _, _], &[latent, flat]) = (&first[..], &last[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "these are not the tensors of a known autoencoder (no encoder.net.0.weight and encoder.net.11.weight)",
                "known is the convolutional autoencoder of phlippe/uvadlc_notebooks, tutorial 9",
            ));
        };
        if config.loss == PixelLoss::Bernoulli {
            return Err(Error::settings(
                "these weights end in tanh, and a Bernoulli loss wants logits",
                "set model.loss to \"mse\" or \"l1\"",
            ));
        }
        let config = AutoencoderConfig {
            network: AutoencoderNetwork::Conv,
            levels: 3,
            width,
            hidden: vec![],
            latent,
            activation: Nonlinearity::Gelu,
            code: CodeUnits::Linear,
            loss: config.loss,
        };
        // What three halvings leave of a square image has twice `width` channels.
        let side = (flat / (2 * width).max(1)).isqrt() << 3;
        let spec = DataSpec {
            channels,
            height: side,
            width: side,
            classes: vec![],
            attributes: vec![],
        };
        Self::check(&config, &spec).map_err(|error| {
            Error::checkpoint(
                "weights",
                format!("the tensors' sizes make no autoencoder: {error}"),
                "known is the convolutional autoencoder of phlippe/uvadlc_notebooks, tutorial 9",
            )
        })?;
        let blank = config.init(&spec, &Init::blank(&Device::flex()));
        let weights = crate::import::from_pytorch(&blank, tensors, published_name)?;
        Ok((config, spec, weights))
    }

    fn tiny() -> (AutoencoderConfig, DataSpec) {
        let config = AutoencoderConfig {
            width: 4,
            hidden: vec![16],
            latent: 4,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 12,
            width: 8,
            classes: vec![],
            attributes: vec![],
        };
        (config, spec)
    }
}

/// The name that tutorial 9 gives one of our tensors. Its layers are numbered together with the
/// activations between them.
fn published_name(name: &str) -> String {
    let words: Vec<&str> = name.split('.').collect();
    let [part, kind, index, last] = words[..] else {
        return name.to_owned();
    };
    let number: usize = index.parse().unwrap_or_default();
    match (part, kind) {
        ("encoder", "layers") => format!("encoder.net.11.{last}"),
        ("decoder", "layers") => format!("decoder.linear.0.{last}"),
        (_, "convolutions") => format!("{part}.net.{}.{last}", 4 * number + 2),
        _ => format!("{part}.net.{}.{last}", 4 * number),
    }
}

struct AutoencoderPipeline {
    net: AutoencoderNet,
    spec: DataSpec,
    device: Device,
}

impl AutoencoderPipeline {
    fn checked(&self, images: &ImageBatch) -> Result<Tensor<4>> {
        of_shape(images, self.spec.shape(), Range::Unit, &self.device)
    }
}

impl Pipeline for AutoencoderPipeline {
    fn tasks(&self) -> &'static [Task] {
        Autoencoder::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn code_dims(&self) -> Option<usize> {
        Some(self.net.config.latent)
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        options.only(Autoencoder::INFO.id, &[])?;
        let size = [numbers.len(), self.net.config.latent];
        let codes = of_latents(latents, size, &self.device)?;
        let x = rows_in_blocks(codes, |code| Ok(self.net.pixels(self.net.decode(code))))?;
        Ok(ImageBatch::new(x, Range::Unit)?)
    }

    fn answer(&self, request: &Request, _progress: Progress) -> Result<Answer> {
        match request {
            Request::Reconstruct { images, .. } => {
                let x = self.checked(images)?;
                let again = rows_in_blocks(x, |x| Ok(self.net.reconstruct(x)))?;
                Ok(Answer::Images(ImageBatch::new(again, Range::Unit)?))
            }
            Request::Encode { images, .. } => {
                let x = self.checked(images)?;
                let codes = rows_in_blocks(x, |x| Ok(self.net.encode(x)))?;
                Ok(Answer::Codes(rows(codes)))
            }
            _ => Err(unsupported(
                Autoencoder::INFO.id,
                request.task(),
                self.tasks(),
            )),
        }
    }
}

/// The rows of codes `[n, latent]`, read back to the host.
pub(crate) fn rows(codes: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, latent] = codes.dims();
    host(codes).chunks(latent).map(<[f32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_tutorial_count_the_activations() {
        for (own, published) in [
            ("encoder.reductions.2.weight", "encoder.net.8.weight"),
            ("encoder.convolutions.1.bias", "encoder.net.6.bias"),
            ("encoder.layers.0.weight", "encoder.net.11.weight"),
            ("decoder.layers.0.bias", "decoder.linear.0.bias"),
            ("decoder.enlargements.2.weight", "decoder.net.8.weight"),
            ("decoder.convolutions.0.weight", "decoder.net.2.weight"),
        ] {
            assert_eq!(published_name(own), published);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_with_those_that_do() {
        let (config, spec) = Autoencoder::tiny();
        let wide = DataSpec { width: 10, ..spec };
        let error = Autoencoder::check(&config, &wide).unwrap_err();
        assert!(error.remedy().unwrap().contains("[12,12]"), "{error:?}");
        let mlp = AutoencoderConfig {
            network: AutoencoderNetwork::Mlp,
            ..config
        };
        assert!(Autoencoder::check(&mlp, &wide).is_ok());
    }
}
