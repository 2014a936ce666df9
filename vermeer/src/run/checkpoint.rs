//! One checkpoint: everything a training needs to go on as if it had never stopped.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::run::commit::write_synced;
use crate::run::tensors::{TensorMap, decode, encode};

/// The file that lists the sum of every other, in the format of `sha256sum`.
const SUMS: &str = "SHA256SUMS";
/// The file of everything that is no tensor.
const STATE: &str = "state.json";
/// What follows the name of a file of tensors.
const TENSORS: &str = ".safetensors";

/// Weights, optimizer and loop state after a step.
///
/// The same content gives the same bytes on disk: nothing in it tells a time or a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The number of steps done.
    pub step: u64,
    /// Tensors by file: `model`, `ema`, `optimizer`.
    pub files: BTreeMap<String, TensorMap>,
    /// What is no tensor: counters, the best value so far. Keys are sorted when written.
    pub state: Map<String, Value>,
}

impl Checkpoint {
    /// Bytes on disk, rounded up.
    pub(super) fn size(&self) -> u64 {
        let tensors = self.files.values().flatten();
        // A header entry is below 200 bytes beside its name; the rest is sums and state.
        let bytes: usize = tensors
            .map(|(name, tensor)| 4 * tensor.data.len() + name.len() + 200)
            .sum();
        (bytes + self.state_text().len() + 4096) as u64
    }

    /// Writes every file and its sum into an empty folder, each synced.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let metadata = BTreeMap::from([
            ("vermeer.step".to_owned(), self.step.to_string()),
            (
                "vermeer.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
        ]);
        let mut sums = String::new();
        let mut put = |name: String, bytes: &[u8]| {
            sums.push_str(&format!("{:x}  {name}\n", Sha256::digest(bytes)));
            write_synced(&folder.join(name), bytes)
        };
        for (name, tensors) in &self.files {
            put(format!("{name}{TENSORS}"), &encode(tensors, &metadata))?;
        }
        put(STATE.to_owned(), self.state_text().as_bytes())?;
        write_synced(&folder.join(SUMS), sums.as_bytes())
    }

    /// Reads a checkpoint of `step` from its folder and checks every sum.
    ///
    /// # Errors
    /// When a file is missing or damaged, naming it.
    pub(super) fn read(folder: &Path, step: u64) -> Result<Self> {
        let mut checkpoint = Self {
            step,
            ..Self::default()
        };
        let mut stated = false;
        for_each_file(folder, |name, bytes| {
            let path = folder.join(name);
            if name == STATE {
                checkpoint.state = state_of(bytes, step).ok_or_else(|| {
                    damaged(&path, format!("does not hold the state after step {step}"))
                })?;
                stated = true;
            } else if let Some(stem) = name.strip_suffix(TENSORS) {
                checkpoint
                    .files
                    .insert(stem.to_owned(), decode(bytes, &path)?.0);
            }
            Ok(())
        })?;
        if stated {
            Ok(checkpoint)
        } else {
            Err(damaged(folder, format!("holds no {STATE}")))
        }
    }

    fn state_text(&self) -> String {
        let mut state = json!({ "schema": 1, "step": self.step, "state": self.state });
        state.sort_all_objects();
        format!("{state:#}\n")
    }
}

/// Whether two folders hold the same checkpoint and the second one is undamaged.
pub(super) fn same(new: &Path, old: &Path) -> bool {
    let sums = |folder: &Path| fs::read(folder.join(SUMS)).ok();
    sums(new).is_some_and(|new| sums(old) == Some(new)) && for_each_file(old, |_, _| Ok(())).is_ok()
}

/// Hands over every file that the folder's sums list, after checking it.
fn for_each_file(folder: &Path, mut with: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    let unreadable =
        |path: &Path, error: std::io::Error| damaged(path, format!("cannot be read: {error}"));
    let path = folder.join(SUMS);
    let sums = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .filter(|(_, name)| Path::new(name).file_name() == Some(OsStr::new(name)))
            .ok_or_else(|| damaged(&path, format!("has the line {line:?}, which is no sum")))?;
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, error))?;
        if format!("{:x}", Sha256::digest(&bytes)) != sum {
            return Err(damaged(
                &path,
                format!("is damaged: it does not match {SUMS}"),
            ));
        }
        with(name, &bytes)?;
    }
    Ok(())
}

fn state_of(bytes: &[u8], step: u64) -> Option<Map<String, Value>> {
    let mut whole: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    if whole.get("schema") != Some(&json!(1)) || whole.get("step") != Some(&json!(step)) {
        return None;
    }
    match whole.remove("state")? {
        Value::Object(state) => Some(state),
        _ => None,
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::checkpoint(
        path,
        reason,
        "use another checkpoint, or restore this one from a copy",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tensors::NamedTensor;

    fn example() -> Checkpoint {
        let weights = NamedTensor {
            shape: vec![2],
            data: vec![0.5, -1.5],
        };
        let tensors = TensorMap::from([("layer.weight".to_owned(), weights)]);
        let state = json!({ "samples": 640, "best": { "value": null, "step": 5 }, "a": "b" });
        Checkpoint {
            step: 10,
            files: ["model", "ema", "optimizer"]
                .map(|name| (name.to_owned(), tensors.clone()))
                .into(),
            state: state.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn a_checkpoint_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        assert_eq!(Checkpoint::read(folder.path(), 10).unwrap(), example());
        let written: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(
            written <= example().size(),
            "{written} > {}",
            example().size()
        );
    }

    #[test]
    fn bytes_do_not_depend_on_place_or_order() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        example().write(one.path()).unwrap();
        let mut other = example();
        other.state = other.state.into_iter().rev().collect();
        other.write(two.path()).unwrap();
        assert!(same(one.path(), two.path()));
        for name in [SUMS, STATE, "model.safetensors"] {
            let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(read(one.path()), read(two.path()), "{name}");
        }
    }

    #[test]
    fn the_state_file_is_as_documented() {
        let checkpoint = Checkpoint {
            step: 7,
            ..Checkpoint::default()
        };
        let expected = "{\n  \"schema\": 1,\n  \"state\": {},\n  \"step\": 7\n}\n";
        assert_eq!(checkpoint.state_text(), expected);
        // `printf '{\n  "schema": 1,\n  "state": {},\n  "step": 7\n}\n' | sha256sum`
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path()).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join(SUMS)).unwrap(),
            "68f40c27b1995d231a6f495ef2acab0850270a959aefa652bde0bdc77bda5cd8  state.json\n"
        );
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        for name in ["model.safetensors", "optimizer.safetensors", STATE, SUMS] {
            let path = folder.path().join(name);
            let good = fs::read(&path).unwrap();
            for at in [0, good.len() / 2, good.len() - 2] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                fs::write(&path, &bad).unwrap();
                let error = Checkpoint::read(folder.path(), 10).unwrap_err();
                assert_eq!(error.exit_code(), 4);
                assert!(name == SUMS || error.to_string().contains(name), "{error}");
            }
            fs::remove_file(&path).unwrap();
            assert!(Checkpoint::read(folder.path(), 10).is_err(), "{name}");
            fs::write(&path, &good).unwrap();
        }
        assert!(Checkpoint::read(folder.path(), 11).is_err());
        Checkpoint::read(folder.path(), 10).unwrap();
    }

    #[test]
    fn sums_that_point_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sum = format!("{:x}", Sha256::digest(b""));
        fs::write(folder.path().join("outside"), b"").unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        for line in [
            format!("{sum}  ../outside\n"),
            format!("{sum} outside\n"),
            String::new(),
        ] {
            fs::write(inside.join(SUMS), line).unwrap();
            assert!(Checkpoint::read(&inside, 1).is_err());
        }
    }
}
