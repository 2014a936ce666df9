//! The distribution of pixels given their location, and what is done to pixels before it.

use burn::module::Param;
use burn::prelude::*;
use burn::tensor::activation::sigmoid;
use serde::{Deserialize, Serialize};
use vermeer_image::Range;

use crate::data::HostBatch;
use crate::loss::likelihood::{bernoulli, discretised_logistic, gaussian};
use crate::nn::Init;
use crate::train::{Draw, images_to_device};

/// The distribution of a pixel given the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// Bernoulli pixels; a normalised likelihood only for binarised images.
    #[default]
    Bernoulli,
    /// Normal pixels with the standard deviation `sigma`.
    Gaussian,
    /// Normal pixels with one learned standard deviation (Rybkin et al., 2021).
    GaussianLearned,
    /// Bytes as bins of a logistic variable with a learned scale per channel.
    DiscretisedLogistic,
}

impl Likelihood {
    /// The learned logarithms of scales, which start at `sigma`; `None` where none are learned.
    pub(crate) fn log_scale(
        self,
        init: &Init,
        channels: usize,
        sigma: f64,
    ) -> Option<Param<Tensor<1>>> {
        let start = sigma.ln() as f32;
        match self {
            Likelihood::Bernoulli | Likelihood::Gaussian => None,
            Likelihood::GaussianLearned => Some(init.constant("log_scale", [1], start)),
            Likelihood::DiscretisedLogistic => Some(init.constant("log_scale", [channels], start)),
        }
    }

    /// −log p(x|location) of each pixel, `[n, channels, height, width]`.
    pub(crate) fn nats(
        self,
        location: Tensor<4>,
        log_scale: Option<Tensor<1>>,
        sigma: f64,
        x: Tensor<4>,
    ) -> Tensor<4> {
        if self == Likelihood::Bernoulli {
            return bernoulli(location, x);
        }
        let scale: Tensor<4> = match log_scale {
            Some(scale) => {
                let channels = scale.dims()[0];
                scale.reshape([1, channels, 1, 1])
            }
            None => Tensor::full([1, 1, 1, 1], sigma.ln(), &x.device()),
        };
        match self {
            Likelihood::DiscretisedLogistic => discretised_logistic(location, scale, x),
            _ => gaussian(location, scale, x),
        }
    }

    /// The expected pixels in unit range.
    pub(crate) fn expected(self, location: Tensor<4>) -> Tensor<4> {
        match self {
            Likelihood::Bernoulli => sigmoid(location),
            _ => location.clamp(0.0, 1.0),
        }
    }
}

/// What is done to pixels before a Bernoulli likelihood sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binarise {
    /// Nothing.
    #[default]
    No,
    /// Each pixel is drawn anew with its grey value as probability (Salakhutdinov and Murray, 2008).
    Dynamic,
}

impl Binarise {
    /// The pixels the model sees, `[n, channels, height, width]` in unit range.
    pub(crate) fn pixels(self, batch: &HostBatch, draw: &Draw) -> Tensor<4> {
        match self {
            Binarise::No => images_to_device(batch, Range::Unit, draw.device()),
            Binarise::Dynamic => draw.binarised(batch),
        }
    }
}
