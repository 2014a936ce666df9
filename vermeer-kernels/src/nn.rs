//! Layers with the fields of Burn's, so that weights keep their names.

use burn::module::{Module, Param};
use burn::prelude::*;

use crate::{ConvOptions, conv_transpose2d, conv2d};

/// A convolution; see [`conv2d`].
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
        let bias = self.bias.as_ref().map(Param::val);
        conv2d(x, self.weight.val(), bias, self.options)
    }
}

/// A transposed convolution; see [`conv_transpose2d`].
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
        let bias = self.bias.as_ref().map(Param::val);
        conv_transpose2d(x, self.weight.val(), bias, self.options, self.padding_out)
    }
}
