//! What autoregressive families share: the order of the sub-pixels, their likelihood, sampling with
//! caches, completion of images, health, and the pipeline.
//!
//! ```text
//! p(x) = Π p(x_i | x_1 … x_{i−1})        loss = −log p(x), in nats per image
//! ```
//!
//! Sub-pixels are visited row by row, in a row pixel by pixel, in a pixel channel by channel. A
//! family gives a network that computes all distributions at once ([`Autoregressive`]) and the
//! same network one position at a time ([`Stepper`]); training, samples and likelihoods follow.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | whole numbers `0..levels` as floats |
//! | `outputs` | `[n, k, channels, height, width]` | logits; `k = 1` for two levels, else `k = levels` |

mod checks;
mod classes;
mod health;
mod pipeline;
mod sample;
mod weights;

use burn::module::Module;
use burn::prelude::*;
use vermeer_kernels::cross_entropy;

pub use checks::{stepwise_outputs, total_probability};
pub use classes::{check_labels, class_numbers, class_rows};
pub use pipeline::AutoregressivePipeline;
pub(crate) use pipeline::{sample_on_threads, temperature};
pub use sample::{Known, Sampled, Sampling, naive_sample, sample};
pub(crate) use weights::relu;
pub use weights::{dense, taps};

use crate::data::HostBatch;
use crate::loss::likelihood::bernoulli;
use crate::models::vae::Binarise;
use crate::registry::{DataSpec, TrainerContext};
use crate::task::{Conditions, Pipeline};
use crate::train::health::Health;
use crate::train::{Draw, Objective, Scalars};
use crate::{Error, Result};

/// The place of a sub-pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Row, from the top.
    pub y: usize,
    /// Column, from the left.
    pub x: usize,
    /// Channel: red, green, blue.
    pub channel: usize,
}

/// Every position of images of the shape `[channels, height, width]`, in the order of sampling.
pub fn positions([channels, height, width]: [usize; 3]) -> impl Iterator<Item = Position> {
    (0..channels * height * width).map(move |index| Position {
        y: index / channels / width,
        x: index / channels % width,
        channel: index % channels,
    })
}

/// A network that gives the distribution of every sub-pixel from those before it.
pub trait Autoregressive: Module + Sync + 'static {
    /// The id of its family.
    const ID: &'static str;

    /// The images it is made for.
    fn spec(&self) -> &DataSpec;

    /// Values of a sub-pixel: 2, 4, 16 or 256.
    fn levels(&self) -> usize;

    /// What is done to pixels of two levels before the network sees them.
    fn binarise(&self) -> Binarise;

    /// Whether it is told the class.
    fn conditional(&self) -> bool;

    /// The distributions of all sub-pixels, `[n, k, c, h, w]`, of values `x` `[n, c, h, w]`: with
    /// two levels `k = 1`, the logit of the value 1, else a logit for each level. What stands at a
    /// position does not reach the outputs at it or before it.
    fn outputs(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5>;

    /// −log p(x), summed over the sub-pixels, `[n]`, in nats.
    fn negative_log_likelihood(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<1> {
        negative_log_likelihood(self.outputs(x.clone(), labels), x)
    }

    /// The same distributions for `n` images, one position at a time, on the host.
    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper>;
}

/// Computes one position at a time with what earlier positions left in its caches, so that a pixel
/// costs the work of one position. What it computes for an image does not depend on the others.
pub trait Stepper: Send {
    /// The outputs `[n, k]` at `at`, after the values of all positions before it.
    fn outputs(&mut self, at: Position, out: &mut [f32]);

    /// Takes the values `[n]` at `at`. Called for every position in order; where the outputs are
    /// not needed they are not asked for.
    fn put(&mut self, at: Position, values: &[u16]);
}

/// Numbers that give the distribution of a sub-pixel with `levels` values.
pub fn outputs_of(levels: usize) -> usize {
    if levels == 2 { 1 } else { levels }
}

/// −log p(x), summed over the sub-pixels, `[n]`, of `outputs` `[n, k, c, h, w]` and values `x`
/// `[n, c, h, w]`: Bernoulli where `k = 1`, else the cross-entropy of the logits.
pub fn negative_log_likelihood(outputs: Tensor<5>, x: Tensor<4>) -> Tensor<1> {
    let [n, k, c, h, w] = outputs.dims();
    let nats = match k {
        1 => bernoulli(outputs.squeeze_dim::<4>(1), x).reshape([n, c * h * w]),
        _ => {
            // The levels of a sub-pixel side by side, as networks leave them in memory.
            let logits = outputs.permute([0, 3, 4, 2, 1]).reshape([n * h * w * c, k]);
            let values = x.permute([0, 2, 3, 1]).reshape([n * h * w * c]);
            cross_entropy(logits, values).reshape([n, h * w * c])
        }
    };
    nats.sum_dim(1).squeeze_dim(1)
}

/// The value of a unit pixel: the highest bits of its byte.
pub(crate) fn quantise(unit: f32, levels: usize) -> u16 {
    let byte = (unit.clamp(0.0, 1.0) * 255.0).round() as usize;
    (byte * levels / 256) as u16
}

/// The unit pixel that shows a value.
pub(crate) fn shown(value: u16, levels: usize) -> f32 {
    f32::from(value) / (levels - 1) as f32
}

/// Checks the settings all autoregressive families share.
///
/// # Errors
/// [`Error::Settings`] naming the setting and the remedy.
pub fn check_pixels(
    levels: usize,
    binarise: Binarise,
    conditional: bool,
    spec: &DataSpec,
) -> Result<()> {
    if ![2, 4, 16, 256].contains(&levels) {
        return Err(Error::settings(
            format!("model.levels = {levels}"),
            "a sub-pixel has 2, 4, 16 or 256 levels (1, 2, 4 or 8 bits)",
        ));
    }
    if binarise != Binarise::No && levels != 2 {
        return Err(Error::settings(
            format!("model.binarise draws pixels of 2 levels, model.levels is {levels}"),
            "set model.levels = 2 or model.binarise = \"no\"",
        ));
    }
    if conditional && spec.classes.is_empty() {
        return Err(Error::settings(
            "model.conditional = true, but the images have no classes",
            "use labelled images or set model.conditional = false",
        ));
    }
    Ok(())
}

/// The values of a batch, `[n, c, h, w]`: drawn where the network wants drawn pixels, else the
/// highest bits of the bytes.
fn values<N: Autoregressive>(net: &N, batch: &HostBatch, draw: &Draw) -> Tensor<4> {
    match net.binarise() {
        Binarise::Dynamic => draw.binarised(batch),
        Binarise::No => {
            let [channels, height, width] = batch.shape;
            let of = |pixel: &f32| f32::from(quantise(*pixel, net.levels()));
            let values: Vec<f32> = batch.images.iter().map(of).collect();
            Tensor::<1>::from_floats(&values[..], draw.device()).reshape([
                batch.batch,
                channels,
                height,
                width,
            ])
        }
    }
}

/// The labels of a batch, where the network is told them.
fn labels<N: Autoregressive>(net: &N, batch: &HostBatch) -> Result<Option<Vec<u32>>> {
    if !net.conditional() {
        return Ok(None);
    }
    let known = Conditions::of(batch);
    Ok(Some(
        known.labels(batch.batch, &net.spec().classes)?.to_vec(),
    ))
}

/// Nats per image as bits per sub-pixel.
pub fn bits_per_dim(nats: f64, shape: [usize; 3]) -> f64 {
    nats / (shape.iter().product::<usize>() as f64 * std::f64::consts::LN_2)
}

impl<N: Autoregressive> Objective for N {
    fn objective(&self, batch: &HostBatch, draw: &Draw) -> Result<(Tensor<1>, Scalars)> {
        let labels = labels(self, batch)?;
        let x = values(self, batch, draw);
        let loss = self.negative_log_likelihood(x, labels.as_deref()).mean();
        let nats = f64::from(loss.clone().into_scalar::<f32>());
        let bits = bits_per_dim(nats, batch.shape);
        Ok((loss, vec![("loss", nats), ("bits_per_dim", bits)]))
    }

    fn health(&self, batch: &HostBatch, draw: &Draw) -> Result<Health> {
        health::health(self, batch, draw)
    }

    fn into_pipeline(self, context: &TrainerContext) -> Box<dyn Pipeline> {
        Box::new(AutoregressivePipeline::new(
            self,
            context.spec.clone(),
            context.device.clone(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_highest_bits() {
        for (byte, levels, value) in [
            (127, 2, 0),
            (128, 2, 1),
            (63, 4, 0),
            (64, 4, 1),
            (255, 16, 15),
            (16, 16, 1),
            (200, 256, 200),
        ] {
            assert_eq!(quantise(byte as f32 / 255.0, levels), value, "{byte}");
        }
        for levels in [2, 4, 16, 256] {
            for value in 0..levels as u16 {
                assert_eq!(quantise(shown(value, levels), levels), value);
            }
        }
    }

    #[test]
    fn positions_go_channel_by_channel_within_a_pixel() {
        let all: Vec<[usize; 3]> = positions([3, 2, 2])
            .map(|at| [at.y, at.x, at.channel])
            .collect();
        assert_eq!(all.len(), 12);
        assert_eq!(all[..4], [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]);
        assert_eq!(all[6], [1, 0, 0]);
    }

    #[test]
    fn categories_and_bits_are_hand_computed() {
        let device = Device::flex();
        // One sub-pixel with logits ln 1, ln 2, ln 3, ln 4 and the value 2: −ln 0.3.
        let logits: Vec<f32> = (1..5).map(|k| (k as f32).ln()).collect();
        let outputs = Tensor::<1>::from_floats(&logits[..], &device).reshape([1, 4, 1, 1, 1]);
        let x = Tensor::<4>::full([1, 1, 1, 1], 2.0, &device);
        let nats = crate::nn::host(negative_log_likelihood(outputs, x))[0];
        assert!((nats - 1.203_972_8).abs() < 1e-5, "{nats}");
        // One sub-pixel with the logit ln 3 and the value 0: −ln 0.25, which is two bits.
        let outputs = Tensor::<5>::full([1, 1, 1, 1, 1], 3f32.ln(), &device);
        let x = Tensor::<4>::zeros([1, 1, 1, 1], &device);
        let nats = crate::nn::host(negative_log_likelihood(outputs, x))[0];
        let bits = bits_per_dim(f64::from(nats), [1, 1, 1]);
        assert!((bits - 2.0).abs() < 1e-5, "{bits}");
    }
}
