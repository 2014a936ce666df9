//! `vermeer map`: where images lie in the space of a model's codes, as a picture.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::latent::map::{Points, colour, legend, manifold, scatter, stacked};
use vermeer::latent::principal::Principal;
use vermeer::latent::{Kind, Space};
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};
use vermeer_image::{Filter, Image, encode_png, grid, resize};

use crate::checkpoint::ModelArgs;
use crate::choice::told_class;
use crate::inputs::Inputs;
use crate::latents::Coded;
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer map runs/mnist-vae --data mnist/ --split test -o map.png
  vermeer map runs/fashion-vae --data fashion/ --limit 5000 --pictures 0 -o dots.png
  vermeer map runs/two-numbers --data mnist/ -o map.png      also map-grid.png: what lies where

A dot for each image, in the colour of its class, where the first two principal components of its
code put it, with pictures of some. Codes of two numbers are shown as they are, and decoded on a
grid that is even in the prior.";

/// The largest side of a small picture.
const PICTURE: usize = 40;

/// Draw a map of a model's codes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Images: a folder, or any other data set that can be trained on; may be repeated.
    #[arg(long, required = true, value_name = "LOCATION")]
    data: Vec<String>,
    /// Split of the data: train, validation, test or all.
    #[arg(long, default_value = "all")]
    split: Split,
    /// Use only the first images.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(3..))]
    limit: usize,
    /// Class of every image, by name or index, for a conditional model; labelled images bring
    /// their own.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// Images of which a small picture is shown, where there is room.
    #[arg(long, default_value_t = 500, value_name = "N")]
    pictures: usize,
    /// Side of the map in pixels.
    #[arg(long, default_value_t = 1000, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(256..=8192))]
    side: usize,
    /// Rows and columns of the grid of codes of two numbers.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..=64))]
    grid: usize,
    /// File to write, .png.
    #[arg(short, long, alias = "output", value_name = "FILE")]
    out: PathBuf,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print what the map shows as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let ending = self.out.extension().unwrap_or_default().to_string_lossy();
        if !ending.eq_ignore_ascii_case("png") {
            return Err(Error::settings(
                format!("{}: a map is a PNG file", self.out.display()),
                "use the ending .png",
            ));
        }
        let name = self.out.file_name().unwrap_or_default().to_string_lossy();
        let stem = self.out.file_stem().unwrap_or_default().to_string_lossy();
        let grid_name = format!("{stem}-grid.png");
        let inputs = Inputs::open(&self.data, self.split, Some(self.limit))?;
        let model = self.model.open(terminal)?;
        // A family without latents may have codes all the same.
        let space = Space::of(&*model.pipeline).ok();
        let plane = space.filter(|space| {
            space.kind() == Kind::Latents && space.has_codes() && space.size() == 2
        });
        let mut names = vec![name.clone().into_owned()];
        if plane.is_some() {
            names.push(grid_name.clone());
        }
        let folder = self.out.parent().unwrap_or(std::path::Path::new(""));
        let outputs = Outputs::new(folder, names, self.overwrite)?;

        let told = told_class(self.class.as_deref(), &model)?;
        let device = self.model.device()?;
        let coded = Coded::of(&inputs, &model, told, self.pictures, &device, terminal)?;
        let (places, shares) = places(&coded)?;
        let pictures: Vec<Image> = coded.pictures.iter().map(small).collect::<Result<_>>()?;
        let points = Points {
            places: &places,
            labels: coded.labels.as_deref(),
            pictures: &pictures,
        };
        let mut map = scatter(&points, self.side)?;
        let shown = match coded.labels {
            Some(_) if !coded.classes.is_empty() => &coded.classes[..],
            _ => &[],
        };
        if !shown.is_empty() {
            map = stacked(&[map, legend(shown, self.side)?])?;
        }
        outputs.write(&name, &encode_png(&map)?)?;
        if let Some(space) = plane {
            let options = SampleOptions {
                class: told,
                ..SampleOptions::default()
            };
            let images = manifold(&space, self.grid, &options)?;
            let sheet = grid(&images, Some(self.grid), 0, None)?;
            outputs.write(&grid_name, &encode_png(&sheet)?)?;
        }
        outputs.publish()?;

        terminal.picture(&map);
        let file = self.out.display().to_string();
        if !self.json {
            return terminal.result(&file);
        }
        let hex = |class: usize| {
            let [r, g, b] = colour(class as u32);
            format!("#{r:02x}{g:02x}{b:02x}")
        };
        let classes: Vec<_> = shown
            .iter()
            .enumerate()
            .map(|(class, name)| json!({ "name": name, "colour": hex(class) }))
            .collect();
        terminal.json(&json!({
            "file": file,
            "grid": plane.map(|_| folder.join(&grid_name).display().to_string()),
            "images": places.len(),
            "code_numbers": coded.size,
            "explained": shares,
            "classes": classes,
            "step": model.step,
        }))
    }
}

/// Where each code lies, and the shares of the variance along both axes.
fn places(coded: &Coded) -> Result<(Vec<[f64; 2]>, [f64; 2])> {
    let principal = Principal::of(&coded.values, coded.size, coded.size.min(2))?;
    let rows = coded.values.chunks_exact(coded.size);
    if coded.size == 2 {
        let places = rows.map(|row| [f64::from(row[0]), f64::from(row[1])]);
        let variance = |axis: usize| -> f64 {
            let along = principal.directions.iter().zip(&principal.variances);
            along
                .map(|(d, variance)| d[axis] * d[axis] * variance)
                .sum()
        };
        let whole = principal.total.max(f64::MIN_POSITIVE);
        let shares = [variance(0) / whole, variance(1) / whole];
        return Ok((places.collect(), shares));
    }
    let at = |values: &[f64], axis: usize| values.get(axis).copied().unwrap_or_default();
    let places = rows.map(|row| {
        let along = principal.coordinates(row);
        [at(&along, 0), at(&along, 1)]
    });
    let shares = principal.shares();
    Ok((places.collect(), [at(&shares, 0), at(&shares, 1)]))
}

/// A picture no larger than a small one.
fn small(image: &Image) -> Result<Image> {
    let longest = image.width().max(image.height());
    if longest <= PICTURE {
        return Ok(image.clone());
    }
    let side = |length: usize| (length * PICTURE / longest).max(1);
    Ok(resize(
        image,
        side(image.width()),
        side(image.height()),
        Filter::Bicubic,
    )?)
}
