//! Measures training steps or sampling of one of the three families and prints JSON, with the
//! sizes of `tools/reference/bench_step.py`. `tools/bench/steps` runs both.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release --example bench_step -- vae|dcgan|diffusion train|sample
//! ```
//!
//! One process measures one thing, so that its peak of memory is that thing's.
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::error::Error;
use std::time::Instant;

use burn::prelude::Device;
use serde_json::json;
use vermeer::data::HostBatch;
use vermeer::optim::AdamConfig;
use vermeer::random::{Purpose, stream};
use vermeer::registry::{DataSpec, Step, Trainer, TrainerContext, family};
use vermeer::task::{Pipeline, Request, SampleOptions};

const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(id), Some(what)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bench_step vae|dcgan|diffusion train|sample".into());
    };
    let (side, settings) = match id.as_str() {
        "vae" => (28, "latent = 32\nwidth = 32\nhidden = [256]"),
        "dcgan" => (32, "latent = 100\nwidth = 64"),
        "diffusion" => (
            28,
            "width = 32\nmultipliers = [1, 2, 2]\nblocks = 1\nattention = [2]\ngroups = 8\nsteps = 20",
        ),
        other => return Err(format!("no family {other}").into()),
    };
    let settings: toml::Table = toml::from_str(settings)?;
    let family = family(&id)?;
    let spec = DataSpec {
        channels: 1,
        height: side,
        width: side,
        classes: vec![],
        attributes: vec![],
    };
    let context = TrainerContext {
        spec,
        seed: 0,
        device: Device::flex().autodiff(),
        adam: AdamConfig::default(),
        average_half_life_images: 0.0,
    };
    let mut trainer = family.trainer(&settings, &context)?;
    let seconds = match what.as_str() {
        "train" => train(trainer.as_mut(), side)?,
        "sample" => sample(trainer.pipeline()?.as_ref())?,
        other => return Err(format!("cannot measure {other}: it is train or sample").into()),
    };
    println!(
        "{}",
        json!({
            "family": id,
            "measure": what,
            "batch": BATCH,
            "images_per_second": BATCH as f64 / seconds,
            "peak_mib": peak_mib(),
        })
    );
    Ok(())
}

/// Seconds of a training step, after two that do not count.
fn train(trainer: &mut dyn Trainer, side: usize) -> Result<f64, Box<dyn Error>> {
    let mut seconds = vec![];
    for step in 0..14 {
        let mut images = vec![0.0; BATCH * side * side];
        stream(0, Purpose::World, step, 0).fill_uniform(&mut images);
        let batch = HostBatch {
            step,
            images,
            labels: None,
            attributes: None,
            batch: BATCH,
            shape: [1, side, side],
        };
        let start = Instant::now();
        trainer.step(&Step {
            micro: &[batch],
            learning_rate: 1e-4,
            clip_norm: None,
        })?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(seconds.split_off(2)))
}

/// Seconds of sampling `BATCH` images, after one time that does not count.
fn sample(pipeline: &dyn Pipeline) -> Result<f64, Box<dyn Error>> {
    let numbers: Vec<u64> = (0..BATCH as u64).collect();
    let options = SampleOptions::default();
    let request = Request::Generate {
        numbers: &numbers,
        options: &options,
    };
    let mut seconds = vec![];
    for _ in 0..4 {
        let start = Instant::now();
        pipeline.answer(&request, &mut |_, _| ())?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(seconds.split_off(1)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Peak resident memory of this process in MiB.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<f64>()
        .ok()
        .map(|kib| kib / 1024.0)
}
