//! The 28×28 U-Net of BrianPulfer/PapersReimplementations, so that its published weights run:
//! LayerNorm over [channel, height, width], a stored table of time codes, no attention.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::prelude::*;
use burn::tensor::activation::silu;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d, Linear};

use crate::nn::{Init, Law};

/// Steps of the table of time codes.
pub const STEPS: usize = 1000;
const CODE: usize = 100;

/// The network `[n, 1, 28, 28], step → [n, 1, 28, 28]`; field names follow the published state dict.
#[derive(Module, Debug)]
pub struct PulferNet {
    time_embed: Embedding,
    te1: Vec<Linear>,
    b1: Vec<Block>,
    down1: Conv2d,
    te2: Vec<Linear>,
    b2: Vec<Block>,
    down2: Conv2d,
    te3: Vec<Linear>,
    b3: Vec<Block>,
    down3: Vec<Conv2d>,
    te_mid: Vec<Linear>,
    b_mid: Vec<Block>,
    up1: Vec<ConvTranspose2d>,
    te4: Vec<Linear>,
    b4: Vec<Block>,
    up2: ConvTranspose2d,
    te5: Vec<Linear>,
    b5: Vec<Block>,
    up3: ConvTranspose2d,
    te_out: Vec<Linear>,
    b_out: Vec<Block>,
    conv_out: Conv2d,
}

/// LayerNorm over [C, H, W], convolution, SiLU, convolution, SiLU.
#[derive(Module, Debug)]
pub struct Block {
    ln: Norm,
    conv1: Conv2d,
    conv2: Conv2d,
    #[module(skip)]
    normalise: bool,
}

/// Layer normalisation over all of `[C, H, W]`, epsilon 1e-5.
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<3>>,
    bias: Param<Tensor<3>>,
}

impl PulferNet {
    /// A network whose parameters are drawn by `init`, with sinusoidal time codes.
    pub fn new(init: &Init) -> Self {
        let law = Law::FanIn;
        let time = |name: &str, channels: usize| {
            let place = init.at(name);
            vec![
                place.at(0).linear(CODE, channels, law),
                place.at(1).linear(channels, channels, law),
            ]
        };
        let stage =
            |name: &str, side: usize, channels: [usize; 4], last_normalised: bool| -> Vec<Block> {
                let block = |i: usize| {
                    let place = init.at(name).at(i);
                    let (from, to) = (channels[i], channels[i + 1]);
                    let ln = place.at("ln");
                    Block {
                        ln: Norm {
                            weight: ln.constant("weight", [from, side, side], 1.0),
                            bias: ln.constant("bias", [from, side, side], 0.0),
                        },
                        conv1: place.at("conv1").conv2d([from, to], 3, 1, 1, true, law),
                        conv2: place.at("conv2").conv2d([to, to], 3, 1, 1, true, law),
                        normalise: i < 2 || last_normalised,
                    }
                };
                (0..3).map(block).collect()
            };
        let mut entry = 0;
        let table = init.at("time_embed").param("weight", [STEPS, CODE], |_| {
            let (step, column) = (entry / CODE, entry % CODE);
            entry += 1;
            let angle = step as f64 / 10_000.0f64.powf((column / 2 * 2) as f64 / CODE as f64);
            if column % 2 == 0 {
                angle.sin() as f32
            } else {
                angle.cos() as f32
            }
        });
        Self {
            time_embed: Embedding {
                weight: table.set_require_grad(false),
            },
            te1: time("te1", 1),
            b1: stage("b1", 28, [1, 10, 10, 10], true),
            down1: init.at("down1").conv2d([10, 10], 4, 2, 1, true, law),
            te2: time("te2", 10),
            b2: stage("b2", 14, [10, 20, 20, 20], true),
            down2: init.at("down2").conv2d([20, 20], 4, 2, 1, true, law),
            te3: time("te3", 20),
            b3: stage("b3", 7, [20, 40, 40, 40], true),
            down3: vec![
                init.at("down3").at(0).conv2d([40, 40], 2, 1, 0, true, law),
                init.at("down3").at(1).conv2d([40, 40], 4, 2, 1, true, law),
            ],
            te_mid: time("te_mid", 40),
            b_mid: stage("b_mid", 3, [40, 20, 20, 40], true),
            up1: vec![
                init.at("up1")
                    .at(0)
                    .conv_transpose2d([40, 40], 4, 2, 1, true, law),
                init.at("up1")
                    .at(1)
                    .conv_transpose2d([40, 40], 2, 1, 0, true, law),
            ],
            te4: time("te4", 80),
            b4: stage("b4", 7, [80, 40, 20, 20], true),
            up2: init
                .at("up2")
                .conv_transpose2d([20, 20], 4, 2, 1, true, law),
            te5: time("te5", 40),
            b5: stage("b5", 14, [40, 20, 10, 10], true),
            up3: init
                .at("up3")
                .conv_transpose2d([10, 10], 4, 2, 1, true, law),
            te_out: time("te_out", 20),
            // The published network skips the normalisation of its last block, though the
            // weights are stored.
            b_out: stage("b_out", 28, [20, 10, 10, 10], false),
            conv_out: init.at("conv_out").conv2d([10, 1], 3, 1, 1, true, law),
        }
    }

    /// The predicted noise of inputs `x` at the given steps, one for each row.
    pub fn forward(&self, x: Tensor<4>, times: &[f64]) -> Tensor<4> {
        let n = times.len();
        let steps: Vec<i32> = times.iter().map(|t| *t as i32).collect();
        let steps = Tensor::<1, Int>::from_data(&steps[..], &x.device());
        let code = self.time_embed.weight.val().select(0, steps); // [n, 100]
        let shift = |layers: &[Linear]| -> Tensor<4> {
            let h = layers[1].forward(silu(layers[0].forward(code.clone())));
            let channels = h.dims()[1];
            h.reshape([n, channels, 1, 1])
        };
        let run = |blocks: &[Block], x: Tensor<4>| blocks.iter().fold(x, |x, b| b.forward(x));
        let out1 = run(&self.b1, x.add(shift(&self.te1))); // [n, 10, 28, 28]
        let out2 = run(
            &self.b2,
            self.down1.forward(out1.clone()).add(shift(&self.te2)),
        ); // [n, 20, 14, 14]
        let out3 = run(
            &self.b3,
            self.down2.forward(out2.clone()).add(shift(&self.te3)),
        ); // [n, 40, 7, 7]
        let down = self.down3[1].forward(silu(self.down3[0].forward(out3.clone())));
        let middle = run(&self.b_mid, down.add(shift(&self.te_mid))); // [n, 40, 3, 3]
        let up = self.up1[1].forward(silu(self.up1[0].forward(middle)));
        let out4 = run(
            &self.b4,
            Tensor::cat(vec![out3, up], 1).add(shift(&self.te4)),
        ); // [n, 20, 7, 7]
        let up = self.up2.forward(out4);
        let out5 = run(
            &self.b5,
            Tensor::cat(vec![out2, up], 1).add(shift(&self.te5)),
        ); // [n, 10, 14, 14]
        let up = self.up3.forward(out5);
        let out = run(
            &self.b_out,
            Tensor::cat(vec![out1, up], 1).add(shift(&self.te_out)),
        ); // [n, 10, 28, 28]
        self.conv_out.forward(out)
    }

    /// Name of a tensor of this network in the published state dict.
    pub fn published_name(name: &str) -> String {
        // Sequential(Linear, SiLU, Linear) numbers its second layer 2.
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            [stage, "1", last] => format!("{stage}.2.{last}"),
            _ => name.to_string(),
        }
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = if self.normalise {
            self.ln.forward(x)
        } else {
            x
        };
        silu(self.conv2.forward(silu(self.conv1.forward(x))))
    }
}

impl Norm {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let flat = x.reshape([n, c * h * w]);
        let mean = flat.clone().mean_dim(1);
        let centred = flat.sub(mean);
        let var = centred.clone().square().mean_dim(1);
        let x = centred
            .div(var.add_scalar(1e-5).sqrt())
            .reshape([n, c, h, w]);
        x.mul(self.weight.val().unsqueeze())
            .add(self.bias.val().unsqueeze())
    }
}
