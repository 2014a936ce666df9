//! `vermeer sample`: images from nothing but a seed.

use std::path::PathBuf;
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::registry::suggest;
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};
use vermeer_image::{encode_png, grid};

use crate::checkpoint::ModelArgs;
use crate::generation::{GRID_LIMIT, generate};
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer sample runs/demo                               16 samples below runs/demo/outputs/sample
  vermeer sample runs/demo -n 64 --grid --out sheet/     one sheet of 64
  vermeer sample runs/fashion --class 7 --seed 7         of one class, by number or name
  vermeer sample runs/cifar -n 50000 --out generated/ --sampler ddim --steps 25

Sample 17 of a seed is the same image whatever --batch, --threads and -n are.";

/// Make images with a trained model.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of samples.
    #[arg(short = 'n', long, default_value_t = 16, alias = "num_samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: usize,
    /// Seed of the latents.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the first sample.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    first: u64,
    /// Class of every sample, by name or index, where the model knows classes.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// Steps of an iterative sampler.
    #[arg(long)]
    steps: Option<usize>,
    /// Sampler: auto, ddpm, ddim, euler or heun, as the model's framework allows.
    #[arg(long)]
    sampler: Option<String>,
    /// Strength of classifier-free guidance; 0 is none.
    #[arg(long)]
    guidance: Option<f32>,
    /// Share of fresh noise in DDIM steps, from 0 to 1.
    #[arg(long)]
    eta: Option<f32>,
    /// Write only the sheet, not the single images.
    #[arg(long)]
    grid: bool,
    /// Folder for the images; `outputs/sample` in the run when absent.
    #[arg(short, long, alias = "outdir", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Samples computed at a time.
    #[arg(long, default_value_t = 64, alias = "batch-size", value_parser = RangedU64ValueParser::<usize>::new().range(1..=65536))]
    batch: usize,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let run = self.model.run()?;
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| run.path().join("outputs").join("sample"));
        let numbers = self.numbers()?;
        let file = |number: u64| format!("seed{}-{number:06}.png", self.seed);
        let mut names: Vec<String> = vec!["grid.png".to_owned()];
        if !self.grid {
            names.extend(numbers.iter().map(|number| file(*number)));
        }
        if self.grid && numbers.len() > GRID_LIMIT {
            return Err(Error::settings(
                format!("{} samples do not fit one picture", numbers.len()),
                format!("ask for at most {GRID_LIMIT} with --grid, or leave --grid out"),
            ));
        }
        let outputs = Outputs::new(&folder, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        let options = SampleOptions {
            seed: self.seed,
            class: self
                .class
                .as_deref()
                .map(|word| class(word, &model.usage.spec.classes))
                .transpose()?,
            steps: self.steps,
            sampler: self.sampler.clone(),
            guidance: self.guidance,
            eta: self.eta,
        };

        let stop = stop::flag()?;
        let begun = Instant::now();
        let progress = terminal.progress("samples");
        let mut sheet = Vec::new();
        generate(
            &model,
            &numbers,
            &options,
            self.batch,
            &progress,
            &stop,
            |number, image| {
                if !self.grid {
                    outputs.write(&file(number), &encode_png(&image)?)?;
                }
                if sheet.len() < GRID_LIMIT {
                    sheet.push(image);
                }
                Ok(())
            },
        )?;
        drop(progress);
        let seconds = begun.elapsed().as_secs_f64();
        let sheet = grid(&sheet, None, 2, None)?;
        outputs.write("grid.png", &encode_png(&sheet)?)?;
        outputs.publish()?;

        terminal.picture(&sheet);
        let speed = numbers.len() as f64 / seconds.max(1e-9);
        if self.json {
            return terminal.json(&json!({
                "run": run.path().display().to_string(),
                "step": model.step,
                "seed": self.seed,
                "first": self.first,
                "count": numbers.len(),
                "folder": folder.display().to_string(),
                "grid": folder.join("grid.png").display().to_string(),
                "seconds": seconds,
                "images_per_second": speed,
            }));
        }
        terminal.note(&format!(
            "{} samples of step {} in {seconds:.1} s, {speed:.1} images/s",
            numbers.len(),
            model.step
        ));
        terminal.result(&folder.join("grid.png").display().to_string())
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        let end = self.first.checked_add(self.count as u64).ok_or_else(|| {
            Error::settings(
                format!(
                    "there are no {} samples from number {} on",
                    self.count, self.first
                ),
                "numbers of samples end at 2^64; choose a smaller --first",
            )
        })?;
        Ok((self.first..end).collect())
    }
}

/// The index of a class that was named, or given by its index.
fn class(word: &str, classes: &[String]) -> Result<u32> {
    if classes.is_empty() {
        return Err(Error::settings(
            format!("--class {word}: the run knows no classes"),
            "leave --class out, or train on labelled images with a conditional model",
        ));
    }
    let by_name = classes.iter().position(|name| name == word);
    let by_index = || {
        word.parse()
            .ok()
            .filter(|index: &usize| *index < classes.len())
    };
    match by_name.or_else(by_index) {
        Some(index) => Ok(index as u32),
        None => {
            let names: Vec<&str> = classes.iter().map(String::as_str).collect();
            Err(Error::settings(
                format!("the run knows no class {word:?}"),
                format!(
                    "{}\nan index goes from 0 to {}",
                    suggest(word, &names),
                    classes.len() - 1
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_by_name_before_index() {
        let classes = ["3", "cat", "dog"].map(str::to_owned);
        for (word, expected) in [
            ("cat", Some(1)),
            ("3", Some(0)),
            ("2", Some(2)),
            ("4", None),
            ("Cat", None),
        ] {
            assert_eq!(class(word, &classes).ok(), expected, "{word}");
        }
        assert!(
            class("cta", &classes)
                .unwrap_err()
                .remedy()
                .unwrap()
                .contains("`cat`")
        );
        assert_eq!(class("0", &[]).unwrap_err().exit_code(), 2);
    }
}
