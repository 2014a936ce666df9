//! The embedded judge of grey 28×28 images: a LeNet-class classifier of Fashion-MNIST.
//!
//! It was trained by `cargo run --release --example train_judge` of the `vermeer` crate on 55,000
//! of the training images, its temperature fitted on the other 5,000, before any generator was
//! judged with it. What it reaches on the
//! 10,000 test images is written in the header of its weight file: accuracy and expected
//! calibration error (15 bins of equal width, Guo et al., 2017).

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::Conv2d;

use crate::{ImageBatch, ImageError, Range, Result};

/// SHA-256 of the embedded weights, which names the judge beside every number it gives.
pub const JUDGE_SHA256: &str = "30b386425bbc02cb574911b6e385e3fa6480a5278eaf836681bb1d573f1de014";

static WEIGHTS: &[u8] = include_bytes!("judge.safetensors");

/// Classes of Fashion-MNIST.
const CLASSES: usize = 10;

/// A LeNet with ten outputs.
///
/// | layer | output |
/// |---|---|
/// | convolution 5×5 padding 2, ReLU, max pool 2 | `[n, 16, 14, 14]` |
/// | convolution 5×5, ReLU, max pool 2 | `[n, 32, 5, 5]` |
/// | linear, ReLU | `[n, 128]` |
/// | linear, over the temperature | `[n, 10]` |
#[derive(Module, Debug)]
pub struct Judge {
    /// First convolution.
    pub conv1: Conv2d,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Hidden layer; its 128 features come after the ReLU.
    pub hidden: Linear,
    /// Output layer.
    pub out: Linear,
    /// Divides the logits, so that confidence means what it says (Guo et al., 2017): `[1]`.
    pub temperature: Param<Tensor<1>>,
}

impl Judge {
    /// The judge with weights from elsewhere: `tensor(name, shape)` gives the values of a tensor.
    ///
    /// # Errors
    /// Whatever `tensor` returns.
    pub fn build(
        device: &Device,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        fn param<const D: usize>(
            device: &Device,
            tensor: &mut impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
            name: &str,
            shape: [usize; D],
        ) -> Result<Param<Tensor<D>>> {
            let data = TensorData::new(tensor(name, &shape)?, shape);
            let values = Tensor::from_data(data, device);
            let values = if device.is_autodiff() {
                values.require_grad()
            } else {
                values
            };
            Ok(Param::initialized(ParamId::new(), values))
        }
        let mut conv = |name: &str, from: usize, to: usize, padding: usize| -> Result<Conv2d> {
            Ok(Conv2d {
                weight: param(
                    device,
                    &mut tensor,
                    &format!("{name}.weight"),
                    [to, from, 5, 5],
                )?,
                bias: Some(param(device, &mut tensor, &format!("{name}.bias"), [to])?),
                options: ConvOptions {
                    padding: [padding; 2],
                    ..ConvOptions::default()
                },
            })
        };
        let (conv1, conv2) = (conv("conv1", 1, 16, 2)?, conv("conv2", 16, 32, 0)?);
        let mut linear = |name: &str, from: usize, to: usize| -> Result<Linear> {
            Ok(Linear {
                weight: param(device, &mut tensor, &format!("{name}.weight"), [from, to])?,
                bias: Some(param(device, &mut tensor, &format!("{name}.bias"), [to])?),
            })
        };
        let (hidden, out) = (
            linear("hidden", 32 * 25, 128)?,
            linear("out", 128, CLASSES)?,
        );
        Ok(Self {
            conv1,
            conv2,
            hidden,
            out,
            temperature: param(device, &mut tensor, "temperature", [1])?,
        })
    }

    /// The judge that is part of this crate.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when the embedded weights are not those of [`JUDGE_SHA256`].
    pub fn embedded(device: &Device) -> Result<Self> {
        let wrong = |what: String| {
            ImageError::refused(
                "the embedded judge",
                what,
                "build Vermeer again from a clean checkout",
            )
        };
        let sum: String = Sha256::digest(WEIGHTS)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if sum != JUDGE_SHA256 {
            return Err(wrong(format!("its weights have the sum {sum}")));
        }
        let file = SafeTensors::deserialize(WEIGHTS).map_err(|error| wrong(error.to_string()))?;
        Self::build(device, |name, shape| {
            let view = file
                .tensor(name)
                .map_err(|error| wrong(error.to_string()))?;
            if view.shape() != shape {
                return Err(wrong(format!("{name} has the shape {:?}", view.shape())));
            }
            Ok(view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect())
        })
    }

    /// Logits `[n, 10]` before the temperature, of unit images `[n, 1, 28, 28]`.
    pub fn logits(&self, x: Tensor<4>) -> Tensor<2> {
        self.logits_of(self.features(x))
    }

    /// The 128 features `[n, 128]` before the output layer, of unit images `[n, 1, 28, 28]`.
    pub fn features(&self, x: Tensor<4>) -> Tensor<2> {
        let pool = |x| max_pool2d(x, MaxPoolOptions::new([2, 2]));
        let x = pool(relu(self.conv1.forward(x))); // [n, 16, 14, 14]
        let x = pool(relu(self.conv2.forward(x))); // [n, 32, 5, 5]
        relu(self.hidden.forward(x.flatten(1, 3)))
    }

    /// The logits `[n, 10]` before the temperature, of features `[n, 128]`.
    pub fn logits_of(&self, features: Tensor<2>) -> Tensor<2> {
        self.out.forward(features)
    }

    /// Probabilities of the ten classes for each image; the images are grey and 28×28.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for images of another shape.
    pub fn probabilities(&self, images: &ImageBatch) -> Result<Vec<Vec<f32>>> {
        let x = images.clone().to_range(Range::Unit).into_tensor();
        let [_, channels, height, width] = x.dims();
        if [channels, height, width] != [1, 28, 28] {
            return Err(ImageError::Shape(format!(
                "the judge looks at grey 28×28 images, these are {channels}×{height}×{width}"
            )));
        }
        let scaled = self.logits(x).div(self.temperature.val().unsqueeze());
        let values: Vec<f32> = softmax(scaled, 1)
            .into_data()
            .try_into_vec()
            .map_err(|error| {
                ImageError::Shape(format!("the device does not give f32: {error:?}"))
            })?;
        Ok(values.chunks(CLASSES).map(<[f32]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_judge_is_whole_and_as_good_as_promised() {
        let judge = Judge::embedded(&Device::flex()).unwrap();
        let (_, header) = SafeTensors::read_metadata(WEIGHTS).unwrap();
        let about = header.metadata().as_ref().unwrap();
        let number = |key: &str| about[key].parse::<f64>().unwrap();
        assert!(number("test_accuracy") >= 0.90);
        assert!(number("test_expected_calibration_error_15_bins") <= 0.03);

        // A drawn pair of trousers: class 1 of Fashion-MNIST.
        let pixel = |y: usize, x: usize| {
            let waist = (2..7).contains(&y) && (9..19).contains(&x);
            let legs = (7..27).contains(&y) && ((9..13).contains(&x) || (15..19).contains(&x));
            if waist || legs { 0.8f32 } else { 0.0 }
        };
        let values: Vec<f32> = (0..784).map(|i| pixel(i / 28, i % 28)).collect();
        let x = Tensor::from_data(TensorData::new(values, [1, 1, 28, 28]), &Device::flex());
        let batch = ImageBatch::new(x, Range::Unit).unwrap();
        let p = &judge.probabilities(&batch).unwrap()[0];
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{p:?}");
        assert!(p[1] > 0.9, "{p:?}");

        let wrong = Tensor::zeros([1, 1, 32, 32], &Device::flex());
        let wrong = ImageBatch::new(wrong, Range::Unit).unwrap();
        assert!(judge.probabilities(&wrong).is_err());
    }
}
