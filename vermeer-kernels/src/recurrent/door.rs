//! The recurrence as a Burn backend extension, with its gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use super::passes::{self, Sizes};
use super::{Cell, Path};
use crate::flex::{Pixels, Rows, dims, from_pixels, from_rows};

/// The recurrence over images.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Recurrent: Backend {
    /// The states `[n, h, y, x]` of [`super::lstm`] or [`super::gru`].
    fn recur(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cell: Cell,
        path: Path,
    ) -> FloatTensor<Self>;
}

/// The gradients, which need no gradients of their own.
pub(crate) trait RecurrentBack: Recurrent {
    /// The states, and what the gradient needs: the gates as they act and the memories.
    fn recur_and_keep(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cell: Cell,
        path: Path,
    ) -> [FloatTensor<Self>; 3];

    /// The gradients to the gates of the input and the weight, of that to the states, what
    /// [`RecurrentBack::recur_and_keep`] gave, and the weight.
    fn recur_backward(
        gradient: FloatTensor<Self>,
        kept: [FloatTensor<Self>; 3],
        weight: FloatTensor<Self>,
        cell: Cell,
        path: Path,
    ) -> [FloatTensor<Self>; 2];
}

/// The sizes of gates `[n, gates · h, y, x]`.
fn sizes(gates: &FlexTensor, cell: Cell, path: Path) -> Sizes {
    let [n, all, height, width] = dims(gates);
    Sizes {
        n,
        h: all / cell.gates(),
        height,
        width,
        cell,
        path,
    }
}

impl Recurrent for Flex {
    fn recur(gates: FlexTensor, weight: FlexTensor, cell: Cell, path: Path) -> FlexTensor {
        let [states, _, _] = Self::recur_and_keep(gates, weight, cell, path);
        states
    }
}

impl RecurrentBack for Flex {
    fn recur_and_keep(
        gates: FlexTensor,
        weight: FlexTensor,
        cell: Cell,
        path: Path,
    ) -> [FlexTensor; 3] {
        let (of, shape) = (sizes(&gates, cell, path), dims(&gates));
        let [n, _, y, x] = shape;
        let (gates, weight) = (Pixels::new(gates), Rows::new(weight));
        let kept = passes::forward(of, gates.slice(), weight.slice());
        [
            from_pixels(kept.states, [n, of.h, y, x]),
            from_pixels(kept.gates, shape),
            from_pixels(kept.memories, [n, of.h, y, x]),
        ]
    }

    fn recur_backward(
        gradient: FlexTensor,
        kept: [FlexTensor; 3],
        weight: FlexTensor,
        cell: Cell,
        path: Path,
    ) -> [FlexTensor; 2] {
        let (of, shape) = (sizes(&kept[1], cell, path), dims(&kept[1]));
        let of_weight = dims(&weight);
        let gradient = Pixels::new(gradient);
        let weight = Rows::new(weight);
        let [states, gates, memories] = kept.map(Pixels::new);
        let kept = [states.slice(), gates.slice(), memories.slice()];
        let [to_gates, to_weight] = passes::backward(of, gradient.slice(), kept, weight.slice());
        [
            from_pixels(to_gates, shape),
            from_rows(to_weight, of_weight),
        ]
    }
}

#[derive(Debug)]
struct Recur;

impl<B: RecurrentBack> Backward<B, 2> for Recur {
    /// States, gates, memories and weight.
    type State = ([FloatTensor<B>; 4], Cell, Path);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([states, gates, memories, weight], cell, path) = ops.state;
        let kept = [states, gates, memories];
        let gradients = B::recur_backward(gradient, kept, weight, cell, path);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: RecurrentBack, C: CheckpointStrategy> Recurrent for Autodiff<B, C> {
    fn recur(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cell: Cell,
        path: Path,
    ) -> FloatTensor<Self> {
        let nodes = [gates.node(), weight.node()];
        let (gates, weight) = (gates.into_primitive(), weight.into_primitive());
        match Recur.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = B::recur_and_keep(gates, weight.clone(), cell, path);
                let [states, gates, memories] = kept;
                let state = ([states.clone(), gates, memories, weight], cell, path);
                prep.finish(state, states)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::recur(gates, weight, cell, path)),
        }
    }
}
