//! Ctrl-C and SIGTERM.

use std::fs;
use std::process::{Child, Command, Output};

use vermeer::registry::{FAMILIES, family};
use vermeer::task::Task;

use crate::place::{Place, until};

fn signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}

/// Starts a training and stops it with a signal after its first checkpoint.
fn interrupted(place: &Place, words: &[&str], run: &str, name: &str) -> Output {
    let latest = place.path(run).join("checkpoints/LATEST");
    let before = fs::read(&latest).ok();
    let training = place.command(words).spawn().unwrap();
    until("another checkpoint", || {
        fs::read(&latest).is_ok_and(|now| Some(&now) != before.as_ref())
    });
    signal(&training, name);
    training.wait_with_output().unwrap()
}

#[test]
fn a_stopped_run_keeps_its_work_and_says_how_to_go_on() {
    for family in FAMILIES {
        let place = Place::new();
        place.recipe(*family, "tiny", |train| {
            (train.steps, train.save_every) = (10_000_000, 5)
        });
        let mut reached = 0;
        for (words, name) in [
            (&["train", "tiny.toml"][..], "INT"),
            (&["train", "runs/tiny", "--resume"], "TERM"),
        ] {
            let output = interrupted(&place, words, "runs/tiny", name);
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(75), "{name}: {err}");
            assert!(
                err.contains("vermeer train runs/tiny --resume"),
                "{name}: {err}"
            );
            let show = place
                .vermeer(&["runs", "show", "runs/tiny", "--json"])
                .ended(0)
                .json();
            assert_eq!(show["record"]["status"], "stopped");
            let latest = show["checkpoints"]["latest"].as_u64().unwrap();
            assert!(latest > reached, "{name}: {latest} after {reached}");
            reached = latest;
            if !family.info().tasks.contains(&Task::Generate) {
                continue;
            }
            let said = place
                .vermeer(&["sample", "runs/tiny", "-n", "1", "--out", name, "--json"])
                .ended(0);
            assert_eq!(said.json()["step"], latest);
            assert!(!said.err.contains("warning"), "{}", said.err);
        }
    }
}

#[test]
fn interrupted_sampling_goes_on_where_it_stopped() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let before = place.everything();
    let words = [
        "sample",
        "runs/tiny",
        "-n",
        "3000",
        "--batch",
        "8",
        "--out",
        "out",
    ];
    let sampling = place.command(&words).spawn().unwrap();
    // The hidden folder beside the outputs shows that the work has begun.
    let hidden = || {
        let entries = std::fs::read_dir(place.path("")).unwrap();
        let folder = entries
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(".vermeer-"));
        folder.map_or(0, |folder| {
            std::fs::read_dir(folder).map_or(0, Iterator::count)
        })
    };
    until("the first samples", || hidden() > 10);
    signal(&sampling, "INT");
    let output = sampling.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(hidden() > 10 && !place.path("out").exists());

    let again = place
        .command(&[&words[..], &["--json"]].concat())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0));
    let told: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(told["count"], 3000);
    let made = told["made"].as_u64().unwrap();
    assert!(made < 3000, "nothing was kept");
    assert_eq!(std::fs::read_dir(place.path("out")).unwrap().count(), 3001);
    // What is hidden went away with the work: only the outputs and their folder are new.
    assert_eq!(place.everything().len(), before.len() + 3002);
}
