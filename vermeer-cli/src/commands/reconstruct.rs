//! `vermeer reconstruct`: what a model makes of given images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::tensor::{Tensor, TensorData};
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::folder::is_image;
use vermeer::data::{self, OpenOptions, Source, Split};
use vermeer::task::{Request, Task, unsupported};
use vermeer::{Error, Result};
use vermeer_image::{Image, ImageBatch, Limits, Range, decode_file, encode_png, grid};

use crate::checkpoint::ModelArgs;
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

/// Where images come from.
enum Input {
    Picture(PathBuf),
    Set(Arc<dyn Source>),
}

impl Input {
    fn open(word: &str) -> Result<Self> {
        let path = Path::new(word);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && is_image(&name) {
            return Ok(Self::Picture(path.to_path_buf()));
        }
        let options = OpenOptions {
            split: Split::All,
            ..OpenOptions::default()
        };
        Ok(Self::Set(data::open(word, &options)?))
    }

    fn len(&self) -> usize {
        match self {
            Self::Picture(_) => 1,
            Self::Set(source) => source.len(),
        }
    }

    /// An image and its name.
    fn get(&self, index: usize) -> Result<(Image, String)> {
        match self {
            Self::Picture(path) => Ok((
                decode_file(path, &Limits::cli())?.image,
                path.display().to_string(),
            )),
            Self::Set(source) => source.get(index).map(|sample| (sample.image, sample.name)),
        }
    }
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let inputs: Vec<Input> = self
            .input
            .iter()
            .map(|word| Input::open(word))
            .collect::<Result<_>>()?;
        let places: Vec<(&Input, usize)> = inputs
            .iter()
            .flat_map(|input| (0..input.len()).map(move |index| (input, index)))
            .take(self.limit.unwrap_or(usize::MAX))
            .collect();
        let file = |number: usize| format!("{number:06}.png");
        let mut names = vec!["pairs.png".to_owned()];
        names.extend((0..places.len()).map(file));
        let outputs = Outputs::new(&self.out, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        if !model.pipeline.tasks().contains(&Task::Reconstruct) {
            return Err(unsupported(
                &model.usage.family,
                Task::Reconstruct,
                model.pipeline.tasks(),
            ));
        }
        let device = self.model.device()?;
        let [channels, height, width] = model.pipeline.shape();

        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut errors: Vec<(String, f64)> = Vec::with_capacity(places.len());
        let mut pairs = Vec::new();
        for part in places.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let mut values = Vec::with_capacity(part.len() * channels * height * width);
            let mut titles = Vec::with_capacity(part.len());
            for (input, index) in part {
                let (image, name) = input.get(*index)?;
                values.extend(model.usage.preprocess.apply(&image)?);
                titles.push(name);
            }
            let shape = [part.len(), channels, height, width];
            let tensor = Tensor::<4>::from_data(TensorData::new(values.clone(), shape), &device);
            let given = ImageBatch::new(tensor, Range::Unit)?;
            let made = model
                .pipeline
                .answer(&Request::Reconstruct(&given), &mut |_, _| ())?
                .into_images()?;
            let pictures = given.to_images()?.into_iter().zip(made.to_images()?);
            let made = host(&made)?;
            let size = channels * height * width;
            let planes = values.chunks_exact(size).zip(made.chunks_exact(size));
            for (((before, after), (x, y)), title) in pictures.zip(planes).zip(titles) {
                outputs.write(&file(errors.len()), &encode_png(&after)?)?;
                errors.push((title, mean_squared_error(x, y)));
                if pairs.len() < 2 * PAIRS {
                    pairs.extend([before, after]);
                }
            }
            progress.at(errors.len(), places.len());
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

/// The values of a batch, row by row.
fn host(images: &ImageBatch) -> Result<Vec<f32>> {
    let data = images.tensor().clone().into_data();
    data.try_into_vec_as()
        .map_err(|error| Error::Failed(format!("the images cannot be read back: {error:?}")))
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
