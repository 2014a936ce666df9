//! Group normalisation (Wu and He, 2018) of channels-last `f32` images, with an activation behind;
//! with as many groups as channels it is instance normalisation (Ulyanov et al., 2016).
//!
//! An image is cut into blocks of fixed size whose sums are joined in `f64`, in order: a result
//! depends on neither the batch nor the threads.

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
            && c > 0
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

/// Computes `f` of every block of an image, by several threads where there are too few images to
/// keep them busy.
fn in_blocks(wide: bool, blocks: usize, f: impl Fn(usize) + Sync) {
    match wide {
        true => (0..blocks).into_par_iter().for_each(&f),
        false => (0..blocks).for_each(f),
    }
}

/// The sums of every block, `width` of each, as `f` writes them.
fn sums(wide: bool, blocks: usize, width: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut all = vec![0.0; blocks * width];
    match wide {
        true => all
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(block, sums)| f(block, sums)),
        false => all
            .chunks_mut(width)
            .enumerate()
            .for_each(|(block, sums)| f(block, sums)),
    }
    all
}

/// An image `[pixels, c]` with what it is normalised by.
#[derive(Clone, Copy)]
struct Image<'a> {
    isa: Isa,
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    options: GroupNormalisation,
    /// Whether several threads share it.
    wide: bool,
}

impl<'a> Image<'a> {
    fn blocks(&self) -> usize {
        self.x.len().div_ceil(BLOCK * self.gamma.len())
    }

    /// Where a block lies.
    fn range(&self, block: usize) -> std::ops::Range<usize> {
        let size = BLOCK * self.gamma.len();
        block * size..((block + 1) * size).min(self.x.len())
    }

    /// Mean and 1/√(variance + ε), for each channel those of its group.
    ///
    /// A block's sums are about its own mean, so that it is read once from memory; they are joined
    /// as by Chan, Golub and LeVeque (1979).
    fn moments(&self) -> [Vec<f32>; 2] {
        let (c, groups) = (self.gamma.len(), self.options.groups);
        let per = c / groups;
        let all = sums(self.wide, self.blocks(), 2 * c, |block, sums| {
            self.isa.run(BlockMoments(&self.x[self.range(block)], sums));
        });
        let pixels = |block: usize| (self.range(block).len() / c) as f64;
        let count = (self.x.len() / groups) as f64;
        let parts = || {
            let blocks = all.chunks_exact(2 * c).enumerate();
            blocks.map(|(block, sums)| (pixels(block), sums.split_at(c)))
        };
        let mut mean = vec![0.0f64; groups];
        for (n, (means, _)) in parts() {
            for (i, block) in means.iter().enumerate() {
                mean[i / per] += n * f64::from(*block) / count;
            }
        }
        let mut variance = vec![0.0f64; groups];
        for (n, (means, squares)) in parts() {
            for (i, (block, squares)) in means.iter().zip(squares).enumerate() {
                let gap = f64::from(*block) - mean[i / per];
                variance[i / per] += (f64::from(*squares) + n * gap * gap) / count;
            }
        }
        let epsilon = f64::from(self.options.epsilon);
        let spread = |f: &dyn Fn(usize) -> f64| (0..c).map(|i| f(i / per) as f32).collect();
        [
            spread(&|group| mean[group]),
            spread(&|group| 1.0 / (variance[group] + epsilon).sqrt()),
        ]
    }
}

/// Of each channel of a block the mean, then Σ (x − mean)².
struct BlockMoments<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for BlockMoments<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let Self(x, sums) = self;
        let c = sums.len() / 2;
        let (mean, squares) = sums.split_at_mut(c);
        let (mean, squares) = (&mut mean[..c], &mut squares[..c]);
        for pixel in x.chunks_exact(c) {
            for i in 0..c {
                mean[i] += pixel[i];
            }
        }
        let share = c as f32 / x.len() as f32;
        for i in 0..c {
            mean[i] *= share;
        }
        for pixel in x.chunks_exact(c) {
            for i in 0..c {
                let gap = pixel[i] - mean[i];
                squares[i] += gap * gap;
            }
        }
    }
}

/// A block's result.
struct Forward<'a> {
    image: Image<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let c = self.image.gamma.len();
        let (mean, inverse) = (&self.mean[..c], &self.inverse[..c]);
        let (gamma, beta) = (&self.image.gamma[..c], &self.image.beta[..c]);
        for (y, x) in self.y.chunks_exact_mut(c).zip(self.x.chunks_exact(c)) {
            for i in 0..c {
                y[i] = (x[i] - mean[i]) * inverse[i] * gamma[i] + beta[i];
            }
            match self.image.options.activation {
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

/// The images one by one, and whether threads share each.
fn images<'a>(
    isa: Isa,
    x: &'a [f32],
    images: usize,
    [gamma, beta]: [&'a [f32]; 2],
    options: GroupNormalisation,
) -> impl Fn(usize) -> Image<'a> + Sync {
    let size = x.len() / images.max(1);
    let wide = images < rayon::current_num_threads();
    move |image| Image {
        isa,
        x: &x[image * size..][..size],
        gamma,
        beta,
        options,
        wide,
    }
}

/// The normalisation of `x`, `n` images `[pixels, c]` one after the other.
///
/// # Panics
/// When the sizes do not fit, there are no channels, or another activation is asked for.
#[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
pub fn group_norm(
    isa: Isa,
    x: &[f32],
    n: usize,
    with: [&[f32]; 2],
    options: GroupNormalisation,
) -> Vec<f32> {
    expect(x, n, with, options);
    let size = x.len() / n.max(1);
    let images = images(isa, x, n, with, options);
    let fill = |shared: &SharedMut<'_>| {
        (0..n).into_par_iter().for_each(|i| {
            let image = images(i);
            let [mean, inverse] = image.moments();
            in_blocks(image.wide, image.blocks(), |block| {
                let range = image.range(block);
                isa.run(Forward {
                    image,
                    x: &image.x[range.clone()],
                    // SAFETY: every block has its own part.
                    y: unsafe { shared.part(i * size + range.start, range.len()) },
                    mean: &mean,
                    inverse: &inverse,
                });
            });
        });
    };
    // SAFETY: every block of every image writes its part.
    unsafe { written(x.len(), fill) }
}

/// The first pass over a block of the gradients: dx becomes the gradient behind the activation,
/// and the sums those over the block of Σ g·x̂, then Σ g, of each channel.
struct BackwardSums<'a> {
    image: Image<'a>,
    gradient: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for BackwardSums<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let c = self.image.gamma.len();
        let (mean, inverse) = (&self.mean[..c], &self.inverse[..c]);
        let (gamma, beta) = (&self.image.gamma[..c], &self.image.beta[..c]);
        let (scaled, plain) = self.sums.split_at_mut(c);
        let (scaled, plain) = (&mut scaled[..c], &mut plain[..c]);
        let pixels = self.x.chunks_exact(c).zip(self.gradient.chunks_exact(c));
        for (dx, (x, gradient)) in self.dx.chunks_exact_mut(c).zip(pixels) {
            for i in 0..c {
                let unit = (x[i] - mean[i]) * inverse[i];
                let mut g = gradient[i];
                let z = unit * gamma[i] + beta[i];
                match self.image.options.activation {
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
    }
}

/// The second pass: `dx = (gγ − mean(gγ) − x̂ · mean(gγx̂)) / √…`.
struct BackwardEnd<'a> {
    gamma: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
    /// mean(gγx̂) and mean(gγ) of each channel's group.
    scaled: &'a [f32],
    plain: &'a [f32],
}

impl Kernel for BackwardEnd<'_> {
    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "the trait's methods are unsafe; this one is not"
    )]
    unsafe fn run<S: Simd>(self) {
        let c = self.gamma.len();
        let (gamma, mean, inverse) = (self.gamma, &self.mean[..c], &self.inverse[..c]);
        let (scaled, plain) = (&self.scaled[..c], &self.plain[..c]);
        for (dx, x) in self.dx.chunks_exact_mut(c).zip(self.x.chunks_exact(c)) {
            for i in 0..c {
                let unit = (x[i] - mean[i]) * inverse[i];
                dx[i] = (dx[i] * gamma[i] - plain[i] - unit * scaled[i]) * inverse[i];
            }
        }
    }
}

impl Image<'_> {
    /// Writes the gradient to an image to the numbers from `at` on; the gradients to gamma and beta
    /// of it, one after the other.
    ///
    /// # Safety
    /// Nobody else may use those numbers meanwhile.
    #[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
    unsafe fn backward(&self, gradient: &[f32], dx: &SharedMut<'_>, at: usize) -> Vec<f64> {
        let (c, isa) = (self.gamma.len(), self.isa);
        let [mean, inverse] = self.moments();
        let (mean, inverse) = (&mean[..], &inverse[..]);
        let parts = sums(self.wide, self.blocks(), 2 * c, |block, sums| {
            let range = self.range(block);
            isa.run(BackwardSums {
                image: *self,
                gradient: &gradient[range.clone()],
                x: &self.x[range.clone()],
                // SAFETY: every block has its own part.
                dx: unsafe { dx.part(at + range.start, range.len()) },
                mean,
                inverse,
                sums,
            });
        });
        let mut total = vec![0.0f64; 2 * c];
        for part in parts.chunks_exact(2 * c) {
            for (total, part) in total.iter_mut().zip(part) {
                *total += f64::from(*part);
            }
        }
        let per = c / self.options.groups;
        let count = (self.x.len() / self.options.groups) as f64;
        let spread = |sums: &[f64]| -> Vec<f32> {
            let weighted = sums.iter().zip(self.gamma).map(|(s, g)| s * f64::from(*g));
            let weighted: Vec<f64> = weighted.collect();
            let groups = weighted
                .chunks(per)
                .map(|group| group.iter().sum::<f64>() / count);
            groups
                .flat_map(|value| std::iter::repeat_n(value as f32, per))
                .collect()
        };
        let (scaled, plain) = (spread(&total[..c]), spread(&total[c..]));
        in_blocks(self.wide, self.blocks(), |block| {
            let range = self.range(block);
            isa.run(BackwardEnd {
                gamma: self.gamma,
                x: &self.x[range.clone()],
                // SAFETY: as above.
                dx: unsafe { dx.part(at + range.start, range.len()) },
                mean,
                inverse,
                scaled: &scaled,
                plain: &plain,
            });
        });
        total
    }
}

/// The gradients of [`group_norm`] to `x`, gamma and beta, from the gradient to its result.
///
/// # Panics
/// As [`group_norm`], and when there is not a gradient for each number.
#[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
pub fn group_norm_backward(
    isa: Isa,
    gradient: &[f32],
    x: &[f32],
    n: usize,
    with: [&[f32]; 2],
    options: GroupNormalisation,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    expect(x, n, with, options);
    assert_eq!(gradient.len(), x.len(), "a gradient for each number");
    let (c, size) = (with[0].len(), x.len() / n.max(1));
    let images = images(isa, x, n, with, options);
    let mut sums = vec![];
    let fill = |shared: &SharedMut<'_>| {
        let image = |i: usize| {
            let gradient = &gradient[i * size..][..size];
            // SAFETY: every image has its own part.
            unsafe { images(i).backward(gradient, shared, i * size) }
        };
        (0..n)
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
