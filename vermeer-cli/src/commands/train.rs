//! `vermeer train`: a model from a recipe, or from images and the name of a family.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use vermeer::data::OpenOptions;
use vermeer::pipeline::{Which, start_weights};
use vermeer::run::{RunDir, RunRecord, RunStatus};
use vermeer::train::{Outcome, Plan, Settings, Training};
use vermeer::{Error, Result};

use crate::commands::typed;
use crate::progress::duration;
use crate::stop;
use crate::terminal::Terminal;
use crate::training_view::{TrainingView, word};

const EXAMPLES: &str = "\
Examples:
  vermeer train --data photos/ --model vae                     no recipe needed
  vermeer train recipes/fashion-dcgan.toml --set train.steps=2000 --name short
  vermeer train --data world:shapes --model diffusion --dry-run   settings, memory, minutes
  vermeer train runs/vae-photos --resume                       go on where it stopped
  vermeer train --data more/ --model vae --init-from runs/vae-photos

Ctrl-C writes a checkpoint and ends with 75; `vermeer models describe FAMILY` lists [model].";

/// Train a model.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A settings file, or with --resume the folder of a run. Without it, --data and --model say
    /// what to do.
    #[arg(value_name = "RECIPE|RUN")]
    target: Option<PathBuf>,
    /// Model family; `vermeer models list` shows all.
    #[arg(long, alias = "model_name", value_name = "FAMILY")]
    model: Option<String>,
    /// Images: a folder, an IDX, CIFAR, zip or npz file, or a world such as `world:glyphs`.
    #[arg(long, aliases = ["dataroot", "data_dir", "train_data_dir"], value_name = "LOCATION")]
    data: Option<String>,
    /// Name of the run; the recipe's, or the family and the end of the location when absent.
    #[arg(long)]
    name: Option<String>,
    /// Folder of all runs.
    #[arg(long, aliases = ["outdir", "output_dir", "checkpoints_dir"], default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Change a setting, such as train.batch_size=32 or model.latent=8. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of every random draw.
    #[arg(long)]
    seed: Option<u64>,
    /// Optimisation steps.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Go on with a run from its last checkpoint, under the same settings.
    #[arg(long, aliases = ["continue_train", "auto_resume"])]
    resume: bool,
    /// Start from the weights of another run.
    #[arg(
        long,
        alias = "transfer",
        value_name = "RUN",
        conflicts_with = "resume"
    )]
    init_from: Option<PathBuf>,
    /// Print the resolved settings and what the run would cost, and do nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let (settings, run) = self.settings()?;
        let device = vermeer::device::parse(&self.device)?;
        let parent = match &self.init_from {
            Some(path) => {
                let run = RunDir::open(path)?;
                Some((
                    path.display().to_string(),
                    start_weights(&run, Which::Latest)?,
                ))
            }
            None => None,
        };
        let plan = Plan::new(settings, &device)?;
        plan.notes.iter().for_each(|note| terminal.note(note));
        if self.dry_run {
            return self.describe(&plan, terminal);
        }
        let stop = stop::flag()?;
        let mut view = TrainingView::new(terminal, Arc::clone(&stop));
        let training = match run {
            Some(run) => Training::resume(plan, run, &mut view)?,
            None => Training::start(plan, &self.runs, typed(), parent)?,
        };
        let outcome = training.run(&mut view, &stop);
        drop(view);
        if let (true, Err(Error::Stopped { run, step })) = (self.json, &outcome) {
            terminal.json(&json!({
                "run": run.display().to_string(),
                "step": step,
                "stopped": true,
            }))?;
        }
        let outcome = outcome?;
        self.conclude(&outcome, terminal)
    }

    /// What was typed as settings, and the run to go on with.
    fn settings(&self) -> Result<(Settings, Option<RunDir>)> {
        let (settings, mut run) = match &self.target {
            None => match &self.name {
                Some(name) if self.resume => of_run(RunDir::open(self.runs.join(name))?)?,
                _ => (Settings::default(), None),
            },
            Some(path) if path.is_dir() => self.of_folder(path)?,
            Some(path) if !path.exists() => {
                return Err(Error::settings(
                    format!("{}: there is no such recipe or run", path.display()),
                    "give a settings file or the folder of a run, or use --data and --model without a recipe",
                ));
            }
            Some(path) => (Settings::read(path)?, None),
        };
        let settings = self.with_parent(settings)?;
        let mut settings = settings.with(&self.set)?;
        if let Some(model) = &self.model {
            settings.family.clone_from(model);
        }
        if let Some(data) = &self.data {
            settings.data.source.clone_from(data);
        }
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.train.steps = self.steps.unwrap_or(settings.train.steps);
        if run.is_none() {
            if let Some(name) = &self.name {
                settings.name.clone_from(name);
            }
            if settings.name.is_empty() {
                settings.name = default_name(&settings.family, &settings.data.source);
            }
            if self.resume {
                run = Some(RunDir::open(self.runs.join(&settings.name))?);
            }
        }
        Ok((settings, run))
    }

    /// Family and network of the run to start from, where the recipe does not say other ones.
    fn with_parent(&self, mut settings: Settings) -> Result<Settings> {
        let Some(parent) = &self.init_from else {
            return Ok(settings);
        };
        let parent = Settings::read(&RunDir::open(parent)?.config_path())?;
        let family = match &self.model {
            Some(model) => model.clone(),
            None if settings.family.is_empty() => parent.family.clone(),
            None => settings.family.clone(),
        };
        if family != parent.family {
            return Err(Error::settings(
                format!(
                    "weights of family {} do not fit family {family}",
                    parent.family
                ),
                format!("use --model {}, or leave --init-from out", parent.family),
            ));
        }
        settings.family = family;
        for (key, value) in parent.model {
            settings.model.entry(key).or_insert(value);
        }
        if settings.data.size.is_none() {
            settings.data.size = parent.data.size;
        }
        if settings.data.channels.is_none() {
            settings.data.channels = parent.data.channels;
        }
        Ok(settings)
    }

    /// The settings of a folder that was named, if it is a run that may be gone on with.
    fn of_folder(&self, path: &Path) -> Result<(Settings, Option<RunDir>)> {
        let shown = path.display();
        let Ok(run) = RunDir::open(path) else {
            let remedy = match vermeer::data::open(&path.to_string_lossy(), &OpenOptions::default()) {
                Ok(_) => format!("it holds images: `vermeer train --data {shown} --model vae` trains on them"),
                Err(_) => "give a settings file or the folder of a run; `vermeer runs list` shows those there are".into(),
            };
            return Err(Error::settings(
                format!("{shown} is no run and no recipe"),
                remedy,
            ));
        };
        if !self.resume {
            return Err(Error::settings(
                format!("{shown} is a run already"),
                "add --resume to go on with it, or start another one from its weights with --init-from",
            ));
        }
        if self.name.is_some() {
            return Err(Error::settings(
                format!("{shown} has a name, and --name gives it another"),
                "leave --name out; it is for new runs",
            ));
        }
        of_run(run)
    }

    /// Says what a run would do and cost.
    fn describe(&self, plan: &Plan, terminal: &Terminal) -> Result<()> {
        terminal.note("making three steps in memory to see what one costs");
        let estimate = plan.estimate()?;
        if self.json {
            return terminal.json(&json!({
                "settings": plan.settings,
                "train_images": plan.train.len(),
                "validation_images": plan.validation.len(),
                "estimate": estimate,
                "notes": plan.notes,
            }));
        }
        let memory = match estimate.peak_memory_mib {
            Some(mib) => format!("{mib:.0} MiB"),
            None => "not told by this system".to_owned(),
        };
        terminal.result(&format!(
            "{}\n# images       {} to train on, {} to validate on\n# parameters   {}\n# memory       {memory}\n\
             # step         {:.3} s\n# training     {}, without evaluation and pictures",
            plan.settings.text()?,
            plan.train.len(),
            plan.validation.len(),
            estimate.parameters,
            estimate.seconds_per_step,
            duration(60.0 * estimate.minutes),
        ))
    }

    /// Says how the training ended.
    fn conclude(&self, outcome: &Outcome, terminal: &Terminal) -> Result<()> {
        let run = RunDir::open(&outcome.run)?;
        let last = [
            run.sample_path(outcome.step),
            run.reconstruction_path(outcome.step),
        ];
        let samples = last.into_iter().find(|path| path.exists());
        if let Some(path) = &samples {
            terminal.picture_file(path);
        }
        let shown = |path: &Path| path.display().to_string();
        if self.json {
            return terminal.json(&json!({
                "run": shown(&outcome.run),
                "step": outcome.step,
                "best": outcome.best.map(|(step, loss)| json!({ "step": step, "validation_loss": loss })),
                "stopped_early": outcome.stopped_early,
                "health": outcome.health,
                "samples": samples.as_deref().map(shown),
                "report": shown(&run.report_path()),
            }));
        }
        let mut lines = vec![shown(&outcome.run), format!("  steps    {}", outcome.step)];
        if let Some((step, loss)) = outcome.best {
            lines.push(format!(
                "  best     validation loss {loss:.4} at step {step}"
            ));
        }
        if let Some(health) = &outcome.health {
            lines.push(format!("  health   {}", word(health.verdict)));
        }
        lines.extend(samples.map(|path| format!("  samples  {}", path.display())));
        lines.push(format!("  report   {}", run.report_path().display()));
        terminal.result(&lines.join("\n"))
    }
}

/// The settings of a run, to go on with it.
///
/// # Errors
/// [`Error::Settings`] for a run that was imported.
fn of_run(run: RunDir) -> Result<(Settings, Option<RunDir>)> {
    if RunRecord::read(&run)?.status == RunStatus::Imported {
        let shown = run.path().display();
        return Err(Error::settings(
            format!("{shown} was imported, so there is no training to go on with"),
            format!("start one from its weights: `vermeer train --data PATH --init-from {shown}`"),
        ));
    }
    Ok((Settings::read(&run.config_path())?, Some(run)))
}

/// The family and the last part of the data's location, with only what the name of a run takes.
fn default_name(family: &str, location: &str) -> String {
    let place = location
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['/', '\\']);
    let last = place.rsplit(['/', '\\', ':']).next().unwrap_or_default();
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_.+=".contains(c) {
            c
        } else {
            '_'
        }
    };
    let last: String = last.chars().map(plain).take(80).collect();
    match last.trim_matches(|c| c == '.' || c == '_') {
        "" => family.to_owned(),
        last => format!("{family}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_after_family_and_data() {
        for (location, name) in [
            ("world:glyphs?count=5&size=8", "vae-glyphs"),
            ("/data/my photos/", "vae-my_photos"),
            ("pathmnist.npz", "vae-pathmnist.npz"),
            ("../..", "vae"),
            ("", "vae"),
        ] {
            assert_eq!(default_name("vae", location), name, "{location}");
        }
    }
}
