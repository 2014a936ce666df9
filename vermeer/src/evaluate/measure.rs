//! Metrics of sets on extracted features, with their passports.

use serde::{Deserialize, Serialize};
use vermeer_image::features::Extractor;
use vermeer_image::metrics::{
    Better, Interval, Kind, Metric, Moments, OF_REAL, Progress, Score, SetInput, SetOptions, metric,
};

use super::comparison::storage;
use super::extract::{ExtractOptions, Extraction, extract_all};
use super::passport::{Passport, Side};
use super::statistics::Statistics;
use super::subject::Subject;
use crate::{Error, Result};

/// A value with everything it depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The metric's name.
    pub metric: String,
    /// The value's name, which holds its protocol.
    pub name: String,
    /// The value.
    #[serde(with = "number")]
    pub value: f64,
    /// Where the value of another draw of as many images may lie.
    pub interval: Option<Interval>,
    /// What the interval is over.
    pub interval_over: String,
    /// What has to be known to read the value.
    pub notes: Vec<String>,
    /// What it was computed from.
    pub passport: Passport,
    /// One line to put beside the value.
    pub citation: String,
}

impl Measured {
    /// A score and what it was computed from.
    pub fn new(metric: &Metric, score: Score, mut passport: Passport) -> Self {
        passport.protocol.clone_from(&score.name);
        Self {
            metric: metric.id.to_owned(),
            name: score.name,
            value: score.value,
            interval: score.interval,
            interval_over: score.interval_over.to_owned(),
            notes: score.notes,
            citation: passport.citation(),
            passport,
        }
    }

    /// Which way is better.
    pub fn better(&self) -> Better {
        metric(&self.metric).map_or(Better::Neither, |metric| metric.better)
    }
}

/// One side of a comparison, ready to be measured.
pub struct Set {
    /// What the passport says of it.
    pub side: Side,
    /// Its features; `None` where only statistics are known.
    pub extraction: Option<Extraction>,
    /// Its statistics, where they are all that is known.
    pub moments: Option<Moments>,
    /// What has to be said of it beside every value.
    pub note: Option<String>,
    /// Whether its images were prepared as a run's own ([`as_seen_by`](super::as_seen_by)).
    pub prepared: bool,
}

impl Set {
    /// The features of a subject, or its statistics.
    ///
    /// # Errors
    /// Those of [`extract_all`]; [`Error::Settings`] for statistics of another network.
    pub fn of(
        subject: &Subject,
        extractor: &Extractor,
        options: &ExtractOptions,
        progress: Progress,
    ) -> Result<Self> {
        let mut sets = Self::of_all(subject, &[extractor], options, progress)?;
        sets.pop()
            .ok_or_else(|| Error::Failed("no network was asked".into()))
    }

    /// As [`Set::of`], by several networks that look at each image while it is there.
    ///
    /// # Errors
    /// As [`Set::of`].
    pub fn of_all(
        subject: &Subject,
        extractors: &[&Extractor],
        options: &ExtractOptions,
        progress: Progress,
    ) -> Result<Vec<Self>> {
        let side = subject.side()?;
        let of_images = |extraction| Self {
            side: side.clone(),
            extraction: Some(extraction),
            moments: None,
            note: None,
            prepared: false,
        };
        let Subject::Statistics(statistics) = subject else {
            let found = extract_all(subject, extractors, options, progress)?;
            return Ok(found.into_iter().map(of_images).collect());
        };
        let of_statistics =
            |extractor: &&Extractor| Self::of_statistics(statistics, extractor, side.clone());
        extractors.iter().map(of_statistics).collect()
    }

    fn of_statistics(statistics: &Statistics, extractor: &Extractor, side: Side) -> Result<Self> {
        let known = statistics.network.as_ref();
        let other_network = known.is_some_and(|known| *known != extractor.identity());
        if other_network || statistics.moments.dims() != extractor.dims() {
            return Err(Error::settings(
                format!(
                    "{}: these statistics are of {} features of {}, not of {}",
                    statistics.location,
                    statistics.moments.dims(),
                    known.map_or("another network", |known| known.as_str()),
                    extractor.identity()
                ),
                "choose the network they were made with (--network, --weights, --dims, --protocol)",
            ));
        }
        Ok(Self {
            side,
            extraction: None,
            moments: Some(statistics.moments.clone()),
            note: known.is_none().then(|| {
                format!(
                    "{} does not say by which network and resize it was made: taken to be {}",
                    statistics.location,
                    extractor.identity()
                )
            }),
            prepared: false,
        })
    }

    /// Its mean and covariance.
    ///
    /// # Errors
    /// Those of reading the features.
    pub fn moments(&self) -> Result<Moments> {
        match (&self.moments, &self.extraction) {
            (Some(moments), _) => Ok(moments.clone()),
            (None, Some(extraction)) => Ok(Moments::of(&extraction.features)?),
            (None, None) => Err(Error::Failed("a set without features".into())),
        }
    }
}

/// The values of a metric of sets. With `force` numbers of images that mean nothing are accepted.
///
/// # Errors
/// [`Error::Settings`] for too few images, and for metrics that are not of sets or lack the real
/// images they need; [`Error::Image`] when a value cannot be computed.
pub fn measure(
    metric: &Metric,
    generated: &Set,
    real: Option<&Set>,
    extractor: &Extractor,
    options: &SetOptions,
    force: bool,
    progress: Progress,
) -> Result<Vec<Measured>> {
    let Kind::Set {
        needs_real,
        measure,
    } = metric.kind
    else {
        return Err(Error::settings(
            format!("{} is no metric of sets", metric.id),
            "`vermeer eval --help` says what each metric looks at",
        ));
    };
    if needs_real && real.is_none() {
        return Err(Error::settings(
            format!("{} compares two sets, and one was given", metric.id),
            format!("give both: vermeer eval {} GENERATED REAL", metric.id),
        ));
    }
    let real = real.filter(|_| needs_real || metric.id == "vendi");
    let counts = [Some(generated), real].into_iter().flatten();
    // Statistics of an unknown number of images may be of enough.
    let fewest = counts.map(|set| set.side.images).filter(|n| *n > 0).min();
    if let (Some(fewest), false) = (fewest, force) {
        metric
            .check_floor(usize::try_from(fewest).unwrap_or(usize::MAX))
            .map_err(|error| {
                Error::settings(error.to_string(), "use more images, or say --force")
            })?;
    }
    let input = SetInput {
        generated: generated.extraction.as_ref().map(|e| &e.features),
        generated_moments: generated.moments.as_ref(),
        real: real.and_then(|real| real.extraction.as_ref().map(|e| &e.features)),
        real_moments: real.and_then(|real| real.moments.as_ref()),
        logits: generated
            .extraction
            .as_ref()
            .and_then(|e| e.logits.as_ref()),
        network: extractor.name(),
        published: extractor.is_published(),
        suffix: extractor.suffix(),
        options,
    };
    let passport = Passport {
        protocol: String::new(),
        generated: generated.side.clone(),
        real: real.map(|real| real.side.clone()),
        network: extractor.name().to_owned(),
        network_sha256: extractor.sha256().to_owned(),
        resize: extractor.resize(),
        input: extractor.input().to_owned(),
        storage: storage(real.is_some_and(|real| real.prepared)).to_owned(),
        seed: u64::from(options.seed),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let sets = [Some(generated), real].into_iter().flatten();
    let mut notes: Vec<String> = sets.filter_map(|set| set.note.clone()).collect();
    if real.is_some_and(|real| real.side.digest == generated.side.digest) {
        notes.push("both sides are the same images".to_owned());
    }
    Ok(measure(&input, progress)?
        .into_iter()
        .map(|mut score| {
            score.notes.extend(notes.iter().cloned());
            Measured::new(metric, score, passport.clone())
        })
        .collect())
}

/// Whether the difference of two values against one reference is more than chance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The protocol of both.
    pub name: String,
    /// The first value less the second.
    pub difference: f64,
    /// The interval of the difference.
    pub interval: Interval,
    /// Whether the interval leaves out 0.
    pub beyond_chance: bool,
    /// What follows, in a sentence.
    pub verdict: String,
}

/// Compares two values; `None` where one has no interval, or one over draws of the real images
/// only, which both have in common. The images of both are taken to be drawn
/// independently of each other.
///
/// # Errors
/// Those of [`Passport::comparable`], unless `force` is said.
pub fn difference(a: &Measured, b: &Measured, force: bool) -> Result<Option<Difference>> {
    if !force {
        a.passport.comparable(&b.passport)?;
    }
    let (Some(of_a), Some(of_b)) = (a.interval, b.interval) else {
        return Ok(None);
    };
    if a.interval_over == OF_REAL {
        return Ok(None);
    }
    let difference = a.value - b.value;
    // The half widths belong to independent errors, so their squares add up.
    let interval = Interval::around(difference, of_a.half_width().hypot(of_b.half_width()));
    Ok(Some(Difference::of(a, b, difference, interval)))
}

impl Difference {
    /// The difference of two values with its interval, and what follows from it.
    pub fn of(a: &Measured, b: &Measured, difference: f64, interval: Interval) -> Self {
        let beyond_chance = interval.low > 0.0 || interval.high < 0.0;
        let (first, second) = (
            &a.passport.generated.location,
            &b.passport.generated.location,
        );
        let verdict = match (beyond_chance, a.better()) {
            (false, _) => format!("no more than chance: {first} and {second} may be equally good"),
            (true, Better::Neither) => format!("{first} and {second} differ by more than chance"),
            (true, better) => {
                let first_wins = (difference < 0.0) == (better == Better::Lower);
                let (best, other) = match first_wins {
                    true => (first, second),
                    false => (second, first),
                };
                format!("{best} is better than {other} by more than chance")
            }
        };
        Self {
            name: a.name.clone(),
            difference,
            interval,
            beyond_chance,
            verdict,
        }
    }
}

/// JSON has no infinity: it is written as a text.
mod number {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => to.serialize_f64(*value),
            false => to.serialize_str(&value.to_string()),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Number {
            Value(f64),
            Text(String),
        }
        match Number::deserialize(from)? {
            Number::Value(value) => Ok(value),
            Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64, half: f64, images: &str) -> Measured {
        let score = Score::plain("fd_vermeer", value).with(Interval::around(value, half), "x");
        let mut passport = Passport::default();
        passport.generated.location = images.to_owned();
        Measured::new(metric("fid").unwrap(), score, passport)
    }

    #[test]
    fn a_difference_has_to_leave_its_interval() {
        // Half widths 3 and 4 make 5.
        let (a, b) = (measured(10.0, 3.0, "a"), measured(16.0, 4.0, "b"));
        let found = difference(&a, &b, false).unwrap().unwrap();
        assert_eq!((found.difference, found.interval.high), (-6.0, -1.0));
        assert!(found.beyond_chance);
        assert_eq!(found.verdict, "a is better than b by more than chance");
        let near = difference(&a, &measured(14.0, 4.0, "b"), false)
            .unwrap()
            .unwrap();
        assert!(!near.beyond_chance);
        let mut other = measured(16.0, 4.0, "b");
        other.passport.seed = 7;
        assert_eq!(difference(&a, &other, false).unwrap_err().exit_code(), 2);
        assert!(difference(&a, &other, true).is_ok());
    }

    #[test]
    fn infinity_survives_json() {
        let mut a = measured(f64::INFINITY, 1.0, "a");
        a.interval = None;
        let text = serde_json::to_string(&a).unwrap();
        assert_eq!(
            serde_json::from_str::<Measured>(&text).unwrap().value,
            f64::INFINITY
        );
    }
}
