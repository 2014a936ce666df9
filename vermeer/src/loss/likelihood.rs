//! Pixel likelihoods and the Kullback–Leibler divergence of a Gaussian posterior, in nats.

use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, sigmoid};

/// −log p(x) of independent Bernoulli pixels with logits `l`, elementwise.
///
/// `softplus(l) − x·l`, stable for any logit; `x` in [0, 1]. For greys this is a cross-entropy
/// and not a normalised likelihood.
pub fn bernoulli<const D: usize>(logits: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    vermeer_kernels::bernoulli(logits, x)
}

/// −log N(x; mean, exp(log_sigma)²), elementwise; the tensors broadcast.
pub fn gaussian<const D: usize>(mean: Tensor<D>, log_sigma: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    let half_log_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
    let error = x.sub(mean).mul(log_sigma.clone().neg().exp());
    error
        .square()
        .mul_scalar(0.5)
        .add(log_sigma)
        .add_scalar(half_log_two_pi)
}

/// −log of the probability that a logistic variable falls into the byte bin of `x`, elementwise.
///
/// `x` is a byte over 255 in [0, 1]; bins are 1/255 wide, the first reaches to −∞ and the last
/// to ∞ (Salimans et al., PixelCNN++, 2017). Where the two distribution functions differ by less than
/// 1e-5, the density at the centre times the bin's width replaces their difference, as there.
pub fn discretised_logistic<const D: usize>(
    mean: Tensor<D>,
    log_scale: Tensor<D>,
    x: Tensor<D>,
) -> Tensor<D> {
    const HALF: f64 = 0.5 / 255.0;
    let inverse = log_scale.clone().neg().exp();
    let centre = x.clone().sub(mean);
    let upper = centre.clone().add_scalar(HALF).mul(inverse.clone());
    let lower = centre.clone().sub_scalar(HALF).mul(inverse.clone());
    let inside = sigmoid(upper.clone()).sub(sigmoid(lower.clone()));
    let narrow = inside.clone().lower_elem(1e-5);
    let mid = centre.mul(inverse);
    // log of the logistic density: m − log s − 2·softplus(m)
    let density = mid
        .clone()
        .sub(log_scale.expand(mid.shape()))
        .add(log_sigmoid(mid.clone().neg()).mul_scalar(2.0));
    let by_density = density.sub_scalar(255.0f64.ln());
    let by_difference = inside.clamp_min(1e-12).log();
    let interior = by_difference.mask_where(narrow, by_density);
    // log F(upper) and log(1 − F(lower))
    let first = log_sigmoid(upper);
    let last = log_sigmoid(lower.neg());
    let is_first = x.clone().lower_elem(HALF);
    let is_last = x.greater_elem(1.0 - HALF);
    interior
        .mask_where(is_first, first)
        .mask_where(is_last, last)
        .neg()
}

/// KL(N(mu, exp(log_var)) ‖ N(0, 1)), elementwise: −½(1 + log_var − mu² − exp(log_var)).
pub fn kl_standard_normal<const D: usize>(mu: Tensor<D>, log_var: Tensor<D>) -> Tensor<D> {
    mu.square()
        .add(log_var.clone().exp())
        .sub(log_var)
        .sub_scalar(1.0)
        .mul_scalar(0.5)
}

/// log N(x; mu, exp(log_var)), elementwise.
pub fn log_normal<const D: usize>(x: Tensor<D>, mu: Tensor<D>, log_var: Tensor<D>) -> Tensor<D> {
    gaussian(mu, log_var.mul_scalar(0.5), x).neg()
}
