//! Convolutions of channels-last `f32` images on the processor.
//!
//! Weights are `[k, c / groups, kh, kw]`, as PyTorch keeps them; those of a transposed
//! convolution are the same storage read as `[in, out / groups, kh, kw]`.

mod gather;
mod geometry;
mod panel;
mod weight;

pub use geometry::Geometry;

use crate::Isa;
use crate::memory::SharedMut;
use gather::{Plane, gather};
use panel::Strides;

impl Geometry {
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

    /// Numbers in the input, the output and the weight.
    pub fn lengths(&self) -> [usize; 3] {
        let pixels = |size: [usize; 2]| self.n * size[0] * size[1];
        [
            pixels(self.input) * self.c,
            pixels(self.output) * self.k,
            self.k * self.group().0 * self.taps(),
        ]
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
    let mut result = vec![0.0; outputs];
    let shared = SharedMut::new(&mut result);
    let (c, k) = g.group();
    let phase = g.forward_phase();
    for group in 0..g.groups {
        let strides = Strides {
            base: group * k * c * g.taps(),
            lane: c * g.taps(),
            depth: g.taps(),
        };
        gather(
            isa,
            g.n,
            &phase,
            (input, g.input_plane(group)),
            (weight, strides),
            bias,
            (&shared, g.output_plane(group)),
        );
    }
    result
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
    let mut result = vec![0.0; inputs];
    let shared = SharedMut::new(&mut result);
    let (c, k) = g.group();
    for phase in g.backward_phases() {
        for group in 0..g.groups {
            let strides = Strides {
                base: group * k * c * g.taps(),
                lane: g.taps(),
                depth: c * g.taps(),
            };
            gather(
                isa,
                g.n,
                &phase,
                (output, g.output_plane(group)),
                (weight, strides),
                bias,
                (&shared, g.input_plane(group)),
            );
        }
    }
    result
}

/// The gradient to the weight, `[k, c / groups, kh, kw]`.
///
/// # Panics
/// When a length is not the one `g` says.
pub fn weight_gradient(isa: Isa, g: &Geometry, input: &[f32], output: &[f32]) -> Vec<f32> {
    let [inputs, outputs, weights] = g.lengths();
    g.expect([(input.len(), inputs), (output.len(), outputs)]);
    let mut result = vec![0.0; weights];
    let shared = SharedMut::new(&mut result);
    let (c, k) = g.group();
    let phase = g.forward_phase();
    for group in 0..g.groups {
        weight::weight_gradient(
            isa,
            g.n,
            &phase,
            (input, g.input_plane(group)),
            (output, g.output_plane(group)),
            (&shared, group * k * c * g.taps()),
        );
    }
    result
}
