//! The U-Net: residual blocks with the time added in, attention at chosen levels, skips by
//! concatenation (Ho et al., 2020; one attention head, GroupNorm).

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;
use burn::tensor::activation::{silu, softmax};
use vermeer_kernels::nn::{Conv2d, GroupNorm, Linear};
use vermeer_kernels::{
    Activation, Then, add_to_pixels, concat, enlarge, pixel_shuffle, pixel_unshuffle,
};

use crate::nn::{Init, Law};

/// Sizes of a [`UNet`].
#[derive(Clone, Debug)]
pub struct UNetShape {
    /// Channels of the images.
    pub channels: usize,
    /// Side of the square of pixels that becomes one position; 1 leaves the image as it is.
    pub patch: usize,
    /// Channels of the first level; also the size of the sinusoidal time code.
    pub width: usize,
    /// Channels of each level over `width`.
    pub multipliers: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub blocks: usize,
    /// Levels with attention, 0 being the full size.
    pub attention: Vec<usize>,
    /// Groups of the group normalisation.
    pub groups: usize,
    /// Number of classes; 0 for none.
    pub classes: usize,
}

/// The network `[n, C, h, w], time, label → [n, C, h, w]`.
#[derive(Module, Debug)]
pub struct UNet {
    time1: Linear,
    time2: Linear,
    label: Option<Embedding>,
    stem: Conv2d,
    down: Vec<Level>,
    middle1: ResBlock,
    middle_attention: Attention,
    middle2: ResBlock,
    up: Vec<Level>,
    norm: GroupNorm,
    out: Conv2d,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    patch: usize,
}

/// The blocks of one size, and the convolution that leaves it.
#[derive(Module, Debug)]
pub struct Level {
    blocks: Vec<ResBlock>,
    attention: Vec<Attention>,
    sample: Option<Conv2d>,
}

/// Two convolutions around the time, plus the input.
#[derive(Module, Debug)]
pub struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
}

/// Self-attention over the positions, plus the input.
#[derive(Module, Debug)]
pub struct Attention {
    norm: GroupNorm,
    qkv: Conv2d,
    proj: Conv2d,
}

fn conv3(init: &Init, channels: [usize; 2], stride: usize) -> Conv2d {
    init.conv2d(channels, 3, stride, 1, true, Law::FanIn)
}

impl UNetShape {
    /// A network whose parameters are drawn by `init`; the last convolution of every residual
    /// and of the network starts at zero.
    pub fn init(&self, init: &Init) -> UNet {
        let (w, time, groups) = (self.width, 4 * self.width, self.groups);
        let res = |place: Init, from: usize, to: usize| ResBlock {
            norm1: place.at("norm1").group_norm(groups, from),
            conv1: conv3(&place.at("conv1"), [from, to], 1),
            time: place.at("time").linear(time, to, Law::FanIn),
            norm2: place.at("norm2").group_norm(groups, to),
            conv2: place
                .at("conv2")
                .conv2d([to, to], 3, 1, 1, true, Law::Zeros),
            skip: (from != to).then(|| {
                place
                    .at("skip")
                    .conv2d([from, to], 1, 1, 0, true, Law::FanIn)
            }),
        };
        let attend = |place: Init, c: usize| Attention {
            norm: place.at("norm").group_norm(groups, c),
            qkv: place
                .at("qkv")
                .conv2d([c, 3 * c], 1, 1, 0, true, Law::FanIn),
            proj: place.at("proj").conv2d([c, c], 1, 1, 0, true, Law::Zeros),
        };
        let levels = self.multipliers.len();
        let pixels = self.channels * self.patch * self.patch;
        let mut channels = w;
        let mut skips = vec![w];
        let mut down = vec![];
        for (l, multiplier) in self.multipliers.iter().enumerate() {
            let place = init.at("down").at(l);
            let mut level = Level {
                blocks: vec![],
                attention: vec![],
                sample: None,
            };
            for i in 0..self.blocks {
                level
                    .blocks
                    .push(res(place.at("blocks").at(i), channels, w * multiplier));
                channels = w * multiplier;
                if self.attention.contains(&l) {
                    level
                        .attention
                        .push(attend(place.at("attention").at(i), channels));
                }
                skips.push(channels);
            }
            if l + 1 < levels {
                level.sample = Some(conv3(&place.at("sample"), [channels, channels], 2));
                skips.push(channels);
            }
            down.push(level);
        }
        let middle = channels;
        let mut up = vec![];
        for (j, l) in (0..levels).rev().enumerate() {
            let place = init.at("up").at(j);
            let mut level = Level {
                blocks: vec![],
                attention: vec![],
                sample: None,
            };
            for i in 0..=self.blocks {
                let skip = skips.pop().expect("one skip was pushed for each block");
                let to = w * self.multipliers[l];
                level
                    .blocks
                    .push(res(place.at("blocks").at(i), channels + skip, to));
                channels = to;
                if self.attention.contains(&l) {
                    level
                        .attention
                        .push(attend(place.at("attention").at(i), channels));
                }
            }
            if l > 0 {
                level.sample = Some(conv3(&place.at("sample"), [channels, channels], 1));
            }
            up.push(level);
        }
        UNet {
            time1: init.at("time1").linear(w, time, Law::FanIn),
            time2: init.at("time2").linear(time, time, Law::FanIn),
            label: (self.classes > 0).then(|| init.at("label").embedding(self.classes + 1, time)),
            stem: conv3(&init.at("stem"), [pixels, w], 1),
            down,
            middle1: res(init.at("middle1"), middle, middle),
            middle_attention: attend(init.at("middle_attention"), middle),
            middle2: res(init.at("middle2"), middle, middle),
            up,
            norm: init.at("norm").group_norm(groups, w),
            out: init
                .at("out")
                .conv2d([w, pixels], 3, 1, 1, true, Law::Zeros),
            width: w,
            patch: self.patch,
        }
    }
}

impl UNet {
    /// The prediction for inputs `x` at the given times, one for each row; `labels` index the
    /// classes, the last row of the table meaning "no label".
    pub fn forward(
        &self,
        x: Tensor<4>,
        times: &[f64],
        labels: Option<Tensor<1, Int>>,
    ) -> Tensor<4> {
        let code = sinusoid(times, self.width, &x.device());
        let mut time = self.time2.forward(silu(self.time1.forward(code))); // [n, 4·width]
        if let (Some(table), Some(labels)) = (&self.label, labels) {
            time = time.add(table.weight.val().select(0, labels));
        }
        let time = silu(time);
        let mut x = self.stem.forward(pixel_unshuffle(x, self.patch)); // [n, width, h/patch, w/patch]
        let mut skips = vec![x.clone()];
        for level in &self.down {
            for (i, block) in level.blocks.iter().enumerate() {
                x = block.forward(x, time.clone());
                if let Some(attention) = level.attention.get(i) {
                    x = attention.forward(x);
                }
                skips.push(x.clone());
            }
            if let Some(sample) = &level.sample {
                x = sample.forward(x); // half the size
                skips.push(x.clone());
            }
        }
        x = self.middle1.forward(x, time.clone());
        x = self.middle_attention.forward(x);
        x = self.middle2.forward(x, time.clone());
        for level in &self.up {
            for (i, block) in level.blocks.iter().enumerate() {
                let skip = skips.pop().expect("one skip was pushed for each block");
                x = block.forward(concat(x, skip), time.clone());
                if let Some(attention) = level.attention.get(i) {
                    x = attention.forward(x);
                }
            }
            if let Some(sample) = &level.sample {
                x = sample.forward(enlarge(x, 2)); // twice the size
            }
        }
        pixel_shuffle(
            self.out
                .forward(self.norm.forward_then(x, Activation::Silu)),
            self.patch,
        )
    }
}

impl ResBlock {
    fn forward(&self, x: Tensor<4>, time: Tensor<2>) -> Tensor<4> {
        let h = self
            .conv1
            .forward(self.norm1.forward_then(x.clone(), Activation::Silu));
        let h = add_to_pixels(h, self.time.forward(time));
        let x = match &self.skip {
            Some(skip) => skip.forward(x),
            None => x,
        };
        self.conv2
            .forward_then(self.norm2.forward_then(h, Activation::Silu), plus(x))
    }
}

impl Attention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        // Positions by channels, which is how the pixels lie in memory.
        let qkv = self
            .qkv
            .forward(self.norm.forward(x.clone()))
            .permute([0, 2, 3, 1])
            .reshape([n, h * w, 3 * c]);
        let part = |i: usize| qkv.clone().narrow(2, i * c, c); // [n, h·w, c]
        let scores = part(0)
            .matmul(part(1).swap_dims(1, 2))
            .div_scalar((c as f64).sqrt()); // [n, queries, keys]
        let mixed = softmax(scores, 2).matmul(part(2)); // [n, queries, c]
        let mixed = mixed.reshape([n, h, w, c]).permute([0, 3, 1, 2]);
        self.proj.forward_then(mixed, plus(x))
    }
}

/// Adds `x` to the result of a convolution.
fn plus(x: Tensor<4>) -> Then {
    Then {
        residual: Some(x),
        ..Then::default()
    }
}

/// sin and cos of the times at `size`/2 frequencies 10000^(−k/(size/2)), `[n, size]`.
fn sinusoid(times: &[f64], size: usize, device: &Device) -> Tensor<2> {
    let half = size / 2;
    let mut values = Vec::with_capacity(times.len() * size);
    for time in times {
        let angle = |k: usize| time * (-(10_000.0f64.ln()) * k as f64 / half as f64).exp();
        values.extend((0..half).map(|k| angle(k).sin() as f32));
        values.extend((0..half).map(|k| angle(k).cos() as f32));
    }
    Tensor::<1>::from_floats(&values[..], device).reshape([times.len(), size])
}
