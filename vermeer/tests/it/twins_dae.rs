//! The `dae` family against `tools/reference/twin_dae.py`, on the spoiled images of its fixtures.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use vermeer::import::from_pytorch;
use vermeer::models::{DaeConfig, DaeNet};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};
use vermeer::registry::DataSpec;

use crate::twin::{CLOSE, Twin, on_host, values};

#[test]
fn conv() {
    check("dae-conv");
}

/// The twin takes the Jacobian by automatic differentiation.
#[test]
fn contractive() {
    check("dae-contractive");
}

#[test]
fn unet() {
    check("dae-unet");
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config: DaeConfig = serde_json::from_value(settings(&twin)).unwrap();
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
    let spoiled = |k: usize| twin.tensor::<4>(&format!("input/spoiled.{k}"), &device);
    if let Some(code) = net.encode(x.clone()) {
        twin.assert_close("output/code", &values(code), CLOSE);
    }
    let location = net.locate(spoiled(0));
    twin.assert_close("output/location", &values(location.clone()), CLOSE);
    twin.assert_close(
        "output/pixels",
        &values(net.pixels(location.clone())),
        CLOSE,
    );
    let parts = net.loss(location, x.clone());
    twin.assert_close(
        "output/reconstruction",
        &values(parts.reconstruction.clone()),
        CLOSE,
    );
    let mean = values(parts.reconstruction.mean());
    twin.assert_close("loss/reconstruction", &mean, CLOSE);
    assert_eq!(parts.contraction.is_some(), config.contraction > 0.0);
    if let Some(contraction) = parts.contraction {
        twin.assert_close("output/contraction", &values(contraction.clone()), CLOSE);
        twin.assert_close("loss/contraction", &values(contraction.mean()), CLOSE);
    }
    let total = objective(&net, config.contraction, &x, spoiled(0));
    twin.assert_close("loss/total", &values(total), CLOSE);

    let first = gradients(&net, config.contraction, &x, spoiled(0));
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
    for k in 0..3 {
        let gradients = gradients(learner.module(), config.contraction, &x, spoiled(k));
        learner.update(gradients, twin.number("/optimizer/lr"), None, x.dims()[0]);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

/// The mean loss with `lambda` times the contractive term, `[1]`.
fn objective(net: &DaeNet, lambda: f64, x: &Tensor<4>, spoiled: Tensor<4>) -> Tensor<1> {
    let parts = net.loss(net.locate(spoiled), x.clone());
    let loss = parts.reconstruction.mean();
    match parts.contraction {
        Some(contraction) => loss.add(contraction.mean().mul_scalar(lambda)),
        None => loss,
    }
}

fn gradients(net: &DaeNet, lambda: f64, x: &Tensor<4>, spoiled: Tensor<4>) -> Gradients {
    Gradients::take(&mut objective(net, lambda, x, spoiled).backward(), net)
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
