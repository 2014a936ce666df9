//! `vermeer eval compare`: whether two evaluations differ by more than chance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use vermeer::evaluate::{Difference, Measured, difference};
use vermeer::{Error, Result};
use vermeer_image::metrics::interval::of_mean;
use vermeer_image::metrics::{Kind, metric};

use super::table;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval fid kid ours/ photos/ --json >ours.json
  vermeer eval fid kid theirs/ photos/ --json >theirs.json
  vermeer eval compare ours.json theirs.json

Values of different protocols, networks, numbers of images or real images are refused: --force
compares them all the same.";

/// Compare two evaluations that were kept with --json.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The first evaluation.
    #[arg(value_name = "A.json")]
    first: PathBuf,
    /// The second evaluation.
    #[arg(value_name = "B.json")]
    second: PathBuf,
    /// Compare values whose passports differ.
    #[arg(long)]
    force: bool,
    /// Print the differences as JSON.
    #[arg(long)]
    json: bool,
}

/// The part of an evaluation that is compared.
#[derive(Deserialize)]
struct Evaluation {
    values: Vec<Measured>,
    pairs: Option<Pairs>,
}

/// Values of single pairs.
#[derive(Deserialize)]
struct Pairs {
    scores: Vec<Scores>,
}

#[derive(Deserialize)]
struct Scores {
    name: String,
    each: Vec<Score>,
}

#[derive(Deserialize)]
struct Score {
    pair: String,
    /// A number, or `inf` as a text.
    value: Value,
}

impl Evaluation {
    /// The values of the pairs by this metric.
    fn each(&self, name: &str) -> Option<BTreeMap<&str, f64>> {
        let scores = self
            .pairs
            .as_ref()?
            .scores
            .iter()
            .find(|scores| scores.name == name)?;
        let value = |score: &Score| match &score.value {
            Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        };
        let each = scores
            .each
            .iter()
            .map(|score| Some((score.pair.as_str(), value(score)?)));
        each.collect()
    }
}

/// The difference of two evaluations against the same originals: pair by pair, since a pair that is
/// hard for one is hard for the other.
fn paired(
    a: &Measured,
    b: &Measured,
    first: &Evaluation,
    second: &Evaluation,
) -> Option<Difference> {
    let (ours, theirs) = (first.each(&a.name)?, second.each(&a.name)?);
    let apart: Option<Vec<f64>> = ours
        .iter()
        .map(|(pair, value)| Some(value - theirs.get(pair)?))
        .collect();
    let apart = apart.filter(|apart| apart.len() == theirs.len())?;
    let interval = of_mean(&apart)?;
    let difference = apart.iter().sum::<f64>() / apart.len() as f64;
    Some(Difference::of(a, b, difference, interval))
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let mut differences = Vec::new();
        let mut without = Vec::new();
        for a in &first.values {
            let Some(b) = second.values.iter().find(|b| b.name == a.name) else {
                continue;
            };
            let found = match metric(&a.metric).map(|metric| metric.kind) {
                Some(Kind::Pair { .. }) => {
                    if !self.force {
                        a.passport.comparable(&b.passport)?;
                    }
                    paired(a, b, &first, &second)
                }
                _ => difference(a, b, self.force)?,
            };
            match found {
                Some(found) => differences.push(found),
                None => without.push(json!({"name": a.name, "first": a.value, "second": b.value})),
            }
        }
        if differences.is_empty() && without.is_empty() {
            return Err(Error::settings(
                format!(
                    "the two evaluations have no value of one name: {} and {}",
                    names(&first),
                    names(&second)
                ),
                "compute the same metrics in the same way for both",
            ));
        }
        if self.json {
            return terminal
                .json(&json!({"differences": differences, "without_interval": without}));
        }
        if !differences.is_empty() {
            terminal.result(&table::differences(&differences))?;
        }
        for pair in without {
            let text = |key: &str| pair[key].to_string();
            let name = text("name");
            terminal.result(&format!(
                "{}  {} and {}: no interval, so nothing is said of chance",
                name.trim_matches('"'),
                text("first"),
                text("second")
            ))?;
        }
        Ok(())
    }
}

fn names(of: &Evaluation) -> String {
    let names: Vec<&str> = of.values.iter().map(|value| value.name.as_str()).collect();
    names.join(", ")
}

fn read(path: &Path) -> Result<Evaluation> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let found: Evaluation = serde_json::from_str(&text).map_err(|error| {
        Error::data(
            path,
            format!("this is no evaluation: {error}"),
            "make it with `vermeer eval … --json`",
        )
    })?;
    let mut names: Vec<&str> = found
        .values
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(found),
        Some(pair) => Err(Error::settings(
            format!("{} holds {} of two sets", path.display(), pair[0]),
            "compare files of one set each, made without --versus",
        )),
    }
}
