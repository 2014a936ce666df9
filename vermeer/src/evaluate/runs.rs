//! Several runs under one protocol: a row of numbers for each, and a row for real images.
//!
//! Samples of every run are brought to one size ([`at_one_size`]) and measured against one set of
//! training images by one network ([`measure_samples`]): the Fréchet distance, precision, recall
//! and coverage, the modes that are found, and copies of training images. Likelihoods are those of
//! images that no run learnt from ([`bits_per_dim`]). [`RunTable`] sets the rows side by side and
//! marks the best.
//!
//! The Fréchet distance is taken against all training images; precision, recall and coverage, which
//! depend on the number of real images, against as many as there are samples.

mod likelihood;
mod one_size;
mod table;

use std::sync::atomic::Ordering;

use burn::prelude::Device;
use serde::{Deserialize, Serialize};
use vermeer_image::ImageError;
use vermeer_image::features::Extractor;
use vermeer_image::metrics::{Copying, Interval, Presence, SetOptions, metric};

pub use self::likelihood::{BitsPerDim, LikelihoodOptions, bits_per_dim};
pub use self::one_size::{at_one_size, unpadded};
pub use self::table::{RunCell, RunColumn, RunTable};
use super::extract::ExtractOptions;
use super::measure::{Measured, Set, measure};
use super::memorization::{
    MemorizationOptions, MemorizationReport, MemorizationSets, memorization,
};
use super::modes::{ModesOptions, ModesReport, ModesSets, modes};
use super::subject::Subject;
use crate::optim::AdamConfig;
use crate::pipeline::Use;
use crate::registry::{TrainerContext, family};
use crate::{Error, Result};

/// What is known of a run, or of real images in the place of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run's name, unlike that of every other row.
    pub name: String,
    /// Its folder; the data set of real images.
    pub location: String,
    /// The id of its family; empty for real images.
    pub family: String,
    /// The step of its checkpoint.
    pub step: u64,
    /// How many samples were measured.
    pub samples: u64,
    /// Fréchet distance, precision, recall and coverage under their protocols.
    pub values: Vec<Measured>,
    /// Which modes of the training images it makes.
    pub modes: Option<ModesFound>,
    /// Its likelihood, where it has one.
    pub likelihood: Option<BitsPerDim>,
    /// Copies of training images among its samples.
    pub copies: Option<CopiesFound>,
    /// Seconds in which it made 1,000 samples.
    pub seconds_per_1000: Option<f64>,
    /// Parameters that were trained, those of every network together.
    pub parameters: Option<usize>,
    /// Minutes of training; `None` where they are not known.
    pub train_minutes: Option<f64>,
    /// Why a value lacks, one sentence each.
    pub notes: Vec<String>,
}

impl RunRow {
    /// Whether this is a run and not real images.
    pub fn is_run(&self) -> bool {
        !self.family.is_empty()
    }
}

/// The modes of [`modes`](super::modes()), counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModesFound {
    /// How many are there.
    pub found: usize,
    /// Of how many.
    pub of: usize,
    /// How many are neither seen to be there nor seen to lack.
    pub unsure: usize,
    /// The names of those that are missing or rare.
    pub lost: Vec<String>,
    /// The finding in words.
    pub sentence: String,
    /// One line to put beside it.
    pub citation: String,
}

impl ModesFound {
    fn of(report: &ModesReport) -> Self {
        let count = |wanted: Presence| {
            let with = report.modes.iter().filter(|mode| mode.presence == wanted);
            with.count()
        };
        Self {
            found: count(Presence::Present),
            of: report.modes.len(),
            unsure: count(Presence::Unsure),
            lost: report.lost().into_iter().map(str::to_owned).collect(),
            sentence: report.sentence.clone(),
            citation: report.citation.clone(),
        }
    }
}

/// The copies of [`memorization`](super::memorization()), counted in the space that shows most of
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiesFound {
    /// What is said of the samples, the strongest of all spaces.
    pub verdict: Copying,
    /// The share of the samples that are named as copies.
    pub rate: f64,
    /// The interval of that share.
    pub interval: Interval,
    /// The space: `pixels`, or the name of the network.
    pub space: String,
    /// The finding in words.
    pub sentence: String,
    /// One line to put beside it.
    pub citation: String,
}

impl CopiesFound {
    fn of(report: &MemorizationReport) -> Option<Self> {
        let most = report
            .spaces
            .iter()
            .max_by_key(|space| (space.copying.verdict, space.copying.flagged))?;
        let samples = most.copying.samples.len().max(1);
        Some(Self {
            verdict: report.verdict,
            rate: most.copying.flagged as f64 / samples as f64,
            interval: most.copying.share,
            space: most.space.clone(),
            sentence: report.sentence.clone(),
            citation: report.citation.clone(),
        })
    }

    /// The verdict in a word: none, suspected, found or widespread.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Copying::None => "none",
            Copying::Suspected => "suspected",
            Copying::Found => "found",
            Copying::Widespread => "widespread",
        }
    }
}

/// What samples are measured against: the same for every row.
#[derive(Clone, Copy)]
pub struct RunSets<'a> {
    /// The training images.
    pub train: &'a Subject,
    /// The features of all of them.
    pub train_set: &'a Set,
    /// The features of as many of them as there are samples.
    pub equal_set: &'a Set,
    /// Images like these that no run learnt from, where there are any.
    pub heldout: Option<&'a Subject>,
}

/// How samples are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// Seed of orders, clusters and shuffles.
    pub seed: u32,
    /// Compute values of too few images too, and go on although many held-out images are training
    /// images.
    pub force: bool,
}

/// Measures samples: `row` with its values, modes and copies. What cannot be computed for these
/// images becomes a note; a row of real images has no copies.
///
/// # Errors
/// [`Error::Settings`] for too few samples of a run; those of reading images and features, also
/// after `extraction.stop`.
pub fn measure_samples(
    mut row: RunRow,
    samples: &Subject,
    sets: &RunSets<'_>,
    extractor: &Extractor,
    options: &RunOptions,
    extraction: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<RunRow> {
    let set = Set::of(samples, extractor, extraction, &mut |done, all| {
        progress(done, all);
    })?;
    row.samples = samples.len();
    let set_options = SetOptions {
        seed: options.seed,
        ..SetOptions::default()
    };
    for (id, real) in [
        ("fid", sets.train_set),
        ("pr", sets.equal_set),
        ("prdc", sets.equal_set),
    ] {
        let Some(metric) = metric(id) else {
            return Err(Error::Failed(format!("there is no metric {id}")));
        };
        let found = measure(
            metric,
            &set,
            Some(real),
            extractor,
            &set_options,
            options.force,
            &mut |done, all| progress(done, all),
        );
        // Too few samples of a run are a mistake; real images are as many as there are.
        let found = match row.is_run() {
            true => found?,
            false => lenient(found, id, extraction, &mut row.notes)?.unwrap_or_default(),
        };
        row.values.extend(found.into_iter().filter(is_shown));
    }

    let is_judge = extractor.name() == "judge";
    let labelled = sets
        .heldout
        .filter(|heldout| is_judge && has_labels(heldout, extractor.classes()));
    let found = modes(
        &ModesSets {
            samples,
            real: sets.train,
            labelled,
        },
        extractor,
        &ModesOptions {
            seed: options.seed,
            ..ModesOptions::default()
        },
        extraction,
        &mut |done, all| progress(done, all),
    );
    row.modes = lenient(found, "modes", extraction, &mut row.notes)?
        .as_ref()
        .map(ModesFound::of);

    if let (Some(heldout), true) = (sets.heldout, row.is_run()) {
        let found = memorization(
            &MemorizationSets {
                samples,
                train: sets.train,
                heldout,
            },
            extractor,
            &MemorizationOptions {
                seed: options.seed,
                near_duplicates: false,
                force: options.force,
                ..MemorizationOptions::default()
            },
            extraction,
            &mut |done, all| progress(done, all),
        );
        row.copies = lenient(found, "copies", extraction, &mut row.notes)?
            .as_ref()
            .and_then(CopiesFound::of);
    }
    Ok(row)
}

/// The number of parameters that are trained in a model, those of every network together.
///
/// # Errors
/// [`Error::Settings`] when the family cannot be trained on such images.
pub fn trained_parameters(usage: &Use, device: &Device) -> Result<usize> {
    let context = TrainerContext {
        spec: usage.spec.clone(),
        seed: 0,
        device: device.clone().autodiff(),
        adam: AdamConfig {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        },
        average_half_life_images: 0.0,
    };
    let trainer = family(&usage.family)?.trainer(&usage.model, &context)?;
    Ok(trainer.parameters())
}

/// Whether a value has a column. Precision and recall are those of `pr`, not of `prdc` too.
fn is_shown(value: &Measured) -> bool {
    match value.metric.as_str() {
        "prdc" => value.name.starts_with("coverage"),
        _ => !value.name.ends_with("_all_eigenvalues"),
    }
}

/// Whether every image of a data set has a label of so many classes.
fn has_labels(subject: &Subject, classes: usize) -> bool {
    match subject {
        Subject::Source { source, images, .. } => {
            source.describe().classes.len() == classes
                && images.iter().all(|image| source.label(*image).is_some())
        }
        _ => false,
    }
}

/// What was found; a note where these images do not allow it.
fn lenient<T>(
    found: Result<T>,
    what: &str,
    extraction: &ExtractOptions,
    notes: &mut Vec<String>,
) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if extraction.stop.load(Ordering::Relaxed) => Err(error),
        Err(error @ (Error::Settings { .. } | Error::Image(ImageError::Shape(_)))) => {
            notes.push(format!("without {what}: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::Score;

    use super::*;
    use crate::evaluate::Passport;

    fn measured(id: &str, name: &str) -> Measured {
        let score = Score::plain(name, 1.0);
        Measured::new(metric(id).unwrap(), score, Passport::default())
    }

    #[test]
    fn every_protocol_has_one_column() {
        for (id, name, shown) in [
            ("fid", "fd_judge", true),
            ("fid", "fd_judge_infinity", true),
            ("fid", "fd_judge_all_eigenvalues", false),
            ("pr", "recall_k3_judge", true),
            ("prdc", "recall_prdc5_judge", false),
            ("prdc", "coverage_prdc5_judge", true),
        ] {
            assert_eq!(is_shown(&measured(id, name)), shown, "{name}");
        }
    }

    #[test]
    fn what_images_do_not_allow_is_a_note_and_a_stop_is_not() {
        let extraction = ExtractOptions::default();
        let mut notes = Vec::new();
        let few = || -> Result<()> { Err(Error::settings("too few images", "use more")) };
        assert_eq!(
            lenient(few(), "fid", &extraction, &mut notes).unwrap(),
            None
        );
        assert_eq!(notes, ["without fid: too few images"]);
        let damaged: Result<()> = Err(Error::Failed("the disk is gone".into()));
        assert!(lenient(damaged, "fid", &extraction, &mut notes).is_err());
        extraction.stop.store(true, Ordering::Relaxed);
        assert!(lenient(few(), "fid", &extraction, &mut notes).is_err());
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn a_row_survives_the_disk() {
        let row = RunRow {
            name: "vae".to_owned(),
            family: "vae".to_owned(),
            values: vec![measured("fid", "fd_judge")],
            copies: Some(CopiesFound {
                verdict: Copying::Found,
                rate: 0.25,
                interval: Interval::around(0.25, 0.1),
                space: "pixels".to_owned(),
                sentence: String::new(),
                citation: String::new(),
            }),
            ..RunRow::default()
        };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<RunRow>(&text).unwrap(), row);
        assert!(row.is_run() && !RunRow::default().is_run());
    }

    #[test]
    fn parameters_are_those_of_the_family() {
        let vae = family("vae").unwrap();
        let (model, spec) = vae.tiny().unwrap();
        let preprocess = crate::data::Preprocess {
            height: spec.height,
            width: spec.width,
            channels: spec.channels,
            fit: crate::data::Fit::Crop,
            filter: vermeer_image::Filter::Bicubic,
            background: [0; 3],
            flip: false,
        };
        let usage = Use {
            family: "vae".to_owned(),
            model,
            spec,
            preprocess,
        };
        let device = crate::device::parse("auto").unwrap();
        assert!(trained_parameters(&usage, &device).unwrap() > 100);
    }
}
