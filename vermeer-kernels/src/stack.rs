//! Images whose channels come from several layers.

use burn::backend::Dispatch;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

use crate::door::{Place, Use};
use crate::nn::Conv2d;
use crate::tensor::{geometry, ours, types};
use crate::{Then, concat};

/// Images `[n, c, h, w]` whose channels are added layer by layer: the results of parallel branches,
/// or those of a dense block (Huang et al., 2017), whose layers read what all layers before wrote.
///
/// Where no gradient is wanted, a layer writes its channels to their place; else they are
/// concatenated.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `[n, room, h, w]`.
    shape: [usize; 4],
    taken: usize,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    Nothing,
    /// `[n, h, w, room]`.
    Place(Tensor<4>),
    /// `[n, taken, h, w]`.
    Joined(Tensor<4>),
}

impl Stack {
    /// Without channels yet, with room for those of `shape`, `[n, room, h, w]`.
    pub fn new(shape: [usize; 4]) -> Self {
        Self {
            shape,
            taken: 0,
            kept: Kept::Nothing,
        }
    }

    /// Without channels again; the memory is used again.
    pub fn clear(self) -> Self {
        let kept = match self.kept {
            Kept::Place(images) => Kept::Place(images),
            Kept::Nothing | Kept::Joined(_) => Kept::Nothing,
        };
        Self {
            taken: 0,
            kept,
            ..self
        }
    }

    /// The channels so far, `[n, taken, h, w]`.
    ///
    /// # Panics
    /// When there are none.
    pub fn images(&self) -> Tensor<4> {
        self.part(self.taken)
    }

    /// Adds the channels of `x`.
    ///
    /// # Panics
    /// When `x` has other images or sizes or no channels, or there is no room for them.
    pub fn push(mut self, x: Tensor<4>) -> Self {
        let first = self.taken;
        self.take(x.dims());
        let in_place = ours(&x, &[]) && !x.is_autodiff();
        self.kept = match self.place(in_place, &x.device()) {
            Some(images) => Kept::Place(Tensor::from_dispatch(Dispatch::put(
                images.into_dispatch(),
                x.into_dispatch(),
                first,
            ))),
            None if first == 0 => Kept::Joined(x),
            None => Kept::Joined(concat(self.part(first), x)),
        };
        self
    }

    /// Adds the result of a convolution of `x`, and what follows it.
    ///
    /// # Panics
    /// As [`Stack::push`].
    pub fn push_conv(self, conv: &Conv2d, x: Tensor<4>, then: impl Into<Then>) -> Self {
        self.add(conv, Some(x), then.into())
    }

    /// Adds the result of a convolution of all channels so far, and what follows it.
    ///
    /// # Panics
    /// As [`Stack::push`], and when there are no channels.
    pub fn grow(self, conv: &Conv2d, then: impl Into<Then>) -> Self {
        self.add(conv, None, then.into())
    }

    fn add(mut self, conv: &Conv2d, x: Option<Tensor<4>>, then: Then) -> Self {
        let (weight, bias) = (conv.weight.val(), conv.bias.as_ref().map(Param::val));
        let read = x.clone().unwrap_or_else(|| self.images());
        let (shape, device) = (read.dims(), read.device());
        let plain = then.residual.is_none()
            && ours(&read, &types(&weight, bias.as_ref()))
            && then
                .slopes
                .iter()
                .all(|slopes| slopes.dtype() == DType::F32)
            && !then.tracked(&read, &weight, bias.as_ref());
        drop(read);
        let Some(images) = self.place(plain, &device) else {
            let x = x.unwrap_or_else(|| self.images());
            return self.push(conv.forward_then(x, then));
        };
        let g = geometry(shape, &weight, conv.options);
        let how = Place {
            first: self.taken,
            own: x.is_none(),
            activation: then.activation,
            has_slopes: then.slopes.is_some(),
        };
        self.take([g.n, g.k, g.output[0], g.output[1]]);
        let none = |len: usize| Tensor::<1>::zeros([len], (&device, DType::F32));
        let x = x.unwrap_or_else(|| Tensor::zeros([1; 4], (&device, DType::F32)));
        self.kept = Kept::Place(Tensor::from_dispatch(Dispatch::convolve_into(
            images.into_dispatch(),
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.unwrap_or_else(|| none(g.k)).into_dispatch(),
            then.slopes.unwrap_or_else(|| none(1)).into_dispatch(),
            g,
            how,
        )));
        self
    }

    /// Takes the room for channels of that shape.
    fn take(&mut self, [n, c, h, w]: [usize; 4]) {
        let [images, room, height, width] = self.shape;
        assert!(
            [n, h, w] == [images, height, width] && c > 0 && self.taken + c <= room,
            "{n} images of {c} channels and {h}×{w} pixels do not fit a stack {:?} that has {}",
            self.shape,
            self.taken
        );
        self.taken += c;
    }

    /// The memory that is written in place, if it is to be and nothing was joined before.
    fn place(&mut self, wanted: bool, device: &Device) -> Option<Tensor<4>> {
        let [n, room, h, w] = self.shape;
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Place(images) if wanted => Some(images),
            Kept::Nothing if wanted => Some(Tensor::zeros([n, h, w, room], (device, DType::F32))),
            kept => {
                self.kept = kept;
                None
            }
        }
    }

    /// The first `count` channels.
    fn part(&self, count: usize) -> Tensor<4> {
        match &self.kept {
            _ if count == 0 => panic!("a stack has no images before something is added"),
            Kept::Nothing => unreachable!("what was added is kept"),
            Kept::Joined(images) => images.clone(),
            Kept::Place(images) => {
                let images = images.clone().permute([0, 3, 1, 2]);
                match count == self.shape[1] {
                    true => images,
                    false => images.narrow(1, 0, count),
                }
            }
        }
    }
}
