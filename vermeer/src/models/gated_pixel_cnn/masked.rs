//! Convolutions that see what lies before a pixel only.

use burn::module::{Module, Param};
use burn::prelude::*;
use vermeer_kernels::{ConvOptions, conv2d};

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
/// rows and columns are parameters, the rest is zero. The image keeps its size.
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
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut weight = self.weight();
        for (axis, side) in [(2, self.kernel[0]), (3, self.kernel[1])] {
            let mut shape = weight.dims();
            if shape[axis] < side {
                shape[axis] = side - shape[axis];
                let zeros = Tensor::zeros(shape, &weight.device());
                weight = Tensor::cat(vec![weight, zeros], axis);
            }
        }
        let options = ConvOptions {
            padding: self.kernel.map(|side| side / 2 * self.dilation),
            dilation: [self.dilation; 2],
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
        let values = host(weight);
        let far =
            |at: usize, side: usize| (at as isize - (side / 2) as isize) * self.dilation as isize;
        let mut taps = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let mut weight = Vec::with_capacity(inputs * outputs);
                for input in 0..inputs {
                    weight.extend((0..outputs).map(|output| {
                        let kernel = (output * inputs + input) * rows * columns;
                        values[kernel + row * columns + column]
                    }));
                }
                taps.push(Tap {
                    dy: far(row, self.kernel[0]),
                    dx: far(column, self.kernel[1]),
                    weight,
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
