//! The network that tells real images from others.

use burn::prelude::*;
use vermeer_kernels::{add, concat};

use super::mapping::{Dense, GAIN, normalised};
use super::modulated::{EqualConv, halved};
use crate::models::dcgan::networks::quarters;
use crate::nn::Init;

/// The largest group of images whose standard deviation is taken.
const GROUP: usize = 4;

/// A residual block that halves the size.
#[derive(Module, Debug)]
pub struct DiscriminatorStage {
    conv: EqualConv,
    down: EqualConv,
    /// 1×1, around the two.
    skip: EqualConv,
}

impl DiscriminatorStage {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let around = self.skip.forward(halved(x.clone()), half);
        let through = self.conv.forward_leaky(x, GAIN);
        // √2 of the activation times √½ of the sum.
        let through = self.down.forward_leaky(through, 1.0);
        add(through, around)
    }
}

/// Images, and classes where there are some, to logits.
#[derive(Module, Debug)]
pub struct StyleDiscriminator {
    from_image: EqualConv,
    stages: Vec<DiscriminatorStage>,
    conv: EqualConv,
    dense: Dense,
    out: Dense,
    /// Of one-hot classes, to what the logit is projected on.
    embedding: Option<Dense>,
}

impl StyleDiscriminator {
    /// For images of `channels`; `widths` are the channels of the maps from 4×4 on.
    pub fn new(init: &Init, widths: &[usize], channels: usize, classes: usize) -> Self {
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        // The stages come in the order of the forward pass: from the image's size to 8×8.
        let stage = |i: usize| {
            let place = init.at("stages").at(i);
            let level = widths.len() - 1 - i;
            let (wide, width) = (widths[level - 1], widths[level]);
            DiscriminatorStage {
                conv: EqualConv::new(&place.at("conv"), [width, width], 3, true),
                down: EqualConv::halving(&place.at("down"), [width, wide]),
                skip: EqualConv::new(&place.at("skip"), [width, wide], 1, false),
            }
        };
        let outputs = if classes > 0 { first } else { 1 };
        let embedding =
            (classes > 0).then(|| Dense::new(&init.at("embedding"), [classes, outputs], 1.0, 0.0));
        Self {
            from_image: EqualConv::new(&init.at("from_image"), [channels, last], 1, true),
            stages: (0..widths.len() - 1).map(stage).collect(),
            conv: EqualConv::new(&init.at("conv"), [first + 1, first], 3, true),
            dense: Dense::new(&init.at("dense"), [16 * first, first], 1.0, 0.0),
            out: Dense::new(&init.at("out"), [first, outputs], 1.0, 0.0),
            embedding,
        }
    }

    /// What the residual blocks make of signed images: `[n, c, 4, 4]`.
    fn maps(&self, x: Tensor<4>) -> Tensor<4> {
        let first = self.from_image.forward_leaky(x, GAIN);
        self.stages.iter().fold(first, |x, stage| stage.forward(x))
    }

    /// Logits `[n]` of signed images `[n, channels, h, w]` and, for a conditional network, one-hot
    /// rows `[n, classes]`; larger means "real". A logit depends on the other images of its group.
    pub fn forward(&self, x: Tensor<4>, classes: Option<Tensor<2>>) -> Tensor<1> {
        let maps = with_deviation(self.maps(x)); // [n, c + 1, 4, 4]
        let [n, _, h, w] = maps.dims();
        let maps = self.conv.forward_leaky(maps, GAIN);
        let c = maps.dims()[1];
        let flat = self.dense.forward_leaky(maps.reshape([n, c * h * w]));
        let out = self.out.forward(flat); // [n, 1], or [n, c] of a conditional network
        match (&self.embedding, classes) {
            (Some(embedding), Some(classes)) => {
                let own = normalised(embedding.forward(classes)); // [n, c]
                let scale = 1.0 / (own.dims()[1] as f64).sqrt();
                out.mul(own).sum_dim(1).mul_scalar(scale).reshape([n])
            }
            _ => out.reshape([n]),
        }
    }

    /// The means of the quarters of the last maps, `[n, 4 c]`: what an image is described by, and
    /// no other image of the batch has a part in.
    pub fn features(&self, x: Tensor<4>) -> Tensor<2> {
        quarters(self.maps(x))
    }
}

/// Maps and one more channel: the standard deviation over a group of images, averaged over
/// channels and pixels. Image i belongs to group i modulo the number of groups, which have the
/// largest size up to 4 that divides the batch.
pub fn with_deviation(maps: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = maps.dims();
    let group = (1..=GROUP.min(n)).rev().find(|g| n % g == 0).unwrap_or(1);
    let groups = n / group;
    let rows = maps.clone().reshape([group, groups, c * h * w]);
    let apart = rows.clone().sub(rows.mean_dim(0));
    let deviation = apart.square().mean_dim(0).add_scalar(1e-8).sqrt(); // [1, groups, c·h·w]
    let each = deviation.mean_dim(2); // [1, groups, 1]
    let each = each.repeat_dim(0, group).reshape([n, 1, 1, 1]);
    concat(maps, each.expand([n, 1, h, w]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;

    /// Six images fall into two groups of three: 0, 2, 4 and 1, 3, 5. The values of the first are
    /// 0, 3, 6, whose deviation is √6; those of the second are equal.
    #[test]
    fn the_deviation_is_that_of_the_group() {
        let values = [0.0, 7.0, 3.0, 7.0, 6.0, 7.0];
        let maps = Tensor::<1>::from_floats(values, &Device::flex())
            .reshape([6, 1, 1, 1])
            .repeat_dim(1, 2)
            .repeat_dim(2, 4)
            .repeat_dim(3, 4);
        let joined = with_deviation(maps);
        assert_eq!(joined.dims(), [6, 3, 4, 4]);
        let found = host(joined.narrow(1, 2, 1).narrow(2, 0, 1).narrow(3, 0, 1));
        for (i, value) in found.iter().enumerate() {
            let expected = if i % 2 == 0 { 6f32.sqrt() } else { 1e-4 };
            assert!((value - expected).abs() < 1e-5, "{i}: {value}");
        }
    }
}
