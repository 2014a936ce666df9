//! Convolutions that see what lies before a pixel only.

use burn::module::{Module, Param};
use burn::prelude::*;
use vermeer_kernels::{Algorithm, ConvOptions, conv2d};

use crate::autoregressive::taps as tap_matrices;
use crate::nn::{Init, host};

/// Which groups of features see which at the pixel itself. Features are in as many groups as the
/// image has channels, and a channel's group sees the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Groups.
    pub(super) groups: usize,
    /// Channels that come in.
    pub(super) inputs: usize,
    /// Channels after which the groups of the result begin anew, as in the halves of a gate.
    pub(super) period: usize,
    /// Whether a group does not see itself, because it is the one to be predicted.
    pub(super) strict: bool,
}

impl Order {
    /// Whether the channel `output` sees the channel `input` of its own pixel.
    fn sees(self, output: usize, input: usize) -> bool {
        let own = output % self.period * self.groups / self.period;
        let other = input * self.groups / self.inputs;
        other < own || (other == own && !self.strict)
    }
}

/// A convolution whose kernel ends at the pixel it computes, or before it: of a `kernel` the first
/// rows and columns are parameters, the rest does not exist. The image keeps its size.
#[derive(Module, Debug)]
pub(super) struct Masked {
    /// The part that sees something, `[outputs, inputs, rows, columns]`. Where colours have an
    /// order, the last column is the pixel itself, and what the order hides counts as zero.
    weight: Param<Tensor<4>>,
    /// `[outputs]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    kernel: [usize; 2],
    #[module(skip)]
    dilation: usize,
    #[module(skip)]
    order: Option<Order>,
}

/// The weight of one tap on the host.
pub(super) struct Tap {
    /// Rows from the pixel to what is seen, zero or negative.
    pub(super) dy: isize,
    /// Columns.
    pub(super) dx: isize,
    /// `[inputs, outputs]`.
    pub(super) weight: Vec<f32>,
}

impl Masked {
    /// A convolution of a `kernel` of which the part `live` is left.
    pub(super) fn new(
        init: &Init,
        [inputs, outputs]: [usize; 2],
        kernel: [usize; 2],
        live: [usize; 2],
        dilation: usize,
        order: Option<Order>,
    ) -> Self {
        let bound = 1.0 / ((inputs * live[0] * live[1]).max(1) as f32).sqrt();
        let shape = [outputs, inputs, live[0], live[1]];
        Self {
            weight: init.param("weight", shape, |random| {
                (2.0 * random.uniform() - 1.0) * bound
            }),
            bias: init.param("bias", [outputs], |random| {
                (2.0 * random.uniform() - 1.0) * bound
            }),
            kernel,
            dilation,
            order,
        }
    }

    /// `[n, inputs, h, w] → [n, outputs, h, w]`.
    ///
    /// In training a kernel of 3×3 whose taps are neighbours is filled up with zeros and filtered,
    /// which is faster and lets rounding errors of later pixels through. Elsewhere only the products
    /// with parameters are added up, and without gradients later pixels do not reach a single bit.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut weight = self.weight();
        let training = weight.is_autodiff();
        if training && self.kernel == [3, 3] && self.dilation == 1 {
            weight = filled(weight);
        }
        let options = ConvOptions {
            padding: self.kernel.map(|side| side / 2 * self.dilation),
            dilation: [self.dilation; 2],
            algorithm: match training {
                true => Algorithm::Auto,
                false => Algorithm::Direct,
            },
            keep_size: true,
            ..ConvOptions::default()
        };
        conv2d(x, weight, Some(self.bias.val()), options)
    }

    /// The live part, zero where the order hides it.
    fn weight(&self) -> Tensor<4> {
        let weight = self.weight.val();
        let Some(order) = self.order else {
            return weight;
        };
        let [outputs, inputs, rows, columns] = weight.dims();
        let mut mask = vec![1.0f32; outputs * inputs * rows * columns];
        for (place, taps) in mask.chunks_exact_mut(rows * columns).enumerate() {
            if !order.sees(place / inputs, place % inputs) {
                taps[rows * columns - 1] = 0.0;
            }
        }
        let mask = Tensor::<1>::from_floats(&mask[..], &weight.device());
        weight.mul(mask.reshape([outputs, inputs, rows, columns]))
    }

    /// The taps on the host.
    pub(super) fn taps(&self) -> Vec<Tap> {
        let weight = self.weight();
        let [outputs, inputs, rows, columns] = weight.dims();
        let matrices = tap_matrices(weight);
        let far =
            |at: usize, side: usize| (at as isize - (side / 2) as isize) * self.dilation as isize;
        let mut taps = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let size = inputs * outputs;
                let weight = &matrices[(row * columns + column) * size..][..size];
                taps.push(Tap {
                    dy: far(row, self.kernel[0]),
                    dx: far(column, self.kernel[1]),
                    weight: weight.to_vec(),
                });
            }
        }
        taps
    }

    /// The bias on the host.
    pub(super) fn bias(&self) -> Vec<f32> {
        host(self.bias.val())
    }
}

/// A kernel `[outputs, inputs, rows, 3]` with zeros in the rows that are missing of three.
fn filled(weight: Tensor<4>) -> Tensor<4> {
    let [outputs, inputs, rows, columns] = weight.dims();
    let zeros = Tensor::zeros([outputs, inputs, 3 - rows, columns], &weight.device());
    Tensor::cat(vec![weight, zeros], 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In training and without gradients, dilated and not, with kernels that are filtered and others.
    #[test]
    fn what_is_hidden_counts_as_zero() {
        let device = Device::flex().autodiff();
        let x: Vec<f32> = (0..2 * 16 * 7 * 6)
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        let x = Tensor::<1>::from_floats(&x[..], &device).reshape([2, 16, 7, 6]);
        for (kernel, live, dilation) in [
            ([3, 3], [2, 3], 1),
            ([3, 3], [2, 3], 2),
            ([7, 7], [3, 7], 1),
            ([5, 5], [3, 5], 1),
            ([1, 5], [1, 3], 1),
            ([1, 7], [1, 3], 1),
            ([1, 3], [1, 2], 4),
            ([1, 1], [1, 1], 1),
        ] {
            let init = Init::new(1, &device).at("conv");
            let conv = Masked::new(&init, [16, 20], kernel, live, dilation, None);
            let weight = conv.weight();
            let below = [20, 16, kernel[0] - live[0], live[1]];
            let beside = [20, 16, kernel[0], kernel[1] - live[1]];
            let mut whole = weight.clone();
            for (shape, axis) in [(below, 2), (beside, 3)] {
                if shape[axis] > 0 {
                    whole = Tensor::cat(vec![whole, Tensor::zeros(shape, &device)], axis);
                }
            }
            let options = ConvOptions {
                padding: kernel.map(|side| side / 2 * dilation),
                dilation: [dilation; 2],
                algorithm: Algorithm::Direct,
                ..ConvOptions::default()
            };
            let expected = conv2d(x.clone(), whole, Some(conv.bias.val()), options);
            let trained = conv.forward(x.clone());
            let plain = conv.valid().forward(x.clone().inner());
            for found in [host(trained), host(plain)] {
                for (found, expected) in found.iter().zip(host(expected.clone())) {
                    let gap = (found - expected).abs();
                    assert!(gap < 3e-5, "{kernel:?} {dilation}: {found} {expected}");
                }
            }
        }
    }
}
