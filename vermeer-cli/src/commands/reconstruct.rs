//! `vermeer reconstruct`: what a model makes of given images.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::task::{Request, Task};
use vermeer::{Error, Result};
use vermeer_image::{encode_png, grid};

use crate::checkpoint::{ModelArgs, able};
use crate::choice::told_class;
use crate::inputs::{Inputs, host};
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer reconstruct runs/faces portrait.jpg -o seen/          one picture
  vermeer reconstruct runs/faces photos/ --limit 64 -o seen/    the first of a folder
  vermeer reconstruct runs/demo world:glyphs -o seen/ --json    of a world, with every error

Images are prepared as the run's own were. pairs.png shows each beside its reconstruction.";

/// Images computed at a time.
const BATCH: usize = 64;
/// Pairs on the sheet.
const PAIRS: usize = 64;

/// Show what a model makes of given images.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, folders, or any other data set that can be trained on.
    #[arg(required = true)]
    input: Vec<String>,
    /// Class of every image, by name or index, for a conditional model; labelled images bring
    /// their own.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// Folder for the reconstructions.
    #[arg(short, long, alias = "output", value_name = "DIR")]
    out: PathBuf,
    /// Use only the first images.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print the error of every image as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let inputs = Inputs::open(&self.input, Split::All, self.limit)?;
        let file = |number: usize| format!("{number:06}.png");
        let mut names = vec!["pairs.png".to_owned()];
        names.extend((0..inputs.len()).map(file));
        let outputs = Outputs::new(&self.out, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Reconstruct)?;
        let device = self.model.device()?;
        let [channels, height, width] = model.pipeline.shape();
        let class = told_class(self.class.as_deref(), &model)?;

        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut errors: Vec<(String, f64)> = Vec::with_capacity(inputs.len());
        let mut pairs = Vec::new();
        for first in (0..inputs.len()).step_by(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let part = first..(first + BATCH).min(inputs.len());
            let given = inputs.prepare(part, &model, class, &device)?;
            let request = Request::Reconstruct {
                images: &given.images,
                conditions: &given.conditions,
            };
            let made = model
                .pipeline
                .answer(&request, &mut |_, _| ())?
                .into_images()?;
            let pictures = given.images.to_images()?.into_iter().zip(made.to_images()?);
            let made = host(&made)?;
            let size = channels * height * width;
            let planes = given.values.chunks_exact(size).zip(made.chunks_exact(size));
            for (((before, after), (x, y)), title) in pictures.zip(planes).zip(given.names) {
                outputs.write(&file(errors.len()), &encode_png(&after)?)?;
                errors.push((title, mean_squared_error(x, y)));
                if pairs.len() < 2 * PAIRS {
                    pairs.extend([before, after]);
                }
            }
            progress.at(errors.len(), inputs.len());
        }
        drop(progress);
        let sheet = grid(&pairs, Some(8), 2, None)?;
        outputs.write("pairs.png", &encode_png(&sheet)?)?;
        outputs.publish()?;

        terminal.picture(&sheet);
        let mean = errors.iter().map(|(_, error)| error).sum::<f64>() / errors.len() as f64;
        if self.json {
            let images: Vec<_> = errors
                .iter()
                .enumerate()
                .map(|(number, (name, error))| json!({ "input": name, "file": file(number), "mse_unit": error }))
                .collect();
            return terminal.json(&json!({
                "folder": self.out.display().to_string(),
                "pairs": self.out.join("pairs.png").display().to_string(),
                "step": model.step,
                "mse_unit": mean,
                "images": images,
            }));
        }
        terminal.result(&format!(
            "{}\nmean squared error {mean:.6} (pixels from 0 to 1, {} images)",
            self.out.join("pairs.png").display(),
            errors.len()
        ))
    }
}

fn mean_squared_error(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x
        .iter()
        .zip(y)
        .map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2))
        .sum();
    sum / x.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_of_squares() {
        // By hand: (0.25 + 0 + 1) / 3.
        let error = mean_squared_error(&[0.5, 0.25, 1.0], &[0.0, 0.25, 0.0]);
        assert!((error - 1.25 / 3.0).abs() < 1e-12);
    }
}
