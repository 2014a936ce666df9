//! `vermeer inpaint`: images of which a part is known, with the rest made up.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::task::{Likelihood, Request, Task};
use vermeer::{Error, Result};
use vermeer_image::{Image, Limits, decode_file, encode_png, grid};

use crate::checkpoint::{ModelArgs, able};
use crate::choice::ChoiceArgs;
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer inpaint runs/mnist-pixels digit.png --keep top -o filled/      make up the lower half
  vermeer inpaint runs/mnist-pixels digits/ --mask mask.png -o filled/   white in the mask is made up
  vermeer inpaint runs/fashion-pixels boot.png --keep left --samples 8 -o filled/

Images are prepared as the run's own were, and known pixels are kept. Each row of filled.png shows
an image, what of it is known, and its completions.";

/// Images computed at a time.
const BATCH: usize = 32;
/// Completions of an image, at most: those of an image have numbers of their own.
const MOST_SAMPLES: u64 = 64;
/// Rows on the sheet.
const ROWS: usize = 32;

/// Fill in the unknown part of images.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, folders, or any other data set that can be trained on.
    #[arg(required = true)]
    input: Vec<String>,
    /// Folder for the completed images.
    #[arg(short, long, alias = "output", value_name = "DIR")]
    out: PathBuf,
    /// The part that is known.
    #[arg(long, value_enum, required_unless_present = "mask")]
    keep: Option<Keep>,
    /// A picture of the model's size: where it is white (or lighter than mid-grey), pixels are
    /// made up.
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    mask: Option<PathBuf>,
    /// Completions of each image.
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST_SAMPLES))]
    samples: u64,
    /// Seed of what is made up.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Use only the first images.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// The part of an image that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Keep {
    /// The upper half.
    Top,
    /// The lower half.
    Bottom,
    /// The left half.
    Left,
    /// The right half.
    Right,
    /// The upper left quarter.
    Quarter,
}

impl Keep {
    /// Which pixels are known, `[height, width]`.
    fn mask(self, height: usize, width: usize) -> Vec<bool> {
        let known = |y: usize, x: usize| match self {
            Self::Top => 2 * y < height,
            Self::Bottom => 2 * y >= height,
            Self::Left => 2 * x < width,
            Self::Right => 2 * x >= width,
            Self::Quarter => 2 * y < height && 2 * x < width,
        };
        (0..height * width)
            .map(|pixel| known(pixel / width, pixel % width))
            .collect()
    }
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let inputs = Inputs::open(&self.input, Split::All, self.limit)?;
        let file = |image: usize, sample: u64| match self.samples {
            1 => format!("{image:06}.png"),
            _ => format!("{image:06}-{sample:02}.png"),
        };
        let mut names = vec!["filled.png".to_owned()];
        names.extend((0..inputs.len()).flat_map(|i| (0..self.samples).map(move |s| file(i, s))));
        let outputs = Outputs::new(&self.out, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Inpaint)?;
        let device = self.model.device()?;
        let options = self.choice.options(self.seed, &model.usage.spec)?;
        let [channels, height, width] = model.pipeline.shape();
        let known = match (self.keep, &self.mask) {
            (Some(keep), _) => keep.mask(height, width),
            (None, Some(path)) => read_mask(path, height, width)?,
            (None, None) => {
                return Err(Error::settings(
                    "nothing is said to be known",
                    "add --keep or --mask",
                ));
            }
        };
        if !known.contains(&false) {
            return Err(Error::settings(
                "every pixel is known, so there is nothing to make up",
                "paint white into the mask where pixels are to be made up",
            ));
        }
        if model.pipeline.likelihood() == Some(Likelihood::Exact) && !is_beginning(&known) {
            terminal.note(&format!(
                "{} draws pixels row by row: what is known below a pixel, or to its right in its row, does not influence it",
                model.usage.family
            ));
        }

        let mut titles: Vec<String> = Vec::with_capacity(inputs.len());
        let mut rows = Vec::new();
        inputs.each(
            BATCH,
            (&model, None),
            &device,
            terminal,
            |part, given, report| {
                let masks = known.repeat(part.len());
                let all = self.samples as usize;
                let mut completions = Vec::with_capacity(all);
                for sample in 0..self.samples {
                    let numbers: Vec<u64> = part
                        .clone()
                        .map(|image| image as u64 * MOST_SAMPLES + sample)
                        .collect();
                    let mut report = |done: usize, steps: usize| {
                        report(sample as usize * steps + done, all * steps);
                    };
                    let request = Request::Inpaint {
                        images: &given.images,
                        known: &masks,
                        conditions: &given.conditions,
                        numbers: &numbers,
                        options: &options,
                    };
                    let made = model.pipeline.answer(&request, &mut report)?;
                    completions.push(made.into_images()?.to_images()?);
                }
                let before = given.images.to_images()?;
                for (row, title) in given.names.iter().enumerate() {
                    for (sample, images) in completions.iter().enumerate() {
                        let name = file(part.start + row, sample as u64);
                        outputs.write(&name, &encode_png(&images[row])?)?;
                    }
                    if titles.len() < ROWS {
                        let size = channels * height * width;
                        let shown = &given.values[row * size..(row + 1) * size];
                        rows.push(before[row].clone());
                        rows.push(seen(shown, &known, [channels, height, width])?);
                        rows.extend(completions.iter().map(|images| images[row].clone()));
                    }
                    titles.push(title.clone());
                }
                Ok(())
            },
        )?;
        let sheet = grid(&rows, Some(2 + self.samples as usize), 2, None)?;
        outputs.write("filled.png", &encode_png(&sheet)?)?;
        outputs.publish()?;
        terminal.picture(&sheet);
        let sheet = self.out.join("filled.png").display().to_string();
        if !self.json {
            return terminal.result(&sheet);
        }
        let images: Vec<_> = titles
            .iter()
            .enumerate()
            .map(|(image, name)| {
                let files: Vec<String> = (0..self.samples).map(|s| file(image, s)).collect();
                json!({ "input": name, "files": files })
            })
            .collect();
        terminal.json(&json!({
            "folder": self.out.display().to_string(),
            "sheet": sheet,
            "step": model.step,
            "seed": self.seed,
            "images": images,
        }))
    }
}

/// Whether the known pixels come before all others, row by row.
fn is_beginning(known: &[bool]) -> bool {
    !known.iter().skip_while(|known| **known).any(|known| *known)
}

/// An image with grey where it is unknown.
fn seen(values: &[f32], known: &[bool], shape: [usize; 3]) -> Result<Image> {
    let [channels, height, width] = shape;
    let shown: Vec<f32> = values
        .iter()
        .enumerate()
        .map(|(place, value)| match known[place % (height * width)] {
            true => *value,
            false => 0.5,
        })
        .collect();
    Ok(Image::from_unit_chw(&shown, channels, height, width)?)
}

/// Which pixels a painted mask leaves as they are, `[height, width]`.
fn read_mask(path: &Path, height: usize, width: usize) -> Result<Vec<bool>> {
    let image = decode_file(path, &Limits::cli())?.image;
    if [image.height(), image.width()] != [height, width] {
        return Err(Error::settings(
            format!(
                "{}: the mask is {}×{}, the model's images are {height}×{width}",
                path.display(),
                image.height(),
                image.width()
            ),
            "paint the mask in the size of the model's images",
        ));
    }
    let grey = image.with_channels(1, [0; 3])?;
    Ok(grey
        .to_unit_chw()
        .iter()
        .map(|value| *value <= 0.5)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_known() {
        assert_eq!(Keep::Top.mask(2, 2), [true, true, false, false]);
        assert_eq!(Keep::Bottom.mask(3, 1), [false, false, true]);
        assert_eq!(Keep::Left.mask(1, 3), [true, true, false]);
        assert_eq!(Keep::Right.mask(1, 4), [false, false, true, true]);
        assert_eq!(Keep::Quarter.mask(2, 2), [true, false, false, false]);
    }

    #[test]
    fn only_rows_from_the_top_are_a_beginning() {
        for (keep, beginning) in [
            (Keep::Top, true),
            (Keep::Bottom, false),
            (Keep::Left, false),
            (Keep::Right, false),
            (Keep::Quarter, false),
        ] {
            assert_eq!(is_beginning(&keep.mask(4, 4)), beginning, "{keep:?}");
        }
        assert!(is_beginning(&[true, true, true, false, false]));
        assert!(is_beginning(&[false, false]));
    }
}
