//! Sums over pixels and normalisation by channel, of channels-last `f32` images `[pixels, c]`.
//!
//! Sums are taken over blocks of fixed size, joined in order in `f64`, so they do not depend on
//! the number of threads.

#![allow(
    clippy::needless_range_loop,
    reason = "a channel indexes several slices"
)]

use crate::Isa;
use crate::activation::leaky;
use crate::pixelwise::{Map, Sum, map, sum};

fn narrow(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|x| x as f32).collect()
}

/// `Σ (x − mean)^power`, power 1 or 2.
struct Centred<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    squared: bool,
}

impl Sum for Centred<'_> {
    #[inline(always)]
    fn add(&self, from: usize, to: usize, sums: &mut [f32]) {
        let c = sums.len();
        let mean = &self.mean[..c];
        for pixel in self.x[from * c..to * c].chunks_exact(c) {
            if self.squared {
                for i in 0..c {
                    let gap = pixel[i] - mean[i];
                    sums[i] += gap * gap;
                }
            } else {
                for i in 0..c {
                    sums[i] += pixel[i] - mean[i];
                }
            }
        }
    }
}

fn totals(isa: Isa, x: &[f32], mean: &[f32], squared: bool) -> Vec<f64> {
    let c = mean.len();
    sum(isa, x.len() / c.max(1), c, &Centred { x, mean, squared })
}

/// The sum over the pixels of each channel.
pub fn channel_sum(isa: Isa, x: &[f32], c: usize) -> Vec<f32> {
    narrow(totals(isa, x, &vec![0.0; c], false))
}

/// Mean and biased variance of each channel, in two passes.
pub fn moments(isa: Isa, x: &[f32], c: usize) -> (Vec<f32>, Vec<f32>) {
    let pixels = (x.len() / c.max(1)) as f64;
    let share = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / pixels) as f32).collect();
    let mean: Vec<f32> = share(totals(isa, x, &vec![0.0; c], false));
    let variance = share(totals(isa, x, &mean, true));
    (mean, variance)
}

/// `y = leaky((x − mean) / √(variance + ε) · gamma + beta)`: slope 1 leaves the result as it is,
/// 0 is ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// ε.
    pub epsilon: f32,
    /// Factor of the negative results.
    pub slope: f32,
    /// Whether mean and variance are those of `x` itself, so that gradients flow through them.
    pub of_batch: bool,
}

/// What a normalisation is computed with, one number a channel.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// Mean.
    pub mean: &'a [f32],
    /// Biased variance.
    pub variance: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift.
    pub beta: &'a [f32],
}

/// A normalisation of `x`, with 1/√(variance + ε).
struct Normal<'a> {
    x: &'a [f32],
    with: Channels<'a>,
    inverse: Vec<f32>,
    slope: f32,
}

impl<'a> Normal<'a> {
    fn new(x: &'a [f32], with: Channels<'a>, options: Normalisation) -> Self {
        let c = with.mean.len();
        let lengths = [with.variance.len(), with.gamma.len(), with.beta.len()];
        assert!(
            lengths == [c; 3] && x.len().is_multiple_of(c.max(1)),
            "{c} means, {lengths:?} other numbers and {} of pixels do not fit",
            x.len()
        );
        let inverse = with
            .variance
            .iter()
            .map(|v| (1.0 / (f64::from(*v) + f64::from(options.epsilon)).sqrt()) as f32);
        Self {
            x,
            with,
            inverse: inverse.collect(),
            slope: options.slope,
        }
    }
}

impl Map for Normal<'_> {
    #[inline(always)]
    fn write(&self, from: usize, result: &mut [f32]) {
        let c = self.inverse.len();
        let (mean, inverse) = (&self.with.mean[..c], &self.inverse[..c]);
        let (gamma, beta) = (&self.with.gamma[..c], &self.with.beta[..c]);
        let x = &self.x[from..from + result.len()];
        for (y, x) in result.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                let z = (x[i] - mean[i]) * inverse[i] * gamma[i] + beta[i];
                y[i] = leaky(z, z, self.slope);
            }
        }
    }
}

/// The normalisation of every pixel.
///
/// # Panics
/// When the four do not have the same length, or `x` does not consist of pixels.
pub fn normalise(isa: Isa, x: &[f32], with: Channels<'_>, options: Normalisation) -> Vec<f32> {
    map(
        isa,
        x.len(),
        with.mean.len(),
        &Normal::new(x, with, options),
    )
}

/// Σ g and Σ g·x̂, with g the gradient behind the leaky ReLU.
struct Sides<'a>(&'a Normal<'a>, &'a [f32]);

impl Sum for Sides<'_> {
    #[inline(always)]
    fn add(&self, from: usize, to: usize, sums: &mut [f32]) {
        let Self(of, gradient) = self;
        let c = of.inverse.len();
        let (plain, scaled) = sums.split_at_mut(c);
        let (plain, scaled) = (&mut plain[..c], &mut scaled[..c]);
        let (mean, inverse) = (&of.with.mean[..c], &of.inverse[..c]);
        let (gamma, beta) = (&of.with.gamma[..c], &of.with.beta[..c]);
        let (x, gradient) = (&of.x[from * c..to * c], &gradient[from * c..to * c]);
        for (x, g) in x.chunks_exact(c).zip(gradient.chunks_exact(c)) {
            for i in 0..c {
                let unit = (x[i] - mean[i]) * inverse[i];
                let z = unit * gamma[i] + beta[i];
                let g = leaky(z, g[i], of.slope);
                plain[i] += g;
                scaled[i] += g * unit;
            }
        }
    }
}

/// The gradient to `x`, given the sums over their number of pixels.
struct Slope<'a> {
    of: &'a Normal<'a>,
    gradient: &'a [f32],
    plain: Vec<f32>,
    scaled: Vec<f32>,
}

impl Map for Slope<'_> {
    #[inline(always)]
    fn write(&self, from: usize, result: &mut [f32]) {
        let of = self.of;
        let c = of.inverse.len();
        let (mean, inverse) = (&of.with.mean[..c], &of.inverse[..c]);
        let (gamma, beta) = (&of.with.gamma[..c], &of.with.beta[..c]);
        let (plain, scaled) = (&self.plain[..c], &self.scaled[..c]);
        let x = &of.x[from..from + result.len()];
        let gradient = &self.gradient[from..from + result.len()];
        let rows = x.chunks_exact(c).zip(gradient.chunks_exact(c));
        for (dx, (x, g)) in result.chunks_exact_mut(c).zip(rows) {
            for i in 0..c {
                let unit = (x[i] - mean[i]) * inverse[i];
                let z = unit * gamma[i] + beta[i];
                let g = leaky(z, g[i], of.slope);
                dx[i] = gamma[i] * inverse[i] * (g - (plain[i] + unit * scaled[i]));
            }
        }
    }
}

/// The gradients of [`normalise`] to `x`, gamma and beta, from the gradient to its result.
pub fn normalise_backward(
    isa: Isa,
    gradient: &[f32],
    x: &[f32],
    with: Channels<'_>,
    options: Normalisation,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = with.mean.len();
    let pixels = x.len() / c.max(1);
    assert_eq!(gradient.len(), x.len(), "a gradient for each number");
    let of = Normal::new(x, with, options);
    let sums = sum(isa, pixels, 2 * c, &Sides(&of, gradient));
    let share = |sums: &[f64]| match options.of_batch {
        true => sums
            .iter()
            .map(|sum| (sum / pixels as f64) as f32)
            .collect(),
        false => vec![0.0; sums.len()],
    };
    let slope = Slope {
        of: &of,
        gradient,
        plain: share(&sums[..c]),
        scaled: share(&sums[c..]),
    };
    let dx = map(isa, x.len(), c, &slope);
    let mut sums = narrow(sums);
    let dgamma = sums.split_off(c);
    (dx, dgamma, sums)
}

/// `number` where `x` is positive, else `slope · number`.
struct Leak<'a> {
    number: &'a [f32],
    x: &'a [f32],
    slope: f32,
}

impl Map for Leak<'_> {
    #[inline(always)]
    fn write(&self, from: usize, result: &mut [f32]) {
        let range = from..from + result.len();
        let (number, x) = (&self.number[range.clone()], &self.x[range]);
        for ((y, x), number) in result.iter_mut().zip(x).zip(number) {
            *y = leaky(*x, *number, self.slope);
        }
    }
}

/// `x` where it is positive, else `slope · x`.
pub fn leaky_relu(isa: Isa, x: &[f32], slope: f32) -> Vec<f32> {
    map(
        isa,
        x.len(),
        1,
        &Leak {
            number: x,
            x,
            slope,
        },
    )
}

/// The gradient of [`leaky_relu`] at `x`.
pub fn leaky_relu_backward(isa: Isa, gradient: &[f32], x: &[f32], slope: f32) -> Vec<f32> {
    map(
        isa,
        x.len(),
        1,
        &Leak {
            number: gradient,
            x,
            slope,
        },
    )
}
