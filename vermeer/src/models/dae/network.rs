//! The networks of a denoising autoencoder: encoder and decoder, or a U-Net; their loss and the
//! contractive term.

use burn::module::Module;
use burn::prelude::*;

use super::{DaeConfig, DaeNetwork, SkipNet};
use crate::data::HostBatch;
use crate::models::autoencoder::{CodeShape, Decoder, Encoder, PixelLoss, signed, sum_of_image};
use crate::nn::Init;
use crate::random::Purpose;
use crate::registry::DataSpec;
use crate::train::Draw;

impl DaeConfig {
    pub(super) fn shape(&self, spec: &DataSpec) -> CodeShape {
        CodeShape {
            image: spec.shape(),
            levels: match self.network {
                DaeNetwork::Conv | DaeNetwork::Unet => self.levels,
                DaeNetwork::Mlp => 0,
            },
            width: self.width,
            hidden: self.hidden.clone(),
            latent: self.latent,
            activation: self.activation,
            code: self.code,
        }
    }

    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> DaeNet {
        let place = init.at("network");
        let network = match self.network {
            DaeNetwork::Conv | DaeNetwork::Mlp => {
                let shape = self.shape(spec);
                DaeBody::Codes(CodeNet {
                    encoder: shape.encoder(&place.at("encoder")),
                    decoder: shape.decoder(&place.at("decoder")),
                })
            }
            DaeNetwork::Unet => DaeBody::Skips(SkipNet::new(
                spec.channels,
                self.width,
                self.levels,
                self.activation,
                &place,
            )),
        };
        DaeNet {
            network,
            config: self.clone(),
        }
    }
}

/// An encoder and its decoder.
#[derive(Module, Debug)]
pub struct CodeNet {
    encoder: Encoder,
    decoder: Decoder,
}

/// One of the networks.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum DaeBody {
    /// Through a code.
    Codes(CodeNet),
    /// [`SkipNet`].
    Skips(SkipNet),
}

/// The network.
#[derive(Module, Debug)]
pub struct DaeNet {
    network: DaeBody,
    #[module(skip)]
    pub(super) config: DaeConfig,
}

/// The parts of the loss of each image.
#[derive(Clone, Debug)]
pub struct DaeLoss {
    /// The distance of clean images and what is made of spoiled ones, `[n]`.
    pub reconstruction: Tensor<1>,
    /// The squared norm of the code's Jacobian, without λ, `[n]`; `None` where λ is 0.
    pub contraction: Option<Tensor<1>>,
}

impl DaeNet {
    /// Codes of unit images, `[n, latent]`; `None` for a U-Net.
    pub fn encode(&self, x: Tensor<4>) -> Option<Tensor<2>> {
        match &self.network {
            DaeBody::Codes(net) => Some(net.encoder.forward(signed(x))),
            DaeBody::Skips(_) => None,
        }
    }

    /// Locations of the pixels of codes, `[n, channels, height, width]`; `None` for a U-Net.
    pub fn decode(&self, code: Tensor<2>) -> Option<Tensor<4>> {
        match &self.network {
            DaeBody::Codes(net) => Some(net.decoder.forward(code)),
            DaeBody::Skips(_) => None,
        }
    }

    /// Locations of the clean pixels of spoiled unit images, `[n, channels, height, width]`.
    pub fn locate(&self, spoiled: Tensor<4>) -> Tensor<4> {
        match &self.network {
            DaeBody::Codes(net) => net.decoder.forward(net.encoder.forward(signed(spoiled))),
            DaeBody::Skips(net) => net.forward(signed(spoiled.clone())).add(spoiled),
        }
    }

    /// Unit pixels of locations.
    pub fn pixels(&self, location: Tensor<4>) -> Tensor<4> {
        match &self.network {
            DaeBody::Codes(_) => self.config.loss.pixels(location),
            DaeBody::Skips(_) => location.clamp(0.0, 1.0),
        }
    }

    /// The loss of each image for locations of spoiled and the clean unit images `x`.
    pub fn loss(&self, location: Tensor<4>, x: Tensor<4>) -> DaeLoss {
        let contraction = match self.config.contraction > 0.0 {
            true => self.contraction(x.clone()),
            false => None,
        };
        let reconstruction = match (&self.network, self.config.loss) {
            (DaeBody::Codes(_), loss) => loss.per_image(location, x),
            (DaeBody::Skips(_), PixelLoss::L1) => sum_of_image(location.sub(x).abs()),
            // A U-Net gives no logits, so `Dae::check` keeps the Bernoulli loss from it.
            (DaeBody::Skips(_), PixelLoss::Mse | PixelLoss::Bernoulli) => {
                sum_of_image(location.sub(x).square())
            }
        };
        DaeLoss {
            reconstruction,
            contraction,
        }
    }

    /// Σⱼ (hⱼ (1 − hⱼ))² ‖Wⱼ‖² at unit images `x`, `[n]`; `None` for a U-Net.
    ///
    /// It is the squared norm of the Jacobian of the code where the encoder is one sigmoid layer,
    /// which `Dae::check` sees to.
    pub fn contraction(&self, x: Tensor<4>) -> Option<Tensor<1>> {
        let DaeBody::Codes(net) = &self.network else {
            return None;
        };
        let layer = net.encoder.layers.first()?;
        let h = net.encoder.forward(signed(x)); // [n, latent]
        let slope = h.clone().mul(h.neg().add_scalar(1.0)); // σ' = h (1 − h)
        let rows = layer.weight.val().square().sum_dim(0); // [1, latent], ‖Wⱼ‖²
        Some(slope.square().mul(rows).sum_dim(1).squeeze_dim(1))
    }

    /// Clean unit images of spoiled ones.
    pub(super) fn clean(&self, spoiled: Tensor<4>) -> Tensor<4> {
        self.pixels(self.locate(spoiled))
    }

    /// The images of a batch, spoiled on the host, on the device of the loss: what a network with
    /// gradients is given there is trained on, whatever its first layer is.
    pub(super) fn spoiled(&self, batch: &HostBatch, draw: &Draw) -> Tensor<4> {
        let [channels, height, width] = batch.shape;
        let (corruption, strength) = (self.config.corruption, self.config.strength);
        let mut pixels: Vec<f32> = Vec::with_capacity(batch.images.len());
        let images = batch.images.chunks_exact(channels * height * width);
        for (row, image) in images.enumerate() {
            let mut random = draw.stream(Purpose::Corrupt, batch, row);
            pixels.extend(corruption.apply(strength, image, batch.shape, &mut random));
        }
        Tensor::<1>::from_floats(&pixels[..], draw.device()).reshape([
            batch.batch,
            channels,
            height,
            width,
        ])
    }
}
