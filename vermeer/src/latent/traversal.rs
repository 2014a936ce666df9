//! Which numbers of a code matter, and what each of them does.
//!
//! A number of a code that a model does not use changes no image. With codes of images at hand
//! numbers are ranked by the variance of those codes (Burda et al., 2016, call a number active above
//! 0.01); without them by what they change in one image.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Space;
use super::principal::mean;
use crate::task::SampleOptions;
use crate::{Error, Result};

/// Images made at a time.
const BATCH: usize = 64;

/// The numbers of a code and what each is ranked by, the largest first.
pub type Ranking = Vec<(usize, f64)>;

/// Numbers by their variance over codes `[n, size]`, with the divisor n.
pub fn by_variance(codes: &[f32], size: usize) -> Ranking {
    ranked(variances(codes, size))
}

/// The variance of each number over rows `[n, size]`, with the divisor n.
pub(super) fn variances(codes: &[f32], size: usize) -> Vec<f64> {
    let middle = mean(codes, size);
    let share = 1.0 / (codes.len() / size).max(1) as f64;
    let mut variances = vec![0.0; size];
    for row in codes.chunks_exact(size) {
        for ((sum, x), mean) in variances.iter_mut().zip(row).zip(&middle) {
            *sum += share * (f64::from(*x) - mean).powi(2);
        }
    }
    variances
}

/// Numbers by the mean squared difference of unit pixels between the images where the number has
/// one and the other of its `ends` and the others are those of `at`. `progress` is called with the
/// images made and those to make.
///
/// # Errors
/// Those of the model; [`Error::Failed`] after `stop`.
pub fn by_change(
    space: &Space,
    at: &[f32],
    number: u64,
    choices: &[SampleOptions],
    ends: &[[f32; 2]],
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Ranking> {
    let size = space.size().min(ends.len());
    let pixels: usize = space.shape().iter().product();
    let mut changes = Vec::with_capacity(size);
    for first in (0..size).step_by(BATCH / 2) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let part = first..(first + BATCH / 2).min(size);
        let rows: Vec<f32> = part
            .clone()
            .flat_map(|place| values_of(at, place, &ends[place]))
            .collect();
        let images = space.images(&rows, number, choices)?;
        let values = crate::nn::host(images.into_tensor());
        for pair in values.chunks_exact(2 * pixels) {
            let (low, high) = pair.split_at(pixels);
            let squares = low.iter().zip(high);
            let sum: f64 = squares.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            changes.push(sum / pixels as f64);
        }
        progress(part.end, size);
    }
    Ok(ranked(changes))
}

/// The code `at` with its number `place` set to each of the values: `[values, size]`.
pub fn values_of(at: &[f32], place: usize, values: &[f32]) -> Vec<f32> {
    let mut rows = at.repeat(values.len());
    for (row, value) in rows.chunks_exact_mut(at.len().max(1)).zip(values) {
        row[place] = *value;
    }
    rows
}

fn ranked(values: Vec<f64>) -> Ranking {
    let mut ranking: Ranking = values.into_iter().enumerate().collect();
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranking
}

#[cfg(test)]
mod tests {
    use super::super::tests::Linear;
    use super::*;

    #[test]
    fn numbers_are_ranked_by_variance() {
        // Variances of (0, 2), (5, 5), (1, 7): 1, 0, 9.
        let found = by_variance(&[0.0, 5.0, 1.0, 2.0, 5.0, 7.0], 3);
        assert_eq!(found, [(2, 9.0), (0, 1.0), (1, 0.0)]);
    }

    #[test]
    fn numbers_are_ranked_by_what_they_change() {
        // Steps of 2 · 3 through 0.01 and 0.05 in the first of two pixels.
        let model = Linear {
            matrix: vec![0.01, 0.05, 0.0, 0.0],
            size: 2,
            classes: false,
        };
        let space = Space::of(&model).unwrap();
        let found = by_change(
            &space,
            &[0.0, 0.0],
            0,
            &[SampleOptions::default()],
            &[[-3.0, 3.0]; 2],
            &AtomicBool::new(false),
            &mut |_, _| (),
        )
        .unwrap();
        let expected = [(1, 0.3f64.powi(2) / 2.0), (0, 0.06f64.powi(2) / 2.0)];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 - expected.1).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(values_of(&[1.0, 2.0], 1, &[5.0, 6.0]), [1.0, 5.0, 1.0, 6.0]);
    }
}
