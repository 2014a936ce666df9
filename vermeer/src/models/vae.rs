//! Variational autoencoder (Kingma and Welling, 2014): images are decoded from a Gaussian code
//! that an encoder infers.
//!
//! ```text
//! one draw:   loss = E_q(z|x)[ −log p(x|z) ] + beta · KL(q(z|x) ‖ N(0, I))     in nats per image
//! K draws:    loss = −log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x)               Burda et al., 2016
//! free bits:  KL   = Σ_j max(free_bits, mean over the batch of KL_j)         Kingma et al., 2016
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | unit |
//! | `mu`, `log_var`, `z` | `[n, latent]` | any |
//! | `location` | `[n, channels, height, width]` | logits (Bernoulli) or means |

mod bound;
mod network;
mod pipeline;
mod pixels;

use burn::module::{Module, Param};
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::Linear;

pub(crate) use bound::code_signs;
pub use bound::{Elbo, Given, KlTerm, log_mean_exp};
use network::Layout;
pub use network::{Activation, Decoder, Encoder, VaeNetwork};
use pipeline::VaePipeline;
pub(crate) use pipeline::{codes, sampled, truncated};
pub use pixels::{Binarise, Likelihood};

use crate::data::HostBatch;
use crate::nn::{Init, Law, load};
use crate::random::Purpose;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::health::Health;
use crate::train::{Draw, Objective, Scalars, Solo};
use crate::{Error, Result};

/// Settings of a VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaeConfig {
    /// `conv` or `mlp`.
    pub network: VaeNetwork,
    /// Between the layers: `relu` or `tanh`. Default relu.
    pub activation: Activation,
    /// Size of the code. Default 32.
    pub latent: usize,
    /// Sizes of the hidden layers; the convolutional network has one. Default 256.
    pub hidden: Vec<usize>,
    /// Channels of the first convolution; the second has twice as many. Default 32.
    pub width: usize,
    /// Weight of the KL term. Default 1.
    pub beta: f64,
    /// Draws of the code for each image; more than one is the importance-weighted bound. Default 1.
    pub draws: usize,
    /// Images trained on with one draw before `draws` are taken. Default 0.
    pub one_draw_images: u64,
    /// Nats that each code number may carry at no cost. Default 0.
    pub free_bits: f64,
    /// Images over which the weight of the KL term grows from zero to `beta`. Default 0.
    pub warmup_images: u64,
    /// `bernoulli`, `gaussian`, `gaussian-learned` or `discretised-logistic`.
    pub likelihood: Likelihood,
    /// Standard deviation of the Gaussian likelihood, in unit pixels, and where the learned
    /// scales start. Default 0.1.
    pub sigma: f64,
    /// `no` or `dynamic`. Default no.
    pub binarise: Binarise,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            network: VaeNetwork::Conv,
            activation: Activation::Relu,
            latent: 32,
            hidden: vec![256],
            width: 32,
            beta: 1.0,
            draws: 1,
            one_draw_images: 0,
            free_bits: 0.0,
            warmup_images: 0,
            likelihood: Likelihood::Bernoulli,
            sigma: 0.1,
            binarise: Binarise::No,
        }
    }
}

impl VaeConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> VaeNet {
        self.init_given(spec, 0, init)
    }

    /// A network that is told a condition of `condition` numbers besides the image and the code.
    pub(crate) fn init_given(&self, spec: &DataSpec, condition: usize, init: &Init) -> VaeNet {
        let layout = Layout {
            network: self.network,
            activation: self.activation,
            hidden: &self.hidden,
            width: self.width,
            latent: self.latent,
            condition,
            shape: spec.shape(),
        };
        let (features, law) = (layout.features(), Law::FanIn);
        VaeNet {
            encoder: layout.encoder(&init.at("encoder")),
            mu: init.at("mu").linear(features, self.latent, law),
            log_var: init.at("log_var").linear(features, self.latent, law),
            decoder: layout.decoder(&init.at("decoder")),
            log_scale: self.likelihood.log_scale(init, spec.channels, self.sigma),
            config: self.clone(),
        }
    }

    /// The size nearest to this one that the network takes.
    pub(crate) fn size_for(&self, height: usize, width: usize) -> (usize, usize) {
        let round = |side: usize| match self.network {
            VaeNetwork::Conv => side.div_ceil(4) * 4,
            VaeNetwork::Mlp => side,
        };
        (round(height), round(width))
    }

    /// Checks the settings against the images.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting and the remedy.
    pub(crate) fn check(&self, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if self.latent == 0 || self.width == 0 || self.hidden.contains(&0) {
            return wrong(
                "a size of 0 in [model]".into(),
                "latent, width and hidden must be at least 1",
            );
        }
        if self.network == VaeNetwork::Conv {
            let natural = self.size_for(spec.height, spec.width);
            if natural != (spec.height, spec.width) {
                return wrong(
                    format!(
                        "images of {}×{} do not fit the convolutional VAE",
                        spec.height, spec.width
                    ),
                    &format!(
                        "height and width must be divisible by 4: --set data.size=[{},{}]",
                        natural.0, natural.1
                    ),
                );
            }
            if self.hidden.len() != 1 {
                return wrong(
                    "model.hidden must hold one size with network = \"conv\"".into(),
                    "for example hidden = [256]",
                );
            }
        }
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return wrong(
                format!("model.sigma = {}", self.sigma),
                "sigma must be larger than zero",
            );
        }
        if self.binarise != Binarise::No && self.likelihood != Likelihood::Bernoulli {
            return wrong(
                "model.binarise needs a Bernoulli likelihood".into(),
                "set model.likelihood = \"bernoulli\" or model.binarise = \"no\"",
            );
        }
        self.check_bound()
    }

    /// Checks the settings of the bound among themselves.
    fn check_bound(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if !self.beta.is_finite() || self.beta < 0.0 {
            return wrong(
                format!("model.beta = {}", self.beta),
                "beta must be zero or larger",
            );
        }
        if !self.free_bits.is_finite() || self.free_bits < 0.0 {
            return wrong(
                format!("model.free_bits = {}", self.free_bits),
                "free_bits must be zero or larger",
            );
        }
        match self.draws {
            0 => wrong("model.draws = 0".into(), "at least one draw is needed"),
            1 if self.one_draw_images > 0 => wrong(
                "model.one_draw_images says when more draws begin, and model.draws is 1".into(),
                "set model.draws to more than 1 or model.one_draw_images to 0",
            ),
            1 => Ok(()),
            _ if self.beta != 1.0 || self.free_bits > 0.0 => wrong(
                "the importance-weighted bound of model.draws > 1 has no KL term to weigh".into(),
                "set model.beta to 1 and model.free_bits to 0, or model.draws to 1",
            ),
            _ => Ok(()),
        }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct VaeNet {
    encoder: Encoder,
    mu: Linear,
    log_var: Linear,
    decoder: Decoder,
    log_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: VaeConfig,
}

impl VaeNet {
    /// The settings it was made by.
    pub(crate) fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Mean and log-variance of the code, each `[n, latent]`.
    pub fn encode(&self, x: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.encode_given(x, None)
    }

    /// As [`VaeNet::encode`], of a network that is told a condition.
    pub(crate) fn encode_given(
        &self,
        x: Tensor<4>,
        given: Option<&Given>,
    ) -> (Tensor<2>, Tensor<2>) {
        let h = self.encoder.forward(x, given.map(|g| g.condition.clone()));
        (self.mu.forward(h.clone()), self.log_var.forward(h))
    }

    /// Location of the pixels, `[n, channels, height, width]`: logits or means.
    pub fn decode(&self, z: Tensor<2>) -> Tensor<4> {
        self.decode_given(z, None)
    }

    /// As [`VaeNet::decode`], of a network that is told a condition.
    pub(crate) fn decode_given(&self, z: Tensor<2>, given: Option<&Given>) -> Tensor<4> {
        self.decoder.forward(z, given.map(|g| g.condition.clone()))
    }

    /// Expected pixels in unit range.
    pub fn expected(&self, z: Tensor<2>) -> Tensor<4> {
        self.expected_given(z, None)
    }

    /// As [`VaeNet::expected`], of a network that is told a condition.
    pub(crate) fn expected_given(&self, z: Tensor<2>, given: Option<&Given>) -> Tensor<4> {
        self.config.likelihood.expected(self.decode_given(z, given))
    }

    /// −log p(x|location), summed over the pixels, `[n]`.
    pub fn negative_log_likelihood(&self, location: Tensor<4>, x: Tensor<4>) -> Tensor<1> {
        self.nats_given(location, x, None)
    }

    /// As [`VaeNet::negative_log_likelihood`], without the pixels that a condition tells.
    pub(crate) fn nats_given(
        &self,
        location: Tensor<4>,
        x: Tensor<4>,
        given: Option<&Given>,
    ) -> Tensor<1> {
        let scale = self.log_scale.as_ref().map(Param::val);
        let (likelihood, sigma) = (self.config.likelihood, self.config.sigma);
        let nats = likelihood.nats(location, scale, sigma, x);
        let nats = match given.and_then(|g| g.modelled.clone()) {
            Some(modelled) => nats.mul(modelled),
            None => nats,
        };
        nats.flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1)
    }

    /// Both parts of the bound for unit images `x` and standard normal `eps` `[n, latent]`.
    pub fn elbo(&self, x: Tensor<4>, eps: Tensor<2>) -> Elbo {
        self.elbo_given(x, eps, None)
    }

    /// log p(x, z) − log q(z|x) for one draw of the code, `[n]`: a term of the
    /// importance-weighted bound (Burda et al., 2016).
    pub fn log_weight(
        &self,
        x: Tensor<4>,
        mu: Tensor<2>,
        log_var: Tensor<2>,
        eps: Tensor<2>,
    ) -> Tensor<1> {
        self.log_weight_given(x, mu, log_var, eps, None)
    }

    /// The loss of unit images `x`, `[1]`, and what is told of it: `loss`, `reconstruction` and
    /// `kl`, means in nats. `eps` is standard normal, `latent` numbers for each draw,
    /// `[n, draws · latent]`; with more than one draw the loss is the negative
    /// importance-weighted bound, in which `kl.weight` weighs log p(z) − log q(z|x).
    pub fn loss(&self, x: Tensor<4>, eps: Tensor<2>, kl: KlTerm) -> (Tensor<1>, Scalars) {
        self.loss_given(x, eps, None, kl)
    }

    /// The KL term and the draws for a batch: those of the images trained on so far, or of a whole
    /// training without free bits where the network is only evaluated.
    pub(crate) fn term_and_draws(&self, batch: &HostBatch, draw: &Draw) -> (KlTerm, usize) {
        let (images, free_bits) = match draw.is_training() {
            true => (
                batch.step.saturating_mul(batch.batch as u64),
                self.config.free_bits,
            ),
            false => (u64::MAX, 0.0),
        };
        let term = KlTerm {
            weight: self.config.kl_weight(images),
            free_bits,
        };
        (term, self.config.draws_at(images))
    }
}

impl Objective for VaeNet {
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)> {
        let (kl, draws) = self.term_and_draws(batch, draw);
        let x = self.config.binarise.pixels(batch, draw);
        let eps = draw.normals(Purpose::Noise, batch, draws * self.config.latent);
        Ok(self.loss(x, eps, kl))
    }

    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health> {
        let (mu, log_var) = self.encode(self.config.binarise.pixels(batch, draw));
        Ok(Health::judge(code_signs(mu, log_var)))
    }

    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline> {
        Box::new(VaePipeline {
            net: self,
            spec: context.spec.clone(),
            device: context.device.clone(),
        })
    }
}

/// The family.
pub struct Vae;

impl Family for Vae {
    type Config = VaeConfig;
    type Trainer = Solo<VaeNet>;

    const INFO: Info = Info {
        id: "vae",
        title: "Variational autoencoder",
        paper: "Kingma and Welling, Auto-Encoding Variational Bayes, 2014",
        summary: "fast and stable; codes to work with and a likelihood bound, but soft images",
        sizes: "any height and width divisible by 4 (any at all with network = \"mlp\")",
        tasks: &[
            Task::Generate,
            Task::Reconstruct,
            Task::Encode,
            Task::Interpolate,
        ],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 0.0,
    };

    fn natural_size(config: &VaeConfig, height: usize, width: usize) -> (usize, usize) {
        config.size_for(height, width)
    }

    fn check(config: &VaeConfig, spec: &DataSpec) -> Result<()> {
        config.check(spec)
    }

    fn trainer(config: &VaeConfig, context: &TrainerContext) -> Result<Solo<VaeNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &VaeConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        let net = load(net, weights, "model.safetensors".as_ref())?;
        Ok(Box::new(VaePipeline {
            net: net.valid(),
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    /// Knows the 784-400-20 network of the PyTorch examples (`fc1`, `fc21`, `fc22`, `fc3`, `fc4`).
    fn import(files: &[TensorMap], config: VaeConfig) -> Result<(VaeConfig, DataSpec, TensorMap)> {
        let [tensors] = files else {
            return Err(Error::checkpoint(
                "weights",
                "a VAE is one file of tensors",
                "name that file alone",
            ));
        };
        let shape = |name: &str| {
            tensors
                .get(name)
                .map(|t| t.shape.clone())
                .unwrap_or_default()
        };
        let (first, codes) = (shape("fc1.weight"), shape("fc21.weight"));
        let (&[hidden, pixels], &[latent, _]) = (&first[..], &codes[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "these are not the tensors of a known VAE (no fc1.weight and fc21.weight)",
                "known is the fully connected VAE with fc1, fc21, fc22, fc3, fc4",
            ));
        };
        let side = pixels.isqrt();
        let config = VaeConfig {
            network: VaeNetwork::Mlp,
            hidden: vec![hidden],
            latent,
            ..config
        };
        let spec = DataSpec {
            channels: 1,
            height: side,
            width: pixels / side.max(1),
            classes: vec![],
            attributes: vec![],
        };
        let blank = config.init(&spec, &Init::blank(&Device::flex()));
        let foreign = |name: &str| {
            let names = [
                ("encoder.layers.0", "fc1"),
                ("mu", "fc21"),
                ("log_var", "fc22"),
                ("decoder.layers.0", "fc3"),
                ("decoder.layers.1", "fc4"),
            ];
            let (place, last) = name.rsplit_once('.').unwrap_or(("", name));
            let place = names
                .iter()
                .find(|(own, _)| *own == place)
                .map_or(place, |(_, foreign)| foreign);
            format!("{place}.{last}")
        };
        let weights = crate::import::from_pytorch(&blank, tensors, foreign)?;
        Ok((config, spec, weights))
    }

    fn tiny() -> (VaeConfig, DataSpec) {
        let config = VaeConfig {
            latent: 4,
            hidden: vec![32],
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 12,
                width: 8,
                classes: vec![],
                attributes: vec![],
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_bound_that_make_no_sense_are_refused() {
        let (plain, spec) = Vae::tiny();
        let several = VaeConfig {
            draws: 5,
            ..plain.clone()
        };
        for (config, word) in [
            (
                VaeConfig {
                    draws: 0,
                    ..plain.clone()
                },
                "draws",
            ),
            (
                VaeConfig {
                    free_bits: -0.5,
                    ..plain.clone()
                },
                "free_bits",
            ),
            (
                VaeConfig {
                    one_draw_images: 9,
                    ..plain.clone()
                },
                "one_draw_images",
            ),
            (
                VaeConfig {
                    beta: 2.0,
                    ..several.clone()
                },
                "importance-weighted",
            ),
            (
                VaeConfig {
                    free_bits: 0.1,
                    ..several.clone()
                },
                "importance-weighted",
            ),
        ] {
            let error = Vae::check(&config, &spec).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for config in [plain, several] {
            Vae::check(&config, &spec).unwrap();
        }
    }
}
