//! Likelihoods of images by a model, under a protocol that says what was done to their pixels.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData};
use vermeer_image::{ImageBatch, Range};

use crate::data::{Source, amat};
use crate::pipeline::Model;
use crate::random::{Purpose, stream};
use crate::task::{Conditions, Likelihood};
use crate::{Error, Result};

/// Images computed at a time: part of the protocol, for the draws are keyed by it.
const BATCH: usize = 64;

/// What a likelihood is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelKind {
    /// Zeros and ones of a file.
    Fixed,
    /// Zeros and ones drawn with the grey value as probability.
    Dynamic,
    /// Greys cut to this many values.
    Levels(usize),
    /// Bytes.
    Grey,
    /// Real numbers: a density, and no probability.
    Density,
    /// Greys under Bernoulli pixels: a cross-entropy, and no likelihood.
    CrossEntropy,
}

impl PixelKind {
    /// The kind of a model's pixels on the images of `source`; `dynamic` overrules what was done in
    /// training.
    ///
    /// # Errors
    /// [`Error::Settings`] where binarised pixels are asked for and the model has none.
    pub fn of(model: &Model, source: &dyn Source, dynamic: Option<bool>) -> Result<Self> {
        let fixed = source.describe().format == amat::FORMAT;
        Self::of_settings(&model.usage.model, fixed, dynamic)
    }

    fn of_settings(settings: &toml::Table, fixed: bool, dynamic: Option<bool>) -> Result<Self> {
        let word = |key: &str| settings.get(key).and_then(toml::Value::as_str);
        let levels = settings.get("levels").and_then(toml::Value::as_integer);
        let bernoulli = word("likelihood") == Some("bernoulli");
        let trained = word("binarise") == Some("dynamic");
        let binary = bernoulli || levels == Some(2);
        match (fixed, dynamic.unwrap_or(trained)) {
            (_, true) if !binary => Err(Error::settings(
                "binarised pixels have no likelihood under this model",
                "leave the binarisation out; it belongs to Bernoulli pixels and to two levels",
            )),
            (true, _) if binary => Ok(Self::Fixed),
            (_, true) => Ok(Self::Dynamic),
            (_, false) if bernoulli => Ok(Self::CrossEntropy),
            (_, false) => Ok(match (word("likelihood"), levels) {
                (Some("gaussian" | "gaussian-learned"), _) => Self::Density,
                (_, Some(levels)) if levels != 256 => Self::Levels(levels.unsigned_abs() as usize),
                _ => Self::Grey,
            }),
        }
    }

    /// Whether a value is the probability of discrete pixels, so that it has bits.
    pub fn is_probability(self) -> bool {
        !matches!(self, Self::Density | Self::CrossEntropy)
    }

    /// The start of a value's name.
    pub fn measure(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            _ => "nll",
        }
    }
}

impl fmt::Display for PixelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("fixed"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::Levels(levels) => write!(f, "levels{levels}"),
            Self::Grey | Self::CrossEntropy => f.write_str("grey"),
            Self::Density => f.write_str("density"),
        }
    }
}

/// How likelihoods are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// What is done to the pixels.
    pub pixels: PixelKind,
    /// The first images of the source, at most this many.
    pub images: usize,
    /// Draws of a bound for each image.
    pub draws: usize,
    /// Seed of draws and of binarised pixels.
    pub seed: u64,
}

impl Protocol {
    /// The name of the mean over images, such as `nll_dynamic_iwae5000`.
    pub fn name(&self, likelihood: Likelihood) -> String {
        let (measure, draws) = (self.pixels.measure(), likelihood.protocol(self.draws));
        format!("{measure}_{}_{draws}", self.pixels)
    }
}

/// The log-likelihoods of images in nats, of each for every number of draws in `draws`, prepared as
/// the model's own images were. The outer index is that of `draws`.
///
/// # Errors
/// [`Error::Settings`] where labels or attributes lack, [`Error::Failed`] for values that are not
/// finite and after `stop`; those of reading the images.
pub fn log_likelihoods(
    model: &Model,
    source: &dyn Source,
    protocol: &Protocol,
    draws: &[usize],
    device: &Device,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<f64>>> {
    let count = protocol.images.min(source.len());
    let mut found = vec![Vec::with_capacity(count); draws.len()];
    for first in (0..count).step_by(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let numbers: Vec<usize> = (first..(first + BATCH).min(count)).collect();
        let (images, conditions) = batch(model, source, &numbers, protocol, device)?;
        // Each batch draws its own codes.
        let seed = stream(protocol.seed, Purpose::Importance, u64::MAX, first as u64).bits();
        for (values, draws) in found.iter_mut().zip(draws) {
            let pipeline = &model.pipeline;
            values.extend(pipeline.log_likelihood(&images, &conditions, *draws, seed)?);
        }
        progress(first + numbers.len(), count);
    }
    match found.iter().flatten().any(|value| !value.is_finite()) {
        true => Err(Error::Failed(
            "the likelihood of an image is not finite".into(),
        )),
        false => Ok(found),
    }
}

/// Images of these numbers, prepared as the model's own were, and what is known of them.
fn batch(
    model: &Model,
    source: &dyn Source,
    numbers: &[usize],
    protocol: &Protocol,
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
        if protocol.pixels == PixelKind::Dynamic {
            let mut random = stream(protocol.seed, Purpose::Binarise, u64::MAX, *number as u64);
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
    let wanted = spec.attributes.len();
    let conditions = Conditions {
        labels: (labels.len() == numbers.len()).then_some(labels),
        attributes: (wanted > 0 && attributes.len() == numbers.len() * wanted)
            .then_some(attributes),
    };
    let tensor = Tensor::<4>::from_data(TensorData::new(values, shape), device);
    Ok((ImageBatch::new(tensor, Range::Unit)?, conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_say_what_a_value_is_of() {
        let bernoulli = "likelihood = \"bernoulli\"\n";
        for (text, fixed, asked, expected) in [
            (
                "binarise = \"dynamic\"",
                false,
                None,
                Some(PixelKind::Dynamic),
            ),
            (
                "binarise = \"no\"",
                false,
                None,
                Some(PixelKind::CrossEntropy),
            ),
            (
                "binarise = \"no\"",
                false,
                Some(true),
                Some(PixelKind::Dynamic),
            ),
            ("binarise = \"dynamic\"", true, None, Some(PixelKind::Fixed)),
        ] {
            let settings: toml::Table = format!("{bernoulli}{text}").parse().unwrap();
            let found = PixelKind::of_settings(&settings, fixed, asked).ok();
            assert_eq!(found, expected, "{text}");
        }
        for (text, asked, expected) in [
            (
                "likelihood = \"discretised-logistic\"",
                None,
                Some(PixelKind::Grey),
            ),
            (
                "likelihood = \"gaussian-learned\"",
                None,
                Some(PixelKind::Density),
            ),
            (
                "levels = 2\nbinarise = \"dynamic\"",
                None,
                Some(PixelKind::Dynamic),
            ),
            ("levels = 2", None, Some(PixelKind::Levels(2))),
            ("levels = 16", None, Some(PixelKind::Levels(16))),
            ("levels = 256", Some(true), None),
            ("", None, Some(PixelKind::Grey)),
            ("", Some(true), None),
        ] {
            let settings: toml::Table = text.parse().unwrap();
            let found = PixelKind::of_settings(&settings, false, asked).ok();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn names_say_the_protocol() {
        let protocol = |pixels, draws| Protocol {
            pixels,
            images: 10,
            draws,
            seed: 0,
        };
        let of = |pixels, draws, likelihood| protocol(pixels, draws).name(likelihood);
        assert_eq!(
            of(PixelKind::Dynamic, 5000, Likelihood::ImportanceWeighted),
            "nll_dynamic_iwae5000"
        );
        assert_eq!(
            of(PixelKind::Levels(16), 1, Likelihood::Exact),
            "nll_levels16_exact"
        );
        assert_eq!(
            of(PixelKind::CrossEntropy, 1, Likelihood::ImportanceWeighted),
            "cross_entropy_grey_iwae1"
        );
        assert!(!PixelKind::Density.is_probability() && PixelKind::Fixed.is_probability());
    }
}
