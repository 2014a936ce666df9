//! Encoder and decoder of the autoencoders with a Gaussian code: fully connected or
//! convolutional, with or without a condition beside the image and the code.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::{relu, tanh};
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d, Linear};

use crate::nn::{Init, Law};

/// The network of a VAE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaeNetwork {
    /// Two strided convolutions and one hidden layer, mirrored.
    #[default]
    Conv,
    /// Fully connected.
    Mlp,
}

/// What stands between the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x).
    #[default]
    Relu,
    /// tanh x.
    Tanh,
}

impl Activation {
    fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::Relu => relu(x),
            Activation::Tanh => tanh(x),
        }
    }
}

/// The sizes that encoder and decoder share.
pub(crate) struct Layout<'a> {
    /// Convolutional or fully connected.
    pub(crate) network: VaeNetwork,
    /// Between the layers.
    pub(crate) activation: Activation,
    /// Hidden sizes of the encoder; the decoder has them in reverse.
    pub(crate) hidden: &'a [usize],
    /// Channels of the first convolution.
    pub(crate) width: usize,
    /// Size of the code.
    pub(crate) latent: usize,
    /// Size of the condition; 0 for none.
    pub(crate) condition: usize,
    /// Channels, height, width.
    pub(crate) shape: [usize; 3],
}

impl Layout<'_> {
    /// Numbers that the dense layers of the encoder take and those of the decoder give.
    fn flat(&self) -> usize {
        let [channels, height, width] = self.shape;
        match self.network {
            VaeNetwork::Conv => 2 * self.width * (height / 4) * (width / 4),
            VaeNetwork::Mlp => channels * height * width,
        }
    }

    /// Size of the features that mean and log-variance are made of.
    pub(crate) fn features(&self) -> usize {
        let flat = self.flat() + self.condition;
        self.hidden.last().copied().unwrap_or(flat)
    }

    /// An encoder whose parameters are drawn by `init`.
    pub(crate) fn encoder(&self, init: &Init) -> Encoder {
        let (w, law, at) = (self.width, Law::FanIn, init.at("convolutions"));
        let mut sizes = vec![self.flat() + self.condition];
        sizes.extend(self.hidden.iter());
        Encoder {
            convolutions: match self.network {
                VaeNetwork::Conv => vec![
                    at.at(0).conv2d([self.shape[0], w], 4, 2, 1, true, law),
                    at.at(1).conv2d([w, 2 * w], 4, 2, 1, true, law),
                ],
                VaeNetwork::Mlp => vec![],
            },
            layers: dense(init, &sizes),
            activation: self.activation,
        }
    }

    /// A decoder whose parameters are drawn by `init`.
    pub(crate) fn decoder(&self, init: &Init) -> Decoder {
        let (w, law, at) = (self.width, Law::FanIn, init.at("convolutions"));
        let mut sizes = vec![self.latent + self.condition];
        sizes.extend(self.hidden.iter().rev());
        sizes.push(self.flat());
        Decoder {
            layers: dense(init, &sizes),
            convolutions: match self.network {
                VaeNetwork::Conv => vec![
                    at.at(0).conv_transpose2d([2 * w, w], 4, 2, 1, true, law),
                    at.at(1)
                        .conv_transpose2d([w, self.shape[0]], 4, 2, 1, true, law),
                ],
                VaeNetwork::Mlp => vec![],
            },
            shape: self.shape,
            activation: self.activation,
        }
    }
}

/// Fully connected layers between neighbouring sizes.
fn dense(init: &Init, sizes: &[usize]) -> Vec<Linear> {
    let layers = sizes.windows(2).enumerate();
    layers
        .map(|(i, s)| init.at("layers").at(i).linear(s[0], s[1], Law::FanIn))
        .collect()
}

/// Image to features.
#[derive(Module, Debug)]
pub struct Encoder {
    convolutions: Vec<Conv2d>,
    layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Encoder {
    /// `[n, channels, height, width]` and a condition `[n, size]` to features `[n, features]`; the
    /// condition joins the image, or its convolved features, before the first dense layer.
    pub fn forward(&self, x: Tensor<4>, condition: Option<Tensor<2>>) -> Tensor<2> {
        let x = self
            .convolutions
            .iter()
            .fold(x, |x, layer| self.activation.apply(layer.forward(x)));
        let h = beside(x.flatten(1, 3), condition);
        self.layers
            .iter()
            .fold(h, |h, layer| self.activation.apply(layer.forward(h)))
    }
}

/// Code to location of the pixels.
#[derive(Module, Debug)]
pub struct Decoder {
    layers: Vec<Linear>,
    convolutions: Vec<ConvTranspose2d>,
    #[module(skip)]
    shape: [usize; 3],
    #[module(skip)]
    activation: Activation,
}

impl Decoder {
    /// A code `[n, latent]` and a condition `[n, size]` to `[n, channels, height, width]`.
    pub fn forward(&self, z: Tensor<2>, condition: Option<Tensor<2>>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let mut h = beside(z, condition);
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(h);
            if i + 1 < self.layers.len() || !self.convolutions.is_empty() {
                h = self.activation.apply(h);
            }
        }
        let [first, last] = &self.convolutions[..] else {
            return h.reshape([-1, channels as i32, height as i32, width as i32]);
        };
        let h = h.reshape([
            -1,
            first.weight.dims()[0] as i32,
            (height / 4) as i32,
            (width / 4) as i32,
        ]);
        last.forward(self.activation.apply(first.forward(h))) // [n, channels, height, width]
    }
}

/// The columns of `x`, then those of the condition.
fn beside(x: Tensor<2>, condition: Option<Tensor<2>>) -> Tensor<2> {
    match condition {
        Some(condition) => Tensor::cat(vec![x, condition], 1),
        None => x,
    }
}
