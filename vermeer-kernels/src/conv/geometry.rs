//! The sizes of a convolution, and which source pixel meets which weight.

/// A two-dimensional convolution: `[n, h, w, c] → [n, oh, ow, k]`.
///
/// The transposed convolution with the same sizes is the gradient of this one: it goes from the
/// output's shape to the input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Channels of the input.
    pub c: usize,
    /// Channels of the output.
    pub k: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step of the kernel over the input.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: [usize; 2],
    /// Distance of the kernel's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// How it is computed.
    pub algorithm: Algorithm,
    /// What lies around the input; gradients know zeros only.
    pub edge: Edge,
}

/// What a convolution reads outside its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edge {
    /// Zeros.
    #[default]
    Zeros,
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect,
    /// The outermost pixel.
    Replicate,
}

impl Edge {
    /// The pixel of a row of `size` that stands for the one at `at`.
    ///
    /// For [`Edge::Reflect`], `at` lies less than `size` pixels outside.
    pub(crate) fn within(self, at: isize, size: usize) -> usize {
        let last = size as isize - 1;
        match self {
            Self::Reflect => (last - (last - at.abs()).abs()).clamp(0, last) as usize,
            Self::Zeros | Self::Replicate => at.clamp(0, last) as usize,
        }
    }
}

/// How a convolution is computed. The choice depends on the layer and on whether its weights are used
/// once, in training, or often; never on the size of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// [`Algorithm::Winograd4`] where it applies, else [`Algorithm::Direct`].
    #[default]
    Auto,
    /// The products of the definition.
    Direct,
    /// F(2×2, 3×3) for 3×3 kernels that move by one: 16 products where the definition has 36.
    /// Direct elsewhere.
    Winograd2,
    /// F(4×4, 3×3) for the same, 36 products where the definition has 144; F(4×4, 2×2) for 4×4
    /// kernels that move by two, 25 where it has 64; F(2×2, 5×5), 36 for 100; and F(4, 7) and
    /// F(4, 3) for kernels along one axis, 10 for 28 and 6 for 12; at a few times the rounding error.
    /// Direct elsewhere, and where a layer's weights are so many that reading them costs more than
    /// filtering saves.
    Winograd4,
}

/// One weight of the kernel in one phase: where its source pixel lies from the phase's base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    pub(crate) dy: isize,
    pub(crate) dx: isize,
    /// Index in the kernel, row by row.
    pub(crate) index: usize,
}

/// Positions of the result that meet the same taps: `rows × cols` of each image.
///
/// Position `(i, j)` is the result's pixel `first + (i, j) · step`, and tap `t` reads the
/// source's pixel `(i, j) · source_step + (dy, dx)` where that exists, else zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) first: [usize; 2],
    pub(crate) step: [usize; 2],
    pub(crate) source_step: [usize; 2],
    pub(crate) taps: Vec<Tap>,
}

impl Geometry {
    /// The number of weights of one filter in one channel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The output's height and width: `(in + 2p − d(k − 1) − 1)/s + 1`.
    ///
    /// `None` where the kernel is larger than the padded input.
    pub fn output_size(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Option<[usize; 2]> {
        let side = |i: usize| {
            let reach = dilation[i] * (kernel[i] - 1) + 1;
            let room = (input[i] + 2 * padding[i]).checked_sub(reach)?;
            Some(room / stride[i] + 1)
        };
        Some([side(0)?, side(1)?])
    }

    /// The shape of the result, `[n, channels, height, width]`.
    pub(crate) fn result(&self, transposed: bool) -> [usize; 4] {
        let (channels, [h, w]) = match transposed {
            false => (self.k, self.output),
            true => (self.c, self.input),
        };
        [self.n, channels, h, w]
    }

    /// The one phase of the convolution itself.
    pub(crate) fn forward_phase(&self) -> Phase {
        let at = |i: usize, axis: usize| {
            (i * self.dilation[axis]) as isize - self.padding[axis] as isize
        };
        let taps = (0..self.taps())
            .map(|index| Tap {
                dy: at(index / self.kernel[1], 0),
                dx: at(index % self.kernel[1], 1),
                index,
            })
            .collect();
        Phase {
            rows: self.output[0],
            cols: self.output[1],
            first: [0, 0],
            step: [1, 1],
            source_step: self.stride,
            taps,
        }
    }

    /// The phases of the gradient to the input, one for each remainder of the stride; small images
    /// leave some without positions.
    pub(crate) fn backward_phases(&self) -> Vec<Phase> {
        let [sh, sw] = self.stride;
        let mut phases = vec![];
        for (y, x) in (0..sh).flat_map(|y| (0..sw).map(move |x| (y, x))) {
            let count = |axis: usize, from: usize| {
                self.input[axis]
                    .saturating_sub(from)
                    .div_ceil(self.stride[axis])
            };
            // input = output · s + kernel · d − p, so output = (input + p − kernel · d) / s
            let along = |axis: usize, from: usize| -> Vec<(usize, isize)> {
                let s = self.stride[axis] as isize;
                (0..self.kernel[axis])
                    .filter_map(|i| {
                        let gap = (from + self.padding[axis]) as isize
                            - (i * self.dilation[axis]) as isize;
                        (gap.rem_euclid(s) == 0).then(|| (i, gap.div_euclid(s)))
                    })
                    .collect()
            };
            let (ys, xs) = (along(0, y), along(1, x));
            let taps = ys
                .iter()
                .flat_map(|&(i, dy)| xs.iter().map(move |&(j, dx)| (i, j, dy, dx)))
                .map(|(i, j, dy, dx)| Tap {
                    dy,
                    dx,
                    index: i * self.kernel[1] + j,
                })
                .collect();
            phases.push(Phase {
                rows: count(0, y),
                cols: count(1, x),
                first: [y, x],
                step: self.stride,
                source_step: [1, 1],
                taps,
            });
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_of_the_gradient_is_one_of_the_forward_pass() {
        for (kernel, stride, padding, dilation) in [
            (4, 2, 1, 1),
            (3, 1, 1, 1),
            (3, 2, 0, 2),
            (1, 3, 0, 1),
            (5, 3, 2, 1),
        ] {
            let input = [11, 9];
            let two = |x| [x; 2];
            let whole =
                Geometry::output_size(input, two(kernel), two(stride), two(padding), two(dilation))
                    .unwrap();
            let g = Geometry {
                n: 1,
                input,
                output: whole,
                c: 1,
                k: 1,
                kernel: two(kernel),
                stride: two(stride),
                padding: two(padding),
                dilation: two(dilation),
                groups: 1,
                algorithm: Algorithm::Auto,
                edge: Edge::Zeros,
            };
            // Of the whole result, of the first of its rows and columns, and of more than there are.
            for output in [whole, whole.map(|side| side.div_ceil(2)), [13, 10]] {
                let g = Geometry { output, ..g };
                // (result pixel, source pixel, tap)
                let products = |phase: &Phase, source: [usize; 2]| {
                    let mut all = vec![];
                    for (i, j) in (0..phase.rows).flat_map(|i| (0..phase.cols).map(move |j| (i, j)))
                    {
                        for tap in &phase.taps {
                            let y = (i * phase.source_step[0]) as isize + tap.dy;
                            let x = (j * phase.source_step[1]) as isize + tap.dx;
                            if (0..source[0] as isize).contains(&y)
                                && (0..source[1] as isize).contains(&x)
                            {
                                all.push((
                                    [
                                        phase.first[0] + i * phase.step[0],
                                        phase.first[1] + j * phase.step[1],
                                    ],
                                    [y as usize, x as usize],
                                    tap.index,
                                ));
                            }
                        }
                    }
                    all
                };
                let mut forward = products(&g.forward_phase(), input);
                let mut backward: Vec<_> = g
                    .backward_phases()
                    .iter()
                    .flat_map(|phase| products(phase, output))
                    .map(|(result, source, tap)| (source, result, tap))
                    .collect();
                forward.sort_unstable();
                backward.sort_unstable();
                assert_eq!(forward, backward, "kernel {kernel} stride {stride}");
            }
        }
    }
}
