//! The variational bound of the discrete process, in nats (Ho et al., 2020, section 3.3).
//!
//! ```text
//! −log p(x₀) ≤ L_T + Σ L_t + L_0
//! L_T = KL(q(x_T|x₀) ‖ N(0, I))
//! L_t = KL(q(x_{t−1}|x_t, x₀) ‖ p(x_{t−1}|x_t))        t = 2 … T, ε averaged
//! L_0 = −log of the mass of N(x̂₀, σ²) in the bins of the bytes of x₀
//! ```
//!
//! p is the ancestral sampler of all T steps, with its small or large variance; σ² is the
//! posterior's variance of the second step, as in the authors' code. Steps are counted from zero
//! here: step t is the one whose network input has ᾱ_t of the image left, so that step 0 is L_0.

use std::ops::Range;

use super::{Process, Variance};
use crate::Result;

/// The terms of the bound.
#[derive(Clone, Debug)]
pub struct Bound {
    process: Process,
    alpha_bar: Vec<f64>,
    variance: Variance,
    clip: bool,
}

impl Bound {
    /// The bound of a process whose sampler has this variance and clips its predicted images or
    /// does not; `None` for a process without discrete steps.
    pub fn new(process: &Process, variance: Variance, clip: bool) -> Option<Self> {
        match process {
            Process::Ddpm { alpha_bar, .. } => Some(Self {
                process: process.clone(),
                alpha_bar: alpha_bar.clone(),
                variance,
                clip,
            }),
            Process::Flow | Process::Edm => None,
        }
    }

    /// Groups of neighbouring steps that cover all of them, at most `passes` and at least two where
    /// there are two steps: step 0 alone, and the others in groups that grow with the noise, since
    /// the terms of little noise are the largest and the most different.
    ///
    /// One step drawn evenly from each group, its term times the group's size, estimates the sum of
    /// all terms without bias; with as many groups as steps it is the sum.
    pub fn strata(&self, passes: usize) -> Vec<Range<usize>> {
        let rest = self.alpha_bar.len() - 1;
        if rest == 0 {
            return vec![Range { start: 0, end: 1 }];
        }
        let groups = passes.saturating_sub(1).clamp(1, rest);
        let edge = |i: usize| {
            let share = i as f64 / groups as f64;
            1 + i.max((rest as f64 * share * share).floor() as usize)
        };
        let mut strata = vec![Range { start: 0, end: 1 }];
        strata.extend((0..groups).map(|i| edge(i)..edge(i + 1)));
        strata
    }

    /// L_T of one signed image.
    pub fn prior(&self, x_0: &[f64]) -> f64 {
        let left = self.alpha_bar[self.alpha_bar.len() - 1];
        let of = |x: &f64| 0.5 * (left * x * x - left - (1.0 - left).ln());
        x_0.iter().map(of).sum()
    }

    /// The term of each image at its own step: signed bytes `x_0` and noise `eps` of one size, one
    /// after the other, and as many `steps` as images. `network(inputs, times)` is the raw network.
    ///
    /// # Errors
    /// Those of the network.
    pub fn terms(
        &self,
        x_0: &[f64],
        eps: &[f32],
        steps: &[usize],
        network: impl FnOnce(Vec<f32>, &[f64]) -> Result<Vec<f32>>,
    ) -> Result<Vec<f64>> {
        let size = x_0.len() / steps.len().max(1);
        let mixes: Vec<_> = steps.iter().map(|t| self.process.mix(*t as f64)).collect();
        let mut inputs = Vec::with_capacity(x_0.len());
        for (row, mix) in mixes.iter().enumerate() {
            let part = row * size..(row + 1) * size;
            let pixels = x_0[part.clone()].iter().zip(&eps[part]);
            inputs.extend(pixels.map(|(x, e)| (mix.a * x + mix.b * f64::from(*e)) as f32));
        }
        let times: Vec<f64> = mixes.iter().map(|mix| mix.time).collect();
        let answers = network(inputs.clone(), &times)?;
        let mut terms = Vec::with_capacity(steps.len());
        for (row, (step, mix)) in steps.iter().zip(&mixes).enumerate() {
            let part = row * size..(row + 1) * size;
            let (p, q) = mix.image();
            let seen = inputs[part.clone()].iter().zip(&answers[part.clone()]);
            let image: Vec<f64> = seen
                .map(|(x, f)| {
                    let image = p * f64::from(*x) + q * f64::from(*f);
                    match self.clip {
                        true => image.clamp(-1.0, 1.0),
                        false => image,
                    }
                })
                .collect();
            let x_0 = &x_0[part];
            terms.push(match step {
                0 => self.decoder(x_0, &image),
                _ => self.transition(*step, x_0, &image),
            });
        }
        Ok(terms)
    }

    /// KL of the two normal distributions of a step after the first, for the predicted `image`.
    fn transition(&self, step: usize, x_0: &[f64], image: &[f64]) -> f64 {
        let (beta, posterior) = (self.beta(step), self.posterior(step));
        let model = match self.variance {
            Variance::Small => posterior,
            Variance::Large => beta,
        };
        // The means differ by this factor times the images' difference.
        let factor = self.before(step).sqrt() * beta / (1.0 - self.alpha_bar[step]);
        let square: f64 = x_0.iter().zip(image).map(|(x, i)| (x - i).powi(2)).sum();
        let ratio = posterior / model;
        0.5 * (x_0.len() as f64 * (ratio - 1.0 - ratio.ln()) + factor * factor * square / model)
    }

    /// −log of the mass of N(image, σ²) in the bins of the bytes of `x_0`; the outer bins reach to
    /// infinity.
    fn decoder(&self, x_0: &[f64], image: &[f64]) -> f64 {
        let variance = match self.alpha_bar.len() {
            1 => self.beta(0),
            _ => self.posterior(1),
        };
        let sigma = variance.sqrt();
        let half = 1.0 / 255.0;
        let of = |(x, mean): (&f64, &f64)| -> f64 {
            let (low, high) = ((x - half - mean) / sigma, (x + half - mean) / sigma);
            if *x < -1.0 + half {
                log_above(-high)
            } else if *x > 1.0 - half {
                log_above(low)
            } else if low + high < 0.0 {
                log_between(-high, -low)
            } else {
                log_between(low, high)
            }
        };
        -x_0.iter().zip(image).map(of).sum::<f64>()
    }

    /// ᾱ before a step.
    fn before(&self, step: usize) -> f64 {
        match step {
            0 => 1.0,
            _ => self.alpha_bar[step - 1],
        }
    }

    /// β of a step.
    fn beta(&self, step: usize) -> f64 {
        1.0 - self.alpha_bar[step] / self.before(step)
    }

    /// Variance of q(x_{t−1}|x_t, x₀): β·(1−ᾱ₋)/(1−ᾱ).
    fn posterior(&self, step: usize) -> f64 {
        self.beta(step) * (1.0 - self.before(step)) / (1.0 - self.alpha_bar[step])
    }
}

/// log of the mass of the standard normal between two points whose middle is not negative.
fn log_between(low: f64, high: f64) -> f64 {
    let (above_low, above_high) = (log_above(low), log_above(high));
    above_low + (-(above_high - above_low).exp()).ln_1p()
}

/// log of the mass of the standard normal above `z`: a power series near zero, Laplace's continued
/// fraction in the tail, where the mass itself would be no number.
fn log_above(z: f64) -> f64 {
    if z < 0.0 {
        return (-log_above(-z).exp()).ln_1p();
    }
    let log_density = -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln();
    if z < 3.0 {
        // Φ(z) = ½ + φ(z) · (z + z³/3 + z⁵/(3·5) + …)
        let (mut term, mut sum) = (z, z);
        for odd in (3..120).step_by(2) {
            term *= z * z / f64::from(odd);
            sum += term;
        }
        return (0.5 - log_density.exp() * sum).ln();
    }
    // 1 − Φ(z) = φ(z) / (z + 1/(z + 2/(z + 3/(z + …))))
    let fraction = (1..=80).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    log_density - fraction.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{Framework, NoiseSchedule, Prediction};

    fn ddpm(steps: usize) -> Process {
        Process::new(
            Framework::Ddpm,
            NoiseSchedule::Linear,
            steps,
            Prediction::Eps,
        )
    }

    #[test]
    fn tails_are_those_of_tables() {
        // scipy.stats.norm.logsf 1.17.1.
        for (z, expected) in [
            (-8.0, -6.220960574271742e-16),
            (-1.0, -0.172_753_779_023_449_9),
            (0.0, -std::f64::consts::LN_2),
            (0.5, -1.175_911_761_593_618_8),
            (2.999, -6.604_443_587_570_58),
            (3.0, -6.607_726_221_510_35),
            (8.0, -35.013_437_159_914_55),
            (50.0, -1_254.831_361_139_42),
        ] {
            let ours = log_above(z);
            assert!(
                (ours - expected).abs() <= 1e-11 * expected.abs() + 1e-16,
                "{z}: {ours}, not {expected}"
            );
        }
        // The mass in (−0.3, 0.7), and far out: log(e^a − e^b).
        assert!((log_between(-0.3, 0.7).exp() - 0.375_947_769_965_879_6).abs() < 1e-12);
        assert!((log_between(20.0, 20.5) - (-203.917_194_464_609_03)).abs() < 1e-10);
    }

    #[test]
    fn strata_cover_every_step_once() {
        for (steps, passes) in [
            (1, 1),
            (1, 9),
            (2, 1),
            (7, 7),
            (7, 3),
            (1000, 1000),
            (1000, 50),
        ] {
            let bound = Bound::new(&ddpm(steps), Variance::Small, true).unwrap();
            let strata = bound.strata(passes);
            assert!(strata.len() <= passes.max(2), "{steps} {passes}");
            let covered: Vec<usize> = strata.iter().cloned().flatten().collect();
            assert!(covered.into_iter().eq(0..steps), "{steps} {passes}");
            assert!(strata.iter().all(|s| !s.is_empty()), "{steps} {passes}");
            assert_eq!(strata[0], 0..1);
        }
        let all = Bound::new(&ddpm(1000), Variance::Small, true).unwrap();
        assert!(all.strata(1000).iter().all(|s| s.len() == 1));
    }

    /// Where pixels are normal with standard deviation s, the best prediction is linear in the
    /// input and every KL has a closed form. Noise of +1 and −1 has the moments of the normal
    /// distribution that it depends on.
    #[test]
    fn the_terms_of_normal_pixels_are_their_closed_forms() {
        let (s, x): (f64, [f64; 2]) = (0.5, [0.2, -0.6]);
        let process = ddpm(1000);
        let bars = crate::diffusion::alpha_bar(NoiseSchedule::Linear, 1000);
        for variance in [Variance::Small, Variance::Large] {
            let bound = Bound::new(&process, variance, false).unwrap();
            for step in [1usize, 10, 500, 999] {
                let mix = process.mix(step as f64);
                let share = mix.a * s * s / (mix.a * mix.a * s * s + mix.b * mix.b);
                let answer = |inputs: Vec<f32>, _: &[f64]| {
                    let of = |x: &f32| f64::from(*x) * (1.0 - mix.a * share) / mix.b;
                    Ok(inputs.iter().map(|x| of(x) as f32).collect())
                };
                let [plus, minus] = [1.0f32, -1.0]
                    .map(|sign| bound.terms(&x, &[sign, sign], &[step], answer).unwrap()[0]);
                let ours = 0.5 * (plus + minus);
                let (now, before) = (bars[step], bars[step - 1]);
                let beta = 1.0 - now / before;
                let posterior = beta * (1.0 - before) / (1.0 - now);
                let model = if variance == Variance::Small {
                    posterior
                } else {
                    beta
                };
                let off = |x: f64| ((1.0 - share * mix.a) * x).powi(2) + (share * mix.b).powi(2);
                let means = before * (beta / (1.0 - now)).powi(2) * (off(x[0]) + off(x[1]));
                let expected =
                    (model / posterior).ln() - 1.0 + posterior / model + 0.5 * means / model;
                assert!(
                    (ours / expected - 1.0).abs() < 1e-4,
                    "{variance:?} {step}: {ours}, not {expected}"
                );
            }
            let left = bars[999];
            let expected: f64 = x
                .iter()
                .map(|x| 0.5 * (1.0 - left + left * x * x - 1.0 - (1.0 - left).ln()))
                .sum();
            assert!((bound.prior(&x) - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn the_decoder_gives_every_byte_its_share() {
        // The masses of all 256 bins add up to one, wherever the mean lies.
        let bound = Bound::new(&ddpm(1000), Variance::Small, true).unwrap();
        for mean in [-1.0, -0.5, 0.001, 0.999] {
            let total: f64 = (0..256)
                .map(|byte| (-bound.decoder(&[f64::from(byte) / 127.5 - 1.0], &[mean])).exp())
                .sum();
            assert!((total - 1.0).abs() < 1e-10, "{mean}: {total}");
        }
    }
}
