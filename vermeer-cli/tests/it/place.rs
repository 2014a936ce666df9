//! An empty folder in which `vermeer` is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vermeer::data::Fit;
use vermeer::registry::AnyFamily;
use vermeer::train::{DataSettings, Settings, Size, TrainSettings};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder goes away with this value.
pub(crate) struct Place(TempDir);

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// This, if it ended with `code`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// Its results as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A command that runs here, its output kept.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vermeer"));
        command
            .args(words)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `vermeer` to its end.
    pub(crate) fn vermeer(&self, words: &[&str]) -> Said {
        let output = self.command(words).output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts `vermeer` without listening to it.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        Running(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Every file and folder here, with the bytes of files.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        everything(self.0.path())
    }

    /// Writes a recipe for a small model of a family, on which a step takes milliseconds.
    pub(crate) fn recipe(
        &self,
        family: &dyn AnyFamily,
        name: &str,
        change: impl FnOnce(&mut TrainSettings),
    ) {
        let (model, spec) = family.tiny().unwrap();
        let mut settings = Settings {
            name: name.to_owned(),
            family: family.info().id.to_owned(),
            seed: 1,
            model,
            data: DataSettings {
                source: format!("world:glyphs?count=64&size=32&channels={}", spec.channels),
                size: Some(Size::Sides([spec.height, spec.width])),
                channels: Some(spec.channels),
                fit: Some(Fit::Stretch),
                ..DataSettings::default()
            },
            train: TrainSettings {
                steps: 60,
                batch_size: 8,
                log_every: 10,
                validate_every: 30,
                validation_images: 8,
                sample_every: 60,
                samples: 4,
                save_every: 30,
                ..TrainSettings::default()
            },
            ..Settings::default()
        };
        change(&mut settings.train);
        self.file(&format!("{name}.toml"), settings.text().unwrap());
    }

    /// Trains a small model of a family for a few steps.
    pub(crate) fn trained(&self, family: &dyn AnyFamily, name: &str) {
        self.recipe(family, name, |train| train.steps = 3);
        self.vermeer(&["train", &format!("{name}.toml"), "--quiet"])
            .ended(0);
    }
}

/// Every file and folder below a folder, with the bytes of files.
pub(crate) fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(place) = pending.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            if path.is_dir() {
                found.insert(name, vec![]);
                pending.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A process that is killed with this value.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Whether it is still at work.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The folder of published data and weights, if there is one here.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("VERMEER_SHARED")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("skipped: VERMEER_SHARED names no folder of published data and weights");
    }
    folder
}
