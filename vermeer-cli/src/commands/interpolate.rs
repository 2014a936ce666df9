//! `vermeer interpolate`: the way from one sample to another.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::task::Task;
use vermeer::{Error, Result};
use vermeer_image::grid;

use crate::checkpoint::{ModelArgs, able};
use crate::choice::ChoiceArgs;
use crate::generation::{Sheet, interpolate};
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer interpolate runs/demo                              from sample 0 to sample 1, as GIF
  vermeer interpolate runs/demo --from 3 --to 9 -o way.png   side by side
  vermeer interpolate runs/demo --walk 0,3,9,0               through several, and back to the first
  vermeer interpolate runs/cifar --frames 48 -o way.apng --sampler ddim";

/// Show the way from one sample to another.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of the first sample.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    from: u64,
    /// Number of the last sample.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    to: u64,
    /// Numbers of the samples to walk through, as a list, instead of --from and --to.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', conflicts_with_all = ["from", "to"])]
    walk: Vec<u64>,
    /// Number of images from one sample to the next, both included.
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(2..=10_000))]
    frames: usize,
    /// Seed of the latents.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// File to write: .gif, .apng, or .png for all images side by side. When absent,
    /// `outputs/interpolation.gif` in the run.
    #[arg(short, long, alias = "output", value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to write, where the ending of the file does not say it.
    #[arg(long, value_enum)]
    format: Option<Sheet>,
    /// Milliseconds that a frame of an animation stands.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    frame_ms: u32,
    /// Replace the file if it exists.
    #[arg(long)]
    overwrite: bool,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let stops = match self.walk[..] {
            [] => vec![self.from, self.to],
            [_] => {
                return Err(Error::settings(
                    "a walk goes through two samples or more",
                    "name several, as in --walk 0,3,9",
                ));
            }
            _ => self.walk.clone(),
        };
        let run = self.model.run()?;
        let name = match self.format {
            Some(Sheet::Grid) => "interpolation.png",
            Some(Sheet::Apng) => "interpolation.apng",
            Some(Sheet::Gif) | None => "interpolation.gif",
        };
        let default = || run.path().join("outputs").join(name);
        let path = self.out.clone().unwrap_or_else(default);
        let format = match (self.format, Sheet::of(&path)) {
            // An animated PNG may be called .png.
            (Some(Sheet::Apng), Some(Sheet::Grid)) => Sheet::Apng,
            (Some(asked), Some(named)) if asked != named => {
                return Err(Error::settings(
                    format!("{}: --format and the ending do not agree", path.display()),
                    "leave --format out, or name a file with its ending: .png, .gif or .apng",
                ));
            }
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) => {
                return Err(Error::settings(
                    format!("{}: the ending does not say what to write", path.display()),
                    "use .gif, .apng or .png, or add --format grid, gif or apng",
                ));
            }
        };
        let outputs = Outputs::one(&path, self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Interpolate)?;
        let options = self.choice.options(self.seed, &model.usage.spec)?;
        let progress = terminal.progress("frames");
        let mut frames = Vec::new();
        for leg in stops.windows(2) {
            // The sample where two legs meet is shown once.
            frames.pop();
            let way = (leg[0], leg[1]);
            frames.extend(interpolate(&model, way, self.frames, &options, &progress)?);
        }
        drop(progress);
        outputs.publish_one(&format.encode(&frames, self.frame_ms)?)?;

        terminal.picture(&grid(&frames, None, 2, None)?);
        match self.json {
            true => terminal.json(&json!({
                "file": path.display().to_string(),
                "step": model.step,
                "from": stops.first(),
                "to": stops.last(),
                "samples": stops,
                "frames": frames.len(),
                "seed": self.seed,
            })),
            false => terminal.result(&path.display().to_string()),
        }
    }
}
