//! Deep convolutional GAN (Radford et al., 2016): a generator of transposed convolutions and a
//! discriminator of strided ones play a two-player game.
//!
//! ```text
//! D minimises  L_real(D(x)) + L_fake(D(G(z))) + R1
//! G minimises  L_gen(D(G(z)))                       z ~ N(0, I)
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | images | `[n, channels, size, size]` | signed |
//! | logits | `[n]` | any; larger means "real" |

use burn::module::{Module, Param};
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_image::{ImageBatch, Range};
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};
use vermeer_kernels::{Activation, leaky_relu};

use crate::data::HostBatch;
use crate::loss::adversarial::Adversarial;
use crate::nn::{BatchNorm, Gradients, Init, Law, Mode, load};
use crate::optim::{Learner, part};
use crate::random::{Purpose, latents, normals};
use crate::registry::{
    DataSpec, Family, Info, Step, TrainDefaults, TrainState, Trainer, TrainerContext,
};
use crate::run::{NamedTensor, TensorMap};
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_latents,
    rows_in_blocks, unsupported,
};
use crate::train::health::{Health, Limit};
use crate::train::{Scalars, accumulate, images_to_device};
use crate::{Error, Result};

/// The layout of the two networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DcganNetwork {
    /// Radford's: kernels of 4 throughout, ReLU in the generator; images of 32, 64 or 128.
    #[default]
    Radford,
    /// 28×28 images through 4, 7 and 14 with kernels 4, 3, 4, 4 and leaky ReLU in the generator,
    /// as in dennisjooo/DCGAN-on-MNIST.
    Mnist28,
}

/// Settings of a DCGAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DcganConfig {
    /// `radford` or `mnist28`.
    pub network: DcganNetwork,
    /// Numbers in a latent vector. Default 100.
    pub latent: usize,
    /// Channels next to the image; doubled at each halving of the size. Default 64.
    pub width: usize,
    /// `non-saturating`, `least-squares`, `hinge` or `wasserstein`.
    pub loss: Adversarial,
    /// The discriminator's target for real images is one minus this. Default 0.
    pub label_smoothing: f64,
    /// Learning rate of the discriminator over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Divides each of the discriminator's weights by its largest singular value (Miyato et
    /// al., 2018) instead of batch normalisation there. Default false.
    pub spectral_norm: bool,
    /// Weight γ of the R1 penalty; 0 switches it off. Default 0.
    ///
    /// Burn has first derivatives only, so γ/2·E‖∇D(x)‖² (Mescheder et al., 2018) is estimated
    /// by a central difference along one random direction v per image:
    /// γ/2·E[((D(x+hv) − D(x−hv)) / 2h)²], h = 0.01, whose expectation over v ~ N(0, I) it is
    /// up to O(h²).
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default 1.
    pub r1_every: u64,
}

impl Default for DcganConfig {
    fn default() -> Self {
        Self {
            network: DcganNetwork::Radford,
            latent: 100,
            width: 64,
            loss: Adversarial::NonSaturating,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            spectral_norm: false,
            r1_gamma: 0.0,
            r1_every: 1,
        }
    }
}

/// Half the distance of the central difference in R1, in signed pixels.
pub const R1_STEP: f64 = 0.01;

const SLOPE: f64 = 0.2;
/// Radford draws convolution weights from N(0, 0.02²) and scales from N(1, 0.02²).
const LAW: Law = Law::Normal(0.02);

impl DcganConfig {
    /// Kernels of the stride-2 layers from the 4×4 map to the image.
    fn kernels(&self, size: usize) -> Vec<usize> {
        match self.network {
            DcganNetwork::Radford => vec![4; (size / 4).ilog2() as usize],
            DcganNetwork::Mnist28 => vec![3, 4, 4],
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> Generator {
        let kernels = self.kernels(spec.height);
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
        let mut blocks = vec![block(0, self.latent, channels, 4, 1, 0)];
        let (last, inner) = kernels
            .split_last()
            .expect("every size has a stride-2 layer");
        for (i, kernel) in inner.iter().enumerate() {
            blocks.push(block(i + 1, channels, channels / 2, *kernel, 2, 1));
            channels /= 2;
        }
        let out =
            init.at("out")
                .conv_transpose2d([channels, spec.channels], *last, 2, 1, false, LAW);
        Generator { blocks, out, slope }
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> Discriminator {
        let place = init.at("blocks");
        let spectral = self.spectral_norm;
        let (mut from, mut to) = (spec.channels, self.width);
        let mut blocks = vec![];
        for (i, kernel) in self.kernels(spec.height).into_iter().rev().enumerate() {
            blocks.push(DiscriminatorBlock {
                conv: place
                    .at(i)
                    .at("conv")
                    .conv2d([from, to], kernel, 2, 1, spectral, LAW),
                norm: (i > 0 && !spectral)
                    .then(|| BatchNorm::new(&place.at(i).at("norm"), to, 0.02)),
            });
            (from, to) = (to, 2 * to);
        }
        Discriminator {
            blocks,
            out: init.at("out").conv2d([from, 1], 4, 1, 0, spectral, LAW),
        }
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

/// Singular vectors of one convolution's weight, as far as power iteration has found them.
#[derive(Clone, Debug)]
pub struct Spectrum {
    u: Tensor<1>,
    v: Tensor<1>,
}

impl Discriminator {
    /// Logits `[n]` of signed images; `spectra`, one for each convolution, normalises weights.
    pub fn forward(&self, x: Tensor<4>, mode: Mode, spectra: &[Spectrum]) -> Tensor<1> {
        let mut x = x;
        for (i, block) in self.blocks.iter().enumerate() {
            x = convolve(&block.conv, x, spectra.get(i));
            // half the size, twice the channels
            x = match &block.norm {
                Some(norm) => norm.forward_leaky(x, mode, SLOPE),
                None => leaky_relu(x, SLOPE),
            };
        }
        let logits = convolve(&self.out, x, spectra.get(self.blocks.len())); // [n, 1, 1, 1]
        let n = logits.dims()[0];
        logits.reshape([n])
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        self.blocks.iter().map(|b| &b.conv).chain([&self.out])
    }

    /// Random unit vectors to start power iteration from.
    fn spectra(&self, seed: u64, device: &Device) -> Vec<Spectrum> {
        let start = |(i, conv): (usize, &Conv2d)| {
            let [out, inputs, h, w] = conv.weight.dims();
            let vector = |n: usize, which: u64| {
                let mut values = vec![0.0; n];
                crate::random::stream(seed, Purpose::Power, which, i as u64)
                    .fill_normal(&mut values);
                unit(Tensor::from_floats(&values[..], device))
            };
            Spectrum {
                u: vector(out, 0),
                v: vector(inputs * h * w, 1),
            }
        };
        self.convolutions().enumerate().map(start).collect()
    }

    /// One power iteration for each convolution: v ← Wᵀu/‖·‖, u ← Wv/‖·‖.
    pub fn iterate(&self, spectra: &mut [Spectrum]) {
        for (conv, spectrum) in self.convolutions().zip(spectra) {
            let w = matrix(conv.weight.val().inner());
            let v = unit(
                w.clone()
                    .transpose()
                    .matmul(spectrum.u.clone().unsqueeze_dim::<2>(1))
                    .flatten(0, 1),
            );
            let u = unit(w.matmul(v.clone().unsqueeze_dim::<2>(1)).flatten(0, 1));
            *spectrum = Spectrum { u, v };
        }
    }
}

impl Spectrum {
    /// Vectors `u` `[out]` and `v` `[in · k · k]` from elsewhere.
    pub fn new(u: Tensor<1>, v: Tensor<1>) -> Self {
        Self { u, v }
    }
}

fn unit(x: Tensor<1>) -> Tensor<1> {
    let norm = x.clone().square().sum().sqrt().clamp_min(1e-12);
    x.div(norm)
}

fn matrix(weight: Tensor<4>) -> Tensor<2> {
    weight.flatten(1, 3)
}

/// The convolution, its weight divided by uᵀWv where a spectrum is given. Gradients flow
/// through W in the numerator and in the divisor, not through u and v.
fn convolve(conv: &Conv2d, x: Tensor<4>, spectrum: Option<&Spectrum>) -> Tensor<4> {
    let Some(Spectrum { u, v }) = spectrum else {
        return conv.forward(x);
    };
    let weight = conv.weight.val();
    let constant = |t: &Tensor<1>| match weight.is_autodiff() {
        true => Tensor::from_inner(t.clone()),
        false => t.clone(),
    };
    let sigma = matrix(weight.clone())
        .matmul(constant(v).unsqueeze_dim::<2>(1))
        .mul(constant(u).unsqueeze_dim::<2>(1))
        .sum();
    let weight = weight.div(sigma.reshape([1, 1, 1, 1]));
    Conv2d {
        weight: Param::initialized(conv.weight.id, weight),
        ..conv.clone()
    }
    .forward(x)
}

/// The family.
pub struct Dcgan;

impl Family for Dcgan {
    type Config = DcganConfig;
    type Trainer = DcganTrainer;

    const INFO: Info = Info {
        id: "dcgan",
        title: "Deep convolutional GAN",
        paper: "Radford, Metz and Chintala, Unsupervised Representation Learning with DCGANs, 2016",
        summary: "sharp images in one pass; training is a game that can collapse, so watch its health",
        sizes: "32×32, 64×64 or 128×128 (28×28 with network = \"mnist28\")",
        tasks: &[Task::Generate, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.5,
        beta2: 0.999,
        average_half_life_images: 2_000.0,
    };

    fn natural_size(config: &DcganConfig, height: usize, width: usize) -> (usize, usize) {
        let side = match (config.network, height.max(width)) {
            (DcganNetwork::Mnist28, _) => 28,
            (DcganNetwork::Radford, 0..=47) => 32,
            (DcganNetwork::Radford, 48..=95) => 64,
            (DcganNetwork::Radford, _) => 128,
        };
        (side, side)
    }

    fn check(config: &DcganConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        let sizes: &[usize] = match config.network {
            DcganNetwork::Radford => &[32, 64, 128],
            DcganNetwork::Mnist28 => &[28],
        };
        if spec.height != spec.width || !sizes.contains(&spec.height) {
            return wrong(
                format!(
                    "images of {}×{} do not fit this DCGAN",
                    spec.height, spec.width
                ),
                &format!(
                    "it makes square images of {sizes:?}: --set data.size={}",
                    sizes[0]
                ),
            );
        }
        if config.latent == 0 || config.width == 0 || config.r1_every == 0 {
            return wrong(
                "a size of 0 in [model]".into(),
                "latent, width and r1_every must be at least 1",
            );
        }
        if config.label_smoothing != 0.0 && !config.loss.has_target() {
            return wrong(
                "model.label_smoothing has no meaning for this loss".into(),
                "leave it at 0, or use loss = \"non-saturating\" or \"least-squares\"",
            );
        }
        if !(0.0..1.0).contains(&config.label_smoothing)
            || config.r1_gamma < 0.0
            || !config.r1_gamma.is_finite()
            || config.discriminator_rate <= 0.0
            || !config.discriminator_rate.is_finite()
        {
            return wrong(
                "a value of [model] is out of range".into(),
                "label_smoothing lies in [0, 1), r1_gamma is zero or larger, discriminator_rate is larger than zero",
            );
        }
        if config.loss == Adversarial::Wasserstein && !config.spectral_norm {
            return wrong(
                "the Wasserstein loss needs a Lipschitz discriminator".into(),
                "set model.spectral_norm = true",
            );
        }
        Ok(())
    }

    fn trainer(config: &DcganConfig, context: &TrainerContext) -> Result<DcganTrainer> {
        let init = Init::new(context.seed, &context.device);
        let generator = config.generator(&context.spec, &init.at("generator"));
        let discriminator = config.discriminator(&context.spec, &init.at("discriminator"));
        let plain = context.device.clone().without_autodiff();
        let spectra = match config.spectral_norm {
            true => discriminator.spectra(context.seed, &plain),
            false => vec![],
        };
        Ok(DcganTrainer {
            generator: Learner::new(
                generator,
                context.adam,
                context.average_half_life_images,
                "generator.",
            ),
            discriminator: Learner::new(discriminator, context.adam, 0.0, "discriminator."),
            spectra,
            accuracy: None,
            config: config.clone(),
            context: context.clone(),
        })
    }

    fn pipeline(
        config: &DcganConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let generator = config.generator(spec, &Init::blank(device));
        let generator = load(
            generator,
            &part(weights, "generator."),
            "model.safetensors".as_ref(),
        )?;
        Ok(Box::new(DcganPipeline {
            generator: generator.valid(),
            latent: config.latent,
            spec: spec.clone(),
            device: device.clone(),
        }))
    }

    /// Knows generator and discriminator of dennisjooo/DCGAN-on-MNIST. The names in the two files
    /// overlap; the generator is the one whose first layer is `layer_stack.1`.
    fn import(
        files: &[TensorMap],
        config: DcganConfig,
    ) -> Result<(DcganConfig, DataSpec, TensorMap)> {
        let (generators, discriminators): (Vec<_>, Vec<_>) = files
            .iter()
            .partition(|tensors| tensors.contains_key("layer_stack.1.weight"));
        let ([generator], [] | [_]) = (&generators[..], &discriminators[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "a DCGAN is one generator, and at most one discriminator beside it",
                "known is the 28×28 DCGAN whose generator has layer_stack.1 … layer_stack.10",
            ));
        };
        let first = generator
            .get("layer_stack.1.weight")
            .map(|t| t.shape.clone())
            .unwrap_or_default();
        let last = generator
            .get("layer_stack.10.weight")
            .map(|t| t.shape.clone())
            .unwrap_or_default();
        let ([latent, _, 4, 4], [width, channels, 4, 4]) = (&first[..], &last[..]) else {
            return Err(Error::checkpoint(
                "weights",
                "these are not the tensors of a known DCGAN generator (no layer_stack.1.weight of [latent, c, 4, 4])",
                "known is the 28×28 DCGAN with layer_stack.1 … layer_stack.10",
            ));
        };
        let config = DcganConfig {
            network: DcganNetwork::Mnist28,
            latent: *latent,
            width: *width,
            ..config
        };
        let spec = DataSpec {
            channels: *channels,
            height: 28,
            width: 28,
            classes: vec![],
            attributes: vec![],
        };
        let blank = Init::blank(&Device::flex());
        let rename = |table: &'static [(&'static str, &'static str)]| {
            move |name: &str| {
                let (place, last) = name.rsplit_once('.').unwrap_or(("", name));
                let place = table
                    .iter()
                    .find(|(own, _)| *own == place)
                    .map_or(place, |(_, foreign)| foreign);
                format!("{place}.{last}")
            }
        };
        let mut weights = TensorMap::new();
        let network = config.generator(&spec, &blank);
        let loaded = crate::import::from_pytorch(
            &network,
            generator,
            rename(&[
                ("blocks.0.conv", "layer_stack.1"),
                ("blocks.0.norm", "layer_stack.2"),
                ("blocks.1.conv", "layer_stack.4"),
                ("blocks.1.norm", "layer_stack.5"),
                ("blocks.2.conv", "layer_stack.7"),
                ("blocks.2.norm", "layer_stack.8"),
                ("out", "layer_stack.10"),
            ]),
        )?;
        weights.extend(
            loaded
                .into_iter()
                .map(|(name, t)| (format!("generator.{name}"), t)),
        );
        if let [discriminator] = discriminators[..] {
            let network = config.discriminator(&spec, &blank);
            let loaded = crate::import::from_pytorch(
                &network,
                discriminator,
                rename(&[
                    ("blocks.0.conv", "layer_stack.0"),
                    ("blocks.1.conv", "layer_stack.2"),
                    ("blocks.1.norm", "layer_stack.3"),
                    ("blocks.2.conv", "layer_stack.5"),
                    ("blocks.2.norm", "layer_stack.6"),
                    ("out", "layer_stack.8"),
                ]),
            )?;
            weights.extend(
                loaded
                    .into_iter()
                    .map(|(name, t)| (format!("discriminator.{name}"), t)),
            );
        }
        Ok((config, spec, weights))
    }

    fn tiny() -> (DcganConfig, DataSpec) {
        let config = DcganConfig {
            latent: 8,
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 32,
                width: 32,
                classes: vec![],
                attributes: vec![],
            },
        )
    }
}

/// A DCGAN in training.
pub struct DcganTrainer {
    generator: Learner<Generator>,
    discriminator: Learner<Discriminator>,
    spectra: Vec<Spectrum>,
    /// Share of images the discriminator told right in the last step of this process.
    accuracy: Option<f64>,
    config: DcganConfig,
    context: TrainerContext,
}

impl DcganTrainer {
    fn z(&self, batch: &HostBatch) -> Tensor<2> {
        let z = normals(
            self.context.seed,
            Purpose::Noise,
            batch.step,
            batch.batch,
            self.config.latent,
        );
        Tensor::<1>::from_floats(&z[..], &self.context.device)
            .reshape([batch.batch, self.config.latent])
    }

    /// One R1 direction per image, standard normal.
    fn direction(&self, batch: &HostBatch) -> Tensor<4> {
        let [c, h, w] = batch.shape;
        let v = normals(
            self.context.seed,
            Purpose::Direction,
            batch.step,
            batch.batch,
            c * h * w,
        );
        Tensor::<1>::from_floats(&v[..], &self.context.device).reshape([batch.batch, c, h, w])
    }
}

/// The R1 penalty by central difference along `v`, before its weight γ/2: `[1]`.
pub fn r1_penalty(
    discriminator: &Discriminator,
    x: Tensor<4>,
    v: Tensor<4>,
    spectra: &[Spectrum],
) -> Tensor<1> {
    let shift = v.mul_scalar(R1_STEP);
    let ahead = discriminator.forward(x.clone().add(shift.clone()), Mode::Train, spectra);
    let behind = discriminator.forward(x.sub(shift), Mode::Train, spectra);
    ahead.sub(behind).div_scalar(2.0 * R1_STEP).square().mean()
}

fn scalar(x: &Tensor<1>) -> f64 {
    f64::from(x.clone().into_scalar::<f32>())
}

fn share(x: Tensor<1, Bool>) -> f64 {
    let n = x.dims()[0] as f64;
    x.int().sum().into_scalar::<i64>() as f64 / n
}

impl DcganTrainer {
    /// [`Trainer::step`] with latents from outside: `[n, latent]` for each micro-batch.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    ///
    /// # Panics
    /// When `latents` and the step's micro-batches differ in number.
    pub fn step_from(&mut self, step: &Step, latents: &[Tensor<2>]) -> Result<Scalars> {
        assert_eq!(
            latents.len(),
            step.micro.len(),
            "latents are needed for each micro-batch"
        );
        let (loss, parts) = (self.config.loss, step.micro.len());
        let images = step.micro.iter().map(|b| b.batch).sum();
        let mut total: Scalars = vec![];
        if let Some(spectrum) = (!self.spectra.is_empty()).then_some(&mut self.spectra) {
            self.discriminator.module().iterate(spectrum);
        }
        let boundary = loss.boundary(self.config.label_smoothing);
        // Discriminator: minimise L_real(D(x)) + L_fake(D(G(z))) (+ R1).
        let d = self.discriminator.module();
        let mut gradients = Gradients::default();
        let mut fakes = vec![];
        for (batch, z) in step.micro.iter().zip(latents) {
            let real = images_to_device(batch, Range::Signed, &self.context.device);
            let fake = self.generator.module().forward(z.clone(), Mode::Train);
            let on_real = d.forward(real.clone(), Mode::Train, &self.spectra);
            let on_fake = d.forward(fake.clone().detach(), Mode::Train, &self.spectra);
            let accuracy = boundary.map(|b| {
                0.5 * (share(on_real.clone().greater_elem(b))
                    + share(on_fake.clone().lower_elem(b)))
            });
            let mut objective = loss
                .real(on_real, self.config.label_smoothing)
                .add(loss.fake(on_fake));
            let mut scalars = vec![("discriminator_loss", scalar(&objective))];
            scalars.extend(accuracy.map(|share| ("discriminator_accuracy", share)));
            if self.config.r1_gamma > 0.0
                && (batch.step / parts as u64).is_multiple_of(self.config.r1_every)
            {
                let r1 = r1_penalty(d, real, self.direction(batch), &self.spectra);
                scalars.push(("r1", scalar(&r1)));
                objective = objective
                    .add(r1.mul_scalar(0.5 * self.config.r1_gamma * self.config.r1_every as f64));
            }
            gradients.add(Gradients::take(&mut objective.backward(), d));
            accumulate(&mut total, &scalars, parts);
            fakes.push(fake);
        }
        let rate = step.learning_rate * self.config.discriminator_rate;
        let norm = self.discriminator.update(
            gradients.scale(1.0 / parts as f64),
            rate,
            step.clip_norm,
            images,
        );
        total.push(("discriminator_gradient_norm", norm));

        let accuracy = total
            .iter()
            .find(|(name, _)| *name == "discriminator_accuracy");
        self.accuracy = accuracy.map(|(_, share)| *share);

        // Generator: minimise L_gen(D(G(z))) with the discriminator as it now is, frozen.
        let judge = self.discriminator.module().clone().set_require_grad(false);
        let mut gradients = Gradients::default();
        for fake in fakes {
            let objective = loss.generator(judge.forward(fake, Mode::Train, &self.spectra));
            accumulate(&mut total, &[("generator_loss", scalar(&objective))], parts);
            gradients.add(Gradients::take(
                &mut objective.backward(),
                self.generator.module(),
            ));
        }
        let norm = self.generator.update(
            gradients.scale(1.0 / parts as f64),
            step.learning_rate,
            step.clip_norm,
            images,
        );
        total.push(("generator_gradient_norm", norm));
        Ok(total)
    }
}

impl Trainer for DcganTrainer {
    fn step(&mut self, step: &Step) -> Result<Scalars> {
        let latents: Vec<_> = step.micro.iter().map(|batch| self.z(batch)).collect();
        self.step_from(step, &latents)
    }

    /// A GAN has no loss that falls with quality; the logit of unseen images beside the training
    /// curves tells whether the discriminator has memorised the seen ones.
    fn validate(&self, batch: &HostBatch) -> Result<Scalars> {
        let device = self.context.device.clone().without_autodiff();
        let real = images_to_device(batch, Range::Signed, &device);
        let judge = self.discriminator.module().valid();
        let logits = judge.forward(real, Mode::Use, &self.spectra);
        Ok(vec![("real_logit", scalar(&logits.mean()))])
    }

    /// The spread of samples from fixed latents against real images, and the discriminator's
    /// accuracy in its last step, where it saw batches as it was trained on them.
    fn health(&self, batch: &HostBatch) -> Result<Health> {
        let device = self.context.device.clone().without_autodiff();
        let real = images_to_device(batch, Range::Signed, &device);
        let n = real.dims()[0];
        let mut signs = vec![];
        if n > 1 {
            let numbers: Vec<u64> = (0..n as u64).collect();
            let z = latents(self.context.seed, &numbers, self.config.latent);
            let z = Tensor::<1>::from_floats(&z[..], &device).reshape([n, self.config.latent]);
            let fake = self.generator.for_use().forward(z, Mode::Use);
            signs.push((
                "sample_spread",
                spread(fake) / spread(real).max(1e-12),
                Limit::Below {
                    watch: 0.5,
                    bad: 0.25,
                },
                "mean distance between samples over that between real images; a small one is mode collapse: lower the learning rate, or set model.r1_gamma or model.spectral_norm",
            ));
        }
        if let Some(accuracy) = self.accuracy {
            signs.push((
                "discriminator_accuracy",
                accuracy,
                Limit::Above {
                    watch: 0.97,
                    bad: 0.999,
                },
                "share of images the discriminator tells right; when it is always right the generator learns nothing: set model.label_smoothing or model.r1_gamma",
            ));
        }
        Ok(Health::judge(signs))
    }

    fn save(&self) -> TrainState {
        let mut state = TrainState::default();
        self.generator.save(&mut state);
        self.discriminator.save(&mut state);
        for (i, spectrum) in self.spectra.iter().enumerate() {
            for (name, vector) in [("u", &spectrum.u), ("v", &spectrum.v)] {
                let data = crate::nn::host(vector.clone());
                state.optimizer.insert(
                    format!("spectral.{i}.{name}"),
                    NamedTensor {
                        shape: vec![data.len()],
                        data,
                    },
                );
            }
        }
        state
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        let device = self.context.device.clone();
        self.generator.restore(state, &device)?;
        self.discriminator.restore(state, &device)?;
        let plain = device.without_autodiff();
        for (i, spectrum) in self.spectra.iter_mut().enumerate() {
            let vector = |name: &str| {
                let name = format!("spectral.{i}.{name}");
                let tensor = state.optimizer.get(&name).ok_or_else(|| {
                    Error::checkpoint(
                        "optimizer.safetensors",
                        format!("{name} is missing"),
                        "resume from an older checkpoint",
                    )
                })?;
                Ok::<_, Error>(Tensor::from_floats(&tensor.data[..], &plain))
            };
            *spectrum = Spectrum {
                u: vector("u")?,
                v: vector("v")?,
            };
        }
        Ok(())
    }

    fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        self.generator.start_from(weights)?;
        match weights
            .keys()
            .any(|name| name.starts_with("discriminator."))
        {
            true => self.discriminator.start_from(weights),
            false => Ok(()),
        }
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline>> {
        Ok(Box::new(DcganPipeline {
            generator: self.generator.for_use(),
            latent: self.config.latent,
            spec: self.context.spec.clone(),
            device: self.context.device.clone().without_autodiff(),
        }))
    }

    fn parameters(&self) -> usize {
        self.generator.parameters() + self.discriminator.parameters()
    }
}

/// Mean Euclidean distance between neighbours in a batch.
fn spread(x: Tensor<4>) -> f64 {
    let n = x.dims()[0];
    let x = x.flatten::<2>(1, 3);
    let gap = x.clone().narrow(0, 1, n - 1).sub(x.narrow(0, 0, n - 1));
    scalar(&gap.square().sum_dim(1).sqrt().mean())
}

struct DcganPipeline {
    generator: Generator,
    latent: usize,
    spec: DataSpec,
    device: Device,
}

impl Pipeline for DcganPipeline {
    fn tasks(&self) -> &'static [Task] {
        Dcgan::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        let z = |numbers: &[u64], seed| {
            let z = latents(seed, numbers, self.latent);
            Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), self.latent])
        };
        let signed = |x: Tensor<4>| {
            Ok(Answer::Images(
                ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit),
            ))
        };
        match request {
            Request::Generate { numbers, options } => {
                options.only(Dcgan::INFO.id, &[])?;
                let mut done = 0;
                let x = in_blocks(numbers, |block| {
                    done += block.len();
                    let x = self.generator.forward(z(block, options.seed), Mode::Use);
                    progress(done, numbers.len().max(done));
                    Ok(x)
                })?;
                signed(x)
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                options.only(Dcgan::INFO.id, &[])?;
                let path = crate::nn::slerp(z(&[*from, *to], options.seed), *frames);
                signed(rows_in_blocks(path, |z| {
                    Ok(self.generator.forward(z, Mode::Use))
                })?)
            }
            _ => Err(unsupported("dcgan", request.task(), self.tasks())),
        }
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.latent)
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        options.only(Dcgan::INFO.id, &[])?;
        let z = of_latents(latents, [numbers.len(), self.latent], &self.device)?;
        let x = rows_in_blocks(z, |z| Ok(self.generator.forward(z, Mode::Use)))?;
        Ok(ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit))
    }
}
