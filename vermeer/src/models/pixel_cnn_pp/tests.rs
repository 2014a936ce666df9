use std::collections::BTreeSet;

use super::*;
use crate::autoregressive::{
    Sampling, naive_sample, negative_log_likelihood, positions, sample, stepwise_outputs,
    total_probability,
};
use crate::nn::{host, load};
use crate::random::{Purpose, stream};

fn spec([channels, height, width]: [usize; 3], classes: usize) -> DataSpec {
    DataSpec {
        channels,
        height,
        width,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    }
}

/// A network whose blocks are far from the identity, so that what they do shows.
fn net(shape: [usize; 3], classes: usize, scales: usize) -> PixelCnnPpNet {
    net_of(5, shape, classes, scales)
}

/// The same of another width.
fn net_of(width: usize, shape: [usize; 3], classes: usize, scales: usize) -> PixelCnnPpNet {
    let config = PixelCnnPpConfig {
        width,
        blocks: 2,
        scales,
        components: 3,
        conditional: classes > 0,
    };
    let spec = spec(shape, classes);
    PixelCnnPp::check(&config, &spec).unwrap();
    let device = Device::flex();
    let net = config.init(&spec, &Init::new(11, &device));
    let drawn: TensorMap = crate::nn::state(&net)
        .into_iter()
        .map(|(path, mut tensor)| {
            let larger = path.contains("second") || path.contains("label");
            for value in &mut tensor.data {
                *value *= if larger { 10.0 } else { 1.5 };
            }
            (path, tensor)
        })
        .collect();
    load(net, &drawn, "test".as_ref()).unwrap()
}

/// Bytes of `n` images.
fn bytes(n: usize, shape: [usize; 3]) -> Vec<u16> {
    let mut random = stream(3, Purpose::Noise, 0, 0);
    let size: usize = shape.iter().product();
    (0..n * size).map(|_| random.below(256) as u16).collect()
}

fn tensor(bytes: &[u16], [channels, height, width]: [usize; 3]) -> Tensor<4> {
    let n = bytes.len() / (channels * height * width);
    let values: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte)).collect();
    Tensor::<1>::from_floats(&values[..], &Device::flex()).reshape([n, channels, height, width])
}

/// Shapes, classes, scales.
const NETS: [([usize; 3], usize, usize); 4] = [
    ([1, 8, 12], 0, 3),
    ([3, 4, 8], 3, 3),
    ([3, 6, 4], 0, 2),
    ([1, 3, 5], 2, 1),
];

fn labels(n: usize, classes: usize) -> Option<Vec<u32>> {
    (classes > 0).then(|| (0..n).map(|row| (row % classes) as u32).collect())
}

#[test]
fn the_stepper_computes_what_the_network_does() {
    for (shape, classes, scales) in NETS {
        let net = net(shape, classes, scales);
        let (x, labels) = (bytes(3, shape), labels(3, classes));
        let whole = host(net.outputs(tensor(&x, shape), labels.as_deref()));
        let steps = stepwise_outputs(&net, &x, labels.as_deref());
        assert_eq!(whole.len(), steps.len());
        for (a, b) in whole.iter().zip(&steps) {
            assert!(
                (a - b).abs() <= 1e-5 * a.abs().max(1.0),
                "{shape:?}: {a} {b}"
            );
        }
    }
}

#[test]
fn the_mixture_loss_is_the_cross_entropy_of_the_outputs() {
    for (shape, classes, scales) in NETS {
        let net = net(shape, classes, scales);
        let (x, labels) = (tensor(&bytes(2, shape), shape), labels(2, classes));
        let direct = host(net.negative_log_likelihood(x.clone(), labels.as_deref()));
        let outputs = net.outputs(x.clone(), labels.as_deref());
        for (a, b) in direct.iter().zip(host(negative_log_likelihood(outputs, x))) {
            assert!((a - b).abs() <= 1e-5 * a.abs(), "{shape:?}: {a} {b}");
        }
    }
}

#[test]
fn outputs_do_not_see_what_comes_later() {
    // With 16 features convolutions are filtered where they may be.
    for (width, shape, scales) in [(5, [1, 4, 8], 3), (5, [3, 4, 4], 2), (16, [1, 6, 8], 2)] {
        let net = net_of(width, shape, 0, scales);
        let [channels, height, width] = shape;
        let x = bytes(1, shape);
        let before = host(net.outputs(tensor(&x, shape), None));
        let order: Vec<usize> = positions(shape)
            .map(|at| (at.channel * height + at.y) * width + at.x)
            .collect();
        let size = channels * height * width;
        for (index, place) in order.iter().enumerate() {
            let mut other = x.clone();
            other[*place] = (other[*place] + 100) % 256;
            let after = host(net.outputs(tensor(&other, shape), None));
            let changed: BTreeSet<usize> = (0..before.len())
                .filter(|i| before[*i].to_bits() != after[*i].to_bits())
                .map(|i| i % size)
                .collect();
            let early = order[..=index].iter().find(|p| changed.contains(*p));
            assert_eq!(early, None, "{shape:?}: a change at {place} is seen");
            if let Some(next) = order.get(index + 1) {
                assert!(
                    changed.contains(next),
                    "{shape:?}: {place} does not reach {next}"
                );
            }
        }
    }
}

#[test]
fn cached_samples_are_naive_samples() {
    for (shape, classes, scales) in [([1, 4, 4], 2, 2), ([3, 4, 4], 0, 3)] {
        let net = net(shape, classes, scales);
        let labels = labels(3, classes);
        let ask = Sampling {
            shape,
            levels: 256,
            seed: 9,
            numbers: &[4, 0, 17],
            temperature: 0.9,
            known: None,
        };
        let cached = sample(&mut *net.stepper(3, labels.as_deref()), &ask);
        let naive = naive_sample(&net, labels.as_deref(), &ask, &Device::flex());
        assert_eq!(cached.values, naive.values, "{shape:?}");
        // Alone, a sample is the same to the bit.
        let alone = Sampling {
            numbers: &[17],
            ..ask
        };
        let label = labels.as_ref().map(|labels| &labels[2..]);
        let drawn = sample(&mut *net.stepper(1, label), &alone);
        assert_eq!(
            drawn.values[..],
            cached.values[2 * cached.values.len() / 3..]
        );
    }
}

#[test]
fn known_pixels_need_no_outputs() {
    let shape = [3, 4, 4];
    let net = net(shape, 0, 3);
    let x = bytes(1, shape);
    let whole = stepwise_outputs(&net, &x, None);
    let mut stepper = net.stepper(1, None);
    let mut out = vec![0.0; 256];
    for at in positions(shape) {
        let place = (at.channel * 4 + at.y) * 4 + at.x;
        if (at.y, at.x) == (3, 1) {
            stepper.outputs(at, &mut out);
            for (level, value) in out.iter().enumerate() {
                assert_eq!(value.to_bits(), whole[level * 48 + place].to_bits());
            }
        }
        stepper.put(at, &[x[place]]);
    }
}

#[test]
fn the_probabilities_of_all_images_sum_to_one() {
    let net = net([1, 1, 2], 0, 1);
    let total = total_probability(&net, None, &Device::flex()).unwrap();
    assert!((total - 1.0).abs() < 1e-5, "{total}");
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let spec = spec([1, 28, 28], 0);
    let refused = |config: PixelCnnPpConfig| PixelCnnPp::check(&config, &spec).unwrap_err();
    let scales = |scales| PixelCnnPpConfig {
        scales,
        ..Default::default()
    };
    assert!(refused(scales(4)).remedy().unwrap().contains("[32,32]"));
    assert!(refused(scales(0)).to_string().contains("scales"));
    assert!(refused(scales(7)).to_string().contains("scales"));
    let conditional = PixelCnnPpConfig {
        conditional: true,
        ..Default::default()
    };
    assert!(refused(conditional).to_string().contains("classes"));
    let table: toml::Table = toml::from_str("levels = 2").unwrap();
    assert!(table.try_into::<PixelCnnPpConfig>().is_err());
}
