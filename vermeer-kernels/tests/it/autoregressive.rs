//! What networks are made of that draw an image pixel by pixel: convolutions that keep the size,
//! gates, exponential linear units and the likelihood of a value.

use burn::prelude::*;
use burn::tensor::{DType, TensorData, activation};
use vermeer_kernels::{
    Algorithm, ConvOptions, Edge, both_elu, conv2d, cross_entropy, elu, gate, linear_gate,
};

use crate::gradients::{channels_last, constant, gradients, same, same_gradient, tensor};
use crate::numbers::Numbers;

/// A convolution: its channels, kernel, how it moves, its groups, and the image.
struct Case {
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    groups: usize,
    size: [usize; 2],
}

const CASES: [Case; 9] = [
    // Two rows and three columns, as one that sees the rows above.
    case([3, 20], [2, 3], 1, [1, 1], 1, 1, [7, 6]),
    case([16, 32], [2, 3], 1, [4, 4], 4, 1, [7, 6]),
    case([20, 24], [2, 2], 2, [1, 1], 1, 1, [6, 9]),
    case([16, 32], [2, 3], 2, [2, 2], 2, 2, [7, 5]),
    // A tap that lies before the image for all of it.
    case([16, 16], [1, 2], 1, [0, 9], 9, 1, [1, 6]),
    case([6, 6], [2, 2], 1, [1, 1], 1, 6, [5, 5]),
    // Filtered ones that lose rows at the end, gain some, and move by two.
    case([16, 24], [3, 3], 1, [2, 2], 1, 1, [9, 7]),
    case([18, 16], [3, 3], 1, [0, 0], 1, 1, [5, 10]),
    case([20, 16], [4, 4], 2, [3, 2], 1, 1, [8, 11]),
];

const fn case(
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    groups: usize,
    size: [usize; 2],
) -> Case {
    Case {
        channels,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        size,
    }
}

impl Case {
    fn options(&self, algorithm: Algorithm) -> ConvOptions {
        ConvOptions {
            stride: [self.stride; 2],
            padding: self.padding,
            dilation: [self.dilation; 2],
            groups: self.groups,
            algorithm,
            keep_size: true,
            ..ConvOptions::default()
        }
    }

    fn weight(&self) -> [usize; 4] {
        let [c, k] = self.channels;
        [k, c / self.groups, self.kernel[0], self.kernel[1]]
    }

    /// The convolution of the image with many zeros below and on the right, of which the first rows
    /// and columns are taken.
    fn cut(&self, x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let device = x.device();
        let [below, right] = self.kernel.map(|side| self.dilation * side);
        let x = Tensor::cat(vec![x, Tensor::zeros([n, c, below, w], &device)], 2);
        let zeros = Tensor::zeros([n, c, h + below, right], &device);
        let x = Tensor::cat(vec![x, zeros], 3);
        let options = ConvOptions {
            keep_size: false,
            ..self.options(Algorithm::Direct)
        };
        let [height, width] = self.size.map(|side| side.div_ceil(self.stride));
        conv2d(x, weight, Some(bias), options)
            .narrow(2, 0, height)
            .narrow(3, 0, width)
    }
}

#[test]
fn a_kept_size_is_that_of_a_convolution_cut_off() {
    let mut random = Numbers(41);
    for case in CASES {
        let [c, k] = case.channels;
        let x = tensor(&mut random, [2, c, case.size[0], case.size[1]]);
        let weight = tensor(&mut random, case.weight());
        let bias = tensor(&mut random, [k]);
        for algorithm in [Algorithm::Auto, Algorithm::Direct, Algorithm::Winograd2] {
            let options = case.options(algorithm);
            let theirs = case.cut(x.clone(), weight.clone(), bias.clone());
            let input = channels_last(x.clone());
            let ours = conv2d(input, weight.clone(), Some(bias.clone()), options);
            assert_eq!(ours.dims(), theirs.dims());
            same(ours.to_data(), theirs.to_data());
            // Without gradients the weights are packed to be used again.
            let plain = conv2d(
                x.clone().inner(),
                weight.clone().inner(),
                Some(bias.clone().inner()),
                options,
            );
            same(plain.into_data(), theirs.to_data());
            let factor = constant(&mut random, theirs.dims());
            let both = gradients(ours, theirs, &factor);
            same_gradient(&both, &x);
            same_gradient(&both, &weight);
            same_gradient(&both, &bias);
        }
    }
}

#[test]
fn a_kept_size_is_the_same_of_burn() {
    // Numbers of 64 bits are Burn's.
    let mut random = Numbers(42);
    for case in CASES {
        let [c, k] = case.channels;
        let x = constant(&mut random, [2, c, case.size[0], case.size[1]]).inner();
        let weight = constant(&mut random, case.weight()).inner();
        let bias = constant(&mut random, [k]).inner();
        let options = case.options(Algorithm::Direct);
        let ours = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options);
        let [x, weight] = [x, weight].map(|t| t.cast(DType::F64));
        let theirs = conv2d(x, weight, Some(bias.cast(DType::F64)), options);
        assert_eq!(ours.dims(), theirs.dims());
        same(ours.into_data(), theirs.cast(DType::F32).into_data());
    }
}

#[test]
#[should_panic(expected = "has zeros around its image")]
fn an_edge_and_a_kept_size_do_not_go_together() {
    let x = Tensor::<4>::zeros([1, 1, 4, 4], &Device::flex());
    let options = ConvOptions {
        edge: Edge::Reflect,
        keep_size: true,
        ..ConvOptions::default()
    };
    conv2d(x.clone(), x.narrow(2, 0, 1), None, options);
}

#[test]
fn gates_and_units_are_those_of_burn() {
    let mut random = Numbers(43);
    let x = tensor(&mut random, [2, 10, 5, 4]);
    let wide = || x.clone().mul_scalar(4.0);
    let first = || wide().narrow(1, 0, 5);
    let open = || activation::sigmoid(wide().narrow(1, 5, 5));
    let unit = |x: Tensor<4>| activation::elu(x, 1.0);
    // Each pair has a graph of its own, which is taken apart by its gradients.
    for pair in 0..4 {
        let (ours, theirs) = match pair {
            0 => (gate(channels_last(wide())), first().tanh().mul(open())),
            1 => (linear_gate(channels_last(wide())), first().mul(open())),
            2 => (elu(channels_last(wide())), unit(wide())),
            _ => (
                both_elu(channels_last(wide())),
                Tensor::cat(vec![unit(wide()), unit(wide().neg())], 1),
            ),
        };
        assert_eq!(ours.dims(), theirs.dims());
        same(ours.to_data(), theirs.to_data());
        let factor = constant(&mut random, theirs.dims());
        same_gradient(&gradients(ours, theirs, &factor), &x);
    }
}

#[test]
fn cross_entropies_are_those_of_burn() {
    let mut random = Numbers(44);
    for (rows, k) in [(6, 4), (35, 16), (20, 256)] {
        let logits = tensor(&mut random, [rows, k]);
        let numbers: Vec<f32> = (0..rows).map(|row| (row * 7 % k) as f32).collect();
        let targets = Tensor::<1>::from_data(TensorData::new(numbers, [rows]), &logits.device());
        let wide = || logits.clone().mul_scalar(6.0);
        let ours = cross_entropy(wide(), targets.clone());
        let own = targets.int().reshape([rows, 1]);
        let theirs = activation::log_softmax(wide(), 1).gather(1, own).neg();
        same(ours.to_data(), theirs.clone().reshape([rows]).into_data());
        let factor = constant(&mut random, [rows, 1, 1, 1]);
        let shape = [rows, 1, 1, 1];
        let both = gradients(ours.reshape(shape), theirs.reshape(shape), &factor);
        same_gradient(&both, &logits);
    }
}
