//! A gated layer of causal convolutions.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Algorithm, ConvOptions, Then, add_to_pixels, conv2d, gate};

use crate::nn::{Init, Law};

/// Standard deviation of the vectors of positions and classes at the start, a tenth of that of the
/// values.
const TABLE_STD: f32 = 0.1;

/// A table of `rows` vectors of `size` numbers that are small at the start.
pub(super) fn table(init: &Init, rows: usize, size: usize) -> Embedding {
    Embedding {
        weight: init.param("weight", [rows, size], |random| random.normal() * TABLE_STD),
    }
}

/// A convolution of the features at hand and those one `dilation` before.
#[derive(Module, Debug)]
pub(super) struct CausalConv {
    /// `[outputs, inputs, 1, 2]`: the one before, the one at hand.
    pub(super) weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub(super) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) dilation: usize,
}

impl CausalConv {
    /// Weights and biases are uniform within one over the root of the inputs of an output.
    fn init([inputs, outputs]: [usize; 2], dilation: usize, init: &Init) -> Self {
        let bound = 1.0 / ((2 * inputs) as f32).sqrt();
        Self {
            weight: init.param("weight", [outputs, inputs, 1, 2], |random| {
                (2.0 * random.uniform() - 1.0) * bound
            }),
            bias: init.param("bias", [outputs], |random| {
                (2.0 * random.uniform() - 1.0) * bound
            }),
            dilation,
        }
    }

    /// `[n, inputs, 1, t] → [n, outputs, 1, t]`, with zeros before the first features.
    ///
    /// The products are those of the definition: no bit of what comes after arrives.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions {
            padding: [0, self.dilation],
            dilation: [1, self.dilation],
            algorithm: Algorithm::Direct,
            keep_size: true,
            ..ConvOptions::default()
        };
        conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }
}

/// A gated layer; the last one of a network passes nothing on to a next.
#[derive(Module, Debug)]
pub(super) struct Layer {
    /// The filter's features, then the gate's.
    pub(super) gates: CausalConv,
    /// What each class adds to them.
    pub(super) class: Option<Embedding>,
    pub(super) residual: Option<Conv2d>,
    pub(super) skip: Conv2d,
}

impl Layer {
    /// A layer between `width` features that gives `skip` to the sum, for so many classes where
    /// there are any.
    pub(super) fn init(
        [width, skip]: [usize; 2],
        dilation: usize,
        classes: Option<usize>,
        is_last: bool,
        init: &Init,
    ) -> Self {
        let conv = |name: &str, outputs: usize| {
            let place = init.at(name);
            place.conv2d([width, outputs], 1, 1, 0, true, Law::FanIn)
        };
        Self {
            gates: CausalConv::init([width, 2 * width], dilation, &init.at("gates")),
            class: classes.map(|classes| table(&init.at("class"), classes, 2 * width)),
            residual: (!is_last).then(|| conv("residual", width)),
            skip: conv("skip", skip),
        }
    }

    /// The next layer's features and the sum of the skips so far with this layer's,
    /// `[n, skip, 1, t]`, of features `h` `[n, width, 1, t]`.
    pub(super) fn forward(
        &self,
        h: Tensor<4>,
        sum: Option<Tensor<4>>,
        labels: Option<&Tensor<1, Int>>,
    ) -> (Tensor<4>, Tensor<4>) {
        let gates = self.gates.forward(h.clone()); // [n, 2 · width, 1, t]
        let gates = match (&self.class, labels) {
            (Some(table), Some(labels)) => {
                add_to_pixels(gates, table.weight.val().select(0, labels.clone()))
            }
            _ => gates,
        };
        let z = gate(gates); // [n, width, 1, t]
        let plus = |residual: Option<Tensor<4>>| Then {
            residual,
            ..Then::default()
        };
        let sum = self.skip.forward_then(z.clone(), plus(sum));
        let h = match &self.residual {
            Some(residual) => residual.forward_then(z, plus(Some(h))),
            None => h,
        };
        (h, sum)
    }
}
