//! From styles to images, and the generator as a whole.

use burn::module::Param;
use burn::prelude::*;

use super::mapping::Mapping;
use super::modulated::{StyledConv, ToImage, doubled};
use crate::nn::Init;

/// The layers of one size, 4×4 or twice that of the block before.
#[derive(Module, Debug)]
pub struct SynthesisBlock {
    /// Doubles the size; the first block has none.
    up: Option<StyledConv>,
    conv: StyledConv,
    to_image: ToImage,
}

/// Styles and noise to images: every size adds its image to that of the size before, doubled.
#[derive(Module, Debug)]
pub struct Synthesis {
    /// What every image starts from, `[1, c, 4, 4]`.
    start: Param<Tensor<4>>,
    blocks: Vec<SynthesisBlock>,
}

impl Synthesis {
    /// For styles of `style` numbers and images of `channels`; `widths` are the channels of the
    /// maps from 4×4 on.
    pub fn new(init: &Init, style: usize, widths: &[usize], channels: usize) -> Self {
        let block = |i: usize| {
            let place = init.at("blocks").at(i);
            let (wide, width) = (widths[i.saturating_sub(1)], widths[i]);
            SynthesisBlock {
                up: (i > 0).then(|| StyledConv::new(&place.at("up"), style, [wide, width], true)),
                conv: StyledConv::new(&place.at("conv"), style, [width, width], false),
                to_image: ToImage::new(&place.at("to_image"), style, [width, channels]),
            }
        };
        Self {
            start: init.param("start", [1, widths[0], 4, 4], |random| random.normal()),
            blocks: (0..widths.len()).map(block).collect(),
        }
    }

    /// The side of the noise of each convolution, from the first one on.
    fn sides(&self) -> Vec<usize> {
        let of = |i: usize| [4usize << i; 2];
        let all: Vec<usize> = (0..self.blocks.len()).flat_map(of).collect();
        all[1..].to_vec()
    }

    /// How many numbers of noise an image needs.
    pub fn noise_size(&self) -> usize {
        self.sides().iter().map(|side| side * side).sum()
    }

    /// How many styles an image has: one for each convolution and one for the last image.
    pub fn layers(&self) -> usize {
        2 * self.blocks.len()
    }

    /// Images `[n, channels, h, w]` of [`Synthesis::layers`] styles `[n, style]` and noise
    /// `[n, noise_size]`, signed up to what exceeds [−1, 1].
    pub fn forward(&self, styles: &[Tensor<2>], noise: Tensor<2>) -> Tensor<4> {
        let n = noise.dims()[0];
        let mut from = 0;
        let mut maps: Vec<Tensor<4>> = vec![];
        for side in self.sides() {
            let part = noise.clone().narrow(1, from, side * side);
            maps.push(part.reshape([n, 1, side, side]));
            from += side * side;
        }
        let [_, c, h, w] = self.start.dims();
        let mut x = self.start.val().expand([n, c, h, w]);
        let mut image: Option<Tensor<4>> = None;
        let mut layer = 0;
        for block in &self.blocks {
            if let Some(up) = &block.up {
                x = up.forward(x, styles[layer].clone(), maps[layer].clone());
                layer += 1;
            }
            x = block
                .conv
                .forward(x, styles[layer].clone(), maps[layer].clone());
            layer += 1;
            // The image takes the style of the convolution that follows.
            let own = block.to_image.forward(x.clone(), styles[layer].clone());
            image = Some(match image {
                Some(before) => doubled(before).add(own),
                None => own,
            });
        }
        image.expect("there is a block for each size from 4×4 on")
    }
}

/// Latents to styles to images.
#[derive(Module, Debug)]
pub struct StyleGenerator {
    /// Latents to styles.
    pub mapping: Mapping,
    /// Styles to images.
    pub synthesis: Synthesis,
    #[module(skip)]
    pub(super) latent: usize,
    #[module(skip)]
    pub(super) style: usize,
    #[module(skip)]
    pub(super) classes: usize,
}

impl StyleGenerator {
    /// Numbers in a latent.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// Numbers in a style.
    pub fn style(&self) -> usize {
        self.style
    }

    /// How many classes it is told of; 0 for a network that is told none.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Images `[n, channels, h, w]` of styles `[n, style]`, the same one for all layers, and noise
    /// `[n, noise_size]`; signed up to what exceeds [−1, 1].
    pub fn images(&self, styles: Tensor<2>, noise: Tensor<2>) -> Tensor<4> {
        let all = vec![styles; self.synthesis.layers()];
        self.synthesis.forward(&all, noise)
    }

    /// The styles of every layer: those of `first` before the layer that `cuts` names for each
    /// image, those of `second` from there on.
    pub fn mixed(&self, first: Tensor<2>, second: Tensor<2>, cuts: &[usize]) -> Vec<Tensor<2>> {
        let layers = self.synthesis.layers();
        if cuts.iter().all(|cut| *cut >= layers) {
            return vec![first; layers];
        }
        let device = first.device();
        let of = |layer: usize| {
            let own: Vec<f32> = cuts
                .iter()
                .map(|cut| f32::from(u8::from(layer < *cut)))
                .collect();
            let own = Tensor::<1>::from_floats(&own[..], &device).reshape([cuts.len(), 1]);
            let way = first.clone().sub(second.clone()).mul(own);
            second.clone().add(way)
        };
        (0..layers).map(of).collect()
    }
}
