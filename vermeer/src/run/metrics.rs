//! `metrics.jsonl`: what a run measured, one JSON object per line, in the order it was measured.
//!
//! ```text
//! {"step":100,"epoch":0,"split":"train","name":"loss","value":0.25,"t":12.5}
//! {"step":100,"name":"health","verdict":"watch","why":["the KL of 3 latents is below 0.01 nats"]}
//! ```
//!
//! Each line is written whole and at once. A line torn by a crash can only be the last one and is
//! ignored. On resume the lines after the checkpoint's step are cut, because their steps are done
//! again.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::run::commit::{append, replace_file};

/// A measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueLine {
    /// Steps done when it was measured.
    pub step: u64,
    /// Passes over the data completed by then.
    pub epoch: u64,
    /// What it was measured on: `train`, `validation`, `test`.
    pub split: String,
    /// What was measured.
    pub name: String,
    /// The value. NaN and infinities are `null` in the file and come back as NaN.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
    /// Seconds of training up to then, time between a stop and a resume not counted.
    pub t: f64,
}

/// A judgement of how the training goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictLine {
    /// Steps done when it was judged.
    pub step: u64,
    /// `health`.
    pub name: String,
    /// The judgement.
    pub verdict: Verdict,
    /// One sentence for each threshold that was crossed.
    pub why: Vec<String>,
}

/// How a training goes, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No threshold is crossed.
    Ok,
    /// Something is unusual; it may pass.
    Watch,
    /// The training is failing.
    Bad,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricLine {
    /// A measured value.
    Value(ValueLine),
    /// A judgement of how the training goes.
    Verdict(VerdictLine),
}

impl MetricLine {
    /// Steps done when the line was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Value(line) => line.step,
            Self::Verdict(line) => line.step,
        }
    }
}

/// Appends lines to `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
    /// Seconds of training before this process.
    before: f64,
    started: Instant,
}

impl MetricsWriter {
    /// Continues the file after `step`: lines of later steps and a torn last line are cut, and
    /// the count of seconds goes on. A new run starts after step 0.
    ///
    /// # Errors
    /// When the file holds a line that is no metric, naming the line, or the disk refuses.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let bytes = read_bytes(path)?;
        let mut before = 0.0;
        let mut kept = Vec::with_capacity(bytes.len());
        for (text, line) in lines(path, &bytes)? {
            if line.step() > step {
                continue;
            }
            kept.extend_from_slice(text);
            if let MetricLine::Value(value) = line {
                before = value.t;
            }
        }
        if kept != bytes {
            replace_file(path, &kept)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| Error::io(path, source))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            before,
            started: Instant::now(),
        })
    }

    /// Writes a measured value.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn value(
        &mut self,
        step: u64,
        epoch: u64,
        split: &str,
        name: &str,
        value: f64,
    ) -> Result<()> {
        let seconds = self.before + self.started.elapsed().as_secs_f64();
        self.write(&MetricLine::Value(ValueLine {
            step,
            epoch,
            split: split.to_owned(),
            name: name.to_owned(),
            value,
            t: (seconds * 1000.0).round() / 1000.0,
        }))
    }

    /// Writes a judgement with its reasons.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn verdict(&mut self, step: u64, verdict: Verdict, why: &[String]) -> Result<()> {
        self.write(&MetricLine::Verdict(VerdictLine {
            step,
            name: "health".to_owned(),
            verdict,
            why: why.to_vec(),
        }))
    }

    fn write(&mut self, line: &MetricLine) -> Result<()> {
        let mut text = serde_json::to_string(line)
            .map_err(|error| Error::Failed(format!("{}: {error}", self.path.display())))?;
        text.push('\n');
        append(&mut self.file, text.as_bytes()).map_err(|source| Error::io(&self.path, source))
    }
}

/// Every whole line of a `metrics.jsonl`, in order. A run that has measured nothing yet has no
/// file and no lines.
///
/// # Errors
/// When a line is no metric, naming it, or the file cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricLine>> {
    let bytes = read_bytes(path)?;
    Ok(lines(path, &bytes)?
        .into_iter()
        .map(|(_, line)| line)
        .collect())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes.map_err(|source| Error::io(path, source)),
    }
}

/// The whole lines with their text, line end included.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], MetricLine)>> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|text| text.ends_with(b"\n"))
        .enumerate()
        .map(
            |(index, text)| match serde_json::from_slice::<MetricLine>(text) {
                Ok(line) => Ok((text, line)),
                Err(error) => Err(Error::data(
                    path,
                    format!("line {} is no metric: {error}", index + 1),
                    "remove the line; every other line stays valid without it",
                )),
            },
        )
        .collect()
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path, 0).unwrap();
        writer.value(100, 2, "train", "loss", 0.25).unwrap();
        writer.value(100, 2, "train", "odd", f64::NAN).unwrap();
        writer
            .verdict(100, Verdict::Watch, &["3 \"latents\" are idle".to_owned()])
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let start =
            "{\"step\":100,\"epoch\":2,\"split\":\"train\",\"name\":\"loss\",\"value\":0.25,\"t\":";
        assert!(lines[0].starts_with(start), "{text}");
        assert!(lines[1].contains("\"value\":null"), "{text}");
        assert_eq!(
            lines[2],
            "{\"step\":100,\"name\":\"health\",\"verdict\":\"watch\",\
             \"why\":[\"3 \\\"latents\\\" are idle\"]}"
        );
        let read = read_metrics(&path).unwrap();
        assert!(matches!(&read[0], MetricLine::Value(line) if line.value == 0.25));
        assert!(matches!(&read[1], MetricLine::Value(line) if line.value.is_nan()));
        assert!(matches!(&read[2], MetricLine::Verdict(line) if line.verdict == Verdict::Watch));
    }

    #[test]
    fn a_resumed_run_continues_from_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step: u64, t: f64| {
            format!(
                "{{\"step\":{step},\"epoch\":0,\"split\":\"train\",\"name\":\"loss\",\
                 \"value\":1.0,\"t\":{t}}}\n"
            )
        };
        let verdict = "{\"step\":30,\"name\":\"health\",\"verdict\":\"ok\",\"why\":[]}\n";
        let torn = "{\"step\":20,\"epoch\":0,\"spl\u{e9}";
        let before = format!(
            "{}{}{}{verdict}",
            line(10, 5.0),
            line(20, 1000.0),
            line(30, 2000.0)
        );
        fs::write(&path, format!("{before}{torn}")).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 4);

        let mut writer = MetricsWriter::open(&path, 20).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}{}", line(10, 5.0), line(20, 1000.0))
        );
        writer.value(21, 0, "train", "loss", 2.0).unwrap();
        let read = read_metrics(&path).unwrap();
        assert_eq!(
            read.iter().map(MetricLine::step).collect::<Vec<_>>(),
            [10, 20, 21]
        );
        // The clock goes on from the last line that stayed.
        assert!(matches!(&read[2], MetricLine::Value(line) if (1000.0..1060.0).contains(&line.t)));
    }

    #[test]
    fn a_missing_file_is_empty_and_a_foreign_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert!(read_metrics(&path).unwrap().is_empty());
        for foreign in ["{}", "[1]", "", "{\"step\":1,\"name\":\"x\"}"] {
            let verdict = "{\"step\":1,\"name\":\"health\",\"verdict\":\"bad\",\"why\":[]}";
            fs::write(&path, format!("{verdict}\n{foreign}\n{verdict}\n")).unwrap();
            let error = read_metrics(&path).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains("line 2"), "{error}");
            assert!(MetricsWriter::open(&path, 9).is_err());
        }
    }

    #[test]
    fn verdicts_are_ordered_from_good_to_bad() {
        assert!(Verdict::Ok < Verdict::Watch && Verdict::Watch < Verdict::Bad);
    }
}
