//! Convolutions that see only what comes before a sub-pixel, with the taps of the mask that live as
//! their parameters.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Algorithm, ConvOptions, Then, conv2d_then};

use crate::nn::Init;

/// What a convolution sees of the pixel in its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// The channels before a feature's own: the first layer, which reads the image.
    A,
    /// Also its own: every other layer.
    B,
}

/// The features of group `group` where `size` features are divided among `groups` channels: red,
/// green and blue.
pub(super) fn features(size: usize, groups: usize, group: usize) -> Range<usize> {
    group * size / groups..(group + 1) * size / groups
}

impl Mask {
    /// How many of `inputs` features of the pixel itself the outputs of `group` see; they are the
    /// first ones.
    pub(super) fn prefix(self, inputs: usize, groups: usize, group: usize) -> usize {
        let own = features(inputs, groups, group);
        match self {
            Mask::A => own.start,
            Mask::B => own.end,
        }
    }

    /// One where an output sees an input of the same pixel, else zero, `[outputs, inputs, 1, 1]`.
    fn tensor(self, [outputs, inputs]: [usize; 2], groups: usize, device: &Device) -> Tensor<4> {
        let mut values = vec![0.0f32; outputs * inputs];
        for group in 0..groups {
            let prefix = self.prefix(inputs, groups, group);
            for output in features(outputs, groups, group) {
                values[output * inputs..output * inputs + prefix].fill(1.0);
            }
        }
        Tensor::<1>::from_floats(&values[..], device).reshape([outputs, inputs, 1, 1])
    }
}

/// A 1×1 convolution of features in groups, whose outputs see the groups up to their own.
pub(super) fn pointwise(conv: &Conv2d, groups: usize, x: Tensor<4>, then: Then) -> Tensor<4> {
    if groups == 1 {
        return conv.forward_then(x, then);
    }
    let weight = conv.weight.val();
    let [outputs, inputs, _, _] = weight.dims();
    let mask = Mask::B.tensor([outputs, inputs], groups, &weight.device());
    let bias = conv.bias.as_ref().map(Param::val);
    conv2d_then(x, weight.mul(mask), bias, conv.options, then)
}

/// A square convolution whose kernel ends at the pixel in its middle.
#[derive(Module, Debug)]
pub(super) struct MaskedConv {
    /// The rows above, `[outputs, inputs, reach, 2 · reach + 1]`.
    pub(super) above: Param<Tensor<4>>,
    /// The pixels to the left, `[outputs, inputs, 1, reach]`.
    pub(super) left: Param<Tensor<4>>,
    /// The pixel itself, `[outputs, inputs, 1, 1]`; none where nothing of it is seen.
    pub(super) centre: Option<Param<Tensor<4>>>,
    /// `[outputs]`.
    pub(super) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) mask: Mask,
    #[module(skip)]
    groups: usize,
}

impl MaskedConv {
    /// `[n, inputs, h, w] → [n, outputs, h, w]` with a kernel of `2 · reach + 1` rows and columns;
    /// uniform weights within one over the root of the inputs that live.
    pub(super) fn init(
        [inputs, outputs]: [usize; 2],
        reach: usize,
        mask: Mask,
        groups: usize,
        init: &Init,
    ) -> Self {
        let columns = 2 * reach + 1;
        let has_centre = mask == Mask::B || groups > 1;
        let taps = reach * columns + reach + usize::from(has_centre);
        let bound = 1.0 / ((inputs * taps) as f32).sqrt();
        let draw = |name: &str, [rows, columns]: [usize; 2]| {
            init.param(name, [outputs, inputs, rows, columns], |random| {
                (2.0 * random.uniform() - 1.0) * bound
            })
        };
        Self {
            above: draw("above", [reach, columns]),
            left: draw("left", [1, reach]),
            centre: has_centre.then(|| draw("centre", [1, 1])),
            bias: init.param("bias", [outputs], |random| {
                (2.0 * random.uniform() - 1.0) * bound
            }),
            mask,
            groups,
        }
    }

    /// The kernel down to the pixel's own row, `[outputs, inputs, reach + 1, 2 · reach + 1]`, zero
    /// where it is masked.
    fn weight(&self) -> Tensor<4> {
        let above = self.above.val();
        let [outputs, inputs, reach, _] = above.dims();
        let device = above.device();
        let centre = match &self.centre {
            None => Tensor::zeros([outputs, inputs, 1, 1], &device),
            Some(centre) if self.groups == 1 => centre.val(),
            Some(centre) => {
                let mask = self.mask.tensor([outputs, inputs], self.groups, &device);
                centre.val().mul(mask)
            }
        };
        let right = Tensor::zeros([outputs, inputs, 1, reach], &device);
        let row = Tensor::cat(vec![self.left.val(), centre, right], 3);
        Tensor::cat(vec![above, row], 2)
    }

    /// `[n, inputs, h, w] → [n, outputs, h, w]`, and what follows.
    ///
    /// In training a kernel of 3×3 is filled up with zeros and filtered, which is fastest and lets
    /// rounding errors of later pixels through. Elsewhere the rows below are left out. Without
    /// gradients the products are those of the definition, those with a masked weight being zero,
    /// and later pixels do not reach a single bit.
    pub(super) fn forward(&self, x: Tensor<4>, then: Then) -> Tensor<4> {
        let mut weight = self.weight();
        let [outputs, inputs, rows, columns] = weight.dims();
        let training = weight.is_autodiff();
        if training && columns == 3 {
            let below = Tensor::zeros([outputs, inputs, 1, 3], &weight.device());
            weight = Tensor::cat(vec![weight, below], 2);
        }
        let options = ConvOptions {
            padding: [rows - 1; 2],
            algorithm: match training {
                true => Algorithm::Auto,
                false => Algorithm::Direct,
            },
            keep_size: true,
            ..ConvOptions::default()
        };
        conv2d_then(x, weight, Some(self.bias.val()), options, then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;

    #[test]
    fn masks_divide_features_among_colours() {
        // Seven features: two of red, two of green, three of blue; red sees its own in `B` only.
        let groups: Vec<Range<usize>> = (0..3).map(|group| features(7, 3, group)).collect();
        assert_eq!(groups, [0..2, 2..4, 4..7]);
        let device = Device::flex();
        let a = host(Mask::A.tensor([3, 3], 3, &device));
        assert_eq!(a, [0., 0., 0., 1., 0., 0., 1., 1., 0.]);
        let b = host(Mask::B.tensor([3, 3], 3, &device));
        assert_eq!(b, [1., 0., 0., 1., 1., 0., 1., 1., 1.]);
        assert_eq!(host(Mask::B.tensor([1, 2], 1, &device)), [1., 1.]);
    }

    #[test]
    fn the_kernel_is_zero_from_the_pixel_on() {
        let init = Init::new(1, &Device::flex());
        for (mask, live) in [(Mask::A, 4), (Mask::B, 5)] {
            let conv = MaskedConv::init([1, 1], 1, mask, 1, &init.at("conv"));
            let kernel = host(conv.weight());
            assert_eq!(kernel.len(), 6);
            assert!(kernel[..live].iter().all(|w| *w != 0.0));
            assert!(kernel[live..].iter().all(|w| *w == 0.0));
        }
    }
}
