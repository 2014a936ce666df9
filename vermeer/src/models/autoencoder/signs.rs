//! What is measured of an autoencoder in training: its error beside that of the mean image, and how
//! many numbers of its code carry something.

use burn::prelude::*;

use crate::nn::host;
use crate::train::health::Limit;

/// A sign before it is judged: name, value, thresholds, meaning and remedy.
pub(crate) type Measured = (&'static str, f64, Limit, &'static str);

/// A code number is active when its variance over images is more than this share of the largest one.
const ACTIVE: f64 = 1e-4;

/// How far unit images `made` are from `x`: per pixel, and over what the batch's mean image is off.
///
/// The second is left out where the images do not differ, as a single one does not.
pub(crate) fn of_images(x: Tensor<4>, made: Tensor<4>) -> Vec<Measured> {
    let count = x.dims()[0];
    let (x, made) = (host(x), host(made));
    let size = x.len() / count;
    let error: f64 = x.iter().zip(&made).map(|(a, b)| square(*a, *b)).sum();
    let mut signs = vec![(
        "rmse",
        (error / x.len() as f64).sqrt(),
        Limit::Above {
            watch: 0.3,
            bad: 0.5,
        },
        "root of the mean squared error of unit pixels; plain grey reaches 0.5: lower the learning rate, or look at the data",
    )];
    let mut mean = vec![0.0f64; size];
    for image in x.chunks_exact(size) {
        for (sum, pixel) in mean.iter_mut().zip(image) {
            *sum += f64::from(*pixel) / count as f64;
        }
    }
    let mut of_mean = 0.0;
    for image in x.chunks_exact(size) {
        for (mean, pixel) in mean.iter().zip(image) {
            of_mean += (f64::from(*pixel) - mean).powi(2);
        }
    }
    if of_mean > 1e-9 * x.len() as f64 {
        signs.push((
            "error_over_mean_image",
            error / of_mean,
            Limit::Above {
                watch: 0.9,
                bad: 1.0,
            },
            "squared error over that of always answering with the mean image; at 1 nothing of an image comes through: train longer, or raise model.latent or the learning rate",
        ));
    }
    signs
}

/// How many numbers of the codes `[n, latent]` differ between images; nothing for a single image.
pub(crate) fn of_codes(code: Tensor<2>) -> Option<Measured> {
    let [count, latent] = code.dims();
    if count < 2 {
        return None;
    }
    let variance: Vec<f64> = host(code.var(0)).into_iter().map(f64::from).collect();
    let largest = variance.iter().copied().fold(0.0, f64::max);
    let active = variance
        .iter()
        .filter(|v| **v > (ACTIVE * largest).max(1e-12))
        .count();
    let latent = latent as f64;
    Some((
        "active_units",
        active as f64,
        Limit::Below {
            watch: (0.1 * latent).max(2.0).min(latent),
            bad: 1.0,
        },
        "code numbers that differ between images; the others are dead weight: lower model.latent or the learning rate",
    ))
}

fn square(a: f32, b: f32) -> f64 {
    (f64::from(a) - f64::from(b)).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_hand_worked() {
        let device = Device::flex();
        let of = |values: &[f32], count: usize| -> Tensor<4> {
            let side = values.len() / count;
            Tensor::<1>::from_floats(values, &device).reshape([count, 1, 1, side])
        };
        // Pixels 0 and 1 of two images, both answered with 0.5: as the mean image does.
        let signs = of_images(of(&[0.0, 1.0], 2), of(&[0.5, 0.5], 2));
        let values: Vec<f64> = signs.iter().map(|s| s.1).collect();
        assert_eq!(values, [0.5, 1.0]);
        // A single image is its own mean.
        let signs = of_images(of(&[0.0, 1.0], 1), of(&[0.0, 0.0], 1));
        assert_eq!(signs.len(), 1);
        assert!((signs[0].1 - 0.5f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_unit_that_never_moves_is_not_active() {
        let device = Device::flex();
        let code = |values: &[f32], rows: usize| -> Tensor<2> {
            Tensor::<1>::from_floats(values, &device).reshape([rows, values.len() / rows])
        };
        let sign = of_codes(code(&[1.0, 5.0, 0.1, 2.0, 5.0, 0.3], 2)).unwrap();
        assert_eq!((sign.0, sign.1), ("active_units", 2.0));
        assert!(of_codes(code(&[1.0, 2.0], 1)).is_none());
    }
}
