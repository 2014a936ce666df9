//! Group normalisation (Wu and He, 2018) of channels-last `f32` images, with an activation behind;
//! with as many groups as channels it is instance normalisation (Ulyanov et al., 2016).
//!
//! An image is computed by one thread, its sums over blocks of fixed size joined in `f64`: a
//! result depends on neither the batch nor the threads.

#![allow(
    clippy::needless_range_loop,
    reason = "a channel indexes several slices"
)]

use rayon::prelude::*;

use crate::Isa;
use crate::activation::{Activation, leaky, sigmoid, silu};
use crate::memory::{SharedMut, written};
use crate::simd::{Kernel, Simd};

fn expect(x: &[f32], images: usize, [gamma, beta]: [&[f32]; 2], options: GroupNormalisation) {
    let (c, groups) = (gamma.len(), options.groups);
    assert!(
        options.follows(),
        "{:?} does not follow a normalisation here",
        options.activation
    );
    assert!(
        beta.len() == c
            && groups > 0
            && c.is_multiple_of(groups)
            && x.len().is_multiple_of(images * c),
        "{images} images of {} numbers, {c} scales, {} shifts and {groups} groups do not fit",
        x.len(),
        beta.len()
    );
}

/// Pixels of a block.
const BLOCK: usize = 256;

/// `y = act((x − mean) / √(variance + ε) · gamma + beta)`, mean and biased variance over the
/// pixels and channels of a group of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormalisation {
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// ε.
    pub epsilon: f32,
    /// What follows: nothing, ReLU, leaky ReLU or SiLU.
    pub activation: Activation,
}

impl GroupNormalisation {
    /// Whether the activation is one of those that are computed along.
    pub(crate) fn follows(&self) -> bool {
        use Activation::{Identity, LeakyRelu, Relu, Silu};
        matches!(self.activation, Identity | Relu | LeakyRelu(_) | Silu)
    }
}

/// Mean and 1/√(variance + ε) of one image, for each channel those of its group.
struct Moments {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Moments {
    #[inline(always)]
    fn new(x: &[f32], c: usize, options: GroupNormalisation) -> Self {
        let per = c / options.groups;
        let count = (x.len() / options.groups) as f64;
        let spread = |sums: Vec<f64>| -> Vec<f64> {
            let groups = sums
                .chunks(per)
                .map(|group| group.iter().sum::<f64>() / count);
            groups
                .flat_map(|value| std::iter::repeat_n(value, per))
                .collect()
        };
        let mean: Vec<f32> = spread(centred(x, &vec![0.0; c], false))
            .into_iter()
            .map(|mean| mean as f32)
            .collect();
        let inverse = spread(centred(x, &mean, true))
            .into_iter()
            .map(|variance| (1.0 / (variance + f64::from(options.epsilon)).sqrt()) as f32)
            .collect();
        Self { mean, inverse }
    }
}

/// For each channel Σ (x − mean), or its squares.
#[inline(always)]
fn centred(x: &[f32], mean: &[f32], squared: bool) -> Vec<f64> {
    let c = mean.len();
    let mut total = vec![0.0f64; c];
    let mut sums = vec![0.0f32; c];
    for block in x.chunks(BLOCK * c) {
        sums.fill(0.0);
        let sums = &mut sums[..c];
        for pixel in block.chunks_exact(c) {
            for i in 0..c {
                let gap = pixel[i] - mean[i];
                sums[i] += if squared { gap * gap } else { gap };
            }
        }
        for (total, sum) in total.iter_mut().zip(&*sums) {
            *total += f64::from(*sum);
        }
    }
    total
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    options: GroupNormalisation,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let c = self.gamma.len();
        let moments = Moments::new(self.x, c, self.options);
        let (mean, inverse) = (&moments.mean[..c], &moments.inverse[..c]);
        let (gamma, beta) = (&self.gamma[..c], &self.beta[..c]);
        for (y, x) in self.y.chunks_exact_mut(c).zip(self.x.chunks_exact(c)) {
            for i in 0..c {
                y[i] = (x[i] - mean[i]) * inverse[i] * gamma[i] + beta[i];
            }
            match self.options.activation {
                Activation::Silu => y.iter_mut().for_each(|y| *y = silu(*y)),
                Activation::Relu => y.iter_mut().for_each(|y| *y = leaky(*y, *y, 0.0)),
                Activation::LeakyRelu(slope) => {
                    y.iter_mut().for_each(|y| *y = leaky(*y, *y, slope))
                }
                _ => (),
            }
        }
    }
}

/// The normalisation of `x`, images `[pixels, c]` one after the other.
#[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
pub fn group_norm(
    isa: Isa,
    x: &[f32],
    images: usize,
    [gamma, beta]: [&[f32]; 2],
    options: GroupNormalisation,
) -> Vec<f32> {
    expect(x, images, [gamma, beta], options);
    let size = x.len() / images.max(1);
    let fill = |shared: &SharedMut<'_>| {
        (0..images).into_par_iter().for_each(|image| {
            isa.run(Forward {
                x: &x[image * size..][..size],
                // SAFETY: every image has its own part.
                y: unsafe { shared.part(image * size, size) },
                gamma,
                beta,
                options,
            });
        });
    };
    // SAFETY: every image writes its part.
    unsafe { written(x.len(), fill) }
}

struct Backward<'a> {
    gradient: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    /// Σ g·x̂, then Σ g, of each channel.
    sums: &'a mut [f64],
    options: GroupNormalisation,
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let c = self.gamma.len();
        let moments = Moments::new(self.x, c, self.options);
        let (mean, inverse) = (&moments.mean[..c], &moments.inverse[..c]);
        let (gamma, beta) = (&self.gamma[..c], &self.beta[..c]);
        let mut block_sums = vec![0.0f32; 2 * c];
        let blocks = self
            .x
            .chunks(BLOCK * c)
            .zip(self.gradient.chunks(BLOCK * c));
        for (dx, (x, gradient)) in self.dx.chunks_mut(BLOCK * c).zip(blocks) {
            block_sums.fill(0.0);
            let (scaled, plain) = block_sums.split_at_mut(c);
            let (scaled, plain) = (&mut scaled[..c], &mut plain[..c]);
            let pixels = x.chunks_exact(c).zip(gradient.chunks_exact(c));
            for (dx, (x, gradient)) in dx.chunks_exact_mut(c).zip(pixels) {
                for i in 0..c {
                    let unit = (x[i] - mean[i]) * inverse[i];
                    let mut g = gradient[i];
                    let z = unit * gamma[i] + beta[i];
                    match self.options.activation {
                        Activation::Silu => {
                            let s = sigmoid(z);
                            g *= s * (1.0 + z * (1.0 - s));
                        }
                        Activation::Relu if z <= 0.0 => g = 0.0,
                        Activation::LeakyRelu(slope) if z <= 0.0 => g *= slope,
                        _ => (),
                    }
                    dx[i] = g;
                    scaled[i] += g * unit;
                    plain[i] += g;
                }
            }
            for (total, sum) in self.sums.iter_mut().zip(&block_sums) {
                *total += f64::from(*sum);
            }
        }
        // dx = (gγ − mean(gγ) − x̂ · mean(gγx̂)) / √…
        let per = c / self.options.groups;
        let count = (self.x.len() / self.options.groups) as f64;
        let spread = |sums: &[f64]| -> Vec<f32> {
            let weighted = sums.iter().zip(gamma).map(|(s, g)| s * f64::from(*g));
            let weighted: Vec<f64> = weighted.collect();
            let groups = weighted
                .chunks(per)
                .map(|group| group.iter().sum::<f64>() / count);
            groups
                .flat_map(|value| std::iter::repeat_n(value as f32, per))
                .collect()
        };
        let (scaled, plain) = (spread(&self.sums[..c]), spread(&self.sums[c..]));
        let (scaled, plain) = (&scaled[..c], &plain[..c]);
        for (dx, x) in self.dx.chunks_exact_mut(c).zip(self.x.chunks_exact(c)) {
            for i in 0..c {
                let unit = (x[i] - mean[i]) * inverse[i];
                dx[i] = (dx[i] * gamma[i] - plain[i] - unit * scaled[i]) * inverse[i];
            }
        }
    }
}

/// The gradients of [`group_norm`] to `x`, gamma and beta, from the gradient to its result.
#[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
pub fn group_norm_backward(
    isa: Isa,
    gradient: &[f32],
    x: &[f32],
    images: usize,
    [gamma, beta]: [&[f32]; 2],
    options: GroupNormalisation,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    expect(x, images, [gamma, beta], options);
    assert_eq!(gradient.len(), x.len(), "a gradient for each number");
    let (c, size) = (gamma.len(), x.len() / images.max(1));
    let mut sums = vec![];
    let fill = |shared: &SharedMut<'_>| {
        let image = |image: usize| {
            let mut sums = vec![0.0; 2 * c];
            let part = image * size..(image + 1) * size;
            isa.run(Backward {
                gradient: &gradient[part.clone()],
                x: &x[part],
                // SAFETY: every image has its own part.
                dx: unsafe { shared.part(image * size, size) },
                gamma,
                beta,
                sums: &mut sums,
                options,
            });
            sums
        };
        (0..images)
            .into_par_iter()
            .map(image)
            .collect_into_vec(&mut sums);
    };
    // SAFETY: every image writes its part.
    let dx = unsafe { written(x.len(), fill) };
    let total = |i: usize| sums.iter().map(|image: &Vec<f64>| image[i]).sum::<f64>() as f32;
    let dgamma = (0..c).map(total).collect();
    let dbeta = (c..2 * c).map(total).collect();
    (dx, dgamma, dbeta)
}
