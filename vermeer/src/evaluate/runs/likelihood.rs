//! Bits per dimension of images that a model did not learn from.

use std::sync::atomic::AtomicBool;

use burn::prelude::Device;
use serde::{Deserialize, Serialize};
use vermeer_image::metrics::Interval;
use vermeer_image::metrics::interval::of_mean;

use crate::data::Source;
use crate::evaluate::likelihood::{PixelKind, Protocol, log_likelihoods};
use crate::pipeline::Model;
use crate::task::Likelihood;
use crate::{Error, Result};

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
    ///
    pub protocol: String,
    /// What was done to the pixels: `dynamic` binarisation, `levels16`, whole `grey` bytes, or
    /// `density` of real numbers.
    pub pixels: String,
    /// What it is a likelihood of: pixels, how images were brought to the model's size, and whether
    /// the class or attributes were given. Values of one kind can be compared.
    pub kind: String,
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
    let pixels = PixelKind::of(model, heldout, None)?;
    if pixels == PixelKind::CrossEntropy {
        return Err(Error::settings(
            "a Bernoulli value of grey pixels is no likelihood",
            "train on binarised pixels, or with another model.likelihood",
        ));
    }
    let draws = match likelihood {
        Likelihood::ImportanceWeighted => options.draws,
        Likelihood::Variational | Likelihood::Exact => 1,
    };
    let protocol = Protocol {
        pixels,
        images: options.images,
        draws,
        seed: options.seed,
    };
    let found = log_likelihoods(model, heldout, &protocol, &[draws], device, stop, progress)?;
    let nats: Vec<f64> = found.into_iter().flatten().map(|value| -value).collect();
    if nats.is_empty() {
        return Ok(None);
    }
    let (count, dimensions) = (nats.len(), model.pipeline.modelled());
    let bits: Vec<f64> = nats
        .iter()
        .map(|value| value / (dimensions as f64 * std::f64::consts::LN_2))
        .collect();
    let rule = &model.usage.preprocess;
    let conditional = model.usage.model.get("conditional");
    let told = model.pipeline.told() || conditional.and_then(toml::Value::as_bool).unwrap_or(false);
    let given = if told { "_given" } else { "" };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok(Some(BitsPerDim {
        protocol: format!("{pixels}_{}{given}", likelihood.protocol(draws)),
        kind: format!(
            "{pixels} {dimensions} of {}x{}x{} {:?}{given}",
            rule.channels, rule.height, rule.width, rule.fit
        ),
        mean: mean(&bits),
        interval: of_mean(&bits),
        nats: mean(&nats),
        pixels: pixels.to_string(),
        dimensions,
        images: count,
        seed: options.seed,
    }))
}
