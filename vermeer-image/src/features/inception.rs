//! The Inception network that the Fréchet Inception Distance and the Inception Score look with:
//! TensorFlow's graph of 2015-12-05 (Szegedy et al., 2015, "Rethinking the Inception
//! Architecture"), as pytorch-fid and torch-fidelity name its tensors.
//!
//! It is torchvision's Inception-v3 with three differences: 1008 logits; the means of 3×3 pixels
//! inside the blocks leave out what lies around the image; the last block takes the largest of
//! 3×3 pixels where the others take the mean. Every convolution is followed by batch
//! normalisation (ε = 1e-3) and ReLU.
//!
//! | stage | map | its mean over the pixels |
//! |---|---|---|
//! | three convolutions, pool | `[n, 64, 73, 73]` | [`Tap::Pool64`] |
//! | two convolutions, pool | `[n, 192, 35, 35]` | [`Tap::Pool192`] |
//! | Mixed_5b to Mixed_6e | `[n, 768, 17, 17]` | [`Tap::Pool768`] |
//! | Mixed_7a to Mixed_7c | `[n, 2048, 8, 8]` | [`Tap::Pool2048`] |
//! | linear, without and with its bias | `[n, 1008]` | [`Tap::LogitsUnbiased`], [`Tap::Logits`] |
//!
//! Checked against torch-fidelity 0.4.0 and pytorch-fid 0.3.0 with weights by a formula.

mod block;
mod load;

use std::collections::BTreeMap;

use burn::prelude::*;
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::Conv2d;

use self::block::{Branch, Stage};
use self::load::Loader;
use super::frozen::{expect_size, rows, spatial_mean};
use super::weights::{Weights, param};
use crate::Result;

const LOGITS: usize = 1008;

/// Where features are taken, from the shallowest to the deepest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tap {
    /// 64 means of the map after the first pool.
    Pool64,
    /// 192 means of the map after the second pool.
    Pool192,
    /// 768 means of the map that trained the auxiliary classifier.
    Pool768,
    /// 2048 means of the last map: the features of FID and KID.
    Pool2048,
    /// 1008 logits without the bias of the last layer: those of the Inception Score.
    LogitsUnbiased,
    /// 1008 logits.
    Logits,
}

impl Tap {
    /// Every tap, from the shallowest to the deepest.
    pub const ALL: [Self; 6] = [
        Self::Pool64,
        Self::Pool192,
        Self::Pool768,
        Self::Pool2048,
        Self::LogitsUnbiased,
        Self::Logits,
    ];

    /// The name that torch-fidelity gives the features.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pool64 => "64",
            Self::Pool192 => "192",
            Self::Pool768 => "768",
            Self::Pool2048 => "2048",
            Self::LogitsUnbiased => "logits_unbiased",
            Self::Logits => "logits",
        }
    }

    /// How many features there are.
    pub fn dims(self) -> usize {
        match self {
            Self::Pool64 => 64,
            Self::Pool192 => 192,
            Self::Pool768 => 768,
            Self::Pool2048 => 2048,
            Self::LogitsUnbiased | Self::Logits => LOGITS,
        }
    }
}

/// The network, with batch normalisation folded into the convolutions.
#[derive(Clone, Debug)]
pub struct Inception {
    stages: [Stage; 4],
    fc: Conv2d,
    /// `[1, 1008]`.
    fc_bias: Tensor<2>,
}

impl Inception {
    /// Rows and columns of the images the network looks at.
    pub const SIDE: usize = 299;

    /// The network with weights as pytorch-fid and torch-fidelity publish them
    /// (`Conv2d_1a_3x3.conv.weight` … `fc.bias`); an auxiliary classifier (`AuxLogits.*`) is left
    /// out.
    ///
    /// # Errors
    /// [`ImageError::Refused`](crate::ImageError::Refused) when a tensor is missing, has another
    /// shape, holds a value that is not finite, or is not one of this network.
    pub fn load(mut weights: Weights, device: &Device) -> Result<Self> {
        drop(weights.part(|name| name.starts_with("AuxLogits.")));
        let mut load = Loader {
            weights: &mut weights,
            device,
        };
        let stages = [
            load.first_stem()?,
            load.second_stem()?,
            Stage::Mixed(vec![
                load.block_a("Mixed_5b", 192, 32)?,
                load.block_a("Mixed_5c", 256, 64)?,
                load.block_a("Mixed_5d", 288, 64)?,
                load.block_b("Mixed_6a", 288)?,
                load.block_c("Mixed_6b", 128)?,
                load.block_c("Mixed_6c", 160)?,
                load.block_c("Mixed_6d", 160)?,
                load.block_c("Mixed_6e", 192)?,
            ]),
            Stage::Mixed(vec![
                load.block_d("Mixed_7a", 768)?,
                load.block_e("Mixed_7b", 1280, Branch::Mean)?,
                load.block_e("Mixed_7c", 2048, Branch::Largest)?,
            ]),
        ];
        let weight: Tensor<2> = weights.tensor("fc.weight", [LOGITS, 2048], device)?;
        let bias: Tensor<1> = weights.tensor("fc.bias", [LOGITS], device)?;
        weights.finish()?;
        Ok(Self {
            stages,
            // As a convolution, so that an image's logits do not depend on the batch it is in.
            fc: Conv2d {
                weight: param(weight.reshape([LOGITS, 2048, 1, 1])),
                bias: None,
                options: ConvOptions::default(),
            },
            fc_bias: bias.reshape([1, LOGITS]),
        })
    }

    /// The features at `taps`, in their order, `[n, dims]` each; nothing behind the deepest tap is
    /// computed.
    ///
    /// `x` holds images `[n, 3, 299, 299]` in the graph's own range: about \[-1, 1\], as the
    /// protocol scales them (pytorch-fid `2x − 1` of unit images, torch-fidelity
    /// `(x − 128) / 128` of bytes).
    ///
    /// # Errors
    /// [`ImageError::Shape`](crate::ImageError::Shape) for images of another shape.
    pub fn forward(&self, mut x: Tensor<4>, taps: &[Tap]) -> Result<Vec<Tensor<2>>> {
        expect_size("Inception", &x, [3, Self::SIDE, Self::SIDE])?;
        let Some(deepest) = taps.iter().copied().max() else {
            return Ok(vec![]);
        };
        let mut found: BTreeMap<Tap, Tensor<2>> = BTreeMap::new();
        for (tap, stage) in Tap::ALL.into_iter().zip(&self.stages) {
            x = stage.forward(x);
            if taps.contains(&tap) {
                found.insert(tap, rows(spatial_mean(x.clone())));
            }
            if tap == deepest {
                break;
            }
        }
        if deepest > Tap::Pool2048 {
            let unbiased = rows(self.fc.forward(spatial_mean(x))); // [n, 1008]
            let logits = unbiased.clone().add(self.fc_bias.clone());
            found.insert(Tap::LogitsUnbiased, unbiased);
            found.insert(Tap::Logits, logits);
        }
        Ok(taps
            .iter()
            .filter_map(|tap| found.get(tap).cloned())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_named_and_sorted() {
        assert!(Tap::ALL.is_sorted());
        for tap in &Tap::ALL[..4] {
            assert_eq!(tap.name(), tap.dims().to_string());
        }
    }

    #[test]
    fn an_empty_file_is_no_inception() {
        let empty = Weights::new("empty.pth", BTreeMap::new());
        let message = Inception::load(empty, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(message.contains("empty.pth"), "{message}");
        assert!(message.contains("Conv2d_1a_3x3.conv.weight"), "{message}");
    }
}
