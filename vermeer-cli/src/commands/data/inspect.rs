//! `vermeer data inspect`: the doctor of data sets.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use vermeer::data::inspect::{contact_sheet, fix, inspect};
use vermeer::data::{OpenOptions, Split};
use vermeer::{Error, Result};
use vermeer_image::{Limits, encode_png};

use crate::generation::Sheet;
use crate::outputs::Outputs;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer data inspect photos/                          counts, sizes, classes, offending files
  vermeer data inspect photos/ --sheet sheet.png        and a picture, problems first
  vermeer data inspect photos/ --fix clean/             and a copy without the bad ones
  vermeer data inspect fashion/ --split test --json     one split, for a script

Ends with 3 when an image cannot be read and no clean copy was asked for.";

/// What a check that says no ends with.
const NO: u8 = 3;

/// Say what a data set holds, and what is the matter with it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder, an IDX, CIFAR, zip or npz file, or a world such as `world:glyphs`.
    location: String,
    /// Split to look at: train, validation, test or all; all are compared with each other.
    #[arg(long, default_value = "all")]
    split: Split,
    /// File of labels: CSV with the columns file and label for folders, IDX for IDX images.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write a clean copy into a new folder.
    #[arg(long, value_name = "DIR")]
    fix: Option<PathBuf>,
    /// Write a contact sheet, images with problems first, as PNG.
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Replace the sheet if it exists.
    #[arg(long)]
    overwrite: bool,
    /// Print everything that was found as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        if let Some(sheet) = &self.sheet
            && Sheet::of(sheet) != Some(Sheet::Grid)
        {
            return Err(Error::settings(
                format!("{}: a contact sheet is a PNG picture", sheet.display()),
                "name it with the ending .png",
            ));
        }
        let outputs = self
            .sheet
            .as_ref()
            .map(|path| Outputs::one(path, self.overwrite))
            .transpose()?;
        let options = OpenOptions {
            split: self.split,
            labels: self.labels.clone(),
            limits: Limits::cli(),
        };
        let progress = terminal.progress("images");
        let report = inspect(&self.location, &options, &|done, all| {
            progress.at(done, all)
        })?;
        drop(progress);

        if let Some(outputs) = outputs {
            let sheet = contact_sheet(&report)?;
            outputs.publish_one(&encode_png(&sheet)?)?;
            terminal.picture(&sheet);
        }
        let progress = terminal.progress("copied");
        let fixed = match &self.fix {
            Some(folder) => Some(fix(&report, folder, &|done, all| progress.at(done, all))?),
            None => None,
        };
        drop(progress);

        let unreadable = report.images - report.readable;
        match self.json {
            true => terminal.json(&json!({ "report": report, "fixed": fixed }))?,
            false => terminal.result(report.to_text().trim_end())?,
        }
        if let (Some(fixed), Some(folder)) = (&fixed, &self.fix) {
            terminal.note(&format!(
                "{}: {} images, {} resized, {} left out",
                folder.display(),
                fixed.images,
                fixed.resized,
                fixed.left_out
            ));
        }
        match unreadable > 0 && fixed.is_none() {
            true => Ok(ExitCode::from(NO)),
            false => Ok(ExitCode::SUCCESS),
        }
    }
}
