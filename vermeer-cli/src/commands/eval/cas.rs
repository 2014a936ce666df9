//! `vermeer eval cas`: what samples are worth to somebody who learns from them.

use std::sync::Arc;

use clap::builder::RangedU64ValueParser;
use vermeer::data::{self, OpenOptions, Source, Split};
use vermeer::evaluate::{Cas, CasOptions, RunChoice, Subject, cas};
use vermeer::{Error, Result};

use super::table;
use crate::progress::Progress;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval cas runs/fashion --real fashion/            samples of every class of a run
  vermeer eval cas generated/ --real photos/ --epochs 20   a folder of samples, a folder a class
  vermeer eval cas runs/fashion --real fashion/ --json | jq .classes

Read the gap: the accuracy that is lost when a classifier learns from samples in place of as many
real images. A set without a test split is divided, and a fifth of it is judged. The classifier is
small, so values are comparable with each other and not with published ones.";

/// The share of an undivided set that is judged.
const HELD_OUT: f64 = 0.2;

/// Train a classifier on labelled samples, judge real images with it, and the reverse.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of a run that can be asked for a class, or labelled samples: any data set.
    #[arg(value_name = "RUN|LOCATION")]
    generated: String,
    /// Real labelled images of the same classes.
    #[arg(long, value_name = "LOCATION")]
    real: String,
    /// Part of the real images to learn from.
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    real_split: Split,
    /// Part of the real images that is judged; `test` where the set has one.
    #[arg(long, value_name = "SPLIT")]
    test_split: Option<Split>,
    /// Number of samples, and of real images that are learnt from; all real ones when absent.
    #[arg(short = 'n', long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: Option<usize>,
    /// Passes over the images in training.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    epochs: usize,
    /// Mirror half of the images while a classifier learns; a run brings its own setting.
    #[arg(long)]
    flip: bool,
    /// Seed of samples, of the classifiers, and of the choice among images.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print the values as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let device = vermeer::device::parse(&self.device)?;
        let (train, test) = self.real_images(terminal)?;
        let count = match self.count {
            Some(count) => count.min(train.len()),
            None => train.len(),
        };
        let real = Subject::of_source(train, Some(count), self.seed)?;
        let held_out = Subject::of_source(test, None, self.seed)?;
        let generated = self.generated(count, &device)?;
        if let Subject::Run(run) = &generated {
            let warnings = &run.model.warnings;
            warnings.iter().for_each(|warning| terminal.warn(warning));
        }
        let options = CasOptions {
            epochs: self.epochs,
            seed: self.seed,
            flip: self.flip,
        };
        let stop = stop::flag()?;
        let mut shown: Option<(&'static str, Progress)> = None;
        let mut tell = |what: &'static str, done: usize, all: usize| {
            if shown.as_ref().is_none_or(|(last, _)| *last != what) {
                // The bar of what came before goes away first.
                drop(shown.take());
                shown = Some((what, terminal.progress(what)));
            }
            if let Some((_, progress)) = &shown {
                progress.at(done, all);
            }
        };
        let found = cas(
            &generated, &real, &held_out, &options, &device, &stop, &mut tell,
        )?;
        drop(shown);
        match self.json {
            true => terminal.json(&found),
            false => terminal.result(&text(&found)),
        }
    }

    /// Samples of a run, or a data set of which `count` images are drawn if it has more.
    fn generated(&self, count: usize, device: &burn::prelude::Device) -> Result<Subject> {
        if std::path::Path::new(&self.generated)
            .join("run.json")
            .is_file()
        {
            let choice = RunChoice::seeded(self.seed);
            return Subject::open(&self.generated, Split::All, Some(count), &choice, device);
        }
        let options = OpenOptions {
            split: Split::All,
            ..OpenOptions::default()
        };
        let source = data::open(&self.generated, &options)?;
        let count = count.min(source.len());
        Subject::of_source(source, Some(count), self.seed)
    }

    /// Real images to learn from, and those that are judged.
    fn real_images(&self, terminal: &Terminal) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
        let open = |split: Split| {
            let options = OpenOptions {
                split,
                ..OpenOptions::default()
            };
            data::open(&self.real, &options)
        };
        let train = open(self.real_split)?;
        let undivided = train.describe().split == Split::All;
        match (self.test_split, undivided, self.real_split) {
            (None, true, Split::Train) => {
                terminal.note(&format!(
                    "{} is not divided: a fifth of its images, drawn by the seed, is judged",
                    self.real
                ));
                Ok(data::split(train, HELD_OUT, self.seed))
            }
            (None, true, _) => Err(Error::settings(
                "--real-split all leaves no images that could be judged",
                "leave --real-split out, or name a part with --test-split",
            )),
            (test_split, _, _) => Ok((train, open(test_split.unwrap_or(Split::Test))?)),
        }
    }
}

/// The values, and what is right in every class.
fn text(found: &Cas) -> String {
    let names = found
        .classes
        .iter()
        .map(|class| class.class.chars().count());
    let width = names.max().unwrap_or(0);
    let mut lines = vec![
        table::values(&found.values),
        String::new(),
        format!("{:<width$}  judged  samples    real", ""),
    ];
    for class in &found.classes {
        lines.push(format!(
            "{:<width$}  {:>6}  {:>7.4}  {:.4}",
            class.class, class.images, class.synthetic, class.real
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use vermeer::evaluate::ClassAccuracy;
    use vermeer_image::metrics::Interval;

    use super::*;

    #[test]
    fn classes_line_up() {
        let class = |name: &str, images: usize| ClassAccuracy {
            class: name.to_owned(),
            images,
            synthetic: 0.625,
            interval: Interval {
                low: 0.5,
                high: 0.75,
                confidence: 0.95,
            },
            real: 0.875,
        };
        let text = text(&Cas {
            values: vec![],
            classes: vec![class("coat", 8), class("bag", 1000)],
        });
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        assert_eq!(lines[2], "      judged  samples    real");
        assert_eq!(lines[1], "coat       8   0.6250  0.8750");
        assert_eq!(lines[0], "bag     1000   0.6250  0.8750");
    }
}
