//! The families `gan`, `cgan`, `acgan` and `wgan` against `tools/reference/twin_gans.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::prelude::*;
use serde_json::Value;
use vermeer::data::HostBatch;
use vermeer::models::{Acgan, AcganConfig, Cgan, CganConfig, Gan, GanConfig, Wgan, WganConfig};
use vermeer::nn::{Init, Mode, Spectrum, load, pytorch_names, state};
use vermeer::optim::{AdamConfig, part};
use vermeer::registry::{DataSpec, Family, Step, TrainState, Trainer, TrainerContext};
use vermeer::run::{NamedTensor, TensorMap};
use vermeer::train::game::{Game, Generates, Judges, iterate, one_hot};

use crate::twin::{AFTER_STEPS, CLOSE, Twin, values, whole};

#[test]
fn gan() {
    check(
        "gan",
        |config, spec, init| {
            let config: GanConfig = settings(config);
            (
                config.generator(spec, init),
                config.discriminator(spec, init),
            )
        },
        |config, context| Gan::trainer(&settings::<GanConfig>(config), context).unwrap(),
    );
}

#[test]
fn cgan_by_projection_and_by_embedding() {
    for case in ["cgan-projected", "cgan-embedding"] {
        check(
            case,
            |config, spec, init| {
                let config: CganConfig = settings(config);
                (
                    config.generator(spec, init),
                    config.discriminator(spec, init),
                )
            },
            |config, context| Cgan::trainer(&settings::<CganConfig>(config), context).unwrap(),
        );
    }
}

#[test]
fn acgan_with_batch_and_with_spectral_normalisation() {
    for case in ["acgan", "acgan-spectral"] {
        check(
            case,
            |config, spec, init| {
                let config: AcganConfig = settings(config);
                (
                    config.generator(spec, init),
                    config.discriminator(spec, init),
                )
            },
            |config, context| Acgan::trainer(&settings::<AcganConfig>(config), context).unwrap(),
        );
    }
}

/// Two critic steps each: on two micro-batches that are dealt to them, and on one used twice.
#[test]
fn wgan_with_clipping_and_with_spectral_normalisation() {
    for case in ["wgan-clipping", "wgan-spectral"] {
        check(
            case,
            |config, spec, init| {
                let config: WganConfig = settings(config);
                (
                    config.generator(spec, init),
                    config.discriminator(spec, init),
                )
            },
            |config, context| Wgan::trainer(&settings::<WganConfig>(config), context).unwrap(),
        );
    }
}

fn settings<C: serde::de::DeserializeOwned>(config: &Value) -> C {
    serde_json::from_value(config.clone()).unwrap()
}

/// Outputs of the first discriminator update, losses and gradients of the first step, and weights,
/// running statistics and singular vectors after three steps of the family's own trainer.
fn check<G: Generates, D: Judges>(
    case: &str,
    networks: impl Fn(&Value, &DataSpec, &Init) -> (G, D),
    trainer: impl Fn(&Value, &TrainerContext) -> Game<G, D>,
) {
    let device = Device::flex().autodiff();
    let twin = Twin::open(case);
    let config = &twin.settings["config"];
    let spec = spec(&twin);
    let blank = || networks(config, &spec, &Init::blank(&device));
    let start = both(&blank(), &twin, "weights/");
    let load_as = |prefix: &str| part(&start, prefix);
    let (generator, discriminator) = blank();
    let generator = load(generator, &load_as("generator."), Path::new("g")).unwrap();
    let discriminator = load(discriminator, &load_as("discriminator."), Path::new("d")).unwrap();

    // The first images and what the discriminator says of them.
    let batches: Vec<HostBatch> = (0..twin.size("/accumulate"))
        .map(|i| batch(&twin, &spec, i))
        .collect();
    let classes = batches[0]
        .labels
        .as_ref()
        .map(|labels| one_hot(labels, spec.classes.len(), &device));
    let mut spectra = spectra(&twin, &discriminator, &device);
    iterate(&discriminator, &mut spectra);
    let z = |k: usize, j: usize| twin.tensor::<2>(&format!("input/z.{k}.{j}"), &device);
    let fake = generator.images(z(0, 0), classes.clone(), Mode::Train);
    twin.assert_close("output/fake", &values(fake.clone()), CLOSE);
    let x = twin.tensor::<4>("input/x.0", &device);
    let on_real = discriminator.opinion(x, classes.clone(), Mode::Train, &spectra);
    let on_fake = discriminator.opinion(fake.detach(), classes, Mode::Train, &spectra);
    twin.assert_close("output/logits_real", &values(on_real.logits), CLOSE);
    twin.assert_close("output/logits_fake", &values(on_fake.logits), CLOSE);
    if let Some(named) = on_real.classes {
        twin.assert_close("output/classes_real", &values(named), CLOSE);
    }

    let beta1 = twin.number("/optimizer/betas/0");
    let context = TrainerContext {
        spec: spec.clone(),
        seed: 0,
        device: device.clone(),
        adam: AdamConfig {
            beta1,
            beta2: twin.number("/optimizer/betas/1"),
            epsilon: twin.number("/optimizer/eps"),
            weight_decay: 0.0,
        },
        average_half_life_images: 0.0,
    };
    let mut trainer = trainer(config, &context);
    let mut first = TrainState {
        model: start.clone(),
        ..trainer.save()
    };
    for (i, _) in spectra.iter().enumerate() {
        let u = twin.named(&format!("input/u.{i}")).clone();
        first.optimizer.insert(format!("spectral.{i}.u"), u);
    }
    trainer.restore(&first).unwrap();

    let step = Step {
        micro: &batches,
        learning_rate: twin.number("/optimizer/lr"),
        clip_norm: None,
    };
    let mut under = BTreeSet::new();
    for k in 0..3 {
        let count = twin.group(&format!("input/z.{k}.")).len();
        let latents: Vec<Tensor<2>> = (0..count).map(|j| z(k, j)).collect();
        let scalars = trainer.step_from(&step, &latents).unwrap();
        if k > 0 {
            continue;
        }
        for (name, loss) in [
            ("discriminator_loss", "discriminator"),
            ("generator_loss", "generator"),
            ("class_loss", "class"),
            ("generator_class_loss", "generator_class"),
        ] {
            if let Some((_, value)) = scalars.iter().find(|(own, _)| *own == name) {
                twin.assert_close(&format!("loss/{loss}"), &[*value as f32], CLOSE);
            }
        }
        // After a step Adam's first moment is (1 − β₁) times the gradient; with β₁ = 0 it is the
        // last gradient however many steps there were.
        let saved = trainer.save();
        let share = (1.0 - beta1) as f32;
        for network in ["generator", "discriminator"] {
            let moments = part(&saved.optimizer, &format!("{network}.first."));
            let ours: BTreeMap<String, Vec<f32>> = moments
                .into_iter()
                .map(|(path, m)| (path, m.data.iter().map(|v| v / share).collect()))
                .collect();
            let stored = twin.group(&format!("grad/{network}."));
            let reference = match network {
                "generator" => own_names(&generator, &stored),
                _ => own_names(&discriminator, &stored),
            };
            let vanishing = twin.check_gradients(&ours, &reference, CLOSE);
            under.extend(vanishing.iter().map(|path| format!("{network}.{path}")));
        }
    }
    assert_eq!(under, BTreeSet::new(), "{case}");
    let saved = trainer.save();
    let after = both(&blank(), &twin, "after3/");
    twin.check_parameters(&saved.model, &after, &start, &under);
    for (i, _) in spectra.iter().enumerate() {
        let u = &saved.optimizer[&format!("spectral.{i}.u")].data;
        twin.assert_close(&format!("output/u_after3.{i}"), u, AFTER_STEPS);
    }
}

fn spec(twin: &Twin) -> DataSpec {
    let images = &twin.settings["images"];
    let side = whole(&images["side"]);
    let classes = images.get("classes").map_or(0, whole);
    DataSpec {
        channels: whole(&images["channels"]),
        height: side,
        width: side,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    }
}

/// Micro-batch `i` as the loader would give it.
fn batch(twin: &Twin, spec: &DataSpec, i: usize) -> HostBatch {
    let signed = &twin.named(&format!("input/x.{i}")).data;
    let labels = (!spec.classes.is_empty()).then(|| {
        let stored = &twin.named(&format!("input/labels.{i}")).data;
        stored.iter().map(|label| *label as u32).collect()
    });
    HostBatch {
        step: i as u64,
        images: signed.iter().map(|v| 0.5 * (v + 1.0)).collect(),
        labels,
        attributes: None,
        batch: twin.size("/batch"),
        shape: spec.shape(),
    }
}

/// The start of power iteration; empty without spectral normalisation. An iteration computes v
/// from u, so the v given here is never read.
fn spectra<D: Judges>(twin: &Twin, discriminator: &D, device: &Device) -> Vec<Spectrum> {
    let plain = device.clone().without_autodiff();
    let count = twin.group("input/u.").len();
    let weights = discriminator.matrices().into_iter().take(count);
    weights
        .enumerate()
        .map(|(i, weight)| {
            let u = twin.tensor::<1>(&format!("input/u.{i}"), &plain);
            Spectrum::new(u, Tensor::zeros([weight.dims()[1]], &plain))
        })
        .collect()
}

/// Weights and running statistics of both networks, named as a checkpoint names them.
fn both<G: Generates, D: Judges>(networks: &(G, D), twin: &Twin, group: &str) -> TensorMap {
    let (generator, discriminator) = networks;
    let named = |network: &str, tensors: TensorMap, all: usize| -> TensorMap {
        assert_eq!(tensors.len(), all, "{network}");
        tensors
            .into_iter()
            .map(|(path, tensor)| (format!("{network}.{path}"), tensor))
            .collect()
    };
    let stored = twin.group(&format!("{group}generator."));
    let own = own_names(generator, &stored);
    let mut all = named("generator", own, state(&generator.valid()).len());
    let stored = twin.group(&format!("{group}discriminator."));
    let own = own_names(discriminator, &stored);
    all.extend(named(
        "discriminator",
        own,
        state(&discriminator.valid()).len(),
    ));
    all
}

/// The twin's tensors under our paths, linear weights transposed.
fn own_names<M: Module>(module: &M, stored: &TensorMap) -> TensorMap {
    let own: TensorMap = pytorch_names(module)
        .into_iter()
        .filter_map(|(path, foreign, transposed)| {
            let tensor = stored.get(&foreign)?;
            Some((
                path,
                if transposed {
                    transpose(tensor)
                } else {
                    tensor.clone()
                },
            ))
        })
        .collect();
    assert_eq!(own.len(), stored.len());
    own
}

fn transpose(tensor: &NamedTensor) -> NamedTensor {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let at = |i: usize| tensor.data[i % rows * columns + i / rows];
    NamedTensor {
        shape: vec![columns, rows],
        data: (0..rows * columns).map(at).collect(),
    }
}
