//! WaveNet (van den Oord et al., 2016) over the raster of sub-pixels: causal convolutions whose
//! dilation grows from layer to layer give the distribution of the next value. What the paper does
//! for sound is done here for images read row by row, with learned positions beside the values.
//!
//! van den Oord et al., *WaveNet: A Generative Model for Raw Audio*, 2016.
//!
//! ```text
//! loss = −log p(x) = −Σ log p(x_t | x_1 … x_{t−1})        in nats per image
//! layer:  z = tanh(W_f * h + V_f y) · σ(W_g * h + V_g y),   h ← h + W_r z,   sum ← sum + W_s z
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | whole numbers `0..levels` as floats |
//! | `h` | `[n, width, 1, t]`, `t = channels · height · width` | any |
//! | `outputs` | `[n, k, channels, height, width]` | logits; `k = 1` for two levels, else `k = levels` |

mod layer;
mod stepper;

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::{Activation, leaky_relu};

use self::layer::{Layer, table};
use self::stepper::WaveNetStepper;
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

/// Settings of a WaveNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WaveNetConfig {
    /// Features between the layers and inside their gates. Default 32.
    pub width: usize,
    /// Features that the layers add up for the output. Default 64.
    pub skip: usize,
    /// How far back each layer of a stack looks, in sub-pixels. Default 1, 2, 4 and so on to 256.
    pub dilations: Vec<usize>,
    /// How often the stack is repeated. Default 2.
    pub repeat: usize,
    /// Whether rows, columns and channels have vectors of their own, added to the values. Default true.
    pub positions: bool,
    /// Values of a sub-pixel: 2, 4, 16 or 256. Default 256.
    pub levels: usize,
    /// `no` or `dynamic`, which draws each pixel of 2 levels anew with its grey value as
    /// probability. Default no.
    pub binarise: Binarise,
    /// Whether the network is told the class. Default false.
    pub conditional: bool,
}

impl Default for WaveNetConfig {
    fn default() -> Self {
        Self {
            width: 32,
            skip: 64,
            dilations: (0..9).map(|power| 1 << power).collect(),
            repeat: 2,
            positions: true,
            levels: 256,
            binarise: Binarise::No,
            conditional: false,
        }
    }
}

impl WaveNetConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> WaveNetNet {
        let width = self.width;
        let stack = self.dilations.iter().copied();
        let dilations: Vec<usize> = (0..self.repeat).flat_map(|_| stack.clone()).collect();
        let last = dilations.len().saturating_sub(1);
        let classes = self.conditional.then_some(spec.classes.len());
        let layer = |(index, dilation): (usize, &usize)| {
            let place = init.at("layers").at(index);
            let sizes = [width, self.skip];
            Layer::init(sizes, *dilation, classes, index == last, &place)
        };
        let conv = |name: &str, outputs: usize| {
            let place = init.at(name);
            place.conv2d([self.skip, outputs], 1, 1, 0, true, Law::FanIn)
        };
        let place = |name: &str, rows: usize| table(&init.at(name), rows, width);
        let [channels, height, columns] = spec.shape();
        let positions = self.positions;
        WaveNetNet {
            value: init.at("value").embedding(self.levels + 1, width),
            row: positions.then(|| place("row", height)),
            column: positions.then(|| place("column", columns)),
            channel: (positions && channels > 1).then(|| place("channel", channels)),
            layers: dilations.iter().enumerate().map(layer).collect(),
            head: conv("head", self.skip),
            out: conv("out", outputs_of(self.levels)),
            config: self.clone(),
            spec: spec.clone(),
        }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct WaveNetNet {
    /// A vector for each value, and one for the place before the first.
    value: Embedding,
    row: Option<Embedding>,
    column: Option<Embedding>,
    channel: Option<Embedding>,
    layers: Vec<Layer>,
    head: Conv2d,
    out: Conv2d,
    #[module(skip)]
    config: WaveNetConfig,
    #[module(skip)]
    spec: DataSpec,
}

impl WaveNetNet {
    /// The vectors of all positions, `[1, t, width]`.
    fn positions(&self) -> Option<Tensor<3>> {
        let [channels, height, columns] = self.spec.shape();
        let width = self.config.width;
        let along = |table: &Embedding, shape: [usize; 4]| -> Tensor<4> {
            table.weight.val().reshape(shape)
        };
        let (row, column) = (self.row.as_ref()?, self.column.as_ref()?);
        let row = along(row, [height, 1, 1, width]);
        let mut all = row.add(along(column, [1, columns, 1, width])); // [height, columns, 1, width]
        if let Some(channel) = &self.channel {
            all = all.add(along(channel, [1, 1, channels, width]));
        }
        Some(all.reshape([1, height * columns * channels, width]))
    }

    /// The vectors that go into the first layer, `[n, width, 1, t]`: of the value before each
    /// position, and of the position itself.
    fn embed(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, channels, height, columns] = x.dims();
        let t = channels * height * columns;
        let raster = x.permute([0, 2, 3, 1]).reshape([n, t]);
        let start = Tensor::<2>::full([n, 1], self.config.levels as f32, &raster.device());
        let before = Tensor::cat(vec![start, raster.narrow(1, 0, t - 1)], 1);
        let mut h = self.value.forward(before.int()); // [n, t, width]
        if let Some(positions) = self.positions() {
            h = h.add(positions);
        }
        h.reshape([n, 1, t, self.config.width])
            .permute([0, 3, 1, 2])
    }
}

impl Autoregressive for WaveNetNet {
    const ID: &'static str = WaveNet::INFO.id;

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
        let [n, channels, height, columns] = x.dims();
        let labels = class_numbers(self, labels, n, &x.device());
        let mut h = self.embed(x);
        let mut sum: Option<Tensor<4>> = None;
        for layer in &self.layers {
            let (next, skip) = layer.forward(h, sum, labels.as_ref());
            (h, sum) = (next, Some(skip));
        }
        let sum = sum.expect("the settings ask for at least one layer"); // [n, skip, 1, t]
        let h = leaky_relu(sum, 0.0);
        let h = self.head.forward_then(h, Activation::Relu);
        let y = self.out.forward(h); // [n, k, 1, t]
        let k = outputs_of(self.config.levels);
        // Divided with the channels last, as they lie in memory.
        y.permute([0, 2, 3, 1])
            .reshape([n, height, columns, channels, k])
            .permute([0, 4, 3, 1, 2])
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(WaveNetStepper::new(self, n, labels))
    }
}

/// The family.
pub struct WaveNet;

impl Family for WaveNet {
    type Config = WaveNetConfig;
    type Trainer = Solo<WaveNetNet>;

    const INFO: Info = Info {
        id: "wavenet",
        title: "WaveNet",
        paper: "van den Oord et al., WaveNet: A Generative Model for Raw Audio, 2016",
        summary: "exact likelihoods of images read as one long row; for signals more than for pictures",
        sizes: "any with at least two sub-pixels",
        tasks: &[Task::Generate, Task::Inpaint],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(_: &WaveNetConfig, height: usize, width: usize) -> (usize, usize) {
        (height, width)
    }

    fn check(config: &WaveNetConfig, spec: &DataSpec) -> Result<()> {
        check_pixels(config.levels, config.binarise, config.conditional, spec)?;
        if config.width == 0 || config.skip == 0 || config.repeat == 0 {
            return Err(Error::settings(
                "a size of 0 in [model]",
                "width, skip and repeat must be at least 1",
            ));
        }
        if config.dilations.is_empty() || config.dilations.contains(&0) {
            return Err(Error::settings(
                format!("model.dilations = {:?}", config.dilations),
                "name one dilation for each layer, each at least 1, such as [1, 2, 4, 8]",
            ));
        }
        let size: usize = spec.shape().iter().product();
        if size < 2 {
            return Err(Error::settings(
                "images of one sub-pixel leave nothing to predict from",
                "use larger images",
            ));
        }
        if let Some(dilation) = config.dilations.iter().find(|dilation| **dilation >= size) {
            return Err(Error::settings(
                format!(
                    "model.dilations has {dilation}, which looks back beyond images of {size} sub-pixels"
                ),
                "leave out the dilations that reach beyond the image, or use larger images",
            ));
        }
        Ok(())
    }

    fn trainer(config: &WaveNetConfig, context: &TrainerContext) -> Result<Solo<WaveNetNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &WaveNetConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        Ok(Box::new(AutoregressivePipeline::load(
            net, weights, device,
        )?))
    }

    fn import(_: &[TensorMap], _: WaveNetConfig) -> Result<(WaveNetConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published weights of a WaveNet over pixels are known",
            "train one, or import weights of another family",
        ))
    }

    fn tiny() -> (WaveNetConfig, DataSpec) {
        let config = WaveNetConfig {
            width: 8,
            skip: 8,
            dilations: vec![1, 2, 4],
            repeat: 2,
            levels: 2,
            binarise: Binarise::Dynamic,
            ..WaveNetConfig::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 12,
            width: 8,
            classes: vec![],
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

    fn net(config: &WaveNetConfig, spec: &DataSpec) -> WaveNetNet {
        config.init(spec, &Init::new(5, &Device::flex()))
    }

    /// Colours of four levels by class; some dilations reach beyond the image.
    fn colour(height: usize, width: usize) -> (WaveNetConfig, DataSpec) {
        let config = WaveNetConfig {
            width: 6,
            skip: 7,
            dilations: vec![1, 3, 20, 100],
            repeat: 1,
            levels: 4,
            conditional: true,
            ..WaveNetConfig::default()
        };
        let spec = DataSpec {
            channels: 3,
            height,
            width,
            classes: vec!["first".into(), "second".into()],
            attributes: vec![],
        };
        (config, spec)
    }

    /// Values of `n` images and, for a conditional network, their classes.
    fn given(net: &WaveNetNet, n: usize) -> (Vec<u16>, Option<Vec<u32>>) {
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

    fn tensor(net: &WaveNetNet, values: &[u16]) -> Tensor<4> {
        let [channels, height, width] = net.spec.shape();
        let floats: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
        let n = floats.len() / (channels * height * width);
        Tensor::<1>::from_floats(&floats[..], &Device::flex()).reshape([n, channels, height, width])
    }

    #[test]
    fn the_stepper_computes_the_networks_outputs() {
        for (config, spec) in [WaveNet::tiny(), colour(4, 3)] {
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
    fn wide() -> (WaveNetConfig, DataSpec) {
        let (config, spec) = WaveNet::tiny();
        let config = WaveNetConfig {
            width: 16,
            skip: 16,
            ..config
        };
        (config, spec)
    }

    /// To the bit: nothing of a later value arrives.
    #[test]
    fn no_output_sees_its_own_value_or_a_later_one() {
        for (config, spec) in [WaveNet::tiny(), colour(4, 3), wide()] {
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
        for (config, spec) in [WaveNet::tiny(), colour(4, 3)] {
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
        let (config, spec) = WaveNet::tiny();
        let spec = DataSpec {
            height: 2,
            width: 2,
            ..spec
        };
        let net = net(&config, &spec);
        let total = total_probability(&net, None, &Device::flex()).unwrap();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn layers_without_a_reach_are_refused() {
        let (config, spec) = WaveNet::tiny();
        WaveNet::check(&config, &spec).unwrap();
        for dilations in [vec![], vec![1, 0], vec![1, 96]] {
            let config = WaveNetConfig {
                dilations,
                ..config.clone()
            };
            let error = WaveNet::check(&config, &spec).unwrap_err().to_string();
            assert!(error.contains("dilations"), "{error}");
        }
    }
}
