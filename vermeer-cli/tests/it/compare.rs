//! `vermeer compare`: one table for several runs, its files, and what is kept on the way.

use std::fs;

use serde_json::Value;
use vermeer::registry::family;

use crate::place::Place;

const GLYPHS: &str = "world:glyphs?count=64&size=32&channels=1";
/// So few samples that every value has to be forced.
const FEW: [&str; 5] = ["-n", "40", "--force", "--likelihood-images", "10"];

fn two_runs() -> Place {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "first");
    place.trained(family("dcgan").unwrap(), "second");
    place
}

fn json(place: &Place, name: &str) -> Value {
    let text = fs::read_to_string(place.path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn names(value: &Value, key: &str) -> Vec<String> {
    let each = value.as_array().unwrap().iter();
    each.map(|one| one[key].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn two_runs_and_real_images_stand_in_one_table() {
    let place = two_runs();
    let words = [
        "compare",
        "runs/first",
        "runs/second",
        "--data",
        GLYPHS,
        "--draws",
        "2",
        "--json",
    ];
    let found = place.vermeer(&[&words[..], &FEW].concat()).ended(0).json();
    assert_eq!(json(&place, "compare/compare.json"), found);
    let rows = &found["rows"];
    assert_eq!(names(rows, "name"), ["first", "second", "real images"]);
    assert_eq!(names(rows, "family"), ["vae", "dcgan", ""]);
    for row in 0..3 {
        let values = names(&rows[row]["values"], "name");
        let expected = [
            "fd_vermeer",
            "precision_k3_vermeer",
            "recall_k3_vermeer",
            "coverage_prdc5_vermeer",
        ];
        assert_eq!(values, expected, "{row}");
        assert_eq!(rows[row]["samples"], 40);
        let real = &rows[row]["values"][1]["passport"]["real"];
        assert_eq!(real["images"], 40);
    }
    for row in 0..2 {
        assert!(rows[row]["seconds_per_1000"].as_f64().unwrap() > 0.0);
        assert!(rows[row]["parameters"].as_u64().unwrap() > 100);
        assert!(rows[row]["train_minutes"].as_f64().unwrap() > 0.0);
        assert!(rows[row]["copies"]["verdict"].is_string(), "{rows}");
    }
    assert!(rows[2]["copies"].is_null() && rows[2]["parameters"].is_null());
    // A GAN has no likelihood.
    assert!(rows[1]["likelihood"].is_null());
    let columns = names(&found["columns"], "name");
    for name in ["fd_vermeer", "modes found", "copies", "s per 1000 samples"] {
        assert!(columns.iter().any(|column| column == name), "{columns:?}");
    }
    assert_eq!(found["columns"][0]["better"], "lower");

    let page = fs::read_to_string(place.path("compare/compare.html")).unwrap();
    assert!(page.contains("36 first images") && page.contains("36 real images"));
    assert!(page.contains("--likelihood-images 10"), "the command");
    let table = fs::read_to_string(place.path("compare/compare.md")).unwrap();
    assert!(table.contains("| run | fd_vermeer ↓ |"), "{table}");
    assert!(place.path("compare/samples/second.npz").is_file());
    // Features are kept for the work alone.
    assert!(!place.path("compare/features").exists());
}

#[test]
fn a_comparison_is_not_written_over_and_samples_are_made_once() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "one");
    place.trained(family("vae").unwrap(), "two");
    let first = [&["compare", "runs/one", "--network", "judge"][..], &FEW].concat();
    let said = place.vermeer(&first).ended(0);
    assert!(said.out.contains("fd_judge") && said.out.contains("compare.html"));
    let about = json(&place, "compare/samples/one.json");
    let again = place.vermeer(&first).ended(2);
    assert!(again.err.contains("compare.html"), "{}", again.err);

    let words = ["compare", "runs/one", "runs/two", "--network", "judge"];
    let words = [&words[..], &FEW, &["--overwrite"]].concat();
    place.vermeer(&words).ended(0);
    assert_eq!(json(&place, "compare/samples/one.json"), about);
    let found = json(&place, "compare/compare.json");
    assert_eq!(names(&found["rows"], "name"), ["one", "two", "real images"]);
    // Equal runs are equally good.
    let cells = &found["columns"][0]["cells"];
    assert_eq!(cells[0]["value"], cells[1]["value"]);
    assert_eq!(
        (&cells[0]["best"], &cells[1]["best"]),
        (&true.into(), &true.into())
    );

    // Samples of another seed are other samples.
    fs::remove_file(place.path("compare/compare.html")).unwrap();
    fs::remove_file(place.path("compare/compare.json")).unwrap();
    fs::remove_file(place.path("compare/compare.md")).unwrap();
    let other = place
        .vermeer(&[&first[..], &["--seed", "7"]].concat())
        .ended(2);
    assert!(other.err.contains("one.json"), "{}", other.err);
}

#[test]
fn nonsense_is_refused_before_anything_is_sampled() {
    let place = two_runs();
    for (words, part) in [
        (&["compare"][..], "--help"),
        (&["compare", "runs/none"], "run.json"),
        (&["compare", "runs/first", "runs/first"], "twice"),
        (&["compare", "runs/first", "-n", "0"], "count"),
        (&["compare", "runs/first", "--size", "2"], "--size"),
        (&["compare", "runs/first"], "--force"),
        (
            &["compare", "runs/first", "--data", "no/such/place"],
            "no/such/place",
        ),
        (
            &["compare", "runs/first", "--network", "inception"],
            "--network",
        ),
    ] {
        let said = place.vermeer(words).ended(2);
        assert!(said.err.contains(part), "{words:?}: {}", said.err);
    }
    assert!(!place.path("compare").exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_comparison_goes_on_where_it_stopped() {
    use std::process::Command;

    use crate::place::until;

    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let words = [
        "compare",
        "runs/tiny",
        "-n",
        "2000",
        "--batch",
        "4",
        "--force",
        "--network",
        "judge",
        "--likelihood-images",
        "0",
    ];
    let hidden = || {
        let entries = fs::read_dir(place.path("")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(|path| {
            let kept = path.join("samples-4-000000000");
            kept.is_file()
        })
    };
    let working = place.command(&words).spawn().unwrap();
    until("the first samples", || hidden().is_some());
    let kill = format!("kill -INT {}", working.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    let output = working.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(!place.path("compare/compare.html").exists());

    // What was kept is told to have taken very long, so that it is known again.
    let part = hidden().unwrap().join("samples-4-000000000");
    let mut bytes = fs::read(&part).unwrap();
    bytes[..8].copy_from_slice(&1e6f64.to_le_bytes());
    fs::write(&part, bytes).unwrap();
    place.vermeer(&words).ended(0);
    let about = json(&place, "compare/samples/tiny.json");
    assert!(about["seconds"].as_f64().unwrap() > 1e6, "{about}");
    assert_eq!(about["samples"], 2000);
    let row = &json(&place, "compare/compare.json")["rows"][0];
    assert!(row["seconds_per_1000"].as_f64().unwrap() > 5e5);
    assert!(hidden().is_none());
}
