//! The Inception network's parts, made from its weights.

use burn::prelude::*;
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::Conv2d;

use super::block::{Block, Branch, Stage};
use crate::Result;
use crate::features::weights::{NormedConv, Weights, same};

/// Takes the network's parts out of its weights.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) device: &'a Device,
}

/// Name in its block, channels of the result, kernel.
type Layer = (&'static str, usize, [usize; 2]);

const ONE: [usize; 2] = [1; 2];
const THREE: [usize; 2] = [3; 2];
const WIDE: [usize; 2] = [1, 7];
const TALL: [usize; 2] = [7, 1];

impl Loader<'_> {
    /// A convolution from `c` to `k` channels that keeps the size.
    fn conv(&mut self, name: &str, c: usize, k: usize, kernel: [usize; 2]) -> Result<Conv2d> {
        let (conv, norm) = (format!("{name}.conv"), format!("{name}.bn"));
        let of = NormedConv {
            conv: &conv,
            norm: &norm,
            bias: false,
            epsilon: 1e-3,
        };
        let shape = [k, c, kernel[0], kernel[1]];
        self.weights
            .normed_conv(&of, shape, same(kernel), self.device)
    }

    /// Convolutions one after the other, from `c` channels.
    fn convs(&mut self, block: &str, c: usize, layers: &[Layer]) -> Result<Vec<Conv2d>> {
        let mut channels = c;
        let mut convs = Vec::with_capacity(layers.len());
        for (name, k, kernel) in layers {
            convs.push(self.conv(&format!("{block}.{name}"), channels, *k, *kernel)?);
            channels = *k;
        }
        Ok(convs)
    }

    fn row(&mut self, block: &str, c: usize, layers: &[Layer]) -> Result<Branch> {
        Ok(Branch::Row(self.convs(block, c, layers)?))
    }

    /// Convolutions one after the other, the last of which moves by two without padding.
    fn halving(&mut self, block: &str, c: usize, layers: &[Layer]) -> Result<Branch> {
        let mut convs = self.convs(block, c, layers)?;
        if let Some(last) = convs.last_mut() {
            last.options = moving(2);
        }
        Ok(Branch::Row(convs))
    }

    pub(super) fn first_stem(&mut self) -> Result<Stage> {
        let mut convs = vec![
            self.conv("Conv2d_1a_3x3", 3, 32, THREE)?,
            self.conv("Conv2d_2a_3x3", 32, 32, THREE)?,
            self.conv("Conv2d_2b_3x3", 32, 64, THREE)?,
        ];
        convs[0].options = moving(2);
        convs[1].options = moving(1);
        Ok(Stage::Stem(convs))
    }

    pub(super) fn second_stem(&mut self) -> Result<Stage> {
        let mut convs = vec![
            self.conv("Conv2d_3b_1x1", 64, 80, ONE)?,
            self.conv("Conv2d_4a_3x3", 80, 192, THREE)?,
        ];
        convs[1].options = moving(1);
        Ok(Stage::Stem(convs))
    }

    pub(super) fn block_a(&mut self, block: &str, c: usize, pooled: usize) -> Result<Block> {
        let five = [("branch5x5_1", 48, ONE), ("branch5x5_2", 64, [5; 2])];
        let double = [
            ("branch3x3dbl_1", 64, ONE),
            ("branch3x3dbl_2", 96, THREE),
            ("branch3x3dbl_3", 96, THREE),
        ];
        Ok(Block {
            branches: vec![
                self.row(block, c, &[("branch1x1", 64, ONE)])?,
                self.row(block, c, &five)?,
                self.row(block, c, &double)?,
                Branch::Mean(self.conv(&format!("{block}.branch_pool"), c, pooled, ONE)?),
            ],
            halves: false,
        })
    }

    pub(super) fn block_b(&mut self, block: &str, c: usize) -> Result<Block> {
        let double = [
            ("branch3x3dbl_1", 64, ONE),
            ("branch3x3dbl_2", 96, THREE),
            ("branch3x3dbl_3", 96, THREE),
        ];
        Ok(Block {
            branches: vec![
                self.halving(block, c, &[("branch3x3", 384, THREE)])?,
                self.halving(block, c, &double)?,
                Branch::Halve,
            ],
            halves: true,
        })
    }

    /// `inner` channels between the long kernels.
    pub(super) fn block_c(&mut self, block: &str, inner: usize) -> Result<Block> {
        let c = 768;
        let seven = [
            ("branch7x7_1", inner, ONE),
            ("branch7x7_2", inner, WIDE),
            ("branch7x7_3", 192, TALL),
        ];
        let double = [
            ("branch7x7dbl_1", inner, ONE),
            ("branch7x7dbl_2", inner, TALL),
            ("branch7x7dbl_3", inner, WIDE),
            ("branch7x7dbl_4", inner, TALL),
            ("branch7x7dbl_5", 192, WIDE),
        ];
        Ok(Block {
            branches: vec![
                self.row(block, c, &[("branch1x1", 192, ONE)])?,
                self.row(block, c, &seven)?,
                self.row(block, c, &double)?,
                Branch::Mean(self.conv(&format!("{block}.branch_pool"), c, 192, ONE)?),
            ],
            halves: false,
        })
    }

    pub(super) fn block_d(&mut self, block: &str, c: usize) -> Result<Block> {
        let three = [("branch3x3_1", 192, ONE), ("branch3x3_2", 320, THREE)];
        let seven = [
            ("branch7x7x3_1", 192, ONE),
            ("branch7x7x3_2", 192, WIDE),
            ("branch7x7x3_3", 192, TALL),
            ("branch7x7x3_4", 192, THREE),
        ];
        Ok(Block {
            branches: vec![
                self.halving(block, c, &three)?,
                self.halving(block, c, &seven)?,
                Branch::Halve,
            ],
            halves: true,
        })
    }

    /// `pool` says which pool the last branch begins with.
    pub(super) fn block_e(
        &mut self,
        block: &str,
        c: usize,
        pool: fn(Conv2d) -> Branch,
    ) -> Result<Block> {
        let three = self.convs(block, c, &[("branch3x3_1", 384, ONE)])?;
        let double = [("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, THREE)];
        let double = self.convs(block, c, &double)?;
        let mut side = |name: &str, kernel: [usize; 2]| {
            self.conv(&format!("{block}.{name}"), 384, 384, kernel)
        };
        let three_ends = vec![side("branch3x3_2a", [1, 3])?, side("branch3x3_2b", [3, 1])?];
        let double_ends = vec![
            side("branch3x3dbl_3a", [1, 3])?,
            side("branch3x3dbl_3b", [3, 1])?,
        ];
        Ok(Block {
            branches: vec![
                self.row(block, c, &[("branch1x1", 320, ONE)])?,
                Branch::Fork(three, three_ends),
                Branch::Fork(double, double_ends),
                pool(self.conv(&format!("{block}.branch_pool"), c, 192, ONE)?),
            ],
            halves: false,
        })
    }
}

/// A convolution without padding that moves by `step` pixels.
fn moving(step: usize) -> ConvOptions {
    ConvOptions {
        stride: [step; 2],
        ..ConvOptions::default()
    }
}
