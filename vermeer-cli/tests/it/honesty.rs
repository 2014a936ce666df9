//! `vermeer eval memorization`, `modes` and `artifacts`: findings, their files and exit codes.

use crate::place::{Place, Said};

const GLYPHS: &str = "world:glyphs?count=200&size=16&seed=1";
const SHAPES: &str = "world:shapes?count=200&size=16&seed=1&channels=1";

fn eval(place: &Place, words: &[&str]) -> Said {
    place.vermeer(&[&["eval"][..], words].concat())
}

/// Characters of a split against those of the training split.
fn memorization(place: &Place, split: &str, more: &[&str]) -> Said {
    let words = [
        "memorization",
        GLYPHS,
        "--split",
        split,
        "--network",
        "pixels",
    ];
    let sets = ["--train", GLYPHS, "--heldout", GLYPHS];
    eval(place, &[&words[..], &sets[..], more].concat())
}

#[test]
fn copies_of_the_training_set_are_told_and_shown() {
    let place = Place::new();
    let more = ["--json", "--out", "sheets/copies.png", "--fail-if-found"];
    let said = memorization(&place, "train", &more).ended(3);
    let found = said.json();
    assert_eq!(found["verdict"], "widespread");
    assert_eq!(found["spaces"][0]["copying"]["flagged"], 200);
    assert_eq!(found["heldout"]["split"], "test");
    assert_eq!(found["worst"][0]["p"].as_f64(), Some(1.0 / 201.0));
    assert_eq!(found["picture"], "sheets/copies.png");
    assert!(place.path("sheets/copies.png").is_file());
    assert!(said.err.contains("copies of"), "{}", said.err);
    // The picture is there, and nothing is computed before that is said.
    let again = memorization(&place, "train", &more).ended(2);
    assert!(again.err.contains("copies.png"), "{}", again.err);
}

#[test]
fn fresh_images_are_no_copies() {
    let place = Place::new();
    let said = memorization(&place, "validation", &["--fail-if-found"]).ended(0);
    assert!(said.out.contains("No sign of copying"), "{}", said.out);
    for name in ["authpct_dgm_pixels", "c_t_global_pixels", "To cite:"] {
        assert!(said.out.contains(name), "{name}: {}", said.out);
    }
}

#[test]
fn a_test_that_would_be_blind_is_refused() {
    let place = Place::new();
    let same = memorization(&place, "validation", &["--heldout-split", "train"]).ended(2);
    assert!(same.err.contains("--heldout-split"), "{}", same.err);
    let whole = memorization(&place, "validation", &["--heldout-split", "all"]).ended(2);
    assert!(whole.err.contains("200 of 600"), "{}", whole.err);
    let rate = memorization(&place, "validation", &["--fdr", "1"]).ended(2);
    assert!(rate.err.contains("--fdr 1"), "{}", rate.err);
}

#[test]
fn modes_that_are_not_made_are_told() {
    let place = Place::new();
    let modes = |samples: &str, more: &[&str]| {
        let words = ["modes", samples, "--real", GLYPHS, "--network", "pixels"];
        eval(&place, &[&words[..], more].concat())
    };
    let healthy = modes(GLYPHS, &["--split", "test", "--fail-if-found"]).ended(0);
    assert!(
        healthy.out.contains("No mode is seen to be lost"),
        "{}",
        healthy.out
    );
    let more = [
        "--json",
        "--fail-if-found",
        "--out",
        "modes.png",
        "--clusters",
        "12",
    ];
    let found = modes(SHAPES, &more).ended(3).json();
    assert_eq!(found["modes"].as_array().unwrap().len(), 12);
    assert_eq!(found["clusters"]["generated"], 600);
    assert!(place.path("modes.png").is_file());
    let labelled = modes(GLYPHS, &["--labelled", GLYPHS]).ended(2);
    assert!(labelled.err.contains("judge"), "{}", labelled.err);
}

#[test]
fn spectra_need_one_size() {
    let place = Place::new();
    let artifacts = |real: &str, more: &[&str]| {
        let words = ["artifacts", GLYPHS, "--split", "test", "--real", real];
        eval(&place, &[&words[..], more].concat())
    };
    let more = ["--json", "--fail-if-found", "--out", "spectrum.png"];
    let found = artifacts(GLYPHS, &more).ended(0).json();
    assert_eq!(found["peaks"].as_array().unwrap().len(), 0);
    assert_eq!(
        (&found["real"], &found["generated"]),
        (&200.into(), &200.into())
    );
    assert!(place.path("spectrum.png").is_file());
    let other = artifacts("world:glyphs?size=20", &[]).ended(2);
    assert!(
        other.err.contains("16x16") && other.err.contains("20x20"),
        "{}",
        other.err
    );
    let name = artifacts(GLYPHS, &["--out", "spectrum.jpg"]).ended(2);
    assert!(name.err.contains(".png"), "{}", name.err);
}
