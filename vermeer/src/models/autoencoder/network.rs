//! Encoder and decoder around a code of a few numbers, convolutional or fully connected, and what
//! their output is measured by. Shared by the plain and the denoising autoencoder.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::{gelu, relu, sigmoid};
use serde::{Deserialize, Serialize};
use vermeer_kernels::Activation;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d, Linear};

use crate::loss::likelihood::bernoulli;
use crate::nn::{Init, Law};
use crate::{Error, Result};

/// The most halvings of an image.
const MOST_LEVELS: usize = 10;

/// What stands between two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nonlinearity {
    /// x · Φ(x), exact.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
}

impl Nonlinearity {
    /// Applied to each number.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::Relu => relu(x),
            Self::Sigmoid => sigmoid(x),
        }
    }

    /// The same as the last step of a convolution.
    pub fn after_convolution(self) -> Activation {
        match self {
            Self::Gelu => Activation::Gelu,
            Self::Relu => Activation::Relu,
            Self::Sigmoid => Activation::Sigmoid,
        }
    }
}

/// What the numbers of a code are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeUnits {
    /// Any numbers.
    #[default]
    Linear,
    /// Numbers between 0 and 1.
    Sigmoid,
}

impl CodeUnits {
    fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear => x,
            Self::Sigmoid => sigmoid(x),
        }
    }
}

/// How far pixels are from those they should be, summed over an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelLoss {
    /// Squared differences of unit pixels.
    #[default]
    Mse,
    /// Absolute differences of unit pixels.
    L1,
    /// Cross-entropy of unit pixels, in nats.
    Bernoulli,
}

impl PixelLoss {
    /// Unit pixels of a decoder's output: σ(l) of logits for `bernoulli`, else (tanh(l) + 1) / 2.
    pub fn pixels(self, location: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Bernoulli => sigmoid(location),
            Self::Mse | Self::L1 => location.tanh().add_scalar(1.0).mul_scalar(0.5),
        }
    }

    /// The loss of each image, `[n]`, for a decoder's output and unit images `x`.
    pub fn per_image(self, location: Tensor<4>, x: Tensor<4>) -> Tensor<1> {
        match self {
            Self::Bernoulli => sum_of_image(bernoulli(location, x)),
            Self::Mse => sum_of_image(self.pixels(location).sub(x).square()),
            Self::L1 => sum_of_image(self.pixels(location).sub(x).abs()),
        }
    }
}

/// The sum over the pixels of each image, `[n]`.
pub fn sum_of_image(x: Tensor<4>) -> Tensor<1> {
    x.flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1)
}

/// The mean squared difference over all pixels of a batch.
pub(crate) fn mean_squared_error(a: Tensor<4>, b: Tensor<4>) -> f64 {
    f64::from(a.sub(b).square().mean().into_scalar::<f32>())
}

/// Unit pixels as the networks take them, in [−1, 1].
pub fn signed(x: Tensor<4>) -> Tensor<4> {
    x.mul_scalar(2.0).sub_scalar(1.0)
}

/// The nearest side, from above, that can be halved `levels` times.
pub(crate) fn rounded(side: usize, levels: usize) -> usize {
    let unit = 1usize << levels.min(MOST_LEVELS);
    side.div_ceil(unit) * unit
}

/// Channels after the reduction `level`, counted from zero.
pub(crate) fn channels_of(width: usize, level: usize) -> usize {
    if level == 0 { width } else { 2 * width }
}

/// Refuses numbers of halvings that an image of this size does not allow.
///
/// # Errors
/// [`Error::Settings`] naming the sizes that fit.
pub(crate) fn check_levels(levels: usize, height: usize, width: usize) -> Result<()> {
    if !(1..=MOST_LEVELS).contains(&levels) {
        return Err(Error::settings(
            format!("model.levels = {levels}"),
            format!("levels is a number from 1 to {MOST_LEVELS}"),
        ));
    }
    let natural = (rounded(height, levels), rounded(width, levels));
    if natural != (height, width) {
        return Err(Error::settings(
            format!("images of {height}×{width} cannot be halved {levels} times"),
            format!(
                "bring them to another size, --set data.size=[{},{}], or lower model.levels",
                natural.0, natural.1
            ),
        ));
    }
    Ok(())
}

/// Sizes of an encoder and of the decoder that mirrors it.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeShape {
    /// Channels, height and width of the images.
    pub image: [usize; 3],
    /// How often convolutions halve the image; 0 for fully connected layers alone.
    pub levels: usize,
    /// Channels after the first halving; twice as many after the others.
    pub width: usize,
    /// Sizes of the fully connected layers between image or convolutions and the code.
    pub hidden: Vec<usize>,
    /// Size of the code.
    pub latent: usize,
    /// What stands between layers.
    pub activation: Nonlinearity,
    /// What the numbers of the code are.
    pub code: CodeUnits,
}

impl CodeShape {
    /// Refuses sizes of zero, and images that cannot be halved often enough.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting.
    pub fn check(&self) -> Result<()> {
        if self.latent == 0 || self.width == 0 || self.hidden.contains(&0) {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent, width and hidden must be at least 1",
            ));
        }
        match self.levels {
            0 => Ok(()),
            levels => check_levels(levels, self.image[1], self.image[2]),
        }
    }

    /// What the convolutions leave: channels, height, width.
    fn smallest(&self) -> [usize; 3] {
        let [channels, height, width] = self.image;
        match self.levels {
            0 => [channels, height, width],
            levels => [
                channels_of(self.width, levels - 1),
                height >> levels,
                width >> levels,
            ],
        }
    }

    /// An encoder whose parameters are drawn by `init`.
    pub fn encoder(&self, init: &Init) -> Encoder {
        let mut reductions = vec![];
        let mut convolutions = vec![];
        let mut from = self.image[0];
        for level in 0..self.levels {
            let to = channels_of(self.width, level);
            let place = init.at("reductions").at(level);
            reductions.push(place.conv2d([from, to], 3, 2, 1, true, Law::FanIn));
            if level + 1 < self.levels {
                let place = init.at("convolutions").at(level);
                convolutions.push(place.conv2d([to, to], 3, 1, 1, true, Law::FanIn));
            }
            from = to;
        }
        let mut sizes: Vec<usize> = vec![self.smallest().iter().product()];
        sizes.extend(&self.hidden);
        sizes.push(self.latent);
        Encoder {
            reductions,
            convolutions,
            layers: dense(init, &sizes),
            activation: self.activation,
            code: self.code,
        }
    }

    /// A decoder whose parameters are drawn by `init`.
    pub fn decoder(&self, init: &Init) -> Decoder {
        let mut sizes: Vec<usize> = vec![self.latent];
        sizes.extend(self.hidden.iter().rev());
        sizes.push(self.smallest().iter().product());
        let mut enlargements = vec![];
        let mut convolutions = vec![];
        for (at, level) in (0..self.levels).rev().enumerate() {
            let from = channels_of(self.width, level);
            let to = match level {
                0 => self.image[0],
                _ => channels_of(self.width, level - 1),
            };
            let place = init.at("enlargements").at(at);
            let mut enlargement = place.conv_transpose2d([from, to], 3, 2, 1, true, Law::FanIn);
            enlargement.padding_out = [1; 2];
            enlargements.push(enlargement);
            if level > 0 {
                let place = init.at("convolutions").at(at);
                convolutions.push(place.conv2d([to, to], 3, 1, 1, true, Law::FanIn));
            }
        }
        Decoder {
            layers: dense(init, &sizes),
            enlargements,
            convolutions,
            smallest: self.smallest(),
            activation: self.activation,
        }
    }
}

fn dense(init: &Init, sizes: &[usize]) -> Vec<Linear> {
    let pairs = sizes.windows(2).enumerate();
    pairs
        .map(|(i, s)| init.at("layers").at(i).linear(s[0], s[1], Law::FanIn))
        .collect()
}

/// Image to code.
#[derive(Module, Debug)]
pub struct Encoder {
    reductions: Vec<Conv2d>,
    convolutions: Vec<Conv2d>,
    pub(crate) layers: Vec<Linear>,
    #[module(skip)]
    activation: Nonlinearity,
    #[module(skip)]
    code: CodeUnits,
}

impl Encoder {
    /// Signed images `[n, channels, height, width]` to codes `[n, latent]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = x;
        for (level, reduction) in self.reductions.iter().enumerate() {
            x = reduction.forward_then(x, self.activation.after_convolution()); // half the size
            if let Some(convolution) = self.convolutions.get(level) {
                x = convolution.forward_then(x, self.activation.after_convolution());
            }
        }
        let mut h: Tensor<2> = x.flatten(1, 3);
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(h);
            if i + 1 < self.layers.len() {
                h = self.activation.apply(h);
            }
        }
        self.code.apply(h)
    }
}

/// Code to location of the pixels.
#[derive(Module, Debug)]
pub struct Decoder {
    layers: Vec<Linear>,
    enlargements: Vec<ConvTranspose2d>,
    convolutions: Vec<Conv2d>,
    #[module(skip)]
    smallest: [usize; 3],
    #[module(skip)]
    activation: Nonlinearity,
}

impl Decoder {
    /// Codes `[n, latent]` to locations `[n, channels, height, width]`: what
    /// [`PixelLoss::pixels`] makes pixels of.
    pub fn forward(&self, code: Tensor<2>) -> Tensor<4> {
        let mut h = code;
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(h);
            if i + 1 < self.layers.len() || !self.enlargements.is_empty() {
                h = self.activation.apply(h);
            }
        }
        let ([n, _], [channels, height, width]) = (h.dims(), self.smallest);
        let mut x: Tensor<4> = h.reshape([n, channels, height, width]);
        for (i, enlargement) in self.enlargements.iter().enumerate() {
            x = match self.convolutions.get(i) {
                None => enlargement.forward(x), // the image's size
                Some(convolution) => {
                    let activation = self.activation.after_convolution();
                    let twice = enlargement.forward_then(x, activation); // twice the size
                    convolution.forward_then(twice, activation)
                }
            };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_rounded_up_to_what_can_be_halved() {
        for (side, levels, expected) in [(28, 2, 28), (28, 3, 32), (1, 2, 4), (33, 1, 34)] {
            assert_eq!(rounded(side, levels), expected, "{side} {levels}");
        }
        assert!(check_levels(2, 28, 28).is_ok());
        assert!(check_levels(3, 28, 32).is_err());
        assert!(check_levels(0, 28, 28).is_err());
    }

    #[test]
    fn losses_are_hand_worked() {
        let device = Device::flex();
        let of = |values: &[f32]| {
            Tensor::<1>::from_floats(values, &device).reshape([1, 1, 1, values.len()])
        };
        // Zero is the middle grey of every loss.
        let (location, x) = ([0.0, 0.0], [0.0, 1.0]);
        for (loss, expected) in [
            (PixelLoss::Mse, 0.5),
            (PixelLoss::L1, 1.0),
            (PixelLoss::Bernoulli, 2.0 * std::f32::consts::LN_2),
        ] {
            let value = loss.per_image(of(&location), of(&x)).into_scalar::<f32>();
            assert!((value - expected).abs() < 1e-6, "{loss:?}: {value}");
        }
    }
}
