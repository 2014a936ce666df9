//! `vermeer eval judge`: whether a small classifier believes that images show something.

use std::path::Path;

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;
use vermeer::data::{self, OpenOptions, Source, Split};
use vermeer::pipeline::{self, Which};
use vermeer::random::{Purpose, permutation, stream};
use vermeer::run::RunDir;
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};
use vermeer_image::features::{JUDGE_SHA256, Judge};
use vermeer_image::{Image, ImageBatch, Range, crop};

use crate::generation::generate;
use crate::progress::Progress;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval judge runs/fashion-dcgan                    samples of a run
  vermeer eval judge runs/fashion-dcgan --data fashion/    beside real images, noise and blends
  vermeer eval judge generated/ -n 500 --json              a folder of images

Images are grey and 28x28; those of 32x32 are cut around the centre. The judge was trained on
garments (Fashion-MNIST), so its opinion of anything else means little.";

/// The side of the images that the judge knows.
const SIDE: usize = 28;
/// A probability above which the judge is confident.
const CONFIDENT: f32 = 0.9;
/// Images computed at a time.
const BATCH: usize = 64;

/// Count how many images a small classifier is sure of, and how evenly it finds the classes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of a run, whose samples are judged, or images: any data set.
    #[arg(value_name = "RUN|LOCATION")]
    target: String,
    /// Number of images of each row.
    #[arg(short = 'n', long, default_value_t = 2000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: usize,
    /// Seed of samples, of noise, and of the choice among real images.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Real images, whose test split is judged beside, with noise and with blends of two.
    #[arg(long, value_name = "LOCATION")]
    data: Option<String>,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
}

/// What the judge says of some images.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    images: usize,
    /// Share of images whose most probable class has a probability over 0.9.
    confident_share: f64,
    /// Entropy of the histogram of most probable classes.
    entropy_bits: f64,
    histogram: Vec<usize>,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let device = vermeer::device::parse(&self.device)?;
        let judge = Judge::embedded(&device)?;
        terminal.note(
            "the judge knows garments (Fashion-MNIST); of other images its opinion means little",
        );
        let progress = terminal.progress("images");
        let run = RunDir::open(&self.target).ok();
        let images = match &run {
            Some(run) => self.samples(run, &device, &progress, terminal)?,
            None => {
                let options = OpenOptions {
                    split: Split::All,
                    ..OpenOptions::default()
                };
                let source = data::open(&self.target, &options)?;
                self.real(source.as_ref(), &progress)?
            }
        };
        let mut rows = vec![row(&self.target, &judge, &images, &device)?];
        if let Some(location) = &self.data {
            let options = OpenOptions {
                split: Split::Test,
                ..OpenOptions::default()
            };
            let source = data::open(location, &options)?;
            let real = self.real(source.as_ref(), &progress)?;
            rows.push(row("real", &judge, &real, &device)?);
            rows.push(row(
                "uniform noise",
                &judge,
                &self.noise(real.len()),
                &device,
            )?);
            rows.push(row("blends of two", &judge, &blends(&real), &device)?);
        }
        drop(progress);
        if self.json {
            return terminal.json(&json!({
                "judge_sha256": JUDGE_SHA256,
                "confident_above": CONFIDENT,
                "seed": self.seed,
                "version": env!("CARGO_PKG_VERSION"),
                "rows": rows,
            }));
        }
        let width = rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut lines = vec![format!(
            "{:<width$}  images  over {CONFIDENT}  class entropy",
            ""
        )];
        for Row {
            name,
            images,
            confident_share,
            entropy_bits,
            ..
        } in &rows
        {
            lines.push(format!(
                "{name:<width$}  {images:>6}  {confident_share:>8.4}  {entropy_bits:.3} bits"
            ));
        }
        terminal.result(&lines.join("\n"))
    }

    /// Samples of a run, as the judge sees them.
    fn samples(
        &self,
        run: &RunDir,
        device: &Device,
        progress: &Progress,
        terminal: &Terminal,
    ) -> Result<Vec<Vec<f32>>> {
        let model = pipeline::open(run, Which::Latest, device)?;
        model
            .warnings
            .iter()
            .for_each(|warning| terminal.warn(warning));
        let numbers: Vec<u64> = (0..self.count as u64).collect();
        let options = SampleOptions {
            seed: self.seed,
            ..SampleOptions::default()
        };
        if model.usage.spec.channels != 1 {
            terminal.warn("the samples are in colour; the judge sees them in grey");
        }
        let mut images = Vec::with_capacity(self.count);
        generate(
            &model,
            &numbers,
            &options,
            BATCH,
            progress,
            stop::flag()?.as_ref(),
            |_, image| {
                images.push(seen(&image, run.path())?);
                Ok(())
            },
        )?;
        Ok(images)
    }

    /// Images of a source in a shuffled order, as the judge sees them.
    fn real(&self, source: &dyn Source, progress: &Progress) -> Result<Vec<Vec<f32>>> {
        let order = permutation(self.seed, 0, source.len());
        let count = self.count.min(order.len());
        let mut images = Vec::with_capacity(count);
        for index in &order[..count] {
            let sample = source.get(*index as usize)?;
            images.push(seen(&sample.image, Path::new(&sample.name))?);
            progress.at(images.len(), count);
        }
        Ok(images)
    }

    /// Images whose pixels are drawn evenly from black to white.
    fn noise(&self, count: usize) -> Vec<Vec<f32>> {
        let one = |number: u64| {
            let mut pixels = vec![0.0; SIDE * SIDE];
            stream(self.seed, Purpose::Noise, u64::MAX, number).fill_uniform(&mut pixels);
            pixels
        };
        (0..count as u64).map(one).collect()
    }
}

/// A picture as the judge sees it: grey, 28×28.
fn seen(image: &Image, name: &Path) -> Result<Vec<f32>> {
    let grey = image.with_channels(1, [0; 3])?;
    match (grey.width(), grey.height()) {
        (SIDE, SIDE) => Ok(grey.to_unit_chw()),
        (32, 32) => Ok(crop(&grey, 2, 2, SIDE, SIDE)?.to_unit_chw()),
        (width, height) => Err(Error::settings(
            format!(
                "{}: the judge knows images of 28x28 or 32x32, this is {width}x{height}",
                name.display()
            ),
            "judge a model that was trained at one of these sizes",
        )),
    }
}

/// The mean of each image and the next, the last with the first.
fn blends(images: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let next = images.iter().cycle().skip(1);
    let mean = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        a.iter()
            .zip(b)
            .map(|(a, b)| 0.5 * (a + b))
            .collect::<Vec<f32>>()
    };
    images.iter().zip(next).map(mean).collect()
}

fn row(name: &str, judge: &Judge, images: &[Vec<f32>], device: &Device) -> Result<Row> {
    let mut probabilities = Vec::with_capacity(images.len());
    for part in images.chunks(BATCH) {
        let data = TensorData::new(part.concat(), [part.len(), 1, SIDE, SIDE]);
        let batch = ImageBatch::new(Tensor::<4>::from_data(data, device), Range::Unit)?;
        probabilities.extend(judge.probabilities(&batch)?);
    }
    Ok(summary(name, &probabilities))
}

fn summary(name: &str, probabilities: &[Vec<f32>]) -> Row {
    let mut histogram = vec![0; probabilities.first().map_or(0, Vec::len)];
    let mut confident = 0;
    for of_image in probabilities {
        let best = of_image
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((class, probability)) = best {
            histogram[class] += 1;
            confident += usize::from(*probability > CONFIDENT);
        }
    }
    let total = probabilities.len().max(1) as f64;
    let shares = histogram
        .iter()
        .filter(|count| **count > 0)
        .map(|count| *count as f64 / total);
    Row {
        name: name.to_owned(),
        images: probabilities.len(),
        confident_share: confident as f64 / total,
        entropy_bits: shares.map(|share| share * share.recip().log2()).sum(),
        histogram,
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::Pixels;

    use super::*;

    #[test]
    fn a_row_counts_the_sure_and_measures_the_spread() {
        // By hand: classes 0, 0, 1, 2 have the entropy 2·¼·2 + ½·1 = 1.5 bits.
        let probabilities = [
            [0.95, 0.05, 0.0],
            [0.6, 0.4, 0.0],
            [0.0, 0.91, 0.09],
            [0.3, 0.3, 0.4],
        ]
        .map(|row| row.to_vec());
        let row = summary("x", &probabilities);
        assert_eq!((row.confident_share, row.entropy_bits), (0.5, 1.5));
        assert_eq!(row.histogram, [2, 1, 1]);
    }

    #[test]
    fn blends_mix_neighbours() {
        assert_eq!(
            blends(&[vec![0.0], vec![1.0], vec![0.5]]),
            [[0.5], [0.75], [0.25]]
        );
    }

    #[test]
    fn larger_images_are_cut_around_the_centre() {
        let pixels: Vec<u8> = (0..32 * 32)
            .map(|i| u8::from(i == 2 * 32 + 2) * 255)
            .collect();
        let image =
            |side: usize, pixels: Vec<u8>| Image::new(side, side, 1, Pixels::U8(pixels)).unwrap();
        let values = seen(&image(32, pixels), Path::new("a")).unwrap();
        assert_eq!((values.len(), values[0], values[1]), (784, 1.0, 0.0));
        assert_eq!(
            seen(&image(10, vec![0; 100]), Path::new("a"))
                .unwrap_err()
                .exit_code(),
            2
        );
    }
}
