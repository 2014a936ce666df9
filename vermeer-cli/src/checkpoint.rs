//! Which model a command works with: a run, one of its checkpoints, a device.

use std::path::PathBuf;

use burn::prelude::Device;
use vermeer::Result;
use vermeer::pipeline::{self, Model, Which};
use vermeer::run::RunDir;
use vermeer::task::{Task, unsupported};

use crate::terminal::Terminal;

// A doc comment here would become the description of every command that takes these arguments.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the run whose model is used.
    run: PathBuf,
    /// Checkpoint to use: `latest`, `best` (lowest validation loss), or a step.
    #[arg(long, default_value = "latest", value_parser = which, value_name = "WHICH")]
    checkpoint: Which,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl ModelArgs {
    /// The run, without reading its checkpoint.
    ///
    /// # Errors
    /// When the folder holds no run.
    pub(crate) fn run(&self) -> Result<RunDir> {
        RunDir::open(&self.run)
    }

    /// The device.
    ///
    /// # Errors
    /// When this build does not know it.
    pub(crate) fn device(&self) -> Result<Device> {
        vermeer::device::parse(&self.device)
    }

    /// Opens the model and says what was noticed on the way.
    ///
    /// # Errors
    /// When the run, its checkpoint or the device cannot be used.
    pub(crate) fn open(&self, terminal: &Terminal) -> Result<Model> {
        let model = pipeline::open(&self.run()?, self.checkpoint, &self.device()?)?;
        model
            .warnings
            .iter()
            .for_each(|warning| terminal.warn(warning));
        Ok(model)
    }
}

/// Refuses a task the model does not answer.
///
/// # Errors
/// [`vermeer::Error::Settings`] naming those it does.
pub(crate) fn able(model: &Model, task: Task) -> Result<()> {
    let tasks = model.pipeline.tasks();
    match tasks.contains(&task) {
        true => Ok(()),
        false => Err(unsupported(&model.usage.family, task, tasks)),
    }
}

/// A checkpoint by name or step.
pub(crate) fn which(text: &str) -> Result<Which, String> {
    match text {
        "latest" => Ok(Which::Latest),
        "best" => Ok(Which::Best),
        step => step
            .trim_start_matches("step-")
            .parse()
            .map(Which::Step)
            .map_err(|_| "expected `latest`, `best` or a step such as 5000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_named_as_people_do() {
        for (text, expected) in [
            ("latest", Some(Which::Latest)),
            ("best", Some(Which::Best)),
            ("500", Some(Which::Step(500))),
            ("step-000000500", Some(Which::Step(500))),
            ("last", None),
            ("-1", None),
        ] {
            assert_eq!(which(text).ok(), expected, "{text}");
        }
    }
}
