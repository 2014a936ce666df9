//! The settings of a run: what a recipe holds.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Fit, Split};
use crate::error::SourceText;
use crate::optim::Shape;
use crate::registry::{AnyFamily, family};
use crate::{Error, Result};

/// Every setting of a run. The `[model]` table belongs to the family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Version of this layout; 1.
    pub schema: u32,
    /// Name of the run: its folder under `runs/`. Empty takes the recipe's file name.
    pub name: String,
    /// Id of the model family.
    pub family: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// The images.
    pub data: DataSettings,
    /// The network and its loss; `vermeer models describe FAMILY` lists the keys.
    pub model: toml::Table,
    /// The optimisation.
    pub train: TrainSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema: 1,
            name: String::new(),
            family: String::new(),
            seed: 0,
            data: DataSettings::default(),
            model: toml::Table::new(),
            train: TrainSettings::default(),
        }
    }
}

/// Height and width of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Both the same.
    Square(usize),
    /// Height and width.
    Sides([usize; 2]),
}

impl Size {
    /// Height and width.
    pub fn sides(self) -> (usize, usize) {
        match self {
            Size::Square(side) => (side, side),
            Size::Sides([height, width]) => (height, width),
        }
    }
}

/// Settings of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// Folder, file or `world:NAME?key=value`.
    pub source: String,
    /// `train`, `validation`, `test` or `all`.
    pub split: Split,
    /// CSV file of labels (columns `file` and `label`), for images without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Share of the images kept for validation where the source has no such part. Default 0.05.
    pub validation: f64,
    /// One number, or `[height, width]`; when absent, the family's nearest to the median image,
    /// its longer side at most 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// 1 or 3; what the images have when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// How another size is brought to `size`: `crop`, `stretch` or `pad`. When absent, `pad` for
    /// images a few pixels smaller, else `crop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// RGB under transparent pixels and around padded images. Default black.
    pub background: [u8; 3],
    /// Whether training images are mirrored at random. Default false.
    pub flip: bool,
    /// Threads that read images. Default 2.
    pub workers: usize,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            source: String::new(),
            split: Split::Train,
            labels: None,
            validation: 0.05,
            size: None,
            channels: None,
            fit: None,
            background: [0, 0, 0],
            flip: false,
            workers: 2,
        }
    }
}

/// Settings of the optimisation; absent ones take the family's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Optimisation steps. Default 5000.
    pub steps: u64,
    /// Images of a micro-batch. Default 64.
    pub batch_size: usize,
    /// Micro-batches of a step. Default 1.
    pub accumulate: usize,
    /// Peak learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// `constant`, `linear` or `cosine`.
    pub schedule: Shape,
    /// Steps of linear warm-up. Default 0.
    pub warmup_steps: u64,
    /// Adam's β₁.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Adam's β₂.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// Decoupled weight decay. Default 0.
    pub weight_decay: f64,
    /// Limit of the global gradient norm; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Half-life of the averaged weights in images; 0 keeps no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_half_life_images: Option<f64>,
    /// Steps between written values. Default 50.
    pub log_every: u64,
    /// Steps between evaluations of validation images and health. Default 500.
    pub validate_every: u64,
    /// Validation images evaluated, at most. Default 1024.
    pub validation_images: usize,
    /// Steps between pictures of samples. Default 1000.
    pub sample_every: u64,
    /// Samples in a picture. Default 36.
    pub samples: usize,
    /// Steps between checkpoints. Default 1000.
    pub save_every: u64,
    /// Checkpoints kept besides the best. Default 3.
    pub keep_last: usize,
    /// Evaluations without a lower validation loss after which training ends; 0 for never.
    pub early_stop: u64,
    /// Bad health verdicts in a row after which training ends; 0 for never.
    pub stop_on_bad: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            steps: 5000,
            batch_size: 64,
            accumulate: 1,
            learning_rate: None,
            schedule: Shape::Constant,
            warmup_steps: 0,
            beta1: None,
            beta2: None,
            weight_decay: 0.0,
            clip_norm: None,
            average_half_life_images: None,
            log_every: 50,
            validate_every: 500,
            validation_images: 1024,
            sample_every: 1000,
            samples: 36,
            save_every: 1000,
            keep_last: 3,
            early_stop: 0,
            stop_on_bad: 0,
        }
    }
}

/// Settings that may differ between a run and its resumption: they change how the run is
/// worked, not what it computes. The data are compared by content instead of by place.
const OPERATIONAL: &[&str] = &[
    "data.source",
    "data.workers",
    "data.labels",
    "train.keep_last",
];

impl Settings {
    /// Reads settings from TOML text; `name` is the file's name for messages.
    ///
    /// # Errors
    /// [`Error::Settings`] pointing at the line of an unknown key or a wrong value.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let settings: Settings =
            toml::from_str(text).map_err(|error| at_source(&error, text, name))?;
        if settings.schema != 1 {
            return Err(Error::settings(
                format!("{name}: schema {} is not known", settings.schema),
                "this version reads schema = 1",
            ));
        }
        if !settings.family.is_empty() {
            family(&settings.family)?
                .check_text(text)
                .map_err(|error| at_source(&error, text, name))?;
        }
        Ok(settings)
    }

    /// Reads a settings file.
    ///
    /// # Errors
    /// As [`Settings::parse`]; [`Error::Io`] when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let mut settings = Self::parse(&text, &path.display().to_string())?;
        if settings.name.is_empty() {
            settings.name = path
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
        }
        Ok(settings)
    }

    /// The settings with `key.path=value` assignments applied; values are TOML, or text where
    /// they are not.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the assignment and, for an unknown key, the known ones.
    pub fn with(&self, assignments: &[String]) -> Result<Self> {
        let mut table = self.table()?;
        for assignment in assignments {
            let Some((key, value)) = assignment.split_once('=') else {
                return Err(Error::settings(
                    format!("--set {assignment}: there is no value"),
                    "write --set key=value, for example --set train.steps=1000",
                ));
            };
            assign(&mut table, key.trim(), value.trim())?;
            table.clone().try_into::<Settings>().map_err(|error| {
                Error::settings(
                    format!("--set {assignment}: {}", error.message().trim_end()),
                    "check the key and the kind of its value",
                )
            })?;
        }
        let settings: Settings = table.try_into().map_err(|error: toml::de::Error| {
            Error::settings(error.message().to_string(), "check the settings")
        })?;
        Ok(settings)
    }

    /// The family, and these settings with every default written out.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown family, an unknown key or a value out of range.
    pub fn resolved(mut self) -> Result<(&'static dyn AnyFamily, Self)> {
        if self.family.is_empty() {
            return Err(Error::settings(
                "no model family is set",
                "add --model vae, or family = \"vae\" in the recipe; `vermeer models list` shows all",
            ));
        }
        let family = family(&self.family)?;
        self.model = family.resolve(&self.model)?;
        let defaults = family.train_defaults();
        let train = &mut self.train;
        train.learning_rate.get_or_insert(defaults.learning_rate);
        train.beta1.get_or_insert(defaults.beta1);
        train.beta2.get_or_insert(defaults.beta2);
        train
            .average_half_life_images
            .get_or_insert(defaults.average_half_life_images);
        self.check()?;
        Ok((family, self))
    }

    fn check(&self) -> Result<()> {
        let t = &self.train;
        let positive = [
            ("train.steps", t.steps),
            ("train.batch_size", t.batch_size as u64),
            ("train.accumulate", t.accumulate as u64),
            ("train.log_every", t.log_every),
            ("train.validate_every", t.validate_every),
            ("train.sample_every", t.sample_every),
            ("train.save_every", t.save_every),
            ("train.keep_last", t.keep_last as u64),
            ("data.workers", self.data.workers as u64),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::settings(
                format!("{key} = 0"),
                format!("{key} must be at least 1"),
            ));
        }
        let beta = |b: Option<f64>| b.is_none_or(|b| (0.0..1.0).contains(&b));
        let ranges = [
            (
                "train.learning_rate",
                t.learning_rate.is_none_or(|x| x > 0.0 && x.is_finite()),
                "larger than zero",
            ),
            ("train.beta1", beta(t.beta1), "in [0, 1)"),
            ("train.beta2", beta(t.beta2), "in [0, 1)"),
            (
                "train.weight_decay",
                t.weight_decay >= 0.0 && t.weight_decay.is_finite(),
                "zero or larger",
            ),
            (
                "train.clip_norm",
                t.clip_norm.is_none_or(|x| x > 0.0),
                "larger than zero",
            ),
            (
                "train.average_half_life_images",
                t.average_half_life_images.is_none_or(|x| x >= 0.0),
                "zero or larger",
            ),
            (
                "data.validation",
                (0.0..0.9).contains(&self.data.validation),
                "in [0, 0.9)",
            ),
        ];
        if self.seed > i64::MAX as u64 {
            return Err(Error::settings(
                format!("seed = {}", self.seed),
                format!("seeds lie between 0 and {}", i64::MAX),
            ));
        }
        match ranges.iter().find(|(_, ok, _)| !ok) {
            Some((key, _, range)) => Err(Error::settings(
                format!("{key} is out of range"),
                format!("{key} must be {range}"),
            )),
            None => Ok(()),
        }
    }

    /// These settings as a TOML table.
    ///
    /// # Errors
    /// Never for settings that were read or resolved.
    pub fn table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self)
            .map_err(|error| Error::Failed(format!("settings cannot be written as TOML: {error}")))
    }

    /// These settings as TOML text.
    ///
    /// # Errors
    /// As [`Settings::table`].
    pub fn text(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| Error::Failed(format!("settings cannot be written as TOML: {error}")))
    }

    /// The keys in which two resolved settings differ, operational ones left out.
    ///
    /// # Errors
    /// As [`Settings::table`].
    pub fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let mut keys = vec![];
        compare(
            "",
            &toml::Value::Table(self.table()?),
            &toml::Value::Table(other.table()?),
            &mut keys,
        );
        keys.retain(|key| !OPERATIONAL.contains(&key.split(' ').next().unwrap_or(key)));
        Ok(keys)
    }
}

fn compare(path: &str, a: &toml::Value, b: &toml::Value, keys: &mut Vec<String>) {
    let (toml::Value::Table(x), toml::Value::Table(y)) = (a, b) else {
        if a != b {
            keys.push(format!("{path} ({a} → {b})"));
        }
        return;
    };
    let all: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
    for key in all {
        let place = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (x.get(key), y.get(key)) {
            (Some(a), Some(b)) => compare(&place, a, b, keys),
            (Some(a), None) => keys.push(format!("{place} ({a} → unset)")),
            (None, Some(b)) => keys.push(format!("{place} (unset → {b})")),
            (None, None) => {}
        }
    }
}

fn assign(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_string()));
    let parts: Vec<&str> = key.split('.').collect();
    let Some((last, parents)) = parts.split_last() else {
        return Err(Error::settings(
            "--set without a key",
            "write --set key=value",
        ));
    };
    let mut place = table;
    for part in parents {
        place = match place
            .entry(*part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        {
            toml::Value::Table(inner) => inner,
            _ => {
                return Err(Error::settings(
                    format!("--set {key}: {part} is not a table"),
                    "check the key",
                ));
            }
        };
    }
    place.insert((*last).to_string(), value);
    Ok(())
}

fn at_source(error: &toml::de::Error, text: &str, name: &str) -> Error {
    let span = error.span().unwrap_or(0..0);
    let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
    Error::Settings {
        message: format!("{name}, line {line}: {}", error.message().trim_end()),
        remedy: "correct the line; `vermeer models describe FAMILY` lists the keys of [model]"
            .into(),
        source_text: Some(SourceText {
            name: name.to_string(),
            text: text.to_string(),
            span,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_at_their_line() {
        for (text, line, word) in [
            (
                "family = \"vae\"\n[train]\nsteps = 5\nbatchsize = 3\n",
                4,
                "batchsize",
            ),
            ("family = \"vae\"\n\n[model]\nlatnt = 3\n", 4, "latnt"),
            ("famly = \"vae\"\n", 1, "famly"),
        ] {
            let error = Settings::parse(text, "r.toml").unwrap_err().to_string();
            assert!(
                error.contains(&format!("line {line}")) && error.contains(word),
                "{error}"
            );
        }
    }

    #[test]
    fn assignments_reach_their_keys() {
        let base = Settings {
            family: "vae".into(),
            ..Default::default()
        };
        let set = |text: &str| base.with(&[text.to_string()]);
        assert_eq!(set("train.steps=7").unwrap().train.steps, 7);
        assert_eq!(
            set("data.size=[112,92]")
                .unwrap()
                .data
                .size
                .unwrap()
                .sides(),
            (112, 92)
        );
        assert_eq!(
            set("data.source=some/folder").unwrap().data.source,
            "some/folder"
        );
        assert_eq!(
            set("model.beta=4.0").unwrap().model["beta"].as_float(),
            Some(4.0)
        );
        assert!(
            set("train.stps=7")
                .unwrap_err()
                .to_string()
                .contains("stps")
        );
        assert!(set("train.steps").is_err());
    }

    #[test]
    fn differences_name_the_keys_that_matter() {
        let (_, a) = Settings {
            family: "vae".into(),
            ..Default::default()
        }
        .resolved()
        .unwrap();
        let b = a
            .with(&[
                "model.beta=2.0".into(),
                "data.workers=4".into(),
                "seed=3".into(),
            ])
            .unwrap();
        let keys = a.differences(&b).unwrap();
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(
            keys[0].starts_with("model.beta") && keys[1].starts_with("seed"),
            "{keys:?}"
        );
    }
}
