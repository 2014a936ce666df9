//! A causal transformer over the code map, read row by row (Vaswani et al., 2017, with the
//! normalisation before each part as in Radford et al., 2019).
//!
//! ```text
//! h_t = code_{t−1} + position_t + class              h_0 has no code
//! h ← h + Attention(Norm(h))                         each place attends to itself and those before it
//! h ← h + W₂ gelu(W₁ Norm(h))
//! ```

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::prelude::*;
use burn::tensor::activation::softmax;
use vermeer_kernels::nn::Linear;

use super::stepper::TransformerStepper;
use super::{VqVae, VqVaeConfig};
use crate::autoregressive::{Autoregressive, Stepper, class_numbers, outputs_of};
use crate::models::vae::Binarise;
use crate::nn::{Init, Law};
use crate::registry::{DataSpec, Family};

/// Heads of the attention.
pub(super) const HEADS: usize = 4;

/// Added to the variance of a normalisation.
pub(super) const EPSILON: f32 = 1e-5;

/// The standard deviation of weights and tables at the start (Radford et al., 2019).
const STD: f32 = 0.02;

/// Normalisation of the last axis with scale and shift (Ba et al., 2016).
#[derive(Module, Debug)]
pub(super) struct LayerNorm {
    /// Scale, `[size]`.
    pub(super) gamma: Param<Tensor<1>>,
    /// Shift, `[size]`.
    pub(super) beta: Param<Tensor<1>>,
}

impl LayerNorm {
    fn new(size: usize, init: &Init) -> Self {
        Self {
            gamma: init.constant("gamma", [size], 1.0),
            beta: init.constant("beta", [size], 0.0),
        }
    }

    /// `[n, l, size]` normalised.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, size] = x.dims();
        let centred = x.clone().sub(x.mean_dim(2));
        let variance = centred.clone().square().mean_dim(2); // [n, l, 1]
        centred
            .div(variance.add_scalar(EPSILON).sqrt())
            .mul(self.gamma.val().reshape([1, 1, size]))
            .add(self.beta.val().reshape([1, 1, size]))
    }
}

/// Attention and two dense layers, each added to what goes in.
#[derive(Module, Debug)]
pub(super) struct Block {
    pub(super) norm1: LayerNorm,
    /// Queries, keys and values side by side, `[width, 3 · width]`.
    pub(super) qkv: Linear,
    pub(super) mix: Linear,
    pub(super) norm2: LayerNorm,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

impl Block {
    fn new(width: usize, init: &Init) -> Self {
        let law = Law::Normal(STD);
        let place = init.at("qkv");
        Self {
            norm1: LayerNorm::new(width, &init.at("norm1")),
            qkv: Linear {
                weight: place.param("weight", [width, 3 * width], |random| STD * random.normal()),
                bias: None,
            },
            mix: init.at("mix").linear(width, width, law),
            norm2: LayerNorm::new(width, &init.at("norm2")),
            up: init.at("up").linear(width, 4 * width, law),
            down: init.at("down").linear(4 * width, width, law),
        }
    }

    /// `[n, l, width] → [n, l, width]`; `mask` `[l, l]` is added to the scores.
    fn forward(&self, h: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
        let h = h.clone().add(self.attend(self.norm1.forward(h), mask));
        let inner = gelu(self.up.forward(self.norm2.forward(h.clone())));
        h.add(self.down.forward(inner))
    }

    fn attend(&self, x: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
        let [n, length, width] = x.dims();
        let size = width / HEADS;
        let all = self
            .qkv
            .forward(x)
            .reshape([n, length, 3, HEADS, size])
            .permute([2, 0, 3, 1, 4]); // [3, n, heads, l, size]
        let part = |i: usize| all.clone().narrow(0, i, 1).squeeze_dim::<4>(0);
        let scores = part(0)
            .matmul(part(1).swap_dims(2, 3))
            .div_scalar((size as f64).sqrt())
            .add(mask.reshape([1, 1, length, length])); // [n, heads, l, l]
        let seen = softmax(scores, 3).matmul(part(2)); // [n, heads, l, size]
        self.mix
            .forward(seen.swap_dims(1, 2).reshape([n, length, width]))
    }
}

/// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks and Gimpel, 2016).
fn gelu(x: Tensor<3>) -> Tensor<3> {
    let cube = x.clone().mul(x.clone()).mul(x.clone());
    let inner = x
        .clone()
        .add(cube.mul_scalar(0.044_715))
        .mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x.mul(inner.tanh().add_scalar(1.0)).mul_scalar(0.5)
}

/// The network.
#[derive(Module, Debug)]
pub struct TransformerNet {
    /// A vector for each code, `[K, width]`.
    pub(super) codes: Embedding,
    /// A vector for each place, `[l, width]`.
    pub(super) positions: Embedding,
    /// A vector for each class, `[classes, width]`.
    pub(super) classes: Option<Embedding>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: LayerNorm,
    pub(super) out: Linear,
    #[module(skip)]
    spec: DataSpec,
    #[module(skip)]
    levels: usize,
}

impl TransformerNet {
    /// A network over code maps of the shape `map`, its parameters drawn by `init`.
    pub(super) fn new(config: &VqVaeConfig, map: &DataSpec, init: &Init) -> Self {
        let (width, levels) = (config.prior_width, config.codes);
        let table = |name: &str, rows: usize| Embedding {
            weight: init
                .at(name)
                .param("weight", [rows, width], |random| STD * random.normal()),
        };
        let place = init.at("blocks");
        Self {
            codes: table("codes", levels),
            positions: table("positions", map.height * map.width),
            classes: config
                .conditional
                .then(|| table("classes", map.classes.len())),
            blocks: (0..config.prior_layers)
                .map(|i| Block::new(width, &place.at(i)))
                .collect(),
            norm: LayerNorm::new(width, &init.at("norm")),
            out: init
                .at("out")
                .linear(width, outputs_of(levels), Law::Normal(STD)),
            spec: map.clone(),
            levels,
        }
    }

    /// What each place is told, `[n, l, width]`: the code before it, where it is, the class.
    fn told(&self, codes: Tensor<2, Int>, labels: Option<&[u32]>) -> Tensor<3> {
        let [n, length] = codes.dims();
        let device = codes.device();
        let vectors = self.codes.forward(codes); // [n, l, width]
        let width = vectors.dims()[2];
        let none = Tensor::<3>::zeros([n, 1, width], &device);
        let before = match length > 1 {
            true => Tensor::cat(vec![none, vectors.narrow(1, 0, length - 1)], 1),
            false => none,
        };
        let h = before.add(self.positions.weight.val().reshape([1, length, width]));
        match (&self.classes, class_numbers(self, labels, n, &device)) {
            (Some(classes), Some(labels)) => {
                h.add(classes.forward(labels.reshape([n, 1]))) // [n, 1, width]
            }
            _ => h,
        }
    }
}

/// Zero where a place may look, so far below zero elsewhere that its share vanishes, `[l, l]`.
fn causal(length: usize, device: &Device) -> Tensor<2> {
    let mut mask = vec![0.0f32; length * length];
    for (place, row) in mask.chunks_exact_mut(length.max(1)).enumerate() {
        row[place + 1..].fill(-1e9);
    }
    Tensor::<1>::from_floats(&mask[..], device).reshape([length, length])
}

impl Autoregressive for TransformerNet {
    const ID: &'static str = VqVae::INFO.id;

    fn spec(&self) -> &DataSpec {
        &self.spec
    }

    fn levels(&self) -> usize {
        self.levels
    }

    fn binarise(&self) -> Binarise {
        Binarise::No
    }

    fn conditional(&self) -> bool {
        self.classes.is_some()
    }

    fn outputs(&self, x: Tensor<4>, labels: Option<&[u32]>) -> Tensor<5> {
        let [n, _, height, width] = x.dims();
        let length = height * width;
        let device = x.device();
        let mut h = self.told(x.int().reshape([n, length]), labels);
        let mask = causal(length, &device);
        for block in &self.blocks {
            h = block.forward(h, mask.clone());
        }
        let logits = self.out.forward(self.norm.forward(h)); // [n, l, k]
        let k = outputs_of(self.levels);
        logits.swap_dims(1, 2).reshape([n, k, 1, height, width])
    }

    fn stepper(&self, n: usize, labels: Option<&[u32]>) -> Box<dyn Stepper> {
        Box::new(TransformerStepper::new(self, n, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoregressive::{Sampling, naive_sample, sample};
    use crate::autoregressive::{stepwise_outputs, total_probability};
    use crate::nn::host;

    /// A network over maps of `[height, width]`, its weights large enough to matter.
    fn net(levels: usize, [height, width]: [usize; 2], conditional: bool) -> TransformerNet {
        let config = VqVaeConfig {
            codes: levels,
            prior_width: 8,
            prior_layers: 2,
            conditional,
            ..Default::default()
        };
        let map = DataSpec {
            channels: 1,
            height,
            width,
            classes: vec!["a".into(), "b".into()],
            attributes: vec![],
        };
        let net = TransformerNet::new(&config, &map, &Init::new(5, &Device::flex()));
        let larger: crate::nn::Named = crate::nn::flatten(&net)
            .into_iter()
            .map(|(path, tensor)| match path.contains("norm") {
                true => (path, tensor),
                false => (path, tensor.mul_scalar(20.0)),
            })
            .collect();
        crate::nn::unflatten(net, &larger)
    }

    fn tensor(values: &[u16], shape: [usize; 4]) -> Tensor<4> {
        let floats: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
        Tensor::<1>::from_floats(&floats[..], &Device::flex()).reshape(shape)
    }

    fn noise(count: usize, levels: usize) -> Vec<u16> {
        (0..count as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) >> 16) as usize % levels) as u16)
            .collect()
    }

    #[test]
    fn the_stepper_computes_what_the_network_does() {
        for (levels, conditional) in [(2, false), (5, true)] {
            let net = net(levels, [3, 4], conditional);
            let values = noise(36, levels);
            let labels = conditional.then_some(&[1, 0, 1][..]);
            let whole = host(net.outputs(tensor(&values, [3, 1, 3, 4]), labels));
            let steps = stepwise_outputs(&net, &values, labels);
            assert_eq!(whole.len(), steps.len());
            let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.1, "the network says something: {largest}");
            for (a, b) in whole.iter().zip(&steps) {
                assert!((a - b).abs() < 1e-5 * largest.max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_code_reaches_later_places_only() {
        let net = net(5, [3, 3], false);
        let values = noise(9, 5);
        let outputs = |values: &[u16]| host(net.outputs(tensor(values, [1, 1, 3, 3]), None));
        let before = outputs(&values);
        for changed in 0..9 {
            let mut other = values.clone();
            other[changed] = (other[changed] + 1) % 5;
            let after = outputs(&other);
            let mut reached = 0;
            for (index, (a, b)) in before.iter().zip(&after).enumerate() {
                match index % 9 <= changed {
                    true => assert!((a - b).abs() < 1e-6, "{changed} reaches {}", index % 9),
                    false => reached += usize::from((a - b).abs() > 1e-6),
                }
            }
            assert!(reached > 0 || changed == 8, "{changed} reaches nothing");
        }
    }

    #[test]
    fn cached_samples_are_those_of_the_whole_network() {
        let net = net(5, [3, 4], true);
        let labels = Some(&[1, 0][..]);
        let ask = Sampling {
            shape: [1, 3, 4],
            levels: 5,
            seed: 3,
            numbers: &[4, 9],
            temperature: 0.8,
            known: None,
        };
        let cached = sample(&mut *net.stepper(2, labels), &ask);
        let naive = naive_sample(&net, labels, &ask, &Device::flex());
        assert_eq!(cached.values, naive.values);
        let alone = Sampling {
            numbers: &[9],
            ..ask
        };
        let alone = sample(&mut *net.stepper(1, Some(&[0])), &alone);
        assert_eq!(alone.values, cached.values[12..]);
    }

    #[test]
    fn probabilities_sum_to_one() {
        for (levels, map, conditional) in [(2, [3, 3], false), (4, [2, 2], true)] {
            let net = net(levels, map, conditional);
            let label = conditional.then_some(1);
            let total = total_probability(&net, label, &Device::flex()).unwrap();
            assert!((total - 1.0).abs() < 1e-5, "{total}");
        }
    }
}
