//! The operations with gradients: what each remembers, and the operations of [`Back`] it asks for.

use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use super::{Back, Door, Norm};
use crate::conv::Geometry;
use crate::gate::First;
use crate::group_norm::GroupNormalisation;
use crate::norm::Normalisation;

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
            let gradient = B::input_gradient(gradient, weight, &g, self.transposed);
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Normalise;

impl<B: Back> Backward<B, 3> for Normalise {
    type State = (NodeId, Norm<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, norm) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gradients = B::norm_backward(gradient, x, norm);
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

#[derive(Debug)]
struct Gate;

impl<B: Back> Backward<B, 1> for Gate {
    type State = (NodeId, First);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, first) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::gate_backward(gradient, x, first));
        }
    }
}

#[derive(Debug)]
struct Elu;

impl<B: Back> Backward<B, 1> for Elu {
    type State = (NodeId, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, both) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::elu_backward(gradient, x, both));
        }
    }
}

/// A join of branches, each of which gets its part of the gradient.
#[derive(Debug)]
struct Join;

#[derive(Clone, Debug)]
enum Joined {
    /// The second counts so many times.
    Sum(f32),
    SumToPixels,
    /// So many channels come from the first.
    Concat(usize),
}

impl<B: Back> Backward<B, 2> for Join {
    type State = Joined;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [a, b] = ops.parents;
        if let Some(node) = b {
            let gradient = gradient.clone();
            let gradient = match ops.state {
                Joined::Sum(1.0) => gradient,
                Joined::Sum(factor) => B::scale(gradient, factor),
                Joined::SumToPixels => B::sum_of_pixels(gradient),
                Joined::Concat(first) => {
                    let count = B::channel_count(&gradient) - first;
                    B::channels(gradient, first, count)
                }
            };
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = a {
            let gradient = match ops.state {
                Joined::Sum(_) | Joined::SumToPixels => gradient,
                Joined::Concat(first) => B::channels(gradient, 0, first),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Enlarge;

impl<B: Back> Backward<B, 1> for Enlarge {
    type State = usize;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::enlarge_backward(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct Bilinear;

impl<B: Back> Backward<B, 1> for Bilinear {
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::bilinear_backward(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct Bernoulli;

impl<B: Back> Backward<B, 2> for Bernoulli {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [logits, x] = ops.state;
        let gradients = B::bernoulli_backward(gradient, logits, x);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Back> Backward<B, 1> for CrossEntropy {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [logits, targets] = ops.state;
        if let [Some(node)] = ops.parents {
            let gradient = B::cross_entropy_backward(gradient, logits, targets);
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Shuffle;

impl<B: Back> Backward<B, 1> for Shuffle {
    type State = (usize, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (r, inverse) = ops.state;
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::shuffle(gradient, r, !inverse));
        }
    }
}

fn joined<B: Back, C: CheckpointStrategy>(
    a: FloatTensor<Autodiff<B, C>>,
    b: FloatTensor<Autodiff<B, C>>,
    how: Joined,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [a.node(), b.node()];
    let (a, b) = (a.into_primitive(), b.into_primitive());
    let y = match how {
        Joined::Sum(factor) => B::add(a, b, factor),
        Joined::SumToPixels => B::add_to_pixels(a, b),
        Joined::Concat(_) => B::concat(a, b),
    };
    match Join.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(how, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// A normalisation whose gradients go to x, gamma and beta.
fn normalised<B: Back, C: CheckpointStrategy>(
    [x, gamma, beta]: [FloatTensor<Autodiff<B, C>>; 3],
    norm: Norm<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node(), gamma.node(), beta.node()];
    let y = |x: FloatTensor<Autodiff<B, C>>, norm| match norm {
        Norm::Channels([mean, variance, gamma, beta], options) => {
            B::normalise(x.into_primitive(), mean, variance, gamma, beta, options)
        }
        Norm::Groups([gamma, beta], options) => {
            B::group_normalise(x.into_primitive(), gamma, beta, options)
        }
    };
    match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), norm.clone());
            prep.finish(state, y(x, norm))
        }
        OpsKind::UnTracked(prep) => prep.finish(y(x, norm)),
    }
}

#[allow(private_bounds, reason = "the gradients belong to this file")]
impl<B: Back, C: CheckpointStrategy> Door for Autodiff<B, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        g: Geometry,
        transposed: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let y = |[x, weight, bias]: [FloatTensor<Self>; 3]| {
            let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
            B::convolve(x, weight, bias, g, transposed)
        };
        let op = Convolve { transposed };
        match op.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), g);
                prep.finish(state, y([x, weight, bias]))
            }
            OpsKind::UnTracked(prep) => prep.finish(y([x, weight, bias])),
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
        let of = |t: &FloatTensor<Self>| t.primitive().clone();
        let with = [of(&mean), of(&variance), of(&gamma), of(&beta)];
        normalised::<B, C>([x, gamma, beta], Norm::Channels(with, options))
    }

    fn group_normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: GroupNormalisation,
    ) -> FloatTensor<Self> {
        let with = [gamma.primitive().clone(), beta.primitive().clone()];
        normalised::<B, C>([x, gamma, beta], Norm::Groups(with, options))
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

    fn gate(x: FloatTensor<Self>, first: First) -> FloatTensor<Self> {
        match Gate.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), first);
                prep.finish(state, B::gate(x.into_primitive(), first))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::gate(x.into_primitive(), first)),
        }
    }

    fn elu(x: FloatTensor<Self>, both: bool) -> FloatTensor<Self> {
        match Elu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), both);
                prep.finish(state, B::elu(x.into_primitive(), both))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::elu(x.into_primitive(), both)),
        }
    }

    fn add(a: FloatTensor<Self>, b: FloatTensor<Self>, factor: f32) -> FloatTensor<Self> {
        joined::<B, C>(a, b, Joined::Sum(factor))
    }

    fn add_to_pixels(x: FloatTensor<Self>, each: FloatTensor<Self>) -> FloatTensor<Self> {
        joined::<B, C>(x, each, Joined::SumToPixels)
    }

    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let first = B::channel_count(a.primitive());
        joined::<B, C>(a, b, Joined::Concat(first))
    }

    fn enlarge(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        match Enlarge.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(factor, B::enlarge(x.into_primitive(), factor)),
            OpsKind::UnTracked(prep) => prep.finish(B::enlarge(x.into_primitive(), factor)),
        }
    }

    fn bilinear(x: FloatTensor<Self>, to: [usize; 2]) -> FloatTensor<Self> {
        match Bilinear.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let size = B::size(x.primitive());
                prep.finish(size, B::bilinear(x.into_primitive(), to))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::bilinear(x.into_primitive(), to)),
        }
    }

    fn shuffle(x: FloatTensor<Self>, r: usize, inverse: bool) -> FloatTensor<Self> {
        match Shuffle.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((r, inverse), B::shuffle(x.into_primitive(), r, inverse))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::shuffle(x.into_primitive(), r, inverse)),
        }
    }

    fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [logits.node(), x.node()];
        let (logits, x) = (logits.into_primitive(), x.into_primitive());
        match Bernoulli.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = [logits.clone(), x.clone()];
                prep.finish(state, B::bernoulli(logits, x))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::bernoulli(logits, x)),
        }
    }

    fn cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [logits.node()];
        let (logits, targets) = (logits.into_primitive(), targets.into_primitive());
        match CrossEntropy.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = [logits.clone(), targets.clone()];
                prep.finish(state, B::cross_entropy(logits, targets))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::cross_entropy(logits, targets)),
        }
    }
}
