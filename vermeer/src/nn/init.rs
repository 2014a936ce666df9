//! Eager, keyed initialisation of layers.
//!
//! Burn draws parameters at first use from a process-wide generator, so their values depend
//! on what ran before. Here every parameter is drawn on the host when the layer is made, from
//! a stream keyed by the run's seed and the parameter's path.

use burn::module::{Param, ParamId};
use burn::nn::Embedding;
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d, GroupNorm, Linear};

use crate::random::{Purpose, Stream, digest, stream};

/// The distribution the weights of a layer are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// U(−1/√fan_in, 1/√fan_in) for weight and bias: the default of PyTorch's `Conv2d` and `Linear`.
    FanIn,
    /// N(0, std²) for the weight, zero for the bias.
    Normal(f32),
    /// Zero for both.
    Zeros,
}

/// A place in the tree of parameters: where it is, where its tensors live, how they are drawn.
#[derive(Clone, Debug)]
pub struct Init {
    device: Device,
    seed: u64,
    path: String,
    blank: bool,
}

impl Init {
    /// The root of a model whose parameters are drawn with `seed` on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            device: device.clone(),
            seed,
            path: String::new(),
            blank: false,
        }
    }

    /// The root of a model whose weights are about to be loaded: nothing is drawn.
    pub fn blank(device: &Device) -> Self {
        Self {
            device: device.clone(),
            seed: 0,
            path: String::new(),
            blank: true,
        }
    }

    /// The child `name` of this place.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        let path = match self.path.is_empty() {
            true => name.to_string(),
            false => format!("{}.{name}", self.path),
        };
        Self {
            path,
            ..self.clone()
        }
    }

    /// The device the parameters are made on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter of this place, filled by `draw` from its own stream.
    pub fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        mut draw: impl FnMut(&mut Stream) -> f32,
    ) -> Param<Tensor<D>> {
        let count = shape.iter().product();
        let values: Vec<f32> = match self.blank {
            true => vec![0.0; count],
            false => {
                let mut random = stream(self.seed, Purpose::Init, 0, digest(&self.at(name).path));
                (0..count).map(|_| draw(&mut random)).collect()
            }
        };
        let tensor = Tensor::from_data(TensorData::new(values, shape), &self.device);
        let tensor = match self.device.is_autodiff() {
            true => tensor.require_grad(),
            false => tensor,
        };
        Param::initialized(ParamId::new(), tensor)
    }

    /// A parameter with one value everywhere.
    pub fn constant<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        value: f32,
    ) -> Param<Tensor<D>> {
        self.param(name, shape, |_| value)
    }

    fn weight<const D: usize>(
        &self,
        shape: [usize; D],
        fan_in: usize,
        law: Law,
    ) -> Param<Tensor<D>> {
        self.param("weight", shape, draw(law, fan_in))
    }

    fn bias(&self, size: usize, fan_in: usize, law: Law) -> Param<Tensor<1>> {
        match law {
            Law::FanIn => self.param("bias", [size], draw(law, fan_in)),
            Law::Normal(_) | Law::Zeros => self.constant("bias", [size], 0.0),
        }
    }

    /// A fully connected layer; the weight is `[inputs, outputs]`.
    pub fn linear(&self, inputs: usize, outputs: usize, law: Law) -> Linear {
        Linear {
            weight: self.weight([inputs, outputs], inputs, law),
            bias: Some(self.bias(outputs, inputs, law)),
        }
    }

    /// A convolution `[n, inputs, h, w] → [n, outputs, (h + 2p − k)/s + 1, …]`.
    pub fn conv2d(
        &self,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
        law: Law,
    ) -> Conv2d {
        let fan_in = inputs * kernel * kernel;
        Conv2d {
            weight: self.weight([outputs, inputs, kernel, kernel], fan_in, law),
            bias: bias.then(|| self.bias(outputs, fan_in, law)),
            options: ConvOptions {
                stride: [stride; 2],
                padding: [padding; 2],
                ..ConvOptions::default()
            },
        }
    }

    /// A transposed convolution `[n, inputs, h, w] → [n, outputs, (h − 1)s − 2p + k, …]`.
    ///
    /// As in PyTorch, the fan-in of the default law counts the *output* channels.
    pub fn conv_transpose2d(
        &self,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
        law: Law,
    ) -> ConvTranspose2d {
        let fan_in = outputs * kernel * kernel;
        ConvTranspose2d {
            weight: self.weight([inputs, outputs, kernel, kernel], fan_in, law),
            bias: bias.then(|| self.bias(outputs, fan_in, law)),
            options: ConvOptions {
                stride: [stride; 2],
                padding: [padding; 2],
                ..ConvOptions::default()
            },
            padding_out: [0; 2],
        }
    }

    /// Group normalisation over `channels`, epsilon 1e-5.
    pub fn group_norm(&self, groups: usize, channels: usize) -> GroupNorm {
        GroupNorm {
            gamma: self.constant("gamma", [channels], 1.0),
            beta: self.constant("beta", [channels], 0.0),
            groups,
            epsilon: 1e-5,
        }
    }

    /// A table of `rows` vectors of `size` numbers, drawn from N(0, 1).
    pub fn embedding(&self, rows: usize, size: usize) -> Embedding {
        Embedding {
            weight: self.param("weight", [rows, size], Stream::normal),
        }
    }
}

fn draw(law: Law, fan_in: usize) -> impl FnMut(&mut Stream) -> f32 {
    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
    move |random: &mut Stream| match law {
        Law::FanIn => (2.0 * random.uniform() - 1.0) * bound,
        Law::Normal(std) => random.normal() * std,
        Law::Zeros => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_depends_on_seed_and_path_only() {
        let device = Device::flex();
        let draw = |seed, path: &str| {
            let layer = Init::new(seed, &device).at(path).linear(3, 4, Law::FanIn);
            layer.weight.val().into_data()
        };
        let first = draw(1, "a");
        draw(1, "b");
        assert_eq!(first, draw(1, "a"));
        assert_ne!(first, draw(1, "b"));
        assert_ne!(first, draw(2, "a"));
    }

    #[test]
    fn the_default_law_stays_inside_its_bound() {
        let conv = Init::new(3, &Device::flex()).conv2d([4, 8], 3, 1, 1, true, Law::FanIn);
        let values: Vec<f32> = conv.weight.val().into_data().try_to_vec().unwrap();
        let bound = 1.0 / 6.0; // fan-in 4·3·3 = 36
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest}");
    }
}
