//! The `stylegan2` family against `tools/reference/twin_stylegan2.py`, which gives every image a
//! weight of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::prelude::*;
use serde_json::{Value, json};
use vermeer::data::HostBatch;
use vermeer::models::stylegan2::{
    Augmentation, Change, PATH_STEP, StyleDiscriminator, StyleDraws, StyleGan2, StyleGan2Config,
    StyleGan2Trainer, StyleGenerator,
};
use vermeer::nn::{Init, load};
use vermeer::optim::{AdamConfig, part};
use vermeer::registry::{DataSpec, Family, Step, TrainState, Trainer, TrainerContext};
use vermeer::run::TensorMap;
use vermeer::train::game::{R1_STEP, one_hot};

use crate::twin::{CLOSE, Twin, values, whole};

/// Tolerance of terms with finite differences against the same formula, directions and weights in
/// float64. PyTorch in float32 is at most 3.1e-5 away.
const DIFFERENCES: f64 = 1e-3;

#[test]
fn without_classes() {
    check("stylegan2");
}

#[test]
fn with_r1_and_path_length() {
    check("stylegan2-regularised");
}

#[test]
fn with_classes_and_augmentation() {
    check("stylegan2-classes-augmented");
}

/// Losses, outputs and gradients of the first step, and three of the family's own steps.
fn check(case: &str) {
    let device = Device::flex().autodiff();
    let setting = Setting::open(case);
    let twin = &setting.twin;
    assert_eq!(twin.number("/rules/r1_step"), R1_STEP);
    assert_eq!(twin.number("/rules/path_step"), PATH_STEP);
    let regularised = twin.settings["terms"].as_array().unwrap().len();
    let tolerance = if regularised > 0 { DIFFERENCES } else { CLOSE };
    setting.check_outputs(&device);

    let start = twin.group("weights/");
    let mut trainer = setting.trainer(&start, &device);
    let micro = [setting.batch()];
    let step = Step {
        micro: &micro,
        learning_rate: twin.number("/optimizer/lr"),
        clip_norm: None,
    };
    for k in 0..3 {
        let scalars = trainer
            .step_from(&step, &[setting.draws(k, &device)])
            .unwrap();
        if k > 0 {
            continue;
        }
        let losses = twin.group("loss/");
        assert_eq!(losses.len(), 2 + regularised, "{case}");
        for name in losses.keys() {
            let (own, allowed) = match name.as_str() {
                "discriminator" | "generator" => (format!("{name}_loss"), CLOSE),
                other => (other.to_owned(), DIFFERENCES),
            };
            let (_, value) = scalars.iter().find(|(found, _)| *found == own).unwrap();
            twin.assert_close(&format!("loss/{name}"), &[*value as f32], allowed);
        }
        // β₁ is zero, so that the first moment is the gradient.
        assert_eq!(twin.number("/optimizer/betas/0"), 0.0);
        let saved = trainer.save();
        for network in ["generator", "discriminator"] {
            let moments = part(&saved.optimizer, &format!("{network}.first."));
            let ours: BTreeMap<String, Vec<f32>> = moments
                .into_iter()
                .map(|(path, moment)| (path, moment.data))
                .collect();
            let reference = twin.group(&format!("grad/{network}."));
            let none = twin.check_gradients(&ours, &reference, tolerance);
            assert_eq!(none, BTreeSet::new(), "{case}");
        }
    }
    let saved = trainer.save();
    let mean = &saved.optimizer["path.mean"].data;
    twin.assert_close("output/path_mean", mean, DIFFERENCES);
    twin.check_parameters(
        &saved.model,
        &twin.group("after3/"),
        &start,
        &BTreeSet::new(),
    );
}

/// A case and the family's settings for it.
struct Setting {
    twin: Twin,
    config: StyleGan2Config,
    spec: DataSpec,
}

impl Setting {
    fn open(case: &str) -> Self {
        let twin = Twin::open(case);
        let (model, rules) = (&twin.settings["model"], &twin.settings["rules"]);
        let classes = whole(&model["classes"]);
        let config = json!({
            "latent": model["latent"],
            "style": model["style"],
            "mapping_layers": model["depth"],
            "mapping_rate": model["rate"],
            "channel_base": model["base"],
            "channel_max": model["max"],
            "conditional": classes > 0,
            "r1_gamma": rules["r1_gamma"],
            "r1_every": rules["r1_every"],
            "path_weight": rules["path_weight"],
            "path_every": rules["path_every"],
        });
        let side = whole(&model["side"]);
        Self {
            config: serde_json::from_value(config).unwrap(),
            spec: DataSpec {
                channels: whole(&model["channels"]),
                height: side,
                width: side,
                classes: (0..classes).map(|class| class.to_string()).collect(),
                attributes: vec![],
            },
            twin,
        }
    }

    fn generator(&self, device: &Device) -> StyleGenerator {
        let blank = self.config.generator(&self.spec, &Init::blank(device));
        let weights = self.twin.group("weights/generator.");
        load(blank, &weights, Path::new("generator")).unwrap()
    }

    fn discriminator(&self, device: &Device) -> StyleDiscriminator {
        let blank = self.config.discriminator(&self.spec, &Init::blank(device));
        let weights = self.twin.group("weights/discriminator.");
        load(blank, &weights, Path::new("discriminator")).unwrap()
    }

    fn labels(&self) -> Option<Vec<u32>> {
        let count = self.spec.classes.len();
        let labels = || &self.twin.named("input/labels").data;
        (count > 0).then(|| labels().iter().map(|label| *label as u32).collect())
    }

    fn batch(&self) -> HostBatch {
        let signed = &self.twin.named("input/x").data;
        HostBatch {
            step: 0,
            images: signed.iter().map(|v| 0.5 * (v + 1.0)).collect(),
            labels: self.labels(),
            attributes: None,
            batch: self.twin.size("/batch"),
            shape: self.spec.shape(),
        }
    }

    /// The random numbers of step `k`.
    fn draws(&self, k: usize, device: &Device) -> StyleDraws {
        let rows = |name: &str| self.twin.tensor::<2>(&format!("input/{name}.{k}"), device);
        let terms = self.twin.settings["terms"].as_array().unwrap();
        let has = |name: &str| terms.iter().any(|term| term == name);
        let cuts = self.twin.settings["cuts"].as_array().unwrap();
        let slope = format!("input/slope.{k}");
        StyleDraws {
            z: rows("z"),
            second: rows("second"),
            cuts: cuts.iter().map(whole).collect(),
            noise: rows("noise"),
            augment: [0, 1, 2].map(|which| self.augmentation(which)),
            slope: has("slope").then(|| self.twin.tensor::<4>(&slope, device)),
            path: has("path").then(|| rows("path")),
        }
    }

    fn augmentation(&self, which: usize) -> Augmentation {
        match &self.twin.settings["changes"] {
            Value::Null => Augmentation::none(),
            sets => Augmentation(sets[which].as_array().unwrap().iter().map(change).collect()),
        }
    }

    /// Styles, images and logits of the first step, and truncation.
    fn check_outputs(&self, device: &Device) {
        let (generator, discriminator) = (self.generator(device), self.discriminator(device));
        let classes = self
            .labels()
            .map(|labels| one_hot(&labels, self.spec.classes.len(), device));
        let draws = self.draws(0, device);
        let styles = generator.mapping.forward(draws.z, classes.clone());
        let second = generator.mapping.forward(draws.second, classes.clone());
        generator.mapping.track(styles.clone().detach());
        let truncated = generator.mapping.truncated(styles.clone(), 0.5);
        let mixed = generator.mixed(styles.clone(), second, &draws.cuts);
        let fake = generator.synthesis.forward(&mixed, draws.noise);
        let real = self.twin.tensor::<4>("input/x", device);
        let [on_real, on_fake, _] = draws.augment;
        let logits_real = discriminator.forward(on_real.apply(real), classes.clone());
        let logits_fake = discriminator.forward(on_fake.apply(fake.clone()), classes);
        for (name, ours) in [
            ("styles", values(styles)),
            ("truncated", values(truncated)),
            ("fake", values(fake)),
            ("logits_real", values(logits_real)),
            ("logits_fake", values(logits_fake)),
        ] {
            self.twin
                .assert_close(&format!("output/{name}"), &ours, CLOSE);
        }
    }

    /// The family's trainer at the weights `start`.
    fn trainer(&self, start: &TensorMap, device: &Device) -> StyleGan2Trainer {
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
        let mut trainer = StyleGan2::trainer(&self.config, &context).unwrap();
        let state = TrainState {
            model: start.clone(),
            ..trainer.save()
        };
        trainer.restore(&state).unwrap();
        trainer
    }
}

/// A change of an image as the header holds it.
fn change(value: &Value) -> Change {
    let number = |name: &str| value[name].as_f64().unwrap();
    Change {
        flip: value["flip"].as_bool().unwrap(),
        turns: value["turns"].as_u64().unwrap() as u8,
        shift: [0, 1].map(|axis: usize| value["shift"][axis].as_i64().unwrap()),
        zoom: number("zoom"),
        brightness: number("brightness"),
        contrast: number("contrast"),
    }
}
