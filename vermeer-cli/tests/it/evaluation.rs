//! `vermeer eval`: values with their protocols, refusals, conditions, files and pages.

use serde_json::Value;
use vermeer::registry::family;

use crate::place::{Place, Said};

const GLYPHS: &str = "world:glyphs?count=240&size=32&channels=3&seed=1";
const OTHERS: &str = "world:glyphs?count=240&size=32&channels=3&seed=2";
const SHAPES: &str = "world:shapes?count=240&size=32&channels=3&seed=1";
/// The first part of each world: 240 images.
const PARTS: [&str; 4] = ["--split", "train", "--real-split", "train"];

fn eval(place: &Place, words: &[&str]) -> Said {
    place.vermeer(&[&["eval"], words, &PARTS].concat())
}

fn value<'a>(found: &'a Value, name: &str) -> &'a Value {
    let values = found["values"].as_array().unwrap();
    values
        .iter()
        .find(|value| value["name"] == name)
        .unwrap_or_else(|| panic!("{name} is not in {found}"))
}

#[test]
fn several_metrics_at_once_say_what_they_are() {
    let place = Place::new();
    let words = [
        "fid,kid", "swd", "vendi", SHAPES, GLYPHS, "--force", "--json",
    ];
    let found = eval(&place, &words).ended(0).json();
    let fd = value(&found, "fd_vermeer");
    assert!(fd["value"].as_f64().unwrap() > 0.0);
    assert!(fd["interval"]["low"].as_f64().unwrap() < fd["value"].as_f64().unwrap());
    assert_eq!(fd["passport"]["generated"]["images"], 240);
    assert_eq!(fd["passport"]["seed"], 2020);
    assert!(
        fd["citation"]
            .as_str()
            .unwrap()
            .contains("pil-bicubic to 64x64")
    );
    assert!(fd["notes"][0].as_str().unwrap().contains("biased"));
    // 240 images are too few to extrapolate 128 features.
    assert!(fd["notes"][0].as_str().unwrap().contains("512 images"));
    value(&found, "kd_vermeer_all_pairs");
    value(&found, "swd500_vermeer");
    value(&found, "vendi_vermeer");
    // The name FID is kept for the published network.
    let text = eval(
        &place,
        &["--fid", "--input1", SHAPES, "--input2", GLYPHS, "--force"],
    )
    .ended(0);
    assert!(
        text.out.contains("fd_vermeer ") && text.out.contains("To cite:"),
        "{}",
        text.out
    );
    assert!(!text.out.contains("\nfid "), "{}", text.out);
}

#[test]
fn too_few_images_are_refused_before_they_are_looked_at() {
    let place = Place::new();
    let said = eval(&place, &["fid", GLYPHS, OTHERS]).ended(2);
    assert!(
        said.err.contains("2048") && said.err.contains("kid"),
        "{}",
        said.err
    );
    assert!(said.err.contains("--force"), "{}", said.err);
}

#[test]
fn misuse_names_its_remedy() {
    let place = Place::new();
    for (words, part) in [
        (vec!["fdi", GLYPHS, OTHERS], "no metric"),
        (vec!["kid", GLYPHS], "two sets"),
        (vec!["psnr", GLYPHS], "two sets"),
        (vec!["ppl", GLYPHS], "run"),
        (vec!["kid", GLYPHS, OTHERS, "--dims", "64"], "--dims"),
        (
            vec!["kid", GLYPHS, OTHERS, "--network", "inception"],
            "--weights",
        ),
        (vec!["is", GLYPHS, "--force"], "--network"),
        (vec!["kid", GLYPHS, "no/such/folder"], "no/such/folder"),
        (vec!["pnsr", GLYPHS, OTHERS], "psnr"),
        (vec!["--save-stats", GLYPHS, "out.npz"], "eval stats"),
        (vec!["kid", GLYPHS, OTHERS, "--report", "page.pdf"], ".html"),
        (vec!["kid", GLYPHS, OTHERS, "--shave", "4"], "--shave"),
        (vec!["kid", GLYPHS, OTHERS, "-n", "500"], "240"),
        (vec!["psnr", GLYPHS, OTHERS, "--versus", SHAPES], "--versus"),
        (vec!["kid", GLYPHS, OTHERS, "--fail-if", "kid"], "--fail-if"),
    ] {
        let said = eval(&place, &words).ended(2);
        assert!(said.err.contains(part), "{words:?}: {}", said.err);
    }
}

#[test]
fn a_condition_that_comes_true_ends_with_three() {
    let place = Place::new();
    let words = |condition| {
        [
            "kid",
            SHAPES,
            GLYPHS,
            "--kid-subset-size",
            "100",
            "--fail-if",
            condition,
        ]
    };
    let said = eval(&place, &words("kid>100")).ended(0);
    assert!(said.out.contains("kd_vermeer_100x100"), "{}", said.out);
    let said = eval(&place, &words("kd_vermeer_100x100>=-1")).ended(3);
    // The values are told all the same.
    assert!(said.out.contains("kd_vermeer_100x100"), "{}", said.out);
    assert!(said.err.contains("kd_vermeer_100x100>=-1"), "{}", said.err);
    eval(&place, &words("nothing>1")).ended(2);
}

#[test]
fn statistics_stand_for_images_and_add_up() {
    let place = Place::new();
    let fid = |real: &str| -> f64 {
        let real_split = if real.starts_with("world") {
            &PARTS[2..]
        } else {
            &[]
        };
        let words = ["eval", "fid", SHAPES, real, "--force", "--json"];
        let found = place
            .vermeer(&[&words, &PARTS[..2], real_split].concat())
            .ended(0)
            .json();
        value(&found, "fd_vermeer")["value"].as_f64().unwrap()
    };
    let stats = |words: &[&str]| place.vermeer(&[&["eval", "stats"], words, &PARTS[..2]].concat());
    stats(&[GLYPHS, "-o", "one.stats"]).ended(0);
    stats(&[OTHERS, "-o", "two.stats"]).ended(0);
    let words = ["eval", "stats", "one.stats", "two.stats", "-o", "sum.stats"];
    place.vermeer(&words).ended(0);
    stats(&[GLYPHS, OTHERS, "-o", "both.npz"]).ended(0);
    stats(&[GLYPHS, "-o", "one.npz"]).ended(0);
    stats(&[GLYPHS, "-o", "other.npz", "--network", "judge"]).ended(0);
    let words = [
        "eval",
        "stats",
        "one.stats",
        "other.npz",
        "-o",
        "mixed.stats",
    ];
    assert!(place.vermeer(&words).ended(2).err.contains("other.npz"));
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b, "{a} and {b}");
    near(fid("one.stats"), fid(GLYPHS));
    near(fid("one.npz"), fid(GLYPHS));
    near(fid("sum.stats"), fid("both.npz"));
    assert!((fid("sum.stats") - fid("one.stats")).abs() > 1e-9);
    assert!(
        stats(&[GLYPHS, "-o", "one.stats"])
            .ended(2)
            .err
            .contains("--overwrite")
    );
    assert!(
        stats(&[GLYPHS, "-o", "one.txt"])
            .ended(2)
            .err
            .contains(".npz")
    );
    // Other metrics need images, and other networks other statistics.
    let said = place
        .vermeer(&["eval", "kid", SHAPES, "one.stats", "--force"])
        .ended(2);
    assert!(said.err.contains("images"), "{}", said.err);
    let words = ["eval", "fid", SHAPES, "one.stats", "--force", "--network"];
    let said = place.vermeer(&[&words[..], &["pixels"]].concat());
    assert!(said.ended(2).err.contains("one.stats"));
    let said = eval(&place, &["fid", SHAPES, "one.stats", "--force"]).ended(2);
    assert!(said.err.contains("no splits"), "{}", said.err);
}

#[test]
fn two_sets_are_compared_with_their_uncertainty() {
    let place = Place::new();
    let words = [
        "fid", SHAPES, GLYPHS, "--versus", OTHERS, "--force", "--json",
    ];
    let found = eval(&place, &words).ended(0).json();
    let difference = &found["differences"][0];
    assert_eq!(difference["beyond_chance"], true, "{found}");
    let verdict = difference["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("world:glyphs") && verdict.contains("is better"),
        "{verdict}"
    );
    let kept = |name: &str, words: &[&str]| {
        let said = eval(&place, &[words, &["--force", "--json"]].concat()).ended(0);
        place.file(name, said.out);
    };
    kept("a.json", &["fid", SHAPES, GLYPHS]);
    kept("b.json", &["fid", OTHERS, GLYPHS]);
    kept("c.json", &["fid", OTHERS, GLYPHS, "--seed", "1"]);
    let compare =
        |b: &str, more: &[&str]| place.vermeer(&[&["eval", "compare", "a.json", b], more].concat());
    assert!(
        compare("b.json", &[])
            .ended(0)
            .out
            .contains("by more than chance")
    );
    assert!(compare("c.json", &[]).ended(2).err.contains("seed"));
    compare("c.json", &["--force"]).ended(0);
    assert_eq!(
        place
            .vermeer(&["eval", "compare", "a.json", "gone.json"])
            .code,
        Some(1)
    );
}

#[test]
fn pairs_are_matched_by_name() {
    let place = Place::new();
    let made = place.vermeer(&[
        "data", "make", "shapes", "-o", "a", "--count", "6", "--size", "32",
    ]);
    made.ended(0);
    let words = [
        "psnr", "ssim", "mse", "a", "a", "--json", "--split", "train",
    ];
    let found = place
        .vermeer(&[&["eval"], &words[..]].concat())
        .ended(0)
        .json();
    assert_eq!(value(&found, "psnr_db_rgb")["value"], "inf");
    assert_eq!(value(&found, "ssim_rgb_valid11")["value"], 1.0);
    assert_eq!(value(&found, "mse_rgb")["value"], 0.0);
    let words = [
        "eval",
        "mae",
        "a",
        "a",
        "--maps",
        "maps",
        "--report",
        "page.html",
    ];
    place.vermeer(&words).ended(0);
    assert!(place.path("maps").join("scales.json").is_file());
    assert!(
        std::fs::read_to_string(place.path("page.html"))
            .unwrap()
            .contains("mae_rgb")
    );
}

#[test]
fn pairs_are_compared_pair_by_pair() {
    let place = Place::new();
    let kept = |name: &str, words: &[&str]| {
        let said = eval(&place, &[words, &["--json"]].concat()).ended(0);
        place.file(name, said.out);
    };
    // Images of worlds belong together by their order.
    kept("a.json", &["mae", GLYPHS, GLYPHS]);
    kept("b.json", &["mae", OTHERS, GLYPHS]);
    let compare = |a: &str, b: &str| {
        let said = place.vermeer(&["eval", "compare", a, b, "--json"]).ended(0);
        said.json()["differences"][0].clone()
    };
    let found = compare("a.json", "b.json");
    assert_eq!(found["beyond_chance"], true, "{found}");
    assert!(found["difference"].as_f64().unwrap() < 0.0, "{found}");
    let same = compare("b.json", "b.json");
    assert_eq!(
        (&same["difference"], &same["interval"]["high"]),
        (&0.0.into(), &0.0.into())
    );
}

#[test]
fn a_run_is_sampled_and_walked() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let words = [
        "kid",
        "runs/tiny",
        GLYPHS,
        "-n",
        "100",
        "--kid-subset-size",
        "50",
        "--json",
    ];
    let found = place
        .vermeer(&[&["eval"], &words[..], &PARTS[2..]].concat())
        .ended(0)
        .json();
    let passport = &value(&found, "kd_vermeer_100x50")["passport"];
    assert_eq!(passport["generated"]["images"], 100);
    let split = passport["generated"]["split"].as_str().unwrap();
    assert!(split.contains("step 3"), "{split}");
    let storage = passport["storage"].as_str().unwrap();
    assert!(storage.contains("prepared as the run's own"), "{storage}");
    let found = place
        .vermeer(&["eval", "ppl", "runs/tiny", "-n", "100", "--json"])
        .ended(0)
        .json();
    let length = value(&found, "pl_vermeer_z_end_nocrop_f32_slerp_any");
    assert!(length["value"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_page_shows_what_the_numbers_mean() {
    let place = Place::new();
    let words = [
        "fid",
        "kid",
        SHAPES,
        GLYPHS,
        "--force",
        "--report",
        "report.html",
    ];
    eval(&place, &words).ended(0);
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    for part in [
        "fd_vermeer",
        "kd_vermeer_all_pairs",
        "data:image/png",
        "Distance to the nearest",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(eval(&place, &words).ended(2).err.contains("report.html"));
    eval(&place, &[&words[..], &["--overwrite"]].concat()).ended(0);
}

#[test]
fn threads_do_not_change_a_value() {
    let place = Place::new();
    let with = |threads: &str| -> Value {
        let words = [
            "--threads",
            threads,
            "eval",
            "fid",
            "kid",
            SHAPES,
            GLYPHS,
            "--force",
            "--json",
        ];
        place
            .vermeer(&[&words[..], &PARTS].concat())
            .ended(0)
            .json()["values"]
            .clone()
    };
    assert_eq!(with("1"), with("2"));
}
