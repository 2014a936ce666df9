//! A published autoencoder against what the reference code computes with it; see `imports`.

use std::path::Path;

use burn::prelude::*;
use vermeer::image::{ImageBatch, Range};
use vermeer::import;
use vermeer::models::AutoencoderConfig;
use vermeer::nn::{Init, load};
use vermeer::registry::family;
use vermeer::task::{Conditions, Request};

use crate::imports::{Reference, folder};

#[test]
fn autoencoder_cifar10() {
    let Some(folder) = folder("autoencoder_cifar10") else {
        return;
    };
    let published = import::read(&folder.join("cifar10_64.ckpt"))
        .unwrap()
        .tensors;
    let family = family("autoencoder").unwrap();
    let (table, spec, weights) = family.import(&[published], &toml::Table::new()).unwrap();
    family.check(&table, &spec).unwrap();
    assert_eq!(spec.shape(), [3, 32, 32]);
    let config: AutoencoderConfig = table.clone().try_into().unwrap();
    assert_eq!((config.latent, config.width), (64, 32));
    let device = Device::flex();
    let net = config.init(&spec, &Init::blank(&device));
    let net = load(net, &weights, Path::new("imported")).unwrap().valid();
    let reference = Reference::open(&folder.join("reference.safetensors"));

    // The reference takes and gives signed pixels.
    let unit = |x: Tensor<4>| x.add_scalar(1.0).mul_scalar(0.5);
    let signed = |x: Tensor<4>| x.mul_scalar(2.0).sub_scalar(1.0);
    let x = unit(reference.tensor::<4>("input"));
    let code = net.encode(x.clone());
    reference.assert_close("output_code", code.clone());
    let location = net.decode(code);
    reference.assert_close("output", signed(net.pixels(location.clone())));
    // Its squared error is that of signed pixels, four times that of unit pixels.
    let loss = net.per_image(location, x.clone()).mul_scalar(4.0);
    reference.assert_close("output_loss", loss);
    let decoded = net.decode(reference.tensor::<2>("input_code"));
    reference.assert_close("output_decoded", signed(net.pixels(decoded)));

    // The same by a request.
    let pipeline = family.pipeline(&table, &spec, &weights, &device).unwrap();
    let images = ImageBatch::new(x, Range::Unit).unwrap();
    let request = Request::Reconstruct {
        images: &images,
        conditions: &Conditions::default(),
    };
    let again = pipeline
        .answer(&request, &mut |_, _| ())
        .unwrap()
        .into_images()
        .unwrap();
    reference.assert_close("output", signed(again.into_tensor()));
}
