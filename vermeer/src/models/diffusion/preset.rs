//! Families that share the code of diffusion models: each says which settings it has, what they
//! mean in those of a diffusion model, and their defaults.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::module::Module;
use burn::prelude::Device;
use serde::{Serialize, de::DeserializeOwned};

use super::pipeline::DiffusionPipeline;
use super::{DiffusionConfig, DiffusionTrainer};
use crate::nn::{Init, load};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::{Error, Result};

/// What every family of diffusion models answers.
pub const TASKS: &[Task] = &[
    Task::Generate,
    Task::Reconstruct,
    Task::Encode,
    Task::Interpolate,
];

/// A choice of settings with an id of its own.
pub trait Preset: Send + Sync + 'static {
    /// Its settings: the `[model]` table of a recipe.
    type Config: Serialize + DeserializeOwned + Default + Clone + Debug;
    /// What is said of it; its tasks are [`TASKS`].
    const INFO: Info;

    /// Its settings as those of a diffusion model.
    fn settings(config: &Self::Config) -> DiffusionConfig;

    /// Settings small enough for tests, with classes.
    fn tiny() -> Self::Config;

    /// [`Family::import`]; a preset knows no published weights unless it says so.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tensors are not those of a network it knows.
    fn import(
        _files: &[TensorMap],
        _config: Self::Config,
    ) -> Result<(Self::Config, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            format!("family {} knows no published weights", Self::INFO.id),
            "published diffusion networks are imported with --family diffusion",
        ))
    }
}

/// The family of a preset.
pub struct DiffusionFamily<P>(PhantomData<P>);

impl<P: Preset> Family for DiffusionFamily<P> {
    type Config = P::Config;
    type Trainer = DiffusionTrainer;

    const INFO: Info = P::INFO;

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(config: &P::Config, height: usize, width: usize) -> (usize, usize) {
        P::settings(config).natural_size(height, width)
    }

    fn check(config: &P::Config, spec: &DataSpec) -> Result<()> {
        P::settings(config).check(spec)
    }

    fn trainer(config: &P::Config, context: &TrainerContext) -> Result<DiffusionTrainer> {
        let config = P::settings(config);
        Ok(DiffusionTrainer::new(&config, context, &P::INFO))
    }

    fn pipeline(
        config: &P::Config,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let config = P::settings(config);
        let net = load(
            config.init(spec, &Init::blank(device)),
            weights,
            "model.safetensors".as_ref(),
        )?;
        Ok(Box::new(DiffusionPipeline::new(
            net.valid(),
            &config,
            spec,
            device,
            &P::INFO,
        )))
    }

    fn import(files: &[TensorMap], config: P::Config) -> Result<(P::Config, DataSpec, TensorMap)> {
        P::import(files, config)
    }

    fn tiny() -> (P::Config, DataSpec) {
        let spec = DataSpec {
            channels: 1,
            height: 12,
            width: 8,
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            attributes: vec![],
        };
        (P::tiny(), spec)
    }
}
