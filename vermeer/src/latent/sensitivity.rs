//! The directions along which a generator changes its images most.
//!
//! Where J is the derivative of the pixels by the latent, a small step v changes the image by
//! ‖Jv‖², so the eigenvectors of the mean of JᵀJ over samples are the directions of most and of
//! least change (Wang and Ponce, 2021, *The Geometry of Deep Generative Image Models and its
//! Applications*). They need neither labels nor an encoder, and where latents are drawn from a
//! standard normal, of which every direction has the same variance, they are what tells directions
//! apart. The derivative is taken by central differences.

use std::sync::atomic::{AtomicBool, Ordering};

use vermeer_image::metrics::linear::{eigen, product_transposed};

use super::Space;
use super::principal::upright;
use crate::task::SampleOptions;
use crate::{Error, Result};

/// Half the step of the differences.
const STEP: f32 = 0.1;
/// The whole step.
const WHOLE: f64 = 2.0 * STEP as f64;
/// The most numbers of a latent: images are made of two steps along each.
const MOST_NUMBERS: usize = 1024;
/// Images made at a time.
const BATCH: usize = 64;

/// What a step in each direction does to the images.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Directions of length 1, the one of most change first, with their largest entry positive.
    pub directions: Vec<Vec<f64>>,
    /// The mean squared change of a pixel for a step of 1 along each, to first order.
    pub changes: Vec<f64>,
    /// The changes of all directions together.
    pub total: f64,
}

impl Sensitivity {
    /// The `count` directions of most change, over the samples with these numbers. `progress` is
    /// called with the images made and those to make.
    ///
    /// # Errors
    /// [`Error::Settings`] for latents of more than 1024 numbers or no samples; those of the model;
    /// [`Error::Failed`] after `stop`.
    pub fn of(
        space: &Space,
        samples: &[u64],
        options: &SampleOptions,
        count: usize,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let d = space.size();
        if d > MOST_NUMBERS {
            return Err(Error::settings(
                format!("the latents have {d} numbers, and each would be tried in turn"),
                "find principal components of encoded images: add --data",
            ));
        }
        if samples.is_empty() {
            return Err(Error::settings(
                "a generator is tried at samples, and there are none",
                "take one sample or more",
            ));
        }
        let pixels: usize = space.shape().iter().product();
        let mut sum = vec![0.0; d * d];
        for (done, number) in samples.iter().enumerate() {
            let at = space.draw(&[*number], std::slice::from_ref(options))?;
            let mut slopes = Vec::with_capacity(d * pixels);
            for first in (0..d).step_by(BATCH) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Failed("interrupted; nothing was written".into()));
                }
                let part = first..(first + BATCH).min(d);
                let images = |step: f32| -> Result<Vec<f32>> {
                    let mut steps = Vec::with_capacity(part.len() * d);
                    for place in part.clone() {
                        let mut row = at.clone();
                        row[place] += step;
                        steps.extend(row);
                    }
                    let made = space.images(&steps, *number, std::slice::from_ref(options))?;
                    Ok(crate::nn::host(made.into_tensor()))
                };
                let (above, below) = (images(STEP)?, images(-STEP)?);
                let slope = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)) / WHOLE;
                slopes.extend(above.iter().zip(&below).map(slope));
                progress(done * d + part.end, samples.len() * d);
            }
            let share = 1.0 / (pixels * samples.len()) as f64;
            let products = product_transposed(&slopes, &slopes, [d, pixels, d]);
            for (sum, product) in sum.iter_mut().zip(products) {
                *sum += share * product;
            }
        }
        let (values, vectors) = eigen(&sum, d)?;
        let total = (0..d).map(|i| sum[i * d + i]).sum();
        // The largest eigenvalues come last.
        let order: Vec<usize> = (0..d).rev().take(count).collect();
        let direction = |place: &usize| upright((0..d).map(|i| vectors[i * d + place]).collect());
        Ok(Self {
            directions: order.iter().map(direction).collect(),
            changes: order.iter().map(|place| values[*place].max(0.0)).collect(),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Linear;
    use super::*;

    #[test]
    fn a_linear_generator_has_the_singular_vectors_of_its_matrix() {
        // Rows (0.3, 0.4) · 0.1 and (0.4, −0.3) · 0.02: right singular vectors (0.6, 0.8) and
        // (0.8, −0.6), singular values 0.05 and 0.01, over two pixels.
        let model = Linear {
            matrix: vec![0.03, 0.04, 0.008, -0.006],
            size: 2,
            classes: false,
        };
        let space = Space::of(&model).unwrap();
        let mut last = (0, 0);
        let found = Sensitivity::of(
            &space,
            &[0, 1, 2],
            &SampleOptions::default(),
            5,
            &AtomicBool::new(false),
            &mut |done, all| last = (done, all),
        )
        .unwrap();
        assert_eq!((last, found.directions.len()), ((6, 6), 2));
        for (found, expected) in found.directions.concat().iter().zip([0.6, 0.8, 0.8, -0.6]) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        for (found, expected) in found.changes.iter().zip([0.00125, 0.00005]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert!((found.total - 0.0013).abs() < 1e-6, "{}", found.total);
        let stopped = Sensitivity::of(
            &space,
            &[0],
            &SampleOptions::default(),
            1,
            &AtomicBool::new(true),
            &mut |_, _| (),
        );
        assert_eq!(stopped.unwrap_err().exit_code(), 1);
    }
}
