//! The `autoencoder` family against `tools/reference/twin_autoencoder.py`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use vermeer::import::from_pytorch;
use vermeer::models::{AutoencoderConfig, AutoencoderNet};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};
use vermeer::registry::DataSpec;

use crate::twin::{CLOSE, Twin, on_host, values};

#[test]
fn conv_mse() {
    check("autoencoder-conv-mse");
}

#[test]
fn conv_l1() {
    check("autoencoder-conv-l1");
}

#[test]
fn mlp_bernoulli() {
    check("autoencoder-mlp-bernoulli");
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config: AutoencoderConfig = serde_json::from_value(settings(&twin)).unwrap();
    let blank = config.init(&spec(&twin), &Init::blank(&device));
    let published =
        |prefix: &str| from_pytorch(&blank, &twin.group(prefix), |name| name.to_owned()).unwrap();
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(blank.clone(), &start, Path::new(case)).unwrap();

    let x = twin.tensor::<4>("input/x", &device);
    let code = net.encode(x.clone());
    twin.assert_close("output/code", &values(code.clone()), CLOSE);
    let location = net.decode(code);
    twin.assert_close("output/location", &values(location.clone()), CLOSE);
    twin.assert_close(
        "output/pixels",
        &values(net.pixels(location.clone())),
        CLOSE,
    );
    let per_image = net.per_image(location, x.clone());
    twin.assert_close("output/per_image", &values(per_image), CLOSE);
    twin.assert_close("loss/total", &values(objective(&net, &x)), CLOSE);

    let first = gradients(&net, &x);
    let under = twin.check_gradients(&on_host(first.named()), &gradient, CLOSE);
    assert_eq!(
        under,
        BTreeSet::new(),
        "no gradient of this family is known to vanish"
    );

    let adam = AdamConfig {
        beta1: twin.number("/optimizer/betas/0"),
        beta2: twin.number("/optimizer/betas/1"),
        epsilon: twin.number("/optimizer/eps"),
        weight_decay: 0.0,
    };
    let mut learner = Learner::new(net, adam, 0.0, "");
    for _ in 0..3 {
        let gradients = gradients(learner.module(), &x);
        learner.update(gradients, twin.number("/optimizer/lr"), None, x.dims()[0]);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

/// The mean loss, `[1]`.
fn objective(net: &AutoencoderNet, x: &Tensor<4>) -> Tensor<1> {
    let location = net.decode(net.encode(x.clone()));
    net.per_image(location, x.clone()).mean()
}

fn gradients(net: &AutoencoderNet, x: &Tensor<4>) -> Gradients {
    Gradients::take(&mut objective(net, x).backward(), net)
}

fn spec(twin: &Twin) -> DataSpec {
    DataSpec {
        channels: twin.size("/model/channels"),
        height: twin.size("/model/image_height"),
        width: twin.size("/model/image_width"),
        classes: vec![],
        attributes: vec![],
    }
}

/// The twin's settings without those of the images.
fn settings(twin: &Twin) -> serde_json::Value {
    let mut model = twin.settings["model"].clone();
    let table = model.as_object_mut().unwrap();
    for key in ["channels", "image_height", "image_width"] {
        table.remove(key);
    }
    model
}
