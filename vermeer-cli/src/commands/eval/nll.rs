//! `vermeer eval nll`: how unlikely a model finds images, in nats.

use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;
use vermeer::data::{self, OpenOptions, Split};
use vermeer::evaluate::{PixelKind, Protocol, log_likelihoods};
use vermeer::pipeline::Model;
use vermeer::task::Likelihood;
use vermeer::{Error, Result};

use crate::checkpoint::ModelArgs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval nll runs/mnist-vae --data mnist/ --binarise dynamic
  vermeer eval nll runs/mnist-vae --data mnist/ --draws 50 --limit 1000   a looser bound, sooner
  vermeer eval nll runs/faces --data faces/ --split all --json
  vermeer eval nll runs/tiny-pixels --check-normalised    the sum over all images must be 1

The bound is tighter with more draws, so values of different --draws are not comparable; neither
are those of binarised and of grey images. A Bernoulli value of greys is a cross-entropy, and called so.";

/// How far from 1 the sum of all probabilities may be.
const NORMALISED: f64 = 1e-5;

/// The negative log-likelihood of images in nats, exact or a bound.
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
    /// Where the value is a probability of discrete pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_dim: Option<f64>,
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
        let dynamic = self.binarise.map(|asked| asked == Binarise::Dynamic);
        let protocol = Protocol {
            pixels: PixelKind::of(&model, source.as_ref(), dynamic)?,
            images: self.limit.unwrap_or(usize::MAX),
            draws,
            seed: self.seed,
        };
        // The bound of one draw stands beside that of many.
        let asked: &[usize] = match likelihood {
            Likelihood::ImportanceWeighted => &[draws, 1],
            Likelihood::Variational | Likelihood::Exact => &[draws],
        };
        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut found = log_likelihoods(
            &model,
            source.as_ref(),
            &protocol,
            asked,
            &device,
            &stop,
            &mut |done, all| progress.at(done, all),
        )?;
        drop(progress);
        let elbos = (asked.len() > 1).then(|| found.swap_remove(1));
        let bounds = found.swap_remove(0);
        let count = bounds.len();
        let nll = mean(protocol.name(likelihood), &bounds);
        let dimensions = model.pipeline.modelled();

        let measured = Measured {
            bits_per_dim: protocol
                .pixels
                .is_probability()
                .then(|| nll.nats / dimensions as f64 / std::f64::consts::LN_2),
            negative_elbo: elbos
                .map(|elbos| mean(format!("negative_elbo_{}", protocol.pixels), &elbos)),
            nll,
            images: count,
            dimensions,
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
        let bits = measured
            .bits_per_dim
            .map(|bits| format!("{:<28} {bits:10.4}\n", "bits per dimension"));
        terminal.result(&format!(
            "{}\n{}{}{count} images of {} ({}), step {}, seed {}",
            line(&measured.nll),
            elbo.map(|mean| line(mean) + "\n").unwrap_or_default(),
            bits.unwrap_or_default(),
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
