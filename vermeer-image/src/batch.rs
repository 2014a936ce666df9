//! Images as tensors `[batch, channels, height, width]` with a checked range of values.

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{ImageError, Result};
use crate::image::Image;

/// How far a value may leave its range, as a part of the range's width: rounding in a resize or
/// in a sampler's last step.
const TOLERANCE: f32 = 1e-3;

/// What the numbers of an image tensor mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// 0..=255.
    Bytes,
    /// \[0, 1\].
    Unit,
    /// \[-1, 1\].
    Signed,
}

impl Range {
    /// The smallest and the largest value.
    pub fn bounds(self) -> (f32, f32) {
        match self {
            Self::Bytes => (0.0, 255.0),
            Self::Unit => (0.0, 1.0),
            Self::Signed => (-1.0, 1.0),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bytes => "bytes (0..=255)",
            Self::Unit => "unit ([0, 1])",
            Self::Signed => "signed ([-1, 1])",
        })
    }
}

/// A batch of grey or RGB images, `[n, 1 or 3, h, w]`, whose values are finite and inside its
/// range up to a thousandth of the range's width.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    tensor: Tensor<4>,
    range: Range,
}

impl ImageBatch {
    /// A batch of a tensor whose values are claimed to lie in `range`. The values are read back
    /// from the device to check them.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the tensor is empty or has neither 1 nor 3 channels, or a value
    /// is not finite or outside the range.
    pub fn new(tensor: Tensor<4>, range: Range) -> Result<Self> {
        let (low, high) = range.bounds();
        let slack = (high - low) * TOLERANCE;
        for (at, value) in finite_values(&tensor)?.into_iter().enumerate() {
            if value < low - slack || value > high + slack {
                return Err(ImageError::Shape(format!(
                    "value {at} of an image tensor is {value}, outside its range {range}"
                )));
            }
        }
        Ok(Self { tensor, range })
    }

    /// A batch of a tensor whose values are clamped to `range`, as the last step of a sampler
    /// needs it.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the tensor is empty or has neither 1 nor 3 channels, or a value
    /// is not finite, which no clamp repairs.
    pub fn clamp(tensor: Tensor<4>, range: Range) -> Result<Self> {
        finite_values(&tensor)?;
        let (low, high) = range.bounds();
        Ok(Self {
            tensor: tensor.clamp(low, high),
            range,
        })
    }

    /// The images as a batch on `device`, whatever their depth.
    ///
    /// # Errors
    /// [`ImageError::Shape`] without images, with images of different sizes, with other than 1 or
    /// 3 channels, or with float samples outside the unit range.
    pub fn from_images(images: &[Image], range: Range, device: &Device) -> Result<Self> {
        let Some(first) = images.first() else {
            return Err(ImageError::Shape(
                "an image batch needs at least one image".to_owned(),
            ));
        };
        let shape = [
            images.len(),
            first.channels(),
            first.height(),
            first.width(),
        ];
        let mut values = Vec::with_capacity(shape.iter().product());
        for (at, image) in images.iter().enumerate() {
            if [image.channels(), image.height(), image.width()] != shape[1..] {
                return Err(ImageError::Shape(format!(
                    "image {at} has {} channels of {}x{} pixels, image 0 has {} of {}x{}",
                    image.channels(),
                    image.width(),
                    image.height(),
                    first.channels(),
                    first.width(),
                    first.height()
                )));
            }
            values.extend(image.to_unit_chw());
        }
        let tensor = Tensor::from_data(TensorData::new(values, shape), device); // [n, c, h, w]
        Ok(Self::new(tensor, Range::Unit)?.to_range(range))
    }

    /// The same images with their values in another range.
    pub fn to_range(self, range: Range) -> Self {
        let tensor = match (self.range, range) {
            (Range::Bytes, Range::Unit) => self.tensor.div_scalar(255.0),
            (Range::Bytes, Range::Signed) => self.tensor.div_scalar(127.5).sub_scalar(1.0),
            (Range::Unit, Range::Bytes) => self.tensor.mul_scalar(255.0),
            (Range::Unit, Range::Signed) => self.tensor.mul_scalar(2.0).sub_scalar(1.0),
            (Range::Signed, Range::Bytes) => self.tensor.add_scalar(1.0).mul_scalar(127.5),
            (Range::Signed, Range::Unit) => self.tensor.add_scalar(1.0).mul_scalar(0.5),
            (Range::Bytes, Range::Bytes)
            | (Range::Unit, Range::Unit)
            | (Range::Signed, Range::Signed) => self.tensor,
        };
        Self { tensor, range }
    }

    /// The images as 8-bit pictures on the host.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the tensor cannot be read back.
    pub fn to_images(&self) -> Result<Vec<Image>> {
        let [_, channels, height, width] = self.tensor.dims();
        let unit = self.clone().to_range(Range::Unit);
        host_values(&unit.tensor)?
            .chunks_exact(channels * height * width)
            .map(|values| Image::from_unit_chw(values, channels, height, width))
            .collect()
    }

    /// The meaning of the values.
    pub fn range(&self) -> Range {
        self.range
    }

    /// `[batch, channels, height, width]`.
    pub fn dims(&self) -> [usize; 4] {
        self.tensor.dims()
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor<4> {
        &self.tensor
    }

    /// The tensor, taken out of the batch.
    pub fn into_tensor(self) -> Tensor<4> {
        self.tensor
    }
}

/// The values of a tensor on the host, as 32-bit floats.
fn host_values(tensor: &Tensor<4>) -> Result<Vec<f32>> {
    tensor
        .try_to_vec_as::<f32>()
        .map_err(|error| ImageError::Shape(format!("an image tensor cannot be read: {error}")))
}

/// The values of a tensor that has the shape of an image batch and holds finite numbers only.
fn finite_values(tensor: &Tensor<4>) -> Result<Vec<f32>> {
    let dims = tensor.dims();
    let [_, channels, _, _] = dims;
    if dims.contains(&0) || (channels != 1 && channels != 3) {
        return Err(ImageError::Shape(format!(
            "an image tensor is [batch, 1 or 3, height, width], not {dims:?}"
        )));
    }
    let values = host_values(tensor)?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ImageError::Shape(format!(
            "value {at} of an image tensor is {}",
            values[at]
        ))),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn values_outside_the_range_are_refused_and_clamped_on_request() {
        for (range, inside, outside) in [
            (Range::Bytes, [0.0, 255.2], [0.0, 255.3]),
            (Range::Unit, [-0.0009, 1.0], [-0.0011, 1.0]),
            (Range::Signed, [-1.0019, 1.0], [-1.0021, 1.0]),
        ] {
            let shape = [1, 1, 1, 2];
            assert!(ImageBatch::new(tensor(inside.to_vec(), shape), range).is_ok());
            assert!(ImageBatch::new(tensor(outside.to_vec(), shape), range).is_err());
            let clamped = ImageBatch::clamp(tensor(outside.to_vec(), shape), range).unwrap();
            assert!(ImageBatch::new(clamped.into_tensor(), range).is_ok());
        }
    }

    #[test]
    fn what_is_no_batch_of_images_is_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let values = vec![0.0, bad];
            assert!(ImageBatch::new(tensor(values.clone(), [2, 1, 1, 1]), Range::Unit).is_err());
            assert!(ImageBatch::clamp(tensor(values, [2, 1, 1, 1]), Range::Unit).is_err());
        }
        assert!(ImageBatch::new(tensor(vec![0.0; 2], [1, 2, 1, 1]), Range::Unit).is_err());
        assert!(ImageBatch::from_images(&[], Range::Unit, &Device::flex()).is_err());
    }

    #[test]
    fn ranges_follow_their_definition() {
        // The same three values in each range, worked by hand.
        let views = [
            (Range::Bytes, [0.0, 51.0, 255.0]),
            (Range::Unit, [0.0, 0.2, 1.0]),
            (Range::Signed, [-1.0, -0.6, 1.0]),
        ];
        for (from, values) in views {
            for (to, expected) in views {
                let batch = ImageBatch::new(tensor(values.to_vec(), [1, 3, 1, 1]), from).unwrap();
                let moved = batch.to_range(to);
                assert_eq!(moved.range(), to);
                for (value, expected) in host_values(moved.tensor()).unwrap().iter().zip(expected) {
                    assert!((value - expected).abs() < 3e-5, "{from} to {to}: {value}");
                }
            }
        }
    }

    #[test]
    fn pictures_come_back_exactly() {
        let images: Vec<Image> = (0..2u8)
            .map(|n| {
                let samples = (0..=254u8).map(|i| i.wrapping_add(n * 37)).collect();
                Image::new(17, 5, 3, Pixels::U8(samples)).unwrap()
            })
            .collect();
        for range in [Range::Bytes, Range::Unit, Range::Signed] {
            let batch = ImageBatch::from_images(&images, range, &Device::flex()).unwrap();
            assert_eq!(batch.dims(), [2, 3, 5, 17]);
            assert_eq!(batch.to_images().unwrap(), images);
        }
    }
}
