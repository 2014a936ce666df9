//! Convolutions of channels-last `f32` images on the processor.
//!
//! Weights are `[k, c / groups, kh, kw]`, as PyTorch keeps them; those of a transposed
//! convolution are the same storage read as `[in, out / groups, kh, kw]`.

mod gather;
mod geometry;
mod panel;
mod weight;
mod winograd;

pub use geometry::{Algorithm, Geometry};

use crate::Isa;
use crate::memory::{SharedMut, written};
use gather::{Plane, gather};
use geometry::Phase;
use panel::Strides;
use winograd::{Four, FourOfTwo, Lattice, Two, winograd};

/// The algorithm of a phase, by the filter where there is one.
enum Plan {
    Direct,
    Four(Vec<Lattice>),
    FourOfTwo(Vec<Lattice>),
    Two(Vec<Lattice>),
}

impl Geometry {
    /// How a phase is computed, by [`Geometry::algorithm`] and the layer.
    fn plan(&self, phase: &Phase) -> Plan {
        // Fewer channels than a vector has lanes are not worth the transformations.
        const FEWEST: usize = 16;
        let (c, k) = self.group();
        if self.algorithm == Algorithm::Direct || c.min(k) < FEWEST {
            return Plan::Direct;
        }
        let two = self.algorithm == Algorithm::Winograd2;
        match Lattice::all(phase, 3) {
            Some(lattices) if two => return Plan::Two(lattices),
            Some(lattices) => return Plan::Four(lattices),
            None if two => return Plan::Direct,
            None => (),
        }
        Lattice::all(phase, 2).map_or(Plan::Direct, Plan::FourOfTwo)
    }

    /// The input's and the output's channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.c / self.groups, self.k / self.groups)
    }

    fn input_plane(&self, group: usize) -> Plane {
        let (c, _) = self.group();
        Plane {
            size: self.input,
            pitch: self.c,
            first: group * c,
            channels: c,
        }
    }

    fn output_plane(&self, group: usize) -> Plane {
        let (_, k) = self.group();
        Plane {
            size: self.output,
            pitch: self.k,
            first: group * k,
            channels: k,
        }
    }

    /// Where a group's weights lie for lanes and depths `lane` and `depth` numbers apart.
    fn strides(&self, group: usize, lane: usize, depth: usize) -> Strides {
        let (c, k) = self.group();
        Strides {
            base: group * k * c * self.taps(),
            lane,
            depth,
        }
    }

    /// Numbers in the input, the output and the weight.
    ///
    /// # Panics
    /// When a number is larger than memory, a step or a kernel is zero, or the groups do not
    /// divide the channels.
    pub fn lengths(&self) -> [usize; 3] {
        let product = |sizes: &[usize]| {
            let all = sizes
                .iter()
                .try_fold(1usize, |all, size| all.checked_mul(*size));
            all.unwrap_or_else(|| panic!("a tensor of {self:?} is larger than memory"))
        };
        let steps = [self.kernel, self.stride, self.dilation].concat();
        assert!(
            !steps.contains(&0) && self.groups > 0,
            "kernel, stride, dilation and groups of {self:?} must be at least 1"
        );
        assert!(
            self.c.is_multiple_of(self.groups) && self.k.is_multiple_of(self.groups),
            "the groups of {self:?} do not divide the channels"
        );
        let image = |[h, w]: [usize; 2], channels: usize| product(&[self.n, h, w, channels]);
        [
            image(self.input, self.c),
            image(self.output, self.k),
            product(&[self.k, self.group().0, self.taps()]),
        ]
    }

    fn expect_bias(bias: Option<&[f32]>, channels: usize) {
        let len = bias.map_or(channels, <[f32]>::len);
        assert_eq!(len, channels, "a bias has one number for each channel");
    }

    fn expect(&self, what: [(usize, usize); 2]) {
        for (found, expected) in what {
            assert_eq!(found, expected, "a tensor of {self:?} has another size");
        }
    }
}

/// The convolution: `input` `[n, h, w, c]` to `[n, oh, ow, k]`, with one bias a channel.
///
/// # Panics
/// When a length is not the one `g` says.
pub fn forward(
    isa: Isa,
    g: &Geometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let [inputs, outputs, weights] = g.lengths();
    g.expect([(input.len(), inputs), (weight.len(), weights)]);
    Geometry::expect_bias(bias, g.k);
    let (c, _) = g.group();
    let phase = g.forward_phase();
    #[allow(unsafe_code, reason = "a result is written before it is read")]
    // SAFETY: the phase covers all pixels and the groups all channels.
    unsafe {
        written(outputs, |result| {
            for group in 0..g.groups {
                let work = Work {
                    phase: &phase,
                    source: (input, g.input_plane(group)),
                    weight: (weight, g.strides(group, c * g.taps(), g.taps())),
                    bias,
                    result: (result, g.output_plane(group)),
                };
                work.compute(isa, g);
            }
        })
    }
}

/// The gradient to the input, which is also the transposed convolution: `output` `[n, oh, ow, k]`
/// to `[n, h, w, c]`, with one bias a channel where there is one.
///
/// # Panics
/// When a length is not the one `g` says.
pub fn backward(
    isa: Isa,
    g: &Geometry,
    output: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let [inputs, outputs, weights] = g.lengths();
    g.expect([(output.len(), outputs), (weight.len(), weights)]);
    Geometry::expect_bias(bias, g.c);
    let (c, _) = g.group();
    #[allow(unsafe_code, reason = "a result is written before it is read")]
    // SAFETY: the phases cover all pixels and the groups all channels.
    unsafe {
        written(inputs, |result| {
            for phase in g.backward_phases() {
                for group in 0..g.groups {
                    let work = Work {
                        phase: &phase,
                        source: (output, g.output_plane(group)),
                        weight: (weight, g.strides(group, g.taps(), c * g.taps())),
                        bias,
                        result: (result, g.input_plane(group)),
                    };
                    work.compute(isa, g);
                }
            }
        })
    }
}

/// What one phase of one group is computed from, and where to:
/// `result[p, k] = bias[k] + Σ source[p + tap, c] · weight[k, c, tap]`.
#[derive(Clone, Copy)]
struct Work<'a> {
    phase: &'a Phase,
    source: (&'a [f32], Plane),
    weight: (&'a [f32], Strides),
    bias: Option<&'a [f32]>,
    result: (&'a SharedMut<'a>, Plane),
}

impl Work<'_> {
    fn compute(&self, isa: Isa, g: &Geometry) {
        match g.plan(self.phase) {
            Plan::Direct => gather(isa, g.n, self),
            Plan::Four(lattices) => winograd::<Four>(isa, g.n, &lattices, self),
            Plan::FourOfTwo(lattices) => winograd::<FourOfTwo>(isa, g.n, &lattices, self),
            Plan::Two(lattices) => winograd::<Two>(isa, g.n, &lattices, self),
        }
    }
}

/// The gradient to the weight, `[k, c / groups, kh, kw]`.
///
/// # Panics
/// When a length is not the one `g` says.
pub fn weight_gradient(isa: Isa, g: &Geometry, input: &[f32], output: &[f32]) -> Vec<f32> {
    let [inputs, outputs, weights] = g.lengths();
    g.expect([(input.len(), inputs), (output.len(), outputs)]);
    let mut result = vec![0.0; weights];
    let phase = g.forward_phase();
    let size = (weights / g.groups).max(1);
    for (group, gradient) in result.chunks_mut(size).enumerate() {
        let input = (input, g.input_plane(group));
        let output = (output, g.output_plane(group));
        match g.plan(&phase) {
            Plan::Direct => weight::weight_gradient(isa, g.n, &phase, input, output, gradient),
            Plan::Four(all) => {
                winograd::weight_gradient::<Four>(isa, g.n, (&phase, &all), input, output, gradient)
            }
            Plan::FourOfTwo(all) => {
                let of = (&phase, &all[..]);
                winograd::weight_gradient::<FourOfTwo>(isa, g.n, of, input, output, gradient)
            }
            Plan::Two(all) => {
                winograd::weight_gradient::<Two>(isa, g.n, (&phase, &all), input, output, gradient)
            }
        }
    }
    result
}
