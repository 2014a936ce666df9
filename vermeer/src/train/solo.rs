//! The trainer of families with one network and one loss: accumulation, update, validation,
//! checkpoints. A family says what it computes on a batch, what its health is, and how it is used.

use burn::module::Module;
use burn::prelude::*;

use super::health::Health;
use super::{Scalars, accumulate};
use crate::Result;
use crate::data::HostBatch;
use crate::nn::Gradients;
use crate::optim::Learner;
use crate::random::{Purpose, Stream, stream};
use crate::registry::{Step, TrainState, Trainer, TrainerContext};
use crate::run::TensorMap;
use crate::task::Pipeline;

/// Where a loss takes its random numbers and tensors from.
#[derive(Clone, Debug)]
pub struct Draw {
    seed: u64,
    training: bool,
    device: Device,
}

impl Draw {
    /// The draws of a training with gradients on `device`.
    pub fn training(seed: u64, device: &Device) -> Self {
        Self {
            seed,
            training: true,
            device: device.clone(),
        }
    }

    /// The draws of an evaluation on `device`, the same at every one.
    pub fn evaluation(seed: u64, device: &Device) -> Self {
        Self {
            seed,
            training: false,
            device: device.clone(),
        }
    }

    /// Whether the network is trained, so that dropout and the like apply.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// The device of the loss.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The stream of one image of a batch; those of an evaluation are no training's.
    pub fn stream(&self, purpose: Purpose, batch: &HostBatch, row: usize) -> Stream {
        let step = match self.training {
            true => batch.step,
            false => u64::MAX - batch.step,
        };
        stream(self.seed, purpose, step, row as u64)
    }

    /// Standard normal numbers `[n, size]`, a row for each image of the batch.
    pub fn normals(&self, purpose: Purpose, batch: &HostBatch, size: usize) -> Tensor<2> {
        let mut values = vec![0.0; batch.batch * size];
        for (row, values) in values.chunks_exact_mut(size.max(1)).enumerate() {
            self.stream(purpose, batch, row).fill_normal(values);
        }
        Tensor::<1>::from_floats(&values[..], &self.device).reshape([batch.batch, size])
    }

    /// The pixels of a batch drawn with their grey value as probability, `[n, c, h, w]`, zeros and
    /// ones (Salakhutdinov and Murray, 2008).
    pub fn binarised(&self, batch: &HostBatch) -> Tensor<4> {
        let [channels, height, width] = batch.shape;
        let mut pixels = Vec::with_capacity(batch.images.len());
        let images = batch.images.chunks_exact(channels * height * width);
        for (row, image) in images.enumerate() {
            let mut random = self.stream(Purpose::Binarise, batch, row);
            let drawn = image
                .iter()
                .map(|&p| f32::from(u8::from(random.uniform() < p)));
            pixels.extend(drawn);
        }
        Tensor::<1>::from_floats(&pixels[..], &self.device).reshape([
            batch.batch,
            channels,
            height,
            width,
        ])
    }
}

/// A network that learns by lowering one loss.
pub trait Objective: Module + Sync + 'static {
    /// The mean loss of a batch, `[1]`, and what is told of it; the first scalar is the one to
    /// minimise.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the batch lacks what the network is told.
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)>;

    /// The signs of a batch that is not trained on.
    ///
    /// # Errors
    /// As [`Objective::objective`].
    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health>;

    /// The network in use, without gradients.
    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline>;
}

/// The trainer of an [`Objective`].
pub struct Solo<N: Objective> {
    learner: Learner<N>,
    context: TrainerContext,
}

impl<N: Objective> Solo<N> {
    /// A trainer of a network whose parameters are drawn.
    pub fn new(net: N, context: &TrainerContext) -> Self {
        Self {
            learner: Learner::new(net, context.adam, context.average_half_life_images, ""),
            context: context.clone(),
        }
    }

    /// The network with gradients.
    pub fn module(&self) -> &N {
        self.learner.module()
    }

    fn evaluation(&self) -> Draw {
        let device = self.context.device.clone().without_autodiff();
        Draw::evaluation(self.context.seed, &device)
    }
}

impl<N: Objective> Trainer for Solo<N> {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let draw = Draw::training(self.context.seed, &self.context.device);
        let mut gradients = Gradients::default();
        let mut total: Scalars = vec![];
        let (parts, images) = (step.micro.len(), step.micro.iter().map(|b| b.batch).sum());
        for batch in step.micro {
            let net = self.learner.module();
            let (loss, scalars) = net.objective(batch, &draw)?;
            gradients.add(Gradients::take(&mut loss.backward(), net));
            accumulate(&mut total, &scalars, parts);
        }
        let norm = self.learner.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("gradient_norm", norm));
        Ok(total)
    }

    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let (_, scalars) = self
            .learner
            .for_use()
            .objective(batch, &self.evaluation())?;
        Ok(scalars)
    }

    fn health(&self, batch: &HostBatch) -> Result<Health> {
        self.learner.for_use().health(batch, &self.evaluation())
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
        let mut context = self.context.clone();
        context.device = context.device.without_autodiff();
        Ok(self.learner.for_use().into_pipeline(&context))
    }

    fn parameters(&self) -> usize {
        self.learner.parameters()
    }
}
