//! Pixel recurrent network (van den Oord, Kalchbrenner and Kavukcuoglu, 2016): the distribution of
//! each sub-pixel from all before it, by recurrent layers that sweep over the image.
//!
//! ```text
//! loss = −Σ log p(x_i | x_1 … x_{i−1})        in nats per image
//! Row LSTM, row y:  gates = K_is ∗ x_y + K_ss ∗ h_{y−1},  c_y = σ(f)·c_{y−1} + σ(i)·tanh(g),  h_y = σ(o)·tanh(c_y)
//! ```
//!
//! | tensor | shape | values |
//! |---|---|---|
//! | `x` | `[n, channels, height, width]` | whole numbers `0..levels` as floats |
//! | features | `[n, 2·hidden, height, width]` | any |
//! | gates of the input | `[n, 4 · hidden, height, width]`, GRU 3 | any |
//! | states | `[n, hidden, height, width]` | (−1, 1) |
//! | `outputs` | `[n, k, channels, height, width]` | logits; `k = 1` for two levels, else `k = levels` |

mod net;
mod recurrence;
mod stepper;

use burn::prelude::Device;
use serde::{Deserialize, Serialize};

pub use net::PixelRnnNet;

use crate::autoregressive::{Autoregressive, AutoregressivePipeline, check_pixels};
use crate::models::vae::Binarise;
use crate::nn::Init;
use crate::registry::{DataSpec, Family, Info, TrainDefaults, TrainerContext};
use crate::run::TensorMap;
use crate::task::{Pipeline, Task};
use crate::train::Solo;
use crate::{Error, Result};

/// How a recurrent layer goes over an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelRnnCell {
    /// An LSTM over the rows: a state sees three states of the row above.
    #[default]
    RowLstm,
    /// Two LSTMs over the diagonals, one from each side: a state sees those above and beside it.
    DiagonalBilstm,
    /// The Row LSTM with the gates of a GRU (Cho et al., 2014).
    RowGru,
}

/// Settings of a pixel recurrent network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelRnnConfig {
    /// `row-lstm`, `diagonal-bilstm` or `row-gru`. Default row-lstm.
    pub cell: PixelRnnCell,
    /// Size of a state; the features between layers have twice as many channels. Default 32.
    pub hidden: usize,
    /// Recurrent layers. Default 3.
    pub layers: usize,
    /// Channels of the two layers before the output. Default 64.
    pub head: usize,
    /// Values of a sub-pixel: 2, 4, 16 or 256. Default 256.
    pub levels: usize,
    /// `no` or `dynamic`, which needs two levels. Default no.
    pub binarise: Binarise,
    /// Whether the network is told the class. Default false.
    pub conditional: bool,
}

impl Default for PixelRnnConfig {
    fn default() -> Self {
        Self {
            cell: PixelRnnCell::RowLstm,
            hidden: 32,
            layers: 3,
            head: 64,
            levels: 256,
            binarise: Binarise::No,
            conditional: false,
        }
    }
}

impl PixelRnnConfig {
    /// A network whose parameters are drawn by `init`.
    pub fn init(&self, spec: &DataSpec, init: &Init) -> PixelRnnNet {
        PixelRnnNet::new(self, spec, init)
    }
}

/// The family.
pub struct PixelRnn;

impl Family for PixelRnn {
    type Config = PixelRnnConfig;
    type Trainer = Solo<PixelRnnNet>;

    const INFO: Info = Info {
        id: PixelRnnNet::ID,
        title: "Pixel recurrent network",
        paper: "van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks, 2016",
        summary: "an exact likelihood with a state that reaches over the whole image, slow to train",
        sizes: "any",
        tasks: &[Task::Generate, Task::Inpaint],
    };

    const TRAIN: TrainDefaults = TrainDefaults {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        average_half_life_images: 20_000.0,
    };

    fn natural_size(_: &PixelRnnConfig, height: usize, width: usize) -> (usize, usize) {
        (height, width)
    }

    fn check(config: &PixelRnnConfig, spec: &DataSpec) -> Result<()> {
        check_pixels(config.levels, config.binarise, config.conditional, spec)?;
        for (name, size) in [("hidden", config.hidden), ("head", config.head)] {
            if size == 0 || size > 4096 {
                return Err(Error::settings(
                    format!("model.{name} = {size}"),
                    format!("{name} lies between 1 and 4096"),
                ));
            }
            if !size.is_multiple_of(spec.channels) {
                return Err(Error::settings(
                    format!(
                        "model.{name} = {size} cannot be shared out among {} channels",
                        spec.channels
                    ),
                    format!("choose a multiple of {}", spec.channels),
                ));
            }
        }
        if config.layers == 0 || config.layers > 64 {
            return Err(Error::settings(
                format!("model.layers = {}", config.layers),
                "layers lie between 1 and 64",
            ));
        }
        Ok(())
    }

    fn trainer(config: &PixelRnnConfig, context: &TrainerContext) -> Result<Solo<PixelRnnNet>> {
        let net = config.init(&context.spec, &Init::new(context.seed, &context.device));
        Ok(Solo::new(net, context))
    }

    fn pipeline(
        config: &PixelRnnConfig,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let net = config.init(spec, &Init::blank(device));
        Ok(Box::new(AutoregressivePipeline::load(
            net, weights, device,
        )?))
    }

    fn import(_: &[TensorMap], _: PixelRnnConfig) -> Result<(PixelRnnConfig, DataSpec, TensorMap)> {
        Err(Error::checkpoint(
            "weights",
            "no published weights of a pixel recurrent network are known",
            "train one, for example with recipes/mnist-pixel-rnn.toml",
        ))
    }

    fn tiny() -> (PixelRnnConfig, DataSpec) {
        let config = PixelRnnConfig {
            hidden: 8,
            layers: 2,
            head: 16,
            levels: 2,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 8,
            width: 8,
            classes: vec![],
            attributes: vec![],
        };
        (config, spec)
    }
}

#[cfg(test)]
mod tests {
    use burn::prelude::*;

    use super::*;
    use crate::autoregressive::{
        Known, Sampling, naive_sample, sample, stepwise_outputs, total_probability,
    };
    use crate::nn::host;
    use crate::random::{Purpose, stream};

    const CELLS: [PixelRnnCell; 3] = [
        PixelRnnCell::RowLstm,
        PixelRnnCell::DiagonalBilstm,
        PixelRnnCell::RowGru,
    ];

    /// A net on images of the shape, `levels` values, three classes where it is conditional.
    fn net(
        cell: PixelRnnCell,
        [channels, height, width]: [usize; 3],
        levels: usize,
        conditional: bool,
    ) -> PixelRnnNet {
        let config = PixelRnnConfig {
            cell,
            hidden: 6,
            layers: 2,
            head: 6,
            levels,
            conditional,
            ..Default::default()
        };
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        let spec = DataSpec {
            channels,
            height,
            width,
            classes,
            attributes: vec![],
        };
        PixelRnn::check(&config, &spec).unwrap();
        config.init(&spec, &Init::new(11, &Device::flex()))
    }

    fn values(count: usize, levels: usize, seed: u64) -> Vec<u16> {
        let mut random = stream(seed, Purpose::World, 0, 0);
        (0..count)
            .map(|_| random.below(levels as u64) as u16)
            .collect()
    }

    fn outputs(net: &PixelRnnNet, x: &[u16], labels: Option<&[u32]>) -> Vec<f32> {
        let [channels, height, width] = net.spec().shape();
        let n = x.len() / (channels * height * width);
        let x: Vec<f32> = x.iter().map(|v| f32::from(*v)).collect();
        let x = Tensor::<1>::from_floats(&x[..], &Device::flex());
        host(net.outputs(x.reshape([n, channels, height, width]), labels))
    }

    #[test]
    fn steps_give_the_outputs_of_the_whole_network() {
        // Higher than wide, wider than high, one row, one column, colours.
        let shapes = [[1, 5, 3], [1, 3, 5], [1, 1, 4], [1, 4, 1], [3, 4, 3]];
        for cell in CELLS {
            for shape in shapes {
                for (levels, conditional) in [(2, false), (4, true)] {
                    let net = net(cell, shape, levels, conditional);
                    let n = 3;
                    let x = values(n * shape.iter().product::<usize>(), levels, 1);
                    let classes = [2u32, 0, 1];
                    let labels = conditional.then_some(&classes[..]);
                    let whole = outputs(&net, &x, labels);
                    let steps = stepwise_outputs(&net, &x, labels);
                    assert_eq!(whole.len(), steps.len());
                    for (place, (a, b)) in whole.iter().zip(&steps).enumerate() {
                        assert!(
                            (a - b).abs() < 1e-5,
                            "{cell:?} {shape:?} {levels}: {a} and {b} at {place}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_output_sees_its_own_value_or_a_later_one() {
        for cell in CELLS {
            for shape in [[1, 4, 5], [3, 4, 4]] {
                let levels = 4;
                let net = net(cell, shape, levels, false);
                let [channels, height, width] = shape;
                let size = channels * height * width;
                let x = values(size, levels, 2);
                let before = outputs(&net, &x, None);
                // Outputs are [k, c, h, w] of one image.
                let changed = |place: usize, after: &[f32]| {
                    (0..levels).any(|k| before[k * size + place] != after[k * size + place])
                };
                let rank = |place: usize| {
                    let (channel, pixel) = (place / (height * width), place % (height * width));
                    pixel * channels + channel
                };
                for place in 0..size {
                    let mut x = x.clone();
                    x[place] = (x[place] + 1) % levels as u16;
                    let after = outputs(&net, &x, None);
                    for other in (0..size).filter(|other| rank(*other) <= rank(place)) {
                        assert!(
                            !changed(other, &after),
                            "{cell:?} {shape:?}: {place} reaches {other}"
                        );
                    }
                    if rank(place) == 0 {
                        let seen = (0..size).filter(|other| changed(*other, &after)).count();
                        assert!(seen > size / 2, "{cell:?}: {seen} outputs see the first");
                    }
                }
            }
        }
    }

    #[test]
    fn samples_with_caches_are_those_without() {
        for cell in CELLS {
            for (shape, levels) in [([1, 5, 4], 2), ([3, 3, 4], 4)] {
                let net = net(cell, shape, levels, false);
                let numbers: Vec<u64> = (0..6).collect();
                let size = shape.iter().product::<usize>();
                let given = values(6 * size, levels, 3);
                let mask: Vec<bool> = (0..6 * shape[1] * shape[2]).map(|i| i % 3 == 0).collect();
                let known = Known {
                    values: &given,
                    mask: &mask,
                };
                for known in [None, Some(known)] {
                    let ask = Sampling {
                        shape,
                        levels,
                        seed: 4,
                        numbers: &numbers,
                        temperature: 1.0,
                        known,
                    };
                    let cached = sample(&mut *net.stepper(6, None), &ask);
                    let naive = naive_sample(&net, None, &ask, &Device::flex());
                    assert_eq!(cached.values, naive.values, "{cell:?} {shape:?}");
                }
            }
        }
    }

    /// Known pixels skip the outputs; what they leave in the caches counts all the same.
    #[test]
    fn a_step_whose_outputs_nobody_asks_for_leaves_the_same_caches() {
        for cell in CELLS {
            let shape = [3, 3, 3];
            let net = net(cell, shape, 4, false);
            let x = values(27, 4, 5);
            let whole = outputs(&net, &x, None);
            let mut stepper = net.stepper(1, None);
            let mut out = vec![0.0; 4];
            for at in crate::autoregressive::positions(shape) {
                let place = (at.channel * 3 + at.y) * 3 + at.x;
                if (at.y, at.x) == (2, 2) {
                    stepper.outputs(at, &mut out);
                    for (k, found) in out.iter().enumerate() {
                        assert!((found - whole[k * 27 + place]).abs() < 1e-5, "{cell:?}");
                    }
                }
                stepper.put(at, &[x[place]]);
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one() {
        let device = Device::flex();
        for cell in CELLS {
            let total = total_probability(&net(cell, [1, 2, 2], 2, false), None, &device).unwrap();
            assert!((total - 1.0).abs() < 1e-5, "{cell:?}: {total}");
            let conditional = net(cell, [1, 2, 2], 4, true);
            let total = total_probability(&conditional, Some(1), &device).unwrap();
            assert!((total - 1.0).abs() < 1e-5, "{cell:?}: {total}");
        }
        let colour = net(PixelRnnCell::RowLstm, [3, 2, 1], 2, false);
        let total = total_probability(&colour, None, &device).unwrap();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn sizes_are_checked() {
        let (config, mut spec) = PixelRnn::tiny();
        PixelRnn::check(&config, &spec).unwrap();
        spec.channels = 3;
        assert!(PixelRnn::check(&config, &spec).is_err());
        spec.channels = 1;
        for wrong in [
            PixelRnnConfig {
                hidden: 0,
                ..config.clone()
            },
            PixelRnnConfig {
                layers: 0,
                ..config.clone()
            },
            PixelRnnConfig {
                levels: 3,
                ..config
            },
        ] {
            assert!(PixelRnn::check(&wrong, &spec).is_err(), "{wrong:?}");
        }
    }
}
