//! What this machine can do at most: multiply-adds in registers, and copies of memory.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release -p vermeer-kernels --example roofline
//! ```
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use vermeer_kernels::Isa;

/// Sums that do not wait for each other, few enough for the 16 registers of AVX2.
const SUMS: usize = 12;
const STEPS: usize = 4_000_000;

/// `STEPS` multiply-adds to each of the sums; the lanes of a sum, for the count.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{STEPS, SUMS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512() -> usize {
        let mut sums = [_mm512_set1_ps(0.5); SUMS];
        let factor = _mm512_set1_ps(black_box(0.999));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums.map(|sum| _mm512_cvtss_f32(sum)));
        16
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2() -> usize {
        let mut sums = [_mm256_set1_ps(0.5); SUMS];
        let factor = _mm256_set1_ps(black_box(0.999));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums.map(|sum| _mm256_cvtss_f32(sum)));
        8
    }
}

fn portable() -> usize {
    let mut sums = [0.5f32; SUMS];
    let factor = black_box(0.999f32);
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = *sum * factor + factor;
        }
    }
    black_box(sums);
    1
}

#[allow(unsafe_code, reason = "the set was detected")]
fn run(isa: Isa) -> usize {
    match isa {
        // SAFETY: `Isa::current` is a set of this processor.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::avx2() },
        _ => portable(),
    }
}

/// The best of five runs, in seconds.
fn fastest(mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let threads = rayon::current_num_threads();
    let isa = Isa::current();
    let seconds = fastest(|| {
        (0..threads).into_par_iter().for_each(|_| {
            run(isa);
        });
    });
    let operations = (2 * threads * STEPS * SUMS * run(isa)) as f64;
    println!(
        "{threads} threads, {}: {:.0} GFLOP/s of multiply-adds",
        isa.name(),
        1e-9 * operations / seconds
    );
    let from = vec![1.0f32; 1 << 26];
    let mut to = vec![0.0f32; from.len()];
    let seconds = fastest(|| {
        let part = from.len() / threads;
        to.par_chunks_mut(part)
            .zip(from.par_chunks(part))
            .for_each(|(to, from)| to.copy_from_slice(from));
    });
    let bytes = (8 * from.len()) as f64;
    println!(
        "{threads} threads: {:.1} GB/s read and written",
        1e-9 * bytes / seconds
    );
}
