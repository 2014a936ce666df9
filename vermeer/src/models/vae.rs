//! Variational autoencoder (Kingma and Welling, 2014): images are decoded from a Gaussian code
//! that an encoder infers.
//!
//! ```text
//! loss = E_q(z|x)[ −log p(x|z) ] + beta · KL(q(z|x) ‖ N(0, I))        in nats per image
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | unit |
//! | `mu`, `log_var`, `z` | `[n, latent]` | any |
//! | `location` | `[n, channels, height, width]` | logits (Bernoulli) or means |

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::prelude::*;
use burn::tensor::activation::{relu, sigmoid};
use serde::{Deserialize, Serialize};
use vermeer_image::{ImageBatch, Range};
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};

use crate::data::HostBatch;
use crate::loss::likelihood::{
    bernoulli, discretised_logistic, gaussian, kl_standard_normal, log_normal,
};
use crate::nn::{Gradients, Init, Law, load};
use crate::optim::Learner;
use crate::random::{Purpose, normals};
use crate::registry::{
    DataSpec, Family, Info, Step, TrainDefaults, TrainState, Trainer, TrainerContext,
};
use crate::run::TensorMap;
use crate::task::{
    self, Answer, Conditions, Pipeline, Progress, Request, SampleOptions, Task, in_blocks,
    of_latents, rows_in_blocks, unsupported,
};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, images_to_device};
use crate::{Error, Result};

/// The network of a VAE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaeNetwork {
    /// Two strided convolutions and one hidden layer, mirrored.
    #[default]
    Conv,
    /// Fully connected.
    Mlp,
}

/// The distribution of a pixel given the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// Bernoulli pixels; a normalised likelihood only for binarised images.
    #[default]
    Bernoulli,
    /// Normal pixels with the standard deviation `sigma`.
    Gaussian,
    /// Normal pixels with one learned standard deviation (Rybkin et al., 2021).
    GaussianLearned,
    /// Bytes as bins of a logistic variable with a learned scale per channel.
    DiscretisedLogistic,
}

/// What is done to pixels before a Bernoulli likelihood sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binarise {
    /// Nothing.
    #[default]
    No,
    /// Each pixel is drawn anew with its grey value as probability (Salakhutdinov and Murray, 2008).
    Dynamic,
}

/// Settings of a VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaeConfig {
    /// `conv` or `mlp`.
    pub network: VaeNetwork,
    /// Size of the code. Default 32.
    pub latent: usize,
    /// Sizes of the hidden layers; the convolutional network has one. Default 256.
    pub hidden: Vec<usize>,
    /// Channels of the first convolution; the second has twice as many. Default 32.
    pub width: usize,
    /// Weight of the KL term. Default 1.
    pub beta: f64,
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
            latent: 32,
            hidden: vec![256],
            width: 32,
            beta: 1.0,
            likelihood: Likelihood::Bernoulli,
            sigma: 0.1,
            binarise: Binarise::No,
        }
    }
}

impl VaeConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> VaeNet {
        let [channels, height, width] = spec.shape();
        let pixels = channels * height * width;
        let (encoder, decoder) = (init.at("encoder"), init.at("decoder"));
        let dense = |place: &Init, sizes: &[usize]| -> Vec<Linear> {
            let layers = sizes.windows(2).enumerate();
            layers
                .map(|(i, s)| place.at("layers").at(i).linear(s[0], s[1], Law::FanIn))
                .collect()
        };
        let reversed: Vec<usize> = self.hidden.iter().rev().copied().collect();
        let last = self.hidden.last().copied().unwrap_or(pixels);
        let (w, law) = (self.width, Law::FanIn);
        let (encoder, decoder) = match self.network {
            VaeNetwork::Conv => {
                let flat = 2 * w * (height / 4) * (width / 4);
                let (down, up) = (encoder.at("convolutions"), decoder.at("convolutions"));
                (
                    Encoder {
                        convolutions: vec![
                            down.at(0).conv2d([channels, w], 4, 2, 1, true, law),
                            down.at(1).conv2d([w, 2 * w], 4, 2, 1, true, law),
                        ],
                        layers: dense(&encoder, &[&[flat], &self.hidden[..]].concat()),
                    },
                    Decoder {
                        layers: dense(&decoder, &[&[self.latent], &reversed[..], &[flat]].concat()),
                        convolutions: vec![
                            up.at(0).conv_transpose2d([2 * w, w], 4, 2, 1, true, law),
                            up.at(1).conv_transpose2d([w, channels], 4, 2, 1, true, law),
                        ],
                        shape: spec.shape(),
                    },
                )
            }
            VaeNetwork::Mlp => (
                Encoder {
                    convolutions: vec![],
                    layers: dense(&encoder, &[&[pixels], &self.hidden[..]].concat()),
                },
                Decoder {
                    layers: dense(
                        &decoder,
                        &[&[self.latent], &reversed[..], &[pixels]].concat(),
                    ),
                    convolutions: vec![],
                    shape: spec.shape(),
                },
            ),
        };
        let start = self.sigma.ln() as f32;
        VaeNet {
            encoder,
            mu: init.at("mu").linear(last, self.latent, law),
            log_var: init.at("log_var").linear(last, self.latent, law),
            decoder,
            log_scale: match self.likelihood {
                Likelihood::Bernoulli | Likelihood::Gaussian => None,
                Likelihood::GaussianLearned => Some(init.constant("log_scale", [1], start)),
                Likelihood::DiscretisedLogistic => {
                    Some(init.constant("log_scale", [channels], start))
                }
            },
            config: self.clone(),
        }
    }
}

/// Image to features.
#[derive(Module, Debug)]
pub struct Encoder {
    convolutions: Vec<Conv2d>,
    layers: Vec<Linear>,
}

impl Encoder {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self
            .convolutions
            .iter()
            .fold(x, |x, layer| relu(layer.forward(x)));
        self.layers
            .iter()
            .fold(x.flatten(1, 3), |x, layer| relu(layer.forward(x)))
    }
}

/// Code to location of the pixels.
#[derive(Module, Debug)]
pub struct Decoder {
    layers: Vec<Linear>,
    convolutions: Vec<ConvTranspose2d>,
    #[module(skip)]
    shape: [usize; 3],
}

impl Decoder {
    fn forward(&self, z: Tensor<2>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let mut h = z;
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(h);
            if i + 1 < self.layers.len() || !self.convolutions.is_empty() {
                h = relu(h);
            }
        }
        let [first, last] = &self.convolutions[..] else {
            return h.reshape([-1, channels as i32, height as i32, width as i32]);
        };
        let h = h.reshape([
            -1,
            first.weight.dims()[0] as i32,
            (height / 4) as i32,
            (width / 4) as i32,
        ]);
        last.forward(relu(first.forward(h))) // [n, channels, height, width]
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

/// The two parts of the evidence lower bound, each `[n]`, in nats.
#[derive(Clone, Debug)]
pub struct Elbo {
    /// −log p(x|z), summed over the pixels.
    pub reconstruction: Tensor<1>,
    /// KL(q(z|x) ‖ N(0, I)) of each code number, `[n, latent]`.
    pub kl: Tensor<2>,
}

impl VaeNet {
    /// Mean and log-variance of the code, each `[n, latent]`.
    pub fn encode(&self, x: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let h = self.encoder.forward(x);
        (self.mu.forward(h.clone()), self.log_var.forward(h))
    }

    /// Location of the pixels, `[n, channels, height, width]`: logits or means.
    pub fn decode(&self, z: Tensor<2>) -> Tensor<4> {
        self.decoder.forward(z)
    }

    /// Expected pixels in unit range.
    pub fn expected(&self, z: Tensor<2>) -> Tensor<4> {
        let location = self.decode(z);
        match self.config.likelihood {
            Likelihood::Bernoulli => sigmoid(location),
            _ => location.clamp(0.0, 1.0),
        }
    }

    /// −log p(x|location), summed over the pixels, `[n]`.
    pub fn negative_log_likelihood(&self, location: Tensor<4>, x: Tensor<4>) -> Tensor<1> {
        let scale = |channels: usize| -> Tensor<4> {
            let scale = self.log_scale.as_ref().map(|s| s.val());
            match scale {
                Some(scale) => scale.reshape([1, channels as i32, 1, 1]),
                None => Tensor::full([1, 1, 1, 1], self.config.sigma.ln(), &x.device()),
            }
        };
        let [_, channels, _, _] = x.dims();
        let nats = match self.config.likelihood {
            Likelihood::Bernoulli => bernoulli(location, x),
            Likelihood::Gaussian | Likelihood::GaussianLearned => gaussian(location, scale(1), x),
            Likelihood::DiscretisedLogistic => discretised_logistic(location, scale(channels), x),
        };
        nats.flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1)
    }

    /// Both parts of the bound for unit images `x` and standard normal `eps` `[n, latent]`.
    pub fn elbo(&self, x: Tensor<4>, eps: Tensor<2>) -> Elbo {
        let (mu, log_var) = self.encode(x.clone());
        let z = mu
            .clone()
            .add(eps.mul(log_var.clone().mul_scalar(0.5).exp()));
        Elbo {
            reconstruction: self.negative_log_likelihood(self.decode(z), x),
            kl: kl_standard_normal(mu, log_var),
        }
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
        let z = mu
            .clone()
            .add(eps.mul(log_var.clone().mul_scalar(0.5).exp()));
        let likelihood = self
            .negative_log_likelihood(self.decode(z.clone()), x)
            .neg();
        let prior = log_normal(z.clone(), mu.zeros_like(), mu.zeros_like());
        let posterior = log_normal(z, mu, log_var);
        likelihood.add(prior.sub(posterior).sum_dim(1).squeeze_dim(1))
    }
}

/// The family.
pub struct Vae;

impl Family for Vae {
    type Config = VaeConfig;
    type Trainer = VaeTrainer;

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
        let round = |side: usize| match config.network {
            VaeNetwork::Conv => side.div_ceil(4) * 4,
            VaeNetwork::Mlp => side,
        };
        (round(height), round(width))
    }

    fn check(config: &VaeConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if config.latent == 0 || config.width == 0 || config.hidden.contains(&0) {
            return wrong(
                "a size of 0 in [model]".into(),
                "latent, width and hidden must be at least 1",
            );
        }
        if config.network == VaeNetwork::Conv {
            let natural = Self::natural_size(config, spec.height, spec.width);
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
            if config.hidden.len() != 1 {
                return wrong(
                    "model.hidden must hold one size with network = \"conv\"".into(),
                    "for example hidden = [256]",
                );
            }
        }
        if !config.beta.is_finite() || config.beta < 0.0 {
            return wrong(
                format!("model.beta = {}", config.beta),
                "beta must be zero or larger",
            );
        }
        if !(config.sigma.is_finite() && config.sigma > 0.0) {
            return wrong(
                format!("model.sigma = {}", config.sigma),
                "sigma must be larger than zero",
            );
        }
        if config.binarise != Binarise::No && config.likelihood != Likelihood::Bernoulli {
            return wrong(
                "model.binarise needs a Bernoulli likelihood".into(),
                "set model.likelihood = \"bernoulli\" or model.binarise = \"no\"",
            );
        }
        Ok(())
    }

    fn trainer(config: &VaeConfig, context: &TrainerContext) -> Result<VaeTrainer> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(VaeTrainer {
            learner: Learner::new(net, context.adam, context.average_half_life_images, ""),
            context: context.clone(),
        })
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

/// A VAE in training.
pub struct VaeTrainer {
    learner: Learner<VaeNet>,
    context: TrainerContext,
}

impl VaeTrainer {
    /// The bound on a batch: pixels binarised if asked for, one draw of the code per image.
    fn elbo(
        &self,
        net: &VaeNet,
        batch: &HostBatch,
        purposes: [Purpose; 2],
        device: &Device,
    ) -> Elbo {
        let (seed, latent) = (self.context.seed, net.config.latent);
        let x = self.pixels(net, batch, purposes[0], device);
        let eps = normals(seed, purposes[1], batch.step, batch.batch, latent);
        let eps = Tensor::<1>::from_floats(&eps[..], device).reshape([batch.batch, latent]);
        net.elbo(x, eps)
    }

    /// The pixels the model is trained on: as they are, or binarised.
    fn pixels(
        &self,
        net: &VaeNet,
        batch: &HostBatch,
        purpose: Purpose,
        device: &Device,
    ) -> Tensor<4> {
        match net.config.binarise {
            Binarise::No => images_to_device(batch, Range::Unit, device),
            Binarise::Dynamic => binarised(batch, self.context.seed, purpose, device),
        }
    }

    fn scalars(&self, elbo: Elbo) -> Scalars {
        let reconstruction = f64::from(elbo.reconstruction.mean().into_scalar::<f32>());
        let kl = f64::from(elbo.kl.sum_dim(1).mean().into_scalar::<f32>());
        let beta = self.learner.module().config.beta;
        vec![
            ("loss", reconstruction + beta * kl),
            ("reconstruction", reconstruction),
            ("kl", kl),
        ]
    }
}

/// Pixels drawn with their grey value as probability, keyed by (seed, purpose, step, row).
fn binarised(batch: &HostBatch, seed: u64, purpose: Purpose, device: &Device) -> Tensor<4> {
    let [channels, height, width] = batch.shape;
    let size = channels * height * width;
    let mut pixels = Vec::with_capacity(batch.images.len());
    for (row, image) in batch.images.chunks_exact(size).enumerate() {
        let mut random = crate::random::stream(seed, purpose, batch.step, row as u64);
        pixels.extend(
            image
                .iter()
                .map(|&p| f32::from(u8::from(random.uniform() < p))),
        );
    }
    Tensor::<1>::from_floats(&pixels[..], device).reshape([batch.batch, channels, height, width])
}

impl Trainer for VaeTrainer {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let mut gradients = Gradients::default();
        let mut total: Scalars = vec![];
        let images = step.micro.iter().map(|b| b.batch).sum();
        for batch in step.micro {
            let net = self.learner.module();
            let elbo = self.elbo(
                net,
                batch,
                [Purpose::Binarise, Purpose::Noise],
                &self.context.device,
            );
            let kl = elbo.kl.clone().sum_dim(1).squeeze_dim(1);
            let loss = elbo
                .reconstruction
                .clone()
                .add(kl.mul_scalar(net.config.beta))
                .mean();
            gradients.add(Gradients::take(&mut loss.backward(), net));
            crate::train::accumulate(&mut total, &self.scalars(elbo), step.micro.len());
        }
        let gradients = gradients.scale(1.0 / step.micro.len() as f64);
        let norm = self
            .learner
            .update(gradients, step.learning_rate, step.clip_norm, images);
        total.push(("gradient_norm", norm));
        Ok(total)
    }

    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        Ok(self.scalars(self.elbo(
            &net,
            batch,
            [Purpose::ValidateBinarise, Purpose::Validate],
            &device,
        )))
    }

    /// A code number is active when the variance of its mean over images exceeds 0.01 (Burda et
    /// al., 2016). A collapsed posterior has no active number and a KL near zero.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        let x = self.pixels(&net, batch, Purpose::ValidateBinarise, &device);
        let (mu, log_var) = net.encode(x);
        let latent = net.config.latent as f64;
        let kl = crate::nn::host(kl_standard_normal(mu.clone(), log_var).mean_dim(0));
        let per_latent = kl.iter().map(|nats| f64::from(*nats)).sum::<f64>() / latent;
        let mut signs = vec![(
            "kl_per_latent",
            per_latent,
            Limit::Below {
                watch: 0.05,
                bad: 0.005,
            },
            "nats each code number carries on average; near zero the code is unused: lower model.beta or model.latent",
        )];
        if batch.batch > 1 {
            let variance = crate::nn::host(mu.var(0)); // over the images, [latent]
            let active = variance.iter().filter(|v| **v > 0.01).count();
            signs.push((
                "active_units",
                active as f64,
                Limit::Below {
                    watch: (latent * 0.1).max(2.0).min(latent),
                    bad: 1.0,
                },
                "code numbers whose mean varies over images; with none the decoder ignores its code (posterior collapse): lower model.beta",
            ));
        }
        Ok(Health::judge(signs))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.learner.save(&mut state);
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        self.learner.restore(state, &self.context.device)
    }

    fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        self.learner.start_from(weights)
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline>> {
        let device = self.context.device.clone().without_autodiff();
        Ok(Box::new(VaePipeline {
            net: self.learner.for_use(),
            spec: self.context.spec.clone(),
            device,
        }))
    }

    fn parameters(&self) -> usize {
        self.learner.parameters()
    }
}

struct VaePipeline {
    net: VaeNet,
    spec: DataSpec,
    device: Device,
}

impl VaePipeline {
    fn latents(&self, numbers: &[u64], seed: u64) -> Tensor<2> {
        let latent = self.net.config.latent;
        let z = crate::random::latents(seed, numbers, latent);
        Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), latent])
    }
}

impl Pipeline for VaePipeline {
    fn tasks(&self) -> &'static [Task] {
        Vae::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        let unit = |x: Tensor<4>| Ok(Answer::Images(ImageBatch::new(x, Range::Unit)?));
        match request {
            Request::Generate { numbers, options } => {
                options.only(Vae::INFO.id, &[])?;
                let mut done = 0;
                let x = in_blocks(numbers, |block| {
                    done += block.len();
                    let x = self.net.expected(self.latents(block, options.seed));
                    progress(done, numbers.len().max(done));
                    Ok(x)
                })?;
                unit(x)
            }
            Request::Reconstruct { images, .. } => {
                let x = self.checked(images)?;
                unit(rows_in_blocks(x, |x| {
                    Ok(self.net.expected(self.net.encode(x).0))
                })?)
            }
            Request::Encode { images, .. } => {
                let mu = rows_in_blocks(self.checked(images)?, |x| Ok(self.net.encode(x).0))?;
                let latent = self.net.config.latent;
                Ok(Answer::Codes(
                    crate::nn::host(mu)
                        .chunks(latent)
                        .map(<[f32]>::to_vec)
                        .collect(),
                ))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                options.only(Vae::INFO.id, &[])?;
                let ends = self.latents(&[*from, *to], options.seed);
                let path = crate::nn::slerp(ends, *frames);
                unit(rows_in_blocks(path, |z| Ok(self.net.expected(z)))?)
            }
            _ => Err(unsupported(Vae::INFO.id, request.task(), self.tasks())),
        }
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.net.config.latent)
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        options.only(Vae::INFO.id, &[])?;
        let size = [numbers.len(), self.net.config.latent];
        let z = of_latents(latents, size, &self.device)?;
        let x = rows_in_blocks(z, |z| Ok(self.net.expected(z)))?;
        Ok(ImageBatch::new(x, Range::Unit)?)
    }

    fn likelihood(&self) -> Option<task::Likelihood> {
        Some(task::Likelihood::ImportanceWeighted)
    }

    fn log_likelihood(
        &self,
        images: &ImageBatch,
        _conditions: &Conditions,
        draws: usize,
        seed: u64,
    ) -> Result<Vec<f64>> {
        let x = self.checked(images)?;
        let [n, latent] = [x.dims()[0], self.net.config.latent];
        let (mu, log_var) = self.net.encode(x.clone());
        let mut terms = vec![Vec::with_capacity(draws); n];
        for draw in 0..draws {
            let eps = normals(seed, Purpose::Importance, draw as u64, n, latent);
            let eps = Tensor::<1>::from_floats(&eps[..], &self.device).reshape([n, latent]);
            let weight = self
                .net
                .log_weight(x.clone(), mu.clone(), log_var.clone(), eps);
            for (image, w) in crate::nn::host(weight).into_iter().enumerate() {
                terms[image].push(f64::from(w));
            }
        }
        Ok(terms.iter().map(|t| log_mean_exp(t)).collect())
    }
}

impl VaePipeline {
    fn checked(&self, images: &ImageBatch) -> Result<Tensor<4>> {
        crate::task::of_shape(images, self.spec.shape(), Range::Unit, &self.device)
    }
}

/// The logarithm of the mean of exponentials, without overflow: the importance-weighted bound
/// of the log-weights of one image.
pub fn log_mean_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|t| (t - largest).exp()).sum();
    largest + (sum / terms.len() as f64).ln()
}
