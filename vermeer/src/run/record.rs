//! `run.json`: who made a run, from what, and how far it came.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::run::commit::replace_file;
use crate::run::dir::RunDir;

/// The layout of `run.json` that this version writes.
const SCHEMA: u32 = 1;

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Being trained, or killed before it could say otherwise.
    Running,
    /// Trained to the last step.
    Finished,
    /// Stopped on request; it can be resumed.
    Stopped,
    /// Ended by an error.
    Failed,
    /// Made from published weights.
    Imported,
}

/// What `run.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The layout of the file.
    pub schema: u32,
    /// The version of Vermeer that made the run.
    pub version: String,
    /// The command that made it, word by word.
    pub argv: Vec<String>,
    /// The id of the model family.
    pub family: String,
    /// The run's name.
    pub name: String,
    /// The seed of every random draw.
    pub seed: u64,
    /// The device it was trained on, in words.
    pub device: String,
    /// SHA-256 of the resolved settings, in hexadecimal.
    pub config_digest: String,
    /// SHA-256 of the training data, in hexadecimal; none where there were no data.
    pub data_digest: Option<String>,
    /// How far it came.
    pub status: RunStatus,
    /// The run whose weights it started from.
    pub parent: Option<String>,
    /// Seconds of training, over all processes, when the record was last written.
    #[serde(default)]
    pub train_seconds: f64,
    /// Why training ended before its last step, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// When it was made, as `2026-08-31T12:00:00Z`. These texts sort by time.
    pub created: String,
    /// When the record was last written.
    pub updated: String,
}

impl RunRecord {
    /// The record of a run that starts now, with every other field empty.
    pub fn new(name: &str, family: &str) -> Self {
        let now = now();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            argv: Vec::new(),
            family: family.to_owned(),
            name: name.to_owned(),
            seed: 0,
            device: String::new(),
            config_digest: String::new(),
            data_digest: None,
            status: RunStatus::Running,
            parent: None,
            train_seconds: 0.0,
            ended_early: None,
            created: now.clone(),
            updated: now,
        }
    }

    /// Writes `run.json` in one step and notes the time.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, run: &RunDir) -> Result<()> {
        self.updated = now();
        let path = run.record_path();
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))?;
        text.push('\n');
        replace_file(&path, text.as_bytes())
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// When the file is missing, is no record, or was written by a newer version.
    pub fn read(run: &RunDir) -> Result<Self> {
        /// The one field whose meaning never changes.
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }

        let path = run.record_path();
        let bytes = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let damaged = |error: serde_json::Error| {
            Error::data(
                &path,
                format!("is no record of a run: {error}"),
                "restore the file from a copy of the run",
            )
        };
        let Schema { schema } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if schema > SCHEMA {
            return Err(Error::data(
                &path,
                format!("has layout {schema}; this version of Vermeer reads up to {SCHEMA}"),
                "use the version of Vermeer that wrote the run, or a newer one",
            ));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }
}

fn now() -> String {
    utc(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as `YYYY-MM-DDThh:mm:ssZ`, in the Gregorian calendar.
fn utc(seconds: u64) -> String {
    // Days are counted from 1 March 0000, so that the leap day ends a year; 400 years repeat
    // after 146097 days (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "x").unwrap();
        let mut record = RunRecord::new("x", "vae");
        record.argv = ["vermeer", "train", "a b"].map(str::to_owned).to_vec();
        record.seed = u64::MAX;
        record.status = RunStatus::Stopped;
        record.write(&run).unwrap();
        assert_eq!(RunRecord::read(&run).unwrap(), record);
        let text = fs::read_to_string(run.record_path()).unwrap();
        assert!(text.contains("\"status\": \"stopped\"") && text.contains("\"schema\": 1"));
    }

    #[test]
    fn other_files_are_refused_with_their_name() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "x").unwrap();
        assert_eq!(RunRecord::read(&run).unwrap_err().exit_code(), 1);
        for text in [
            "",
            "{",
            "{\"schema\": 1}",
            "{\"schema\": 2, \"version\": \"9\"}",
        ] {
            fs::write(run.record_path(), text).unwrap();
            let error = RunRecord::read(&run).unwrap_err();
            assert_eq!(error.exit_code(), 4, "{text}");
            assert!(error.to_string().contains("run.json"), "{error}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // GNU date: `date -u -d @N +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
