//! The `pixel-cnn-pp` family against `tools/reference/twin_pixel_cnn_pp.py`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use vermeer::autoregressive::Autoregressive;
use vermeer::import::from_pytorch;
use vermeer::loss::logistic_mixture::LogisticMixture;
use vermeer::models::{PixelCnnPpConfig, PixelCnnPpNet};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};
use vermeer::registry::DataSpec;

use crate::twin::{CLOSE, Twin, on_host, values};

#[test]
fn grey() {
    check("pixel-cnn-pp-grey");
}

#[test]
fn colour_and_classes() {
    check("pixel-cnn-pp-colour-classes");
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let (config, spec) = (config(&twin), spec(&twin));
    let net = config.init(&spec, &Init::blank(&device));
    let published = |prefix: &str| {
        let tensors = twin.group(prefix);
        from_pytorch(&net, &tensors, str::to_owned).unwrap()
    };
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(net.clone(), &start, Path::new(case)).unwrap();

    let x = twin.tensor::<4>("input/x", &device);
    let labels: Option<Vec<u32>> = config.conditional.then(|| {
        let held = &twin.named("input/labels").data;
        held.iter().map(|label| *label as u32).collect()
    });
    let labels = labels.as_deref();
    let parameters = net.parameters(x.clone(), labels);
    twin.assert_close("output/parameters", &values(parameters), CLOSE);
    let nll = net.negative_log_likelihood(x.clone(), labels);
    twin.assert_close("output/nll", &values(nll.clone()), CLOSE);
    twin.assert_close("loss/total", &values(nll.mean()), CLOSE);

    let gradients = |net: &PixelCnnPpNet| {
        let loss = net.negative_log_likelihood(x.clone(), labels).mean();
        Gradients::take(&mut loss.backward(), net)
    };
    let first = gradients(&net);
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
        let gradients = gradients(learner.module());
        learner.update(gradients, twin.number("/optimizer/lr"), None, x.dims()[0]);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

fn spec(twin: &Twin) -> DataSpec {
    let classes = twin.size("/classes");
    DataSpec {
        channels: twin.size("/model/channels"),
        height: twin.size("/model/height"),
        width: twin.size("/model/width"),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    }
}

fn config(twin: &Twin) -> PixelCnnPpConfig {
    let mut config = twin.settings["model"]["config"].clone();
    config["conditional"] = (twin.size("/classes") > 0).into();
    serde_json::from_value(config).unwrap()
}

/// log p of pixels and of all bytes of each sub-pixel, and the gradient to the parameters.
#[test]
fn mixtures_of_logistics() {
    let device = Device::flex().autodiff();
    let twin = Twin::open("logistic-mixture");
    for (kind, channels) in [("grey", 1), ("colour", 3)] {
        let tensor = |name: &str| twin.tensor::<4>(&format!("input/{kind}.{name}"), &device);
        let (parameters, x) = (tensor("parameters").require_grad(), tensor("x"));
        let mixture = LogisticMixture::new(parameters.clone(), channels);
        let log_p = mixture.log_probability(x.clone());
        twin.assert_close(
            &format!("output/{kind}.log_p"),
            &values(log_p.clone()),
            CLOSE,
        );
        let gradient = parameters.grad(&log_p.sum().backward()).unwrap();
        twin.assert_close(&format!("output/{kind}.gradient"), &values(gradient), CLOSE);

        let first = |tensor: Tensor<4>| tensor.inner().narrow(0, 0, 1);
        let x = first(x);
        let levels = LogisticMixture::new(first(parameters), channels).levels(x);
        twin.assert_close(&format!("output/{kind}.levels"), &values(levels), CLOSE);
    }
}
