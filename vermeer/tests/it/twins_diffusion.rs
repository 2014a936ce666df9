//! The `diffusion` family against `tools/reference/twin_diffusion.py`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::prelude::*;
use serde_json::json;
use vermeer::diffusion::{Framework, Mix, Process};
use vermeer::import::from_pytorch;
use vermeer::models::{Denoiser, DiffusionConfig, loss_per_image};
use vermeer::nn::{Gradients, Init, load, state};
use vermeer::optim::{AdamConfig, Learner};
use vermeer::registry::DataSpec;
use vermeer::run::NamedTensor;

use crate::twin::{CLOSE, Twin, on_device, on_host, values};

#[test]
fn ddpm_eps_linear() {
    check("diffusion-ddpm-eps-linear");
}

#[test]
fn ddpm_x0_linear() {
    check("diffusion-ddpm-x0-linear");
}

#[test]
fn ddpm_v_cosine() {
    check("diffusion-ddpm-v-cosine");
}

#[test]
fn ddpm_eps_classes() {
    check("diffusion-ddpm-eps-classes");
}

#[test]
fn flow() {
    check("diffusion-flow");
}

#[test]
fn edm() {
    check("diffusion-edm");
}

/// The network of a case with its weights, and what it was made with.
pub(crate) fn open(case: &str, device: &Device) -> (Twin, DiffusionConfig, Denoiser) {
    let twin = Twin::open(case);
    let model = &twin.settings["model"];
    let classes = model["classes"].as_u64().unwrap_or(0);
    let mut config = json!({
        "width": model["width"],
        "multipliers": model["mult"],
        "blocks": model["blocks"],
        "attention": model["attention_levels"],
        "groups": model["groups"],
        "conditional": classes > 0,
        "framework": twin.settings["framework"],
    });
    for key in ["prediction", "schedule"] {
        if let Some(value) = twin.settings.get(key) {
            config[key] = value.clone();
        }
    }
    let config: DiffusionConfig = serde_json::from_value(config).unwrap();
    let spec = DataSpec {
        channels: twin.size("/model/channels"),
        height: 8,
        width: 8,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    };
    let blank = config.init(&spec, &Init::blank(device));
    let weights = from_pytorch(&blank, &twin.group("weights/"), str::to_owned).unwrap();
    let net = load(blank, &weights, Path::new(case)).unwrap();
    (twin, config, net)
}

/// What one optimizer step sees.
struct Batch {
    x: Tensor<4>,
    eps: Tensor<4>,
    levels: Vec<f64>,
    labels: Option<Tensor<1, Int>>,
}

impl Batch {
    fn new(twin: &Twin, config: &DiffusionConfig, step: usize, device: &Device) -> Self {
        let level = match config.framework {
            Framework::Edm => "sigma",
            Framework::Ddpm | Framework::Flow => "t",
        };
        let levels = twin.named(&format!("input/{level}.{step}"));
        let labels = config.conditional.then(|| {
            let labels: Vec<i32> = twin
                .named("input/labels")
                .data
                .iter()
                .map(|l| *l as i32)
                .collect();
            Tensor::from_data(&labels[..], device)
        });
        Self {
            x: twin.tensor("input/x", device),
            eps: twin.tensor(&format!("input/noise.{step}"), device),
            levels: levels.data.iter().map(|level| f64::from(*level)).collect(),
            labels,
        }
    }

    fn loss(&self, net: &Denoiser, process: &Process) -> Tensor<1> {
        let (x, eps) = (self.x.clone(), self.eps.clone());
        loss_per_image(net, process, x, eps, &self.levels, self.labels.clone()).mean()
    }

    fn gradients(&self, net: &Denoiser, process: &Process) -> Gradients {
        Gradients::take(&mut self.loss(net, process).backward(), net)
    }
}

fn check(case: &str) {
    let device = Device::flex().autodiff();
    let (twin, config, net) = open(case, &device);
    let process = config.process();
    let batch = |step: usize| Batch::new(&twin, &config, step, &device);
    check_outputs(&twin, &config, &net, &batch(0));

    let loss = batch(0).loss(&net, &process);
    twin.assert_close("loss/total", &values(loss), CLOSE);
    let published = |prefix: &str| from_pytorch(&net, &twin.group(prefix), str::to_owned).unwrap();
    let first = batch(0).gradients(&net, &process);
    let under = twin.check_gradients(&on_host(first.named()), &published("grad/"), CLOSE);
    assert_eq!(
        under,
        BTreeSet::new(),
        "no gradient of this family is known to vanish"
    );

    if twin.group("after3/").is_empty() {
        return;
    }
    let (start, after) = (published("weights/"), published("after3/"));
    let adam = AdamConfig {
        beta1: twin.number("/optimizer/betas/0"),
        beta2: twin.number("/optimizer/betas/1"),
        epsilon: twin.number("/optimizer/eps"),
        weight_decay: 0.0,
    };
    let mut learner = Learner::new(net, adam, 0.0, "");
    for step in 0..3 {
        let batch = Batch::new(&twin, &config, step, &device);
        let gradients = batch.gradients(learner.module(), &process);
        learner.update(
            gradients,
            twin.number("/optimizer/lr"),
            None,
            batch.levels.len(),
        );
    }
    twin.check_parameters(&state(&learner.module().valid()), &after, &start, &under);
}

/// The noised images, the network and, for EDM, the denoised images.
fn check_outputs(twin: &Twin, config: &DiffusionConfig, net: &Denoiser, batch: &Batch) {
    let process = config.process();
    let mixes: Vec<Mix> = batch
        .levels
        .iter()
        .map(|level| process.mix(*level))
        .collect();
    let times: Vec<f64> = mixes.iter().map(|mix| mix.time).collect();
    let shape = &twin.named("input/x").shape;
    let pixels: usize = shape[1..].iter().product();
    // p·a + q·b of each pixel, the factors being those of its image
    let mixed = |a: &[f32], b: &[f32], factors: &dyn Fn(&Mix) -> (f64, f64)| -> Vec<f32> {
        let pairs = a.iter().zip(b).enumerate();
        let value = |(at, (a, b)): (usize, (&f32, &f32))| {
            let (p, q) = factors(&mixes[at / pixels]);
            (p * f64::from(*a) + q * f64::from(*b)) as f32
        };
        pairs.map(value).collect()
    };
    let (x, eps) = (values(batch.x.clone()), values(batch.eps.clone()));
    let edm = config.framework == Framework::Edm;
    // EDM's x_t is x + σ·ε, of which the network is given c_in·x_t.
    let x_t = mixed(&x, &eps, &|mix: &Mix| {
        if edm {
            (1.0, mix.b / mix.a)
        } else {
            (mix.a, mix.b)
        }
    });
    twin.assert_close("output/x_t", &x_t, CLOSE);

    let input = mixed(&x, &eps, &|mix: &Mix| (mix.a, mix.b));
    let stored = NamedTensor {
        shape: shape.clone(),
        data: input.clone(),
    };
    let given = on_device(&stored, &batch.x.device());
    let network = values(net.forward(given, &times, batch.labels.clone()));
    twin.assert_close("output/network", &network, CLOSE);
    if edm {
        twin.assert_close(
            "output/denoised",
            &mixed(&input, &network, &|mix: &Mix| mix.image()),
            CLOSE,
        );
    }
}
