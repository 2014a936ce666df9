//! A diffusion model in training.

use burn::prelude::*;
use vermeer_image::Range;

use super::pipeline::DiffusionPipeline;
use super::{Denoiser, DiffusionConfig, loss_per_image};
use crate::Result;
use crate::data::HostBatch;
use crate::diffusion::Process;
use crate::nn::{Gradients, Init};
use crate::optim::Learner;
use crate::random::{Purpose, normals, stream};
use crate::registry::{Info, Step, TrainState, Trainer, TrainerContext};
use crate::run::TensorMap;
use crate::task::{BLOCK, Pipeline};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, accumulate, images_to_device};

/// A diffusion model in training.
pub struct DiffusionTrainer {
    learner: Learner<Denoiser>,
    process: Process,
    config: DiffusionConfig,
    context: TrainerContext,
    info: &'static Info,
    /// The last images learned from, which health compares validation images with.
    learned: Option<HostBatch>,
}

impl DiffusionTrainer {
    /// A trainer of the family that `info` describes, its network's parameters drawn.
    pub fn new(config: &DiffusionConfig, context: &TrainerContext, info: &'static Info) -> Self {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Self {
            learner: Learner::new(net, context.adam, context.average_half_life_images, ""),
            process: config.process(),
            config: config.clone(),
            context: context.clone(),
            info,
            learned: None,
        }
    }

    /// Labels of a batch, some withheld: the number of classes means "no label".
    fn labels(&self, batch: &HostBatch, dropout: f64, device: &Device) -> Option<Tensor<1, Int>> {
        if !self.config.conditional {
            return None;
        }
        let none = self.context.spec.classes.len() as i32;
        let labels = batch
            .labels
            .as_ref()?
            .iter()
            .enumerate()
            .map(|(row, label)| {
                let mut random = stream(
                    self.context.seed,
                    Purpose::DropLabel,
                    batch.step,
                    row as u64,
                );
                if f64::from(random.uniform()) < dropout {
                    none
                } else {
                    *label as i32
                }
            });
        let labels: Vec<i32> = labels.collect();
        Some(Tensor::from_data(&labels[..], device))
    }

    /// Standard normal noise for the images of a batch, keyed by `step`.
    fn noise(&self, batch: &HostBatch, purpose: Purpose, step: u64, device: &Device) -> Tensor<4> {
        let [c, h, w] = batch.shape;
        let eps = normals(self.context.seed, purpose, step, batch.batch, c * h * w);
        Tensor::<1>::from_floats(&eps[..], device).reshape([batch.batch, c, h, w])
    }

    fn levels(&self, batch: &HostBatch, step: u64) -> Vec<f64> {
        let draw = |row| {
            self.process
                .draw(&mut stream(self.context.seed, Purpose::Time, step, row))
        };
        (0..batch.batch as u64).map(draw).collect()
    }

    /// The loss of a batch at each of the four probe levels, with the noise of `step`.
    fn probe(&self, net: &Denoiser, batch: &HostBatch, step: u64, device: &Device) -> [f64; 4] {
        let x_0 = images_to_device(batch, Range::Signed, device);
        let eps = self.noise(batch, Purpose::Validate, step, device);
        let labels = self.labels(batch, 0.0, device);
        self.process.probe_levels().map(|level| {
            let levels = vec![level; batch.batch];
            let (x_0, eps, labels) = (x_0.clone(), eps.clone(), labels.clone());
            let loss = loss_per_image(net, &self.process, x_0, eps, &levels, labels).mean();
            f64::from(loss.into_scalar::<f32>())
        })
    }
}

impl Trainer for DiffusionTrainer {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let mut gradients = Gradients::default();
        let mut total: Scalars = vec![];
        let (parts, images) = (step.micro.len(), step.micro.iter().map(|b| b.batch).sum());
        for batch in step.micro {
            let (net, device) = (self.learner.module(), &self.context.device);
            let x_0 = images_to_device(batch, Range::Signed, device);
            let eps = self.noise(batch, Purpose::Noise, batch.step, device);
            let labels = self.labels(batch, self.config.label_dropout, device);
            let levels = self.levels(batch, batch.step);
            let loss = loss_per_image(net, &self.process, x_0, eps, &levels, labels).mean();
            let value = f64::from(loss.clone().into_scalar::<f32>());
            gradients.add(Gradients::take(&mut loss.backward(), net));
            accumulate(&mut total, &[("loss", value)], parts);
        }
        let norm = self.learner.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("gradient_norm", norm));
        self.learned = step.micro.last().cloned();
        Ok(total)
    }

    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        let x_0 = images_to_device(batch, Range::Signed, &device);
        let eps = self.noise(batch, Purpose::Validate, batch.step, &device);
        // Levels of validation come from step numbers no training step uses.
        let levels = self.levels(batch, u64::MAX - batch.step);
        let labels = self.labels(batch, 0.0, &device);
        let loss = loss_per_image(&net, &self.process, x_0, eps, &levels, labels).mean();
        Ok(vec![("loss", f64::from(loss.into_scalar::<f32>()))])
    }

    /// The loss at four noise levels, over the loss of answering zero: near one the network has
    /// learned nothing there, above one it is worse than nothing. Where there are enough images to
    /// compare, also how much larger it is than the loss of images just learned from.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        let pixels = batch.images.iter().map(|p| 2.0 * f64::from(*p) - 1.0);
        let power = pixels.map(|x| x * x).sum::<f64>() / batch.images.len().max(1) as f64;
        let losses = self.probe(&net, batch, batch.step, &device);
        let names = [
            "loss_level_1",
            "loss_level_2",
            "loss_level_3",
            "loss_level_4",
        ];
        let mut signs = vec![];
        let levels = self.process.probe_levels();
        for ((name, level), loss) in names.into_iter().zip(levels).zip(losses) {
            let mix = self.process.mix(level);
            let nothing = mix.c * mix.c * power + mix.d * mix.d;
            signs.push((name, loss / nothing, Limit::Above { watch: 0.98, bad: 1.2 },
                "loss at one noise level over that of answering zero (level 1 has the least noise); above one the training diverges: lower train.learning_rate or set train.clip_norm"));
        }
        let learned = self.learned.as_ref().filter(|own| own.batch >= BLOCK);
        if let (Some(own), true) = (learned, batch.batch >= BLOCK) {
            let own = self.probe(&net, own, batch.step, &device);
            let ratio = |(new, old): (f64, f64)| new / old.max(1e-12);
            let gap = losses.into_iter().zip(own).map(ratio).fold(0.0, f64::max);
            signs.push(("memorisation_gap", gap, Limit::Above { watch: 1.5, bad: 3.0 },
                "validation loss over the loss of images just learned from, at the noise level where it is largest; a network that knows its training images by heart makes copies of them: stop earlier, use more images, data.flip or a smaller model.width"));
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
        Ok(Box::new(DiffusionPipeline::new(
            self.learner.for_use(),
            &self.config,
            &self.context.spec,
            &device,
            self.info,
        )))
    }

    fn parameters(&self) -> usize {
        self.learner.parameters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamConfig;
    use crate::registry::Family;

    #[test]
    fn health_compares_with_the_images_just_learned_from() {
        let (config, spec) = super::super::Diffusion::tiny();
        let context = TrainerContext {
            spec,
            seed: 3,
            device: Device::flex().autodiff(),
            adam: AdamConfig {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.0,
            },
            average_half_life_images: 0.0,
        };
        let mut trainer = super::super::Diffusion::trainer(&config, &context).unwrap();
        let [channels, height, width] = context.spec.shape();
        let batch = |step: u64| HostBatch {
            step,
            images: vec![0.25; BLOCK * channels * height * width],
            labels: Some(vec![0; BLOCK]),
            attributes: None,
            batch: BLOCK,
            shape: context.spec.shape(),
        };
        let named = |health: &Health| -> Vec<&'static str> {
            health.signs.iter().map(|sign| sign.name).collect()
        };
        let before = trainer.health(&batch(0)).unwrap();
        assert!(!named(&before).contains(&"memorisation_gap"));
        let micro = [batch(7)];
        let step = Step {
            micro: &micro,
            learning_rate: 1e-3,
            clip_norm: None,
        };
        trainer.step(&step).unwrap();
        // Same images, same noise: the losses are the same.
        let after = trainer.health(&batch(0)).unwrap();
        let gap = after
            .signs
            .iter()
            .find(|sign| sign.name == "memorisation_gap")
            .unwrap();
        assert!((gap.value - 1.0).abs() < 1e-5, "{}", gap.why);
    }
}
