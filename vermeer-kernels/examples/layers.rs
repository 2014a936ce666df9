//! Milliseconds of some layers' convolutions: these kernels beside Burn's.
use std::time::Instant;

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions as BurnConvOptions;
use vermeer_kernels::{
    ConvOptions, Isa,
    conv::{self, Geometry},
    conv2d,
};

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
    println!(
        "{:>34} {:>8} {:>8} {:>8} {:>8} GFLOP/s",
        "layer", "forward", "input", "weight", "burn fw"
    );
    for (n, side, c, k, kernel, stride, padding) in [
        (64, 32, 1, 32, 4, 2, 1),
        (64, 16, 32, 64, 4, 2, 1),
        (64, 8, 64, 128, 4, 2, 1),
        (64, 4, 128, 1, 4, 1, 0),
        (32, 32, 64, 64, 3, 1, 1),
        (32, 16, 128, 128, 3, 1, 1),
        (1, 128, 64, 64, 3, 1, 1),
        (8, 56, 256, 64, 1, 1, 0),
    ] {
        let two = |x| [x; 2];
        let output =
            Geometry::output_size(two(side), two(kernel), two(stride), two(padding), [1; 2])
                .unwrap();
        let g = Geometry {
            n,
            input: two(side),
            output,
            c,
            k,
            kernel: two(kernel),
            stride: two(stride),
            padding: two(padding),
            dilation: [1; 2],
            groups: 1,
        };
        let [inputs, outputs, weights] = g.lengths();
        let make = |n: usize| {
            (0..n)
                .map(|i| (i % 17) as f32 * 0.1 - 0.8)
                .collect::<Vec<f32>>()
        };
        let (x, y, w) = (make(inputs), make(outputs), make(weights));
        let isa = Isa::current();
        let times = [
            median(|| drop(conv::forward(isa, &g, &x, &w, None))),
            median(|| drop(conv::backward(isa, &g, &y, &w, None))),
            median(|| drop(conv::weight_gradient(isa, &g, &x, &y))),
        ];
        let device = Device::flex();
        let tx = Tensor::<1>::from_floats(&x[..], &device).reshape([n, c, side, side]);
        let tw = Tensor::<1>::from_floats(&w[..], &device).reshape([k, c, kernel, kernel]);
        let theirs = median(|| {
            drop(module::conv2d(
                tx.clone(),
                tw.clone(),
                None,
                BurnConvOptions::new(two(stride), two(padding), [1; 2], 1),
            ))
        });
        let ours = median(|| {
            drop(conv2d(
                tx.clone(),
                tw.clone(),
                None,
                ConvOptions {
                    stride: two(stride),
                    padding: two(padding),
                    ..Default::default()
                },
            ))
        });
        let flops = 2.0 * (n * output[0] * output[1] * k * c * kernel * kernel) as f64;
        let rate = |ms: f64| flops / ms / 1e6;
        println!(
            "{:>34} {:8.2} {:8.2} {:8.2} {theirs:8.2} door {ours:8.2}  | {:6.0} {:6.0} {:6.0} {:6.0}",
            format!("{n}x{side}² {c}→{k} k{kernel} s{stride}"),
            times[0],
            times[1],
            times[2],
            rate(times[0]),
            rate(times[1]),
            rate(times[2]),
            rate(theirs)
        );
    }
}
