//! The operations as a Burn backend extension.

mod autodiff;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};
use burn_flex::FlexTensor;

use crate::bilinear;
use crate::conv::{self, Geometry, Tail};
use crate::elu;
use crate::flex::{Pixels, Rows, dims, from_pixels, from_rows, owned};
use crate::gate::{self, First};
use crate::group_norm::{self, GroupNormalisation};
use crate::join;
use crate::likelihood;
use crate::norm::{self, Channels, Normalisation};
use crate::pool::{self, Window};
use crate::update::{self, AdamUpdate};
use crate::{Activation, Isa, cache};

/// What is computed without gradients only; `g` gives every size.
#[backend_extension(Flex)]
pub(crate) trait Use: Backend {
    /// [`Door::convolve`] with a tail; `how` says whether `residual` and `slopes` count.
    fn convolve_then(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        slopes: FloatTensor<Self>,
        g: Geometry,
        how: Then,
    ) -> FloatTensor<Self>;

    /// [`conv::convolve_into`] of `images` `[n, oh, ow, pitch]`, from `x` unless `how.own`.
    fn convolve_into(
        images: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slopes: FloatTensor<Self>,
        g: Geometry,
        how: Place,
    ) -> FloatTensor<Self>;

    /// [`join::put`] of `x` `[n, c, h, w]` into `images` `[n, h, w, pitch]` from `first` on.
    fn put(images: FloatTensor<Self>, x: FloatTensor<Self>, first: usize) -> FloatTensor<Self>;

    /// [`pool::pool`]: `[n, c, h, w] → [n, c, oh, ow]`.
    fn pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;

    /// [`update::adam`] of four `[len]`: the new parameter and moments.
    fn adam(
        parameter: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        of: AdamUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// [`update::mix`] of two `[len]`.
    fn mix(average: FloatTensor<Self>, new: FloatTensor<Self>, decay: f64) -> FloatTensor<Self>;

    /// [`update::sum_of_squares`], `[1]`.
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// How a convolution without gradients goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Then {
    pub(crate) transposed: bool,
    pub(crate) activation: Activation,
    pub(crate) has_residual: bool,
    pub(crate) has_slopes: bool,
}

/// How a convolution goes on whose result joins other channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The first channel of the result.
    pub(crate) first: usize,
    /// Whether it reads the channels before.
    pub(crate) own: bool,
    pub(crate) activation: Activation,
    pub(crate) has_slopes: bool,
}

impl Use for Flex {
    fn convolve_then(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        slopes: FlexTensor,
        g: Geometry,
        how: Then,
    ) -> FlexTensor {
        let (weight, packed) = cache::packed(Isa::current(), &g, weight, how.transposed);
        let (x, bias) = (Pixels::new(x), Rows::new(bias));
        let residual = how.has_residual.then(|| Pixels::new(residual));
        let slopes = how.has_slopes.then(|| Rows::new(slopes));
        let tail = Tail {
            bias: Some(bias.slice()),
            residual: residual.as_ref().map(Pixels::slice),
            slopes: slopes.as_ref().map(Rows::slice),
            activation: how.activation,
        };
        let y = conv::convolve(&g, x.slice(), (weight.slice(), &packed), &tail);
        from_pixels(y, g.result(how.transposed))
    }

    fn convolve_into(
        images: FlexTensor,
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        slopes: FlexTensor,
        g: Geometry,
        how: Place,
    ) -> FlexTensor {
        let (weight, packed) = cache::packed(Isa::current(), &g, weight, false);
        let bias = Rows::new(bias);
        let slopes = how.has_slopes.then(|| Rows::new(slopes));
        let x = (!how.own).then(|| Pixels::new(x));
        let tail = Tail {
            bias: Some(bias.slice()),
            slopes: slopes.as_ref().map(Rows::slice),
            activation: how.activation,
            ..Tail::default()
        };
        let mut images = owned(images);
        let pitch = dims(&images)[3];
        let source = x.as_ref().map(Pixels::slice);
        let place = [how.first, pitch];
        let weight = (weight.slice(), &*packed);
        conv::convolve_into(&g, source, weight, &tail, images.storage_mut(), place);
        images
    }

    fn put(images: FlexTensor, x: FlexTensor, first: usize) -> FlexTensor {
        let mut images = owned(images);
        let (c, pitch) = (dims(&x)[1], dims(&images)[3]);
        join::put(
            Pixels::new(x).slice(),
            c,
            images.storage_mut(),
            [first, pitch],
        );
        images
    }

    fn pool(x: FlexTensor, window: Window) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let x = Pixels::new(x);
        let y = pool::pool(Isa::current(), x.slice(), n, [h, w, c], window);
        let [oh, ow] = window.output([h, w]);
        from_pixels(y, [n, c, oh, ow])
    }

    fn adam(
        parameter: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        gradient: FlexTensor,
        of: AdamUpdate,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let gradient = Rows::new(gradient);
        // What nobody else holds is changed where it is.
        let [mut parameter, mut first, mut second] = [parameter, first, second].map(owned);
        update::adam(
            Isa::current(),
            of,
            parameter.storage_mut(),
            [first.storage_mut(), second.storage_mut()],
            gradient.slice(),
        );
        (parameter, first, second)
    }

    fn mix(average: FlexTensor, new: FlexTensor, decay: f64) -> FlexTensor {
        let new = Rows::new(new);
        let mut average = owned(average);
        update::mix(Isa::current(), average.storage_mut(), new.slice(), decay);
        average
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        let sum = update::sum_of_squares(Isa::current(), Rows::new(x).slice());
        from_rows(vec![sum as f32], [1])
    }
}

/// What tensors of this crate are computed with; `g` gives every size, so shapes are checked
/// before it is made.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Door: Backend {
    /// `[n, c, h, w], [k, c / groups, kh, kw], [k] → [n, k, oh, ow]`; transposed,
    /// `[n, k, oh, ow], [k, c / groups, kh, kw], [c] → [n, c, h, w]`.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
        transposed: bool,
    ) -> FloatTensor<Self>;

    /// Mean and biased variance `[c]` of `[n, c, h, w]`; no gradient flows through them.
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// [`norm::normalise`] of `[n, c, h, w]` with four `[c]`; no gradient flows to mean and
    /// variance, which `options.of_batch` says are functions of `x`.
    fn normalise(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Normalisation,
    ) -> FloatTensor<Self>;

    /// [`group_norm::group_norm`] of `[n, c, h, w]` with two `[c]`.
    fn group_normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: GroupNormalisation,
    ) -> FloatTensor<Self>;

    /// `x` where positive, else `slope · x`, in the layout of a convolution's result.
    fn leak(x: FloatTensor<Self>, slope: f32) -> FloatTensor<Self>;

    /// [`gate::gate`]: `[n, 2c, h, w] → [n, c, h, w]`.
    fn gate(x: FloatTensor<Self>, first: First) -> FloatTensor<Self>;

    /// [`elu::elu`] of `[n, c, h, w]` or, of `both` signs, [`elu::both_elu`] to `[n, 2c, h, w]`.
    fn elu(x: FloatTensor<Self>, both: bool) -> FloatTensor<Self>;

    /// `a + factor · b` of two `[n, c, h, w]`.
    fn add(a: FloatTensor<Self>, b: FloatTensor<Self>, factor: f32) -> FloatTensor<Self>;

    /// [`join::add_to_pixels`] of `[n, c, h, w]` and `[n, c]`.
    fn add_to_pixels(x: FloatTensor<Self>, each: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `[n, a, h, w], [n, b, h, w] → [n, a + b, h, w]`.
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`join::enlarge`]: `[n, c, h, w] → [n, c, factor · h, factor · w]`.
    fn enlarge(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self>;

    /// [`bilinear::bilinear`]: `[n, c, h, w] → [n, c, to[0], to[1]]`.
    fn bilinear(x: FloatTensor<Self>, to: [usize; 2]) -> FloatTensor<Self>;

    /// [`join::shuffle`]: `[n, c·r², h, w] → [n, c, r·h, r·w]`, or [`join::unshuffle`], its
    /// inverse.
    fn shuffle(x: FloatTensor<Self>, r: usize, inverse: bool) -> FloatTensor<Self>;

    /// [`likelihood::bernoulli`] of two tensors of one shape.
    fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`likelihood::cross_entropy`]: `[rows, k], [rows] → [rows]`; no gradient flows to the targets.
    fn cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The gradients, which need no gradients of their own.
trait Back: Door {
    /// The gradient of the convolution to its input: the other convolution, without a bias.
    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        g: &Geometry,
        transposed: bool,
    ) -> FloatTensor<Self>;
    fn weight_gradient(
        input: FloatTensor<Self>,
        output: FloatTensor<Self>,
        g: &Geometry,
    ) -> FloatTensor<Self>;
    fn channel_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradients to x, gamma and beta.
    fn norm_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        norm: Norm<Self>,
    ) -> [FloatTensor<Self>; 3];
    fn leak_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;
    fn gate_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        first: First,
    ) -> FloatTensor<Self>;
    fn elu_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        both: bool,
    ) -> FloatTensor<Self>;
    /// `[n, c, h, w] → [n, c]`.
    fn sum_of_pixels(x: FloatTensor<Self>) -> FloatTensor<Self>;
    fn channels(x: FloatTensor<Self>, first: usize, count: usize) -> FloatTensor<Self>;
    fn enlarge_backward(gradient: FloatTensor<Self>, factor: usize) -> FloatTensor<Self>;
    /// The gradient to images of `to`.
    fn bilinear_backward(gradient: FloatTensor<Self>, to: [usize; 2]) -> FloatTensor<Self>;
    fn channel_count(x: &FloatTensor<Self>) -> usize;
    /// Height and width.
    fn size(x: &FloatTensor<Self>) -> [usize; 2];
    fn scale(x: FloatTensor<Self>, factor: f32) -> FloatTensor<Self>;
    /// The gradients to logits and variables.
    fn bernoulli_backward(
        gradient: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];
    /// The gradient to the logits.
    fn cross_entropy_backward(
        gradient: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// A normalisation with what it is computed with beside the images.
#[derive(Clone, Debug)]
enum Norm<B: Backend> {
    /// By channel: mean, variance, gamma, beta.
    Channels([FloatTensor<B>; 4], Normalisation),
    /// By group: gamma, beta.
    Groups([FloatTensor<B>; 2], GroupNormalisation),
}

/// A convolution or, transposed, its gradient.
fn convolution(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    g: &Geometry,
    transposed: bool,
) -> FlexTensor {
    let (isa, x, weight) = (Isa::current(), Pixels::new(x), Rows::new(weight));
    let bias = bias.map(Rows::new);
    let bias = bias.as_ref().map(Rows::slice);
    let y = match transposed {
        false => conv::forward(isa, g, x.slice(), weight.slice(), bias),
        true => conv::backward(isa, g, x.slice(), weight.slice(), bias),
    };
    from_pixels(y, g.result(transposed))
}

impl Door for Flex {
    fn convolve(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        g: Geometry,
        transposed: bool,
    ) -> FlexTensor {
        convolution(x, weight, Some(bias), &g, transposed)
    }

    fn channel_moments(x: FlexTensor) -> (FlexTensor, FlexTensor) {
        let c = dims(&x)[1];
        let (mean, variance) = norm::moments(Isa::current(), Pixels::new(x).slice(), c);
        (from_rows(mean, [c]), from_rows(variance, [c]))
    }

    fn normalise(
        x: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        options: Normalisation,
    ) -> FlexTensor {
        let shape = dims(&x);
        let with = [mean, variance, gamma, beta].map(Rows::new);
        let with = channels(&with);
        let y = norm::normalise(Isa::current(), Pixels::new(x).slice(), with, options);
        from_pixels(y, shape)
    }

    fn group_normalise(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        options: GroupNormalisation,
    ) -> FlexTensor {
        let shape = dims(&x);
        let with = [gamma, beta].map(Rows::new);
        let with = [with[0].slice(), with[1].slice()];
        let (isa, x) = (Isa::current(), Pixels::new(x));
        let y = group_norm::group_norm(isa, x.slice(), shape[0], with, options);
        from_pixels(y, shape)
    }

    fn leak(x: FlexTensor, slope: f32) -> FlexTensor {
        let shape = dims(&x);
        let y = norm::leaky_relu(Isa::current(), Pixels::new(x).slice(), slope);
        from_pixels(y, shape)
    }

    fn gate(x: FlexTensor, first: First) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let y = gate::gate(Isa::current(), first, Pixels::new(x).slice(), c / 2);
        from_pixels(y, [n, c / 2, h, w])
    }

    fn elu(x: FlexTensor, both: bool) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let (isa, x) = (Isa::current(), Pixels::new(x));
        match both {
            false => from_pixels(elu::elu(isa, x.slice()), [n, c, h, w]),
            true => from_pixels(elu::both_elu(isa, x.slice(), c), [n, 2 * c, h, w]),
        }
    }

    fn add(a: FlexTensor, b: FlexTensor, factor: f32) -> FlexTensor {
        let shape = dims(&a);
        let (a, b) = (Pixels::new(a), Pixels::new(b));
        let y = join::add(Isa::current(), a.slice(), b.slice(), factor);
        from_pixels(y, shape)
    }

    fn add_to_pixels(x: FlexTensor, each: FlexTensor) -> FlexTensor {
        let shape = dims(&x);
        let (x, each) = (Pixels::new(x), Rows::new(each));
        let y = join::add_to_pixels(Isa::current(), x.slice(), each.slice(), shape[1]);
        from_pixels(y, shape)
    }

    fn concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let [n, from_a, h, w] = dims(&a);
        let from_b = dims(&b)[1];
        let (a, b) = (Pixels::new(a), Pixels::new(b));
        let y = join::concat(Isa::current(), [a.slice(), b.slice()], [from_a, from_b]);
        from_pixels(y, [n, from_a + from_b, h, w])
    }

    fn enlarge(x: FlexTensor, factor: usize) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let y = join::enlarge(Isa::current(), Pixels::new(x).slice(), [h, w, c], factor);
        from_pixels(y, [n, c, h * factor, w * factor])
    }

    fn bilinear(x: FlexTensor, to: [usize; 2]) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let y = bilinear::bilinear(Isa::current(), Pixels::new(x).slice(), [h, w, c], to);
        from_pixels(y, [n, c, to[0], to[1]])
    }

    fn shuffle(x: FlexTensor, r: usize, inverse: bool) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let (isa, x) = (Isa::current(), Pixels::new(x));
        match inverse {
            false => {
                let c = c / (r * r);
                let y = join::shuffle(isa, x.slice(), [h, w, c], r);
                from_pixels(y, [n, c, h * r, w * r])
            }
            true => {
                let (h, w) = (h / r, w / r);
                let y = join::unshuffle(isa, x.slice(), [h, w, c], r);
                from_pixels(y, [n, c * r * r, h, w])
            }
        }
    }

    fn bernoulli(logits: FlexTensor, x: FlexTensor) -> FlexTensor {
        let shape = logits.layout().shape().clone();
        let (logits, x) = (Rows::new(logits), Rows::new(x));
        let y = likelihood::bernoulli(Isa::current(), logits.slice(), x.slice());
        from_rows(y, shape)
    }

    fn cross_entropy(logits: FlexTensor, targets: FlexTensor) -> FlexTensor {
        let [rows, k] = rows_of(&logits);
        let (isa, logits, targets) = (Isa::current(), Rows::new(logits), Rows::new(targets));
        let y = likelihood::cross_entropy(isa, logits.slice(), targets.slice(), k);
        from_rows(y, [rows])
    }
}

/// The shape of a tensor of two dimensions.
fn rows_of(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}

fn channels(with: &[Rows; 4]) -> Channels<'_> {
    Channels {
        mean: with[0].slice(),
        variance: with[1].slice(),
        gamma: with[2].slice(),
        beta: with[3].slice(),
    }
}

impl Back for Flex {
    fn input_gradient(
        gradient: FlexTensor,
        weight: FlexTensor,
        g: &Geometry,
        transposed: bool,
    ) -> FlexTensor {
        convolution(gradient, weight, None, g, !transposed)
    }

    fn weight_gradient(input: FlexTensor, output: FlexTensor, g: &Geometry) -> FlexTensor {
        let (input, output) = (Pixels::new(input), Pixels::new(output));
        let gradient = conv::weight_gradient(Isa::current(), g, input.slice(), output.slice());
        from_rows(gradient, [g.k, g.c / g.groups, g.kernel[0], g.kernel[1]])
    }

    fn channel_sum(x: FlexTensor) -> FlexTensor {
        let c = dims(&x)[1];
        from_rows(
            norm::channel_sum(Isa::current(), Pixels::new(x).slice(), c),
            [c],
        )
    }

    fn norm_backward(gradient: FlexTensor, x: FlexTensor, norm: Norm<Self>) -> [FlexTensor; 3] {
        let shape = dims(&x);
        let (isa, gradient, x) = (Isa::current(), Pixels::new(gradient), Pixels::new(x));
        let (gradient, x) = (gradient.slice(), x.slice());
        let (dx, dgamma, dbeta) = match norm {
            Norm::Channels(with, options) => {
                let with = with.map(Rows::new);
                norm::normalise_backward(isa, gradient, x, channels(&with), options)
            }
            Norm::Groups(with, options) => {
                let with = with.map(Rows::new);
                let with = [with[0].slice(), with[1].slice()];
                group_norm::group_norm_backward(isa, gradient, x, shape[0], with, options)
            }
        };
        let c = shape[1];
        [
            from_pixels(dx, shape),
            from_rows(dgamma, [c]),
            from_rows(dbeta, [c]),
        ]
    }

    fn leak_backward(gradient: FlexTensor, x: FlexTensor, slope: f32) -> FlexTensor {
        let shape = dims(&x);
        let (gradient, x) = (Pixels::new(gradient), Pixels::new(x));
        let dx = norm::leaky_relu_backward(Isa::current(), gradient.slice(), x.slice(), slope);
        from_pixels(dx, shape)
    }

    fn gate_backward(gradient: FlexTensor, x: FlexTensor, first: First) -> FlexTensor {
        let shape = dims(&x);
        let (gradient, x) = (Pixels::new(gradient), Pixels::new(x));
        let (isa, width) = (Isa::current(), shape[1] / 2);
        let dx = gate::gate_backward(isa, first, gradient.slice(), x.slice(), width);
        from_pixels(dx, shape)
    }

    fn elu_backward(gradient: FlexTensor, x: FlexTensor, both: bool) -> FlexTensor {
        let shape = dims(&x);
        let (isa, gradient, x) = (Isa::current(), Pixels::new(gradient), Pixels::new(x));
        let dx = match both {
            false => elu::elu_backward(isa, gradient.slice(), x.slice()),
            true => elu::both_elu_backward(isa, gradient.slice(), x.slice(), shape[1]),
        };
        from_pixels(dx, shape)
    }

    fn sum_of_pixels(x: FlexTensor) -> FlexTensor {
        let [n, c, _, _] = dims(&x);
        let sums = join::sum_of_pixels(Isa::current(), Pixels::new(x).slice(), n, c);
        from_rows(sums, [n, c])
    }

    fn channels(x: FlexTensor, first: usize, count: usize) -> FlexTensor {
        let [n, c, h, w] = dims(&x);
        let y = join::channels(Isa::current(), Pixels::new(x).slice(), c, first, count);
        from_pixels(y, [n, count, h, w])
    }

    fn enlarge_backward(gradient: FlexTensor, factor: usize) -> FlexTensor {
        let [n, c, h, w] = dims(&gradient);
        let (h, w) = (h / factor, w / factor);
        let gradient = Pixels::new(gradient);
        let dx = join::enlarge_backward(Isa::current(), gradient.slice(), [h, w, c], factor);
        from_pixels(dx, [n, c, h, w])
    }

    fn bilinear_backward(gradient: FlexTensor, [h, w]: [usize; 2]) -> FlexTensor {
        let [n, c, height, width] = dims(&gradient);
        let (isa, gradient) = (Isa::current(), Pixels::new(gradient));
        let from = [height, width];
        let dx = bilinear::bilinear_backward(isa, gradient.slice(), n, [h, w, c], from);
        from_pixels(dx, [n, c, h, w])
    }

    fn channel_count(x: &FlexTensor) -> usize {
        dims(x)[1]
    }

    fn size(x: &FlexTensor) -> [usize; 2] {
        let [_, _, h, w] = dims(x);
        [h, w]
    }

    fn scale(x: FlexTensor, factor: f32) -> FlexTensor {
        let shape = dims(&x);
        let y = join::scale(Isa::current(), Pixels::new(x).slice(), factor);
        from_pixels(y, shape)
    }

    fn bernoulli_backward(
        gradient: FlexTensor,
        logits: FlexTensor,
        x: FlexTensor,
    ) -> [FlexTensor; 2] {
        let shape = logits.layout().shape().clone();
        let [gradient, logits, x] = [gradient, logits, x].map(Rows::new);
        let (gradient, logits, x) = (gradient.slice(), logits.slice(), x.slice());
        let (to_logits, to_x) = likelihood::bernoulli_backward(Isa::current(), gradient, logits, x);
        [to_logits, to_x].map(|numbers| from_rows(numbers, shape.clone()))
    }

    fn cross_entropy_backward(
        gradient: FlexTensor,
        logits: FlexTensor,
        targets: FlexTensor,
    ) -> FlexTensor {
        let shape = rows_of(&logits);
        let [gradient, logits, targets] = [gradient, logits, targets].map(Rows::new);
        let (gradient, logits, targets) = (gradient.slice(), logits.slice(), targets.slice());
        let isa = Isa::current();
        let dx = likelihood::cross_entropy_backward(isa, gradient, logits, targets, shape[1]);
        from_rows(dx, shape)
    }
}
