//! `vermeer eval memorization`: whether samples are copies of the images that a model learnt from.

use clap::builder::RangedU64ValueParser;
use vermeer::data::Split;
use vermeer::evaluate::{MemorizationOptions, MemorizationReport, MemorizationSets, memorization};
use vermeer::{Error, Result};

use super::finding::{FeatureArgs, Finding, FindingArgs, SampleArgs};
use super::table;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval memorization runs/fashion-dcgan --train fashion/ --heldout fashion/ --out copies.png
  vermeer eval memorization samples/ --train photos/ --heldout unseen/ --json
  vermeer eval memorization runs/fashion-dcgan --train fashion/ --heldout fashion/ --network judge
  vermeer eval memorization samples/ --train photos/ --heldout unseen/ --fail-if-found

Held-out images are like the training images and were never seen: they tell how near a fresh image
comes by chance. A sample is named as a copy when it is nearer to the training set than they are,
in pixels or in features, at the false discovery rate. More held-out images find fewer copies: with
1000 of them and 2000 samples 40 copies can be named, with 5000 it is 8.
The sheet shows the worst: sample left, nearest training image right, p-value below.";

/// Look for copies of training images among samples, with p-values against images held out.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    samples: SampleArgs,
    /// The images that the model learnt from.
    #[arg(long, value_name = "LOCATION")]
    train: String,
    /// Their split: train, validation, test or all.
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    train_split: Split,
    /// Images that it never saw; the same location with another split will do.
    #[arg(long, value_name = "LOCATION")]
    heldout: String,
    /// Their split; without it test, or all where the set is not split.
    #[arg(long, value_name = "SPLIT")]
    heldout_split: Option<Split>,
    /// Held-out images that are looked at; they are drawn where there are more.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    heldout_limit: usize,
    /// False discovery rate: how large a share of the named samples may be named wrongly.
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    fdr: f64,
    #[command(flatten)]
    features: FeatureArgs,
    /// Look for equal images only in the training set, not for nearly equal ones: that takes the
    /// square of their number in time.
    #[arg(long)]
    no_near_duplicates: bool,
    /// Go on although many held-out images are training images.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    finding: FindingArgs,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if !(self.fdr > 0.0 && self.fdr < 1.0) {
            return Err(Error::settings(
                format!("--fdr {}: a rate lies between 0 and 1", self.fdr),
                "use 0.05, or 0.01 to be surer of each copy",
            ));
        }
        let outputs = self.finding.outputs()?;
        let device = self.samples.device()?;
        let extractor = self.features.extractor(&device)?;
        let samples = self.samples.open(&device, terminal)?;
        let train = self
            .samples
            .real(&self.train, Some(self.train_split), None, &device)?;
        let limit = Some(self.heldout_limit);
        let heldout = self
            .samples
            .real(&self.heldout, self.heldout_split, limit, &device)?;
        let sets = MemorizationSets {
            samples: &samples,
            train: &train,
            heldout: &heldout,
        };
        let options = MemorizationOptions {
            false_discovery_rate: self.fdr,
            seed: self.samples.seed(),
            near_duplicates: !self.no_near_duplicates,
            force: self.force,
            ..MemorizationOptions::default()
        };
        let extraction = self.features.options()?;
        let progress = terminal.progress("images");
        let report = memorization(
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
            picture: &report.sheet,
            lines: lines(&report),
            wrong: report.is_found().then(|| report.sentence.clone()),
        };
        self.finding.tell(terminal, outputs, finding)
    }
}

/// What a person reads.
fn lines(report: &MemorizationReport) -> Vec<String> {
    const PAIRS: usize = 5;
    let mut lines = vec![format!("training set: {}", report.duplicates.sentence)];
    for space in &report.spaces {
        lines.push(format!("{}: {}", space.space, space.copying.sentence));
    }
    for pair in report.worst.iter().filter(|pair| pair.flagged).take(PAIRS) {
        lines.push(format!(
            "    {} is like {} (p = {:.4}, {})",
            pair.sample_name, pair.train_name, pair.p, pair.space
        ));
    }
    lines.push(table::values(&report.values));
    lines.push(format!("    {}", report.citation));
    lines
}
