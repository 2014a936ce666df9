//! Moving in the space of latents: directions, edits, traversals, maps and walks.

use std::fs;

use serde_json::Value;
use vermeer::registry::family;
use vermeer_image::{Image, Limits, decode_file};

use crate::place::{Place, Said};

const WORLD: &str = "world:glyphs?count=64";

fn image(place: &Place, name: &str) -> Image {
    decode_file(&place.path(name), &Limits::cli())
        .unwrap()
        .image
}

fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().unwrap().iter();
    all.map(|found| found["name"].as_str().unwrap()).collect()
}

fn find(place: &Place, run: &str, words: &[&str]) -> Said {
    place.vermeer(&[&["directions", run, "--json"][..], words].concat())
}

#[test]
fn directions_are_found_kept_and_used() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let run = "runs/tiny";
    // There are none yet, and the remedy says how to find some.
    let said = place.vermeer(&["directions", run]).ended(2);
    assert!(said.err.contains("--data"), "{}", said.err);

    let of_classes = find(&place, run, &["--data", WORLD]).ended(0).json();
    assert!(names(&of_classes).contains(&"kite"), "{of_classes}");
    for found in of_classes.as_array().unwrap() {
        let accuracy = found["accuracy"].as_f64();
        assert!(accuracy.is_none_or(|right| (0.0..=1.0).contains(&right)));
        assert!(found["spread"].as_f64().unwrap() > 0.0);
        assert_eq!(found["method"], "means");
    }
    let principal = find(&place, run, &["--data", WORLD, "--principal", "2"])
        .ended(0)
        .json();
    assert_eq!(names(&principal), ["pc1", "pc2"]);
    let share = |place: usize| principal[place]["explained"].as_f64().unwrap();
    assert!(share(0) >= share(1) && share(0) + share(1) < 1.001);
    assert!(place.path("runs/tiny/directions.safetensors").is_file());
    let listed = find(&place, run, &[]).ended(0).json();
    assert_eq!(
        names(&listed).len(),
        names(&of_classes).len() + names(&principal).len()
    );
    let text = place.vermeer(&["directions", run]).ended(0).out;
    assert!(text.contains("pc1") && text.contains("explains"), "{text}");

    // Those of a name that is taken are replaced on request only.
    let before = place.everything();
    let said = find(&place, run, &["--data", WORLD]).ended(2);
    assert!(said.err.contains("--overwrite"), "{}", said.err);
    assert_eq!(place.everything(), before);
    let words = ["--data", WORLD, "--method", "classifier", "--overwrite"];
    let again = find(&place, run, &words).ended(0).json();
    assert_eq!(again[0]["method"], "classifier");

    let said = place
        .vermeer(&[
            "edit",
            run,
            WORLD,
            "--limit",
            "2",
            "--sample",
            "5",
            "--direction",
            "kite",
            "--strength=-2,0,1.5",
            "-o",
            "kites",
            "--json",
        ])
        .ended(0)
        .json();
    assert_eq!(said["method"], "classifier");
    let hows: Vec<&Value> = said["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| &image["latent"])
        .collect();
    assert_eq!(hows, ["encoded", "encoded", "sample"]);
    assert_eq!(fs::read_dir(place.path("kites")).unwrap().count(), 10);
    // A strength of nothing is the reconstruction or the sample itself.
    place
        .vermeer(&["sample", run, "-n", "1", "--first", "5", "-o", "five"])
        .ended(0);
    let sample = image(&place, "five/seed0-000005.png").to_unit_chw();
    let still = image(&place, "kites/000002_+0.png").to_unit_chw();
    for (a, b) in sample.iter().zip(&still) {
        assert!((a - b).abs() < 1.5 / 255.0, "{a} {b}");
    }
    let moved = image(&place, "kites/000002_+1.5.png").to_unit_chw();
    assert_ne!(still, moved);

    for (words, part) in [
        (&["--sample", "1", "--direction", "kit"][..], "`kite`"),
        (&["--direction", "kite"][..], "--sample"),
    ] {
        let words = [&["edit", run, "-o", "other"][..], words].concat();
        let said = place.vermeer(&words).ended(2);
        assert!(said.err.contains(part), "{}", said.err);
    }
    assert!(!place.path("other").exists());

    // Another checkpoint has other latents, which is said.
    place.recipe(family("vae").unwrap(), "other", |train| train.steps = 2);
    place.vermeer(&["train", "other.toml", "--quiet"]).ended(0);
    let file = "directions.safetensors";
    fs::copy(
        place.path(run).join(file),
        place.path("runs/other").join(file),
    )
    .unwrap();
    let words = ["edit", "runs/other", "--sample", "1", "--direction", "kite"];
    let said = place
        .vermeer(&[&words[..], &["-o", "later"]].concat())
        .ended(0);
    assert!(said.err.contains("step 3"), "{}", said.err);
}

#[test]
fn a_generator_without_encoder_is_searched_and_tried() {
    let place = Place::new();
    place.trained(family("dcgan").unwrap(), "tiny");
    let run = "runs/tiny";
    let said = find(&place, run, &["--data", WORLD]).ended(2);
    assert!(said.err.contains("--principal"), "{}", said.err);
    let found = find(&place, run, &["--principal", "2", "--samples", "2"])
        .ended(0)
        .json();
    assert_eq!(names(&found), ["pc1", "pc2"]);
    assert_eq!(found[0]["method"], "sensitivity");

    place
        .vermeer(&["sample", run, "-n", "2", "-o", "made"])
        .ended(0);
    let said = place
        .vermeer(&[
            "edit",
            run,
            "made/seed0-000001.png",
            "--project-steps",
            "40",
            "--direction",
            "pc1",
            "--strength",
            "0,2",
            "-o",
            "edited",
            "--json",
        ])
        .ended(0)
        .json();
    assert_eq!(said["images"][0]["latent"], "projected");
    // The image is one that the generator makes, and it is among the candidates.
    let error = said["images"][0]["mse_unit"].as_f64().unwrap();
    assert!(error < 1e-2, "{error}");
}

#[test]
fn styles_have_components_edits_and_paths() {
    let place = Place::new();
    place.trained(family("stylegan2").unwrap(), "tiny");
    let run = "runs/tiny";
    let said = find(&place, run, &["--data", WORLD]).ended(2);
    assert!(said.err.contains("--principal"), "{}", said.err);
    let found = find(&place, run, &["--principal", "2", "--samples", "200"])
        .ended(0)
        .json();
    assert_eq!(names(&found), ["pc1", "pc2"]);
    for direction in found.as_array().unwrap() {
        assert_eq!(
            (&direction["space"], &direction["method"]),
            (&"w".into(), &"principal".into())
        );
    }
    let share = |place: usize| found[place]["explained"].as_f64().unwrap();
    assert!(share(0) >= share(1) && share(0) + share(1) < 1.001);

    place
        .vermeer(&["sample", run, "-n", "2", "-o", "made"])
        .ended(0);
    let said = place
        .vermeer(&[
            "edit",
            run,
            "made/seed0-000001.png",
            "--project-steps",
            "40",
            "--sample",
            "1",
            "--direction",
            "pc1",
            "--strength",
            "0,2",
            "-o",
            "edited",
            "--json",
        ])
        .ended(0)
        .json();
    assert_eq!(said["images"][0]["latent"], "projected");
    let error = said["images"][0]["mse_unit"].as_f64().unwrap();
    assert!(error < 1e-2, "{error}");
    // A strength of nothing is the sample itself.
    let sample = image(&place, "made/seed0-000001.png").to_unit_chw();
    let still = image(&place, "edited/000001_+0.png").to_unit_chw();
    for (a, b) in sample.iter().zip(&still) {
        assert!((a - b).abs() < 1.5 / 255.0, "{a} {b}");
    }
    assert_ne!(still, image(&place, "edited/000001_+2.png").to_unit_chw());

    let said = place
        .vermeer(&["traverse", run, "--rows", "2", "--json"])
        .ended(0)
        .json();
    assert!(
        names(&said["rows"])
            .iter()
            .all(|name| name.starts_with('w'))
    );
    let ppl = |run: &str, words: &[&str]| {
        let first = [
            "eval",
            "ppl",
            run,
            "-n",
            "100",
            "--json",
            "--ppl-space",
            "w",
        ];
        place.vermeer(&[&first[..], words].concat())
    };
    for (words, name) in [
        (&[][..], "pl_vermeer_w_end_nocrop_f32"),
        (&["--ppl-ends", "full"][..], "pl_vermeer_w_full_nocrop_f32"),
    ] {
        let found = ppl(run, words).ended(0).json();
        assert_eq!(found["values"][0]["name"], name, "{found}");
        assert!(found["values"][0]["value"].as_f64().unwrap() > 0.0);
    }
    place.trained(family("vae").unwrap(), "plain");
    let said = ppl("runs/plain", &[]).ended(2);
    assert!(said.err.contains("styles"), "{}", said.err);
}

#[test]
fn codes_without_samples_are_edited() {
    for id in ["autoencoder", "dae"] {
        let place = Place::new();
        place.trained(family(id).unwrap(), "tiny");
        let run = "runs/tiny";
        let said = find(&place, run, &["--principal", "2"]).ended(2);
        assert!(said.err.contains("--data"), "{}", said.err);
        let found = find(&place, run, &["--data", WORLD, "--principal", "2"])
            .ended(0)
            .json();
        assert_eq!(found[0]["space"], "code");
        let words = ["edit", run, "--direction", "pc1", "--strength", "0,30"];
        let images = [WORLD, "--limit", "2", "-o", "edited", "--json"];
        let said = place
            .vermeer(&[&words[..], &images].concat())
            .ended(0)
            .json();
        assert_eq!(said["images"][1]["latent"], "encoded");
        let still = image(&place, "edited/000000_+0.png");
        assert_ne!(still, image(&place, "edited/000000_+30.png"));
        let said = place
            .vermeer(&[&words[..], &["--sample", "1", "-o", "other"]].concat())
            .ended(2);
        assert!(said.err.contains("no samples"), "{}", said.err);
        assert!(!place.path("other").exists());
        let rows = ["--rows", "2", "--value=-1,0,1", "-o", "rows.png"];
        place
            .vermeer(&[&["traverse", run, "edited/000000_+0.png"][..], &rows].concat())
            .ended(0);
    }
}

#[test]
fn traversals_show_rows_of_numbers_or_directions() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let run = "runs/tiny";
    let said = place
        .vermeer(&["traverse", run, "--rows", "3", "--json"])
        .ended(0)
        .json();
    let rows = said["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &said["ranked_by"]), (3, &"change".into()));
    let rank = |row: usize| rows[row]["rank"].as_f64().unwrap();
    assert!(rank(0) >= rank(1) && rank(1) >= rank(2));
    assert!(place.path("runs/tiny/outputs/traversal.png").is_file());
    let said = place
        .vermeer(&[
            "traverse", run, "--data", WORLD, "--rows", "2", "--sample", "4", "-o", "data.png",
            "--json",
        ])
        .ended(0)
        .json();
    assert_eq!(said["ranked_by"], "variance");
    place
        .vermeer(&[
            "traverse",
            run,
            "data.png",
            "--number",
            "1,0",
            "--value=-1,1",
            "-o",
            "two.png",
        ])
        .ended(0);
    let narrow = image(&place, "two.png");
    assert!(
        narrow.width() < narrow.height(),
        "two columns, two labelled rows"
    );
    for words in [
        &["--number", "999"][..],
        &["--directions"],
        &["--sample", "1,2"],
    ] {
        let words = [&["traverse", run, "-o", "other.png"][..], words].concat();
        place.vermeer(&words).ended(2);
    }
    find(&place, run, &["--data", WORLD, "--principal", "2"]).ended(0);
    let said = place
        .vermeer(&["traverse", run, "--directions", "-o", "named.png", "--json"])
        .ended(0)
        .json();
    assert_eq!(names(&said["rows"]), ["pc1", "pc2"]);
    assert!(!place.path("other.png").exists());
}

#[test]
fn codes_are_mapped() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let words = ["map", "runs/tiny", "--data", WORLD, "--side", "300"];
    let said = place
        .vermeer(&[&words[..], &["-o", "maps/map.png", "--json"]].concat())
        .ended(0)
        .json();
    assert_eq!(
        (&said["images"], said["classes"].as_array().unwrap().len()),
        // Of three splits.
        (&192.into(), 10)
    );
    let map = image(&place, "maps/map.png");
    // The legend lies below.
    assert!(
        map.width() == 300 && map.height() > 300,
        "{} {}",
        map.width(),
        map.height()
    );
    let said = place
        .vermeer(&[&words[..], &["-o", "map.jpg"]].concat())
        .ended(2);
    assert!(said.err.contains(".png"), "{}", said.err);

    // Codes of two numbers are decoded on a grid too.
    place.recipe(family("vae").unwrap(), "plane", |train| train.steps = 3);
    place
        .vermeer(&["train", "plane.toml", "--set", "model.latent=2", "--quiet"])
        .ended(0);
    let words = [
        "map",
        "runs/plane",
        "--data",
        WORLD,
        "--grid",
        "5",
        "--json",
    ];
    let said = place
        .vermeer(&[&words[..], &["-o", "plane.png"]].concat())
        .ended(0)
        .json();
    assert_eq!(said["grid"], "plane-grid.png");
    let shares = said["explained"].as_array().unwrap();
    let whole: f64 = shares.iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((whole - 1.0).abs() < 1e-6, "{whole}");
    assert!(place.path("plane-grid.png").is_file());
}

#[test]
fn walks_go_through_several_samples() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let words = ["interpolate", "runs/tiny", "--frames", "4", "--json"];
    let said = place
        .vermeer(&[&words[..], &["--walk", "0,3,9", "-o", "walk.png"]].concat())
        .ended(0)
        .json();
    assert_eq!(
        (&said["frames"], &said["from"], &said["to"]),
        (&7.into(), &0.into(), &9.into())
    );
    for wrong in [&["--walk", "3"][..], &["--walk", "0,1", "--from", "2"]] {
        place
            .vermeer(&[&words[..], &["-o", "other.png"][..], wrong].concat())
            .ended(2);
    }
}
