//! Counting multiplications: what a network costs, whatever machine it runs on.
//!
//! Convolutions and linear layers are counted as they are asked for, one multiplication with its
//! addition as one; attention, normalisation and activations are not, nor the products of
//! [`crate::dense`], which samplers on the host are made of.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// What `work` returns, and the multiplications that the calling thread asked for in it.
pub fn count<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = COUNT.get();
    let result = work();
    (result, COUNT.get().wrapping_sub(before))
}

/// Adds multiplications to the count.
pub(crate) fn add(sizes: &[usize]) {
    let product = sizes
        .iter()
        .fold(1u64, |product, size| product.wrapping_mul(*size as u64));
    COUNT.set(COUNT.get().wrapping_add(product));
}

#[cfg(test)]
mod tests {
    use burn::prelude::*;

    use super::*;
    use crate::nn::Linear;
    use crate::{ConvOptions, conv_transpose2d, conv2d};

    #[test]
    fn layers_are_counted_by_hand() {
        let device = Device::flex();
        let x = || Tensor::<4>::zeros([2, 3, 8, 6], &device);
        let weight = Tensor::<4>::zeros([5, 3, 3, 3], &device);
        let options = ConvOptions {
            stride: [2, 2],
            padding: [1, 1],
            ..ConvOptions::default()
        };
        let (y, count) = count(|| conv2d(x(), weight, None, options));
        assert_eq!(y.dims(), [2, 5, 4, 3]);
        assert_eq!(count, 2 * 5 * 4 * 3 * 3 * 9);
        // Each of the 2·3·8·6 inputs meets 4 channels and 4×4 weights.
        let weight = Tensor::<4>::zeros([3, 4, 4, 4], &device);
        let (_, transposed) = super::count(|| conv_transpose2d(x(), weight, None, options, [0; 2]));
        assert_eq!(transposed, 2 * 3 * 8 * 6 * 4 * 16);
        let layer = Linear {
            weight: burn::module::Param::from_tensor(Tensor::zeros([6, 7], &device)),
            bias: None,
        };
        let (_, linear) = super::count(|| layer.forward(x()));
        assert_eq!(linear, 2 * 3 * 8 * 6 * 7);
    }
}
