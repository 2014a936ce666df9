//! Conditional variational autoencoder (Sohn, Lee and Yan, 2015): encoder and decoder are told a
//! class, attributes or a part of the image, so that samples can be asked for and the code holds
//! what the condition does not say.
//!
//! ```text
//! loss = E_q(z|x,c)[ −log p(x|z,c) ] + beta · KL(q(z|x,c) ‖ N(0, I))        in nats per image
//! ```
//!
//! With K draws the loss is the importance-weighted bound, as in [`super::vae`]. Where a part of
//! the image is told, p(x|z,c) is that of the other pixels.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | unit |
//! | `c` | `[n, size]` | 0 and 1 (class), standardised (attributes), unit (known pixels) |
//! | `mu`, `log_var`, `z` | `[n, latent]` | any |
//! | `location` | `[n, channels, height, width]` | logits (Bernoulli) or means |

mod condition;
mod pipeline;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::condition::{AttributeScale, Condition};
use self::condition::{known_part, one_hot};
use self::pipeline::CvaePipeline;
use super::vae::{
    Activation, Binarise, Elbo, Given, KlTerm, Likelihood, VaeConfig, VaeNet, VaeNetwork,
    code_signs,
};
use crate::data::HostBatch;
use crate::nn::{Init, host, load};
use crate::random::Purpose;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Conditions, Pipeline, Task};
use crate::train::health::{Health, Limit};
use crate::train::{Draw, Objective, Scalars, Solo};
use crate::{Error, Result};

/// Settings of a conditional VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CvaeConfig {
    /// What is told: `class`, `attributes`, or the known part of the image: `top`, `left` or
    /// `quarter`. Default class.
    pub condition: Condition,
    /// `conv` or `mlp`.
    pub network: VaeNetwork,
    /// Between the layers: `relu` or `tanh`. Default relu.
    pub activation: Activation,
    /// Size of the code. Default 16.
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

impl Default for CvaeConfig {
    fn default() -> Self {
        let plain = VaeConfig::default();
        Self {
            condition: Condition::Class,
            network: plain.network,
            activation: plain.activation,
            latent: 16,
            hidden: plain.hidden,
            width: plain.width,
            beta: plain.beta,
            draws: plain.draws,
            one_draw_images: plain.one_draw_images,
            free_bits: plain.free_bits,
            warmup_images: plain.warmup_images,
            likelihood: plain.likelihood,
            sigma: plain.sigma,
            binarise: plain.binarise,
        }
    }
}

impl CvaeConfig {
    /// The settings of the VAE that is told a condition.
    fn vae(&self) -> VaeConfig {
        VaeConfig {
            network: self.network,
            activation: self.activation,
            latent: self.latent,
            hidden: self.hidden.clone(),
            width: self.width,
            beta: self.beta,
            draws: self.draws,
            one_draw_images: self.one_draw_images,
            free_bits: self.free_bits,
            warmup_images: self.warmup_images,
            likelihood: self.likelihood,
            sigma: self.sigma,
            binarise: self.binarise,
        }
    }

    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> CvaeNet {
        let size = self.condition.size(spec);
        CvaeNet {
            net: self.vae().init_given(spec, size, &init.at("net")),
            attributes: match self.condition {
                Condition::Attributes => Some(AttributeScale::new(size, init)),
                _ => None,
            },
            condition: self.condition,
            spec: spec.clone(),
        }
    }

    /// The weight of the KL term when `images` images have been trained on: `beta`, reached by a
    /// straight line from zero over `warmup_images`.
    pub fn kl_weight(&self, images: u64) -> f64 {
        self.vae().kl_weight(images)
    }
}

/// The network: a VAE that is told a condition, and the scale of attributes where it is told those.
#[derive(Module, Debug)]
pub struct CvaeNet {
    net: VaeNet,
    attributes: Option<AttributeScale>,
    #[module(skip)]
    condition: Condition,
    #[module(skip)]
    spec: DataSpec,
}

impl CvaeNet {
    /// What it is told.
    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    /// Size of the code.
    pub(crate) fn latent(&self) -> usize {
        self.net.config().latent
    }

    /// The condition of images of these classes; a class the network does not know tells nothing.
    pub fn given_classes(&self, classes: &[u32], device: &Device) -> Given {
        Given {
            condition: one_hot(classes, self.spec.classes.len(), device),
            modelled: None,
        }
    }

    /// The condition of images with these standardised attributes, `[n, attributes]`.
    pub(crate) fn given_attributes(&self, values: &[f32], device: &Device) -> Given {
        let count = self.spec.attributes.len();
        let rows = values.len() / count.max(1);
        Given {
            condition: Tensor::<1>::from_floats(values, device).reshape([rows, count]),
            modelled: None,
        }
    }

    /// Mean and spread of each attribute in the training images.
    pub(crate) fn attribute_scale(&self) -> (Vec<f32>, Vec<f32>) {
        match &self.attributes {
            Some(scale) => scale.mean_and_spread(),
            None => (vec![], vec![]),
        }
    }

    /// What is told of unit images `x` that come with `conditions`.
    ///
    /// # Errors
    /// [`Error::Settings`] when they lack what the network is told.
    pub fn given(&self, x: &Tensor<4>, conditions: &Conditions) -> Result<Given> {
        if let Some(part) = self.condition.part(&self.spec) {
            return Ok(known_part(x.clone(), part));
        }
        let (count, device) = (x.dims()[0], x.device());
        let Some(scale) = &self.attributes else {
            let labels = conditions.labels(count, &self.spec.classes)?;
            return Ok(self.given_classes(labels, &device));
        };
        match &conditions.attributes {
            Some(values) if values.len() == count * self.spec.attributes.len() => {
                Ok(self.given_attributes(&scale.standardised(values), &device))
            }
            _ => Err(Error::settings(
                "this model needs the attributes of each image",
                format!("give images with {}", self.spec.attributes.join(", ")),
            )),
        }
    }

    /// Mean and log-variance of the code, each `[n, latent]`.
    pub fn encode(&self, x: Tensor<4>, given: &Given) -> (Tensor<2>, Tensor<2>) {
        self.net.encode_given(x, Some(given))
    }

    /// Location of the pixels, `[n, channels, height, width]`: logits or means.
    pub fn decode(&self, z: Tensor<2>, given: &Given) -> Tensor<4> {
        self.net.decode_given(z, Some(given))
    }

    /// Expected pixels in unit range; known ones as they are told.
    pub fn expected(&self, z: Tensor<2>, given: &Given) -> Tensor<4> {
        let x = self.net.expected_given(z, Some(given));
        let Some([rows, columns]) = self.condition.part(&self.spec) else {
            return x;
        };
        let [n, channels, _, _] = x.dims();
        let part = given.condition.clone();
        let part = part.reshape([n, channels, rows, columns]);
        x.slice_assign([0..n, 0..channels, 0..rows, 0..columns], part)
    }

    /// Both parts of the bound for unit images `x` and standard normal `eps` `[n, latent]`.
    pub fn elbo(&self, x: Tensor<4>, eps: Tensor<2>, given: &Given) -> Elbo {
        self.net.elbo_given(x, eps, Some(given))
    }

    /// The loss of unit images `x`, `[1]`, and what is told of it, as [`VaeNet::loss`].
    pub fn loss(
        &self,
        x: Tensor<4>,
        eps: Tensor<2>,
        given: &Given,
        kl: KlTerm,
    ) -> (Tensor<1>, Scalars) {
        self.net.loss_given(x, eps, Some(given), kl)
    }

    /// The importance-weighted bound of log p(x|c) of each image, in nats.
    pub fn log_likelihood(&self, x: Tensor<4>, given: &Given, draws: usize, seed: u64) -> Vec<f64> {
        self.net.log_likelihood_given(x, Some(given), draws, seed)
    }

    /// The mean change of the pixels where the codes `mu` of images are decoded under the condition
    /// of the next image; `None` where all images have the same.
    fn condition_effect(&self, mu: Tensor<2>, given: &Given) -> Option<f64> {
        let [n, size] = given.condition.dims();
        if n < 2 {
            return None;
        }
        let own = given.condition.clone();
        let (first, others) = (own.clone().narrow(0, 0, 1), own.clone().narrow(0, 1, n - 1));
        let next = Tensor::cat(vec![others, first], 0);
        let (a, b) = (host(own), host(next.clone()));
        let rows = a.chunks_exact(size.max(1)).zip(b.chunks_exact(size.max(1)));
        let changed = rows.filter(|(own, next)| own != next).count();
        if changed == 0 {
            return None;
        }
        let other = given.with(next);
        let before = self.net.expected_given(mu.clone(), Some(given));
        let after = self.net.expected_given(mu, Some(&other));
        let mut change = after.sub(before).abs();
        if let Some(modelled) = given.modelled.clone() {
            change = change.mul(modelled);
        }
        let mean = f64::from(change.mean().into_scalar::<f32>());
        Some(mean * n as f64 / changed as f64)
    }
}

impl Objective for CvaeNet {
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)> {
        let config = self.net.config();
        let (kl, draws) = self.net.term_and_draws(batch, draw);
        if let (true, Some(scale), Some(values)) =
            (draw.is_training(), &self.attributes, &batch.attributes)
        {
            scale.learn(values, batch.step);
        }
        let x = config.binarise.pixels(batch, draw);
        let given = self.given(&x, &Conditions::of(batch))?;
        let eps = draw.normals(Purpose::Noise, batch, draws * config.latent);
        Ok(self.loss(x, eps, &given, kl))
    }

    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health> {
        let x = self.net.config().binarise.pixels(batch, draw);
        let given = self.given(&x, &Conditions::of(batch))?;
        let (mu, log_var) = self.encode(x, &given);
        let mut signs = code_signs(mu.clone(), log_var);
        if let Some(effect) = self.condition_effect(mu, &given) {
            signs.push((
                "condition_effect",
                effect,
                Limit::Below {
                    watch: 0.005,
                    bad: 0.0005,
                },
                "mean change of the pixels when a code is decoded under another image's condition; near zero the condition is ignored: lower model.latent, so that the code cannot carry it",
            ));
        }
        Ok(Health::judge(signs))
    }

    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline> {
        Box::new(CvaePipeline {
            net: self,
            spec: context.spec.clone(),
            device: context.device.clone(),
        })
    }
}

/// The family.
pub struct Cvae;

impl Family for Cvae {
    type Config = CvaeConfig;
    type Trainer = Solo<CvaeNet>;

    const INFO: Info = Info {
        id: "cvae",
        title: "Conditional variational autoencoder",
        paper: "Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative Models, 2015",
        summary: "a VAE that can be asked for a class or attributes, or completes half-known images; soft images",
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

    fn natural_size(config: &CvaeConfig, height: usize, width: usize) -> (usize, usize) {
        config.vae().size_for(height, width)
    }

    fn check(config: &CvaeConfig, spec: &DataSpec) -> Result<()> {
        config.vae().check(spec)?;
        config.condition.check(spec)
    }

    fn trainer(config: &CvaeConfig, context: &TrainerContext) -> Result<Solo<CvaeNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &CvaeConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        let net = load(net, weights, "model.safetensors".as_ref())?;
        Ok(Box::new(CvaePipeline {
            net: net.valid(),
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    /// Knows fully connected networks of `encoder.MLP.L0`, `encoder.linear_means`,
    /// `encoder.linear_log_var` and `decoder.MLP.L0`, in which the class follows image and code
    /// as one number per class.
    fn import(
        files: &[TensorMap],
        config: CvaeConfig,
    ) -> Result<(CvaeConfig, DataSpec, TensorMap)> {
        let unknown = |what: &str| {
            Error::checkpoint(
                "weights",
                what,
                "known is the fully connected network with encoder.MLP.L0, encoder.linear_means, encoder.linear_log_var and decoder.MLP.L0",
            )
        };
        let [tensors] = files else {
            return Err(unknown("a conditional VAE is one file of tensors"));
        };
        let sizes = |name: &str| match tensors.get(name).map(|t| &t.shape[..]) {
            Some(&[outputs, inputs]) => Some((outputs, inputs)),
            _ => None,
        };
        let hidden: Vec<usize> = (0..)
            .map_while(|i| sizes(&format!("encoder.MLP.L{i}.weight")))
            .map(|(outputs, _)| outputs)
            .collect();
        let (Some((_, inputs)), Some((latent, _)), Some((_, told))) = (
            sizes("encoder.MLP.L0.weight"),
            sizes("encoder.linear_means.weight"),
            sizes("decoder.MLP.L0.weight"),
        ) else {
            return Err(unknown(
                "these are not the tensors of a known conditional VAE",
            ));
        };
        let classes = told.saturating_sub(latent);
        let pixels = inputs.saturating_sub(classes);
        let side = pixels.isqrt();
        if classes < 2 || side == 0 || side * side != pixels {
            return Err(unknown(
                "the sizes of these tensors leave no classes and no square image",
            ));
        }
        let config = CvaeConfig {
            condition: Condition::Class,
            network: VaeNetwork::Mlp,
            hidden,
            latent,
            ..config
        };
        let spec = DataSpec {
            channels: 1,
            height: side,
            width: side,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            attributes: vec![],
        };
        let blank = config.init(&spec, &Init::blank(&Device::flex()));
        let weights = crate::import::from_pytorch(&blank, tensors, |name| {
            name.trim_start_matches("net.")
                .replacen("encoder.layers.", "encoder.MLP.L", 1)
                .replacen("decoder.layers.", "decoder.MLP.L", 1)
                .replacen("mu.", "encoder.linear_means.", 1)
                .replacen("log_var.", "encoder.linear_log_var.", 1)
        })?;
        Ok((config, spec, weights))
    }

    fn tiny() -> (CvaeConfig, DataSpec) {
        let config = CvaeConfig {
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
                classes: vec!["a".into(), "b".into()],
                attributes: vec![],
            },
        )
    }
}
