//! The variational bound of images under a trained network.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::pipeline::DiffusionPipeline;
use crate::diffusion::Bound;
use crate::nn::host;
use crate::random::{Purpose, stream};
use crate::task::{BLOCK, Conditions, of_shape};
use crate::{Error, Result};

impl DiffusionPipeline {
    /// The raw network for rows of inputs, one time and, where it is told classes, one class each.
    fn raw(&self, inputs: &[f32], times: &[f64], classes: Option<Vec<i32>>) -> Vec<f32> {
        let [c, h, w] = self.spec.shape();
        let x = Tensor::<1>::from_floats(inputs, &self.device).reshape([times.len(), c, h, w]);
        let labels = classes.map(|classes| Tensor::from_data(&classes[..], &self.device));
        host(self.net.forward(x, times, labels))
    }
}

/// Minus the bound of each image, averaged over `draws` draws of the noise and, where the network
/// is passed fewer times than there are steps, of the steps.
///
/// # Errors
/// [`Error::Settings`] for a framework without the bound, no draws, or missing labels.
pub(super) fn log_likelihood(
    model: &DiffusionPipeline,
    images: &ImageBatch,
    conditions: &Conditions,
    draws: usize,
    seed: u64,
) -> Result<Vec<f64>> {
    let config = &model.config;
    let Some(bound) = Bound::new(&model.process, config.variance, config.clip) else {
        return Err(Error::settings(
            "the frameworks flow and edm have no variational bound",
            "likelihoods are bounded for framework = \"ddpm\"",
        ));
    };
    if draws == 0 {
        return Err(Error::settings(
            "no draws give no likelihood",
            "use at least one",
        ));
    }
    let bytes = of_shape(images, model.spec.shape(), Range::Bytes, &model.device)?;
    let count = bytes.dims()[0];
    let signed = |byte: &f32| f64::from(byte.round().clamp(0.0, 255.0)) / 127.5 - 1.0;
    let x_0: Vec<f64> = host(bytes).iter().map(signed).collect();
    let told = model.told(conditions, count)?;
    let size: usize = model.spec.shape().iter().product();

    let strata = bound.strata(config.steps);
    let mut values: Vec<f64> = x_0.chunks_exact(size).map(|x| bound.prior(x)).collect();
    for draw in 0..draws {
        for (place, stratum) in strata.iter().enumerate() {
            let key = (draw * strata.len() + place) as u64;
            let weight = stratum.len() as f64 / draws as f64;
            for first in (0..count).step_by(BLOCK) {
                // The last block is filled up with the last image, whose further terms are left.
                let rows: Vec<usize> = (first..first + BLOCK).map(|r| r.min(count - 1)).collect();
                let (mut x, mut eps, mut steps) = (vec![], vec![0.0; BLOCK * size], vec![]);
                for (row, noise) in rows.iter().zip(eps.chunks_exact_mut(size)) {
                    let index = *row as u64;
                    let mut step = stream(seed, Purpose::Time, key, index);
                    steps.push(stratum.start + step.below(stratum.len() as u64) as usize);
                    stream(seed, Purpose::Noise, key, index).fill_normal(noise);
                    x.extend_from_slice(&x_0[row * size..(row + 1) * size]);
                }
                let classes = told
                    .as_ref()
                    .map(|told| rows.iter().map(|row| told[*row]).collect());
                let terms = bound.terms(&x, &eps, &steps, |inputs, times| {
                    Ok(model.raw(&inputs, times, classes))
                })?;
                for (row, term) in rows.iter().zip(terms).take(count - first) {
                    values[*row] += weight * term;
                }
            }
        }
    }
    Ok(values.into_iter().map(|value| -value).collect())
}
