//! A trained model from a run: the weights of a checkpoint, ready to answer requests.

use std::path::Path;

use burn::prelude::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::data::Preprocess;
use crate::registry::{DataSpec, family};
use crate::run::{Checkpoint, RunDir, TensorMap};
use crate::task::Pipeline;
use crate::{Error, Result};

/// What a checkpoint says of the use of its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Use {
    /// Id of the family.
    pub family: String,
    /// Settings of the network.
    pub model: toml::Table,
    /// Shape and classes of the images.
    pub spec: DataSpec,
    /// What is done to an image before the model sees it.
    pub preprocess: Preprocess,
}

impl Use {
    /// As entries of a checkpoint's state.
    ///
    /// # Errors
    /// Never; settings are plain data.
    pub fn to_state(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(Error::Failed(
                "the use of a model cannot be written as JSON".into(),
            )),
        }
    }

    fn of(checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        serde_json::from_value(Value::Object(checkpoint.state.clone())).map_err(|error| {
            Error::checkpoint(
                path,
                format!("state.json does not say how to use the model: {error}"),
                "train or import the model again",
            )
        })
    }
}

/// Which checkpoint of a run to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    #[default]
    Latest,
    /// The one with the lowest validation loss.
    Best,
    /// The one of this step.
    Step(u64),
}

/// A model of a run, ready for use.
pub struct Model {
    /// Answers requests.
    pub pipeline: Box<dyn Pipeline>,
    /// Family, images, preprocessing.
    pub usage: Use,
    /// Step of the checkpoint.
    pub step: u64,
    /// SHA-256 over the sums of the checkpoint's files.
    pub digest: String,
    /// What was noticed while reading, such as skipped checkpoints.
    pub warnings: Vec<String>,
}

fn read(run: &RunDir, which: Which) -> Result<(Checkpoint, Vec<String>)> {
    let checkpoints = run.checkpoints();
    match which {
        Which::Latest => checkpoints.load_latest(),
        Which::Best => Ok((checkpoints.load_best()?, vec![])),
        Which::Step(step) => Ok((checkpoints.load(step)?, vec![])),
    }
}

/// The tensors a model is used with: averaged ones where they are kept, the others as trained.
fn weights(checkpoint: &Checkpoint) -> TensorMap {
    let file = |name: &str| checkpoint.files.get(name).cloned().unwrap_or_default();
    let mut weights = file("model");
    weights.extend(file("ema"));
    weights
}

/// Opens the model of a run.
///
/// # Errors
/// [`Error::Checkpoint`] when no checkpoint can be read or its weights do not fit.
pub fn open(run: &RunDir, which: Which, device: &Device) -> Result<Model> {
    let (checkpoint, warnings) = read(run, which)?;
    let usage = Use::of(&checkpoint, run.path())?;
    let folder = run
        .path()
        .join("checkpoints")
        .join(crate::run::step_name(checkpoint.step));
    let pipeline = family(&usage.family)?
        .pipeline(&usage.model, &usage.spec, &weights(&checkpoint), device)
        .map_err(|error| error.within(&folder))?;
    let sums = folder.join("SHA256SUMS");
    let sums = std::fs::read(&sums).map_err(|error| Error::io(&sums, error))?;
    Ok(Model {
        pipeline,
        usage,
        step: checkpoint.step,
        digest: crate::sha256_hex(&sums),
        warnings,
    })
}

/// The weights another run may start from, as trained (not averaged).
///
/// # Errors
/// [`Error::Checkpoint`] when no checkpoint can be read.
pub fn start_weights(run: &RunDir, which: Which) -> Result<TensorMap> {
    let (checkpoint, _) = read(run, which)?;
    Ok(checkpoint.files.get("model").cloned().unwrap_or_default())
}
