//! What the honesty checks share: which images they look at, and how a finding is told.

use std::path::{Path, PathBuf};

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use vermeer::data::Split;
use vermeer::evaluate::{ExtractOptions, FeatureCache, RunChoice, Subject};
use vermeer::{Error, Result};
use vermeer_image::features::Extractor;
use vermeer_image::{Image, encode_png};

use super::network::NetworkArgs;
use super::sampling::SamplingArgs;
use crate::generation::Sheet;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

/// Samples of a run, when their number is not said.
const OF_A_RUN: usize = 2000;

// A doc comment here would become the description of every command that takes these arguments.
#[derive(clap::Args)]
pub(super) struct SampleArgs {
    /// What is judged: the folder of a run, which is sampled, or images, any data set.
    #[arg(value_name = "RUN|LOCATION")]
    samples: String,
    /// Split of the images that are judged: train, validation, test or all, which is usual.
    #[arg(long)]
    split: Option<Split>,
    /// Number of samples. Of a run 2000 are made where that is not said, of images all are taken.
    #[arg(short = 'n', long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: Option<usize>,
    /// Seed of samples, of draws and of the test.
    #[arg(long, default_value_t = 2020)]
    seed: u32,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl SampleArgs {
    /// The device.
    ///
    /// # Errors
    /// When this build does not know it.
    pub(super) fn device(&self) -> Result<Device> {
        vermeer::device::parse(&self.device)
    }

    /// The seed.
    pub(super) fn seed(&self) -> u32 {
        self.seed
    }

    /// What is judged.
    ///
    /// # Errors
    /// Those of [`Subject::open`].
    pub(super) fn open(&self, device: &Device, terminal: &Terminal) -> Result<Subject> {
        let is_run = Path::new(&self.samples).join("run.json").is_file();
        let count = self.count.or(is_run.then_some(OF_A_RUN));
        let seed = u64::from(self.seed);
        let split = (self.split, Split::All);
        self.sampling
            .open(&self.samples, split, count, seed, device, terminal)
    }

    /// Real images: `most` of them, drawn by the seed, where there are more. Where no split is
    /// named it is the test split, or everything if the set is not split.
    ///
    /// # Errors
    /// Those of [`Subject::open`].
    pub(super) fn real(
        &self,
        location: &str,
        split: Option<Split>,
        most: Option<usize>,
        device: &Device,
    ) -> Result<Subject> {
        let seed = u64::from(self.seed);
        let choice = RunChoice::seeded(seed);
        let open = |split: Split| Subject::open(location, split, None, &choice, device);
        let subject = match split {
            Some(split) => open(split)?,
            None => match open(Split::Test) {
                Err(Error::Settings { .. }) => open(Split::All)?,
                found => found?,
            },
        };
        match (subject, most) {
            (Subject::Source { source, images, .. }, Some(most)) if images.len() > most => {
                Subject::of_source(source, Some(most), seed)
            }
            (subject, _) => Ok(subject),
        }
    }
}

// As above.
#[derive(clap::Args)]
pub(super) struct FeatureArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Keep features in this folder, and take them from it when images and network are the same.
    #[arg(
        long,
        value_name = "FOLDER",
        env = "VERMEER_CACHE",
        alias = "cache-root"
    )]
    cache: Option<PathBuf>,
}

impl FeatureArgs {
    /// The network that looks at images.
    ///
    /// # Errors
    /// [`Error::Settings`] for several protocols; those of [`NetworkArgs::extractors`].
    pub(super) fn extractor(&self, device: &Device) -> Result<Extractor> {
        let mut extractors = self.network.extractors(false, device)?;
        match (extractors.pop(), extractors.is_empty()) {
            (Some(extractor), true) => Ok(extractor),
            _ => Err(Error::settings(
                "this check looks at images by one protocol",
                "leave out --all-protocols",
            )),
        }
    }

    /// How features are taken: until Ctrl-C, and kept where that was said.
    ///
    /// # Errors
    /// Those of [`stop::flag`].
    pub(super) fn options(&self) -> Result<ExtractOptions> {
        Ok(ExtractOptions {
            cache: match &self.cache {
                Some(folder) => FeatureCache::Folder(folder.clone()),
                None => FeatureCache::Off,
            },
            batch: None,
            stop: stop::flag()?,
        })
    }
}

// As above.
#[derive(clap::Args)]
pub(super) struct FindingArgs {
    /// Write the picture as PNG.
    #[arg(short, long, value_name = "FILE.png")]
    out: Option<PathBuf>,
    /// Replace the picture if it exists.
    #[arg(long)]
    overwrite: bool,
    /// End with 3 when something is found, for scripts.
    #[arg(long)]
    fail_if_found: bool,
    /// Print everything that was found as JSON.
    #[arg(long)]
    json: bool,
}

/// What a check found.
pub(super) struct Finding<'a, T> {
    /// Everything, for machines.
    pub(super) report: &'a T,
    /// As a picture.
    pub(super) picture: &'a Image,
    /// In lines, for people.
    pub(super) lines: Vec<String>,
    /// What is wrong; `None` for healthy samples.
    pub(super) wrong: Option<String>,
}

/// A report and where its picture is.
#[derive(Serialize)]
struct Printed<'a, T: Serialize> {
    #[serde(flatten)]
    report: &'a T,
    picture: Option<String>,
}

impl FindingArgs {
    /// The place of the picture, made sure of before the work begins.
    ///
    /// # Errors
    /// [`Error::Settings`] for another ending than `.png` and for a file that exists.
    pub(super) fn outputs(&self) -> Result<Option<Outputs>> {
        let Some(path) = &self.out else {
            return Ok(None);
        };
        if Sheet::of(path) != Some(Sheet::Grid) {
            return Err(Error::settings(
                format!("{}: the picture is a PNG", path.display()),
                "name it with the ending .png",
            ));
        }
        Outputs::one(path, self.overwrite).map(Some)
    }

    /// Writes the picture, shows it, and prints what was found.
    ///
    /// # Errors
    /// [`Error::Io`] when the picture cannot be written, [`Error::Threshold`] when something is
    /// wrong and that was to end the command.
    pub(super) fn tell<T: Serialize>(
        &self,
        terminal: &Terminal,
        outputs: Option<Outputs>,
        finding: Finding<T>,
    ) -> Result<()> {
        if let Some(outputs) = outputs {
            outputs.publish_one(&encode_png(finding.picture)?)?;
        }
        let picture = self.out.as_ref().map(|path| path.display().to_string());
        terminal.picture(finding.picture);
        if self.json {
            terminal.json(&Printed {
                report: finding.report,
                picture,
            })?;
        } else {
            let mut lines = finding.lines;
            lines.extend(picture);
            terminal.result(&lines.join("\n"))?;
        }
        match finding.wrong {
            Some(wrong) if self.fail_if_found => Err(Error::Threshold(wrong)),
            _ => Ok(()),
        }
    }
}
