//! Perceptual path length of a run: how much its samples change when their latents move a little.
//!
//! The formula and its options are in [`vermeer_image::metrics::path_length`]; here latents are
//! drawn, images are made of them and looked at. The distance is LPIPS with VGG16, as published,
//! and the value is then called `ppl_…`; with the embedded feature network, which needs no weights,
//! it is the squared distance of features and called `pl_vermeer_…`. All other choices follow in
//! the name.
//!
//! The families here are trained on standard normal latents as they are, so paths keep the lengths
//! of their ends ([`Interpolation::SlerpAny`]); StyleGAN's `slerp` walks on the unit sphere, since
//! its generator scales its latents itself. As in StyleGAN, images of 512 pixels and more are
//! reduced to 256 by the mean over blocks.

use std::sync::atomic::{AtomicBool, Ordering};

use vermeer_image::metrics::{
    Backbone, Interpolation, PathLength, PathLengthOptions, Progress, Score, face_crop, metric,
    path_length,
};
use vermeer_image::{ImageBatch, Range};
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::pool2d;

use super::measure::Measured;
use super::passport::{Passport, Side};
use super::perceptual::Perceptual;
use super::subject::RunImages;
use crate::random::latents;
use crate::task::{Pipeline, SampleOptions};
use crate::{Error, Result};

/// Images are reduced to this height, if they have at least twice as many rows.
const HEIGHT: usize = 256;

/// Below this step the rounding of bytes is most of what a distance of 8-bit images measures.
const COARSE: f64 = 1e-2;

/// The usual options for the families here: 10,000 pairs in z at the first latent, lengths kept,
/// ε = 1e-4, without crop, images not rounded.
pub fn run_path_options() -> PathLengthOptions {
    PathLengthOptions {
        samples: 10_000,
        interpolation: Interpolation::SlerpAny,
        ..PathLengthOptions::in_z()
    }
}

/// The path length of a run under its name. `options.samples` pairs of samples of `run.options` are
/// taken; how many samples the run would otherwise give does not matter. With `force`, numbers of
/// pairs that mean nothing are accepted. `progress` is called with the pairs done and those to do.
///
/// # Errors
/// [`Error::Settings`] for a family whose images are made of no latents or by a sampler that adds
/// noise, for a space it does not have, and for too few pairs; those of the model and the network;
/// [`Error::Failed`] after `stop`.
pub fn path_lengths(
    run: &RunImages,
    perceptual: &Perceptual,
    options: &PathLengthOptions,
    force: bool,
    stop: &AtomicBool,
    progress: Progress,
) -> Result<Vec<Measured>> {
    let metric = metric("ppl").ok_or_else(|| Error::Failed("ppl is no metric".into()))?;
    if !force {
        metric.check_floor(options.samples).map_err(|error| {
            Error::settings(error.to_string(), "take more pairs, or say --force")
        })?;
    }
    let found = paths(
        &*run.model.pipeline,
        options,
        &run.options,
        &mut |at, after| perceptual.distances(at, after),
        stop,
        progress,
    )?;
    let passport = passport(run, perceptual, options);
    let score = score(perceptual.backbone(), options, &found);
    Ok(vec![Measured::new(metric, score, passport)])
}

/// Draws latents, makes images of them and hands both images of each pair to `distance`.
fn paths(
    pipeline: &dyn Pipeline,
    options: &PathLengthOptions,
    sampling: &SampleOptions,
    distance: &mut dyn FnMut(ImageBatch, ImageBatch) -> Result<Vec<f64>>,
    stop: &AtomicBool,
    progress: Progress,
) -> Result<PathLength> {
    if options.space != "z" {
        return Err(Error::settings(
            format!("the model has no space {}", options.space),
            "measure paths in z, the space of its latents",
        ));
    }
    let dims = pipeline.latent_dims().ok_or_else(|| {
        Error::settings(
            "this family makes images of no latents",
            "path lengths are defined for models that do, such as vae, dcgan and diffusion",
        )
    })?;
    // Pair i lies between the samples 2i and 2i + 1, and has the class of the first.
    let mut measured: u64 = 0;
    path_length::<Error>(
        options,
        dims,
        &mut |pairs| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let draw = |second: u64| -> Vec<f32> {
                let numbers: Vec<u64> =
                    pairs.clone().map(|pair| 2 * pair as u64 + second).collect();
                latents(sampling.seed, &numbers, dims)
            };
            Ok([draw(0), draw(1)])
        },
        &mut |at, after| {
            let count = (at.len() / dims) as u64;
            let numbers: Vec<u64> = (measured..measured + count).map(|pair| 2 * pair).collect();
            measured += count;
            let images = |z: Vec<f32>| -> Result<ImageBatch> {
                looked_at(pipeline.decode(&z, &numbers, sampling)?, options)
            };
            let (at, after) = (images(at)?, images(after)?);
            distance(at, after)
        },
        progress,
    )
}

/// What of the images the distance sees: bytes where so asked, the face, at most 511 rows.
fn looked_at(images: ImageBatch, options: &PathLengthOptions) -> Result<ImageBatch> {
    let [_, _, height, width] = images.dims();
    let mut x = images.to_range(Range::Unit).into_tensor();
    if options.quantised {
        x = x.mul_scalar(255.0).round().div_scalar(255.0);
    }
    if options.crop {
        if height != width || height < 8 {
            return Err(Error::settings(
                format!(
                    "a face is cut from square images of 8 rows or more, these are {width}x{height}"
                ),
                "leave the crop out",
            ));
        }
        let [rows, columns] = face_crop(height);
        x = x
            .narrow(2, rows.start, rows.len())
            .narrow(3, columns.start, columns.len());
    }
    let factor = height / HEIGHT;
    if factor > 1 {
        let window = Window {
            kernel: [factor; 2],
            stride: [factor; 2],
            padding: [0; 2],
            take: Take::Mean,
        };
        x = pool2d(x, window);
    }
    Ok(ImageBatch::new(x, Range::Unit)?)
}

/// The name of the value: that of the options, and the network where it is not LPIPS with VGG16.
fn name(backbone: Option<Backbone>, options: &PathLengthOptions) -> String {
    let published = options.name();
    match backbone {
        Some(Backbone::Vgg) => published,
        Some(other) => format!("{published}_lpips-{other}"),
        None => published.replacen("ppl_", "pl_vermeer_", 1),
    }
}

/// The value with what has to be known of it; without a backbone it is the embedded network's.
fn score(backbone: Option<Backbone>, options: &PathLengthOptions, found: &PathLength) -> Score {
    let [low, high] = options.discard.map(|share| 100.0 * share);
    let mut score = Score::plain(name(backbone, options), found.value).note(format!(
        "{} of {} pairs, between the percentiles {low} and {high}; their deviation is {:.4e}",
        found.kept, options.samples, found.deviation
    ));
    if let Some(interval) = found.interval {
        score = score.with(interval, "draws of the pairs of latents");
    }
    if backbone.is_none() {
        score = score.note(
            "the squared distance of the embedded network's features: no LPIPS, and no value for \
             a table of published ones",
        );
    }
    if options.quantised && options.epsilon < COARSE {
        score = score.note(
            "on images rounded to bytes a step this small measures mostly the rounding: leave the \
             rounding out, or take a step of 0.01 or more",
        );
    }
    if options.interpolation == Interpolation::Slerp {
        score = score
            .note("latents of length 1, which a model of standard normal latents has hardly seen");
    }
    score
}

fn passport(run: &RunImages, perceptual: &Perceptual, options: &PathLengthOptions) -> Passport {
    let drawn = format!(
        "paths {options:?} of {} by {:?}",
        run.model.digest, run.options
    );
    Passport {
        protocol: String::new(),
        generated: Side {
            location: run.location.clone(),
            split: format!(
                "paths between samples of step {}, seed {}",
                run.model.step, run.options.seed
            ),
            images: options.samples as u64,
            digest: crate::sha256_hex(drawn.as_bytes()),
        },
        real: None,
        network: perceptual.name(),
        network_sha256: perceptual.sha256().to_owned(),
        resize: perceptual.resize(),
        input: perceptual.input().to_owned(),
        storage: match options.quantised {
            true => "8-bit",
            false => "32-bit floats",
        }
        .to_owned(),
        seed: u64::from(options.seed),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
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
}
