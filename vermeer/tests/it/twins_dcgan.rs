//! The `dcgan` family against `tools/reference/twin_dcgan.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::prelude::*;
use serde_json::json;
use vermeer::data::HostBatch;
use vermeer::import::from_pytorch;
use vermeer::models::{Dcgan, DcganConfig, Discriminator, Generator};
use vermeer::nn::{Gradients, Init, Mode, Spectrum, load, pytorch_names, state};
use vermeer::optim::{AdamConfig, part};
use vermeer::registry::{DataSpec, Family, Step, TrainState, Trainer, TrainerContext};
use vermeer::run::TensorMap;
use vermeer::train::game::{R1_STEP, iterate, r1_penalty};

use crate::twin::{AFTER_STEPS, CLOSE, Twin, on_host, values};

/// Tolerance of terms with finite differences against the same formula, direction and weights in
/// float64. PyTorch in float32 is at most 3.4e-5 away.
const DIFFERENCES: f64 = 1e-3;

#[test]
fn non_saturating() {
    check("dcgan-non-saturating");
}

#[test]
fn least_squares() {
    check("dcgan-least-squares");
}

#[test]
fn hinge() {
    check("dcgan-hinge");
}

#[test]
fn wasserstein_with_spectral_normalisation() {
    check("dcgan-wasserstein");
}

/// γ/2 · mean ((D(x+hv) − D(x−hv)) / 2h)², its gradients and the running statistics it leaves, each
/// compared with the same formula along the same v in float64. How that estimate relates to
/// the exact penalty is tabled in `tools/reference/README.md`.
#[test]
fn r1_by_finite_differences() {
    for case in ["dcgan-r1", "dcgan-r1-spectral"] {
        let device = Device::flex().autodiff();
        let setting = Setting::open(case);
        let twin = &setting.twin;
        assert_eq!(twin.number("/h"), R1_STEP);
        let net = setting.discriminator("weights/", &device);
        let mut spectra = setting.spectra(&device);
        iterate(&net, &mut spectra);
        let (x, v) = (
            twin.tensor("input/x", &device),
            twin.tensor("input/v", &device),
        );
        let penalty =
            r1_penalty(&net, x, v, None, &spectra).mul_scalar(0.5 * twin.number("/gamma"));
        twin.assert_close("loss/r1", &values(penalty.clone()), DIFFERENCES);

        let gradients = Gradients::take(&mut penalty.backward(), &net);
        let reference = gradients_of(&net, &twin.group("grad/discriminator."));
        let under = twin.check_gradients(&on_host(gradients.named()), &reference, DIFFERENCES);
        assert_eq!(under, setting.vanishing(), "{case}");

        let statistics = twin.group("output/statistics.");
        assert_eq!(
            statistics.is_empty(),
            setting.config.spectral_norm,
            "{case}"
        );
        let after = state(&net.valid());
        for path in statistics.keys() {
            twin.assert_close(
                &format!("output/statistics.{path}"),
                &after[path].data,
                CLOSE,
            );
        }
    }
}

/// Losses, outputs and gradients of the first step, and three of the family's own steps.
fn check(case: &str) {
    let device = Device::flex().autodiff();
    let setting = Setting::open(case);
    let (twin, config) = (&setting.twin, &setting.config);
    let generator = setting.generator("weights/", &device);
    let discriminator = setting.discriminator("weights/", &device);
    let start = both(&generator, &discriminator);
    let mut spectra = setting.spectra(&device);
    iterate(&discriminator, &mut spectra);

    let z = |k: usize| {
        let z = twin.tensor::<4>(&format!("input/z.{k}"), &device); // [n, latent, 1, 1]
        let [n, latent, _, _] = z.dims();
        z.reshape([n, latent])
    };
    let fake = generator.forward(z(0), Mode::Train).detach();
    twin.assert_close("output/fake", &values(fake.clone()), CLOSE);
    let x = twin.tensor::<4>("input/x", &device);
    let on_real = discriminator.forward(x.clone(), Mode::Train, &spectra);
    let on_fake = discriminator.forward(fake.clone(), Mode::Train, &spectra);
    twin.assert_close("output/logits_real", &values(on_real.clone()), CLOSE);
    twin.assert_close("output/logits_fake", &values(on_fake.clone()), CLOSE);
    let loss = config
        .loss
        .real(on_real, config.label_smoothing)
        .add(config.loss.fake(on_fake));
    twin.assert_close("loss/discriminator", &values(loss), CLOSE);

    let mut trainer = setting.trainer(&start, &device);
    let unit: Vec<f32> = values(x).iter().map(|v| 0.5 * (v + 1.0)).collect();
    let batch = twin.size("/batch");
    let micro = [HostBatch {
        step: 0,
        images: unit,
        labels: None,
        attributes: None,
        batch,
        shape: setting.spec.shape(),
    }];
    let step = Step {
        micro: &micro,
        learning_rate: twin.number("/optimizer/lr"),
        clip_norm: None,
    };
    let mut under = BTreeSet::new();
    for k in 0..3 {
        let scalars = trainer.step_from(&step, &[z(k)]).unwrap();
        if k > 0 {
            continue;
        }
        for network in ["discriminator", "generator"] {
            let name = format!("{network}_loss");
            let (_, value) = scalars.iter().find(|(own, _)| *own == name).unwrap();
            twin.assert_close(&format!("loss/{network}"), &[*value as f32], CLOSE);
        }
        let saved = trainer.save();
        let judge = setting.load_discriminator(&part(&saved.model, "discriminator."), &device);
        let updated = judge.forward(fake.clone(), Mode::Train, &spectra);
        twin.assert_close("output/logits_fake_updated", &values(updated), CLOSE);

        // After its first step Adam's first moment is (1 − β₁) times the gradient.
        let share = (1.0 - twin.number("/optimizer/betas/0")) as f32;
        let gradients = |network: &str| -> BTreeMap<String, Vec<f32>> {
            let moments = part(&saved.optimizer, &format!("{network}.first."));
            let whole = |data: Vec<f32>| -> Vec<f32> { data.iter().map(|m| m / share).collect() };
            moments
                .into_iter()
                .map(|(path, moment)| (path, whole(moment.data)))
                .collect()
        };
        let reference = gradients_of(&generator, &twin.group("grad/generator."));
        let none = twin.check_gradients(&gradients("generator"), &reference, CLOSE);
        assert_eq!(none, BTreeSet::new(), "{case}");
        let reference = gradients_of(&discriminator, &twin.group("grad/discriminator."));
        let vanishing = twin.check_gradients(&gradients("discriminator"), &reference, CLOSE);
        assert_eq!(vanishing, setting.vanishing(), "{case}");
        under.extend(vanishing.iter().map(|path| format!("discriminator.{path}")));
    }
    let saved = trainer.save();
    let reference = both(
        &setting.generator("after3/", &device),
        &setting.discriminator("after3/", &device),
    );
    twin.check_parameters(&saved.model, &reference, &start, &under);
    for (i, name) in setting.convolutions().iter().enumerate() {
        if config.spectral_norm {
            let u = &saved.optimizer[&format!("spectral.{i}.u")].data;
            twin.assert_close(&format!("output/u_after3.{name}"), u, AFTER_STEPS);
        }
    }
}

/// A case and the family's settings for it.
struct Setting {
    twin: Twin,
    config: DcganConfig,
    spec: DataSpec,
}

impl Setting {
    fn open(case: &str) -> Self {
        let twin = Twin::open(case);
        let model = &twin.settings["model"];
        let mut config = json!({
            "latent": model["latent"],
            "width": model["width"],
            "spectral_norm": model["spectral_norm"],
        });
        for key in ["loss", "label_smoothing"] {
            if let Some(value) = twin.settings.get(key) {
                config[key] = value.clone();
            }
        }
        let (channels, size) = (twin.size("/model/channels"), twin.size("/model/size"));
        Self {
            config: serde_json::from_value(config).unwrap(),
            spec: DataSpec {
                channels,
                height: size,
                width: size,
                classes: vec![],
                attributes: vec![],
            },
            twin,
        }
    }

    /// The generator with the weights of a group, `weights/` or `after3/`.
    fn generator(&self, group: &str, device: &Device) -> Generator {
        let blank = self.config.generator(&self.spec, &Init::blank(device));
        let published = self.twin.group(&format!("{group}generator."));
        let own = from_pytorch(&blank, &published, str::to_owned).unwrap();
        load(blank, &own, Path::new("generator")).unwrap()
    }

    /// The discriminator with the weights of a group.
    fn discriminator(&self, group: &str, device: &Device) -> Discriminator {
        let blank = self.config.discriminator(&self.spec, &Init::blank(device));
        let published = self.twin.group(&format!("{group}discriminator."));
        self.load_discriminator(
            &from_pytorch(&blank, &published, str::to_owned).unwrap(),
            device,
        )
    }

    fn load_discriminator(&self, own: &TensorMap, device: &Device) -> Discriminator {
        let blank = self.config.discriminator(&self.spec, &Init::blank(device));
        load(blank, own, Path::new("discriminator")).unwrap()
    }

    /// The family's trainer at the weights `start` and the twin's start of power iteration.
    fn trainer(&self, start: &TensorMap, device: &Device) -> <Dcgan as Family>::Trainer {
        let context = TrainerContext {
            spec: self.spec.clone(),
            seed: 0,
            device: device.clone(),
            adam: AdamConfig {
                beta1: self.twin.number("/optimizer/betas/0"),
                beta2: self.twin.number("/optimizer/betas/1"),
                epsilon: self.twin.number("/optimizer/eps"),
                weight_decay: 0.0,
            },
            average_half_life_images: 0.0,
        };
        let mut trainer = Dcgan::trainer(&self.config, &context).unwrap();
        let mut state = TrainState {
            model: start.clone(),
            ..trainer.save()
        };
        for (i, name) in self.convolutions().iter().enumerate() {
            if self.config.spectral_norm {
                let u = self.twin.named(&format!("input/u.{name}")).clone();
                state
                    .optimizer
                    .insert(format!("spectral.{i}.u"), u)
                    .unwrap();
            }
        }
        trainer.restore(&state).unwrap();
        trainer
    }

    /// The discriminator's convolutions from the image to the logit, by their names.
    fn convolutions(&self) -> Vec<String> {
        let count = self.spec.height.ilog2() - 2;
        let blocks = (0..count).map(|i| format!("blocks.{i}.conv"));
        blocks.chain(["out".to_owned()]).collect()
    }

    /// The start of power iteration; empty without spectral normalisation. An iteration computes
    /// v from u, so the v given here is never read.
    fn spectra(&self, device: &Device) -> Vec<Spectrum> {
        let plain = device.clone().without_autodiff();
        let start = |name: String| {
            let u = self.twin.tensor::<1>(&format!("input/u.{name}"), &plain);
            let weight = self
                .twin
                .named(&format!("weights/discriminator.{name}.weight"));
            let size: usize = weight.shape[1..].iter().product();
            Spectrum::new(u, Tensor::zeros([size], &plain))
        };
        match self.config.spectral_norm {
            true => self.convolutions().into_iter().map(start).collect(),
            false => vec![],
        }
    }

    /// The gradients that are zero in exact arithmetic: the bias of the logits cancels in the
    /// discriminator's Wasserstein loss and in differences of logits.
    fn vanishing(&self) -> BTreeSet<String> {
        match self.config.spectral_norm {
            true => BTreeSet::from(["out.bias".to_owned()]),
            false => BTreeSet::new(),
        }
    }
}

/// Weights and running statistics of both networks, named as a checkpoint names them.
fn both(generator: &Generator, discriminator: &Discriminator) -> TensorMap {
    let named = |network: &str, tensors: TensorMap| -> TensorMap {
        tensors
            .into_iter()
            .map(|(path, tensor)| (format!("{network}.{path}"), tensor))
            .collect()
    };
    let mut all = named("generator", state(&generator.valid()));
    all.extend(named("discriminator", state(&discriminator.valid())));
    all
}

/// The twin's gradients under our paths. Layouts are the same: there is no linear layer.
fn gradients_of<M: Module>(module: &M, gradients: &TensorMap) -> TensorMap {
    let own: TensorMap = pytorch_names(module)
        .into_iter()
        .filter_map(|(path, foreign, _)| Some((path, gradients.get(&foreign)?.clone())))
        .collect();
    assert_eq!(own.len(), gradients.len());
    own
}
