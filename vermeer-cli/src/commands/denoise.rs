//! `vermeer denoise`: images without what spoiled them.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::task::{Request, Task};
use vermeer::{Error, Result};
use vermeer_image::{encode_png, grid};

use crate::checkpoint::{ModelArgs, able};
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer denoise runs/mnist-dae scan.png -o clean/          one picture
  vermeer denoise runs/mnist-dae scans/ --limit 64 -o clean/ the first of a folder

Images are prepared as the run's own were. pairs.png shows each beside its clean version.";

/// Images computed at a time.
const BATCH: usize = 64;
/// Pairs on the sheet.
const PAIRS: usize = 64;

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
        let file = |number: usize| format!("{number:06}.png");
        let mut names = vec!["pairs.png".to_owned()];
        names.extend((0..inputs.len()).map(file));
        let outputs = Outputs::new(&self.out, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        able(&model, Task::Denoise)?;
        let device = self.model.device()?;
        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut titles: Vec<String> = Vec::with_capacity(inputs.len());
        let mut pairs = Vec::new();
        for first in (0..inputs.len()).step_by(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let part = first..(first + BATCH).min(inputs.len());
            let given = inputs.prepare(part, &model, None, &device)?;
            let clean = model
                .pipeline
                .answer(&Request::Denoise(&given.images), &mut |_, _| ())?
                .into_images()?;
            let before = given.images.to_images()?.into_iter();
            for ((before, after), title) in before.zip(clean.to_images()?).zip(given.names) {
                outputs.write(&file(titles.len()), &encode_png(&after)?)?;
                titles.push(title);
                if pairs.len() < 2 * PAIRS {
                    pairs.extend([before, after]);
                }
            }
            progress.at(titles.len(), inputs.len());
        }
        drop(progress);
        let sheet = grid(&pairs, Some(8), 2, None)?;
        outputs.write("pairs.png", &encode_png(&sheet)?)?;
        outputs.publish()?;
        terminal.picture(&sheet);
        let sheet = self.out.join("pairs.png").display().to_string();
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
