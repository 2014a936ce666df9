//! Perceptual path length of a run: how much its samples change when their latents move a little.
//!
//! The formula and its options are in [`vermeer_image::metrics::path_length`]; here latents are
//! drawn, or the styles of latents, images are made of them and looked at. The distance is LPIPS with VGG16, as published,
//! and the value is then called `ppl_…`; with the embedded feature network, which needs no weights,
//! it is the squared distance of features and called `pl_vermeer_…`. All other choices follow in
//! the name.
//!
//! The families here are trained on standard normal latents as they are, so paths keep the lengths
//! of their ends ([`Interpolation::SlerpAny`]); StyleGAN's `slerp` walks on the unit sphere, since
//! its generator scales its latents itself. In w, the space of styles of a family that has one, paths
//! are straight, and both images of a pair have the noise of its first sample. As in StyleGAN, images of 512 pixels and more are
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
/// noise, for w in a family without styles, and for too few pairs; those of the model and the network;
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
    let latent = pipeline.latent_dims().ok_or_else(|| {
        Error::settings(
            "this family makes images of no latents",
            "path lengths are defined for models that do, such as vae, dcgan and diffusion",
        )
    })?;
    let styles = match options.space.as_str() {
        "z" => None,
        "w" => Some(pipeline.style_dims().ok_or_else(|| {
            Error::settings(
                "this family has no space w of styles",
                "measure paths in z, the space of its latents, or choose a run of family stylegan2",
            )
        })?),
        other => {
            return Err(Error::settings(
                format!("there is no space {other}"),
                "measure paths in z, the space of latents, or in w, that of styles",
            ));
        }
    };
    let dims = styles.unwrap_or(latent);
    // Pair i lies between the samples 2i and 2i + 1, and has the class of the first.
    let mut measured: u64 = 0;
    path_length::<Error>(
        options,
        dims,
        &mut |pairs| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let numbers = |second: u64| -> Vec<u64> {
                pairs.clone().map(|pair| 2 * pair as u64 + second).collect()
            };
            let draw = |second: u64| -> Result<Vec<f32>> {
                let z = latents(sampling.seed, &numbers(second), latent);
                match styles {
                    Some(_) => pipeline.styles(&z, &numbers(0), sampling),
                    None => Ok(z),
                }
            };
            Ok([draw(0)?, draw(1)?])
        },
        &mut |at, after| {
            let count = (at.len() / dims) as u64;
            let numbers: Vec<u64> = (measured..measured + count).map(|pair| 2 * pair).collect();
            measured += count;
            let images = |rows: Vec<f32>| -> Result<ImageBatch> {
                let made = match styles {
                    Some(_) => pipeline.synthesise(&rows, &numbers, sampling.seed)?,
                    None => pipeline.decode(&rows, &numbers, sampling)?,
                };
                looked_at(made, options)
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
mod tests;
