//! Which images are judged, and of a run how they are sampled.

use burn::prelude::Device;
use vermeer::data::Split;
use vermeer::evaluate::{RunChoice, Subject};
use vermeer::pipeline::Which;
use vermeer::task::SampleOptions;
use vermeer::{Error, Result};

use crate::checkpoint::which;
use crate::choice::ChoiceArgs;
use crate::terminal::Terminal;

/// The heading of these arguments.
const RUN: &str = "Samples of a run";

// A doc comment here would become the description of every command that takes these arguments.
#[derive(clap::Args)]
pub(super) struct SamplingArgs {
    /// Checkpoint to use: `latest`, `best` (lowest validation loss), or a step.
    #[arg(long, value_parser = which, value_name = "WHICH", help_heading = RUN)]
    checkpoint: Option<Which>,
    #[command(flatten, next_help_heading = RUN)]
    choice: ChoiceArgs,
}

impl SamplingArgs {
    /// What is judged: a run, which is sampled by these arguments, images or statistics. Says what
    /// was noticed while the run was opened.
    ///
    /// # Errors
    /// [`Error::Settings`] for arguments of runs where there is none; those of [`open`].
    pub(super) fn open(
        &self,
        location: &str,
        split: (Option<Split>, Split),
        count: Option<usize>,
        seed: u64,
        device: &Device,
        terminal: &Terminal,
    ) -> Result<Subject> {
        let choice = RunChoice {
            which: self.checkpoint.unwrap_or_default(),
            options: SampleOptions {
                seed,
                ..SampleOptions::default()
            },
        };
        let mut subject = open(location, split, count, &choice, device)?;
        match &mut subject {
            Subject::Run(run) => {
                run.options = self.choice.options(seed, &run.model.usage.spec)?;
                let warnings = &run.model.warnings;
                warnings.iter().for_each(|warning| terminal.warn(warning));
            }
            _ if self.is_said() => {
                return Err(Error::settings(
                    format!("{location} is no run, so nothing is sampled"),
                    "leave out --checkpoint and the options of samples",
                ));
            }
            _ => {}
        }
        Ok(subject)
    }

    fn is_said(&self) -> bool {
        self.checkpoint.is_some() || self.choice.is_said()
    }
}

/// Images, statistics or a run. The split is the one that was said, or else the usual one.
///
/// # Errors
/// [`Error::Settings`] for a split or a number where there is nothing to choose from; those of
/// [`Subject::open`].
pub(super) fn open(
    location: &str,
    (split, usual): (Option<Split>, Split),
    count: Option<usize>,
    choice: &RunChoice,
    device: &Device,
) -> Result<Subject> {
    let subject = Subject::open(location, split.unwrap_or(usual), count, choice, device)?;
    let refuse = |what: &str, option: &str| {
        Err(Error::settings(
            format!("{location} is {what}"),
            format!("leave out {option}"),
        ))
    };
    match &subject {
        Subject::Statistics(_) if count.is_some() => refuse(
            "a file of statistics: none of its images can be drawn",
            "the number of images",
        ),
        Subject::Statistics(_) if split.is_some() => {
            refuse("a file of statistics, which has no splits", "the split")
        }
        Subject::Run(_) if split.is_some() => refuse("a run, which has no splits", "the split"),
        _ => Ok(subject),
    }
}
