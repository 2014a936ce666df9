//! Tests of the family.

use super::*;
use crate::data::HostBatch;
use crate::nn::host;
use crate::optim::AdamConfig;
use crate::registry::{Step, TrainState, Trainer};
use crate::task::{Request, SampleOptions};

fn context(spec: &DataSpec) -> TrainerContext {
    TrainerContext {
        spec: spec.clone(),
        seed: 5,
        device: Device::flex().autodiff(),
        adam: AdamConfig::default(),
        average_half_life_images: 0.0,
    }
}

/// Four images of stripes.
fn batch(spec: &DataSpec, step: u64) -> HostBatch {
    let [channels, height, width] = spec.shape();
    let size = channels * height * width;
    let images = (0..4 * size)
        .map(|i| (((i / size + 1) * (i % size / width)) % 5) as f32 / 4.0)
        .collect();
    HostBatch {
        step,
        images,
        labels: Some(vec![0, 1, 1, 0]),
        attributes: None,
        batch: 4,
        shape: spec.shape(),
    }
}

fn train(trainer: &mut VqVaeTrainer, spec: &DataSpec, from: u64, to: u64) -> Vec<Scalars> {
    let mut told = vec![];
    for step in from..to {
        let micro = [batch(spec, step)];
        let step = Step {
            micro: &micro,
            learning_rate: 3e-3,
            clip_norm: None,
        };
        told.push(trainer.step(&step).unwrap());
    }
    told
}

#[test]
fn the_prior_waits_and_does_not_reach_the_encoder() {
    let (config, spec) = VqVae::tiny();
    let run = |prior_after_images: u64| {
        let config = VqVaeConfig {
            prior_after_images,
            restart: false,
            ..config.clone()
        };
        let mut trainer = VqVae::trainer(&config, &context(&spec)).unwrap();
        let told = train(&mut trainer, &spec, 0, 4);
        (told, trainer.save())
    };
    let (told, early) = run(8);
    let knows = |scalars: &Scalars| scalars.iter().any(|(name, _)| *name == "prior");
    assert_eq!(
        told.iter().map(knows).collect::<Vec<bool>>(),
        [false, false, true, true]
    );
    let (_, never) = run(1_000_000);
    let of = |state: &TrainState, prefix: &str| part(&state.model, prefix);
    assert_eq!(of(&early, "autoencoder."), of(&never, "autoencoder."));
    assert_ne!(of(&early, "prior."), of(&never, "prior."));
}

#[test]
fn gradients_pass_the_codebook_straight() {
    let (config, spec) = VqVae::tiny();
    let mut trainer = VqVae::trainer(&config, &context(&spec)).unwrap();
    train(&mut trainer, &spec, 0, 1);
    let net = trainer.autoencoder();
    let device = Device::flex().autodiff();
    let x = crate::train::images_to_device(&batch(&spec, 0), vermeer_image::Range::Unit, &device);
    let z = net.encode(x.clone());
    let quantised = net.quantise(z.clone());
    // The nearest codes are those of the codebook with their numbers.
    let codes = host(net.codebook().codes());
    let [_, size, height, width] = z.dims();
    let nearest = host(quantised.nearest.clone());
    for (place, number) in quantised.numbers().iter().enumerate() {
        let (image, at) = (place / (height * width), place % (height * width));
        for i in 0..size {
            let own = nearest[(image * size + i) * height * width + at];
            assert_eq!(own, codes[*number as usize * size + i]);
        }
    }
    // What the decoder says of the codes, the encoder is told of its outputs.
    let leaf = Tensor::from_inner(quantised.nearest).require_grad();
    let error = net.decode(leaf.clone()).sub(x.clone()).square().mean();
    let mut tape = error.div_scalar(config.variance).backward();
    let expected = host(leaf.grad_remove(&mut tape).unwrap());
    let z = z.inner();
    let leaf = Tensor::from_inner(z.clone()).require_grad();
    let nearest = Tensor::from_inner(net.quantise(z).nearest);
    let q = leaf.clone().add(nearest.sub(leaf.clone()).detach());
    let error = net.decode(q).sub(x).square().mean();
    let mut tape = error.div_scalar(config.variance).backward();
    let straight = host(leaf.grad_remove(&mut tape).unwrap());
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (a, b) in expected.iter().zip(&straight) {
        assert!((a - b).abs() < 1e-4 * largest, "{a} {b}");
    }
}

#[test]
fn both_priors_make_images_of_a_class_and_learn() {
    let (tiny, spec) = VqVae::tiny();
    for prior in [PriorNetwork::GatedPixelCnn, PriorNetwork::Transformer] {
        let config = VqVaeConfig {
            prior,
            prior_after_images: 0,
            ..tiny.clone()
        };
        VqVae::check(&config, &spec).unwrap();
        let mut trainer = VqVae::trainer(&config, &context(&spec)).unwrap();
        let before = trainer.validate(&batch(&spec, 0)).unwrap();
        train(&mut trainer, &spec, 0, 150);
        let after = trainer.validate(&batch(&spec, 0)).unwrap();
        let of =
            |scalars: &Scalars, name: &str| scalars.iter().find(|(own, _)| *own == name).unwrap().1;
        assert!(
            of(&after, "prior") < 0.8 * of(&before, "prior"),
            "{after:?}"
        );
        assert!(
            of(&after, "reconstruction") < 0.8 * of(&before, "reconstruction"),
            "{after:?}"
        );
        let pipeline = trainer.pipeline().unwrap();
        let options = SampleOptions {
            class: Some(1),
            temperature: Some(0.5),
            ..SampleOptions::default()
        };
        let made = |numbers: &[u64]| {
            let request = Request::Generate {
                numbers,
                options: &options,
            };
            let answer = pipeline.answer(&request, &mut |_, _| ()).unwrap();
            host(answer.into_images().unwrap().into_tensor())
        };
        let many: Vec<u64> = (0..19).collect();
        let size: usize = spec.shape().iter().product();
        assert_eq!(made(&[11]), made(&many)[11 * size..12 * size]);
    }
}

#[test]
fn wrong_settings_are_refused() {
    let (config, spec) = VqVae::tiny();
    let refused = |change: &dyn Fn(&mut VqVaeConfig, &mut DataSpec)| {
        let (mut config, mut spec) = (config.clone(), spec.clone());
        change(&mut config, &mut spec);
        VqVae::check(&config, &spec).is_err()
    };
    assert!(!refused(&|_, _| ()));
    assert!(refused(&|config, _| config.width = 7));
    assert!(refused(&|config, _| config.codes = 1));
    assert!(refused(&|config, _| config.codes = 70_000));
    assert!(refused(&|config, _| config.downsampling = 3));
    assert!(refused(&|config, _| config.code_size = 0));
    assert!(refused(&|config, _| config.prior_layers = 0));
    assert!(refused(&|config, _| config.decay = 1.0));
    assert!(refused(&|config, _| config.variance = 0.0));
    assert!(refused(&|config, _| config.commitment = -1.0));
    assert!(refused(&|config, _| {
        config.prior = PriorNetwork::Transformer;
        config.prior_width = 6;
    }));
    assert!(refused(&|_, spec| spec.height = 10));
    assert!(refused(&|_, spec| spec.classes = vec![]));
}
