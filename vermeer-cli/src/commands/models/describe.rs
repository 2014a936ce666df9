//! `vermeer models describe`.

use serde_json::json;
use vermeer::registry::{AnyFamily, family};
use vermeer::{Error, Result};

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models describe vae
  vermeer models describe diffusion > my-recipe.toml   a recipe to start from";

/// Describe a model family and print every setting with its default.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Id of the family; `vermeer models list` shows all.
    family: String,
    /// Print the description as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let family = family(&self.family)?;
        match self.json {
            true => terminal.json(&json!({
                "info": family.info(),
                "settings": settings(family)?,
            })),
            false => terminal.result(text(family)?.trim_end()),
        }
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
