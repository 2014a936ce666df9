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
pub fn gaussian_blur(image: &[f32], [channels, height, width]: [usize; 3], sigma: f64) -> Vec<f32> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    const ALL: [Corruption; 4] = [
        Corruption::Gaussian,
        Corruption::SaltAndPepper,
        Corruption::Masking,
        Corruption::Blur,
    ];

    fn random(index: u64) -> Stream {
        stream(3, Purpose::Corrupt, 5, index)
    }

    /// Image of 4 rows and 5 columns: value k is (37 k mod 101) / 100.
    fn image() -> Vec<f32> {
        (0..20u8)
            .map(|k| f32::from(u16::from(k) * 37 % 101) / 100.0)
            .collect()
    }

    #[test]
    fn blur_is_that_of_scipy() {
        // scipy 1.17.1, ndimage.gaussian_filter of the image above in float64, defaults otherwise.
        let half = [
            0.1179379, 0.3631588, 0.6255174, 0.2744406, 0.4238860, 0.6753635, 0.2965138, 0.5584817,
            0.7473262, 0.3570599, 0.6129402, 0.2226738, 0.4115183, 0.6734861, 0.2946365, 0.5461140,
            0.6955594, 0.3444827, 0.6068413, 0.8520621,
        ];
        let some = [
            0.2594984, 0.3809204, 0.5056997, 0.4320814, 0.4023677, 0.4918039, 0.3995029, 0.5084359,
            0.5551446, 0.4154423, 0.5545577, 0.4148554, 0.4615641, 0.5704971, 0.4781961, 0.5676323,
            0.5379186, 0.4643003, 0.5890796, 0.7105016,
        ];
        // Here the filter reaches around the image more than once.
        let wide = [
            0.4721897, 0.4747809, 0.4789573, 0.4831214, 0.4856925, 0.4757371, 0.4783223, 0.4824948,
            0.4866622, 0.4892390, 0.4807610, 0.4833378, 0.4875052, 0.4916777, 0.4942629, 0.4843075,
            0.4868786, 0.4910427, 0.4952191, 0.4978103,
        ];
        for (sigma, expected) in [(0.5, half), (0.8, some), (3.0, wide)] {
            // The second channel is the first one turned round, and so is its blur.
            let mut both = image();
            both.extend(image().into_iter().rev());
            let blurred = gaussian_blur(&both, [2, 4, 5], sigma);
            let mut wanted: Vec<f64> = expected.to_vec();
            wanted.extend(expected.iter().rev());
            for (at, (a, b)) in blurred.iter().zip(&wanted).enumerate() {
                let apart = (f64::from(*a) - b).abs();
                assert!(apart < 2e-7, "sigma {sigma}, value {at}: {a}, not {b}");
            }
        }
    }

    #[test]
    fn noise_has_the_moments_of_clamped_noise() {
        // Of a normal variable of mean 0.25 and deviation 0.3 that is clamped to [0, 1]: mean
        // 0.283390, deviation 0.247321, probability of 0 0.202328 (scipy.integrate.quad).
        let (side, grey) = (300, 0.25f32);
        let shape = [1, side, side];
        let spoiled =
            Corruption::Gaussian.apply(0.3, &vec![grey; side * side], shape, &mut random(0));
        let n = spoiled.len() as f64;
        let mean = spoiled.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let square = spoiled.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        let black = spoiled.iter().filter(|v| **v == 0.0).count() as f64 / n;
        // Five standard errors.
        assert!((mean - 0.283_390).abs() < 5.0 * 0.2473 / n.sqrt(), "{mean}");
        assert!(((square - mean * mean).sqrt() - 0.247_321).abs() < 0.005);
        assert!(
            (black - 0.202_328).abs() < 5.0 * 0.402 / n.sqrt(),
            "{black}"
        );
    }

    #[test]
    fn as_many_pixels_are_spoiled_as_asked_for() {
        let side = 200;
        let (grey, shape) = (vec![0.5f32; 3 * side * side], [3, side, side]);
        let share = |values: &[f32], value: f32| {
            values.iter().filter(|v| **v == value).count() as f64 / values.len() as f64
        };
        let spoiled = Corruption::SaltAndPepper.apply(0.3, &grey, shape, &mut random(0));
        // 120,000 values: five standard errors are 0.0052.
        assert!((share(&spoiled, 0.0) - 0.15).abs() < 0.0052);
        assert!((share(&spoiled, 1.0) - 0.15).abs() < 0.0052);
        assert!((share(&spoiled, 0.5) - 0.7).abs() < 0.0067);
        let spoiled = Corruption::Masking.apply(0.3, &grey, shape, &mut random(0));
        // 40,000 pixels.
        assert!((share(&spoiled, 0.0) - 0.3).abs() < 0.0115);
        let (red, rest) = spoiled.split_at(side * side);
        let (green, blue) = rest.split_at(side * side);
        assert!(red == green && green == blue, "channels are lost together");
    }

    #[test]
    fn the_key_decides_and_no_strength_changes_nothing() {
        let shape = [1, 4, 5];
        for corruption in ALL {
            let once = corruption.apply(0.5, &image(), shape, &mut random(0));
            let again = corruption.apply(0.5, &image(), shape, &mut random(0));
            assert_eq!(once, again, "{corruption:?}");
            let other = corruption.apply(0.5, &image(), shape, &mut random(1));
            let drawn = corruption != Corruption::Blur;
            assert_eq!(once != other, drawn, "{corruption:?}");
            assert!(once.iter().all(|v| (0.0..=1.0).contains(v)));
            let nothing = corruption.apply(0.0, &image(), shape, &mut random(0));
            assert_eq!(nothing, image(), "{corruption:?}");
        }
    }

    #[test]
    fn strengths_that_mean_nothing_are_refused() {
        for (corruption, strength, fits) in [
            (Corruption::Gaussian, 0.5, true),
            (Corruption::Gaussian, -0.1, false),
            (Corruption::SaltAndPepper, 1.0, true),
            (Corruption::Masking, 1.1, false),
            (Corruption::Blur, 5.0, true),
            (Corruption::Blur, 6.0, false),
            (Corruption::Blur, f64::NAN, false),
        ] {
            assert_eq!(
                corruption.check(strength, [1, 4, 5]).is_ok(),
                fits,
                "{corruption:?} {strength}"
            );
        }
    }
}
