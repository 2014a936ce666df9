//! The list of model families, and the traits that make a family.
//!
//! Command line, server, tables and tests iterate [`FAMILIES`]; nothing else knows a family by
//! name. Adding one is its file in `models/` plus one line here.

use std::fmt::Debug;

use burn::prelude::Device;
use serde::{Serialize, de::DeserializeOwned};

use crate::data::HostBatch;
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::Scalars;
use crate::train::health::Health;
use crate::{Error, Result};

/// Every model family.
pub static FAMILIES: &[&dyn AnyFamily] = &[
    &Entry::<crate::models::Vae>(std::marker::PhantomData),
    &Entry::<crate::models::Cvae>(std::marker::PhantomData),
    &Entry::<crate::models::Autoencoder>(std::marker::PhantomData),
    &Entry::<crate::models::Dae>(std::marker::PhantomData),
    &Entry::<crate::models::Gan>(std::marker::PhantomData),
    &Entry::<crate::models::Dcgan>(std::marker::PhantomData),
    &Entry::<crate::models::Cgan>(std::marker::PhantomData),
    &Entry::<crate::models::Acgan>(std::marker::PhantomData),
    &Entry::<crate::models::Wgan>(std::marker::PhantomData),
    &Entry::<crate::models::StyleGan2>(std::marker::PhantomData),
    &Entry::<crate::models::PixelCnn>(std::marker::PhantomData),
    &Entry::<crate::models::GatedPixelCnn>(std::marker::PhantomData),
    &Entry::<crate::models::PixelCnnPp>(std::marker::PhantomData),
    &Entry::<crate::models::PixelRnn>(std::marker::PhantomData),
    &Entry::<crate::models::WaveNet>(std::marker::PhantomData),
    &Entry::<crate::models::VqVae>(std::marker::PhantomData),
    &Entry::<crate::models::Diffusion>(std::marker::PhantomData),
    &Entry::<crate::models::Ddpm>(std::marker::PhantomData),
    &Entry::<crate::models::FlowMatching>(std::marker::PhantomData),
];

/// What is said of a family to users.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Info {
    /// Name on the command line, kebab-case.
    pub id: &'static str,
    /// Name in full.
    pub title: &'static str,
    /// The paper it follows.
    pub paper: &'static str,
    /// When to use it, in one sentence.
    pub summary: &'static str,
    /// The image sizes it accepts.
    pub sizes: &'static str,
    /// The tasks its models answer.
    pub tasks: &'static [Task],
}

/// The images a model is made for.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Names of the classes; empty where the data have no labels.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Names of the attributes every image has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

impl DataSpec {
    /// Channels, height, width.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }
}

/// Settings of the optimisation that have a default per family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainDefaults {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Half-life of the averaged weights in images; zero keeps no average.
    pub average_half_life_images: f64,
}

/// What a trainer is made from besides its family's settings.
#[derive(Clone, Debug)]
pub struct TrainerContext {
    /// The images.
    pub spec: DataSpec,
    /// Seed of the run.
    pub seed: u64,
    /// A device with gradients.
    pub device: Device,
    /// Settings of Adam.
    pub adam: crate::optim::AdamConfig,
    /// Half-life of the averaged weights in images; zero keeps no average.
    pub average_half_life_images: f64,
}

/// The tensors of a trainer: what a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainState {
    /// Weights and running statistics.
    pub model: TensorMap,
    /// Averaged weights; empty where none are kept.
    pub ema: TensorMap,
    /// Optimizer moments and other state of training.
    pub optimizer: TensorMap,
}

/// One optimisation step: its micro-batches and its rates.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The batches whose gradients are averaged into one update.
    pub micro: &'a [HostBatch],
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Limit of the global gradient norm.
    pub clip_norm: Option<f64>,
}

/// A model in training.
pub trait Trainer: Send {
    /// One optimisation step; the scalars are means over the step's images.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    fn step(&mut self, step: &Step) -> Result<Scalars>;

    /// Losses of a batch that is not trained on; the first one is the one to minimise. Noise
    /// is keyed by `seed` and the batch, so that two evaluations differ by the weights only.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    fn validate(&self, batch: &HostBatch) -> Result<Scalars>;

    /// The state of training on a batch of validation images.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    fn health(&self, batch: &HostBatch) -> Result<Health>;

    /// Everything a checkpoint needs.
    fn save(&self) -> TrainState;

    /// Takes back what [`Trainer::save`] gave.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a tensor is missing, unused or of another shape.
    fn restore(&mut self, state: &TrainState) -> Result<()>;

    /// Takes the weights of another run as the start.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a tensor is missing, unused or of another shape.
    fn start_from(&mut self, weights: &TensorMap) -> Result<()>;

    /// The model as it stands, with averaged weights where they are kept.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    fn pipeline(&self) -> Result<Box<dyn Pipeline>>;

    /// Number of trained parameters.
    fn parameters(&self) -> usize;
}

/// A model family, typed.
pub trait Family: Send + Sync + 'static {
    /// Its settings: the `[model]` table of a recipe.
    type Config: Serialize + DeserializeOwned + Default + Clone + Debug;
    /// Its trainer.
    type Trainer: Trainer + 'static;
    /// What is said of it.
    const INFO: Info;
    /// Its defaults of optimisation.
    const TRAIN: TrainDefaults;

    /// The size images of this size are brought to when the settings do not say.
    fn natural_size(config: &Self::Config, height: usize, width: usize) -> (usize, usize);

    /// Checks settings against the images.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting and the remedy.
    fn check(config: &Self::Config, spec: &DataSpec) -> Result<()>;

    /// A new model in training.
    ///
    /// # Errors
    /// As [`Family::check`].
    fn trainer(config: &Self::Config, context: &TrainerContext) -> Result<Self::Trainer>;

    /// A trained model from its weights.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the weights do not fit.
    fn pipeline(
        config: &Self::Config,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>>;

    /// Settings, images and weights from files of tensors published for PyTorch, in any order.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tensors are not those of a network this family knows.
    fn import(
        files: &[TensorMap],
        config: Self::Config,
    ) -> Result<(Self::Config, DataSpec, TensorMap)>;

    /// A configuration and images small enough for tests.
    fn tiny() -> (Self::Config, DataSpec);
}

/// A family with its types erased: what [`FAMILIES`] lists.
pub trait AnyFamily: Send + Sync {
    /// What is said of it.
    fn info(&self) -> &'static Info;
    /// Its defaults of optimisation.
    fn train_defaults(&self) -> TrainDefaults;
    /// Its settings with every default written out.
    ///
    /// # Errors
    /// [`Error::Settings`] naming an unknown key or a wrong value of `table`.
    fn resolve(&self, table: &toml::Table) -> Result<toml::Table>;
    /// Checks the `[model]` table of a settings file, so that an error points into its text.
    ///
    /// # Errors
    /// The error of the TOML reader.
    fn check_text(&self, text: &str) -> std::result::Result<(), toml::de::Error>;
    /// [`Family::natural_size`] for the settings of `table`.
    ///
    /// # Errors
    /// As [`AnyFamily::resolve`].
    fn natural_size(
        &self,
        table: &toml::Table,
        height: usize,
        width: usize,
    ) -> Result<(usize, usize)>;
    /// [`Family::check`].
    ///
    /// # Errors
    /// As [`Family::check`].
    fn check(&self, table: &toml::Table, spec: &DataSpec) -> Result<()>;
    /// [`Family::trainer`].
    ///
    /// # Errors
    /// As [`Family::trainer`].
    fn trainer(&self, table: &toml::Table, context: &TrainerContext) -> Result<Box<dyn Trainer>>;
    /// [`Family::pipeline`].
    ///
    /// # Errors
    /// As [`Family::pipeline`].
    fn pipeline(
        &self,
        table: &toml::Table,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>>;
    /// [`Family::import`].
    ///
    /// # Errors
    /// As [`Family::import`].
    fn import(
        &self,
        files: &[TensorMap],
        table: &toml::Table,
    ) -> Result<(toml::Table, DataSpec, TensorMap)>;
    /// [`Family::tiny`].
    ///
    /// # Errors
    /// Never, unless the settings cannot be written as TOML, which is a bug.
    fn tiny(&self) -> Result<(toml::Table, DataSpec)>;
}

struct Entry<F>(std::marker::PhantomData<F>);

fn typed<F: Family>(table: &toml::Table) -> Result<F::Config> {
    table.clone().try_into().map_err(|error: toml::de::Error| {
        Error::settings(
            format!("[model] of family {}: {}", F::INFO.id, error.message()),
            format!(
                "`vermeer models describe {}` lists its settings",
                F::INFO.id
            ),
        )
    })
}

fn table<C: Serialize>(config: &C) -> Result<toml::Table> {
    toml::Table::try_from(config)
        .map_err(|error| Error::Failed(format!("settings cannot be written as TOML: {error}")))
}

impl<F: Family> AnyFamily for Entry<F> {
    fn info(&self) -> &'static Info {
        &F::INFO
    }

    fn train_defaults(&self) -> TrainDefaults {
        F::TRAIN
    }

    fn resolve(&self, settings: &toml::Table) -> Result<toml::Table> {
        table(&typed::<F>(settings)?)
    }

    fn check_text(&self, text: &str) -> std::result::Result<(), toml::de::Error> {
        #[derive(serde::Deserialize)]
        struct ModelOnly<C> {
            #[serde(rename = "model")]
            _model: Option<C>,
        }
        toml::from_str::<ModelOnly<F::Config>>(text).map(|_| ())
    }

    fn natural_size(
        &self,
        settings: &toml::Table,
        height: usize,
        width: usize,
    ) -> Result<(usize, usize)> {
        Ok(F::natural_size(&typed::<F>(settings)?, height, width))
    }

    fn check(&self, settings: &toml::Table, spec: &DataSpec) -> Result<()> {
        if ![1, 3].contains(&spec.channels) {
            return Err(Error::settings(
                format!("{} channels are not supported", spec.channels),
                "set data.channels to 1 (grey) or 3 (RGB)",
            ));
        }
        F::check(&typed::<F>(settings)?, spec)
    }

    fn trainer(
        &self,
        settings: &toml::Table,
        context: &TrainerContext,
    ) -> Result<Box<dyn Trainer>> {
        self.check(settings, &context.spec)?;
        Ok(Box::new(F::trainer(&typed::<F>(settings)?, context)?))
    }

    fn pipeline(
        &self,
        settings: &toml::Table,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        F::pipeline(&typed::<F>(settings)?, spec, weights, device)
    }

    fn import(
        &self,
        files: &[TensorMap],
        settings: &toml::Table,
    ) -> Result<(toml::Table, DataSpec, TensorMap)> {
        let (config, spec, weights) = F::import(files, typed::<F>(settings)?)?;
        Ok((table(&config)?, spec, weights))
    }

    fn tiny(&self) -> Result<(toml::Table, DataSpec)> {
        let (config, spec) = F::tiny();
        Ok((table(&config)?, spec))
    }
}

/// The family with this id.
///
/// # Errors
/// [`Error::Settings`] with the nearest names when there is none.
pub fn family(id: &str) -> Result<&'static dyn AnyFamily> {
    FAMILIES
        .iter()
        .copied()
        .find(|f| f.info().id == id)
        .ok_or_else(|| {
            let names: Vec<_> = FAMILIES.iter().map(|f| f.info().id).collect();
            Error::settings(
                format!("there is no model family {id:?}"),
                format!("{}; `vermeer models list` shows all", suggest(id, &names)),
            )
        })
}

/// "did you mean …" with the nearest of `names`, or all of them when none is near.
pub fn suggest(word: &str, names: &[&str]) -> String {
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(word, name), *name))
        .collect();
    near.sort();
    let close: Vec<_> = near
        .iter()
        .filter(|(d, name)| *d <= 1 + name.len() / 3)
        .take(3)
        .map(|(_, n)| format!("`{n}`"))
        .collect();
    match close.is_empty() {
        true => format!(
            "known are {}",
            names
                .iter()
                .map(|n| format!("`{n}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        false => format!("did you mean {}?", close.join(" or ")),
    }
}

/// The Levenshtein distance of two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_hand_counted() {
        for (a, b, d) in [
            ("", "", 0),
            ("vae", "vae", 0),
            ("vea", "vae", 2),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn a_misspelt_family_is_answered_with_the_nearest() {
        let error = family("dcgn").err().unwrap();
        assert!(error.remedy().unwrap().contains("`dcgan`"), "{error:?}");
    }
}
