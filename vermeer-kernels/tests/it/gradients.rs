//! The operations on Burn's tensors: gradients, layouts, and Burn's own results beside.

use burn::module::{Param, ParamId};
use burn::prelude::*;
use burn::tensor::ops::{
    ConvOptions as BurnConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions,
};
use burn::tensor::{DType, Gradients, TensorData, Tolerance, activation, module};
use vermeer_kernels::group_norm::{self as groups, GroupNormalisation};
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::{
    Activation, ConvOptions, Edge, Isa, Stack, Then, add, add_scaled, add_to_pixels, batch_norm,
    batch_norm_train, bernoulli, bilinear, concat, conv_transpose2d, conv2d, conv2d_then, enlarge,
    group_norm, leaky_relu, pixel_shuffle, pixel_unshuffle, pool2d,
};

use crate::numbers::Numbers;

pub(crate) fn tensor<const D: usize>(random: &mut Numbers, shape: [usize; D]) -> Tensor<D> {
    constant(random, shape).require_grad()
}

pub(crate) fn constant<const D: usize>(random: &mut Numbers, shape: [usize; D]) -> Tensor<D> {
    let values = random.signed(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
}

/// The same numbers with channels last in memory.
pub(crate) fn channels_last(x: Tensor<4>) -> Tensor<4> {
    let x = x.permute([0, 2, 3, 1]).mul_scalar(1.0);
    let [n, h, w, c] = x.dims();
    x.reshape([n, h, w * c])
        .reshape([n, h, w, c])
        .permute([0, 3, 1, 2])
}

pub(crate) fn same(a: TensorData, b: TensorData) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-4, 1e-4));
}

/// The gradient of Σ y · factor, ours and theirs.
pub(crate) fn gradients(ours: Tensor<4>, theirs: Tensor<4>, factor: &Tensor<4>) -> [Gradients; 2] {
    [ours, theirs].map(|y| y.mul(factor.clone()).sum().backward())
}

pub(crate) fn same_gradient<const D: usize>([ours, theirs]: &[Gradients; 2], of: &Tensor<D>) {
    let gradient = |of_all| of.grad(of_all).expect("a gradient").into_data();
    same(gradient(ours), gradient(theirs));
}

#[test]
fn convolutions_and_gradients_are_those_of_burn() {
    let mut random = Numbers(6);
    for (c, k, kernel, stride, padding, groups) in [
        (3, 20, 3, 1, 1, 1),
        (20, 6, 4, 2, 1, 2),
        (5, 1, 4, 1, 0, 1),
        (32, 40, 1, 2, 0, 4),
    ] {
        let options = ConvOptions {
            stride: [stride; 2],
            padding: [padding; 2],
            groups,
            ..ConvOptions::default()
        };
        let x = tensor(&mut random, [2, c, 7, 6]);
        let w = tensor(&mut random, [k, c / groups, kernel, kernel]);
        let b = tensor(&mut random, [k]);
        let burn_options = BurnConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
        for last in [false, true] {
            let burn_options = burn_options.clone();
            let theirs = module::conv2d(x.clone(), w.clone(), Some(b.clone()), burn_options);
            let factor = constant(&mut random, theirs.dims());
            let input = if last {
                channels_last(x.clone())
            } else {
                x.clone()
            };
            let ours = conv2d(input, w.clone(), Some(b.clone()), options);
            same(ours.to_data(), theirs.to_data());
            let both = gradients(ours, theirs, &factor);
            same_gradient(&both, &x);
            same_gradient(&both, &w);
            same_gradient(&both, &b);
        }

        let x = tensor(&mut random, [2, k, 4, 5]);
        let b = tensor(&mut random, [c]);
        let out = [stride - 1, 0];
        let burn_options =
            ConvTransposeOptions::new([stride; 2], [padding; 2], out, [1; 2], groups);
        let theirs = module::conv_transpose2d(x.clone(), w.clone(), Some(b.clone()), burn_options);
        let ours = conv_transpose2d(x.clone(), w.clone(), Some(b.clone()), options, out);
        same(ours.to_data(), theirs.to_data());
        let factor = constant(&mut random, theirs.dims());
        let both = gradients(ours, theirs, &factor);
        same_gradient(&both, &x);
        same_gradient(&both, &w);
        same_gradient(&both, &b);
    }
}

#[test]
fn batch_normalisation_is_that_of_burn() {
    let mut random = Numbers(7);
    let x = tensor(&mut random, [3, 5, 4, 6]);
    let (gamma, beta) = (tensor(&mut random, [5]), tensor(&mut random, [5]));
    let theirs = module::batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5);
    let ours = batch_norm_train(x.clone(), [gamma.clone(), beta.clone()], 1e-5, None);
    same(ours.output.to_data(), theirs.output.to_data());
    same(ours.mean.to_data(), theirs.mean.to_data());
    same(ours.variance.to_data(), theirs.variance.to_data());
    let factor = constant(&mut random, x.dims());
    let both = gradients(ours.output, theirs.output, &factor);
    same_gradient(&both, &x);
    same_gradient(&both, &gamma);
    same_gradient(&both, &beta);

    let still = [constant(&mut random, [5]), constant(&mut random, [5]).abs()];
    let burn = |x: Tensor<4>| {
        let [mean, variance] = still.clone();
        module::batch_norm(x, gamma.clone(), beta.clone(), mean, variance, 1e-5)
    };
    let ours = batch_norm(
        x.clone(),
        still.clone(),
        [gamma.clone(), beta.clone()],
        1e-5,
        None,
    );
    let theirs = burn(x.clone());
    same(ours.to_data(), theirs.to_data());
    let both = gradients(ours, theirs, &factor);
    same_gradient(&both, &x);
    same_gradient(&both, &gamma);
}

#[test]
fn a_fused_leaky_relu_is_the_one_behind() {
    let mut random = Numbers(8);
    let x = tensor(&mut random, [2, 3, 5, 4]);
    let (gamma, beta) = (tensor(&mut random, [3]), tensor(&mut random, [3]));
    let with = [gamma.clone(), beta.clone()];
    let fused = batch_norm_train(x.clone(), with.clone(), 1e-5, Some(0.2)).output;
    let apart = leaky_relu(batch_norm_train(x.clone(), with, 1e-5, None).output, 0.2);
    same(fused.to_data(), apart.to_data());
    let factor = constant(&mut random, x.dims());
    let both = gradients(fused, apart, &factor);
    same_gradient(&both, &x);
    same_gradient(&both, &beta);
}

#[test]
fn a_gradient_flows_where_it_is_asked_for_only() {
    let mut random = Numbers(9);
    let x = tensor(&mut random, [1, 4, 5, 5]);
    let w = constant(&mut random, [6, 4, 3, 3]);
    let gradients = conv2d(x.clone(), w.clone(), None, ConvOptions::default())
        .sum()
        .backward();
    assert!(x.grad(&gradients).is_some() && w.grad(&gradients).is_none());
    let plain = conv2d(x.inner(), w.inner(), None, ConvOptions::default());
    assert!(!plain.device().is_autodiff());
}

#[test]
#[should_panic(expected = "does not fit an image of 3 channels")]
fn channels_that_do_not_fit_are_said() {
    let mut random = Numbers(10);
    let (x, w) = (
        tensor(&mut random, [1, 3, 5, 5]),
        tensor(&mut random, [6, 4, 3, 3]),
    );
    conv2d(x, w, None, ConvOptions::default());
}

#[test]
fn group_normalisation_is_that_of_burn() {
    let mut random = Numbers(11);
    for (n, c, groups, side, then) in [
        (2, 6, 3, 5, Activation::Identity),
        (3, 32, 8, 4, Activation::Silu),
        (1, 5, 1, 20, Activation::Silu),
        (2, 4, 4, 3, Activation::Relu),
    ] {
        let options = GroupNormalisation {
            groups,
            epsilon: 1e-5,
            activation: then,
        };
        let x = tensor(&mut random, [n, c, side, side]);
        let (gamma, beta) = (tensor(&mut random, [c]), tensor(&mut random, [c]));
        let layer = burn::nn::GroupNormConfig::new(groups, c).init(&x.device());
        let layer = burn::nn::GroupNorm {
            gamma: Some(Param::initialized(ParamId::new(), gamma.clone())),
            beta: Some(Param::initialized(ParamId::new(), beta.clone())),
            ..layer
        };
        let theirs = layer.forward(x.clone());
        let theirs = match then {
            Activation::Silu => activation::silu(theirs),
            Activation::Relu => activation::relu(theirs),
            _ => theirs,
        };
        let input = channels_last(x.clone());
        let ours = group_norm(input, [gamma.clone(), beta.clone()], options);
        same(ours.to_data(), theirs.to_data());
        let factor = constant(&mut random, x.dims());
        let both = gradients(ours, theirs, &factor);
        same_gradient(&both, &x);
        same_gradient(&both, &gamma);
        same_gradient(&both, &beta);
    }
}

#[test]
fn an_image_is_normalised_whatever_its_company() {
    let mut random = Numbers(12);
    let options = GroupNormalisation {
        groups: 4,
        epsilon: 1e-5,
        activation: Activation::Silu,
    };
    let x = constant(&mut random, [7, 8, 6, 5]).inner();
    let [gamma, beta] = [0, 1].map(|_| constant(&mut random, [8]).inner());
    let all = group_norm(x.clone(), [gamma.clone(), beta.clone()], options);
    let one = group_norm(x.narrow(0, 3, 1), [gamma, beta], options);
    one.into_data()
        .assert_eq(&all.narrow(0, 3, 1).into_data(), true);
}

#[test]
fn an_image_that_threads_share_is_normalised_as_by_one() {
    let mut random = Numbers(17);
    let options = GroupNormalisation {
        groups: 4,
        epsilon: 1e-5,
        activation: Activation::Silu,
    };
    let x = random.signed(1000 * 12);
    let gradient = random.signed(x.len());
    let (gamma, beta) = (random.signed(12), random.signed(12));
    let isa = Isa::current();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            (
                groups::group_norm(isa, &x, 1, [&gamma, &beta], options),
                groups::group_norm_backward(isa, &gradient, &x, 1, [&gamma, &beta], options),
            )
        })
    };
    assert!(with(1) == with(2) && with(1) == with(5));
}

#[test]
fn a_stack_is_what_its_layers_make_joined() {
    let mut random = Numbers(18);
    let mut conv = |c: usize, k: usize| Conv2d {
        weight: Param::initialized(ParamId::new(), constant(&mut random, [k, c, 3, 3]).inner()),
        bias: Some(Param::initialized(
            ParamId::new(),
            constant(&mut random, [k]).inner(),
        )),
        options: ConvOptions {
            padding: [1; 2],
            ..ConvOptions::default()
        },
    };
    let (first, second, beside) = (conv(20, 24), conv(44, 5), conv(20, 3));
    let x = constant(&mut random, [2, 20, 7, 6]);
    let then = Activation::LeakyRelu(0.2);
    let joined = |x: Tensor<4>| {
        let all = concat(x.clone(), first.forward_then(x.clone(), then));
        let all = concat(all.clone(), second.forward_then(all, then));
        concat(concat(all, x.clone()), beside.forward_then(x, then))
    };
    let stacked = |x: Tensor<4>, stack: Stack| {
        let stack = stack.push(x.clone()).grow(&first, then);
        let stack = stack.grow(&second, then).push(x.clone());
        stack.push_conv(&beside, x, then)
    };
    let empty = || Stack::new([2, 72, 7, 6]);
    let expected = joined(x.clone().inner());
    let stack = stacked(x.clone().inner(), empty());
    same(stack.images().to_data(), expected.to_data());
    // What was taken out before stays as it was when the memory is used again.
    let before = stack.images();
    let other = constant(&mut random, [2, 20, 7, 6]).inner();
    let again = stacked(other.clone(), stack.clear());
    same(again.images().to_data(), joined(other).to_data());
    same(before.to_data(), expected.to_data());
    // Not full.
    let part = empty().push(x.clone().inner()).grow(&first, then).images();
    same(part.to_data(), expected.clone().narrow(1, 0, 44).to_data());
    // With gradients.
    let x = x.require_grad();
    let ours = stacked(x.clone(), empty()).images();
    same(ours.to_data(), expected.to_data());
    let factor = constant(&mut random, ours.dims());
    let both = gradients(ours, joined(x.clone()), &factor);
    same_gradient(&both, &x);
}

#[test]
fn half_numbers_are_computed_in_whole_ones() {
    let mut random = Numbers(19);
    let x = constant(&mut random, [2, 20, 6, 5]).inner();
    let weight = constant(&mut random, [24, 20, 3, 3]).inner();
    let (bias, residual) = (
        constant(&mut random, [24]).inner(),
        constant(&mut random, [2, 24, 4, 3]).inner(),
    );
    // A result is rounded once, to 11 or 8 digits.
    for (dtype, digits) in [(DType::F16, 11), (DType::BF16, 8)] {
        let half = |x: &Tensor<4>| x.clone().cast(dtype);
        let whole = |x: &Tensor<4>| half(x).cast(DType::F32);
        let (narrow, wide) = (bias.clone().cast(dtype), bias.clone().cast(dtype));
        let then = |residual: Tensor<4>| Then {
            residual: Some(residual),
            activation: Activation::Relu,
            ..Then::default()
        };
        let options = ConvOptions::default();
        let found = conv2d_then(
            half(&x),
            half(&weight),
            Some(narrow),
            options,
            then(half(&residual)),
        );
        assert_eq!(found.dtype(), dtype);
        let expected = conv2d_then(
            whole(&x),
            whole(&weight),
            Some(wide.cast(DType::F32)),
            options,
            then(whole(&residual)),
        );
        let gap = 2f64.powi(-digits);
        found
            .cast(DType::F32)
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(gap, 1e-6));
    }
}

#[test]
fn images_are_interpolated_as_in_pytorch() {
    // torch.nn.functional.interpolate of PyTorch's own example, align_corners=False.
    let x = Tensor::<4>::from_data([[[[1.0, 2.0], [3.0, 4.0]]]], &Device::flex());
    let expected = [
        [1.0, 1.25, 1.75, 2.0],
        [1.5, 1.75, 2.25, 2.5],
        [2.5, 2.75, 3.25, 3.5],
        [3.0, 3.25, 3.75, 4.0],
    ];
    let data = TensorData::from([[expected]]);
    bilinear(x, [4, 4])
        .into_data()
        .assert_approx_eq::<f32>(&data, Tolerance::absolute(1e-6));
    let mut random = Numbers(20);
    for (from, to) in [([5, 7], [9, 14]), ([8, 6], [3, 6]), ([1, 4], [5, 1])] {
        let x = tensor(&mut random, [2, 3, from[0], from[1]]);
        let options = InterpolateOptions::new(InterpolateMode::Bilinear);
        let options = options.with_align_corners(false).with_output_size(to);
        let theirs = module::interpolate(x.clone().inner(), options);
        let ours = bilinear(channels_last(x.clone()), to);
        same(ours.to_data(), theirs.to_data());
        // The transpose of the same map: <Ax, y> = <x, Aᵀy>.
        let factor = constant(&mut random, ours.dims());
        let whole = ours.clone().mul(factor.clone()).sum();
        let gradients = whole.backward();
        let back = x.grad(&gradients).expect("a gradient");
        let product = back.mul(x.inner()).sum().into_scalar::<f32>();
        let expected = whole.inner().into_scalar::<f32>();
        assert!((product - expected).abs() < 1e-4 * expected.abs().max(1.0));
    }
}

#[test]
#[should_panic(expected = "do not fit a stack")]
fn a_stack_has_room_for_what_was_said() {
    let x = Tensor::zeros([1, 3, 4, 4], &Device::flex());
    let _ = Stack::new([1, 5, 4, 4]).push(x.clone()).push(x);
}

#[test]
fn a_tail_is_the_same_with_gradients_and_without() {
    let mut random = Numbers(15);
    let x = tensor(&mut random, [2, 20, 6, 7]);
    let (w, b) = (
        tensor(&mut random, [24, 20, 3, 3]),
        tensor(&mut random, [24]),
    );
    let (residual, slopes) = (
        tensor(&mut random, [2, 24, 6, 7]),
        tensor(&mut random, [24]),
    );
    let options = ConvOptions {
        padding: [1; 2],
        ..ConvOptions::default()
    };
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Prelu,
        Activation::Silu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        let then = |f: fn(Tensor<4>) -> Tensor<4>, s: Tensor<1>| Then {
            residual: Some(f(residual.clone())),
            slopes: Some(s),
            activation,
        };
        let with = then(|x| x, slopes.clone());
        let apart = conv2d_then(x.clone(), w.clone(), Some(b.clone()), options, with);
        let with = then(Tensor::inner, slopes.clone().inner());
        let (x, w, b) = (x.clone().inner(), w.clone().inner(), b.clone().inner());
        // The second time the packed weights are those of the first.
        for _ in 0..2 {
            let fused = conv2d_then(x.clone(), w.clone(), Some(b.clone()), options, with.clone());
            same(fused.to_data(), apart.to_data());
        }
    }
}

#[test]
fn gradients_reach_what_follows() {
    let mut random = Numbers(24);
    let x = constant(&mut random, [2, 5, 6, 7]).inner();
    let w = constant(&mut random, [4, 5, 3, 3]).inner();
    let (residual, slopes) = (tensor(&mut random, [2, 4, 4, 5]), tensor(&mut random, [4]));
    let then = Then {
        residual: Some(residual.clone()),
        slopes: Some(slopes.clone()),
        activation: Activation::Prelu,
    };
    // Only what follows has gradients.
    let up = |x: Tensor<4>| Tensor::from_inner(x);
    let y = conv2d(up(x.clone()), up(w.clone()), None, ConvOptions::default());
    let theirs = activation::prelu(y.add(residual.clone()), slopes.clone());
    let ours = conv2d_then(up(x), up(w), None, ConvOptions::default(), then);
    same(ours.to_data(), theirs.to_data());
    let factor = constant(&mut random, [2, 4, 4, 5]);
    let both = gradients(ours, theirs, &factor);
    same_gradient(&both, &residual);
    same_gradient(&both, &slopes);
}

#[test]
fn packed_weights_are_forgotten_with_the_weights() {
    let device = Device::flex();
    let x = Tensor::<4>::ones([1, 16, 5, 5], &device);
    let of = |w: Tensor<4>| conv2d(x.clone(), w, None, ConvOptions::default()).into_data();
    for i in 1..50 {
        // Storage that was freed is likely to be taken again, and numbers change in place.
        let w = Tensor::<4>::ones([16, 16, 3, 3], &device).mul_scalar(i as f32);
        let first = of(w.clone());
        let second = of(w.mul_scalar(2.0));
        let expected = |factor: f32| TensorData::new(vec![144.0 * factor; 16 * 9], [1, 16, 3, 3]);
        same(first, expected(i as f32));
        same(second, expected(2.0 * i as f32));
    }
}

#[test]
fn packed_weights_serve_them_as_they_lie_only() {
    let mut random = Numbers(33);
    let x = constant(&mut random, [1, 16, 5, 5]).inner();
    let weight = constant(&mut random, [16, 16, 3, 3]).inner();
    for turned in [
        weight.clone().swap_dims(0, 1),
        weight.clone().swap_dims(2, 3),
    ] {
        let options = ConvOptions::default();
        let _kept = conv2d(x.clone(), weight.clone(), None, options);
        let found = conv2d(x.clone(), turned.clone(), None, options);
        let copy = Tensor::<4>::from_data(turned.into_data(), &x.device());
        let expected = conv2d(x.clone(), copy, None, options);
        found.into_data().assert_eq(&expected.into_data(), true);
    }
}

#[test]
fn channels_become_pixels_as_in_pytorch() {
    // torch 2.11: pixel_unshuffle(arange(8).reshape(1, 1, 2, 4), 2)
    let device = Device::flex().autodiff();
    let x = Tensor::<1, Int>::arange(0..8, &device).float();
    let x = x.reshape([1, 1, 2, 4]);
    let folded = pixel_unshuffle(x.clone(), 2);
    let expected = vec![0.0f32, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
    same(folded.to_data(), TensorData::new(expected, [1, 4, 1, 2]));
    same(pixel_shuffle(folded, 2).into_data(), x.into_data());

    let mut random = Numbers(16);
    let x = tensor(&mut random, [2, 18, 4, 5]);
    let theirs = x
        .clone()
        .reshape([2, 2, 3, 3, 4, 5])
        .permute([0, 1, 4, 2, 5, 3]);
    let theirs = theirs.reshape([2, 2, 12, 15]);
    let ours = pixel_shuffle(channels_last(x.clone()), 3);
    same(ours.to_data(), theirs.to_data());
    let factor = constant(&mut random, [2, 2, 12, 15]);
    same_gradient(&gradients(ours, theirs, &factor), &x);
    same(
        pixel_unshuffle(pixel_shuffle(x.clone(), 3), 3).into_data(),
        x.into_data(),
    );
}

#[test]
fn edges_continue_the_image() {
    // torch 2.11: pad(arange(3).reshape(1, 1, 1, 3), (2, 2), mode)
    let device = Device::flex();
    let row = Tensor::<1, Int>::arange(0..3, &device)
        .float()
        .reshape([1, 1, 1, 3]);
    let one = Tensor::<4>::ones([1, 1, 1, 1], &device);
    for (edge, expected) in [
        (Edge::Reflect, [2.0f32, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]),
        (Edge::Replicate, [0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0]),
        (Edge::Zeros, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]),
    ] {
        let options = ConvOptions {
            padding: [0, 2],
            edge,
            ..ConvOptions::default()
        };
        let y = conv2d(row.clone(), one.clone(), None, options);
        same(
            y.into_data(),
            TensorData::new(expected.to_vec(), [1, 1, 1, 7]),
        );
    }
    // Gradients to the bias alone pass an edge, too.
    let bias = tensor(&mut Numbers(25), [1]);
    let options = ConvOptions {
        padding: [0, 2],
        edge: Edge::Reflect,
        ..ConvOptions::default()
    };
    let up = |x: &Tensor<4>| Tensor::from_inner(x.clone());
    let y = conv2d(up(&row), up(&one), Some(bias.clone()), options);
    let gradient = bias.grad(&y.sum().backward()).expect("a gradient");
    same(gradient.into_data(), TensorData::from([7.0f32]));
    // Without gradients the edge is fused, with them it is copied first.
    let mut random = Numbers(17);
    for (c, kernel, stride, h, w) in [
        (20, 3, 1, 9, 11),
        (20, 3, 1, 2, 3),
        (20, 4, 2, 9, 11),
        (5, 9, 1, 9, 11),
        (18, 3, 2, 9, 11),
    ] {
        for edge in [Edge::Reflect, Edge::Replicate] {
            let x = tensor(&mut random, [2, c, h, w]);
            let w = tensor(&mut random, [24, c, kernel, kernel]);
            let options = ConvOptions {
                stride: [stride; 2],
                padding: [kernel / 2; 2],
                edge,
                ..ConvOptions::default()
            };
            let apart = conv2d(x.clone(), w.clone(), None, options);
            let fused = conv2d(x.inner(), w.inner(), None, options);
            same(fused.into_data(), apart.into_data());
        }
    }
}

#[test]
fn windows_are_pooled_as_burn_pools_them() {
    let mut random = Numbers(18);
    for (kernel, stride, padding) in [(3, 2, 0), (3, 1, 1), (2, 2, 0), (5, 3, 2)] {
        for take in [Take::Largest, Take::Mean] {
            let x = tensor(&mut random, [2, 5, 9, 8]);
            let window = Window {
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                take,
            };
            let theirs = pool2d(x.clone(), window);
            let ours = pool2d(channels_last(x.inner()), window);
            same(ours.into_data(), theirs.into_data());
        }
    }
}

#[test]
fn bernoulli_losses_are_those_of_burn() {
    let mut random = Numbers(19);
    let logits = tensor(&mut random, [3, 1, 9, 8]);
    let x = tensor(&mut random, [3, 1, 9, 8]);
    let wide = || logits.clone().mul_scalar(30.0);
    let share = || x.clone().abs();
    let theirs = activation::log_sigmoid(wide().neg()).neg();
    let theirs = theirs.sub(share().mul(wide()));
    let ours = bernoulli(wide(), share());
    same(ours.to_data(), theirs.to_data());
    let factor = constant(&mut random, [3, 1, 9, 8]);
    let both = gradients(ours, theirs, &factor);
    same_gradient(&both, &logits);
    same_gradient(&both, &x);
    let far = Tensor::<1>::from_floats([-1e30, 1e30, 0.0], &Device::flex());
    let ones = Tensor::<1>::from_floats([0.0, 1.0, 0.5], &Device::flex());
    let expected = TensorData::from([0.0f32, 0.0, std::f32::consts::LN_2]);
    same(bernoulli(far, ones).into_data(), expected);
}

#[test]
fn branches_are_joined_as_burn_joins_them() {
    let mut random = Numbers(13);
    for (n, from_a, from_b, h, w) in [(2, 3, 5, 4, 6), (1, 16, 16, 1, 1), (3, 40, 1, 9, 7)] {
        let a = tensor(&mut random, [n, from_a, h, w]);
        let b = tensor(&mut random, [n, from_b, h, w]);
        let other = tensor(&mut random, [n, from_a, h, w]);
        let each = tensor(&mut random, [n, from_a]);
        for last in [false, true] {
            let layout = |x: &Tensor<4>| match last {
                true => channels_last(x.clone()),
                false => x.clone(),
            };
            let spread = each.clone().reshape([n, from_a, 1, 1]);
            let shape = [n, from_a, h, 1, w, 1];
            let copies = a.clone().reshape(shape).expand([n, from_a, h, 3, w, 3]);
            let pairs = [
                (add(layout(&a), other.clone()), a.clone().add(other.clone())),
                (
                    add_scaled(layout(&a), other.clone(), 0.2),
                    a.clone().add(other.clone().mul_scalar(0.2)),
                ),
                (
                    add_to_pixels(layout(&a), each.clone()),
                    a.clone().add(spread),
                ),
                (
                    concat(layout(&a), layout(&b)),
                    Tensor::cat(vec![a.clone(), b.clone()], 1),
                ),
                (
                    enlarge(layout(&a), 3),
                    copies.reshape([n, from_a, 3 * h, 3 * w]),
                ),
            ];
            for (i, (ours, theirs)) in pairs.into_iter().enumerate() {
                same(ours.to_data(), theirs.to_data());
                let factor = constant(&mut random, theirs.dims());
                let both = gradients(ours, theirs, &factor);
                same_gradient(&both, &a);
                match i {
                    0 | 1 => same_gradient(&both, &other),
                    2 => same_gradient(&both, &each),
                    3 => same_gradient(&both, &b),
                    _ => (),
                }
            }
        }
    }
}
