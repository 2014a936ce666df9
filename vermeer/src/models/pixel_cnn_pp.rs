//! PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017): a convolutional network that gives each
//! pixel a mixture of discretised logistics, from the pixels above it and on its left. Two streams
//! go down to smaller scales and up again with skips between; the colours of a pixel depend on
//! each other linearly.
//!
//! ```text
//! loss = −log p(x) = −Σ_pixels log Σ_k w_k p(r | k) p(g | k, r) p(b | k, r, g)     in nats per image
//! ```
//!
//! The mixture is that of [`crate::loss::logistic_mixture`]. Dropout, and the normalisation of
//! weights with its data-dependent start, are left out.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | bytes as whole numbers |
//! | parameters of the mixtures | `[n, 3 K, height, width]`, in colour `[n, 10 K, …]` | any |
//! | outputs | `[n, 256, channels, height, width]` | log-probabilities |

mod layers;
mod mixture;
mod stepper;
mod streams;
#[cfg(test)]
mod tests;

use burn::module::Module;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::elu;
use vermeer_kernels::nn::Conv2d;

use self::stepper::PixelStepper;
use self::streams::{ABOVE, Down, Sizes, Up, causal, further, lower, pass, pixelwise};
use crate::autoregressive::{
    Autoregressive, AutoregressivePipeline, Stepper, check_pixels, class_numbers,
};
use crate::loss::logistic_mixture::{LogisticMixture, parameters_of};
use crate::models::vae::Binarise;
use crate::nn::Init;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::Pipeline;
use crate::train::Solo;
use crate::{Error, Result};

/// Values of a sub-pixel: the likelihood is one of bytes.
const LEVELS: usize = 256;

/// The largest number of scales.
const MOST_SCALES: usize = 6;

/// Settings of a PixelCNN++.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelCnnPpConfig {
    /// Channels of each stream. Default 32.
    pub width: usize,
    /// Residual blocks of a stream at each scale on the way down; on the way up all scales but the
    /// smallest have one more. Default 2.
    pub blocks: usize,
    /// Sizes at which the streams work, each half the one before; 1 to 6. Default 3.
    pub scales: usize,
    /// Components of a pixel's mixture. Default 5.
    pub components: usize,
    /// Whether the network is told the class. Default false.
    pub conditional: bool,
}

impl Default for PixelCnnPpConfig {
    fn default() -> Self {
        Self {
            width: 32,
            blocks: 2,
            scales: 3,
            components: 5,
            conditional: false,
        }
    }
}

impl PixelCnnPpConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> PixelCnnPpNet {
        let (channels, width) = (spec.channels, self.width);
        let sizes = Sizes {
            width,
            classes: match self.conditional {
                true => spec.classes.len(),
                false => 0,
            },
        };
        let start = |name: &str, kernel: [usize; 2]| {
            causal(&init.at(name), [channels + 1, width], kernel, 1, 1.0)
        };
        let down = |scale: usize| Down::new(&init.at("down").at(scale), sizes, scale, self.blocks);
        let up = |step: usize| {
            let blocks = self.blocks + usize::from(step > 0);
            Up::new(&init.at("up").at(step), sizes, step, blocks)
        };
        let parameters = parameters_of(self.components, channels);
        PixelCnnPpNet {
            start_above: start("start_above", ABOVE),
            start_row: start("start_row", [1, 3]),
            start_left: start("start_left", [2, 1]),
            down: (0..self.scales).map(down).collect(),
            up: (0..self.scales).map(up).collect(),
            out: pixelwise(&init.at("out"), [width, parameters], true),
            conditional: self.conditional,
            spec: spec.clone(),
        }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct PixelCnnPpNet {
    start_above: Conv2d,
    start_row: Conv2d,
    start_left: Conv2d,
    down: Vec<Down>,
    /// From the smallest scale on.
    up: Vec<Up>,
    out: Conv2d,
    #[module(skip)]
    conditional: bool,
    #[module(skip)]
    spec: DataSpec,
}

impl PixelCnnPpNet {
    /// What [`LogisticMixture::new`] makes the distributions of all pixels of; `x` `[n, c, h, w]`
    /// holds bytes as whole numbers, `labels` the class of each image where the network is told it.
    pub fn parameters(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<4> {
        let [n, _, h, w] = x.dims();
        let labels = class_numbers(self, labels, n, &x.device());
        // Ones tell the image from the zeros around it.
        let ones = Tensor::ones([n, 1, h, w], &x.device());
        let signed = x.mul_scalar(2.0 / 255.0).sub_scalar(1.0);
        let x = Tensor::cat(vec![signed, ones], 1);
        let above = lower(self.start_above.forward(x.clone()));
        let row = lower(self.start_row.forward(x.clone()));
        let before = row.add(further(self.start_left.forward(x)));
        let features = pass(&self.down, &self.up, [above, before], labels.as_ref());
        self.out.forward(elu(features))
    }

    /// The distributions of all pixels.
    fn mixture(&self, x: Tensor<4>, labels: Option<&[u32]>) -> LogisticMixture {
        LogisticMixture::new(self.parameters(x, labels), self.spec.channels)
    }
}

impl Autoregressive for PixelCnnPpNet {
    const ID: &'static str = PixelCnnPp::INFO.id;

    fn spec(&self) -> &DataSpec {
        &self.spec
    }

    fn levels(&self) -> usize {
        LEVELS
    }

    fn binarise(&self) -> Binarise {
        Binarise::No
    }

    fn conditional(&self) -> bool {
        self.conditional
    }

    fn outputs(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5> {
        self.mixture(x.clone(), labels).levels(x)
    }

    fn negative_log_likelihood(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<1> {
        self.mixture(x.clone(), labels).negative_log_likelihood(x)
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(PixelStepper::new(self, n, labels))
    }
}

/// The family.
pub struct PixelCnnPp;

impl Family for PixelCnnPp {
    type Config = PixelCnnPpConfig;
    type Trainer = Solo<PixelCnnPpNet>;

    const INFO: Info = Info {
        id: "pixel-cnn-pp",
        title: "PixelCNN++",
        paper: "Salimans, Karpathy, Chen and Kingma, PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications, 2017",
        summary: "exact likelihood of greys and colours, pixel by pixel; slow to train and to sample",
        sizes: "any height and width divisible by 2^(scales − 1)",
        tasks: AutoregressivePipeline::<PixelCnnPpNet>::TASKS,
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(config: &PixelCnnPpConfig, height: usize, width: usize) -> (usize, usize) {
        let step = 1 << (config.scales.clamp(1, MOST_SCALES) - 1);
        let round = |side: usize| side.div_ceil(step) * step;
        (round(height), round(width))
    }

    fn check(config: &PixelCnnPpConfig, spec: &DataSpec) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::settings(what, remedy));
        if config.width == 0 || config.blocks == 0 || config.components == 0 {
            return wrong(
                "a size of 0 in [model]".into(),
                "width, blocks and components must be at least 1",
            );
        }
        if !(1..=MOST_SCALES).contains(&config.scales) {
            return wrong(
                format!("model.scales = {}", config.scales),
                "scales must be 1 to 6",
            );
        }
        let natural = Self::natural_size(config, spec.height, spec.width);
        if natural != (spec.height, spec.width) {
            return wrong(
                format!(
                    "images of {}×{} cannot be halved {} times",
                    spec.height,
                    spec.width,
                    config.scales - 1
                ),
                &format!(
                    "set model.scales lower, or --set data.size=[{},{}]",
                    natural.0, natural.1
                ),
            );
        }
        check_pixels(LEVELS, Binarise::No, config.conditional, spec)
    }

    fn trainer(config: &PixelCnnPpConfig, context: &TrainerContext) -> Result<Self::Trainer> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &PixelCnnPpConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        Ok(Box::new(AutoregressivePipeline::load(
            net, weights, device,
        )?))
    }

    /// Knows no published weights: those of the paper normalise their weights and work at a width
    /// and a depth of their own.
    fn import(
        _files: &[TensorMap],
        _config: PixelCnnPpConfig,
    ) -> Result<(PixelCnnPpConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published weights of a PixelCNN++ are known",
            "train one with `vermeer train`",
        ))
    }

    fn tiny() -> (PixelCnnPpConfig, DataSpec) {
        let config = PixelCnnPpConfig {
            width: 4,
            blocks: 1,
            scales: 2,
            components: 2,
            conditional: false,
        };
        let spec = DataSpec {
            channels: 3,
            height: 8,
            width: 4,
            classes: vec![],
            attributes: vec![],
        };
        (config, spec)
    }
}
