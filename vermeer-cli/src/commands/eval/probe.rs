//! `vermeer eval probe`: how much simple classifiers read from what a model learned unlabelled.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use vermeer::codes::Codes;
use vermeer::data::Split;
use vermeer::pipeline::{self, Which};
use vermeer::run::RunDir;
use vermeer::{Error, Result};
use vermeer_image::metrics::{Accuracy, Features, ProbeOptions, probe};

use crate::checkpoint::which;
use crate::commands::encode::codes;
use crate::inputs::Inputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval probe runs/mnist-vae --data mnist/            learn from train, try on test
  vermeer eval probe train.npz test.npz                      codes of `vermeer encode`, or your own
  vermeer eval probe runs/fashion-gan --data fashion/ --limit 10000 --json

Two classifiers read the labels from the codes: logistic regression (scikit-learn's, C = 1, on
standardised codes) and the nearest neighbours. A model that is told
classes while it encodes is refused: its codes could repeat them.";

/// Try how well classes can be read from a model's codes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of a run, or a file of codes to learn from (.npz or .safetensors).
    #[arg(value_name = "RUN|CODES")]
    subject: PathBuf,
    /// The file of codes to try on, where the first one is a file.
    #[arg(value_name = "CODES")]
    test: Option<PathBuf>,
    /// Labelled images, of which the training split is learnt from and the test split tried.
    #[arg(long, value_name = "LOCATION", conflicts_with = "test")]
    data: Option<String>,
    /// Checkpoint to use: `latest`, `best` (lowest validation loss), or a step.
    #[arg(long, default_value = "latest", value_parser = which, value_name = "WHICH")]
    checkpoint: Which,
    /// Use only the first images of each split.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    limit: Option<usize>,
    /// Neighbours that vote.
    #[arg(short, long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    neighbours: usize,
    /// Inverse strength of the penalty of the regression.
    #[arg(long, default_value_t = 1.0, value_name = "C")]
    inverse_penalty: f64,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print the values as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Reading {
    value: f64,
    low: f64,
    high: f64,
    by_class: Vec<Option<f64>>,
}

impl Reading {
    fn of(accuracy: Accuracy) -> Self {
        Self {
            value: accuracy.value,
            low: accuracy.interval.low,
            high: accuracy.interval.high,
            by_class: accuracy.by_class,
        }
    }

    fn line(&self, name: &str) -> String {
        format!(
            "{name:<28} {:.4} [{:.4}, {:.4}]",
            self.value, self.low, self.high
        )
    }
}

#[derive(Serialize)]
struct Found {
    linear_accuracy: Reading,
    knn_accuracy: Reading,
    chance: f64,
    classes: Vec<String>,
    train: usize,
    test: usize,
    size: usize,
    neighbours: usize,
    inverse_penalty: f64,
    subject: String,
    version: &'static str,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if !(self.inverse_penalty.is_finite() && self.inverse_penalty > 0.0) {
            return Err(Error::settings(
                format!("--inverse-penalty {}", self.inverse_penalty),
                "use a number above 0",
            ));
        }
        let (train, test) = self.codes(terminal)?;
        if train.told || test.told {
            return Err(told());
        }
        let (train, test) = self.limited(train, test);
        let labels = |codes: &Codes, name: &str| {
            codes.labels.clone().ok_or_else(|| {
                Error::settings(
                    format!("the {name} codes have no labels"),
                    "encode labelled images: a folder for each class, IDX or CIFAR files",
                )
            })
        };
        let (train_labels, test_labels) = (labels(&train, "training")?, labels(&test, "test")?);
        let classes = match train.classes.len() >= test.classes.len() {
            true => train.classes.clone(),
            false => test.classes.clone(),
        };
        if train.classes.iter().zip(&test.classes).any(|(a, b)| a != b) {
            return Err(Error::settings(
                "the classes of the two files have different names",
                "encode splits of one data set",
            ));
        }
        let options = ProbeOptions {
            inverse_penalty: self.inverse_penalty,
            neighbours: self.neighbours,
        };
        let (counts, size) = ([train.len(), test.len()], train.size);
        let found = probe(
            (&Features::new(train.values, size)?, &train_labels),
            (&Features::new(test.values, test.size)?, &test_labels),
            classes.len(),
            options,
        )?;
        let found = Found {
            linear_accuracy: Reading::of(found.linear),
            knn_accuracy: Reading::of(found.knn),
            chance: found.chance,
            classes,
            train: counts[0],
            test: counts[1],
            size,
            neighbours: self.neighbours,
            inverse_penalty: self.inverse_penalty,
            subject: self.subject.display().to_string(),
            version: env!("CARGO_PKG_VERSION"),
        };
        match self.json {
            true => terminal.json(&found),
            false => terminal.result(&format!(
                "{}\n{}\n{:<28} {:.4}\n{} numbers each; learnt from {} images, tried on {}",
                found.linear_accuracy.line("linear_accuracy"),
                found
                    .knn_accuracy
                    .line(&format!("knn_accuracy ({} votes)", self.neighbours)),
                "chance",
                found.chance,
                found.size,
                found.train,
                found.test,
            )),
        }
    }

    /// Codes to learn from, and codes to try on.
    fn codes(&self, terminal: &Terminal) -> Result<(Codes, Codes)> {
        if !self.subject.join("run.json").is_file() {
            let Some(test) = &self.test else {
                return Err(Error::settings(
                    "there are no codes to try the probe on",
                    "name a second file of codes, or a run with --data",
                ));
            };
            if self.data.is_some() {
                return Err(Error::settings(
                    format!("{} is no run, so --data has no use", self.subject.display()),
                    "leave --data out",
                ));
            }
            return Ok((Codes::read(&self.subject)?, Codes::read(test)?));
        }
        let Some(data) = &self.data else {
            return Err(Error::settings(
                "a run is probed on labelled images",
                "add --data LOCATION",
            ));
        };
        let device = vermeer::device::parse(&self.device)?;
        let model = pipeline::open(
            &RunDir::open(Path::new(&self.subject))?,
            self.checkpoint,
            &device,
        )?;
        model
            .warnings
            .iter()
            .for_each(|warning| terminal.warn(warning));
        if model.pipeline.told() {
            return Err(told());
        }
        let of = |split: Split| {
            let inputs = Inputs::open(std::slice::from_ref(data), split, self.limit)?;
            codes(&model, &inputs, None, &device, terminal)
        };
        Ok((of(Split::Train)?, of(Split::Test)?))
    }

    fn limited(&self, mut train: Codes, mut test: Codes) -> (Codes, Codes) {
        if let Some(limit) = self.limit {
            for codes in [&mut train, &mut test] {
                codes.values.truncate(limit * codes.size);
                codes.names.truncate(limit);
                if let Some(labels) = &mut codes.labels {
                    labels.truncate(limit);
                }
            }
        }
        (train, test)
    }
}

/// Why codes are not probed that were made with labels.
fn told() -> Error {
    Error::settings(
        "the model is told classes or attributes while it encodes, so its codes may repeat them",
        "probe an unconditional model, or a GAN, whose discriminator is not told",
    )
}
