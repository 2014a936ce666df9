//! Gated PixelCNN (van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016):
//! every sub-pixel has a distribution given those above it and to its left, computed by a stack of
//! convolutions over the rows above and one along the row.
//!
//! ```text
//! v' = tanh(a) · σ(b)                   [a, b] = V(v) + class
//! h' = h + M(tanh(c) · σ(d))            [c, d] = H(h) + A([a, b])
//! loss = −log p(x) = −Σ log p(x_i | x_1 … x_{i−1})        in nats per image
//! ```
//!
//! V sees its own row of v and rows above it, H its own pixel of h and pixels to its left; the first
//! convolutions see neither, so that row y of v depends on rows above y of the image only. With
//! colours the features are in three groups, of which one sees what earlier groups see and, of its
//! own pixel, the earlier channels.
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | whole numbers `0..levels` as floats |
//! | `v`, `h` | `[n, width, height, width]` | any |
//! | `outputs` | `[n, k, channels, height, width]` | logits; `k = 1` for two levels, else `k = levels` |

mod masked;
mod published;
mod stepper;

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::{add, add_to_pixels, elu, gate};

use self::masked::{Masked, Order};
use self::stepper::GatedStepper;
use super::vae::Binarise;
use crate::autoregressive::{
    Autoregressive, AutoregressivePipeline, Stepper, check_pixels, class_numbers, outputs_of,
};
use crate::nn::Init;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::Solo;
use crate::{Error, Result};

/// Settings of a Gated PixelCNN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatedPixelCnnConfig {
    /// Features of each stack; a multiple of the channels. Default 64.
    pub width: usize,
    /// Side of the first kernels, of which the half before the pixel is used; odd. Default 7.
    pub first_kernel: usize,
    /// Side of the other kernels; odd. Default 3.
    pub kernel: usize,
    /// Distance of the taps in each gated layer. Default 1, 2, 1, 4, 1, 2, 1: seven layers.
    pub dilations: Vec<usize>,
    /// Values of a sub-pixel: 2, 4, 16 or 256, the highest bits of its byte. Default 256.
    pub levels: usize,
    /// `no`, or `dynamic` with two levels: each pixel drawn anew with its grey value as
    /// probability. Default no.
    pub binarise: Binarise,
    /// Whether the network is told the class. Default false.
    pub conditional: bool,
}

impl Default for GatedPixelCnnConfig {
    fn default() -> Self {
        Self {
            width: 64,
            first_kernel: 7,
            kernel: 3,
            dilations: vec![1, 2, 1, 4, 1, 2, 1],
            levels: 256,
            binarise: Binarise::No,
            conditional: false,
        }
    }
}

impl GatedPixelCnnConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> GatedPixelCnnNet {
        self.build(spec, None, init)
    }

    /// A network of grey images whose values are names rather than brightnesses: the first
    /// convolutions see a learned vector of `size` numbers in the place of each value.
    pub(crate) fn init_embedded(
        &self,
        spec: &DataSpec,
        size: usize,
        init: &Init,
    ) -> GatedPixelCnnNet {
        self.build(spec, Some(size), init)
    }

    fn build(&self, spec: &DataSpec, embedding: Option<usize>, init: &Init) -> GatedPixelCnnNet {
        let (channels, width) = (spec.channels, self.width);
        let inputs = embedding.unwrap_or(channels);
        // With one channel nothing of a pixel itself is seen before it is known.
        let order = |inputs: usize, period: usize, strict: bool| {
            (channels > 1).then_some(Order {
                groups: channels,
                inputs,
                period,
                strict,
            })
        };
        let first = (self.first_kernel, self.first_kernel / 2);
        let own = usize::from(channels > 1);
        let place = init.at("first");
        let layers = self.dilations.iter().enumerate();
        let outputs = channels * outputs_of(self.levels);
        GatedPixelCnnNet {
            embedding: embedding.map(|size| init.at("embedding").embedding(self.levels, size)),
            first: First {
                vertical: Masked::new(
                    &place.at("vertical"),
                    [inputs, width],
                    [first.0, first.0],
                    [first.1, first.0],
                    1,
                    None,
                ),
                horizontal: Masked::new(
                    &place.at("horizontal"),
                    [inputs, width],
                    [1, first.0],
                    [1, first.1 + own],
                    1,
                    order(channels, width, true),
                ),
            },
            layers: layers
                .map(|(i, dilation)| self.layer(&init.at("layers").at(i), spec, *dilation))
                .collect(),
            out: Masked::new(
                &init.at("out"),
                [width, outputs],
                [1, 1],
                [1, 1],
                1,
                order(width, outputs, false),
            ),
            spec: spec.clone(),
            config: self.clone(),
        }
    }

    fn layer(&self, init: &Init, spec: &DataSpec, dilation: usize) -> Layer {
        let (width, side, half) = (self.width, self.kernel, self.kernel / 2 + 1);
        let order = (spec.channels > 1).then_some(Order {
            groups: spec.channels,
            inputs: width,
            period: width,
            strict: false,
        });
        let classes = spec.classes.len();
        let bound = 1.0 / (classes.max(1) as f32).sqrt();
        Layer {
            vertical: Masked::new(
                &init.at("vertical"),
                [width, 2 * width],
                [side, side],
                [half, side],
                dilation,
                None,
            ),
            across: Masked::new(
                &init.at("across"),
                [2 * width, 2 * width],
                [1, 1],
                [1, 1],
                1,
                None,
            ),
            horizontal: Masked::new(
                &init.at("horizontal"),
                [width, 2 * width],
                [1, side],
                [1, half],
                dilation,
                order,
            ),
            mix: Masked::new(&init.at("mix"), [width, width], [1, 1], [1, 1], 1, order),
            classes: self.conditional.then(|| {
                init.param("classes", [classes, 2 * width], |random| {
                    (2.0 * random.uniform() - 1.0) * bound
                })
            }),
        }
    }
}

/// The convolutions that see the image.
#[derive(Module, Debug)]
pub struct First {
    vertical: Masked,
    horizontal: Masked,
}

/// A gated layer of both stacks.
#[derive(Module, Debug)]
pub struct Layer {
    vertical: Masked,
    /// From the rows above to the row.
    across: Masked,
    horizontal: Masked,
    mix: Masked,
    /// What a class adds to the features of the rows above, `[classes, 2 · width]`.
    classes: Option<Param<Tensor<2>>>,
}

impl Layer {
    /// The features of the rows above before their gate, `[n, 2 · width, h, w]`.
    fn above(&self, v: Tensor<4>, labels: Option<&Tensor<1, Int>>) -> Tensor<4> {
        let features = self.vertical.forward(v);
        match (&self.classes, labels) {
            (Some(classes), Some(labels)) => {
                let each = classes.val().select(0, labels.clone()); // [n, 2 · width]
                add_to_pixels(features, each)
            }
            _ => features,
        }
    }

    /// The next features of the row, `[n, width, h, w]`.
    fn row(&self, h: Tensor<4>, above: Tensor<4>) -> Tensor<4> {
        let features = add(
            self.horizontal.forward(h.clone()),
            self.across.forward(above),
        ); // [n, 2 · width, h, w]
        add(self.mix.forward(gate(features)), h)
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct GatedPixelCnnNet {
    /// What stands for each value, where it is no brightness, `[levels, size]`.
    embedding: Option<Embedding>,
    first: First,
    layers: Vec<Layer>,
    out: Masked,
    #[module(skip)]
    spec: DataSpec,
    #[module(skip)]
    config: GatedPixelCnnConfig,
}

impl GatedPixelCnnNet {
    /// The features of the row behind the last layer, `[n, width, h, w]`.
    ///
    /// # Panics
    /// When labels are missing or not wanted.
    pub fn features(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<4> {
        let labels = class_numbers(self, labels, x.dims()[0], &x.device());
        let x = self.seen(x);
        let mut v = self.first.vertical.forward(x.clone());
        let mut h = self.first.horizontal.forward(x);
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            let above = layer.above(v.clone(), labels.as_ref());
            h = layer.row(h, above.clone());
            if i < last {
                v = gate(above);
            }
        }
        h
    }

    /// What the first convolutions see of values `[n, channels, h, w]`.
    fn seen(&self, x: Tensor<4>) -> Tensor<4> {
        let Some(embedding) = &self.embedding else {
            return x.mul_scalar(self.scale()).sub_scalar(1.0);
        };
        let [n, _, height, width] = x.dims();
        let size = embedding.weight.dims()[1];
        let vectors = embedding.forward(x.int().reshape([n, height * width])); // [n, h · w, size]
        vectors.swap_dims(1, 2).reshape([n, size, height, width])
    }

    /// What brings values to −1..1, before 1 is taken off.
    fn scale(&self) -> f32 {
        2.0 / (self.config.levels - 1) as f32
    }
}

impl Autoregressive for GatedPixelCnnNet {
    const ID: &'static str = GatedPixelCnn::INFO.id;

    fn spec(&self) -> &DataSpec {
        &self.spec
    }

    fn levels(&self) -> usize {
        self.config.levels
    }

    fn binarise(&self) -> Binarise {
        self.config.binarise
    }

    fn conditional(&self) -> bool {
        self.config.conditional
    }

    fn outputs(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5> {
        let [n, channels, height, width] = x.dims();
        let y = self.out.forward(elu(self.features(x, labels))); // [n, channels · k, h, w]
        let k = outputs_of(self.config.levels);
        // Divided with the channels last, as they lie in memory.
        y.permute([0, 2, 3, 1])
            .reshape([n, height, width, channels, k])
            .permute([0, 4, 3, 1, 2])
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(GatedStepper::new(self, n, labels))
    }
}

/// The family.
pub struct GatedPixelCnn;

impl Family for GatedPixelCnn {
    type Config = GatedPixelCnnConfig;
    type Trainer = Solo<GatedPixelCnnNet>;

    const INFO: Info = Info {
        id: "gated-pixel-cnn",
        title: "Gated PixelCNN",
        paper: "van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016",
        summary: "exact likelihoods and completion of images, sampled pixel by pixel",
        sizes: "any",
        tasks: &[Task::Generate, Task::Inpaint],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(_: &GatedPixelCnnConfig, height: usize, width: usize) -> (usize, usize) {
        (height, width)
    }

    fn check(config: &GatedPixelCnnConfig, spec: &DataSpec) -> Result<()> {
        check_pixels(config.levels, config.binarise, config.conditional, spec)?;
        if config.width == 0 || !config.width.is_multiple_of(spec.channels) {
            return Err(Error::settings(
                format!(
                    "model.width = {} for images of {} channels",
                    config.width, spec.channels
                ),
                "the features are divided among the channels: choose a multiple of them",
            ));
        }
        for (name, side) in [
            ("first_kernel", config.first_kernel),
            ("kernel", config.kernel),
        ] {
            if side < 3 || side.is_multiple_of(2) {
                return Err(Error::settings(
                    format!("model.{name} = {side}"),
                    "the side of a kernel is odd and at least 3",
                ));
            }
        }
        if config.dilations.is_empty() || config.dilations.contains(&0) {
            return Err(Error::settings(
                format!("model.dilations = {:?}", config.dilations),
                "name a distance of at least 1 for each gated layer, for example [1, 2, 1]",
            ));
        }
        let side = spec.height.max(spec.width);
        let far = |dilation: &&usize| **dilation * (config.kernel / 2) >= side;
        if let Some(dilation) = config.dilations.iter().find(far) {
            return Err(Error::settings(
                format!(
                    "model.dilations has {dilation}, whose taps lie outside images of {}×{}",
                    spec.height, spec.width
                ),
                "leave out the distances that reach beyond the image, or use larger images",
            ));
        }
        Ok(())
    }

    fn trainer(config: &GatedPixelCnnConfig, context: &TrainerContext) -> Result<Self::Trainer> {
        let init = Init::new(context.seed, &context.device);
        Ok(Solo::new(config.init(&context.spec, &init), context))
    }

    fn pipeline(
        config: &GatedPixelCnnConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        Ok(Box::new(AutoregressivePipeline::load(
            net, weights, device,
        )?))
    }

    /// Knows the network of the UvA deep learning tutorial 12 (`conv_vstack`, `conv_hstack`,
    /// `conv_layers`, `conv_out`), of grey images, whose size is taken for 28×28.
    fn import(
        files: &[TensorMap],
        config: GatedPixelCnnConfig,
    ) -> Result<(GatedPixelCnnConfig, DataSpec, TensorMap)> {
        published::import(files, config)
    }

    fn tiny() -> (GatedPixelCnnConfig, DataSpec) {
        let config = GatedPixelCnnConfig {
            width: 12,
            first_kernel: 5,
            kernel: 3,
            dilations: vec![1, 2],
            levels: 4,
            conditional: true,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 3,
            height: 8,
            width: 6,
            classes: vec!["a".into(), "b".into()],
            attributes: vec![],
        };
        (config, spec)
    }
}

#[cfg(test)]
mod tests;
