//! Milliseconds and GFLOP/s of some layers' convolutions, and of Burn's own beside.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release -p vermeer-kernels --example layers
//! ```
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::time::Instant;

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions as BurnConvOptions;
use vermeer_kernels::Isa;
use vermeer_kernels::conv::{self, Algorithm, Edge, Geometry};

/// Images, side, channels in and out, kernel, stride, padding.
const LAYERS: [[usize; 7]; 12] = [
    [64, 32, 1, 32, 4, 2, 1],
    [64, 16, 32, 64, 4, 2, 1],
    [64, 8, 64, 128, 4, 2, 1],
    [64, 4, 128, 1, 4, 1, 0],
    [32, 32, 64, 64, 3, 1, 1],
    [32, 16, 128, 128, 3, 1, 1],
    [1, 128, 64, 64, 3, 1, 1],
    [8, 14, 512, 512, 3, 1, 1],
    [64, 14, 32, 32, 3, 1, 1],
    [64, 7, 64, 64, 3, 1, 1],
    [1, 64, 64, 32, 3, 1, 1],
    [8, 56, 256, 64, 1, 1, 0],
];

/// The median of nine runs after one, in milliseconds.
fn median(mut f: impl FnMut()) -> f64 {
    f();
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[4]
}

fn main() {
    let isa = Isa::current();
    println!("{}: milliseconds (GFLOP/s)", isa.name());
    let heads = [
        "forward",
        "to the input",
        "to the weight",
        "direct",
        "F(2×2)",
        "Burn's forward",
    ];
    println!(
        "{:>28} {}",
        "layer",
        heads.map(|head| format!("{head:>16}")).concat()
    );
    for [n, side, c, k, kernel, stride, padding] in LAYERS {
        let (input, kernels, strides, paddings) =
            ([side; 2], [kernel; 2], [stride; 2], [padding; 2]);
        let output = Geometry::output_size(input, kernels, strides, paddings, [1; 2])
            .expect("every kernel fits its image");
        let g = Geometry {
            n,
            input,
            output,
            c,
            k,
            kernel: kernels,
            stride: strides,
            padding: paddings,
            dilation: [1; 2],
            groups: 1,
            algorithm: Algorithm::Auto,
            edge: Edge::Zeros,
        };
        let by = |algorithm| Geometry { algorithm, ..g };
        let (direct, two) = (by(Algorithm::Direct), by(Algorithm::Winograd2));
        let numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect() };
        let [x, y, w] = g.lengths().map(numbers);
        let device = Device::flex();
        let image = Tensor::<1>::from_floats(&x[..], &device).reshape([n, c, side, side]);
        let weight = Tensor::<1>::from_floats(&w[..], &device).reshape([k, c, kernel, kernel]);
        let burn = || {
            let options = BurnConvOptions::new(strides, paddings, [1; 2], 1);
            drop(module::conv2d(image.clone(), weight.clone(), None, options));
        };
        let times = [
            median(|| drop(conv::forward(isa, &g, &x, &w, None))),
            median(|| drop(conv::backward(isa, &g, &y, &w, None))),
            median(|| drop(conv::weight_gradient(isa, &g, &x, &y))),
            median(|| drop(conv::forward(isa, &direct, &x, &w, None))),
            median(|| drop(conv::forward(isa, &two, &x, &w, None))),
            median(burn),
        ];
        let products = (n * output[0] * output[1] * k * c * kernel * kernel) as f64;
        let cells = times.map(|ms| format!("{ms:9.2} ({:4.0})", 2e-6 * products / ms));
        let name = format!("{n}×{side}² {c}→{k} {kernel}×{kernel}/{stride}");
        println!(
            "{name:>28} {}",
            cells.map(|cell| format!("{cell:>16}")).concat()
        );
    }
}
