//! The operations as a Burn backend extension, with their gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::Isa;
use crate::conv::{self, Geometry};
use crate::flex::{Pixels, dims, from_pixels, from_rows, rows};
use crate::group_norm::{self, GroupNormalisation};
use crate::norm::{self, Channels, Normalisation};

/// What tensors of this crate are computed with; `g` gives every size, so shapes are checked
/// before it is made.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Door: Backend {
    /// `[n, c, h, w], [k, c / groups, kh, kw], [k] → [n, k, oh, ow]`.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
    ) -> FloatTensor<Self>;

    /// `[n, k, oh, ow], [k, c / groups, kh, kw], [c] → [n, c, h, w]`.
    fn convolve_transposed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
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
}

/// The gradients, which need no gradients of their own.
trait Back: Door {
    fn weight_gradient(
        input: FloatTensor<Self>,
        output: FloatTensor<Self>,
        g: &Geometry,
    ) -> FloatTensor<Self>;
    fn channel_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
    fn no_bias(channels: usize, like: &FloatTensor<Self>) -> FloatTensor<Self>;
    fn normalise_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        with: [FloatTensor<Self>; 4],
        options: Normalisation,
    ) -> [FloatTensor<Self>; 3];
    fn group_normalise_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        with: [FloatTensor<Self>; 2],
        options: GroupNormalisation,
    ) -> [FloatTensor<Self>; 3];
    fn leak_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;
}

impl Door for Flex {
    fn convolve(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, g: Geometry) -> FlexTensor {
        let x = Pixels::new(x);
        let y = conv::forward(
            Isa::current(),
            &g,
            x.slice(),
            &rows(weight),
            Some(&rows(bias)),
        );
        from_pixels(y, [g.n, g.k, g.output[0], g.output[1]])
    }

    fn convolve_transposed(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        g: Geometry,
    ) -> FlexTensor {
        let x = Pixels::new(x);
        let y = conv::backward(
            Isa::current(),
            &g,
            x.slice(),
            &rows(weight),
            Some(&rows(bias)),
        );
        from_pixels(y, [g.n, g.c, g.input[0], g.input[1]])
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
        let [mean, variance, gamma, beta] = [mean, variance, gamma, beta].map(rows);
        let with = Channels {
            mean: &mean,
            variance: &variance,
            gamma: &gamma,
            beta: &beta,
        };
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
        let [gamma, beta] = [gamma, beta].map(rows);
        let (isa, x) = (Isa::current(), Pixels::new(x));
        let y = group_norm::group_norm(isa, x.slice(), shape[0], [&gamma, &beta], options);
        from_pixels(y, shape)
    }

    fn leak(x: FlexTensor, slope: f32) -> FlexTensor {
        let shape = dims(&x);
        let y = norm::leaky_relu(Isa::current(), Pixels::new(x).slice(), slope);
        from_pixels(y, shape)
    }
}

impl Back for Flex {
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

    fn no_bias(channels: usize, _: &FlexTensor) -> FlexTensor {
        from_rows(vec![0.0; channels], [channels])
    }

    fn normalise_backward(
        gradient: FlexTensor,
        x: FlexTensor,
        with: [FlexTensor; 4],
        options: Normalisation,
    ) -> [FlexTensor; 3] {
        let shape = dims(&x);
        let (gradient, x) = (Pixels::new(gradient), Pixels::new(x));
        let [mean, variance, gamma, beta] = with.map(rows);
        let with = Channels {
            mean: &mean,
            variance: &variance,
            gamma: &gamma,
            beta: &beta,
        };
        let (dx, dgamma, dbeta) =
            norm::normalise_backward(Isa::current(), gradient.slice(), x.slice(), with, options);
        let c = shape[1];
        [
            from_pixels(dx, shape),
            from_rows(dgamma, [c]),
            from_rows(dbeta, [c]),
        ]
    }

    fn group_normalise_backward(
        gradient: FlexTensor,
        x: FlexTensor,
        with: [FlexTensor; 2],
        options: GroupNormalisation,
    ) -> [FlexTensor; 3] {
        let shape = dims(&x);
        let (gradient, x) = (Pixels::new(gradient), Pixels::new(x));
        let [gamma, beta] = with.map(rows);
        let (dx, dgamma, dbeta) = group_norm::group_norm_backward(
            Isa::current(),
            gradient.slice(),
            x.slice(),
            shape[0],
            [&gamma, &beta],
            options,
        );
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
}

/// A convolution or, transposed, its gradient.
#[derive(Debug)]
struct Convolve {
    transposed: bool,
}

impl<B: Back> Backward<B, 3> for Convolve {
    type State = (NodeId, NodeId, Geometry);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x_node, weight_node, bias_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight, g) = ops.state;
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::channel_sum(gradient.clone()));
        }
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        if let Some(node) = weight_node {
            let gradient = match self.transposed {
                false => B::weight_gradient(x, gradient.clone(), &g),
                true => B::weight_gradient(gradient.clone(), x, &g),
            };
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = x_node {
            let gradient = match self.transposed {
                false => {
                    let none = B::no_bias(g.c, &gradient);
                    B::convolve_transposed(gradient, weight, none, g)
                }
                true => {
                    let none = B::no_bias(g.k, &gradient);
                    B::convolve(gradient, weight, none, g)
                }
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Normalise;

impl<B: Back> Backward<B, 3> for Normalise {
    type State = (NodeId, [FloatTensor<B>; 4], Normalisation);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, with, options) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gradients = B::normalise_backward(gradient, x, with, options);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct GroupNormalise;

impl<B: Back> Backward<B, 3> for GroupNormalise {
    type State = (NodeId, [FloatTensor<B>; 2], GroupNormalisation);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, with, options) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gradients = B::group_normalise_backward(gradient, x, with, options);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Leak;

impl<B: Back> Backward<B, 1> for Leak {
    type State = (NodeId, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, slope) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::leak_backward(gradient, x, slope));
        }
    }
}

#[allow(private_bounds, reason = "the gradients belong to this file")]
impl<B: Back, C: CheckpointStrategy> Door for Autodiff<B, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
    ) -> FloatTensor<Self> {
        let op = Convolve { transposed: false };
        let nodes = [x.node(), weight.node(), bias.node()];
        match op.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), g);
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prep.finish(state, B::convolve(x, weight, bias, g))
            }
            OpsKind::UnTracked(prep) => {
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prep.finish(B::convolve(x, weight, bias, g))
            }
        }
    }

    fn convolve_transposed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
    ) -> FloatTensor<Self> {
        let op = Convolve { transposed: true };
        let nodes = [x.node(), weight.node(), bias.node()];
        match op.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), g);
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prep.finish(state, B::convolve_transposed(x, weight, bias, g))
            }
            OpsKind::UnTracked(prep) => {
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prep.finish(B::convolve_transposed(x, weight, bias, g))
            }
        }
    }

    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, variance) = B::channel_moments(x.into_primitive());
        (
            FloatTensor::<Self>::new(mean),
            FloatTensor::<Self>::new(variance),
        )
    }

    fn normalise(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Normalisation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let of = |t: &FloatTensor<Self>| t.primitive().clone();
        let with = [of(&mean), of(&variance), of(&gamma), of(&beta)];
        let y = |x: FloatTensor<Self>| {
            let [mean, variance, gamma, beta] = with.clone();
            B::normalise(x.into_primitive(), mean, variance, gamma, beta, options)
        };
        match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), with.clone(), options);
                prep.finish(state, y(x))
            }
            OpsKind::UnTracked(prep) => prep.finish(y(x)),
        }
    }

    fn group_normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: GroupNormalisation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let [gamma, beta] = [gamma, beta].map(|t| t.into_primitive());
        match GroupNormalise
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let with = [gamma.clone(), beta.clone()];
                let state = (prep.checkpoint(&x), with, options);
                let y = B::group_normalise(x.into_primitive(), gamma, beta, options);
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_normalise(x.into_primitive(), gamma, beta, options))
            }
        }
    }

    fn leak(x: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        match Leak.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), slope);
                prep.finish(state, B::leak(x.into_primitive(), slope))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::leak(x.into_primitive(), slope)),
        }
    }
}
