//! A run goes on as if it had never stopped, and survives being killed at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use vermeer::random::{Purpose, stream};
use vermeer::registry::{FAMILIES, family};
use vermeer::run::RunDir;

use crate::place::{Place, Running, everything, until};

/// How often a run is killed before the test gives up finding it in the middle of its work.
const ATTEMPTS: usize = 5;

fn latest(run: &Path) -> String {
    fs::read_to_string(run.join("checkpoints/LATEST")).unwrap_or_default()
}

/// Trains to step 30, kills the process before step 60, and says whether that came in time.
fn killed_at_30(place: &Place, name: &str) -> bool {
    let run = place.path("runs").join(name);
    let mut training = place.start(&["train", &format!("{name}.toml"), "--quiet"]);
    until("step 30", || {
        latest(&run).starts_with("step-000000030") || !training.is_alive()
    });
    training.kill();
    !run.join("checkpoints/step-000000060").exists()
}

#[test]
fn a_killed_run_that_goes_on_equals_one_that_never_stopped() {
    for family in FAMILIES {
        let place = Place::new();
        place.recipe(*family, "straight", |_| ());
        place
            .vermeer(&["train", "straight.toml", "--quiet"])
            .ended(0);
        let names: Vec<String> = (0..ATTEMPTS)
            .map(|attempt| format!("killed-{attempt}"))
            .collect();
        let id = family.info().id;
        let killed = names.iter().find(|name| {
            place.recipe(*family, name, |_| ());
            killed_at_30(&place, name)
        });
        let killed =
            killed.unwrap_or_else(|| panic!("{id} was never killed between steps 30 and 60"));
        let run = format!("runs/{killed}");
        place
            .vermeer(&["train", &run, "--resume", "--quiet"])
            .ended(0);
        let step = |run: &str| everything(&place.path(run).join("checkpoints/step-000000060"));
        let (one, other) = (step("runs/straight"), step(&run));
        assert!(one.len() >= 4, "{:?}", one.keys());
        for (name, bytes) in &one {
            assert!(
                other.get(name) == Some(bytes),
                "{id}: {} differs",
                name.display()
            );
        }
        assert_eq!(one.len(), other.len());
        // What was measured goes on from the checkpoint: no step twice, none left out.
        let lines = vermeer::run::read_metrics(&place.path(&run).join("metrics.jsonl")).unwrap();
        let straight =
            vermeer::run::read_metrics(&place.path("runs/straight/metrics.jsonl")).unwrap();
        let steps = |lines: &[vermeer::run::MetricLine]| {
            lines.iter().map(|line| line.step()).collect::<Vec<_>>()
        };
        assert_eq!(steps(&lines), steps(&straight), "{id}");
    }
}

#[test]
fn a_changed_configuration_is_not_gone_on_with() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let mut before = place.everything();
    // It holds the number of the last process that looked.
    let lock = PathBuf::from("runs/tiny/.lock");
    assert_ne!(before.insert(lock.clone(), vec![]), None);
    for (words, key) in [
        (
            &[
                "train",
                "runs/tiny",
                "--resume",
                "--set",
                "train.batch_size=4",
            ][..],
            "train.batch_size (8 → 4)",
        ),
        (
            &["train", "tiny.toml", "--resume", "--seed", "9"],
            "seed (1 → 9)",
        ),
        (
            &["train", "runs/tiny", "--resume", "--set", "model.latent=5"],
            "model.latent",
        ),
        (
            &[
                "train",
                "--name",
                "tiny",
                "--resume",
                "--data",
                "world:glyphs?count=65&size=32",
            ],
            "the data differ",
        ),
    ] {
        let said = place.vermeer(words).ended(2);
        assert!(
            said.err.contains(key) && said.err.contains("help:"),
            "{words:?}: {}",
            said.err
        );
        let mut after = place.everything();
        assert_ne!(after.insert(lock.clone(), vec![]), None);
        assert_eq!(after, before, "{words:?}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_until_none_is_left() {
    let place = Place::new();
    place.recipe(family("vae").unwrap(), "tiny", |train| {
        (train.steps, train.save_every) = (20, 10)
    });
    place.vermeer(&["train", "tiny.toml", "--quiet"]).ended(0);
    let damage = |step: &str| {
        let path = place
            .path("runs/tiny/checkpoints")
            .join(step)
            .join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    damage("step-000000020");
    let said = place
        .vermeer(&["sample", "runs/tiny", "-n", "1", "--out", "a", "--json"])
        .ended(0);
    assert!(
        said.err.contains("warning") && said.err.contains("step-000000020"),
        "{}",
        said.err
    );
    assert_eq!(said.json()["step"], 10);
    damage("step-000000010");
    let said = place
        .vermeer(&["sample", "runs/tiny", "-n", "1", "--out", "b"])
        .ended(4);
    for part in ["step-000000010", "step-000000020", "SHA256SUMS", "help:"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(!place.path("b").exists());
    place.vermeer(&["train", "runs/tiny", "--resume"]).ended(4);
}

#[test]
fn two_trainers_cannot_hold_one_run() {
    let place = Place::new();
    place.recipe(family("vae").unwrap(), "tiny", |train| {
        (train.steps, train.save_every) = (10_000_000, 5)
    });
    let first: Running = place.start(&["train", "tiny.toml", "--quiet"]);
    until("a checkpoint", || {
        !latest(&place.path("runs/tiny")).is_empty()
    });
    let said = place.vermeer(&["train", "runs/tiny", "--resume"]).ended(2);
    let holder = format!("process {}", first.0.id());
    assert!(
        said.err.contains("is being written by") && said.err.contains(&holder),
        "{}",
        said.err
    );
}

#[test]
fn weights_of_another_run_are_a_start() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "first");
    place.recipe(family("vae").unwrap(), "second", |train| train.steps = 1);
    place
        .vermeer(&[
            "train",
            "second.toml",
            "--init-from",
            "runs/first",
            "--quiet",
        ])
        .ended(0);
    let show = place
        .vermeer(&["runs", "show", "runs/second", "--json"])
        .ended(0)
        .json();
    assert_eq!(show["record"]["parent"], "runs/first");
}

/// Kills a run that saves after every step, again and again, at moments drawn from a seed.
fn kill_often(times: u64) {
    let place = Place::new();
    place.recipe(family("vae").unwrap(), "tiny", |train| {
        (train.steps, train.save_every, train.keep_last) = (10_000_000, 1, 2);
        (train.validate_every, train.sample_every, train.log_every) = (50, 10_000_000, 1);
    });
    let folder = place.path("runs/tiny");
    let mut furthest = 0;
    for number in 0..times {
        let words = match folder.join("run.json").exists() {
            true => ["train", "runs/tiny", "--resume", "--quiet"],
            false => {
                // Killed before the run was one: it begins anew, as a person would have it.
                let _ = fs::remove_dir_all(&folder);
                ["train", "tiny.toml", "--runs", "runs"]
            }
        };
        let mut training = place.start(&words);
        // From before the first file is written to well into the training.
        let moment = 5 + stream(7, Purpose::Shuffle, 0, number).below(300);
        thread::sleep(Duration::from_millis(moment));
        assert!(training.is_alive(), "kill {number}: it had ended by itself");
        training.kill();
        let Ok(run) = RunDir::open(&folder) else {
            continue;
        };
        let named = latest(&folder);
        let Some(step) = named.trim_end().strip_prefix("step-") else {
            assert!(named.is_empty(), "kill {number}: LATEST holds {named:?}");
            continue;
        };
        let step: u64 = step.parse().unwrap();
        let loaded = run.checkpoints().load(step);
        assert!(loaded.is_ok(), "kill {number}: {}", loaded.unwrap_err());
        let (checkpoint, warnings) = run.checkpoints().load_latest().unwrap();
        assert_eq!(
            (checkpoint.step, warnings.len()),
            (step, 0),
            "kill {number}: {warnings:?}"
        );
        assert!(
            step >= furthest,
            "kill {number}: step {step} after {furthest}"
        );
        furthest = step;
    }
    assert!(furthest > 0, "no checkpoint was ever written");
}

#[test]
fn twenty_kills_never_leave_a_latest_that_does_not_load() {
    kill_often(20);
}

#[test]
#[ignore = "the same 200 times, about a minute"]
fn two_hundred_kills_never_leave_a_latest_that_does_not_load() {
    kill_often(200);
}
