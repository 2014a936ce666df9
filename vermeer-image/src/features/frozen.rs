//! What frozen networks share: the check of their input and the steps that have no weights.

use burn::prelude::*;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::pool2d;

use crate::{ImageError, Result};

/// The largest of 2×2 pixels: half as many rows and columns, rounded down.
pub(super) const HALVED: Window = Window {
    kernel: [2; 2],
    stride: [2; 2],
    padding: [0; 2],
    take: Take::Largest,
};

/// The largest of 3×3 pixels, two pixels further each time.
pub(super) const LARGEST: Window = Window {
    kernel: [3; 2],
    stride: [2; 2],
    padding: [0; 2],
    take: Take::Largest,
};

/// Refuses images that are not `[n, c, h, w]` with that `[c, h, w]`.
pub(super) fn expect_size(network: &str, x: &Tensor<4>, size: [usize; 3]) -> Result<()> {
    let dims = x.dims();
    if dims[0] > 0 && dims[1..] == size {
        return Ok(());
    }
    let [c, h, w] = size;
    Err(ImageError::Shape(format!(
        "{network} looks at images [n, {c}, {h}, {w}], these are {dims:?}"
    )))
}

/// Refuses images that are not RGB with at least `least` rows and columns.
pub(super) fn expect_colour(network: &str, x: &Tensor<4>, least: usize) -> Result<()> {
    let [n, c, h, w] = x.dims();
    if n > 0 && c == 3 && h.min(w) >= least {
        return Ok(());
    }
    Err(ImageError::Shape(format!(
        "{network} looks at RGB images of at least {least}×{least} pixels, these are {:?}",
        x.dims()
    )))
}

/// `(x − mean) / deviation` of the three channels of `[n, 3, h, w]`.
pub(crate) fn standardise(x: Tensor<4>, mean: [f32; 3], deviation: [f32; 3]) -> Tensor<4> {
    let device = x.device();
    let row = |values: [f32; 3]| -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &device)
    };
    x.sub(row(mean)).div(row(deviation))
}

/// The mean over the pixels, `[n, c, h, w] → [n, c, 1, 1]`: first along the rows, then of those
/// means, which rounds less than one long sum.
pub(super) fn spatial_mean(x: Tensor<4>) -> Tensor<4> {
    let [_, _, h, w] = x.dims();
    let mean = |kernel: [usize; 2]| Window {
        kernel,
        stride: [1; 2],
        padding: [0; 2],
        take: Take::Mean,
    };
    pool2d(pool2d(x, mean([1, w])), mean([h, 1]))
}

/// `[n, c, 1, 1] → [n, c]`.
pub(super) fn rows(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c * h * w])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn means_are_of_each_channel() {
        // (1 + … + 6) / 6 and ten times that, by hand.
        let values = vec![
            1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0,
        ];
        let mean = rows(spatial_mean(tensor(values, [1, 2, 2, 3])));
        assert_eq!(mean.dims(), [1, 2]);
        assert_eq!(mean.try_to_vec_as::<f32>().unwrap(), [3.5, 35.0]);
    }

    #[test]
    fn channels_are_standardised_each_by_its_own_numbers() {
        let x = tensor(vec![1.0, 2.0, 3.0], [1, 3, 1, 1]);
        let y = standardise(x, [1.0, 1.0, 5.0], [1.0, 4.0, 0.5]);
        assert_eq!(y.try_to_vec_as::<f32>().unwrap(), [0.0, 0.25, -4.0]);
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let x = Tensor::zeros([1, 3, 20, 30], &Device::flex());
        assert!(expect_size("a network", &x, [3, 20, 30]).is_ok());
        assert!(expect_size("a network", &x, [3, 30, 20]).is_err());
        assert!(expect_colour("a network", &x, 20).is_ok());
        assert!(expect_colour("a network", &x, 21).is_err());
        let grey = Tensor::zeros([1, 1, 20, 30], &Device::flex());
        assert!(expect_colour("a network", &grey, 20).is_err());
    }
}
