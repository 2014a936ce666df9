//! The small GoogleNet of the University of Amsterdam's deep learning tutorial 5 (Lippe; after
//! Szegedy et al., 2015, "Going Deeper with Convolutions"), trained on CIFAR-10: a judge of 32×32
//! colour images with 128 features.
//!
//! Every convolution is followed by batch normalisation (ε = 1e-5) and ReLU. A block joins a 1×1
//! convolution, a 1×1 and a 3×3, a 1×1 and a 5×5, and a 1×1 of the largest of 3×3 pixels.
//!
//! | layer | result |
//! |---|---|
//! | input_net: 3×3 | `[n, 64, 32, 32]` |
//! | inception_blocks.0, .1, pool | `[n, 96, 16, 16]` |
//! | inception_blocks.3 to .6, pool | `[n, 128, 8, 8]` |
//! | inception_blocks.8, .9 | `[n, 128, 8, 8]` |
//! | mean over the pixels | `[n, 128]` features |
//! | output_net.2 | `[n, 10]` logits |

use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::{Activation, Stack, pool2d};

use super::frozen::{expect_size, rows, spatial_mean, standardise};
use super::weights::{NormedConv, Weights, same};
use crate::{ImageBatch, ImageError, Range, Result};

/// Mean and standard deviation of CIFAR-10's training images, of unit values.
const CIFAR10: [[f32; 3]; 2] = [
    [0.491_399_68, 0.482_158_42, 0.446_530_9],
    [0.247_032_23, 0.243_485_12, 0.261_587_83],
];

/// A block: its number, whether a pool comes before it, and the channels of its branches; of two
/// convolutions one after the other, the channels of both.
struct Widths {
    number: usize,
    pool: bool,
    one: usize,
    three: [usize; 2],
    five: [usize; 2],
    pooled: usize,
}

const fn widths(
    number: usize,
    one: usize,
    three: [usize; 2],
    five: [usize; 2],
    pooled: usize,
) -> Widths {
    Widths {
        number,
        pool: number == 3 || number == 8,
        one,
        three,
        five,
        pooled,
    }
}

const BLOCKS: [Widths; 8] = [
    widths(0, 16, [32, 32], [16, 8], 8),
    widths(1, 24, [32, 48], [16, 12], 12),
    widths(3, 24, [32, 48], [16, 12], 12),
    widths(4, 16, [32, 48], [16, 16], 16),
    widths(5, 16, [32, 48], [16, 16], 16),
    widths(6, 32, [32, 48], [16, 24], 24),
    widths(8, 32, [48, 64], [16, 16], 16),
    widths(9, 32, [48, 64], [16, 16], 16),
];

/// Features at the end.
const FEATURES: usize = 128;

/// The network, with batch normalisation folded into the convolutions.
#[derive(Clone, Debug)]
pub struct GoogleNet {
    input: Conv2d,
    blocks: Vec<Block>,
    output: Conv2d,
}

#[derive(Clone, Debug)]
struct Block {
    /// Whether a pool comes before it.
    pool: bool,
    /// Convolutions one after the other.
    branches: [Vec<Conv2d>; 3],
    pooled: Conv2d,
}

/// What [`GoogleNet`] says of images.
#[derive(Clone, Debug)]
pub struct GoogleNetOutput {
    /// `[n, 128]`.
    pub features: Tensor<2>,
    /// One for each class of CIFAR-10, `[n, 10]`.
    pub logits: Tensor<2>,
}

impl GoogleNet {
    /// Rows and columns of the images the network looks at.
    pub const SIDE: usize = 32;

    /// The network with weights named as in the tutorial (`input_net.0.weight` …
    /// `output_net.2.bias`), with or without `model.` before.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when a tensor is missing, has another shape, holds a value that is
    /// not finite, or is not one of this network.
    pub fn load(weights: Weights, device: &Device) -> Result<Self> {
        let mut weights =
            weights.renamed(|name| name.strip_prefix("model.").unwrap_or(name).to_owned())?;
        let input = layer(&mut weights, "input_net", 0, [64, 3, 3], device)?;
        let mut blocks = Vec::with_capacity(BLOCKS.len());
        let mut c = 64;
        for of in &BLOCKS {
            blocks.push(Block::take(&mut weights, of, c, device)?);
            c = of.one + of.three[1] + of.five[1] + of.pooled;
        }
        let output = weights.linear("output_net.2", [10, FEATURES, 1, 1], device)?;
        weights.finish()?;
        Ok(Self {
            input,
            blocks,
            output,
        })
    }

    /// What the network says of RGB images of 32×32 pixels in any range; they are scaled by
    /// CIFAR-10's mean and deviation here.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for images of another shape.
    pub fn outputs(&self, images: &ImageBatch) -> Result<GoogleNetOutput> {
        let x = images.clone().to_range(Range::Unit).into_tensor();
        if x.dims()[1] != 3 {
            return Err(ImageError::Shape(format!(
                "GoogleNet looks at RGB images, these are {:?}",
                x.dims()
            )));
        }
        let [mean, deviation] = CIFAR10;
        self.forward(standardise(x, mean, deviation))
    }

    /// As [`GoogleNet::outputs`], of `[n, 3, 32, 32]` scaled already.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for another shape.
    pub fn forward(&self, x: Tensor<4>) -> Result<GoogleNetOutput> {
        expect_size("GoogleNet", &x, [3, Self::SIDE, Self::SIDE])?;
        let x = self.input.forward_then(x, Activation::Relu); // [n, 64, 32, 32]
        let step = |x: Tensor<4>, block: &Block| block.forward(x);
        let x = self.blocks.iter().fold(x, step); // [n, 128, 8, 8]
        let features = spatial_mean(x); // [n, 128, 1, 1]
        let logits = self.output.forward(features.clone()); // [n, 10, 1, 1]
        Ok(GoogleNetOutput {
            features: rows(features),
            logits: rows(logits),
        })
    }
}

impl Block {
    fn take(weights: &mut Weights, of: &Widths, c: usize, device: &Device) -> Result<Self> {
        let mut conv = |branch: &str, at: usize, shape: [usize; 3]| {
            let owner = format!("inception_blocks.{}.{branch}", of.number);
            layer(weights, &owner, at, shape, device)
        };
        let [three, five] = [of.three, of.five];
        Ok(Self {
            pool: of.pool,
            branches: [
                vec![conv("conv_1x1", 0, [of.one, c, 1])?],
                vec![
                    conv("conv_3x3", 0, [three[0], c, 1])?,
                    conv("conv_3x3", 3, [three[1], three[0], 3])?,
                ],
                vec![
                    conv("conv_5x5", 0, [five[0], c, 1])?,
                    conv("conv_5x5", 3, [five[1], five[0], 5])?,
                ],
            ],
            pooled: conv("max_pool", 1, [of.pooled, c, 1])?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.pool {
            true => pool2d(x, largest(2)),
            false => x,
        };
        let [n, _, h, w] = x.dims();
        let outputs = |conv: &Conv2d| conv.weight.dims()[0];
        let of_branches: usize = self
            .branches
            .iter()
            .filter_map(|row| row.last().map(outputs))
            .sum();
        let channels = of_branches + outputs(&self.pooled);
        let mut stack = Stack::new([n, channels, h, w]);
        for row in &self.branches {
            if let Some((last, others)) = row.split_last() {
                let step = |x: Tensor<4>, conv: &Conv2d| conv.forward_then(x, Activation::Relu);
                let x = others.iter().fold(x.clone(), step);
                stack = stack.push_conv(last, x, Activation::Relu);
            }
        }
        let x = pool2d(x, largest(1));
        stack.push_conv(&self.pooled, x, Activation::Relu).images()
    }
}

/// The convolution `owner.at` from `c` to `k` channels with its normalisation `owner.(at + 1)`;
/// `[k, c, kernel]`.
fn layer(
    weights: &mut Weights,
    owner: &str,
    at: usize,
    [k, c, kernel]: [usize; 3],
    device: &Device,
) -> Result<Conv2d> {
    let (conv, norm) = (format!("{owner}.{at}"), format!("{owner}.{}", at + 1));
    let of = NormedConv {
        conv: &conv,
        norm: &norm,
        bias: true,
        epsilon: 1e-5,
    };
    weights.normed_conv(&of, [k, c, kernel, kernel], same([kernel; 2]), device)
}

/// The largest of the 3×3 pixels around every `step`-th.
fn largest(step: usize) -> Window {
    Window {
        kernel: [3; 2],
        stride: [step; 2],
        padding: [1; 2],
        take: Take::Largest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_each_other() {
        let after = |of: &Widths| of.one + of.three[1] + of.five[1] + of.pooled;
        // KEYS of the published checkpoint: what blocks 1, 3, …, 9 and the last layer take.
        let taken = [64, 96, 96, 96, 96, 128, 128, FEATURES];
        for (of, taken) in BLOCKS.iter().zip(taken) {
            assert_eq!(after(of), taken, "block {}", of.number);
        }
    }
}
