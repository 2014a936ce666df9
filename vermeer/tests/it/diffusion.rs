//! What the families of diffusion models do beyond sampling: encoding, and the bound.

use std::env;
use std::path::Path;

use burn::prelude::*;
use vermeer::image::{ImageBatch, Range};
use vermeer::import;
use vermeer::registry::{AnyFamily, DataSpec, TrainerContext, family};
use vermeer::run::read_safetensors;
use vermeer::task::{Conditions, Likelihood, Pipeline, Request, SampleOptions};

use crate::twin::{norm, on_device, values};

const FAMILIES: [&str; 3] = ["diffusion", "ddpm", "flow-matching"];

/// An untrained model of a family's tiny settings, with some of them changed.
fn tiny(id: &str, changes: &str) -> (Box<dyn Pipeline>, DataSpec) {
    let family: &dyn AnyFamily = family(id).unwrap();
    let (mut table, spec) = family.tiny().unwrap();
    table.extend(changes.parse::<toml::Table>().unwrap());
    let context = TrainerContext {
        spec: spec.clone(),
        seed: 5,
        device: Device::flex().autodiff(),
        adam: vermeer::optim::AdamConfig::default(),
        average_half_life_images: 0.0,
    };
    let pipeline = family
        .trainer(&table, &context)
        .unwrap()
        .pipeline()
        .unwrap();
    (pipeline, spec)
}

/// Twelve images of byte pixels.
fn images(spec: &DataSpec) -> ImageBatch {
    let [c, h, w] = spec.shape();
    let pixels: Vec<f32> = (0..12 * c * h * w)
        .map(|at| (at * 7 % 256) as f32 / 255.0)
        .collect();
    let x = Tensor::<1>::from_floats(&pixels[..], &Device::flex()).reshape([12, c, h, w]);
    ImageBatch::new(x, Range::Unit).unwrap()
}

/// The first of `images`.
fn first(images: &ImageBatch, count: usize) -> ImageBatch {
    let x = images.clone().into_tensor().narrow(0, 0, count);
    ImageBatch::new(x, Range::Unit).unwrap()
}

fn encode(pipeline: &dyn Pipeline, images: &ImageBatch, conditions: &Conditions) -> Vec<Vec<f32>> {
    let request = Request::Encode { images, conditions };
    match pipeline.answer(&request, &mut |_, _| ()).unwrap() {
        vermeer::task::Answer::Codes(codes) => codes,
        vermeer::task::Answer::Images(_) => panic!("encoded into images"),
    }
}

fn reconstruct(pipeline: &dyn Pipeline, images: &ImageBatch) -> ImageBatch {
    let conditions = &Conditions::default();
    let request = Request::Reconstruct { images, conditions };
    let answer = pipeline.answer(&request, &mut |_, _| ()).unwrap();
    answer.into_images().unwrap()
}

#[test]
fn a_code_does_not_depend_on_its_company_and_has_the_size_of_a_latent() {
    for id in FAMILIES {
        let (pipeline, spec) = tiny(id, "");
        let images = images(&spec);
        let labels: fn(usize) -> Conditions = |count| Conditions {
            labels: Some(vec![1; count]),
            attributes: None,
        };
        let none: fn(usize) -> Conditions = |_| Conditions::default();
        for conditions in [labels, none] {
            let all = encode(&*pipeline, &images, &conditions(12));
            let few = encode(&*pipeline, &first(&images, 3), &conditions(3));
            assert_eq!(all.len(), 12, "{id}");
            assert_eq!(Some(all[0].len()), pipeline.latent_dims(), "{id}");
            assert!(all[..3] == few[..], "{id}");
        }
        let wrong = labels(11);
        let request = Request::Encode {
            images: &images,
            conditions: &wrong,
        };
        assert!(pipeline.answer(&request, &mut |_, _| ()).is_err(), "{id}");
    }
}

#[test]
fn a_reconstruction_is_the_image_of_its_code() {
    for id in ["diffusion", "flow-matching"] {
        let (pipeline, spec) = tiny(id, "conditional = false\nguidance = 0.0");
        let images = images(&spec);
        let codes: Vec<f32> = encode(&*pipeline, &images, &Conditions::default()).concat();
        let numbers: Vec<u64> = (0..12).collect();
        let decoded = pipeline
            .decode(&codes, &numbers, &SampleOptions::default())
            .unwrap();
        let again = reconstruct(&*pipeline, &images);
        assert!(
            values(decoded.into_tensor()) == values(again.into_tensor()),
            "{id}"
        );
    }
}

#[test]
fn a_walk_without_noise_refuses_the_sampler_that_adds_it() {
    let (pipeline, _) = tiny("ddpm", "");
    let asked = |sampler: Option<&str>, eta: Option<f32>| {
        let options = SampleOptions {
            sampler: sampler.map(str::to_owned),
            eta,
            ..SampleOptions::default()
        };
        let request = Request::Interpolate {
            from: 0,
            to: 1,
            frames: 2,
            options: &options,
        };
        pipeline.answer(&request, &mut |_, _| ())
    };
    assert!(asked(None, None).is_ok());
    assert!(asked(Some("heun"), None).is_ok());
    assert!(asked(Some("ddpm"), None).is_err());
    assert!(asked(Some("ddim"), Some(0.5)).is_err());
    // Its samples do not follow from their latents; those of ddim do.
    let z = vec![0.1; pipeline.latent_dims().unwrap()];
    let ddim = SampleOptions {
        sampler: Some("ddim".into()),
        ..SampleOptions::default()
    };
    assert!(
        pipeline
            .decode(&z, &[0], &SampleOptions::default())
            .is_err()
    );
    assert!(pipeline.decode(&z, &[0], &ddim).is_ok());
}

#[test]
fn the_bound_is_the_frameworks_and_does_not_depend_on_company() {
    for (id, changes, expected) in [
        ("diffusion", "", Some(Likelihood::Variational)),
        ("ddpm", "", Some(Likelihood::Variational)),
        ("diffusion", "framework = \"edm\"", None),
        ("flow-matching", "", None),
    ] {
        let (pipeline, spec) = tiny(id, changes);
        assert_eq!(pipeline.likelihood(), expected, "{id} {changes}");
        let (images, none) = (images(&spec), Conditions::default());
        let bounds = pipeline.log_likelihood(&images, &none, 2, 3);
        if expected.is_none() {
            assert!(bounds.is_err(), "{id} {changes}");
            continue;
        }
        let bounds = bounds.unwrap();
        assert!(
            bounds.iter().all(|b| b.is_finite() && *b < 0.0),
            "{bounds:?}"
        );
        let few = pipeline.log_likelihood(&first(&images, 3), &none, 2, 3);
        assert_eq!(bounds[..3], few.unwrap()[..], "{id}");
        assert!(pipeline.log_likelihood(&images, &none, 0, 3).is_err());
    }
}

/// A few passes estimate what all passes compute: the mean of many draws of five passes is within
/// five standard errors of the mean of draws of all twenty.
#[test]
fn drawn_terms_estimate_the_whole_bound() {
    let of = |steps: usize, draws: u64| -> Vec<f64> {
        let (pipeline, spec) = tiny("ddpm", &format!("steps = {steps}"));
        let image = first(&images(&spec), 1);
        let bound = |seed: u64| {
            pipeline
                .log_likelihood(&image, &Conditions::default(), 1, seed)
                .unwrap()[0]
        };
        (0..draws).map(bound).collect()
    };
    let told = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, var / n)
    };
    let ((few, few_var), (all, all_var)) = (told(&of(5, 100)), told(&of(20, 25)));
    let error = (few_var + all_var).sqrt();
    assert!(
        (few - all).abs() < 5.0 * error,
        "{few}, not {all} ± {error}"
    );
}

/// Digits through the published network of MNIST and back: 100 steps of ddim each way. The same
/// walk in PyTorch: root mean square 0.0013 of unit pixels, at most 0.021; codes of standard
/// deviation 0.97. Bringing each image to the full range afterwards adds a little.
#[test]
fn ddpm_mnist_decodes_what_it_encodes() {
    let Some(shared) = env::var_os("VERMEER_SHARED") else {
        eprintln!("skipped ddpm_mnist: VERMEER_SHARED names no folder with checkpoints");
        return;
    };
    let folder = Path::new(&shared).join("checkpoints/ddpm_mnist");
    let published = import::read(&folder.join("ddpm_mnist.pt")).unwrap().tensors;
    let family = family("diffusion").unwrap();
    let (table, spec, weights) = family.import(&[published], &toml::Table::new()).unwrap();
    let device = Device::flex();
    let pipeline = family.pipeline(&table, &spec, &weights, &device).unwrap();
    let (reference, _) = read_safetensors(&folder.join("reference.safetensors")).unwrap();
    let x: Tensor<4> = on_device(&reference["input_x0"], &device);
    let x = x.add_scalar(1.0).mul_scalar(0.5);
    let images = ImageBatch::new(x.clone(), Range::Unit).unwrap();

    let codes = encode(&*pipeline, &images, &Conditions::default());
    let flat: Vec<f32> = codes.iter().flatten().copied().collect();
    let spread = norm(&flat) / (flat.len() as f64).sqrt();
    assert!((0.9..1.1).contains(&spread), "codes spread by {spread}");

    let numbers: Vec<u64> = (0..codes.len() as u64).collect();
    let options = SampleOptions {
        sampler: Some("ddim".into()),
        steps: Some(100),
        ..SampleOptions::default()
    };
    let decoded = pipeline.decode(&flat, &numbers, &options).unwrap();
    let rest = values(decoded.into_tensor().sub(x));
    let apart = norm(&rest) / (rest.len() as f64).sqrt();
    assert!(apart < 0.01, "{apart} away");
}
