//! The network: a masked convolution, recurrent layers with residual connections, and three
//! pointwise layers that end in the logits.

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, Then, add, add_to_pixels, conv2d, conv2d_then};

use super::recurrence::{Recurrence, beside, drawn, masked, share};
use super::stepper::PixelRnnStepper;
use super::{PixelRnnCell, PixelRnnConfig};
use crate::autoregressive::{Autoregressive, Stepper, class_numbers, outputs_of};
use crate::models::vae::Binarise;
use crate::nn::{Init, Law};
use crate::registry::DataSpec;

/// Rows of the first convolution: a 7×7 kernel without the rows below the pixel.
pub(super) const STEM_ROWS: usize = 4;

/// Columns of the first convolution.
pub(super) const STEM_COLUMNS: usize = 7;

/// The tap of the pixel itself, counted row by row.
const STEM_OWN: usize = (STEM_ROWS - 1) * STEM_COLUMNS + STEM_COLUMNS / 2;

/// A recurrent layer: one direction, or two for diagonals, and the way back to the features.
#[derive(Module, Debug)]
pub(super) struct Layer {
    pub(super) directions: Vec<Recurrence>,
    pub(super) up: Conv2d,
}

/// The network of the family.
#[derive(Module, Debug)]
pub struct PixelRnnNet {
    pub(super) stem: Conv2d,
    pub(super) label: Option<Embedding>,
    pub(super) layers: Vec<Layer>,
    pub(super) head: Vec<Conv2d>,
    #[module(skip)]
    pub(super) config: PixelRnnConfig,
    #[module(skip)]
    pub(super) spec: DataSpec,
}

impl PixelRnnNet {
    /// A network whose parameters are drawn by `init`.
    pub(super) fn new(config: &PixelRnnConfig, spec: &DataSpec, init: &Init) -> Self {
        let (channels, hidden, head) = (spec.channels, config.hidden, config.head);
        let features = 2 * hidden;
        let law = Law::FanIn;
        let directions = match config.cell {
            PixelRnnCell::DiagonalBilstm => 2,
            PixelRnnCell::RowLstm | PixelRnnCell::RowGru => 1,
        };
        let layer = |place: Init| Layer {
            directions: (0..directions)
                .map(|i| {
                    Recurrence::new(config.cell, hidden, channels, &place.at("directions").at(i))
                })
                .collect(),
            up: place
                .at("up")
                .conv2d([hidden, features], 1, 1, 0, true, law),
        };
        let layers = init.at("layers");
        let last = init.at("head");
        let sizes = [features, head, head, channels * outputs_of(config.levels)];
        let stem = [features, channels, STEM_ROWS, STEM_COLUMNS];
        let pointwise = sizes.windows(2).enumerate();
        Self {
            stem: drawn(&init.at("stem"), stem, STEM_OWN * channels, true),
            label: config
                .conditional
                .then(|| init.at("label").embedding(spec.classes.len(), features)),
            layers: (0..config.layers).map(|i| layer(layers.at(i))).collect(),
            head: pointwise
                .map(|(i, s)| last.at(i).conv2d([s[0], s[1]], 1, 1, 0, true, law))
                .collect(),
            config: config.clone(),
            spec: spec.clone(),
        }
    }

    /// The first convolution cut to what is before a sub-pixel: the features of a colour see the
    /// colours before it of their own pixel.
    pub(super) fn stem_weight(&self) -> Tensor<4> {
        let weight = self.stem.weight.val();
        let [features, channels, _, _] = weight.dims();
        masked(weight, STEM_OWN, |output, input| {
            input < share(output, features, channels)
        })
    }

    /// The weight of a pointwise layer, whose features of a colour see those of this colour and
    /// the ones before it.
    pub(super) fn pointwise_weight(&self, layer: &Conv2d) -> Tensor<4> {
        let weight = layer.weight.val();
        let channels = self.spec.channels;
        if channels == 1 {
            return weight;
        }
        let [outputs, inputs, _, _] = weight.dims();
        masked(weight, 0, |output, input| {
            share(input, inputs, channels) <= share(output, outputs, channels)
        })
    }

    /// Values of sub-pixels as the network reads them are multiplied by this.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.config.levels - 1) as f32
    }

    /// The first features `[n, 2 · hidden, h, w]` of values `[n, c, h, w]`.
    fn features(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<4> {
        let [n, c, _, w] = x.dims();
        let device = x.device();
        let weight = self.stem_weight();
        let bias = self.stem.bias.as_ref().map(|bias| bias.val());
        let above = Tensor::<4>::zeros([n, c, STEM_ROWS - 1, w], &device);
        let seen = Tensor::cat(vec![above, x.mul_scalar(self.scale())], 2);
        let options = beside(&weight, STEM_COLUMNS / 2);
        let y = conv2d(seen, weight, bias, options);
        match (&self.label, class_numbers(self, labels, n, &device)) {
            (Some(table), Some(labels)) => {
                add_to_pixels(y, table.weight.val().select(0, labels)) // [n, 2 · hidden]
            }
            _ => y,
        }
    }

    /// A layer on the features `[n, 2 · hidden, h, w]`. States from the right are moved down by a row,
    /// which leaves the first one zero: what they saw to the right is then known.
    fn recur(&self, layer: &Layer, x: Tensor<4>) -> Tensor<4> {
        let [_, _, h, _] = x.dims();
        let states = layer.directions.iter().enumerate().map(|(i, direction)| {
            let states = direction.states(x.clone(), i > 0);
            if i == 0 {
                return states;
            }
            let [n, hidden, _, w] = states.dims();
            let first = Tensor::<4>::zeros([n, hidden, 1, w], &states.device());
            Tensor::cat(vec![first, states], 2).narrow(2, 0, h)
        });
        let Some(states) = states.reduce(add) else {
            return x;
        };
        let bias = layer.up.bias.as_ref().map(|bias| bias.val());
        let then = Then {
            residual: Some(x),
            ..Then::default()
        };
        let weight = self.pointwise_weight(&layer.up);
        conv2d_then(states, weight, bias, ConvOptions::default(), then)
    }

    /// The logits `[n, c · k, h, w]` of the last features; the logits of a colour are neighbours.
    fn logits(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = x;
        for (i, layer) in self.head.iter().enumerate() {
            let then = match i + 1 < self.head.len() {
                true => Activation::Relu,
                false => Activation::Identity,
            };
            let bias = layer.bias.as_ref().map(|bias| bias.val());
            x = conv2d_then(
                x,
                self.pointwise_weight(layer),
                bias,
                ConvOptions::default(),
                Then::from(then),
            );
        }
        x
    }
}

impl Autoregressive for PixelRnnNet {
    const ID: &'static str = "pixel-rnn";

    fn spec(&self) -> &DataSpec {
        &self.spec
    }

    fn levels(&self) -> usize {
        self.config.levels
    }

    fn binarise(&self) -> Binarise {
        self.config.binarise
    }

    fn conditional(&self) -> bool {
        self.config.conditional
    }

    fn outputs(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5> {
        let [n, c, h, w] = x.dims();
        let x = self.features(x, labels);
        let layers = self.layers.iter();
        let features = layers.fold(x, |x, layer| self.recur(layer, x));
        let k = outputs_of(self.config.levels);
        self.logits(features)
            .reshape([n, c, k, h, w])
            .swap_dims(1, 2) // [n, k, c, h, w]
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(PixelRnnStepper::new(self, n, labels))
    }
}
