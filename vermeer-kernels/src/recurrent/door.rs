//! The cells as a Burn backend extension, with their gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::Isa;
use crate::flex::{Pixels, dims, from_pixels};

/// The cells on images `[n, channels, y, x]`.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Recurrent: Backend {
    /// [`super::lstm_memory`].
    fn lstm_memory(gates: FloatTensor<Self>, memory: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`super::lstm_state`].
    fn lstm_state(gates: FloatTensor<Self>, memory: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`super::gru_state`].
    fn gru_state(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        state: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The gradients, which need no gradients of their own.
pub(crate) trait RecurrentBack: Recurrent {
    /// The gradients to gates and memory, of [`Recurrent::lstm_state`] where `of_state`, else of
    /// [`Recurrent::lstm_memory`].
    fn lstm_backward(
        gradient: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        memory: FloatTensor<Self>,
        of_state: bool,
    ) -> [FloatTensor<Self>; 2];

    /// The gradients to both parts of the gates and to the state.
    fn gru_backward(
        gradient: FloatTensor<Self>,
        of: [FloatTensor<Self>; 3],
    ) -> [FloatTensor<Self>; 3];
}

impl Recurrent for Flex {
    fn lstm_memory(gates: FlexTensor, memory: FlexTensor) -> FlexTensor {
        let shape = dims(&memory);
        let (gates, memory) = (Pixels::new(gates), Pixels::new(memory));
        let y = super::memory(Isa::current(), gates.slice(), memory.slice(), shape[1]);
        from_pixels(y, shape)
    }

    fn lstm_state(gates: FlexTensor, memory: FlexTensor) -> FlexTensor {
        let shape = dims(&memory);
        let (gates, memory) = (Pixels::new(gates), Pixels::new(memory));
        let y = super::state(Isa::current(), gates.slice(), memory.slice(), shape[1]);
        from_pixels(y, shape)
    }

    fn gru_state(a: FlexTensor, b: FlexTensor, state: FlexTensor) -> FlexTensor {
        let shape = dims(&state);
        let [a, b, state] = [a, b, state].map(Pixels::new);
        let y = super::gru(
            Isa::current(),
            a.slice(),
            b.slice(),
            state.slice(),
            shape[1],
        );
        from_pixels(y, shape)
    }
}

impl RecurrentBack for Flex {
    fn lstm_backward(
        gradient: FlexTensor,
        gates: FlexTensor,
        memory: FlexTensor,
        of_state: bool,
    ) -> [FlexTensor; 2] {
        let [n, h, y, x] = dims(&memory);
        let [gradient, gates, memory] = [gradient, gates, memory].map(Pixels::new);
        let (gradient, gates, memory) = (gradient.slice(), gates.slice(), memory.slice());
        let isa = Isa::current();
        let (to_gates, to_memory) = match of_state {
            true => super::state_backward(isa, gradient, gates, memory, h),
            false => super::memory_backward(isa, gradient, gates, memory, h),
        };
        [
            from_pixels(to_gates, [n, 4 * h, y, x]),
            from_pixels(to_memory, [n, h, y, x]),
        ]
    }

    fn gru_backward(gradient: FlexTensor, of: [FlexTensor; 3]) -> [FlexTensor; 3] {
        let [n, h, y, x] = dims(&of[2]);
        let gradient = Pixels::new(gradient);
        let [a, b, state] = of.map(Pixels::new);
        let of = [a.slice(), b.slice(), state.slice()];
        let [to_a, to_b, to_state] = super::gru_backward(Isa::current(), gradient.slice(), of, h);
        [
            from_pixels(to_a, [n, 3 * h, y, x]),
            from_pixels(to_b, [n, 3 * h, y, x]),
            from_pixels(to_state, [n, h, y, x]),
        ]
    }
}

/// The memory of an LSTM, or its state.
#[derive(Debug)]
struct Lstm {
    of_state: bool,
}

impl<B: RecurrentBack> Backward<B, 2> for Lstm {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [gates, memory] = ops.state;
        let gradients = B::lstm_backward(gradient, gates, memory, self.of_state);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Gru;

impl<B: RecurrentBack> Backward<B, 3> for Gru {
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = B::gru_backward(gradient, ops.state);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// The memory or the state with what its gradient needs.
fn lstm<B: RecurrentBack, C: CheckpointStrategy>(
    gates: FloatTensor<Autodiff<B, C>>,
    memory: FloatTensor<Autodiff<B, C>>,
    of_state: bool,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [gates.node(), memory.node()];
    let (gates, memory) = (gates.into_primitive(), memory.into_primitive());
    let value = |gates: FloatTensor<B>, memory: FloatTensor<B>| match of_state {
        true => B::lstm_state(gates, memory),
        false => B::lstm_memory(gates, memory),
    };
    match (Lstm { of_state })
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let state = [gates.clone(), memory.clone()];
            prep.finish(state, value(gates, memory))
        }
        OpsKind::UnTracked(prep) => prep.finish(value(gates, memory)),
    }
}

impl<B: RecurrentBack, C: CheckpointStrategy> Recurrent for Autodiff<B, C> {
    fn lstm_memory(gates: FloatTensor<Self>, memory: FloatTensor<Self>) -> FloatTensor<Self> {
        lstm::<B, C>(gates, memory, false)
    }

    fn lstm_state(gates: FloatTensor<Self>, memory: FloatTensor<Self>) -> FloatTensor<Self> {
        lstm::<B, C>(gates, memory, true)
    }

    fn gru_state(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        state: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [a.node(), b.node(), state.node()];
        let of = [a, b, state].map(|tensor| tensor.into_primitive());
        match Gru.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = of.clone();
                let [a, b, state] = of;
                prep.finish(kept, B::gru_state(a, b, state))
            }
            OpsKind::UnTracked(prep) => {
                let [a, b, state] = of;
                prep.finish(B::gru_state(a, b, state))
            }
        }
    }
}
