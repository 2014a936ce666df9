//! `vermeer models describe`.

use burn::prelude::*;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;
use vermeer::optim::AdamConfig;
use vermeer::registry::{AnyFamily, DataSpec, TrainerContext, family};
use vermeer::task::{BLOCK, Conditions, Likelihood, Request, SampleOptions, Task};
use vermeer::{Error, Result};
use vermeer_image::{ImageBatch, Range};
use vermeer_kernels::operations::count;

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models describe vae
  vermeer models describe diffusion > my-recipe.toml   a recipe to start from
  vermeer models describe dcgan --size 64 --channels 3 --cost   what it costs at that size

--cost counts the multiplications of convolutions and linear layers, with --set as in training.";

/// Describe a model family and print every setting with its default.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Id of the family; `vermeer models list` shows all.
    family: String,
    /// Count parameters and the multiplications of one sample, one reconstruction and one code.
    #[arg(long)]
    cost: bool,
    /// Height and width of the images that costs are counted for.
    #[arg(long, default_value_t = 32, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    size: usize,
    /// Channels of these images.
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=3))]
    channels: usize,
    /// Classes of these images.
    #[arg(long, default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(0..=100_000))]
    classes: usize,
    /// A setting of [model] other than its default, such as model.width=64; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the description as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let family = family(&self.family)?;
        if !self.set.is_empty() && !self.cost {
            return Err(Error::settings(
                "--set changes what --cost counts",
                "add --cost, or leave --set out",
            ));
        }
        let cost = match self.cost {
            true => Some(self.count(family)?),
            false => None,
        };
        match (self.json, cost) {
            (true, cost) => terminal.json(&json!({
                "info": family.info(),
                "settings": settings(family)?,
                "cost": cost,
            })),
            (false, None) => terminal.result(text(family)?.trim_end()),
            (false, Some(cost)) => terminal.result(&cost.text()),
        }
    }

    /// The costs of a model with parameters as they are drawn.
    fn count(&self, family: &dyn AnyFamily) -> Result<Cost> {
        let mut table = toml::Table::new();
        for word in &self.set {
            let key = word.strip_prefix("model.").unwrap_or(word);
            let parsed: toml::Table = key
                .parse()
                .or_else(|_| {
                    let (name, value) = key.split_once('=').unwrap_or((key, ""));
                    format!("{name} = {:?}", value.trim()).parse()
                })
                .map_err(|error: toml::de::Error| {
                    Error::settings(
                        format!("--set {word}: {}", error.message()),
                        "write KEY=VALUE, such as --set model.width=64",
                    )
                })?;
            table.extend(parsed);
        }
        let table = family.resolve(&table)?;
        let (height, width) = family.natural_size(&table, self.size, self.size)?;
        let spec = DataSpec {
            channels: self.channels,
            height,
            width,
            classes: (0..self.classes).map(|class| class.to_string()).collect(),
            attributes: vec![],
        };
        let defaults = family.train_defaults();
        let trainer = family.trainer(
            &table,
            &TrainerContext {
                spec,
                seed: 0,
                device: Device::flex().autodiff(),
                adam: AdamConfig {
                    beta1: defaults.beta1,
                    beta2: defaults.beta2,
                    epsilon: 1e-8,
                    weight_decay: 0.0,
                },
                average_half_life_images: 0.0,
            },
        )?;
        let pipeline = trainer.pipeline()?;
        let blank = Tensor::<4>::zeros([BLOCK, self.channels, height, width], &Device::flex());
        let images = ImageBatch::new(blank, Range::Unit)?;
        let conditions = Conditions {
            labels: (self.classes > 0).then(|| vec![0; BLOCK]),
            attributes: None,
        };
        let numbers: Vec<u64> = (0..BLOCK as u64).collect();
        let options = SampleOptions::default();
        let mut multiplications = vec![];
        for task in pipeline.tasks() {
            let request = match task {
                Task::Generate => Request::Generate {
                    numbers: &numbers,
                    options: &options,
                },
                Task::Reconstruct => Request::Reconstruct {
                    images: &images,
                    conditions: &conditions,
                },
                Task::Encode => Request::Encode {
                    images: &images,
                    conditions: &conditions,
                },
                Task::Denoise => Request::Denoise(&images),
                // They cost what samples do.
                Task::Interpolate | Task::Inpaint => continue,
            };
            let (answer, count) = count(|| pipeline.answer(&request, &mut |_, _| ()));
            answer?;
            // Samplers that work on the host are not counted.
            if count > 0 {
                multiplications.push((task.name(), count / BLOCK as u64));
            }
        }
        if pipeline.likelihood() == Some(Likelihood::Exact) {
            let (found, count) = count(|| pipeline.log_likelihood(&images, &conditions, 1, 0));
            found?;
            multiplications.push(("likelihood", count / BLOCK as u64));
        }
        Ok(Cost {
            parameters: trainer.parameters(),
            multiplications,
            shape: [self.channels, height, width],
        })
    }
}

/// What a model costs.
#[derive(Serialize)]
struct Cost {
    /// Trained parameters, of all its networks.
    parameters: usize,
    /// Multiplications for one image, by task.
    multiplications: Vec<(&'static str, u64)>,
    /// Channels, height, width.
    shape: [usize; 3],
}

impl Cost {
    fn text(&self) -> String {
        let [channels, height, width] = self.shape;
        let mut text = format!(
            "images           {height}×{width}, {channels} channel(s)\nparameters       {}",
            self.parameters
        );
        for (task, count) in &self.multiplications {
            text.push_str(&format!(
                "\n{task:<16} {:.3} million multiplications",
                *count as f64 / 1e6
            ));
        }
        text
    }
}

/// The settings of a family as a recipe holds them.
fn settings(family: &dyn AnyFamily) -> Result<toml::Table> {
    let defaults = family.train_defaults();
    let mut train = toml::Table::new();
    for (key, value) in [
        ("learning_rate", defaults.learning_rate),
        ("beta1", defaults.beta1),
        ("beta2", defaults.beta2),
        (
            "average_half_life_images",
            defaults.average_half_life_images,
        ),
    ] {
        train.insert(key.to_owned(), toml::Value::Float(value));
    }
    let mut table = toml::Table::new();
    table.insert(
        "family".to_owned(),
        toml::Value::String(family.info().id.to_owned()),
    );
    table.insert(
        "model".to_owned(),
        toml::Value::Table(family.resolve(&toml::Table::new())?),
    );
    table.insert("train".to_owned(), toml::Value::Table(train));
    Ok(table)
}

/// The description as comments, and the settings as TOML, so that the whole is a recipe.
fn text(family: &dyn AnyFamily) -> Result<String> {
    let info = family.info();
    let tasks: Vec<&str> = info.tasks.iter().map(|task| task.name()).collect();
    let toml = toml::to_string(&settings(family)?)
        .map_err(|error| Error::Failed(format!("settings cannot be written as TOML: {error}")))?;
    Ok(format!(
        "# {}: {}\n# {}\n# paper  {}\n# sizes  {}\n# tasks  {}\n\n{toml}",
        info.id,
        info.title,
        info.summary,
        info.paper,
        info.sizes,
        tasks.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use vermeer::registry::FAMILIES;
    use vermeer::train::Settings;

    use super::*;

    #[test]
    fn a_description_is_a_recipe() {
        for family in FAMILIES {
            let text = text(*family).unwrap();
            let settings = Settings::parse(&text, "description").unwrap();
            assert_eq!(settings.family, family.info().id);
            settings.resolved().unwrap();
        }
    }
}
