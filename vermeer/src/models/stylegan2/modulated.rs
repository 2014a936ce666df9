//! Convolutions whose weights a style scales, and the others of the two networks.
//!
//! A style s scales the input channels c of a weight W, and demodulation brings each output
//! channel k back to unit weight:
//!
//! ```text
//! W'_kc = s_c · W_kc / √(Σ_c Σ_taps (s_c · W_kc)² + 1e-8)        y = W' ∗ x
//! ```
//!
//! Since a convolution is linear in its channels, y = d · (W ∗ (s · x)) with
//! d_k = 1 / √(Σ_c s_c² Σ_taps W_kc² + 1e-8): one weight for all images of a batch, whose channels
//! are scaled before and behind.

use burn::module::Param;
use burn::prelude::*;
use vermeer_kernels::{ConvOptions, add, conv_transpose2d, conv2d, leaky_relu};

use super::mapping::{Dense, GAIN, SLOPE};
use crate::nn::Init;

/// Added to sums of squares before their root is taken.
const EPSILON: f64 = 1e-8;

/// The filter that sizes are changed with, `(1, 3, 3, 1) ⊗ (1, 3, 3, 1) / 64 · gain` for each of
/// `channels`: `[channels, 1, 4, 4]`.
fn filter(channels: usize, gain: f32, device: &Device) -> Tensor<4> {
    const TAPS: [f32; 4] = [1.0, 3.0, 3.0, 1.0];
    let square: Vec<f32> = TAPS
        .iter()
        .flat_map(|a| TAPS.iter().map(move |b| a * b * gain / 64.0))
        .collect();
    Tensor::<1>::from_floats(&square.repeat(channels)[..], device).reshape([channels, 1, 4, 4])
}

/// The filter over `x`, with zeros around it: `[n, c, h, w] → [n, c, (h + 2p − 4)/s + 1, …]`.
fn smooth(x: Tensor<4>, padding: usize, stride: usize, gain: f32) -> Tensor<4> {
    let channels = x.dims()[1];
    let options = ConvOptions {
        stride: [stride; 2],
        padding: [padding; 2],
        groups: channels,
        ..ConvOptions::default()
    };
    let filter = filter(channels, gain, &x.device());
    conv2d(x, filter, None, options)
}

/// `x` of even sides, smoothed, at half the size: `[n, c, h, w] → [n, c, h/2, w/2]`.
pub fn halved(x: Tensor<4>) -> Tensor<4> {
    smooth(x, 1, 2, 1.0)
}

/// `x` with zeros between its pixels, smoothed: `[n, c, h, w] → [n, c, 2h, 2w]`.
pub fn doubled(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    let options = ConvOptions {
        stride: [2; 2],
        padding: [1; 2],
        groups: channels,
        ..ConvOptions::default()
    };
    // The filter is the same forwards and backwards.
    let filter = filter(channels, 4.0, &x.device());
    conv_transpose2d(x, filter, None, options, [0; 2])
}

/// `[n, c, h, w]` times `[n, c]` at every pixel.
fn scaled(x: Tensor<4>, each: Tensor<2>) -> Tensor<4> {
    let [n, c] = each.dims();
    x.mul(each.reshape([n, c, 1, 1]))
}

/// What turns a sum of products into numbers of the products' size.
fn equalising(inputs: usize, side: usize) -> f64 {
    1.0 / ((inputs * side * side) as f64).sqrt()
}

fn normal_weight(init: &Init, shape: [usize; 4]) -> Param<Tensor<4>> {
    init.param("weight", shape, crate::random::Stream::normal)
}

/// A layer of the synthesis network: modulated 3×3 convolution with demodulation, noise, bias,
/// leaky ReLU.
#[derive(Module, Debug)]
pub struct StyledConv {
    /// From a style to the scales of the input channels, which start around 1.
    affine: Dense,
    /// `[outputs, inputs, 3, 3]`, of a layer that doubles the size `[inputs, outputs, 3, 3]`.
    weight: Param<Tensor<4>>,
    /// Strength of the noise, `[1]`.
    strength: Param<Tensor<1>>,
    /// `[outputs]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    doubles: bool,
}

impl StyledConv {
    /// A layer of styles of `style` numbers, which doubles the size of its images or keeps it.
    pub fn new(init: &Init, style: usize, [inputs, outputs]: [usize; 2], doubles: bool) -> Self {
        let shape = match doubles {
            true => [inputs, outputs, 3, 3],
            false => [outputs, inputs, 3, 3],
        };
        Self {
            affine: Dense::new(&init.at("affine"), [style, inputs], 1.0, 1.0),
            weight: normal_weight(init, shape),
            strength: init.constant("strength", [1], 0.0),
            bias: init.constant("bias", [outputs], 0.0),
            doubles,
        }
    }

    /// `[n, inputs, h, w]`, styles `[n, style]` and noise `[n, 1, oh, ow]` to
    /// `[n, outputs, oh, ow]`.
    pub fn forward(&self, x: Tensor<4>, style: Tensor<2>, noise: Tensor<4>) -> Tensor<4> {
        let [first, second, side, _] = self.weight.dims();
        let inputs = if self.doubles { first } else { second };
        let weight = self.weight.val().mul_scalar(equalising(inputs, side));
        let power = weight
            .clone()
            .square()
            .reshape([first, second, side * side])
            .sum_dim(2)
            .reshape([first, second]);
        let power = match self.doubles {
            true => power,
            false => power.transpose(), // [inputs, outputs]
        };
        let style = self.affine.forward(style); // [n, inputs]
        let sums = style.clone().square().matmul(power); // [n, outputs]
        // √2 of the activation, which it lets pass since it is positive.
        let demodulation = sums.add_scalar(EPSILON).sqrt().recip().mul_scalar(GAIN);
        let x = scaled(x, style);
        let y = match self.doubles {
            true => {
                let options = ConvOptions {
                    stride: [2; 2],
                    ..ConvOptions::default()
                };
                let wide = conv_transpose2d(x, weight, None, options, [0; 2]); // [n, k, 2h + 1, …]
                smooth(wide, 1, 1, 4.0)
            }
            false => {
                let options = ConvOptions {
                    padding: [1; 2],
                    ..ConvOptions::default()
                };
                conv2d(x, weight, None, options)
            }
        };
        let shift = self.noise_and_bias(noise);
        leaky_relu(add(scaled(y, demodulation), shift), SLOPE)
    }

    /// The noise in every channel, `strength · noise + bias`, times √2.
    fn noise_and_bias(&self, noise: Tensor<4>) -> Tensor<4> {
        let [outputs] = self.bias.dims();
        let strength = self.strength.val().mul_scalar(GAIN).reshape([1, 1, 1, 1]);
        let each = Tensor::<4>::ones([outputs, 1, 1, 1], &noise.device()).mul(strength);
        let bias = self.bias.val().mul_scalar(GAIN);
        conv2d(noise, each, Some(bias), ConvOptions::default())
    }
}

/// From maps to an image: a modulated 1×1 convolution without demodulation.
#[derive(Module, Debug)]
pub struct ToImage {
    /// From a style to the scales of the input channels, which start around 1.
    affine: Dense,
    /// `[channels, inputs, 1, 1]`.
    weight: Param<Tensor<4>>,
    /// `[channels]`.
    bias: Param<Tensor<1>>,
}

impl ToImage {
    /// Of styles of `style` numbers and maps of `inputs` channels to images of `channels`.
    pub fn new(init: &Init, style: usize, [inputs, channels]: [usize; 2]) -> Self {
        Self {
            affine: Dense::new(&init.at("affine"), [style, inputs], 1.0, 1.0),
            weight: normal_weight(init, [channels, inputs, 1, 1]),
            bias: init.constant("bias", [channels], 0.0),
        }
    }

    /// `[n, inputs, h, w]` and styles `[n, style]` to `[n, channels, h, w]`.
    pub fn forward(&self, x: Tensor<4>, style: Tensor<2>) -> Tensor<4> {
        let [_, inputs, side, _] = self.weight.dims();
        let style = self.affine.forward(style);
        let x = scaled(x, style.mul_scalar(equalising(inputs, side)));
        let bias = Some(self.bias.val());
        conv2d(x, self.weight.val(), bias, ConvOptions::default())
    }
}

/// A convolution with an equalised learning rate, as the discriminator has them.
#[derive(Module, Debug)]
pub struct EqualConv {
    /// `[outputs, inputs, side, side]`.
    weight: Param<Tensor<4>>,
    /// `[outputs]`.
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    halves: bool,
}

impl EqualConv {
    /// A kernel of `side`×`side` that keeps the size of its images.
    pub fn new(init: &Init, [inputs, outputs]: [usize; 2], side: usize, bias: bool) -> Self {
        Self {
            weight: normal_weight(init, [outputs, inputs, side, side]),
            bias: bias.then(|| init.constant("bias", [outputs], 0.0)),
            halves: false,
        }
    }

    /// A 3×3 kernel with bias that smooths its images and halves their size.
    pub fn halving(init: &Init, sizes: [usize; 2]) -> Self {
        Self {
            halves: true,
            ..Self::new(init, sizes, 3, true)
        }
    }

    /// `gain` times the convolution of `[n, inputs, h, w]`.
    pub fn forward(&self, x: Tensor<4>, gain: f64) -> Tensor<4> {
        let [_, inputs, side, _] = self.weight.dims();
        let factor = gain * equalising(inputs, side);
        let weight = self.weight.val().mul_scalar(factor);
        let bias = self.bias.as_ref().map(|b| b.val().mul_scalar(gain));
        if self.halves {
            let options = ConvOptions {
                stride: [2; 2],
                ..ConvOptions::default()
            };
            return conv2d(smooth(x, 2, 1, 1.0), weight, bias, options);
        }
        let options = ConvOptions {
            padding: [side / 2; 2],
            ..ConvOptions::default()
        };
        conv2d(x, weight, bias, options)
    }

    /// [`EqualConv::forward`], then leaky ReLU times `gain`.
    pub fn forward_leaky(&self, x: Tensor<4>, gain: f64) -> Tensor<4> {
        leaky_relu(self.forward(x, gain), SLOPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;

    #[test]
    fn sizes_change_without_changing_a_constant_away_from_the_border() {
        let x = Tensor::<4>::ones([1, 2, 8, 8], &Device::flex());
        for (y, side) in [(halved(x.clone()), 4), (doubled(x.clone()), 16)] {
            assert_eq!(y.dims(), [1, 2, side, side]);
            let inner = y.narrow(2, 1, side - 2).narrow(3, 1, side - 2);
            assert!(host(inner).iter().all(|v| (v - 1.0).abs() < 1e-6));
        }
    }

    /// Two pixels of a row (0, 1) become (3·0 + 1·1)/4 and (1·0 + 3·1)/4 between them.
    #[test]
    fn doubling_is_bilinear_between_pixels() {
        let row = Tensor::<1>::from_floats([0.0, 0.0, 1.0, 1.0], &Device::flex());
        let x = row.reshape([1, 1, 1, 4]).repeat_dim(2, 4);
        let y = host(doubled(x).narrow(2, 3, 1).narrow(3, 3, 2));
        assert!(
            (y[0] - 0.25).abs() < 1e-6 && (y[1] - 0.75).abs() < 1e-6,
            "{y:?}"
        );
    }
}
