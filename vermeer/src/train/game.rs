//! The trainer of two networks that play against each other: a generator makes images, a
//! discriminator tells them from real ones, and each learns from the other.
//!
//! ```text
//! D minimises  L_real(D(x)) + L_fake(D(G(z))) + γ/2 · R1 + w_D · (C(x) + C(G(z)))
//! G minimises  L_gen(D(G(z))) + w_G · C(G(z))                        z ~ N(0, I)
//! ```
//!
//! C is the cross-entropy of a discriminator that also names classes, and is zero for others.
//! What the two networks are is a family's own affair; [`Rules`] says how they are trained.

mod pipeline;
mod players;
mod rules;
pub(crate) mod signs;

use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use vermeer_image::Range;

pub use self::pipeline::GamePipeline;
pub use self::players::{Generates, Judges, Opinion, one_hot};
pub use self::rules::Rules;
use self::signs::Seen;
use super::health::Health;
use super::{Scalars, accumulate, images_to_device};
use crate::data::HostBatch;
use crate::loss::adversarial::cross_entropy;
use crate::nn::{Gradients, Mode, Spectrum};
use crate::optim::Learner;
use crate::random::{Purpose, latents, stream};
use crate::registry::{Info, Step, TrainState, Trainer, TrainerContext};
use crate::run::{NamedTensor, TensorMap};
use crate::task::{Conditions, Pipeline};
use crate::{Error, Result};

/// Half the distance of the central difference in R1, in signed pixels.
pub const R1_STEP: f64 = 0.01;

/// Two networks in training.
pub struct Game<G: Generates, D: Judges> {
    generator: Learner<G>,
    discriminator: Learner<D>,
    spectra: Vec<Spectrum>,
    /// What the discriminator made of the last step of this process.
    seen: Seen,
    rules: Rules,
    info: &'static Info,
    context: TrainerContext,
}

/// Images of the last discriminator update with their classes, from which the generator learns.
type Fakes = Vec<(Tensor<4>, Option<Tensor<2>>)>;

impl<G: Generates, D: Judges> Game<G, D> {
    /// A trainer of two networks whose parameters are drawn. The generator's weights are averaged,
    /// those of the discriminator are not.
    pub fn new(
        info: &'static Info,
        rules: Rules,
        generator: G,
        discriminator: D,
        context: &TrainerContext,
    ) -> Self {
        let plain = context.device.clone().without_autodiff();
        let spectra = match rules.spectral_norm {
            true => spectra(&discriminator, context.seed, &plain),
            false => vec![],
        };
        let discriminator = match rules.clip {
            Some(limit) => clipped(discriminator, limit),
            None => discriminator,
        };
        let half_life = context.average_half_life_images;
        Self {
            generator: Learner::new(generator, context.adam, half_life, "generator."),
            discriminator: Learner::new(discriminator, context.adam, 0.0, "discriminator."),
            spectra,
            seen: Seen::default(),
            rules,
            info,
            context: context.clone(),
        }
    }

    /// [`Trainer::step`] with latents from outside: `[n, latent]` for each micro-batch that each
    /// update of the discriminator sees, in their order.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    ///
    /// # Panics
    /// When there is another number of latents.
    pub fn step_from(&mut self, step: &Step, latents: &[Tensor<2>]) -> Result<Scalars> {
        let turns = turns(step.micro.len(), self.rules.discriminator_steps);
        let parts = turns.iter().map(Vec::len).sum::<usize>();
        assert_eq!(
            latents.len(),
            parts,
            "latents are needed for each micro-batch of each update"
        );
        let mut total: Scalars = vec![];
        let mut latents = latents.iter();
        let mut fakes: Fakes = vec![];
        for (turn, which) in turns.iter().enumerate() {
            let batches: Vec<(&HostBatch, &Tensor<2>)> = which
                .iter()
                .zip(latents.by_ref())
                .map(|(part, z)| (&step.micro[*part], z))
                .collect();
            let left = (turns.len() - 1 - turn) as u64;
            let (scalars, made) = self.discriminate(step, &batches, left)?;
            accumulate(&mut total, &scalars, turns.len());
            fakes = made;
        }
        let accuracy = total
            .iter()
            .find(|(name, _)| *name == "discriminator_accuracy");
        self.seen.accuracy = accuracy.map(|(_, share)| *share);
        total.extend(self.generate(step, fakes));
        Ok(total)
    }

    /// One update of the discriminator; `left` counts those that follow in the step. Gives the
    /// images it was shown, still with the generator's gradients.
    fn discriminate(
        &mut self,
        step: &Step,
        batches: &[(&HostBatch, &Tensor<2>)],
        left: u64,
    ) -> Result<(Scalars, Fakes)> {
        let Rules {
            loss,
            label_smoothing,
            r1_gamma,
            r1_every,
            class_weights,
            ..
        } = self.rules;
        let parts = batches.len();
        if !self.spectra.is_empty() {
            iterate(self.discriminator.module(), &mut self.spectra);
        }
        let mut total: Scalars = vec![];
        let mut gradients = Gradients::default();
        let mut fakes: Fakes = vec![];
        let (mut logits_real, mut logits_fake) = (vec![], vec![]);
        for (batch, z) in batches {
            let d = self.discriminator.module();
            let classes = self.classes(batch, &self.context.device)?;
            let real = images_to_device(batch, Range::Signed, &self.context.device);
            let g = self.generator.module();
            let fake = g.images((*z).clone(), classes.clone(), Mode::Train);
            let on_real = d.opinion(real.clone(), classes.clone(), Mode::Train, &self.spectra);
            let on_fake = d.opinion(
                fake.clone().detach(),
                classes.clone(),
                Mode::Train,
                &self.spectra,
            );
            let host_real = crate::nn::host(on_real.logits.clone());
            let host_fake = crate::nn::host(on_fake.logits.clone());
            // Discriminator: minimise L_real(D(x)) + L_fake(D(G(z))) (+ R1) (+ classes).
            let mut objective = loss
                .real(on_real.logits, label_smoothing)
                .add(loss.fake(on_fake.logits));
            let mut scalars = vec![("discriminator_loss", scalar(&objective))];
            if let Some(boundary) = loss.boundary(label_smoothing) {
                let share = signs::accuracy(&host_real, &host_fake, boundary);
                scalars.push(("discriminator_accuracy", share));
            }
            let number = batch.step / step.micro.len() as u64;
            if r1_gamma > 0.0 && number.is_multiple_of(r1_every) {
                let v = self.direction(batch, left);
                let r1 = r1_penalty(d, real, v, classes.clone(), &self.spectra);
                scalars.push(("r1", scalar(&r1)));
                objective = objective.add(r1.mul_scalar(0.5 * r1_gamma * r1_every as f64));
            }
            if let (Some(on_real), Some(on_fake), Some(classes)) =
                (on_real.classes, on_fake.classes, classes.clone())
            {
                let wrong = cross_entropy(on_real, classes.clone());
                let wrong = wrong.add(cross_entropy(on_fake, classes));
                scalars.push(("class_loss", scalar(&wrong)));
                objective = objective.add(wrong.mul_scalar(class_weights[0]));
            }
            gradients.add(Gradients::take(&mut objective.backward(), d));
            accumulate(&mut total, &scalars, parts);
            logits_real.extend(host_real);
            logits_fake.extend(host_fake);
            fakes.push((fake, classes));
        }
        let norm = self.discriminator.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate * self.rules.discriminator_rate,
            step.clip_norm,
            batches.iter().map(|(batch, _)| batch.batch).sum(),
        );
        if let Some(limit) = self.rules.clip {
            self.discriminator.change(|d| clipped(d, limit));
        }
        total.push(("discriminator_gradient_norm", norm));
        self.seen.gap = Some(signs::gap(&logits_real, &logits_fake));
        Ok((total, fakes))
    }

    /// One update of the generator, against the discriminator as it now is, frozen.
    fn generate(&mut self, step: &Step, fakes: Fakes) -> Scalars {
        let (loss, parts) = (self.rules.loss, fakes.len());
        let judge = self.discriminator.module().clone().set_require_grad(false);
        let mut total: Scalars = vec![];
        let mut gradients = Gradients::default();
        for (fake, classes) in fakes {
            let opinion = judge.opinion(fake, classes.clone(), Mode::Train, &self.spectra);
            // Generator: minimise L_gen(D(G(z))) (+ classes).
            let mut objective = loss.generator(opinion.logits);
            let mut scalars = vec![("generator_loss", scalar(&objective))];
            if let (Some(named), Some(classes)) = (opinion.classes, classes) {
                let wrong = cross_entropy(named, classes);
                scalars.push(("generator_class_loss", scalar(&wrong)));
                objective = objective.add(wrong.mul_scalar(self.rules.class_weights[1]));
            }
            accumulate(&mut total, &scalars, parts);
            gradients.add(Gradients::take(
                &mut objective.backward(),
                self.generator.module(),
            ));
        }
        let norm = self.generator.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            step.micro.iter().map(|b| b.batch).sum(),
        );
        total.push(("generator_gradient_norm", norm));
        total
    }

    /// The classes of a batch as one-hot rows, where the generator is told classes.
    fn classes(&self, batch: &HostBatch, device: &Device) -> Result<Option<Tensor<2>>> {
        let count = self.generator.module().classes();
        if count == 0 {
            return Ok(None);
        }
        let known = Conditions::of(batch);
        let labels = known.labels(batch.batch, &self.context.spec.classes)?;
        Ok(Some(one_hot(labels, count, device)))
    }

    /// Latents of a batch, another set for each value of `draw`.
    fn z(&self, batch: &HostBatch, draw: u64) -> Tensor<2> {
        let latent = self.generator.module().latent();
        let z = self.normals(Purpose::Noise, batch, draw, latent);
        Tensor::<1>::from_floats(&z[..], &self.context.device).reshape([batch.batch, latent])
    }

    /// One R1 direction per image, standard normal.
    fn direction(&self, batch: &HostBatch, draw: u64) -> Tensor<4> {
        let [c, h, w] = batch.shape;
        let v = self.normals(Purpose::Direction, batch, draw, c * h * w);
        Tensor::<1>::from_floats(&v[..], &self.context.device).reshape([batch.batch, c, h, w])
    }

    fn normals(&self, purpose: Purpose, batch: &HostBatch, draw: u64, size: usize) -> Vec<f32> {
        let mut out = vec![0.0; batch.batch * size];
        for (row, values) in out.chunks_exact_mut(size).enumerate() {
            let index = (draw << 32) | row as u64;
            stream(self.context.seed, purpose, batch.step, index).fill_normal(values);
        }
        out
    }
}

/// Which micro-batches each of `updates` updates sees. They are dealt in turn; where there are
/// fewer than updates they are used again, with other noise.
fn turns(parts: usize, updates: usize) -> Vec<Vec<usize>> {
    let hands = parts.min(updates).max(1);
    let hand = |update: usize| {
        (0..parts)
            .filter(|part| part % hands == update % hands)
            .collect()
    };
    (0..updates).map(hand).collect()
}

/// The R1 penalty by central difference along `v`, before its weight γ/2: `[1]`.
pub fn r1_penalty<D: Judges>(
    discriminator: &D,
    x: Tensor<4>,
    v: Tensor<4>,
    classes: Option<Tensor<2>>,
    spectra: &[Spectrum],
) -> Tensor<1> {
    let shift = v.mul_scalar(R1_STEP);
    let ahead = x.clone().add(shift.clone());
    let ahead = discriminator.opinion(ahead, classes.clone(), Mode::Train, spectra);
    let behind = discriminator.opinion(x.sub(shift), classes, Mode::Train, spectra);
    ahead
        .logits
        .sub(behind.logits)
        .div_scalar(2.0 * R1_STEP)
        .square()
        .mean()
}

/// Random vectors to start power iteration from, one for each weight that is normalised.
pub fn spectra<D: Judges>(discriminator: &D, seed: u64, device: &Device) -> Vec<Spectrum> {
    let weights = discriminator.matrices().into_iter().enumerate();
    weights
        .map(|(i, w)| Spectrum::random(seed, i as u64, w.dims(), device))
        .collect()
}

/// One power iteration for each weight that is normalised.
pub fn iterate<D: Judges>(discriminator: &D, spectra: &mut [Spectrum]) {
    for (weight, spectrum) in discriminator.matrices().into_iter().zip(spectra) {
        spectrum.iterate(weight);
    }
}

/// The network with every trained number cut to [−`limit`, `limit`].
pub fn clipped<M: Module>(module: M, limit: f64) -> M {
    struct Cut(f64);
    impl ModuleMapper for Cut {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            let value = param.val().inner().clamp(-self.0, self.0).reshape([-1]);
            crate::nn::assign(param, value)
        }
    }
    module.map(&mut Cut(limit))
}

fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}

impl<G: Generates, D: Judges> Trainer for Game<G, D> {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let turns = turns(step.micro.len(), self.rules.discriminator_steps);
        let mut z = vec![];
        for (turn, which) in turns.iter().enumerate() {
            let left = (turns.len() - 1 - turn) as u64;
            z.extend(which.iter().map(|part| self.z(&step.micro[*part], left)));
        }
        self.step_from(step, &z)
    }

    /// A game has no loss that falls with quality; the logit of unseen images beside the training
    /// curves tells whether the discriminator has memorised the seen ones.
    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let real = images_to_device(batch, Range::Signed, &device);
        let classes = self.classes(batch, &device)?;
        let judge = self.discriminator.module().valid();
        let opinion = judge.opinion(real, classes.clone(), Mode::Use, &self.spectra);
        let mut scalars = vec![("real_logit", scalar(&opinion.logits.mean()))];
        if let (Some(named), Some(classes)) = (opinion.classes, classes) {
            scalars.push(("class_loss", scalar(&cross_entropy(named, classes))));
        }
        Ok(scalars)
    }

    /// Signs of samples from fixed latents against real images, and what the discriminator made
    /// of its last step, where it saw batches as it was trained on them.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.context.device.clone().without_autodiff();
        let real = images_to_device(batch, Range::Signed, &device);
        let n = batch.batch;
        let latent = self.generator.module().latent();
        let numbers: Vec<u64> = (0..n as u64).collect();
        let z = latents(self.context.seed, &numbers, latent);
        let z = Tensor::<1>::from_floats(&z[..], &device).reshape([n, latent]);
        let classes = self.classes(batch, &device)?;
        let generator = self.generator.for_use();
        let fake = generator.images(z, classes.clone(), Mode::Use);
        let judge = self.discriminator.module().valid();
        let named = judge
            .opinion(fake.clone(), classes.clone(), Mode::Use, &self.spectra)
            .classes;
        let labels = classes.and(batch.labels.as_deref());
        let judged = signs::Judged {
            real,
            fake,
            labels,
            named: named.map(crate::nn::host),
        };
        Ok(Health::judge(judged.signs(self.seen, &self.rules)))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.generator.save(&mut state);
        self.discriminator.save(&mut state);
        for (i, spectrum) in self.spectra.iter().enumerate() {
            for (name, vector) in spectrum.vectors() {
                let data = crate::nn::host(vector.clone());
                state.optimizer.insert(
                    format!("spectral.{i}.{name}"),
                    NamedTensor {
                        shape: vec![data.len()],
                        data,
                    },
                );
            }
        }
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        let device = self.context.device.clone();
        self.generator.restore(state, &device)?;
        self.discriminator.restore(state, &device)?;
        let plain = device.without_autodiff();
        for (i, spectrum) in self.spectra.iter_mut().enumerate() {
            let vector = |name: &str| {
                let name = format!("spectral.{i}.{name}");
                let tensor = state.optimizer.get(&name).ok_or_else(|| {
                    Error::checkpoint(
                        "optimizer.safetensors",
                        format!("{name} is missing"),
                        "resume from an older checkpoint",
                    )
                })?;
                Ok::<_, Error>(Tensor::<1>::from_floats(&tensor.data[..], &plain))
            };
            *spectrum = Spectrum::new(vector("u")?, vector("v")?);
        }
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
        let device = self.context.device.clone().without_autodiff();
        Ok(Box::new(GamePipeline::new(
            self.info,
            self.generator.for_use(),
            Some(self.discriminator.module().valid()),
            self.rules.spectral_norm,
            &self.context.spec,
            &device,
        )))
    }

    fn parameters(&self) -> usize {
        self.generator.parameters() + self.discriminator.parameters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_are_dealt_to_the_updates_and_used_again_where_they_are_few() {
        for (parts, updates, expected) in [
            (1, 1, vec![vec![0]]),
            (3, 1, vec![vec![0, 1, 2]]),
            (1, 3, vec![vec![0], vec![0], vec![0]]),
            (2, 3, vec![vec![0], vec![1], vec![0]]),
            (4, 2, vec![vec![0, 2], vec![1, 3]]),
            (5, 5, vec![vec![0], vec![1], vec![2], vec![3], vec![4]]),
        ] {
            assert_eq!(turns(parts, updates), expected, "{parts} {updates}");
        }
    }
}
