//! Conditional GAN (Mirza and Osindero, 2014), in the layout of the DCGAN: both networks are told
//! the class y, so that the generator makes images of a class asked for.
//!
//! ```text
//! D minimises  L_real(D(x, y)) + L_fake(D(G(z, y), y)) + γ/2 · R1
//! G minimises  L_gen(D(G(z, y), y))                           z ~ N(0, I)
//!
//! projection   D(x, y) = l(φ(x)) + ⟨e_y, Σ φ(x)⟩       (Miyato and Koyama, 2018)
//! embedding    D(x, y) = l(φ([x, m_y]))
//! ```
//!
//! with φ the last map, Σ its sum over positions, e_y a learned vector and m_y a learned image for
//! each class. The generator takes z joined by a learned vector for the class.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | classes | `[n, classes]` | one-hot |
//! | images | `[n, channels, size, size]` | signed |
//! | logits | `[n]` | any; larger means "real" |

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::concat;

use crate::loss::adversarial::Adversarial;
use crate::models::dcgan::conditional::check_classes;
use crate::models::dcgan::networks::quarters;
use crate::models::dcgan::{ClassGenerator, DcganNetwork, Discriminator, Layout};
use crate::nn::{Init, Mode, Spectrum, matrix};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::game::{Game, GamePipeline, Judges, Opinion, Rules};
use crate::{Error, Result};

/// How the discriminator is told the class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The logit gains the product of a vector for the class and the summed last map (Miyato and
    /// Koyama, 2018).
    #[default]
    Projection,
    /// A learned image for the class is joined to the image as one more channel.
    Embedding,
}

/// Settings of a conditional GAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CganConfig {
    /// `radford` or `mnist28`.
    pub network: DcganNetwork,
    /// `projection` or `embedding`: how the discriminator is told the class.
    pub condition: Condition,
    /// Numbers in a latent vector. Default 100.
    pub latent: usize,
    /// Numbers that the generator is told of a class. Default 32.
    pub class_latent: usize,
    /// Channels next to the image; doubled at each halving of the size. Default 64.
    pub width: usize,
    /// `non-saturating`, `least-squares`, `hinge` or `wasserstein`. Default `hinge`.
    pub loss: Adversarial,
    /// The discriminator's target for real images is one minus this. Default 0.
    pub label_smoothing: f64,
    /// Learning rate of the discriminator over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Updates of the discriminator before each one of the generator. Default 1.
    pub discriminator_steps: usize,
    /// Divides each of the discriminator's weights by its largest singular value (Miyato et
    /// al., 2018) instead of batch normalisation there. Default true.
    pub spectral_norm: bool,
    /// Weight γ of the R1 penalty, taken by finite differences as in family dcgan; 0 switches it
    /// off. Default 0.
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default 1.
    pub r1_every: u64,
}

impl Default for CganConfig {
    fn default() -> Self {
        Self {
            network: DcganNetwork::Radford,
            condition: Condition::Projection,
            latent: 100,
            class_latent: 32,
            width: 64,
            loss: Adversarial::Hinge,
            label_smoothing: 0.0,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            spectral_norm: true,
            r1_gamma: 0.0,
            r1_every: 1,
        }
    }
}

impl CganConfig {
    fn layout(&self, spec: &DataSpec) -> Layout {
        Layout {
            network: self.network,
            width: self.width,
            side: spec.height,
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            loss: self.loss,
            label_smoothing: self.label_smoothing,
            discriminator_rate: self.discriminator_rate,
            discriminator_steps: self.discriminator_steps,
            spectral_norm: self.spectral_norm,
            r1_gamma: self.r1_gamma,
            r1_every: self.r1_every,
            ..Rules::default()
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> ClassGenerator {
        let sizes = [self.latent, self.class_latent];
        ClassGenerator::new(&self.layout(spec), sizes, spec, init)
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> ClassDiscriminator {
        let layout = self.layout(spec);
        let (size, more) = match self.condition {
            Condition::Projection => (layout.last_width(), 0),
            Condition::Embedding => (spec.height * spec.width, 1),
        };
        // As the convolutions are drawn, so that the class does not drown the image at the start.
        let place = init.at("embedding");
        let weight = place.param("weight", [spec.classes.len(), size], |random| {
            0.02 * random.normal()
        });
        let image = spec.channels + more;
        ClassDiscriminator {
            embedding: Embedding { weight },
            body: layout.discriminator(image, !self.spectral_norm, false, &init.at("body")),
            condition: self.condition,
        }
    }
}

/// Images and classes to logits.
#[derive(Module, Debug)]
pub struct ClassDiscriminator {
    embedding: Embedding,
    body: Discriminator,
    #[module(skip)]
    condition: Condition,
}

impl ClassDiscriminator {
    /// Logits `[n]` of signed images and one-hot rows `[n, classes]`; `spectra`, one for each of
    /// its matrices, normalise weights.
    pub fn forward(
        &self,
        x: Tensor<4>,
        classes: Tensor<2>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Tensor<1> {
        match self.condition {
            Condition::Projection => {
                let maps = self.body.maps(x, mode, spectra); // [n, c, 4, 4]
                let [n, c, h, w] = maps.dims();
                let table = self.embedding.weight.val();
                let table = match spectra.last() {
                    Some(spectrum) => spectrum.normalise(table),
                    None => table,
                };
                let own = classes.matmul(table); // [n, c]
                let pooled = maps.clone().reshape([n, c, h * w]).sum_dim(2);
                let projected = pooled.reshape([n, c]).mul(own).sum_dim(1); // [n, 1]
                let logits = self.body.logits(maps, spectra);
                logits.add(projected.reshape([n]))
            }
            Condition::Embedding => {
                let maps = self.joined(x, classes, mode, spectra);
                self.body.logits(maps, spectra)
            }
        }
    }

    /// The last map of images joined by the images of their classes.
    fn joined(
        &self,
        x: Tensor<4>,
        classes: Tensor<2>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Tensor<4> {
        let [n, _, h, w] = x.dims();
        let own = classes.matmul(self.embedding.weight.val()); // [n, h · w]
        let x = concat(x, own.reshape([n, 1, h, w]));
        self.body.maps(x, mode, spectra)
    }
}

impl Judges for ClassDiscriminator {
    fn opinion(
        &self,
        x: Tensor<4>,
        classes: Option<Tensor<2>>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Opinion {
        let classes = classes.expect("a conditional discriminator is told the classes");
        self.forward(x, classes, mode, spectra).into()
    }

    /// Joined by the mean of the classes' images, where images are joined: features that knew the
    /// class would tell it.
    fn features(&self, x: Tensor<4>, spectra: &[Spectrum]) -> Tensor<2> {
        let maps = match self.condition {
            Condition::Projection => self.body.maps(x, Mode::Use, spectra),
            Condition::Embedding => {
                let (n, classes) = (x.dims()[0], self.embedding.weight.dims()[0]);
                let even = Tensor::<2>::ones([n, classes], &x.device());
                let even = even.div_scalar(classes as f64);
                self.joined(x, even, Mode::Use, spectra)
            }
        };
        quarters(maps)
    }

    /// The convolutions, and behind them the vectors of the classes where the logit is projected
    /// on them.
    fn matrices(&self) -> Vec<Tensor<2>> {
        let mut weights = self.body.weights();
        if self.condition == Condition::Projection {
            weights.push(matrix(self.embedding.weight.val().inner()));
        }
        weights
    }
}

/// A conditional GAN in training.
pub type CganTrainer = Game<ClassGenerator, ClassDiscriminator>;

/// The family.
pub struct Cgan;

impl Family for Cgan {
    type Config = CganConfig;
    type Trainer = CganTrainer;

    const INFO: Info = Info {
        id: "cgan",
        title: "Conditional GAN",
        paper: "Miyato and Koyama, cGANs with Projection Discriminator, 2018",
        summary: "sharp images of a class asked for, in one pass; needs labelled images",
        sizes: "16×16, 32×32, 64×64 or 128×128 (28×28 with network = \"mnist28\")",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-4,
        beta1: 0.5,
        beta2: 0.999,
        average_half_life_images: 5_000.0,
    };

    fn natural_size(config: &CganConfig, height: usize, width: usize) -> (usize, usize) {
        config.network.natural_size(height, width)
    }

    fn check(config: &CganConfig, spec: &DataSpec) -> Result<()> {
        config.network.check(spec)?;
        check_classes(Self::INFO.id, spec)?;
        if config.latent == 0 || config.class_latent == 0 || config.width == 0 {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "latent, class_latent and width must be at least 1",
            ));
        }
        config.rules().check()
    }

    fn trainer(config: &CganConfig, context: &TrainerContext) -> Result<CganTrainer> {
        let init = Init::new(context.seed, &context.device);
        let generator = config.generator(&context.spec, &init.at("generator"));
        let discriminator = config.discriminator(&context.spec, &init.at("discriminator"));
        let rules = config.rules();
        Ok(Game::new(
            &Self::INFO,
            rules,
            generator,
            discriminator,
            context,
        ))
    }

    fn pipeline(
        config: &CganConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let blank = Init::blank(device);
        GamePipeline::load(
            &Self::INFO,
            config.generator(spec, &blank),
            config.discriminator(spec, &blank),
            config.spectral_norm,
            spec,
            weights,
            device,
        )
    }

    /// There are no published weights that this family knows.
    fn import(
        _files: &[TensorMap],
        _config: CganConfig,
    ) -> Result<(CganConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "family cgan knows no published weights",
            "train it; family dcgan imports an unconditional one",
        ))
    }

    fn tiny() -> (CganConfig, DataSpec) {
        let config = CganConfig {
            latent: 6,
            class_latent: 3,
            width: 4,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 16,
                width: 16,
                classes: ["a", "b", "c"].map(String::from).to_vec(),
                attributes: vec![],
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamConfig;
    use crate::random::latents;
    use crate::registry::Trainer;
    use crate::task::{Request, SampleOptions};

    fn pipeline() -> Box<dyn Pipeline> {
        let (config, spec) = Cgan::tiny();
        let context = TrainerContext {
            spec,
            seed: 3,
            device: Device::flex().autodiff(),
            adam: AdamConfig::default(),
            average_half_life_images: 0.0,
        };
        let trainer = Cgan::trainer(&config, &context).unwrap();
        trainer.pipeline().unwrap()
    }

    fn ask(pipeline: &dyn Pipeline, request: &Request) -> Vec<Vec<f32>> {
        let answer = pipeline.answer(request, &mut |_, _| ()).unwrap();
        let images = answer.into_images().unwrap().into_tensor();
        rows(images)
    }

    fn rows(images: Tensor<4>) -> Vec<Vec<f32>> {
        let n = images.dims()[0];
        let values = crate::nn::host(images);
        values
            .chunks(values.len() / n)
            .map(<[f32]>::to_vec)
            .collect()
    }

    fn samples(numbers: &[u64], options: &SampleOptions) -> Vec<Vec<f32>> {
        ask(&*pipeline(), &Request::Generate { numbers, options })
    }

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn truncated_to_nothing_a_class_has_one_image() {
        let options = |class: u32, truncation: f32| SampleOptions {
            class: Some(class),
            truncation: Some(truncation),
            ..SampleOptions::default()
        };
        let one = samples(&[0, 1], &options(1, 0.0));
        let other = samples(&[0, 1], &options(2, 0.0));
        assert!(near(&one[0], &one[1]) && one[0] != other[0]);
        let free = samples(&[0, 1], &options(1, 1.0));
        assert!(!near(&free[0], &free[1]));
        let request = Request::Generate {
            numbers: &[0],
            options: &options(1, 1.5),
        };
        assert!(pipeline().answer(&request, &mut |_, _| ()).is_err());
    }

    #[test]
    fn an_interpolation_keeps_the_class_of_its_first_sample() {
        let drawn = SampleOptions::default();
        let (_, spec) = Cgan::tiny();
        let classes = drawn.classes(&[0], &spec.classes).unwrap().unwrap();
        let kept = SampleOptions {
            class: Some(classes[0]),
            ..SampleOptions::default()
        };
        let request = Request::Interpolate {
            from: 0,
            to: 5,
            frames: 3,
            options: &drawn,
        };
        let frames = ask(&*pipeline(), &request);
        let ends = samples(&[0, 5], &kept);
        assert!(near(&frames[0], &ends[0]) && near(&frames[2], &ends[1]));
    }

    #[test]
    fn latents_of_samples_decode_to_the_samples() {
        let options = SampleOptions {
            truncation: Some(0.5),
            ..SampleOptions::default()
        };
        let numbers = [4, 9, 2];
        let (config, _) = Cgan::tiny();
        let z = latents(options.seed, &numbers, config.latent);
        let decoded = pipeline().decode(&z, &numbers, &options).unwrap();
        for (a, b) in rows(decoded.into_tensor())
            .iter()
            .zip(samples(&numbers, &options))
        {
            assert!(near(a, &b));
        }
    }
}
