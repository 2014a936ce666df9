//! Sums and maps over the pixels of channels-last images, compiled for each instruction set.

use rayon::prelude::*;

use crate::Isa;
use crate::memory::{SharedMut, in_parts, written};
use crate::simd::{Kernel, Simd};

/// Pixels of a block.
const BLOCK: usize = 512;

/// Adds something of the pixels `from..to` to sums; `#[inline(always)]`, so that it is compiled
/// for the instruction set.
pub(crate) trait Sum: Sync {
    fn add(&self, from: usize, to: usize, sums: &mut [f32]);
}

/// The `width` sums over all pixels.
pub(crate) fn sum(isa: Isa, pixels: usize, width: usize, what: &impl Sum) -> Vec<f64> {
    struct Run<'a, W>(&'a W, usize, usize, &'a mut [f32]);
    impl<W: Sum> Kernel for Run<'_, W> {
        #[inline(always)]
        #[allow(
            unsafe_code,
            reason = "the trait's methods are unsafe; this one is not"
        )]
        unsafe fn run<S: Simd>(self) {
            self.0.add(self.1, self.2, self.3);
        }
    }
    let parts: Vec<Vec<f32>> = (0..pixels.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let mut sums = vec![0.0; width];
            let from = block * BLOCK;
            isa.run(Run(what, from, (from + BLOCK).min(pixels), &mut sums));
            sums
        })
        .collect();
    let mut total = vec![0.0f64; width];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += f64::from(part);
        }
    }
    total
}

/// Computes the numbers `from..from + result.len()`, all of them, whole pixels at a time; what
/// `result` holds before has not been written. `#[inline(always)]` as above.
pub(crate) trait Map: Sync {
    fn write(&self, from: usize, result: &mut [f32]);
    /// What a pixel of `c` numbers takes, in products of a convolution.
    fn work(&self, c: usize) -> usize {
        8 * c
    }
}

/// A result of `len` numbers, cut between pixels of `c`.
pub(crate) fn map(isa: Isa, len: usize, c: usize, what: &impl Map) -> Vec<f32> {
    struct Run<'a, W>(&'a W, usize, &'a mut [f32]);
    impl<W: Map> Kernel for Run<'_, W> {
        #[inline(always)]
        #[allow(
            unsafe_code,
            reason = "the trait's methods are unsafe; this one is not"
        )]
        unsafe fn run<S: Simd>(self) {
            self.0.write(self.1, self.2);
        }
    }
    assert!(len.is_multiple_of(c), "{len} numbers are not pixels of {c}");
    let parts = in_parts(len / c.max(1), 1, what.work(c));
    let fill = |shared: &SharedMut<'_>| {
        parts.into_par_iter().for_each(|(from, to)| {
            #[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
            // SAFETY: the ranges of pixels are disjoint.
            let part = unsafe { shared.part(from * c, (to - from) * c) };
            isa.run(Run(what, from * c, part));
        });
    };
    #[allow(unsafe_code, reason = "a result is written before it is read")]
    // SAFETY: the parts cover all pixels, and a map writes all of its part.
    unsafe {
        written(len, fill)
    }
}
