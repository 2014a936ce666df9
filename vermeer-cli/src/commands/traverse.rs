//! `vermeer traverse`: what each number of a code does, or each direction.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::latent::directions::{Directions, FILE};
use vermeer::latent::traversal::{by_change, by_variance, values_of};
use vermeer::latent::{Space, Usual, moved};
use vermeer::{Error, Result};
use vermeer_image::{encode_png, grid};

use crate::checkpoint::ModelArgs;
use crate::inputs::Inputs;
use crate::latents::{Coded, Start, StartArgs, finite, note_age};
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer traverse runs/mnist-vae                            from sample 0, the numbers that do most
  vermeer traverse runs/mnist-vae digit.png -o digit.png     from an image
  vermeer traverse runs/mnist-vae --data mnist/ --rows 6     the numbers in which images differ most
  vermeer traverse runs/mnist-vae --number 3,7 --value=-2,0,2
  vermeer traverse runs/mnist-vae --directions               the named directions instead

Each row changes one number of the code and leaves the others. Latents are standard normal, so
values beyond 3 are hardly ever drawn; numbers of styles (stylegan2) go so many standard deviations
from their mean, and those of codes without samples (autoencoder, dae) are meant as they are.";

/// Values of a row.
const VALUES: [f32; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];
/// The most numbers of a latent of which each may mean something.
const MOST_NUMBERS: usize = 1024;

/// Show what each number of a code does.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Picture to begin with; without one, a sample.
    input: Option<String>,
    #[command(flatten)]
    start: StartArgs,
    /// Rank the numbers by their variance over the codes of these images, instead of by what they
    /// change in the picture; may be repeated.
    #[arg(long, value_name = "LOCATION")]
    data: Vec<String>,
    /// Use only the first images of the data.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Rows, each a number of the code, at most.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    rows: usize,
    /// The numbers of the code to show, counted from 0, as a list.
    #[arg(long, value_name = "I", value_delimiter = ',', conflicts_with_all = ["data", "rows"])]
    number: Vec<usize>,
    /// A row for each direction that `vermeer directions` found, instead of numbers.
    #[arg(long, conflicts_with_all = ["data", "rows", "number"])]
    directions: bool,
    /// The values of a number (of a style, in standard deviations), or the strengths of a direction,
    /// as a list.
    #[arg(long, value_name = "V", allow_hyphen_values = true, value_delimiter = ',', default_values_t = VALUES, value_parser = finite)]
    value: Vec<f32>,
    /// File to write; `outputs/traversal.png` in the run when absent.
    #[arg(short, long, alias = "output", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long)]
    overwrite: bool,
    /// Print what each row is as JSON.
    #[arg(long)]
    json: bool,
}

/// A row of the picture.
struct Row {
    label: String,
    /// What it was ranked by.
    rank: Option<f64>,
    /// The latents of its pictures.
    latents: Vec<f32>,
}

impl Args {
    pub(crate) fn run(mut self, terminal: &Terminal) -> Result<()> {
        if usize::from(self.input.is_some()) + self.start.sample.len() > 1 {
            return Err(Error::settings(
                "a traversal begins at one image or sample",
                "name one image, or one sample with --sample",
            ));
        }
        if self.input.is_none() && self.start.sample.is_empty() {
            self.start.sample.push(0);
        }
        let run = self.model.run()?;
        let default = || run.path().join("outputs").join("traversal.png");
        let path = self.out.clone().unwrap_or_else(default);
        if !path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
        {
            return Err(Error::settings(
                format!("{}: a sheet is a PNG file", path.display()),
                "use the ending .png",
            ));
        }
        let words: Vec<String> = self.input.iter().cloned().collect();
        let inputs = Inputs::open(&words, Split::All, Some(1))?;
        let directions = match self.directions {
            true => Some(Directions::read(&run.path().join(FILE))?),
            false => None,
        };
        let outputs = Outputs::one(&path, self.overwrite)?;
        let model = self.model.open(terminal)?;
        let space = Space::of(&*model.pipeline)?;
        if !self.data.is_empty() && !space.has_codes() {
            return Err(Error::settings(
                "the codes of this model are no latents",
                "leave --data out",
            ));
        }
        let device = self.model.device()?;
        let starts = self.start.starts(&inputs, &model, &device, terminal)?;
        let Some(start) = starts.first() else {
            return Err(Error::Failed("there is nothing to begin with".into()));
        };
        let usual = space.usual(&start.choices)?;
        let rows = match &directions {
            Some(directions) => {
                let mut rows = Vec::with_capacity(directions.0.len());
                for name in directions.0.keys() {
                    let direction = directions.get(name, space.name(), space.size())?;
                    note_age(name, direction, &model, terminal);
                    rows.push(Row {
                        label: name.clone(),
                        rank: None,
                        latents: moved(&start.vector, &direction.vector, &self.value),
                    });
                }
                rows
            }
            None => {
                let ranking = match self.data.is_empty() {
                    true => self.ranked_here(&space, start, &usual, terminal)?,
                    false => {
                        let data = Inputs::open(&self.data, Split::All, self.limit)?;
                        let coded = Coded::of(&data, &model, None, 0, &device, terminal)?;
                        match space.has_codes() && coded.size == space.size() {
                            true => by_variance(&coded.values, coded.size)
                                .into_iter()
                                .map(|(place, rank)| (place, Some(rank)))
                                .collect(),
                            false => {
                                return Err(Error::settings(
                                    "the codes of this model are no latents",
                                    "leave --data out",
                                ));
                            }
                        }
                    }
                };
                let row = |(place, rank): (usize, Option<f64>)| Row {
                    label: format!("{}{place}", space.name()),
                    rank,
                    latents: values_of(&start.vector, place, &usual.values(place, &self.value)),
                };
                ranking
                    .into_iter()
                    .take(self.most_rows())
                    .map(row)
                    .collect()
            }
        };

        let (mut sheet, mut labels) = (Vec::new(), Vec::new());
        let progress = terminal.progress("rows");
        for (place, row) in rows.iter().enumerate() {
            let images = space.images(&row.latents, start.number, &start.choices)?;
            sheet.extend(images.to_images()?);
            for (column, value) in self.value.iter().enumerate() {
                labels.push(match (place, column) {
                    (_, 0) => row.label.clone(),
                    (0, _) => format!("{value:+}"),
                    _ => String::new(),
                });
            }
            progress.at(place + 1, rows.len());
        }
        drop(progress);
        let sheet = grid(&sheet, Some(self.value.len()), 2, Some(&labels))?;
        outputs.publish_one(&encode_png(&sheet)?)?;

        terminal.picture(&sheet);
        match self.json {
            true => terminal.json(&json!({
                "file": path.display().to_string(),
                "from": start.name,
                "latent": start.how,
                "mse_unit": start.mse,
                "values": self.value,
                "ranked_by": match (self.directions || !self.number.is_empty(), self.data.is_empty()) {
                    (true, _) => None,
                    (false, true) => Some("change"),
                    (false, false) => Some("variance"),
                },
                "rows": rows.iter().map(|row| json!({ "name": row.label, "rank": row.rank })).collect::<Vec<_>>(),
                "step": model.step,
            })),
            false => terminal.result(&path.display().to_string()),
        }
    }

    fn most_rows(&self) -> usize {
        match self.number.is_empty() {
            true => self.rows,
            false => self.number.len(),
        }
    }

    /// The numbers that were asked for, or all of them by what they change.
    fn ranked_here(
        &self,
        space: &Space,
        start: &Start,
        usual: &Usual,
        terminal: &Terminal,
    ) -> Result<Vec<(usize, Option<f64>)>> {
        if !self.number.is_empty() {
            let size = space.size();
            return match self.number.iter().find(|place| **place >= size) {
                Some(place) => Err(Error::settings(
                    format!("there is no number {place} in a latent of {size}"),
                    format!("numbers go from 0 to {}", size - 1),
                )),
                None => Ok(self.number.iter().map(|place| (*place, None)).collect()),
            };
        }
        if space.size() > MOST_NUMBERS {
            return Err(Error::settings(
                format!(
                    "the latent has {} numbers, of which none means much alone",
                    space.size()
                ),
                "find directions with `vermeer directions`, and add --directions, or name numbers with --number",
            ));
        }
        let extent = self.value.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let ends = |place: usize| -> [f32; 2] {
            let ends = usual.values(place, &[-extent, extent]);
            [ends[0], ends[1]]
        };
        let ends: Vec<[f32; 2]> = (0..space.size()).map(ends).collect();
        let stop = stop::flag()?;
        let progress = terminal.progress("numbers");
        let ranking = by_change(
            space,
            &start.vector,
            start.number,
            &start.choices,
            &ends,
            &stop,
            &mut |done, all| progress.at(done, all),
        )?;
        Ok(ranking
            .into_iter()
            .map(|(place, rank)| (place, Some(rank)))
            .collect())
    }
}
