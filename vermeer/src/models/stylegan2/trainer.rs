//! How the two networks learn.

use burn::module::Module;
use burn::prelude::*;
use vermeer_image::Range;

use super::StyleGan2Config;
use super::augment::{Augmentation, Change};
use super::discriminator::StyleDiscriminator;
use super::pipeline::{StyleGan2Pipeline, sample_noise};
use super::synthesis::{StyleGenerator, Synthesis};
use crate::data::HostBatch;
use crate::loss::adversarial::Adversarial;
use crate::nn::{Gradients, host};
use crate::optim::Learner;
use crate::random::{Purpose, latents, normals, stream};
use crate::registry::{Step, TrainState, Trainer, TrainerContext};
use crate::run::{NamedTensor, TensorMap};
use crate::task::{Conditions, Pipeline};
use crate::train::game::signs::{mode_coverage, spread};
use crate::train::game::{R1_STEP, one_hot};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, accumulate, images_to_device};
use crate::{Error, Result};

/// Half the distance of the central difference in the path length, in styles.
pub const PATH_STEP: f64 = 0.1;

/// The losses of the two networks.
const LOSS: Adversarial = Adversarial::NonSaturating;

/// The share of the mean path length that a step replaces.
const PATH_MOMENTUM: f32 = 0.01;

/// The share of the mean sign of the logits of real images that a step replaces.
const SIGN_MOMENTUM: f32 = 0.25;

/// The random numbers of a micro-batch of n images.
#[derive(Clone, Debug)]
pub struct StyleDraws {
    /// Latents, `[n, latent]`.
    pub z: Tensor<2>,
    /// Latents whose styles are mixed in, `[n, latent]`.
    pub second: Tensor<2>,
    /// The first layer of each image that has its second style; as many as there are layers, or
    /// more, for none.
    pub cuts: Vec<usize>,
    /// Noise of the layers, `[n, noise_size]`.
    pub noise: Tensor<2>,
    /// What is done to real images, to generated ones, and to these when the generator learns.
    pub augment: [Augmentation; 3],
    /// The direction of R1, `[n, c, h, w]`, in steps that have it.
    pub slope: Option<Tensor<4>>,
    /// Directions of the path length, unit vectors `[⌈n/2⌉, style]`, in steps that have it.
    pub path: Option<Tensor<2>>,
}

/// Adaptive discriminator augmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Adaptive {
    /// How probable each change of an image is.
    probability: f32,
    /// The running mean of the sign of the logits of real images.
    sign: f32,
}

/// A StyleGAN2 in training.
pub struct StyleGan2Trainer {
    generator: Learner<StyleGenerator>,
    discriminator: Learner<StyleDiscriminator>,
    adaptive: Adaptive,
    /// The running mean of path lengths.
    path_mean: f32,
    config: StyleGan2Config,
    context: TrainerContext,
}

/// What the generator learns from: images with their classes, and what they were made of.
struct Made {
    images: Tensor<4>,
    classes: Option<Tensor<2>>,
    styles: Tensor<2>,
}

impl StyleGan2Trainer {
    /// A trainer of two networks whose parameters are drawn. The generator's weights are averaged,
    /// those of the discriminator are not.
    pub fn new(
        config: &StyleGan2Config,
        generator: StyleGenerator,
        discriminator: StyleDiscriminator,
        context: &TrainerContext,
    ) -> Self {
        let half_life = context.average_half_life_images;
        Self {
            generator: Learner::new(generator, context.adam, half_life, "generator."),
            discriminator: Learner::new(discriminator, context.adam, 0.0, "discriminator."),
            adaptive: Adaptive::default(),
            path_mean: 0.0,
            config: config.clone(),
            context: context.clone(),
        }
    }

    /// The draws of a micro-batch, one of `parts` of its step.
    fn draws(&self, batch: &HostBatch, parts: usize) -> StyleDraws {
        let (seed, step, n) = (self.context.seed, batch.step, batch.batch);
        let generator = self.generator.module();
        let (latent, layers) = (generator.latent(), generator.synthesis.layers());
        let device = &self.context.device;
        let rows = |values: Vec<f32>, size: usize| {
            let count = values.len() / size;
            Tensor::<1>::from_floats(&values[..], device).reshape([count, size])
        };
        let noise_size = generator.synthesis.noise_size();
        let (mut cuts, mut second) = (vec![], vec![0.0; n * latent]);
        for (row, values) in second.chunks_exact_mut(latent).enumerate() {
            let mut random = stream(seed, Purpose::Mix, step, row as u64);
            let mixed = f64::from(random.uniform()) < self.config.mixing;
            let cut = 1 + random.below(layers as u64 - 1) as usize;
            cuts.push(if mixed { cut } else { layers });
            random.fill_normal(values);
        }
        let number = step / parts as u64;
        let due = |weight: f64, every: u64| weight > 0.0 && number.is_multiple_of(every);
        let [c, h, w] = batch.shape;
        let slope = due(self.config.r1_gamma, self.config.r1_every).then(|| {
            let v = normals(seed, Purpose::Direction, step, n, c * h * w);
            Tensor::<1>::from_floats(&v[..], device).reshape([n, c, h, w])
        });
        let path = due(self.config.path_weight, self.config.path_every).then(|| {
            let style = generator.style();
            let mut directions = vec![0.0; n.div_ceil(2) * style];
            for (row, values) in directions.chunks_exact_mut(style).enumerate() {
                let index = (1u64 << 32) | row as u64;
                stream(seed, Purpose::Direction, step, index).fill_normal(values);
                let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
                let length = squares.sqrt().max(1e-12);
                values
                    .iter_mut()
                    .for_each(|v| *v = (f64::from(*v) / length) as f32);
            }
            rows(directions, style)
        });
        StyleDraws {
            z: rows(normals(seed, Purpose::Noise, step, n, latent), latent),
            second: rows(second, latent),
            cuts,
            noise: rows(
                normals(seed, Purpose::Layer, step, n, noise_size),
                noise_size,
            ),
            augment: [0, 1, 2].map(|which| self.augmentation(batch, which)),
            slope,
            path,
        }
    }

    /// Changes of the images of a batch; `which` tells those of one step apart.
    fn augmentation(&self, batch: &HostBatch, which: u64) -> Augmentation {
        let (set, probability) = (&self.config.augment, self.adaptive.probability);
        if set.is_empty() || probability == 0.0 {
            return Augmentation::none();
        }
        let draw = |row: usize| {
            let index = (which << 32) | row as u64;
            let mut random = stream(self.context.seed, Purpose::Augment, batch.step, index);
            Change::draw(&mut random, set, probability, batch.shape[1])
        };
        Augmentation((0..batch.batch).map(draw).collect())
    }

    /// [`Trainer::step`] with random numbers from outside, for each micro-batch.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    ///
    /// # Panics
    /// When draws and micro-batches differ in number.
    pub fn step_from(&mut self, step: &Step, draws: &[StyleDraws]) -> Result<Scalars> {
        assert_eq!(
            draws.len(),
            step.micro.len(),
            "random numbers are needed for each micro-batch"
        );
        let (mut total, made) = self.discriminate(step, draws)?;
        total.extend(self.generate(step, draws, made));
        Ok(total)
    }

    /// The update of the discriminator. Gives the images it was shown, with the generator's
    /// gradients.
    fn discriminate(&mut self, step: &Step, draws: &[StyleDraws]) -> Result<(Scalars, Vec<Made>)> {
        let parts = step.micro.len();
        let mut total: Scalars = vec![];
        let mut gradients = Gradients::default();
        let mut all = vec![];
        let mut signs: Vec<f32> = vec![];
        for (batch, draw) in step.micro.iter().zip(draws) {
            let d = self.discriminator.module();
            let g = self.generator.module();
            let classes = self.classes(batch, &self.context.device)?;
            let real = images_to_device(batch, Range::Signed, &self.context.device);
            let styles = g.mapping.forward(draw.z.clone(), classes.clone());
            g.mapping.track(styles.clone().detach());
            let second = g.mapping.forward(draw.second.clone(), classes.clone());
            let mixed = g.mixed(styles.clone(), second, &draw.cuts);
            let images = g.synthesis.forward(&mixed, draw.noise.clone());
            let [on_real, on_fake, _] = &draw.augment;
            let seen = on_fake.apply(images.clone().detach());
            let logits = d.forward(on_real.apply(real.clone()), classes.clone());
            let others = d.forward(seen, classes.clone());
            signs.extend(host(logits.clone()).iter().map(|l| sign(*l)));
            // Discriminator: minimise −ln σ(D(x)) − ln σ(−D(G(z))) (+ R1).
            let mut objective = LOSS.real(logits, 0.0).add(LOSS.fake(others));
            let mut scalars = vec![("discriminator_loss", scalar(&objective))];
            if let Some(v) = &draw.slope {
                let r1 = r1_penalty(d, real, v.clone(), classes.clone(), on_real);
                scalars.push(("r1", scalar(&r1)));
                let weight = 0.5 * self.config.r1_gamma * self.config.r1_every as f64;
                objective = objective.add(r1.mul_scalar(weight));
            }
            gradients.add(Gradients::take(&mut objective.backward(), d));
            accumulate(&mut total, &scalars, parts);
            all.push(Made {
                images,
                classes,
                styles,
            });
        }
        let images: usize = step.micro.iter().map(|batch| batch.batch).sum();
        let norm = self.discriminator.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate * self.config.discriminator_rate,
            step.clip_norm,
            images,
        );
        total.push(("discriminator_gradient_norm", norm));
        self.adapt(&signs);
        total.push(("real_sign", f64::from(self.adaptive.sign)));
        if !self.config.augment.is_empty() {
            let probability = f64::from(self.adaptive.probability);
            total.push(("augment_probability", probability));
        }
        Ok((total, all))
    }

    /// Moves the running mean of the signs of real images' logits, and the probability of
    /// augmentation up where that lies above its target and down where it lies below.
    fn adapt(&mut self, signs: &[f32]) {
        let mean = signs.iter().sum::<f32>() / signs.len().max(1) as f32;
        let Adaptive { probability, sign } = &mut self.adaptive;
        *sign += SIGN_MOMENTUM * (mean - *sign);
        if self.config.augment.is_empty() {
            return;
        }
        let way = (signs.len() as f64 / self.config.augment_images) as f32;
        let more = match f64::from(*sign) > self.config.augment_target {
            true => *probability + way,
            false => *probability - way,
        };
        *probability = more.clamp(0.0, self.config.augment_limit as f32);
    }

    /// The update of the generator, against the discriminator as it now is, frozen.
    fn generate(&mut self, step: &Step, draws: &[StyleDraws], all: Vec<Made>) -> Scalars {
        let parts = all.len();
        let judge = self.discriminator.module().clone().set_require_grad(false);
        let mut total: Scalars = vec![];
        let mut gradients = Gradients::default();
        for (made, draw) in all.into_iter().zip(draws) {
            let g = self.generator.module();
            let seen = draw.augment[2].apply(made.images);
            // Generator: minimise −ln σ(D(G(z))) (+ path length).
            let mut objective = LOSS.generator(judge.forward(seen, made.classes));
            let mut scalars = vec![("generator_loss", scalar(&objective))];
            if let Some(directions) = &draw.path {
                let rows = directions.dims()[0];
                let styles = made.styles.narrow(0, 0, rows);
                let noise = draw.noise.clone().narrow(0, 0, rows);
                let lengths = path_lengths(&g.synthesis, styles, directions.clone(), noise);
                let mean = scalar(&lengths.clone().mean());
                self.path_mean += PATH_MOMENTUM * (mean as f32 - self.path_mean);
                scalars.push(("path_length", mean));
                let apart = lengths.sub_scalar(f64::from(self.path_mean));
                let weight = self.config.path_weight * self.config.path_every as f64;
                objective = objective.add(apart.square().mean().mul_scalar(weight));
            }
            accumulate(&mut total, &scalars, parts);
            gradients.add(Gradients::take(&mut objective.backward(), g));
        }
        let norm = self.generator.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            step.micro.iter().map(|batch| batch.batch).sum(),
        );
        total.push(("generator_gradient_norm", norm));
        total
    }

    /// The classes of a batch as one-hot rows, where the networks are told classes.
    fn classes(&self, batch: &HostBatch, device: &Device) -> Result<Option<Tensor<2>>> {
        let count = self.generator.module().classes();
        if count == 0 {
            return Ok(None);
        }
        let known = Conditions::of(batch);
        let labels = known.labels(batch.batch, &self.context.spec.classes)?;
        Ok(Some(one_hot(labels, count, device)))
    }

    fn plain(&self) -> Device {
        self.context.device.clone().without_autodiff()
    }
}

/// The R1 penalty of augmented images by central difference along `v`, before its weight γ/2:
/// `[1]`.
pub fn r1_penalty(
    discriminator: &StyleDiscriminator,
    x: Tensor<4>,
    v: Tensor<4>,
    classes: Option<Tensor<2>>,
    augment: &Augmentation,
) -> Tensor<1> {
    let shift = v.mul_scalar(R1_STEP);
    let ahead = augment.apply(x.clone().add(shift.clone()));
    let behind = augment.apply(x.sub(shift));
    let ahead = discriminator.forward(ahead, classes.clone());
    let behind = discriminator.forward(behind, classes);
    ahead.sub(behind).div_scalar(2.0 * R1_STEP).square().mean()
}

/// How far images move, in roots of their number of pixels, for each step of the style along unit
/// vectors `directions`, by central difference: `[n]`.
pub fn path_lengths(
    synthesis: &Synthesis,
    styles: Tensor<2>,
    directions: Tensor<2>,
    noise: Tensor<2>,
) -> Tensor<1> {
    let layers = synthesis.layers();
    let shift = directions.mul_scalar(PATH_STEP);
    let ahead = vec![styles.clone().add(shift.clone()); layers];
    let behind = vec![styles.sub(shift); layers];
    let ahead = synthesis.forward(&ahead, noise.clone());
    let behind = synthesis.forward(&behind, noise);
    let [n, _, h, w] = ahead.dims();
    let slope = ahead.sub(behind).div_scalar(2.0 * PATH_STEP);
    let squares = slope.square().flatten::<2>(1, 3).sum_dim(1); // [n, 1]
    let mean = squares.div_scalar((h * w) as f64);
    mean.add_scalar(1e-8).sqrt().reshape([n])
}

fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}

/// −1, 0 or 1.
fn sign(logit: f32) -> f32 {
    match logit == 0.0 {
        true => 0.0,
        false => logit.signum(),
    }
}

impl Trainer for StyleGan2Trainer {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let parts = step.micro.len();
        let draws: Vec<StyleDraws> = step
            .micro
            .iter()
            .map(|batch| self.draws(batch, parts))
            .collect();
        self.step_from(step, &draws)
    }

    /// A game has no loss that falls with quality; the logit of unseen images beside the mean sign
    /// of seen ones tells whether the discriminator knows these by heart.
    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.plain();
        let real = images_to_device(batch, Range::Signed, &device);
        let classes = self.classes(batch, &device)?;
        let judge = self.discriminator.module().valid();
        let logits = judge.forward(real, classes);
        let signs = host(logits.clone());
        let signs = signs.iter().map(|l| f64::from(sign(*l))).sum::<f64>() / batch.batch as f64;
        Ok(vec![
            ("real_logit", scalar(&logits.mean())),
            ("real_sign", signs),
        ])
    }

    /// Signs of samples from fixed latents against real images, and what the discriminator makes
    /// of the images it learns from.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.plain();
        let n = batch.batch;
        let real = images_to_device(batch, Range::Signed, &device);
        let generator = self.generator.for_use();
        let (seed, latent) = (self.context.seed, generator.latent());
        let numbers: Vec<u64> = (0..n as u64).collect();
        let z = latents(seed, &numbers, latent);
        let z = Tensor::<1>::from_floats(&z[..], &device).reshape([n, latent]);
        let styles = generator.mapping.forward(z, self.classes(batch, &device)?);
        let noise = sample_noise(&generator, seed, &numbers, &device);
        let fake = generator.images(styles, noise).clamp(-1.0, 1.0);
        let below = |watch: f64, bad: f64| Limit::Below { watch, bad };
        let above = |watch: f64, bad: f64| Limit::Above { watch, bad };
        let (real_pixels, fake_pixels) = (host(real.clone()), host(fake.clone()));
        let mut signs = vec![(
            "mode_coverage",
            mode_coverage(&real_pixels, &fake_pixels, n),
            below(0.4, 0.2),
            "share of real images that are the nearest one of some sample, over what samples spread evenly would give; a small one says that samples crowd around few of them: raise model.r1_gamma, or train on",
        )];
        if n > 1 {
            signs.push((
                "sample_spread",
                spread(fake) / spread(real).max(1e-12),
                below(0.5, 0.25),
                "mean distance between samples over that between real images; a small one is mode collapse: raise model.r1_gamma, or lower the learning rate",
            ));
        }
        signs.push((
            "real_sign",
            f64::from(self.adaptive.sign),
            above(0.9, 0.99),
            "mean sign of the discriminator's logits of training images; near 1 it knows them by heart, or the generator learns nothing: set model.augment, or raise model.r1_gamma",
        ));
        if !self.config.augment.is_empty() {
            let limit = self.config.augment_limit;
            signs.push((
                "augment_probability",
                f64::from(self.adaptive.probability) / limit,
                above(0.8, 0.999),
                "probability of augmentation over its limit; at 1 there are too few images for this discriminator: lower model.channel_base, or train on more images",
            ));
        }
        Ok(Health::judge(signs))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.generator.save(&mut state);
        self.discriminator.save(&mut state);
        let Adaptive { probability, sign } = self.adaptive;
        for (name, data) in [
            ("augment.state", vec![probability, sign]),
            ("path.mean", vec![self.path_mean]),
        ] {
            let shape = vec![data.len()];
            let tensor = NamedTensor { shape, data };
            state.optimizer.insert(name.to_owned(), tensor);
        }
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        let device = self.context.device.clone();
        self.generator.restore(state, &device)?;
        self.discriminator.restore(state, &device)?;
        let values = |name: &str, count: usize| {
            let found = state.optimizer.get(name).map(|t| t.data.clone());
            found.filter(|data| data.len() == count).ok_or_else(|| {
                Error::checkpoint(
                    "optimizer.safetensors",
                    format!("{name} is missing"),
                    "resume from an older checkpoint",
                )
            })
        };
        let adaptive = values("augment.state", 2)?;
        self.adaptive = Adaptive {
            probability: adaptive[0],
            sign: adaptive[1],
        };
        self.path_mean = values("path.mean", 1)?[0];
        Ok(())
    }

    fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        self.generator.start_from(weights)?;
        match weights
            .keys()
            .any(|name| name.starts_with("discriminator."))
        {
            true => self.discriminator.start_from(weights),
            false => Ok(()),
        }
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline>> {
        Ok(Box::new(StyleGan2Pipeline::new(
            self.generator.for_use(),
            Some(self.discriminator.module().valid()),
            &self.context.spec,
            &self.plain(),
        )))
    }

    fn parameters(&self) -> usize {
        self.generator.parameters() + self.discriminator.parameters()
    }
}
