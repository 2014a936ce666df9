//! Convolutions against their definition, on every instruction set of this processor.

use vermeer_kernels::conv::{self, Algorithm, Edge, Geometry, Packed, Tail};
use vermeer_kernels::{Activation, Isa};

use crate::naive;
use crate::numbers::{Numbers, distance};

/// The algorithms, with their bounds on ‖out − ref‖/‖ref‖: f32 sums of n random terms err by about
/// √n · 2⁻²⁴, at most 3e-6 for the sizes below (up to 5,000 products a result); the transformations of
/// F(4×4) add to that, those of F(2×2) hardly.
const BOUNDS: [(Algorithm, f64); 3] = [
    (Algorithm::Direct, 3e-6),
    (Algorithm::Winograd2, 3e-6),
    (Algorithm::Winograd4, 1e-5),
];

#[allow(
    clippy::too_many_arguments,
    reason = "they are PyTorch's, in its order"
)]
fn geometry(
    n: usize,
    input: [usize; 2],
    [c, k]: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
) -> Option<Geometry> {
    let output = Geometry::output_size(input, kernel, stride, padding, dilation)?;
    Some(Geometry {
        n,
        input,
        output,
        c,
        k,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        algorithm: Algorithm::Auto,
        edge: Edge::Zeros,
    })
}

/// Every second one with a result of ⌈size / stride⌉ rows and columns, which may be fewer or more
/// than the kernel has places.
fn kept(g: Geometry, number: usize) -> Geometry {
    let side = |axis: usize| g.input[axis].div_ceil(g.stride[axis]);
    match number.is_multiple_of(2) {
        true => g,
        false => Geometry {
            output: [side(0), side(1)],
            ..g
        },
    }
}

fn check(g: &Geometry, random: &mut Numbers) {
    let [inputs, outputs, weights] = g.lengths();
    let x = random.signed(inputs);
    let y = random.signed(outputs);
    let w = random.signed(weights);
    let (bias_k, bias_c) = (random.signed(g.k), random.signed(g.c));
    let expected = [
        naive::forward(g, &x, &w, Some(&bias_k)),
        naive::forward(g, &x, &w, None),
        naive::backward(g, &y, &w, Some(&bias_c)),
        naive::backward(g, &y, &w, None),
        naive::weight_gradient(g, &x, &y),
    ];
    let each = |isa| BOUNDS.map(|(algorithm, bound)| (isa, algorithm, bound));
    for (isa, algorithm, bound) in Isa::available().flat_map(each) {
        let g = &Geometry { algorithm, ..*g };
        let found = [
            conv::forward(isa, g, &x, &w, Some(&bias_k)),
            conv::forward(isa, g, &x, &w, None),
            conv::backward(isa, g, &y, &w, Some(&bias_c)),
            conv::backward(isa, g, &y, &w, None),
            conv::weight_gradient(isa, g, &x, &y),
        ];
        for (what, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let gap = distance(found, expected);
            assert!(
                gap <= bound,
                "{} result {what} of {g:?}: {gap:e}",
                isa.name()
            );
        }
    }
}

#[test]
fn a_table_of_layers_is_right() {
    let square = |n, side: usize, channels, kernel: usize, stride: usize, padding: usize| {
        geometry(
            n,
            [side; 2],
            channels,
            [kernel; 2],
            [stride; 2],
            [padding; 2],
            [1; 2],
            1,
        )
        .unwrap()
    };
    let table = [
        square(2, 8, [64, 64], 3, 1, 1),
        square(2, 32, [1, 32], 4, 2, 1),
        square(3, 16, [32, 64], 4, 2, 1),
        square(2, 4, [128, 1], 4, 1, 0),
        square(5, 4, [128, 100], 4, 1, 0),
        square(1, 9, [48, 3], 9, 1, 4),
        square(1, 7, [3, 96], 7, 2, 3),
        square(2, 5, [17, 33], 1, 1, 0),
        square(1, 1, [20, 2], 1, 1, 0),
        square(1, 6, [40, 4], 3, 1, 1),
        square(0, 6, [4, 4], 3, 1, 1),
        square(2, 6, [20, 0], 3, 1, 1),
        square(2, 6, [0, 20], 3, 1, 1),
        square(2, 9, [40, 24], 4, 2, 1),
        square(1, 12, [17, 35], 6, 2, 2),
        square(1, 7, [512, 64], 3, 1, 1),
        square(0, 6, [192, 160], 3, 1, 1),
        // Four lattices whose weights are transformed on the way.
        square(2, 10, [104, 112], 4, 2, 1),
    ];
    let mut random = Numbers(1);
    for g in &table {
        check(g, &mut random);
    }
}

#[test]
fn depthwise_layers_are_right() {
    let mut random = Numbers(32);
    let mut done = 0;
    while done < 200 {
        let two =
            |random: &mut Numbers, from, to| [random.between(from, to), random.between(from, to)];
        let channels = random.between(2, 70);
        let input = two(&mut random, 1, 12);
        let kernel = two(&mut random, 1, 7);
        let stride = two(&mut random, 1, 3);
        let padding = two(&mut random, 0, 3);
        let dilation = two(&mut random, 1, 2);
        let (n, both) = (random.between(0, 3), [channels; 2]);
        let g = geometry(n, input, both, kernel, stride, padding, dilation, channels);
        if let Some(g) = g {
            check(&kept(g, done), &mut random);
            done += 1;
        }
    }
}

#[test]
fn any_convolution_is_right() {
    let mut random = Numbers(2);
    let mut done = 0;
    while done < 2000 {
        let two =
            |random: &mut Numbers, from, to| [random.between(from, to), random.between(from, to)];
        let groups = [1, 1, 1, 2, 3][random.between(0, 4)];
        let most = 70 / groups / random.between(1, 8);
        let channels = two(&mut random, 1, most.max(1)).map(|c| c * groups);
        let n = random.between(1, 3);
        let input = two(&mut random, 1, 9);
        let kernel = two(&mut random, 1, 5);
        let stride = two(&mut random, 1, 3);
        let padding = two(&mut random, 0, 3);
        let dilation = two(&mut random, 1, 2);
        let g = geometry(
            n, input, channels, kernel, stride, padding, dilation, groups,
        );
        if let Some(g) = g {
            check(&kept(g, done), &mut random);
            done += 1;
        }
    }
}

#[test]
fn any_filtered_convolution_is_right() {
    let mut random = Numbers(22);
    let mut done = 0;
    while done < 1000 {
        let (kernel, stride) = [
            ([3, 3], [1, 1]),
            ([4, 4], [2, 2]),
            ([2, 2], [1, 1]),
            ([6, 6], [2, 2]),
            ([5, 5], [1, 1]),
            ([1, 7], [1, 1]),
            ([7, 1], [1, 1]),
            ([1, 3], [1, 1]),
            ([3, 1], [1, 1]),
            ([14, 1], [2, 1]),
        ][random.between(0, 9)];
        let groups = random.between(1, 3);
        let channels = [0; 2].map(|_| groups * random.between(16, 70 / groups.max(2)));
        let input = [0; 2].map(|_| random.between(1, 13));
        let padding = kernel.map(|side| random.between(0, side - 1));
        let n = random.between(1, 3);
        let g = geometry(n, input, channels, kernel, stride, padding, [1; 2], groups);
        if let Some(g) = g {
            check(&kept(g, done), &mut random);
            done += 1;
        }
    }
}

#[test]
fn tails_follow_the_products() {
    let mut random = Numbers(14);
    let layers = [
        geometry(2, [7, 6], [20, 37], [3, 3], [1; 2], [1; 2], [1; 2], 1),
        geometry(2, [6, 8], [17, 66], [4, 4], [2; 2], [1; 2], [1; 2], 1),
        geometry(1, [5, 5], [6, 8], [3, 3], [1; 2], [1; 2], [1; 2], 2),
        geometry(2, [4, 4], [40, 3], [3, 3], [1; 2], [0; 2], [1; 2], 1),
    ];
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu(0.2),
        Activation::Prelu,
        Activation::Silu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
    ];
    for g in layers.map(Option::unwrap) {
        for transposed in [false, true] {
            let [inputs, outputs, weights] = g.lengths();
            let (from, to, channels) = match transposed {
                false => (inputs, outputs, g.k),
                true => (outputs, inputs, g.c),
            };
            let (x, w) = (random.signed(from), random.signed(weights));
            let (bias, slopes) = (random.signed(channels), random.signed(channels));
            let residual = random.signed(to);
            let plain = match transposed {
                false => naive::forward(&g, &x, &w, Some(&bias)),
                true => naive::backward(&g, &x, &w, Some(&bias)),
            };
            for (isa, activation) in Isa::available().flat_map(|isa| activations.map(|a| (isa, a)))
            {
                let then = |(i, y): (usize, &f64)| {
                    let x = y + f64::from(residual[i]);
                    let leaky = |slope: f64| if x < 0.0 { slope * x } else { x };
                    let sigmoid = 1.0 / (1.0 + (-x).exp());
                    match activation {
                        Activation::Identity => x,
                        Activation::Relu => leaky(0.0),
                        Activation::LeakyRelu(slope) => leaky(f64::from(slope)),
                        Activation::Prelu => leaky(f64::from(slopes[i % channels])),
                        Activation::Silu => x * sigmoid,
                        // Its own test holds it to Φ; the tanh form is within 5e-4 of it.
                        Activation::Gelu => {
                            0.5 * x * (1.0 + (0.797_884_56 * (x + 0.044_715 * x.powi(3))).tanh())
                        }
                        Activation::Tanh => x.tanh(),
                        Activation::Sigmoid => sigmoid,
                    }
                };
                let expected: Vec<f64> = plain.iter().enumerate().map(then).collect();
                let tail = Tail {
                    bias: Some(&bias),
                    residual: Some(&residual),
                    slopes: Some(&slopes),
                    activation,
                };
                let packed = Packed::new(isa, &g, &w, transposed);
                let found = conv::convolve(&g, &x, (&w, &packed), &tail);
                let gap = distance(&found, &expected);
                let bound = if activation == Activation::Gelu {
                    1e-3
                } else {
                    1e-5
                };
                assert!(gap < bound, "{} {activation:?} {g:?}: {gap:e}", isa.name());
            }
        }
    }
}

#[test]
fn channels_join_others_where_they_lie() {
    let layers = [
        geometry(2, [7, 6], [20, 37], [3, 3], [1; 2], [1; 2], [1; 2], 1),
        geometry(2, [9, 6], [24, 20], [1, 1], [1; 2], [0; 2], [1; 2], 2),
        geometry(1, [5, 5], [40, 3], [5, 5], [1; 2], [2; 2], [1; 2], 1),
    ];
    let mut random = Numbers(31);
    for g in layers.map(Option::unwrap) {
        let [inputs, outputs, weights] = g.lengths();
        let (x, w) = (random.signed(inputs), random.signed(weights));
        let pixels = inputs / g.c;
        let (first, pitch) = (g.c + 3, g.c + 3 + g.k + 2);
        let mut images = random.signed(pixels * pitch);
        for (image, x) in images.chunks_mut(pitch).zip(x.chunks(g.c)) {
            image[..g.c].copy_from_slice(x);
        }
        for isa in Isa::available() {
            let packed = Packed::new(isa, &g, &w, false);
            let expected = conv::convolve(&g, &x, (&w, &packed), &Tail::default());
            assert_eq!(expected.len(), outputs);
            for source in [None, Some(&x[..])] {
                let mut found = images.clone();
                let place = [first, pitch];
                conv::convolve_into(
                    &g,
                    source,
                    (&w, &packed),
                    &Tail::default(),
                    &mut found,
                    place,
                );
                let rows = found.chunks(pitch).zip(images.chunks(pitch));
                for ((found, before), expected) in rows.zip(expected.chunks(g.k)) {
                    assert_eq!(found[..first], before[..first]);
                    assert_eq!(&found[first..first + g.k], expected, "{}", isa.name());
                    assert_eq!(found[first + g.k..], before[first + g.k..]);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "does not fit beside its own source")]
fn a_convolution_does_not_write_what_it_reads() {
    let g = geometry(1, [4, 4], [8, 8], [3, 3], [1; 2], [1; 2], [1; 2], 1).unwrap();
    let w = [0.0; 576];
    let packed = Packed::new(Isa::current(), &g, &w, false);
    let mut images = [0.0; 16 * 12];
    conv::convolve_into(
        &g,
        None,
        (&w, &packed),
        &Tail::default(),
        &mut images,
        [4, 12],
    );
}

#[test]
fn a_result_depends_neither_on_threads_nor_on_company() {
    let layers = [
        geometry(9, [13, 11], [40, 56], [4, 3], [2, 1], [1; 2], [1; 2], 1),
        geometry(9, [13, 11], [40, 56], [3, 3], [1; 2], [1; 2], [1; 2], 1),
        geometry(9, [14, 10], [40, 56], [4, 4], [2; 2], [1; 2], [1; 2], 1),
        geometry(9, [6, 11], [40, 56], [1, 7], [1; 2], [0, 3], [1; 2], 1),
        // Few channels of the result, whose sums run over the source's.
        geometry(9, [13, 11], [32, 3], [9, 9], [1; 2], [4; 2], [1; 2], 1),
        // More than a million packed numbers, which are multiplied with more tiles at a time, and
        // more panels than tiles.
        geometry(9, [5, 4], [192, 200], [3, 3], [1; 2], [1; 2], [1; 2], 1),
    ];
    let mut random = Numbers(3);
    for g in layers.map(Option::unwrap) {
        let [inputs, outputs, weights] = g.lengths();
        let (x, y) = (random.signed(inputs), random.signed(outputs));
        let w = random.signed(weights);
        for isa in Isa::available() {
            let all = || {
                [
                    conv::forward(isa, &g, &x, &w, None),
                    conv::backward(isa, &g, &y, &w, None),
                    conv::weight_gradient(isa, &g, &x, &y),
                ]
            };
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(all)
            };
            let one = with(1);
            assert!(one == with(2) && one == with(5), "{} {g:?}", isa.name());
            // The fifth image alone.
            let alone = Geometry { n: 1, ..g };
            let [inputs, outputs, _] = alone.lengths();
            let x = &x[4 * inputs..5 * inputs];
            let y = &y[4 * outputs..5 * outputs];
            assert_eq!(
                conv::forward(isa, &alone, x, &w, None),
                one[0][4 * outputs..5 * outputs]
            );
            assert_eq!(
                conv::backward(isa, &alone, y, &w, None),
                one[1][4 * inputs..5 * inputs]
            );
        }
    }
}

#[test]
fn a_part_cut_on_the_grid_is_that_of_the_whole() {
    let whole = geometry(1, [16, 8], [20, 24], [3, 3], [1; 2], [0; 2], [1; 2], 1).unwrap();
    let part = geometry(1, [10, 8], [20, 24], [3, 3], [1; 2], [0; 2], [1; 2], 1).unwrap();
    let mut random = Numbers(23);
    let [inputs, _, weights] = whole.lengths();
    let (x, w) = (random.signed(inputs), random.signed(weights));
    let row = 8 * 20;
    for isa in Isa::available() {
        let all = conv::forward(isa, &whole, &x, &w, None);
        let some = conv::forward(isa, &part, &x[4 * row..14 * row], &w, None);
        let result = whole.output[1] * 24;
        assert_eq!(some, all[4 * result..12 * result], "{}", isa.name());
    }
}

#[test]
#[should_panic(expected = "reflects fewer pixels than it has")]
fn an_image_does_not_reflect_more_than_it_has() {
    let g = geometry(1, [2, 2], [1, 1], [5, 5], [1; 2], [2; 2], [1; 2], 1).unwrap();
    let g = Geometry {
        edge: Edge::Reflect,
        ..g
    };
    conv::forward(Isa::current(), &g, &[0.0; 4], &[0.0; 25], None);
}

#[test]
#[should_panic(expected = "larger than memory")]
fn sizes_beyond_memory_are_refused() {
    let g = geometry(1 << 62, [2, 2], [1, 4], [2, 2], [1; 2], [0; 2], [1; 2], 1).unwrap();
    conv::forward(Isa::current(), &g, &[], &[0.0; 16], None);
}

#[test]
#[should_panic(expected = "one number for each channel")]
fn a_bias_of_another_length_is_refused() {
    let g = geometry(1, [2, 2], [1, 4], [1, 1], [1; 2], [0; 2], [1; 2], 1).unwrap();
    conv::forward(Isa::current(), &g, &[0.0; 4], &[0.0; 4], Some(&[0.0; 5]));
}
