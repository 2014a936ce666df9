//! What this machine can do at most: multiply-adds from registers, and copies of memory.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release -p vermeer-kernels --example roofline
//! ```
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::time::Instant;

use rayon::prelude::*;
use vermeer_kernels::Isa;
use vermeer_kernels::conv::{self, Algorithm, Edge, Geometry};

/// The best of ten runs, in seconds.
fn fastest(mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..10).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let threads = rayon::current_num_threads();
    // 1×1 kernels over 64 channels: the weights stay in the first-level cache, so that the
    // multiply-add units are what limits.
    let g = Geometry {
        n: 1,
        input: [48 * threads, 64],
        output: [48 * threads, 64],
        c: 64,
        k: 64,
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
        groups: 1,
        algorithm: Algorithm::Direct,
        edge: Edge::Zeros,
    };
    let [x, _, w] = g.lengths().map(|len| vec![0.5f32; len]);
    let isa = Isa::current();
    let seconds = fastest(|| drop(conv::forward(isa, &g, &x, &w, None)));
    let products = (g.n * g.output[0] * g.output[1] * g.c * g.k) as f64;
    println!(
        "{threads} threads, {}: {:.0} GFLOP/s in the innermost product",
        isa.name(),
        2e-9 * products / seconds
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
