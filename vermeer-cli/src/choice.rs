//! What can be chosen of the samples of a model, the same on every command that makes some.

use vermeer::pipeline::Model;
use vermeer::registry::{DataSpec, suggest};
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};

// A doc comment here would become the description of every command that takes these arguments.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ChoiceArgs {
    /// Class of every sample, by name or index, where the model knows classes.
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// Value of an attribute of every sample, such as `size=0.8`, where the model knows
    /// attributes; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = attribute)]
    attribute: Vec<(String, f32)>,
    /// Draw latents nearer to their mean by this factor, from 0 (all alike) to 1: less variety for
    /// fewer failures.
    #[arg(long, alias = "trunc", value_name = "PSI", value_parser = share)]
    truncation: Option<f32>,
    /// Divide the logits of an autoregressive model: below 1 for likelier pixels.
    #[arg(long, value_name = "T", value_parser = positive)]
    temperature: Option<f32>,
    /// Steps of an iterative sampler.
    #[arg(long)]
    steps: Option<usize>,
    /// Sampler: auto, ddpm, ddim, euler or heun, as the model's framework allows.
    #[arg(long)]
    sampler: Option<String>,
    /// Strength of classifier-free guidance; 0 is none.
    #[arg(long)]
    guidance: Option<f32>,
    /// Share of fresh noise in DDIM steps, from 0 to 1.
    #[arg(long)]
    eta: Option<f32>,
}

impl ChoiceArgs {
    /// Whether anything was chosen.
    pub(crate) fn is_said(&self) -> bool {
        let Self {
            class,
            attribute,
            truncation,
            temperature,
            steps,
            sampler,
            guidance,
            eta,
        } = self;
        class.is_some()
            || !attribute.is_empty()
            || truncation.is_some()
            || temperature.is_some()
            || steps.is_some()
            || sampler.is_some()
            || guidance.is_some()
            || eta.is_some()
    }

    /// The choice as a model of images of `spec` takes it.
    ///
    /// # Errors
    /// [`Error::Settings`] for a class or an attribute the model does not know.
    pub(crate) fn options(&self, seed: u64, spec: &DataSpec) -> Result<SampleOptions> {
        let class = self
            .class
            .as_deref()
            .map(|word| class(word, &spec.classes))
            .transpose()?;
        for (name, _) in &self.attribute {
            if !spec.attributes.contains(name) {
                let known: Vec<&str> = spec.attributes.iter().map(String::as_str).collect();
                let remedy = match known.is_empty() {
                    true => "leave --attribute out, or train on images with attributes".to_owned(),
                    false => suggest(name, &known),
                };
                return Err(Error::settings(
                    format!("the run knows no attribute {name:?}"),
                    remedy,
                ));
            }
        }
        Ok(SampleOptions {
            seed,
            class,
            attributes: self.attribute.clone(),
            truncation: self.truncation,
            temperature: self.temperature,
            steps: self.steps,
            sampler: self.sampler.clone(),
            guidance: self.guidance,
            eta: self.eta,
        })
    }
}

/// The class that a model is to be told of given images, where one was named.
///
/// # Errors
/// As [`class`]; [`Error::Settings`] for a model that is told none.
pub(crate) fn told_class(word: Option<&str>, model: &Model) -> Result<Option<u32>> {
    match word {
        Some(word) if !model.pipeline.told() => Err(Error::settings(
            format!(
                "--class {word}: family {} is told no class",
                model.usage.family
            ),
            "leave --class out",
        )),
        Some(word) => class(word, &model.usage.spec.classes).map(Some),
        None => Ok(None),
    }
}

/// The index of a class that was named, or given by its index.
///
/// # Errors
/// [`Error::Settings`] with the nearest names when there is none.
pub(crate) fn class(word: &str, classes: &[String]) -> Result<u32> {
    if classes.is_empty() {
        return Err(Error::settings(
            format!("--class {word}: the run knows no classes"),
            "leave --class out, or train on labelled images with a conditional model",
        ));
    }
    let by_name = classes.iter().position(|name| name == word);
    let by_index = || {
        word.parse()
            .ok()
            .filter(|index: &usize| *index < classes.len())
    };
    match by_name.or_else(by_index) {
        Some(index) => Ok(index as u32),
        None => {
            let names: Vec<&str> = classes.iter().map(String::as_str).collect();
            Err(Error::settings(
                format!("the run knows no class {word:?}"),
                format!(
                    "{}\nan index goes from 0 to {}",
                    suggest(word, &names),
                    classes.len() - 1
                ),
            ))
        }
    }
}

fn attribute(text: &str) -> Result<(String, f32), String> {
    let wrong = || "expected NAME=NUMBER, such as size=0.8".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    match value.trim().parse::<f32>() {
        Ok(value) if value.is_finite() && !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value))
        }
        _ => Err(wrong()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_its_name_or_its_index() {
        let classes = ["shirt", "boot", "1"].map(str::to_owned).to_vec();
        for (word, expected) in [
            ("boot", Some(1)),
            ("0", Some(0)),
            // A name comes before an index.
            ("1", Some(2)),
            ("3", None),
            ("-1", None),
            ("bot", None),
        ] {
            assert_eq!(class(word, &classes).ok(), expected, "{word}");
        }
        let error = class("bot", &classes).unwrap_err();
        assert!(error.remedy().unwrap().contains("`boot`"), "{error:?}");
        assert!(class("0", &[]).is_err());
    }

    #[test]
    fn numbers_are_checked_when_they_are_typed() {
        assert_eq!(attribute("size=0.8"), Ok(("size".to_owned(), 0.8)));
        for text in ["size", "size=", "=1", "size=nan"] {
            assert!(attribute(text).is_err(), "{text}");
        }
        assert!(share("0.7").is_ok() && share("1.1").is_err() && share("nan").is_err());
        assert!(positive("0.7").is_ok() && positive("0").is_err() && positive("inf").is_err());
    }
}
