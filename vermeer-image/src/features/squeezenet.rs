//! The convolutions of SqueezeNet 1.1 (Iandola et al., 2016) with torchvision's weights, whose
//! results LPIPS compares.
//!
//! A fire module squeezes by a 1×1 convolution, expands by a 1×1 and by a 3×3 convolution side by
//! side, and has a ReLU after each. The pools take the largest of 3×3 pixels in steps of two, and
//! of fewer at the lower and right edge where an odd pixel is left (PyTorch's `ceil_mode`).
//!
//! | tap | after | channels |
//! |---|---|---|
//! | relu1 | features.0: 3×3, step 2 | 64 |
//! | relu2 | pool, fire 3 and 4 | 128 |
//! | relu3 | pool, fire 6 and 7 | 256 |
//! | relu4 | pool, fire 9 | 384 |
//! | relu5 | fire 10 | 384 |
//! | relu6 | fire 11 | 512 |
//! | relu7 | fire 12 | 512 |

use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, Stack, pool2d};

use super::frozen::{LARGEST, expect_colour};
use super::weights::{Weights, same};
use crate::Result;

/// Of every stage after the first convolution: whether a pool begins it, and its fire modules with
/// the channels they squeeze to; they expand to eight times as many.
const STAGES: [(bool, &[(usize, usize)]); 6] = [
    (true, &[(3, 16), (4, 16)]),
    (true, &[(6, 32), (7, 32)]),
    (true, &[(9, 48)]),
    (false, &[(10, 48)]),
    (false, &[(11, 64)]),
    (false, &[(12, 64)]),
];

/// The network.
#[derive(Clone, Debug)]
pub struct SqueezeNet {
    first: Conv2d,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
struct Stage {
    pool: bool,
    fires: Vec<Fire>,
}

#[derive(Clone, Debug)]
struct Fire {
    squeeze: Conv2d,
    expand: [Conv2d; 2],
}

impl SqueezeNet {
    /// Channels of the taps.
    pub const CHANNELS: [usize; 7] = [64, 128, 256, 384, 384, 512, 512];

    /// Rows and columns that an image has at least.
    pub const LEAST_SIDE: usize = 17;

    /// The network with weights as torchvision or LPIPS names them
    /// (`features.3.squeeze.weight`, `net.slice2.3.squeeze.weight`); the classifier
    /// (`classifier.*`) is left out.
    ///
    /// # Errors
    /// [`ImageError::Refused`](crate::ImageError::Refused) when a tensor is missing, has another
    /// shape, holds a value that is not finite, or is not one of this network.
    pub fn load(weights: Weights, device: &Device) -> Result<Self> {
        let mut weights = weights.torchvision()?;
        drop(weights.part(|name| name.starts_with("classifier.")));
        let by_two = ConvOptions {
            stride: [2; 2],
            ..ConvOptions::default()
        };
        let first = weights.conv("features.0", [64, 3, 3, 3], by_two, device)?;
        let mut stages = Vec::with_capacity(STAGES.len());
        let mut c = 64;
        for (pool, modules) in STAGES {
            let mut fires = Vec::with_capacity(modules.len());
            for (number, inner) in modules {
                fires.push(Fire::take(&mut weights, *number, [c, *inner], device)?);
                c = 8 * inner;
            }
            stages.push(Stage { pool, fires });
        }
        weights.finish()?;
        Ok(Self { first, stages })
    }

    /// The results of the seven stages for images `[n, 3, h, w]` that are scaled as the network
    /// wants them.
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images that are not RGB or smaller
    /// than 17×17.
    pub fn taps(&self, x: Tensor<4>) -> Result<Vec<Tensor<4>>> {
        expect_colour("SqueezeNet", &x, Self::LEAST_SIDE)?;
        let mut x = self.first.forward_then(x, Activation::Relu);
        let mut taps = vec![x.clone()];
        for stage in &self.stages {
            if stage.pool {
                x = pool_to_the_edge(x);
            }
            for fire in &stage.fires {
                x = fire.forward(x);
            }
            taps.push(x.clone());
        }
        Ok(taps)
    }
}

impl Fire {
    /// The module `features.<number>` from `c` channels through `inner`.
    fn take(
        weights: &mut Weights,
        number: usize,
        [c, inner]: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        let name = |part: &str| format!("features.{number}.{part}");
        let mut conv = |part: &str, from: usize, to: usize, kernel: usize| {
            let shape = [to, from, kernel, kernel];
            weights.conv(&name(part), shape, same([kernel; 2]), device)
        };
        Ok(Self {
            squeeze: conv("squeeze", c, inner, 1)?,
            expand: [
                conv("expand1x1", inner, 4 * inner, 1)?,
                conv("expand3x3", inner, 4 * inner, 3)?,
            ],
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.squeeze.forward_then(x, Activation::Relu);
        let [n, inner, h, w] = x.dims();
        let empty = Stack::new([n, 8 * inner, h, w]);
        let add = |stack: Stack, conv: &Conv2d| stack.push_conv(conv, x.clone(), Activation::Relu);
        self.expand.iter().fold(empty, add).images()
    }
}

/// The largest of 3×3 pixels in steps of two, of fewer where they end. `x` is not negative, so
/// zeros around it change nothing.
fn pool_to_the_edge(x: Tensor<4>) -> Tensor<4> {
    let [_, _, h, w] = x.dims();
    let mut x = x.permute([0, 2, 3, 1]); // [n, h, w, c]
    for (axis, size) in [(1, h), (2, w)] {
        // Windows in steps of two cover an odd number of pixels.
        if size % 2 == 0 {
            let mut shape = x.dims();
            shape[axis] = 1;
            let zeros = Tensor::zeros(shape, &x.device());
            x = Tensor::cat(vec![x, zeros], axis);
        }
    }
    pool2d(x.permute([0, 3, 1, 2]), LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_reach_the_edge() {
        // PyTorch 2.11, max_pool2d(arange(24).reshape(1, 1, 4, 6), 3, 2, ceil_mode=True).
        let values: Vec<f32> = (0..24u8).map(f32::from).collect();
        let x: Tensor<4> =
            Tensor::from_data(TensorData::new(values, [1, 1, 4, 6]), &Device::flex());
        let y = pool_to_the_edge(x);
        assert_eq!(y.dims(), [1, 1, 2, 3]);
        let y = y.try_to_vec_as::<f32>().unwrap();
        assert_eq!(y, [14.0, 16.0, 17.0, 20.0, 22.0, 23.0]);
        // And of 5×3, where nothing is left over.
        let values: Vec<f32> = (0..15u8).map(f32::from).collect();
        let x: Tensor<4> =
            Tensor::from_data(TensorData::new(values, [1, 1, 5, 3]), &Device::flex());
        let y = pool_to_the_edge(x);
        assert_eq!(y.dims(), [1, 1, 2, 1]);
        assert_eq!(y.try_to_vec_as::<f32>().unwrap(), [8.0, 14.0]);
    }
}
