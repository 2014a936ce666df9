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
  vermeer eval judge runs/fashion-cgan --by-class --data fashion/   does it show what was asked for?

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
    /// Ask a conditional run for every class alike, and count how often the judge sees that class.
    #[arg(long)]
    by_class: bool,
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
    /// Share of images whose most probable class is the one that was asked for, or their label.
    #[serde(skip_serializing_if = "Option::is_none")]
    class_agreement: Option<f64>,
}

/// An image as the judge sees it.
struct Shown {
    /// Unit range, `[28, 28]`.
    pixels: Vec<f32>,
    /// The class that was asked for, or the label, by number.
    class: Option<u32>,
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
            "{:<width$}  images  over {CONFIDENT}  class entropy  as asked",
            ""
        )];
        for Row {
            name,
            images,
            confident_share,
            entropy_bits,
            class_agreement,
            ..
        } in &rows
        {
            let agreement = class_agreement.map_or("-".to_owned(), |share| format!("{share:.4}"));
            lines.push(format!(
                "{name:<width$}  {images:>6}  {confident_share:>8.4}  {entropy_bits:>8.3} bits  \
                 {agreement:>8}"
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
    ) -> Result<Vec<Shown>> {
        let model = pipeline::open(run, Which::Latest, device)?;
        model
            .warnings
            .iter()
            .for_each(|warning| terminal.warn(warning));
        if model.usage.spec.channels != 1 {
            terminal.warn("the samples are in colour; the judge sees them in grey");
        }
        let classes = model.usage.spec.classes.len() as u64;
        if self.by_class && classes == 0 {
            return Err(Error::settings(
                format!("{} knows no classes", run.path().display()),
                "leave --by-class out, or judge a conditional run",
            ));
        }
        let asked: Vec<Option<u32>> = match self.by_class {
            true => (0..classes as u32).map(Some).collect(),
            false => vec![None],
        };
        let each = (self.count as u64).div_ceil(asked.len() as u64);
        let stop = stop::flag()?;
        let mut images = Vec::with_capacity(self.count);
        for (part, class) in asked.iter().enumerate() {
            // Numbers differ from class to class, so that latents do.
            let first = part as u64 * each;
            let numbers: Vec<u64> = (first..(first + each).min(self.count as u64)).collect();
            let options = SampleOptions {
                seed: self.seed,
                class: *class,
                ..SampleOptions::default()
            };
            generate(
                &model,
                &numbers,
                &options,
                BATCH,
                progress,
                stop.as_ref(),
                |_, image| {
                    images.push(Shown {
                        pixels: seen(&image, run.path())?,
                        class: *class,
                    });
                    Ok(())
                },
            )?;
        }
        Ok(images)
    }

    /// Images of a source in a shuffled order, as the judge sees them.
    fn real(&self, source: &dyn Source, progress: &Progress) -> Result<Vec<Shown>> {
        let order = permutation(self.seed, 0, source.len());
        let count = self.count.min(order.len());
        let mut images = Vec::with_capacity(count);
        for index in &order[..count] {
            let sample = source.get(*index as usize)?;
            images.push(Shown {
                pixels: seen(&sample.image, Path::new(&sample.name))?,
                class: sample.label.filter(|_| self.by_class),
            });
            progress.at(images.len(), count);
        }
        Ok(images)
    }

    /// Images whose pixels are drawn evenly from black to white.
    fn noise(&self, count: usize) -> Vec<Shown> {
        let one = |number: u64| {
            let mut pixels = vec![0.0; SIDE * SIDE];
            stream(self.seed, Purpose::Noise, u64::MAX, number).fill_uniform(&mut pixels);
            Shown {
                pixels,
                class: None,
            }
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
fn blends(images: &[Shown]) -> Vec<Shown> {
    let next = images.iter().cycle().skip(1);
    let mean = |(a, b): (&Shown, &Shown)| Shown {
        pixels: a
            .pixels
            .iter()
            .zip(&b.pixels)
            .map(|(a, b)| 0.5 * (a + b))
            .collect(),
        class: None,
    };
    images.iter().zip(next).map(mean).collect()
}

fn row(name: &str, judge: &Judge, images: &[Shown], device: &Device) -> Result<Row> {
    let mut probabilities = Vec::with_capacity(images.len());
    for part in images.chunks(BATCH) {
        let pixels: Vec<f32> = part.iter().flat_map(|i| i.pixels.iter().copied()).collect();
        let data = TensorData::new(pixels, [part.len(), 1, SIDE, SIDE]);
        let batch = ImageBatch::new(Tensor::<4>::from_data(data, device), Range::Unit)?;
        probabilities.extend(judge.probabilities(&batch)?);
    }
    let classes: Vec<Option<u32>> = images.iter().map(|image| image.class).collect();
    Ok(summary(name, &probabilities, &classes))
}

fn summary(name: &str, probabilities: &[Vec<f32>], classes: &[Option<u32>]) -> Row {
    let mut histogram = vec![0; probabilities.first().map_or(0, Vec::len)];
    let mut confident = 0;
    let (mut agreed, mut asked) = (0, 0);
    for (of_image, wanted) in probabilities.iter().zip(classes) {
        let best = of_image
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((class, probability)) = best {
            histogram[class] += 1;
            confident += usize::from(*probability > CONFIDENT);
            asked += usize::from(wanted.is_some());
            agreed += usize::from(*wanted == Some(class as u32));
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
        class_agreement: (asked > 0).then(|| agreed as f64 / asked as f64),
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
        let row = summary("x", &probabilities, &[Some(0), Some(2), Some(1), None]);
        assert_eq!(row.class_agreement, Some(2.0 / 3.0));
        assert_eq!((row.confident_share, row.entropy_bits), (0.5, 1.5));
        assert_eq!(row.histogram, [2, 1, 1]);
    }

    #[test]
    fn blends_mix_neighbours() {
        let images: Vec<Shown> = [0.0, 1.0, 0.5]
            .iter()
            .map(|pixel| Shown {
                pixels: vec![*pixel],
                class: Some(1),
            })
            .collect();
        let mixed: Vec<f32> = blends(&images).iter().map(|i| i.pixels[0]).collect();
        assert_eq!(mixed, [0.5, 0.75, 0.25]);
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
