//! The prior: which code maps are likely.

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::VqVaeConfig;
use super::transformer::TransformerNet;
use crate::autoregressive::{Autoregressive, Stepper};
use crate::models::gated_pixel_cnn::{GatedPixelCnnConfig, GatedPixelCnnNet};
use crate::nn::Init;
use crate::registry::DataSpec;

/// Side of the first kernels of the convolutional prior.
const FIRST_KERNEL: usize = 5;

/// The network of the prior.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorNetwork {
    /// Gated masked convolutions, as in the paper (van den Oord et al., 2016).
    #[default]
    GatedPixelCnn,
    /// A causal transformer.
    Transformer,
}

/// A prior over code maps `[n, 1, h / f, w / f]` of whole numbers `0..K`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Prior {
    /// Gated masked convolutions over a learned vector for each code.
    GatedPixelCnn(GatedPixelCnnNet),
    /// A causal transformer.
    Transformer(TransformerNet),
}

impl Prior {
    /// A prior over code maps of the shape `map`, its parameters drawn by `init`.
    pub(super) fn new(config: &VqVaeConfig, map: &DataSpec, init: &Init) -> Self {
        match config.prior {
            PriorNetwork::GatedPixelCnn => {
                let of = GatedPixelCnnConfig {
                    width: config.prior_width,
                    first_kernel: FIRST_KERNEL,
                    dilations: vec![1; config.prior_layers],
                    levels: config.codes,
                    conditional: config.conditional,
                    ..GatedPixelCnnConfig::default()
                };
                Self::GatedPixelCnn(of.init_embedded(map, config.prior_width, init))
            }
            PriorNetwork::Transformer => Self::Transformer(TransformerNet::new(config, map, init)),
        }
    }

    /// Logits of every code at every place, `[n, K, 1, h / f, w / f]` (one logit where K = 2), of
    /// code maps `[n, 1, h / f, w / f]`.
    pub fn outputs(&self, codes: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5> {
        match self {
            Self::GatedPixelCnn(net) => net.outputs(codes, labels),
            Self::Transformer(net) => net.outputs(codes, labels),
        }
    }

    /// −log p of code maps `[n, 1, h / f, w / f]`, the mean over maps and places, `[1]`, in nats for
    /// each code.
    pub fn nats_per_code(&self, codes: Tensor<4>, labels: Option<&[u32]>) -> Tensor<1> {
        let [_, _, height, width] = codes.dims();
        let nats = match self {
            Self::GatedPixelCnn(net) => net.negative_log_likelihood(codes, labels),
            Self::Transformer(net) => net.negative_log_likelihood(codes, labels),
        };
        nats.mean().div_scalar((height * width) as f64)
    }

    /// The network one place at a time, for `n` maps.
    pub(super) fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        match self {
            Self::GatedPixelCnn(net) => net.stepper(n, labels),
            Self::Transformer(net) => net.stepper(n, labels),
        }
    }
}
