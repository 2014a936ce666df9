//! The convolutions of AlexNet (Krizhevsky, 2014, "One weird trick") with torchvision's weights,
//! whose results LPIPS compares.
//!
//! | tap | after | channels |
//! |---|---|---|
//! | relu1 | features.0: 11×11, step 4, padding 2 | 64 |
//! | relu2 | pool 3×3 step 2, features.3: 5×5, padding 2 | 192 |
//! | relu3 | pool 3×3 step 2, features.6: 3×3, padding 1 | 384 |
//! | relu4 | features.8: 3×3, padding 1 | 256 |
//! | relu5 | features.10: 3×3, padding 1 | 256 |

use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, pool2d};

use super::frozen::{LARGEST, expect_colour};
use super::weights::{Weights, same};
use crate::Result;

/// The network.
#[derive(Clone, Debug)]
pub struct AlexNet {
    convs: Vec<Conv2d>,
}

impl AlexNet {
    /// Channels of the taps.
    pub const CHANNELS: [usize; 5] = [64, 192, 384, 256, 256];

    /// Rows and columns that an image has at least.
    pub const LEAST_SIDE: usize = 31;

    /// The network with weights as torchvision or LPIPS names them (`features.0.weight`,
    /// `net.slice1.0.weight`); the linear layers (`classifier.*`) are left out.
    ///
    /// # Errors
    /// [`ImageError::Refused`](crate::ImageError::Refused) when a tensor is missing, has another
    /// shape, holds a value that is not finite, or is not one of this network.
    pub fn load(weights: Weights, device: &Device) -> Result<Self> {
        let mut weights = weights.torchvision()?;
        drop(weights.part(|name| name.starts_with("classifier.")));
        let first = ConvOptions {
            stride: [4; 2],
            padding: [2; 2],
            ..ConvOptions::default()
        };
        let layers = [
            ("features.0", 11, first),
            ("features.3", 5, same([5; 2])),
            ("features.6", 3, same([3; 2])),
            ("features.8", 3, same([3; 2])),
            ("features.10", 3, same([3; 2])),
        ];
        let mut convs = Vec::with_capacity(layers.len());
        let mut c = 3;
        for ((name, kernel, options), k) in layers.into_iter().zip(Self::CHANNELS) {
            convs.push(weights.conv(name, [k, c, kernel, kernel], options, device)?);
            c = k;
        }
        weights.finish()?;
        Ok(Self { convs })
    }

    /// The results of the five ReLUs for images `[n, 3, h, w]` that are scaled as the network
    /// wants them.
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images that are not RGB or smaller
    /// than 31×31.
    pub fn taps(&self, mut x: Tensor<4>) -> Result<Vec<Tensor<4>>> {
        expect_colour("AlexNet", &x, Self::LEAST_SIDE)?;
        let mut taps = Vec::with_capacity(self.convs.len());
        for (i, conv) in self.convs.iter().enumerate() {
            if i == 1 || i == 2 {
                x = pool2d(x, LARGEST);
            }
            x = conv.forward_then(x, Activation::Relu);
            taps.push(x.clone());
        }
        Ok(taps)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn taps_have_the_sizes_of_torchvision() {
        let mut tensors = BTreeMap::new();
        let layers = [(0, 11), (3, 5), (6, 3), (8, 3), (10, 3)];
        let mut c = 3;
        for ((layer, kernel), k) in layers.into_iter().zip(AlexNet::CHANNELS) {
            let values = vec![0.0; k * c * kernel * kernel];
            let name = format!("features.{layer}");
            tensors.insert(
                format!("{name}.weight"),
                (vec![k, c, kernel, kernel], values),
            );
            tensors.insert(format!("{name}.bias"), (vec![k], vec![1.0; k]));
            c = k;
        }
        let weights = Weights::new("zeros", tensors);
        let net = AlexNet::load(weights, &Device::flex()).unwrap();
        let taps = net
            .taps(Tensor::zeros([1, 3, 64, 31], &Device::flex()))
            .unwrap();
        let dims: Vec<[usize; 4]> = taps.iter().map(|tap| tap.dims()).collect();
        // Of torchvision 0.26.0.
        let expected: [[usize; 4]; 5] = [
            [1, 64, 15, 7],
            [1, 192, 7, 3],
            [1, 384, 3, 1],
            [1, 256, 3, 1],
            [1, 256, 3, 1],
        ];
        assert_eq!(dims, expected);
        assert!(
            net.taps(Tensor::zeros([1, 3, 64, 30], &Device::flex()))
                .is_err()
        );
    }
}
