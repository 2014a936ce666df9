//! The matrix products between the transformations.

#![allow(
    unsafe_code,
    reason = "numbers are read and written through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use crate::simd::Simd;

/// Where the rows or columns of a matrix lie: `inner` numbers apart, after every `len` of them
/// `outer` numbers from where the last `len` began.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) len: usize,
    pub(super) inner: usize,
    pub(super) outer: usize,
}

impl Axis {
    /// All of them `step` numbers apart.
    pub(super) fn even(step: usize) -> Self {
        Self {
            len: usize::MAX,
            inner: step,
            outer: 0,
        }
    }

    #[inline(always)]
    fn at(&self, i: usize) -> usize {
        i / self.len * self.outer + i % self.len * self.inner
    }
}

/// A product of two matrices, `a` of `rows × depth` and `b` of `depth` rows of some vectors.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) depth: usize,
    /// The rows of `a`, and its columns.
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    /// Numbers between the rows of `b`, and between the vectors of a row.
    pub(super) b: [usize; 2],
    /// Numbers between the rows of the result, and between the vectors of a row.
    pub(super) m: [usize; 2],
    /// Whether the product is added to what the result holds.
    pub(super) add: bool,
}

impl Product {
    /// All `rows` of the product, a few at a time.
    #[inline(always)]
    pub(super) unsafe fn compute<S: Simd>(
        self,
        vectors: usize,
        rows: usize,
        a: *const f32,
        b: *const f32,
        m: *mut f32,
    ) {
        // SAFETY: the caller's pointers reach as far as the numbers say. Six rows are enough to
        // keep the multipliers busy; more would not leave a register for each row's address.
        unsafe {
            match vectors {
                1 => self.all::<S, 6, 1>(rows, a, b, m),
                2 => self.all::<S, 6, 2>(rows, a, b, m),
                3 => self.all::<S, 6, 3>(rows, a, b, m),
                _ => self.all::<S, 6, 4>(rows, a, b, m),
            }
        }
    }

    #[inline(always)]
    unsafe fn all<S: Simd, const R: usize, const V: usize>(
        self,
        rows: usize,
        a: *const f32,
        b: *const f32,
        m: *mut f32,
    ) {
        let Axis { len, inner, outer } = self.columns;
        // SAFETY: see above; rows past the last are the last one again and are not written.
        unsafe {
            for first in (0..rows).step_by(R) {
                let rows = R.min(rows - first);
                let mut row = [a; R];
                for r in 0..R {
                    row[r] = a.add(self.rows.at(first + r.min(rows - 1)));
                }
                let mut sums = [[S::splat(0.0); V]; R];
                let mut b = b;
                let mut left = self.depth;
                while left > 0 {
                    let count = left.min(len);
                    for d in 0..count {
                        let mut wide = [S::splat(0.0); V];
                        for v in 0..V {
                            wide[v] = S::load(b.add(v * self.b[1]));
                        }
                        for r in 0..R {
                            let x = S::splat(*row[r].add(d * inner));
                            for v in 0..V {
                                sums[r][v] = S::fma(wide[v], x, sums[r][v]);
                            }
                        }
                        b = b.add(self.b[0]);
                    }
                    for r in 0..R {
                        row[r] = row[r].wrapping_add(outer);
                    }
                    left -= count;
                }
                for r in 0..rows {
                    for v in 0..V {
                        let at = m.add((first + r) * self.m[0] + v * self.m[1]);
                        let sum = match self.add {
                            true => S::add(S::load(at), sums[r][v]),
                            false => sums[r][v],
                        };
                        S::store(at, sum);
                    }
                }
            }
        }
    }
}
