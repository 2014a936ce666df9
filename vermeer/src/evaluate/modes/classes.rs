//! Which classes samples lack, by a judge whose mistakes are counted on labelled images.

use vermeer_image::features::Extractor;
use vermeer_image::metrics::{ClassReport, Presence, class_modes};

use super::{Mode, Shown};
use crate::evaluate::extract::Extraction;
use crate::evaluate::subject::Subject;
use crate::{Error, Result};

/// Logits that are read at a time.
const ROWS: usize = 4096;

/// The classes of a labelled set.
pub(super) struct Labels {
    /// Their names.
    pub(super) names: Vec<String>,
    /// The class of each image.
    pub(super) of: Vec<usize>,
}

impl Labels {
    /// The labels of a data set whose classes are as many as the judge knows.
    pub(super) fn of(subject: &Subject, judge: &Extractor) -> Option<Self> {
        let Subject::Source { source, images, .. } = subject else {
            return None;
        };
        let names = source.describe().classes.clone();
        if names.len() != judge.classes() {
            return None;
        }
        let label = |image: &usize| source.label(*image).map(|label| label as usize);
        let of: Option<Vec<usize>> = images.iter().map(label).collect();
        Some(Self { names, of: of? })
    }

    /// As [`Labels::of`], of images that were given for their labels.
    ///
    /// # Errors
    /// [`Error::Settings`] when they have none, or other classes.
    pub(super) fn required(subject: &Subject, judge: &Extractor) -> Result<Self> {
        Self::of(subject, judge).ok_or_else(|| {
            Error::settings(
                format!(
                    "{}: not every image has a label of one of the {} classes that the judge \
                     tells apart",
                    subject.location(),
                    judge.classes()
                ),
                "give labelled images of these classes with --labelled, or ask for clusters with \
                 --clusters",
            )
        })
    }

    /// How many images each class has.
    pub(super) fn counts(&self) -> Vec<usize> {
        counts(&self.of, self.names.len())
    }
}

/// What is said of each class: from the judge's answers for the samples and for labelled images,
/// and how many real images there are of each class.
///
/// # Errors
/// [`Error::Settings`] for what [`class_modes`] refuses, such as a judge that cannot tell the
/// classes apart.
pub(super) fn class_shares(
    of_samples: &[usize],
    of_labelled: &[usize],
    labels: &Labels,
    real: &[usize],
    confidence: f64,
) -> Result<(ClassReport, Vec<Mode>)> {
    let k = labels.names.len();
    let mut confusion = vec![vec![0; k]; k];
    for (label, answer) in labels.of.iter().zip(of_labelled) {
        confusion[*label][*answer] += 1;
    }
    let generated = counts(of_samples, k);
    let mut report =
        class_modes(&generated, Some(&confusion), real, confidence).map_err(|error| {
            Error::settings(
                error.to_string(),
                "the judge knows garments (Fashion-MNIST): for other images look at clusters, by \
                 --clusters or another --network",
            )
        })?;
    let modes: Vec<Mode> = report
        .classes
        .iter()
        .map(|class| Mode {
            name: labels.names[class.class].clone(),
            real: class.real,
            generated: class.generated,
            interval: class.interval,
            presence: class.presence,
            p: None,
        })
        .collect();
    report.sentence = sentence(&modes, report.generated);
    Ok((report, modes))
}

/// Real images of each class for the picture.
pub(super) fn shown(labels: &Labels) -> Shown {
    Shown::of(&labels.of, labels.names.len())
}

/// What the judge calls each image: the class of its largest logit.
pub(super) fn answers(extraction: &Extraction) -> Result<Vec<usize>> {
    let Some(logits) = &extraction.logits else {
        return Err(Error::Failed("the judge gave no logits".into()));
    };
    let mut answers = Vec::with_capacity(logits.len());
    for first in (0..logits.len()).step_by(ROWS) {
        let rows = logits.rows(first..(first + ROWS).min(logits.len()))?;
        for row in rows.chunks_exact(logits.dims()) {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            answers.push(best.map_or(0, |(class, _)| class));
        }
    }
    Ok(answers)
}

/// How often each number below `k` is there.
fn counts(numbers: &[usize], k: usize) -> Vec<usize> {
    let mut counts = vec![0; k];
    for number in numbers {
        counts[*number] += 1;
    }
    counts
}

/// The verdict in words, with the names of the classes.
fn sentence(modes: &[Mode], generated: usize) -> String {
    let mut parts = Vec::new();
    for (presence, words) in [
        (Presence::Missing, "not or hardly made"),
        (Presence::Rare, "made less than half as often as real"),
        (
            Presence::Unsure,
            "undecided, for which more images are needed",
        ),
    ] {
        let names: Vec<&str> = modes
            .iter()
            .filter(|mode| mode.presence == presence)
            .map(|mode| mode.name.as_str())
            .collect();
        if !names.is_empty() {
            parts.push(format!("{words}: {}", names.join(", ")));
        }
    }
    match parts.is_empty() {
        true => format!("All {} classes are among {generated} samples.", modes.len()),
        false => format!(
            "Of {} classes, by {generated} samples, {}.",
            modes.len(),
            parts.join("; ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::Interval;

    use super::*;
    use crate::data::{OpenOptions, open};

    #[test]
    fn the_answers_for_another_class_do_not_hide_a_missing_one() {
        // As in `class_modes`: a judge that calls a tenth of b's images a, and no image is of a.
        let labels = Labels {
            names: ["a", "b"].map(str::to_owned).to_vec(),
            of: [vec![0; 1000], vec![1; 1000]].concat(),
        };
        let of_labelled: Vec<usize> = (0..2000)
            .map(|i| usize::from(if i < 1000 { i % 20 == 0 } else { i % 10 > 0 }))
            .collect();
        let of_samples: Vec<usize> = (0..1000).map(|i| usize::from(i % 10 > 0)).collect();
        let (report, modes) =
            class_shares(&of_samples, &of_labelled, &labels, &labels.counts(), 0.95).unwrap();
        assert_eq!(modes[0].presence, Presence::Missing);
        assert!(modes[0].generated < 1e-12 && modes[0].real == 0.5);
        assert_eq!(
            (modes[1].name.as_str(), modes[1].presence),
            ("b", Presence::Present)
        );
        assert!(
            report.sentence.ends_with("not or hardly made: a."),
            "{}",
            report.sentence
        );
    }

    #[test]
    fn classes_are_named() {
        let mode = |name: &str, presence| Mode {
            name: name.to_owned(),
            real: 0.5,
            generated: 0.0,
            interval: Interval {
                low: 0.0,
                high: 0.1,
                confidence: 0.95,
            },
            presence,
            p: None,
        };
        let modes = [
            mode("bag", Presence::Rare),
            mode("shirt", Presence::Missing),
            mode("coat", Presence::Missing),
            mode("boot", Presence::Present),
        ];
        assert_eq!(
            sentence(&modes, 700),
            "Of 4 classes, by 700 samples, not or hardly made: shirt, coat; made less than half \
             as often as real: bag."
        );
        assert_eq!(
            sentence(&modes[3..], 9),
            "All 1 classes are among 9 samples."
        );
    }

    #[test]
    fn labels_have_to_be_those_of_the_judge() {
        let judge = Extractor::judge(&crate::device::parse("auto").unwrap()).unwrap();
        let subject = |world: &str| {
            let source = open(world, &OpenOptions::default()).unwrap();
            Subject::of_source(source, None, 0).unwrap()
        };
        let labels = Labels::of(&subject("world:glyphs?count=20&size=16"), &judge).unwrap();
        assert_eq!(labels.counts(), [2; 10]);
        assert_eq!(labels.names[0], "arch");
        let shapes = subject("world:shapes?count=20&size=16");
        let error = Labels::required(&shapes, &judge).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("10 classes"), "{error}");
    }
}
