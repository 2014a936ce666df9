//! Measures training steps and sampling of the three families and prints JSON, one object a
//! family, with the sizes of `tools/reference/bench_step.py`. `tools/bench/steps` runs both.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release --example bench_step -- vae|dcgan|diffusion [steps]
//! ```
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::error::Error;
use std::time::Instant;

use burn::prelude::Device;
use serde_json::json;
use vermeer::data::HostBatch;
use vermeer::optim::AdamConfig;
use vermeer::random::{Purpose, stream};
use vermeer::registry::{DataSpec, Step, TrainerContext, family};
use vermeer::task::{Request, SampleOptions};

const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments
        .next()
        .ok_or("usage: bench_step vae|dcgan|diffusion [steps]")?;
    let steps: u64 = arguments.next().map_or(Ok(12), |n| n.parse())?;
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
    };
    let context = TrainerContext {
        spec,
        seed: 0,
        device: Device::flex().autodiff(),
        adam: AdamConfig::default(),
        average_half_life_images: 0.0,
    };
    let mut trainer = family.trainer(&settings, &context)?;
    let mut seconds = vec![];
    for step in 0..steps + 2 {
        let mut images = vec![0.0; BATCH * side * side];
        stream(0, Purpose::World, step, 0).fill_uniform(&mut images);
        let batch = HostBatch {
            step,
            images,
            labels: None,
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
    let step_seconds = median(seconds.split_off(2));
    let step_peak_mib = peak_mib();
    let pipeline = trainer.pipeline()?;
    let numbers: Vec<u64> = (0..BATCH as u64).collect();
    let options = SampleOptions::default();
    let request = Request::Generate {
        numbers: &numbers,
        options: &options,
    };
    let mut times = vec![];
    for _ in 0..4 {
        let start = Instant::now();
        pipeline.answer(&request, &mut |_, _| ())?;
        times.push(start.elapsed().as_secs_f64());
    }
    let sample_seconds = median(times.split_off(1));
    println!(
        "{}",
        json!({
            "family": id,
            "train_step_seconds": step_seconds,
            "train_images_per_second": BATCH as f64 / step_seconds,
            "train_peak_mib": step_peak_mib,
            "sample_images_per_second": BATCH as f64 / sample_seconds,
            "peak_mib": peak_mib(),
        })
    );
    Ok(())
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
