//! `vermeer directions`: what classes and attributes do to latents, found and kept under names.

use std::sync::atomic::Ordering;

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use vermeer::data::Split;
use vermeer::latent::directions::{About, Direction, Directions, FILE, Method, Target, toward};
use vermeer::latent::principal::Principal;
use vermeer::latent::sensitivity::Sensitivity;
use vermeer::latent::{Kind, Space};
use vermeer::pipeline::Model;
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};

use crate::checkpoint::ModelArgs;
use crate::choice::{class, told_class};
use crate::inputs::Inputs;
use crate::latents::Coded;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer directions runs/mnist-vae --data mnist/                  one for each class and attribute
  vermeer directions runs/mnist-vae --data mnist/ --principal 5    pc1 to pc5: where codes vary most
  vermeer directions runs/dcgan --principal 5                      where a generator changes most
  vermeer directions runs/stylegan2 --principal 5                  where its styles vary most
  vermeer directions runs/mnist-vae                                list those there are
  vermeer edit runs/mnist-vae digit.png --direction 7 -o seven/    use one

They are kept in the run as directions.safetensors. `held out` tells how well a threshold along the
direction names the class of images it was not found with (0.5 by guessing), or how much of the
attribute's variance it explains.";

/// The fewest images of a class that has a direction.
const LEAST: usize = 5;
/// Samples at which a generator is tried.
const TRIED: u64 = 16;
/// Samples whose styles are taken.
const STYLES: u64 = 10_000;
/// Styles drawn at a time.
const BATCH: usize = 1000;

/// Find directions in the space of a model's latents, or list those that were found.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Labelled images: a folder, or any other data set that can be trained on; may be repeated.
    #[arg(long, value_name = "LOCATION")]
    data: Vec<String>,
    /// Split of the data: train, validation, test or all.
    #[arg(long, default_value = "all")]
    split: Split,
    /// Use only the first images.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Class of every image, by name or index, for a conditional model; labelled images bring
    /// their own.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// How classes and attributes are followed.
    #[arg(long, value_enum, default_value = "means")]
    method: How,
    /// Find so many directions without labels: the principal components of the data's codes or,
    /// without --data, of the styles of samples, or for a generator without styles those along which
    /// it changes its images most.
    #[arg(long, value_name = "K", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    principal: Option<usize>,
    /// Samples whose styles are taken (default 10000), or at which a generator without styles is
    /// tried (default 16).
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    samples: Option<u64>,
    /// Seed of those samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace directions of the same name.
    #[arg(long)]
    overwrite: bool,
    /// Print the directions as JSON.
    #[arg(long)]
    json: bool,
}

/// How a class or attribute is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// From the mean of the others to the mean of the class: how latents differ.
    Means,
    /// The normal of a linear classifier: where its mind changes soonest.
    Classifier,
}

impl How {
    fn method(self) -> Method {
        match self {
            Self::Means => Method::Means,
            Self::Classifier => Method::Classifier,
        }
    }
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let path = self.model.run()?.path().join(FILE);
        if self.data.is_empty() && self.principal.is_none() {
            let directions = Directions::read(&path)?;
            let all = directions
                .0
                .iter()
                .map(|(name, found)| (name.as_str(), found));
            return self.say(all.collect(), terminal);
        }
        let mut kept = match path.is_file() {
            true => Directions::read(&path)?,
            false => Directions::default(),
        };
        let inputs = match self.data.is_empty() {
            true => None,
            false => Some(Inputs::open(&self.data, self.split, self.limit)?),
        };
        let model = self.model.open(terminal)?;
        let found = match &inputs {
            Some(inputs) => self.in_data(inputs, &model, terminal)?,
            None => self.in_generator(&model, terminal)?,
        };
        for (place, (name, _)) in found.iter().enumerate() {
            if found[..place].iter().any(|(other, _)| other == name) {
                return Err(Error::settings(
                    format!("a class and an attribute are both called {name}"),
                    "rename one of them in the data",
                ));
            }
            if kept.0.contains_key(name) && !self.overwrite {
                return Err(Error::settings(
                    format!("the run has a direction {name} already"),
                    "replace directions of the same names with --overwrite",
                ));
            }
        }
        kept.0.extend(found.iter().cloned());
        kept.write(&path)?;
        let new = found.iter().map(|(name, found)| (name.as_str(), found));
        self.say(new.collect(), terminal)
    }

    /// Directions among the codes of images.
    fn in_data(
        &self,
        inputs: &Inputs,
        model: &Model,
        terminal: &Terminal,
    ) -> Result<Vec<(String, Direction)>> {
        let space = Space::of(&*model.pipeline)?;
        if !space.has_codes() {
            return Err(Error::settings(
                format!(
                    "family {} does not encode images into what it makes them of",
                    model.usage.family
                ),
                "leave --data out and add --principal K, or choose a run of a family with an encoder",
            ));
        }
        let told = told_class(self.class.as_deref(), model)?;
        let device = self.model.device()?;
        let coded = Coded::of(inputs, model, told, 0, &device, terminal)?;
        let data = format!("{} ({})", self.data.join(", "), self.split);
        let about = |method: Method| About {
            space: space.name().to_owned(),
            method,
            data: data.clone(),
            images: coded.names.len(),
            spread: 1.0,
            explained: None,
            accuracy: None,
            r_squared: None,
            step: model.step,
            checkpoint: model.digest.clone(),
        };
        if let Some(count) = self.principal {
            return components(&coded.values, coded.size, count, &about(Method::Principal));
        }
        let mut found = Vec::new();
        let method = self.method.method();
        let mut follow = |name: &str, target: Target| -> Result<()> {
            let toward = toward(&coded.values, coded.size, target, method)?;
            let about = About {
                spread: toward.spread,
                accuracy: toward.accuracy,
                r_squared: toward.r_squared,
                ..about(method)
            };
            let vector = toward.vector;
            found.push((name.to_owned(), Direction { vector, about }));
            Ok(())
        };
        if let Some(labels) = &coded.labels {
            for (label, name) in coded.classes.iter().enumerate() {
                let members: Vec<bool> = labels.iter().map(|own| *own as usize == label).collect();
                let inside = members.iter().filter(|member| **member).count();
                match inside >= LEAST && members.len() - inside >= LEAST {
                    true => follow(name, Target::Class(&members))?,
                    false => terminal.warn(&format!(
                        "{name}: {inside} of {} images are too few, or too many, for a direction",
                        members.len()
                    )),
                }
            }
        }
        let names = &model.usage.spec.attributes;
        if let Some(attributes) = &coded.conditions.attributes {
            for (place, name) in names.iter().enumerate() {
                let values: Vec<f32> = attributes
                    .iter()
                    .skip(place)
                    .step_by(names.len())
                    .copied()
                    .collect();
                match values.iter().any(|value| *value != values[0]) {
                    true => follow(name, Target::Attribute(&values))?,
                    false => terminal.warn(&format!("{name}: it has one value for all images")),
                }
            }
        }
        match found.is_empty() {
            true => Err(Error::settings(
                "the images have neither labels nor attributes to follow",
                "give labelled images, or find directions without labels by --principal K",
            )),
            false => Ok(found),
        }
    }

    /// Directions of a generator, by its samples.
    fn in_generator(&self, model: &Model, terminal: &Terminal) -> Result<Vec<(String, Direction)>> {
        let space = Space::of(&*model.pipeline)?;
        let count = self.samples.unwrap_or(match space.kind() {
            Kind::Styles => STYLES,
            Kind::Latents | Kind::Codes => TRIED,
        });
        let numbers: Vec<u64> = (0..count).collect();
        let known = &model.usage.spec.classes;
        let told = self.class.as_deref().map(|word| class(word, known));
        let options = SampleOptions {
            seed: self.seed,
            class: told.transpose()?,
            ..SampleOptions::default()
        };
        let about = About {
            space: space.name().to_owned(),
            method: Method::Sensitivity,
            data: format!("samples of seed {}", self.seed),
            images: numbers.len(),
            // Latents are standard normal in every direction.
            spread: 1.0,
            explained: None,
            accuracy: None,
            r_squared: None,
            step: model.step,
            checkpoint: model.digest.clone(),
        };
        let stop = stop::flag()?;
        let wanted = self.principal.unwrap_or(1);
        match space.kind() {
            Kind::Codes => Err(Error::settings(
                "this family has codes of images and no samples",
                "name images with --data",
            )),
            Kind::Styles => {
                let progress = terminal.progress("styles");
                let mut styles = Vec::with_capacity(numbers.len() * space.size());
                for part in numbers.chunks(BATCH) {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::Failed("interrupted; nothing was written".into()));
                    }
                    styles.extend(space.draw(part, std::slice::from_ref(&options))?);
                    progress.at(styles.len() / space.size(), numbers.len());
                }
                drop(progress);
                let about = About {
                    method: Method::Principal,
                    ..about
                };
                components(&styles, space.size(), wanted, &about)
            }
            Kind::Latents => {
                let progress = terminal.progress("steps");
                let found = Sensitivity::of(
                    &space,
                    &numbers,
                    &options,
                    wanted,
                    &stop,
                    &mut |done, all| {
                        progress.at(done, all);
                    },
                )?;
                drop(progress);
                let whole = found.total.max(f64::MIN_POSITIVE);
                let named = found.directions.iter().zip(&found.changes).enumerate();
                Ok(named
                    .map(|(place, (direction, change))| {
                        let about = About {
                            explained: Some(change / whole),
                            ..about.clone()
                        };
                        let vector = direction.iter().map(|x| *x as f32).collect();
                        (format!("pc{}", place + 1), Direction { vector, about })
                    })
                    .collect())
            }
        }
    }

    fn say(&self, directions: Vec<(&str, &Direction)>, terminal: &Terminal) -> Result<()> {
        if self.json {
            let list: Vec<Value> = directions
                .iter()
                .map(|(name, direction)| {
                    let About {
                        space,
                        method,
                        data,
                        images,
                        spread,
                        explained,
                        accuracy,
                        r_squared,
                        step,
                        checkpoint,
                    } = &direction.about;
                    json!({
                        "name": name,
                        "space": space,
                        "method": method.name(),
                        "data": data,
                        "images": images,
                        "spread": spread,
                        "explained": explained,
                        "accuracy": accuracy,
                        "r_squared": r_squared,
                        "step": step,
                        "checkpoint": checkpoint,
                        "size": direction.vector.len(),
                    })
                })
                .collect();
            return terminal.json(&list);
        }
        let width = directions
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let lines: Vec<String> = directions
            .iter()
            .map(|(name, direction)| {
                let about = &direction.about;
                format!(
                    "{name:<width$}  {:<11}  {}  {} images, step {}",
                    about.method.name(),
                    score(about),
                    about.images,
                    about.step
                )
            })
            .collect();
        terminal.result(&lines.join("\n"))
    }
}

/// The principal components of vectors as directions; `about` tells what they were found in.
fn components(
    rows: &[f32],
    size: usize,
    count: usize,
    about: &About,
) -> Result<Vec<(String, Direction)>> {
    let principal = Principal::of(rows, size, count)?;
    let shares = principal.shares();
    let mut found = Vec::with_capacity(shares.len());
    for (place, direction) in principal.directions.iter().enumerate() {
        let spread = principal.variances[place].sqrt();
        let about = About {
            spread,
            explained: Some(shares[place]),
            ..about.clone()
        };
        let vector = direction.iter().map(|x| (x * spread) as f32).collect();
        found.push((format!("pc{}", place + 1), Direction { vector, about }));
    }
    Ok(found)
}

/// What a direction is worth, in the columns of a list.
fn score(about: &About) -> String {
    match (about.accuracy, about.r_squared, about.explained) {
        (Some(value), _, _) => format!("held out: right {value:.3}"),
        (_, Some(value), _) => format!("held out: R2    {value:.3}"),
        (_, _, Some(value)) => format!("explains        {value:.3}"),
        (None, None, None) => "held out: none       ".to_owned(),
    }
}
