//! Bits per dimension of images that a model did not learn from.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use vermeer_image::metrics::Interval;
use vermeer_image::metrics::interval::of_mean;
use vermeer_image::{ImageBatch, Range};

use crate::data::Source;
use crate::pipeline::Model;
use crate::random::{Purpose, stream};
use crate::task::{Conditions, Likelihood};
use crate::{Error, Result};

/// Images computed at a time: part of the protocol, for the draws are keyed by it. The same as of
/// `vermeer eval nll`, whose values these are.
const BATCH: usize = 64;

/// How the likelihood is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikelihoodOptions {
    /// Images that are evaluated, at most.
    pub images: usize,
    /// Importance draws of a code for each image. A diffusion takes one draw, an exact likelihood
    /// none.
    pub draws: usize,
    /// Seed of codes and of binarised pixels.
    pub seed: u64,
}

/// A negative log-likelihood for each pixel and channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitsPerDim {
    /// How it was computed, such as `dynamic_iwae100`: what was done to the pixels, then the bound.
    /// Values of one kind of pixels and of equal `dimensions` can be compared.
    pub protocol: String,
    /// What was done to the pixels: `dynamic` binarisation, `levels16`, whole `grey` bytes, or
    /// `density` of real numbers.
    pub pixels: String,
    /// The mean in bits.
    pub mean: f64,
    /// The interval of the mean over draws of images.
    pub interval: Option<Interval>,
    /// The mean of an image in nats.
    pub nats: f64,
    /// Pixels times channels.
    pub dimensions: usize,
    /// How many images.
    pub images: usize,
    /// The seed.
    pub seed: u64,
}

/// The bits per dimension of the first images of `heldout`, prepared as the model's own were;
/// `None` for a family without a likelihood.
///
/// # Errors
/// [`Error::Settings`] where the settings make no likelihood of pixels, or where labels or
/// attributes lack; [`Error::Failed`] for values that are not finite and after `stop`; those of
/// reading the images.
pub fn bits_per_dim(
    model: &Model,
    heldout: &dyn Source,
    options: &LikelihoodOptions,
    device: &Device,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<BitsPerDim>> {
    let Some(likelihood) = model.pipeline.likelihood() else {
        return Ok(None);
    };
    let pixels = pixels(&model.usage.model)?;
    let draws = match likelihood {
        Likelihood::ImportanceWeighted => options.draws,
        Likelihood::Variational | Likelihood::Exact => 1,
    };
    let count = options.images.min(heldout.len());
    let [channels, height, width] = model.pipeline.shape();
    let dimensions = channels * height * width;
    let mut nats: Vec<f64> = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let numbers: Vec<usize> = (first..(first + BATCH).min(count)).collect();
        let (images, conditions) = batch(
            model,
            heldout,
            &numbers,
            pixels == "dynamic",
            options.seed,
            device,
        )?;
        // Each batch draws its own codes.
        let seed = stream(options.seed, Purpose::Importance, u64::MAX, first as u64).bits();
        let found = model
            .pipeline
            .log_likelihood(&images, &conditions, draws, seed)?;
        nats.extend(found.iter().map(|value| -value));
        progress(nats.len(), count);
    }
    if nats.is_empty() || nats.iter().any(|value| !value.is_finite()) {
        return Err(Error::Failed(
            "the likelihood of an image is not finite".into(),
        ));
    }
    let bits: Vec<f64> = nats
        .iter()
        .map(|value| value / (dimensions as f64 * std::f64::consts::LN_2))
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok(Some(BitsPerDim {
        protocol: format!("{pixels}_{}", likelihood.protocol(draws)),
        mean: mean(&bits),
        interval: of_mean(&bits),
        nats: mean(&nats),
        pixels,
        dimensions,
        images: count,
        seed: options.seed,
    }))
}

/// What a model's settings do to pixels before it tells their likelihood.
///
/// # Errors
/// [`Error::Settings`] for Bernoulli pixels that are not binarised.
fn pixels(settings: &toml::Table) -> Result<String> {
    let word = |key: &str| settings.get(key).and_then(toml::Value::as_str);
    let levels = settings.get("levels").and_then(toml::Value::as_integer);
    match (word("binarise"), word("likelihood"), levels) {
        (Some("dynamic"), _, _) => Ok("dynamic".to_owned()),
        (_, Some("bernoulli"), _) => Err(Error::settings(
            "a Bernoulli value of grey pixels is no likelihood",
            "train on binarised pixels, or with another model.likelihood",
        )),
        (_, Some("gaussian" | "gaussian-learned"), _) => Ok("density".to_owned()),
        (_, _, Some(levels)) if levels != 256 => Ok(format!("levels{levels}")),
        _ => Ok("grey".to_owned()),
    }
}

/// Images of these numbers, prepared as the model's own were, and what is known of them.
fn batch(
    model: &Model,
    source: &dyn Source,
    numbers: &[usize],
    binarise: bool,
    seed: u64,
    device: &Device,
) -> Result<(ImageBatch, Conditions)> {
    let [channels, height, width] = model.pipeline.shape();
    let shape = [numbers.len(), channels, height, width];
    let spec = &model.usage.spec;
    let about = source.describe();
    let mut values: Vec<f32> = Vec::with_capacity(shape.iter().product());
    let mut labels: Vec<u32> = Vec::with_capacity(numbers.len());
    let mut attributes: Vec<f32> = Vec::new();
    for number in numbers {
        let sample = source.get(*number)?;
        let mut pixels = model.usage.preprocess.apply(&sample.image)?;
        if binarise {
            let mut random = stream(seed, Purpose::Binarise, u64::MAX, *number as u64);
            for pixel in &mut pixels {
                *pixel = f32::from(u8::from(random.uniform() < *pixel));
            }
        }
        values.extend(pixels);
        // Labels are told by the names of classes: another data set may count them otherwise.
        let name = source
            .label(*number)
            .and_then(|label| about.classes.get(label as usize));
        let own = name.and_then(|name| spec.classes.iter().position(|class| class == name));
        labels.extend(own.map(|class| class as u32));
        if about.attributes == spec.attributes {
            attributes.extend(sample.attributes);
        }
    }
    let conditions = Conditions {
        labels: (labels.len() == numbers.len()).then_some(labels),
        attributes: (!spec.attributes.is_empty()
            && attributes.len() == numbers.len() * spec.attributes.len())
        .then_some(attributes),
    };
    let tensor = Tensor::<4>::from_data(TensorData::new(values, shape), device);
    Ok((ImageBatch::new(tensor, Range::Unit)?, conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_say_what_is_done_to_pixels() {
        for (text, expected) in [
            (
                "likelihood = \"bernoulli\"\nbinarise = \"dynamic\"",
                Some("dynamic"),
            ),
            ("likelihood = \"bernoulli\"\nbinarise = \"no\"", None),
            (
                "likelihood = \"discretised-logistic\"\nbinarise = \"no\"",
                Some("grey"),
            ),
            ("likelihood = \"gaussian-learned\"", Some("density")),
            ("levels = 2\nbinarise = \"dynamic\"", Some("dynamic")),
            ("levels = 16\nbinarise = \"no\"", Some("levels16")),
            ("levels = 256", Some("grey")),
            ("", Some("grey")),
        ] {
            let settings: toml::Table = text.parse().unwrap();
            assert_eq!(pixels(&settings).ok().as_deref(), expected, "{text}");
        }
    }
}
