//! `vermeer runs show`.

use std::path::PathBuf;

use serde_json::json;
use vermeer::Result;
use vermeer::run::{MetricLine, RunDir, RunRecord, ValueLine, VerdictLine, read_metrics};
use vermeer::train::Settings;

use super::{best_loss, status};
use crate::terminal::Terminal;
use crate::training_view::{number, word};

const EXAMPLES: &str = "\
Examples:
  vermeer runs show runs/demo
  vermeer runs show runs/demo --json | jq .best";

/// Show a run: record, settings, last values, checkpoints, health.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder of the run.
    run: PathBuf,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let run = RunDir::open(&self.run)?;
        let record = RunRecord::read(&run)?;
        let settings = Settings::read(&run.config_path())?;
        let lines = read_metrics(&run.metrics_path())?;
        let checkpoints = run.checkpoints();
        let (latest, best_step) = (checkpoints.latest_step(), checkpoints.best_step());
        let (last, health) = (last_values(&lines), last_verdict(&lines));
        let best = best_loss(&lines);
        if self.json {
            return terminal.json(&json!({
                "run": run.path().display().to_string(),
                "record": record,
                "settings": settings,
                "last": last,
                "health": health,
                "best": best.map(|(step, loss)| json!({ "step": step, "validation_loss": loss })),
                "checkpoints": { "steps": checkpoints.list(), "latest": latest, "best": best_step },
            }));
        }
        let step =
            |step: Option<u64>| step.map_or_else(|| "none".to_owned(), |step| step.to_string());
        let mut text = vec![
            run.path().display().to_string(),
            format!(
                "  {:<12}{}, {}",
                "family",
                record.family,
                status(&run, &record)
            ),
            format!(
                "  {:<12}{}{}, seed {}",
                "made",
                record.created,
                match record.device.as_str() {
                    "" => String::new(),
                    device => format!(" on {device}"),
                },
                record.seed
            ),
            format!("  {:<12}{}", "command", record.argv.join(" ")),
            format!(
                "  {:<12}{}",
                "checkpoints",
                checkpoints
                    .list()
                    .iter()
                    .map(u64::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            format!(
                "  {:<12}latest {}, best {}",
                "",
                step(latest),
                step(best_step)
            ),
        ];
        text.extend(
            record
                .parent
                .iter()
                .map(|parent| format!("  {:<12}{parent}", "from")),
        );
        text.extend(best.map(|(step, loss)| {
            format!(
                "  {:<12}validation loss {} at step {step}",
                "best",
                number(loss)
            )
        }));
        for line in &last {
            text.push(format!(
                "  {:<12}{} {} at step {}",
                line.split,
                line.name,
                number(line.value),
                line.step
            ));
        }
        if let Some(health) = health {
            text.push(format!(
                "  {:<12}{} at step {}",
                "health",
                word(health.verdict),
                health.step
            ));
            text.extend(health.why.iter().map(|why| format!("  {:<12}{why}", "")));
        }
        text.push(String::new());
        text.push(settings.text()?);
        terminal.result(text.join("\n").trim_end())
    }
}

/// The last value of every name in every split, in the order of their first appearance.
fn last_values(lines: &[MetricLine]) -> Vec<&ValueLine> {
    let mut last: Vec<&ValueLine> = vec![];
    for line in lines {
        let MetricLine::Value(line) = line else {
            continue;
        };
        match last
            .iter_mut()
            .find(|known| (&known.split, &known.name) == (&line.split, &line.name))
        {
            Some(known) => *known = line,
            None => last.push(line),
        }
    }
    last
}

fn last_verdict(lines: &[MetricLine]) -> Option<&VerdictLine> {
    lines.iter().rev().find_map(|line| match line {
        MetricLine::Verdict(verdict) => Some(verdict),
        MetricLine::Value(_) => None,
    })
}
