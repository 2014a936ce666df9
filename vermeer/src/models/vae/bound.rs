//! The bound that a VAE learns by: its terms, the loss made of them, and how closely it can be
//! evaluated.

use burn::prelude::*;

use super::{VaeConfig, VaeNet};
use crate::loss::likelihood::kl_standard_normal;
use crate::random::{Purpose, stream};
use crate::task::BLOCK;
use crate::train::Scalars;
use crate::train::health::Limit;

/// What a conditional model is told of each image.
#[derive(Clone, Debug)]
pub struct Given {
    /// The condition, `[n, size]`.
    pub condition: Tensor<2>,
    /// `[1, 1, height, width]`: one where a pixel is modelled, zero where the condition tells it;
    /// `None` where all are modelled.
    pub modelled: Option<Tensor<4>>,
}

impl Given {
    /// Other images told in the same way.
    pub(crate) fn with(&self, condition: Tensor<2>) -> Self {
        Self {
            condition,
            modelled: self.modelled.clone(),
        }
    }
}

/// How the KL term counts in a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlTerm {
    /// Its weight.
    pub weight: f64,
    /// Nats that each code number counts at least; a device of training, 0 where a network is
    /// evaluated.
    pub free_bits: f64,
}

/// Draws of an image that are computed side by side.
const DRAWS: usize = 16;

/// The two parts of the evidence lower bound, in nats.
#[derive(Clone, Debug)]
pub struct Elbo {
    /// −log p(x|z) summed over the pixels, `[n]`.
    pub reconstruction: Tensor<1>,
    /// KL(q(z|x) ‖ N(0, I)) of each code number, `[n, latent]`.
    pub kl: Tensor<2>,
}

impl VaeConfig {
    /// The weight of the KL term when `images` images have been trained on: `beta`, reached by a
    /// straight line from zero over `warmup_images`.
    pub fn kl_weight(&self, images: u64) -> f64 {
        match images < self.warmup_images {
            true => self.beta * images as f64 / self.warmup_images as f64,
            false => self.beta,
        }
    }

    /// The draws of the code of each image when `images` images have been trained on.
    pub fn draws_at(&self, images: u64) -> usize {
        match images < self.one_draw_images {
            true => 1,
            false => self.draws,
        }
    }
}

impl VaeNet {
    /// Both parts of the bound for unit images `x`, standard normal `eps` `[n, latent]` and, of a
    /// conditional network, what it is told.
    pub(crate) fn elbo_given(&self, x: Tensor<4>, eps: Tensor<2>, given: Option<&Given>) -> Elbo {
        let (mu, log_var) = self.encode_given(x.clone(), given);
        let z = code(mu.clone(), log_var.clone(), eps);
        let location = self.decode_given(z, given);
        Elbo {
            reconstruction: self.nats_given(location, x, given),
            kl: kl_standard_normal(mu, log_var),
        }
    }

    /// log p(x|z) and log p(z) − log q(z|x), each `[n]`, for one draw of the code.
    fn weight_terms(
        &self,
        x: Tensor<4>,
        mu: Tensor<2>,
        log_var: Tensor<2>,
        eps: Tensor<2>,
        given: Option<&Given>,
    ) -> (Tensor<1>, Tensor<1>) {
        let z = code(mu, log_var.clone(), eps.clone());
        let location = self.decode_given(z.clone(), given);
        let likelihood = self.nats_given(location, x, given).neg();
        // Both are normal densities: ½ Σ (eps² + log_var − z²), the constants cancel.
        let ratio = eps.square().add(log_var).sub(z.square()).mul_scalar(0.5);
        (likelihood, ratio.sum_dim(1).squeeze_dim(1))
    }

    /// log p(x, z) − log q(z|x) for one draw of the code, `[n]`: a term of the
    /// importance-weighted bound (Burda et al., 2016).
    pub(crate) fn log_weight_given(
        &self,
        x: Tensor<4>,
        mu: Tensor<2>,
        log_var: Tensor<2>,
        eps: Tensor<2>,
        given: Option<&Given>,
    ) -> Tensor<1> {
        let (likelihood, ratio) = self.weight_terms(x, mu, log_var, eps, given);
        likelihood.add(ratio)
    }

    /// The loss of a batch, `[1]`, and what is told of it: `eps` is standard normal and holds
    /// `latent` numbers for each draw, `[n, draws · latent]`.
    ///
    /// One draw gives the evidence lower bound with its KL term, more give the importance-weighted
    /// bound.
    pub(crate) fn loss_given(
        &self,
        x: Tensor<4>,
        eps: Tensor<2>,
        given: Option<&Given>,
        kl_term: KlTerm,
    ) -> (Tensor<1>, Scalars) {
        if eps.dims()[1] > self.config().latent {
            return self.weighted_loss(x, eps, given, kl_term.weight);
        }
        let elbo = self.elbo_given(x, eps, given);
        let kl: Tensor<1> = match kl_term.free_bits > 0.0 {
            // One number for the batch: each code number counts at least its free bits.
            true => {
                let mean = elbo.kl.clone().mean_dim(0).clamp_min(kl_term.free_bits);
                mean.sum_dim(1).squeeze_dim(1)
            }
            false => elbo.kl.clone().sum_dim(1).squeeze_dim(1),
        };
        let weighted = kl.mul_scalar(kl_term.weight);
        let loss = elbo.reconstruction.clone().add(weighted).mean();
        let scalars = told(&loss, elbo.reconstruction.mean(), elbo.kl);
        (loss, scalars)
    }

    /// −log mean_k w_k, with all draws of an image as rows beside each other.
    fn weighted_loss(
        &self,
        x: Tensor<4>,
        eps: Tensor<2>,
        given: Option<&Given>,
        ratio_weight: f64,
    ) -> (Tensor<1>, Scalars) {
        let [n, channels, height, width] = x.dims();
        let latent = self.config().latent;
        let draws = eps.dims()[1] / latent;
        let (mu, log_var) = self.encode_given(x.clone(), given);
        let kl = kl_standard_normal(mu.clone(), log_var.clone());
        let rows = repeated(x.reshape([n, channels * height * width]), draws);
        let given = given.map(|g| g.with(repeated(g.condition.clone(), draws)));
        let (likelihood, ratio) = self.weight_terms(
            rows.reshape([n * draws, channels, height, width]),
            repeated(mu, draws),
            repeated(log_var, draws),
            eps.reshape([n * draws, latent]),
            given.as_ref(),
        );
        let reconstruction = likelihood.clone().mean().neg();
        let weights: Tensor<2> = likelihood
            .add(ratio.mul_scalar(ratio_weight))
            .reshape([n, draws]);
        let largest = weights.clone().detach().max_dim(1); // [n, 1]
        let shares = weights.sub(largest.clone()).exp().mean_dim(1);
        let loss = shares.log().add(largest).mean().neg();
        let scalars = told(&loss, reconstruction, kl);
        (loss, scalars)
    }

    /// The importance-weighted bound of log p(x) of each image with `draws` draws, in nats.
    pub(crate) fn log_likelihood_given(
        &self,
        x: Tensor<4>,
        given: Option<&Given>,
        draws: usize,
        seed: u64,
    ) -> Vec<f64> {
        let [n, channels, height, width] = x.dims();
        let (latent, device) = (self.config().latent, x.device());
        let pixels = x.reshape([n, channels * height * width]);
        let mut bounds = Vec::with_capacity(n);
        // Products of one size, so that an image's bound does not depend on how many there are.
        for start in (0..n).step_by(BLOCK) {
            let rows: Vec<i32> = (start..start + BLOCK)
                .map(|row| row.min(n - 1) as i32)
                .collect();
            let rows = Tensor::<1, Int>::from_data(&rows[..], &device);
            let block = pixels.clone().select(0, rows.clone());
            let image = |x: Tensor<2>| {
                let count = x.dims()[0];
                x.reshape([count, channels, height, width])
            };
            let told = given.map(|g| g.with(g.condition.clone().select(0, rows.clone())));
            let (mu, log_var) = self.encode_given(image(block.clone()), told.as_ref());
            let x = image(repeated(block, DRAWS));
            let told = told.map(|g| g.with(repeated(g.condition.clone(), DRAWS)));
            let (mu, log_var) = (repeated(mu, DRAWS), repeated(log_var, DRAWS));
            let count = BLOCK.min(n - start);
            let mut terms = vec![Vec::with_capacity(draws); count];
            for first in (0..draws).step_by(DRAWS) {
                let mut eps = vec![0.0; BLOCK * DRAWS * latent];
                for (place, values) in eps.chunks_exact_mut(latent).enumerate() {
                    let (row, draw) = (start + place / DRAWS, first + place % DRAWS);
                    stream(seed, Purpose::Importance, draw as u64, row as u64).fill_normal(values);
                }
                let eps =
                    Tensor::<1>::from_floats(&eps[..], &device).reshape([BLOCK * DRAWS, latent]);
                let weights = self.log_weight_given(
                    x.clone(),
                    mu.clone(),
                    log_var.clone(),
                    eps,
                    told.as_ref(),
                );
                let weights = crate::nn::host(weights);
                for (terms, weights) in terms.iter_mut().zip(weights.chunks_exact(DRAWS)) {
                    let asked = DRAWS.min(draws - first);
                    terms.extend(weights[..asked].iter().map(|w| f64::from(*w)));
                }
            }
            bounds.extend(terms.iter().map(|terms| log_mean_exp(terms)));
        }
        bounds
    }
}

/// mu + exp(log_var / 2) · eps.
fn code(mu: Tensor<2>, log_var: Tensor<2>, eps: Tensor<2>) -> Tensor<2> {
    mu.add(eps.mul(log_var.mul_scalar(0.5).exp()))
}

/// Each row `times` times: `[n, size]` to `[n · times, size]`.
fn repeated(x: Tensor<2>, times: usize) -> Tensor<2> {
    let [n, size] = x.dims();
    x.unsqueeze_dim::<3>(1)
        .repeat_dim(1, times)
        .reshape([n * times, size])
}

/// What is told of a loss.
fn told(loss: &Tensor<1>, reconstruction: Tensor<1>, kl: Tensor<2>) -> Scalars {
    let read = |value: Tensor<1>| f64::from(value.into_scalar::<f32>());
    vec![
        ("loss", read(loss.clone())),
        ("reconstruction", read(reconstruction)),
        ("kl", read(kl.sum_dim(1).mean())),
    ]
}

/// The signs ([`crate::train::health`]) of a code with means `mu` and log-variances `log_var`, each `[n, latent]`.
///
/// A code number is active when the variance of its mean over images exceeds 0.01 (Burda et al.,
/// 2016). A collapsed posterior has no active number and a KL near zero.
pub(crate) fn code_signs(
    mu: Tensor<2>,
    log_var: Tensor<2>,
) -> Vec<(&'static str, f64, Limit, &'static str)> {
    let [n, latent] = mu.dims();
    let latent = latent as f64;
    let kl = crate::nn::host(kl_standard_normal(mu.clone(), log_var).mean_dim(0));
    let per_latent = kl.iter().map(|nats| f64::from(*nats)).sum::<f64>() / latent;
    let mut signs = vec![(
        "kl_per_latent",
        per_latent,
        Limit::Below {
            watch: 0.05,
            bad: 0.005,
        },
        "nats each code number carries on average; near zero the code is unused: lower model.beta or model.latent, or set model.free_bits or model.warmup_images",
    )];
    if n > 1 {
        let variance = crate::nn::host(mu.var(0)); // over the images, [latent]
        let active = variance.iter().filter(|v| **v > 0.01).count();
        signs.push((
            "active_units",
            active as f64,
            Limit::Below {
                watch: (latent * 0.1).max(2.0).min(latent),
                bad: 1.0,
            },
            "code numbers whose mean varies over images; with none the decoder ignores its code (posterior collapse): lower model.beta, or set model.free_bits or model.warmup_images",
        ));
    }
    signs
}

/// The logarithm of the mean of exponentials, without overflow: the importance-weighted bound
/// of the log-weights of one image.
pub fn log_mean_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|t| (t - largest).exp()).sum();
    largest + (sum / terms.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_exponentials_does_not_overflow() {
        // log((e⁰ + e^{ln 3}) / 2) = ln 2, and the same 1000 higher.
        for shift in [0.0, 1000.0, -1000.0] {
            let bound = log_mean_exp(&[shift, shift + 3.0f64.ln()]);
            assert!((bound - shift - 2.0f64.ln()).abs() < 1e-9, "{bound}");
        }
    }

    #[test]
    fn the_kl_weight_grows_to_beta() {
        let config = VaeConfig {
            beta: 2.0,
            warmup_images: 1000,
            ..VaeConfig::default()
        };
        for (images, weight) in [(0, 0.0), (250, 0.5), (1000, 2.0), (9999, 2.0)] {
            assert!(
                (config.kl_weight(images) - weight).abs() < 1e-12,
                "{images}"
            );
        }
        assert_eq!(VaeConfig::default().kl_weight(0), 1.0);
    }

    #[test]
    fn draws_begin_after_the_images_of_one_draw() {
        let config = VaeConfig {
            draws: 50,
            one_draw_images: 100,
            ..VaeConfig::default()
        };
        assert_eq!(
            [0, 99, 100].map(|images| config.draws_at(images)),
            [1, 1, 50]
        );
    }
}
