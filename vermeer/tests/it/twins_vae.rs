//! The `vae` family against `tools/reference/twin_vae.py`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use serde_json::{Value, json};
use vermeer::import::from_pytorch;
use vermeer::models::{Elbo, KlTerm, VaeConfig, VaeNet, VaeNetwork};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};
use vermeer::registry::DataSpec;

use crate::twin::{CLOSE, Twin, on_host, values, whole};

#[test]
fn conv_bernoulli() {
    check("vae-conv-bernoulli");
}

#[test]
fn conv_gaussian() {
    check("vae-conv-gaussian");
}

#[test]
fn conv_gaussian_learned() {
    check("vae-conv-gaussian-learned");
}

#[test]
fn conv_logistic() {
    check("vae-conv-logistic");
}

#[test]
fn mlp_bernoulli() {
    check("vae-mlp-bernoulli");
}

#[test]
fn adamw_and_clipping() {
    check("vae-adamw-clip");
}

#[test]
fn accumulation() {
    check("vae-accumulation");
}

#[test]
fn several_draws() {
    check_bound("vae-draws");
}

#[test]
fn several_draws_with_an_annealed_weight() {
    check_bound("vae-draws-annealed");
}

#[test]
fn annealed_weight() {
    check_bound("vae-annealed");
}

#[test]
fn free_bits() {
    check_bound("vae-free-bits");
}

/// The loss as a training computes it, its gradients and three steps.
fn check_bound(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config = config(&twin);
    let net = config.init(&spec(&twin), &Init::blank(&device));
    let published = |prefix: &str| {
        let tensors = twin.group(prefix);
        from_pytorch(&net, &tensors, |name| twin_name(&config, name)).unwrap()
    };
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(net.clone(), &start, Path::new(case)).unwrap();
    let images = twin.settings["images"].as_u64().unwrap_or(u64::MAX);
    let kl = KlTerm {
        weight: config.kl_weight(images),
        free_bits: config.free_bits,
    };

    let x = twin.tensor::<4>("input/x", &device);
    let (mu, log_var) = net.encode(x.clone());
    twin.assert_close("output/mu", &values(mu), CLOSE);
    twin.assert_close("output/log_var", &values(log_var), CLOSE);
    let (loss, scalars) = net.loss(x.clone(), draws(&twin, 0, &device), kl);
    twin.assert_close("loss/total", &values(loss), CLOSE);
    for (told, name) in scalars.iter().zip(["total", "reconstruction", "kl"]) {
        twin.assert_close(&format!("loss/{name}"), &[told.1 as f32], CLOSE);
    }

    let gradients = |net: &VaeNet, step: usize| {
        let (loss, _) = net.loss(x.clone(), draws(&twin, step, &device), kl);
        Gradients::take(&mut loss.backward(), net)
    };
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

/// Adam of the fixtures.
pub(crate) const ADAM: AdamConfig = AdamConfig {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.0,
};

/// The noise of a step, stored as `[draws, n, latent]`, a row for each image: `[n, draws · latent]`.
pub(crate) fn draws(twin: &Twin, step: usize, device: &Device) -> Tensor<2> {
    let eps = twin.tensor::<3>(&format!("input/eps.{step}"), device);
    let [draws, n, latent] = eps.dims();
    eps.swap_dims(0, 1).reshape([n, draws * latent])
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config = config(&twin);
    let net = config.init(&spec(&twin), &Init::blank(&device));
    let published = |prefix: &str| {
        let tensors = twin.group(prefix);
        from_pytorch(&net, &tensors, |name| twin_name(&config, name)).unwrap()
    };
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(net.clone(), &start, Path::new(case)).unwrap();

    let x = twin.tensor::<4>("input/x", &device);
    let eps = |k: usize| twin.tensor::<2>(&format!("input/eps.{k}"), &device);
    check_outputs(&twin, &net, &x, eps(0));

    let elbo = net.elbo(x.clone(), eps(0));
    let mean = |t: Tensor<1>| values(t.mean());
    twin.assert_close("loss/total", &mean(objective(&elbo, config.beta)), CLOSE);
    twin.assert_close("loss/reconstruction", &mean(elbo.reconstruction), CLOSE);
    twin.assert_close(
        "loss/kl",
        &mean(elbo.kl.sum_dim(1).squeeze_dim::<1>(1)),
        CLOSE,
    );

    let parts = twin.size("/accumulate");
    let first = gradients(&net, config.beta, &x, &eps(0), parts);
    let under = twin.check_gradients(&on_host(first.named()), &gradient, CLOSE);
    assert_eq!(
        under,
        BTreeSet::new(),
        "no gradient of this family is known to vanish"
    );

    let settings = &twin.settings["optimizer"];
    let adam = AdamConfig {
        beta1: twin.number("/optimizer/betas/0"),
        beta2: twin.number("/optimizer/betas/1"),
        epsilon: twin.number("/optimizer/eps"),
        weight_decay: settings["weight_decay"].as_f64().unwrap_or(0.0),
    };
    let clip = settings["clip_norm"].as_f64();
    let images = x.dims()[0];
    let mut learner = Learner::new(net, adam, 0.0, "");
    let mut norms = vec![];
    for k in 0..3 {
        let gradients = gradients(learner.module(), config.beta, &x, &eps(k), parts);
        norms.push(learner.update(gradients, twin.number("/optimizer/lr"), clip, images) as f32);
    }
    if clip.is_some() {
        twin.assert_close("output/grad_norm", &norms, CLOSE);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

fn check_outputs(twin: &Twin, net: &VaeNet, x: &Tensor<4>, eps: Tensor<2>) {
    let (mu, log_var) = net.encode(x.clone());
    twin.assert_close("output/mu", &values(mu.clone()), CLOSE);
    twin.assert_close("output/log_var", &values(log_var.clone()), CLOSE);
    let z = twin.tensor::<2>("output/z", &x.device());
    twin.assert_close("output/location", &values(net.decode(z)), CLOSE);
    let elbo = net.elbo(x.clone(), eps);
    twin.assert_close("output/reconstruction", &values(elbo.reconstruction), CLOSE);
    twin.assert_close("output/kl", &values(elbo.kl.sum_dim(1)), CLOSE);

    let draws = twin.tensor::<3>("input/iw_eps", &x.device()); // [draws, n, latent]
    let count = draws.dims()[0];
    let weights: Vec<Vec<f32>> = (0..count)
        .map(|draw| {
            let eps = draws.clone().narrow(0, draw, 1).squeeze_dim::<2>(0);
            values(net.log_weight(x.clone(), mu.clone(), log_var.clone(), eps))
        })
        .collect();
    let bound = |image: usize| {
        let terms: Vec<f64> = weights.iter().map(|w| f64::from(w[image])).collect();
        vermeer::models::log_mean_exp(&terms) as f32
    };
    let bounds: Vec<f32> = (0..x.dims()[0]).map(bound).collect();
    twin.assert_close("output/iw_bound", &bounds, CLOSE);
}

/// reconstruction + beta · KL of each image, `[n]`.
fn objective(elbo: &Elbo, beta: f64) -> Tensor<1> {
    let kl = elbo.kl.clone().sum_dim(1).squeeze_dim::<1>(1);
    elbo.reconstruction.clone().add(kl.mul_scalar(beta))
}

/// The mean gradient over `parts` micro-batches of consecutive rows.
fn gradients(net: &VaeNet, beta: f64, x: &Tensor<4>, eps: &Tensor<2>, parts: usize) -> Gradients {
    let rows = x.dims()[0] / parts;
    let mut sum = Gradients::default();
    for part in 0..parts {
        let x = x.clone().narrow(0, part * rows, rows);
        let eps = eps.clone().narrow(0, part * rows, rows);
        let loss = objective(&net.elbo(x, eps), beta).mean();
        sum.add(Gradients::take(&mut loss.backward(), net));
    }
    sum.scale(1.0 / parts as f64)
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

fn config(twin: &Twin) -> VaeConfig {
    let model = &twin.settings["model"];
    let hidden: Vec<usize> = match &model["hidden"] {
        Value::Array(sizes) => sizes.iter().map(whole).collect(),
        size => vec![whole(size)],
    };
    let mut config = json!({
        "network": model["network"],
        "likelihood": model["likelihood"],
        "latent": model["latent"],
        "hidden": hidden,
        "beta": twin.settings["beta"],
    });
    for key in ["width", "sigma", "activation"] {
        if let Some(value) = model.get(key) {
            config[key] = value.clone();
        }
    }
    for key in ["draws", "free_bits", "warmup_images"] {
        if let Some(value) = twin.settings.get(key) {
            config[key] = value.clone();
        }
    }
    serde_json::from_value(config).unwrap()
}

/// The twin's name of one of our tensors.
fn twin_name(config: &VaeConfig, name: &str) -> String {
    let Some((place, last)) = name.rsplit_once('.') else {
        return name.to_owned();
    };
    let out = format!("decoder.layers.{}", config.hidden.len());
    let place = match (config.network, place) {
        (VaeNetwork::Conv, "encoder.convolutions.0") => "encoder.conv1",
        (VaeNetwork::Conv, "encoder.convolutions.1") => "encoder.conv2",
        (VaeNetwork::Conv, "encoder.layers.0") => "encoder.hidden",
        (VaeNetwork::Conv, "decoder.layers.0") => "decoder.hidden",
        (VaeNetwork::Conv, "decoder.layers.1") => "decoder.expand",
        (VaeNetwork::Conv, "decoder.convolutions.0") => "decoder.conv1",
        (VaeNetwork::Conv, "decoder.convolutions.1") => "decoder.conv2",
        (VaeNetwork::Mlp, place) if place == out => "decoder.out",
        (_, place) => place,
    };
    format!("{place}.{last}")
}
