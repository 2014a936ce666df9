//! The `vq-vae` family against `tools/reference/twin_vq_vae.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::prelude::*;
use serde_json::json;
use vermeer::data::HostBatch;
use vermeer::import::from_pytorch;
use vermeer::models::{Prior, VqVae, VqVaeConfig, VqVaeNet};
use vermeer::nn::{Init, load, pytorch_names};
use vermeer::optim::{AdamConfig, part};
use vermeer::registry::{DataSpec, Family, Step, TrainState, Trainer, TrainerContext};
use vermeer::run::{NamedTensor, TensorMap};

use crate::twin::{CLOSE, Twin, values};

#[test]
fn with_a_gated_pixel_cnn() {
    check("vq-vae-gated");
}

#[test]
fn with_a_transformer() {
    check("vq-vae-transformer");
}

/// Outputs, losses and gradients of the first step, and three of the family's own steps.
fn check(case: &str) {
    let setting = Setting::open(case);
    let twin = &setting.twin;
    let start = setting.both("weights/");
    let device = Device::flex().autodiff();
    for device in [&device, &Device::flex()] {
        setting.check_outputs(&start, device);
    }

    let context = TrainerContext {
        spec: setting.spec.clone(),
        seed: 0,
        device: device.clone(),
        adam: AdamConfig {
            beta1: twin.number("/optimizer/betas/0"),
            beta2: twin.number("/optimizer/betas/1"),
            epsilon: twin.number("/optimizer/eps"),
            weight_decay: 0.0,
        },
        average_half_life_images: 0.0,
    };
    let mut trainer = VqVae::trainer(&setting.config, &context).unwrap();
    let state = TrainState {
        model: start.clone(),
        ..trainer.save()
    };
    trainer.restore(&state).unwrap();
    let x = &twin.named("input/x").data;
    let micro = [HostBatch {
        step: 0,
        images: x.clone(),
        labels: setting.labels(),
        attributes: None,
        batch: twin.size("/batch"),
        shape: setting.spec.shape(),
    }];
    let step = Step {
        micro: &micro,
        learning_rate: twin.number("/optimizer/lr"),
        clip_norm: None,
    };
    let mut under = BTreeSet::new();
    for k in 0..3 {
        let scalars = trainer.step(&step).unwrap();
        if k > 0 {
            continue;
        }
        for name in ["reconstruction", "commitment", "prior"] {
            let (_, value) = scalars.iter().find(|(own, _)| *own == name).unwrap();
            twin.assert_close(&format!("loss/{name}"), &[*value as f32], CLOSE);
        }
        // After its first step Adam's first moment is (1 − β₁) times the gradient.
        let share = (1.0 - twin.number("/optimizer/betas/0")) as f32;
        let saved = trainer.save();
        for network in ["autoencoder", "prior"] {
            let moments = part(&saved.optimizer, &format!("{network}.first."));
            let ours: BTreeMap<String, Vec<f32>> = moments
                .into_iter()
                .map(|(path, moment)| (path, moment.data.iter().map(|m| m / share).collect()))
                .collect();
            let reference = setting.gradients(network);
            let vanishing = twin.check_gradients(&ours, &reference, CLOSE);
            under.extend(vanishing.iter().map(|path| format!("{network}.{path}")));
        }
    }
    assert_eq!(
        under,
        BTreeSet::new(),
        "no gradient of this family is known to vanish"
    );
    let after = setting.both("after3/");
    twin.check_parameters(&trainer.save().model, &after, &start, &under);
}

/// A case and the family's settings for it.
struct Setting {
    twin: Twin,
    config: VqVaeConfig,
    spec: DataSpec,
}

impl Setting {
    fn open(case: &str) -> Self {
        let twin = Twin::open(case);
        let (model, prior) = (&twin.settings["model"], &twin.settings["prior"]);
        let classes = twin.size("/prior/classes");
        let mut config = json!({
            "restart": false,
            "prior": prior["network"],
            "prior_width": prior["width"],
            "prior_layers": prior["layers"],
            "prior_after_images": 0,
            "conditional": classes > 0,
        });
        for key in [
            "width",
            "residual_blocks",
            "residual_width",
            "downsampling",
            "codes",
            "code_size",
            "variance",
            "commitment",
            "decay",
        ] {
            config[key] = model[key].clone();
        }
        Self {
            config: serde_json::from_value(config).unwrap(),
            spec: DataSpec {
                channels: twin.size("/model/channels"),
                height: twin.size("/size/0"),
                width: twin.size("/size/1"),
                classes: (0..classes).map(|class| class.to_string()).collect(),
                attributes: vec![],
            },
            twin,
        }
    }

    /// Both networks with all their tensors unset.
    fn blank(&self, device: &Device) -> (VqVaeNet, Prior) {
        let init = Init::blank(device);
        (
            self.config.autoencoder(&self.spec, &init),
            self.config.prior(&self.spec, &init),
        )
    }

    /// The tensors of a group of both networks, named as a checkpoint names them.
    fn both(&self, group: &str) -> TensorMap {
        let (net, prior) = self.blank(&Device::flex());
        let published = |network: &str| self.twin.group(&format!("{group}{network}."));
        let net = from_pytorch(&net, &published("autoencoder"), str::to_owned).unwrap();
        let prior = from_pytorch(&prior, &published("prior"), twin_name).unwrap();
        let named = |network: &str, tensors: TensorMap| -> TensorMap {
            tensors
                .into_iter()
                .map(|(path, tensor)| (format!("{network}.{path}"), tensor))
                .collect()
        };
        let mut all = named("autoencoder", net);
        all.extend(named("prior", prior));
        all
    }

    /// The twin's gradients of a network under our paths.
    fn gradients(&self, network: &str) -> TensorMap {
        let (net, prior) = self.blank(&Device::flex());
        let names = match network {
            "prior" => pytorch_names(&prior),
            _ => pytorch_names(&net),
        };
        let gradients = self.twin.group(&format!("grad/{network}."));
        let mut own = TensorMap::new();
        for (path, foreign, transposed) in names {
            let Some(gradient) = gradients.get(&twin_name(&foreign)) else {
                assert!(path.contains("running_"), "{path} has no gradient");
                continue;
            };
            let gradient = match transposed {
                true => transpose(gradient),
                false => gradient.clone(),
            };
            own.insert(path, gradient);
        }
        assert_eq!(own.len(), gradients.len());
        own
    }

    fn labels(&self) -> Option<Vec<u32>> {
        self.config.conditional.then(|| {
            let labels = &self.twin.named("input/labels").data;
            labels.iter().map(|label| *label as u32).collect()
        })
    }

    fn check_outputs(&self, start: &TensorMap, device: &Device) {
        let (net, prior) = self.blank(device);
        let origin = Path::new("twin");
        let net = load(net, &part(start, "autoencoder."), origin).unwrap();
        let prior = load(prior, &part(start, "prior."), origin).unwrap();
        let twin = &self.twin;
        let x = twin.tensor::<4>("input/x", device);
        let z = net.encode(x);
        twin.assert_close("output/z", &values(z.clone()), CLOSE);
        let quantised = net.quantise(z);
        let codes: Vec<f32> = quantised
            .numbers()
            .iter()
            .map(|code| *code as f32)
            .collect();
        twin.assert_close("output/codes", &codes, 0.0);
        twin.assert_close("output/nearest", &values(quantised.nearest.clone()), CLOSE);
        let location = net.decode(quantised.nearest);
        twin.assert_close("output/location", &values(location), CLOSE);
        let maps = twin.tensor::<4>("output/codes", device);
        let labels = self.labels();
        let outputs = prior.outputs(maps.clone(), labels.as_deref());
        twin.assert_close("output/outputs", &values(outputs), CLOSE);
        let nats = prior.nats_per_code(maps, labels.as_deref());
        twin.assert_close("loss/prior", &values(nats), CLOSE);
    }
}

/// The twin's name of one of our tensors: what a class adds is an embedding there.
fn twin_name(name: &str) -> String {
    match name.ends_with(".classes") {
        true => format!("{name}.weight"),
        false => name.to_owned(),
    }
}

fn transpose(tensor: &NamedTensor) -> NamedTensor {
    let [rows, columns] = tensor.shape[..] else {
        panic!("a matrix is transposed");
    };
    let mut data = Vec::with_capacity(tensor.data.len());
    for column in 0..columns {
        data.extend((0..rows).map(|row| tensor.data[row * columns + column]));
    }
    NamedTensor {
        shape: vec![columns, rows],
        data,
    }
}
