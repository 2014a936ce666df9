//! Memorisation: whether samples are copies of the images that a model learnt from.
//!
//! First comes what the training set holds more than once ([`TrainDuplicates`]): it is what a model
//! memorises first. Features count as nearly equal up to a quarter of the median distance from a
//! held-out image to its nearest training image. In features of the embedded judge that is so of 9
//! of 20,000 images of Fashion-MNIST and of none of 5,000; a copy that is 5 % brighter is at 0.17 of
//! that median distance, and one shifted by a pixel at 1.06 (medians of 200).
//!
//! Then each sample is compared with its nearest training images, in pixels and in features, by the
//! rule of [`CopyingTest`], whose module says what it sees and how often it errs: a p-value against
//! held-out images for each sample, the samples that are copies at a false discovery rate, and a
//! p-value for the set. The rate holds in each space on its own. The level at which anything is
//! said is divided by the number of spaces, so that it holds for the report.
//!
//! AuthPct and C_T stand beside for those who compare with papers, under names that say whose
//! definition they are: `authpct_dgm_*` is dgm-eval's percentage, with that of the held-out images,
//! and `c_t_global_*` the authors' test with all images in one cell. Neither decides anything here.
//!
//! Where a run is judged, training and held-out images are prepared as the run's own were.

mod train_duplicates;
mod worst;

use std::collections::HashSet;

use serde::Serialize;
use vermeer_image::features::Extractor;
use vermeer_image::metrics::{
    Closeness, Copying, CopyingOptions, CopyingReport, CopyingTest, Features, Score, TrainingSet,
    authpct_dgm, c_t, c_t_global,
};
use vermeer_image::{Image, ImageError};

use vermeer_image::metrics::neighbours::nearest;

use self::train_duplicates::row_sums;
use self::worst::worst;
pub use self::{train_duplicates::TrainDuplicates, worst::WorstPair};
use super::comparison::{as_seen_by, passport};
use super::extract::{ExtractOptions, Extraction, extract_all};
use super::measure::Measured;
use super::passport::{Passport, Side};
use super::subject::Subject;
use crate::{Error, Result};

/// Height and width at which pixels are compared, at most.
const PIXELS: usize = 32;

/// Nearly equal images are nearer than this part of the median distance of held-out images.
const NEAR: f64 = 0.25;

/// Images whose neighbours are looked for at a time.
const ROWS: usize = 512;

/// Principal components of C_T, as its authors and dgm-eval take them.
const COMPONENTS: usize = 64;

/// A larger share of held-out images that are training images is refused.
const LEAKED: f64 = 0.05;

/// Whose images are compared.
#[derive(Clone, Copy)]
pub struct MemorizationSets<'a> {
    /// What a model made.
    pub samples: &'a Subject,
    /// What it learnt from.
    pub train: &'a Subject,
    /// Images like these that it never saw.
    pub heldout: &'a Subject,
}

/// How copies are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct MemorizationOptions {
    /// The largest expected share of wrong ones among the samples named in a space; 0.05.
    pub false_discovery_rate: f64,
    /// The largest probability that anything is said of a healthy set; 0.01.
    pub level: f64,
    /// Seed of the shuffles; 0.
    pub seed: u32,
    /// Whether near duplicates are looked for in the training set; true. Every pair of its images
    /// is compared.
    pub near_duplicates: bool,
    /// Pairs on the sheet, at most; 24.
    pub pairs: usize,
    /// Go on although held-out images are training images.
    pub force: bool,
}

impl Default for MemorizationOptions {
    fn default() -> Self {
        Self {
            false_discovery_rate: 0.05,
            level: 0.01,
            seed: 0,
            near_duplicates: true,
            pairs: 24,
            force: false,
        }
    }
}

/// What was found in one space.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpaceReport {
    /// `pixels`, or the name of the network.
    pub space: String,
    /// The network with its weights and how images come to it.
    pub network: String,
    /// What was found.
    pub copying: CopyingReport,
}

/// What [`memorization`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemorizationReport {
    /// The strongest verdict of all spaces.
    pub verdict: Copying,
    /// Everything in words.
    pub sentence: String,
    /// What the training set holds more than once.
    pub duplicates: TrainDuplicates,
    /// The test in pixels and in features.
    pub spaces: Vec<SpaceReport>,
    /// AuthPct of the samples and of the held-out images, and C_T.
    pub values: Vec<Measured>,
    /// The samples that are most like copies.
    pub worst: Vec<WorstPair>,
    /// The held-out images.
    pub heldout: Side,
    /// What the verdict was computed from.
    pub passport: Passport,
    /// One line to put beside the verdict.
    pub citation: String,
    /// The worst pairs as a picture.
    #[serde(skip)]
    pub sheet: Image,
}

impl MemorizationReport {
    /// Whether there are more near copies than chance gives.
    pub fn is_found(&self) -> bool {
        self.verdict != Copying::None
    }
}

/// Whether the samples are copies of training images, in pixels and in the features of a network.
///
/// # Errors
/// [`Error::Settings`] when held-out images are training images, unless `force` is said;
/// [`Error::Image`] for fewer than ten training images or too few held-out ones for the false
/// discovery rate; those of [`extract_all`].
pub fn memorization(
    sets: &MemorizationSets,
    extractor: &Extractor,
    options: &MemorizationOptions,
    extraction: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MemorizationReport> {
    let samples = sets.samples;
    let (seen_train, seen_heldout) = (
        as_seen_by(samples, sets.train),
        as_seen_by(samples, sets.heldout),
    );
    let train = seen_train.as_ref().unwrap_or(sets.train);
    let heldout = seen_heldout.as_ref().unwrap_or(sets.heldout);
    let (of_samples, of_train, of_heldout) = (samples.side()?, train.side()?, heldout.side()?);
    if of_train.digest == of_heldout.digest && !options.force {
        return Err(Error::settings(
            format!(
                "{} ({}) is both what was learnt and what was held out",
                of_heldout.location, of_heldout.split
            ),
            "give images that the model never saw with --heldout, or another split of the same \
             ones with --heldout-split",
        ));
    }

    let pixels = pixels_like(train)?;
    let networks: Vec<&Extractor> = match extractor.name() {
        "pixels" => vec![extractor],
        _ => vec![&pixels, extractor],
    };
    let [n, m, t] = [samples, heldout, train].map(|subject| subject.len() as usize);
    let searches = networks.len() * (n + m);
    let all = n + m + t + searches + if options.near_duplicates { m } else { 0 };
    let mut done = 0;
    let mut take = |subject: &Subject| -> Result<Vec<Extraction>> {
        let found = extract_all(subject, &networks, extraction, &mut |at, _| {
            progress(done + at, all);
        })?;
        done += subject.len() as usize;
        Ok(found)
    };
    let (train_features, heldout_features, sample_features) =
        (take(train)?, take(heldout)?, take(samples)?);

    // Some images at a time, so that progress is seen.
    let mut by_parts = |images: &Features, take: &mut dyn FnMut(&Features) -> Result<()>| {
        for first in (0..images.len()).step_by(ROWS) {
            let rows: Vec<usize> = (first..(first + ROWS).min(images.len())).collect();
            take(&images.select(&rows)?)?;
            done += rows.len();
            progress(done, all);
        }
        Ok::<(), Error>(())
    };
    if !options.force {
        let known = &train_features[0].features;
        refuse_leaks(leaked(&heldout_features[0].features, known)?, &of_heldout)?;
    }
    let last = networks.len() - 1;
    let features_of_train = &train_features[last].features;
    let radius = match options.near_duplicates {
        true => {
            let mut held = Vec::with_capacity(m);
            by_parts(&heldout_features[last].features, &mut |part| {
                let found = nearest(part, features_of_train, 1, false)?.concat();
                held.extend(found.into_iter().map(|nearest| nearest.distance));
                Ok(())
            })?;
            Some(NEAR * median(held))
        }
        false => None,
    };
    let (duplicates, first) =
        TrainDuplicates::of(&train_features[0].features, features_of_train, radius)?;
    let mut spaces: Vec<SpaceReport> = Vec::with_capacity(networks.len());
    for (at, network) in networks.iter().enumerate() {
        let known = TrainingSet::new(&train_features[at].features, &first)?;
        let mut of_train = |images: &Features| -> Result<Vec<Closeness>> {
            let mut found = Vec::with_capacity(images.len());
            by_parts(images, &mut |part| {
                found.append(&mut known.closeness(part)?);
                Ok(())
            })?;
            Ok(found)
        };
        let held = of_train(&heldout_features[at].features)?;
        let ours = of_train(&sample_features[at].features)?;
        let test = CopyingTest {
            false_discovery_rate: options.false_discovery_rate,
            level: options.level / networks.len() as f64,
            seed: options.seed,
            ..CopyingTest::default()
        };
        spaces.push(SpaceReport {
            space: network.name().to_owned(),
            network: network.identity(),
            copying: test.run(&ours, &held)?,
        });
    }

    let of = |protocol: String, judged: &Side| {
        let prepared = seen_train.is_some();
        let sides = [judged, &of_train];
        passport(protocol, sides, Some(extractor), prepared, options.seed)
    };
    let values = values(
        [
            &sample_features[last].features,
            &train_features[last].features,
            &heldout_features[last].features,
        ],
        extractor.name(),
        [&of_samples, &of_heldout],
        &of,
    )?;
    let (pairs, sheet) = worst(&spaces, samples, train, options.pairs)?;
    let names: Vec<&str> = spaces.iter().map(|space| space.space.as_str()).collect();
    let protocol = format!(
        "memorization in {}, {}, rate {}, level {}",
        names.join(" and "),
        against(&of_heldout),
        options.false_discovery_rate,
        options.level
    );
    let passport = of(protocol, &of_samples);
    Ok(MemorizationReport {
        verdict: strongest(&spaces),
        sentence: sentence(&duplicates, &spaces),
        duplicates,
        spaces,
        values,
        worst: pairs,
        heldout: of_heldout,
        citation: passport.citation(),
        passport,
        sheet,
    })
}

/// The pixels as features, like the first training image: grey or RGB, at its size up to 32.
fn pixels_like(train: &Subject) -> Result<Extractor> {
    if train.is_empty() {
        return Err(Error::settings(
            format!("{}: there are no training images", train.location()),
            "name what the model learnt from with --train",
        ));
    }
    let first = train.get(&[0])?;
    let (side, channels) = first.first().map_or((PIXELS, 3), |(image, _)| {
        let channels = if image.channels() < 3 { 1 } else { 3 };
        (image.width().min(image.height()).min(PIXELS), channels)
    });
    // Pixels are compared on the processor, whatever device the network is on.
    let device = crate::device::parse("auto")?;
    Ok(Extractor::pixels(side, channels, &device))
}

/// How many rows equal one of the training images to the bit.
fn leaked(heldout: &Features, train: &Features) -> Result<usize> {
    let known: HashSet<String> = row_sums(train)?.into_iter().collect();
    let ours = row_sums(heldout)?;
    Ok(ours.iter().filter(|row| known.contains(*row)).count())
}

/// Refuses held-out images of which many are training images.
fn refuse_leaks(leaked: usize, side: &Side) -> Result<()> {
    if leaked as f64 <= LEAKED * side.images as f64 {
        return Ok(());
    }
    Err(Error::settings(
        format!(
            "{} ({}): {leaked} of {} held-out images are training images, so copies would look \
             like them",
            side.location, side.split, side.images
        ),
        "give images that the model never saw (--heldout, --heldout-split), or say --force",
    ))
}

/// The median distance to the nearest training image; 0 of none.
fn median(mut distances: Vec<f64>) -> f64 {
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0)
}

/// AuthPct of the samples and of the held-out images, and C_T, from features of samples, training
/// and held-out images.
fn values(
    [samples, train, heldout]: [&Features; 3],
    network: &str,
    [of_samples, of_heldout]: [&Side; 2],
    passport: &dyn Fn(String, &Side) -> Passport,
) -> Result<Vec<Measured>> {
    const OVER: &str = "draws of the judged images";
    let measured = |metric: &str, score: Score, passport: Passport| Measured {
        metric: metric.to_owned(),
        name: score.name,
        value: score.value,
        interval: score.interval,
        interval_over: score.interval_over.to_owned(),
        notes: score.notes,
        citation: passport.citation(),
        passport,
    };
    let name = format!("authpct_dgm_{network}");
    let ours = authpct_dgm(samples, train)?;
    let score = Score::plain(name.clone(), ours.value).with(ours.interval, OVER);
    let mut all = vec![measured(
        "authpct",
        score,
        passport(name.clone(), of_samples),
    )];
    let held = authpct_dgm(heldout, train)?;
    let score = Score::plain(name.clone(), held.value)
        .with(held.interval, OVER)
        .note("of the held-out images: what fresh images reach");
    all.push(measured("authpct", score, passport(name, of_heldout)));
    let name = format!("c_t_cells3_{network}");
    let mut without = None;
    match c_t(samples, train, heldout, CopyingOptions::default()) {
        Ok(copying) => {
            let score = Score::plain(name.clone(), copying.value).note(format!(
                "in three cells of k-means, as dgm-eval; so low by chance with probability {:.4}, \
                 near 0 is best",
                copying.p_value()
            ));
            let protocol = format!("{name}, {}", against(of_heldout));
            all.push(measured("c_t", score, passport(protocol, of_samples)));
        }
        Err(ImageError::Shape(reason)) => without = Some(format!("without {name}: {reason}")),
        Err(other) => return Err(other.into()),
    }
    let name = format!("c_t_global_{network}");
    let copying = c_t_global(samples, train, heldout, COMPONENTS)?;
    let score = Score::plain(name.clone(), copying.value).note(format!(
        "deviations; so low by chance with probability {:.4}, near 0 is best",
        copying.p_value()
    ));
    let score = match without {
        Some(reason) => score.note(reason),
        None => score,
    };
    let protocol = format!("{name}, {}", against(of_heldout));
    all.push(measured("c_t", score, passport(protocol, of_samples)));
    Ok(all)
}

/// The held-out images, as a protocol names them.
fn against(heldout: &Side) -> String {
    format!(
        "against {} held-out images of {} ({}, {})",
        heldout.images,
        heldout.location,
        heldout.split,
        heldout.digest.get(..12).unwrap_or(&heldout.digest)
    )
}

fn strongest(spaces: &[SpaceReport]) -> Copying {
    let verdicts = spaces.iter().map(|space| space.copying.verdict);
    verdicts.max().unwrap_or(Copying::None)
}

/// Everything in words.
fn sentence(duplicates: &TrainDuplicates, spaces: &[SpaceReport]) -> String {
    let mut words = duplicates.sentence.clone();
    for space in spaces {
        let place = match space.space.as_str() {
            "pixels" => "In pixels".to_owned(),
            network => format!("In features of {network}"),
        };
        words.push_str(&format!(" {place}: {}", space.copying.sentence));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vermeer_image::Pixels;

    use super::*;
    use crate::data::{Description, MemorySource};

    /// Grey images of 8×8 noise from numpy's RandomState(seed).
    fn noise(seed: u32, count: usize) -> Vec<u8> {
        let mut random = vermeer_image::metrics::NumpyRandom::new(seed);
        (0..64 * count).map(|_| random.below(256) as u8).collect()
    }

    fn subject(bytes: Vec<u8>) -> Subject {
        let about = Description {
            location: "noise".to_owned(),
            ..Description::default()
        };
        let source = MemorySource::new(about, [8, 8, 1], Pixels::U8(bytes), None, vec![]).unwrap();
        Subject::of_source(Arc::new(source), None, 0).unwrap()
    }

    fn report(samples: Vec<u8>, train: Vec<u8>, heldout: Vec<u8>) -> Result<MemorizationReport> {
        let (samples, train, heldout) = (subject(samples), subject(train), subject(heldout));
        let sets = MemorizationSets {
            samples: &samples,
            train: &train,
            heldout: &heldout,
        };
        let extractor = Extractor::pixels(4, 1, &crate::device::parse("auto")?);
        let (mut last, mut whole) = (0, 0);
        let found = memorization(
            &sets,
            &extractor,
            &MemorizationOptions::default(),
            &ExtractOptions::default(),
            &mut |done, all| (last, whole) = (done, all),
        );
        assert!(found.is_err() || last == whole, "{last} of {whole}");
        found
    }

    #[test]
    fn copies_of_what_is_there_often_are_found() {
        // Thirty images are there twelve times each; the samples are thirty of them, spoilt a bit.
        let often = noise(4, 30);
        let mut train = noise(1, 200);
        for _ in 0..12 {
            train.extend_from_slice(&often);
        }
        let spoilt: Vec<u8> = often.iter().map(|byte| byte.saturating_add(2)).collect();
        let found = report(spoilt, train, noise(2, 300)).unwrap();
        assert_eq!(found.duplicates.repeated, 11 * 30);
        assert!(found.verdict >= Copying::Found, "{}", found.sentence);
    }

    #[test]
    fn copies_are_found_and_fresh_noise_is_not() {
        let mut train = noise(1, 200);
        let fresh = report(noise(3, 60), train.clone(), noise(2, 200)).unwrap();
        assert_eq!(fresh.verdict, Copying::None, "{}", fresh.sentence);
        assert!(!fresh.is_found());
        // The pixels are the network, so there is one space.
        assert_eq!(fresh.spaces.len(), 1);
        assert_eq!(fresh.duplicates.repeated, 0);

        let copies = train[..64 * 60].to_vec();
        train.extend_from_slice(&copies[..64]);
        let found = report(copies, train, noise(2, 200)).unwrap();
        assert_eq!(found.verdict, Copying::Widespread, "{}", found.sentence);
        // Image 0 is there twice, and then both are its nearest.
        assert_eq!(found.duplicates.equal, [vec![0, 200]]);
        assert_eq!(found.worst.len(), 24);
        assert!(found.worst.iter().all(|pair| pair.sample == pair.train));
        let names: Vec<&str> = found
            .values
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "authpct_dgm_pixels",
                "authpct_dgm_pixels",
                "c_t_cells3_pixels",
                "c_t_global_pixels"
            ]
        );
        // No copy is authentic, and all are as near as can be.
        assert_eq!(found.values[0].value, 0.0);
        assert!(found.values[2].value < -5.0);
        assert!(found.citation.contains("200 held-out images"));
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["verdict"], "widespread");
        assert_eq!(json["spaces"][0]["copying"]["flagged"], 60);
    }

    #[test]
    fn held_out_images_that_were_learnt_are_refused() {
        let same = report(noise(3, 60), noise(1, 200), noise(1, 200)).unwrap_err();
        assert_eq!(same.exit_code(), 2);
        assert!(same.to_string().contains("both"), "{same}");
        let mut heldout = noise(2, 180);
        heldout.extend(noise(1, 20));
        let some = report(noise(3, 60), noise(1, 200), heldout).unwrap_err();
        assert!(some.to_string().contains("20 of 200"), "{some}");
        assert!(some.remedy().unwrap().contains("--force"));
    }

    #[test]
    fn the_median_is_the_upper_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
