//! The operations on Burn's tensors: these kernels where they apply, else Burn's own.

use std::sync::OnceLock;

use burn::backend::Dispatch;
use burn::prelude::*;
use burn::tensor::ops::{ConvOptions as BurnConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, activation, module};

use crate::conv::{Algorithm, Geometry};
use crate::door::Door;
use crate::group_norm::GroupNormalisation;
use crate::norm::Normalisation;

/// The environment variable that switches these kernels off: `VERMEER_KERNELS=burn`.
pub const KERNELS_VARIABLE: &str = "VERMEER_KERNELS";

/// Whether these kernels compute with `x` and numbers of the types of `others`.
fn ours(x: &Tensor<4>, others: &[DType]) -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    let on = *ON.get_or_init(|| match std::env::var(KERNELS_VARIABLE).as_deref() {
        Ok("burn") => false,
        Ok("vermeer") | Err(_) => true,
        Ok(other) => panic!("{KERNELS_VARIABLE}={other}: it is `vermeer` or `burn`"),
    });
    on && x.dtype() == DType::F32
        && others.iter().all(|dtype| *dtype == DType::F32)
        && x.device().without_autodiff() == Device::flex()
}

fn types(weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> Vec<DType> {
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
    /// Zeros around the input.
    pub padding: [usize; 2],
    /// Distance of the kernel's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// How it is computed.
    pub algorithm: Algorithm,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            algorithm: Algorithm::Auto,
        }
    }
}

/// `[n, c, h, w], [k, c / groups, kh, kw] → [n, k, oh, ow]`,
/// `oh = (h + 2p − d(kh − 1) − 1)/s + 1`.
///
/// # Panics
/// When the channels of `x`, weight and groups do not agree, or the kernel is larger than the
/// padded image.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
) -> Tensor<4> {
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
        algorithm,
    } = options;
    if !ours(&x, &types(&weight, bias.as_ref())) {
        let options = BurnConvOptions::new(stride, padding, dilation, groups);
        return module::conv2d(x, weight, bias, options);
    }
    let ([n, c, h, w], [k, depth, kh, kw]) = (x.dims(), weight.dims());
    assert!(
        groups > 0 && c == depth * groups && k % groups == 0,
        "a weight {:?} with {groups} groups does not fit an image of {c} channels",
        weight.dims()
    );
    let steps = [stride, dilation, [kh, kw]].concat();
    assert!(
        !steps.contains(&0),
        "a kernel of {kh}×{kw} with stride {stride:?} and dilation {dilation:?} has a zero"
    );
    let output = Geometry::output_size([h, w], [kh, kw], stride, padding, dilation);
    let g = Geometry {
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
    };
    convolve(x, weight, bias, g, false)
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
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
        algorithm,
    } = options;
    if !ours(&x, &types(&weight, bias.as_ref())) {
        let options = ConvTransposeOptions::new(stride, padding, padding_out, dilation, groups);
        return module::conv_transpose2d(x, weight, bias, options);
    }
    let ([n, k, h, w], [inputs, width, kh, kw]) = (x.dims(), weight.dims());
    assert!(
        groups > 0 && k == inputs && k % groups == 0,
        "a weight {:?} with {groups} groups does not fit an image of {k} channels",
        weight.dims()
    );
    let sizes = [stride, dilation, [h, w], [kh, kw]].concat();
    assert!(
        !sizes.contains(&0),
        "an image of {h}×{w} cannot be enlarged by a kernel of {kh}×{kw}, stride {stride:?}, dilation {dilation:?}"
    );
    let side = |i: usize, size: usize, kernel: usize| {
        let whole = (size - 1) * stride[i] + dilation[i] * (kernel - 1) + padding_out[i] + 1;
        whole.checked_sub(2 * padding[i]).filter(|side| *side > 0)
    };
    let (Some(height), Some(width_out)) = (side(0, h, kh), side(1, w, kw)) else {
        panic!("a padding of {padding:?} leaves nothing of an image of {h}×{w}")
    };
    let c = width * groups;
    let g = Geometry {
        n,
        input: [height, width_out],
        output: [h, w],
        c,
        k,
        kernel: [kh, kw],
        stride,
        padding,
        dilation,
        groups,
        algorithm,
    };
    convolve(x, weight, bias, g, true)
}

fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    g: Geometry,
    transposed: bool,
) -> Tensor<4> {
    let channels = if transposed { g.c } else { g.k };
    let bias = bias.unwrap_or_else(|| Tensor::zeros([channels], (&x.device(), DType::F32)));
    let [len] = bias.dims();
    assert_eq!(len, channels, "a bias has one number for each channel");
    Tensor::from_dispatch(Dispatch::convolve(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        g,
        transposed,
    ))
}

/// `x` where it is positive, else `slope · x`; slope 0 is ReLU.
pub fn leaky_relu(x: Tensor<4>, slope: f64) -> Tensor<4> {
    if !ours(&x, &[]) {
        return activation::leaky_relu(x, slope);
    }
    Tensor::from_dispatch(Dispatch::leak(x.into_dispatch(), slope as f32))
}

/// `a + b` of two `[n, c, h, w]`, in the layout of a convolution's result.
///
/// # Panics
/// When the two do not have the same shape.
pub fn add(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    if !ours(&a, &[b.dtype()]) {
        return a.add(b);
    }
    assert_eq!(a.dims(), b.dims(), "a sum is of images of one size");
    Tensor::from_dispatch(Dispatch::add(a.into_dispatch(), b.into_dispatch()))
}

/// `[n, c, h, w]` plus `[n, c]` at every pixel.
///
/// # Panics
/// When the two do not have the same images and channels.
pub fn add_to_pixels(x: Tensor<4>, each: Tensor<2>) -> Tensor<4> {
    let [n, c, _, _] = x.dims();
    if !ours(&x, &[each.dtype()]) {
        return x.add(each.reshape([n, c, 1, 1]));
    }
    assert_eq!(each.dims(), [n, c], "one number for each image and channel");
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

/// Group normalisation of `[n, c, h, w]` with gamma and beta `[c]`, then SiLU where asked for.
///
/// # Panics
/// When the groups do not divide the channels.
pub fn group_norm(
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    options: GroupNormalisation,
) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let GroupNormalisation {
        groups,
        epsilon,
        silu,
    } = options;
    assert!(
        groups > 0 && c > 0 && c % groups == 0,
        "{groups} groups do not divide {c} channels"
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
        return if silu { activation::silu(y) } else { y };
    }
    Tensor::from_dispatch(Dispatch::group_normalise(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        options,
    ))
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
