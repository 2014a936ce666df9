//! Denoising autoencoder (Vincent et al., 2008 and 2010): a network is shown spoiled images and
//! learns to give back the clean ones, so that its code holds what noise does not change. With a
//! contractive term (Rifai et al., 2011) the code also moves little where the image moves.
//!
//! ```text
//! loss = Σ over pixels of ℓ(x̂, x) + λ · Σⱼ (hⱼ (1 − hⱼ))² ‖Wⱼ‖²,   x̂ = decode(encode(x̃))
//! ```
//!
//! x̃ is x spoiled anew at each step ([`Corruption`]). The second sum is the squared Frobenius norm
//! of the Jacobian of the code h = σ(W x + b) at the clean image, with respect to the pixels as the
//! network sees them, in [−1, 1]; it has this closed form for one sigmoid layer only.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x`, `spoiled` | `[n, channels, height, width]` | unit |
//! | `code` | `[n, latent]` | any, or [0, 1] |
//! | `location` | `[n, channels, height, width]` | any; `x̂` is (tanh + 1) / 2 of it, or its sigmoid; of a U-Net the pixels themselves |

mod network;
mod unet;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_image::{ImageBatch, Range};

pub use self::network::{CodeNet, DaeBody, DaeLoss, DaeNet};
pub use self::unet::SkipNet;
use super::autoencoder::{
    CodeUnits, Nonlinearity, PixelLoss, check_levels, mean_squared_error, rounded, rows, signs,
};
use crate::data::HostBatch;
use crate::data::corruption::Corruption;
use crate::nn::{Init, load};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, of_latents, of_shape, rows_in_blocks,
    unsupported,
};
use crate::train::health::{Health, Limit};
use crate::train::{Draw, Objective, Scalars, Solo, images_to_device};
use crate::{Error, Result};

/// The network of a denoising autoencoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaeNetwork {
    /// Convolutions that halve the image, then fully connected layers; mirrored.
    #[default]
    Conv,
    /// Fully connected.
    Mlp,
    /// A U-Net that corrects its input; it has no code.
    Unet,
}

/// Settings of a denoising autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaeConfig {
    /// `conv`, `mlp` or `unet`.
    pub network: DaeNetwork,
    /// How often convolutions halve the image; not for `mlp`. Default 2.
    pub levels: usize,
    /// Channels at the first level of convolutions; twice as many at the others; not for `mlp`.
    /// Default 32.
    pub width: usize,
    /// Sizes of the fully connected layers before the code; may be empty; not for `unet`. Default
    /// 256.
    pub hidden: Vec<usize>,
    /// Size of the code; a U-Net has none. Default 64.
    pub latent: usize,
    /// `gelu`, `relu` or `sigmoid` between layers.
    pub activation: Nonlinearity,
    /// `linear` or `sigmoid` numbers in the code.
    pub code: CodeUnits,
    /// `mse`, `l1` or `bernoulli`, summed over the pixels.
    pub loss: PixelLoss,
    /// `gaussian`, `salt-and-pepper`, `masking` or `blur`, drawn anew at each step.
    pub corruption: Corruption,
    /// Standard deviation of the noise in unit pixels, share of spoiled pixels, or standard
    /// deviation of the blur in pixels; 0 spoils nothing. Default 0.3.
    pub strength: f64,
    /// Weight λ of the contractive term, for one sigmoid layer; 0 switches it off. Default 0.
    pub contraction: f64,
}

impl Default for DaeConfig {
    fn default() -> Self {
        Self {
            network: DaeNetwork::Conv,
            levels: 2,
            width: 32,
            hidden: vec![256],
            latent: 64,
            activation: Nonlinearity::Gelu,
            code: CodeUnits::Linear,
            loss: PixelLoss::Mse,
            corruption: Corruption::Gaussian,
            strength: 0.3,
            contraction: 0.0,
        }
    }
}

impl Objective for DaeNet {
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)> {
        let x = images_to_device(batch, Range::Unit, draw.device());
        let spoiled = self.spoiled(batch, draw);
        let location = self.locate(spoiled.clone());
        let parts = self.loss(location.clone(), x.clone());
        let number = |value: &Tensor<1>| f64::from(value.clone().into_scalar::<f32>());
        let mut loss = parts.reconstruction.mean();
        let mut scalars = vec![("loss", number(&loss)), ("reconstruction", number(&loss))];
        if let Some(contraction) = parts.contraction {
            let contraction = contraction.mean();
            scalars.push(("contraction", number(&contraction)));
            loss = loss.add(contraction.mul_scalar(self.config.contraction));
            scalars[0].1 = number(&loss);
        }
        let mse = mean_squared_error(self.pixels(location), x.clone());
        scalars.push(("mse", mse));
        scalars.push(("mse_before", mean_squared_error(spoiled, x)));
        Ok((loss, scalars))
    }

    /// Denoising that does not bring images nearer to the clean ones is worse than none.
    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health> {
        let x = images_to_device(batch, Range::Unit, draw.device());
        let spoiled = self.spoiled(batch, draw);
        let clean = self.clean(spoiled.clone());
        let after = mean_squared_error(clean.clone(), x.clone());
        let before = mean_squared_error(spoiled, x.clone());
        let mut measured = signs::of_images(x.clone(), clean);
        if before > 1e-9 {
            measured.push((
                "error_after_over_before",
                after / before,
                Limit::Above {
                    watch: 0.9,
                    bad: 1.0,
                },
                "squared error of denoised images over that of the spoiled ones; above 1 denoising makes them worse: train longer, raise model.latent, or set model.network = \"unet\"",
            ));
        }
        if let Some(code) = self.encode(x) {
            measured.extend(signs::of_codes(code));
        }
        Ok(Health::judge(measured))
    }

    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline> {
        Box::new(DaePipeline {
            net: self,
            spec: context.spec.clone(),
            device: context.device.clone(),
        })
    }
}

/// The family.
pub struct Dae;

impl Family for Dae {
    type Config = DaeConfig;
    type Trainer = Solo<DaeNet>;

    const INFO: Info = Info {
        id: "dae",
        title: "Denoising autoencoder",
        paper: "Vincent, Larochelle, Lajoie, Bengio and Manzagol, Stacked Denoising Autoencoders, 2010",
        summary: "takes noise, lost pixels or blur out of images, and gives codes that noise does not change",
        sizes: "any height and width divisible by 2 to the power of model.levels (any at all with network = \"mlp\")",
        tasks: &[Task::Reconstruct, Task::Encode, Task::Denoise],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 0.0,
    };

    fn natural_size(config: &DaeConfig, height: usize, width: usize) -> (usize, usize) {
        match config.network {
            DaeNetwork::Conv | DaeNetwork::Unet => (
                rounded(height, config.levels),
                rounded(width, config.levels),
            ),
            DaeNetwork::Mlp => (height, width),
        }
    }

    fn check(config: &DaeConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if config.network != DaeNetwork::Mlp {
            check_levels(config.levels, spec.height, spec.width)?;
        }
        config.shape(spec).check()?;
        config.corruption.check(config.strength, spec.shape())?;
        if config.network == DaeNetwork::Unet && config.loss == PixelLoss::Bernoulli {
            return wrong(
                "a U-Net corrects pixels and gives no probabilities".into(),
                "set model.loss to \"mse\" or \"l1\", or model.network to \"conv\" or \"mlp\"",
            );
        }
        if !config.contraction.is_finite() || config.contraction < 0.0 {
            return wrong(
                format!("model.contraction = {}", config.contraction),
                "it is a weight: zero or larger",
            );
        }
        let one_sigmoid_layer = config.network == DaeNetwork::Mlp
            && config.hidden.is_empty()
            && config.code == CodeUnits::Sigmoid;
        if config.contraction > 0.0 && !one_sigmoid_layer {
            return wrong(
                "the contractive term is known for one sigmoid layer only".into(),
                "set model.network = \"mlp\", model.hidden = [] and model.code = \"sigmoid\", or model.contraction = 0",
            );
        }
        Ok(())
    }

    fn trainer(config: &DaeConfig, context: &TrainerContext) -> Result<Solo<DaeNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &DaeConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        let net = load(net, weights, "model.safetensors".as_ref())?;
        Ok(Box::new(DaePipeline {
            net: net.valid(),
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    fn import(_: &[TensorMap], _: DaeConfig) -> Result<(DaeConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published denoising autoencoder is known",
            "train one, or import a plain autoencoder into the family autoencoder",
        ))
    }

    fn tiny() -> (DaeConfig, DataSpec) {
        let config = DaeConfig {
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

struct DaePipeline {
    net: DaeNet,
    spec: DataSpec,
    device: Device,
}

impl DaePipeline {
    fn clean(&self, images: &ImageBatch) -> Result<Answer> {
        let x = of_shape(images, self.spec.shape(), Range::Unit, &self.device)?;
        let clean = rows_in_blocks(x, |x| Ok(self.net.clean(x)))?;
        Ok(Answer::Images(ImageBatch::new(clean, Range::Unit)?))
    }
}

impl Pipeline for DaePipeline {
    fn tasks(&self) -> &'static [Task] {
        match self.net.config.network {
            DaeNetwork::Conv | DaeNetwork::Mlp => Dae::INFO.tasks,
            DaeNetwork::Unet => &[Task::Reconstruct, Task::Denoise],
        }
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn code_dims(&self) -> Option<usize> {
        match self.net.config.network {
            DaeNetwork::Conv | DaeNetwork::Mlp => Some(self.net.config.latent),
            DaeNetwork::Unet => None,
        }
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        options.only(Dae::INFO.id, &[])?;
        let size = [numbers.len(), self.net.config.latent];
        let codes = of_latents(latents, size, &self.device)?;
        let x = rows_in_blocks(codes, |code| {
            let location = self.net.decode(code).ok_or_else(|| {
                Error::settings(
                    "a U-Net makes images of no code",
                    "choose a run with model.network = \"conv\" or \"mlp\"",
                )
            })?;
            Ok(self.net.pixels(location))
        })?;
        Ok(ImageBatch::new(x, Range::Unit)?)
    }

    fn answer(&self, request: &Request, _progress: Progress) -> Result<Answer> {
        let refused = || unsupported(Dae::INFO.id, request.task(), self.tasks());
        match request {
            Request::Reconstruct { images, .. } => self.clean(images),
            Request::Denoise(images) => self.clean(images),
            Request::Encode { images, .. } => {
                let x = of_shape(images, self.spec.shape(), Range::Unit, &self.device)?;
                let codes = rows_in_blocks(x, |x| self.net.encode(x).ok_or_else(refused))?;
                Ok(Answer::Codes(rows(codes)))
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contractive_term_needs_one_sigmoid_layer() {
        let (config, spec) = Dae::tiny();
        let contractive = DaeConfig {
            contraction: 0.1,
            ..config
        };
        assert!(Dae::check(&contractive, &spec).is_err());
        let one_layer = DaeConfig {
            network: DaeNetwork::Mlp,
            hidden: vec![],
            code: CodeUnits::Sigmoid,
            ..contractive
        };
        assert!(Dae::check(&one_layer, &spec).is_ok());
    }

    #[test]
    fn the_contractive_term_is_the_norm_of_finite_differences() {
        let (config, spec) = Dae::tiny();
        let config = DaeConfig {
            network: DaeNetwork::Mlp,
            hidden: vec![],
            code: CodeUnits::Sigmoid,
            contraction: 1.0,
            ..config
        };
        let spec = DataSpec {
            height: 2,
            width: 3,
            ..spec
        };
        let device = Device::flex();
        let net = config.init(&spec, &Init::new(1, &device));
        let image = [0.1f32, 0.9, 0.4, 0.6, 0.2, 0.7];
        let codes = |image: &[f32]| -> Vec<f32> {
            let x = Tensor::<1>::from_floats(image, &device).reshape([1, 1, 2, 3]);
            crate::nn::host(net.encode(x).unwrap())
        };
        let step = 1e-2f32;
        let mut norm = 0.0;
        for pixel in 0..image.len() {
            let (mut above, mut below) = (image, image);
            above[pixel] += step;
            below[pixel] -= step;
            // A step of a unit pixel is twice that of a signed one.
            let slopes = codes(&above)
                .into_iter()
                .zip(codes(&below))
                .map(|(a, b)| f64::from(a - b) / f64::from(4.0 * step));
            norm += slopes.map(|slope| slope * slope).sum::<f64>();
        }
        let x = Tensor::<1>::from_floats(&image[..], &device).reshape([1, 1, 2, 3]);
        let closed = f64::from(net.contraction(x).unwrap().into_scalar::<f32>());
        assert!((closed / norm - 1.0).abs() < 1e-3, "{closed}, not {norm}");
    }

    #[test]
    fn an_untrained_unet_leaves_images_as_they_are() {
        let (config, spec) = Dae::tiny();
        let config = DaeConfig {
            network: DaeNetwork::Unet,
            ..config
        };
        let device = Device::flex();
        let net = config.init(&spec, &Init::new(1, &device));
        let values: Vec<f32> = (0..96u8).map(|k| f32::from(k) / 95.0).collect();
        let x = Tensor::<1>::from_floats(&values[..], &device).reshape([1, 1, 12, 8]);
        assert_eq!(crate::nn::host(net.clean(x)), values);
        assert!(net.encode(Tensor::zeros([1, 1, 12, 8], &device)).is_none());
    }
}
