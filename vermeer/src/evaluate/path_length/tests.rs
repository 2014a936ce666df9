use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_image::metrics::Ends;

use super::*;
use crate::optim::AdamConfig;
use crate::registry::{FAMILIES, TrainerContext};
use crate::task::{Answer, Progress as TaskProgress, Request, Task, unsupported};

/// Two pixels 0.5 + (a + 2b) / 100 and 0.5 + 3b / 100 of a latent (a, b).
struct Linear;

impl Pipeline for Linear {
    fn tasks(&self) -> &'static [Task] {
        &[]
    }

    fn shape(&self) -> [usize; 3] {
        [1, 1, 2]
    }

    fn answer(&self, request: &Request, _: TaskProgress) -> Result<Answer> {
        Err(unsupported("linear", request.task(), self.tasks()))
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(2)
    }

    fn decode(&self, latents: &[f32], _: &[u64], _: &SampleOptions) -> Result<ImageBatch> {
        let pixels: Vec<f32> = latents
            .chunks_exact(2)
            .flat_map(|z| [0.5 + 0.01 * (z[0] + 2.0 * z[1]), 0.5 + 0.03 * z[1]])
            .collect();
        let shape = [latents.len() / 2, 1, 1, 2];
        let x = Tensor::from_data(TensorData::new(pixels, shape), &Device::flex());
        Ok(ImageBatch::new(x, Range::Unit)?)
    }
}

/// [`Linear`] of styles (2a + 1, b) of latents (a, b), brighter by the number of the noise.
struct Styled;

impl Pipeline for Styled {
    fn tasks(&self) -> &'static [Task] {
        &[]
    }

    fn shape(&self) -> [usize; 3] {
        [1, 1, 2]
    }

    fn answer(&self, request: &Request, _: TaskProgress) -> Result<Answer> {
        Err(unsupported("styled", request.task(), self.tasks()))
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(2)
    }

    fn style_dims(&self) -> Option<usize> {
        Some(2)
    }

    fn styles(&self, latents: &[f32], numbers: &[u64], _: &SampleOptions) -> Result<Vec<f32>> {
        // The class is that of the first sample of a pair.
        assert!(numbers.iter().all(|number| number.is_multiple_of(2)));
        let pairs = latents.chunks_exact(2);
        Ok(pairs.flat_map(|z| [2.0 * z[0] + 1.0, z[1]]).collect())
    }

    fn synthesise(&self, styles: &[f32], numbers: &[u64], _: u64) -> Result<ImageBatch> {
        let plain = Linear.decode(styles, numbers, &SampleOptions::default())?;
        let noise: Vec<f32> = numbers.iter().map(|n| 1e-3 * (n % 64) as f32).collect();
        let data = TensorData::new(noise, [numbers.len(), 1, 1, 1]);
        let x = plain.into_tensor();
        let noise = Tensor::<4>::from_data(data, &x.device());
        Ok(ImageBatch::new(x.add(noise), Range::Unit)?)
    }
}

fn values(images: ImageBatch) -> Vec<f32> {
    images.into_tensor().try_to_vec_as::<f32>().unwrap()
}

/// The squared distance of images of two pixels, in the units of the linear generator.
fn squares(at: ImageBatch, after: ImageBatch) -> Result<Vec<f64>> {
    let (at, after) = (values(at), values(after));
    let pairs = at.chunks_exact(2).zip(after.chunks_exact(2));
    Ok(pairs
        .map(|(a, b)| {
            let apart = |i: usize| 100.0 * (f64::from(a[i]) - f64::from(b[i]));
            apart(0).powi(2) + apart(1).powi(2)
        })
        .collect())
}

#[test]
fn a_linear_generator_has_its_closed_form() {
    // On straight lines the length is E |W(b - a)|² for W = (1 2; 0 3) and independent standard
    // normal a, b: twice the sum of the squares of W, 2 (1 + 4 + 9) = 28. One pair deviates by
    // √(8 (13.325² + 0.675²)) = 37.7, since WᵀW has the eigenvalues 7 ± √40; so 4,000 pairs
    // by 0.6.
    let options = PathLengthOptions {
        samples: 4000,
        epsilon: 0.0625,
        interpolation: Interpolation::Lerp,
        discard: [0.0, 1.0],
        ..run_path_options()
    };
    let mut last = (0, 0);
    let found = paths(
        &Linear,
        &options,
        &SampleOptions::default(),
        &mut squares,
        &AtomicBool::new(false),
        &mut |done, all| last = (done, all),
    )
    .unwrap();
    assert!((found.value - 28.0).abs() < 2.0, "{}", found.value);
    assert!((found.deviation - 37.7).abs() < 4.0, "{}", found.deviation);
    assert_eq!((found.kept, last), (4000, (4000, 4000)));
}

#[test]
fn straight_paths_between_styles_have_their_closed_form() {
    // As above with the variances 4 and 1 of styles: 2 (4 · 1 + 4 + 9) = 34, and one pair
    // deviates by √(2 (29.04² + 4.96²)) = 41.7 by the eigenvalues 17 ± √145 of twice (4 4; 4 13).
    let options = PathLengthOptions {
        samples: 4000,
        epsilon: 0.0625,
        ends: Ends::Full,
        discard: [0.0, 1.0],
        ..PathLengthOptions::in_w()
    };
    let found = paths(
        &Styled,
        &options,
        &SampleOptions::default(),
        &mut squares,
        &AtomicBool::new(false),
        &mut |_, _| {},
    )
    .unwrap();
    assert!((found.value - 34.0).abs() < 2.5, "{}", found.value);
    assert!((found.deviation - 41.7).abs() < 5.0, "{}", found.deviation);
    assert_eq!(found.name, "ppl_w_full_nocrop_f32_eps6.25e-2_keep0to1");
}

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let run = |options: &PathLengthOptions, stop: bool| {
        paths(
            &Linear,
            options,
            &SampleOptions::default(),
            &mut squares,
            &AtomicBool::new(stop),
            &mut |_, _| {},
        )
    };
    let options = PathLengthOptions {
        samples: 2,
        ..run_path_options()
    };
    assert!(run(&options, false).is_ok());
    assert_eq!(run(&options, true).unwrap_err().exit_code(), 1);
    let w = PathLengthOptions {
        space: "w".to_owned(),
        ..options.clone()
    };
    assert_eq!(run(&w, false).unwrap_err().exit_code(), 2);
    let crop = PathLengthOptions {
        crop: true,
        ..options
    };
    assert_eq!(run(&crop, false).unwrap_err().exit_code(), 2);
}

#[test]
fn latents_give_the_samples_of_their_numbers() {
    let numbers: Vec<u64> = (0..8).collect();
    let options = SampleOptions {
        seed: 5,
        ..SampleOptions::default()
    };
    for family in FAMILIES {
        let (table, spec) = family.tiny().unwrap();
        let context = TrainerContext {
            spec,
            seed: 1,
            device: Device::flex().autodiff(),
            adam: AdamConfig::default(),
            average_half_life_images: 0.0,
        };
        let pipeline = family
            .trainer(&table, &context)
            .unwrap()
            .pipeline()
            .unwrap();
        let id = family.info().id;
        let Some(dims) = pipeline.latent_dims() else {
            continue;
        };
        let z = latents(options.seed, &numbers, dims);
        // A sampler of fresh noise has no images of latents; the model has another one.
        let options = match pipeline.decode(&z, &numbers, &options) {
            Ok(_) => options.clone(),
            Err(_) => SampleOptions {
                sampler: Some("ddim".to_owned()),
                ..options.clone()
            },
        };
        let request = Request::Generate {
            numbers: &numbers,
            options: &options,
        };
        let samples = pipeline.answer(&request, &mut |_, _| {}).unwrap();
        let images = pipeline.decode(&z, &numbers, &options).unwrap();
        assert_eq!(
            values(images),
            values(samples.into_images().unwrap()),
            "{id}"
        );
        // Some of them, padded to a block.
        assert_eq!(
            pipeline
                .decode(&z[..3 * dims], &numbers[..3], &options)
                .unwrap()
                .dims()[0],
            3,
            "{id}"
        );
        assert!(
            pipeline.decode(&z[1..], &numbers, &options).is_err(),
            "{id}"
        );
        if pipeline.style_dims().is_some() {
            let styles = pipeline.styles(&z, &numbers, &options).unwrap();
            let images = pipeline.synthesise(&styles, &numbers, options.seed);
            let decoded = pipeline.decode(&z, &numbers, &options).unwrap();
            assert_eq!(values(images.unwrap()), values(decoded), "{id}");
        }
    }
}

#[test]
fn the_distance_sees_what_the_options_say() {
    let image = |side: usize| -> ImageBatch {
        let values: Vec<f32> = (0..side * side)
            .map(|i| (i % side) as f32 / side as f32)
            .collect();
        let data = TensorData::new(values, [1, 1, side, side]);
        ImageBatch::new(Tensor::from_data(data, &Device::flex()), Range::Unit).unwrap()
    };
    let plain = run_path_options();
    // Columns 2 to 5 of 8, the same in rows 3 to 6.
    let crop = PathLengthOptions {
        crop: true,
        ..plain.clone()
    };
    let found = looked_at(image(8), &crop).unwrap();
    assert_eq!(found.dims(), [1, 1, 4, 4]);
    assert_eq!(values(found)[..4], [0.25, 0.375, 0.5, 0.625]);
    // Blocks of two: the mean of columns 0 and 1 of 512.
    let found = looked_at(image(512), &plain).unwrap();
    assert_eq!(found.dims(), [1, 1, 256, 256]);
    assert!((values(found)[0] - 0.5 / 512.0).abs() < 1e-7);
    // 0.375 · 255 = 95.625 becomes 96.
    let bytes = PathLengthOptions {
        quantised: true,
        ..plain
    };
    let found = values(looked_at(image(8), &bytes).unwrap());
    assert!((found[3] - 96.0 / 255.0).abs() < 1e-6);
}

#[test]
fn scores_say_their_choices() {
    let found = PathLength {
        name: String::new(),
        value: 2.0,
        deviation: 1.0,
        interval: None,
        kept: 98,
        distances: vec![],
    };
    assert_eq!(run_path_options().name(), "ppl_z_end_nocrop_f32_slerp_any");
    let bytes = PathLengthOptions {
        ends: Ends::Full,
        quantised: true,
        samples: 100,
        ..run_path_options()
    };
    let score = score(None, &bytes, &found);
    assert_eq!(score.name, "pl_vermeer_z_full_nocrop_u8_slerp_any");
    assert!(score.notes[0].starts_with("98 of 100 pairs"), "{score:?}");
    assert!(score.notes.iter().any(|note| note.contains("rounding")));
    let names = [Backbone::Vgg, Backbone::Alex].map(|backbone| name(Some(backbone), &bytes));
    let expected = "ppl_z_full_nocrop_u8_slerp_any";
    assert_eq!(names[0], expected);
    assert_eq!(names[1], format!("{expected}_lpips-alex"));
}
