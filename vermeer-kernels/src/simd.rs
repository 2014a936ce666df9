//! Vectors of `f32` for each instruction set, and the way into code compiled for it.
//!
//! A kernel is written once, generic over [`Simd`], and every function it calls is
//! `#[inline(always)]`, so that all of it is compiled inside [`Isa::run`]'s functions, which
//! carry the instruction set.

#![allow(
    unsafe_code,
    reason = "intrinsics and pointers are the point of this file"
)]

use crate::Isa;

/// Vectors of one instruction set.
///
/// # Safety
/// Every function may only run on a processor with that set, and pointers must be valid for the
/// lanes that are read or written.
pub(crate) trait Simd: Copy {
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Vectors that a panel of weights is wide at most.
    const PANEL: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` lanes; the others are zero and their memory is not touched.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_part(p: *mut f32, n: usize, v: Self::V);
    /// Lane `i` from `p + i · step`, and every lane from the `n`-th on as the one before it;
    /// 16 steps are less than 2³¹ numbers.
    unsafe fn gather(p: *const f32, step: usize, n: usize) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of the two, `b` where one of them is no number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of the two, `b` where one of them is no number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// The first half of the lanes plus the second, and so on.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: no vector is wider than 16 lanes.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        let mut n = Self::LANES;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                lanes[i] += lanes[i + n];
            }
        }
        lanes[0]
    }
}

/// Something to compute with vectors.
pub(crate) trait Kernel {
    /// # Safety
    /// Must be called with a set that the processor has, from code compiled for it; the
    /// implementation is `#[inline(always)]`.
    unsafe fn run<S: Simd>(self);
}

impl Isa {
    /// Numbers in a vector, and vectors in a panel.
    pub(crate) fn shape(self) -> (usize, usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => (x86::Avx512::LANES, x86::Avx512::PANEL),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => (x86::Avx2::LANES, x86::Avx2::PANEL),
            _ => (Portable::LANES, Portable::PANEL),
        }
    }

    /// Computes `kernel` with this set.
    pub(crate) fn run(self, kernel: impl Kernel) {
        assert!(self.here(), "this processor does not have {}", self.name());
        // SAFETY: the set was detected.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::on_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::on_avx2(kernel) },
            _ => unsafe { kernel.run::<Portable>() },
        }
    }
}

/// Four lanes that the compiler may put into a register of any target.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const PANEL: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller promises four numbers.
        unsafe { p.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller promises four numbers.
        unsafe { p.cast::<[f32; 4]>().write(v) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> [f32; 4] {
        // SAFETY: the caller promises `n` numbers.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: [f32; 4]) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller promises `n` numbers.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn gather(p: *const f32, step: usize, n: usize) -> [f32; 4] {
        // SAFETY: the caller promises `n` numbers.
        std::array::from_fn(|i| unsafe { *p.add(i.min(n - 1) * step) })
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn on_avx512<K: Kernel>(kernel: K) {
        // SAFETY: this function is compiled for the set.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn on_avx2<K: Kernel>(kernel: K) {
        // SAFETY: this function is compiled for the set.
        unsafe { kernel.run::<Avx2>() }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    // SAFETY of every block below: the trait's callers promise the set and the pointers.
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const PANEL: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) }
        }
        #[inline(always)]
        unsafe fn store_part(p: *mut f32, n: usize, v: __m512) {
            unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, v) }
        }
        #[inline(always)]
        unsafe fn gather(p: *const f32, step: usize, n: usize) -> __m512 {
            unsafe {
                let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let lanes = _mm512_min_epi32(lanes, _mm512_set1_epi32(n as i32 - 1));
                let at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(step as i32));
                _mm512_i32gather_ps::<4>(at, p)
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe {
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
                Avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(v), high))
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// Eight lanes, the first `n` of them selected.
    #[inline(always)]
    unsafe fn first(n: usize) -> __m256i {
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
        }
    }

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const PANEL: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(p, first(n)) }
        }
        #[inline(always)]
        unsafe fn store_part(p: *mut f32, n: usize, v: __m256) {
            unsafe { _mm256_maskstore_ps(p, first(n), v) }
        }
        #[inline(always)]
        unsafe fn gather(p: *const f32, step: usize, n: usize) -> __m256 {
            unsafe {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let lanes = _mm256_min_epi32(lanes, _mm256_set1_epi32(n as i32 - 1));
                let at = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(step as i32));
                _mm256_i32gather_ps::<4>(p, at)
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }
}
