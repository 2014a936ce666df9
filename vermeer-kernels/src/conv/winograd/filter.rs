//! The matrices of minimal filtering (Winograd, 1980; Toom and Cook's construction).
//!
//! For finite points `a` and infinity, `Aᵀ` holds their powers, `G` those over
//! `Π (a − b)` of the other points `b`, and `Bᵀ` the coefficients of `Π (x − b)`.

#![allow(unsafe_code, reason = "vectors are computed with intrinsics")]

use std::marker::PhantomData;

use crate::simd::Simd;

/// The largest side of a source tile, in pixels.
pub(in crate::conv) const SIDE: usize = 6;

/// The matrices of F(m×m, r×r).
///
/// Code that calls these stays free of closures: one that is not inlined before its callees are
/// lacks their instruction set, and every vector operation in it becomes a call.
pub(in crate::conv) trait Filter: Copy + Sync {
    /// Side of the kernel, `r`.
    const TAPS: usize;
    /// Side of a source tile, `m + r − 1`.
    const SIDE: usize;
    /// Side of a result tile, `m`.
    const STEP: usize;
    /// `G`, of which the first `SIDE` rows and `TAPS` columns count.
    const G: [[f32; 3]; SIDE];

    /// `Bᵀ d`.
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE];
    /// `Aᵀ m`, `STEP` numbers.
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE];
    /// `A y` of `STEP` numbers.
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE];
}

/// F(4×4, 3×3) with the points 0, ±1, ±2.
#[derive(Clone, Copy)]
pub(in crate::conv) struct Four;

impl Filter for Four {
    const TAPS: usize = 3;
    const SIDE: usize = 6;
    const STEP: usize = 4;
    const G: [[f32; 3]; SIDE] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let (two, four) = (S::splat(2.0), S::splat(4.0));
            let (minus_four, minus_five) = (S::splat(-4.0), S::splat(-5.0));
            let even = S::fma(minus_four, d[2], d[4]);
            let odd = S::fma(minus_four, d[1], d[3]);
            let even_two = S::sub(d[4], d[2]);
            let odd_two = S::mul(two, S::sub(d[3], d[1]));
            [
                S::fma(four, d[0], S::fma(minus_five, d[2], d[4])),
                S::add(even, odd),
                S::sub(even, odd),
                S::add(even_two, odd_two),
                S::sub(even_two, odd_two),
                S::fma(four, d[1], S::fma(minus_five, d[3], d[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_two, odd_two) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let none = S::splat(0.0);
            [
                S::add(m[0], S::add(even, even_two)),
                S::fma(two, odd_two, odd),
                S::fma(four, even_two, even),
                S::add(m[5], S::fma(eight, odd_two, odd)),
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
            let even_two = S::fma(four, y[2], y[0]);
            let odd_two = S::fma(eight, y[3], S::mul(two, y[1]));
            [
                y[0],
                S::add(even, odd),
                S::sub(even, odd),
                S::add(even_two, odd_two),
                S::sub(even_two, odd_two),
                y[3],
            ]
        }
    }
}

/// F(2×2, 3×3) with the points 0, ±1.
#[derive(Clone, Copy)]
pub(in crate::conv) struct Two;

impl Filter for Two {
    const TAPS: usize = 3;
    const SIDE: usize = 4;
    const STEP: usize = 2;
    const G: [[f32; 3]; SIDE] = [
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
        [0.0; 3],
        [0.0; 3],
    ];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let none = S::splat(0.0);
            [
                S::sub(d[0], d[2]),
                S::add(d[1], d[2]),
                S::sub(d[2], d[1]),
                S::sub(d[3], d[1]),
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let none = S::splat(0.0);
            [
                S::add(m[0], S::add(m[1], m[2])),
                S::add(S::sub(m[1], m[2]), m[3]),
                none,
                none,
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let none = S::splat(0.0);
            [
                y[0],
                S::add(y[0], y[1]),
                S::sub(y[0], y[1]),
                y[1],
                none,
                none,
            ]
        }
    }
}

/// F(4×4, 2×2) with the points 0, ±1, 2.
#[derive(Clone, Copy)]
pub(in crate::conv) struct FourOfTwo;

impl Filter for FourOfTwo {
    const TAPS: usize = 2;
    const SIDE: usize = 5;
    const STEP: usize = 4;
    const G: [[f32; 3]; SIDE] = [
        [1.0 / 2.0, 0.0, 0.0],
        [-1.0 / 2.0, -1.0 / 2.0, 0.0],
        [-1.0 / 6.0, 1.0 / 6.0, 0.0],
        [1.0 / 6.0, 1.0 / 3.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0; 3],
    ];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let (two, minus_two, minus_three) = (S::splat(2.0), S::splat(-2.0), S::splat(-3.0));
            let odd = S::sub(d[3], d[1]);
            [
                S::fma(two, S::sub(d[0], d[2]), odd),
                S::sub(S::fma(minus_two, d[1], d[3]), d[2]),
                S::fma(two, d[1], S::fma(minus_three, d[2], d[3])),
                odd,
                S::fma(minus_two, odd, S::sub(d[4], d[2])),
                S::splat(0.0),
            ]
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let none = S::splat(0.0);
            [
                S::add(m[0], S::add(even, m[3])),
                S::fma(two, m[3], odd),
                S::fma(four, m[3], even),
                S::add(m[4], S::fma(eight, m[3], odd)),
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
            let two = S::fma(eight, y[3], S::fma(four, y[2], S::fma(two, y[1], y[0])));
            [
                y[0],
                S::add(even, odd),
                S::sub(even, odd),
                two,
                y[3],
                S::splat(0.0),
            ]
        }
    }
}

/// A product of one of a filter's matrices with columns.
pub(in crate::conv) trait Columns {
    /// Numbers of a column.
    const FROM: usize;
    unsafe fn of<S: Simd>(column: [S::V; SIDE]) -> [S::V; SIDE];
}

/// [`Filter::source`].
pub(in crate::conv) struct Source<F>(PhantomData<F>);

impl<F: Filter> Columns for Source<F> {
    const FROM: usize = F::SIDE;

    #[inline(always)]
    unsafe fn of<S: Simd>(column: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set.
        unsafe { F::source::<S>(column) }
    }
}

/// [`Filter::spread`].
pub(in crate::conv) struct Spread<F>(PhantomData<F>);

impl<F: Filter> Columns for Spread<F> {
    const FROM: usize = F::STEP;

    #[inline(always)]
    unsafe fn of<S: Simd>(column: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set.
        unsafe { F::spread::<S>(column) }
    }
}
