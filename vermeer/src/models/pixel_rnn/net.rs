//! The network: a masked convolution, recurrent layers with residual connections, and three
//! pointwise layers that end in the logits.

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, Then, add, add_to_pixels, conv2d, conv2d_then};

use super::path::Sweep;
use super::recurrence::{Recurrence, drawn, masked, share};
use super::stepper::PixelRnnStepper;
use super::{PixelRnnCell, PixelRnnConfig};
use crate::autoregressive::{Autoregressive, Stepper, outputs_of};
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

    /// The rows of the first features, each `[n, 2 · hidden, 1, w]`, of values `[n, c, h, w]`.
    fn rows(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Vec<Tensor<4>> {
        let [n, c, h, w] = x.dims();
        let device = x.device();
        let weight = self.stem_weight();
        let bias = self.stem.bias.as_ref().map(|bias| bias.val());
        let options = ConvOptions {
            padding: [0, STEM_COLUMNS / 2],
            ..ConvOptions::default()
        };
        let of_class = match (&self.label, labels) {
            (Some(table), Some(labels)) => {
                let labels: Vec<i64> = labels.iter().map(|label| i64::from(*label)).collect();
                let labels = Tensor::<1, Int>::from_ints(&labels[..], &device);
                Some(table.weight.val().select(0, labels)) // [n, 2 · hidden]
            }
            _ => None,
        };
        let above = Tensor::<4>::zeros([n, c, STEM_ROWS - 1, w], &device);
        let x = Tensor::cat(vec![above, x.mul_scalar(self.scale())], 2);
        let row = |y: usize| {
            let seen = x.clone().narrow(2, y, STEM_ROWS);
            let row = conv2d(seen, weight.clone(), bias.clone(), options);
            match &of_class {
                Some(of_class) => add_to_pixels(row, of_class.clone()),
                None => row,
            }
        };
        (0..h).map(row).collect()
    }

    /// A layer on rows.
    fn on_rows(&self, layer: &Layer, rows: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let Some(direction) = layer.directions.first() else {
            return rows;
        };
        let states = direction.rows(&rows);
        let weight = self.pointwise_weight(&layer.up);
        let sum = |(row, state): (Tensor<4>, Tensor<4>)| {
            add(row, self.pointwise(&layer.up, weight.clone(), state))
        };
        rows.into_iter().zip(states).map(sum).collect()
    }

    /// A layer on images, of which each direction makes its sweep.
    fn on_images(&self, layer: &Layer, sweeps: &[Sweep], x: Tensor<4>) -> Tensor<4> {
        let states = layer
            .directions
            .iter()
            .zip(sweeps)
            .map(|(direction, sweep)| {
                let lines = sweep.cut(x.clone());
                sweep.join(direction.diagonals(&lines, &sweep.lines))
            });
        match states.reduce(add) {
            Some(states) => {
                let weight = self.pointwise_weight(&layer.up);
                add(x, self.pointwise(&layer.up, weight, states))
            }
            None => x,
        }
    }

    fn pointwise(&self, layer: &Conv2d, weight: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        conv2d(x, weight, bias, ConvOptions::default())
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
        let mut rows = self.rows(x, labels);
        let features = match self.config.cell {
            PixelRnnCell::RowLstm | PixelRnnCell::RowGru => {
                for layer in &self.layers {
                    rows = self.on_rows(layer, rows);
                }
                Tensor::cat(rows, 2)
            }
            PixelRnnCell::DiagonalBilstm => {
                let sweeps = [Sweep::new(h, w, false), Sweep::new(h, w, true)];
                let x = Tensor::cat(rows, 2);
                let layers = self.layers.iter();
                layers.fold(x, |x, layer| self.on_images(layer, &sweeps, x))
            }
        };
        let k = outputs_of(self.config.levels);
        self.logits(features)
            .reshape([n, c, k, h, w])
            .swap_dims(1, 2) // [n, k, c, h, w]
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(PixelRnnStepper::new(self, n, labels))
    }
}
