//! Convolutions of channels-last `f32` images on the processor.
//!
//! Weights are `[k, c / groups, kh, kw]`, as PyTorch keeps them; those of a transposed
//! convolution are the same storage read as `[in, out / groups, kh, kw]`.

mod depthwise;
mod gather;
mod geometry;
mod panel;
mod tail;
mod weight;
mod winograd;

pub use geometry::{Algorithm, Edge, Geometry};
pub use tail::Tail;

use rayon::prelude::*;

use crate::memory::{SharedMut, written};
use crate::{Activation, Isa};
use gather::{Plane, Weights, gather};
use geometry::Phase;
use panel::Strides;
use tail::Finish;
use winograd::{Filters, Kind, Lattice, winograd};

impl Geometry {
    /// The filter a phase is computed by, and its lattices; without one the direct sum.
    fn filter(&self, phase: &Phase) -> Option<(Kind, Vec<Lattice>)> {
        // Fewer channels than a vector has lanes are not worth the transformations.
        const FEWEST: usize = 16;
        let (c, k) = self.group();
        if self.algorithm == Algorithm::Direct || c.min(k) < FEWEST {
            return None;
        }
        Kind::of(phase, self.algorithm == Algorithm::Winograd2)
    }

    /// The phases of the convolution, or of its gradient.
    fn phases(&self, transposed: bool) -> Vec<Phase> {
        match transposed {
            false => vec![self.forward_phase()],
            true => self.backward_phases(),
        }
    }

    /// Whether every channel is a group of its own.
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c && self.groups == self.k
    }

    /// The input's and the output's channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.c / self.groups, self.k / self.groups)
    }

    fn input_plane(&self) -> Plane {
        Plane {
            size: self.input,
            pitch: self.c,
            first: 0,
            channels: self.c,
        }
    }

    fn output_plane(&self) -> Plane {
        Plane {
            size: self.output,
            pitch: self.k,
            first: 0,
            channels: self.k,
        }
    }

    /// Where a group's weights lie.
    fn strides(&self, group: usize, transposed: bool) -> Strides {
        let (c, k) = self.group();
        let [inner, outer] = [self.taps(), c * self.taps()];
        let (lane, depth) = match transposed {
            false => (outer, inner),
            true => (inner, outer),
        };
        Strides {
            base: group * k * outer,
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
        self.check();
        let image = |[h, w]: [usize; 2], channels: usize| self.product(&[self.n, h, w, channels]);
        [
            image(self.input, self.c),
            image(self.output, self.k),
            self.weights(),
        ]
    }

    fn check(&self) {
        let steps = [self.kernel, self.stride, self.dilation].concat();
        assert!(
            !steps.contains(&0) && self.groups > 0,
            "kernel, stride, dilation and groups of {self:?} must be at least 1"
        );
        assert!(
            self.c.is_multiple_of(self.groups) && self.k.is_multiple_of(self.groups),
            "the groups of {self:?} do not divide the channels"
        );
    }

    /// Numbers in the weight.
    fn weights(&self) -> usize {
        self.product(&[self.k, self.c / self.groups.max(1), self.taps()])
    }

    fn product(&self, sizes: &[usize]) -> usize {
        let all = sizes
            .iter()
            .try_fold(1usize, |all, size| all.checked_mul(*size));
        all.unwrap_or_else(|| panic!("a tensor of {self:?} is larger than memory"))
    }

    /// The sizes that do not depend on the image.
    fn layer(&self) -> Self {
        Self {
            n: 0,
            input: [0; 2],
            output: [0; 2],
            ..*self
        }
    }

    fn expect<const N: usize>(&self, what: [(usize, usize); N]) {
        for (found, expected) in what {
            assert_eq!(found, expected, "a tensor of {self:?} has another size");
        }
    }
}

/// Weights of a layer as the kernels read them; they serve every batch and every size of image.
/// Those that would be much larger so are packed a few at a time while they are used.
pub struct Packed {
    isa: Isa,
    layer: Geometry,
    transposed: bool,
    /// Of each phase, group after group.
    parts: Vec<Vec<Part>>,
}

enum Part {
    Direct(Weights),
    Filtered(Filters),
    /// All groups, of one channel each.
    Depthwise(Vec<f32>),
}

impl Packed {
    /// Packs `weight` for the convolution, or transposed for its gradient to the input; to be used
    /// more than once.
    ///
    /// # Panics
    /// When its length is not the one `g` says, a step or a kernel is zero, or the groups do not
    /// divide the channels.
    pub fn new(isa: Isa, g: &Geometry, weight: &[f32], transposed: bool) -> Self {
        Self::build(false, isa, g, weight, transposed)
    }

    /// As [`Packed::new`], to be used once.
    fn once(isa: Isa, g: &Geometry, weight: &[f32], transposed: bool) -> Self {
        Self::build(true, isa, g, weight, transposed)
    }

    fn build(once: bool, isa: Isa, g: &Geometry, weight: &[f32], transposed: bool) -> Self {
        // In numbers of a part by filtering. Writing what does not stay in the cache and reading it
        // again takes longer than packing on the way, and what is used often is kept as far as
        // memory allows.
        let most = if once { 1 << 20 } else { 1 << 22 };
        g.check();
        g.expect([(weight.len(), g.weights())]);
        let (c, k) = g.group();
        let (channels, depth) = if transposed { (c, k) } else { (k, c) };
        let part = |phase: &Phase, group: usize| {
            let weight = (weight, g.strides(group, transposed));
            let pays = |(kind, lattices): &(Kind, Vec<Lattice>)| {
                once || kind.pays(lattices.len() * channels * depth)
            };
            match g.filter(phase).filter(pays) {
                None => Part::Direct(Weights::pack(isa, phase, weight, channels, depth)),
                Some(filter) => {
                    Part::Filtered(Filters::pack(isa, filter, weight, channels, depth, most))
                }
            }
        };
        let of_phase = |phase: &Phase| match g.is_depthwise() {
            true => vec![Part::Depthwise(depthwise::pack(
                isa,
                phase,
                weight,
                g.taps(),
            ))],
            false => (0..g.groups).map(|group| part(phase, group)).collect(),
        };
        Self {
            isa,
            layer: g.layer(),
            transposed,
            parts: g.phases(transposed).iter().map(of_phase).collect(),
        }
    }

    /// Whether these are weights of that layer.
    pub(crate) fn serve(&self, isa: Isa, g: &Geometry, transposed: bool) -> bool {
        (self.isa, self.layer, self.transposed) == (isa, g.layer(), transposed)
    }
}

/// The convolution of `source` `[n, h, w, c]` to `[n, oh, ow, k]`, or with transposed weights that
/// of `[n, oh, ow, k]` to `[n, h, w, c]`, and its tail. The weight is given as it is and packed.
///
/// # Panics
/// When a length is not the one `g` says, or the weight was packed for another layer.
pub fn convolve(
    g: &Geometry,
    source: &[f32],
    weight: (&[f32], &Packed),
    tail: &Tail<'_>,
) -> Vec<f32> {
    let transposed = weight.1.transposed;
    let [inputs, outputs, _] = g.lengths();
    let (from, to) = match transposed {
        false => (inputs, outputs),
        true => (outputs, inputs),
    };
    g.expect([
        (source.len(), from),
        (tail.residual.map_or(to, <[f32]>::len), to),
    ]);
    let (planes, results) = match transposed {
        false => (g.input_plane(), g.output_plane()),
        true => (g.output_plane(), g.input_plane()),
    };
    #[allow(unsafe_code, reason = "a result is written before it is read")]
    // SAFETY: the planes are those of slices of these lengths; the phases cover all pixels and the
    // groups all channels.
    unsafe {
        written(to, |result| {
            compute(
                g,
                (source.as_ptr(), planes),
                weight,
                tail,
                (result, results),
            );
        })
    }
}

/// As [`convolve`], into the channels `first..first + k` of `images` `[n, oh, ow, pitch]`, from a
/// source of its own or, without one, from the first `c` of those channels.
///
/// # Panics
/// As [`convolve`]; for transposed weights and with a residual; when the channels do not lie in the
/// images, or a convolution of the images' own channels changes their size or writes where it reads.
pub fn convolve_into(
    g: &Geometry,
    source: Option<&[f32]>,
    weight: (&[f32], &Packed),
    tail: &Tail<'_>,
    images: &mut [f32],
    [first, pitch]: [usize; 2],
) {
    assert!(
        !weight.1.transposed && tail.residual.is_none(),
        "a transposed convolution and a residual have no place beside other channels"
    );
    let pixels = g.product(&[g.n, g.output[0], g.output[1]]);
    g.expect([(images.len(), g.product(&[pixels, pitch]))]);
    let [inputs, ..] = g.lengths();
    assert!(
        first.checked_add(g.k).is_some_and(|end| end <= pitch),
        "{} channels from {first} do not lie in {pitch}",
        g.k
    );
    let result = SharedMut::new(images);
    let source = match source {
        Some(source) => {
            g.expect([(source.len(), inputs)]);
            (source.as_ptr(), g.input_plane())
        }
        None => {
            assert!(
                g.c <= first && g.input == g.output,
                "{g:?} does not fit beside its own source"
            );
            let plane = Plane {
                pitch,
                ..g.input_plane()
            };
            (result.pointer().cast_const(), plane)
        }
    };
    let results = Plane {
        pitch,
        first,
        ..g.output_plane()
    };
    #[allow(unsafe_code, reason = "source and result may lie in one slice")]
    // SAFETY: the planes lie in the slices, and no channel is both read and written.
    unsafe {
        compute(g, source, weight, tail, (&result, results));
    }
}

/// Computes every phase and group.
///
/// # Safety
/// Source and result must be as large as their planes say, and what is written may not be read.
#[allow(unsafe_code, reason = "source and result may lie in one slice")]
unsafe fn compute(
    g: &Geometry,
    (source, source_plane): (*const f32, Plane),
    (weight, weights): (&[f32], &Packed),
    tail: &Tail<'_>,
    (result, result_plane): (&SharedMut<'_>, Plane),
) {
    let Packed {
        isa, transposed, ..
    } = *weights;
    assert!(
        weights.serve(isa, g, transposed),
        "weights of {:?} do not serve {g:?}",
        weights.layer
    );
    g.expect([(weight.len(), g.weights())]);
    let continued = |axis: usize| match g.edge {
        Edge::Zeros => true,
        Edge::Reflect => g.padding[axis] < g.input[axis],
        Edge::Replicate => g.input[axis] > 0,
    };
    assert!(
        (!transposed || g.edge == Edge::Zeros) && continued(0) && continued(1),
        "the edge of {g:?} cannot be computed: gradients know zeros only, and an image reflects \
         fewer pixels than it has"
    );
    let channels = result_plane.channels;
    for numbers in [tail.bias, tail.slopes].into_iter().flatten() {
        assert_eq!(
            numbers.len(),
            channels,
            "a bias has one number for each channel, and so have slopes"
        );
    }
    assert!(
        tail.slopes.is_some() || tail.activation != Activation::Prelu,
        "PReLU needs slopes"
    );
    let phases = g.phases(transposed);
    let source = source as usize;
    let compute = |(phase, groups, group, part): (&Phase, usize, usize, &Part)| {
        let work = Work {
            isa,
            n: g.n,
            phase,
            source: (source as *const f32, source_plane.group(group, groups)),
            edge: g.edge,
            tail,
            result: (result, result_plane.group(group, groups)),
            weight: (weight, g.strides(group, transposed)),
            group,
        };
        match part {
            Part::Direct(weights) => gather(&work, weights),
            Part::Filtered(filters) => winograd(&work, filters),
            Part::Depthwise(weights) => depthwise::depthwise(&work, weights),
        }
    };
    let items = phases
        .iter()
        .zip(&weights.parts)
        .flat_map(|(phase, parts)| {
            let all = parts.iter().enumerate();
            all.map(move |(group, part)| (phase, parts.len(), group, part))
        });
    items.collect::<Vec<_>>().into_par_iter().for_each(compute);
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
    let tail = Tail {
        bias,
        ..Tail::default()
    };
    let packed = Packed::once(isa, g, weight, false);
    convolve(g, input, (weight, &packed), &tail)
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
    let tail = Tail {
        bias,
        ..Tail::default()
    };
    let packed = Packed::once(isa, g, weight, true);
    convolve(g, output, (weight, &packed), &tail)
}

/// What one phase of one group is computed from, and where to:
/// `result[p, k] = tail(Σ source[p + tap, c] · weight[k, c, tap])`.
#[derive(Clone, Copy)]
struct Work<'a> {
    isa: Isa,
    n: usize,
    phase: &'a Phase,
    source: (*const f32, Plane),
    edge: Edge,
    tail: &'a Tail<'a>,
    result: (&'a SharedMut<'a>, Plane),
    weight: (&'a [f32], Strides),
    group: usize,
}

impl Work<'_> {
    /// The tail for this group.
    fn finish(&self) -> Finish {
        let (lanes, most) = self.isa.shape();
        let (result, Plane { channels, .. }) = self.result;
        let first = self.group * channels;
        Finish::new(self.tail, result.pointer(), first, channels, lanes * most)
    }
}

/// The gradient to the weight, `[k, c / groups, kh, kw]`.
///
/// # Panics
/// When a length is not the one `g` says.
pub fn weight_gradient(isa: Isa, g: &Geometry, input: &[f32], output: &[f32]) -> Vec<f32> {
    let [inputs, outputs, weights] = g.lengths();
    g.expect([(input.len(), inputs), (output.len(), outputs)]);
    assert_eq!(g.edge, Edge::Zeros, "gradients know zeros around the image");
    let mut result = vec![0.0; weights];
    let phase = g.forward_phase();
    if g.is_depthwise() {
        let (input, output) = ((input, g.input_plane()), (output, g.output_plane()));
        depthwise::weight_gradient(isa, g.n, &phase, input, output, &mut result);
        return result;
    }
    let size = (weights / g.groups).max(1);
    for (group, gradient) in result.chunks_mut(size).enumerate() {
        let input = (input, g.input_plane().group(group, g.groups));
        let output = (output, g.output_plane().group(group, g.groups));
        match g.filter(&phase) {
            None => weight::weight_gradient(isa, g.n, &phase, input, output, gradient),
            Some((kind, lattices)) => {
                let of = (&phase, kind, &lattices[..]);
                winograd::weight_gradient(isa, g.n, of, input, output, gradient);
            }
        }
    }
    result
}
