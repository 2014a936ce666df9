//! Memorisation: whether samples are copies of training images, against images held out.
//!
//! Duplicates inside the training set come first: see
//! [`duplicates`](crate::metrics::duplicates::duplicates).
//!
//! **One number for each sample** ([`Closeness`]). With d₁ ≤ d₂ ≤ … the distances of a sample to
//! its nearest training images, the statistic is d₁ / mean(d₂ … d₁₀), after Carlini et al. (2023):
//! 0 for a copy, near 1 for an image without a nearest one. The plain d₁ is there too, and is not
//! the default, since it is small for every smooth or simple image. On pixels of Fashion-MNIST
//! (1,000 training, held-out and generated images) it names 203 of 1,000 averages of five training
//! images, and finds fresh images blurred by a Gaussian of one pixel nearer to the training set
//! than held-out images (rank sum, p = 4e-36); the ratio does neither (0 of 1,000, p = 0.98).
//!
//! **A p-value for each sample.** Of `m` held-out images, which the model did not see, p = (1 + the
//! number of held-out images whose statistic is at most that of the sample) / (m + 1). Were the
//! sample one more held-out image, p would be at most α with a probability of at most α. Such
//! p-values depend on each other positively, so that the rule of Benjamini and Hochberg holds for
//! them (Bates et al., 2023): of the samples it names, the share of wrong ones is on average at
//! most the false discovery rate. Samples that equal each other count once in the rule. A p-value
//! is never below 1/(m + 1), hence a share of copies below 1 / (rate (m + 1)) cannot be named: 2 %
//! with 1,000 held-out images and the rate 0.05.
//!
//! **A p-value for the set.** Simes' statistic, the least N p₍ᵢ₎ / i, is compared with its values
//! when samples and held-out images are mixed and dealt again at random, 999 times. It looks for
//! a tail that is several times too heavy. A generator that makes one kind of image only moves all
//! ratios a little, which is no copying: the rank sum sees that (trousers only: p = 2e-43), so it
//! is reported and not judged.
//!
//! **Error rates.** For healthy samples, exchangeable with the held-out images, only ranks matter.
//! 4,000 drawings each of 1 to 1,000 samples with 100 to 5,000 held-out images: more than nothing
//! was said in at most 1.0 % of them, copies were named in at most 0.7 %. On Fashion-MNIST, 20 seeds
//! each with 1,000 training, 1,000 held-out and 1,000 generated images, and again with 5,000
//! training images; pixels, and the 128 features of the embedded judge:
//!
//! | generator | in pixels | in features |
//! |---|---|---|
//! | fresh images; fresh images of seven classes | nothing, all | nothing, all |
//! | exact copies | widespread, all | widespread, all |
//! | 5 % or 2 % exact copies | found, all | found, all |
//! | 1 % exact copies | suspected, all | suspected, all |
//! | copies with noise of 8 grey levels | widespread, all | widespread, all |
//! | … of 16 | widespread, all | found in 39 of 40 |
//! | … of 32 | widespread, all | suspected in 1 of 40 |
//! | 5 % copies with noise of 8 | found in 39 of 40 | found in 32 of 40 |
//! | one class, at random | suspected in 3 of 40 | nothing, all |
//! | trousers, whose ratios are lowest | suspected in 7 of 40 | nothing, all |
//! | 1, 10 or 100 fresh images, or a blank one, repeated | wrongly found in 2 of 160 | wrongly found in 2 of 160 |
//!
//! With 5,000 held-out images 1 % of exact copies are found in all of 20 seeds; with 200 of each
//! kind 5 % of them are suspected in all, and none can be named. Measured with a prototype of this
//! rule in numpy, of 199 to 999 shuffles.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::closeness::Closeness;
use crate::metrics::interval::{CONFIDENCE, Interval, normal_probability, of_share};
use crate::metrics::numpy_random::NumpyRandom;
use crate::metrics::significance::{benjamini_hochberg, rank_sum};

/// Copies are widespread when at least this share of the samples is, by the interval's lower end.
const WIDESPREAD: f64 = 0.1;

/// By which number samples and held-out images are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// [`Closeness::ratio`].
    #[default]
    Ratio,
    /// [`Closeness::distance`].
    Distance,
}

/// What is said of a set of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copying {
    /// No more near copies than held-out images give.
    None,
    /// More near copies than chance gives, but no single one can be named.
    Suspected,
    /// Some samples are named as copies.
    Found,
    /// At least a tenth of the samples are copies, by the lower end of the interval.
    Widespread,
}

/// A sample and what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleCopy {
    /// How near it is to the training set.
    pub closeness: Closeness,
    /// Its p-value against the held-out images.
    pub p: f64,
    /// Whether it is named as a copy.
    pub flagged: bool,
}

/// What [`CopyingTest::run`] finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyingReport {
    /// The samples, in their order.
    pub samples: Vec<SampleCopy>,
    /// The number of samples that differ from each other.
    pub distinct: usize,
    /// The number of held-out images.
    pub heldout: usize,
    /// The number of samples named as copies.
    pub flagged: usize,
    /// The interval of their share, 95 % (Clopper and Pearson).
    pub share: Interval,
    /// The number of training images that the named samples copy.
    pub copied: usize,
    /// How many copies there have to be among the samples before one can be named.
    pub smallest: usize,
    /// The p-value of the set.
    pub set_p: f64,
    /// The share of pairs of a sample and a held-out image in which the sample is nearer to the
    /// training set; 0.5 where there is no difference.
    pub nearer: f64,
    /// The one-sided p-value of `nearer`, by the rank sum, for samples that do not depend on each
    /// other.
    pub nearer_p: f64,
    /// Held-out images that equal a training image; they make the test blind, so there should be
    /// none.
    pub leaked: usize,
    /// What is said of the set.
    pub verdict: Copying,
    /// The verdict in words.
    pub sentence: String,
}

/// The settings of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CopyingTest {
    /// What is compared; the ratio.
    pub statistic: Statistic,
    /// The largest expected share of wrong ones among the samples that are named; 0.05.
    pub false_discovery_rate: f64,
    /// The largest probability that anything is said of a healthy set; 0.01.
    pub level: f64,
    /// How often samples and held-out images are dealt again; 999.
    pub shuffles: usize,
    /// The seed of that; 0.
    pub seed: u32,
}

impl Default for CopyingTest {
    fn default() -> Self {
        Self {
            statistic: Statistic::Ratio,
            false_discovery_rate: 0.05,
            level: 0.01,
            shuffles: 999,
            seed: 0,
        }
    }
}

impl CopyingTest {
    /// Whether the samples are copies, with the held-out images as those that are not.
    ///
    /// # Errors
    /// [`ImageError::Shape`] without samples, with fewer than `1 / false_discovery_rate - 1`
    /// held-out images (nothing could be named), with a rate or level outside (0, 1), or with too
    /// few shuffles for the level.
    pub fn run(&self, samples: &[Closeness], heldout: &[Closeness]) -> Result<CopyingReport> {
        self.check(samples.len(), heldout.len())?;
        let value = |image: &Closeness| match self.statistic {
            Statistic::Ratio => image.ratio,
            Statistic::Distance => image.distance,
        };
        let mut ours: Vec<f64> = heldout.iter().map(value).collect();
        ours.sort_by(f64::total_cmp);
        let slots = (ours.len() + 1) as f64;
        let p_value = |value: f64| (1 + ours.partition_point(|held| *held <= value)) as f64 / slots;

        let mut seen = BTreeSet::new();
        let distinct: Vec<f64> = samples
            .iter()
            .filter(|s| seen.insert((s.nearest, s.distance.to_bits(), s.ratio.to_bits())))
            .map(value)
            .collect();
        let p_values: Vec<f64> = distinct.iter().map(|value| p_value(*value)).collect();
        let threshold = benjamini_hochberg(&p_values, self.false_discovery_rate);
        let set_p = self.set_p(&distinct, &ours);
        let evidence = set_p <= self.level;
        let samples: Vec<SampleCopy> = samples
            .iter()
            .map(|sample| {
                let p = p_value(value(sample));
                SampleCopy {
                    closeness: *sample,
                    p,
                    flagged: evidence && threshold.is_some_and(|threshold| p <= threshold),
                }
            })
            .collect();
        let flagged = samples.iter().filter(|s| s.flagged).count();
        let copied: BTreeSet<usize> = samples
            .iter()
            .filter(|s| s.flagged)
            .map(|s| s.closeness.nearest)
            .collect();
        let share = of_share(flagged, samples.len(), CONFIDENCE);
        let ranks = rank_sum(&distinct, &ours);
        let smallest =
            (distinct.len() as f64 / (self.false_discovery_rate * slots)).ceil() as usize;
        let mut report = CopyingReport {
            distinct: distinct.len(),
            heldout: heldout.len(),
            flagged,
            share,
            copied: copied.len(),
            smallest,
            set_p,
            nearer: ranks.below,
            nearer_p: normal_probability(-ranks.z),
            leaked: heldout.iter().filter(|image| image.distance == 0.0).count(),
            verdict: match (evidence, flagged) {
                (false, _) => Copying::None,
                (true, 0) => Copying::Suspected,
                (true, _) if share.low >= WIDESPREAD => Copying::Widespread,
                (true, _) => Copying::Found,
            },
            sentence: String::new(),
            samples,
        };
        report.sentence = self.sentence(&report);
        Ok(report)
    }

    /// Refuses what the test cannot answer.
    fn check(&self, samples: usize, heldout: usize) -> Result<()> {
        let inside = |x: f64| x > 0.0 && x < 1.0;
        if !inside(self.false_discovery_rate) || !inside(self.level) {
            return Err(ImageError::Shape(format!(
                "the false discovery rate and the level lie between 0 and 1, not at {} and {}",
                self.false_discovery_rate, self.level
            )));
        }
        if ((self.shuffles + 1) as f64) * self.level < 1.0 {
            return Err(ImageError::Shape(format!(
                "{} shuffles cannot give a p-value of {}; take more",
                self.shuffles, self.level
            )));
        }
        if samples == 0 {
            return Err(ImageError::Shape(
                "there are no samples to judge".to_owned(),
            ));
        }
        let least = (1.0 / self.false_discovery_rate).ceil() as usize - 1;
        if heldout < least {
            return Err(ImageError::Shape(format!(
                "at a false discovery rate of {} no copy can be named with {heldout} held-out \
                 images; give at least {least}, better 1000",
                self.false_discovery_rate
            )));
        }
        Ok(())
    }

    /// The p-value of Simes' statistic when samples and held-out images are dealt at random.
    fn set_p(&self, samples: &[f64], heldout: &[f64]) -> f64 {
        let mut all: Vec<(f64, bool)> = samples.iter().map(|value| (*value, false)).collect();
        all.extend(heldout.iter().map(|value| (*value, true)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let equal: Vec<usize> = all.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
        let mut held: Vec<bool> = all.iter().map(|(_, held)| *held).collect();
        let observed = simes(&equal, &held);
        let mut random = NumpyRandom::new(self.seed);
        let mut as_small = 1u32;
        for _ in 0..self.shuffles {
            for i in (1..held.len()).rev() {
                held.swap(i, random.below(i + 1));
            }
            if simes(&equal, &held) <= observed * (1.0 + 1e-12) {
                as_small += 1;
            }
        }
        f64::from(as_small) / (self.shuffles + 1) as f64
    }

    /// The verdict in words.
    fn sentence(&self, report: &CopyingReport) -> String {
        let n = report.samples.len();
        let mut words = match report.verdict {
            Copying::None => format!(
                "No sign of copying: {n} samples have no more near copies among the training images \
                 than {} held-out images have (p = {:.3}).",
                report.heldout, report.set_p
            ),
            Copying::Suspected => format!(
                "Copying is suspected: {n} samples have more near copies than chance gives (p = \
                 {:.3}), but none can be named; with {} held-out images at least {} copies would \
                 be needed. Give more held-out images.",
                report.set_p, report.heldout, report.smallest
            ),
            Copying::Found | Copying::Widespread => format!(
                "{} of {n} samples ({:.1} to {:.1} %) are copies of {} training images; of the \
                 different ones among them at most {:.0} % are expected to be named wrongly.",
                report.flagged,
                100.0 * report.share.low,
                100.0 * report.share.high,
                report.copied,
                100.0 * self.false_discovery_rate
            ),
        };
        if report.leaked > 0 {
            words.push_str(&format!(
                " {} held-out images equal training images, which hides copies: take them out.",
                report.leaked
            ));
        }
        words
    }
}

/// Simes' statistic of samples among held-out images: all in ascending order, `equal` of them in a
/// row being ties, `held` true for a held-out one.
fn simes(equal: &[usize], held: &[bool]) -> f64 {
    let all_held = held.iter().filter(|held| **held).count();
    let samples = (held.len() - all_held) as f64;
    let slots = (all_held + 1) as f64;
    let (mut at, mut held_so_far, mut samples_so_far) = (0, 0usize, 0usize);
    let mut least = f64::INFINITY;
    for &size in equal {
        let of_held = held[at..at + size].iter().filter(|held| **held).count();
        at += size;
        held_so_far += of_held;
        samples_so_far += size - of_held;
        if size > of_held {
            let p = (1 + held_so_far) as f64 / slots;
            least = least.min(samples * p / samples_so_far as f64);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::closeness::TrainingSet;
    use crate::metrics::feature_set::Features;

    fn at(ratio: f64, nearest: usize) -> Closeness {
        Closeness {
            nearest,
            distance: 10.0 * ratio,
            ratio,
        }
    }

    /// Held-out images with the ratios 0.5, 0.51, ….
    fn heldout(n: usize) -> Vec<Closeness> {
        (0..n).map(|i| at(0.5 + 0.01 * i as f64, 0)).collect()
    }

    #[test]
    fn p_values_count_the_held_out_images_at_or_below() {
        // By hand with 19 held-out images 0.5 … 0.68: p = (1 + count) / 20.
        let samples = [at(0.4, 0), at(0.5, 1), at(0.675, 2), at(0.9, 3)];
        let report = CopyingTest::default().run(&samples, &heldout(19)).unwrap();
        let p: Vec<f64> = report.samples.iter().map(|s| s.p).collect();
        assert_eq!(p, [0.05, 0.1, 0.95, 1.0]);
        // Four samples at the rate 0.05 and p-values of 1/20 at least: all four have to be copies.
        assert_eq!(report.smallest, 4);
        assert_eq!((report.verdict, report.flagged), (Copying::None, 0));
    }

    #[test]
    fn the_p_value_of_the_set_is_that_of_dealing_again() {
        // Two samples below all of 20 held-out images: 1 of the 231 ways to deal is as extreme. The
        // numpy prototype gives 0.007 with the same 999 shuffles.
        let report = CopyingTest::default()
            .run(&[at(0.1, 0), at(0.2, 1)], &heldout(20))
            .unwrap();
        assert!((report.set_p - 0.007).abs() < 1e-12, "{}", report.set_p);
        assert_eq!(report.verdict, Copying::Widespread);
        assert_eq!((report.flagged, report.copied), (2, 2));
        assert_eq!(report.nearer, 1.0);
    }

    #[test]
    fn equal_samples_count_once() {
        let samples = vec![at(0.505, 4); 50];
        let report = CopyingTest::default().run(&samples, &heldout(60)).unwrap();
        assert_eq!((report.distinct, report.flagged), (1, 0));
        assert_eq!(report.verdict, Copying::None);
    }

    /// Rows of standard normal numbers.
    fn normal(random: &mut NumpyRandom, rows: usize) -> Vec<f32> {
        (0..8 * rows).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn copies_are_found_and_fresh_rows_are_not() {
        // The numpy prototype says none, widespread and found for each of these 20 seeds.
        for seed in 0..20 {
            let mut random = NumpyRandom::new(seed);
            let [train, held, fresh] = [200, 200, 100].map(|rows| normal(&mut random, rows));
            let copies: Vec<f32> = train[..800]
                .iter()
                .map(|value| value + 0.05 * random.normal() as f32)
                .collect();
            let some = [&copies[..80], &fresh[80..]].concat();
            let features = |values: &[f32]| Features::new(values.to_vec(), 8).unwrap();
            let train = features(&train);
            let alone: Vec<usize> = (0..200).collect();
            let set = TrainingSet::new(&train, &alone).unwrap();
            let near = |values: &[f32]| set.closeness(&features(values)).unwrap();
            let held = near(&held);
            for (values, expected) in [
                (&fresh, Copying::None),
                (&copies, Copying::Widespread),
                (&some, Copying::Found),
            ] {
                let report = CopyingTest::default().run(&near(values), &held).unwrap();
                assert_eq!(report.verdict, expected, "seed {seed}: {}", report.sentence);
            }
        }
    }

    #[test]
    fn leaked_images_are_told() {
        let mut held = heldout(100);
        held[3] = at(0.0, 5);
        let report = CopyingTest::default().run(&[at(0.7, 0)], &held).unwrap();
        assert_eq!(report.leaked, 1);
        assert!(
            report.sentence.contains("take them out"),
            "{}",
            report.sentence
        );
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let (test, samples) = (CopyingTest::default(), [at(0.5, 0)]);
        assert!(test.run(&samples, &heldout(18)).is_err());
        assert!(test.run(&samples, &heldout(19)).is_ok());
        assert!(test.run(&[], &heldout(100)).is_err());
        for wrong in [
            CopyingTest {
                shuffles: 98,
                ..test
            },
            CopyingTest { level: 0.0, ..test },
            CopyingTest {
                false_discovery_rate: 1.0,
                ..test
            },
        ] {
            assert!(wrong.run(&samples, &heldout(100)).is_err());
        }
    }
}
