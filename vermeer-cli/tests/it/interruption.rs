//! Ctrl-C and SIGTERM.

use std::fs;
use std::process::{Child, Command, Output};

use vermeer::registry::{FAMILIES, family};

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
            let said = place
                .vermeer(&["sample", "runs/tiny", "-n", "1", "--out", name, "--json"])
                .ended(0);
            assert_eq!(said.json()["step"], latest);
            assert!(!said.err.contains("warning"), "{}", said.err);
        }
    }
}

#[test]
fn interrupted_sampling_leaves_nothing() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let before = place.everything();
    let words = [
        "sample",
        "runs/tiny",
        "-n",
        "100000",
        "--batch",
        "8",
        "--out",
        "out",
    ];
    let sampling = place.command(&words).spawn().unwrap();
    // The hidden folder beside the outputs shows that the work has begun.
    let files = || place.everything().len();
    until("the first samples", || files() > before.len() + 10);
    signal(&sampling, "INT");
    let output = sampling.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(place.everything(), before);
}
