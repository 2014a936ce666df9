//! Discretised mixtures of logistics (Salimans et al., PixelCNN++, 2017): the probability of a
//! pixel's bytes.
//!
//! ```text
//! p(r, g, b) = Σ_k w_k · p(r; m_r) · p(g; m_g + α r) · p(b; m_b + β r + γ g)
//! p(v; m) = F((v + 1/255 − m) / s) − F((v − 1/255 − m) / s)        F the logistic function
//! ```
//!
//! Values are signed, 2b/255 − 1 of a byte b; the bin of 0 reaches to −∞ and that of 255 to ∞. A
//! grey pixel has one channel and no coefficients. With a the upper and b the lower argument of F,
//!
//! ```text
//! log (F(a) − F(b)) = log F(a) + log F(−b) + log(1 − e^(b − a))
//! ```
//!
//! holds exactly and loses no digits anywhere, so no density stands in for narrow bins and the 256
//! probabilities of a sub-pixel sum to one. Log-scales are kept within bounds: at the lower one a
//! logistic variable is narrower than a bin, at the upper one so wide that the two outer bins share
//! it; far beyond that 1 − e^(b − a) would round to zero.

use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, log_softmax};

/// Half the width of a byte's bin among signed values.
pub const HALF_BIN: f64 = 1.0 / 255.0;

/// Log-scales below this are taken for this, as in the paper's program.
pub const LEAST_LOG_SCALE: f64 = -7.0;

/// Log-scales above this are taken for this, so that the width of a bin over the scale is a number.
pub const MOST_LOG_SCALE: f64 = 20.0;

/// The signed value of a byte.
pub fn signed(byte: u16) -> f64 {
    2.0 * f64::from(byte) / 255.0 - 1.0
}

/// How many numbers give the distribution of a pixel: `components` weights and, for each of
/// `channels`, as many means and log-scales; in colour three coefficients for each component.
pub fn parameters_of(components: usize, channels: usize) -> usize {
    let coefficients = if channels == 3 { 3 } else { 0 };
    components * (1 + 2 * channels + coefficients)
}

/// The distributions of the pixels of images, K components each.
#[derive(Clone, Debug)]
pub struct LogisticMixture {
    /// `[n, K, h, w]`, normalised over K.
    log_weights: Tensor<4>,
    /// `[n, c, K, h, w]`, without what the channels before add.
    means: Tensor<5>,
    /// `[n, c, K, h, w]`.
    log_scales: Tensor<5>,
    /// `[n, 3, K, h, w]` in [−1, 1]: of green on red, of blue on red, of blue on green; in colour.
    coefficients: Option<Tensor<5>>,
}

impl LogisticMixture {
    /// The distributions that `parameters` `[n, parameters_of(K, channels), h, w]` give: K weights as
    /// logits, then K means of each channel, K log-scales of each channel and, in colour, K
    /// arguments of tanh for each of the three coefficients.
    ///
    /// # Panics
    /// When the parameters are not those of a whole number of components.
    pub fn new(parameters: Tensor<4>, channels: usize) -> Self {
        let [n, size, h, w] = parameters.dims();
        let groups = parameters_of(1, channels);
        assert!(
            size > 0 && size.is_multiple_of(groups),
            "{size} numbers do not give mixtures of {channels} channels"
        );
        let all: Tensor<5> = parameters.reshape([n, groups, size / groups, h, w]);
        let part = |first: usize, count: usize| all.clone().narrow(1, first, count);
        Self {
            log_weights: log_softmax(part(0, 1).squeeze_dim::<4>(1), 1),
            means: part(1, channels),
            log_scales: part(1 + channels, channels).clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE),
            coefficients: (channels == 3).then(|| part(1 + 2 * channels, 3).tanh()),
        }
    }

    /// log p of every pixel, `[n, h, w]`, in nats; `x` `[n, c, h, w]` holds bytes as whole numbers.
    pub fn log_probability(&self, x: Tensor<4>) -> Tensor<3> {
        let x = signed_bytes(x);
        let of_components = self
            .bins(x.clone())
            .log_probability(x) // [n, c, K, h, w]
            .sum_dim(1)
            .squeeze_dim::<4>(1)
            .add(self.log_weights.clone()); // [n, K, h, w]
        log_sum_exp(of_components, 1).squeeze_dim::<3>(1)
    }

    /// −log p of images, summed over the pixels, `[n]`, in nats; `x` as above.
    pub fn negative_log_likelihood(&self, x: Tensor<4>) -> Tensor<1> {
        let pixels = self.log_probability(x).flatten::<2>(1, 2);
        pixels.sum_dim(1).squeeze_dim::<1>(1).neg()
    }

    /// log p of each of the 256 bytes in each channel, given the channels of `x` before it in the
    /// pixel, `[n, 256, c, h, w]`. These channels also tell which component the pixel is of.
    pub fn levels(&self, x: Tensor<4>) -> Tensor<5> {
        let [_, channels, _, _] = x.dims();
        let x = signed_bytes(x);
        let bins = self.bins(x.clone());
        let of_x = bins.log_probability(x); // [n, c, K, h, w]
        let mut log_weights: Tensor<5> = self.log_weights.clone().unsqueeze_dim::<5>(1);
        let mut told = vec![log_weights.clone()];
        for channel in 1..channels {
            log_weights = log_weights.add(of_x.clone().narrow(1, channel - 1, 1));
            told.push(log_weights.clone().sub(log_sum_exp(log_weights.clone(), 2)));
        }
        let told = Tensor::cat(told, 1); // [n, c, K, h, w]
        let device = told.device();
        let of_byte = |byte: u16| {
            let value = Tensor::<5>::full([1; 5], signed(byte), &device);
            let log_p = bins.log_probability(value).add(told.clone());
            log_sum_exp(log_p, 2).swap_dims(1, 2) // [n, 1, c, h, w]
        };
        Tensor::cat((0..256u16).map(of_byte).collect(), 1)
    }

    /// The logistic variables, given the channels before each in signed `x` `[n, c, 1, h, w]`.
    fn bins(&self, x: Tensor<5>) -> Bins {
        let mean = match &self.coefficients {
            None => self.means.clone(),
            Some(coefficients) => {
                let of = |at: usize| coefficients.clone().narrow(1, at, 1); // [n, 1, K, h, w]
                let (red, green) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1)); // [n, 1, 1, h, w]
                let on_green = of(0).mul(red.clone());
                let on_blue = of(1).mul(red).add(of(2).mul(green));
                let shift = Tensor::cat(vec![on_green.zeros_like(), on_green, on_blue], 1);
                self.means.clone().add(shift)
            }
        };
        let inverse = self.log_scales.clone().neg().exp();
        // 1 − e^(−d) = 2t / (1 + t) with t = tanh(d / 2) and d the width of a bin over the scale.
        let t = inverse.clone().mul_scalar(HALF_BIN).tanh();
        let log_width = t.clone().mul_scalar(2.0).log().sub(t.log1p());
        Bins {
            mean,
            inverse,
            log_width,
        }
    }
}

/// Logistic variables, `[n, c, K, h, w]`, prepared for their bins.
struct Bins {
    mean: Tensor<5>,
    inverse: Tensor<5>,
    /// log(1 − e^(−d)) with d the width of a bin over the scale.
    log_width: Tensor<5>,
}

impl Bins {
    /// log of the probability of the bin around `x`, one of the 256 signed values, which broadcasts.
    fn log_probability(&self, x: Tensor<5>) -> Tensor<5> {
        let centre = x.clone().sub(self.mean.clone());
        let upper = centre
            .clone()
            .add_scalar(HALF_BIN)
            .mul(self.inverse.clone());
        let lower = centre.sub_scalar(HALF_BIN).mul(self.inverse.clone());
        let not_last = x.clone().lower_elem(1.0 - HALF_BIN).float();
        let not_first = x.greater_elem(HALF_BIN - 1.0).float();
        let inner = not_first.clone().mul(not_last.clone());
        log_sigmoid(upper)
            .mul(not_last)
            .add(log_sigmoid(lower.neg()).mul(not_first))
            .add(self.log_width.clone().mul(inner))
    }
}

/// Bytes `[n, c, h, w]` as signed values `[n, c, 1, h, w]`.
fn signed_bytes(x: Tensor<4>) -> Tensor<5> {
    x.mul_scalar(2.0 / 255.0)
        .sub_scalar(1.0)
        .unsqueeze_dim::<5>(2)
}

/// log Σ exp over an axis, which stays with size 1.
fn log_sum_exp<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let largest = x.clone().detach().max_dim(axis);
    x.sub(largest.clone())
        .exp()
        .sum_dim(axis)
        .log()
        .add(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;
    use crate::random::{Purpose, stream};

    /// log of the probability of a bin in f64, by the differences of the definition where they
    /// have digits: mirrored so that both arguments are negative or on either side of zero.
    fn reference(byte: u16, mean: f64, log_scale: f64) -> f64 {
        let inverse = (-log_scale).exp();
        let log_f = |a: f64| a.min(0.0) - (-a.abs()).exp().ln_1p();
        let upper = (signed(byte) + HALF_BIN - mean) * inverse;
        let lower = (signed(byte) - HALF_BIN - mean) * inverse;
        match byte {
            0 => log_f(upper),
            255 => log_f(-lower),
            _ => {
                let (a, b) = match upper + lower > 0.0 {
                    true => (-lower, -upper),
                    false => (upper, lower),
                };
                log_f(a) + (-(log_f(b) - log_f(a)).exp()).ln_1p()
            }
        }
    }

    fn one_pixel(parameters: &[f32], channels: usize) -> LogisticMixture {
        let size = parameters.len();
        let parameters = Tensor::<1>::from_floats(parameters, &Device::flex());
        LogisticMixture::new(parameters.reshape([1, size, 1, 1]), channels)
    }

    fn pixel(bytes: &[f32]) -> Tensor<4> {
        let x = Tensor::<1>::from_floats(bytes, &Device::flex());
        x.reshape([1, bytes.len(), 1, 1])
    }

    #[test]
    fn one_logistic_is_the_difference_of_its_distribution_function() {
        for log_scale in [-7.0f32, -5.0, -2.0, 0.0, 2.0] {
            for mean in [-1.25f32, -0.5, 0.0, 0.75] {
                let mixture = one_pixel(&[0.0, mean, log_scale], 1);
                for byte in [0u16, 1, 64, 127, 128, 254, 255] {
                    let ours = host(mixture.log_probability(pixel(&[f32::from(byte)])));
                    let expected = reference(byte, f64::from(mean), f64::from(log_scale));
                    let apart = (f64::from(ours[0]) - expected).abs();
                    // Rounding of x − m to 1e-7 counts e⁷ ≈ 1,100 times at the smallest scale.
                    assert!(
                        apart < 2e-4 + 1e-6 * expected.abs(),
                        "{byte}, mean {mean}, log-scale {log_scale}: {}, not {expected}",
                        ours[0]
                    );
                }
            }
        }
    }

    #[test]
    fn log_scales_without_bounds_give_numbers_and_gradients() {
        let device = Device::flex().autodiff();
        for asked in [-1e30f32, -90.0, 19.0, 20.0, 30.0, 90.0, 1e30] {
            let taken = f64::from(asked).clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE);
            for byte in [0u16, 1, 128, 254, 255] {
                let leaf = Tensor::<1>::from_floats([0.25, 0.5, asked], &device).require_grad();
                let mixture = LogisticMixture::new(leaf.clone().reshape([1, 3, 1, 1]), 1);
                let x = Tensor::<4>::full([1, 1, 1, 1], f32::from(byte), &device);
                let log_p = mixture.log_probability(x);
                let ours = f64::from(host(log_p.clone())[0]);
                let expected = reference(byte, 0.5, taken);
                assert!(
                    (ours - expected).abs() < 2e-4 + 1e-6 * expected.abs(),
                    "{byte}, log-scale {asked}: {ours}, not {expected}"
                );
                let gradient = leaf.grad(&log_p.sum().backward()).unwrap();
                let gradient = host(gradient);
                assert!(
                    gradient.iter().all(|value| value.is_finite()),
                    "{byte}, log-scale {asked}: {gradient:?}"
                );
            }
        }
    }

    #[test]
    fn two_components_of_a_colour_pixel_are_hand_combined() {
        // Weights 1/4 and 3/4, means and scales of three channels, coefficients by tanh.
        let means = [[-0.5f64, 0.25], [0.125, -0.75], [0.5, 0.0]];
        let scales = [[-1.0f64, -0.5], [-2.0, 0.0], [-1.5, -0.25]];
        let raw = [[0.5f64, -1.0], [0.25, 2.0], [-0.75, 0.0]];
        let bytes = [30u16, 200, 255];
        let mut parameters = vec![0.0, 3f32.ln()];
        for table in [means, scales, raw] {
            parameters.extend(table.iter().flatten().map(|v| *v as f32));
        }
        let terms = [0, 1].map(|k| {
            let [r, g] = [signed(bytes[0]), signed(bytes[1])];
            let shift = [
                0.0,
                raw[0][k].tanh() * r,
                raw[1][k].tanh() * r + raw[2][k].tanh() * g,
            ];
            let log_p: f64 = (0..3)
                .map(|c| reference(bytes[c], means[c][k] + shift[c], scales[c][k]))
                .sum();
            [0.25, 0.75][k] * log_p.exp()
        });
        let expected = (terms[0] + terms[1]).ln();
        let mixture = one_pixel(&parameters, 3);
        let ours = host(mixture.log_probability(pixel(&bytes.map(f32::from))));
        assert!(
            (f64::from(ours[0]) - expected).abs() < 1e-5,
            "{}, not {expected}",
            ours[0]
        );
    }

    /// Random mixtures of images `[2, channels, 2, 3]` and bytes with both ends.
    fn random(channels: usize, components: usize) -> (LogisticMixture, Tensor<4>) {
        let device = Device::flex();
        let mut random = stream(5, Purpose::Noise, channels as u64, 0);
        let size = parameters_of(components, channels);
        let values: Vec<f32> = (0..2 * size * 6).map(|_| random.normal()).collect();
        let parameters = Tensor::<1>::from_floats(&values[..], &device).reshape([2, size, 2, 3]);
        let mut bytes: Vec<f32> = (0..2 * channels * 6)
            .map(|_| random.below(256) as f32)
            .collect();
        (bytes[0], bytes[1]) = (0.0, 255.0);
        let x = Tensor::<1>::from_floats(&bytes[..], &device).reshape([2, channels, 2, 3]);
        (LogisticMixture::new(parameters, channels), x)
    }

    #[test]
    fn the_probabilities_of_a_sub_pixel_sum_to_one() {
        for (channels, components) in [(1, 3), (3, 4)] {
            let (mixture, x) = random(channels, components);
            for sum in host(mixture.levels(x).exp().sum_dim(1)) {
                assert!((sum - 1.0).abs() < 1e-5, "{channels} channels: {sum}");
            }
        }
        // Scales far narrower and far wider than a bin, means inside and outside.
        for log_scale in [-9.0, -7.0, -4.0, 1.0, 6.0, 20.0, 200.0] {
            for mean in [-3.0, -1.0, -0.003, 0.5, 1.0, 2.0] {
                let mixture = one_pixel(&[0.0, mean, log_scale], 1);
                let sum = host(mixture.levels(pixel(&[0.0])).exp().sum_dim(1))[0];
                assert!((sum - 1.0).abs() < 1e-4, "{mean}, {log_scale}: {sum}");
            }
        }
    }

    #[test]
    fn a_pixel_is_the_product_of_its_channels() {
        for (channels, components) in [(1, 3), (3, 4)] {
            let (mixture, x) = random(channels, components);
            let whole = host(mixture.log_probability(x.clone()));
            let by_channel = mixture
                .levels(x.clone())
                .gather(1, x.int().unsqueeze_dim::<5>(1)) // [n, 1, c, h, w]
                .sum_dim(2);
            for (whole, chain) in whole.iter().zip(host(by_channel)) {
                assert!(
                    (whole - chain).abs() < 1e-5 * whole.abs().max(1.0),
                    "{whole} {chain}"
                );
            }
        }
    }
}
