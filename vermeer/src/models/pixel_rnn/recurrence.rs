//! A recurrent layer in one direction: its weights, and the states of an image.

use burn::module::{Module, Param};
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::recurrent::{Path, gru, lstm};
use vermeer_kernels::{Algorithm, ConvOptions, conv2d};

use super::PixelRnnCell;
use crate::nn::Init;
use crate::random::Stream;

/// A convolution of `weight` with `columns` of zeros on both sides. In training it may be computed by
/// a filter, whose rounding lets a trace of what a zero tap hides through; in use it may not.
pub(super) fn beside(weight: &Tensor<4>, columns: usize) -> ConvOptions {
    ConvOptions {
        padding: [0, columns],
        algorithm: match weight.is_autodiff() {
            true => Algorithm::Auto,
            false => Algorithm::Direct,
        },
        ..ConvOptions::default()
    }
}

/// The share of `width` channels that a channel belongs to, of `shares` equal ones in a row.
pub(super) fn share(channel: usize, width: usize, shares: usize) -> usize {
    channel * shares / width
}

/// A weight `[k, c, kh, kw]` cut to what may be seen: all of the taps before `own`, counted row by
/// row, nothing of those after it, and of `own` itself what `sees(k, c)` allows.
pub(super) fn masked(
    weight: Tensor<4>,
    own: usize,
    sees: impl Fn(usize, usize) -> bool,
) -> Tensor<4> {
    let [k, c, kh, kw] = weight.dims();
    let mut mask: Vec<f32> = Vec::with_capacity(k * c * kh * kw);
    for output in 0..k {
        for input in 0..c {
            for tap in 0..kh * kw {
                let open = tap < own || (tap == own && sees(output, input));
                mask.push(f32::from(u8::from(open)));
            }
        }
    }
    let mask = Tensor::<4>::from_data(TensorData::new(mask, [k, c, kh, kw]), &weight.device());
    weight.mul(mask)
}

/// A convolution `[k, c, kh, kw]` of `inputs` numbers, drawn from U(−1/√inputs, 1/√inputs); its
/// bias is zero.
pub(super) fn drawn(init: &Init, shape: [usize; 4], inputs: usize, bias: bool) -> Conv2d {
    let bound = 1.0 / (inputs.max(1) as f32).sqrt();
    let draw = |random: &mut Stream| (2.0 * random.uniform() - 1.0) * bound;
    Conv2d {
        weight: init.param("weight", shape, draw),
        bias: bias.then(|| init.constant("bias", [shape[0]], 0.0)),
        options: ConvOptions::default(),
    }
}

/// Input-to-state and state-to-state convolutions of one direction.
///
/// `input` is `[gates · hidden, 2 · hidden, 1, taps]`: for rows the pixel on the left and the own
/// one, for diagonals the own one. `state` is `[gates · hidden, hidden, 1, taps]`: for rows the
/// three states above, for diagonals the one above and the one beside.
#[derive(Module, Debug)]
pub(super) struct Recurrence {
    pub(super) input: Conv2d,
    pub(super) state: Conv2d,
    #[module(skip)]
    pub(super) cell: PixelRnnCell,
    #[module(skip)]
    pub(super) hidden: usize,
    #[module(skip)]
    channels: usize,
}

impl Recurrence {
    /// Weights drawn by `init`; an LSTM starts with a forget gate that is open.
    pub(super) fn new(cell: PixelRnnCell, hidden: usize, channels: usize, init: &Init) -> Self {
        let (gates, seen, above) = match cell {
            PixelRnnCell::RowLstm => (4, 2, 3),
            PixelRnnCell::DiagonalBilstm => (4, 1, 2),
            PixelRnnCell::RowGru => (3, 2, 3),
        };
        let features = 2 * hidden;
        let place = init.at("input");
        let shape = [gates * hidden, features, 1, seen];
        let mut input = drawn(&place, shape, features * seen, true);
        if gates == 4 {
            let mut index = 0;
            let bias: Param<Tensor<1>> = place.param("bias", [gates * hidden], |_| {
                index += 1;
                let forget = index > hidden && index <= 2 * hidden;
                f32::from(u8::from(forget))
            });
            input.bias = Some(bias);
        }
        let shape = [gates * hidden, hidden, 1, above];
        Self {
            input,
            state: drawn(&init.at("state"), shape, hidden * above, false),
            cell,
            hidden,
            channels,
        }
    }

    /// The weight of the input without what the own pixel may not show: the features of a colour
    /// see those of this colour and the ones before it.
    pub(super) fn input_weight(&self) -> Tensor<4> {
        let weight = self.input.weight.val();
        if self.channels == 1 {
            return weight;
        }
        let [_, features, _, taps] = weight.dims();
        let (hidden, channels) = (self.hidden, self.channels);
        masked(weight, taps - 1, |output, input| {
            share(input, features, channels) <= share(output % hidden, hidden, channels)
        })
    }

    /// The states `[n, hidden, h, w]` of the features `[n, 2 · hidden, h, w]`; those of diagonals come
    /// from the right where `from_right`.
    pub(super) fn states(&self, x: Tensor<4>, from_right: bool) -> Tensor<4> {
        let weight = self.input_weight();
        let (weight, columns) = match self.cell {
            PixelRnnCell::RowLstm | PixelRnnCell::RowGru => {
                let [k, features, _, _] = weight.dims();
                let right = Tensor::<4>::zeros([k, features, 1, 1], &weight.device());
                (Tensor::cat(vec![weight, right], 3), 1) // [k, 2 · hidden, 1, 3]
            }
            PixelRnnCell::DiagonalBilstm => (weight, 0),
        };
        let bias = self.input.bias.as_ref().map(Param::val);
        let options = beside(&weight, columns);
        let gates = conv2d(x, weight, bias, options); // [n, gates · hidden, h, w]
        let of_states = self.state.weight.val();
        match self.cell {
            PixelRnnCell::RowLstm => lstm(gates, of_states, Path::Rows),
            PixelRnnCell::RowGru => gru(gates, of_states, Path::Rows),
            PixelRnnCell::DiagonalBilstm => {
                let path = match from_right {
                    true => Path::FromRight,
                    false => Path::FromLeft,
                };
                lstm(gates, of_states, path)
            }
        }
    }
}
