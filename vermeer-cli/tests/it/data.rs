//! Data sets are made and inspected.

use std::fs;

use crate::place::{Place, shared};

#[test]
fn a_world_becomes_a_folder_that_is_clean() {
    let place = Place::new();
    place
        .vermeer(&[
            "data", "make", "glyphs", "-o", "made", "--count", "20", "--size", "16", "--seed", "3",
        ])
        .ended(0);
    let said = place
        .vermeer(&["data", "inspect", "made", "--json", "--sheet", "sheet.png"])
        .ended(0)
        .json();
    assert_eq!(
        (&said["report"]["images"], &said["report"]["readable"]),
        (&20.into(), &20.into())
    );
    assert_eq!(said["report"]["classes"].as_array().unwrap().len(), 10);
    assert!(
        fs::read(place.path("sheet.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    // Neither folder nor sheet is written over.
    let before = place.everything();
    place
        .vermeer(&["data", "make", "glyphs", "-o", "made", "--count", "20"])
        .ended(2);
    place
        .vermeer(&["data", "inspect", "made", "--sheet", "sheet.png"])
        .ended(2);
    assert_eq!(place.everything(), before);
}

#[test]
fn bad_files_are_named_and_a_clean_copy_leaves_them_out() {
    let place = Place::new();
    place
        .vermeer(&[
            "data", "make", "glyphs", "-o", "made", "--count", "20", "--size", "16",
        ])
        .ended(0);
    let class = fs::read_dir(place.path("made"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir());
    let class = class.unwrap();
    let one = fs::read_dir(&class)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = fs::read(&one).unwrap();
    fs::write(class.join("torn.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(class.join("text.png"), "no picture").unwrap();
    fs::copy(&one, class.join("again.png")).unwrap();

    let said = place.vermeer(&["data", "inspect", "made"]).ended(3);
    for part in [
        "unreadable (1)",
        "truncated (1)",
        "duplicate (1)",
        "text.png",
        "torn.png",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    place
        .vermeer(&["data", "inspect", "made", "--fix", "clean"])
        .ended(0);
    let said = place
        .vermeer(&["data", "inspect", "clean", "--json"])
        .ended(0)
        .json();
    assert_eq!(said["report"]["images"], 20);
    assert_eq!(said["report"]["offenders"].as_array().unwrap().len(), 0);
}

#[test]
fn published_sets_are_opened_as_they_are() {
    let Some(shared) = shared() else { return };
    let place = Place::new();
    for name in ["fashion_mnist", "mnist"] {
        let location = shared.join("data").join(name);
        let words = [
            "train",
            "--data",
            location.to_str().unwrap(),
            "--model",
            "vae",
            "--dry-run",
            "--quiet",
        ];
        let said = place.vermeer(&words).ended(0);
        assert!(
            said.out.contains("60000") || said.out.contains("57000"),
            "{name}: {}",
            said.out
        );
    }
    assert!(place.everything().is_empty());
}
