//! The generated parts of README and docs against the lists.

use std::fs;
use std::path::{Path, PathBuf};

use vermeer::registry::FAMILIES;
use vermeer::task::TASKS;
use vermeer::train::TrainSettings;
use vermeer_image::metrics::{Better, METRICS, Metric};

/// What makes these tests write the generated parts instead of comparing them.
const WRITE: &str = "VERMEER_WRITE_TABLES";

fn place(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// A text around a generated part: before its two header lines' end, its rows, after.
fn parts(file: &str, name: &str) -> [String; 3] {
    let text = fs::read_to_string(place(file)).unwrap();
    let start = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&start).unwrap();
    let (part, after) = rest.split_once(&format!("<!-- end: {name} -->")).unwrap();
    let header: String = part.split_inclusive('\n').take(2).collect();
    [
        format!("{before}{start}{header}"),
        part[header.len()..].to_owned(),
        format!("<!-- end: {name} -->{after}"),
    ]
}

/// The lines between the markers of a generated part, without its two header lines.
fn rows(file: &str, name: &str) -> Vec<String> {
    let [_, rows, _] = parts(file, name);
    rows.lines().map(str::to_owned).collect()
}

/// Fails unless a generated part holds these rows; writes them where that is asked for.
fn agree(file: &str, name: &str, expected: &[String]) {
    if std::env::var_os(WRITE).is_some() {
        let [before, _, after] = parts(file, name);
        let lines: String = expected.iter().map(|row| format!("{row}\n")).collect();
        fs::write(place(file), before + &lines + &after).unwrap();
    }
    assert_eq!(rows(file, name), expected, "{WRITE}=1 writes it anew");
}

#[test]
fn readme_lists_every_family_and_task() {
    let families: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let info = family.info();
            let (id, title, summary, sizes) = (info.id, info.title, info.summary, info.sizes);
            format!("| [`{id}`](docs/families/{id}.md) | {title} | {summary} | {sizes} |")
        })
        .collect();
    agree("README.md", "families", &families);
    let tasks: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let answers = TASKS
                .iter()
                .map(|task| match family.info().tasks.contains(task) {
                    true => " ✓ |",
                    false => " – |",
                });
            let answers: String = answers.collect();
            format!("| `{}` |{answers}", family.info().id)
        })
        .collect();
    agree("README.md", "tasks", &tasks);
    let header: String = TASKS
        .iter()
        .map(|task| format!(" {} |", task.name()))
        .collect();
    let [before, ..] = parts("README.md", "tasks");
    assert!(
        before.contains(&format!("| family |{header}\n")),
        "{header}"
    );
}

/// The key and the default of each row.
fn documented(file: &str, name: &str) -> Vec<(String, String)> {
    let cell = |row: &str, place: usize| {
        row.split(" | ")
            .nth(place)
            .unwrap()
            .trim_start_matches("| ")
            .replace('`', "")
    };
    rows(file, name)
        .iter()
        .map(|row| (cell(row, 0), cell(row, 1)))
        .collect()
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let shown = |table: &toml::Table| -> Vec<(String, String)> {
        table
            .iter()
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect()
    };
    for family in FAMILIES {
        let id = family.info().id;
        let defaults = shown(&family.resolve(&toml::Table::new()).unwrap());
        assert_eq!(
            documented(&format!("docs/families/{id}.md"), &format!("settings {id}")),
            defaults,
            "{id}"
        );
    }
    let defaults = shown(&toml::Table::try_from(TrainSettings::default()).unwrap());
    let rows = documented("docs/runs.md", "settings train");
    for (key, value) in &defaults {
        assert!(
            rows.contains(&(key.clone(), value.clone())),
            "train.{key} = {value}"
        );
    }
}

#[test]
fn the_guide_of_evaluation_lists_every_metric() {
    let row = |metric: &Metric| {
        let better = match metric.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
            Better::Neither => "neither",
        };
        let (id, title, floor) = (metric.id, metric.title, metric.floor);
        let (meaning, caveat) = (metric.meaning, metric.caveat);
        format!("| `{id}` | {title} | {better} | {floor} | {meaning} | {caveat} |")
    };
    let expected: Vec<String> = METRICS.iter().map(row).collect();
    agree("docs/evaluation.md", "metrics", &expected);
}
