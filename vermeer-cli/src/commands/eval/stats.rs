//! `vermeer eval stats`: mean and covariance of features, kept in a file.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::evaluate::{ExtractOptions, FeatureCache, Set, Side, Subject, write_statistics};
use vermeer::{Error, Result};
use vermeer_image::metrics::Moments;

use super::network::NetworkArgs;
use super::sampling::SamplingArgs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval stats photos/ -o photos.stats                 instead of the photos, from now on
  vermeer eval stats photos/ -o photos.npz --weights inception.pth    for pytorch-fid
  vermeer eval stats shard1.stats shard2.stats -o all.stats  shards add up exactly
  vermeer eval fid samples/ all.stats";

/// Keep mean and covariance of images' features, or add up what was kept.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Images or statistics, which are added up.
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<String>,
    /// The file: .stats adds up exactly, .npz (mu, sigma) is read by other tools.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Split of the images: train, validation, test or all, which is usual.
    #[arg(long)]
    split: Option<Split>,
    /// Number of images, drawn from each location; of a run, how many samples it makes.
    #[arg(short = 'n', long, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    count: Option<usize>,
    /// Seed of draws and samples.
    #[arg(long, default_value_t = 2020)]
    seed: u64,
    /// Images that are read at a time; values do not depend on it.
    #[arg(short, long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch_size: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Replace a file that is there.
    #[arg(long)]
    overwrite: bool,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if self.out.exists() && !self.overwrite {
            return Err(Error::settings(
                format!("{} is there already", self.out.display()),
                "choose another name, or say --overwrite",
            ));
        }
        let device = vermeer::device::parse(&self.device)?;
        let extractors = self.network.extractors(false, &device)?;
        let [extractor] = extractors.as_slice() else {
            return Err(Error::settings(
                "a file holds the statistics of one protocol",
                "leave out --all-protocols",
            ));
        };
        let options = ExtractOptions {
            cache: FeatureCache::Off,
            batch: self.batch_size,
            stop: stop::flag()?,
        };
        let mut sum = Moments::new(extractor.dims());
        let mut sides: Vec<Side> = Vec::new();
        let progress = terminal.progress("images");
        for location in &self.locations {
            let split = (self.split, Split::All);
            let subject = self
                .sampling
                .open(location, split, self.count, self.seed, &device, terminal)?;
            if let Subject::Statistics(statistics) = &subject
                && (!statistics.counted || statistics.network.is_none())
            {
                return Err(Error::settings(
                    format!(
                        "{location} does not say of how many images and by which network it is"
                    ),
                    "only statistics that Vermeer wrote can be taken on or added up",
                ));
            }
            let set = Set::of(&subject, extractor, &options, &mut |done, all| {
                progress.at(done, all);
            })?;
            sum.merge(&set.moments()?);
            sides.push(set.side);
        }
        drop(progress);
        let side = joined(&sides);
        write_statistics(&self.out, &sum, &side, &extractor.identity())?;
        if self.json {
            return terminal.json(&json!({
                "out": self.out,
                "images": sum.len(),
                "network": extractor.identity(),
                "of": sides,
            }));
        }
        terminal.result(&format!(
            "{}: {} images through {}",
            self.out.display(),
            sum.len(),
            extractor.identity()
        ))
    }
}

/// Several sides as one.
fn joined(sides: &[Side]) -> Side {
    if let [only] = sides {
        return only.clone();
    }
    let texts = |text: fn(&Side) -> &str| -> Vec<&str> { sides.iter().map(text).collect() };
    let mut splits = texts(|side| &side.split);
    splits.dedup();
    Side {
        location: texts(|side| &side.location).join(" + "),
        split: splits.join(" + "),
        images: sides.iter().map(|side| side.images).sum(),
        digest: vermeer::sha256_hex(texts(|side| &side.digest).concat().as_bytes()),
    }
}
