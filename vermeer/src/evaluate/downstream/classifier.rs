//! The small classifier of [`cas`](super::cas): the judge's layers for images of any shape and any
//! number of classes, trained from scratch.

use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use vermeer_kernels::nn::{Conv2d, Linear};

use super::check;
use super::labelled::Labelled;
use crate::nn::{Gradients, Init, Law};
use crate::optim::{AdamConfig, Learner, LearningRate, Shape};
use crate::random::{Purpose, permutation, stream};
use crate::{Error, Result};

/// Rows and columns of the smallest images it takes.
pub(super) const LEAST_SIDE: usize = 12;

/// Images of a step.
const BATCH: usize = 128;

/// Images that are classified at a time.
const LOOKED_AT: usize = 500;

/// The highest learning rate, which falls to zero by half a cosine.
const RATE: f64 = 2e-3;

/// Decoupled weight decay.
const DECAY: f64 = 5e-4;

/// How a classifier is trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Passes over the images.
    pub(super) epochs: usize,
    /// Seed of weights, order and mirroring.
    pub(super) seed: u64,
    /// Whether half of the images of an epoch are mirrored.
    pub(super) flip: bool,
}

/// A small convolutional network.
///
/// | layer | output |
/// |---|---|
/// | convolution 5×5 padding 2, ReLU, max pool 2 | `[n, 16, h/2, w/2]` |
/// | convolution 5×5, ReLU, max pool 2 | `[n, 32, (h/2 − 4)/2, (w/2 − 4)/2]` |
/// | linear, ReLU | `[n, 128]` |
/// | linear | `[n, classes]` |
///
/// In colour the convolutions have twice as many channels.
#[derive(Module, Debug)]
pub(super) struct Classifier {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    out: Linear,
}

impl Classifier {
    /// A network whose weights are drawn from N(0, 2 / fan-in) (He et al., 2015).
    fn new([channels, height, width]: [usize; 3], classes: usize, init: &Init) -> Self {
        let first = if channels == 1 { 16 } else { 32 };
        let law = |fan_in: usize| Law::Normal((2.0 / fan_in as f32).sqrt());
        let left = |side: usize| (side / 2 - 4) / 2;
        let flat = 2 * first * left(height) * left(width);
        let conv = |name: &str, [from, to]: [usize; 2], padding: usize| {
            init.at(name)
                .conv2d([from, to], 5, 1, padding, true, law(from * 25))
        };
        Self {
            conv1: conv("conv1", [channels, first], 2),
            conv2: conv("conv2", [first, 2 * first], 0),
            hidden: init.at("hidden").linear(flat, 128, law(flat)),
            out: init.at("out").linear(128, classes, law(128)),
        }
    }

    /// Logits `[n, classes]` of unit images `[n, channels, height, width]`.
    fn logits(&self, x: Tensor<4>) -> Tensor<2> {
        let pool = |x: Tensor<4>| max_pool2d(x, MaxPoolOptions::new([2, 2]));
        let x = pool(relu(self.conv1.forward(x)));
        let x = pool(relu(self.conv2.forward(x)));
        self.out.forward(relu(self.hidden.forward(x.flatten(1, 3))))
    }

    /// The most probable class of every image.
    ///
    /// # Errors
    /// [`Error::Failed`] when the device does not give its values back, or after `stop`.
    pub(super) fn classify(
        &self,
        data: &Labelled,
        device: &Device,
        stop: &AtomicBool,
    ) -> Result<Vec<u32>> {
        let all: Vec<usize> = (0..data.len()).collect();
        let mut found = Vec::with_capacity(all.len());
        for part in all.chunks(LOOKED_AT) {
            check(stop)?;
            let x = data.tensor(part, |_| false, device);
            let logits = self.logits(x);
            let [_, classes] = logits.dims();
            let values = logits
                .try_to_vec_as::<f32>()
                .map_err(|error| Error::Failed(format!("logits cannot be read back: {error}")))?;
            found.extend(values.chunks_exact(classes).map(largest));
        }
        Ok(found)
    }
}

/// The place of the largest value, the first of equal ones.
fn largest(values: &[f32]) -> u32 {
    let mut best = 0;
    for (class, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = class;
        }
    }
    best as u32
}

/// A classifier that learnt from these images. `progress` is called with the steps done and those
/// to do.
///
/// # Errors
/// [`Error::Failed`] when its loss is not finite, or after `stop`.
pub(super) fn train(
    data: &Labelled,
    classes: usize,
    rule: Rule,
    device: &Device,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Classifier> {
    let gradients = device.clone().autodiff();
    let classifier = Classifier::new(data.shape, classes, &Init::new(rule.seed, &gradients));
    let adam = AdamConfig {
        weight_decay: DECAY,
        ..AdamConfig::default()
    };
    let mut learner = Learner::new(classifier, adam, 0.0, "");
    let steps = rule.epochs * data.len().div_ceil(BATCH);
    let rate = LearningRate {
        peak: RATE,
        warmup_steps: (steps as u64 / 10).min(100),
        total_steps: steps as u64,
        shape: Shape::Cosine,
    };
    let mut step = 0;
    for epoch in 0..rule.epochs as u64 {
        let order: Vec<usize> = permutation(rule.seed, epoch, data.len())
            .into_iter()
            .map(|index| index as usize)
            .collect();
        for part in order.chunks(BATCH) {
            check(stop)?;
            let mirrored = |index: usize| {
                let draw = || stream(rule.seed, Purpose::Flip, epoch, index as u64).uniform();
                rule.flip && draw() < 0.5
            };
            let x = data.tensor(part, mirrored, &gradients);
            let loss = cross_entropy(learner.module().logits(x), &data.labels_of(part));
            let value = loss.clone().into_scalar::<f32>();
            if !value.is_finite() {
                return Err(Error::Failed(format!(
                    "the classifier's loss is {value} in step {step}"
                )));
            }
            let found = Gradients::take(&mut loss.backward(), learner.module());
            learner.update(found, rate.at(step as u64), None, part.len());
            step += 1;
            progress(step, steps);
        }
    }
    Ok(learner.for_use())
}

/// The mean of −log p of the labels.
fn cross_entropy(logits: Tensor<2>, labels: &[i32]) -> Tensor<1> {
    let labels = Tensor::<1, Int>::from_data(labels, &logits.device()).unsqueeze_dim::<2>(1);
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_by_hand() {
        // Rows (0, 0) and (ln 3, 0): ln 2, and for class 1 −ln(1/4).
        let logits = Tensor::<2>::from_floats([[0.0, 0.0], [3.0f32.ln(), 0.0]], &Device::flex());
        let loss = cross_entropy(logits, &[0, 1]).into_scalar::<f32>();
        let expected = 0.5 * (2.0f32.ln() + 4.0f32.ln());
        assert!((loss - expected).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn shapes_down_to_the_smallest_have_logits() {
        for shape in [[1, 28, 28], [3, 32, 32], [3, LEAST_SIDE, 13]] {
            let device = Device::flex();
            let classifier = Classifier::new(shape, 7, &Init::new(0, &device));
            let [channels, height, width] = shape;
            let x = Tensor::<4>::zeros([2, channels, height, width], &device);
            assert_eq!(classifier.logits(x).dims(), [2, 7]);
        }
        assert_eq!(largest(&[0.5, 2.0, 2.0]), 1);
    }
}
