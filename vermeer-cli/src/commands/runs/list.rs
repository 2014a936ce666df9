//! `vermeer runs list`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vermeer::run::{RunDir, RunRecord, read_metrics};
use vermeer::{Error, Result};

use super::{best_loss, status};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer runs list
  vermeer runs list --runs experiments/ --json";

/// List the runs in a folder.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder of all runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    run: String,
    family: String,
    status: &'static str,
    step: Option<u64>,
    best_validation_loss: Option<f64>,
    created: String,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if !self.runs.is_dir() && self.runs != Path::new("runs") {
            return Err(Error::settings(
                format!("{}: there is no such folder", self.runs.display()),
                "name the folder that holds the runs",
            ));
        }
        let mut rows = vec![];
        for run in RunDir::all(&self.runs)? {
            // One damaged run must not hide the others.
            match row(&run) {
                Ok(row) => rows.push(row),
                Err(error) => terminal.warn(&error.to_string()),
            }
        }
        if self.json {
            return terminal.json(&rows);
        }
        if rows.is_empty() {
            terminal.note(&format!("there are no runs in {}", self.runs.display()));
            return Ok(());
        }
        let width = rows
            .iter()
            .map(|row| row.run.chars().count())
            .max()
            .unwrap_or(0);
        let mut lines = vec![line(
            ["run", "family", "status", "step", "best", "created"],
            width,
        )];
        for row in &rows {
            let step = row
                .step
                .map_or_else(|| "-".to_owned(), |step| step.to_string());
            let best = row
                .best_validation_loss
                .map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
            lines.push(line(
                [
                    &row.run,
                    &row.family,
                    row.status,
                    &step,
                    &best,
                    &row.created,
                ],
                width,
            ));
        }
        terminal.result(&lines.join("\n"))
    }
}

fn row(run: &RunDir) -> Result<Row> {
    let record = RunRecord::read(run)?;
    let lines = read_metrics(&run.metrics_path())?;
    Ok(Row {
        run: run.path().display().to_string(),
        status: status(run, &record),
        family: record.family,
        step: run.checkpoints().latest_step(),
        best_validation_loss: best_loss(&lines).map(|(_, loss)| loss),
        created: record.created,
    })
}

fn line([run, family, status, step, best, created]: [&str; 6], width: usize) -> String {
    format!("{run:<width$}  {family:<15}  {status:<8}  {step:>8}  {best:>12}  {created}")
}
