//! The operations on Burn's tensors: these kernels where they apply, else Burn's own.

use std::sync::OnceLock;

use burn::backend::Dispatch;
use burn::prelude::*;
use burn::tensor::ops::{
    AvgPoolOptions, ConvOptions as BurnConvOptions, ConvTransposeOptions, InterpolateMode,
    InterpolateOptions, MaxPoolOptions,
};
use burn::tensor::{DType, activation, module};

use crate::Activation;
use crate::conv::{Algorithm, Edge, Geometry};
use crate::door::{self, Door, Use};
use crate::gate::First;
use crate::group_norm::GroupNormalisation;
use crate::norm::Normalisation;
use crate::operations;
use crate::pool::{Take, Window};
use crate::update::AdamUpdate;

/// The environment variable that switches these kernels off: `VERMEER_KERNELS=burn`.
pub const KERNELS_VARIABLE: &str = "VERMEER_KERNELS";

/// Whether these kernels compute with `x` and numbers of the types of `others`.
pub(crate) fn ours(x: &Tensor<4>, others: &[DType]) -> bool {
    on() && x.dtype() == DType::F32
        && others.iter().all(|dtype| *dtype == DType::F32)
        && x.device().without_autodiff() == Device::flex()
}

/// Whether `VERMEER_KERNELS` leaves these kernels on.
fn on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| match std::env::var(KERNELS_VARIABLE).as_deref() {
        Ok("burn") => false,
        Ok("vermeer") | Err(_) => true,
        Ok(other) => panic!("{KERNELS_VARIABLE}={other}: it is `vermeer` or `burn`"),
    })
}

/// The type of `x` where it is half as wide as those these kernels compute with.
fn half(x: &Tensor<4>) -> Option<DType> {
    let is_half = matches!(x.dtype(), DType::F16 | DType::BF16);
    (on() && is_half && x.device().without_autodiff() == Device::flex()).then(|| x.dtype())
}

pub(crate) fn types(weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> Vec<DType> {
    let bias = bias.map(Tensor::dtype);
    [weight.dtype()].into_iter().chain(bias).collect()
}

fn expect_channels<const N: usize>(x: &Tensor<4>, all: [&Tensor<1>; N]) {
    for tensor in all {
        assert_eq!(
            tensor.dims(),
            [x.dims()[1]],
            "a normalisation has one number for each channel"
        );
    }
}

/// How a kernel moves over an image: the numbers of PyTorch's `conv2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Step over the input.
    pub stride: [usize; 2],
    /// Rows and columns around the input.
    pub padding: [usize; 2],
    /// Distance of the kernel's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// How it is computed.
    pub algorithm: Algorithm,
    /// What lies around the input of [`conv2d`]; a transposed convolution has zeros.
    pub edge: Edge,
    /// Whether the result of [`conv2d`] has ⌈size / stride⌉ rows and columns whatever the kernel: the
    /// padding is that above and on the left, and below and on the right as many zeros are read as it
    /// takes. With [`Edge::Zeros`] only; serves kernels that end at the pixel they compute.
    pub keep_size: bool,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            algorithm: Algorithm::Auto,
            edge: Edge::Zeros,
            keep_size: false,
        }
    }
}

/// What follows a convolution: `activation(result + residual)`.
#[derive(Clone, Debug, Default)]
pub struct Then {
    /// As the result.
    pub residual: Option<Tensor<4>>,
    /// The slopes of [`Activation::Prelu`], one for each channel of the result.
    pub slopes: Option<Tensor<1>>,
    /// The last step.
    pub activation: Activation,
}

impl From<Activation> for Then {
    fn from(activation: Activation) -> Self {
        Self {
            activation,
            ..Self::default()
        }
    }
}

impl Then {
    /// Applies it by itself.
    fn apply(self, y: Tensor<4>) -> Tensor<4> {
        self.expect(y.dims());
        let y = match self.residual {
            Some(residual) => add(y, residual),
            None => y,
        };
        match self.activation {
            Activation::Identity => y,
            Activation::Relu => leaky_relu(y, 0.0),
            Activation::LeakyRelu(slope) => leaky_relu(y, f64::from(slope)),
            Activation::Prelu => {
                let slopes = self.slopes.expect("PReLU needs slopes");
                activation::prelu(y, slopes)
            }
            Activation::Silu => activation::silu(y),
            Activation::Gelu => activation::gelu(y),
            Activation::Tanh => y.tanh(),
            Activation::Sigmoid => activation::sigmoid(y),
        }
    }

    fn expect(&self, shape: [usize; 4]) {
        if let Some(residual) = &self.residual {
            assert_eq!(residual.dims(), shape, "a residual has the result's shape");
        }
        match (&self.slopes, self.activation) {
            (Some(slopes), _) => {
                let [len] = slopes.dims();
                assert_eq!(len, shape[1], "slopes have one number for each channel");
            }
            (None, activation) => assert_ne!(activation, Activation::Prelu, "PReLU needs slopes"),
        }
    }

    fn cast(self, dtype: DType) -> Self {
        Self {
            residual: self.residual.map(|residual| residual.cast(dtype)),
            slopes: self.slopes.map(|slopes| slopes.cast(dtype)),
            activation: self.activation,
        }
    }

    /// Whether gradients may flow to the convolution or to what follows.
    pub(crate) fn tracked(
        &self,
        x: &Tensor<4>,
        weight: &Tensor<4>,
        bias: Option<&Tensor<1>>,
    ) -> bool {
        let vectors = [bias, self.slopes.as_ref()];
        let images = [Some(x), Some(weight), self.residual.as_ref()];
        vectors.into_iter().flatten().any(Tensor::is_autodiff)
            || images.into_iter().flatten().any(Tensor::is_autodiff)
    }

    fn types(&self) -> Vec<DType> {
        let residual = self.residual.as_ref().map(Tensor::dtype);
        let slopes = self.slopes.as_ref().map(Tensor::dtype);
        residual.into_iter().chain(slopes).collect()
    }
}

/// `[n, c, h, w], [k, c / groups, kh, kw] → [n, k, oh, ow]`,
/// `oh = (h + 2p − d(kh − 1) − 1)/s + 1`, or `⌈h/s⌉` with `keep_size`.
///
/// Images of `f16` or `bf16` are computed in `f32` and come back as they were.
///
/// # Panics
/// When the channels of `x`, weight and groups do not agree, the kernel is larger than the padded
/// image, or the size is kept of an image that has no zeros around it.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
) -> Tensor<4> {
    conv2d_then(x, weight, bias, options, Then::default())
}

/// [`conv2d`] and what follows it; in one pass where no gradient is wanted.
///
/// # Panics
/// As [`conv2d`], and when the residual does not have the result's shape.
pub fn conv2d_then(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
    then: Then,
) -> Tensor<4> {
    if let Some(dtype) = half(&x) {
        let [x, weight] = [x, weight].map(|tensor| tensor.cast(DType::F32));
        let bias = bias.map(|bias| bias.cast(DType::F32));
        return conv2d_then(x, weight, bias, options, then.cast(DType::F32)).cast(dtype);
    }
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
        edge,
        keep_size,
        ..
    } = options;
    assert!(
        !keep_size || edge == Edge::Zeros,
        "a convolution that keeps the size has zeros around its image"
    );
    let kernels = ours(&x, &types(&weight, bias.as_ref()));
    let gradients = then.tracked(&x, &weight, bias.as_ref());
    if edge != Edge::Zeros && (!kernels || gradients) {
        let x = pad(x, padding, edge);
        let options = ConvOptions {
            padding: [0; 2],
            edge: Edge::Zeros,
            ..options
        };
        return conv2d_then(x, weight, bias, options, then);
    }
    let g = geometry(x.dims(), &weight, options);
    let [oh, ow] = g.output;
    let [kh, kw] = g.kernel;
    operations::add(&[g.n, g.k, oh, ow, g.c / g.groups, kh, kw]);
    if !kernels {
        let options = BurnConvOptions::new(stride, padding, dilation, groups);
        let y = match keep_size {
            false => module::conv2d(x, weight, bias, options),
            true => module::conv2d(lengthen(x, &g), weight, bias, options)
                .narrow(2, 0, oh)
                .narrow(3, 0, ow),
        };
        return then.apply(y);
    }
    convolve(x, weight, bias, g, false, then)
}

/// `x` with zeros below and on the right, where the result of `g` reads beyond the padding.
fn lengthen(x: Tensor<4>, g: &Geometry) -> Tensor<4> {
    let device = x.device();
    let mut x = x;
    for axis in [0, 1] {
        let reach = g.dilation[axis] * (g.kernel[axis] - 1) + 1;
        let read = g.output[axis].saturating_sub(1) * g.stride[axis] + reach;
        let missing = read.saturating_sub(g.input[axis] + 2 * g.padding[axis]);
        if missing > 0 {
            let mut shape = x.dims();
            shape[2 + axis] = missing;
            let zeros = Tensor::<4>::zeros(shape, (&device, x.dtype()));
            x = Tensor::cat(vec![x, zeros], 2 + axis);
        }
    }
    x
}

/// The sizes of a convolution of images `[n, c, h, w]`.
pub(crate) fn geometry(
    [n, c, h, w]: [usize; 4],
    weight: &Tensor<4>,
    options: ConvOptions,
) -> Geometry {
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
        algorithm,
        edge,
        keep_size,
    } = options;
    let [k, depth, kh, kw] = weight.dims();
    expect_groups(c, groups, depth * groups, k, weight);
    expect_steps(stride, dilation, [kh, kw]);
    let output = match keep_size {
        true => Some([h.div_ceil(stride[0]), w.div_ceil(stride[1])]),
        false => Geometry::output_size([h, w], [kh, kw], stride, padding, dilation),
    };
    Geometry {
        n,
        input: [h, w],
        output: output.unwrap_or_else(|| {
            panic!("a kernel of {kh}×{kw} is larger than the padded image of {h}×{w}")
        }),
        c,
        k,
        kernel: [kh, kw],
        stride,
        padding,
        dilation,
        groups,
        algorithm,
        edge,
    }
}

/// `[n, k, h, w], [k, c / groups, kh, kw] → [n, c, oh, ow]`,
/// `oh = (h − 1)s − 2p + d(kh − 1) + out + 1`, where `out` is `padding_out`.
///
/// # Panics
/// When the channels of `x`, weight and groups do not agree, or the result would be empty.
pub fn conv_transpose2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
    padding_out: [usize; 2],
) -> Tensor<4> {
    conv_transpose2d_then(x, weight, bias, options, padding_out, Then::default())
}

/// [`conv_transpose2d`] and what follows it; in one pass where no gradient is wanted.
///
/// # Panics
/// As [`conv_transpose2d`], and when the residual does not have the result's shape.
pub fn conv_transpose2d_then(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
    padding_out: [usize; 2],
    then: Then,
) -> Tensor<4> {
    if let Some(dtype) = half(&x) {
        let [x, weight] = [x, weight].map(|tensor| tensor.cast(DType::F32));
        let bias = bias.map(|bias| bias.cast(DType::F32));
        let then = then.cast(DType::F32);
        return conv_transpose2d_then(x, weight, bias, options, padding_out, then).cast(dtype);
    }
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
        algorithm,
        edge,
        keep_size,
    } = options;
    assert_eq!(
        edge,
        Edge::Zeros,
        "a transposed convolution has zeros around its image"
    );
    assert!(
        !keep_size,
        "a transposed convolution does not keep the size"
    );
    let [rows, _, h, w] = x.dims();
    let [inputs, width, kh, kw] = weight.dims();
    operations::add(&[rows, inputs, width, h, w, kh, kw]);
    if !ours(&x, &types(&weight, bias.as_ref())) {
        let options = ConvTransposeOptions::new(stride, padding, padding_out, dilation, groups);
        return then.apply(module::conv_transpose2d(x, weight, bias, options));
    }
    let ([n, k, h, w], [inputs, width, kh, kw]) = (x.dims(), weight.dims());
    expect_groups(k, groups, inputs, k, &weight);
    expect_steps(stride, dilation, [kh, kw]);
    let side = |i: usize, size: usize, kernel: usize| {
        let steps = size.checked_sub(1)? * stride[i];
        let whole = steps + dilation[i] * (kernel - 1) + padding_out[i] + 1;
        whole.checked_sub(2 * padding[i]).filter(|side| *side > 0)
    };
    let (Some(height), Some(width_out)) = (side(0, h, kh), side(1, w, kw)) else {
        panic!("a padding of {padding:?} leaves nothing of an image of {h}×{w}")
    };
    let g = Geometry {
        n,
        input: [height, width_out],
        output: [h, w],
        c: width * groups,
        k,
        kernel: [kh, kw],
        stride,
        padding,
        dilation,
        groups,
        algorithm,
        edge,
    };
    convolve(x, weight, bias, g, true, then)
}

/// `x` with `padding` rows and columns around it.
///
/// # Panics
/// When an image has no more pixels than are reflected.
fn pad(x: Tensor<4>, padding: [usize; 2], edge: Edge) -> Tensor<4> {
    let [_, _, h, w] = x.dims();
    let device = x.device();
    let places = |size: usize, padding: usize| {
        assert!(
            size > padding || (edge == Edge::Replicate && size > 0),
            "an image of {h}×{w} cannot be continued by {padding} pixels"
        );
        let last = (size + padding) as isize;
        let places: Vec<i64> = (-(padding as isize)..last)
            .map(|at| edge.within(at, size) as i64)
            .collect();
        Tensor::<1, Int>::from_ints(&places[..], &device)
    };
    x.select(2, places(h, padding[0]))
        .select(3, places(w, padding[1]))
}

/// `channels` of the image are those the weight takes, and `outer`, its first axis, are divided.
fn expect_groups(channels: usize, groups: usize, takes: usize, outer: usize, weight: &Tensor<4>) {
    assert!(
        groups > 0 && channels == takes && outer.is_multiple_of(groups),
        "a weight {:?} with {groups} groups does not fit an image of {channels} channels",
        weight.dims()
    );
}

fn expect_steps(stride: [usize; 2], dilation: [usize; 2], [kh, kw]: [usize; 2]) {
    assert!(
        ![stride, dilation, [kh, kw]].concat().contains(&0),
        "a kernel of {kh}×{kw} with stride {stride:?} and dilation {dilation:?} has a zero"
    );
}

fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    g: Geometry,
    transposed: bool,
    then: Then,
) -> Tensor<4> {
    let shape = g.result(transposed);
    let device = x.device();
    let none = |len: usize| Tensor::<1>::zeros([len], (&device, DType::F32));
    let bias = bias.unwrap_or_else(|| none(shape[1]));
    let [len] = bias.dims();
    assert_eq!(len, shape[1], "a bias has one number for each channel");
    let gradients = then.tracked(&x, &weight, Some(&bias));
    let foreign = then.types().iter().any(|dtype| *dtype != DType::F32);
    if gradients || foreign {
        let y = Tensor::from_dispatch(Dispatch::convolve(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            g,
            transposed,
        ));
        return then.apply(y);
    }
    then.expect(shape);
    let how = door::Then {
        transposed,
        activation: then.activation,
        has_residual: then.residual.is_some(),
        has_slopes: then.slopes.is_some(),
    };
    let residual = then
        .residual
        .unwrap_or_else(|| Tensor::zeros([1; 4], (&device, DType::F32)));
    let slopes = then.slopes.unwrap_or_else(|| none(1));
    Tensor::from_dispatch(Dispatch::convolve_then(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        residual.into_dispatch(),
        slopes.into_dispatch(),
        g,
        how,
    ))
}

/// `x` where it is positive, else `slope · x`; slope 0 is ReLU.
pub fn leaky_relu(x: Tensor<4>, slope: f64) -> Tensor<4> {
    if !ours(&x, &[]) {
        return activation::leaky_relu(x, slope);
    }
    Tensor::from_dispatch(Dispatch::leak(x.into_dispatch(), slope as f32))
}

/// `tanh(a) · σ(b)` of the first and the second half of the channels: `[n, 2c, h, w] → [n, c, h, w]`.
///
/// # Panics
/// When the channels are not an even number.
pub fn gate(x: Tensor<4>) -> Tensor<4> {
    gate_of(x, First::Tanh)
}

/// `a · σ(b)` of the first and the second half of the channels: `[n, 2c, h, w] → [n, c, h, w]`.
///
/// # Panics
/// When the channels are not an even number.
pub fn linear_gate(x: Tensor<4>) -> Tensor<4> {
    gate_of(x, First::Linear)
}

fn gate_of(x: Tensor<4>, first: First) -> Tensor<4> {
    let [_, channels, _, _] = x.dims();
    assert!(
        channels > 0 && channels.is_multiple_of(2),
        "a gate has two halves"
    );
    if !ours(&x, &[]) {
        let half = channels / 2;
        let (a, b) = (x.clone().narrow(1, 0, half), x.narrow(1, half, half));
        let a = match first {
            First::Tanh => a.tanh(),
            First::Linear => a,
        };
        return a.mul(activation::sigmoid(b));
    }
    Tensor::from_dispatch(Dispatch::gate(x.into_dispatch(), first))
}

/// The exponential linear unit: `x` where positive, else `eˣ − 1`.
pub fn elu(x: Tensor<4>) -> Tensor<4> {
    if !ours(&x, &[]) {
        // The gradient of Burn's own is no number where eˣ is none.
        let below = x.clone().clamp_max(0.0).exp().sub_scalar(1.0);
        return activation::relu(x).add(below);
    }
    Tensor::from_dispatch(Dispatch::elu(x.into_dispatch(), false))
}

/// [`elu`] of `x` and of `−x`: `[n, c, h, w] → [n, 2c, h, w]`.
pub fn both_elu(x: Tensor<4>) -> Tensor<4> {
    if !ours(&x, &[]) {
        return Tensor::cat(vec![elu(x.clone()), elu(x.neg())], 1);
    }
    Tensor::from_dispatch(Dispatch::elu(x.into_dispatch(), true))
}

/// −log p(x) of independent Bernoulli variables with logits `l`: `softplus(l) − x·l`, number by
/// number, stable for any logit.
///
/// # Panics
/// When the two do not have the same shape.
pub fn bernoulli<const D: usize>(logits: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    assert_eq!(logits.dims(), x.dims(), "a logit for each variable");
    if !computed_here(&logits) || !computed_here(&x) {
        let softplus = activation::log_sigmoid(logits.clone().neg()).neg();
        return softplus.sub(x.mul(logits));
    }
    Tensor::from_dispatch(Dispatch::bernoulli(
        logits.into_dispatch(),
        x.into_dispatch(),
    ))
}

/// −log p of one of `k` values for each row of logits, `log Σ e^l − l_target`, in nats:
/// `[rows, k], [rows] → [rows]`. The targets are whole numbers below `k`; no gradient flows to them.
///
/// # Panics
/// When there is not one target for each row, or a target is no number below `k`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    assert_eq!(targets.dims(), [rows], "one target for each row of logits");
    if !computed_here(&logits) || !computed_here(&targets) {
        let targets = targets.int().reshape([rows, 1]);
        let own = activation::log_softmax(logits, 1).gather(1, targets);
        return own.reshape([rows]).neg();
    }
    Tensor::from_dispatch(Dispatch::cross_entropy(
        logits.into_dispatch(),
        targets.into_dispatch(),
    ))
}

/// Whether these kernels compute with `x`, of whatever shape.
fn computed_here<const D: usize>(x: &Tensor<D>) -> bool {
    on() && x.dtype() == DType::F32 && x.device().without_autodiff() == Device::flex()
}

/// `a + b` of two `[n, c, h, w]`, in the layout of a convolution's result.
///
/// # Panics
/// When the two do not have the same shape.
pub fn add(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    add_scaled(a, b, 1.0)
}

/// `a + factor · b` of two `[n, c, h, w]`, in the layout of a convolution's result.
///
/// # Panics
/// When the two do not have the same shape.
pub fn add_scaled(a: Tensor<4>, b: Tensor<4>, factor: f64) -> Tensor<4> {
    assert_eq!(a.dims(), b.dims(), "a sum is of images of one size");
    if !ours(&a, &[b.dtype()]) {
        let b = if factor == 1.0 {
            b
        } else {
            b.mul_scalar(factor)
        };
        return a.add(b);
    }
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::add(a, b, factor as f32))
}

/// `[n, c, h, w]` plus `[n, c]` at every pixel.
///
/// # Panics
/// When the two do not have the same images and channels.
pub fn add_to_pixels(x: Tensor<4>, each: Tensor<2>) -> Tensor<4> {
    let [n, c, _, _] = x.dims();
    assert_eq!(each.dims(), [n, c], "one number for each image and channel");
    if !ours(&x, &[each.dtype()]) {
        return x.add(each.reshape([n, c, 1, 1]));
    }
    Tensor::from_dispatch(Dispatch::add_to_pixels(
        x.into_dispatch(),
        each.into_dispatch(),
    ))
}

/// `[n, a, h, w], [n, b, h, w] → [n, a + b, h, w]`.
///
/// # Panics
/// When images or sizes differ, or one has no channels.
pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    if !ours(&a, &[b.dtype()]) {
        return Tensor::cat(vec![a, b], 1);
    }
    let ([n, _, h, w], [n_b, _, h_b, w_b]) = (a.dims(), b.dims());
    assert_eq!([n, h, w], [n_b, h_b, w_b], "images of one size are joined");
    Tensor::from_dispatch(Dispatch::concat(a.into_dispatch(), b.into_dispatch()))
}

/// Nearest-neighbour enlargement: `[n, c, h, w] → [n, c, factor · h, factor · w]`.
pub fn enlarge(x: Tensor<4>, factor: usize) -> Tensor<4> {
    if !ours(&x, &[]) {
        let [n, c, h, w] = x.dims();
        return x
            .reshape([n, c, h, 1, w, 1])
            .expand([n, c, h, factor, w, factor])
            .reshape([n, c, factor * h, factor * w]);
    }
    Tensor::from_dispatch(Dispatch::enlarge(x.into_dispatch(), factor))
}

/// Bilinear interpolation to another height and width, as PyTorch's
/// `interpolate(mode="bilinear", align_corners=False)`: `[n, c, h, w] → [n, c, to[0], to[1]]`.
///
/// # Panics
/// When an image without pixels is enlarged.
pub fn bilinear(x: Tensor<4>, to: [usize; 2]) -> Tensor<4> {
    if !ours(&x, &[]) {
        let options = InterpolateOptions::new(InterpolateMode::Bilinear);
        return module::interpolate(x, options.with_align_corners(false).with_output_size(to));
    }
    Tensor::from_dispatch(Dispatch::bilinear(x.into_dispatch(), to))
}

/// Channels to pixels, as PyTorch's `pixel_shuffle`: `[n, c·r², h, w] → [n, c, r·h, r·w]`.
///
/// # Panics
/// When r² does not divide the channels.
pub fn pixel_shuffle(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    assert!(
        r > 0 && c % (r * r) == 0,
        "{c} channels are not {r}×{r} pixels each"
    );
    if r == 1 {
        return x;
    }
    if !ours(&x, &[]) {
        let c = c / (r * r);
        let x = x.reshape([n, c, r, r, h, w]).permute([0, 1, 4, 2, 5, 3]);
        return x.reshape([n, c, h * r, w * r]);
    }
    Tensor::from_dispatch(Dispatch::shuffle(x.into_dispatch(), r, false))
}

/// Pixels to channels, as PyTorch's `pixel_unshuffle`: `[n, c, r·h, r·w] → [n, c·r², h, w]`.
///
/// # Panics
/// When r does not divide height and width.
pub fn pixel_unshuffle(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    assert!(
        r > 0 && h % r == 0 && w % r == 0,
        "an image of {h}×{w} does not consist of squares of {r}×{r} pixels"
    );
    if r == 1 {
        return x;
    }
    if !ours(&x, &[]) {
        let x = x
            .reshape([n, c, h / r, r, w / r, r])
            .permute([0, 1, 3, 5, 2, 4]);
        return x.reshape([n, c * r * r, h / r, w / r]);
    }
    Tensor::from_dispatch(Dispatch::shuffle(x.into_dispatch(), r, true))
}

/// The largest number or the mean of windows: `[n, c, h, w] → [n, c, oh, ow]`,
/// `oh = (h + 2p − k)/s + 1`.
///
/// # Panics
/// When the window is larger than the padded image, or more than half of it is padding.
pub fn pool2d(x: Tensor<4>, window: Window) -> Tensor<4> {
    if !ours(&x, &[]) || x.is_autodiff() {
        let Window {
            kernel,
            stride,
            padding,
            take,
        } = window;
        return match take {
            Take::Largest => {
                let options = MaxPoolOptions::new(kernel).with_stride(stride);
                module::max_pool2d(x, options.with_padding(padding))
            }
            Take::Mean => {
                let options = AvgPoolOptions::new(kernel).with_stride(stride);
                module::avg_pool2d(x, options.with_padding(padding))
            }
        };
    }
    Tensor::from_dispatch(Dispatch::pool(x.into_dispatch(), window))
}

/// Batch normalisation with given statistics, then leaky ReLU where a slope is given:
/// `[n, c, h, w]` and four times `[c]`. No gradient flows to mean and variance.
pub fn batch_norm(
    x: Tensor<4>,
    [mean, variance]: [Tensor<1>; 2],
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    slope: Option<f64>,
) -> Tensor<4> {
    expect_channels(&x, [&mean, &variance, &gamma, &beta]);
    if !ours(
        &x,
        &[mean.dtype(), variance.dtype(), gamma.dtype(), beta.dtype()],
    ) {
        let y = module::batch_norm(x, gamma, beta, mean, variance, epsilon);
        return slope.map_or(y.clone(), |slope| activation::leaky_relu(y, slope));
    }
    let options = Normalisation {
        epsilon: epsilon as f32,
        slope: slope.unwrap_or(1.0) as f32,
        of_batch: false,
    };
    normalise(x, [mean, variance], [gamma, beta], options)
}

/// What [`batch_norm_train`] gives.
#[derive(Clone, Debug)]
pub struct BatchNormResult {
    /// The normalised images, `[n, c, h, w]`.
    pub output: Tensor<4>,
    /// The batch's mean, `[c]`, without gradient.
    pub mean: Tensor<1>,
    /// The batch's biased variance, `[c]`, without gradient.
    pub variance: Tensor<1>,
}

/// Batch normalisation with the statistics of the batch, then leaky ReLU where a slope is given.
pub fn batch_norm_train(
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    slope: Option<f64>,
) -> BatchNormResult {
    expect_channels(&x, [&gamma, &beta]);
    if !ours(&x, &[gamma.dtype(), beta.dtype()]) {
        let result = module::batch_norm_train(x, gamma, beta, epsilon);
        return BatchNormResult {
            output: match slope {
                Some(slope) => activation::leaky_relu(result.output, slope),
                None => result.output,
            },
            mean: result.mean,
            variance: result.variance,
        };
    }
    let (mean, variance) = Dispatch::channel_moments(x.clone().into_dispatch());
    let (mean, variance) = (Tensor::from_dispatch(mean), Tensor::from_dispatch(variance));
    let options = Normalisation {
        epsilon: epsilon as f32,
        slope: slope.unwrap_or(1.0) as f32,
        of_batch: true,
    };
    BatchNormResult {
        output: normalise(x, [mean.clone(), variance.clone()], [gamma, beta], options),
        mean,
        variance,
    }
}

/// Group normalisation of `[n, c, h, w]` with gamma and beta `[c]`, and what follows: nothing, ReLU,
/// leaky ReLU or SiLU.
///
/// # Panics
/// When the groups do not divide the channels, and for any other activation.
pub fn group_norm(
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    options: GroupNormalisation,
) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let GroupNormalisation {
        groups, epsilon, ..
    } = options;
    assert!(
        groups > 0 && c > 0 && c % groups == 0,
        "{groups} groups do not divide {c} channels"
    );
    assert!(
        options.follows(),
        "{:?} does not follow a normalisation here",
        options.activation
    );
    expect_channels(&x, [&gamma, &beta]);
    if !ours(&x, &[gamma.dtype(), beta.dtype()]) {
        let flat = x.reshape([n, groups, c / groups * h * w]);
        let flat = flat.clone().sub(flat.mean_dim(2));
        let variance = flat.clone().square().mean_dim(2);
        let unit = flat.div(variance.add_scalar(epsilon).sqrt());
        let column = |t: Tensor<1>| t.reshape([1, c, 1, 1]);
        let y = unit
            .reshape([n, c, h, w])
            .mul(column(gamma))
            .add(column(beta));
        return Then::from(options.activation).apply(y);
    }
    Tensor::from_dispatch(Dispatch::group_normalise(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
}

/// One update of a parameter by Adam: the parameter, its first and its second moment, all `[len]`
/// and without gradients, in one pass over memory where these kernels serve.
pub fn adam(
    parameter: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    gradient: Tensor<1>,
    of: AdamUpdate,
) -> [Tensor<1>; 3] {
    if !serve(&[&parameter, &first, &second, &gradient]) {
        let AdamUpdate {
            beta1,
            beta2,
            epsilon,
            keep,
            rate,
            correction,
        } = of;
        let first = first
            .mul_scalar(beta1)
            .add(gradient.clone().mul_scalar(1.0 - beta1));
        let second = second
            .mul_scalar(beta2)
            .add(gradient.square().mul_scalar(1.0 - beta2));
        let root = second
            .clone()
            .div_scalar(correction)
            .sqrt()
            .add_scalar(epsilon);
        let change = first.clone().mul_scalar(rate).div(root);
        let parameter = parameter.mul_scalar(keep).sub(change);
        return [parameter, first, second];
    }
    let (parameter, first, second) = Dispatch::adam(
        parameter.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        gradient.into_dispatch(),
        of,
    );
    [parameter, first, second].map(Tensor::from_dispatch)
}

/// `decay · average + (1 − decay) · new` of two `[len]` without gradients.
pub fn mix(average: Tensor<1>, new: Tensor<1>, decay: f64) -> Tensor<1> {
    if !serve(&[&average, &new]) {
        return average.mul_scalar(decay).add(new.mul_scalar(1.0 - decay));
    }
    Tensor::from_dispatch(Dispatch::mix(
        average.into_dispatch(),
        new.into_dispatch(),
        decay,
    ))
}

/// Σ x² of `[len]` without gradients, `[1]`; it does not depend on the threads.
pub fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    if !serve(&[&x]) {
        // Burn's processor backend adds up four million numbers or more in an order that depends
        // on its threads, so more are added in parts.
        const PART: usize = 1 << 20;
        let parts = x.split(PART, 0).into_iter();
        let sums = parts.map(|part| part.square().sum());
        return sums.reduce(Tensor::add).expect("a tensor has parts");
    }
    Tensor::from_dispatch(Dispatch::sum_of_squares(x.into_dispatch()))
}

/// Whether these kernels compute with all of them, without gradients.
fn serve(all: &[&Tensor<1>]) -> bool {
    let kernels = |x: &&Tensor<1>| {
        on() && x.dtype() == DType::F32 && !x.is_autodiff() && x.device() == Device::flex()
    };
    all.iter().all(kernels)
}

fn normalise(
    x: Tensor<4>,
    [mean, variance]: [Tensor<1>; 2],
    [gamma, beta]: [Tensor<1>; 2],
    options: Normalisation,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::normalise(
        x.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
}
