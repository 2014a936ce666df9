//! What holds for every network of this family.

use super::*;
use crate::autoregressive::{Known, Sampling, naive_sample, sample};
use crate::autoregressive::{stepwise_outputs, total_probability};
use crate::nn::host;

/// Settings and images: grey and binary with a class, grey with dilation, colour.
fn cases() -> Vec<(GatedPixelCnnConfig, DataSpec)> {
    let grey = |levels: usize, conditional: bool, dilations: &[usize]| {
        let config = GatedPixelCnnConfig {
            width: 6,
            first_kernel: 5,
            dilations: dilations.to_vec(),
            levels,
            conditional,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 6,
            width: 5,
            classes: vec!["a".into(), "b".into(), "c".into()],
            attributes: vec![],
        };
        (config, spec)
    };
    let (mut large, spec) = grey(4, false, &[2, 1]);
    large.kernel = 5;
    vec![
        grey(2, true, &[1, 2, 1]),
        (large, spec),
        GatedPixelCnn::tiny(),
    ]
}

/// As many features as convolutions need to be filtered where they may.
fn wide_cases() -> Vec<(GatedPixelCnnConfig, DataSpec)> {
    let wide = |kernel: usize| {
        let config = GatedPixelCnnConfig {
            width: 16,
            first_kernel: 5,
            kernel,
            dilations: vec![1, 2],
            levels: 2,
            ..Default::default()
        };
        let spec = DataSpec {
            channels: 1,
            height: 6,
            width: 7,
            classes: vec![],
            attributes: vec![],
        };
        (config, spec)
    };
    vec![wide(3), wide(5)]
}

fn net(config: &GatedPixelCnnConfig, spec: &DataSpec) -> GatedPixelCnnNet {
    config.init(spec, &Init::new(5, &Device::flex()))
}

/// Values that look like noise.
fn noise(count: usize, levels: usize) -> Vec<u16> {
    (0..count as u32)
        .map(|i| ((i.wrapping_mul(2_654_435_761) >> 16) as usize % levels) as u16)
        .collect()
}

fn tensor(values: &[u16], n: usize, spec: &DataSpec) -> Tensor<4> {
    let floats: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
    let [c, h, w] = spec.shape();
    Tensor::<1>::from_floats(&floats[..], &Device::flex()).reshape([n, c, h, w])
}

#[test]
fn the_stepper_computes_what_the_network_does() {
    for (config, spec) in cases() {
        let net = net(&config, &spec);
        let size: usize = spec.shape().iter().product();
        let values = noise(3 * size, config.levels);
        let labels = config.conditional.then_some(&[1, 0, 1][..]);
        let whole = host(net.outputs(tensor(&values, 3, &spec), labels));
        let steps = stepwise_outputs(&net, &values, labels);
        assert_eq!(whole.len(), steps.len());
        for (a, b) in whole.iter().zip(&steps) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

/// To the bit: without gradients nothing of a later value arrives.
#[test]
fn what_stands_at_a_position_reaches_later_ones_only() {
    for (config, spec) in cases().into_iter().chain(wide_cases()) {
        let net = net(&config, &spec);
        let [channels, height, width] = spec.shape();
        let size = channels * height * width;
        let values = noise(size, config.levels);
        let labels = config.conditional.then_some(&[1][..]);
        let outputs = |values: &[u16]| host(net.outputs(tensor(values, 1, &spec), labels));
        let before = outputs(&values);
        // The order of positions: row, pixel, channel.
        let order = |place: usize| {
            let (channel, pixel) = (place / (height * width), place % (height * width));
            pixel * channels + channel
        };
        let mut reached = 0;
        for changed in 0..size {
            let mut other = values.clone();
            other[changed] = (other[changed] + 1) % config.levels as u16;
            let after = outputs(&other);
            for (index, (a, b)) in before.iter().zip(&after).enumerate() {
                let place = index % size;
                if order(place) <= order(changed) {
                    assert_eq!(a.to_bits(), b.to_bits(), "{changed} reaches {place}");
                } else if order(place) == order(changed) + 1 {
                    reached += usize::from((a - b).abs() > 1e-6);
                }
            }
        }
        assert!(reached > size / 2, "neighbours are seen: {reached}");
    }
}

#[test]
fn cached_samples_are_those_of_the_whole_network() {
    for (config, spec) in cases() {
        let net = net(&config, &spec);
        let size: usize = spec.shape().iter().product();
        let labels = config.conditional.then_some(&[1, 0][..]);
        let given = noise(2 * size, config.levels);
        let mask: Vec<bool> = (0..2 * spec.height * spec.width)
            .map(|pixel| pixel % (spec.height * spec.width) < 2 * spec.width)
            .collect();
        let known = Known {
            values: &given,
            mask: &mask,
        };
        for known in [None, Some(known)] {
            let ask = Sampling {
                shape: spec.shape(),
                levels: config.levels,
                seed: 3,
                numbers: &[4, 9],
                temperature: 0.8,
                known,
            };
            let cached = sample(&mut *net.stepper(2, labels), &ask);
            let naive = naive_sample(&net, labels, &ask, &Device::flex());
            assert_eq!(cached.values, naive.values);
            let alone = Sampling {
                numbers: &[9],
                known: None,
                ..ask
            };
            if known.is_none() {
                let label = labels.map(|labels| &labels[1..]);
                let alone = sample(&mut *net.stepper(1, label), &alone);
                assert_eq!(alone.values, cached.values[size..]);
            }
        }
    }
}

#[test]
fn probabilities_sum_to_one() {
    let image = |channels: usize, side: usize, conditional: bool, levels: usize| {
        let spec = DataSpec {
            channels,
            height: side,
            width: side,
            classes: vec!["a".into(), "b".into()],
            attributes: vec![],
        };
        let config = GatedPixelCnnConfig {
            width: 6,
            dilations: vec![1, 2],
            levels,
            conditional,
            ..Default::default()
        };
        (config, spec)
    };
    for (channels, side, conditional, levels) in [
        (1, 2, false, 2),
        (1, 3, true, 2),
        (3, 2, false, 2),
        (1, 2, false, 16),
    ] {
        let (config, spec) = image(channels, side, conditional, levels);
        let net = net(&config, &spec);
        let label = conditional.then_some(1);
        let total = total_probability(&net, label, &Device::flex()).unwrap();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }
    let (config, spec) = image(1, 8, false, 2);
    let net = net(&config, &spec);
    assert!(total_probability(&net, None, &Device::flex()).is_err());
}

#[test]
fn wrong_settings_are_refused() {
    let (config, spec) = GatedPixelCnn::tiny();
    let refused = |change: &dyn Fn(&mut GatedPixelCnnConfig, &mut DataSpec)| {
        let (mut config, mut spec) = (config.clone(), spec.clone());
        change(&mut config, &mut spec);
        GatedPixelCnn::check(&config, &spec).is_err()
    };
    assert!(!refused(&|_, _| ()));
    assert!(refused(&|config, _| config.width = 10));
    assert!(refused(&|config, _| config.kernel = 4));
    assert!(refused(&|config, _| config.first_kernel = 1));
    assert!(refused(&|config, _| config.dilations = vec![]));
    assert!(refused(&|config, _| config.dilations = vec![1, 8]));
    assert!(!refused(&|config, _| config.dilations = vec![1, 7]));
    assert!(refused(&|config, _| config.levels = 8));
    assert!(refused(&|config, _| config.binarise = Binarise::Dynamic));
    assert!(refused(&|_, spec| spec.classes = vec![]));
}
