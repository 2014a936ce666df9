//! `vermeer eval nll`: how unlikely a model finds images, in nats.

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;
use vermeer::data::{self, OpenOptions, Source, Split, amat};
use vermeer::pipeline::Model;
use vermeer::random::{Purpose, stream};
use vermeer::task::{Conditions, Likelihood};
use vermeer::{Error, Result};
use vermeer_image::{ImageBatch, Range};

use crate::checkpoint::ModelArgs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval nll runs/mnist-vae --data mnist/ --binarise dynamic
  vermeer eval nll runs/mnist-vae --data mnist/ --draws 50 --limit 1000   a looser bound, sooner
  vermeer eval nll runs/faces --data faces/ --split all --json
  vermeer eval nll runs/tiny-pixels --check-normalised    the sum over all images must be 1

The bound is tighter with more draws, so values of different --draws are not comparable; neither
are those of binarised and of grey images. A Bernoulli value of greys is no likelihood.";

/// How far from 1 the sum of all probabilities may be.
const NORMALISED: f64 = 1e-5;

/// Images computed at a time: part of the protocol, for the draws are keyed by it.
const BATCH: usize = 64;

/// Bound the negative log-likelihood of images by importance sampling, in nats.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Images to evaluate: any data set that can be trained on.
    #[arg(
        long,
        value_name = "LOCATION",
        required_unless_present = "check_normalised"
    )]
    data: Option<String>,
    /// Sum the probabilities of all images there are, instead of evaluating some: 1 for a
    /// likelihood that is normalised. For autoregressive models of at most 2^20 images.
    #[arg(long, conflicts_with = "data")]
    check_normalised: bool,
    /// Split of the data: train, validation, test or all.
    #[arg(long, default_value = "test")]
    split: Split,
    /// Draws per image of a bound: of the code (5000 by default), or of a diffusion's noise (1).
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    draws: Option<usize>,
    /// Use only the first images.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Seed of codes and of binarised pixels.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What is done to pixels first; without it, what was done in training.
    #[arg(long, value_enum)]
    binarise: Option<Binarise>,
    /// Print the values as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Binarise {
    /// Nothing.
    No,
    /// Each pixel is drawn with its grey value as probability.
    Dynamic,
}

impl Binarise {
    /// What the name of a protocol says of the pixels.
    fn word(self) -> &'static str {
        match self {
            Self::No => "grey",
            Self::Dynamic => "dynamic",
        }
    }
}

/// A mean over images.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Mean {
    /// The protocol.
    name: String,
    nats: f64,
    standard_error: f64,
}

#[derive(Serialize)]
struct Measured {
    nll: Mean,
    /// Where the value is a bound by importance samples: the bound of one draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_elbo: Option<Mean>,
    bits_per_dim: f64,
    images: usize,
    dimensions: usize,
    data: String,
    split: Split,
    data_digest: String,
    run: String,
    step: u64,
    draws: usize,
    seed: u64,
    version: &'static str,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let model = self.model.open(terminal)?;
        let device = self.model.device()?;
        let options = OpenOptions {
            split: self.split,
            ..OpenOptions::default()
        };
        if self.check_normalised {
            return self.sum(&model, terminal);
        }
        let Some(location) = &self.data else {
            return Err(Error::settings(
                "there are no images to evaluate",
                "add --data LOCATION",
            ));
        };
        let source = data::open(location, &options)?;
        let Some(likelihood) = model.pipeline.likelihood() else {
            return Err(Error::settings(
                format!("family {} has no likelihood", model.usage.family),
                "likelihoods are defined for autoencoders with a prior, autoregressive models and diffusion",
            ));
        };
        let draws = match (likelihood, self.draws) {
            (Likelihood::Exact, Some(_)) => {
                return Err(Error::settings(
                    format!("family {} knows the likelihood itself", model.usage.family),
                    "leave --draws out",
                ));
            }
            (Likelihood::ImportanceWeighted, draws) => draws.unwrap_or(5000),
            (Likelihood::Variational | Likelihood::Exact, draws) => draws.unwrap_or(1),
        };
        let count = self
            .limit
            .map_or(source.len(), |limit| limit.min(source.len()));
        let binarise = self.binarise(&model)?;
        let progress = terminal.progress("images");
        let (mut bounds, mut elbos) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for first in (0..count).step_by(BATCH) {
            let numbers = first..(first + BATCH).min(count);
            let labels = numbers.clone().map(|number| source.label(number)).collect();
            let conditions = Conditions {
                labels,
                attributes: None,
            };
            let images = self.images(&model, source.as_ref(), numbers, binarise, &device)?;
            // Each batch draws its own codes.
            let seed = stream(self.seed, Purpose::Importance, u64::MAX, first as u64).bits();
            let of = |draws: usize| {
                model
                    .pipeline
                    .log_likelihood(&images, &conditions, draws, seed)
            };
            if likelihood == Likelihood::ImportanceWeighted {
                elbos.extend(of(1)?);
            }
            bounds.extend(of(draws)?);
            progress.at(bounds.len(), count);
        }
        drop(progress);
        if bounds.iter().chain(&elbos).any(|value| !value.is_finite()) {
            return Err(Error::Failed("the bound of an image is not finite".into()));
        }

        // Drawing zeros and ones anew leaves them as they are.
        let pixels = match source.describe().format == amat::FORMAT {
            true => "fixed",
            false => binarise.word(),
        };
        let [channels, height, width] = model.pipeline.shape();
        let measured = Measured {
            nll: mean(
                format!("nll_{pixels}_{}", likelihood.protocol(draws)),
                &bounds,
            ),
            negative_elbo: (!elbos.is_empty())
                .then(|| mean(format!("negative_elbo_{pixels}"), &elbos)),
            bits_per_dim: -bounds.iter().sum::<f64>()
                / (bounds.len() * channels * height * width) as f64
                / std::f64::consts::LN_2,
            images: count,
            dimensions: channels * height * width,
            data: source.describe().location.clone(),
            split: source.describe().split,
            data_digest: source.digest()?,
            run: self.model.run()?.path().display().to_string(),
            step: model.step,
            draws,
            seed: self.seed,
            version: env!("CARGO_PKG_VERSION"),
        };
        if self.json {
            return terminal.json(&measured);
        }
        let line = |mean: &Mean| {
            format!(
                "{:<28} {:10.3} ± {:.3} nats",
                mean.name, mean.nats, mean.standard_error
            )
        };
        let elbo = measured.negative_elbo.as_ref();
        terminal.result(&format!(
            "{}\n{}{:<28} {:10.4}\n{count} images of {} ({}), step {}, seed {}",
            line(&measured.nll),
            elbo.map(|mean| line(mean) + "\n").unwrap_or_default(),
            "bits per dimension",
            measured.bits_per_dim,
            measured.data,
            measured.split,
            measured.step,
            measured.seed,
        ))
    }

    /// The probabilities of all images, for each class where the model knows classes.
    fn sum(&self, model: &Model, terminal: &Terminal) -> Result<()> {
        let conditional = model.usage.model.get("conditional");
        let classes = match conditional.and_then(|value| value.as_bool()) {
            Some(true) => (0..model.usage.spec.classes.len() as u32)
                .map(Some)
                .collect(),
            _ => vec![None],
        };
        let sums: Vec<f64> = classes
            .into_iter()
            .map(|class| model.pipeline.total_probability(class))
            .collect::<Result<_>>()?;
        match self.json {
            true => terminal.json(&json!({ "total_probability": sums }))?,
            false => terminal.result(
                &sums
                    .iter()
                    .map(|sum| format!("{:<28} {sum:10.7}", "total_probability"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            )?,
        }
        match sums.iter().find(|sum| (*sum - 1.0).abs() > NORMALISED) {
            Some(sum) => Err(Error::Threshold(format!(
                "the probabilities sum to {sum:.7}, more than {NORMALISED} away from 1"
            ))),
            None => Ok(()),
        }
    }

    /// What is done to the pixels: what was asked for, or what the model was trained with.
    fn binarise(&self, model: &Model) -> Result<Binarise> {
        let setting = |key: &str| model.usage.model.get(key).and_then(|value| value.as_str());
        let chosen = self.binarise.unwrap_or(match setting("binarise") {
            Some("dynamic") => Binarise::Dynamic,
            _ => Binarise::No,
        });
        match (chosen, setting("likelihood")) {
            (Binarise::Dynamic, Some(other)) if other != "bernoulli" => Err(Error::settings(
                format!("binarised pixels have no {other} likelihood"),
                "leave --binarise out",
            )),
            _ => Ok(chosen),
        }
    }

    /// Images of these numbers, prepared as the run's own were.
    fn images(
        &self,
        model: &Model,
        source: &dyn Source,
        numbers: std::ops::Range<usize>,
        binarise: Binarise,
        device: &Device,
    ) -> Result<ImageBatch> {
        let [channels, height, width] = model.pipeline.shape();
        let shape = [numbers.len(), channels, height, width];
        let mut values = Vec::with_capacity(shape.iter().product());
        for number in numbers {
            let mut pixels = model.usage.preprocess.apply(&source.get(number)?.image)?;
            if binarise == Binarise::Dynamic {
                let mut random = stream(self.seed, Purpose::Binarise, u64::MAX, number as u64);
                pixels
                    .iter_mut()
                    .for_each(|pixel| *pixel = f32::from(u8::from(random.uniform() < *pixel)));
            }
            values.extend(pixels);
        }
        let tensor = Tensor::<4>::from_data(TensorData::new(values, shape), device);
        Ok(ImageBatch::new(tensor, Range::Unit)?)
    }
}

/// The mean of negated values, and its standard error.
fn mean(name: String, log_likelihoods: &[f64]) -> Mean {
    let n = log_likelihoods.len() as f64;
    let nats = -log_likelihoods.iter().sum::<f64>() / n;
    let squares: f64 = log_likelihoods
        .iter()
        .map(|value| (value + nats).powi(2))
        .sum();
    Mean {
        name,
        nats,
        standard_error: (squares / (n - 1.0).max(1.0) / n).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_has_its_standard_error() {
        // By hand: mean 4, squares 4 + 0 + 4, variance 8/2, standard error sqrt(4/3).
        let mean = mean("x".into(), &[-2.0, -4.0, -6.0]);
        assert_eq!(mean.nats, 4.0);
        assert!((mean.standard_error - (4.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
