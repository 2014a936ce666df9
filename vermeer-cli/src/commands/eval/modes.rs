//! `vermeer eval modes`: which classes or clusters of the real images a model does not make.

use clap::builder::RangedU64ValueParser;
use vermeer::Result;
use vermeer::data::Split;
use vermeer::evaluate::{ModesOptions, ModesReport, ModesSets, Subject, modes};

use super::finding::{FeatureArgs, Finding, FindingArgs, SampleArgs};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval modes samples/ --real photos/ --out modes.png     clusters of features
  vermeer eval modes runs/faces --real faces/ --clusters 50 --json
  vermeer eval modes runs/fashion-dcgan --real fashion/ --network judge     classes of garments
  vermeer eval modes samples/ --real fashion/ --network judge --labelled fashion/ --fail-if-found

A mode is missing when it is made less than a tenth as often as real, rare below a half, by its
interval. With --network judge modes are classes, and the judge's mistakes, counted on labelled
images, are taken out; it knows garments only. Otherwise they are clusters of the real features.
The picture has a row for each mode: real share grey, generated share coloured, real examples.";

/// Tell which classes or clusters a model does not make, with intervals.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    samples: SampleArgs,
    /// What the model should make.
    #[arg(long, value_name = "LOCATION")]
    real: String,
    /// Split of the real images: train, validation, test or all.
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    real_split: Split,
    /// Labelled images that the judge never saw, which tell its mistakes; without it the test split
    /// of the real images, or these themselves where they are not split.
    #[arg(long, value_name = "LOCATION")]
    labelled: Option<String>,
    /// Split of the labelled images; without it test, or all where the set is not split.
    #[arg(long, value_name = "SPLIT")]
    labelled_split: Option<Split>,
    /// Look at so many clusters of features; without it one for each 50 images of the smaller set,
    /// 100 at most.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..=10_000))]
    clusters: Option<usize>,
    #[command(flatten)]
    features: FeatureArgs,
    #[command(flatten)]
    finding: FindingArgs,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let outputs = self.finding.outputs()?;
        let device = self.samples.device()?;
        let extractor = self.features.extractor(&device)?;
        let samples = self.samples.open(&device, terminal)?;
        let real = self
            .samples
            .real(&self.real, Some(self.real_split), None, &device)?;
        let labelled = match &self.labelled {
            Some(location) => {
                let split = self.labelled_split;
                Some(self.samples.real(location, split, None, &device)?)
            }
            // A judge's mistakes are better counted on images beside those it may have learnt.
            None if extractor.name() == "judge" && self.clusters.is_none() && has_labels(&real) => {
                Some(self.samples.real(&self.real, None, None, &device)?)
            }
            None => None,
        };
        let sets = ModesSets {
            samples: &samples,
            real: &real,
            labelled: labelled.as_ref(),
        };
        let options = ModesOptions {
            clusters: self.clusters,
            seed: self.samples.seed(),
            ..ModesOptions::default()
        };
        let extraction = self.features.options()?;
        let progress = terminal.progress("images");
        let report = modes(
            &sets,
            &extractor,
            &options,
            &extraction,
            &mut |done, all| {
                progress.at(done, all);
            },
        )?;
        drop(progress);
        let finding = Finding {
            report: &report,
            picture: &report.picture,
            lines: lines(&report),
            wrong: report.is_found().then(|| report.sentence.clone()),
        };
        self.finding.tell(terminal, outputs, finding)
    }
}

/// Whether every image of a data set has a label.
fn has_labels(subject: &Subject) -> bool {
    match subject {
        Subject::Source { source, images, .. } => {
            images.iter().all(|image| source.label(*image).is_some())
        }
        _ => false,
    }
}

/// What a person reads.
fn lines(report: &ModesReport) -> Vec<String> {
    let longest = report.modes.iter().map(|mode| mode.name.chars().count());
    let width = longest.max().unwrap_or(0);
    let mut lines = vec![format!("{:<width$}   real  generated  interval", "")];
    for mode in &report.modes {
        lines.push(format!(
            "{:<width$}  {:>4.1} %    {:>4.1} %  {:>4.1} to {:>5.1} %  {}",
            mode.name,
            100.0 * mode.real,
            100.0 * mode.generated,
            100.0 * mode.interval.low,
            100.0 * mode.interval.high,
            mode.word()
        ));
    }
    lines.push(report.sentence.clone());
    lines.push("To cite:".to_owned());
    lines.push(format!("    {}", report.citation));
    lines
}
