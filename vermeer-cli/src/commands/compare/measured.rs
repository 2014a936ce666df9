//! Rows that are measured once and kept, so that a comparison goes on where it stopped.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vermeer::evaluate::{
    LikelihoodOptions, RunOptions, RunRow, RunSets, Subject, bits_per_dim, measure_samples,
    trained_parameters,
};
use vermeer::{Error, Result, sha256_hex};

use super::Bench;
use super::contender::Contender;
use super::samples::Sampled;
use crate::outputs::Outputs;

/// The name of the row of real images.
const REAL: &str = "real images";

/// A row on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The sum of everything the row depends on.
    key: String,
    row: RunRow,
}

/// The row of a run.
///
/// # Errors
/// Those of measuring the samples and the likelihood, and of keeping the row.
pub(super) fn run(
    contender: &Contender,
    sampled: &Sampled,
    samples: &Subject,
    sets: &RunSets<'_>,
    options: &RunOptions,
    bench: &Bench<'_>,
) -> Result<RunRow> {
    let work = format!("{} {} {}", bench.protocol, contender.digest, sampled.sha256);
    let key = sha256_hex(work.as_bytes());
    let place = bench.args.out.join("rows");
    let place = place.join(format!("{}.json", contender.name));
    let mut row = match kept(&place, &key)? {
        Some(row) => row,
        None => {
            bench
                .terminal
                .note(&format!("{}: measuring", contender.name));
            let row = RunRow {
                family: contender.usage.family.clone(),
                step: contender.step,
                ..RunRow::default()
            };
            let row = measure(row, samples, sets, options, bench)?;
            let row = with_likelihood(row, contender, bench)?;
            keep(&place, key, &row)?;
            row
        }
    };
    // What may differ from one comparison to the next without another value being measured.
    row.name.clone_from(&contender.name);
    row.location = contender.run.path().display().to_string();
    row.seconds_per_1000 = Some(1000.0 * sampled.seconds / bench.args.count as f64);
    let trained = contender.record.train_seconds;
    row.train_minutes = (trained > 0.0).then_some(trained / 60.0);
    match trained_parameters(&contender.usage, bench.device) {
        Ok(parameters) => row.parameters = Some(parameters),
        Err(Error::Settings { message, .. }) => {
            row.notes.push(format!("without parameters: {message}"));
        }
        Err(error) => return Err(error),
    }
    Ok(row)
}

/// The row of real images in the place of samples.
///
/// # Errors
/// As [`run`].
pub(super) fn real(
    images: &Subject,
    sets: &RunSets<'_>,
    options: &RunOptions,
    bench: &Bench<'_>,
) -> Result<RunRow> {
    let key = sha256_hex(format!("{} real", bench.protocol).as_bytes());
    // No run has a name with a dot in front.
    let place = bench.args.out.join("rows").join(".real.json");
    let mut row = match kept(&place, &key)? {
        Some(row) => row,
        None => {
            bench.terminal.note(&format!("{REAL}: measuring"));
            let row = measure(RunRow::default(), images, sets, options, bench)?;
            keep(&place, key, &row)?;
            row
        }
    };
    row.name = REAL.to_owned();
    row.location = format!("held-out images of {}", bench.ground.location);
    if row.samples < bench.args.count as u64 {
        row.notes.push(format!(
            "{} images, fewer than samples: the Fréchet distance is larger for that",
            row.samples
        ));
    }
    Ok(row)
}

fn measure(
    row: RunRow,
    samples: &Subject,
    sets: &RunSets<'_>,
    options: &RunOptions,
    bench: &Bench<'_>,
) -> Result<RunRow> {
    let progress = bench.terminal.progress("steps of a measurement");
    measure_samples(
        row,
        samples,
        sets,
        bench.extractor,
        options,
        bench.extraction,
        &mut |done, all| progress.at(done, all),
    )
}

/// The row with the likelihood of held-out images, where that was asked for and the family has one.
fn with_likelihood(mut row: RunRow, contender: &Contender, bench: &Bench<'_>) -> Result<RunRow> {
    let args = bench.args;
    let Some(heldout) = &bench.ground.heldout else {
        return Ok(row);
    };
    if args.likelihood_images == 0 {
        return Ok(row);
    }
    let model = contender.model(bench.device)?;
    let options = LikelihoodOptions {
        images: args.likelihood_images,
        draws: args.draws,
        seed: u64::from(args.seed),
    };
    let progress = bench.terminal.progress("likelihoods");
    let found = bits_per_dim(
        &model,
        heldout.as_ref(),
        &options,
        bench.device,
        bench.stop(),
        &mut |done, all| progress.at(done, all),
    );
    match found {
        Ok(found) => row.likelihood = found,
        Err(Error::Settings { message, .. }) => {
            row.notes
                .push(format!("without bits per dimension: {message}"));
        }
        Err(error) => return Err(error),
    }
    Ok(row)
}

/// The row that was kept under this key, if it was. One that cannot be understood is measured anew.
fn kept(place: &Path, key: &str) -> Result<Option<RunRow>> {
    if !place.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(place).map_err(|error| Error::io(place, error))?;
    let kept: Option<Kept> = serde_json::from_str(&text).ok();
    Ok(kept.filter(|kept| kept.key == key).map(|kept| kept.row))
}

fn keep(place: &Path, key: String, row: &RunRow) -> Result<()> {
    let kept = Kept {
        key,
        row: row.clone(),
    };
    let text = serde_json::to_string_pretty(&kept)
        .map_err(|error| Error::Failed(format!("{}: {error}", place.display())))?;
    // A row is made from the samples beside it, so an older one may always be replaced.
    Outputs::one(place, true)?.publish_one(text.as_bytes())
}
