//! A VQ-VAE in training: autoencoder and codebook, then the prior on their codes.

use burn::module::Module;
use burn::prelude::*;
use vermeer_image::Range;

use super::codebook::{self, Chosen};
use super::pipeline::VqVaePipeline;
use super::{Prior, VqVaeConfig, VqVaeNet};
use crate::Result;
use crate::data::HostBatch;
use crate::nn::{Gradients, Init, host};
use crate::optim::Learner;
use crate::registry::{Step, TrainState, Trainer, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Conditions, Pipeline};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, accumulate, images_to_device};

/// Added to both sides of a ratio of nats: near nothing, so that a ratio of two zeros is one.
const NOTHING: f64 = 1e-3;

/// A VQ-VAE in training.
pub struct VqVaeTrainer {
    autoencoder: Learner<VqVaeNet>,
    prior: Learner<Prior>,
    /// Whether the prior learned in the last step of this process.
    prior_learned: bool,
    config: VqVaeConfig,
    context: TrainerContext,
}

impl VqVaeTrainer {
    /// A trainer of networks whose parameters are drawn.
    pub(super) fn new(config: &VqVaeConfig, context: &TrainerContext) -> Self {
        let init = Init::new(context.seed, &context.device);
        let net = config.autoencoder(&context.spec, &init.at("autoencoder"));
        let prior = config.prior(&context.spec, &init.at("prior"));
        let (adam, half_life) = (context.adam, context.average_half_life_images);
        Self {
            autoencoder: Learner::new(net, adam, half_life, "autoencoder."),
            prior: Learner::new(prior, adam, half_life, "prior."),
            prior_learned: false,
            config: config.clone(),
            context: context.clone(),
        }
    }

    /// The autoencoder with gradients.
    pub fn autoencoder(&self) -> &VqVaeNet {
        self.autoencoder.module()
    }

    /// The labels of a batch, where the prior is told them.
    fn labels(&self, batch: &HostBatch) -> Result<Option<Vec<u32>>> {
        if !self.config.conditional {
            return Ok(None);
        }
        let known = Conditions::of(batch);
        let labels = known.labels(batch.batch, &self.context.spec.classes)?;
        Ok(Some(labels.to_vec()))
    }

    /// The code maps `[n, 1, h / f, w / f]` of codes in the order of their places.
    fn maps(&self, codes: &[u32], batch: &HostBatch, device: &Device) -> Tensor<4> {
        let [_, height, width] = batch.shape;
        let factor = self.config.downsampling;
        let codes: Vec<f32> = codes.iter().map(|code| *code as f32).collect();
        Tensor::<1>::from_floats(&codes[..], device).reshape([
            batch.batch,
            1,
            height / factor,
            width / factor,
        ])
    }

    /// Losses of both networks on a batch, without gradients: `loss` is their sum.
    fn evaluate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let x = images_to_device(batch, Range::Unit, &device);
        let (_, mut scalars, quantised) = self.autoencoder.for_use().loss(x);
        let maps = self.maps(&quantised.numbers(), batch, &device);
        let labels = self.labels(batch)?;
        let nats = self.prior.for_use().nats_per_code(maps, labels.as_deref());
        let nats = f64::from(nats.into_scalar::<f32>());
        accumulate(&mut scalars, &[("loss", nats), ("prior", nats)], 1);
        Ok(scalars)
    }
}

impl Trainer for VqVaeTrainer {
    /// `loss` is the sum of what the step lowers: without `prior` until the prior learns.
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let device = self.context.device.clone();
        let parts = step.micro.len();
        let images: usize = step.micro.iter().map(|batch| batch.batch).sum();
        let Some(first) = step.micro.first() else {
            return Ok(vec![]);
        };
        self.prior_learned =
            first.step.saturating_mul(first.batch as u64) >= self.config.prior_after_images;
        let mut total: Scalars = vec![];

        // The codebook starts on what the encoder makes of the first batch.
        let net = self.autoencoder.module();
        if !net.codebook().is_started() {
            let x = images_to_device(first, Range::Unit, &device.clone().without_autodiff());
            let vectors = super::vectors(net.valid().encode(x));
            let count = parts * vectors.dims()[0];
            net.codebook()
                .start(&host(vectors), count, self.context.seed, first.step);
        }

        // Autoencoder: minimise mean (x − D(q))² / variance + commitment · mean (z − sg[e])².
        let mut gradients = Gradients::default();
        let mut chosen = Chosen::default();
        let mut maps: Vec<Vec<u32>> = vec![];
        for batch in step.micro {
            let x = images_to_device(batch, Range::Unit, &device);
            let (loss, scalars, quantised) = net.loss(x);
            gradients.add(Gradients::take(&mut loss.backward(), net));
            accumulate(&mut total, &scalars, parts);
            let codes = quantised.numbers();
            chosen.vectors.extend(host(quantised.vectors));
            chosen.codes.extend(&codes);
            maps.push(codes);
        }
        // The codebook follows the encoder's outputs of this step. Its codes keep their places once
        // the prior learns what they mean.
        let restart =
            (self.config.restart && !self.prior_learned).then_some((self.context.seed, first.step));
        let restarted = net.codebook().learn(&chosen, self.config.decay, restart);
        let perplexity = codebook::perplexity(&net.codebook().counts());
        let norm = self.autoencoder.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("code_perplexity", perplexity));
        total.push(("restarted_codes", restarted as f64));
        total.push(("gradient_norm", norm));
        if !self.prior_learned {
            return Ok(total);
        }

        // Prior: minimise −log p(codes) / places. The codes are numbers: nothing reaches the encoder.
        let prior = self.prior.module();
        let mut gradients = Gradients::default();
        for (batch, codes) in step.micro.iter().zip(&maps) {
            let labels = self.labels(batch)?;
            let maps = self.maps(codes, batch, &device);
            let loss = prior.nats_per_code(maps, labels.as_deref());
            let nats = f64::from(loss.clone().into_scalar::<f32>());
            gradients.add(Gradients::take(&mut loss.backward(), prior));
            accumulate(&mut total, &[("loss", nats), ("prior", nats)], parts);
        }
        let norm = self.prior.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("prior_gradient_norm", norm));
        Ok(total)
    }

    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        self.evaluate(batch)
    }

    /// How many codes are used, over the last steps; the error of reconstructions; and, once it
    /// learns, what the prior knows.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let net = self.autoencoder.for_use();
        let counts = net.codebook().counts();
        let mut signs = vec![
            (
                "codebook_use",
                codebook::perplexity(&counts) / counts.len() as f64,
                Limit::Below {
                    watch: 0.1,
                    bad: 0.02,
                },
                "perplexity of the use of codes over their number; a small one is a codebook that collapsed: set model.restart, or lower model.codes or train.learning_rate",
            ),
            (
                "dead_codes",
                codebook::dead_share(&counts),
                Limit::Above {
                    watch: 0.5,
                    bad: 0.9,
                },
                "share of codes used less than a twentieth of an even use; dead codes say nothing: set model.restart, or lower model.codes",
            ),
        ];
        if !self.prior_learned {
            signs.push((
                "prior_waits",
                1.0,
                Limit::Above {
                    watch: 0.5,
                    bad: 2.0,
                },
                "the prior has not begun to learn in this process, so samples may be noise: train past model.prior_after_images, or lower it",
            ));
        }
        let scalars = self.evaluate(batch)?;
        let of = |name: &str| scalars.iter().find(|(own, _)| *own == name);
        if let (Some((_, error)), true) = (of("reconstruction"), batch.batch > 1) {
            signs.push((
                "reconstruction_error",
                error * self.config.variance / spread(batch).max(1e-6),
                Limit::Above {
                    watch: 0.5,
                    bad: 0.95,
                },
                "squared error of reconstructions over that of the mean image; near one the codes say nothing of the image: train longer, raise model.codes or model.width, or lower model.downsampling",
            ));
        }
        if let (Some((_, nats)), true) = (of("prior"), self.prior_learned) {
            signs.push((
                "prior_surprise",
                (nats + NOTHING) / (codebook::entropy(&counts) + NOTHING),
                Limit::Above {
                    watch: 1.0,
                    bad: 1.3,
                },
                "nats per code over the entropy of the use of codes; above one the prior knows no more than how often codes are used, and samples are noise: train longer, or raise model.prior_width",
            ));
        }
        Ok(Health::judge(signs))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.autoencoder.save(&mut state);
        self.prior.save(&mut state);
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        self.autoencoder.restore(state, &self.context.device)?;
        self.prior.restore(state, &self.context.device)
    }

    fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        self.autoencoder.start_from(weights)?;
        self.prior.start_from(weights)
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline>> {
        Ok(Box::new(VqVaePipeline {
            net: self.autoencoder.for_use(),
            prior: self.prior.for_use(),
            spec: self.context.spec.clone(),
            device: self.context.device.clone().without_autodiff(),
        }))
    }

    fn parameters(&self) -> usize {
        self.autoencoder.parameters() + self.prior.parameters()
    }
}

/// The mean squared distance of the pixels of a batch from those of its mean image.
fn spread(batch: &HostBatch) -> f64 {
    let size = batch.images.len() / batch.batch.max(1);
    let mut total = 0.0;
    for pixel in 0..size {
        let values = || {
            batch.images[pixel..]
                .iter()
                .step_by(size)
                .map(|v| f64::from(*v))
        };
        let mean = values().sum::<f64>() / batch.batch as f64;
        total += values().map(|v| (v - mean).powi(2)).sum::<f64>();
    }
    total / batch.images.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_hand_computed() {
        let batch = HostBatch {
            step: 0,
            images: vec![0.0, 1.0, 1.0, 1.0],
            labels: None,
            attributes: None,
            batch: 2,
            shape: [1, 1, 2],
        };
        // The first pixel lies 1/2 from its mean in both images, the second is constant.
        assert!((spread(&batch) - 0.125).abs() < 1e-9);
    }
}
