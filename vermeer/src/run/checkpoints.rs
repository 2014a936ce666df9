//! The checkpoints of a run: each appears whole or not at all, and the newest good one loads.
//!
//! A checkpoint is written into `step-N.tmp-*`, synced, renamed to `step-N`, and only then does
//! `LATEST` name it; older ones are removed last. Where a checkpoint of the same step has to give
//! way, it is called `step-N.replaced` until the new one has its name, and is read meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run::checkpoint::{Checkpoint, same};
use crate::run::commit;
use crate::run::dir::step_name;

/// Names the checkpoint that a resumed training starts from.
const LATEST: &str = "LATEST";
/// Names the checkpoint with the best validation value.
const BEST: &str = "BEST";
/// What follows the name of a checkpoint that gives way to another of the same step.
const REPLACED: &str = "replaced";

/// The folder `checkpoints/` of a run. Reading needs no lock; writing needs the run's.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    /// The checkpoints in a folder, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Saves a checkpoint, makes it the latest, and removes older ones beyond the newest
    /// `keep_last`. The best one and those of the steps in `keep` stay. Returns its folder.
    ///
    /// A checkpoint that lies there already with the same content is kept as it is.
    ///
    /// # Errors
    /// When the disk has less room than twice the checkpoint, is full or cannot be written;
    /// then nothing unfinished is left behind and the checkpoints before stay.
    pub fn save(&self, checkpoint: &Checkpoint, keep_last: usize, keep: &[u64]) -> Result<PathBuf> {
        fs::create_dir_all(&self.dir).map_err(|source| Error::io(&self.dir, source))?;
        self.check_room(2 * checkpoint.size())?;
        let folder = self.dir.join(step_name(checkpoint.step));
        let unfinished = Unfinished::create(&folder)?;
        checkpoint.write(&unfinished.0)?;
        commit::sync_folder(&unfinished.0)?;
        if !same(&unfinished.0, &folder) {
            self.place(&unfinished.0, &folder)?;
        }
        drop(unfinished);
        self.point(LATEST, checkpoint.step)?;
        self.prune(checkpoint.step, keep_last, keep)?;
        Ok(folder)
    }

    /// The newest checkpoint that loads, starting from the one `LATEST` names, and a sentence
    /// for each that did not.
    ///
    /// # Errors
    /// When there is none, or none loads.
    pub fn load_latest(&self) -> Result<(Checkpoint, Vec<String>)> {
        let steps = self.list();
        let Some(latest) = self.pointed(LATEST).or(steps.last().copied()) else {
            return Err(Error::checkpoint(
                &self.dir,
                "holds no checkpoint",
                "train until the first one is saved, or choose another run",
            ));
        };
        // The one named, then those before it, then those after it, which a process that died
        // before it could name them, or one resumed from an earlier step, left.
        let before = steps.iter().rev().filter(|&&step| step < latest);
        let after = steps.iter().filter(|&&step| step > latest);
        let mut failures: Vec<Error> = Vec::new();
        for &step in [latest].iter().chain(before).chain(after) {
            match self.load(step) {
                Ok(checkpoint) => {
                    let skipped = failures
                        .iter()
                        .map(|error| format!("{error}; this checkpoint is skipped"));
                    return Ok((checkpoint, skipped.collect()));
                }
                Err(error) => failures.push(error),
            }
        }
        if failures.len() == 1 {
            return Err(failures.remove(0));
        }
        let reasons: Vec<String> = failures.iter().map(Error::to_string).collect();
        Err(Error::checkpoint(
            &self.dir,
            format!(
                "none of {} checkpoints loads: {}",
                reasons.len(),
                reasons.join("; ")
            ),
            "restore one of them from a copy, or train again under another name",
        ))
    }

    /// The checkpoint of a step.
    ///
    /// # Errors
    /// When it is missing or damaged, naming the file.
    pub fn load(&self, step: u64) -> Result<Checkpoint> {
        let folder = self.dir.join(step_name(step));
        let aside = folder.with_extension(REPLACED);
        let folder = if !folder.exists() && aside.exists() {
            aside
        } else {
            folder
        };
        if !folder.exists() {
            let steps: Vec<String> = self.list().iter().map(u64::to_string).collect();
            return Err(Error::settings(
                format!("there is no checkpoint of step {step}"),
                format!("there are those of steps {}", steps.join(", ")),
            ));
        }
        Checkpoint::read(&folder, step)
    }

    /// The checkpoint with the best validation value.
    ///
    /// # Errors
    /// When none was named best, or it is missing or damaged.
    pub fn load_best(&self) -> Result<Checkpoint> {
        let step = self.best_step().ok_or_else(|| {
            Error::settings(
                "the run has no best checkpoint: no validation loss has been measured",
                "use the latest checkpoint or that of a step (a GAN has no loss to be best at)",
            )
        })?;
        self.load(step)
    }

    /// The steps of all checkpoints, ascending, damaged ones included.
    pub fn list(&self) -> Vec<u64> {
        let mut steps = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let aside = name
                .strip_suffix(REPLACED)
                .and_then(|name| name.strip_suffix('.'));
            steps.extend(step_of(aside.unwrap_or(&name)));
        }
        steps.into_iter().collect()
    }

    /// Names a checkpoint as the best. It stays until another one is named.
    ///
    /// # Errors
    /// When there is no checkpoint of that step, or the disk refuses.
    pub fn set_best(&self, step: u64) -> Result<()> {
        if !self.list().contains(&step) {
            return Err(Error::checkpoint(
                self.dir.join(step_name(step)),
                "does not exist and cannot be the best checkpoint",
                "save the checkpoint first",
            ));
        }
        self.point(BEST, step)
    }

    /// The step that `LATEST` names, or the last one there is.
    pub fn latest_step(&self) -> Option<u64> {
        let steps = self.list();
        self.pointed(LATEST)
            .filter(|step| steps.contains(step))
            .or(steps.last().copied())
    }

    /// The step that `BEST` names.
    pub fn best_step(&self) -> Option<u64> {
        self.pointed(BEST)
    }

    /// Clears away what a writer that died left, and gives replaced checkpoints whose successor
    /// never came their name back. Only the holder of the run's lock may call this.
    pub(super) fn recover(&self) -> Result<()> {
        commit::remove_temporaries(&self.dir)?;
        for step in self.list() {
            let folder = self.dir.join(step_name(step));
            let aside = folder.with_extension(REPLACED);
            match (folder.exists(), aside.exists()) {
                (true, true) => commit::remove_folder(&aside)?,
                (false, true) => commit::rename(&aside, &folder)?,
                (_, false) => {}
            }
        }
        Ok(())
    }

    fn check_room(&self, needed: u64) -> Result<()> {
        let free =
            fs4::available_space(&self.dir).map_err(|source| Error::io(&self.dir, source))?;
        if free >= needed {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "{}: saving a checkpoint needs {} KiB of free space and the disk has {} KiB; \
             remove old runs or keep fewer checkpoints",
            self.dir.display(),
            needed.div_ceil(1024),
            free / 1024
        )))
    }

    /// Gives a finished folder its name.
    fn place(&self, finished: &Path, folder: &Path) -> Result<()> {
        let aside = folder.with_extension(REPLACED);
        let replaces = folder.exists();
        if replaces {
            if aside.exists() {
                commit::remove_folder(&aside)?;
            }
            commit::rename(folder, &aside)?;
        }
        commit::rename(finished, folder)?;
        commit::sync_folder(&self.dir)?;
        if replaces {
            commit::remove_folder(&aside)
        } else {
            Ok(())
        }
    }

    fn prune(&self, step: u64, keep_last: usize, keep: &[u64]) -> Result<()> {
        let best = self.best_step();
        let done: Vec<u64> = self.list().into_iter().filter(|&s| s <= step).collect();
        let surplus = done.len().saturating_sub(keep_last.max(1));
        for &old in &done[..surplus] {
            if !keep.contains(&old) && best != Some(old) {
                commit::remove_folder(&self.dir.join(step_name(old)))?;
            }
        }
        Ok(())
    }

    fn point(&self, name: &str, step: u64) -> Result<()> {
        commit::replace_file(
            &self.dir.join(name),
            format!("{}\n", step_name(step)).as_bytes(),
        )
    }

    fn pointed(&self, name: &str) -> Option<u64> {
        step_of(fs::read_to_string(self.dir.join(name)).ok()?.trim_end())
    }
}

/// A folder that is removed unless it is renamed before this is dropped.
struct Unfinished(PathBuf);

impl Unfinished {
    fn create(beside: &Path) -> Result<Self> {
        let path = commit::temporary_beside(beside);
        fs::create_dir(&path).map_err(|source| Error::io(&path, source))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next holder of the run's lock.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The step in a checkpoint's name.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::dir::RunDir;
    use crate::run::tensors::{NamedTensor, TensorMap};

    fn checkpoint(step: u64, value: f32) -> Checkpoint {
        let tensor = NamedTensor {
            shape: vec![1],
            data: vec![value],
        };
        let tensors = TensorMap::from([("w".to_owned(), tensor)]);
        Checkpoint {
            step,
            files: [("model".to_owned(), tensors)].into(),
            ..Default::default()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn damage(folder: &Path, step: u64) {
        fs::write(folder.join(step_name(step)).join("model.safetensors"), b"x").unwrap();
    }

    #[test]
    fn the_last_ones_the_best_and_the_chosen_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().join("checkpoints"));
        assert!(all.list().is_empty() && all.latest_step().is_none());
        for step in 1..=6 {
            let path = all.save(&checkpoint(step, 0.0), 2, &[3]).unwrap();
            assert!(path.ends_with(step_name(step)));
            if step == 2 {
                all.set_best(2).unwrap();
            }
        }
        assert_eq!(all.list(), [2, 3, 5, 6]);
        assert_eq!((all.latest_step(), all.best_step()), (Some(6), Some(2)));
        assert_eq!(all.load_best().unwrap(), checkpoint(2, 0.0));
        assert_eq!(all.load(3).unwrap(), checkpoint(3, 0.0));
        let (latest, warnings) = all.load_latest().unwrap();
        assert_eq!((latest.step, warnings.len()), (6, 0));
        assert!(all.set_best(4).is_err());
        assert_eq!(
            fs::read_to_string(all.dir.join("LATEST")).unwrap(),
            "step-000000006\n"
        );
        assert!(names(&all.dir).iter().all(|name| !name.contains("tmp")));
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path());
        assert_eq!(all.load_latest().unwrap_err().exit_code(), 4);
        for step in [10, 20, 30] {
            all.save(&checkpoint(step, 0.0), 3, &[]).unwrap();
        }
        damage(folder.path(), 30);
        let (found, warnings) = all.load_latest().unwrap();
        assert_eq!(found.step, 20);
        assert!(
            warnings[0].contains("step-000000030") && warnings.len() == 1,
            "{warnings:?}"
        );

        fs::remove_dir_all(folder.path().join(step_name(20))).unwrap();
        assert_eq!(all.load_latest().unwrap().0.step, 10);
        damage(folder.path(), 10);
        let error = all.load_latest().unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("none of 2"), "{error}");
        assert!(error.remedy().is_some());
    }

    #[test]
    fn a_process_that_died_before_latest_leaves_a_run_that_loads() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path());
        all.save(&checkpoint(10, 0.0), 9, &[]).unwrap();
        all.save(&checkpoint(20, 0.0), 9, &[]).unwrap();
        all.point(LATEST, 10).unwrap();
        assert_eq!(all.load_latest().unwrap().0.step, 10);
        damage(folder.path(), 10);
        assert_eq!(all.load_latest().unwrap().0.step, 20);
        fs::remove_file(folder.path().join(LATEST)).unwrap();
        assert_eq!(all.latest_step(), Some(20));
    }

    #[test]
    fn saving_a_step_again_keeps_equal_bytes_and_replaces_others() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path());
        let path = all.save(&checkpoint(10, 1.0), 1, &[]).unwrap();
        // A file beside the sums shows whether the folder is still the first one.
        fs::write(path.join("mark"), b"").unwrap();
        all.save(&checkpoint(10, 1.0), 1, &[]).unwrap();
        assert!(path.join("mark").exists());
        damage(folder.path(), 10);
        all.save(&checkpoint(10, 1.0), 1, &[]).unwrap();
        assert!(!path.join("mark").exists());
        all.save(&checkpoint(10, 2.0), 1, &[]).unwrap();
        assert_eq!(all.load(10).unwrap(), checkpoint(10, 2.0));
        assert_eq!(names(folder.path()), ["LATEST", "step-000000010"]);
    }

    #[test]
    fn a_replaced_checkpoint_is_read_and_restored() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "x").unwrap();
        let all = run.checkpoints();
        let path = all.save(&checkpoint(10, 1.0), 1, &[]).unwrap();
        fs::rename(&path, path.with_extension(REPLACED)).unwrap();
        fs::create_dir(all.dir.join("step-000000010.tmp-1-0")).unwrap();
        assert_eq!(all.load_latest().unwrap(), (checkpoint(10, 1.0), vec![]));
        let _lock = run.lock().unwrap();
        assert_eq!(names(&all.dir), ["LATEST", "step-000000010"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_that_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path());
        let error = all.check_room(u64::MAX).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        // A folder in the place of LATEST stops the last rename.
        fs::create_dir_all(folder.path().join("LATEST").join("inside")).unwrap();
        assert_eq!(
            all.save(&checkpoint(5, 0.0), 1, &[])
                .unwrap_err()
                .exit_code(),
            1
        );
        assert_eq!(names(folder.path()), ["LATEST", "step-000000005"]);
        let blocked = Checkpoints::new(folder.path().join("file"));
        fs::write(folder.path().join("file"), b"").unwrap();
        assert_eq!(
            blocked
                .save(&checkpoint(5, 0.0), 1, &[])
                .unwrap_err()
                .exit_code(),
            1
        );
    }

    #[test]
    fn names_of_checkpoints() {
        assert_eq!(step_name(12_000), "step-000012000");
        for (name, step) in [
            ("step-000012000", Some(12_000)),
            ("step-1234567890", Some(1_234_567_890)),
            ("step-12000", None),
            ("step-+00012000", None),
            ("step-000012000.tmp-3-0", None),
            ("LATEST", None),
        ] {
            assert_eq!(step_of(name), step, "{name}");
        }
    }
}
