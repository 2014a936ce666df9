//! The settings of a diffusion model.

use serde::{Deserialize, Serialize};

use super::{Denoiser, PulferNet, UNetShape, pulfer};
use crate::diffusion::{Framework, NoiseSchedule, Prediction, Process, Sampler, Variance, grid};
use crate::nn::Init;
use crate::registry::DataSpec;
use crate::{Error, Result};

/// The network of a diffusion model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffusionNetwork {
    /// U-Net with attention and a sinusoidal time code.
    #[default]
    Unet,
    /// The 28×28 network of BrianPulfer/PapersReimplementations; its sizes are fixed.
    Pulfer28,
}

/// Settings of a diffusion model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// `unet` or `pulfer28`.
    pub network: DiffusionNetwork,
    /// Side of the square of pixels the U-Net sees as one position (Hoogeboom et al., simple
    /// diffusion, 2023); 2 makes it about four times faster. Default 1.
    pub patch: usize,
    /// Channels of the first level. Default 32.
    pub width: usize,
    /// Channels of each level over `width`; each further level halves the size. Default `[1, 2, 2]`.
    pub multipliers: Vec<usize>,
    /// Residual blocks per level. Default 1.
    pub blocks: usize,
    /// Levels with attention, 0 being the full size. Default `[2]`.
    pub attention: Vec<usize>,
    /// Groups of the group normalisation. Default 8.
    pub groups: usize,
    /// `ddpm`, `flow` or `edm`.
    pub framework: Framework,
    /// `eps`, `x0` or `v`; for ddpm.
    pub prediction: Prediction,
    /// `linear` or `cosine`; for ddpm.
    pub schedule: NoiseSchedule,
    /// Steps of the discrete process; for ddpm. Default 1000.
    pub timesteps: usize,
    /// Whether the network is told the class of an image. Default false.
    pub conditional: bool,
    /// Share of training images whose class is withheld, for guidance. Default 0.1.
    pub label_dropout: f64,
    /// `auto`, `ddpm`, `ddim`, `euler` or `heun`.
    pub sampler: Sampler,
    /// Sampling steps. Default 50.
    pub steps: usize,
    /// Share of fresh noise in DDIM steps, 0 to 1. Default 0.
    pub eta: f64,
    /// Variance of ancestral noise, `small` or `large`.
    pub variance: Variance,
    /// Whether the samplers of ddpm clip the predicted image to [−1, 1]. Default true.
    pub clip: bool,
    /// Strength g of classifier-free guidance: (1+g)·F(class) − g·F(no class). Default 0.
    pub guidance: f64,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            network: DiffusionNetwork::Unet,
            patch: 1,
            width: 32,
            multipliers: vec![1, 2, 2],
            blocks: 1,
            attention: vec![2],
            groups: 8,
            framework: Framework::Ddpm,
            prediction: Prediction::Eps,
            schedule: NoiseSchedule::Linear,
            timesteps: 1000,
            conditional: false,
            label_dropout: 0.1,
            sampler: Sampler::Auto,
            steps: 50,
            eta: 0.0,
            variance: Variance::Small,
            clip: true,
            guidance: 0.0,
        }
    }
}

impl DiffusionConfig {
    /// The noising process.
    pub fn process(&self) -> Process {
        Process::new(
            self.framework,
            self.schedule,
            self.timesteps,
            self.prediction,
        )
    }

    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> Denoiser {
        match self.network {
            DiffusionNetwork::Unet => Denoiser::Unet(
                UNetShape {
                    channels: spec.channels,
                    patch: self.patch,
                    width: self.width,
                    multipliers: self.multipliers.clone(),
                    blocks: self.blocks,
                    attention: self.attention.clone(),
                    groups: self.groups,
                    classes: if self.conditional {
                        spec.classes.len()
                    } else {
                        0
                    },
                }
                .init(init),
            ),
            DiffusionNetwork::Pulfer28 => Denoiser::Pulfer(PulferNet::new(init)),
        }
    }

    /// The size images of this size are brought to when the settings do not say.
    pub fn natural_size(&self, height: usize, width: usize) -> (usize, usize) {
        match self.network {
            DiffusionNetwork::Pulfer28 => (28, 28),
            DiffusionNetwork::Unet => {
                let unit = self.patch.max(1) << self.multipliers.len().saturating_sub(1).min(16);
                (height.div_ceil(unit) * unit, width.div_ceil(unit) * unit)
            }
        }
    }

    /// Checks the settings against the images.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting and the remedy.
    pub fn check(&self, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: String| Err(Error::settings(what, remedy));
        let levels = self.multipliers.len();
        if levels == 0
            || levels > 8
            || self.blocks == 0
            || self.width < 2
            || self.multipliers.contains(&0)
            || self.groups == 0
            || self.patch == 0
        {
            return wrong(
                "a size of [model] is out of range".into(),
                "multipliers holds 1 to 8 numbers of at least 1, blocks, groups and patch are at least 1, width at least 2".into(),
            );
        }
        if !self.width.is_multiple_of(2) {
            return wrong(
                format!("model.width = {}", self.width),
                "the time code needs an even width".into(),
            );
        }
        if self
            .multipliers
            .iter()
            .chain([&1])
            .any(|m| !(self.width * m).is_multiple_of(self.groups))
        {
            return wrong(
                format!(
                    "model.width × multipliers is not divisible by {} groups",
                    self.groups
                ),
                "choose a width that model.groups divides".into(),
            );
        }
        let natural = self.natural_size(spec.height, spec.width);
        if natural != (spec.height, spec.width) {
            return wrong(
                format!(
                    "images of {}×{} do not fit this network",
                    spec.height, spec.width
                ),
                format!(
                    "use --set data.size=[{},{}] or fewer model.multipliers",
                    natural.0, natural.1
                ),
            );
        }
        if self.network == DiffusionNetwork::Pulfer28
            && (spec.channels != 1
                || self.framework != Framework::Ddpm
                || self.timesteps != pulfer::STEPS
                || self.conditional)
        {
            return wrong(
                "network pulfer28 is grey, unconditional and has 1000 ddpm steps".into(),
                "use network = \"unet\" for anything else".into(),
            );
        }
        if let Some(level) = self.attention.iter().find(|l| **l >= levels) {
            return wrong(
                format!("model.attention names level {level}"),
                format!("levels are 0 to {}", levels - 1),
            );
        }
        if self.framework != Framework::Ddpm
            && (self.prediction != Prediction::Eps || self.schedule != NoiseSchedule::Linear)
        {
            return wrong(
                "model.prediction and model.schedule belong to framework = \"ddpm\"".into(),
                "leave them out; flow and edm have their own".into(),
            );
        }
        if self.conditional && spec.classes.len() < 2 {
            return wrong(
                "model.conditional needs labels, and the data have none".into(),
                "use a folder per class, --set data.labels=FILE.csv, or model.conditional = false"
                    .into(),
            );
        }
        if !self.conditional && self.guidance != 0.0 {
            return wrong(
                "model.guidance needs a conditional model".into(),
                "set model.conditional = true".into(),
            );
        }
        if self.guidance != 0.0 && self.label_dropout == 0.0 {
            return wrong(
                "model.guidance needs a network that knows images without their class".into(),
                "set model.label_dropout above 0, such as 0.1".into(),
            );
        }
        if !(0.0..=1.0).contains(&self.label_dropout)
            || !(0.0..=1.0).contains(&self.eta)
            || !self.guidance.is_finite()
        {
            return wrong(
                "a value of [model] is out of range".into(),
                "label_dropout and eta lie in [0, 1]".into(),
            );
        }
        if self.timesteps == 0 || self.timesteps > 100_000 {
            return wrong(
                format!("model.timesteps = {}", self.timesteps),
                "use between 1 and 100000".into(),
            );
        }
        grid(&self.process(), self.sampler, self.steps).map(|_| ())
    }
}
