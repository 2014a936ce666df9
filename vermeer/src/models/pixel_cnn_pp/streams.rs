//! The parts of the network: causal convolutions, gated residual blocks, and the steps between
//! scales of its two streams.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::prelude::*;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};
use vermeer_kernels::{Algorithm, ConvOptions, add, add_to_pixels, both_elu, concat, linear_gate};

use crate::nn::Init;

/// Kernel of the stream that sees the rows above: a row and the one before it, a column to
/// either side.
pub(super) const ABOVE: [usize; 2] = [2, 3];

/// Kernel of the stream that also sees what is on the left in its row: a row and a column, and the
/// ones before them.
pub(super) const BEFORE: [usize; 2] = [2, 2];

/// Sizes of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Channels of a stream.
    pub(super) width: usize,
    /// Classes it is told; 0 for none.
    pub(super) classes: usize,
}

/// Uniform in ±`gain`/√`fan_in`.
fn parameter<const D: usize>(
    place: &Init,
    name: &str,
    shape: [usize; D],
    fan_in: usize,
    gain: f32,
) -> Param<Tensor<D>> {
    let bound = gain / (fan_in.max(1) as f32).sqrt();
    place.param(name, shape, |random| (2.0 * random.uniform() - 1.0) * bound)
}

/// A convolution whose kernel ends at its pixel: in its row and, if two columns wide, in its
/// column; three columns lie around it: `[n, c, h, w] → [n, k, h / stride, w / stride]`. Its sums are
/// those of the definition, since a faster algorithm would let rounding errors of later pixels through.
pub(super) fn causal(
    place: &Init,
    [inputs, outputs]: [usize; 2],
    [kh, kw]: [usize; 2],
    stride: usize,
    gain: f32,
) -> Conv2d {
    let fan_in = inputs * kh * kw;
    Conv2d {
        weight: parameter(place, "weight", [outputs, inputs, kh, kw], fan_in, gain),
        bias: Some(parameter(place, "bias", [outputs], fan_in, gain)),
        options: ConvOptions {
            stride: [stride; 2],
            padding: [kh - 1, kw / 2],
            algorithm: Algorithm::Direct,
            keep_size: true,
            ..ConvOptions::default()
        },
    }
}

/// A convolution of single pixels.
pub(super) fn pixelwise(place: &Init, [inputs, outputs]: [usize; 2], bias: bool) -> Conv2d {
    Conv2d {
        weight: parameter(place, "weight", [outputs, inputs, 1, 1], inputs, 1.0),
        bias: bias.then(|| parameter(place, "bias", [outputs], inputs, 1.0)),
        options: ConvOptions::default(),
    }
}

/// The images one row lower, zeros above.
pub(super) fn lower(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let zeros = Tensor::zeros([n, c, 1, w], &x.device());
    match h {
        1 => zeros,
        _ => Tensor::cat(vec![zeros, x.narrow(2, 0, h - 1)], 2),
    }
}

/// The images one column further right, zeros on the left.
pub(super) fn further(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let zeros = Tensor::zeros([n, c, h, 1], &x.device());
    match w {
        1 => zeros,
        _ => Tensor::cat(vec![zeros, x.narrow(3, 0, w - 1)], 3),
    }
}

/// A gated residual block: two causal convolutions behind elu, what another layer saw added
/// between them, and x + a · σ(b) with the halves a and b of the result.
#[derive(Module, Debug)]
pub(super) struct Gated {
    pub(super) first: Conv2d,
    pub(super) skip: Option<Conv2d>,
    pub(super) second: Conv2d,
    pub(super) label: Option<Embedding>,
}

impl Gated {
    /// A block that is told of `told` channels from elsewhere, 0 for none. Its second convolution
    /// starts at a tenth of its size, so that the block starts near the identity.
    fn new(place: &Init, sizes: Sizes, kernel: [usize; 2], told: usize) -> Self {
        let width = sizes.width;
        let table = |classes: usize| {
            let place = place.at("label");
            Embedding {
                weight: place.param("weight", [classes, 2 * width], |random| {
                    0.05 * random.normal()
                }),
            }
        };
        Self {
            first: causal(&place.at("first"), [2 * width, width], kernel, 1, 1.0),
            skip: (told > 0).then(|| pixelwise(&place.at("skip"), [2 * told, width], false)),
            second: causal(&place.at("second"), [2 * width, 2 * width], kernel, 1, 0.1),
            label: (sizes.classes > 0).then(|| table(sizes.classes)),
        }
    }

    /// `[n, width, h, w]` after the block.
    fn forward(
        &self,
        x: Tensor<4>,
        told: Option<Tensor<4>>,
        labels: Option<&Tensor<1, Int>>,
    ) -> Tensor<4> {
        let mut y = self.first.forward(both_elu(x.clone()));
        if let (Some(layer), Some(told)) = (&self.skip, told) {
            y = add(y, layer.forward(both_elu(told)));
        }
        let mut y = self.second.forward(both_elu(y)); // [n, 2 · width, h, w]
        if let (Some(table), Some(labels)) = (&self.label, labels) {
            y = add_to_pixels(y, table.weight.val().select(0, labels.clone()));
        }
        add(x, linear_gate(y))
    }
}

/// Both streams at half the size.
#[derive(Module, Debug)]
pub(super) struct Shrink {
    pub(super) above: Conv2d,
    pub(super) before: Conv2d,
}

/// Both streams at twice the size.
#[derive(Module, Debug)]
pub(super) struct Enlarge {
    pub(super) above: ConvTranspose2d,
    pub(super) before: ConvTranspose2d,
}

/// The blocks of a scale on the way down, and the step that leads there.
#[derive(Module, Debug)]
pub(super) struct Down {
    pub(super) shrink: Option<Shrink>,
    pub(super) above: Vec<Gated>,
    pub(super) before: Vec<Gated>,
}

/// The blocks of a scale on the way up, and the step that leads there.
#[derive(Module, Debug)]
pub(super) struct Up {
    pub(super) enlarge: Option<Enlarge>,
    pub(super) above: Vec<Gated>,
    pub(super) before: Vec<Gated>,
}

impl Down {
    /// Scale `scale` of the way down, 0 being the size of the images.
    pub(super) fn new(place: &Init, sizes: Sizes, scale: usize, blocks: usize) -> Self {
        let width = sizes.width;
        let shrink = |place: Init| Shrink {
            above: causal(&place.at("above"), [width, width], ABOVE, 2, 1.0),
            before: causal(&place.at("before"), [width, width], BEFORE, 2, 1.0),
        };
        let (above, before) = (place.at("above"), place.at("before"));
        Self {
            shrink: (scale > 0).then(|| shrink(place.at("shrink"))),
            above: (0..blocks)
                .map(|i| Gated::new(&above.at(i), sizes, ABOVE, 0))
                .collect(),
            before: (0..blocks)
                .map(|i| Gated::new(&before.at(i), sizes, BEFORE, width))
                .collect(),
        }
    }
}

impl Up {
    /// Step `step` of the way up, 0 being the smallest scale.
    pub(super) fn new(place: &Init, sizes: Sizes, step: usize, blocks: usize) -> Self {
        let width = sizes.width;
        let layer = |place: Init, [kh, kw]: [usize; 2]| ConvTranspose2d {
            weight: parameter(&place, "weight", [width, width, kh, kw], width, 1.0),
            bias: Some(parameter(&place, "bias", [width], width, 1.0)),
            options: ConvOptions {
                stride: [2; 2],
                padding: [0, (kw - 1) / 2],
                algorithm: Algorithm::Direct,
                ..ConvOptions::default()
            },
            // Three columns leave one too few, two none.
            padding_out: [0, (kw - 1) / 2],
        };
        let enlarge = |place: Init| Enlarge {
            above: layer(place.at("above"), ABOVE),
            before: layer(place.at("before"), BEFORE),
        };
        let (above, before) = (place.at("above"), place.at("before"));
        Self {
            enlarge: (step > 0).then(|| enlarge(place.at("enlarge"))),
            above: (0..blocks)
                .map(|i| Gated::new(&above.at(i), sizes, ABOVE, width))
                .collect(),
            before: (0..blocks)
                .map(|i| Gated::new(&before.at(i), sizes, BEFORE, 2 * width))
                .collect(),
        }
    }
}

/// The features of the stream that also sees its row, `[n, width, h, w]`, after the way down and
/// up from the first features of both.
pub(super) fn pass(
    down: &[Down],
    up: &[Up],
    [mut above, mut before]: [Tensor<4>; 2],
    labels: Option<&Tensor<1, Int>>,
) -> Tensor<4> {
    let mut seen: Vec<[Tensor<4>; 2]> = vec![];
    for scale in down {
        if let Some(shrink) = &scale.shrink {
            above = shrink.above.forward(above);
            before = shrink.before.forward(before);
        }
        seen.push([above.clone(), before.clone()]);
        for (to_above, to_before) in scale.above.iter().zip(&scale.before) {
            above = to_above.forward(above, None, labels);
            before = to_before.forward(before, Some(above.clone()), labels);
            seen.push([above.clone(), before.clone()]);
        }
    }
    let mut seen = seen.into_iter().rev().skip(1); // the last ones are where the way up starts
    for scale in up {
        if let Some(enlarge) = &scale.enlarge {
            above = enlarge.above.forward(above);
            before = enlarge.before.forward(before);
        }
        let blocks = scale.above.iter().zip(&scale.before);
        for ((to_above, to_before), [skip_above, skip_before]) in blocks.zip(seen.by_ref()) {
            above = to_above.forward(above, Some(skip_above), labels);
            let told = concat(above.clone(), skip_before);
            before = to_before.forward(before, Some(told), labels);
        }
    }
    before
}
