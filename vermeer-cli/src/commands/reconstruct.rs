//! `vermeer reconstruct`: what a model makes of given images.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::Result;
use vermeer::data::Split;
use vermeer::task::{Request, Task};

use crate::checkpoint::{ModelArgs, able};
use crate::choice::told_class;
use crate::inputs::{Inputs, host};
use crate::outputs::Outputs;
use crate::pairs::{Pairs, SHEET, file, files};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer reconstruct runs/faces portrait.jpg -o seen/          one picture
  vermeer reconstruct runs/faces photos/ --limit 64 -o seen/    the first of a folder
  vermeer reconstruct runs/demo world:glyphs -o seen/ --json    of a world, with every error

Images are prepared as the run's own were. pairs.png shows each beside its reconstruction.";

/// Images computed at a time.
const BATCH: usize = 64;

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
        let outputs = Outputs::new(&self.out, files(inputs.len()), self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Reconstruct)?;
        let device = self.model.device()?;
        let [channels, height, width] = model.pipeline.shape();
        let class = told_class(self.class.as_deref(), &model)?;

        let mut errors: Vec<f64> = Vec::with_capacity(inputs.len());
        let mut pairs = Pairs::new(&outputs);
        inputs.each(
            BATCH,
            (&model, class),
            &device,
            terminal,
            |_, given, report| {
                let request = Request::Reconstruct {
                    images: &given.images,
                    conditions: &given.conditions,
                };
                let made = model.pipeline.answer(&request, report)?.into_images()?;
                let size = channels * height * width;
                let values = host(&made)?;
                let planes = given
                    .values
                    .chunks_exact(size)
                    .zip(values.chunks_exact(size));
                errors.extend(planes.map(|(x, y)| mean_squared_error(x, y)));
                let before = given.images.to_images()?.into_iter();
                for ((before, after), name) in before.zip(made.to_images()?).zip(given.names) {
                    pairs.add(name, before, after)?;
                }
                Ok(())
            },
        )?;
        let (sheet, names) = pairs.finish()?;
        outputs.publish()?;

        terminal.picture(&sheet);
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        if self.json {
            let images: Vec<_> = errors
                .iter()
                .zip(&names)
                .enumerate()
                .map(|(number, (error, name))| json!({ "input": name, "file": file(number), "mse_unit": error }))
                .collect();
            return terminal.json(&json!({
                "folder": self.out.display().to_string(),
                "pairs": self.out.join(SHEET).display().to_string(),
                "step": model.step,
                "mse_unit": mean,
                "images": images,
            }));
        }
        terminal.result(&format!(
            "{}\nmean squared error {mean:.6} (pixels from 0 to 1, {} images)",
            self.out.join(SHEET).display(),
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
