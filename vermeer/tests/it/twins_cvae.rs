//! The `cvae` family against `tools/reference/twin_cvae.py`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use serde_json::{Value, json};
use vermeer::import::from_pytorch;
use vermeer::models::{CvaeConfig, CvaeNet, KlTerm};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::Learner;
use vermeer::registry::DataSpec;
use vermeer::task::Conditions;

use crate::twin::{CLOSE, Twin, on_host, values, whole};
use crate::twins_vae::{ADAM, draws};

#[test]
fn conv_class() {
    check("cvae-conv-class");
}

#[test]
fn mlp_class_with_several_draws() {
    check("cvae-mlp-class-draws");
}

#[test]
fn conv_top() {
    check("cvae-conv-top");
}

#[test]
fn mlp_left() {
    check("cvae-mlp-left");
}

#[test]
fn mlp_quarter_with_several_draws() {
    check("cvae-mlp-quarter-draws");
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config = config(&twin);
    let net = config.init(&spec(&twin), &Init::blank(&device));
    let published = |prefix: &str| {
        let tensors = twin.group(prefix);
        from_pytorch(&net, &tensors, |name| twin_name(&twin, name)).unwrap()
    };
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(net.clone(), &start, Path::new(case)).unwrap();
    let x = twin.tensor::<4>("input/x", &device);
    let labels = twin.named("input/labels").data.iter().map(|l| *l as u32);
    let conditions = Conditions {
        labels: Some(labels.collect()),
        attributes: None,
    };
    let given = net.given(&x, &conditions).unwrap();
    twin.assert_close("output/condition", &values(given.condition.clone()), 0.0);

    let (mu, log_var) = net.encode(x.clone(), &given);
    twin.assert_close("output/mu", &values(mu), CLOSE);
    twin.assert_close("output/log_var", &values(log_var), CLOSE);
    let z = twin.tensor::<2>("input/z", &device);
    let expected = net.expected(z, &given);
    twin.assert_close("output/expected", &values(expected), CLOSE);
    let latent = twin.size("/model/latent");
    let one = draws(&twin, 0, &device).narrow(1, 0, latent);
    let elbo = net.elbo(x.clone(), one, &given);
    twin.assert_close("output/reconstruction", &values(elbo.reconstruction), CLOSE);
    twin.assert_close("output/kl", &values(elbo.kl.sum_dim(1)), CLOSE);

    let kl = KlTerm {
        weight: config.kl_weight(0),
        free_bits: 0.0,
    };
    let loss = |net: &CvaeNet, step: usize| {
        let eps = draws(&twin, step, &device);
        net.loss(x.clone(), eps, &given, kl).0
    };
    twin.assert_close("loss/total", &values(loss(&net, 0)), CLOSE);
    let gradients =
        |net: &CvaeNet, step: usize| Gradients::take(&mut loss(net, step).backward(), net);
    let first = gradients(&net, 0);
    let under = twin.check_gradients(&on_host(first.named()), &gradient, CLOSE);
    assert_eq!(under, BTreeSet::new(), "{case}");
    let mut learner = Learner::new(net, ADAM, 0.0, "");
    for step in 0..3 {
        let gradients = gradients(learner.module(), step);
        learner.update(gradients, twin.number("/optimizer/lr"), None, x.dims()[0]);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

fn spec(twin: &Twin) -> DataSpec {
    let classes = twin.settings["model"]["classes"].as_u64().unwrap_or(0);
    DataSpec {
        channels: twin.size("/model/channels"),
        height: twin.size("/model/image_height"),
        width: twin.size("/model/image_width"),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    }
}

fn config(twin: &Twin) -> CvaeConfig {
    let model = &twin.settings["model"];
    let mut config = json!({
        "condition": model["condition"],
        "network": model["network"],
        "likelihood": model["likelihood"],
        "latent": model["latent"],
        "hidden": hidden(twin),
        "draws": twin.settings["draws"],
    });
    if let Some(width) = model.get("width") {
        config["width"] = width.clone();
    }
    serde_json::from_value(config).unwrap()
}

fn hidden(twin: &Twin) -> Vec<usize> {
    match &twin.settings["model"]["hidden"] {
        Value::Array(sizes) => sizes.iter().map(whole).collect(),
        size => vec![whole(size)],
    }
}

/// The twin's name of one of our tensors.
fn twin_name(twin: &Twin, name: &str) -> String {
    let name = name.trim_start_matches("net.");
    let Some((place, last)) = name.rsplit_once('.') else {
        return name.to_owned();
    };
    let out = format!("decoder.layers.{}", hidden(twin).len());
    let convolutional = twin.settings["model"]["network"] == "conv";
    let place = match place {
        "encoder.convolutions.0" => "encoder.conv1",
        "encoder.convolutions.1" => "encoder.conv2",
        "decoder.convolutions.0" => "decoder.conv1",
        "decoder.convolutions.1" => "decoder.conv2",
        "encoder.layers.0" if convolutional => "encoder.hidden",
        "decoder.layers.0" if convolutional => "decoder.hidden",
        "decoder.layers.1" if convolutional => "decoder.expand",
        place if place == out => "decoder.out",
        place => place,
    };
    format!("{place}.{last}")
}
