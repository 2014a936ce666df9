//! The embedded feature network: a small residual network (He et al., 2016) that Vermeer trained
//! on pictures it draws itself, for comparing sets of images without any download.
//!
//! `cargo run --release --example train_features` of the `vermeer` crate makes its weight file,
//! whose header says how it was trained and what it reaches on pictures held out; see
//! `docs/features.md`. Its features are no Inception features, and distances between them are
//! no FID.
//!
//! | layer | output |
//! |---|---|
//! | `4x − 2` of unit RGB images | `[n, 3, 64, 64]` |
//! | convolution 3×3 by two; residual | `[n, 32, 32, 32]` |
//! | convolution 3×3 by two; residual | `[n, 48, 16, 16]` |
//! | convolution 3×3 by two; residual | `[n, 96, 8, 8]` |
//! | convolution 3×3 | `[n, 128, 8, 8]` |
//! | mean over the pixels | `[n, 128]` |
//!
//! After each convolution come batch normalisation with the statistics of its training, which is
//! folded into the convolution, and a leaky ReLU; a residual layer adds its input between the two.
//! The features of an image therefore do not depend on the images beside it.

use std::collections::BTreeMap;

use burn::prelude::*;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, ConvOptions, Then};

use super::frozen::{rows, spatial_mean};
use super::weights::{NormedConv, Weights};
use crate::{ImageError, Result};

/// SHA-256 of the file of the embedded weights, which names the network beside every number that
/// comes from it.
pub const WORLD_NET_SHA256: &str =
    "5b3b735bc8d114f12b55323037f47db5b12e8b5e60732a799124a5d385b38d92";

static WEIGHTS: &[u8] = include_bytes!("world_net.safetensors");

/// The network for use.
#[derive(Clone, Debug)]
pub struct WorldNet {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    conv: Conv2d,
    residual: bool,
}

impl WorldNet {
    /// Rows and columns of its images.
    pub const SIDE: usize = 64;

    /// Features of an image.
    pub const DIMS: usize = 128;

    /// Channels before, channels after and step of each convolution.
    pub const LAYERS: [[usize; 3]; 7] = [
        [3, 32, 2],
        [32, 32, 1],
        [32, 48, 2],
        [48, 48, 1],
        [48, 96, 2],
        [96, 96, 1],
        [96, Self::DIMS, 1],
    ];

    /// What the leaky ReLU multiplies negative numbers by.
    pub const SLOPE: f32 = 0.1;

    /// Added to the variance of the batch normalisation.
    pub const EPSILON: f64 = 1e-5;

    /// Whether a layer of [`WorldNet::LAYERS`] adds its input: one that changes no size does.
    pub fn is_residual([from, to, step]: [usize; 3]) -> bool {
        from == to && step == 1
    }

    /// The network with weights from elsewhere: for layer `i` the convolution
    /// `layers.<i>.conv.weight` and its normalisation `layers.<i>.norm.weight`, `bias`,
    /// `running_mean` and `running_var`.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when a tensor is missing, has another shape, holds a value that is
    /// not finite, or is not one of this network.
    pub fn load(mut weights: Weights, device: &Device) -> Result<Self> {
        let mut layers = Vec::with_capacity(Self::LAYERS.len());
        for (i, [from, to, step]) in Self::LAYERS.into_iter().enumerate() {
            let (conv, norm) = (format!("layers.{i}.conv"), format!("layers.{i}.norm"));
            let of = NormedConv {
                conv: &conv,
                norm: &norm,
                bias: false,
                epsilon: Self::EPSILON,
            };
            let options = ConvOptions {
                stride: [step; 2],
                padding: [1; 2],
                ..ConvOptions::default()
            };
            layers.push(Layer {
                conv: weights.normed_conv(&of, [to, from, 3, 3], options, device)?,
                residual: Self::is_residual([from, to, step]),
            });
        }
        weights.finish()?;
        Ok(Self { layers })
    }

    /// The network that is part of this crate.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when the embedded weights are not those of [`WORLD_NET_SHA256`].
    pub fn embedded(device: &Device) -> Result<Self> {
        let sum = sum();
        if sum != WORLD_NET_SHA256 {
            return Err(wrong(format!("its weights have the sum {sum}")));
        }
        let file = SafeTensors::deserialize(WEIGHTS).map_err(|error| wrong(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(wrong(format!("{name} does not hold f32")));
            }
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Self::load(
            Weights::new("the embedded feature network", tensors),
            device,
        )
    }

    /// The features `[n, 128]` of unit images `[n, 3, 64, 64]`.
    ///
    /// # Panics
    /// When the images have another shape.
    pub fn features(&self, x: Tensor<4>) -> Tensor<2> {
        let size = [3, Self::SIDE, Self::SIDE];
        assert_eq!(x.dims()[1..], size, "images are RGB and 64×64");
        let mut x = x.mul_scalar(4.0).sub_scalar(2.0);
        for layer in &self.layers {
            let then = Then {
                residual: layer.residual.then(|| x.clone()),
                slopes: None,
                activation: Activation::LeakyRelu(Self::SLOPE),
            };
            x = layer.conv.forward_then(x, then);
        } // [n, 128, 8, 8]
        rows(spatial_mean(x))
    }
}

/// The SHA-256 of the embedded file.
fn sum() -> String {
    Sha256::digest(WEIGHTS)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn wrong(what: String) -> ImageError {
    ImageError::refused(
        "the embedded feature network",
        what,
        "build Vermeer again from a clean checkout",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` numbers in [0, 1) that look random (a linear congruence).
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn images(values: &[f32], n: usize) -> Tensor<4> {
        let data = TensorData::new(values.to_vec(), [n, 3, 64, 64]);
        Tensor::from_data(data, &Device::flex())
    }

    fn features(network: &WorldNet, values: &[f32], n: usize) -> Vec<f32> {
        let features = network.features(images(values, n));
        assert_eq!(features.dims(), [n, WorldNet::DIMS]);
        features.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn the_embedded_file_is_the_one_that_is_named() {
        assert_eq!(sum(), WORLD_NET_SHA256);
        assert!(WEIGHTS.len() < 2_000_000);
        let (_, header) = SafeTensors::read_metadata(WEIGHTS).unwrap();
        let about = header.metadata().as_ref().unwrap();
        let number = |key: &str| about[key].parse::<f64>().unwrap();
        assert!(number("held_out_class_accuracy") >= 0.7);
        assert!(number("held_out_degradation_accuracy") >= 0.6);
    }

    #[test]
    fn features_do_not_depend_on_the_images_beside() {
        let network = WorldNet::embedded(&Device::flex()).unwrap();
        let size = 3 * 64 * 64;
        let five = numbers(5 * size, 1);
        let together = features(&network, &five, 5);
        for (i, expected) in together.chunks_exact(WorldNet::DIMS).enumerate() {
            let alone = features(&network, &five[i * size..(i + 1) * size], 1);
            for (a, b) in alone.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "image {i}: {a} and {b}");
            }
        }
    }

    #[test]
    fn features_tell_images_apart() {
        let network = WorldNet::embedded(&Device::flex()).unwrap();
        let size = 3 * 64 * 64;
        let plain = features(&network, &vec![0.5; size], 1);
        let noisy = features(&network, &numbers(size, 2), 1);
        let gap = plain.iter().zip(&noisy).map(|(a, b)| (a - b).powi(2));
        assert!(gap.sum::<f32>().sqrt() > 0.1, "{plain:?} and {noisy:?}");
    }

    #[test]
    fn weights_of_one_channel_by_hand() {
        // Each layer takes channel 0 at the middle of its kernel, times 1 (residual layers times
        // 0); a normalisation with variance 1 − ε and shift 0 changes nothing. An image of 0.75
        // is 1 after scaling, stays 1, and the features are 1 in channel 0 and 0 elsewhere.
        let mut tensors = BTreeMap::new();
        for (i, [from, to, step]) in WorldNet::LAYERS.into_iter().enumerate() {
            let mut weight = vec![0.0; to * from * 9];
            if !WorldNet::is_residual([from, to, step]) {
                weight[4] = 1.0;
            }
            let name = |part: &str| format!("layers.{i}.{part}");
            tensors.insert(name("conv.weight"), (vec![to, from, 3, 3], weight));
            for (part, value) in [
                ("norm.weight", 1.0),
                ("norm.bias", 0.0),
                ("norm.running_mean", 0.0),
                ("norm.running_var", 1.0 - WorldNet::EPSILON as f32),
            ] {
                tensors.insert(name(part), (vec![to], vec![value; to]));
            }
        }
        let weights = Weights::new("weights by hand", tensors);
        let network = WorldNet::load(weights, &Device::flex()).unwrap();
        let found = features(&network, &vec![0.75; 3 * 64 * 64], 1);
        assert!((found[0] - 1.0).abs() < 1e-4, "{}", found[0]);
        assert!(found[1..].iter().all(|value| value.abs() < 1e-6));
        // Black is −2, which the leaky ReLU of the four layers that do not add makes
        // −2 · 0.1⁴; the three residual ones multiply by 0.1 again.
        let found = features(&network, &vec![0.0; 3 * 64 * 64], 1);
        assert!((found[0] + 2e-7).abs() < 1e-9, "{}", found[0]);
    }
}
