//! The values of an evaluation, their intervals and passports.

use serde::Serialize;
use vermeer_image::metrics::Interval;
use vermeer_image::metrics::interval::{CONFIDENCE, normal_quantile, of_share};

use super::CasOptions;
use super::labelled::Preparation;
use crate::evaluate::{Measured, Passport, Side};

/// How many real images of a class were judged rightly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The name of the class.
    pub class: String,
    /// Its judged images.
    pub images: usize,
    /// The share that is right after learning from samples.
    pub synthetic: f64,
    /// The interval of that share.
    pub interval: Interval,
    /// The share that is right after learning from real images.
    pub real: f64,
}

/// What the values of one evaluation share.
pub(super) struct Report {
    /// What the names of all values end with.
    pub(super) protocol: String,
    /// What the passports of all values hold.
    pub(super) passport: Passport,
    /// Passes of the training.
    pub(super) epochs: usize,
}

impl Report {
    /// A share of images that are right.
    pub(super) fn share(
        &self,
        name: &str,
        right: &[bool],
        [generated, real]: [&Side; 2],
    ) -> Measured {
        let (count, total) = (count_right(right), right.len());
        let interval = of_share(count, total, CONFIDENCE);
        let passes = self.epochs;
        let notes = vec![
            format!("{count} of {total} images are right after {passes} passes in training"),
            "one training: another seed of the classifier moves the value too".to_owned(),
        ];
        let value = count as f64 / total as f64;
        self.measured(name, value, interval, notes, [generated, real])
    }

    /// What learning from samples lacks.
    pub(super) fn gap(&self, by_samples: &[bool], by_real: &[bool], sides: [&Side; 2]) -> Measured {
        let pairs = || by_samples.iter().zip(by_real);
        let only_samples = pairs().filter(|(a, b)| **a && !**b).count();
        let only_real = pairs().filter(|(a, b)| !**a && **b).count();
        let (value, interval) = difference(only_samples, only_real, by_samples.len());
        let notes = vec![format!(
            "the baseline less cas: {only_real} images are right with real images alone, \
             {only_samples} with samples alone"
        )];
        self.measured("cas_gap", value, interval, notes, sides)
    }

    fn measured(
        &self,
        name: &str,
        value: f64,
        interval: Interval,
        notes: Vec<String>,
        [generated, real]: [&Side; 2],
    ) -> Measured {
        let name = format!("{name}_{}", self.protocol);
        let passport = Passport {
            protocol: name.clone(),
            generated: generated.clone(),
            real: Some(real.clone()),
            ..self.passport.clone()
        };
        Measured {
            metric: "cas".to_owned(),
            name,
            value,
            interval: Some(interval),
            interval_over: "draws of the judged images".to_owned(),
            notes,
            citation: passport.citation(),
            passport,
        }
    }
}

/// (c − b)/n and its interval, where b and c of n images are right with one classifier alone.
fn difference(b: usize, c: usize, n: usize) -> (f64, Interval) {
    let (b, c, n) = (b as f64, c as f64, n as f64);
    let value = (c - b) / n;
    let error = (((b + c) / n - value * value) / n).max(0.0).sqrt();
    let half = normal_quantile(0.5 + 0.5 * CONFIDENCE) * error;
    (value, Interval::around(value, half))
}

fn count_right(right: &[bool]) -> usize {
    right.iter().filter(|right| **right).count()
}

/// What the two classifiers say of every class that was judged.
pub(super) fn by_class(
    classes: &[String],
    labels: &[u32],
    by_samples: &[bool],
    by_real: &[bool],
) -> Vec<ClassAccuracy> {
    let of = |class: usize, right: &[bool]| -> Vec<bool> {
        labels
            .iter()
            .zip(right)
            .filter(|(label, _)| **label as usize == class)
            .map(|(_, right)| *right)
            .collect()
    };
    classes
        .iter()
        .enumerate()
        .filter_map(|(class, name)| {
            let (samples, real) = (of(class, by_samples), of(class, by_real));
            let images = samples.len();
            let share = |right: &[bool]| count_right(right) as f64 / images as f64;
            (images > 0).then(|| ClassAccuracy {
                class: name.clone(),
                images,
                synthetic: share(&samples),
                interval: of_share(count_right(&samples), images, CONFIDENCE),
                real: share(&real),
            })
        })
        .collect()
}

/// What every value's passport holds; the network is what follows from the rule of training.
pub(super) fn passport(preparation: &Preparation, options: &CasOptions, real: &Side) -> Passport {
    let network = preparation.protocol(options.epochs);
    let recipe = format!("{network} {preparation:?} {options:?} {}", real.digest);
    Passport {
        protocol: String::new(),
        generated: Side::default(),
        real: None,
        network,
        network_sha256: crate::sha256_hex(recipe.as_bytes()),
        resize: preparation.words(),
        input: match preparation.rule.flip {
            true => "x / 255, half of the images mirrored in training",
            false => "x / 255",
        }
        .to_owned(),
        storage: "8-bit".to_owned(),
        seed: options.seed,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_its_interval() {
        // 0.1, variance (0.2 − 0.01)/100, times 1.959964 (scipy 1.17.1: norm.ppf(.975)).
        let (value, interval) = difference(5, 15, 100);
        assert!((value - 0.1).abs() < 1e-12);
        assert!(
            (interval.half_width() - 0.085_432_8).abs() < 1e-6,
            "{interval:?}"
        );
    }

    #[test]
    fn classes_are_counted_apart() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        let labels = [0, 0, 2, 2, 2];
        let found = by_class(
            &classes,
            &labels,
            &[true, false, true, true, false],
            &[true, true, true, false, false],
        );
        // Nothing of b was judged.
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].synthetic, found[0].real), (0.5, 1.0));
        assert_eq!((found[1].class.as_str(), found[1].images), ("c", 3));
        assert!((found[1].synthetic - 2.0 / 3.0).abs() < 1e-12);
        assert!((found[1].real - 1.0 / 3.0).abs() < 1e-12);
    }
}
