//! Diffusion: a network learns to take noise out of images, and a sampler walks from pure noise
//! to an image by its help.
//!
//! ```text
//! x = a·x₀ + b·ε        loss = mean (F(x, t) − (c·x₀ + d·ε))²
//! ```
//!
//! with a, b, c, d by framework as tabled in [`crate::diffusion`].
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x_0` | `[n, channels, height, width]` | signed |
//! | `eps` | as `x_0` | standard normal |
//! | `F` | as `x_0` | any |

pub mod pulfer;
pub mod unet;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_image::{ImageBatch, Range};

pub use self::pulfer::PulferNet;
pub use self::unet::{UNet, UNetShape};
use crate::data::HostBatch;
use crate::diffusion::{
    Framework, Grid, NoiseSchedule, Prediction, Process, Sampler, Variance, grid, sample,
};
use crate::nn::{Gradients, Init, load};
use crate::optim::Learner;
use crate::random::{Purpose, latents, normals, stream};
use crate::registry::{
    DataSpec, Family, Info, Step, TrainDefaults, TrainState, Trainer, TrainerContext,
};
use crate::run::TensorMap;
use crate::task::{
    Answer, BLOCK, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_latents,
    rows_in_blocks, unsupported,
};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, accumulate, images_to_device};
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
}

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
    let column = |pick: fn(&crate::diffusion::Mix) -> f64| -> Tensor<4> {
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

/// The family.
pub struct Diffusion;

impl Family for Diffusion {
    type Config = DiffusionConfig;
    type Trainer = DiffusionTrainer;

    const INFO: Info = Info {
        id: "diffusion",
        title: "Diffusion model",
        paper: "Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020",
        summary: "the best images and a stable training, at many network passes per image",
        sizes: "any height and width divisible by patch · 2^(levels − 1), 4 by default",
        tasks: &[Task::Generate, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(config: &DiffusionConfig, height: usize, width: usize) -> (usize, usize) {
        match config.network {
            DiffusionNetwork::Pulfer28 => (28, 28),
            DiffusionNetwork::Unet => {
                let unit =
                    config.patch.max(1) << config.multipliers.len().saturating_sub(1).min(16);
                (height.div_ceil(unit) * unit, width.div_ceil(unit) * unit)
            }
        }
    }

    fn check(config: &DiffusionConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: String| Err(Error::settings(what, remedy));
        let levels = config.multipliers.len();
        if levels == 0
            || levels > 8
            || config.blocks == 0
            || config.width < 2
            || config.multipliers.contains(&0)
            || config.groups == 0
            || config.patch == 0
        {
            return wrong(
                "a size of [model] is out of range".into(),
                "multipliers holds 1 to 8 numbers of at least 1, blocks, groups and patch are at least 1, width at least 2".into(),
            );
        }
        if !config.width.is_multiple_of(2) {
            return wrong(
                format!("model.width = {}", config.width),
                "the time code needs an even width".into(),
            );
        }
        if config
            .multipliers
            .iter()
            .chain([&1])
            .any(|m| !(config.width * m).is_multiple_of(config.groups))
        {
            return wrong(
                format!(
                    "model.width × multipliers is not divisible by {} groups",
                    config.groups
                ),
                "choose a width that model.groups divides".into(),
            );
        }
        let natural = Self::natural_size(config, spec.height, spec.width);
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
        if config.network == DiffusionNetwork::Pulfer28
            && (spec.channels != 1
                || config.framework != Framework::Ddpm
                || config.timesteps != pulfer::STEPS
                || config.conditional)
        {
            return wrong(
                "network pulfer28 is grey, unconditional and has 1000 ddpm steps".into(),
                "use network = \"unet\" for anything else".into(),
            );
        }
        if let Some(level) = config.attention.iter().find(|l| **l >= levels) {
            return wrong(
                format!("model.attention names level {level}"),
                format!("levels are 0 to {}", levels - 1),
            );
        }
        if config.framework != Framework::Ddpm
            && (config.prediction != Prediction::Eps || config.schedule != NoiseSchedule::Linear)
        {
            return wrong(
                "model.prediction and model.schedule belong to framework = \"ddpm\"".into(),
                "leave them out; flow and edm have their own".into(),
            );
        }
        if config.conditional && spec.classes.len() < 2 {
            return wrong(
                "model.conditional needs labels, and the data have none".into(),
                "use a folder per class, --set data.labels=FILE.csv, or model.conditional = false"
                    .into(),
            );
        }
        if !config.conditional && config.guidance != 0.0 {
            return wrong(
                "model.guidance needs a conditional model".into(),
                "set model.conditional = true".into(),
            );
        }
        if !(0.0..=1.0).contains(&config.label_dropout)
            || !(0.0..=1.0).contains(&config.eta)
            || !config.guidance.is_finite()
        {
            return wrong(
                "a value of [model] is out of range".into(),
                "label_dropout and eta lie in [0, 1]".into(),
            );
        }
        if config.timesteps == 0 || config.timesteps > 100_000 {
            return wrong(
                format!("model.timesteps = {}", config.timesteps),
                "use between 1 and 100000".into(),
            );
        }
        grid(&config.process(), config.sampler, config.steps).map(|_| ())
    }

    fn trainer(config: &DiffusionConfig, context: &TrainerContext) -> Result<DiffusionTrainer> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(DiffusionTrainer {
            learner: Learner::new(net, context.adam, context.average_half_life_images, ""),
            process: config.process(),
            config: config.clone(),
            context: context.clone(),
        })
    }

    fn pipeline(
        config: &DiffusionConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = load(
            config.init(spec, &Init::blank(device)),
            weights,
            "model.safetensors".as_ref(),
        )?;
        Ok(Box::new(DiffusionPipeline::new(
            net.valid(),
            config,
            spec,
            device,
        )))
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

    fn tiny() -> (DiffusionConfig, DataSpec) {
        let config = DiffusionConfig {
            width: 8,
            multipliers: vec![1, 2],
            attention: vec![1],
            groups: 4,
            conditional: true,
            steps: 4,
            guidance: 1.0,
            ..Default::default()
        };
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        (
            config,
            DataSpec {
                channels: 1,
                height: 12,
                width: 8,
                classes,
                attributes: vec![],
            },
        )
    }
}

/// A diffusion model in training.
pub struct DiffusionTrainer {
    learner: Learner<Denoiser>,
    process: Process,
    config: DiffusionConfig,
    context: TrainerContext,
}

impl DiffusionTrainer {
    /// Labels of a batch, some withheld: the number of classes means "no label".
    fn labels(&self, batch: &HostBatch, dropout: f64, device: &Device) -> Option<Tensor<1, Int>> {
        if !self.config.conditional {
            return None;
        }
        let none = self.context.spec.classes.len() as i32;
        let labels = batch
            .labels
            .as_ref()?
            .iter()
            .enumerate()
            .map(|(row, label)| {
                let mut random = stream(
                    self.context.seed,
                    Purpose::DropLabel,
                    batch.step,
                    row as u64,
                );
                if f64::from(random.uniform()) < dropout {
                    none
                } else {
                    *label as i32
                }
            });
        let labels: Vec<i32> = labels.collect();
        Some(Tensor::from_data(&labels[..], device))
    }

    fn noise(&self, batch: &HostBatch, purpose: Purpose, device: &Device) -> Tensor<4> {
        let [c, h, w] = batch.shape;
        let eps = normals(
            self.context.seed,
            purpose,
            batch.step,
            batch.batch,
            c * h * w,
        );
        Tensor::<1>::from_floats(&eps[..], device).reshape([batch.batch, c, h, w])
    }

    fn levels(&self, batch: &HostBatch, step: u64) -> Vec<f64> {
        let draw = |row| {
            self.process
                .draw(&mut stream(self.context.seed, Purpose::Time, step, row))
        };
        (0..batch.batch as u64).map(draw).collect()
    }
}

impl Trainer for DiffusionTrainer {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let mut gradients = Gradients::default();
        let mut total: Scalars = vec![];
        let (parts, images) = (step.micro.len(), step.micro.iter().map(|b| b.batch).sum());
        for batch in step.micro {
            let (net, device) = (self.learner.module(), &self.context.device);
            let x_0 = images_to_device(batch, Range::Signed, device);
            let eps = self.noise(batch, Purpose::Noise, device);
            let labels = self.labels(batch, self.config.label_dropout, device);
            let levels = self.levels(batch, batch.step);
            let loss = loss_per_image(net, &self.process, x_0, eps, &levels, labels).mean();
            let value = f64::from(loss.clone().into_scalar::<f32>());
            gradients.add(Gradients::take(&mut loss.backward(), net));
            accumulate(&mut total, &[("loss", value)], parts);
        }
        let norm = self.learner.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("gradient_norm", norm));
        Ok(total)
    }

    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        let x_0 = images_to_device(batch, Range::Signed, &device);
        let eps = self.noise(batch, Purpose::Validate, &device);
        // Levels of validation come from step numbers no training step uses.
        let levels = self.levels(batch, u64::MAX - batch.step);
        let labels = self.labels(batch, 0.0, &device);
        let loss = loss_per_image(&net, &self.process, x_0, eps, &levels, labels).mean();
        Ok(vec![("loss", f64::from(loss.into_scalar::<f32>()))])
    }

    /// The loss at four noise levels, over the loss of answering zero: near one the network has
    /// learned nothing there, above one it is worse than nothing.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.context.device.clone().without_autodiff();
        let net = self.learner.for_use();
        let x_0 = images_to_device(batch, Range::Signed, &device);
        let eps = self.noise(batch, Purpose::Validate, &device);
        let power = f64::from(x_0.clone().square().mean().into_scalar::<f32>());
        let labels = self.labels(batch, 0.0, &device);
        let names = [
            "loss_level_1",
            "loss_level_2",
            "loss_level_3",
            "loss_level_4",
        ];
        let mut signs = vec![];
        for (name, level) in names.into_iter().zip(self.process.probe_levels()) {
            let levels = vec![level; batch.batch];
            let loss = loss_per_image(
                &net,
                &self.process,
                x_0.clone(),
                eps.clone(),
                &levels,
                labels.clone(),
            )
            .mean();
            let mix = self.process.mix(level);
            let nothing = mix.c * mix.c * power + mix.d * mix.d;
            let ratio = f64::from(loss.into_scalar::<f32>()) / nothing;
            signs.push((name, ratio, Limit::Above { watch: 0.98, bad: 1.2 },
                "loss at one noise level over that of answering zero (level 1 has the least noise); above one the training diverges: lower train.learning_rate or set train.clip_norm"));
        }
        Ok(Health::judge(signs))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.learner.save(&mut state);
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        self.learner.restore(state, &self.context.device)
    }

    fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        self.learner.start_from(weights)
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline>> {
        let device = self.context.device.clone().without_autodiff();
        Ok(Box::new(DiffusionPipeline::new(
            self.learner.for_use(),
            &self.config,
            &self.context.spec,
            &device,
        )))
    }

    fn parameters(&self) -> usize {
        self.learner.parameters()
    }
}

struct DiffusionPipeline {
    net: Denoiser,
    process: Process,
    config: DiffusionConfig,
    spec: DataSpec,
    device: Device,
}

impl DiffusionPipeline {
    fn new(net: Denoiser, config: &DiffusionConfig, spec: &DataSpec, device: &Device) -> Self {
        Self {
            net,
            process: config.process(),
            config: config.clone(),
            spec: spec.clone(),
            device: device.clone(),
        }
    }

    /// The settings of the model, overlaid with those of the request.
    fn grid(&self, options: &SampleOptions) -> Result<Grid> {
        let sampler = match &options.sampler {
            Some(name) => name.parse()?,
            None => self.config.sampler,
        };
        let eta = options.eta.map_or(self.config.eta, f64::from);
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::settings(
                format!("eta = {eta}"),
                "eta lies between 0 (no fresh noise) and 1",
            ));
        }
        let grid = grid(
            &self.process,
            sampler,
            options.steps.unwrap_or(self.config.steps),
        )?;
        let clip = grid.clip && self.config.clip;
        Ok(Grid {
            eta,
            variance: self.config.variance,
            clip,
            ..grid
        })
    }

    /// The class of each sample: the one asked for, or drawn from the sample's own stream.
    fn classes(&self, numbers: &[u64], options: &SampleOptions) -> Result<Option<Vec<i32>>> {
        let count = self.spec.classes.len();
        match (self.config.conditional, options.class) {
            (false, None) => Ok(None),
            (false, Some(_)) => Err(Error::settings(
                "the model does not know classes",
                "leave --class out, or train with model.conditional = true",
            )),
            (true, Some(class)) if class as usize >= count => Err(Error::settings(
                format!("there is no class {class}"),
                format!("classes are {}", self.spec.classes.join(", ")),
            )),
            (true, Some(class)) => Ok(Some(vec![class as i32; numbers.len()])),
            (true, None) => {
                let draw = |number: &u64| {
                    stream(options.seed, Purpose::Class, 0, *number).below(count as u64) as i32
                };
                Ok(Some(numbers.iter().map(draw).collect()))
            }
        }
    }

    /// Walks the start `noise` of one block to signed images.
    fn walk(
        &self,
        noise: Tensor<4>,
        numbers: &[u64],
        options: &SampleOptions,
        progress: Progress,
    ) -> Result<Tensor<4>> {
        let grid = self.grid(options)?;
        let rows = noise.dims()[0];
        let guidance = options.guidance.map_or(self.config.guidance, f64::from);
        let classes = self.classes(numbers, options)?;
        if guidance != 0.0 && classes.is_none() {
            return Err(Error::settings(
                "guidance needs a conditional model",
                "leave --guidance out, or train with model.conditional = true",
            ));
        }
        let none = self.spec.classes.len() as i32;
        let label = |values: &[i32]| Tensor::<1, Int>::from_data(values, &self.device);
        let network = |x: Tensor<4>, time: f64| match &classes {
            None => self.net.forward(x, &vec![time; rows], None),
            Some(classes) if guidance == 0.0 => {
                self.net.forward(x, &vec![time; rows], Some(label(classes)))
            }
            Some(classes) => self.net.guided(x, time, classes, none, guidance),
        };
        let [c, h, w] = self.spec.shape();
        let fresh = |step: usize| {
            let mut values = vec![0.0; rows * c * h * w];
            for (number, row) in numbers.iter().zip(values.chunks_exact_mut(c * h * w)) {
                stream(options.seed, Purpose::Sampler, step as u64, *number).fill_normal(row);
            }
            Tensor::<1>::from_floats(&values[..], &self.device).reshape([rows, c, h, w])
        };
        Ok(sample(&grid, noise, network, fresh, |done, steps| {
            progress(done, steps)
        }))
    }

    fn start(&self, numbers: &[u64], seed: u64) -> Tensor<4> {
        let [c, h, w] = self.spec.shape();
        let z = latents(seed, numbers, c * h * w);
        Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), c, h, w])
    }

    /// Signed samples as unit images. The published 28×28 network does not see a constant added
    /// to its input, so the brightness of its samples drifts by several units; each one is
    /// brought to the full range by its own minimum and maximum, as its authors show them.
    fn finish(&self, x: Tensor<4>) -> Result<ImageBatch> {
        let x = match self.config.network {
            DiffusionNetwork::Unet => x,
            DiffusionNetwork::Pulfer28 => {
                let [n, c, h, w] = x.dims();
                let flat = x.reshape([n, c * h * w]);
                let low = flat.clone().min_dim(1);
                let span = flat.clone().max_dim(1).sub(low.clone()).clamp_min(1e-6);
                let unit = flat.sub(low).div(span);
                unit.mul_scalar(2.0).sub_scalar(1.0).reshape([n, c, h, w])
            }
        };
        let x = x.clamp(-1.0, 1.0);
        Ok(ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit))
    }
}

impl Pipeline for DiffusionPipeline {
    fn tasks(&self) -> &'static [Task] {
        Diffusion::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        match request {
            Request::Generate { numbers, options } => {
                let blocks: std::collections::BTreeSet<_> =
                    numbers.iter().map(|n| n / BLOCK as u64).collect();
                let mut walked = 0;
                let x = in_blocks(numbers, |block| {
                    let before = walked;
                    walked += 1;
                    let part: Progress =
                        &mut |done, steps| progress(before * steps + done, blocks.len() * steps);
                    self.walk(self.start(block, options.seed), block, options, part)
                })?;
                Ok(Answer::Images(self.finish(x)?))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                let class = self
                    .classes(&[*from], options)?
                    .map(|classes| classes[0] as u32);
                // The frames differ by their start alone, so the walk must not add noise.
                let options = SampleOptions {
                    eta: Some(0.0),
                    class,
                    ..(*options).clone()
                };
                if self.grid(&options)?.sampler == Sampler::Ddpm {
                    return Err(Error::settings(
                        "the ddpm sampler adds noise, so frames would jump",
                        "use --sampler ddim",
                    ));
                }
                let path = crate::nn::slerp(self.start(&[*from, *to], options.seed), *frames);
                let numbers = [*from; BLOCK];
                let (mut walked, blocks) = (0, frames.div_ceil(BLOCK));
                let x = rows_in_blocks(path, |x| {
                    let before = walked;
                    walked += 1;
                    let part: Progress =
                        &mut |done, steps| progress(before * steps + done, blocks * steps);
                    self.walk(x, &numbers, &options, part)
                })?;
                Ok(Answer::Images(self.finish(x)?))
            }
            _ => Err(unsupported("diffusion", request.task(), self.tasks())),
        }
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.spec.shape().iter().product())
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        let grid = self.grid(options)?;
        if grid.sampler == Sampler::Ddpm || grid.eta > 0.0 {
            return Err(Error::settings(
                "this sampler adds noise, so that images do not follow from their latents",
                "use the ddim sampler with eta = 0",
            ));
        }
        let [c, h, w] = self.spec.shape();
        let start = of_latents(latents, [numbers.len(), c * h * w], &self.device)?;
        let start = start.reshape([numbers.len(), c, h, w]);
        let mut blocks = numbers.chunks(BLOCK);
        let x = rows_in_blocks(start, |x| {
            // What stands in the padding is cut off again.
            let mut block = blocks.next().unwrap_or_default().to_vec();
            block.resize(BLOCK, 0);
            self.walk(x, &block, options, &mut |_, _| {})
        })?;
        self.finish(x)
    }
}
