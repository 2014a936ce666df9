//! What commands write: all of it or nothing, and never over what exists.

use std::fs;

use vermeer::registry::family;

use crate::place::Place;

#[test]
fn a_run_tells_what_it_is() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    for file in [
        "run.json",
        "config.toml",
        "metrics.jsonl",
        "README.md",
        "report.html",
        "checkpoints/LATEST",
    ] {
        assert!(place.path("runs/tiny").join(file).is_file(), "{file}");
    }
    let list = place.vermeer(&["runs", "list", "--json"]).ended(0).json();
    assert_eq!(
        (&list[0]["run"], &list[0]["status"], &list[0]["step"]),
        (&"runs/tiny".into(), &"finished".into(), &3.into())
    );
    assert!(
        place
            .vermeer(&["runs", "list"])
            .ended(0)
            .out
            .contains("runs/tiny")
    );
    let show = place
        .vermeer(&["runs", "show", "runs/tiny", "--json"])
        .ended(0)
        .json();
    assert_eq!(
        (
            &show["record"]["family"],
            &show["settings"]["train"]["steps"]
        ),
        (&"vae".into(), &3.into())
    );
    let text = place.vermeer(&["runs", "show", "runs/tiny"]).ended(0).out;
    assert!(
        text.contains("finished") && text.contains("batch_size = 8"),
        "{text}"
    );
    let list = |folder: &str| place.vermeer(&["runs", "list", "--runs", folder]);
    assert!(list("elsewhere").ended(2).err.contains("elsewhere"));
    std::fs::create_dir(place.path("empty")).unwrap();
    assert!(list("empty").ended(0).out.is_empty());
}

#[test]
fn an_existing_run_is_never_written_over() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let before = place.everything();
    for (words, part) in [
        (["train", "tiny.toml"], "exists already"),
        (["train", "runs/tiny"], "is a run already"),
    ] {
        let said = place.vermeer(&words).ended(2);
        assert!(
            said.err.contains(part) && said.err.contains("--resume"),
            "{}",
            said.err
        );
        assert_eq!(place.everything(), before);
    }
}

#[test]
fn samples_are_written_whole_and_not_over_others() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    place
        .vermeer(&[
            "sample",
            "runs/tiny",
            "-n",
            "3",
            "--out",
            "out/deep",
            "--seed",
            "5",
        ])
        .ended(0);
    let names: Vec<_> = ["grid", "seed5-000000", "seed5-000001", "seed5-000002"]
        .map(|name| format!("{name}.png"))
        .into();
    let mut found: Vec<_> = fs::read_dir(place.path("out/deep"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);

    let before = place.everything();
    let words = [
        "sample",
        "runs/tiny",
        "-n",
        "3",
        "--out",
        "out/deep",
        "--seed",
        "6",
    ];
    let said = place.vermeer(&words).ended(2);
    assert!(
        said.err.contains("grid.png exists already") && said.err.contains("--overwrite"),
        "{}",
        said.err
    );
    assert_eq!(place.everything(), before);
    place
        .vermeer(&[&words[..], &["--overwrite", "--grid"]].concat())
        .ended(0);
    assert_ne!(place.everything(), before);

    // A request that fails after its outputs were prepared leaves nothing of them.
    let before = place.everything();
    place
        .vermeer(&["sample", "runs/tiny", "--class", "nobody", "--out", "other"])
        .ended(2);
    place
        .vermeer(&[
            "sample",
            "runs/tiny",
            "--checkpoint",
            "77",
            "--out",
            "other",
        ])
        .ended(2);
    assert_eq!(place.everything(), before);
}

#[test]
fn interpolations_and_reconstructions_come_in_their_formats() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    for (name, start) in [
        ("way.gif", &b"GIF89a"[..]),
        ("way.apng", b"\x89PNG"),
        ("way.png", b"\x89PNG"),
    ] {
        place
            .vermeer(&["interpolate", "runs/tiny", "--frames", "4", "-o", name])
            .ended(0);
        assert!(
            fs::read(place.path(name)).unwrap().starts_with(start),
            "{name}"
        );
    }
    place
        .vermeer(&["interpolate", "runs/tiny", "-o", "way.jpg"])
        .ended(2);
    let words = [
        "reconstruct",
        "runs/tiny",
        "way.png",
        "world:glyphs?count=9",
        "--limit",
        "6",
        "-o",
        "seen",
        "--json",
    ];
    let said = place.vermeer(&words).ended(0).json();
    assert_eq!(said["images"].as_array().unwrap().len(), 6);
    assert!(said["mse_unit"].as_f64().unwrap() > 0.0);
    assert_eq!(fs::read_dir(place.path("seen")).unwrap().count(), 7);
    let before = place.everything();
    place
        .vermeer(&[
            "reconstruct",
            "runs/tiny",
            "way.gif",
            "none.png",
            "-o",
            "more",
        ])
        .ended(2);
    assert_eq!(place.everything(), before);
}

#[test]
fn a_task_the_model_does_not_do_is_refused() {
    let place = Place::new();
    place.trained(family("dcgan").unwrap(), "tiny");
    let before = place.everything();
    let said = place
        .vermeer(&["reconstruct", "runs/tiny", "world:glyphs", "-o", "seen"])
        .ended(2);
    assert!(
        said.err.contains("reconstruct") && said.err.contains("generate"),
        "{}",
        said.err
    );
    assert_eq!(place.everything(), before);
}

#[test]
fn a_likelihood_is_bounded_under_its_name() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let words = [
        "eval",
        "nll",
        "runs/tiny",
        "--data",
        "world:glyphs",
        "--limit",
        "8",
        "--binarise",
        "dynamic",
        "--json",
    ];
    let said = |draws: &str| {
        place
            .vermeer(&[&words[..], &["--draws", draws]].concat())
            .ended(0)
            .json()
    };
    let (few, many) = (said("1"), said("50"));
    assert_eq!(many["nll"]["name"], "nll_dynamic_iwae50");
    let nats = |measured: &serde_json::Value, what: &str| measured[what]["nats"].as_f64().unwrap();
    // One draw is the ELBO itself; more draws tighten the bound (Burda et al., 2016).
    assert_eq!(nats(&few, "nll"), nats(&few, "negative_elbo"));
    assert_eq!(nats(&few, "negative_elbo"), nats(&many, "negative_elbo"));
    assert!(nats(&many, "nll") < nats(&few, "nll"));
}

#[test]
fn a_demonstration_works_with_no_other_file() {
    let place = Place::new();
    for name in ["demo", "demo-2"] {
        let said = place.vermeer(&["demo", "--steps", "2"]).ended(0);
        let report = format!("runs/{name}/report.html");
        assert_eq!(said.out.trim(), report);
        for stage in ["1/5", "2/5", "3/5", "4/5", "5/5"] {
            assert!(said.err.contains(stage), "{stage}: {}", said.err);
        }
        let page = fs::read_to_string(place.path(&report)).unwrap();
        assert!(
            page.contains("data:image/gif;base64,") && page.contains("From sample 0 to sample 1")
        );
        for file in ["samples.png", "interpolation.gif", "data.png"] {
            assert!(
                place.path(&format!("runs/{name}/outputs/{file}")).is_file(),
                "{file}"
            );
        }
    }
}
