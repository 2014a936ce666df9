//! Layers with the fields of Burn's, so that weights keep their names.

use burn::module::{Module, Param};
use burn::prelude::*;
use burn::tensor::module;

use crate::group_norm::GroupNormalisation;
use crate::operations;
use crate::{Activation, ConvOptions, Then, conv_transpose2d_then, conv2d_then, group_norm};

/// A convolution; see [`crate::conv2d`].
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[k, c / groups, kh, kw]`.
    pub weight: Param<Tensor<4>>,
    /// `[k]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// How the kernel moves.
    #[module(skip)]
    pub options: ConvOptions,
}

impl Conv2d {
    /// `[n, c, h, w] → [n, k, oh, ow]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, Then::default())
    }

    /// As [`Conv2d::forward`], and what follows.
    pub fn forward_then(&self, x: Tensor<4>, then: impl Into<Then>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        conv2d_then(x, self.weight.val(), bias, self.options, then.into())
    }
}

/// A fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `[…, inputs] → […, outputs]`.
    ///
    /// # Panics
    /// When the last axis of `x` is not the number of inputs.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let rows: usize = x.dims()[..D - 1].iter().product();
        let [inputs, outputs] = weight.dims();
        operations::add(&[rows, inputs, outputs]);
        module::linear(x, weight, self.bias.as_ref().map(Param::val))
    }
}

/// A transposed convolution; see [`crate::conv_transpose2d`].
#[derive(Module, Debug)]
pub struct ConvTranspose2d {
    /// `[in, out / groups, kh, kw]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// How the kernel moves.
    #[module(skip)]
    pub options: ConvOptions,
    /// Rows and columns added to the result at the bottom and on the right.
    #[module(skip)]
    pub padding_out: [usize; 2],
}

impl ConvTranspose2d {
    /// `[n, in, h, w] → [n, out, oh, ow]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, Then::default())
    }

    /// As [`ConvTranspose2d::forward`], and what follows.
    pub fn forward_then(&self, x: Tensor<4>, then: impl Into<Then>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.as_ref().map(Param::val));
        let (options, out) = (self.options, self.padding_out);
        conv_transpose2d_then(x, weight, bias, options, out, then.into())
    }
}

/// Group normalisation with scale and shift; see [`group_norm()`].
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// Scale, `[c]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[c]`.
    pub beta: Param<Tensor<1>>,
    /// Groups of neighbouring channels.
    #[module(skip)]
    pub groups: usize,
    /// Added to the variance.
    #[module(skip)]
    pub epsilon: f64,
}

impl GroupNorm {
    /// `[n, c, h, w]` normalised.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, Activation::Identity)
    }

    /// As [`GroupNorm::forward`], and what follows: nothing, ReLU, leaky ReLU or SiLU.
    ///
    /// # Panics
    /// For any other activation.
    pub fn forward_then(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let options = GroupNormalisation {
            groups: self.groups,
            epsilon: self.epsilon as f32,
            activation,
        };
        group_norm(x, [self.gamma.val(), self.beta.val()], options)
    }
}
