//! The samples of a run: made once, timed, and kept in an archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vermeer::data::{self, NpzWriter, OpenOptions, Split};
use vermeer::evaluate::{Subject, at_one_size, unpadded};
use vermeer::pipeline::Model;
use vermeer::task::{Request, SampleOptions};
use vermeer::{Error, Result, sha256_hex};
use vermeer_image::Pixels;

use super::Bench;
use super::contender::Contender;
use super::ground::Ground;
use crate::outputs::Outputs;

/// What stands beside an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct About {
    /// The sum of everything the samples depend on.
    key: String,
    run: String,
    step: u64,
    samples: usize,
    seed: u32,
    device: String,
    /// How long it took to make them.
    seconds: f64,
    /// The sum of the archive.
    sha256: String,
}

/// Samples that are there.
pub(super) struct Sampled {
    /// The archive.
    pub(super) archive: PathBuf,
    /// How long it took to make them.
    pub(super) seconds: f64,
    /// The sum of the archive.
    pub(super) sha256: String,
}

/// The samples of a run: those in its archive where they are the same, or else new ones. After
/// Ctrl-C the same work goes on where it stopped.
///
/// # Errors
/// Those of the model; [`Error::Settings`] for an archive of other samples that may not be
/// replaced; [`Error::Unfinished`] after Ctrl-C.
pub(super) fn make(contender: &Contender, bench: &Bench<'_>) -> Result<Sampled> {
    let args = bench.args;
    let folder = args.out.join("samples");
    let names = [
        format!("{}.npz", contender.name),
        format!("{}.json", contender.name),
    ];
    let [archive, beside] = [0, 1].map(|at: usize| folder.join(&names[at]));
    let device = vermeer::device::name(bench.device);
    let work = format!(
        "{} {} {} {} {device}",
        env!("CARGO_PKG_VERSION"),
        contender.digest,
        args.count,
        args.seed
    );
    let key = sha256_hex(work.as_bytes());
    if let Some(about) = known(&archive, &beside, &key)? {
        return Ok(Sampled {
            archive,
            seconds: about.seconds,
            sha256: about.sha256,
        });
    }
    let outputs = Outputs::resumable(&folder, names.to_vec(), args.overwrite, &key[..16])?;
    let model = contender.model(bench.device)?;
    let seconds = match generate(&model, contender, bench, &outputs) {
        Err(error @ Error::Unfinished(_)) => {
            outputs.suspend();
            return Err(error);
        }
        made => made?,
    };
    let starts: Vec<usize> = (0..args.count).step_by(args.batch).collect();
    let [channels, height, width] = model.pipeline.shape();
    outputs.write_with(&names[0], |file| {
        let mut npz = NpzWriter::new(file);
        npz.start("arr_0", "|u1", &[args.count, height, width, channels])?;
        for first in &starts {
            let part = part_name(*first, args.batch);
            let bytes = outputs
                .finished(&part)?
                .ok_or_else(|| Error::Failed(format!("{part} is gone")))?;
            npz.append(bytes.get(8..).unwrap_or_default())?;
        }
        npz.finish().map(|_| ())
    })?;
    let whole = outputs.finished(&names[0])?.unwrap_or_default();
    let about = About {
        key,
        run: contender.run.path().display().to_string(),
        step: contender.step,
        samples: args.count,
        seed: args.seed,
        device,
        seconds,
        sha256: sha256_hex(&whole),
    };
    let text = serde_json::to_string_pretty(&about)
        .map_err(|error| Error::Failed(format!("{}: {error}", names[1])))?;
    outputs.write(&names[1], format!("{text}\n").as_bytes())?;
    outputs.publish()?;
    Ok(Sampled {
        archive,
        seconds,
        sha256: about.sha256,
    })
}

/// What stands beside an archive, if both are there and hold the samples of this key.
fn known(archive: &Path, beside: &Path, key: &str) -> Result<Option<About>> {
    if !archive.is_file() || !beside.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(beside).map_err(|error| Error::io(beside, error))?;
    let about: Option<About> = serde_json::from_str(&text).ok();
    let Some(about) = about.filter(|about| about.key == key) else {
        return Ok(None);
    };
    let bytes = fs::read(archive).map_err(|error| Error::io(archive, error))?;
    Ok((sha256_hex(&bytes) == about.sha256).then_some(about))
}

/// Makes the samples that are not kept yet, some at a time: the seconds it took as eight bytes,
/// then the pixels. Returns the seconds of all.
fn generate(
    model: &Model,
    contender: &Contender,
    bench: &Bench<'_>,
    outputs: &Outputs,
) -> Result<f64> {
    let args = bench.args;
    let progress = bench.terminal.progress("samples");
    bench
        .terminal
        .note(&format!("{}: {} samples", contender.name, args.count));
    let size: usize = model.pipeline.shape().iter().product();
    let options = SampleOptions {
        seed: u64::from(args.seed),
        ..SampleOptions::default()
    };
    let mut seconds = 0.0;
    for first in (0..args.count).step_by(args.batch) {
        if bench.stop().load(Ordering::Relaxed) {
            return Err(Error::Unfinished(format!(
                "stopped after {first} of {} samples of {}",
                args.count, contender.name
            )));
        }
        let numbers: Vec<u64> = (first..(first + args.batch).min(args.count))
            .map(|number| number as u64)
            .collect();
        let part = part_name(first, args.batch);
        let kept = outputs
            .finished(&part)?
            .filter(|bytes| bytes.len() == 8 + numbers.len() * size);
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let begun = Instant::now();
                let request = Request::Generate {
                    numbers: &numbers,
                    options: &options,
                };
                let mut report = |step: usize, all: usize| {
                    let share = numbers.len() * step.min(all) / all.max(1);
                    progress.at(first + share, args.count);
                };
                let answer = model.pipeline.answer(&request, &mut report)?;
                let images = answer.into_images()?.to_images()?;
                let taken = begun.elapsed().as_secs_f64();
                let mut bytes = taken.to_le_bytes().to_vec();
                for image in images {
                    if let Pixels::U8(pixels) = image.to_8_bit().pixels() {
                        bytes.extend_from_slice(pixels);
                    }
                }
                if bytes.len() != 8 + numbers.len() * size {
                    return Err(Error::Failed(
                        "the model made other images than asked for".into(),
                    ));
                }
                outputs.keep(&part, &bytes)?;
                bytes
            }
        };
        let mut taken = [0; 8];
        taken.copy_from_slice(&bytes[..8]);
        seconds += f64::from_le_bytes(taken);
        progress.at(first + numbers.len(), args.count);
    }
    Ok(seconds)
}

/// Where samples are kept until there is an archive. Parts of another size have other names.
fn part_name(first: usize, batch: usize) -> String {
    format!("samples-{batch}-{first:09}")
}

/// The samples at the size of the comparison, under the name of their run.
///
/// # Errors
/// Those of [`data::open`].
pub(super) fn subject(
    contender: &Contender,
    sampled: &Sampled,
    ground: &Ground,
) -> Result<Subject> {
    let options = OpenOptions {
        split: Split::All,
        ..OpenOptions::default()
    };
    let source = data::open(&sampled.archive.display().to_string(), &options)?;
    let location = format!(
        "{} (step {})",
        contender.run.path().display(),
        contender.step
    );
    let own = &contender.usage.preprocess;
    let content = unpadded(own, &ground.rule, ground.stored);
    let source = at_one_size(source, Some(&location), content, &ground.rule);
    Subject::of_source(source, None, 0)
}
