//! `vermeer models import`: published weights as a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use vermeer::data::{Fit, Preprocess};
use vermeer::import::read;
use vermeer::pipeline::Use;
use vermeer::registry::{AnyFamily, DataSpec, FAMILIES, family};
use vermeer::run::{Checkpoint, RunDir, RunRecord, RunStatus, TensorMap};
use vermeer::train::{DataSettings, Settings, Size};
use vermeer::{Error, Result};
use vermeer_image::{Filter, write_atomic};

use crate::commands::typed;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models import mnist_vae.pth -o runs/vae-mnist
  vermeer models import generator.pth discriminator.pth --family dcgan -o runs/dcgan-mnist
  vermeer models import weights.safetensors -o runs/mine --set model.beta=4.0

Nothing in a file is executed; one that would run code is refused by the name it calls.";

/// Turn weights published for PyTorch into a run.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files of weights: .pth, .pt, .ckpt or .safetensors; several where a model has several
    /// networks.
    #[arg(required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Family of the model; every one is tried when absent.
    #[arg(long)]
    family: Option<String>,
    /// Folder of the new run.
    #[arg(short, long, value_name = "RUN")]
    out: PathBuf,
    /// A setting that the weights do not tell, such as model.likelihood=gaussian.
    #[arg(long, value_name = "model.KEY=VALUE")]
    set: Vec<String>,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

/// A model as its family understood the files.
struct Found {
    family: &'static dyn AnyFamily,
    model: toml::Table,
    spec: DataSpec,
    weights: TensorMap,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let mut files = Vec::with_capacity(self.file.len());
        for path in &self.file {
            if !path.exists() {
                return Err(Error::settings(
                    format!("{}: there is no such file", path.display()),
                    "name a file of weights",
                ));
            }
            let imported = read(path)?;
            for note in &imported.notes {
                terminal.note(&format!("{}: {note}", path.display()));
            }
            files.push(imported.tensors);
        }
        let found = self.find(&files)?;
        // Weights of a wrong shape are noticed before there is a run.
        let device = vermeer::device::parse("cpu")?;
        found
            .family
            .pipeline(&found.model, &found.spec, &found.weights, &device)?;

        let (root, name) = place(&self.out)?;
        let run = RunDir::create(root, &name)?;
        if let Err(error) = fill(&run, &name, &found) {
            // The first error is the one to report.
            let _ = run.discard();
            return Err(error);
        }
        let parameters: usize = found.weights.values().map(|tensor| tensor.data.len()).sum();
        let id = found.family.info().id;
        if self.json {
            return terminal.json(&json!({
                "run": run.path().display().to_string(),
                "family": id,
                "model": found.model,
                "images": found.spec,
                "tensors": found.weights.len(),
                "values": parameters,
            }));
        }
        terminal.note(&format!(
            "{id}: {} tensors, {parameters} values",
            found.weights.len()
        ));
        terminal.result(&run.path().display().to_string())
    }

    /// The family whose network the files hold.
    fn find(&self, files: &[TensorMap]) -> Result<Found> {
        let families = match &self.family {
            Some(id) => vec![family(id)?],
            None => FAMILIES.to_vec(),
        };
        let mut found = vec![];
        let mut errors = vec![];
        for family in families {
            match self
                .table(family)
                .and_then(|table| family.import(files, &table))
            {
                Ok((model, spec, weights)) => found.push(Found {
                    family,
                    model,
                    spec,
                    weights,
                }),
                Err(error) => errors.push((family.info().id, error)),
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(Error::settings(
                "several families understand these weights",
                "say which one is meant with --family",
            )),
            (None, _) if self.family.is_some() && errors.len() == 1 => {
                Err(named(errors.remove(0).1, &self.shown()))
            }
            (None, _) => {
                let reasons: Vec<String> = errors
                    .iter()
                    .map(|(id, error)| format!("{id}: {error}"))
                    .collect();
                Err(Error::checkpoint(
                    self.shown(),
                    format!("no family knows these weights\n{}", reasons.join("\n")),
                    "`vermeer models list` shows the families; docs/families says under \"Published weights\" which networks each reads",
                ))
            }
        }
    }

    /// The `[model]` table that was typed.
    fn table(&self, family: &dyn AnyFamily) -> Result<toml::Table> {
        if let Some(other) = self
            .set
            .iter()
            .find(|assignment| !assignment.starts_with("model."))
        {
            return Err(Error::settings(
                format!("--set {other}: weights have settings of the model only"),
                "write --set model.key=value",
            ));
        }
        let settings = Settings {
            family: family.info().id.to_owned(),
            ..Settings::default()
        };
        Ok(settings.with(&self.set)?.model)
    }

    /// The files in one name.
    fn shown(&self) -> String {
        let names: Vec<String> = self
            .file
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(", ")
    }
}

/// The error of a family, with the files instead of the weights it knows them as.
fn named(error: Error, files: &str) -> Error {
    match error {
        Error::Checkpoint { reason, remedy, .. } => Error::checkpoint(files, reason, remedy),
        other => other,
    }
}

/// The folder a run is made in, and its name.
fn place(out: &Path) -> Result<(&Path, String)> {
    let Some(name) = out.file_name() else {
        return Err(Error::settings(
            format!("{} cannot be the folder of a run", out.display()),
            "name a new folder, such as runs/imported",
        ));
    };
    let root = out
        .parent()
        .filter(|root| !root.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((root, name.to_string_lossy().into_owned()))
}

/// Writes everything of an imported run into its empty folder.
fn fill(run: &RunDir, name: &str, found: &Found) -> Result<()> {
    let _lock = run.lock()?;
    let spec = &found.spec;
    let id = found.family.info().id;
    let fit = Fit::Crop;
    let settings = Settings {
        name: name.to_owned(),
        family: id.to_owned(),
        model: found.model.clone(),
        data: DataSettings {
            size: Some(Size::Sides([spec.height, spec.width])),
            channels: Some(spec.channels),
            fit: Some(fit),
            ..DataSettings::default()
        },
        ..Settings::default()
    };
    let text = settings.text()?;
    write_atomic(&run.config_path(), text.as_bytes())?;
    let mut record = RunRecord::new(name, id);
    record.argv = typed();
    record.status = RunStatus::Imported;
    record.config_digest = vermeer::sha256_hex(text.as_bytes());
    record.write(run)?;
    let usage = Use {
        family: id.to_owned(),
        model: found.model.clone(),
        spec: spec.clone(),
        preprocess: Preprocess {
            height: spec.height,
            width: spec.width,
            channels: spec.channels,
            fit,
            filter: Filter::Bicubic,
            background: settings.data.background,
            flip: false,
        },
    };
    let checkpoint = Checkpoint {
        step: 0,
        files: BTreeMap::from([("model".to_owned(), found.weights.clone())]),
        state: usage.to_state()?,
    };
    run.checkpoints().save(&checkpoint, 1, &[])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_made_where_it_was_asked_for() {
        for (out, expected) in [
            ("runs/a", Some(("runs", "a"))),
            ("a", Some((".", "a"))),
            ("/", None),
            ("..", None),
        ] {
            let place = place(Path::new(out)).ok();
            assert_eq!(
                place,
                expected.map(|(root, name)| (Path::new(root), name.to_owned())),
                "{out}"
            );
        }
    }
}
