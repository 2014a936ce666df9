//! `vermeer runs`: what was trained.

mod list;
mod show;

use clap::Subcommand;
use vermeer::Result;
use vermeer::run::{MetricLine, RunDir, RunRecord, RunStatus};

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer runs list              every run below runs/
  vermeer runs show runs/demo    its settings, values, checkpoints and health";

/// List and show runs.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
}

impl Command {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        match self {
            Self::List(args) => args.run(terminal),
            Self::Show(args) => args.run(terminal),
        }
    }
}

/// How far a run came, as its record says it; one that says it is running while no process holds
/// it was killed.
fn status(run: &RunDir, record: &RunRecord) -> &'static str {
    match record.status {
        RunStatus::Running if run.is_held() => "running",
        // It may have ended since its record was read.
        RunStatus::Running => match RunRecord::read(run).map(|record| record.status) {
            Ok(RunStatus::Running) | Err(_) => "killed",
            Ok(ended) => word(ended),
        },
        other => word(other),
    }
}

fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Finished => "finished",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed => "failed",
        RunStatus::Imported => "imported",
    }
}

/// The lowest validation loss and its step.
fn best_loss(lines: &[MetricLine]) -> Option<(u64, f64)> {
    let losses = lines.iter().filter_map(|line| match line {
        MetricLine::Value(value) if value.split == "validation" && value.name == "loss" => {
            Some((value.step, value.value))
        }
        _ => None,
    });
    losses.min_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use vermeer::run::ValueLine;

    use super::*;

    #[test]
    fn the_best_loss_is_the_lowest_of_validation() {
        let line = |step: u64, split: &str, value: f64| {
            let (split, name) = (split.to_owned(), "loss".to_owned());
            MetricLine::Value(ValueLine {
                step,
                epoch: 0,
                split,
                name,
                value,
                t: 0.0,
            })
        };
        let lines = [
            line(1, "train", 0.1),
            line(2, "validation", 2.5),
            line(3, "validation", f64::NAN),
        ];
        assert_eq!(best_loss(&lines), Some((2, 2.5)));
        assert_eq!(best_loss(&lines[..1]), None);
    }
}
