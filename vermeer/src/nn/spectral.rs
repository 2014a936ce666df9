//! Spectral normalisation: a weight divided by its largest singular value (Miyato et al., 2018),
//! so that a layer stretches no difference of its inputs by more than one.

use burn::module::Param;
use burn::prelude::*;
use vermeer_kernels::nn::Conv2d;

use crate::random::{Purpose, stream};

/// Singular vectors of one weight, as far as power iteration has found them.
///
/// A weight `[out, …]` counts as the matrix `[out, rest]`.
#[derive(Clone, Debug)]
pub struct Spectrum {
    u: Tensor<1>,
    v: Tensor<1>,
}

impl Spectrum {
    /// Vectors `u` `[out]` and `v` `[rest]` from elsewhere, without gradients.
    pub fn new(u: Tensor<1>, v: Tensor<1>) -> Self {
        Self { u, v }
    }

    /// Random unit vectors for weight number `index` of a network, a matrix of this shape.
    pub fn random(seed: u64, index: u64, [rows, columns]: [usize; 2], device: &Device) -> Self {
        let vector = |n: usize, which: u64| {
            let mut values = vec![0.0; n];
            stream(seed, Purpose::Power, which, index).fill_normal(&mut values);
            unit(Tensor::from_floats(&values[..], device))
        };
        Self {
            u: vector(rows, 0),
            v: vector(columns, 1),
        }
    }

    /// The vectors by their names in checkpoints.
    pub fn vectors(&self) -> [(&'static str, &Tensor<1>); 2] {
        [("u", &self.u), ("v", &self.v)]
    }

    /// One power iteration on the matrix `w`: v ← Wᵀu/‖·‖, u ← Wv/‖·‖.
    pub fn iterate(&mut self, w: Tensor<2>) {
        let v = unit(
            w.clone()
                .transpose()
                .matmul(self.u.clone().unsqueeze_dim::<2>(1))
                .flatten(0, 1),
        );
        let u = unit(w.matmul(v.clone().unsqueeze_dim::<2>(1)).flatten(0, 1));
        *self = Self { u, v };
    }

    /// The weight divided by uᵀWv. Gradients flow through W in the numerator and in the divisor,
    /// not through u and v.
    pub fn normalise<const D: usize>(&self, weight: Tensor<D>) -> Tensor<D> {
        let constant = |t: &Tensor<1>| match weight.is_autodiff() {
            true => Tensor::from_inner(t.clone()),
            false => t.clone(),
        };
        let (u, v) = (constant(&self.u), constant(&self.v));
        let sigma = matrix(weight.clone())
            .matmul(v.unsqueeze_dim::<2>(1))
            .mul(u.unsqueeze_dim::<2>(1))
            .sum();
        weight.div(sigma.reshape([1usize; D]))
    }
}

/// A weight `[out, …]` as the matrix `[out, rest]`.
pub fn matrix<const D: usize>(weight: Tensor<D>) -> Tensor<2> {
    let dims = weight.dims();
    let columns: usize = dims[1..].iter().product();
    weight.reshape([dims[0], columns])
}

/// The convolution, its weight normalised where a spectrum is given.
pub fn convolve(conv: &Conv2d, x: Tensor<4>, spectrum: Option<&Spectrum>) -> Tensor<4> {
    let Some(spectrum) = spectrum else {
        return conv.forward(x);
    };
    let weight = spectrum.normalise(conv.weight.val());
    Conv2d {
        weight: Param::initialized(conv.weight.id, weight),
        ..conv.clone()
    }
    .forward(x)
}

fn unit(x: Tensor<1>) -> Tensor<1> {
    let norm = x.clone().square().sum().sqrt().clamp_min(1e-12);
    x.div(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{TensorData, Tolerance};

    #[test]
    fn a_diagonal_is_divided_by_its_largest_entry() {
        let device = Device::flex();
        let w = Tensor::<2>::from_floats([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &device);
        let mut spectrum = Spectrum::random(1, 0, [2, 3], &device);
        for _ in 0..30 {
            spectrum.iterate(w.clone());
        }
        let third = 1.0 / 3.0f32;
        spectrum.normalise(w).into_data().assert_approx_eq::<f32>(
            &TensorData::from([[1.0, 0.0, 0.0], [0.0, third, 0.0]]),
            Tolerance::rel_abs(1e-5, 1e-6),
        );
    }
}
