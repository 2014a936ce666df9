//! What is written when a run ends: the model card and the report.

use crate::curve::{Scale, Series};
use crate::report::{Chart, Picture, ReportInput, write_report};
use crate::run::{MetricLine, RunDir, VerdictLine, read_metrics, replace_file, shell_word};
use crate::task::Task;
use crate::train::{Outcome, Plan};
use crate::{Error, Result};

/// Writes `README.md` (the model card) and `report.html` into the run.
///
/// # Errors
/// [`Error::Io`] when the disk refuses.
pub fn write(run: &RunDir, plan: &Plan, outcome: &Outcome) -> Result<()> {
    replace_file(&run.readme_path(), card(plan, outcome).as_bytes())?;
    write_report(&report(run, plan, outcome)?, &run.report_path())
}

fn ending(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![match &outcome.stopped_early {
        Some(why) => format!("Training stopped at step {}; {why}.", outcome.step),
        None => format!("Training ran to step {}.", outcome.step),
    }];
    if let Some((step, loss)) = outcome.best {
        lines.push(format!(
            "The lowest validation loss is {loss:.4}, at step {step}."
        ));
    }
    if let Some(health) = &outcome.health {
        lines.push(format!(
            "The last health verdict is \"{}\".",
            verdict_word(health.verdict)
        ));
        lines.extend(health.reasons());
    }
    lines
}

fn verdict_word(verdict: crate::run::Verdict) -> &'static str {
    match verdict {
        crate::run::Verdict::Ok => "ok",
        crate::run::Verdict::Watch => "watch",
        crate::run::Verdict::Bad => "bad",
    }
}

fn data_facts(plan: &Plan) -> Vec<(String, String)> {
    let about = plan.train.describe();
    let classes = match about.classes.is_empty() {
        true => "none".to_string(),
        false => format!("{}: {}", about.classes.len(), about.classes.join(", ")),
    };
    let name = std::path::Path::new(&about.location).file_name();
    let name = name.map_or_else(
        || about.location.clone(),
        |n| n.to_string_lossy().into_owned(),
    );
    [
        ("source", name),
        ("format", about.format.clone()),
        ("training images", plan.train.len().to_string()),
        ("validation images", plan.validation.len().to_string()),
        (
            "image size",
            format!(
                "{}×{}, {} channel(s)",
                plan.spec.height, plan.spec.width, plan.spec.channels
            ),
        ),
        ("classes", classes),
        ("digest", plan.data_digest.clone()),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .to_vec()
}

fn card(plan: &Plan, outcome: &Outcome) -> String {
    let info = plan.family.info();
    let mut text = format!(
        "---\nlibrary_name: vermeer\n{}license: unknown\ntags: [{}]\n---\n\n# {}\n\n{} ({}).\n\n",
        match info.tasks.contains(&Task::Generate) {
            true => "pipeline_tag: unconditional-image-generation\n",
            false => "",
        },
        info.id,
        plan.settings.name,
        info.title,
        info.paper
    );
    for line in ending(outcome) {
        text += &format!("{line}\n");
    }
    text += "\n## Data\n\n";
    for (name, value) in data_facts(plan) {
        text += &format!("- {name}: {value}\n");
    }
    let name = shell_word(&outcome.run);
    let commands: Vec<String> = info
        .tasks
        .iter()
        .map(|task| match task {
            Task::Generate => format!("vermeer sample {name} -n 16"),
            Task::Interpolate => format!("vermeer interpolate {name}"),
            Task::Reconstruct => format!("vermeer reconstruct {name} IMAGES -o again/"),
            Task::Encode => format!("vermeer encode {name} IMAGES -o codes.npz"),
            Task::Denoise => format!("vermeer denoise {name} IMAGES -o clean/"),
            Task::Inpaint => format!("vermeer inpaint {name} IMAGES --keep top -o filled/"),
        })
        .collect();
    text += &format!(
        "\n## Use\n\n```\n{}\n```\n\nEvery setting is in `config.toml`; `report.html` has curves and pictures. \
         The licence of the weights is for whoever trained them to state; it depends on the images.\n",
        commands.join("\n")
    );
    text
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let place = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&place, inner, into),
            other => into.push((place, other.to_string())),
        }
    }
}

/// What the report of a run shows: its ending, data, curves, health, pictures and settings.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] when the run's files cannot be read.
pub fn report(run: &RunDir, plan: &Plan, outcome: &Outcome) -> Result<ReportInput> {
    let lines = read_metrics(&run.metrics_path())?;
    let mut health: Vec<VerdictLine> = vec![];
    let mut values: std::collections::BTreeMap<String, Vec<Series>> = Default::default();
    for line in lines {
        match line {
            MetricLine::Verdict(verdict) => health.push(verdict),
            MetricLine::Value(value) => {
                // One chart for each quantity, with training and validation together.
                let charts = values.entry(value.name.clone()).or_default();
                let point = (value.step as f64, value.value);
                match charts.iter_mut().find(|s| s.name == value.split) {
                    Some(series) => series.points.push(point),
                    None => charts.push(Series {
                        name: value.split.clone(),
                        points: vec![point],
                    }),
                }
            }
        }
    }
    let charts = values
        .into_iter()
        .map(|(title, series)| Chart {
            title,
            scale: Scale::Linear,
            series,
        })
        .collect();
    let (samples, development) = pictures(run)?;
    let mut settings = vec![];
    flatten("", &plan.settings.table()?, &mut settings);
    let info = plan.family.info();
    Ok(ReportInput {
        title: plan.settings.name.clone(),
        summary: ending(outcome),
        facts: [
            ("family", info.title.to_string()),
            ("paper", info.paper.to_string()),
            ("seed", plan.settings.seed.to_string()),
        ]
        .map(|(k, v)| (k.to_string(), v))
        .to_vec(),
        data: data_facts(plan),
        samples,
        development,
        charts,
        health,
        settings,
    })
}

/// The last picture of each kind, and how the samples developed as an animation.
fn pictures(run: &RunDir) -> Result<(Vec<Picture>, Option<Picture>)> {
    let folder = run.samples_path();
    let mut names: Vec<_> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|x| x == "png"))
            .collect(),
        Err(_) => vec![],
    };
    names.sort();
    let read =
        |path: &std::path::PathBuf| std::fs::read(path).map_err(|error| Error::io(path, error));
    let kind = |prefix: &str| -> Vec<&std::path::PathBuf> {
        names
            .iter()
            .filter(|p| {
                p.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
            })
            .collect()
    };
    let mut last = vec![];
    for (prefix, caption) in [
        ("step-", "Samples from the same latents at the last step"),
        (
            "reconstruction-",
            "Validation images and their reconstructions, side by side",
        ),
    ] {
        if let Some(path) = kind(prefix).last() {
            last.push(Picture::png(caption, read(path)?));
        }
    }
    let mut frames = vec![];
    for path in kind("step-") {
        frames.push(vermeer_image::decode_file(path, &vermeer_image::Limits::cli())?.image);
    }
    let development = match frames.len() > 1 {
        true => Some(Picture::gif(
            "How the same latents developed during training",
            vermeer_image::encode_gif(&frames, 400)?,
        )),
        false => None,
    };
    Ok((last, development))
}
