//! StyleGAN2 (Karras et al., 2020): latents become styles, and styles scale the channels of a
//! convolutional network that makes images of a constant; a residual discriminator sees real and
//! generated images through the same random changes, more of them as it learns images by heart.
//!
//! ```text
//! D minimises  E[−ln σ(D(T x))] + E[−ln σ(−D(T G(z)))] + γ/2 · R1
//! G minimises  E[−ln σ(D(T G(z)))] + w · E[(‖∂G/∂u‖ − a)²]         z ~ N(0, I), T augments
//! ```
//!
//! R1 and the path length are central differences, taken every so many steps with their weight
//! multiplied accordingly; u is a random unit vector in the space of styles, a the running mean of
//! the lengths.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `z` | `[n, latent]` | standard normal |
//! | styles | `[n, style]` for each layer | any, of mean square about 1 |
//! | noise | `[n, noise_size]` | standard normal |
//! | images | `[n, channels, size, size]` | signed; a generated one is cut to that in use |
//! | logits | `[n]` | any; larger means "real" |

mod augment;
mod discriminator;
mod mapping;
mod modulated;
mod pipeline;
mod synthesis;
mod trainer;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::augment::{Augmentation, Change, Transform};
pub use self::discriminator::{DiscriminatorStage, StyleDiscriminator, with_deviation};
pub use self::mapping::{Dense, Mapping, normalised};
pub use self::modulated::{EqualConv, StyledConv, ToImage, doubled, halved};
pub use self::pipeline::StyleGan2Pipeline;
pub use self::synthesis::{StyleGenerator, Synthesis, SynthesisBlock};
pub use self::trainer::{PATH_STEP, StyleDraws, StyleGan2Trainer, path_lengths, r1_penalty};
use crate::nn::{Init, load};
use crate::optim::part;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::{Error, Result};

/// Settings of a StyleGAN2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StyleGan2Config {
    /// Numbers in a latent vector. Default 128.
    pub latent: usize,
    /// Numbers in a style. Default 128.
    pub style: usize,
    /// Layers from latents to styles. Default 4.
    pub mapping_layers: usize,
    /// Learning rate of these layers over that of the others. Default 0.01.
    pub mapping_rate: f64,
    /// Channels of a map are this over its side, at most `channel_max`. Default 2048.
    pub channel_base: usize,
    /// The most channels of a map. Default 128.
    pub channel_max: usize,
    /// Whether both networks are told the class. Default false.
    pub conditional: bool,
    /// Probability that an image has two styles, the second from a random layer on. Default 0.9.
    pub mixing: f64,
    /// Learning rate of the discriminator over that of the generator. Default 1.
    pub discriminator_rate: f64,
    /// Weight γ of the R1 penalty, taken by finite differences as in family dcgan; 0 switches it
    /// off. Default 0.1.
    pub r1_gamma: f64,
    /// The penalty is taken every this many steps, with its weight multiplied accordingly. Default
    /// 16.
    pub r1_every: u64,
    /// Weight of the path length's deviation from its mean, by finite differences along one unit
    /// direction in w for all layers: about (numbers of a style) / (layers) times weaker than the
    /// paper's term of the same weight; 0 switches it off. Default 2.
    pub path_weight: f64,
    /// The path length is taken every this many steps, with its weight multiplied accordingly.
    /// Default 4.
    pub path_every: u64,
    /// What is done to the images the discriminator sees: `flip`, `turn`, `move`, `zoom`,
    /// `brightness`, `contrast`; none switches augmentation off. Default all of them.
    pub augment: Vec<Transform>,
    /// Augmentation becomes more probable while the mean sign of the discriminator's logits of
    /// real images lies above this, and less below. Default 0.6.
    pub augment_target: f64,
    /// The highest probability of each change. Default 0.8.
    pub augment_limit: f64,
    /// Images in which the probability goes from 0 to 1 at most. Default 500000.
    pub augment_images: f64,
}

impl Default for StyleGan2Config {
    fn default() -> Self {
        Self {
            latent: 128,
            style: 128,
            mapping_layers: 4,
            mapping_rate: 0.01,
            channel_base: 2048,
            channel_max: 128,
            conditional: false,
            mixing: 0.9,
            discriminator_rate: 1.0,
            r1_gamma: 0.1,
            r1_every: 16,
            path_weight: 2.0,
            path_every: 4,
            augment: Transform::ALL.to_vec(),
            augment_target: 0.6,
            augment_limit: 0.8,
            augment_images: 500_000.0,
        }
    }
}

impl StyleGan2Config {
    /// The channels of the maps from 4×4 to the image's size.
    fn widths(&self, side: usize) -> Vec<usize> {
        let levels = side.ilog2() - 1;
        (0..levels)
            .map(|level| (self.channel_base / (4usize << level)).min(self.channel_max))
            .collect()
    }

    fn classes(&self, spec: &DataSpec) -> usize {
        match self.conditional {
            true => spec.classes.len(),
            false => 0,
        }
    }

    /// The generator for images of `spec`.
    pub fn generator(&self, spec: &DataSpec, init: &Init) -> StyleGenerator {
        let classes = self.classes(spec);
        let widths = self.widths(spec.height);
        StyleGenerator {
            mapping: Mapping::new(
                &init.at("mapping"),
                [self.latent, self.style, classes],
                self.mapping_layers,
                self.mapping_rate,
            ),
            synthesis: Synthesis::new(&init.at("synthesis"), self.style, &widths, spec.channels),
            latent: self.latent,
            style: self.style,
            classes,
        }
    }

    /// The discriminator for images of `spec`.
    pub fn discriminator(&self, spec: &DataSpec, init: &Init) -> StyleDiscriminator {
        let widths = self.widths(spec.height);
        StyleDiscriminator::new(init, &widths, spec.channels, self.classes(spec))
    }

    /// Whether a number of the settings has no meaning, and what to do.
    fn wrong_number(&self) -> Option<&'static str> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let weight = |x: f64| x >= 0.0 && x.is_finite();
        let sizes = [
            self.latent,
            self.style,
            self.mapping_layers,
            self.channel_max,
        ];
        if sizes.contains(&0) || self.r1_every == 0 || self.path_every == 0 {
            return Some(
                "latent, style, mapping_layers, channel_max, r1_every and path_every are at least 1",
            );
        }
        if !positive(self.mapping_rate) || !positive(self.discriminator_rate) {
            return Some("mapping_rate and discriminator_rate are larger than zero");
        }
        if !weight(self.r1_gamma) || !weight(self.path_weight) {
            return Some("r1_gamma and path_weight are zero or larger");
        }
        if !(0.0..=1.0).contains(&self.mixing) {
            return Some("mixing lies between 0 and 1");
        }
        if !(-1.0..=1.0).contains(&self.augment_target) {
            return Some("augment_target lies between -1 and 1; 0.6 is usual");
        }
        if !positive(self.augment_limit) || self.augment_limit > 1.0 {
            return Some(
                "augment_limit is larger than zero and at most 1; from 0.8 on changes leak into samples",
            );
        }
        if !positive(self.augment_images) {
            return Some("augment_images is larger than zero");
        }
        None
    }
}

/// The family.
pub struct StyleGan2;

impl Family for StyleGan2 {
    type Config = StyleGan2Config;
    type Trainer = StyleGan2Trainer;

    const INFO: Info = Info {
        id: "stylegan2",
        title: "StyleGAN2",
        paper: "Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020",
        summary: "sharp images in one pass and a space of styles to move in; augmentation lets it learn from few images",
        sizes: "8×8, 16×16, 32×32, 64×64 or 128×128",
        tasks: &[Task::Generate, Task::Encode, Task::Interpolate],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 2e-3,
        beta1: 0.0,
        beta2: 0.99,
        average_half_life_images: 5_000.0,
    };

    fn natural_size(_config: &StyleGan2Config, height: usize, width: usize) -> (usize, usize) {
        let side = height.max(width).next_power_of_two().clamp(8, 128);
        (side, side)
    }

    fn check(config: &StyleGan2Config, spec: &DataSpec) -> Result<()> {
        let (height, width) = (spec.height, spec.width);
        if height != width || !height.is_power_of_two() || !(8..=128).contains(&height) {
            return Err(Error::settings(
                format!("images of {height}×{width} do not fit family stylegan2"),
                "set data.size to 8, 16, 32, 64 or 128",
            ));
        }
        if config.channel_base < height {
            return Err(Error::settings(
                format!(
                    "model.channel_base = {} leaves maps of {height}×{height} without channels",
                    config.channel_base
                ),
                format!("it is at least {height}; {} gives 16 channels", 16 * height),
            ));
        }
        if config.conditional && spec.classes.len() < 2 {
            return Err(Error::settings(
                "model.conditional needs labelled images of two classes or more",
                "use a folder per class, --set data.labels=FILE.csv, or leave it false",
            ));
        }
        match config.wrong_number() {
            Some(remedy) => Err(Error::settings(
                "a value of [model] is out of range",
                remedy,
            )),
            None => Ok(()),
        }
    }

    fn trainer(config: &StyleGan2Config, context: &TrainerContext) -> Result<StyleGan2Trainer> {
        let init = Init::new(context.seed, &context.device);
        let generator = config.generator(&context.spec, &init.at("generator"));
        let discriminator = config.discriminator(&context.spec, &init.at("discriminator"));
        Ok(StyleGan2Trainer::new(
            config,
            generator,
            discriminator,
            context,
        ))
    }

    fn pipeline(
        config: &StyleGan2Config,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let blank = Init::blank(device);
        let origin = std::path::Path::new("model.safetensors");
        let generator = config.generator(spec, &blank);
        let generator = load(generator, &part(weights, "generator."), origin)?;
        let own = part(weights, "discriminator.");
        let discriminator = match own.is_empty() {
            true => None,
            false => {
                let blank = config.discriminator(spec, &blank);
                Some(load(blank, &own, origin)?.valid())
            }
        };
        Ok(Box::new(StyleGan2Pipeline::new(
            generator.valid(),
            discriminator,
            spec,
            device,
        )))
    }

    /// There are no published weights that this family knows.
    fn import(
        _files: &[TensorMap],
        _config: StyleGan2Config,
    ) -> Result<(StyleGan2Config, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "family stylegan2 knows no published weights",
            "train it; family dcgan imports a published GAN",
        ))
    }

    fn tiny() -> (StyleGan2Config, DataSpec) {
        let config = StyleGan2Config {
            latent: 6,
            style: 6,
            mapping_layers: 2,
            channel_base: 32,
            channel_max: 6,
            conditional: true,
            r1_every: 2,
            path_weight: 0.05,
            path_every: 2,
            augment_images: 10_000.0,
            ..Default::default()
        };
        (
            config,
            DataSpec {
                channels: 1,
                height: 8,
                width: 8,
                classes: ["a", "b", "c"].map(String::from).to_vec(),
                attributes: vec![],
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_halve_with_each_doubling_of_the_side_and_are_bounded() {
        let config = StyleGan2Config {
            channel_base: 512,
            channel_max: 96,
            ..Default::default()
        };
        assert_eq!(config.widths(32), [96, 64, 32, 16]);
        assert_eq!(config.widths(8), [96, 64]);
    }

    #[test]
    fn settings_without_meaning_are_refused() {
        let (good, spec) = StyleGan2::tiny();
        assert!(StyleGan2::check(&good, &spec).is_ok());
        let refused = |change: &dyn Fn(&mut StyleGan2Config, &mut DataSpec)| {
            let (mut config, mut spec) = (good.clone(), spec.clone());
            change(&mut config, &mut spec);
            StyleGan2::check(&config, &spec).is_err()
        };
        assert!(refused(&|_: &mut StyleGan2Config, s: &mut DataSpec| s
            .width =
            16));
        assert!(refused(&|_: &mut StyleGan2Config, s: &mut DataSpec| s
            .classes =
            vec![]));
        assert!(refused(&|c: &mut StyleGan2Config, _: &mut DataSpec| c
            .channel_base =
            7));
        assert!(refused(&|c: &mut StyleGan2Config, _: &mut DataSpec| c
            .mixing =
            1.5));
        assert!(refused(&|c: &mut StyleGan2Config, _: &mut DataSpec| c
            .r1_every =
            0));
        assert!(refused(&|c: &mut StyleGan2Config, _: &mut DataSpec| c
            .augment_limit =
            f64::NAN));
    }
}
