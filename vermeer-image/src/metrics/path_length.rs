//! Perceptual Path Length of a generator (Karras et al., 2019): how much its images change when its
//! latents move a little.
//!
//! For pairs of latents a, b, a place t between them and a small step ε,
//!
//! PPL = mean( d(G(a→b at t), G(a→b at t + ε)) / ε² ),
//!
//! where d is a squared perceptual distance (LPIPS with VGG16), and pairs below the 1st and above
//! the 99th percentile are left out. It is 0 or more; lower is smoother. A generator that always
//! returns one image has 0, so read it beside a measure of variety.
//!
//! The number depends on every choice, and published ones differ by factors of a hundred: whether
//! the path runs in z or w, whether t is drawn (`full`) or 0 (`end`), whether images are cropped to
//! the face, and whether they are rounded to bytes before the distance, where a step of 1e-4
//! measures little but the rounding. [`PathLengthOptions::name`] says them all.
//!
//! This module knows no network: the caller draws latents and measures distances. It follows
//! `metrics/perceptual_path_length.py` of NVlabs/stylegan3, and torch-fidelity 0.4.0 where the
//! options say so.

mod interpolation;

use std::ops::Range;

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{chunks, parts};
use crate::metrics::frechet::BLOCKS;
use crate::metrics::interval::{Interval, jackknife};
use crate::metrics::numpy_random::NumpyRandom;
pub use crate::metrics::path_length::interpolation::Interpolation;

/// Where between two latents the step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// At a place drawn from \[0, 1).
    Full,
    /// At the first latent.
    End,
}

/// What a path length depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct PathLengthOptions {
    /// Pairs of latents.
    pub samples: usize,
    /// The step ε.
    pub epsilon: f64,
    /// Where the step is made.
    pub ends: Ends,
    /// The space of the latents, such as `z` or `w`.
    pub space: String,
    /// How to go from one latent to the other.
    pub interpolation: Interpolation,
    /// Whether the caller crops images to [`face_crop`], as StyleGAN did for faces.
    pub crop: bool,
    /// Whether the caller rounds images to bytes before the distance, as torch-fidelity does by
    /// default.
    pub quantised: bool,
    /// The shares of pairs beyond which distances are left out, below and above; 0 and 1 keep all.
    pub discard: [f64; 2],
    /// Pairs at a time.
    pub batch: usize,
    /// Seed of the places t; the caller may draw its latents from it too.
    pub seed: u32,
}

impl PathLengthOptions {
    /// StyleGAN's `ppl_zend` without crop: 50,000 pairs in z on the unit sphere, ε = 1e-4.
    pub fn in_z() -> Self {
        Self {
            samples: 50_000,
            epsilon: 1e-4,
            ends: Ends::End,
            space: "z".to_owned(),
            interpolation: Interpolation::Slerp,
            crop: false,
            quantised: false,
            discard: [0.01, 0.99],
            batch: 16,
            seed: 0,
        }
    }

    /// StyleGAN's `ppl2_wend`: as [`PathLengthOptions::in_z`], on straight lines in w.
    pub fn in_w() -> Self {
        Self {
            space: "w".to_owned(),
            interpolation: Interpolation::Lerp,
            ..Self::in_z()
        }
    }

    /// The name of the metric: space, ends, crop and pixels, such as `ppl_w_end_nocrop_f32`; then
    /// what differs from StyleGAN's choice for the space, such as `ppl_z_end_nocrop_u8_lerp_eps1e-2`.
    pub fn name(&self) -> String {
        let ends = match self.ends {
            Ends::Full => "full",
            Ends::End => "end",
        };
        let crop = if self.crop { "crop" } else { "nocrop" };
        let pixels = if self.quantised { "u8" } else { "f32" };
        let mut name = format!("ppl_{}_{ends}_{crop}_{pixels}", self.space);
        let usual = if self.space == "z" {
            Interpolation::Slerp
        } else {
            Interpolation::Lerp
        };
        if self.interpolation != usual {
            name = format!("{name}_{}", self.interpolation.name());
        }
        if self.epsilon != 1e-4 {
            name = format!("{name}_eps{:e}", self.epsilon);
        }
        if self.discard != [0.01, 0.99] {
            let [low, high] = self.discard;
            name = format!("{name}_keep{low}to{high}");
        }
        name
    }

    fn check(&self) -> Result<()> {
        let [low, high] = self.discard;
        let ascend = 0.0 <= low && low < high && high <= 1.0;
        let wrong = if self.samples == 0 || self.batch == 0 {
            "at least 1 pair of latents at a time"
        } else if !self.epsilon.is_finite() || self.epsilon <= 0.0 {
            "a step above 0"
        } else if !ascend {
            "shares to keep that ascend from 0 to 1"
        } else {
            return Ok(());
        };
        Err(ImageError::Shape(format!("a path length needs {wrong}")))
    }
}

/// A path length and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct PathLength {
    /// The name of the metric, by its options.
    pub name: String,
    /// The mean of the distances that were kept, over ε².
    pub value: f64,
    /// Their population deviation.
    pub deviation: f64,
    /// The interval of the value over draws of latents, by leaving out one of twenty blocks of
    /// pairs at a time; `None` for fewer than 40 pairs.
    pub interval: Option<Interval>,
    /// Pairs that were kept.
    pub kept: usize,
    /// The distance over ε² of every pair, in order.
    pub distances: Vec<f64>,
}

/// The path length of a generator.
///
/// `draw(pairs)` returns the first and the second latents of these pairs, `dims` values each, one
/// after the other. `distance(at, after)` makes images of latents at t and of latents at t + ε and
/// returns the squared perceptual distance of each pair. Noise inputs and classes must be the same
/// on both sides. `progress` is called with the pairs done and those to do.
///
/// The result does not depend on `batch` if `draw` and `distance` do not.
///
/// # Errors
/// [`ImageError::Shape`] for options that make no sense, or when a closure returns another number
/// of values or distances that are not finite; whatever the closures return.
pub fn path_length<E: From<ImageError>>(
    options: &PathLengthOptions,
    dims: usize,
    draw: &mut dyn FnMut(Range<usize>) -> Result<[Vec<f32>; 2], E>,
    distance: &mut dyn FnMut(Vec<f32>, Vec<f32>) -> Result<Vec<f64>, E>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<PathLength, E> {
    options.check()?;
    if dims == 0 {
        return Err(ImageError::Shape("latents of a path need values".to_owned()).into());
    }
    let mut random = NumpyRandom::new(options.seed);
    let mut distances: Vec<f64> = Vec::with_capacity(options.samples);
    for pairs in chunks(options.samples, options.batch) {
        let count = pairs.len();
        let [first, second] = draw(pairs)?;
        if first.len() != count * dims || second.len() != count * dims {
            return Err(ImageError::Shape(format!(
                "{count} pairs of latents of {dims} values are not {} and {} values",
                first.len(),
                second.len()
            ))
            .into());
        }
        let mut at = Vec::with_capacity(first.len());
        let mut after = Vec::with_capacity(first.len());
        for (a, b) in first.chunks_exact(dims).zip(second.chunks_exact(dims)) {
            let t = match options.ends {
                Ends::Full => random.uniform(),
                Ends::End => 0.0,
            };
            at.extend(options.interpolation.between(a, b, t));
            after.extend(options.interpolation.between(a, b, t + options.epsilon));
        }
        let found = distance(at, after)?;
        if found.len() != count || !found.iter().all(|d| d.is_finite()) {
            return Err(ImageError::Shape(format!(
                "{count} pairs of images have {} distances, or some that are not finite",
                found.len()
            ))
            .into());
        }
        let squared = options.epsilon * options.epsilon;
        distances.extend(found.iter().map(|d| d / squared));
        progress(distances.len(), options.samples);
    }
    Ok(summary(options, distances))
}

/// The path length of these distances over ε².
fn summary(options: &PathLengthOptions, distances: Vec<f64>) -> PathLength {
    let kept = between_shares(&distances, options.discard);
    let value = mean(&kept);
    let squares: Vec<f64> = kept.iter().map(|d| (d - value) * (d - value)).collect();
    let interval = (distances.len() >= 2 * BLOCKS).then(|| {
        let without: Vec<f64> = parts(distances.len(), BLOCKS)
            .into_iter()
            .map(|block| {
                let rest = [&distances[..block.start], &distances[block.end..]].concat();
                mean(&between_shares(&rest, options.discard))
            })
            .collect();
        jackknife(value, &without)
    });
    PathLength {
        name: options.name(),
        value,
        deviation: mean(&squares).sqrt(),
        interval,
        kept: kept.len(),
        distances,
    }
}

/// The values between two percentiles, ascending. As numpy's `percentile` with the methods `lower`
/// and `higher`, the limits are values themselves and are kept.
fn between_shares(values: &[f64], [low, high]: [f64; 2]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = (sorted.len() - 1) as f64;
    let limits = sorted[(last * low).floor() as usize]..=sorted[(last * high).ceil() as usize];
    sorted.retain(|value| limits.contains(value));
    sorted
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The rows and columns of a square image of faces that StyleGAN looks at: with an eighth c of its
/// side, rows 3c..7c and columns 2c..6c.
pub fn face_crop(side: usize) -> [Range<usize>; 2] {
    let c = side / 8;
    [3 * c..7 * c, 2 * c..6 * c]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    #[test]
    fn a_linear_generator_has_the_mean_of_its_moves() {
        // G(z) = W z with W = (1 2; 0 3): a step of ε on a straight line moves the image by ε W(b - a),
        // so the distance over ε² is |W(b - a)|² anywhere. Every number here is exact.
        let options = PathLengthOptions {
            samples: 4,
            epsilon: 1.0 / 1024.0,
            discard: [0.0, 1.0],
            batch: 3,
            ..PathLengthOptions::in_w()
        };
        let firsts = [[0.0f32, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 4.0]];
        let seconds = [[1.0f32, 0.0], [1.0, 2.0], [2.0, 0.0], [2.0, 3.0]];
        // b - a: (1, 0), (0, 1), (0, 0), (2, -1); squares 1, 4 + 9, 0, 0 + 9.
        let images = |latents: Vec<f32>| -> Vec<f32> {
            let pairs = latents.chunks_exact(2);
            pairs
                .flat_map(|z| [z[0] + 2.0 * z[1], 3.0 * z[1]])
                .collect()
        };
        let mut asked = Vec::new();
        let found = path_length::<ImageError>(
            &options,
            2,
            &mut |pairs| Ok([firsts[pairs.clone()].concat(), seconds[pairs].concat()]),
            &mut |at, after| {
                let (at, after) = (images(at), images(after));
                let pairs = at.chunks_exact(2).zip(after.chunks_exact(2));
                Ok(pairs.map(|(a, b)| squares(a, b)).collect())
            },
            &mut |done, all| asked.push((done, all)),
        )
        .unwrap();
        assert_eq!(found.distances, [1.0, 13.0, 0.0, 9.0]);
        assert_eq!((found.value, found.kept, found.interval), (5.75, 4, None));
        // Squared deviations 4.75², 7.25², 5.75², 3.25²: 118.75 in all.
        assert!((found.deviation - (118.75f64 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(asked, [(3, 4), (4, 4)]);
        assert_eq!(found.name, "ppl_w_end_nocrop_f32_eps9.765625e-4_keep0to1");
    }

    #[test]
    fn places_are_drawn_for_full_paths() {
        // The distance of this closure is the place itself: latents 0 and 1, and no second image.
        let measure = |ends: Ends, batch: usize| -> Vec<f64> {
            let options = PathLengthOptions {
                samples: 5,
                epsilon: 1.0,
                ends,
                batch,
                ..PathLengthOptions::in_w()
            };
            path_length::<ImageError>(
                &options,
                1,
                &mut |pairs| Ok([vec![0.0; pairs.len()], vec![1.0; pairs.len()]]),
                &mut |at, _| Ok(at.into_iter().map(f64::from).collect()),
                &mut |_, _| {},
            )
            .unwrap()
            .distances
        };
        assert_eq!(measure(Ends::End, 5), [0.0; 5]);
        let full = measure(Ends::Full, 5);
        // numpy 2.4.6: RandomState(0).random_sample(2).
        assert!((full[0] - 0.548_813_5).abs() < 1e-7 && (full[1] - 0.715_189_4).abs() < 1e-7);
        assert_eq!(full, measure(Ends::Full, 2));
    }

    #[test]
    fn percentiles_are_values() {
        // numpy 2.4.6: np.percentile(range(11), 25, method="lower") is 2, and 75 by "higher" 8.
        let values: Vec<f64> = [3, 9, 0, 10, 5, 1, 7, 2, 8, 4, 6].map(f64::from).to_vec();
        let kept = between_shares(&values, [0.25, 0.75]);
        assert_eq!(kept, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        // Of few values the outermost are percentiles themselves, and nothing is left out.
        assert_eq!(between_shares(&values, [0.01, 0.99]).len(), 11);
        let many: Vec<f64> = (0..=200).map(f64::from).collect();
        let kept = between_shares(&many, [0.01, 0.99]);
        assert_eq!(
            (kept[0], kept[kept.len() - 1], kept.len()),
            (2.0, 198.0, 197)
        );
    }

    #[test]
    fn intervals_come_from_blocks_of_pairs() {
        // Without percentiles the jackknife of a mean is its standard error: forty values 0 and 1 in
        // pairs give blocks of mean 1/2, so nothing is uncertain; twenty 0 then twenty 1 do not.
        let options = PathLengthOptions {
            discard: [0.0, 1.0],
            ..PathLengthOptions::in_z()
        };
        let even = summary(&options, [0.0, 1.0].repeat(20));
        assert!(even.interval.unwrap().half_width() < 1e-12);
        let halves = summary(&options, [vec![0.0; 20], vec![1.0; 20]].concat());
        // Ten blocks of 0, ten of 1: √(0.25 · 20/19/20) = 0.114708, times t₁₉ = 2.093024.
        assert!((halves.interval.unwrap().half_width() - 0.240_086).abs() < 1e-5);
        assert!(summary(&options, vec![1.0; 39]).interval.is_none());
    }

    #[test]
    fn names_say_every_choice() {
        assert_eq!(PathLengthOptions::in_z().name(), "ppl_z_end_nocrop_f32");
        assert_eq!(PathLengthOptions::in_w().name(), "ppl_w_end_nocrop_f32");
        let other = PathLengthOptions {
            epsilon: 0.01,
            ends: Ends::Full,
            interpolation: Interpolation::Lerp,
            crop: true,
            quantised: true,
            ..PathLengthOptions::in_z()
        };
        assert_eq!(other.name(), "ppl_z_full_crop_u8_lerp_eps1e-2");
        let all = PathLengthOptions {
            discard: [0.0, 1.0],
            ..PathLengthOptions::in_z()
        };
        assert_eq!(all.name(), "ppl_z_end_nocrop_f32_keep0to1");
        assert_eq!(face_crop(1024), [384..896, 256..768]);
    }

    #[test]
    fn wrong_options_and_answers_are_errors() {
        let run = |options: &PathLengthOptions, latents: usize, distances: Vec<f64>| {
            path_length::<ImageError>(
                options,
                1,
                &mut |_| Ok([vec![0.0; latents], vec![1.0; latents]]),
                &mut |_, _| Ok(distances.clone()),
                &mut |_, _| {},
            )
        };
        let good = PathLengthOptions {
            samples: 2,
            ..PathLengthOptions::in_w()
        };
        assert!(run(&good, 2, vec![1.0, 2.0]).is_ok());
        assert!(run(&good, 3, vec![1.0, 2.0]).is_err());
        assert!(run(&good, 2, vec![1.0]).is_err());
        assert!(run(&good, 2, vec![1.0, f64::NAN]).is_err());
        for options in [
            PathLengthOptions {
                samples: 0,
                ..good.clone()
            },
            PathLengthOptions {
                batch: 0,
                ..good.clone()
            },
            PathLengthOptions {
                epsilon: 0.0,
                ..good.clone()
            },
            PathLengthOptions {
                discard: [0.5, 0.5],
                ..good.clone()
            },
        ] {
            assert!(run(&options, 2, vec![1.0, 2.0]).is_err());
        }
    }
}
