//! Signs of an autoregressive training: whether the network is surer than it is right, and whether
//! its own samples are as probable to it as images are.

use burn::prelude::*;
use burn::tensor::activation::{log_softmax, sigmoid};

use super::{Autoregressive, Sampling, labels, negative_log_likelihood, sample, values};
use crate::Result;
use crate::data::HostBatch;
use crate::loss::likelihood::bernoulli;
use crate::nn::host;
use crate::random::Purpose;
use crate::train::Draw;
use crate::train::health::{Health, Limit};

/// Images that are looked at.
const IMAGES: usize = 16;

/// Samples that are drawn.
const SAMPLES: usize = 4;

/// Added to both sides of a ratio, in nats: near nothing, so that a ratio of two zeros is one.
const NOTHING: f64 = 1e-3;

/// The signs of a batch.
///
/// `overconfidence` is −log p of images over the entropy of the same distributions: one for a
/// network whose certainty is justified. `exposure` is −log p of own samples over −log p of
/// images.
pub(super) fn health<N: Autoregressive>(net: &N, batch: &HostBatch, draw: &Draw) -> Result<Health> {
    let known = labels(net, batch)?;
    let count = batch.batch.min(IMAGES);
    let x = values(net, batch, draw).narrow(0, 0, count);
    let told = known.as_ref().map(|labels| &labels[..count]);
    let outputs = net.outputs(x.clone(), told);
    let nats = mean(negative_log_likelihood(outputs.clone(), x));
    let entropy = mean(entropy(outputs));

    let count = batch.batch.min(SAMPLES);
    let told = known.as_ref().map(|labels| &labels[..count]);
    let numbers: Vec<u64> = (0..count as u64).collect();
    let ask = Sampling {
        shape: batch.shape,
        levels: net.levels(),
        seed: draw.stream(Purpose::Pixel, batch, 0).bits(),
        numbers: &numbers,
        temperature: 1.0,
        known: None,
    };
    let sampled = sample(&mut *net.stepper(count, told), &ask);
    let own = sampled.nats.iter().sum::<f64>() / count as f64;

    let exposure = (own + NOTHING) / (nats + NOTHING);
    let (limit, meaning) = if exposure < 1.0 {
        (
            Limit::Below {
                watch: 0.5,
                bad: 0.2,
            },
            "-log p of own samples over that of images; far below one the samples are blank or repeat themselves: train longer, or with a larger network",
        )
    } else {
        (
            Limit::Above {
                watch: 2.0,
                bad: 5.0,
            },
            "-log p of own samples over that of images; far above one samples drift into what was never learned: train longer, or lower train.learning_rate",
        )
    };
    Ok(Health::judge(vec![
        (
            "overconfidence",
            (nats + NOTHING) / (entropy + NOTHING),
            Limit::Above {
                watch: 1.2,
                bad: 2.0,
            },
            "-log p of unseen images over the entropy the network expects; above one it is surer than it is right: stop earlier, or use a smaller network or more data",
        ),
        ("exposure", exposure, limit, meaning),
    ]))
}

/// The entropy of all distributions of an image, `[n]`, in nats.
fn entropy(outputs: Tensor<5>) -> Tensor<1> {
    let nats = match outputs.dims()[1] {
        1 => {
            let logits = outputs.squeeze_dim::<4>(1);
            bernoulli(logits.clone(), sigmoid(logits))
        }
        _ => {
            let log_p = log_softmax(outputs, 1);
            log_p
                .clone()
                .exp()
                .mul(log_p)
                .sum_dim(1)
                .squeeze_dim::<4>(1)
                .neg()
        }
    };
    nats.flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1)
}

fn mean(values: Tensor<1>) -> f64 {
    let values = host(values);
    values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_are_hand_computed() {
        let device = Device::flex();
        // Two levels with probabilities 1/4 and 3/4, and four levels with 0.1, 0.2, 0.3, 0.4.
        let binary = Tensor::<5>::full([1, 1, 1, 1, 1], 3f32.ln(), &device);
        assert!((mean(entropy(binary)) - 0.562_335_1).abs() < 1e-5);
        let logits: Vec<f32> = (1..5).map(|k| (k as f32).ln()).collect();
        let four = Tensor::<1>::from_floats(&logits[..], &device).reshape([1, 4, 1, 1, 1]);
        assert!((mean(entropy(four)) - 1.279_854_2).abs() < 1e-5);
    }
}
