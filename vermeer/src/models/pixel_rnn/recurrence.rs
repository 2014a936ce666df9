//! A recurrent layer in one direction: its weights, and the states of all lines.

use burn::module::{Module, Param};
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::recurrent::{gru_state, lstm_memory, lstm_state};
use vermeer_kernels::{Algorithm, ConvOptions, add, concat, conv2d};

use super::PixelRnnCell;
use super::path::Line;
use crate::nn::Init;
use crate::random::Stream;

/// A convolution of `weight` along a line with a zero at both ends. In training it may be computed
/// by a filter, whose rounding lets a trace of what a zero tap hides through; in use it may not.
fn beside(weight: &Tensor<4>) -> ConvOptions {
    ConvOptions {
        padding: [0, 1],
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

    fn bias(&self) -> Option<Tensor<1>> {
        self.input.bias.as_ref().map(Param::val)
    }

    /// The states `[n, hidden, 1, w]` of the rows `[n, 2 · hidden, 1, w]`.
    pub(super) fn rows(&self, lines: &[Tensor<4>]) -> Vec<Tensor<4>> {
        let weight = self.input_weight();
        let [k, _, _, _] = weight.dims();
        let right = Tensor::<4>::zeros([k, 2 * self.hidden, 1, 1], &weight.device());
        let weight = Tensor::cat(vec![weight, right], 3); // [k, 2 · hidden, 1, 3]
        match self.cell {
            PixelRnnCell::RowGru => self.gru_rows(lines, weight),
            PixelRnnCell::RowLstm | PixelRnnCell::DiagonalBilstm => self.lstm_rows(lines, weight),
        }
    }

    /// One convolution gives the gates of a row: of its features and the states above together.
    fn lstm_rows(&self, lines: &[Tensor<4>], weight: Tensor<4>) -> Vec<Tensor<4>> {
        let both = Tensor::cat(vec![weight.clone(), self.state.weight.val()], 1);
        let mut states: Vec<Tensor<4>> = Vec::with_capacity(lines.len());
        let mut memory: Option<Tensor<4>> = None;
        for line in lines {
            let [n, _, _, w] = line.dims();
            let gates = match states.last() {
                Some(above) => {
                    let seen = concat(line.clone(), above.clone()); // [n, 3 · hidden, 1, w]
                    conv2d(seen, both.clone(), self.bias(), beside(&both))
                }
                None => conv2d(line.clone(), weight.clone(), self.bias(), beside(&weight)),
            };
            let before = match memory {
                Some(memory) => memory,
                None => Tensor::zeros([n, self.hidden, 1, w], &line.device()),
            };
            let new = lstm_memory(gates.clone(), before);
            states.push(lstm_state(gates, new.clone()));
            memory = Some(new);
        }
        states
    }

    fn gru_rows(&self, lines: &[Tensor<4>], weight: Tensor<4>) -> Vec<Tensor<4>> {
        let state = self.state.weight.val();
        let mut states: Vec<Tensor<4>> = Vec::with_capacity(lines.len());
        for line in lines {
            let [n, _, _, w] = line.dims();
            let a = conv2d(line.clone(), weight.clone(), self.bias(), beside(&weight));
            let (b, before) = match states.last() {
                Some(above) => {
                    let b = conv2d(above.clone(), state.clone(), None, beside(&state));
                    (b, above.clone())
                }
                None => (
                    Tensor::zeros([n, 3 * self.hidden, 1, w], &line.device()),
                    Tensor::zeros([n, self.hidden, 1, w], &line.device()),
                ),
            };
            states.push(gru_state(a, b, before));
        }
        states
    }

    /// The states `[n, hidden, 1, len]` of the diagonals `[n, 2 · hidden, 1, len]`, which `spans`
    /// places. A state sees the one above and the one beside, whose memory it goes on with; both
    /// are on the diagonal before. Outside the image states and memory are zero.
    pub(super) fn diagonals(&self, lines: &[Tensor<4>], spans: &[Line]) -> Vec<Tensor<4>> {
        let weight = self.input_weight();
        let of_states = self.state.weight.val();
        let mut states: Vec<Tensor<4>> = Vec::with_capacity(lines.len());
        let mut before: Option<(Tensor<4>, Line)> = None;
        for (line, span) in lines.iter().zip(spans) {
            let [n, _, _, len] = line.dims();
            let own = conv2d(
                line.clone(),
                weight.clone(),
                self.bias(),
                ConvOptions::default(),
            );
            let (gates, memory) = match (before, states.last()) {
                (Some((memory, above)), Some(state)) => {
                    let skip = span.first - above.first;
                    // Of the rows `above.first..=above.end()`.
                    let seen = conv2d(state.clone(), of_states.clone(), None, beside(&of_states));
                    let gates = add(own, seen.narrow(3, skip, len));
                    let memory = match above.end() < span.end() {
                        true => {
                            let outside = Tensor::zeros([n, self.hidden, 1, 1], &memory.device());
                            Tensor::cat(vec![memory, outside], 3)
                        }
                        false => memory,
                    };
                    (gates, memory.narrow(3, skip, len))
                }
                _ => (own, Tensor::zeros([n, self.hidden, 1, len], &line.device())),
            };
            let new = lstm_memory(gates.clone(), memory);
            states.push(lstm_state(gates, new.clone()));
            before = Some((new, *span));
        }
        states
    }
}
