//! The weights of convolutions as matrices on the host, for steppers.

use burn::prelude::*;
use vermeer_kernels::dense::Dense;

use crate::nn::host;

/// The matrices `[inputs, outputs]` of the taps of a weight `[outputs, inputs, rows, columns]`, row
/// by row: `[rows · columns, inputs, outputs]`.
pub fn taps(weight: Tensor<4>) -> Vec<f32> {
    host(weight.permute([2, 3, 1, 0]))
}

/// A convolution of the weight `[outputs, inputs, rows, columns]` as one product: of the features
/// under its taps, tap by tap, `[rows · columns · inputs]`, to `[outputs]`.
pub fn dense(weight: Tensor<4>, bias: Option<Tensor<1>>) -> Dense {
    let [outputs, inputs, rows, columns] = weight.dims();
    let bias = bias.map(host);
    Dense::new(
        &taps(weight),
        rows * columns * inputs,
        outputs,
        bias.as_deref(),
    )
}

/// max(x, 0), which keeps what is no number, so that a broken network shows.
pub(crate) fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_matrices_of_their_own() {
        // Two outputs, three inputs, one row, two columns: 100 · output + 10 · input + column.
        let device = Device::flex();
        let mut weight: Vec<f32> = vec![];
        for output in 0..2u8 {
            for input in 0..3u8 {
                weight.extend((0..2u8).map(|column| f32::from(100 * output + 10 * input + column)));
            }
        }
        let weight = Tensor::<1>::from_floats(&weight[..], &device).reshape([2, 3, 1, 2]);
        let matrices = taps(weight.clone());
        assert_eq!(matrices[..6], [0.0, 100.0, 10.0, 110.0, 20.0, 120.0]);
        assert_eq!(matrices[6..], [1.0, 101.0, 11.0, 111.0, 21.0, 121.0]);
        // The second input under the first tap, the third under the second one, and a bias.
        let bias = Tensor::<1>::from_floats([0.5, -0.5], &device);
        let mut out = [0.0; 2];
        let x = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        dense(weight, Some(bias)).forward(&x, 1, &mut out);
        assert_eq!(out, [31.5, 230.5]);
    }
}
