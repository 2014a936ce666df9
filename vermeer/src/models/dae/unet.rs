//! A small U-Net without time or attention: convolutions at each size, halvings by stride, skips by
//! concatenation (Ronneberger et al., 2015). It has no code; its output is a correction of its input.

use burn::module::Module;
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{concat, enlarge};

use crate::models::autoencoder::{Nonlinearity, channels_of};
use crate::nn::{Init, Law};

/// The network `[n, C, h, w] → [n, C, h, w]`, sides divisible by 2 to the power of the levels.
#[derive(Module, Debug)]
pub struct SkipNet {
    down: Vec<Conv2d>,
    reductions: Vec<Conv2d>,
    middle: Conv2d,
    up: Vec<Conv2d>,
    out: Conv2d,
    #[module(skip)]
    activation: Nonlinearity,
}

impl SkipNet {
    /// A network of `levels` halvings whose parameters are drawn by `init`; the last convolution
    /// starts at zero, so that nothing is corrected at first.
    pub fn new(
        channels: usize,
        width: usize,
        levels: usize,
        activation: Nonlinearity,
        init: &Init,
    ) -> Self {
        let conv = |place: Init, from: usize, to: usize, stride: usize| -> Conv2d {
            place.conv2d([from, to], 3, stride, 1, true, Law::FanIn)
        };
        let mut down = vec![];
        let mut reductions = vec![];
        let mut from = channels;
        for level in 0..levels {
            let to = channels_of(width, level);
            down.push(conv(init.at("down").at(level), from, to, 1));
            reductions.push(conv(init.at("reductions").at(level), to, to, 2));
            from = to;
        }
        let middle = channels_of(width, levels);
        let mut up = vec![];
        let mut above = middle;
        for (at, level) in (0..levels).rev().enumerate() {
            let to = channels_of(width, level);
            up.push(conv(init.at("up").at(at), above + to, to, 1));
            above = to;
        }
        Self {
            down,
            reductions,
            middle: conv(init.at("middle"), from, middle, 1),
            up,
            out: init
                .at("out")
                .conv2d([above, channels], 3, 1, 1, true, Law::Zeros),
            activation,
        }
    }

    /// The correction of unit pixels for signed images `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let activation = self.activation.after_convolution();
        let mut x = x;
        let mut skips = vec![];
        for (convolution, reduction) in self.down.iter().zip(&self.reductions) {
            x = convolution.forward_then(x, activation);
            skips.push(x.clone());
            x = reduction.forward_then(x, activation); // half the size
        }
        x = self.middle.forward_then(x, activation);
        for (convolution, skip) in self.up.iter().zip(skips.into_iter().rev()) {
            let joined = concat(enlarge(x, 2), skip); // twice the size
            x = convolution.forward_then(joined, activation);
        }
        self.out.forward(x)
    }
}
