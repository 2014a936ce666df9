//! Frozen networks with formula weights, against torch-fidelity 0.4.0, pytorch-fid 0.3.0, lpips
//! 0.1.4 and PyTorch 2.11.
//!
//! `testdata/metrics/networks.safetensors` and `vgg16.safetensors` are made by
//! `tools/reference/cases_networks.py` in float64; PyTorch in float32 is at most 1.4e-6 of a
//! tensor's norm away.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;
use vermeer_image::features::{GoogleNet, Inception, LeNet, Tap, Vgg16Fc2, Weights};
use vermeer_image::metrics::{Backbone, Lpips};
use vermeer_image::{ImageBatch, Range, tf1_bilinear, torch_bilinear};

use crate::formula::{self, Formula, Tensors};
use crate::shared;

/// Allowed distance over the largest value of a tensor.
const CLOSE: f64 = 1e-4;

/// Allowed distance of a perceptual distance.
const LPIPS: f64 = 1e-5;

/// A file of `testdata/metrics`.
struct Stored {
    tensors: Tensors,
    settings: Value,
}

impl Stored {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/metrics");
        let path: PathBuf = folder.join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let texts = header.metadata().as_ref().unwrap();
        Self {
            tensors: formula::read(&path),
            settings: serde_json::from_str(&texts["settings"]).unwrap(),
        }
    }

    /// The formula weights of a network.
    fn weights(&self, network: &str) -> Weights {
        let rows = self.settings["tensors"][network].as_array().unwrap();
        let list: Vec<Formula> = rows
            .iter()
            .map(|row| Formula {
                name: row[0].as_str().unwrap().to_owned(),
                shape: serde_json::from_value(row[1].clone()).unwrap(),
                rule: row[2].as_str().unwrap().to_owned(),
                scale: row[3].as_f64().unwrap(),
            })
            .collect();
        Weights::new(format!("formula of {network}"), formula::weights(&list))
    }

    fn tensor(&self, name: &str) -> Tensor<4> {
        let (shape, values) = &self.tensors[name];
        let shape = [shape[0], shape[1], shape[2], shape[3]];
        Tensor::from_data(TensorData::new(values.clone(), shape), &Device::flex())
    }

    fn assert_close(&self, name: &str, found: Tensor<2>) {
        assert_close(name, &values(found), &self.tensors[name].1, CLOSE);
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_to_vec_as::<f32>().unwrap()
}

/// Fails when a value is further away than `share` of the largest.
#[track_caller]
fn assert_close(name: &str, found: &[f32], expected: &[f32], share: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let size = |x: &f32| f64::from(x.abs());
    let allowed = share * expected.iter().map(size).fold(0.0, f64::max);
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*a) - f64::from(*b)).abs();
        assert!(
            apart <= allowed,
            "{name}: {a}, not {b}, at {at}; {allowed:e} are allowed"
        );
    }
}

/// A picture's samples on 0..=255 and their shape.
type Picture<'a> = (&'a [f32], [usize; 3]);

/// Pictures as torch-fidelity gives them to the Inception.
fn as_torch_fidelity(pictures: &[Picture<'_>]) -> Tensor<4> {
    let image = |(samples, shape): &Picture<'_>| -> Vec<f32> {
        let resized = tf1_bilinear(samples, *shape, [Inception::SIDE; 2]);
        resized.iter().map(|x| (x - 128.0) / 128.0).collect()
    };
    together(pictures.iter().map(image).collect())
}

/// Pictures as pytorch-fid gives them to the Inception.
fn as_pytorch_fid(pictures: &[Picture<'_>]) -> Tensor<4> {
    let image = |(samples, shape): &Picture<'_>| -> Vec<f32> {
        let unit: Vec<f32> = samples.iter().map(|x| x / 255.0).collect();
        let resized = torch_bilinear(&unit, *shape, [Inception::SIDE; 2]);
        resized.iter().map(|x| 2.0 * x - 1.0).collect()
    };
    together(pictures.iter().map(image).collect())
}

fn together(images: Vec<Vec<f32>>) -> Tensor<4> {
    let shape = [images.len(), 3, Inception::SIDE, Inception::SIDE];
    Tensor::from_data(TensorData::new(images.concat(), shape), &Device::flex())
}

#[test]
fn inception_is_that_of_torch_fidelity() {
    let stored = Stored::open("networks");
    let net = Inception::load(stored.weights("inception"), &Device::flex()).unwrap();
    let (shape, bytes) = &stored.tensors["input/inception"];
    let size = [shape[1], shape[2], shape[3]];
    let pictures: Vec<Picture<'_>> = bytes
        .chunks(size.iter().product())
        .map(|image| (image, size))
        .collect();
    let x = as_torch_fidelity(&pictures);
    let found = net.forward(x.clone(), &Tap::ALL).unwrap();
    for (tap, found) in Tap::ALL.into_iter().zip(&found) {
        let name = format!("output/inception.{}", tap.name());
        stored.assert_close(&name, found.clone());
        assert_eq!(found.dims(), [2, tap.dims()]);
    }

    // Taps in another order, and the second picture alone: the same numbers to the bit.
    let alone = net
        .forward(x.clone().narrow(0, 1, 1), &[Tap::Logits, Tap::Pool192])
        .unwrap();
    for (alone, together) in alone.into_iter().zip([&found[5], &found[1]]) {
        let together = together.clone().narrow(0, 1, 1);
        assert_eq!(values(alone), values(together));
    }
    assert!(net.forward(x.clone(), &[]).unwrap().is_empty());
    assert!(net.forward(x.narrow(3, 0, 298), &Tap::ALL).is_err());
}

#[test]
fn lpips_is_that_of_the_package() {
    let stored = Stored::open("networks");
    let images = |name: &str| ImageBatch::new(stored.tensor(name), Range::Signed).unwrap();
    let (a, b) = (images("input/lpips.a"), images("input/lpips.b"));
    for backbone in Backbone::ALL {
        let weights = stored.weights(backbone.name());
        let lpips = Lpips::load_whole(backbone, weights, &Device::flex()).unwrap();
        let name = format!("output/lpips.{backbone}");
        let (_, distances) = &stored.tensors[&name];
        let (_, layers) = &stored.tensors[&format!("{name}.layers")];
        let found = lpips.layers(&a, &b).unwrap().concat();
        let pairs = lpips.distance(&a, &b).unwrap();
        assert_eq!((found.len(), pairs.len()), (layers.len(), distances.len()));
        let all = found.iter().chain(&pairs);
        for (found, expected) in all.zip(layers.iter().chain(distances)) {
            let apart = f64::from((found - expected).abs());
            assert!(apart <= LPIPS, "{name}: {found}, not {expected}");
        }
    }
}

#[test]
fn lenet_is_that_of_pytorch() {
    let stored = Stored::open("networks");
    let net = LeNet::load(stored.weights("lenet"), &Device::flex()).unwrap();
    let x = stored.tensor("input/lenet");
    let found = net.forward(x.clone()).unwrap();
    let batch = ImageBatch::new(x.clone(), Range::Unit).unwrap();
    let again = net.outputs(&batch.to_range(Range::Signed)).unwrap();
    for found in [found, again] {
        stored.assert_close("output/lenet.log_softmax", found.log_probabilities());
        stored.assert_close("output/lenet.c5", found.c5);
        stored.assert_close("output/lenet.features", found.features);
        stored.assert_close("output/lenet.logits", found.logits);
    }
    assert!(net.forward(x.narrow(2, 0, 28)).is_err());
}

#[test]
fn googlenet_is_that_of_pytorch() {
    let stored = Stored::open("networks");
    let net = GoogleNet::load(stored.weights("googlenet"), &Device::flex()).unwrap();
    let x = stored.tensor("input/googlenet");
    let found = net.forward(x.clone()).unwrap();
    stored.assert_close("output/googlenet.features", found.features.clone());
    stored.assert_close("output/googlenet.logits", found.logits);

    // Unit images of which the scaling makes x.
    let row = |values: [f32; 3]| -> Tensor<4> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [1, 3, 1, 1]),
            &Device::flex(),
        )
    };
    let (mean, deviation) = (
        row([0.491_399_68, 0.482_158_42, 0.446_530_9]),
        row([0.247_032_23, 0.243_485_12, 0.261_587_83]),
    );
    let unit = x.clone().mul(deviation).add(mean);
    let images = ImageBatch::new(unit, Range::Unit).unwrap();
    let again = net.outputs(&images.to_range(Range::Bytes)).unwrap();
    stored.assert_close("output/googlenet.features", again.features);
    assert!(net.forward(x.narrow(2, 0, 28)).is_err());
}

#[test]
#[ignore = "takes 2 GB of memory: the linear layers of VGG16 have 120 million weights"]
fn vgg16_is_that_of_torch_fidelity() {
    let stored = Stored::open("vgg16");
    let net = Vgg16Fc2::load(stored.weights("vgg16"), &Device::flex()).unwrap();
    let (shape, bytes) = &stored.tensors["input/vgg16"];
    let size = [shape[1], shape[2], shape[3]];
    let resized = tf1_bilinear(bytes, size, [Vgg16Fc2::SIDE; 2]);
    let shape = [1, 3, Vgg16Fc2::SIDE, Vgg16Fc2::SIDE];
    let x = Tensor::from_data(TensorData::new(resized, shape), &Device::flex());
    stored.assert_close("output/vgg16.fc2_relu", net.features(x).unwrap());
}

#[test]
fn inception_of_photographs_is_that_of_both_packages() {
    let folder = "reference/metric-fixtures";
    let paths = (
        shared::file(&format!("{folder}/inception_tensors.csv")),
        shared::file(&format!("{folder}/inception_formula.safetensors")),
        shared::file(&format!("{folder}/resize.safetensors")),
    );
    let (Some(list), Some(expected), Some(resize)) = paths else {
        return;
    };
    let weights = Weights::new("inception_tensors.csv", formula::weights_of_csv(&list));
    let net = Inception::load(weights, &Device::flex()).unwrap();
    let (expected, resize) = (formula::read(&expected), formula::read(&resize));

    // Four images of CIFAR-10, then two photographs.
    let small = [3, 32, 32];
    let mut pictures: Vec<Picture<'_>> = expected["input_cifar_u8"]
        .1
        .chunks(3 * 32 * 32)
        .map(|image| (image, small))
        .collect();
    for (shape, samples) in [
        &resize["kitti_375x500.input_u8"],
        &expected["input_woman_u8"],
    ] {
        pictures.push((samples.as_slice(), [shape[0], shape[1], shape[2]]));
    }
    for (package, x, taps) in [
        (
            "torch_fidelity",
            as_torch_fidelity(&pictures),
            &Tap::ALL[..],
        ),
        ("pytorch_fid", as_pytorch_fid(&pictures), &Tap::ALL[..4]),
    ] {
        for (tap, found) in taps.iter().zip(net.forward(x, taps).unwrap()) {
            let name = format!("{package}.{}", tap.name());
            assert_close(&name, &values(found), &expected[&name].1, CLOSE);
        }
    }
}
