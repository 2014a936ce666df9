//! The matrices of minimal filtering (Winograd, 1980; Toom and Cook's construction).
//!
//! For finite points `a` and infinity, `Aᵀ` holds their powers, `G` those over
//! `Π (a − b)` of the other points `b`, and `Bᵀ` the coefficients of `Π (x − b)`. In two
//! dimensions rows and columns have a filter each.

#![allow(unsafe_code, reason = "vectors are computed with intrinsics")]
#![allow(
    clippy::needless_range_loop,
    reason = "an index counts in several arrays"
)]

use std::marker::PhantomData;

use crate::simd::Simd;

/// The longest side of a source tile, in pixels.
pub(in crate::conv) const SIDE: usize = 10;
/// The longest filter.
pub(in crate::conv) const LONGEST: usize = 7;
/// The most taps in two dimensions.
pub(in crate::conv) const TAPS: usize = 25;

/// A side of a tile; the first numbers count, as many as a filter says.
pub(in crate::conv) type Line<S> = [<S as Simd>::V; SIDE];

/// The matrices of F(m, r).
///
/// Code that calls these stays free of closures: one that is not inlined before its callees are
/// lacks their instruction set, and every vector operation in it becomes a call.
pub(in crate::conv) trait Points: Copy + Sync {
    /// Length of the filter, `r`.
    const TAPS: usize;
    /// Length of a source tile, `m + r − 1`.
    const SIDE: usize;
    /// Length of a result tile, `m`.
    const STEP: usize;
    /// `G`, of which the first `SIDE` rows and `TAPS` columns count.
    const G: [[f32; LONGEST]; SIDE];

    /// `Bᵀ d`.
    unsafe fn source<S: Simd>(d: Line<S>) -> Line<S>;
    /// `Aᵀ m`, `STEP` numbers.
    unsafe fn result<S: Simd>(m: Line<S>) -> Line<S>;
    /// `A y` of `STEP` numbers.
    unsafe fn spread<S: Simd>(y: Line<S>) -> Line<S>;
}

/// The filters of the two axes of a tile.
pub(in crate::conv) trait Filter: Copy + Sync {
    type Y: Points;
    type X: Points;
    /// Numbers of a transformed tile.
    const PLACES: usize = Self::Y::SIDE * Self::X::SIDE;
}

/// One filter along columns and one along rows.
#[derive(Clone, Copy)]
pub(in crate::conv) struct By<Y, X>(PhantomData<(Y, X)>);

impl<Y: Points, X: Points> Filter for By<Y, X> {
    type Y = Y;
    type X = X;
}

/// No filter: an axis along which the kernel has one tap.
#[derive(Clone, Copy)]
pub(in crate::conv) struct One;

impl Points for One {
    const TAPS: usize = 1;
    const SIDE: usize = 1;
    const STEP: usize = 1;
    const G: [[f32; LONGEST]; SIDE] = [[1.0; LONGEST]; SIDE];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: Line<S>) -> Line<S> {
        d
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: Line<S>) -> Line<S> {
        m
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: Line<S>) -> Line<S> {
        y
    }
}

/// F(M, R) with the points 0, ±a for each of [`pairs`], and infinity, so that M + R is odd by one
/// more than twice the pairs.
///
/// The two points of a pair share their products: `Π (x − b)` over the points but a is
/// `x (x + a) Q(x²)` with `Q(t) = Π (t − b²)` over the other pairs.
#[derive(Clone, Copy)]
pub(in crate::conv) struct Toom<const M: usize, const R: usize>;

/// Pairs of points at most.
const PAIRS: usize = 4;

/// Points of small error: those of four pairs were searched for.
const fn pairs(count: usize) -> [f64; PAIRS] {
    match count {
        1 => [1.0, 0.0, 0.0, 0.0],
        2 => [1.0, 2.0, 0.0, 0.0],
        4 => [0.5, 1.0, 1.25, 3.0],
        _ => panic!("no points were chosen for so many pairs"),
    }
}

/// The coefficients of `Π (t − b²)` over the pairs but `without`.
const fn polynomial(count: usize, without: usize) -> [f64; PAIRS + 1] {
    let points = pairs(count);
    let mut all = [0.0; PAIRS + 1];
    all[0] = 1.0;
    let mut i = 0;
    while i < count {
        if i != without {
            let mut at = PAIRS;
            while at > 0 {
                all[at] = all[at - 1] - points[i] * points[i] * all[at];
                at -= 1;
            }
            all[0] *= -points[i] * points[i];
        }
        i += 1;
    }
    all
}

/// `a` to the power of `n`.
const fn power(a: f64, n: usize) -> f64 {
    let mut all = 1.0;
    let mut i = 0;
    while i < n {
        all *= a;
        i += 1;
    }
    all
}

impl<const M: usize, const R: usize> Toom<M, R> {
    const COUNT: usize = (M + R - 3) / 2;
    /// [`polynomial`] without each pair, and behind them that of all.
    const Q: [[f32; PAIRS + 1]; PAIRS + 1] = {
        let mut all = [[0.0; PAIRS + 1]; PAIRS + 1];
        let mut i = 0;
        while i <= Self::COUNT {
            let of = polynomial(Self::COUNT, i);
            let mut j = 0;
            while j <= PAIRS {
                all[i][j] = of[j] as f32;
                j += 1;
            }
            i += 1;
        }
        all
    };
    /// Powers of the points.
    const POWERS: [[f32; LONGEST]; PAIRS] = {
        let mut all = [[0.0; LONGEST]; PAIRS];
        let mut i = 0;
        while i < PAIRS {
            let mut n = 0;
            while n < LONGEST {
                all[i][n] = power(pairs(Self::COUNT)[i], n) as f32;
                n += 1;
            }
            i += 1;
        }
        all
    };

    /// `Σ Q[i][j] · d[from + 2j]` over `terms` terms, the last of which has the factor 1.
    #[inline(always)]
    unsafe fn sum<S: Simd>(d: &Line<S>, i: usize, from: usize, terms: usize) -> S::V {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let mut sum = d[from + 2 * (terms - 1)];
            for j in 0..terms - 1 {
                sum = S::fma(S::splat(Self::Q[i][j]), d[from + 2 * j], sum);
            }
            sum
        }
    }
}

impl<const M: usize, const R: usize> Points for Toom<M, R> {
    const TAPS: usize = R;
    const SIDE: usize = 2 * Self::COUNT + 2;
    const STEP: usize = M;
    const G: [[f32; LONGEST]; SIDE] = {
        assert!(M + R - 1 == Self::SIDE, "the points come in pairs");
        let mut g = [[0.0; LONGEST]; SIDE];
        g[0][0] = (1.0 / polynomial(Self::COUNT, Self::COUNT)[0]) as f32;
        let mut i = 0;
        while i < Self::COUNT {
            let a = pairs(Self::COUNT)[i];
            // 2a² Q(a²) is the product of the distances to the other points.
            let of = polynomial(Self::COUNT, i);
            let mut product = 0.0;
            let mut j = 0;
            while j <= PAIRS {
                product += of[j] * power(a, 2 * j);
                j += 1;
            }
            let mut n = 0;
            while n < R {
                let value = power(a, n) / (2.0 * a * a * product);
                g[1 + 2 * i][n] = value as f32;
                g[2 + 2 * i][n] = if n % 2 == 0 { value } else { -value } as f32;
                n += 1;
            }
            i += 1;
        }
        g[Self::SIDE - 1][R - 1] = 1.0;
        g
    };

    #[inline(always)]
    unsafe fn source<S: Simd>(d: Line<S>) -> Line<S> {
        unsafe {
            let count = Self::COUNT;
            let mut out = d;
            out[0] = Self::sum::<S>(&d, count, 0, count + 1);
            for i in 0..count {
                let even = Self::sum::<S>(&d, i, 2, count);
                let mut odd = Self::sum::<S>(&d, i, 1, count);
                if Self::POWERS[i][1] != 1.0 {
                    odd = S::mul(S::splat(Self::POWERS[i][1]), odd);
                }
                out[1 + 2 * i] = S::add(even, odd);
                out[2 + 2 * i] = S::sub(even, odd);
            }
            out[Self::SIDE - 1] = Self::sum::<S>(&d, count, 1, count + 1);
            out
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: Line<S>) -> Line<S> {
        unsafe {
            let mut out = [S::splat(0.0); SIDE];
            out[0] = m[0];
            for i in 0..Self::COUNT {
                let (plus, minus) = (m[1 + 2 * i], m[2 + 2 * i]);
                let both = [S::add(plus, minus), S::sub(plus, minus)];
                for n in 0..M {
                    let factor = Self::POWERS[i][n];
                    out[n] = match factor == 1.0 {
                        true if i == 0 && n > 0 => both[n % 2],
                        true => S::add(both[n % 2], out[n]),
                        false if i == 0 => S::mul(S::splat(factor), both[n % 2]),
                        false => S::fma(S::splat(factor), both[n % 2], out[n]),
                    };
                }
            }
            out[M - 1] = S::add(m[Self::SIDE - 1], out[M - 1]);
            out
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: Line<S>) -> Line<S> {
        unsafe {
            let mut out = y;
            for i in 0..Self::COUNT {
                let mut sums = [y[0], S::mul(S::splat(Self::POWERS[i][1]), y[1])];
                for n in 2..M {
                    let factor = S::splat(Self::POWERS[i][n]);
                    sums[n % 2] = S::fma(factor, y[n], sums[n % 2]);
                }
                out[1 + 2 * i] = S::add(sums[0], sums[1]);
                out[2 + 2 * i] = S::sub(sums[0], sums[1]);
            }
            out[Self::SIDE - 1] = y[M - 1];
            out
        }
    }
}

/// F(4, 2) with the points 0, ±1, 2.
#[derive(Clone, Copy)]
pub(in crate::conv) struct FourOfTwo;

impl Points for FourOfTwo {
    const TAPS: usize = 2;
    const SIDE: usize = 5;
    const STEP: usize = 4;
    const G: [[f32; LONGEST]; SIDE] = {
        let mut g = [[0.0; LONGEST]; SIDE];
        [g[0][0], g[0][1]] = [1.0 / 2.0, 0.0];
        [g[1][0], g[1][1]] = [-1.0 / 2.0, -1.0 / 2.0];
        [g[2][0], g[2][1]] = [-1.0 / 6.0, 1.0 / 6.0];
        [g[3][0], g[3][1]] = [1.0 / 6.0, 1.0 / 3.0];
        [g[4][0], g[4][1]] = [0.0, 1.0];
        g
    };

    #[inline(always)]
    unsafe fn source<S: Simd>(d: Line<S>) -> Line<S> {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let (two, minus_two, minus_three) = (S::splat(2.0), S::splat(-2.0), S::splat(-3.0));
            let odd = S::sub(d[3], d[1]);
            let mut out = d;
            out[0] = S::fma(two, S::sub(d[0], d[2]), odd);
            out[1] = S::sub(S::fma(minus_two, d[1], d[3]), d[2]);
            out[2] = S::fma(two, d[1], S::fma(minus_three, d[2], d[3]));
            out[3] = odd;
            out[4] = S::fma(minus_two, odd, S::sub(d[4], d[2]));
            out
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: Line<S>) -> Line<S> {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let mut out = m;
            out[0] = S::add(m[0], S::add(even, m[3]));
            out[1] = S::fma(two, m[3], odd);
            out[2] = S::fma(four, m[3], even);
            out[3] = S::add(m[4], S::fma(eight, m[3], odd));
            out
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: Line<S>) -> Line<S> {
        unsafe {
            let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
            let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
            let mut out = y;
            out[1] = S::add(even, odd);
            out[2] = S::sub(even, odd);
            out[3] = S::fma(eight, y[3], S::fma(four, y[2], S::fma(two, y[1], y[0])));
            out[4] = y[3];
            out
        }
    }
}

/// A product of one of a filter's matrices with columns or rows.
pub(in crate::conv) trait Lines {
    /// Numbers of a line.
    fn from<P: Points>() -> usize;
    unsafe fn of<S: Simd, P: Points>(line: Line<S>) -> Line<S>;
}

/// [`Points::source`].
pub(in crate::conv) struct Source;

impl Lines for Source {
    #[inline(always)]
    fn from<P: Points>() -> usize {
        P::SIDE
    }

    #[inline(always)]
    unsafe fn of<S: Simd, P: Points>(line: Line<S>) -> Line<S> {
        // SAFETY: the caller promises the instruction set.
        unsafe { P::source::<S>(line) }
    }
}

/// [`Points::spread`].
pub(in crate::conv) struct Spread;

impl Lines for Spread {
    #[inline(always)]
    fn from<P: Points>() -> usize {
        P::STEP
    }

    #[inline(always)]
    unsafe fn of<S: Simd, P: Points>(line: Line<S>) -> Line<S> {
        // SAFETY: the caller promises the instruction set.
        unsafe { P::spread::<S>(line) }
    }
}
