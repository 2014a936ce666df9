//! The signs of a game that goes wrong.

use burn::prelude::*;

use super::{Rules, scalar};
use crate::loss::adversarial::Adversarial;
use crate::train::health::Limit;

/// A measured sign: its name, its value, its limits, what it means and what to do.
type Measured = (&'static str, f64, Limit, &'static str);

/// What the discriminator made of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Share of images it told right, where its loss has a boundary.
    pub(super) accuracy: Option<f64>,
    /// How far real images lie above others, in standard deviations of its outputs.
    pub(super) gap: Option<f64>,
}

/// Samples beside as many real images.
pub(super) struct Judged<'a> {
    /// Signed real images.
    pub(super) real: Tensor<4>,
    /// Signed samples, for conditional models of the real images' classes.
    pub(super) fake: Tensor<4>,
    /// The classes of conditional models.
    pub(super) labels: Option<&'a [u32]>,
    /// What a discriminator that names classes says of the samples, `[n, classes]`.
    pub(super) named: Option<Vec<f32>>,
}

impl Judged<'_> {
    /// Every sign that can be measured.
    pub(super) fn signs(self, seen: Seen, rules: &Rules) -> Vec<Measured> {
        let below = |watch: f64, bad: f64| Limit::Below { watch, bad };
        let mut signs: Vec<Measured> = vec![];
        let n = self.real.dims()[0];
        let (real, fake) = (
            crate::nn::host(self.real.clone()),
            crate::nn::host(self.fake.clone()),
        );
        if n > 1 {
            signs.push((
                "sample_spread",
                spread(self.fake) / spread(self.real).max(1e-12),
                below(0.5, 0.25),
                "mean distance between samples over that between real images; a small one is mode collapse: lower the learning rate, or set model.r1_gamma or model.spectral_norm",
            ));
        }
        if let Some(narrowest) = self.labels.and_then(|l| class_spread(&real, &fake, l)) {
            signs.push((
                "class_spread",
                narrowest,
                below(0.4, 0.15),
                "mean distance between samples of a class over that between its real images, for the class where it is smallest; a small one is a class with one picture: lower the learning rate, or set model.r1_gamma",
            ));
        }
        signs.push((
            "mode_coverage",
            mode_coverage(&real, &fake, n),
            below(0.4, 0.2),
            "share of real images that are the nearest one of some sample, over what samples spread evenly would give; a small one says that samples crowd around few of them: lower the learning rate, or train on",
        ));
        if let Some(accuracy) = seen.accuracy {
            signs.push((
                "discriminator_accuracy",
                accuracy,
                Limit::Above {
                    watch: 0.97,
                    bad: 0.999,
                },
                "share of images the discriminator tells right; when it is always right the generator learns nothing: set model.label_smoothing or model.r1_gamma",
            ));
        }
        if let (Some(gap), Adversarial::Wasserstein) = (seen.gap, rules.loss) {
            signs.push((
                "critic_gap",
                gap,
                below(0.0, -0.5),
                "how far the critic holds real images above generated ones, in standard deviations of what it says; below zero it is no guide: raise model.discriminator_steps",
            ));
        }
        if let (Some(named), Some(labels)) = (&self.named, self.labels) {
            signs.push((
                "class_accuracy",
                named_right(named, labels),
                below(0.7, 0.4),
                "share of samples that the discriminator takes for the class asked for; a small one says that the class is ignored: raise model.generator_class_weight, or train on",
            ));
        }
        signs
    }
}

/// Mean Euclidean distance between neighbours in a batch.
pub(crate) fn spread(x: Tensor<4>) -> f64 {
    let n = x.dims()[0];
    let x = x.flatten::<2>(1, 3);
    let gap = x.clone().narrow(0, 1, n - 1).sub(x.narrow(0, 0, n - 1));
    scalar(&gap.square().sum_dim(1).sqrt().mean())
}

/// Share of logits on the right side of `boundary`, real and generated ones counted alike.
pub(super) fn accuracy(real: &[f32], fake: &[f32], boundary: f64) -> f64 {
    let boundary = boundary as f32;
    let share = |right: usize, all: usize| right as f64 / all.max(1) as f64;
    let above = real.iter().filter(|l| **l > boundary).count();
    let under = fake.iter().filter(|l| **l < boundary).count();
    0.5 * (share(above, real.len()) + share(under, fake.len()))
}

/// Difference of the means of two sets of numbers over the standard deviation within them; zero
/// where they do not differ at all.
pub(super) fn gap(real: &[f32], fake: &[f32]) -> f64 {
    let mean = |x: &[f32]| x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len().max(1) as f64;
    let (a, b) = (mean(real), mean(fake));
    let squares = |x: &[f32], m: f64| x.iter().map(|v| (f64::from(*v) - m).powi(2)).sum::<f64>();
    let count = (real.len() + fake.len()).max(1) as f64;
    let within = ((squares(real, a) + squares(fake, b)) / count).sqrt();
    (a - b) / within.max(1e-6 * (a.abs() + b.abs())).max(1e-30)
}

/// Share of rows whose largest number stands in the place of the label.
fn named_right(logits: &[f32], labels: &[u32]) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    let rows = logits.chunks_exact(classes.max(1)).zip(labels);
    let right = rows.filter(|(row, label)| {
        let own = row[**label as usize];
        row.iter().all(|other| *other <= own)
    });
    right.count() as f64 / labels.len().max(1) as f64
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum()
}

/// The share of `count` real images that are the nearest real image, by their pixels, of at least
/// one of as many samples, over 1 − (1 − 1/count)^count, the share that samples spread evenly over
/// the real images would reach in the mean.
pub(crate) fn mode_coverage(real: &[f32], fake: &[f32], count: usize) -> f64 {
    let size = (real.len() / count.max(1)).max(1);
    let mut found = vec![false; count];
    for sample in fake.chunks_exact(size) {
        let distances = real
            .chunks_exact(size)
            .map(|image| squared_distance(sample, image))
            .enumerate();
        if let Some((nearest, _)) = distances.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            found[nearest] = true;
        }
    }
    let all = count.max(1) as f64;
    let share = found.iter().filter(|f| **f).count() as f64 / all;
    share / (1.0 - (1.0 - 1.0 / all).powf(all))
}

/// The mean distance between samples of one class over that between its real images, for the
/// class where it is smallest; `None` where no class has two images.
fn class_spread(real: &[f32], fake: &[f32], labels: &[u32]) -> Option<f64> {
    let size = (real.len() / labels.len().max(1)).max(1);
    let within = |images: &[f32], class: u32| -> Option<f64> {
        let own: Vec<&[f32]> = images
            .chunks_exact(size)
            .zip(labels)
            .filter(|(_, label)| **label == class)
            .map(|(image, _)| image)
            .collect();
        let mut sum = 0.0;
        for (i, a) in own.iter().enumerate() {
            sum += own[..i]
                .iter()
                .map(|b| squared_distance(a, b).sqrt())
                .sum::<f64>();
        }
        let pairs = own.len() * own.len().saturating_sub(1) / 2;
        (pairs > 0).then(|| sum / pairs as f64)
    };
    let classes: std::collections::BTreeSet<u32> = labels.iter().copied().collect();
    classes
        .into_iter()
        .filter_map(|class| Some(within(fake, class)? / within(real, class)?.max(1e-12)))
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_counts_the_real_images_that_are_met() {
        let real = [0.0, 1.0, 2.0, 3.0];
        // Four of four, two of four, one of four; evenly spread samples meet 1 − (3/4)⁴.
        let even = 1.0 - 0.75f64.powi(4);
        for (fake, met) in [
            ([0.1, 1.1, 2.1, 3.1], 4.0),
            ([0.1, 0.2, 2.1, 2.2], 2.0),
            ([0.1; 4], 1.0),
        ] {
            let found = mode_coverage(&real, &fake, 4);
            assert!((found - met / 4.0 / even).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn the_narrowest_class_is_told() {
        // Class 0: real 2 apart, samples 1 apart. Class 1: real 4 apart, samples 3. Class 2: one.
        let labels = [0, 1, 0, 1, 2];
        let real = [0.0, 0.0, 2.0, 4.0, 9.0];
        let fake = [5.0, 0.0, 6.0, 3.0, 9.0];
        assert_eq!(class_spread(&real, &fake, &labels), Some(0.5));
        assert_eq!(class_spread(&real[..2], &fake[..2], &labels[..2]), None);
    }

    #[test]
    fn a_gap_is_told_in_standard_deviations() {
        assert!((gap(&[3.0, 5.0], &[0.0, 2.0]) - 3.0).abs() < 1e-12);
        assert_eq!(gap(&[0.0], &[0.0]), 0.0);
        assert!(gap(&[1.0], &[0.0]).is_finite());
    }

    #[test]
    fn shares_are_counted() {
        assert_eq!(accuracy(&[1.0, -1.0], &[-1.0, -2.0], 0.0), 0.75);
        assert_eq!(
            named_right(&[1.0, 0.0, 0.0, 2.0, 3.0, 1.0], &[0, 1, 1]),
            2.0 / 3.0
        );
    }
}
