//! PixelCNN (van den Oord et al., 2016): one masked convolution and residual blocks of masked
//! convolutions give the distribution of every sub-pixel from those above and to the left of it.
//! Training sees all sub-pixels at once; sampling goes through them one by one.
//!
//! van den Oord, Kalchbrenner and Kavukcuoglu, *Pixel Recurrent Neural Networks*, 2016. Class
//! conditioning by a bias in each block follows van den Oord et al., *Conditional Image Generation
//! with PixelCNN Decoders*, 2016.
//!
//! ```text
//! loss = −log p(x) = −Σ log p(x_i | x_1 … x_{i−1})        in nats per image
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | whole numbers `0..levels` as floats |
//! | features | `[n, 2 · width, height, width]` | any |
//! | `outputs` | `[n, k, channels, height, width]` | logits; `k = 1` for two levels, else `k = levels` |

mod masked;
mod stepper;

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, Then, add_to_pixels, leaky_relu};

use self::masked::{Mask, MaskedConv, pointwise};
use self::stepper::PixelCnnStepper;
use super::vae::Binarise;
use crate::autoregressive::{
    Autoregressive, AutoregressivePipeline, Stepper, check_pixels, class_numbers, outputs_of,
};
use crate::nn::{Init, Law};
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::Solo;
use crate::{Error, Result};

/// Pixels the first convolution sees to each side: its kernel is 7×7.
const REACH: usize = 3;

/// Standard deviation of the biases of a class at the start, small beside the features they move.
const CLASS_STD: f32 = 0.1;

/// Settings of a PixelCNN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelCnnConfig {
    /// Features of the masked convolutions inside a block; between blocks there are twice as many.
    /// Default 32.
    pub width: usize,
    /// Residual blocks. Default 7.
    pub blocks: usize,
    /// Features between the two last layers. Default 64.
    pub head: usize,
    /// Values of a sub-pixel: 2, 4, 16 or 256. Default 256.
    pub levels: usize,
    /// `no` or `dynamic`, which draws each pixel of 2 levels anew with its grey value as
    /// probability. Default no.
    pub binarise: Binarise,
    /// Whether the network is told the class. Default false.
    pub conditional: bool,
}

impl Default for PixelCnnConfig {
    fn default() -> Self {
        Self {
            width: 32,
            blocks: 7,
            head: 64,
            levels: 256,
            binarise: Binarise::No,
            conditional: false,
        }
    }
}

impl PixelCnnConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> PixelCnnNet {
        let (groups, width) = (spec.channels, self.width);
        let outputs = outputs_of(self.levels) * groups;
        let conv = |init: Init, sizes: [usize; 2]| init.conv2d(sizes, 1, 1, 0, true, Law::FanIn);
        let classes = spec.classes.len();
        let block = |place: Init| Block {
            reduce: conv(place.at("reduce"), [2 * width, width]),
            masked: MaskedConv::init([width, width], 1, Mask::B, groups, &place.at("masked")),
            class: self.conditional.then(|| Embedding {
                weight: place
                    .at("class")
                    .param("weight", [classes, width], |random| {
                        random.normal() * CLASS_STD
                    }),
            }),
            expand: conv(place.at("expand"), [width, 2 * width]),
        };
        let first = init.at("first");
        let blocks = init.at("blocks");
        PixelCnnNet {
            first: MaskedConv::init([groups, 2 * width], REACH, Mask::A, groups, &first),
            blocks: (0..self.blocks).map(|i| block(blocks.at(i))).collect(),
            head: conv(init.at("head"), [2 * width, self.head]),
            out: conv(init.at("out"), [self.head, outputs]),
            config: self.clone(),
            spec: spec.clone(),
        }
    }
}

/// x + expand(relu(masked(relu(reduce(relu(x)))))).
#[derive(Module, Debug)]
struct Block {
    reduce: Conv2d,
    masked: MaskedConv,
    class: Option<Embedding>,
    expand: Conv2d,
}

impl Block {
    /// `[n, 2 · width, h, w]`, the same size; `labels` are those of the images.
    fn forward(&self, x: Tensor<4>, groups: usize, labels: Option<&Tensor<1, Int>>) -> Tensor<4> {
        let relu = || Then::from(Activation::Relu);
        let h = pointwise(&self.reduce, groups, leaky_relu(x.clone(), 0.0), relu());
        let h = match (&self.class, labels) {
            (Some(table), Some(labels)) => {
                let h = self.masked.forward(h, Then::default());
                let bias = table.weight.val().select(0, labels.clone()); // [n, width]
                leaky_relu(add_to_pixels(h, bias), 0.0)
            }
            _ => self.masked.forward(h, relu()),
        };
        let sum = Then {
            residual: Some(x),
            ..Then::default()
        };
        pointwise(&self.expand, groups, h, sum)
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct PixelCnnNet {
    first: MaskedConv,
    blocks: Vec<Block>,
    head: Conv2d,
    out: Conv2d,
    #[module(skip)]
    config: PixelCnnConfig,
    #[module(skip)]
    spec: DataSpec,
}

impl PixelCnnNet {
    /// The distance of two values as the network sees them, which are unit pixels.
    fn scale(&self) -> f32 {
        1.0 / (self.config.levels - 1) as f32
    }
}

impl Autoregressive for PixelCnnNet {
    const ID: &'static str = PixelCnn::INFO.id;

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
        let labels = class_numbers(self, labels, n, &x.device());
        let x = x.mul_scalar(self.scale());
        let mut h = self.first.forward(x, Then::default()); // [n, 2 · width, h, w]
        for block in &self.blocks {
            h = block.forward(h, channels, labels.as_ref());
        }
        let relu = Then::from(Activation::Relu);
        let h = pointwise(&self.head, channels, leaky_relu(h, 0.0), relu); // [n, head, h, w]
        let y = pointwise(&self.out, channels, h, Then::default()); // [n, channels · k, h, w]
        let k = outputs_of(self.config.levels);
        // Divided with the channels last, as they lie in memory.
        y.permute([0, 2, 3, 1])
            .reshape([n, height, width, channels, k])
            .permute([0, 4, 3, 1, 2])
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(PixelCnnStepper::new(self, n, labels))
    }
}

/// The family.
pub struct PixelCnn;

impl Family for PixelCnn {
    type Config = PixelCnnConfig;
    type Trainer = Solo<PixelCnnNet>;

    const INFO: Info = Info {
        id: "pixel-cnn",
        title: "PixelCNN",
        paper: "van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks, 2016",
        summary: "exact likelihoods and completion of images; samples are drawn pixel by pixel",
        sizes: "any",
        tasks: &[Task::Generate, Task::Inpaint],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(_: &PixelCnnConfig, height: usize, width: usize) -> (usize, usize) {
        (height, width)
    }

    fn check(config: &PixelCnnConfig, spec: &DataSpec) -> Result<()> {
        check_pixels(config.levels, config.binarise, config.conditional, spec)?;
        if config.width < spec.channels || config.head < spec.channels {
            return Err(Error::settings(
                format!(
                    "model.width = {} and model.head = {} with images of {} channels",
                    config.width, config.head, spec.channels
                ),
                "each channel needs a feature of its own, so neither may be less than the channels",
            ));
        }
        Ok(())
    }

    fn trainer(config: &PixelCnnConfig, context: &TrainerContext) -> Result<Solo<PixelCnnNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &PixelCnnConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        Ok(Box::new(AutoregressivePipeline::load(
            net, weights, device,
        )?))
    }

    fn import(_: &[TensorMap], _: PixelCnnConfig) -> Result<(PixelCnnConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published weights of this PixelCNN are known",
            "train one, or import weights of another family",
        ))
    }

    fn tiny() -> (PixelCnnConfig, DataSpec) {
        let config = PixelCnnConfig {
            width: 7,
            blocks: 2,
            head: 12,
            levels: 4,
            conditional: true,
            ..PixelCnnConfig::default()
        };
        let spec = DataSpec {
            channels: 3,
            height: 8,
            width: 6,
            classes: vec!["first".into(), "second".into()],
            attributes: vec![],
        };
        (config, spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoregressive::{
        Sampling, naive_sample, positions, sample, stepwise_outputs, total_probability,
    };
    use crate::nn::host;
    use crate::random::{Purpose, stream};

    fn net(config: &PixelCnnConfig, spec: &DataSpec) -> PixelCnnNet {
        config.init(spec, &Init::new(5, &Device::flex()))
    }

    fn grey(height: usize, width: usize) -> (PixelCnnConfig, DataSpec) {
        let config = PixelCnnConfig {
            width: 6,
            blocks: 3,
            head: 5,
            levels: 2,
            ..PixelCnnConfig::default()
        };
        let spec = DataSpec {
            channels: 1,
            height,
            width,
            classes: vec![],
            attributes: vec![],
        };
        (config, spec)
    }

    /// Values of `n` images and, for a conditional network, their classes.
    fn given(net: &PixelCnnNet, n: usize) -> (Vec<u16>, Option<Vec<u32>>) {
        let size: usize = net.spec.shape().iter().product();
        let mut random = stream(1, Purpose::World, 0, 0);
        let levels = net.config.levels as u64;
        let values = (0..n * size).map(|_| random.below(levels) as u16).collect();
        let classes = net.spec.classes.len();
        let labels = net.config.conditional;
        (
            values,
            labels.then(|| (0..n).map(|i| (i % classes) as u32).collect()),
        )
    }

    fn tensor(net: &PixelCnnNet, values: &[u16]) -> Tensor<4> {
        let [channels, height, width] = net.spec.shape();
        let floats: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
        let n = floats.len() / (channels * height * width);
        Tensor::<1>::from_floats(&floats[..], &Device::flex()).reshape([n, channels, height, width])
    }

    #[test]
    fn the_stepper_computes_the_networks_outputs() {
        for (config, spec) in [PixelCnn::tiny(), grey(5, 7)] {
            let net = net(&config, &spec);
            let (values, labels) = given(&net, 3);
            let whole = host(net.outputs(tensor(&net, &values), labels.as_deref()));
            let steps = stepwise_outputs(&net, &values, labels.as_deref());
            assert_eq!(whole.len(), steps.len());
            for (whole, step) in whole.iter().zip(&steps) {
                assert!((whole - step).abs() < 1e-5, "{whole} and {step}");
            }
        }
    }

    /// As many features as convolutions need to be filtered where they may.
    fn wide() -> (PixelCnnConfig, DataSpec) {
        let (config, spec) = grey(6, 7);
        let config = PixelCnnConfig {
            width: 16,
            head: 16,
            ..config
        };
        (config, spec)
    }

    /// To the bit: without gradients nothing of a later value arrives.
    #[test]
    fn no_output_sees_its_own_value_or_a_later_one() {
        for (config, spec) in [PixelCnn::tiny(), grey(5, 7), wide()] {
            let net = net(&config, &spec);
            let (values, labels) = given(&net, 1);
            let [_, height, width] = spec.shape();
            let size = values.len();
            let outputs =
                |values: &[u16]| host(net.outputs(tensor(&net, values), labels.as_deref()));
            let before = outputs(&values);
            let place: Vec<usize> = positions(spec.shape())
                .map(|at| (at.channel * height + at.y) * width + at.x)
                .collect();
            for changed in [0, 1, 2, size / 2, size - 2, size - 1] {
                let mut other = values.clone();
                other[place[changed]] = (other[place[changed]] + 1) % config.levels as u16;
                let after = outputs(&other);
                let differs = |index: usize| {
                    let outputs = 0..outputs_of(config.levels);
                    let mut places = outputs.map(|k| k * size + place[index]);
                    places.any(|at| before[at].to_bits() != after[at].to_bits())
                };
                assert!((0..=changed).all(|index| !differs(index)), "{changed}");
                let later = (changed + 1..size).any(differs);
                assert!(later || changed + 1 == size, "{changed} is not seen");
            }
        }
    }

    #[test]
    fn cached_samples_are_those_of_the_whole_network() {
        for (config, spec) in [PixelCnn::tiny(), grey(5, 7)] {
            let net = net(&config, &spec);
            let (_, labels) = given(&net, 4);
            let ask = Sampling {
                shape: spec.shape(),
                levels: config.levels,
                seed: 3,
                numbers: &[0, 1, 7, 12],
                temperature: 1.0,
                known: None,
            };
            let cached = sample(&mut *net.stepper(4, labels.as_deref()), &ask);
            let naive = naive_sample(&net, labels.as_deref(), &ask, &Device::flex());
            assert_eq!(cached.values, naive.values);
        }
    }

    #[test]
    fn the_probabilities_of_all_images_sum_to_one() {
        let (config, spec) = grey(2, 2);
        let net = net(&config, &spec);
        let total = total_probability(&net, None, &Device::flex()).unwrap();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn features_too_few_for_the_colours_are_refused() {
        let (config, spec) = PixelCnn::tiny();
        PixelCnn::check(&config, &spec).unwrap();
        for (width, head) in [(2, 12), (7, 2)] {
            let config = PixelCnnConfig {
                width,
                head,
                ..config.clone()
            };
            let error = PixelCnn::check(&config, &spec).unwrap_err().to_string();
            assert!(error.contains("channels"), "{error}");
        }
    }
}
