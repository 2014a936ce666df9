//! Networks in use, put together from the layers of `vermeer-kernels`, with weights by a formula
//! that the PyTorch side computes too.

use burn::module::{Param, ParamId};
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::group_norm::GroupNormalisation;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::{
    Activation, ConvOptions, Edge, Stack, Then, add, add_scaled, enlarge, group_norm,
    pixel_shuffle, pool2d,
};

use crate::Workload;

/// The workload of that name, if it is one of these.
pub(crate) fn workload(name: &str) -> Option<Workload> {
    let mut weights = Weights(0);
    Some(match name {
        "srvgg" => {
            let net = Srvgg::new(&mut weights);
            let x = input([1, 3, 128, 128]);
            Box::new(move || Some(net.forward(x.clone())))
        }
        "rrdb" => {
            let net = Rrdb::new(&mut weights);
            let x = input([1, 3, 64, 64]);
            Box::new(move || Some(net.forward(x.clone())))
        }
        "johnson" => {
            let net = Johnson::new(&mut weights);
            let x = input([1, 3, 512, 512]);
            Box::new(move || Some(net.forward(x.clone())))
        }
        "inception" => {
            let net = Inception::new(&mut weights);
            let x = input([8, 3, 299, 299]);
            Box::new(move || Some(net.forward(x.clone())))
        }
        _ => return None,
    })
}

/// Number `i` of tensor `t`: the low 32 bits of (i + 7919·t)·2654435761, as a fraction less ½.
fn formula(t: usize, len: usize, scale: f64) -> Vec<f32> {
    (0..len)
        .map(|i| {
            let bits = ((i + 7919 * t) as u64).wrapping_mul(2_654_435_761) as u32;
            ((f64::from(bits) / 4_294_967_296.0 - 0.5) * scale) as f32
        })
        .collect()
}

fn input(shape: [usize; 4]) -> Tensor<4> {
    let numbers = formula(1_000, shape.iter().product(), 2.0);
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
}

/// Hands out weights; counts the tensors.
struct Weights(usize);

impl Weights {
    fn tensor<const D: usize>(&mut self, shape: [usize; D], scale: f64) -> Param<Tensor<D>> {
        let numbers = formula(self.0, shape.iter().product(), scale);
        self.0 += 1;
        let tensor = Tensor::from_data(TensorData::new(numbers, shape), &Device::flex());
        Param::initialized(ParamId::new(), tensor)
    }

    /// A convolution that keeps the size of its image, or halves it.
    fn conv(&mut self, c: usize, k: usize, kernel: [usize; 2], options: ConvOptions) -> Conv2d {
        let fan_in = (c * kernel[0] * kernel[1]) as f64;
        Conv2d {
            weight: self.tensor([k, c, kernel[0], kernel[1]], (24.0 / fan_in).sqrt()),
            bias: Some(self.tensor([k], 0.1)),
            options,
        }
    }

    fn square(&mut self, c: usize, k: usize, kernel: usize) -> Conv2d {
        let options = ConvOptions {
            padding: [kernel / 2; 2],
            ..ConvOptions::default()
        };
        self.conv(c, k, [kernel; 2], options)
    }
}

/// SRVGG ×4: eighteen convolutions and a pixel shuffle.
struct Srvgg {
    body: Vec<Conv2d>,
    out: Conv2d,
}

impl Srvgg {
    fn new(weights: &mut Weights) -> Self {
        let mut body = vec![weights.square(3, 64, 3)];
        body.extend((0..16).map(|_| weights.square(64, 64, 3)));
        let out = weights.square(64, 48, 3);
        Self { body, out }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<4> {
        for conv in &self.body {
            x = conv.forward_then(x, Activation::LeakyRelu(0.1));
        }
        pixel_shuffle(self.out.forward(x), 4)
    }
}

/// RRDBNet ×4 (Wang et al., 2018): 23 blocks of three dense blocks of five convolutions.
struct Rrdb {
    first: Conv2d,
    blocks: Vec<[Vec<Conv2d>; 3]>,
    body: Conv2d,
    ups: [Conv2d; 2],
    high: Conv2d,
    last: Conv2d,
}

impl Rrdb {
    fn new(weights: &mut Weights) -> Self {
        let first = weights.square(3, 64, 3);
        let mut dense = || -> Vec<Conv2d> {
            let mut convs: Vec<_> = (0..5)
                .map(|i| weights.square(64 + 32 * i, if i < 4 { 32 } else { 64 }, 3))
                .collect();
            // The factor of the residual goes into the weights.
            let last = convs.pop().expect("five were made");
            convs.push(Conv2d {
                weight: last.weight.map(|x| x.mul_scalar(0.2)),
                bias: last.bias.map(|bias| bias.map(|x| x.mul_scalar(0.2))),
                ..last
            });
            convs
        };
        let blocks = (0..23).map(|_| [dense(), dense(), dense()]).collect();
        Self {
            first,
            blocks,
            body: weights.square(64, 64, 3),
            ups: [weights.square(64, 64, 3), weights.square(64, 64, 3)],
            high: weights.square(64, 64, 3),
            last: weights.square(64, 3, 3),
        }
    }

    /// A dense block, with the memory of the one before.
    fn dense(convs: &[Conv2d], x: Tensor<4>, stack: Stack) -> (Tensor<4>, Stack) {
        let mut stack = stack.clear().push(x.clone());
        for conv in &convs[..4] {
            stack = stack.grow(conv, Activation::LeakyRelu(0.2));
        }
        (convs[4].forward_then(stack.images(), residual(x)), stack)
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let first = self.first.forward(x);
        let [n, _, h, w] = first.dims();
        let mut stack = Stack::new([n, 64 + 4 * 32, h, w]);
        let mut x = first.clone();
        for block in &self.blocks {
            let mut inner = x.clone();
            for dense in block {
                (inner, stack) = Self::dense(dense, inner, stack);
            }
            x = add_scaled(x, inner, 0.2);
        }
        let mut x = self.body.forward_then(x, residual(first));
        for up in &self.ups {
            x = up.forward_then(enlarge(x, 2), Activation::LeakyRelu(0.2));
        }
        self.last
            .forward(self.high.forward_then(x, Activation::LeakyRelu(0.2)))
    }
}

fn residual(x: Tensor<4>) -> Then {
    Then {
        residual: Some(x),
        ..Then::default()
    }
}

/// The style network of Johnson et al. (2016) with instance normalisation.
struct Johnson {
    convs: Vec<Normed>,
    last: Conv2d,
}

/// A convolution and its normalisation.
struct Normed {
    conv: Conv2d,
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

impl Johnson {
    fn new(weights: &mut Weights) -> Self {
        let mut layer = |c: usize, k: usize, kernel: usize, stride: usize| {
            let options = ConvOptions {
                stride: [stride; 2],
                padding: [kernel / 2; 2],
                edge: Edge::Reflect,
                ..ConvOptions::default()
            };
            Normed {
                conv: weights.conv(c, k, [kernel; 2], options),
                gamma: weights.tensor([k], 2.0),
                beta: weights.tensor([k], 0.2),
            }
        };
        let mut convs = vec![
            layer(3, 32, 9, 1),
            layer(32, 64, 3, 2),
            layer(64, 128, 3, 2),
        ];
        convs.extend((0..10).map(|_| layer(128, 128, 3, 1)));
        convs.extend([layer(128, 64, 3, 1), layer(64, 32, 3, 1)]);
        let options = ConvOptions {
            padding: [4; 2],
            edge: Edge::Reflect,
            ..ConvOptions::default()
        };
        let last = weights.conv(32, 3, [9; 2], options);
        Self { convs, last }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<4> {
        for layer in &self.convs[..3] {
            x = layer.forward(x, Activation::Relu);
        }
        for pair in self.convs[3..13].chunks(2) {
            let inner = pair[0].forward(x.clone(), Activation::Relu);
            x = add(x, pair[1].forward(inner, Activation::Identity));
        }
        for layer in &self.convs[13..] {
            x = layer.forward(enlarge(x, 2), Activation::Relu);
        }
        self.last.forward(x)
    }
}

impl Normed {
    fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let y = self.conv.forward(x);
        let options = GroupNormalisation {
            groups: y.dims()[1],
            epsilon: 1e-5,
            activation,
        };
        group_norm(y, [self.gamma.val(), self.beta.val()], options)
    }
}

/// Inception-v3 (Szegedy et al., 2015) up to its pooled features, as torchvision lays it out, with
/// batch normalisation folded into the convolutions.
struct Inception {
    stem: Vec<Conv2d>,
    blocks: Vec<Block>,
}

/// Branches whose results are joined.
struct Block {
    branches: Vec<Branch>,
}

struct Branch {
    /// What is done before the convolutions.
    pool: Option<Window>,
    convs: Vec<Conv2d>,
    /// Two convolutions side by side at the end.
    fork: Vec<Conv2d>,
}

const LARGEST: Window = Window {
    kernel: [3; 2],
    stride: [2; 2],
    padding: [0; 2],
    take: Take::Largest,
};
const MEAN: Window = Window {
    kernel: [3; 2],
    stride: [1; 2],
    padding: [1; 2],
    take: Take::Mean,
};

impl Inception {
    fn new(weights: &mut Weights) -> Self {
        let mut conv = |c: usize, k: usize, kernel: [usize; 2], stride: usize, pad: bool| {
            let options = ConvOptions {
                stride: [stride; 2],
                padding: if pad {
                    [kernel[0] / 2, kernel[1] / 2]
                } else {
                    [0; 2]
                },
                ..ConvOptions::default()
            };
            weights.conv(c, k, kernel, options)
        };
        let stem = vec![
            conv(3, 32, [3; 2], 2, false),
            conv(32, 32, [3; 2], 1, false),
            conv(32, 64, [3; 2], 1, true),
            conv(64, 80, [1; 2], 1, false),
            conv(80, 192, [3; 2], 1, false),
        ];
        // A branch from `c` channels: channels and kernel of each convolution, all of stride 1.
        let mut branch = |pool: Option<Window>, mut c: usize, layers: &[(usize, [usize; 2])]| {
            let convs = layers
                .iter()
                .map(|(k, kernel)| {
                    let layer = conv(c, *k, *kernel, 1, true);
                    c = *k;
                    layer
                })
                .collect();
            let fork = vec![];
            Branch { pool, convs, fork }
        };
        let (one, three, five) = ([1; 2], [3; 2], [5; 2]);
        let (wide, tall) = ([1, 7], [7, 1]);
        let mut blocks = vec![];
        for (c, pooled) in [(192, 32), (256, 64), (288, 64)] {
            blocks.push(vec![
                branch(None, c, &[(64, one)]),
                branch(None, c, &[(48, one), (64, five)]),
                branch(None, c, &[(64, one), (96, three), (96, three)]),
                branch(Some(MEAN), c, &[(pooled, one)]),
            ]);
        }
        // The last convolution of these branches moves by two, without padding.
        let shrink = |mut branch: Branch| {
            let last = branch.convs.last_mut().expect("a branch has convolutions");
            last.options.stride = [2; 2];
            last.options.padding = [0; 2];
            branch
        };
        let pooled = || Branch {
            pool: Some(LARGEST),
            convs: vec![],
            fork: vec![],
        };
        blocks.push(vec![
            shrink(branch(None, 288, &[(384, three)])),
            shrink(branch(None, 288, &[(64, one), (96, three), (96, three)])),
            pooled(),
        ]);
        for c in [128, 160, 160, 192] {
            blocks.push(vec![
                branch(None, 768, &[(192, one)]),
                branch(None, 768, &[(c, one), (c, wide), (192, tall)]),
                branch(
                    None,
                    768,
                    &[(c, one), (c, tall), (c, wide), (c, tall), (192, wide)],
                ),
                branch(Some(MEAN), 768, &[(192, one)]),
            ]);
        }
        blocks.push(vec![
            shrink(branch(None, 768, &[(192, one), (320, three)])),
            shrink(branch(
                None,
                768,
                &[(192, one), (192, wide), (192, tall), (192, three)],
            )),
            pooled(),
        ]);
        for c in [1280, 2048] {
            let first = branch(None, c, &[(320, one)]);
            let mut second = branch(None, c, &[(384, one)]);
            let mut third = branch(None, c, &[(448, one), (384, three)]);
            for side in [&mut second, &mut third] {
                side.fork = [[1, 3], [3, 1]]
                    .map(|kernel| branch(None, 384, &[(384, kernel)]).convs)
                    .into_iter()
                    .flatten()
                    .collect();
            }
            blocks.push(vec![
                first,
                second,
                third,
                branch(Some(MEAN), c, &[(192, one)]),
            ]);
        }
        let blocks = blocks.into_iter().map(|branches| Block { branches });
        Self {
            stem,
            blocks: blocks.collect(),
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<4> {
        for (i, conv) in self.stem.iter().enumerate() {
            x = conv.forward_then(x, Activation::Relu);
            if i == 2 || i == 4 {
                x = pool2d(x, LARGEST);
            }
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        let [_, _, h, w] = x.dims();
        let all = Window {
            kernel: [h, w],
            stride: [1; 2],
            padding: [0; 2],
            take: Take::Mean,
        };
        pool2d(x, all)
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let channels = self.branches.iter().map(|branch| branch.channels(c)).sum();
        let size = self.branches[0].size([h, w]);
        let empty = Stack::new([n, channels, size[0], size[1]]);
        let add = |stack, branch: &Branch| branch.add(&x, stack);
        self.branches.iter().fold(empty, add).images()
    }
}

impl Branch {
    /// Channels of the result for `c` channels.
    fn channels(&self, c: usize) -> usize {
        let outputs = |convs: &[Conv2d]| convs.iter().map(|conv| conv.weight.dims()[0]).sum();
        match (self.fork.is_empty(), self.convs.last()) {
            (false, _) => outputs(&self.fork),
            (true, Some(_)) => outputs(&self.convs[self.convs.len() - 1..]),
            (true, None) => c,
        }
    }

    /// Height and width of the result: all convolutions but the last keep the size.
    fn size(&self, input: [usize; 2]) -> [usize; 2] {
        let ConvOptions { stride, .. } = self.convs.last().expect("a convolution").options;
        match stride {
            [1, 1] => input,
            _ => LARGEST.output(input),
        }
    }

    /// Adds the branch's result.
    fn add(&self, x: &Tensor<4>, mut stack: Stack) -> Stack {
        let x = match self.pool {
            Some(window) => pool2d(x.clone(), window),
            None => x.clone(),
        };
        let relu = |x: Tensor<4>, conv: &Conv2d| conv.forward_then(x, Activation::Relu);
        if !self.fork.is_empty() {
            let x = self.convs.iter().fold(x, relu);
            for conv in &self.fork {
                stack = stack.push_conv(conv, x.clone(), Activation::Relu);
            }
            return stack;
        }
        match self.convs.split_last() {
            None => stack.push(x),
            Some((last, others)) => {
                let x = others.iter().fold(x, relu);
                stack.push_conv(last, x, Activation::Relu)
            }
        }
    }
}
