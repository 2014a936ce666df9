//! The operations one by one, on the sizes that the networks use.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo bench -p vermeer-kernels [-- FILTER]
//! ```

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vermeer_kernels::conv::{self, Algorithm, Edge, Geometry, Packed, Tail};
use vermeer_kernels::group_norm::{self, GroupNormalisation};
use vermeer_kernels::norm::{self, Channels, Normalisation};
use vermeer_kernels::pool::{self, Take, Window};
use vermeer_kernels::update::{self, AdamUpdate};
use vermeer_kernels::{Activation, Isa, join};

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect()
}

fn convolutions(criterion: &mut Criterion) {
    // Images, side, channels in and out, kernel, stride, padding.
    let layers = [
        [32, 32, 64, 64, 3, 1, 1],
        [64, 16, 32, 64, 4, 2, 1],
        [8, 35, 48, 64, 5, 1, 2],
        [8, 56, 256, 64, 1, 1, 0],
        [8, 149, 3, 32, 3, 2, 0],
    ];
    let isa = Isa::current();
    for [n, side, c, k, kernel, stride, padding] in layers {
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
        let [x, y, w] = g.lengths().map(numbers);
        let name = format!("{kernel}x{kernel}s{stride} {c}-{k} {n}x{side}");
        let mut group = criterion.benchmark_group(name);
        let products = n * output[0] * output[1] * k * c * kernel * kernel;
        group.throughput(Throughput::Elements(products as u64));
        for algorithm in [
            Algorithm::Direct,
            Algorithm::Winograd2,
            Algorithm::Winograd4,
        ] {
            let g = Geometry { algorithm, ..g };
            let packed = Packed::new(isa, &g, &w, false);
            group.bench_function(format!("forward {algorithm:?}"), |bench| {
                bench.iter(|| black_box(conv::convolve(&g, &x, (&w, &packed), &Tail::default())));
            });
        }
        group.bench_function("to the input", |bench| {
            bench.iter(|| black_box(conv::backward(isa, &g, &y, &w, None)));
        });
        group.bench_function("to the weight", |bench| {
            bench.iter(|| black_box(conv::weight_gradient(isa, &g, &x, &y)));
        });
        group.bench_function("pack", |bench| {
            bench.iter(|| black_box(Packed::new(isa, &g, &w, false)));
        });
        group.finish();
    }
}

fn passes_over_memory(criterion: &mut Criterion) {
    const N: usize = 32;
    const SIDE: usize = 32;
    const C: usize = 64;
    let isa = Isa::current();
    let (x, gradient) = (numbers(N * SIDE * SIDE * C), numbers(N * SIDE * SIDE * C));
    let channels: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.5; C]);
    let with = Channels {
        mean: &channels[0],
        variance: &channels[1],
        gamma: &channels[2],
        beta: &channels[3],
    };
    let batch = Normalisation {
        epsilon: 1e-5,
        slope: 0.2,
        of_batch: true,
    };
    let groups = GroupNormalisation {
        groups: 8,
        epsilon: 1e-5,
        activation: Activation::Silu,
    };
    let window = Window {
        kernel: [3; 2],
        stride: [2; 2],
        padding: [1; 2],
        take: Take::Largest,
    };
    let mut group = criterion.benchmark_group(format!("{N}x{SIDE}x{SIDE}x{C}"));
    group.throughput(Throughput::Bytes(4 * x.len() as u64));
    group.bench_function("moments", |bench| {
        bench.iter(|| black_box(norm::moments(isa, &x, C)));
    });
    group.bench_function("batch norm", |bench| {
        bench.iter(|| black_box(norm::normalise(isa, &x, with, batch)));
    });
    group.bench_function("batch norm, backward", |bench| {
        bench.iter(|| black_box(norm::normalise_backward(isa, &gradient, &x, with, batch)));
    });
    let both = [&channels[2][..], &channels[3][..]];
    group.bench_function("group norm, SiLU", |bench| {
        bench.iter(|| black_box(group_norm::group_norm(isa, &x, N, both, groups)));
    });
    group.bench_function("group norm, SiLU, backward", |bench| {
        bench.iter(|| {
            black_box(group_norm::group_norm_backward(
                isa, &gradient, &x, N, both, groups,
            ))
        });
    });
    group.bench_function("add", |bench| {
        bench.iter(|| black_box(join::add(isa, &x, &gradient, 1.0)));
    });
    group.bench_function("concat", |bench| {
        bench.iter(|| black_box(join::concat(isa, [&x, &gradient], [C, C])));
    });
    group.bench_function("enlarge", |bench| {
        bench.iter(|| black_box(join::enlarge(isa, &x, [SIDE, SIDE, C], 2)));
    });
    group.bench_function("max pool", |bench| {
        bench.iter(|| black_box(pool::pool(isa, &x, N, [SIDE, SIDE, C], window)));
    });
    let of = AdamUpdate {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        keep: 1.0,
        rate: 1e-4,
        correction: 0.5,
    };
    let [mut parameter, mut first, mut second] = [x.clone(), x.clone(), vec![0.5; x.len()]];
    group.bench_function("adam", |bench| {
        bench.iter(|| {
            let moments = [&mut first[..], &mut second[..]];
            update::adam(isa, of, &mut parameter, moments, &gradient);
        });
    });
    group.finish();
}

criterion_group!(operations, convolutions, passes_over_memory);
criterion_main!(operations);
