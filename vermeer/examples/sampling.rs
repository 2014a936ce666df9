//! Measures the sampling of a Gated PixelCNN with caches and without, and prints seconds as JSON.
//! `tools/bench/autoregressive/ratios` also runs PyTorch with the same caches.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release --example sampling
//! cargo run --release --example sampling -- --positions 784   # the slow way in full
//! ```
//!
//! Without caches every position costs the whole network, whatever its place, so the first few
//! (`--positions`, 24) are timed and the time of all is given.
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::error::Error;
use std::time::Instant;

use burn::prelude::{Device, Tensor};
use serde_json::json;
use vermeer::autoregressive::{
    Autoregressive, AutoregressivePipeline, Sampling, naive_sample, sample,
};
use vermeer::models::GatedPixelCnnConfig;
use vermeer::nn::Init;
use vermeer::registry::DataSpec;
use vermeer::task::{Pipeline, Request, SampleOptions};

const SIDE: usize = 28;
const BATCH: usize = 16;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let positions = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => 24,
        (Some("--positions"), Some(count)) => count.parse::<usize>()?.clamp(1, SIDE * SIDE),
        _ => return Err("usage: sampling [--positions COUNT]".into()),
    };
    let device = Device::flex();
    let config = GatedPixelCnnConfig {
        width: 64,
        levels: 2,
        ..GatedPixelCnnConfig::default()
    };
    let spec = DataSpec {
        channels: 1,
        height: SIDE,
        width: SIDE,
        classes: vec![],
        attributes: vec![],
    };
    let net = config.init(&spec, &Init::new(0, &device));
    let numbers: Vec<u64> = (0..BATCH as u64).collect();

    // The same few rows both ways, to see that they agree.
    let rows = 2;
    let low = DataSpec {
        height: rows,
        ..spec.clone()
    };
    let short = config.init(&low, &Init::new(0, &device));
    let ask = Sampling {
        shape: low.shape(),
        levels: 2,
        seed: 1,
        numbers: &numbers,
        temperature: 1.0,
        known: None,
    };
    let cached = sample(&mut *short.stepper(BATCH, None), &ask);
    let naive = naive_sample(&short, None, &ask, &device);
    if cached.values != naive.values {
        return Err("the two ways of sampling do not agree".into());
    }

    let x = Tensor::<4>::zeros([BATCH, 1, SIDE, SIDE], &device);
    let whole = || net.outputs(x.clone(), None).into_data();
    whole();
    let start = Instant::now();
    for _ in 0..positions {
        whole();
    }
    let each = start.elapsed().as_secs_f64() / positions as f64;

    let pipeline = AutoregressivePipeline::new(net.clone(), spec, device.clone());
    let options = SampleOptions::default();
    let request = Request::Generate {
        numbers: &numbers,
        options: &options,
    };
    let mut seconds = Vec::with_capacity(ROUNDS);
    pipeline.answer(&request, &mut |_, _| ())?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        pipeline.answer(&request, &mut |_, _| ())?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "batch": BATCH,
            "side": SIDE,
            "width": config.width,
            "layers": config.dilations.len(),
            "threads": rayon_threads(),
            "naive_seconds": each * (SIDE * SIDE) as f64,
            "naive_positions_timed": positions,
            "cached_seconds": seconds[ROUNDS / 2],
        })
    );
    Ok(())
}

/// The threads that are asked for, or those of the machine.
fn rayon_threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    asked
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
