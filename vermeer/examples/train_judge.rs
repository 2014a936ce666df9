//! Trains the embedded judge of grey 28×28 images on Fashion-MNIST and writes its weights.
//!
//! ```text
//! cargo run --release --example train_judge -- FASHION_MNIST_FOLDER OUT.safetensors
//! ```
//!
//! Ten epochs of Adam on 55,000 images with random shifts of up to two pixels; the temperature is fitted on the other 5,000;
//! accuracy and expected calibration error are measured on the 10,000 test images.
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::collections::BTreeMap;
use std::error::Error;

use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use vermeer::data::{self, HostBatch, Loader, OpenOptions, Preprocess, Source, Split};
use vermeer::image::features::Judge;
use vermeer::image::{Filter, ImageBatch, ImageError, Limits, Range};
use vermeer::nn::{Gradients, state};
use vermeer::optim::{AdamConfig, Learner, LearningRate, Shape};
use vermeer::random::{Purpose, digest, stream};
use vermeer::run::write_safetensors;
use vermeer::train::images_to_device;

const EPOCHS: u64 = 10;
const BATCH: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let [folder, out] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: train_judge FOLDER OUT")?;
    let open = |split| {
        data::open(
            &folder,
            &OpenOptions {
                split,
                labels: None,
                limits: Limits::cli(),
            },
        )
    };
    let (train, held) = data::split(open(Split::Train)?, 5000.0 / 60000.0, 0);
    let test = open(Split::Test)?;
    let preprocess = Preprocess {
        height: 28,
        width: 28,
        channels: 1,
        fit: data::Fit::Pad,
        filter: Filter::Bicubic,
        background: [0; 3],
        flip: true,
    };

    let device = Device::flex().autodiff();
    let judge = Judge::build(&device, |name, shape| {
        let mut values = vec![0.0; shape.iter().product()];
        if name == "temperature" {
            values.fill(1.0);
        } else if name.ends_with("weight") {
            // He et al., 2015: N(0, 2 / fan-in).
            let fan_in: usize = if shape.len() == 4 {
                shape[1..].iter().product()
            } else {
                shape[0]
            };
            stream(0, Purpose::Init, 0, digest(name)).fill_normal(&mut values);
            values
                .iter_mut()
                .for_each(|v| *v *= (2.0 / fan_in as f32).sqrt());
        }
        Ok::<_, ImageError>(values)
    })?;
    let mut learner = Learner::new(
        judge,
        AdamConfig {
            weight_decay: 5e-4,
            ..Default::default()
        },
        0.0,
        "",
    );
    let steps = EPOCHS * train.len() as u64 / BATCH as u64;
    let rate = LearningRate {
        peak: 2e-3,
        warmup_steps: 100,
        total_steps: steps,
        shape: Shape::Cosine,
    };
    let mut loader = Loader::new(train, preprocess.clone(), BATCH, 0, 1, 0);
    for step in 0..steps {
        let batch = shifted(loader.next()?);
        let x = images_to_device(&batch, Range::Unit, &device);
        let loss = cross_entropy(learner.module().logits(x), &batch);
        let gradients = Gradients::take(&mut loss.backward(), learner.module());
        learner.update(gradients, rate.at(step), None, BATCH);
        if step % 200 == 0 {
            println!(
                "step {step} of {steps}: loss {:.4}",
                loss.into_scalar::<f32>()
            );
        }
    }

    let judge = learner.for_use();
    let (logits, labels) = outputs(&judge, held, &preprocess)?;
    let temperature = (50..=300)
        .map(|i| f64::from(i) / 100.0)
        .min_by(|a, b| nll(&logits, &labels, *a).total_cmp(&nll(&logits, &labels, *b)));
    let temperature = temperature.ok_or("no temperature")?;
    let (logits, labels) = outputs(&judge, test, &preprocess)?;
    let (accuracy, ece) = calibration(&logits, &labels, temperature);
    println!(
        "temperature {temperature}, test accuracy {accuracy:.4}, expected calibration error {ece:.4}"
    );

    let mut tensors = state(&judge);
    if let Some(t) = tensors.get_mut("temperature") {
        t.data = vec![temperature as f32];
    }
    let about = [
        ("format", "pt".to_string()),
        ("data", "Fashion-MNIST, 55,000 training images".to_string()),
        ("test_accuracy", format!("{accuracy:.4}")),
        (
            "test_expected_calibration_error_15_bins",
            format!("{ece:.4}"),
        ),
    ];
    let about: BTreeMap<String, String> =
        about.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    write_safetensors(out.as_ref(), &tensors, &about)?;
    println!("sha256 {}", vermeer::sha256_hex(&std::fs::read(&out)?));
    Ok(())
}

/// Moves each image by up to two pixels each way, keyed by step and row.
fn shifted(mut batch: HostBatch) -> HostBatch {
    for (row, image) in batch.images.chunks_exact_mut(784).enumerate() {
        let mut random = stream(0, Purpose::Noise, batch.step, row as u64);
        let (dx, dy) = (random.below(5) as i64 - 2, random.below(5) as i64 - 2);
        let old = image.to_vec();
        for y in 0..28i64 {
            for x in 0..28i64 {
                let (sx, sy) = (x - dx, y - dy);
                let inside = (0..28).contains(&sx) && (0..28).contains(&sy);
                image[(y * 28 + x) as usize] = if inside {
                    old[(sy * 28 + sx) as usize]
                } else {
                    0.0
                };
            }
        }
    }
    batch
}

fn cross_entropy(logits: Tensor<2>, batch: &HostBatch) -> Tensor<1> {
    let labels: Vec<i32> = batch
        .labels
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|l| *l as i32)
        .collect();
    let labels = Tensor::<1, Int>::from_data(&labels[..], &logits.device()).unsqueeze_dim::<2>(1);
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

type Outputs = (Vec<Vec<f64>>, Vec<u32>);

fn outputs(
    judge: &Judge,
    source: std::sync::Arc<dyn Source>,
    preprocess: &Preprocess,
) -> Result<Outputs, Box<dyn Error>> {
    let (mut logits, mut labels) = (vec![], vec![]);
    for batch in data::epoch(source, preprocess.clone(), 500) {
        let batch = batch?;
        let x = images_to_device(&batch, Range::Unit, &Device::flex());
        let x = ImageBatch::new(x, Range::Unit)?.into_tensor();
        let values: Vec<f32> = judge
            .logits(x)
            .into_data()
            .try_into_vec()
            .map_err(|e| format!("{e:?}"))?;
        logits.extend(
            values
                .chunks(10)
                .map(|row| row.iter().map(|v| f64::from(*v)).collect()),
        );
        labels.extend(batch.labels.unwrap_or_default());
    }
    Ok((logits, labels))
}

fn probabilities(logits: &[f64], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let e: Vec<f64> = logits
        .iter()
        .map(|l| ((l - largest) / temperature).exp())
        .collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|v| v / sum).collect()
}

fn nll(logits: &[Vec<f64>], labels: &[u32], temperature: f64) -> f64 {
    logits
        .iter()
        .zip(labels)
        .map(|(l, y)| -probabilities(l, temperature)[*y as usize].ln())
        .sum()
}

/// Accuracy and expected calibration error over 15 bins.
fn calibration(logits: &[Vec<f64>], labels: &[u32], temperature: f64) -> (f64, f64) {
    let mut bins = [(0.0, 0.0, 0.0); 15]; // count, right, confidence
    for (l, y) in logits.iter().zip(labels) {
        let p = probabilities(l, temperature);
        let (class, confidence) =
            p.iter().enumerate().fold(
                (0, 0.0),
                |best, (i, p)| if *p > best.1 { (i, *p) } else { best },
            );
        let bin = &mut bins[((confidence * 15.0) as usize).min(14)];
        bin.0 += 1.0;
        bin.1 += f64::from(u8::from(class == *y as usize));
        bin.2 += confidence;
    }
    let n = labels.len() as f64;
    let accuracy = bins.iter().map(|b| b.1).sum::<f64>() / n;
    (
        accuracy,
        bins.iter().map(|b| (b.1 - b.2).abs()).sum::<f64>() / n,
    )
}
