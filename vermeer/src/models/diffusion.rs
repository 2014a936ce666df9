//! Diffusion: a network learns to take noise out of images, and a sampler walks from pure noise
//! to an image by its help.
//!
//! ```text
//! x = a·x₀ + b·ε        loss = mean (F(x, t) − (c·x₀ + d·ε))²
//! ```
//!
//! with a, b, c, d by framework as tabled in [`crate::diffusion`]. Ho, Jain and Abbeel, Denoising
//! Diffusion Probabilistic Models, 2020.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x_0` | `[n, channels, height, width]` | signed |
//! | `eps` | as `x_0` | standard normal |
//! | `F` | as `x_0` | any |

mod likelihood;
mod pipeline;
mod preset;
pub mod pulfer;
mod settings;
mod trainer;
pub mod unet;

use burn::module::Module;
use burn::prelude::*;

pub use self::preset::{DiffusionFamily, Preset, TASKS};
pub use self::pulfer::PulferNet;
pub use self::settings::{DiffusionConfig, DiffusionNetwork};
pub use self::trainer::DiffusionTrainer;
pub use self::unet::{UNet, UNetShape};
use crate::diffusion::{Mix, Process, Sampler, Variance};
use crate::nn::Init;
use crate::registry::{DataSpec, Info};
use crate::run::TensorMap;
use crate::{Error, Result};

/// One of the networks.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Denoiser {
    /// [`UNet`].
    Unet(UNet),
    /// [`PulferNet`].
    Pulfer(PulferNet),
}

impl Denoiser {
    /// The prediction for inputs `x` at the given times, one for each row.
    pub fn forward(
        &self,
        x: Tensor<4>,
        times: &[f64],
        labels: Option<Tensor<1, Int>>,
    ) -> Tensor<4> {
        match self {
            Denoiser::Unet(net) => net.forward(x, times, labels),
            Denoiser::Pulfer(net) => net.forward(x, times),
        }
    }

    /// The prediction under classifier-free guidance (Ho and Salimans, 2022) for rows at one
    /// time: (1+g)·F(class) − g·F(`none`), both computed as one batch.
    pub fn guided(
        &self,
        x: Tensor<4>,
        time: f64,
        classes: &[i32],
        none: i32,
        guidance: f64,
    ) -> Tensor<4> {
        let (rows, device) = (classes.len(), x.device());
        let both: Vec<i32> = classes.iter().copied().chain(vec![none; rows]).collect();
        let labels = Tensor::<1, Int>::from_data(&both[..], &device);
        let f = self.forward(
            Tensor::cat(vec![x.clone(), x], 0),
            &vec![time; 2 * rows],
            Some(labels),
        );
        let (with, without) = (f.clone().narrow(0, 0, rows), f.narrow(0, rows, rows));
        with.mul_scalar(1.0 + guidance)
            .sub(without.mul_scalar(guidance))
    }
}

/// The loss for signed images `x_0` at the given levels: one value per image, `[n]`.
pub fn loss_per_image(
    net: &Denoiser,
    process: &Process,
    x_0: Tensor<4>,
    eps: Tensor<4>,
    levels: &[f64],
    labels: Option<Tensor<1, Int>>,
) -> Tensor<1> {
    let mixes: Vec<_> = levels.iter().map(|level| process.mix(*level)).collect();
    let device = x_0.device();
    let column = |pick: fn(&Mix) -> f64| -> Tensor<4> {
        let values: Vec<f32> = mixes.iter().map(|m| pick(m) as f32).collect();
        Tensor::<1>::from_floats(&values[..], &device).reshape([levels.len(), 1, 1, 1])
    };
    let input = column(|m| m.a)
        .mul(x_0.clone())
        .add(column(|m| m.b).mul(eps.clone()));
    let target = column(|m| m.c).mul(x_0).add(column(|m| m.d).mul(eps));
    let times: Vec<f64> = mixes.iter().map(|m| m.time).collect();
    let error = net.forward(input, &times, labels).sub(target).square();
    error.flatten::<2>(1, 3).mean_dim(1).squeeze_dim(1)
}

/// Every setting of a diffusion model.
pub struct AllSettings;

/// The family whose every setting can be chosen.
pub type Diffusion = DiffusionFamily<AllSettings>;

impl Preset for AllSettings {
    type Config = DiffusionConfig;

    const INFO: Info = Info {
        id: "diffusion",
        title: "Diffusion model",
        paper: "Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020",
        summary: "the best images and a stable training, at many network passes per image",
        sizes: "any height and width divisible by patch · 2^(levels − 1), 4 by default",
        tasks: TASKS,
    };

    fn settings(config: &DiffusionConfig) -> DiffusionConfig {
        config.clone()
    }

    fn tiny() -> DiffusionConfig {
        DiffusionConfig {
            width: 8,
            multipliers: vec![1, 2],
            attention: vec![1],
            groups: 4,
            conditional: true,
            steps: 4,
            guidance: 1.0,
            ..Default::default()
        }
    }

    /// Knows the network of BrianPulfer/PapersReimplementations.
    fn import(
        files: &[TensorMap],
        config: DiffusionConfig,
    ) -> Result<(DiffusionConfig, DataSpec, TensorMap)> {
        let [tensors] = files else {
            return Err(Error::checkpoint(
                "weights",
                "a diffusion network is one file of tensors",
                "name that file alone",
            ));
        };
        if !tensors.contains_key("time_embed.weight") {
            return Err(Error::checkpoint(
                "weights",
                "these are not the tensors of a known diffusion network (no time_embed.weight)",
                "known is the 28×28 U-Net of BrianPulfer/PapersReimplementations",
            ));
        }
        let config = DiffusionConfig {
            network: DiffusionNetwork::Pulfer28,
            sampler: Sampler::Ddpm,
            variance: Variance::Large,
            steps: pulfer::STEPS,
            clip: false,
            ..config
        };
        let spec = DataSpec {
            channels: 1,
            height: 28,
            width: 28,
            classes: vec![],
            attributes: vec![],
        };
        let blank = config.init(&spec, &Init::blank(&Device::flex()));
        let weights = crate::import::from_pytorch(&blank, tensors, PulferNet::published_name)?;
        Ok((config, spec, weights))
    }
}
