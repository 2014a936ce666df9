//! Sampling position by position: with the caches of a [`Stepper`], or with the whole network at
//! every position, which is slow and serves as a yardstick.

use burn::prelude::*;

use super::{Autoregressive, Position, Stepper, outputs_of, positions};
use crate::nn::host;
use crate::random::{Purpose, stream};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Values of a sub-pixel.
    pub levels: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// The number of each sample, which keys its draws.
    pub numbers: &'a [u64],
    /// Divides the logits; larger than zero.
    pub temperature: f64,
    /// Pixels that are given and not drawn.
    pub known: Option<Known<'a>>,
}

/// Pixels that are given.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Values, `[n, c, h, w]`; what stands in unknown pixels is not looked at.
    pub values: &'a [u16],
    /// Which pixels are known, `[n, h, w]`.
    pub mask: &'a [bool],
}

/// Images drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Values, `[n, c, h, w]`.
    pub values: Vec<u16>,
    /// −log p of what was drawn in each image, at a temperature of 1, `[n]`, in nats.
    pub nats: Vec<f64>,
}

impl Sampling<'_> {
    /// Where a sub-pixel of image `row` stands in `[n, c, h, w]`.
    fn place(&self, row: usize, at: Position) -> usize {
        let [channels, height, width] = self.shape;
        ((row * channels + at.channel) * height + at.y) * width + at.x
    }

    /// The given value of a sub-pixel.
    fn given(&self, row: usize, at: Position) -> Option<u16> {
        let known = self.known?;
        let [_, height, width] = self.shape;
        known.mask[(row * height + at.y) * width + at.x].then(|| known.values[self.place(row, at)])
    }
}

/// Draws images position by position. Each draw is keyed by seed, position and the sample's
/// number, and inverts the cumulative distribution, so a sample does not depend on the others.
pub fn sample(stepper: &mut dyn Stepper, ask: &Sampling) -> Sampled {
    let n = ask.numbers.len();
    let k = outputs_of(ask.levels);
    let mut outputs = vec![0.0f32; n * k];
    let mut drawn = vec![0u16; n];
    let mut sampled = Sampled {
        values: vec![0; n * ask.shape.iter().product::<usize>()],
        nats: vec![0.0; n],
    };
    for (index, at) in positions(ask.shape).enumerate() {
        let given: Vec<Option<u16>> = (0..n).map(|row| ask.given(row, at)).collect();
        if given.iter().any(Option::is_none) {
            stepper.outputs(at, &mut outputs);
        }
        for (row, drawn) in drawn.iter_mut().enumerate() {
            *drawn = match given[row] {
                Some(value) => value,
                None => {
                    let logits = &outputs[row * k..(row + 1) * k];
                    let number = ask.numbers[row];
                    let key = stream(ask.seed, Purpose::Pixel, index as u64, number).bits();
                    let uniform = (key >> 11) as f64 / (1u64 << 53) as f64;
                    let value = choose(logits, ask.temperature, uniform);
                    sampled.nats[row] -= log_probability(logits, value);
                    value
                }
            };
            sampled.values[ask.place(row, at)] = *drawn;
        }
        stepper.put(at, &drawn);
    }
    sampled
}

/// The images [`sample`] draws, with the whole network at every position.
pub fn naive_sample<N: Autoregressive>(
    net: &N,
    labels: Option<&[u32]>,
    ask: &Sampling,
    device: &Device,
) -> Sampled {
    let [channels, height, width] = ask.shape;
    let n = ask.numbers.len();
    let mut whole = Whole {
        net,
        labels,
        shape: [n, channels, height, width],
        values: vec![0.0; n * channels * height * width],
        device: device.clone(),
    };
    sample(&mut whole, ask)
}

/// The whole network as a stepper without caches.
struct Whole<'a, N> {
    net: &'a N,
    labels: Option<&'a [u32]>,
    shape: [usize; 4],
    values: Vec<f32>,
    device: Device,
}

impl<N: Autoregressive> Stepper for Whole<'_, N> {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        let x = Tensor::<1>::from_floats(&self.values[..], &self.device).reshape(self.shape);
        let outputs = self
            .net
            .outputs(x, self.labels)
            .narrow(2, at.channel, 1)
            .narrow(3, at.y, 1)
            .narrow(4, at.x, 1);
        out.copy_from_slice(&host(outputs));
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        let [_, channels, height, width] = self.shape;
        for (row, value) in values.iter().enumerate() {
            let place = ((row * channels + at.channel) * height + at.y) * width + at.x;
            self.values[place] = f32::from(*value);
        }
    }
}

/// The smallest value whose cumulative probability exceeds `uniform`.
fn choose(logits: &[f32], temperature: f64, uniform: f64) -> u16 {
    if let [logit] = logits {
        let zero = 1.0 / (1.0 + (f64::from(*logit) / temperature).exp());
        return u16::from(uniform >= zero);
    }
    let largest = largest(logits);
    let weight = |logit: &f32| ((f64::from(*logit) - largest) / temperature).exp();
    let total: f64 = logits.iter().map(weight).sum();
    let mut left = uniform * total;
    let mut last = 0;
    for (value, logit) in logits.iter().enumerate() {
        let weight = weight(logit);
        if weight > 0.0 {
            last = value as u16;
        }
        if left < weight {
            return value as u16;
        }
        left -= weight;
    }
    last
}

/// log p of a value, in nats.
fn log_probability(logits: &[f32], value: u16) -> f64 {
    if let [logit] = logits {
        let sign = if value == 1 { -1.0 } else { 1.0 };
        let away = sign * f64::from(*logit);
        return -(away.max(0.0) + (-away.abs()).exp().ln_1p());
    }
    let largest = largest(logits);
    let total: f64 = logits
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .sum();
    f64::from(logits[usize::from(value)]) - largest - total.ln()
}

fn largest(logits: &[f32]) -> f64 {
    logits
        .iter()
        .map(|logit| f64::from(*logit))
        .fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_cumulative_distribution() {
        // Probabilities 0.1, 0.2, 0.3, 0.4.
        let logits: Vec<f32> = (1..5).map(|k| (k as f32).ln()).collect();
        for (uniform, value) in [(0.0, 0), (0.0999, 0), (0.1001, 1), (0.5, 2), (0.9999, 3)] {
            assert_eq!(choose(&logits, 1.0, uniform), value, "{uniform}");
        }
        let nats = log_probability(&logits, 2);
        assert!((nats - 0.3f64.ln()).abs() < 1e-7, "{nats}");
        // The logit ln 3 gives 0 a quarter.
        let logit = [3f32.ln()];
        assert_eq!(choose(&logit, 1.0, 0.2499), 0);
        assert_eq!(choose(&logit, 1.0, 0.2501), 1);
        for (value, probability) in [(0, 0.25f64), (1, 0.75)] {
            assert!((log_probability(&logit, value) - probability.ln()).abs() < 1e-7);
        }
        // A low temperature takes the likeliest value.
        assert_eq!(choose(&logits, 0.01, 0.0001), 3);
        assert_eq!(choose(&logit, 0.01, 0.0001), 1);
    }
}
