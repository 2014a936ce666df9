//! What follows the products of a convolution before its result is written.

#![allow(unsafe_code, reason = "numbers are read through computed pointers")]

use crate::activation::{Activation, gelu, sigmoid, silu, tanh};
use crate::simd::Simd;

/// `activation(products + bias + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail<'a> {
    /// One number for each channel of the result.
    pub bias: Option<&'a [f32]>,
    /// As many numbers as the result has, in its layout.
    pub residual: Option<&'a [f32]>,
    /// The slopes of [`Activation::Prelu`], one for each channel of the result.
    pub slopes: Option<&'a [f32]>,
    /// The last step.
    pub activation: Activation,
}

/// The tail of one group, with the room that a last vector needs.
pub(super) struct Finish {
    /// One for each channel of the group, and zeros behind.
    pub(super) bias: Vec<f32>,
    slopes: Vec<f32>,
    /// Addresses, kept as numbers so that threads may share them.
    residual: Option<usize>,
    result: usize,
    activation: Activation,
}

impl Finish {
    /// The tail for channels `first..first + count` of a result at `result`; vectors end at most
    /// `room` numbers behind the last channel.
    pub(super) fn new(
        tail: &Tail<'_>,
        result: *mut f32,
        first: usize,
        count: usize,
        room: usize,
    ) -> Self {
        let padded = |numbers: Option<&[f32]>| {
            let mut padded = numbers.map_or_else(
                || vec![0.0; count],
                |numbers| numbers[first..][..count].to_vec(),
            );
            padded.resize(count + room, 0.0);
            padded
        };
        Self {
            bias: padded(tail.bias),
            slopes: padded(tail.slopes),
            residual: tail.residual.map(|residual| residual.as_ptr() as usize),
            result: result as usize,
            activation: tail.activation,
        }
    }

    /// The result of `sum`, which has its bias, for `valid` channels from `channel` on, to be
    /// written at `at`.
    ///
    /// # Safety
    /// `at` must lie in the result, with `valid` numbers behind it.
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(
        &self,
        sum: S::V,
        channel: usize,
        at: *const f32,
        valid: usize,
    ) -> S::V {
        // SAFETY: the residual has the result's layout; the slopes reach to the last vector.
        unsafe {
            let mut sum = sum;
            if let Some(residual) = self.residual {
                let at = (at as usize - self.result + residual) as *const f32;
                let other = match valid >= S::LANES {
                    true => S::load(at),
                    false => S::load_part(at, valid),
                };
                sum = S::add(sum, other);
            }
            let zero = S::splat(0.0);
            match self.activation {
                Activation::Identity => sum,
                Activation::Relu | Activation::LeakyRelu(0.0) => S::max(zero, sum),
                Activation::LeakyRelu(slope) => {
                    S::fma(S::splat(slope), S::min(zero, sum), S::max(zero, sum))
                }
                Activation::Prelu => {
                    let slopes = S::load(self.slopes.as_ptr().add(channel));
                    S::fma(slopes, S::min(zero, sum), S::max(zero, sum))
                }
                Activation::Silu => each::<S>(sum, silu),
                Activation::Gelu => each::<S>(sum, gelu),
                Activation::Tanh => each::<S>(sum, tanh),
                Activation::Sigmoid => each::<S>(sum, sigmoid),
            }
        }
    }
}

/// `f` of every lane.
#[inline(always)]
unsafe fn each<S: Simd>(v: S::V, f: impl Fn(f32) -> f32) -> S::V {
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector is wider than 16 lanes.
    unsafe {
        S::store(lanes.as_mut_ptr(), v);
        for lane in &mut lanes[..S::LANES] {
            *lane = f(*lane);
        }
        S::load(lanes.as_ptr())
    }
}
