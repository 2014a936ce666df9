//! `vermeer eval artifacts`: checkerboards, seams and lost sharpness, by spectra.

use clap::builder::RangedU64ValueParser;
use vermeer::data::Split;
use vermeer::evaluate::{ArtifactsReport, ExtractOptions, FeatureCache, artifacts};
use vermeer::{Error, Result};

use super::finding::{Finding, FindingArgs, SampleArgs};
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval artifacts runs/fashion-dcgan --real fashion/ --out spectrum.png
  vermeer eval artifacts samples/ --real photos/ --json          images of one size
  vermeer eval artifacts samples/ --real photos/ --fail-if-found

A pattern that all samples share, such as the checkerboard of a strided layer or the seams of tiles,
is an isolated peak of their mean spectrum that real images do not have. Blur and noise are told by
the power of fine detail. At least 30 images of each are needed, better 500.
The picture shows the real spectrum, the generated one and their difference, peaks in frames; the
middle is frequency 0, the edges are half a cycle per pixel.";

/// Look for checkerboards, seams, blur and noise in the spectrum of samples.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    samples: SampleArgs,
    /// What samples should be like. For a run they are prepared as its own were; otherwise they
    /// need the size of the samples.
    #[arg(long, value_name = "LOCATION")]
    real: String,
    /// Split of the real images: train, validation, test or all.
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    real_split: Split,
    /// Real images that are looked at; they are drawn where there are more.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    real_limit: usize,
    /// The probability that a peak is seen in healthy samples.
    #[arg(long, default_value_t = 0.01)]
    level: f64,
    #[command(flatten)]
    finding: FindingArgs,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::settings(
                format!("--level {}: a level lies between 0 and 1", self.level),
                "use 0.01",
            ));
        }
        let outputs = self.finding.outputs()?;
        let device = self.samples.device()?;
        let samples = self.samples.open(&device, terminal)?;
        let (split, limit) = (Some(self.real_split), Some(self.real_limit));
        let real = self.samples.real(&self.real, split, limit, &device)?;
        let options = ExtractOptions {
            cache: FeatureCache::Off,
            batch: None,
            stop: stop::flag()?,
        };
        let progress = terminal.progress("images");
        let report = artifacts(&samples, &real, self.level, &options, &mut |done, all| {
            progress.at(done, all);
        })?;
        drop(progress);
        let finding = Finding {
            report: &report,
            picture: &report.picture,
            lines: lines(&report),
            wrong: report.is_found().then(|| report.found.sentence.clone()),
        };
        self.finding.tell(terminal, outputs, finding)
    }
}

/// What a person reads.
fn lines(report: &ArtifactsReport) -> Vec<String> {
    const PEAKS: usize = 8;
    let mut lines = vec![report.found.sentence.clone()];
    for peak in report.found.peaks.iter().take(PEAKS) {
        lines.push(format!(
            "    peak at {:+.3}, {:+.3} cycles per pixel: period {:.2} pixels, {:.1} dB, {:.1} \
             deviations",
            peak.x,
            peak.y,
            peak.period(),
            peak.rise_db,
            peak.z
        ));
    }
    lines.push("To cite:".to_owned());
    lines.push(format!("    {}", report.citation));
    lines
}
