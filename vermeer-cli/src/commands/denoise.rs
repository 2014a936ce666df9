//! `vermeer denoise`: images without what spoiled them.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::Result;
use vermeer::data::Split;
use vermeer::task::{Request, Task};

use crate::checkpoint::{ModelArgs, able};
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::pairs::{Pairs, SHEET, file, files};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer denoise runs/mnist-dae scan.png -o clean/          one picture
  vermeer denoise runs/mnist-dae scans/ --limit 64 -o clean/ the first of a folder

Images are prepared as the run's own were. pairs.png shows each beside its clean version.";

/// Images computed at a time.
const BATCH: usize = 64;

/// Take out of images what spoiled them.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, folders, or any other data set that can be trained on.
    #[arg(required = true)]
    input: Vec<String>,
    /// Folder for the clean images.
    #[arg(short, long, alias = "output", value_name = "DIR")]
    out: PathBuf,
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

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let inputs = Inputs::open(&self.input, Split::All, self.limit)?;
        let outputs = Outputs::new(&self.out, files(inputs.len()), self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Denoise)?;
        let device = self.model.device()?;
        let mut pairs = Pairs::new(&outputs);
        inputs.each(
            BATCH,
            (&model, None),
            &device,
            terminal,
            |_, given, report| {
                let request = Request::Denoise(&given.images);
                let clean = model.pipeline.answer(&request, report)?.into_images()?;
                let before = given.images.to_images()?.into_iter();
                for ((before, after), name) in before.zip(clean.to_images()?).zip(given.names) {
                    pairs.add(name, before, after)?;
                }
                Ok(())
            },
        )?;
        let (sheet, titles) = pairs.finish()?;
        outputs.publish()?;
        terminal.picture(&sheet);
        let sheet = self.out.join(SHEET).display().to_string();
        if !self.json {
            return terminal.result(&sheet);
        }
        let images: Vec<_> = titles
            .iter()
            .enumerate()
            .map(|(number, name)| json!({ "input": name, "file": file(number) }))
            .collect();
        terminal.json(&json!({
            "folder": self.out.display().to_string(),
            "pairs": sheet,
            "step": model.step,
            "images": images,
        }))
    }
}
