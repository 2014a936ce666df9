//! The runs that are compared.

use std::path::PathBuf;

use burn::prelude::Device;
use vermeer::pipeline::{self, Model, Use, Which};
use vermeer::run::{RunDir, RunRecord};
use vermeer::task::{Task, unsupported};
use vermeer::{Error, Result};

use crate::terminal::Terminal;

/// A run with what is known of it before its model is used.
pub(super) struct Contender {
    /// Its folder.
    pub(super) run: RunDir,
    /// Its name, unlike that of every other.
    pub(super) name: String,
    /// Who made it.
    pub(super) record: RunRecord,
    /// Family, images, preprocessing.
    pub(super) usage: Use,
    /// Step of the checkpoint.
    pub(super) step: u64,
    /// Sum of the checkpoint.
    pub(super) digest: String,
}

impl Contender {
    /// Opens the model.
    ///
    /// # Errors
    /// When the checkpoint went away or changed.
    pub(super) fn model(&self, device: &Device) -> Result<Model> {
        let model = pipeline::open(&self.run, Which::Step(self.step), device)?;
        match model.digest == self.digest {
            true => Ok(model),
            false => Err(Error::Failed(format!(
                "{} changed while it was compared",
                self.run.path().display()
            ))),
        }
    }
}

/// Opens every run and sees that its model makes images.
///
/// # Errors
/// [`Error::Settings`] for a folder that is no run, a run that is named twice and a model that
/// makes no images; [`Error::Checkpoint`] for one that does not load.
pub(super) fn all(
    folders: &[PathBuf],
    device: &Device,
    terminal: &Terminal,
) -> Result<Vec<Contender>> {
    let mut contenders: Vec<Contender> = Vec::with_capacity(folders.len());
    let mut places: Vec<PathBuf> = Vec::with_capacity(folders.len());
    for folder in folders {
        let run = RunDir::open(folder)?;
        let place = folder
            .canonicalize()
            .map_err(|error| Error::io(folder, error))?;
        if places.contains(&place) {
            return Err(Error::settings(
                format!("the run {} is named twice", folder.display()),
                "name each run once",
            ));
        }
        places.push(place);
        let model = pipeline::open(&run, Which::Latest, device)?;
        model
            .warnings
            .iter()
            .for_each(|warning| terminal.warn(warning));
        if !model.pipeline.tasks().contains(&Task::Generate) {
            let tasks = model.pipeline.tasks();
            return Err(unsupported(&model.usage.family, Task::Generate, tasks));
        }
        let name = free_name(&run.name(), &contenders);
        contenders.push(Contender {
            name,
            record: RunRecord::read(&run)?,
            run,
            usage: model.usage,
            step: model.step,
            digest: model.digest,
        });
    }
    Ok(contenders)
}

/// `name`, or the first of `name-2`, `name-3`, … that no other run has.
fn free_name(name: &str, others: &[Contender]) -> String {
    let taken = |name: &String| others.iter().any(|other| other.name == *name);
    let numbered = (2u64..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}
