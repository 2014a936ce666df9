//! LeNet-5 (LeCun et al., 1998) with ReLUs and the largest of 2×2 pixels, as
//! csinva/gan-vae-pretrained-pytorch trains it on MNIST: a judge of digits whose 84 features serve
//! for distances.
//!
//! | layer | result |
//! |---|---|
//! | convnet.c1 5×5, ReLU, pool | `[n, 6, 14, 14]` |
//! | convnet.c3 5×5, ReLU, pool | `[n, 16, 5, 5]` |
//! | convnet.c5 5×5, ReLU | `[n, 120]` |
//! | fc.f6, ReLU | `[n, 84]` |
//! | fc.f7 | `[n, 10]` logits |

use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, pool2d};

use super::frozen::{HALVED, expect_size, rows};
use super::weights::Weights;
use crate::{ImageBatch, Range, Result};

/// The network.
#[derive(Clone, Debug)]
pub struct LeNet {
    c1: Conv2d,
    c3: Conv2d,
    c5: Conv2d,
    f6: Conv2d,
    f7: Conv2d,
}

/// What [`LeNet`] says of images.
#[derive(Clone, Debug)]
pub struct LeNetOutput {
    /// After the last convolution, `[n, 120]`.
    pub c5: Tensor<2>,
    /// After the first linear layer, `[n, 84]`.
    pub features: Tensor<2>,
    /// One for each digit, `[n, 10]`.
    pub logits: Tensor<2>,
}

impl LeNetOutput {
    /// The logarithms of the digits' probabilities, `[n, 10]`.
    pub fn log_probabilities(&self) -> Tensor<2> {
        log_softmax(self.logits.clone(), 1)
    }
}

impl LeNet {
    /// Rows and columns of the images the network looks at.
    pub const SIDE: usize = 32;

    /// The network with weights named as in the table (`convnet.c1.weight` … `fc.f7.bias`).
    ///
    /// # Errors
    /// [`ImageError::Refused`](crate::ImageError::Refused) when a tensor is missing, has another
    /// shape, holds a value that is not finite, or is not one of this network.
    pub fn load(mut weights: Weights, device: &Device) -> Result<Self> {
        let mut conv = |name: &str, shape: [usize; 4]| {
            weights.conv(name, shape, ConvOptions::default(), device)
        };
        let c1 = conv("convnet.c1", [6, 1, 5, 5])?;
        let c3 = conv("convnet.c3", [16, 6, 5, 5])?;
        let c5 = conv("convnet.c5", [120, 16, 5, 5])?;
        let f6 = weights.linear("fc.f6", [84, 120, 1, 1], device)?;
        let f7 = weights.linear("fc.f7", [10, 84, 1, 1], device)?;
        weights.finish()?;
        Ok(Self { c1, c3, c5, f6, f7 })
    }

    /// What the network says of grey images of 32×32 pixels in any range. It was trained on the
    /// 28×28 digits of MNIST enlarged by [`resize`](crate::resize()) with
    /// [`Filter::Bilinear`](crate::Filter::Bilinear).
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images of another shape.
    pub fn outputs(&self, images: &ImageBatch) -> Result<LeNetOutput> {
        self.forward(images.clone().to_range(Range::Unit).into_tensor())
    }

    /// As [`LeNet::outputs`], of unit values `[n, 1, 32, 32]`.
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for another shape.
    pub fn forward(&self, x: Tensor<4>) -> Result<LeNetOutput> {
        expect_size("LeNet-5", &x, [1, Self::SIDE, Self::SIDE])?;
        let relu = Activation::Relu;
        let x = pool2d(self.c1.forward_then(x, relu), HALVED); // [n, 6, 14, 14]
        let x = pool2d(self.c3.forward_then(x, relu), HALVED); // [n, 16, 5, 5]
        let c5 = self.c5.forward_then(x, relu); // [n, 120, 1, 1]
        let features = self.f6.forward_then(c5.clone(), relu); // [n, 84, 1, 1]
        let logits = self.f7.forward(features.clone()); // [n, 10, 1, 1]
        Ok(LeNetOutput {
            c5: rows(c5),
            features: rows(features),
            logits: rows(logits),
        })
    }
}
