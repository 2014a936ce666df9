//! What samples are worth to somebody who learns from them: Classification Accuracy Score (Ravuri
//! and Vinyals, 2019).
//!
//! A small classifier is trained from scratch on labelled samples and judged on real images that
//! neither it nor the model has learnt from (`cas_…`); the same classifier trained on as many real
//! images is the baseline; and one trained on real images judges the samples (`cas_reverse_…`). The
//! paper's classifier is a ResNet-50 on ImageNet; this one is a LeNet, so values are comparable with
//! each other and not with the paper's. All three see images of one shape, prepared by one rule.
//!
//! Intervals are those of Clopper and Pearson over the judged images; that of the gap is for two
//! classifiers on the same images, (c − b)/n ± 1.96 √((b + c)/n − ((c − b)/n)²)/√n, where b images
//! are right with samples alone and c with real ones alone.

mod classifier;
mod labelled;
mod report;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Device;
use serde::Serialize;
use vermeer_image::Filter;

use self::classifier::{LEAST_SIDE, Rule, train};
use self::labelled::{Labelled, Preparation, of_run, of_source};
pub use self::report::ClassAccuracy;
use self::report::{Report, by_class, passport};
use super::measure::Measured;
use super::passport::Side;
use super::subject::Subject;
use crate::data::{Description, Fit, Preprocess, Source, Split};
use crate::random::permutation;
use crate::{Error, Result};

/// The longest side that the classifier sees; larger images are reduced.
const LONGEST: usize = 64;

/// Images that are so many pixels smaller than the samples are padded, others scaled, as in
/// training.
const NEAR: usize = 8;

/// How classifiers are trained.
#[derive(Clone, Debug, PartialEq)]
pub struct CasOptions {
    /// Passes over the images. Default 10.
    pub epochs: usize,
    /// Seed of weights, orders and of the choice among images. Default 0.
    pub seed: u64,
    /// Whether half of the images are mirrored while a classifier learns. For runs it is their own
    /// setting that counts. Default no.
    pub flip: bool,
}

impl Default for CasOptions {
    fn default() -> Self {
        Self {
            epochs: 10,
            seed: 0,
            flip: false,
        }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cas {
    /// `cas_…`, `cas_baseline_…`, `cas_gap_…` (the baseline less the first) and `cas_reverse_…`.
    pub values: Vec<Measured>,
    /// The real classes, in their order.
    pub classes: Vec<ClassAccuracy>,
}

/// Called with what is being done, the work done and the whole work of that.
pub type Stages<'a> = &'a mut dyn FnMut(&'static str, usize, usize);

/// Trains on samples and judges real images, and the reverse, beside the baseline.
///
/// `generated` is a run that can be asked for a class, or labelled images; `real` and `held_out` are
/// disjoint labelled images of the same classes. As many real images as samples are learnt from, at
/// most all; a run makes as many samples of each class as are real.
///
/// # Errors
/// [`Error::Settings`] for statistics, classes that do not agree, a run without classes, real
/// images that are also judged, and images too small for the classifier; those of reading, sampling
/// and training; [`Error::Failed`] after `stop`.
pub fn cas(
    generated: &Subject,
    real: &Subject,
    held_out: &Subject,
    options: &CasOptions,
    device: &Device,
    stop: &AtomicBool,
    progress: Stages,
) -> Result<Cas> {
    let (real_source, real_numbers) = images_of(real)?;
    let (held_source, held_numbers) = images_of(held_out)?;
    let [mut generated_side, mut real_side, held_side] =
        [generated.side()?, real.side()?, held_out.side()?];
    let count = real_numbers.len().min(generated.len() as usize);
    let sources = [real_source, held_source];
    check_request(options, sources, [&real_side, &held_side], count)?;
    let classes = classes_of(real_source)?;
    let preparation = preparation(generated, real_source, options)?;
    let device = device.clone().without_autodiff();

    let learnt_from = of_source(
        real_source,
        &chosen(real_numbers, count, options.seed),
        &labels_to(real_source.describe(), &classes)?,
        &preparation,
        stop,
        &mut |done, all| progress("real images", done, all),
    )?;
    let judged = of_source(
        held_source,
        held_numbers,
        &labels_to(held_source.describe(), &classes)?,
        &preparation,
        stop,
        &mut |done, all| progress("held-out images", done, all),
    )?;
    let mut tell = |done: usize, all: usize| progress("samples", done, all);
    let samples = match generated {
        Subject::Run(run) => {
            let known = known_to_run(&classes, &run.model.usage.spec.classes)?;
            let counts = histogram(&learnt_from.labels, classes.len());
            of_run(run, &counts, &known, &preparation, stop, &mut tell)?
        }
        _ => {
            let (source, numbers) = images_of(generated)?;
            let labels = labels_to(source.describe(), &classes)?;
            let numbers = chosen(numbers, count, options.seed);
            of_source(source, &numbers, &labels, &preparation, stop, &mut tell)?
        }
    };
    generated_side.images = samples.len() as u64;
    real_side.images = learnt_from.len() as u64;

    let rule = Rule {
        epochs: options.epochs,
        seed: options.seed,
        flip: preparation.rule.flip,
    };
    let mut learn = |data: &Labelled, what: &'static str| {
        train(
            data,
            classes.len(),
            rule,
            &device,
            stop,
            &mut |done, all| progress(what, done, all),
        )
    };
    let of_samples = learn(&samples, "steps on samples")?;
    let of_real = learn(&learnt_from, "steps on real images")?;
    let by_samples = right(
        &of_samples.classify(&judged, &device, stop)?,
        &judged.labels,
    );
    let by_real = right(&of_real.classify(&judged, &device, stop)?, &judged.labels);
    let reverse = right(&of_real.classify(&samples, &device, stop)?, &samples.labels);

    let report = Report {
        protocol: preparation.protocol(options.epochs),
        passport: passport(&preparation, options, &real_side),
        epochs: options.epochs,
    };
    let mut first = report.share("cas", &by_samples, [&generated_side, &held_side]);
    let found = histogram(&samples.labels, classes.len());
    let lacking: Vec<&str> = classes
        .iter()
        .zip(found)
        .filter(|(_, count)| *count == 0)
        .map(|(class, _)| class.as_str())
        .collect();
    if !lacking.is_empty() {
        let note = format!("there are no samples of the classes {}", lacking.join(", "));
        first.notes.push(note);
    }
    Ok(Cas {
        values: vec![
            first,
            report.share("cas_baseline", &by_real, [&real_side, &held_side]),
            report.gap(&by_samples, &by_real, [&generated_side, &held_side]),
            report.share("cas_reverse", &reverse, [&generated_side, &real_side]),
        ],
        classes: by_class(&classes, &judged.labels, &by_samples, &by_real),
    })
}

/// Refuses requests without an answer.
fn check_request(
    options: &CasOptions,
    sources: [&dyn Source; 2],
    [real, held]: [&Side; 2],
    count: usize,
) -> Result<()> {
    if options.epochs == 0 {
        return Err(Error::settings(
            "a classifier learns nothing in 0 epochs",
            "say --epochs 1 or more",
        ));
    }
    if count == 0 || held.images == 0 {
        return Err(Error::settings(
            "there is no image to learn from, or none to judge",
            "give samples, real images, and real images that are held out",
        ));
    }
    // Parts of one set are disjoint, unless they are the same part or one is the whole.
    let [learnt, judged] = sources.map(|source| source.describe());
    let parts = [learnt.split, judged.split];
    let shared =
        learnt.location == judged.location && (parts[0] == parts[1] || parts.contains(&Split::All));
    if shared || real.digest == held.digest {
        return Err(Error::settings(
            format!(
                "{} ({}) and {} ({}) share images, and a classifier knows what it learnt from",
                learnt.location, learnt.split, judged.location, judged.split
            ),
            "judge images that are held out, such as the test split",
        ));
    }
    Ok(())
}

/// The data set of a subject and the numbers of the images taken.
fn images_of(subject: &Subject) -> Result<(&dyn Source, &[usize])> {
    match subject {
        Subject::Source { source, images, .. } => Ok((source.as_ref(), images.as_slice())),
        Subject::Run(_) | Subject::Statistics(_) => Err(Error::settings(
            format!("{} is no set of labelled images", subject.location()),
            "give a data set with labels, such as a folder with a folder for each class",
        )),
    }
}

/// `count` of the numbers, drawn by the seed and in their order.
fn chosen(numbers: &[usize], count: usize, seed: u64) -> Vec<usize> {
    /// No epoch has this number.
    const CHOICE: u64 = u64::MAX;
    let order = permutation(seed, CHOICE, numbers.len());
    let mut places: Vec<u32> = order.into_iter().take(count).collect();
    places.sort_unstable();
    places
        .into_iter()
        .map(|place| numbers[place as usize])
        .collect()
}

/// The classes that are told apart.
fn classes_of(real: &dyn Source) -> Result<Vec<String>> {
    let about = real.describe();
    if about.classes.len() < 2 {
        return Err(Error::settings(
            format!("{} has no labels of two classes or more", about.location),
            "give labelled images: a folder for each class, IDX or CIFAR files, an .npz with labels",
        ));
    }
    Ok(about.classes.clone())
}

/// The class of each label of a data set.
fn labels_to(about: &Description, classes: &[String]) -> Result<Vec<u32>> {
    about
        .classes
        .iter()
        .map(
            |name| match classes.iter().position(|class| class == name) {
                Some(class) => Ok(class as u32),
                None => Err(Error::settings(
                    format!(
                        "{} has a class {name}, which the real images have not",
                        about.location
                    ),
                    format!("name the classes alike: {}", classes.join(", ")),
                )),
            },
        )
        .collect()
}

/// What a run calls each class.
fn known_to_run(classes: &[String], of_run: &[String]) -> Result<Vec<u32>> {
    classes
        .iter()
        .map(|name| match of_run.iter().position(|class| class == name) {
            Some(class) => Ok(class as u32),
            None => Err(Error::settings(
                format!("the run knows no class {name}"),
                "use a run that was trained on these classes and can be asked for one (family \
                 diffusion with model.conditional = true), or labelled samples",
            )),
        })
        .collect()
}

/// How all images are prepared: as those of the run, or to the size of the first sample.
fn preparation(
    generated: &Subject,
    real: &dyn Source,
    options: &CasOptions,
) -> Result<Preparation> {
    let rule = match generated {
        Subject::Run(run) => run.model.usage.preprocess.clone(),
        _ => {
            let (source, numbers) = images_of(generated)?;
            let image = source
                .get(numbers.first().copied().unwrap_or_default())?
                .image;
            let original = real.get(0)?.image;
            let near = |real: usize, side: usize| real <= side && side - real <= NEAR;
            let pad =
                near(original.height(), image.height()) && near(original.width(), image.width());
            Preprocess {
                height: image.height(),
                width: image.width(),
                channels: if image.channels() < 3 { 1 } else { 3 },
                fit: if pad { Fit::Pad } else { Fit::Crop },
                filter: Filter::Bicubic,
                background: [0; 3],
                flip: options.flip,
            }
        }
    };
    let preparation = Preparation::new(rule, LONGEST);
    let [_, height, width] = preparation.shape;
    if height.min(width) < LEAST_SIDE {
        return Err(Error::settings(
            format!(
                "the classifier sees images of {LEAST_SIDE} pixels a side or more, these become \
                 {width}x{height}"
            ),
            "measure a model of larger images",
        ));
    }
    Ok(preparation)
}

/// Whether each image was judged rightly.
fn right(found: &[u32], labels: &[u32]) -> Vec<bool> {
    found.iter().zip(labels).map(|(a, b)| a == b).collect()
}

fn histogram(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[*label as usize] += 1;
    }
    counts
}

fn check(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("interrupted; nothing was written".into())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vermeer_image::Pixels;

    use super::*;
    use crate::data::MemorySource;
    use crate::evaluate::RunImages;
    use crate::optim::AdamConfig;
    use crate::pipeline::{Model, Use};
    use crate::random::{Purpose, stream};
    use crate::registry::{TrainerContext, family};
    use crate::task::SampleOptions;

    const SIDE: usize = 12;

    /// Noise of images of 12×12 that are bright at the left (class 0) or at the right (class 1);
    /// with `swapped` the labels say the contrary.
    fn halves(count: usize, seed: u64, swapped: bool) -> Subject {
        let mut pixels = vec![];
        let mut labels = vec![];
        for number in 0..count {
            let mut random = stream(seed, Purpose::World, 0, number as u64);
            let class = number % 2;
            for place in 0..SIDE * SIDE {
                let bright = (place % SIDE < SIDE / 2) == (class == 0);
                pixels.push(random.below(100) as u8 + if bright { 150 } else { 0 });
            }
            labels.push((class ^ usize::from(swapped)) as u32);
        }
        let description = Description {
            location: format!("halves of {seed}"),
            classes: vec!["left".to_owned(), "right".to_owned()],
            ..Description::default()
        };
        source(description, pixels, labels)
    }

    fn source(description: Description, pixels: Vec<u8>, labels: Vec<u32>) -> Subject {
        let shape = [SIDE, SIDE, 1];
        let source =
            MemorySource::new(description, shape, Pixels::U8(pixels), Some(labels), vec![]);
        Subject::of_source(Arc::new(source.unwrap()), None, 0).unwrap()
    }

    fn run(generated: &Subject, real: &Subject, held: &Subject, epochs: usize) -> Result<Cas> {
        let options = CasOptions {
            epochs,
            ..CasOptions::default()
        };
        let stop = AtomicBool::new(false);
        let device = Device::flex();
        cas(
            generated,
            real,
            held,
            &options,
            &device,
            &stop,
            &mut |_, _, _| {},
        )
    }

    #[test]
    fn good_samples_teach_and_wrong_ones_mislead() {
        let (real, held) = (halves(200, 1, false), halves(40, 2, false));
        let good = run(&halves(200, 3, false), &real, &held, 20).unwrap();
        let names: Vec<&str> = good
            .values
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["cas", "cas_baseline", "cas_gap", "cas_reverse"]
                .map(|name| format!("{name}_lenet12x12x1_20ep"))
        );
        let values: Vec<f64> = good.values.iter().map(|value| value.value).collect();
        assert_eq!(values, [1.0, 1.0, 0.0, 1.0]);
        // All of 40: the lower end of Clopper and Pearson is 0.025^(1/40).
        let interval = good.values[0].interval.unwrap();
        assert!((interval.low - 0.911_902_7).abs() < 1e-6, "{interval:?}");
        assert_eq!(interval.high, 1.0);
        assert_eq!(
            (good.classes[1].images, good.classes[1].synthetic),
            (20, 1.0)
        );
        // Labels that say the contrary: what was learnt is wrong, and so is the other way.
        let wrong = run(&halves(200, 3, true), &real, &held, 20).unwrap();
        let values: Vec<f64> = wrong.values.iter().map(|value| value.value).collect();
        assert_eq!(values, [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(
            (wrong.classes[0].synthetic, wrong.classes[0].real),
            (0.0, 1.0)
        );
        assert!(wrong.values[0].citation.contains("halves of 3"));
    }

    #[test]
    fn requests_that_cannot_be_met_are_refused() {
        let (real, held) = (halves(4, 1, false), halves(4, 2, false));
        let other = source(
            Description {
                classes: vec!["left".to_owned(), "up".to_owned()],
                ..Description::default()
            },
            vec![0; 2 * SIDE * SIDE],
            vec![0, 1],
        );
        let error = run(&other, &real, &held, 1).unwrap_err();
        assert!(error.to_string().contains("class up"), "{error}");
        let error = run(&halves(4, 3, false), &real, &real, 1).unwrap_err();
        assert!(error.to_string().contains("share images"), "{error}");
        let error = run(&halves(4, 3, false), &real, &held, 0).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    /// Ten samples of an untrained model of images of 12×12.
    fn untrained(id: &str) -> Subject {
        let family = family(id).unwrap();
        let (table, mut spec) = family.tiny().unwrap();
        (spec.height, spec.width) = (SIDE, SIDE);
        let context = TrainerContext {
            spec: spec.clone(),
            seed: 1,
            device: Device::flex().autodiff(),
            adam: AdamConfig::default(),
            average_half_life_images: 0.0,
        };
        let model = Model {
            pipeline: family
                .trainer(&table, &context)
                .unwrap()
                .pipeline()
                .unwrap(),
            usage: Use {
                family: id.to_owned(),
                model: table,
                preprocess: Preprocess {
                    height: SIDE,
                    width: SIDE,
                    channels: spec.channels,
                    fit: Fit::Pad,
                    filter: Filter::Bicubic,
                    background: [0; 3],
                    flip: true,
                },
                spec,
            },
            step: 0,
            digest: "00".to_owned(),
            warnings: vec![],
        };
        Subject::Run(Box::new(RunImages {
            model,
            location: "runs/x".to_owned(),
            count: 10,
            options: SampleOptions::default(),
        }))
    }

    #[test]
    fn a_run_is_asked_for_every_class() {
        let labelled = |seed: u64| {
            let description = Description {
                location: format!("noise of {seed}"),
                // The family's own small model knows a, b and c.
                classes: ["c", "b", "a"].map(str::to_owned).to_vec(),
                ..Description::default()
            };
            let mut random = stream(seed, Purpose::World, 0, 0);
            let pixels = (0..15 * SIDE * SIDE).map(|_| random.below(256) as u8);
            source(
                description,
                pixels.collect(),
                (0..15).map(|i| i % 3).collect(),
            )
        };
        let (real, held) = (labelled(1), labelled(2));
        let found = run(&untrained("diffusion"), &real, &held, 1).unwrap();
        let [cas, baseline, _, reverse] = &found.values[..] else {
            panic!("four values");
        };
        assert_eq!(cas.passport.generated.images, 10);
        assert_eq!(baseline.passport.generated.images, 10);
        assert_eq!(cas.passport.real.as_ref().unwrap().images, 15);
        assert!(
            reverse.notes[0].contains("of 10 images"),
            "{:?}",
            reverse.notes
        );
        assert_eq!(found.classes.len(), 3);
        assert_eq!(found.classes[0].class, "c");
        assert!(cas.passport.input.contains("mirrored"));

        let error = run(&untrained("vae"), &real, &held, 1).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.remedy().unwrap().contains("conditional"), "{error}");
    }
}
