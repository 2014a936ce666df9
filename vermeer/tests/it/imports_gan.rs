//! The published GAN of fully connected layers against what the reference code computes with it;
//! see `imports` for where the files lie.

use std::env;
use std::path::Path;

use burn::prelude::*;
use vermeer::import;
use vermeer::models::GanConfig;
use vermeer::nn::{Init, load};
use vermeer::optim::part;
use vermeer::registry::family;
use vermeer::run::{TensorMap, read_safetensors};
use vermeer::task::{Conditions, Request, SampleOptions, Task};

use crate::twin::{on_device, values};

/// Allowed distance over the largest value of an output. The reference in float32 is at most
/// 4.2e-6 from itself in float64, of outputs up to 10.
const CLOSE: f64 = 1e-4;

fn assert_close<const D: usize>(ours: Tensor<D>, reference: &[f32], name: &str) {
    let ours = values(ours);
    assert_eq!(ours.len(), reference.len(), "{name}");
    let largest = reference.iter().fold(0.0f32, |most, r| most.max(r.abs()));
    for (at, (a, r)) in ours.iter().zip(reference).enumerate() {
        let apart = f64::from((a - r).abs());
        assert!(
            apart <= CLOSE * f64::from(largest),
            "{name}: {a}, not {r}, at {at}"
        );
    }
}

#[test]
fn gan_mlp_mnist() {
    let Some(shared) = env::var_os("VERMEER_SHARED") else {
        eprintln!("skipped gan_mlp_mnist: VERMEER_SHARED names no folder with checkpoints");
        return;
    };
    let folder = Path::new(&shared).join("checkpoints/gan_mlp_mnist");
    let files: [TensorMap; 2] = ["D--300.ckpt", "G--300.ckpt"]
        .map(|file| import::read(&folder.join(file)).unwrap().tensors);
    let flex = Device::flex();
    let gan = family("gan").unwrap();
    let (table, spec, weights) = gan.import(&files, &toml::Table::new()).unwrap();
    gan.check(&table, &spec).unwrap();
    let config: GanConfig = table.clone().try_into().unwrap();
    assert_eq!((config.latent, &config.hidden[..]), (64, &[256, 256][..]));

    let blank = Init::blank(&flex);
    let generator = config.generator(&spec, &blank);
    let generator = load(generator, &part(&weights, "generator."), Path::new("G"))
        .unwrap()
        .valid();
    let (reference, _) = read_safetensors(&folder.join("G--300.reference.safetensors")).unwrap();
    let z = on_device::<2>(&reference["input"], &flex);
    assert_close(generator.forward(z), &reference["output"].data, "output");

    let judge = config.discriminator(&spec, &blank);
    let judge = load(judge, &part(&weights, "discriminator."), Path::new("D"))
        .unwrap()
        .valid();
    let (reference, _) = read_safetensors(&folder.join("D--300.reference.safetensors")).unwrap();
    let x = on_device::<2>(&reference["input"], &flex); // [n, 784]
    let n = x.dims()[0];
    let logits = judge.forward(x.reshape([n, 1, 28, 28]));
    assert_close(logits, &reference["output_logit"].data, "output_logit");

    // The generator alone samples and does not encode; both files do both.
    let options = SampleOptions::default();
    let request = Request::Generate {
        numbers: &[5],
        options: &options,
    };
    let pipeline = gan.pipeline(&table, &spec, &weights, &flex).unwrap();
    assert_eq!(pipeline.tasks(), gan.info().tasks);
    let images = pipeline
        .answer(&request, &mut |_, _| ())
        .unwrap()
        .into_images()
        .unwrap();
    assert_eq!(images.dims(), [1, 1, 28, 28]);

    let (table, spec, weights) = gan.import(&files[1..], &toml::Table::new()).unwrap();
    let pipeline = gan.pipeline(&table, &spec, &weights, &flex).unwrap();
    assert_eq!(pipeline.tasks(), [Task::Generate, Task::Interpolate]);
    pipeline.answer(&request, &mut |_, _| ()).unwrap();
    let request = Request::Encode {
        images: &images,
        conditions: &Conditions::default(),
    };
    assert!(pipeline.answer(&request, &mut |_, _| ()).is_err());
    let [discriminator, _] = &files;
    assert!(
        gan.import(std::slice::from_ref(discriminator), &toml::Table::new())
            .is_err()
    );
}
