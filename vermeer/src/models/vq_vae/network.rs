//! Encoder and decoder of a VQ-VAE: strided convolutions, residual blocks, and the same mirrored.

use burn::module::Module;
use burn::prelude::*;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};
use vermeer_kernels::{Activation, Then, leaky_relu};

use super::VqVaeConfig;
use crate::nn::{Init, Law};

/// Two convolutions around the rest of a network, plus the input.
#[derive(Module, Debug)]
pub(super) struct Residual {
    wide: Conv2d,
    back: Conv2d,
}

impl Residual {
    fn new(config: &VqVaeConfig, init: &Init) -> Self {
        let (width, inner) = (config.width, config.residual_width);
        Self {
            wide: init
                .at("wide")
                .conv2d([width, inner], 3, 1, 1, true, Law::FanIn),
            back: init
                .at("back")
                .conv2d([inner, width], 1, 1, 0, true, Law::FanIn),
        }
    }

    /// `[n, width, h, w] → [n, width, h, w]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self
            .wide
            .forward_then(leaky_relu(x.clone(), 0.0), Activation::Relu);
        let then = Then {
            residual: Some(x),
            ..Then::default()
        };
        self.back.forward_then(h, then)
    }
}

/// Channels after each halving of the sides: half the width after the first of several.
fn channels(config: &VqVaeConfig) -> Vec<usize> {
    let halvings = config.downsampling.ilog2() as usize;
    let width = |i: usize| match i == 0 && halvings > 1 {
        true => config.width / 2,
        false => config.width,
    };
    (0..halvings).map(width).collect()
}

fn residuals(config: &VqVaeConfig, init: &Init) -> Vec<Residual> {
    (0..config.residual_blocks)
        .map(|i| Residual::new(config, &init.at("residuals").at(i)))
        .collect()
}

/// Images to vectors, one for each place of a smaller map.
#[derive(Module, Debug)]
pub(super) struct Encoder {
    convolutions: Vec<Conv2d>,
    middle: Conv2d,
    residuals: Vec<Residual>,
    out: Conv2d,
}

impl Encoder {
    /// An encoder of images of `colours` channels, its parameters drawn by `init`.
    pub(super) fn new(config: &VqVaeConfig, colours: usize, init: &Init) -> Self {
        let (width, law) = (config.width, Law::FanIn);
        let place = init.at("convolutions");
        let mut from = colours;
        let mut convolutions = vec![];
        for (i, to) in channels(config).into_iter().enumerate() {
            convolutions.push(place.at(i).conv2d([from, to], 4, 2, 1, true, law));
            from = to;
        }
        Self {
            convolutions,
            middle: init.at("middle").conv2d([from, width], 3, 1, 1, true, law),
            residuals: residuals(config, init),
            out: init
                .at("out")
                .conv2d([width, config.code_size], 1, 1, 0, true, law),
        }
    }

    /// Images `[n, channels, h, w]` about zero to vectors `[n, code_size, h / f, w / f]`.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.convolutions.iter().fold(x, |x, convolution| {
            convolution.forward_then(x, Activation::Relu)
        });
        let x = self.middle.forward(x); // [n, width, h / f, w / f]
        let x = self.residuals.iter().fold(x, |x, block| block.forward(x));
        self.out.forward(leaky_relu(x, 0.0))
    }
}

/// Codes to images.
#[derive(Module, Debug)]
pub(super) struct Decoder {
    middle: Conv2d,
    residuals: Vec<Residual>,
    convolutions: Vec<ConvTranspose2d>,
}

impl Decoder {
    /// A decoder to images of `colours` channels, its parameters drawn by `init`.
    pub(super) fn new(config: &VqVaeConfig, colours: usize, init: &Init) -> Self {
        let (width, law) = (config.width, Law::FanIn);
        let place = init.at("convolutions");
        // The encoder's channels from the map to the image.
        let mut sizes = channels(config);
        sizes.insert(0, colours);
        sizes.reverse();
        let convolutions = sizes.windows(2).enumerate().map(|(i, pair)| {
            place
                .at(i)
                .conv_transpose2d([pair[0], pair[1]], 4, 2, 1, true, law)
        });
        Self {
            middle: init
                .at("middle")
                .conv2d([config.code_size, width], 3, 1, 1, true, law),
            residuals: residuals(config, init),
            convolutions: convolutions.collect(),
        }
    }

    /// Codes `[n, code_size, h / f, w / f]` to images `[n, channels, h, w]` about zero.
    pub(super) fn forward(&self, codes: Tensor<4>) -> Tensor<4> {
        let x = self.middle.forward(codes);
        let x = self.residuals.iter().fold(x, |x, block| block.forward(x));
        let mut x = leaky_relu(x, 0.0);
        let last = self.convolutions.len() - 1;
        for (i, convolution) in self.convolutions.iter().enumerate() {
            // twice the sides
            x = match i < last {
                true => convolution.forward_then(x, Activation::Relu),
                false => convolution.forward(x),
            };
        }
        x
    }
}
