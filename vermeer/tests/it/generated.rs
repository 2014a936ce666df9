//! The generated parts of README and docs against the lists.

use std::fs;
use std::path::Path;

use vermeer::registry::FAMILIES;
use vermeer::task::TASKS;
use vermeer::train::TrainSettings;
use vermeer_image::metrics::{Better, METRICS, Metric};

/// The lines between the markers of a generated part, without its two header lines.
fn rows(file: &str, name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(&path).unwrap();
    let (_, rest) = text
        .split_once(&format!("<!-- generated: {name} -->\n"))
        .unwrap();
    let (part, _) = rest.split_once(&format!("<!-- end: {name} -->")).unwrap();
    part.lines().skip(2).map(str::to_owned).collect()
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
    assert_eq!(rows("README.md", "families"), families);
    let tasks: Vec<String> = TASKS
        .iter()
        .map(|task| {
            let answers = FAMILIES
                .iter()
                .map(|family| match family.info().tasks.contains(task) {
                    true => " ✓ |",
                    false => " – |",
                });
            format!("| {} |{}", task.name(), answers.collect::<String>())
        })
        .collect();
    assert_eq!(rows("README.md", "tasks"), tasks);
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
    assert_eq!(rows("docs/evaluation.md", "metrics"), expected);
}
