//! Sampling position by position: with the caches of a [`Stepper`], or with the whole network at
//! every position, which is slow and serves as a yardstick.

use burn::prelude::*;

use super::{Autoregressive, Position, Stepper, outputs_of, positions};
use crate::nn::host;
use crate::random::{Purpose, stream};
use crate::{Error, Result};

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
    /// −log p of what was drawn in each image, at a temperature of 1, `[n]`, in nats; not a number
    /// where the network's outputs were not finite.
    pub nats: Vec<f64>,
}

impl Sampled {
    /// The same images, if they were drawn from finite outputs.
    ///
    /// # Errors
    /// [`Error::Failed`] where an output was infinite or not a number.
    pub fn finite(self) -> Result<Self> {
        match self.nats.iter().all(|nats| nats.is_finite()) {
            true => Ok(self),
            false => Err(not_finite()),
        }
    }
}

/// The error of a network whose outputs are infinite or not numbers.
pub(super) fn not_finite() -> Error {
    Error::Failed(
        "the network's outputs are not finite, so it gives no probabilities: take an earlier checkpoint"
            .into(),
    )
}

impl Sampling<'_> {
    /// The number in [0, 1) at which the cumulative distribution of a sub-pixel of image `row` is
    /// inverted: a function of the seed, the `index` of the position and the sample's number.
    pub fn uniform(&self, row: usize, index: usize) -> f64 {
        let mut key = stream(self.seed, Purpose::Pixel, index as u64, self.numbers[row]);
        (key.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

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
    let mut chooser = Chooser::new(ask.temperature);
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
                    let (value, log_p) = chooser.choose(logits, ask.uniform(row, index));
                    sampled.nats[row] -= log_p;
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

/// Draws values from logits.
struct Chooser {
    temperature: f64,
    /// The probabilities of the levels, up to a factor.
    weights: Vec<f64>,
}

impl Chooser {
    fn new(temperature: f64) -> Self {
        Self {
            temperature,
            weights: vec![],
        }
    }

    /// The smallest value whose cumulative probability exceeds `uniform`, and log p of it at a
    /// temperature of 1, in nats: not a number where a logit is none or infinitely large.
    fn choose(&mut self, logits: &[f32], uniform: f64) -> (u16, f64) {
        let temperature = self.temperature;
        if let [logit] = logits {
            let logit = f64::from(*logit);
            let zero = 1.0 / (1.0 + (logit / temperature).exp());
            let value = u16::from(uniform >= zero);
            return (value, log_probability_of_bit(logit, value));
        }
        let largest = largest(logits);
        let weight = |logit: &f32, temperature: f64| -> f64 {
            ((f64::from(*logit) - largest) / temperature).exp()
        };
        self.weights.clear();
        self.weights
            .extend(logits.iter().map(|logit| weight(logit, temperature)));
        let total: f64 = self.weights.iter().sum();
        let value = self.search(uniform * total);
        let total: f64 = match temperature == 1.0 {
            true => total,
            false => logits.iter().map(|logit| weight(logit, 1.0)).sum(),
        };
        let log_p = f64::from(logits[value]) - largest - total.ln();
        (value as u16, log_p)
    }

    /// The smallest index up to which the weights sum to more than `left`; the last one that is
    /// not zero where rounding leaves something over.
    fn search(&self, mut left: f64) -> usize {
        let mut last = 0;
        for (value, weight) in self.weights.iter().enumerate() {
            if *weight > 0.0 {
                last = value;
            }
            if left < *weight {
                return value;
            }
            left -= weight;
        }
        last
    }
}

/// log p of a value of two levels, in nats.
fn log_probability_of_bit(logit: f64, value: u16) -> f64 {
    if !logit.is_finite() {
        return f64::NAN;
    }
    let away = if value == 1 { -logit } else { logit };
    -(away.max(0.0) + (-away.abs()).exp().ln_1p())
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

    /// Gives the same outputs everywhere.
    struct Constant(Vec<f32>);

    impl Stepper for Constant {
        fn outputs(&mut self, _: Position, out: &mut [f32]) {
            for out in out.chunks_exact_mut(self.0.len()) {
                out.copy_from_slice(&self.0);
            }
        }

        fn put(&mut self, _: Position, _: &[u16]) {}
    }

    #[test]
    fn values_follow_the_cumulative_distribution() {
        let choose = |logits: &[f32], temperature: f64, uniform: f64| {
            Chooser::new(temperature).choose(logits, uniform)
        };
        // Probabilities 0.1, 0.2, 0.3, 0.4.
        let logits: Vec<f32> = (1..5).map(|k| (k as f32).ln()).collect();
        for (uniform, value) in [(0.0, 0u16), (0.0999, 0), (0.1001, 1), (0.5, 2), (0.9999, 3)] {
            for temperature in [1.0, 1.0 + 1e-9] {
                let (drawn, log_p) = choose(&logits, temperature, uniform);
                assert_eq!(drawn, value, "{uniform}");
                let expected = (0.1 * f64::from(value + 1)).ln();
                assert!((log_p - expected).abs() < 1e-6, "{log_p}, not {expected}");
            }
        }
        // The logit ln 3 gives 0 a quarter.
        let logit = [3f32.ln()];
        for (uniform, value, probability) in [(0.2499, 0u16, 0.25f64), (0.2501, 1, 0.75)] {
            let (drawn, log_p) = choose(&logit, 1.0, uniform);
            assert_eq!(drawn, value);
            assert!((log_p - probability.ln()).abs() < 1e-6, "{log_p}");
        }
        // A low temperature takes the likeliest value, whose probability is told at 1.
        let (drawn, log_p) = choose(&logits, 0.01, 0.0001);
        assert_eq!(drawn, 3);
        assert!((log_p - 0.4f64.ln()).abs() < 1e-6, "{log_p}");
        assert_eq!(choose(&logit, 0.01, 0.0001).0, 1);
    }

    /// The same chooser goes from one number of levels to another.
    #[test]
    fn many_levels_are_chosen_as_the_definition_says() {
        let mut random = stream(1, Purpose::Noise, 0, 0);
        for temperature in [0.5, 1.0, 2.0] {
            let mut chooser = Chooser::new(temperature);
            for levels in [4, 256, 16, 256] {
                let logits: Vec<f32> = (0..levels).map(|_| 3.0 * random.normal()).collect();
                let weights: Vec<f64> = logits
                    .iter()
                    .map(|logit| (f64::from(*logit) / temperature).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                for _ in 0..50 {
                    let uniform = f64::from(random.uniform());
                    let (value, log_p) = chooser.choose(&logits, uniform);
                    let value = usize::from(value);
                    let before: f64 = weights[..value].iter().sum::<f64>() / total;
                    let after = before + weights[value] / total;
                    assert!(before <= uniform + 1e-12 && uniform < after + 1e-12);
                    let all: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
                    let expected = f64::from(logits[value]) - all.ln();
                    assert!((log_p - expected).abs() < 1e-9, "{log_p}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn outputs_that_are_not_finite_are_an_error() {
        let drawn = |outputs: &[f32], temperature: f64| {
            let ask = Sampling {
                shape: [1, 2, 2],
                levels: outputs.len().max(2),
                seed: 0,
                numbers: &[0, 1],
                temperature,
                known: None,
            };
            sample(&mut Constant(outputs.to_vec()), &ask).finite()
        };
        for temperature in [1.0, 0.7] {
            for fine in [&[0.5][..], &[1.0, f32::NEG_INFINITY, -3.0, 80.0][..]] {
                assert!(drawn(fine, temperature).is_ok(), "{fine:?}");
            }
            for broken in [f32::NAN, f32::INFINITY] {
                for outputs in [
                    &[broken][..],
                    &[0.0, broken, 1.0, 2.0][..],
                    &[broken; 4][..],
                ] {
                    let error = drawn(outputs, temperature).unwrap_err().to_string();
                    assert!(error.contains("earlier checkpoint"), "{error}");
                }
            }
        }
    }
}
