//! VGG16 (Simonyan & Zisserman, 2015) with torchvision's weights: thirteen 3×3 convolutions with
//! ReLU in five stages, the largest of 2×2 pixels between them, then linear layers.
//!
//! [`Vgg16`] is the five stages, whose results LPIPS compares. [`Vgg16Fc2`] goes on to the 4096
//! features that precision and recall are measured with (Kynkäänniemi et al., 2019), as
//! torch-fidelity takes them (`fc2_relu`).
//!
//! | tap | after | channels |
//! |---|---|---|
//! | relu1_2 | features.0, .2 | 64 |
//! | relu2_2 | pool, features.5, .7 | 128 |
//! | relu3_3 | pool, features.10, .12, .14 | 256 |
//! | relu4_3 | pool, features.17, .19, .21 | 512 |
//! | relu5_3 | pool, features.24, .26, .28 | 512 |
//! | fc2 | pool, classifier.0, ReLU, classifier.3, ReLU | 4096 |

use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, pool2d};

use super::frozen::{HALVED, expect_colour, expect_size, rows, standardise};
use super::weights::{Weights, same};
use crate::Result;

/// Mean and standard deviation of ImageNet's training images, of unit values.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Channels of a stage and the numbers of its convolutions in `features`.
const STAGES: [(usize, &[usize]); 5] = [
    (64, &[0, 2]),
    (128, &[5, 7]),
    (256, &[10, 12, 14]),
    (512, &[17, 19, 21]),
    (512, &[24, 26, 28]),
];

/// The convolutions.
#[derive(Clone, Debug)]
pub struct Vgg16 {
    stages: Vec<Vec<Conv2d>>,
}

impl Vgg16 {
    /// Channels of the taps.
    pub const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

    /// Rows and columns that an image has at least.
    pub const LEAST_SIDE: usize = 16;

    /// The network with weights as torchvision or LPIPS names them (`features.0.weight`,
    /// `net.slice1.0.weight`); the linear layers (`classifier.*`) are left out.
    ///
    /// # Errors
    /// [`ImageError::Refused`](crate::ImageError::Refused) when a tensor is missing, has another
    /// shape, holds a value that is not finite, or is not one of this network.
    pub fn load(weights: Weights, device: &Device) -> Result<Self> {
        let mut weights = weights.torchvision()?;
        drop(weights.part(|name| name.starts_with("classifier.")));
        let net = Self::take(&mut weights, device)?;
        weights.finish()?;
        Ok(net)
    }

    fn take(weights: &mut Weights, device: &Device) -> Result<Self> {
        let mut stages = Vec::with_capacity(STAGES.len());
        let mut c = 3;
        for (k, layers) in STAGES {
            let mut stage = Vec::with_capacity(layers.len());
            for layer in layers {
                let name = format!("features.{layer}");
                stage.push(weights.conv(&name, [k, c, 3, 3], same([3; 2]), device)?);
                c = k;
            }
            stages.push(stage);
        }
        Ok(Self { stages })
    }

    /// relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of images `[n, 3, h, w]` that are scaled as
    /// the network wants them: `[n, channels, h / 2ⁱ, w / 2ⁱ]`, rounded down.
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images that are not RGB or smaller
    /// than 16×16.
    pub fn taps(&self, mut x: Tensor<4>) -> Result<Vec<Tensor<4>>> {
        expect_colour("VGG16", &x, Self::LEAST_SIDE)?;
        let mut taps = Vec::with_capacity(self.stages.len());
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                x = pool2d(x, HALVED);
            }
            for conv in stage {
                x = conv.forward_then(x, Activation::Relu);
            }
            taps.push(x.clone());
        }
        Ok(taps)
    }
}

/// The network up to its second linear layer.
#[derive(Clone, Debug)]
pub struct Vgg16Fc2 {
    convs: Vgg16,
    fc1: Conv2d,
    fc2: Conv2d,
}

impl Vgg16Fc2 {
    /// Rows and columns of the images the network looks at.
    pub const SIDE: usize = 224;

    /// How many features an image has.
    pub const DIMS: usize = 4096;

    /// The network with torchvision's weights; the last layer (`classifier.6.*`) is left out.
    ///
    /// # Errors
    /// As [`Vgg16::load`].
    pub fn load(weights: Weights, device: &Device) -> Result<Self> {
        let mut weights = weights.torchvision()?;
        drop(weights.part(|name| name.starts_with("classifier.6.")));
        let net = Self {
            convs: Vgg16::take(&mut weights, device)?,
            fc1: weights.linear("classifier.0", [Self::DIMS, 512, 7, 7], device)?,
            fc2: weights.linear("classifier.3", [Self::DIMS, Self::DIMS, 1, 1], device)?,
        };
        weights.finish()?;
        Ok(net)
    }

    /// The features `[n, 4096]` of images `[n, 3, 224, 224]` whose values are those of bytes,
    /// 0..=255; they are scaled by ImageNet's mean and deviation here. torch-fidelity resizes as
    /// TensorFlow 1 does (`tf1_bilinear`), without rounding.
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images of another shape.
    pub fn features(&self, x: Tensor<4>) -> Result<Tensor<2>> {
        expect_size("VGG16", &x, [3, Self::SIDE, Self::SIDE])?;
        let [mean, deviation] = IMAGENET.map(|row| row.map(|value| 255.0 * value));
        let mut x = standardise(x, mean, deviation);
        for stage in &self.convs.stages {
            for conv in stage {
                x = conv.forward_then(x, Activation::Relu);
            }
            x = pool2d(x, HALVED);
        } // [n, 512, 7, 7]
        let x = self.fc1.forward_then(x, Activation::Relu); // [n, 4096, 1, 1]
        Ok(rows(self.fc2.forward_then(x, Activation::Relu)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Zeros under the names of LPIPS, with one tensor of another shape where `wrong` says so.
    fn zeros(wrong: Option<&str>) -> Weights {
        let mut tensors = BTreeMap::new();
        let mut c = 3;
        for (slice, (k, layers)) in (1..).zip(STAGES) {
            for layer in layers {
                let name = format!("net.slice{slice}.{layer}");
                tensors.insert(
                    format!("{name}.weight"),
                    (vec![k, c, 3, 3], vec![0.0; k * c * 9]),
                );
                tensors.insert(format!("{name}.bias"), (vec![k], vec![1.0; k]));
                c = k;
            }
        }
        if let Some(name) = wrong {
            tensors.insert(name.to_owned(), (vec![2], vec![0.0; 2]));
        }
        Weights::new("zeros", tensors)
    }

    #[test]
    fn taps_have_the_sizes_of_the_table() {
        let net = Vgg16::load(zeros(None), &Device::flex()).unwrap();
        let taps = net
            .taps(Tensor::zeros([1, 3, 37, 16], &Device::flex()))
            .unwrap();
        let dims: Vec<[usize; 4]> = taps.iter().map(|tap| tap.dims()).collect();
        let expected: [[usize; 4]; 5] = [
            [1, 64, 37, 16],
            [1, 128, 18, 8],
            [1, 256, 9, 4],
            [1, 512, 4, 2],
            [1, 512, 2, 1],
        ];
        assert_eq!(dims, expected);
        assert_eq!(expected.map(|[_, c, _, _]| c), Vgg16::CHANNELS);
        assert!(
            net.taps(Tensor::zeros([1, 3, 37, 15], &Device::flex()))
                .is_err()
        );
        assert!(
            net.taps(Tensor::zeros([1, 1, 37, 16], &Device::flex()))
                .is_err()
        );
    }

    #[test]
    fn other_weights_are_refused() {
        for name in ["net.slice2.5.bias", "net.slice5.30.bias", "features.0.bias"] {
            assert!(
                Vgg16::load(zeros(Some(name)), &Device::flex()).is_err(),
                "{name}"
            );
        }
        assert!(Vgg16::load(zeros(Some("classifier.6.bias")), &Device::flex()).is_ok());
        assert!(Vgg16Fc2::load(zeros(None), &Device::flex()).is_err());
    }
}
