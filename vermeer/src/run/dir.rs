//! The folder of a run: where everything lies, and the rule that a run is never written over.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run::checkpoints::Checkpoints;
use crate::run::commit;
use crate::run::lock::RunLock;

/// The folder of one run. Holding one says that the folder exists, not that it may be written:
/// for that take its [`lock`](Self::lock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder `root/name` with `checkpoints/` and `samples/` in it.
    ///
    /// # Errors
    /// When the name is no plain file name, when the folder exists already (a run is never written
    /// over), or when it cannot be made; then nothing is left behind.
    pub fn create(root: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        fs::create_dir_all(root).map_err(|source| Error::io(root, source))?;
        let path = root.join(name);
        match fs::create_dir(&path) {
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::settings(
                    format!("the run {} exists already", path.display()),
                    format!(
                        "choose another name, continue it with `vermeer train {} --resume`, \
                         or remove the folder",
                        path.display()
                    ),
                ));
            }
            made => made.map_err(|source| Error::io(&path, source))?,
        }
        let run = Self { path };
        for folder in [run.path.join("checkpoints"), run.path.join("samples")] {
            if let Err(source) = fs::create_dir(&folder) {
                run.discard()?;
                return Err(Error::io(folder, source));
            }
        }
        Ok(run)
    }

    /// An existing run: a folder that holds `run.json`.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let run = Self { path: path.into() };
        if run.record_path().is_file() {
            return Ok(run);
        }
        Err(Error::settings(
            format!("{} is no run: it holds no run.json", run.path.display()),
            "give the folder of a run; `vermeer runs list` shows those there are",
        ))
    }

    /// Every run in a folder, sorted by name. A missing folder holds none.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(root) {
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| Error::io(root, source))?,
        };
        let mut runs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::io(root, source))?;
            runs.extend(Self::open(entry.path()).ok());
        }
        runs.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(runs)
    }

    /// Takes the right to write into the run, and clears away what a writer that died left
    /// unfinished.
    ///
    /// # Errors
    /// When another process holds the run, naming it, or when the folder cannot be written.
    pub fn lock(&self) -> Result<RunLock> {
        let lock = RunLock::acquire(&self.path)?;
        commit::remove_temporaries(&self.path)?;
        if self.samples_path().is_dir() {
            commit::remove_temporaries(&self.samples_path())?;
        }
        self.checkpoints().recover()?;
        Ok(lock)
    }

    /// Whether a process writes into the run.
    pub fn is_held(&self) -> bool {
        super::lock::is_held(&self.path)
    }

    /// Removes the folder of a run that never came to a checkpoint, after a failed start.
    ///
    /// # Errors
    /// When it holds a checkpoint, or when it cannot be removed.
    pub fn discard(self) -> Result<()> {
        if !self.checkpoints().list().is_empty() {
            return Err(Error::Failed(format!(
                "{} holds checkpoints and is kept",
                self.path.display()
            )));
        }
        fs::remove_dir_all(&self.path).map_err(|source| Error::io(self.path, source))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name: the last part of its path.
    pub fn name(&self) -> String {
        let named = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        named
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// `run.json`, read and written as [`RunRecord`](crate::run::RunRecord).
    pub fn record_path(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// `config.toml`: every setting, resolved.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `metrics.jsonl`, written by [`MetricsWriter`](crate::run::MetricsWriter).
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `README.md`: the model card.
    pub fn readme_path(&self) -> PathBuf {
        self.path.join("README.md")
    }

    /// `report.html`: the report with pictures and curves.
    pub fn report_path(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The folder of sample pictures.
    pub fn samples_path(&self) -> PathBuf {
        self.path.join("samples")
    }

    /// The picture of the samples after a step.
    pub fn sample_path(&self, step: u64) -> PathBuf {
        self.samples_path().join(format!("{}.png", step_name(step)))
    }

    /// The picture of images and their reconstructions after a step.
    pub fn reconstruction_path(&self, step: u64) -> PathBuf {
        self.samples_path()
            .join(format!("reconstruction-{step:09}.png"))
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.path.join("checkpoints"))
    }
}

/// `step-000012000`: sorts as text in the order of the steps.
pub(crate) fn step_name(step: u64) -> String {
    format!("step-{step:09}")
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "-_.+= ".contains(c);
    if name.is_empty() || name.len() > 120 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Error::settings(
            format!("{name:?} cannot be the name of a run"),
            "use at most 120 letters, digits, '-', '_', '+', '=', '.' or spaces, \
             and no dot at the start",
        ));
    }
    Ok(())
}

/// A path as a word of a command, quoted where it must be.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/-_.+=,:@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_never_written_over() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("runs"), "first").unwrap();
        assert!(run.samples_path().is_dir() && run.path().join("checkpoints").is_dir());
        fs::write(run.record_path(), b"{}").unwrap();

        let error = RunDir::create(&root.path().join("runs"), "first").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.remedy().unwrap().contains("--resume"), "{error}");
        assert_eq!(fs::read(run.record_path()).unwrap(), b"{}");
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "../a",
            ".hidden",
            "a\nb",
            &"x".repeat(121),
        ] {
            assert!(RunDir::create(root.path(), name).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert_eq!(
            RunDir::create(root.path(), "Gläser v2.1").unwrap().name(),
            "Gläser v2.1"
        );
    }

    #[test]
    fn only_folders_with_a_record_are_runs() {
        let root = tempfile::tempdir().unwrap();
        assert!(
            RunDir::all(&root.path().join("missing"))
                .unwrap()
                .is_empty()
        );
        for name in ["b", "a", "no-run"] {
            let run = RunDir::create(root.path(), name).unwrap();
            if name.len() == 1 {
                fs::write(run.record_path(), b"{}").unwrap();
            }
        }
        fs::write(root.path().join("file"), b"").unwrap();
        let names: Vec<_> = RunDir::all(root.path())
            .unwrap()
            .iter()
            .map(RunDir::name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            RunDir::open(root.path().join("no-run"))
                .unwrap_err()
                .exit_code(),
            2
        );
    }

    #[test]
    fn sample_pictures_sort_by_step() {
        let run = RunDir {
            path: PathBuf::from("runs/x"),
        };
        assert_eq!(
            run.sample_path(12_000),
            Path::new("runs/x/samples/step-000012000.png")
        );
    }

    #[test]
    fn a_failed_start_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "x").unwrap();
        run.discard().unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
