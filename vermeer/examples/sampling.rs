//! Measures the sampling of a Gated PixelCNN with caches and without, and prints seconds as JSON.
//! `tools/bench/autoregressive/ratios` also runs PyTorch with the same caches.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release --example sampling
//! cargo run --release --example sampling -- --positions 784   # the slow way in full
//! cargo run --release --example sampling -- --check           # whether both draw the same
//! cargo run --release --example sampling -- --check --rows 28 # the slow way in full, many minutes
//! ```
//!
//! Without caches every position costs the whole network, whatever its place, so the first few
//! (`--positions`, 24) are timed and the time of all is given.
//!
//! `--check` draws 64 images with caches and asks the whole network once for its logits on them:
//! where these choose the same value for the same key at each position, sampling without caches
//! draws the same images. It also does so, position by position, for images of the first `--rows`
//! (2). Only where the cumulative distribution is within 1e-6 of the key may values differ.
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::error::Error;
use std::time::Instant;

use burn::prelude::{Device, Tensor};
use serde_json::{Value, json};
use vermeer::autoregressive::{
    Autoregressive, AutoregressivePipeline, Sampling, naive_sample, positions, sample,
    stepwise_outputs,
};
use vermeer::models::{GatedPixelCnnConfig, GatedPixelCnnNet};
use vermeer::nn::Init;
use vermeer::registry::DataSpec;
use vermeer::task::{Pipeline, Request, SampleOptions};

const SIDE: usize = 28;
const BATCH: usize = 16;
const ROUNDS: usize = 5;
/// Images of the check.
const CHECKED: usize = 64;
/// Distance of a key to the cumulative distribution at which the two ways may choose differently.
const TIE: f64 = 1e-6;

/// What is asked for on the command line.
struct Asked {
    positions: usize,
    check: bool,
    rows: usize,
}

impl Asked {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut asked = Self {
            positions: 24,
            check: false,
            rows: 2,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut count = |most: usize| -> Result<usize, Box<dyn Error>> {
                let count = arguments.next().ok_or("a number is missing")?;
                Ok(count.parse::<usize>()?.clamp(1, most))
            };
            match argument.as_str() {
                "--positions" => asked.positions = count(SIDE * SIDE)?,
                "--rows" => asked.rows = count(SIDE)?,
                "--check" => asked.check = true,
                _ => {
                    return Err(
                        "usage: sampling [--positions COUNT] [--check [--rows ROWS]]".into(),
                    );
                }
            }
        }
        Ok(asked)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = Asked::read()?;
    let device = Device::flex();
    let config = GatedPixelCnnConfig {
        width: 64,
        levels: 2,
        ..GatedPixelCnnConfig::default()
    };
    let net = net(&config, SIDE, &device);
    let checked = match asked.check {
        true => check(&config, asked.rows, &device)?,
        false => Value::Null,
    };

    let x = Tensor::<4>::zeros([BATCH, 1, SIDE, SIDE], &device);
    let whole = || net.outputs(x.clone(), None).into_data();
    whole();
    let start = Instant::now();
    for _ in 0..asked.positions {
        whole();
    }
    let each = start.elapsed().as_secs_f64() / asked.positions as f64;

    let numbers: Vec<u64> = (0..BATCH as u64).collect();
    let pipeline = AutoregressivePipeline::new(net.clone(), spec(SIDE), device.clone());
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
            "naive_positions_timed": asked.positions,
            "cached_seconds": seconds[ROUNDS / 2],
            "checked": checked,
        })
    );
    Ok(())
}

/// Grey images of some rows.
fn spec(rows: usize) -> DataSpec {
    DataSpec {
        channels: 1,
        height: rows,
        width: SIDE,
        classes: vec![],
        attributes: vec![],
    }
}

/// The network, whose parameters are the same for any number of rows.
fn net(config: &GatedPixelCnnConfig, rows: usize, device: &Device) -> GatedPixelCnnNet {
    config.init(&spec(rows), &Init::new(0, device))
}

/// How the keys of the check are drawn.
fn keys(numbers: &[u64], rows: usize) -> Sampling<'_> {
    Sampling {
        shape: spec(rows).shape(),
        levels: 2,
        seed: 1,
        numbers,
        temperature: 1.0,
        known: None,
    }
}

/// Compares the two ways of sampling; an error where they differ at no tie.
fn check(
    config: &GatedPixelCnnConfig,
    rows: usize,
    device: &Device,
) -> Result<Value, Box<dyn Error>> {
    let numbers: Vec<u64> = (0..CHECKED as u64).collect();
    let whole = net(config, SIDE, device);
    let ask = keys(&numbers, SIDE);
    let drawn = sample(&mut *whole.stepper(CHECKED, None), &ask)
        .finite()?
        .values;
    let size = SIDE * SIDE;
    let mut logits: Vec<f32> = Vec::with_capacity(drawn.len());
    for images in drawn.chunks(BATCH * size) {
        let x: Vec<f32> = images.iter().map(|value| f32::from(*value)).collect();
        let x = Tensor::<1>::from_floats(&x[..], device);
        let x = x.reshape([images.len() / size, 1, SIDE, SIDE]);
        let outputs = whole.outputs(x, None).into_data();
        logits.extend(outputs.iter::<f32>());
    }
    let steps = stepwise_outputs(&whole, &drawn, None);
    let apart = logits.iter().zip(&steps).map(|(a, b)| (a - b).abs());
    let largest = apart.fold(0.0, f32::max);

    // The distance of each key to the edge between the two values: [image][position].
    let edge = |row: usize, index: usize| {
        let zero = 1.0 / (1.0 + f64::from(logits[row * size + index]).exp());
        ask.uniform(row, index) - zero
    };
    let mut ties = 0;
    for row in 0..CHECKED {
        // With one channel the positions stand in the order of the image.
        for (index, at) in positions(spec(SIDE).shape()).enumerate() {
            let edge = edge(row, index);
            if u16::from(edge >= 0.0) == drawn[row * size + index] {
                continue;
            }
            if edge.abs() >= TIE {
                return Err(format!("image {row} differs at {at:?}, {edge:e} from a tie").into());
            }
            ties += 1;
        }
    }

    // The same position by position for the first rows, until a tie sends an image another way.
    let low = net(config, rows, device);
    let naive = naive_sample(&low, None, &keys(&numbers, rows), device).finite()?;
    let part = rows * SIDE;
    for (row, naive) in naive.values.chunks_exact(part).enumerate() {
        let cached = &drawn[row * size..][..part];
        if let Some(index) = (0..part).find(|index| naive[*index] != cached[*index])
            && edge(row, index).abs() >= TIE
        {
            return Err(format!("image {row} differs at position {index}").into());
        }
    }
    Ok(json!({
        "images": CHECKED,
        "positions": size,
        "ties": ties,
        "largest_logit_difference": largest,
        "rows_without_caches": rows,
    }))
}

/// The threads that are asked for, or those of the machine.
fn rayon_threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    asked
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
