//! `vermeer edit`: images and samples moved along a named direction.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::latent::directions::{Directions, FILE};
use vermeer::latent::{Space, moved};
use vermeer::{Error, Result};
use vermeer_image::{encode_png, grid};

use crate::checkpoint::ModelArgs;
use crate::inputs::Inputs;
use crate::latents::{StartArgs, finite, note_age};
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer directions runs/mnist-vae --data mnist/                 find what the classes do, first
  vermeer edit runs/mnist-vae digit.png --direction 7 -o seven/   an image towards sevens
  vermeer edit runs/faces --sample 0,3,9 --direction smile -o smiles/ --strength=-2,0,2
  vermeer edit runs/dcgan boot.png --direction pc1 -o boots/      its latent is searched for

Each row of edit.png shows an image as it was given and then at every strength, which counts
standard deviations of the latents along the direction. An image is encoded, or where a model has
no encoder its latent is searched for, which takes a minute or so on small images.";

/// Strengths of a strip.
const STRIP: [f32; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];
/// Rows on the sheet.
const ROWS: usize = 32;

/// Move images and samples along a direction.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, folders, or any other data set that can be trained on.
    input: Vec<String>,
    /// Name of the direction; `vermeer directions RUN` lists those there are.
    #[arg(long, value_name = "NAME")]
    direction: String,
    /// How far to move, in standard deviations; several as a list.
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_delimiter = ',', default_values_t = STRIP, value_parser = finite)]
    strength: Vec<f32>,
    #[command(flatten)]
    start: StartArgs,
    /// Folder for the images.
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
        if self.input.is_empty() && self.start.sample.is_empty() {
            return Err(Error::settings(
                "nothing is said to be edited",
                "name images, or samples as in --sample 0,1,2",
            ));
        }
        let directions = Directions::read(&self.model.run()?.path().join(FILE))?;
        let inputs = Inputs::open(&self.input, Split::All, self.limit)?;
        let rows = inputs.len() + self.start.sample.len();
        let file = |row: usize, strength: f32| format!("{row:06}_{strength:+}.png");
        let mut names = vec!["edit.png".to_owned()];
        names.extend((0..rows).flat_map(|row| self.strength.iter().map(move |s| file(row, *s))));
        let outputs = Outputs::new(&self.out, names, self.overwrite)?;
        let model = self.model.open(terminal)?;
        let space = Space::of(&*model.pipeline)?;
        let direction = directions.get(&self.direction, space.name(), space.size())?;
        note_age(&self.direction, direction, &model, terminal);
        let starts = self
            .start
            .starts(&inputs, &model, &self.model.device()?, terminal)?;

        let shows_given = starts.iter().any(|start| start.given.is_some());
        let (mut sheet, mut labels, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        let progress = terminal.progress("images");
        for (row, start) in starts.iter().enumerate() {
            let vectors = moved(&start.vector, &direction.vector, &self.strength);
            let images = space
                .images(&vectors, start.number, &start.choices)?
                .to_images()?;
            if row < ROWS && shows_given {
                // A sample stands where an image was given, as it is.
                let own = match &start.given {
                    Some(image) => image.clone(),
                    None => space
                        .images(&start.vector, start.number, &start.choices)?
                        .to_images()?
                        .swap_remove(0),
                };
                sheet.push(own);
                labels.push("given".to_owned());
            }
            for (image, strength) in images.into_iter().zip(&self.strength) {
                outputs.write(&file(row, *strength), &encode_png(&image)?)?;
                if row < ROWS {
                    sheet.push(image);
                    labels.push(format!("{strength:+}"));
                }
            }
            listed.push(json!({
                "input": start.name,
                "latent": start.how,
                "mse_unit": start.mse,
                "files": self.strength.iter().map(|s| file(row, *s)).collect::<Vec<_>>(),
            }));
            progress.at(row + 1, starts.len());
        }
        drop(progress);
        let columns = self.strength.len() + usize::from(shows_given);
        let sheet = grid(&sheet, Some(columns), 2, Some(&labels))?;
        outputs.write("edit.png", &encode_png(&sheet)?)?;
        outputs.publish()?;

        terminal.picture(&sheet);
        let place = self.out.join("edit.png").display().to_string();
        match self.json {
            true => terminal.json(&json!({
                "folder": self.out.display().to_string(),
                "sheet": place,
                "direction": self.direction,
                "method": direction.about.method.name(),
                "strengths": self.strength,
                "step": model.step,
                "images": listed,
            })),
            false => terminal.result(&place),
        }
    }
}
