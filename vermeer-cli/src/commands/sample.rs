//! `vermeer sample`: images from nothing but a seed.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::{NpzWriter, ZipFile};
use vermeer::pipeline::Model;
use vermeer::task::{Likelihood, Request, SampleOptions, Task};
use vermeer::{Error, Result, sha256_hex};
use vermeer_image::{Image, Limits, Pixels, encode_png, grid, safe_decode};

use crate::checkpoint::{ModelArgs, able};
use crate::choice::ChoiceArgs;
use crate::generation::GRID_LIMIT;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer sample runs/demo                               16 samples below runs/demo/outputs/sample
  vermeer sample runs/demo -n 64 --grid --out sheet/     one sheet of 64
  vermeer sample runs/fashion --class 7 --seed 7         of one class, by number or name
  vermeer sample runs/faces --seed 0-63 --truncation 0.7   one sample of each of 64 seeds
  vermeer sample runs/shapes --attribute size=0.8        with an attribute the model knows
  vermeer sample runs/cifar -n 50000 --archive npz --out generated/ --sampler ddim --steps 25

Sample 17 of a seed is the same image whatever --batch, --threads and -n are. After Ctrl-C the same
command goes on where it stopped.";

/// Make images with a trained model.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of samples of each seed [default: 16, or 1 of several seeds].
    #[arg(short = 'n', long, alias = "num_samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: Option<usize>,
    /// Seed of the latents; several as a list or range, such as 0-63 or 3,5,9.
    #[arg(long, default_value = "0", alias = "seeds", value_parser = seeds)]
    seed: Seeds,
    /// Number of the first sample of a seed.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    first: u64,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Write only the sheet, not the single images.
    #[arg(long)]
    grid: bool,
    /// Write the images into one file instead of many: a zip of PNG files, or an npz with the bytes
    /// `arr_0` [n, h, w, c].
    #[arg(long, value_enum, conflicts_with = "grid")]
    archive: Option<Archive>,
    /// Folder for the images; `outputs/sample` in the run when absent.
    #[arg(short, long, alias = "outdir", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Samples computed at a time [default: 8, or 32 of an autoregressive model]; Ctrl-C waits for
    /// them.
    #[arg(long, alias = "batch-size", value_parser = RangedU64ValueParser::<usize>::new().range(1..=65536))]
    batch: Option<usize>,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

/// The one file that samples are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Archive {
    /// `samples.zip`.
    Zip,
    /// `samples.npz`.
    Npz,
}

impl Archive {
    fn file(self) -> &'static str {
        match self {
            Self::Zip => "samples.zip",
            Self::Npz => "samples.npz",
        }
    }
}

/// The seeds that were named, in their order.
#[derive(Clone, Debug, PartialEq)]
struct Seeds(Vec<u64>);

/// A sample to be made, and its file.
struct Place {
    seed: u64,
    number: u64,
    file: String,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let run = self.model.run()?;
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| run.path().join("outputs").join("sample"));
        let places = self.places()?;
        if self.grid && places.len() > GRID_LIMIT {
            return Err(Error::settings(
                format!("{} samples do not fit one picture", places.len()),
                format!("ask for at most {GRID_LIMIT} with --grid, or leave --grid out"),
            ));
        }
        let mut names = vec!["grid.png".to_owned()];
        match self.archive {
            Some(archive) => names.push(archive.file().to_owned()),
            None if !self.grid => names.extend(places.iter().map(|place| place.file.clone())),
            None => {}
        }
        let model = self.model.open(terminal)?;
        able(&model, Task::Generate)?;
        let options = self.choice.options(0, &model.usage.spec)?;
        // The same work: the same weights, choices and samples.
        let work = format!(
            "{} {} {} {options:?} {names:?} {:?} {}",
            env!("CARGO_PKG_VERSION"),
            vermeer::device::name(&self.model.device()?),
            model.digest,
            self.seed,
            self.first
        );
        let key = sha256_hex(work.as_bytes());
        let outputs = Outputs::resumable(&folder, names, self.overwrite, &key[..16])?;

        let begun = Instant::now();
        let made = self.make(&model, &options, &places, &outputs, terminal);
        let packed = made.and_then(|made| {
            if let Some(archive) = self.archive {
                pack(archive, &places, &outputs)?;
            }
            Ok(made)
        });
        let (sheet, fresh) = match packed {
            Ok(made) => made,
            // What is finished is kept for the same command to go on from.
            Err(error) if !self.grid && !matches!(error, Error::Io { .. }) => {
                outputs.suspend();
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let sheet = grid(&sheet, None, 2, None)?;
        outputs.write("grid.png", &encode_png(&sheet)?)?;
        outputs.publish()?;

        terminal.picture(&sheet);
        let speed = fresh as f64 / seconds.max(1e-9);
        let result = self.archive.map_or("grid.png", Archive::file);
        if self.json {
            return terminal.json(&json!({
                "run": run.path().display().to_string(),
                "step": model.step,
                "seeds": self.seed.0,
                "first": self.first,
                "count": places.len(),
                "folder": folder.display().to_string(),
                "grid": folder.join("grid.png").display().to_string(),
                "archive": self.archive.map(|archive| folder.join(archive.file()).display().to_string()),
                "made": fresh,
                "seconds": seconds,
                "images_per_second": speed,
            }));
        }
        terminal.note(&format!(
            "{} samples of step {}; {fresh} made in {seconds:.1} s, {speed:.1} images/s",
            places.len(),
            model.step
        ));
        terminal.result(&folder.join(result).display().to_string())
    }

    /// Makes what is not there yet. Returns the pictures of the sheet and how many were made.
    fn make(
        &self,
        model: &Model,
        options: &SampleOptions,
        places: &[Place],
        outputs: &Outputs,
        terminal: &Terminal,
    ) -> Result<(Vec<Image>, usize)> {
        let usual = match model.pipeline.likelihood() {
            Some(Likelihood::Exact) => 32,
            _ => 8,
        };
        let batch = self.batch.unwrap_or(usual);
        let stop = stop::flag()?;
        let mut said = false;
        let progress = terminal.progress("samples");
        let mut sheet = Vec::new();
        let (mut done, mut fresh) = (0, 0);
        for of_seed in places.chunk_by(|a, b| a.seed == b.seed) {
            for part in of_seed.chunks(batch) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Unfinished(match self.grid {
                        true => format!("stopped after {done} of {} samples", places.len()),
                        false => format!(
                            "stopped after {done} of {} samples, which are kept in {}",
                            places.len(),
                            outputs.hidden().display()
                        ),
                    }));
                }
                let mut images: Vec<Option<Image>> = Vec::with_capacity(part.len());
                for place in part {
                    // A sheet alone keeps nothing, so there is nothing to go on from.
                    let known = match self.grid {
                        true => None,
                        false => outputs.finished(&place.file)?,
                    };
                    images.push(match known {
                        Some(png) => Some(safe_decode(&png, &place.file, &Limits::cli())?.image),
                        None => None,
                    });
                }
                let missing: Vec<u64> = part
                    .iter()
                    .zip(&images)
                    .filter(|(_, image)| image.is_none())
                    .map(|(place, _)| place.number)
                    .collect();
                let mut made = match missing.is_empty() {
                    true => vec![],
                    false => {
                        let options = SampleOptions {
                            seed: part[0].seed,
                            ..options.clone()
                        };
                        let mut report = |step: usize, all: usize| {
                            let share = part.len() * step.min(all) / all.max(1);
                            progress.at(done + share, places.len());
                            if !said && stop.load(Ordering::Relaxed) {
                                said = true;
                                terminal.note(
                                    "stopping after these samples; Ctrl-C again leaves at once",
                                );
                            }
                        };
                        let request = Request::Generate {
                            numbers: &missing,
                            options: &options,
                        };
                        let answer = model.pipeline.answer(&request, &mut report)?;
                        answer.into_images()?.to_images()?
                    }
                }
                .into_iter();
                for (place, known) in part.iter().zip(images) {
                    let image = match known {
                        Some(image) => image,
                        None => {
                            let image = made.next().ok_or_else(|| {
                                Error::Failed("the model made fewer images than asked for".into())
                            })?;
                            fresh += 1;
                            match (self.grid, self.archive) {
                                (true, _) => {}
                                (false, Some(_)) => {
                                    outputs.keep(&place.file, &encode_png(&image)?)?
                                }
                                (false, None) => {
                                    outputs.write(&place.file, &encode_png(&image)?)?
                                }
                            }
                            image
                        }
                    };
                    if sheet.len() < GRID_LIMIT {
                        sheet.push(image);
                    }
                }
                done += part.len();
                progress.at(done, places.len());
            }
        }
        Ok((sheet, fresh))
    }

    fn places(&self) -> Result<Vec<Place>> {
        let count = match (&self.seed.0[..], self.count) {
            (_, Some(count)) => count,
            ([_], None) => 16,
            (_, None) => 1,
        };
        let end = self.first.checked_add(count as u64).ok_or_else(|| {
            Error::settings(
                format!("there are no {count} samples from number {} on", self.first),
                "numbers of samples end at 2^64; choose a smaller --first",
            )
        })?;
        let of = |seed: u64| {
            (self.first..end).map(move |number| Place {
                seed,
                number,
                file: format!("seed{seed}-{number:06}.png"),
            })
        };
        Ok(self.seed.0.iter().flat_map(|seed| of(*seed)).collect())
    }
}

/// Puts the images that were kept into one file.
fn pack(archive: Archive, places: &[Place], outputs: &Outputs) -> Result<()> {
    let png = |place: &Place| {
        outputs
            .finished(&place.file)?
            .ok_or_else(|| Error::Failed(format!("{} is gone", place.file)))
    };
    outputs.write_with(archive.file(), |file| match archive {
        Archive::Zip => {
            let mut zip = ZipFile::new(file);
            for place in places {
                zip.add(&place.file, &png(place)?)?;
            }
            zip.finish().map(|_| ())
        }
        Archive::Npz => {
            let mut npz = NpzWriter::new(file);
            for (count, place) in places.iter().enumerate() {
                let image = safe_decode(&png(place)?, &place.file, &Limits::cli())?.image;
                if count == 0 {
                    let shape = [
                        places.len(),
                        image.height(),
                        image.width(),
                        image.channels(),
                    ];
                    npz.start("arr_0", "|u1", &shape)?;
                }
                if let Pixels::U8(bytes) = image.to_8_bit().pixels() {
                    npz.append(bytes)?;
                }
            }
            npz.finish().map(|_| ())
        }
    })
}

/// A list of numbers and ranges, such as `3,8-10`.
fn seeds(text: &str) -> Result<Seeds, String> {
    const MOST: u64 = 1_000_000;
    let wrong = || "expected a number, a range such as 0-63, or a list of them".to_owned();
    let mut all = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
        let (from, to) = (number(from)?, number(to)?);
        if from > to || to - from >= MOST {
            return Err(wrong());
        }
        all.extend(from..=to);
    }
    let mut once = std::collections::BTreeSet::new();
    all.retain(|seed| once.insert(*seed));
    Ok(Seeds(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_lists_of_numbers_and_ranges() {
        for (text, expected) in [
            ("7", Some(vec![7])),
            ("0-3", Some(vec![0, 1, 2, 3])),
            ("3,8-9, 1,8", Some(vec![3, 8, 9, 1])),
            ("3-1", None),
            ("", None),
            ("a", None),
            ("-1", None),
        ] {
            assert_eq!(seeds(text).ok(), expected.map(Seeds), "{text}");
        }
    }
}
