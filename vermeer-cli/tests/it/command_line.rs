//! Help, completions, streams and exit codes.

use crate::place::Place;

const COMMANDS: &[&[&str]] = &[
    &["demo"],
    &["train"],
    &["sample"],
    &["reconstruct"],
    &["interpolate"],
    &["eval"],
    &["eval", "memorization"],
    &["eval", "modes"],
    &["eval", "artifacts"],
    &["eval", "cas"],
    &["eval", "compare"],
    &["eval", "stats"],
    &["eval", "nll"],
    &["eval", "judge"],
    &["eval", "probe"],
    &["encode"],
    &["denoise"],
    &["inpaint"],
    &["edit"],
    &["directions"],
    &["traverse"],
    &["map"],
    &["data"],
    &["data", "inspect"],
    &["data", "make"],
    &["models"],
    &["models", "list"],
    &["models", "describe"],
    &["models", "import"],
    &["models", "fetch"],
    &["runs"],
    &["runs", "list"],
    &["runs", "show"],
    &["doctor"],
    &["completions"],
    &["compare"],
];

#[test]
fn help_is_given_for_every_command() {
    let place = Place::new();
    let whole = place.vermeer(&["--help"]).ended(0);
    assert!(whole.out.contains("Exit codes:"), "{}", whole.out);
    for words in COMMANDS {
        let said = place.vermeer(&[*words, &["--help"]].concat()).ended(0);
        assert!(said.out.contains("Examples:\n"), "{words:?}: {}", said.out);
        if words.len() == 1 {
            assert!(whole.out.contains(words[0]), "{words:?}");
        }
    }
}

#[test]
fn misuse_ends_with_2_and_says_how_to_use_it() {
    let place = Place::new();
    for words in [
        &[][..],
        &["trian"],
        &["sample"],
        &["train", "--no-such-flag"],
        &["sample", "x", "-n", "0"],
    ] {
        let said = place.vermeer(words).ended(2);
        assert!(
            said.out.is_empty() && said.err.contains("--help"),
            "{words:?}: {}",
            said.err
        );
    }
    assert!(place.vermeer(&["trian"]).err.contains("train"));
    assert!(place.everything().is_empty());
}

#[test]
fn shells_get_their_completions() {
    let place = Place::new();
    for (shell, part) in [
        ("bash", "complete"),
        ("zsh", "#compdef vermeer"),
        ("fish", "complete -c vermeer"),
    ] {
        let said = place.vermeer(&["completions", shell]).ended(0);
        assert!(said.out.contains(part), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let place = Place::new();
    for words in [
        &["models", "list"][..],
        &["completions", "bash"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(words).stdout(writer).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn families_are_listed_and_described() {
    let place = Place::new();
    let list = place.vermeer(&["models", "list", "--json"]).ended(0).json();
    let ids: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|info| info["id"].as_str().unwrap())
        .collect();
    let known: Vec<&str> = vermeer::registry::FAMILIES
        .iter()
        .map(|family| family.info().id)
        .collect();
    assert_eq!(ids, known);
    let text = place.vermeer(&["models", "list"]).ended(0).out;
    for id in ids {
        assert!(text.contains(id), "{text}");
        // What is described can be trained with.
        let recipe = place.vermeer(&["models", "describe", id]).ended(0).out;
        place.file("described.toml", recipe);
        let words = [
            "train",
            "described.toml",
            "--data",
            "world:glyphs?count=64",
            "--set",
            "train.batch_size=8",
            "-n",
        ];
        let said = place.vermeer(&words).ended(0);
        assert!(said.out.contains("# parameters"), "{}", said.out);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn published_weights_are_listed_and_checked_where_they_lie() {
    let place = Place::new();
    let list = place
        .vermeer(&["models", "fetch", "--json"])
        .ended(0)
        .json();
    let text = place.vermeer(&["models", "fetch"]).ended(0).out;
    let known = vermeer::published::PUBLISHED;
    assert_eq!(list.as_array().unwrap().len(), known.len());
    for (entry, published) in list.as_array().unwrap().iter().zip(known) {
        assert_eq!(entry["sha256"], published.sha256);
        assert!(text.contains(published.id) && text.contains(published.url));
    }

    let said = place
        .vermeer(&["models", "fetch", "inception", "inceptoin"])
        .ended(2);
    assert!(said.err.contains("inceptoin"), "{}", said.err);
    assert!(place.everything().is_empty());

    place.file("w/lpips_alex.pth", b"something else");
    let before = place.everything();
    let said = place
        .vermeer(&["models", "fetch", "lpips-alex", "--out", "w"])
        .ended(4);
    assert!(said.err.contains("lpips_alex.pth"), "{}", said.err);
    assert_eq!(place.everything(), before);
}

#[test]
fn the_doctor_finds_the_processor() {
    let place = Place::new();
    let said = place
        .vermeer(&["doctor", "--seconds", "0.1", "--json"])
        .ended(0)
        .json();
    assert_eq!(said["devices"][0]["works"], true);
    assert!(said["speed"]["matmul_512_gflops"].as_f64().unwrap() > 0.0);
    let text = place
        .vermeer(&["doctor", "--seconds", "0", "--threads", "1"])
        .ended(0)
        .out;
    assert!(
        text.contains("1 threads in use") && !text.contains("speed"),
        "{text}"
    );
}
