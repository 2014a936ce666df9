//! The mixture of one pixel of one image on the host, channel by channel: the arithmetic of
//! [`crate::loss::logistic_mixture`] in f64.

use crate::loss::logistic_mixture::{
    HALF_BIN, LEAST_LOG_SCALE, MOST_LOG_SCALE, parameters_of, signed,
};

/// Probabilities below this are computed again by their logarithms.
const TINY: f64 = 1e-280;

/// The distribution of a pixel, given the channels that are known.
#[derive(Clone, Debug)]
pub(super) struct PixelMixture {
    channels: usize,
    /// Normalised, given the channels that are known.
    log_weights: Vec<f64>,
    /// Means, log-scales and coefficients `[group, component]`, as the network gives them.
    groups: Vec<f64>,
    /// Signed values of the channels that are known.
    known: Vec<f64>,
}

impl PixelMixture {
    /// The mixture of the numbers the network gives for a pixel.
    pub(super) fn new(parameters: &[f32], channels: usize) -> Self {
        let components = parameters.len() / parameters_of(1, channels);
        let wide: Vec<f64> = parameters.iter().map(|p| f64::from(*p)).collect();
        let (logits, groups) = wide.split_at(components);
        Self {
            channels,
            log_weights: normalised(logits.to_vec()),
            groups: groups.to_vec(),
            known: Vec::with_capacity(channels),
        }
    }

    /// log p of the 256 bytes of the channel after those known.
    pub(super) fn levels(&self, out: &mut [f32]) {
        let mut total = [0.0f64; 256];
        for (component, log_weight) in self.log_weights.iter().enumerate() {
            let (mean, inverse) = self.logistic(component);
            let (weight, inner) = (log_weight.exp(), bin_factor(inverse));
            // 1 − F at the lower edge of the bin.
            let mut above = 1.0;
            for (byte, total) in (0u16..).zip(&mut total) {
                let (below, next) = match byte {
                    255 => (1.0, 0.0),
                    _ => sigmoids((signed(byte) + HALF_BIN - mean) * inverse),
                };
                let edges = if matches!(byte, 0 | 255) { 1.0 } else { inner };
                *total += weight * below * above * edges;
                above = next;
            }
        }
        for ((byte, total), out) in (0u16..).zip(total).zip(out) {
            let log_p = match total > TINY {
                true => total.ln(),
                false => log_sum_exp(&self.terms(byte)),
            };
            *out = log_p as f32;
        }
    }

    /// Takes the byte of the channel after those known, which tells of the component too.
    pub(super) fn put(&mut self, byte: u16) {
        if self.known.len() + 1 < self.channels {
            self.log_weights = normalised(self.terms(byte));
        }
        self.known.push(signed(byte));
    }

    /// log w_k p_k of a byte of the channel after those known, for each component.
    fn terms(&self, byte: u16) -> Vec<f64> {
        let term = |(component, log_weight): (usize, &f64)| {
            let (mean, inverse) = self.logistic(component);
            let upper = (signed(byte) + HALF_BIN - mean) * inverse;
            let lower = (signed(byte) - HALF_BIN - mean) * inverse;
            let log_p = match byte {
                0 => log_sigmoid(upper),
                255 => log_sigmoid(-lower),
                _ => log_sigmoid(upper) + log_sigmoid(-lower) + bin_factor(inverse).ln(),
            };
            log_weight + log_p
        };
        self.log_weights.iter().enumerate().map(term).collect()
    }

    /// Mean and inverse scale of a component in the channel after those known.
    fn logistic(&self, component: usize) -> (f64, f64) {
        let components = self.log_weights.len();
        let channel = self.known.len();
        let group = |group: usize| self.groups[group * components + component];
        let coefficient = |at: usize| group(2 * self.channels + at).tanh();
        let shift = match self.known[..] {
            [red] => coefficient(0) * red,
            [red, green] => coefficient(1) * red + coefficient(2) * green,
            _ => 0.0,
        };
        let log_scale = group(self.channels + channel).clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE);
        (group(channel) + shift, (-log_scale).exp())
    }
}

/// 1 − e^(−d) with d the width of a bin over the scale.
fn bin_factor(inverse: f64) -> f64 {
    -(-2.0 * HALF_BIN * inverse).exp_m1()
}

/// σ(a) and σ(−a).
fn sigmoids(a: f64) -> (f64, f64) {
    let small = (-a.abs()).exp();
    let (large, small) = (1.0 / (1.0 + small), small / (1.0 + small));
    if a >= 0.0 {
        (large, small)
    } else {
        (small, large)
    }
}

fn log_sigmoid(a: f64) -> f64 {
    a.min(0.0) - (-a.abs()).exp().ln_1p()
}

fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| (term - largest).exp()).sum();
    largest + sum.ln()
}

fn normalised(terms: Vec<f64>) -> Vec<f64> {
    let total = log_sum_exp(&terms);
    terms.into_iter().map(|term| term - total).collect()
}
