//! Frozen networks with published weights, against what the reference code computes with them
//! (PyTorch 2.11 on the processor, lpips 0.1.4).
//!
//! Weights and references lie outside the repository: `VERMEER_SHARED` names a folder that holds
//! `checkpoints/` and `reference/`. Without it the tests say that they are skipped.

#[path = "../../../vermeer-image/tests/it/formula.rs"]
pub(crate) mod formula;

use std::env;
use std::path::{Path, PathBuf};

use burn::prelude::*;
use formula::Tensors;
use vermeer::import;
use vermeer_image::features::{GoogleNet, LeNet, Weights};
use vermeer_image::metrics::{Backbone, Lpips};
use vermeer_image::{ImageBatch, Range};

/// Allowed distance over the largest value of an output.
const CLOSE: f64 = 1e-4;

/// Allowed distance of a perceptual distance; no more than a thousandth of it either.
const LPIPS: f64 = 1e-5;

/// What `VERMEER_SHARED` holds under that name.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let Some(root) = env::var_os("VERMEER_SHARED") else {
        eprintln!("skipped: VERMEER_SHARED is not set, so {name} is not at hand");
        return None;
    };
    Some(Path::new(&root).join(name))
}

/// The tensors of a published file.
fn tensors(path: &Path) -> Tensors {
    let imported = import::read(path).unwrap().tensors;
    let tensor =
        |(name, tensor): (String, vermeer::run::NamedTensor)| (name, (tensor.shape, tensor.data));
    imported.into_iter().map(tensor).collect()
}

fn weights(path: &Path) -> Weights {
    Weights::new(path.display().to_string(), tensors(path))
}

fn images(tensors: &Tensors, name: &str) -> Tensor<4> {
    let (shape, values) = &tensors[name];
    let shape = [shape[0], shape[1], shape[2], shape[3]];
    Tensor::from_data(TensorData::new(values.clone(), shape), &Device::flex())
}

#[track_caller]
fn assert_close(reference: &Tensors, name: &str, found: Tensor<2>) {
    let (_, expected) = &reference[name];
    let found = found.try_to_vec_as::<f32>().unwrap();
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected
        .iter()
        .fold(0.0f64, |most, x| most.max(f64::from(x.abs())));
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*a) - f64::from(*b)).abs();
        assert!(apart <= CLOSE * largest, "{name}: {a}, not {b}, at {at}");
    }
}

/// Checks distances and their summands.
#[track_caller]
fn assert_distances(lpips: &Lpips, inputs: [Tensor<4>; 2], expected: [&[f32]; 2]) {
    let [a, b] = inputs.map(|x| ImageBatch::new(x, Range::Signed).unwrap());
    let found = [
        lpips.distance(&a, &b).unwrap(),
        lpips.layers(&a, &b).unwrap().concat(),
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let apart = f64::from((found - expected).abs());
            let allowed = LPIPS.min(1e-3 * f64::from(*expected));
            let name = lpips.backbone();
            assert!(apart <= allowed, "{name}: {found}, not {expected}");
        }
    }
}

#[test]
fn lpips_squeeze() {
    let Some(folder) = shared("checkpoints/lpips") else {
        return;
    };
    let reference = formula::read(&folder.join("lpips_squeeze.reference.safetensors"));
    let (whole, device) = (folder.join("lpips_squeeze.pt"), Device::flex());
    let network: Tensors = tensors(&whole)
        .into_iter()
        .filter(|(name, _)| name.starts_with("net."))
        .collect();
    let network = Weights::new("the network of lpips_squeeze.pt", network);
    let heads = weights(&folder.join("lin_v0.1_squeeze.pth"));
    for lpips in [
        Lpips::load_whole(Backbone::Squeeze, weights(&whole), &device).unwrap(),
        Lpips::load(Backbone::Squeeze, network, heads, &device).unwrap(),
    ] {
        let inputs = ["input0", "input1"].map(|name| images(&reference, name));
        let expected = ["output", "output_per_layer"].map(|name| &reference[name].1[..]);
        assert_distances(&lpips, inputs, expected);
    }
    let vgg = weights(&folder.join("lin_v0.1_vgg.pth"));
    assert!(Lpips::load(Backbone::Squeeze, weights(&whole), vgg, &device).is_err());
}

#[test]
fn lpips_heads_over_formula_networks() {
    let Some(fixtures) = shared("reference/metric-fixtures") else {
        return;
    };
    let Some(folder) = shared("checkpoints/lpips") else {
        return;
    };
    let reference = formula::read(&fixtures.join("lpips_formula.safetensors"));
    for backbone in [Backbone::Alex, Backbone::Vgg] {
        let list = fixtures.join(format!("lpips_{backbone}_tensors.csv"));
        let network = Weights::new(backbone.name(), formula::weights_of_csv(&list));
        let heads = weights(&folder.join(format!("lin_v0.1_{backbone}.pth")));
        let lpips = Lpips::load(backbone, network, heads, &Device::flex()).unwrap();
        let inputs = ["input0", "input1"].map(|name| images(&reference, name));
        let expected =
            ["distance", "per_layer"].map(|name| &reference[&format!("{backbone}.{name}")].1[..]);
        assert_distances(&lpips, inputs, expected);
    }
}

#[test]
fn lenet_mnist() {
    let Some(folder) = shared("checkpoints/lenet_mnist") else {
        return;
    };
    let weights = weights(&folder.join("lenet_epoch_12_test_acc_0.991.pth"));
    let net = LeNet::load(weights, &Device::flex()).unwrap();
    let reference = formula::read(&folder.join("reference.safetensors"));
    let found = net.forward(images(&reference, "input")).unwrap();
    assert_close(&reference, "output", found.log_probabilities());
    assert_close(&reference, "output_c5", found.c5);
    assert_close(&reference, "output_features", found.features);
    assert_close(&reference, "output_logits", found.logits);
}

#[test]
fn googlenet_cifar10() {
    let Some(folder) = shared("checkpoints/googlenet_cifar10") else {
        return;
    };
    let weights = weights(&folder.join("GoogleNet.ckpt"));
    let net = GoogleNet::load(weights, &Device::flex()).unwrap();
    let reference = formula::read(&folder.join("reference.safetensors"));
    let found = net.forward(images(&reference, "input")).unwrap();
    assert_close(&reference, "output_features", found.features);
    assert_close(&reference, "output", found.logits);
}
