//! `vermeer demo`: everything once, on a bare machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use vermeer::Result;
use vermeer::data::inspect::{contact_sheet, inspect};
use vermeer::data::{OpenOptions, Split};
use vermeer::pipeline::{self, Which};
use vermeer::report::{Picture, write_report};
use vermeer::run::RunDir;
use vermeer::task::{SampleOptions, Task};
use vermeer::train::{Plan, Settings, Training};
use vermeer_image::{encode_gif, encode_png, grid};

use crate::commands::typed;
use crate::generation::{generate, interpolate};
use crate::outputs::Outputs;
use crate::progress::duration;
use crate::stop;
use crate::terminal::Terminal;
use crate::training_view::TrainingView;

const EXAMPLES: &str = "\
Examples:
  vermeer demo                  a world of glyphs, a VAE, samples and a report in runs/demo
  vermeer demo --minutes 1      the same with a shorter training
  vermeer demo --out /tmp/runs  somewhere else";

/// The settings of the demonstration, part of the program so that it works with no other file.
const RECIPE: &str = include_str!("../../../recipes/demo.toml");
/// Where they come from, for messages.
const RECIPE_NAME: &str = "recipes/demo.toml";

const STAGES: usize = 5;
const SAMPLES: u64 = 64;
const BATCH: usize = 64;
const FRAMES: usize = 32;
const FRAME_MS: u32 = 80;

/// Make a data set, train on it, sample, and report, in less than a minute.
///
/// A second demonstration goes to runs/demo-2.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder of all runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    out: PathBuf,
    /// Train for about so many minutes at most.
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<f64>,
    /// Train for so many steps.
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let begun = Instant::now();
        let stage = |number: usize, text: &str| terminal.note(&format!("{number}/{STAGES} {text}"));
        let device = vermeer::device::parse(&self.device)?;
        let mut settings = Settings::parse(RECIPE, RECIPE_NAME)?;
        settings.name = free_name(&self.out, "demo");
        settings.train.steps = self.steps.unwrap_or(settings.train.steps);

        stage(1, &format!("data: {}", settings.data.source));
        let progress = terminal.progress("images");
        let options = OpenOptions {
            split: Split::All,
            ..OpenOptions::default()
        };
        let data = inspect(&settings.data.source, &options, &|done, all| {
            progress.at(done, all)
        })?;
        drop(progress);
        terminal.note(data.to_text().trim_end());
        let training_images = contact_sheet(&data)?;

        let mut plan = Plan::new(settings, &device)?;
        if let Some(minutes) = self.minutes {
            let affordable = 60.0 * minutes / plan.estimate()?.seconds_per_step.max(1e-9);
            plan.settings.train.steps = (affordable as u64).clamp(1, plan.settings.train.steps);
        }
        stage(
            2,
            &format!(
                "train: a {} in {}",
                plan.settings.family,
                self.out.join(&plan.settings.name).display()
            ),
        );
        let stop = stop::flag()?;
        let mut view = TrainingView::new(terminal, Arc::clone(&stop));
        let outcome =
            Training::start(plan.clone(), &self.out, typed(), None)?.run(&mut view, &stop)?;
        drop(view);

        let run = RunDir::open(&outcome.run)?;
        let model = pipeline::open(&run, Which::Latest, &device)?;
        let names = ["data.png", "samples.png", "interpolation.gif"].map(str::to_owned);
        let folder = run.path().join("outputs");
        let outputs = Outputs::new(&folder, names.to_vec(), false)?;
        let options = SampleOptions::default();
        stage(
            3,
            &format!("samples: {}", folder.join("samples.png").display()),
        );
        let numbers: Vec<u64> = (0..SAMPLES).collect();
        let mut images = vec![];
        let progress = terminal.progress("samples");
        generate(
            &model,
            &numbers,
            &options,
            BATCH,
            &progress,
            &stop,
            |_, image| {
                images.push(image);
                Ok(())
            },
        )?;
        let samples = grid(&images, None, 2, None)?;
        stage(
            4,
            &format!(
                "interpolation: {}",
                folder.join("interpolation.gif").display()
            ),
        );
        let frames = match model.pipeline.tasks().contains(&Task::Interpolate) {
            true => interpolate(&model, (0, 1), FRAMES, &options, &progress)?,
            false => vec![samples.clone()],
        };
        drop(progress);
        let files = [
            encode_png(&training_images)?,
            encode_png(&samples)?,
            encode_gif(&frames, FRAME_MS)?,
        ];
        for (name, bytes) in names.iter().zip(&files) {
            outputs.write(name, bytes)?;
        }
        outputs.publish()?;
        terminal.picture(&samples);

        stage(5, &format!("report: {}", run.report_path().display()));
        let [data, samples, way] = files;
        let mut report = vermeer::card::report(&run, &plan, &outcome)?;
        report.samples.extend([
            Picture::png(format!("{SAMPLES} samples of the trained model"), samples),
            Picture::gif("From sample 0 to sample 1", way),
            Picture::png("Some of the training images", data),
        ]);
        write_report(&report, &run.report_path())?;
        terminal.note(&format!(
            "done in {}; open {} in a browser, or try\n  vermeer sample {run} -n 64 --grid\n  vermeer train --data YOUR_IMAGES/ --model vae",
            duration(begun.elapsed().as_secs_f64()),
            run.report_path().display(),
            run = run.path().display(),
        ));
        terminal.result(&run.report_path().display().to_string())
    }
}

/// `name`, or the first of `name-2`, `name-3`, … that no run has.
fn free_name(root: &Path, name: &str) -> String {
    let taken = |name: &String| root.join(name).symlink_metadata().is_ok();
    let numbered = (2u64..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && f64::is_finite(minutes) => Ok(minutes),
        _ => Err("expected a number of minutes larger than zero".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_is_complete() {
        let settings = Settings::parse(RECIPE, RECIPE_NAME).unwrap();
        assert!(
            settings.data.source.starts_with("world:"),
            "{}",
            settings.data.source
        );
        settings.resolved().unwrap();
    }

    #[test]
    fn a_demonstration_takes_the_next_free_name() {
        let root = tempfile::tempdir().unwrap();
        for expected in ["demo", "demo-2", "demo-3"] {
            let name = free_name(root.path(), "demo");
            assert_eq!(name, expected);
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
    }
}
