//! `vermeer encode`: the codes of images, for whatever comes next.

use std::path::PathBuf;

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::codes::{CodeFormat, Codes};
use vermeer::data::Split;
use vermeer::pipeline::Model;
use vermeer::task::{Answer, Request, Task};
use vermeer::{Error, Result};

use crate::checkpoint::{ModelArgs, able};
use crate::choice::told_class;
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer encode runs/faces photos/ -o codes.npz            features [n, d], names, labels
  vermeer encode runs/mnist-vae mnist/ --split test -o codes.safetensors
  vermeer eval probe train.npz test.npz                     how much a classifier reads from two such files

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

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        CodeFormat::of(&self.out)?;
        let inputs = Inputs::open(&self.input, self.split, self.limit)?;
        let outputs = Outputs::one(&self.out, self.overwrite)?;
        let model = self.model.open(terminal)?;
        let class = told_class(self.class.as_deref(), &model)?;
        let codes = codes(&model, &inputs, class, &self.model.device()?, terminal)?;
        let count = codes.len();
        let name = self.out.file_name().unwrap_or_default().to_string_lossy();
        outputs.place(&name, |path| codes.write(path))?;
        outputs.publish()?;
        match self.json {
            true => terminal.json(&json!({
                "file": self.out.display().to_string(),
                "images": count,
                "size": codes.size,
                "labelled": codes.labels.is_some(),
                "step": model.step,
            })),
            false => terminal.result(&format!(
                "{}\n{count} codes of {} numbers{}",
                self.out.display(),
                codes.size,
                match codes.labels.is_some() {
                    true => ", with labels",
                    false => "",
                }
            )),
        }
    }
}

/// The codes of images, with their own labels: whoever reads them knows no model.
///
/// # Errors
/// Whatever reading the images and the model return; [`Error::Failed`] after Ctrl-C.
pub(crate) fn codes(
    model: &Model,
    inputs: &Inputs,
    class: Option<u32>,
    device: &Device,
    terminal: &Terminal,
) -> Result<Codes> {
    able(model, Task::Encode)?;
    let mut codes = Codes::default();
    let mut labels = Vec::new();
    inputs.each(
        BATCH,
        (model, class),
        device,
        terminal,
        |part, given, report| {
            for index in part {
                let Some((label, classes)) = inputs.label(index) else {
                    continue;
                };
                if codes.classes.is_empty() {
                    codes.classes = classes.to_vec();
                }
                // Another set may number the same names otherwise.
                let name = &classes[label as usize];
                let place = match codes.classes.iter().position(|class| class == name) {
                    Some(place) => place,
                    None => {
                        codes.classes.push(name.clone());
                        codes.classes.len() - 1
                    }
                };
                labels.push(place as u32);
            }
            let request = Request::Encode {
                images: &given.images,
                conditions: &given.conditions,
            };
            let Answer::Codes(rows) = model.pipeline.answer(&request, report)? else {
                return Err(Error::Failed("the model answered with images".into()));
            };
            codes.size = rows.first().map_or(0, Vec::len);
            codes.values.extend(rows.into_iter().flatten());
            codes.names.extend(given.names);
            Ok(())
        },
    )?;
    codes.labels = (labels.len() == inputs.len()).then_some(labels);
    codes.told = model.pipeline.told();
    Ok(codes)
}
