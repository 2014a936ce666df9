//! Commands that apply a model to given images, and samples in archives.

use std::fs;

use vermeer::codes::Codes;
use vermeer::registry::family;
use vermeer_image::{Image, Limits, Pixels, decode_file, encode_png};

use crate::place::Place;

const WORLD: &str = "world:glyphs?count=24";

/// The names of the files in a folder, sorted.
fn files(place: &Place, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn codes_are_written_read_and_probed() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let encode = |split: &str, file: &str| {
        let words = [
            "encode",
            "runs/tiny",
            WORLD,
            "--split",
            split,
            "-o",
            file,
            "--json",
        ];
        place.vermeer(&words).ended(0).json()
    };
    let told = encode("train", "train.npz");
    assert_eq!((&told["images"], &told["size"]), (&24.into(), &4.into()));
    assert_eq!(told["labelled"], true);
    encode("train", "train.safetensors");
    encode("test", "test.npz");
    let codes = Codes::read(&place.path("train.npz")).unwrap();
    assert_eq!(
        codes,
        Codes::read(&place.path("train.safetensors")).unwrap()
    );
    assert_eq!((codes.len(), codes.classes.len()), (24, 10));
    assert!(codes.classes.contains(&"kite".to_owned()) && !codes.told);

    let words = [
        "eval",
        "probe",
        "train.npz",
        "test.npz",
        "--neighbours",
        "3",
        "--json",
    ];
    let found = place.vermeer(&words).ended(0).json();
    for name in ["linear_accuracy", "knn_accuracy"] {
        let share = found[name]["value"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{found}");
    }
    // The same codes by way of the run.
    let words = [
        "eval",
        "probe",
        "runs/tiny",
        "--data",
        WORLD,
        "--neighbours",
        "3",
        "--json",
    ];
    let again = place.vermeer(&words).ended(0).json();
    assert_eq!(again["linear_accuracy"], found["linear_accuracy"]);

    for words in [
        &["encode", "runs/tiny", WORLD, "-o", "codes.pt"][..],
        &[
            "encode",
            "runs/tiny",
            WORLD,
            "-o",
            "other.npz",
            "--class",
            "kite",
        ],
        &["encode", "runs/tiny", WORLD, "-o", "train.npz"],
        &["eval", "probe", "train.npz"],
        &["eval", "probe", "runs/tiny"],
    ] {
        place.vermeer(words).ended(2);
    }
}

#[test]
fn codes_of_a_model_that_is_told_classes_are_not_probed() {
    let place = Place::new();
    place.trained(family("cvae").unwrap(), "tiny");
    let words = ["encode", "runs/tiny", WORLD, "-o", "codes.npz"];
    place.vermeer(&words).ended(0);
    assert!(Codes::read(&place.path("codes.npz")).unwrap().told);
    let said = place
        .vermeer(&["eval", "probe", "codes.npz", "codes.npz"])
        .ended(2);
    assert!(said.err.contains("told"), "{}", said.err);
}

#[test]
fn spoiled_images_are_cleaned() {
    let place = Place::new();
    place.trained(family("dae").unwrap(), "tiny");
    let words = [
        "denoise",
        "runs/tiny",
        WORLD,
        "--limit",
        "5",
        "-o",
        "clean",
        "--json",
    ];
    let told = place.vermeer(&words).ended(0).json();
    assert_eq!(told["images"].as_array().unwrap().len(), 5);
    assert_eq!(files(&place, "clean").len(), 6);
    assert!(place.path("clean/pairs.png").exists());
    place.trained(family("vae").unwrap(), "other");
    let said = place
        .vermeer(&["denoise", "runs/other", WORLD, "-o", "no"])
        .ended(2);
    assert!(said.err.contains("reconstruct"), "{}", said.err);
    assert!(!place.path("no").exists());
}

#[test]
fn images_are_completed_with_their_own_class() {
    let place = Place::new();
    place.trained(family("pixel-cnn").unwrap(), "tiny");
    let fill = |samples: &str, out: &str, more: &[&str]| {
        let words = [
            "inpaint",
            "runs/tiny",
            WORLD,
            "--limit",
            "3",
            "--samples",
            samples,
            "-o",
            out,
        ];
        place.vermeer(&[&words[..], &["--json"], more].concat())
    };
    let told = fill("1", "one", &["--keep", "top"]).ended(0).json();
    assert_eq!(told["images"].as_array().unwrap().len(), 3);
    fill("2", "two", &["--keep", "top"]).ended(0);
    // The first completion is the same however many there are.
    for image in 0..3 {
        let one = fs::read(place.path(&format!("one/{image:06}.png"))).unwrap();
        let first = fs::read(place.path(&format!("two/{image:06}-00.png"))).unwrap();
        assert_eq!(one, first, "{image}");
    }
    // Labels come with the images; another class is another completion.
    fill("1", "other", &["--keep", "top", "--class", "1"]).ended(0);
    // White is made up.
    let pixels = (0..48)
        .map(|pixel| if pixel < 30 { 255 } else { 0 })
        .collect();
    let mask = Image::new(6, 8, 1, Pixels::U8(pixels)).unwrap();
    place.file("mask.png", encode_png(&mask).unwrap());
    fill("1", "mask", &["--mask", "mask.png"]).ended(0);
    fill("1", "nothing", &[]).ended(2);
    fill("1", "small", &["--mask", "one/filled.png"]).ended(2);
}

#[test]
fn samples_in_an_archive_are_the_samples() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let sample = |words: &[&str]| {
        place
            .vermeer(&[&["sample", "runs/tiny", "--json"][..], words].concat())
            .ended(0)
            .json()
    };
    sample(&["-n", "5", "--out", "plain"]);
    sample(&["-n", "5", "--out", "npz", "--archive", "npz"]);
    sample(&["-n", "5", "--out", "zip", "--archive", "zip"]);
    assert_eq!(files(&place, "npz"), ["grid.png", "samples.npz"]);
    let mut archive =
        zip::ZipArchive::new(fs::File::open(place.path("zip/samples.zip")).unwrap()).unwrap();
    let mut all = Vec::new();
    for number in 0..5 {
        let name = format!("seed0-{number:06}.png");
        let plain = fs::read(place.path(&format!("plain/{name}"))).unwrap();
        let mut packed = Vec::new();
        std::io::copy(&mut archive.by_name(&name).unwrap(), &mut packed).unwrap();
        assert_eq!(plain, packed, "{name}");
        let path = place.path(&format!("plain/{name}"));
        let image = decode_file(&path, &Limits::cli()).unwrap().image;
        match image.pixels() {
            Pixels::U8(bytes) => all.extend(bytes.iter().copied()),
            _ => panic!("samples are bytes"),
        }
    }
    let npz = fs::read(place.path("npz/samples.npz")).unwrap();
    let found = npz.windows(all.len()).any(|part| part == all);
    assert!(found, "the bytes of the images lie side by side");

    // One sample of each of several seeds.
    let told = sample(&["--seed", "3,5-6", "--out", "seeds"]);
    assert_eq!(told["count"], 3);
    assert_eq!(
        files(&place, "seeds"),
        [
            "grid.png",
            "seed3-000000.png",
            "seed5-000000.png",
            "seed6-000000.png"
        ]
    );
    let words = ["sample", "runs/tiny", "--out", "no", "--temperature", "0.5"];
    place.vermeer(&words).ended(2);
}

#[test]
fn likelihoods_are_named_by_their_pixels() {
    let place = Place::new();
    place.trained(family("pixel-cnn").unwrap(), "tiny");
    let words = [
        "eval",
        "nll",
        "runs/tiny",
        "--data",
        WORLD,
        "--limit",
        "6",
        "--json",
    ];
    let found = place.vermeer(&words).ended(0).json();
    assert_eq!(found["nll"]["name"], "nll_levels4_exact");
    let (nats, bits) = (&found["nll"]["nats"], &found["bits_per_dim"]);
    let dimensions = found["dimensions"].as_f64().unwrap();
    let expected = nats.as_f64().unwrap() / dimensions / std::f64::consts::LN_2;
    assert!((bits.as_f64().unwrap() - expected).abs() < 1e-9);
    place
        .vermeer(&[&words[..], &["--draws", "3"]].concat())
        .ended(2);
    place
        .vermeer(&[&words[..], &["--binarise", "dynamic"]].concat())
        .ended(2);
    place
        .vermeer(&["eval", "nll", "runs/tiny", "--check-normalised"])
        .ended(2);

    place.trained(family("vae").unwrap(), "vae");
    let words = [
        "eval", "nll", "runs/vae", "--data", WORLD, "--limit", "4", "--draws", "20",
    ];
    let found = place
        .vermeer(&[&words[..], &["--json"]].concat())
        .ended(0)
        .json();
    assert_eq!(found["nll"]["name"], "cross_entropy_grey_iwae20");
    assert!(found["bits_per_dim"].is_null() && !found["negative_elbo"].is_null());
}
