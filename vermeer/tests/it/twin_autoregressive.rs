//! What every autoregressive family shows against its twin.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use vermeer::autoregressive::Autoregressive;
use vermeer::import::from_pytorch;
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};

use crate::twin::{CLOSE, Twin, on_host, values};

/// Logits, nats, gradients and three steps of a network as `init` makes it for a fixture; `name` is
/// the twin's name of one of our tensors.
pub(crate) fn check<N: Autoregressive>(
    case: &str,
    init: impl Fn(&Twin, &Init) -> N,
    name: fn(&str) -> String,
) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let net = init(&twin, &Init::blank(&device));
    let published = |prefix: &str| {
        let tensors = twin.group(prefix);
        from_pytorch(&net, &tensors, name).unwrap()
    };
    let (start, gradient, after) = (
        published("weights/"),
        published("grad/"),
        published("after3/"),
    );
    let net = load(net.clone(), &start, Path::new(case)).unwrap();

    let x = twin.tensor::<4>("input/x", &device);
    let labels: Option<Vec<u32>> = net.conditional().then(|| {
        let labels = &twin.named("input/labels").data;
        labels.iter().map(|label| *label as u32).collect()
    });
    let labels = labels.as_deref();
    let outputs = net.outputs(x.clone(), labels);
    twin.assert_close("output/outputs", &values(outputs), CLOSE);
    let plain = net.valid().outputs(x.clone().inner(), labels);
    twin.assert_close("output/outputs", &values(plain), CLOSE);
    let nats = net.negative_log_likelihood(x.clone(), labels);
    twin.assert_close("output/nats", &values(nats.clone()), CLOSE);
    twin.assert_close("loss/total", &values(nats.mean()), CLOSE);

    let first = gradients(&net, &x, labels);
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
    let images = x.dims()[0];
    let mut learner = Learner::new(net, adam, 0.0, "");
    for _ in 0..3 {
        let gradients = gradients(learner.module(), &x, labels);
        learner.update(gradients, twin.number("/optimizer/lr"), None, images);
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

fn gradients<N: Autoregressive>(net: &N, x: &Tensor<4>, labels: Option<&[u32]>) -> Gradients {
    let loss = net.negative_log_likelihood(x.clone(), labels).mean();
    Gradients::take(&mut loss.backward(), net)
}
