//! The layout of Radford et al.: a generator of transposed convolutions, and its mirror image.

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};
use vermeer_kernels::{Activation, leaky_relu};

use crate::nn::{BatchNorm, Init, Law, Mode, Spectrum, convolve, matrix};
use crate::registry::DataSpec;
use crate::train::game::{Generates, Judges, Opinion};
use crate::{Error, Result};

/// The layout of the two networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DcganNetwork {
    /// Radford's: kernels of 4 throughout, ReLU in the generator; images of 16, 32, 64 or 128.
    #[default]
    Radford,
    /// 28×28 images through 4, 7 and 14 with kernels 4, 3, 4, 4 and leaky ReLU in the generator,
    /// as in dennisjooo/DCGAN-on-MNIST.
    Mnist28,
}

impl DcganNetwork {
    /// The side nearest to images of this size.
    pub fn natural_size(self, height: usize, width: usize) -> (usize, usize) {
        let side = match (self, height.max(width)) {
            (DcganNetwork::Mnist28, _) => 28,
            (DcganNetwork::Radford, 0..=47) => 32,
            (DcganNetwork::Radford, 48..=95) => 64,
            (DcganNetwork::Radford, _) => 128,
        };
        (side, side)
    }

    /// Refuses images of a size the layout does not make.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the sizes.
    pub fn check(self, spec: &DataSpec) -> Result<()> {
        let sizes: &[usize] = match self {
            DcganNetwork::Radford => &[16, 32, 64, 128],
            DcganNetwork::Mnist28 => &[28],
        };
        if spec.height == spec.width && sizes.contains(&spec.height) {
            return Ok(());
        }
        let (height, width) = self.natural_size(spec.height, spec.width);
        Err(Error::settings(
            format!(
                "images of {}×{} do not fit this network",
                spec.height, spec.width
            ),
            format!(
                "it makes square images of {sizes:?}: --set data.size={}",
                height.max(width)
            ),
        ))
    }
}

const SLOPE: f64 = 0.2;
/// Radford draws convolution weights from N(0, 0.02²) and scales from N(1, 0.02²).
pub(crate) const LAW: Law = Law::Normal(0.02);

/// What the two networks of a layout have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which layout.
    pub network: DcganNetwork,
    /// Channels next to the image; doubled at each halving of the size.
    pub width: usize,
    /// Height and width of the images.
    pub side: usize,
}

impl Layout {
    /// Kernels of the stride-2 layers from the 4×4 map to the image.
    fn kernels(&self) -> Vec<usize> {
        match self.network {
            DcganNetwork::Radford => vec![4; (self.side / 4).ilog2() as usize],
            DcganNetwork::Mnist28 => vec![3, 4, 4],
        }
    }

    /// A generator of images with `channels` from vectors of `inputs` numbers.
    pub fn generator(&self, [inputs, image]: [usize; 2], init: &Init) -> Generator {
        let kernels = self.kernels();
        let slope = match self.network {
            DcganNetwork::Radford => 0.0,
            DcganNetwork::Mnist28 => SLOPE,
        };
        let mut channels = self.width << (kernels.len() - 1);
        let place = init.at("blocks");
        let block = |i: usize, from: usize, to: usize, kernel, stride, padding| GeneratorBlock {
            conv: place.at(i).at("conv").conv_transpose2d(
                [from, to],
                kernel,
                stride,
                padding,
                false,
                LAW,
            ),
            norm: BatchNorm::new(&place.at(i).at("norm"), to, 0.02),
        };
        let mut blocks = vec![block(0, inputs, channels, 4, 1, 0)];
        let (last, inner) = kernels
            .split_last()
            .expect("every size has a stride-2 layer");
        for (i, kernel) in inner.iter().enumerate() {
            blocks.push(block(i + 1, channels, channels / 2, *kernel, 2, 1));
            channels /= 2;
        }
        let out = init
            .at("out")
            .conv_transpose2d([channels, image], *last, 2, 1, false, LAW);
        Generator { blocks, out, slope }
    }

    /// A discriminator of images with `image` channels: with batch normalisation, or with biases
    /// in its place; `out_bias` adds one to the logits.
    pub fn discriminator(
        &self,
        image: usize,
        batch_norm: bool,
        out_bias: bool,
        init: &Init,
    ) -> Discriminator {
        let place = init.at("blocks");
        let (mut from, mut to) = (image, self.width);
        let mut blocks = vec![];
        for (i, kernel) in self.kernels().into_iter().rev().enumerate() {
            blocks.push(DiscriminatorBlock {
                conv: place
                    .at(i)
                    .at("conv")
                    .conv2d([from, to], kernel, 2, 1, !batch_norm, LAW),
                norm: (i > 0 && batch_norm)
                    .then(|| BatchNorm::new(&place.at(i).at("norm"), to, 0.02)),
            });
            (from, to) = (to, 2 * to);
        }
        Discriminator {
            blocks,
            out: init.at("out").conv2d([from, 1], 4, 1, 0, out_bias, LAW),
        }
    }

    /// Channels of the 4×4 map before the logits.
    pub fn last_width(&self) -> usize {
        self.width << (self.kernels().len() - 1)
    }
}

/// A transposed convolution with its normalisation.
#[derive(Module, Debug)]
pub struct GeneratorBlock {
    conv: ConvTranspose2d,
    norm: BatchNorm,
}

/// Latents to images.
#[derive(Module, Debug)]
pub struct Generator {
    blocks: Vec<GeneratorBlock>,
    out: ConvTranspose2d,
    #[module(skip)]
    slope: f64,
}

impl Generator {
    /// Signed images `[n, channels, size, size]` of latents `[n, latent]`.
    pub fn forward(&self, z: Tensor<2>, mode: Mode) -> Tensor<4> {
        let [n, latent] = z.dims();
        let mut x = z.reshape([n, latent, 1, 1]);
        for block in &self.blocks {
            // 4×4 first, then twice the size with half the channels
            x = block
                .norm
                .forward_leaky(block.conv.forward(x), mode, self.slope);
        }
        self.out.forward_then(x, Activation::Tanh)
    }

    /// Numbers in the vectors it takes.
    pub fn inputs(&self) -> usize {
        let first = self.blocks.first().map(|b| &b.conv);
        first.unwrap_or(&self.out).weight.dims()[0]
    }
}

impl Generates for Generator {
    fn latent(&self) -> usize {
        self.inputs()
    }

    fn images(&self, z: Tensor<2>, _classes: Option<Tensor<2>>, mode: Mode) -> Tensor<4> {
        self.forward(z, mode)
    }
}

/// A strided convolution with its normalisation.
#[derive(Module, Debug)]
pub struct DiscriminatorBlock {
    conv: Conv2d,
    norm: Option<BatchNorm>,
}

/// Images to logits.
#[derive(Module, Debug)]
pub struct Discriminator {
    blocks: Vec<DiscriminatorBlock>,
    out: Conv2d,
}

impl Discriminator {
    /// Logits `[n]` of signed images; `spectra`, one for each convolution, normalises weights.
    pub fn forward(&self, x: Tensor<4>, mode: Mode, spectra: &[Spectrum]) -> Tensor<1> {
        self.logits(self.maps(x, mode, spectra), spectra)
    }

    /// The map `[n, c, 4, 4]` before the logits, of signed images.
    pub fn maps(&self, x: Tensor<4>, mode: Mode, spectra: &[Spectrum]) -> Tensor<4> {
        let mut x = x;
        for (i, block) in self.blocks.iter().enumerate() {
            x = convolve(&block.conv, x, spectra.get(i));
            // half the size, twice the channels
            x = match &block.norm {
                Some(norm) => norm.forward_leaky(x, mode, SLOPE),
                None => leaky_relu(x, SLOPE),
            };
        }
        x
    }

    /// Logits `[n]` of maps.
    pub fn logits(&self, maps: Tensor<4>, spectra: &[Spectrum]) -> Tensor<1> {
        let logits = convolve(&self.out, maps, spectra.get(self.blocks.len())); // [n, 1, 1, 1]
        let n = logits.dims()[0];
        logits.reshape([n])
    }

    /// The weights of its convolutions as matrices, without gradients.
    pub fn weights(&self) -> Vec<Tensor<2>> {
        let convolutions = self.blocks.iter().map(|b| &b.conv).chain([&self.out]);
        convolutions
            .map(|conv| matrix(conv.weight.val().inner()))
            .collect()
    }
}

impl Judges for Discriminator {
    fn opinion(
        &self,
        x: Tensor<4>,
        _classes: Option<Tensor<2>>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Opinion {
        self.forward(x, mode, spectra).into()
    }

    fn features(&self, x: Tensor<4>, spectra: &[Spectrum]) -> Tensor<2> {
        quarters(self.maps(x, Mode::Use, spectra))
    }

    fn matrices(&self) -> Vec<Tensor<2>> {
        self.weights()
    }
}

/// The means of the quarters of maps `[n, c, 4, 4]`: `[n, 4 c]`.
pub(crate) fn quarters(maps: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = maps.dims();
    maps.reshape([n, c, 2, h / 2, 2, w / 2])
        .mean_dim(5)
        .mean_dim(3)
        .reshape([n, 4 * c])
}
