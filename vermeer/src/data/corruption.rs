//! What spoils an image: noise, pixels that are lost, blur. Functions of an image in host memory and
//! a stream of random numbers, so that a corruption depends on its key and nothing else.

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::{Error, Result};

/// Beyond this many standard deviations the weights of a blur are left out, as scipy does.
const TRUNCATE: f64 = 4.0;

/// A way to spoil an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corruption {
    /// Normal noise is added to every value, and the result clamped to [0, 1]; the strength is its
    /// standard deviation in unit pixels.
    #[default]
    Gaussian,
    /// Values become 0 or 1, either with half the strength as probability.
    SaltAndPepper,
    /// Pixels become black, all their channels together, with the strength as probability.
    Masking,
    /// A Gaussian filter; the strength is its standard deviation in pixels.
    Blur,
}

impl Corruption {
    /// Refuses strengths that mean nothing for images of this shape.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the limits.
    pub fn check(self, strength: f64, [_, height, width]: [usize; 3]) -> Result<()> {
        let most = match self {
            Self::Gaussian => 10.0,
            Self::SaltAndPepper | Self::Masking => 1.0,
            Self::Blur => height.max(width) as f64,
        };
        if (0.0..=most).contains(&strength) {
            return Ok(());
        }
        let what = match self {
            Self::Gaussian => "the standard deviation of the noise in unit pixels",
            Self::SaltAndPepper | Self::Masking => "the share of spoiled pixels",
            Self::Blur => "the standard deviation of the blur in pixels",
        };
        Err(Error::settings(
            format!("a corruption of strength {strength}"),
            format!("it is {what}: a number from 0 to {most}"),
        ))
    }

    /// The spoiled version of a unit image `[channels, height, width]`; a strength of 0 changes
    /// nothing.
    ///
    /// # Panics
    /// When the image does not have this shape.
    pub fn apply(
        self,
        strength: f64,
        image: &[f32],
        shape: [usize; 3],
        random: &mut Stream,
    ) -> Vec<f32> {
        let [channels, height, width] = shape;
        assert_eq!(
            image.len(),
            channels * height * width,
            "an image has the shape {shape:?}"
        );
        let strength_32 = strength as f32;
        match self {
            Self::Gaussian => image
                .iter()
                .map(|value| (value + strength_32 * random.normal()).clamp(0.0, 1.0))
                .collect(),
            Self::SaltAndPepper => image
                .iter()
                .map(|value| {
                    let drawn = random.uniform();
                    if drawn < 0.5 * strength_32 {
                        0.0
                    } else if drawn < strength_32 {
                        1.0
                    } else {
                        *value
                    }
                })
                .collect(),
            Self::Masking => {
                let kept: Vec<bool> = (0..height * width)
                    .map(|_| random.uniform() >= strength_32)
                    .collect();
                let pixels = image.iter().enumerate();
                pixels
                    .map(|(at, value)| if kept[at % kept.len()] { *value } else { 0.0 })
                    .collect()
            }
            Self::Blur => gaussian_blur(image, shape, strength),
        }
    }
}

/// Each channel of an image `[channels, height, width]` filtered by a Gaussian of `sigma` pixels,
/// continued beyond its edges by reflection with the edge repeated: scipy's `gaussian_filter` with
/// its defaults.
pub fn gaussian_blur(
    image: &[f32],
    [channels, height, width]: [usize; 3],
    sigma: f64,
) -> Vec<f32> {
    let weights = gaussian_weights(sigma);
    let mut values: Vec<f64> = image.iter().map(|value| f64::from(*value)).collect();
    for channel in 0..channels {
        let first = channel * height * width;
        for x in 0..width {
            blur_line(&mut values, first + x, width, height, &weights);
        }
        for y in 0..height {
            blur_line(&mut values, first + y * width, 1, width, &weights);
        }
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// The weights of a Gaussian at whole distances, with the sum 1; an odd number of them.
fn gaussian_weights(sigma: f64) -> Vec<f64> {
    if sigma <= 0.0 {
        return vec![1.0];
    }
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let weights: Vec<f64> = (-radius..=radius)
        .map(|at| (-0.5 * (at as f64 / sigma).powi(2)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Filters the `count` values from `first` on, `step` apart.
fn blur_line(values: &mut [f64], first: usize, step: usize, count: usize, weights: &[f64]) {
    let radius = (weights.len() / 2) as i64;
    let period = 2 * count as i64;
    let padded: Vec<f64> = (-radius..count as i64 + radius)
        .map(|at| {
            let at = at.rem_euclid(period);
            let inside = at.min(period - 1 - at) as usize;
            values[first + inside * step]
        })
        .collect();
    for (at, window) in padded.windows(weights.len()).enumerate() {
        values[first + at * step] = window.iter().zip(weights).map(|(v, w)| v * w).sum();
    }
}
