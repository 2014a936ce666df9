//! Modes: which classes or clusters of the real images a model does not make.
//!
//! With a judge and labelled images the modes are classes: the judge's mistakes, counted on the
//! labelled images, are taken out of its answers, and each class has an interval
//! ([`class_modes`](vermeer_image::metrics::class_modes())). The labelled images should be ones that
//! the judge never saw; those it was trained on make it look better than it is. Without labels the
//! modes are clusters of the real images' features, one for each fifty images of the smaller set,
//! and Fisher's exact test compares their shares
//! ([`cluster_modes`](vermeer_image::metrics::cluster_modes())); the intervals of the generated shares
//! are those of Clopper and Pearson and hold all at once.
//!
//! How often either errs, and from how many images on it sees three lost classes of ten, stands in
//! the modules of these two functions.
//!
//! Where a run is judged, real and labelled images are prepared as the run's own were.

mod classes;
mod rows;

use serde::Serialize;
use vermeer_image::Image;
use vermeer_image::features::Extractor;
use vermeer_image::metrics::interval::of_share;
use vermeer_image::metrics::{
    ClassReport, ClusterReport, Interval, Presence, cluster_modes, clusters_for, k_means,
};

use self::classes::{Labels, answers, class_shares};
use self::rows::{Shown, rows};
use super::comparison::{as_seen_by, passport};
use super::extract::{ExtractOptions, Extraction, extract};
use super::passport::{Passport, Side};
use super::subject::Subject;
use crate::{Error, Result};

/// Whose images are compared.
#[derive(Clone, Copy)]
pub struct ModesSets<'a> {
    /// What a model made.
    pub samples: &'a Subject,
    /// What it should make.
    pub real: &'a Subject,
    /// Labelled images that tell the judge's mistakes; without them, the real ones where these have
    /// labels.
    pub labelled: Option<&'a Subject>,
}

/// How lost modes are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ModesOptions {
    /// Clusters to make of the real images' features, whatever labels there are; `None` takes
    /// classes where it can and else as many clusters as suit the images.
    pub clusters: Option<usize>,
    /// The largest probability that a cluster is wrongly called lost; 0.01.
    pub level: f64,
    /// The probability that all intervals hold at once; 0.95.
    pub confidence: f64,
    /// Seed of the clusters; 0.
    pub seed: u32,
}

impl Default for ModesOptions {
    fn default() -> Self {
        Self {
            clusters: None,
            level: 0.01,
            confidence: 0.95,
            seed: 0,
        }
    }
}

/// A class or a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mode {
    /// The name of the class, or `cluster` and its number.
    pub name: String,
    /// Its share among the real images.
    pub real: f64,
    /// Its share among the samples; of classes the estimate without the judge's mistakes.
    pub generated: f64,
    /// The interval of that; those of all modes hold at once.
    pub interval: Interval,
    /// What follows.
    pub presence: Presence,
    /// Of a cluster, the p-value of its share being no smaller than the real one, uncorrected.
    pub p: Option<f64>,
}

impl Mode {
    /// The verdict in a word: missing, rare, unsure or present.
    pub fn word(&self) -> &'static str {
        rows::word(self.presence)
    }
}

/// What [`modes`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModesReport {
    /// Everything in words.
    pub sentence: String,
    /// All modes, in the order of their classes or clusters.
    pub modes: Vec<Mode>,
    /// The test of classes, where that was made.
    pub classes: Option<ClassReport>,
    /// The test of clusters, where that was made.
    pub clusters: Option<ClusterReport>,
    /// The labelled images, where a judge was asked.
    pub labelled: Option<Side>,
    /// What it was computed from.
    pub passport: Passport,
    /// One line to put beside it.
    pub citation: String,
    /// The modes as a picture, lost ones first.
    #[serde(skip)]
    pub picture: Image,
}

impl ModesReport {
    /// The names of the modes that are missing or rare.
    pub fn lost(&self) -> Vec<&str> {
        self.modes
            .iter()
            .filter(|mode| mode.presence.is_lost())
            .map(|mode| mode.name.as_str())
            .collect()
    }

    /// Whether any mode is missing or rare.
    pub fn is_found(&self) -> bool {
        self.modes.iter().any(|mode| mode.presence.is_lost())
    }
}

/// Which modes of the real images the samples lack.
///
/// # Errors
/// [`Error::Settings`] for labelled images without a judge, or without labels of its classes;
/// [`Error::Image`] for too few images; those of [`extract`].
pub fn modes(
    sets: &ModesSets,
    extractor: &Extractor,
    options: &ModesOptions,
    extraction: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ModesReport> {
    let samples = sets.samples;
    let seen_real = as_seen_by(samples, sets.real);
    let real = seen_real.as_ref().unwrap_or(sets.real);
    let seen_labelled = sets.labelled.and_then(|set| as_seen_by(samples, set));
    let labelled = seen_labelled.as_ref().or(sets.labelled);
    let is_judge = extractor.name() == "judge";
    if labelled.is_some() && (!is_judge || options.clusters.is_some()) {
        return Err(Error::settings(
            "labelled images tell the mistakes of a judge, and no judge was asked",
            "choose the network judge without a number of clusters, or give no labelled images",
        ));
    }
    let labels = match (is_judge && options.clusters.is_none(), labelled) {
        (false, _) => None,
        (true, Some(labelled)) => Some((labelled, Labels::required(labelled, extractor)?)),
        (true, None) => Labels::of(real, extractor).map(|labels| (real, labels)),
    };

    let second = labels.as_ref().map_or(real, |(labelled, _)| *labelled);
    let all = (samples.len() + second.len()) as usize;
    let mut done = 0;
    let mut take = |subject: &Subject| -> Result<Extraction> {
        let found = extract(subject, extractor, extraction, &mut |at, _| {
            progress(done + at, all);
        })?;
        done += subject.len() as usize;
        Ok(found)
    };
    let of_samples = take(samples)?;
    let of_second = take(second)?;

    let (of_generated, of_real) = (samples.side()?, real.side()?);
    let prepared = seen_real.is_some();
    let passport = |protocol: String| {
        let sides = [&of_generated, &of_real];
        passport(protocol, sides, Some(extractor), prepared, options.seed)
    };
    match labels {
        Some((labelled, labels)) => {
            let shares = real_shares(real, &labels, extractor);
            let (ours, theirs) = (answers(&of_samples)?, answers(&of_second)?);
            let confidence = options.confidence;
            let (report, modes) = class_shares(&ours, &theirs, &labels, &shares, confidence)?;
            let side = labelled.side()?;
            let passport = passport(format!(
                "modes_classes_{}, mistakes counted on {} images of {} ({}, {})",
                extractor.name(),
                side.images,
                side.location,
                side.split,
                side.digest.get(..12).unwrap_or(&side.digest)
            ));
            Ok(ModesReport {
                sentence: report.sentence.clone(),
                picture: rows(&modes, &classes::shown(&labels), labelled)?,
                modes,
                classes: Some(report),
                clusters: None,
                labelled: Some(side),
                citation: passport.citation(),
                passport,
            })
        }
        None => {
            let (report, modes, shown) = cluster_shares(&of_samples, &of_second, options)?;
            let passport = passport(format!(
                "modes_clusters{}_{}, level {}",
                modes.len(),
                extractor.name(),
                options.level
            ));
            Ok(ModesReport {
                sentence: report.sentence.clone(),
                picture: rows(&modes, &shown, real)?,
                modes,
                classes: None,
                clusters: Some(report),
                labelled: None,
                citation: passport.citation(),
                passport,
            })
        }
    }
}

/// How many real images each class has: by the real images' labels where these are of the same
/// classes, else by those of the labelled images.
fn real_shares(real: &Subject, labels: &Labels, judge: &Extractor) -> Vec<usize> {
    match Labels::of(real, judge) {
        Some(own) if own.names == labels.names => own.counts(),
        _ => labels.counts(),
    }
}

/// The clusters of the real images, and what is said of each.
fn cluster_shares(
    samples: &Extraction,
    real: &Extraction,
    options: &ModesOptions,
) -> Result<(ClusterReport, Vec<Mode>, Shown)> {
    let (samples, real) = (&samples.features, &real.features);
    let suitable = || clusters_for(real.len(), samples.len());
    let k = options.clusters.unwrap_or_else(suitable);
    let clusters = k_means(real, k, options.seed)?;
    let report = cluster_modes(&clusters, real, samples, options.level)?;
    let each = 1.0 - (1.0 - options.confidence) / k as f64;
    let modes = report
        .clusters
        .iter()
        .map(|cluster| Mode {
            name: format!("cluster {}", cluster.cluster),
            real: cluster.real as f64 / report.real as f64,
            generated: cluster.generated as f64 / report.generated as f64,
            interval: Interval {
                confidence: options.confidence,
                ..of_share(cluster.generated, report.generated, each)
            },
            presence: cluster.presence,
            p: Some(cluster.p),
        })
        .collect();
    let shown = Shown::of(&clusters.assignment, k);
    Ok((report, modes, shown))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vermeer_image::Pixels;

    use super::*;
    use crate::data::{Description, MemorySource, OpenOptions, open};

    /// Flat grey images of 4×4 at these levels, each with a little noise of its own.
    fn flat(levels: &[usize], seed: u32) -> Subject {
        let mut random = vermeer_image::metrics::NumpyRandom::new(seed);
        let bytes: Vec<u8> = levels
            .iter()
            .flat_map(|level| [*level; 16])
            .map(|level| (level + random.below(8)) as u8)
            .collect();
        let about = Description {
            location: "levels".to_owned(),
            ..Description::default()
        };
        let source = MemorySource::new(about, [4, 4, 1], Pixels::U8(bytes), None, vec![]).unwrap();
        Subject::of_source(Arc::new(source), None, 0).unwrap()
    }

    fn of(sets: &ModesSets, extractor: &Extractor) -> Result<ModesReport> {
        let (mut last, mut whole) = (0, 0);
        let found = modes(
            sets,
            extractor,
            &ModesOptions::default(),
            &ExtractOptions::default(),
            &mut |done, all| (last, whole) = (done, all),
        );
        assert!(found.is_err() || last == whole, "{last} of {whole}");
        found
    }

    #[test]
    fn a_cluster_that_is_not_made_is_lost() {
        let cycle = |levels: &[usize], n: usize| -> Vec<usize> {
            levels.iter().copied().cycle().take(n).collect()
        };
        let real = flat(&cycle(&[0, 80, 160, 240], 200), 1);
        let extractor = Extractor::pixels(4, 1, &crate::device::parse("auto").unwrap());
        for (levels, lost) in [(&[0, 80, 160, 240][..], 0), (&[0, 80, 240][..], 1)] {
            let samples = flat(&cycle(levels, 200), 2);
            let sets = ModesSets {
                samples: &samples,
                real: &real,
                labelled: None,
            };
            let report = of(&sets, &extractor).unwrap();
            assert_eq!(report.modes.len(), 4);
            assert_eq!(report.lost().len(), lost, "{}", report.sentence);
            assert_eq!(report.is_found(), lost > 0);
            for mode in &report.modes {
                assert!((mode.real - 0.25).abs() < 1e-12, "{mode:?}");
                let interval = mode.interval;
                assert!(interval.low <= mode.generated && mode.generated <= interval.high);
                assert_eq!(mode.presence == Presence::Missing, mode.generated == 0.0);
            }
            // scipy 1.17.1, beta.ppf(1 - 0.05 / 8, 1, 200): none of 200, at 0.05 / 4.
            if let Some(missing) = report.modes.iter().find(|mode| mode.generated == 0.0) {
                assert!((missing.interval.high - 0.025_056_607_921).abs() < 1e-6);
                assert_eq!(missing.word(), "missing");
            }
            assert!(report.citation.contains("modes_clusters4_pixels"));
        }
    }

    #[test]
    fn labels_without_a_judge_are_refused() {
        let set = flat(&[1; 60], 1);
        let sets = ModesSets {
            samples: &set,
            real: &set,
            labelled: Some(&set),
        };
        let device = crate::device::parse("auto").unwrap();
        let pixels = Extractor::pixels(4, 1, &device);
        assert_eq!(of(&sets, &pixels).unwrap_err().exit_code(), 2);
        // A judge cannot use them either: they have no labels.
        let judge = Extractor::judge(&device).unwrap();
        let error = of(&sets, &judge).unwrap_err();
        assert!(error.to_string().contains("label"), "{error}");
    }

    #[test]
    fn a_judge_of_other_images_is_refused() {
        // The judge knows garments; it calls no character a shirt, so its matrix has no inverse.
        let world = |seed: u32| {
            let location = format!("world:glyphs?count=400&size=28&seed={seed}");
            let source = open(&location, &OpenOptions::default()).unwrap();
            Subject::of_source(source, None, 0).unwrap()
        };
        let (samples, real) = (world(1), world(2));
        let sets = ModesSets {
            samples: &samples,
            real: &real,
            labelled: None,
        };
        let judge = Extractor::judge(&crate::device::parse("auto").unwrap()).unwrap();
        let error = of(&sets, &judge).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("apart"), "{error}");
        assert!(error.remedy().unwrap().contains("--clusters"));
    }
}
