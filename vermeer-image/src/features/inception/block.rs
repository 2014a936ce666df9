//! Parts of the Inception network: branches of convolutions whose results are joined.

use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::{Activation, Stack, leaky_relu, pool2d};

use crate::features::frozen::LARGEST;

const MEAN: Window = Window {
    kernel: [3; 2],
    stride: [1; 2],
    padding: [1; 2],
    take: Take::Mean,
};

/// What lies between two taps.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Convolutions, then the largest of 3×3 pixels, two further each time.
    Stem(Vec<Conv2d>),
    Mixed(Vec<Block>),
}

/// Branches whose results are joined, channel after channel.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) branches: Vec<Branch>,
    /// Whether the result has half as many rows and columns.
    pub(super) halves: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Branch {
    /// One after the other.
    Row(Vec<Conv2d>),
    /// One after the other, then some side by side.
    Fork(Vec<Conv2d>, Vec<Conv2d>),
    /// The mean of 3×3 pixels, then a convolution.
    Mean(Conv2d),
    /// The largest of 3×3 pixels, then a convolution.
    Largest(Conv2d),
    /// The largest of 3×3 pixels, two further each time.
    Halve,
}

impl Stage {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Stem(convs) => pool2d(in_row(convs, x), LARGEST),
            Self::Mixed(blocks) => blocks.iter().fold(x, |x, block| block.forward(&x)),
        }
    }
}

impl Block {
    fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let channels = self.branches.iter().map(|branch| branch.channels(c)).sum();
        let [h, w] = match self.halves {
            true => LARGEST.output([h, w]),
            false => [h, w],
        };
        let empty = Stack::new([n, channels, h, w]);
        let add = |stack: Stack, branch: &Branch| branch.add(x, stack);
        self.branches.iter().fold(empty, add).images()
    }
}

impl Branch {
    /// Channels of the result for an input of `c`.
    fn channels(&self, c: usize) -> usize {
        let outputs = |conv: &Conv2d| conv.weight.dims()[0];
        match self {
            Self::Row(convs) => convs.last().map_or(c, outputs),
            Self::Fork(_, ends) => ends.iter().map(outputs).sum(),
            Self::Mean(conv) | Self::Largest(conv) => outputs(conv),
            Self::Halve => c,
        }
    }

    /// Adds the branch's result to those of the branches before.
    fn add(&self, x: &Tensor<4>, stack: Stack) -> Stack {
        let relu = Activation::Relu;
        match self {
            Self::Row(convs) => match convs.split_last() {
                Some((last, others)) => stack.push_conv(last, in_row(others, x.clone()), relu),
                None => stack.push(x.clone()),
            },
            Self::Fork(convs, ends) => {
                let x = in_row(convs, x.clone());
                let add = |stack: Stack, end: &Conv2d| stack.push_conv(end, x.clone(), relu);
                ends.iter().fold(stack, add)
            }
            // A mean with weights that add up to one and a convolution of single pixels may change
            // places; after the convolution there are fewer channels to average.
            Self::Mean(conv) => stack.push(leaky_relu(mean_inside(conv.forward(x.clone())), 0.0)),
            Self::Largest(conv) => {
                let around = Window {
                    take: Take::Largest,
                    ..MEAN
                };
                stack.push_conv(conv, pool2d(x.clone(), around), relu)
            }
            Self::Halve => stack.push(pool2d(x.clone(), LARGEST)),
        }
    }
}

/// Convolutions and ReLUs, one after the other.
fn in_row(convs: &[Conv2d], x: Tensor<4>) -> Tensor<4> {
    let step = |x: Tensor<4>, conv: &Conv2d| conv.forward_then(x, Activation::Relu);
    convs.iter().fold(x, step)
}

/// The mean of the 3×3 pixels around each, of which those outside the image do not count.
fn mean_inside(x: Tensor<4>) -> Tensor<4> {
    let ([_, _, h, w], device) = (x.dims(), x.device());
    // How many of three places around `at` lie inside.
    let inside = |at: usize, size: usize| 3 - usize::from(at == 0) - usize::from(at + 1 == size);
    let factors: Vec<f32> = (0..h * w)
        .map(|pixel| 9.0 / (inside(pixel / w, h) * inside(pixel % w, w)) as f32)
        .collect();
    let factors: Tensor<4> = Tensor::from_data(TensorData::new(factors, [1, h, w, 1]), &device);
    let mean = pool2d(x, MEAN).permute([0, 2, 3, 1]); // [n, h, w, c]
    mean.mul(factors).permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_leave_out_what_lies_outside() {
        // Of 1 … 6 in two rows of three: (1+2+4+5)/4, (1+…+6)/6, (2+3+5+6)/4, by hand.
        let values: Vec<f32> = (1..=6u8).map(f32::from).collect();
        let x: Tensor<4> =
            Tensor::from_data(TensorData::new(values, [1, 1, 2, 3]), &Device::flex());
        let mean = mean_inside(x).try_to_vec_as::<f32>().unwrap();
        for (found, expected) in mean.iter().zip([3.0, 3.5, 4.0, 3.0, 3.5, 4.0]) {
            assert!((found - expected).abs() < 1e-6, "{mean:?}");
        }
        let one: Tensor<4> = Tensor::full([1, 1, 1, 1], 7.0, &Device::flex());
        let mean = mean_inside(one).try_to_vec_as::<f32>().unwrap();
        assert!((mean[0] - 7.0).abs() < 1e-6, "{mean:?}");
    }
}
