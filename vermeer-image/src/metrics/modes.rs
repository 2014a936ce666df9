//! Modes: which classes a model does not produce, by a judge whose mistakes are known.
//!
//! A judge (a classifier) is asked for the class of each generated image. Since it errs, its counts
//! are not the shares of the classes: a class that is not produced at all still gets the images of
//! others. With C the judge's confusion matrix, C\[j]\[o] the probability that it answers o for an
//! image of class j, and q the shares of its answers, the shares π of the classes solve Cᵀ π = q
//! (Saerens et al., 2002, and Rogan and Gladen, 1978, for two classes). C is counted on labelled
//! real images that the judge was not trained on.
//!
//! The interval of a share is the set of all s that a score test does not reject: |π̂_c - s| ≤ z σ(s),
//! where σ²(s) is the variance of π̂_c, if π_c were s and the other shares in proportion, from both
//! the number of generated images and that of labelled ones. For a judge without mistakes this is
//! Wilson's interval. Unlike a bootstrap it has a width when a class was never seen. z is divided
//! among the classes (Bonferroni), so that all intervals hold at once.
//!
//! Where a corrected share is further below 0 than that interval allows, the judge sees generated
//! images otherwise than real ones. Then a share is only bounded: by the share of its answers over
//! the share it gets right.
//!
//! **Verdicts** against the real share r: [`Presence::Missing`] when the interval lies below r/10,
//! [`Presence::Rare`] when it lies below r/2, [`Presence::Unsure`] when it reaches from below r/10
//! to above r/2, [`Presence::Present`] otherwise. What differs because the judge sees generated
//! images otherwise than real ones is not covered.
//!
//! **Error rates** with the confidence 0.95 on Fashion-MNIST and the embedded judge (accuracy 0.91,
//! 0.71 on shirts), 5,000 labelled images, 100 seeds each, prototype in numpy. Fresh images: no
//! class called missing or rare in any of 700 sets of 100 to 20,000. Three random classes of ten
//! left out:
//!
//! | generated images | all three caught | of the classes left out: missing, rare | a wrong class caught |
//! |---|---|---|---|
//! | 200 | 23 % | 0 %, 60 % | 0 |
//! | 500 | 83 % | 1 %, 93 % | 0 |
//! | 1,000 | 99 % | 25 %, 75 % | 0 |
//! | 2,000 | 100 % | 57 %, 43 % | 0 |
//! | 5,000 | 100 % | 71 %, 29 % | 0 |
//!
//! The ten intervals held the true shares at once in 94 to 98 % of 300 simulated sets with 200 or
//! 1,000 labelled images per class, and in 95 to 100 % with 20 or 50.

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::interval::{Interval, normal_quantile, of_share};

/// A mode is missing when its share is below this part of the real one.
pub(crate) const MISSING: f64 = 0.1;

/// A mode is rare when its share is below this part of the real one.
pub(crate) const RARE: f64 = 0.5;

/// Whether a model produces a class or a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Less than a tenth as often as real images do.
    Missing,
    /// Less than half as often.
    Rare,
    /// The images are too few to say.
    Unsure,
    /// Neither of these.
    Present,
}

impl Presence {
    /// Whether the mode is missing or rare.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Missing | Self::Rare)
    }
}

/// A class and its share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassShare {
    /// The number of the class.
    pub class: usize,
    /// Its share among the real images.
    pub real: f64,
    /// Its estimated share among the generated images, at least 0.
    pub generated: f64,
    /// The interval of that.
    pub interval: Interval,
    /// What follows.
    pub presence: Presence,
}

/// What [`class_modes`] finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// All classes, in their order.
    pub classes: Vec<ClassShare>,
    /// The number of generated images.
    pub generated: usize,
    /// The probability that all intervals hold at once.
    pub confidence: f64,
    /// The verdict in words, with the numbers of the classes.
    pub sentence: String,
}

impl ClassReport {
    /// The numbers of the classes that are missing or rare.
    pub fn lost(&self) -> Vec<usize> {
        self.classes
            .iter()
            .filter(|class| class.presence.is_lost())
            .map(|class| class.class)
            .collect()
    }
}

/// Which classes the generated images lack: `generated[o]` is how many of them the judge calls `o`,
/// `confusion[j][o]` how many labelled real images of class `j` it calls `o` (`None` for a judge
/// that does not err), `real[j]` how many real images there are of class `j`. All intervals hold at
/// once with the given confidence, such as 0.95.
///
/// # Errors
/// [`ImageError::Shape`] when the lengths differ, there are fewer than two classes, no generated
/// image, a class without real or labelled images, a judge that cannot tell the classes apart (its
/// matrix has no inverse), or a confidence outside (0, 1).
pub fn class_modes(
    generated: &[usize],
    confusion: Option<&[Vec<usize>]>,
    real: &[usize],
    confidence: f64,
) -> Result<ClassReport> {
    check(generated, confusion, real, confidence)?;
    let k = real.len();
    let judge = Judgement::new(generated, confusion)?;
    let z = normal_quantile(1.0 - (1.0 - confidence) / (2 * k) as f64);
    let all_real = real.iter().sum::<usize>() as f64;
    let estimates: Vec<f64> = judge.shares.iter().map(|share| share.max(0.0)).collect();
    // A share far below zero says that the judge's mistakes on these images are not those counted.
    // Then only its answers bound a share: those it gets right are among them.
    let each = 1.0 - (1.0 - confidence) / k as f64;
    let fits = (0..k).all(|class| judge.shares[class] >= -z * judge.deviation(class, 0.0));
    let classes: Vec<ClassShare> = (0..k)
        .map(|class| {
            let (low, high) = match fits {
                true => judge.interval(class, z),
                false => (0.0, at_most(generated, confusion, class, each)),
            };
            let real = real[class] as f64 / all_real;
            ClassShare {
                class,
                real,
                generated: estimates[class].min(1.0),
                interval: Interval {
                    low,
                    high,
                    confidence,
                },
                presence: if high < MISSING * real {
                    Presence::Missing
                } else if high < RARE * real {
                    Presence::Rare
                } else if low < MISSING * real {
                    Presence::Unsure
                } else {
                    Presence::Present
                },
            }
        })
        .collect();
    let generated = generated.iter().sum();
    Ok(ClassReport {
        sentence: sentence(&classes, generated),
        classes,
        generated,
        confidence,
    })
}

/// Refuses what cannot be answered.
fn check(
    generated: &[usize],
    confusion: Option<&[Vec<usize>]>,
    real: &[usize],
    confidence: f64,
) -> Result<()> {
    let k = real.len();
    let refuse = |why: String| Err(ImageError::Shape(why));
    if k < 2 || generated.len() != k {
        return refuse(format!(
            "counts of {} generated and {k} real classes cannot be compared; two or more of both \
             are needed",
            generated.len()
        ));
    }
    if confusion.is_some_and(|rows| rows.len() != k || rows.iter().any(|row| row.len() != k)) {
        return refuse(format!(
            "the confusion matrix of {k} classes has {k} rows of {k} counts"
        ));
    }
    if let Some(class) = real.iter().position(|count| *count == 0) {
        return refuse(format!("class {class} has no real image"));
    }
    if let Some(class) =
        confusion.and_then(|rows| rows.iter().position(|row| row.iter().sum::<usize>() == 0))
    {
        return refuse(format!(
            "class {class} has no labelled image to know the judge's mistakes by"
        ));
    }
    if generated.iter().sum::<usize>() == 0 {
        return refuse("there are no generated images".to_owned());
    }
    if !(confidence > 0.0 && confidence < 1.0) {
        return refuse(format!(
            "a confidence lies between 0 and 1, not at {confidence}"
        ));
    }
    Ok(())
}

/// The verdict in words.
fn sentence(classes: &[ClassShare], generated: usize) -> String {
    let of = |presence: Presence| -> Vec<String> {
        classes
            .iter()
            .filter(|class| class.presence == presence)
            .map(|class| class.class.to_string())
            .collect()
    };
    let mut parts = Vec::new();
    for (presence, words) in [
        (Presence::Missing, "not or hardly produced"),
        (
            Presence::Rare,
            "produced less than half as often as they should be",
        ),
        (Presence::Unsure, "undecided: more images are needed"),
    ] {
        let names = of(presence);
        if !names.is_empty() {
            parts.push(format!("{words}: {}", names.join(", ")));
        }
    }
    if parts.is_empty() {
        return format!(
            "All {} classes are among {generated} generated images.",
            classes.len()
        );
    }
    format!(
        "Of {} classes, by {generated} generated images, {}.",
        classes.len(),
        parts.join("; ")
    )
}

/// What a judge's answers say of the shares.
struct Judgement {
    k: usize,
    /// Generated images.
    images: f64,
    /// The estimated shares, which may be slightly negative.
    shares: Vec<f64>,
    /// (Cᵀ)⁻¹ row by row: the weights of the answers in each share.
    weights: Vec<f64>,
    /// C with half a count more in each cell, so that no variance is zero by luck.
    smooth: Vec<f64>,
    /// For share c and class j at `c * k + j`: the variance that the labelled images of class j
    /// bring when all generated images are of that class.
    labelled: Vec<f64>,
}

impl Judgement {
    fn new(generated: &[usize], confusion: Option<&[Vec<usize>]>) -> Result<Self> {
        let k = generated.len();
        let images = generated.iter().sum::<usize>() as f64;
        let (mut rates, mut smooth) = (identity(k), identity(k));
        let mut per_class = vec![f64::INFINITY; k];
        if let Some(rows) = confusion {
            rates.clear();
            smooth.clear();
            per_class.clear();
            for row in rows {
                let total = row.iter().sum::<usize>() as f64;
                rates.extend(row.iter().map(|count| *count as f64 / total));
                let smooth_total = total + 0.5 * k as f64;
                smooth.extend(row.iter().map(|count| (*count as f64 + 0.5) / smooth_total));
                per_class.push(total);
            }
        }
        let transposed: Vec<f64> = (0..k * k).map(|i| rates[(i % k) * k + i / k]).collect();
        let weights = inverse(transposed, k).ok_or_else(|| {
            ImageError::Shape(
                "the judge cannot tell the classes apart: its confusion matrix has no inverse"
                    .to_owned(),
            )
        })?;
        let shares: Vec<f64> = weights
            .chunks_exact(k)
            .map(|row| {
                row.iter()
                    .zip(generated)
                    .map(|(weight, count)| weight * *count as f64 / images)
                    .sum::<f64>()
            })
            .collect();
        let labelled: Vec<f64> = (0..k * k)
            .map(|i| {
                let (c, j) = (i / k, i % k);
                let weights = &weights[c * k..(c + 1) * k];
                variance(weights, &smooth[j * k..(j + 1) * k]) / per_class[j]
            })
            .collect();
        Ok(Self {
            k,
            images,
            shares,
            weights,
            smooth,
            labelled,
        })
    }

    /// The standard deviation of the share of `class` if it were `share` and the others as estimated,
    /// in proportion.
    fn deviation(&self, class: usize, share: f64) -> f64 {
        let k = self.k;
        let others: f64 = (0..k)
            .filter(|j| *j != class)
            .map(|j| self.shares[j].max(0.0))
            .sum();
        let mut answers = vec![0.0; k];
        let mut of_labels = 0.0;
        for (j, estimate) in self.shares.iter().enumerate() {
            let part = if j == class {
                share
            } else if others > 0.0 {
                (1.0 - share) * estimate.max(0.0) / others
            } else {
                (1.0 - share) / (k - 1) as f64
            };
            for (answer, rate) in answers.iter_mut().zip(&self.smooth[j * k..(j + 1) * k]) {
                *answer += part * rate;
            }
            of_labels += part * part * self.labelled[class * k + j];
        }
        let of_images = variance(&self.weights[class * k..(class + 1) * k], &answers) / self.images;
        (of_images + of_labels).max(0.0).sqrt()
    }

    /// The shares that the score test does not reject at `z` standard deviations.
    fn interval(&self, class: usize, z: f64) -> (f64, f64) {
        let estimate = self.shares[class];
        let centre = estimate.clamp(0.0, 1.0);
        let accepts = |share: f64| (estimate - share).abs() <= z * self.deviation(class, share);
        // The farthest accepted share between the estimate and an end, by halving.
        let search = |end: f64| {
            if accepts(end) {
                return end;
            }
            let (mut inside, mut outside) = (centre, end);
            for _ in 0..60 {
                let middle = 0.5 * (inside + outside);
                if accepts(middle) {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            inside
        };
        (search(0.0), search(1.0))
    }
}

/// The largest share of a class that as few answers leave possible, when the judge answers it for
/// images of the class as often as for the labelled ones.
fn at_most(
    generated: &[usize],
    confusion: Option<&[Vec<usize>]>,
    class: usize,
    confidence: f64,
) -> f64 {
    let answers = of_share(generated[class], generated.iter().sum(), confidence).high;
    let right = confusion.map_or(1.0, |rows| {
        rows[class][class] as f64 / rows[class].iter().sum::<usize>() as f64
    });
    (answers / right.max(f64::MIN_POSITIVE)).min(1.0)
}

/// The variance of numbers that are drawn with these probabilities.
fn variance(numbers: &[f64], probabilities: &[f64]) -> f64 {
    let mean: f64 = numbers.iter().zip(probabilities).map(|(x, p)| x * p).sum();
    let square: f64 = numbers
        .iter()
        .zip(probabilities)
        .map(|(x, p)| x * x * p)
        .sum();
    (square - mean * mean).max(0.0)
}

/// The inverse of a matrix of `n` rows, by elimination with the largest pivot; `None` when it has
/// none.
fn inverse(mut matrix: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let mut out = identity(n);
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| {
            let size = |row: &usize| matrix[row * n + column].abs();
            size(a).total_cmp(&size(b))
        })?;
        if matrix[pivot * n + column].abs() < 1e-9 {
            return None;
        }
        for j in 0..n {
            matrix.swap(pivot * n + j, column * n + j);
            out.swap(pivot * n + j, column * n + j);
        }
        let scale = matrix[column * n + column];
        for j in 0..n {
            matrix[column * n + j] /= scale;
            out[column * n + j] /= scale;
        }
        for row in (0..n).filter(|row| *row != column) {
            let factor = matrix[row * n + column];
            for j in 0..n {
                matrix[row * n + j] -= factor * matrix[column * n + j];
                out[row * n + j] -= factor * out[column * n + j];
            }
        }
    }
    Some(out)
}

/// The matrix that leaves `n` numbers as they are.
fn identity(n: usize) -> Vec<f64> {
    (0..n * n)
        .map(|i| if i / n == i % n { 1.0 } else { 0.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_mistakes_the_interval_is_that_of_wilson() {
        // scipy 1.17.1: binomtest(count, total).proportion_ci(0.975, "wilson"); the confidence 0.95
        // is shared by two classes.
        for (count, total, low, high) in [
            (3, 40, 0.022_472_875_214_052_224, 0.222_372_408_497_170_02),
            (37, 40, 0.777_627_591_502_830_1, 0.977_527_124_785_947_8),
            (0, 200, 0.0, 0.024_503_906_743_455_973),
        ] {
            let report = class_modes(&[count, total - count], None, &[1, 1], 0.95).unwrap();
            let interval = report.classes[0].interval;
            assert!((interval.low - low).abs() < 1e-9, "{interval:?}");
            assert!((interval.high - high).abs() < 1e-9, "{interval:?}");
            assert!((report.classes[0].generated - count as f64 / total as f64).abs() < 1e-12);
        }
    }

    #[test]
    fn answers_that_refute_the_confusion_bound_only() {
        // Corrected shares would be 0.786, -0.102 and 0.316.
        let confusion = [vec![900, 80, 20], vec![100, 800, 100], vec![10, 90, 900]];
        let generated = [7000, 100, 2900];
        let report = class_modes(&generated, Some(&confusion), &[1, 1, 1], 0.95).unwrap();
        // At most 100 of 10,000 answers (1.27 % at 1 - 0.05/3), of which 80 % are right.
        let high = report.classes[1].interval.high;
        assert!((0.0125..0.017).contains(&high), "{high}");
        assert_eq!(report.classes[1].presence, Presence::Missing);
        assert_eq!(report.classes[0].presence, Presence::Unsure);
        for class in &report.classes {
            let Interval { low, high, .. } = class.interval;
            assert!(
                low <= class.generated && class.generated <= high,
                "{class:?}"
            );
        }
    }

    #[test]
    fn mistakes_of_the_judge_are_taken_out() {
        // The numpy prototype (numpy.linalg.inv, the same score test).
        let confusion = [vec![90, 8, 2], vec![10, 80, 10], vec![0, 5, 45]];
        for (generated, shares, intervals) in [
            (
                [70, 5, 25],
                [0.783_227_85, -0.049_050_63, 0.265_822_78],
                [
                    (0.634_835_56, 0.920_906_29),
                    (0.0, 0.092_207_44),
                    (0.156_119_38, 0.414_278_66),
                ],
            ),
            (
                [20, 180, 800],
                [0.009_493_67, 0.114_556_96, 0.875_949_37],
                [
                    (0.0, 0.051_585_31),
                    (0.0, 0.240_589_03),
                    (0.761_550_79, 1.0),
                ],
            ),
        ] {
            let judge = Judgement::new(&generated, Some(&confusion)).unwrap();
            let report = class_modes(&generated, Some(&confusion), &[1, 1, 1], 0.95).unwrap();
            for (class, (share, (low, high))) in shares.iter().zip(intervals).enumerate() {
                assert!((judge.shares[class] - share).abs() < 1e-7);
                let interval = report.classes[class].interval;
                assert!((interval.low - low).abs() < 1e-7, "{class}: {interval:?}");
                assert!((interval.high - high).abs() < 1e-7, "{class}: {interval:?}");
            }
            for (class, share) in report.classes.iter().zip(shares) {
                assert!((class.generated - share.max(0.0)).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn classes_that_are_left_out_are_told_apart() {
        use Presence::{Missing, Present, Rare, Unsure};
        let real = [100; 4];
        let presences = |generated: [usize; 4]| -> Vec<Presence> {
            let report = class_modes(&generated, None, &real, 0.95).unwrap();
            report.classes.iter().map(|class| class.presence).collect()
        };
        assert_eq!(presences([250; 4]), [Present; 4]);
        assert_eq!(
            presences([0, 60, 470, 470]),
            [Missing, Rare, Present, Present]
        );
        assert_eq!(presences([0, 4, 3, 3]), [Unsure, Present, Present, Present]);
        let report = class_modes(&[0, 60, 470, 470], None, &real, 0.95).unwrap();
        assert_eq!(report.lost(), [0, 1]);
        assert!(
            report.sentence.contains("hardly produced: 0;"),
            "{}",
            report.sentence
        );
    }

    #[test]
    fn the_answers_for_another_class_do_not_hide_a_missing_one() {
        // A judge that calls a tenth of class 1 class 0: class 0 is not there, and is still answered
        // for 100 of 1,000 images.
        let confusion = [vec![950, 50], vec![100, 900]];
        let report = class_modes(&[100, 900], Some(&confusion), &[1, 1], 0.95).unwrap();
        assert!(report.classes[0].generated < 1e-12);
        assert_eq!(report.classes[0].presence, Presence::Missing);
        let naive = class_modes(&[100, 900], None, &[1, 1], 0.95).unwrap();
        assert_eq!(naive.classes[0].presence, Presence::Rare);
    }

    #[test]
    fn an_inverse_by_hand() {
        assert_eq!(
            inverse(vec![0.0, 2.0, 4.0, 0.0], 2),
            Some(vec![0.0, 0.25, 0.5, 0.0])
        );
        assert_eq!(inverse(vec![1.0, 2.0, 2.0, 4.0], 2), None);
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let ok = class_modes(&[1, 1], None, &[1, 1], 0.95);
        assert!(ok.is_ok());
        assert!(class_modes(&[1, 1, 1], None, &[1, 1], 0.95).is_err());
        assert!(class_modes(&[5], None, &[5], 0.95).is_err());
        assert!(class_modes(&[0, 0], None, &[1, 1], 0.95).is_err());
        assert!(class_modes(&[1, 1], None, &[1, 0], 0.95).is_err());
        assert!(class_modes(&[1, 1], None, &[1, 1], 1.0).is_err());
        for confusion in [
            vec![vec![1, 1], vec![1, 1]],
            vec![vec![1, 0], vec![0, 0]],
            vec![vec![1, 0]],
        ] {
            assert!(class_modes(&[1, 1], Some(&confusion), &[1, 1], 0.95).is_err());
        }
    }
}
