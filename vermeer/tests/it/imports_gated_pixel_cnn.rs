//! A published Gated PixelCNN against what the reference code computes with it; see `imports`.

use std::env;
use std::fs;
use std::path::Path;

use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use vermeer::autoregressive::{Autoregressive, bits_per_dim};
use vermeer::data::{OpenOptions, Source, Split, idx};
use vermeer::image::{ImageBatch, Range};
use vermeer::import;
use vermeer::models::{GatedPixelCnnConfig, GatedPixelCnnNet};
use vermeer::nn::{Init, load};
use vermeer::registry::{DataSpec, family};
use vermeer::run::TensorMap;
use vermeer::task::{Conditions, Likelihood, Request, SampleOptions};

use crate::imports::{Reference, folder};

/// Settings, images and weights of the published network.
fn published(folder: &Path) -> (toml::Table, DataSpec, TensorMap) {
    let file = import::read(&folder.join("PixelCNN.ckpt")).unwrap();
    let family = family("gated-pixel-cnn").unwrap();
    let imported = family.import(&[file.tensors], &toml::Table::new()).unwrap();
    family.check(&imported.0, &imported.1).unwrap();
    imported
}

#[test]
fn pixelcnn_mnist() {
    let Some(folder) = folder("pixelcnn_mnist") else {
        return;
    };
    let (table, spec, weights) = published(&folder);
    let config: GatedPixelCnnConfig = table.clone().try_into().unwrap();
    assert_eq!(
        (config.width, config.first_kernel, config.levels),
        (64, 3, 256)
    );
    let device = Device::flex();
    let net: GatedPixelCnnNet = config.init(&spec, &Init::blank(&device));
    let net = load(net, &weights, Path::new("imported")).unwrap().valid();
    let reference = Reference::open(&folder.join("reference.safetensors"));

    let x = reference.tensor::<4>("input"); // [4, 1, 28, 28], 0..=255
    let first = x.clone().narrow(0, 0, 1);
    reference.assert_close("output_h_stack_image0", net.features(first, None));
    let outputs = net.outputs(x.clone(), None);
    let rows: Vec<Tensor<5>> = [0, 7, 14, 20, 27]
        .into_iter()
        .map(|row| outputs.clone().narrow(0, 0, 2).narrow(3, row, 1))
        .collect();
    reference.assert_close("output_logits_rows", Tensor::cat(rows, 3));
    let nats = log_softmax(outputs, 1)
        .gather(1, x.clone().int().unsqueeze_dim::<5>(1))
        .neg();
    reference.assert_close("output_nll", nats);
    let bits = net
        .negative_log_likelihood(x, None)
        .div_scalar(784.0 * std::f64::consts::LN_2);
    reference.assert_close("output_bpd", bits.clone());
    reference.assert_close("output_bpd_mean", bits.mean());

    // A digit, drawn pixel by pixel.
    let pipeline = family("gated-pixel-cnn")
        .unwrap()
        .pipeline(&table, &spec, &weights, &device)
        .unwrap();
    let options = SampleOptions::default();
    let request = Request::Generate {
        numbers: &[5],
        options: &options,
    };
    let images = pipeline
        .answer(&request, &mut |_, _| ())
        .unwrap()
        .into_images()
        .unwrap();
    assert_eq!(images.dims(), [1, 1, 28, 28]);
}

/// Bits per dimension of the first 1,000 MNIST test images, to 1e-3 of the figure of the reference.
#[test]
fn bits_per_dimension_of_pixelcnn_mnist() {
    let Some(folder) = folder("pixelcnn_mnist") else {
        return;
    };
    let (table, spec, weights) = published(&folder);
    let device = Device::flex();
    let pipeline = family("gated-pixel-cnn")
        .unwrap()
        .pipeline(&table, &spec, &weights, &device)
        .unwrap();
    assert_eq!(pipeline.likelihood(), Some(Likelihood::Exact));

    let shared = env::var_os("VERMEER_SHARED").unwrap();
    let file = Path::new(&shared).join("data/mnist/t10k-images-idx3-ubyte.gz");
    let digits = idx::open_file(
        &file,
        &OpenOptions {
            split: Split::Test,
            ..OpenOptions::default()
        },
    )
    .unwrap();
    let count = 1000;
    let pixels: Vec<f32> = (0..count)
        .flat_map(|i| digits.get(i).unwrap().image.to_unit_chw())
        .collect();
    let x = Tensor::<1>::from_floats(&pixels[..], &device).reshape([count, 1, 28, 28]);
    let images = ImageBatch::new(x, Range::Unit).unwrap();
    let log_p = pipeline
        .log_likelihood(&images, &Conditions::default(), 1, 0)
        .unwrap();
    let nats = -log_p.iter().sum::<f64>() / count as f64;
    let bits = bits_per_dim(nats, spec.shape());

    let scores = fs::read_to_string(Path::new(&shared).join("checkpoints/reference_scores.json"));
    let scores: serde_json::Value = serde_json::from_str(&scores.unwrap()).unwrap();
    let reference = scores["scores"]["pixelcnn_mnist"]["bits_per_dim"]
        .as_f64()
        .unwrap();
    assert!((bits - reference).abs() < 1e-3, "{bits}, not {reference}");
}
