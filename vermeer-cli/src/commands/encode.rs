//! `vermeer encode`: the codes of images, for whatever comes next.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::{NpzWriter, Split};
use vermeer::run::{NamedTensor, TensorMap, write_safetensors};
use vermeer::task::{Answer, Request, Task, unsupported};
use vermeer::{Error, Result};

use crate::checkpoint::ModelArgs;
use crate::choice::class;
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer encode runs/faces photos/ -o codes.npz            features [n, d], names, labels
  vermeer encode runs/mnist-vae mnist/ --split test -o codes.safetensors
  vermeer eval probe codes.npz                              how much a classifier reads from them

An autoencoder gives the mean of its code, a GAN what its discriminator sees before it decides, a
diffusion the noise that its sampler turns into the image.";

/// Images computed at a time.
const BATCH: usize = 64;

/// Write the codes of images.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, folders, or any other data set that can be trained on.
    #[arg(required = true)]
    input: Vec<String>,
    /// File to write: .npz (NumPy) or .safetensors.
    #[arg(short, long, alias = "output", value_name = "FILE")]
    out: PathBuf,
    /// Split of data sets: train, validation, test or all.
    #[arg(long, default_value = "all")]
    split: Split,
    /// Class of every image, by name or index, for a conditional model; labelled images bring
    /// their own.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// Use only the first images.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Replace the file if it exists.
    #[arg(long)]
    overwrite: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// The kind of file that codes are written to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Npz,
    Safetensors,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        match ending.to_ascii_lowercase().as_str() {
            "npz" => Ok(Self::Npz),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(Error::settings(
                format!("{}: the ending does not say what to write", path.display()),
                "use .npz or .safetensors",
            )),
        }
    }
}

/// Codes and what is known of their images.
#[derive(Default)]
struct Codes {
    /// `[n, size]`.
    values: Vec<f32>,
    size: usize,
    names: Vec<String>,
    /// One for each image, where all have one.
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let kind = Kind::of(&self.out)?;
        let inputs = Inputs::open(&self.input, self.split, self.limit)?;
        let outputs = Outputs::one(&self.out, self.overwrite)?;
        let model = self.model.open(terminal)?;
        if !model.pipeline.tasks().contains(&Task::Encode) {
            let tasks = model.pipeline.tasks();
            return Err(unsupported(&model.usage.family, Task::Encode, tasks));
        }
        let device = self.model.device()?;
        let known = &model.usage.spec.classes;
        let class = self.class.as_deref().map(|word| class(word, known));
        let class = class.transpose()?;

        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut codes = Codes::default();
        for first in (0..inputs.len()).step_by(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let part = first..(first + BATCH).min(inputs.len());
            for index in part.clone() {
                // Labels are those of the images' own set: whoever reads them knows no model.
                if let Some((label, classes)) = inputs.label(index) {
                    codes.labels.push(label);
                    if codes.classes.is_empty() {
                        codes.classes = classes.to_vec();
                    }
                }
            }
            let given = inputs.prepare(part, &model, class, &device)?;
            let request = Request::Encode {
                images: &given.images,
                conditions: &given.conditions,
            };
            let Answer::Codes(rows) = model.pipeline.answer(&request, &mut |_, _| ())? else {
                return Err(Error::Failed("the model answered with images".into()));
            };
            codes.size = rows.first().map_or(0, Vec::len);
            codes.values.extend(rows.into_iter().flatten());
            codes.names.extend(given.names);
            progress.at(codes.names.len(), inputs.len());
        }
        drop(progress);
        let count = codes.names.len();
        if codes.labels.len() < count {
            codes.labels.clear();
        }
        let name = self.out.file_name().unwrap_or_default().to_string_lossy();
        match kind {
            Kind::Npz => outputs.write_with(&name, |file| npz(&codes, file))?,
            Kind::Safetensors => outputs.place(&name, |path| safetensors(&codes, path))?,
        }
        outputs.publish()?;
        match self.json {
            true => terminal.json(&json!({
                "file": self.out.display().to_string(),
                "images": count,
                "size": codes.size,
                "labelled": !codes.labels.is_empty(),
                "step": model.step,
            })),
            false => terminal.result(&format!(
                "{}\n{count} codes of {} numbers{}",
                self.out.display(),
                codes.size,
                match codes.labels.is_empty() {
                    true => "",
                    false => ", with labels",
                }
            )),
        }
    }
}

fn npz(codes: &Codes, file: &mut File) -> Result<()> {
    let mut npz = NpzWriter::new(file);
    let count = codes.names.len();
    npz.floats("features", &[count, codes.size], &codes.values)?;
    npz.texts("names", &codes.names)?;
    if !codes.labels.is_empty() {
        let labels: Vec<i64> = codes.labels.iter().map(|label| i64::from(*label)).collect();
        npz.integers("labels", &[count], &labels)?;
        npz.texts("classes", &codes.classes)?;
    }
    npz.finish().map(|_| ())
}

fn safetensors(codes: &Codes, path: &Path) -> Result<()> {
    let count = codes.names.len();
    let mut tensors = TensorMap::new();
    let mut put = |name: &str, shape: Vec<usize>, data: Vec<f32>| {
        tensors.insert(name.to_owned(), NamedTensor { shape, data });
    };
    put("features", vec![count, codes.size], codes.values.clone());
    if !codes.labels.is_empty() {
        let labels = codes.labels.iter().map(|label| *label as f32).collect();
        put("labels", vec![count], labels);
    }
    let about = BTreeMap::from([
        ("names".to_owned(), json!(codes.names).to_string()),
        ("classes".to_owned(), json!(codes.classes).to_string()),
    ]);
    write_safetensors(path, &tensors, &about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides() {
        for (name, expected) in [
            ("a.npz", Some(Kind::Npz)),
            ("a.b.SAFETENSORS", Some(Kind::Safetensors)),
            ("a.pt", None),
            ("npz", None),
        ] {
            assert_eq!(Kind::of(Path::new(name)).ok(), expected, "{name}");
        }
    }
}
