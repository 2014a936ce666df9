//! Samplers: from noise to an image, level by level.
//!
//! A state at a level is `x = a·x₀ + b·ε`. A step asks the network for its x₀ and ε and mixes
//! them anew for the next level; Euler's step and DDIM's are the same thing seen this way.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Mix, Process};
use crate::{Error, Result};

/// The way from noise to image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// `ddim` for ddpm, `euler` for flow, `heun` for edm.
    #[default]
    Auto,
    /// Ancestral sampling (Ho et al., 2020); fresh noise at each step.
    Ddpm,
    /// Song et al., 2021; `eta` = 0 adds no noise.
    Ddim,
    /// Euler's method on the probability-flow ODE.
    Euler,
    /// Heun's second-order method (Karras et al., 2022): two network passes a step.
    Heun,
}

/// The variance of ancestral noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variance {
    /// The posterior's: β·(1−ᾱ₋)/(1−ᾱ).
    #[default]
    Small,
    /// β.
    Large,
}

impl std::str::FromStr for Sampler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [
            ("auto", Sampler::Auto),
            ("ddpm", Sampler::Ddpm),
            ("ddim", Sampler::Ddim),
            ("euler", Sampler::Euler),
            ("heun", Sampler::Heun),
        ];
        known
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, s)| *s)
            .ok_or_else(|| {
                let names: Vec<_> = known.iter().map(|(n, _)| *n).collect();
                Error::settings(
                    format!("there is no sampler {name:?}"),
                    crate::registry::suggest(name, &names),
                )
            })
    }
}

/// A level a sampler stops at: the state there is `a·x₀ + b·ε`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Share of the image in the state.
    pub a: f64,
    /// Share of the noise in the state.
    pub b: f64,
    /// What the network is told and asked; absent at the end, where only the image is left.
    pub mix: Option<Mix>,
}

/// The levels from noise to image, and how to walk them.
#[derive(Clone, Debug)]
pub struct Grid {
    /// One more than there are steps.
    pub nodes: Vec<Node>,
    /// How to walk; never [`Sampler::Auto`].
    pub sampler: Sampler,
    /// Share of fresh noise in a DDIM step.
    pub eta: f64,
    /// Variance of ancestral noise.
    pub variance: Variance,
    /// Whether every predicted image is clipped to [−1, 1], and ε with it, so that both still
    /// make up the state; [`grid`] sets it for ddpm, where 1/√ᾱ makes large errors of small ones.
    pub clip: bool,
    /// Whether Heun's method integrates x over t (flow) and not x/a over σ = b/a.
    pub straight: bool,
}

/// The grid of `steps` steps of a process.
///
/// ddpm: steps ⌊i·(T−1)/(S−1) + ½⌋ from i = S−1 down to 0, then the image; flow: t in equal steps
/// from 1 to 0; edm: Karras' levels from 80 to 0.002 with ρ = 7, then 0. The last step of Heun's
/// method is Euler's everywhere: without noise the best slope is −x₀, blind to the noise still in
/// the state, and averaging with it would leave half of that noise in the image.
///
/// # Errors
/// [`Error::Settings`] for a sampler the process does not have, or an impossible number of steps.
pub fn grid(process: &Process, sampler: Sampler, steps: usize) -> Result<Grid> {
    let most = match process {
        Process::Ddpm { alpha_bar, .. } => alpha_bar.len(),
        Process::Flow | Process::Edm => 10_000,
    };
    if steps == 0 || steps > most {
        return Err(Error::settings(
            format!("{steps} sampling steps"),
            format!("use between 1 and {most}"),
        ));
    }
    let sampler = match (sampler, process) {
        (Sampler::Auto, Process::Ddpm { .. }) => Sampler::Ddim,
        (Sampler::Auto, Process::Flow) => Sampler::Euler,
        (Sampler::Auto, Process::Edm) => Sampler::Heun,
        (Sampler::Ddpm | Sampler::Ddim, Process::Flow | Process::Edm) => {
            return Err(Error::settings(
                "samplers ddpm and ddim belong to the ddpm framework",
                "use euler or heun for flow and edm",
            ));
        }
        (other, _) => other,
    };
    let share = |i: usize| {
        if steps > 1 {
            i as f64 / (steps - 1) as f64
        } else {
            0.0
        }
    };
    let levels: Vec<f64> = match process {
        Process::Ddpm { alpha_bar, .. } => {
            let last = (alpha_bar.len() - 1) as f64;
            let gaps = (steps - 1).max(1) as f64;
            let level = |i: usize| {
                if steps > 1 {
                    (i as f64 * last / gaps + 0.5).floor()
                } else {
                    last
                }
            };
            (0..steps).rev().map(level).collect()
        }
        Process::Flow => (0..steps).map(|i| 1.0 - i as f64 / steps as f64).collect(),
        Process::Edm => {
            let (high, low) = (80.0f64.powf(1.0 / 7.0), 0.002f64.powf(1.0 / 7.0));
            (0..steps)
                .map(|i| (high + share(i) * (low - high)).powi(7))
                .collect()
        }
    };
    let mut nodes: Vec<Node> = levels
        .into_iter()
        .map(|level| {
            let mix = process.mix(level);
            // EDM scales its input; the state itself is x₀ + σ·ε.
            let (a, b) = match process {
                Process::Edm => (1.0, level),
                Process::Ddpm { .. } | Process::Flow => (mix.a, mix.b),
            };
            Node {
                a,
                b,
                mix: Some(mix),
            }
        })
        .collect();
    nodes.push(Node {
        a: 1.0,
        b: 0.0,
        mix: None,
    });
    let clip = matches!(process, Process::Ddpm { .. });
    let straight = matches!(process, Process::Flow);
    Ok(Grid {
        nodes,
        sampler,
        eta: 0.0,
        variance: Variance::Small,
        clip,
        straight,
    })
}

/// Walks `noise` `[n, …]` (standard normal) along the grid to signed images.
///
/// `network(input, time)` is the raw network; `fresh(step)` gives standard normal noise shaped
/// like the state, and is only called by samplers that add noise; `progress` hears of each step.
pub fn sample(
    grid: &Grid,
    noise: Tensor<4>,
    mut network: impl FnMut(Tensor<4>, f64) -> Tensor<4>,
    mut fresh: impl FnMut(usize) -> Tensor<4>,
    mut progress: impl FnMut(usize, usize),
) -> Tensor<4> {
    let steps = grid.nodes.len() - 1;
    let mut x = noise.mul_scalar(grid.start());
    for step in 0..steps {
        let ends = [&grid.nodes[step], &grid.nodes[step + 1]];
        x = advance(grid, x, ends, &mut network, || fresh(step));
        progress(step + 1, steps);
    }
    x
}

impl Grid {
    /// What the standard normal noise is multiplied with to be the first state: ddpm and flow start
    /// at pure noise, EDM at σ_max times noise.
    pub(super) fn start(&self) -> f64 {
        self.nodes[0].b.max(1.0)
    }

    /// Whether the walk adds noise on its way, so that images do not follow from their start alone.
    pub fn adds_noise(&self) -> bool {
        match self.sampler {
            Sampler::Ddpm => true,
            Sampler::Ddim => self.eta > 0.0,
            Sampler::Auto | Sampler::Euler | Sampler::Heun => false,
        }
    }
}

/// The state at the second node from the state `x` at the first.
pub(super) fn advance(
    grid: &Grid,
    x: Tensor<4>,
    [here, next]: [&Node; 2],
    network: &mut impl FnMut(Tensor<4>, f64) -> Tensor<4>,
    fresh: impl FnOnce() -> Tensor<4>,
) -> Tensor<4> {
    let (image, noise) = predict(grid, &x, here, network);
    if grid.sampler == Sampler::Heun && next.mix.is_some() {
        let ahead = image
            .clone()
            .mul_scalar(next.a)
            .add(noise.clone().mul_scalar(next.b));
        let there = predict(grid, &ahead, next, network);
        return heun(grid.straight, x, [here, next], (image, noise), there);
    }
    let added = match grid.sampler {
        Sampler::Ddpm => ancestral(here, next),
        Sampler::Ddim => ancestral(here, next) * grid.eta,
        Sampler::Auto | Sampler::Euler | Sampler::Heun => 0.0,
    };
    let kept = (next.b * next.b - added * added).max(0.0).sqrt();
    let mean = image.mul_scalar(next.a).add(noise.mul_scalar(kept));
    let spread = match (grid.sampler, grid.variance) {
        (Sampler::Ddpm, Variance::Large) if next.b > 0.0 => beta(here, next).sqrt(),
        _ => added,
    };
    match spread > 0.0 {
        true => mean.add(fresh().mul_scalar(spread)),
        false => mean,
    }
}

/// x₀ and ε as the network sees them in the state `x` at a node.
pub(super) fn predict(
    grid: &Grid,
    x: &Tensor<4>,
    node: &Node,
    network: &mut impl FnMut(Tensor<4>, f64) -> Tensor<4>,
) -> (Tensor<4>, Tensor<4>) {
    let mix = node.mix.expect("the last node is never asked");
    let scale = mix.b / node.b;
    let input = x.clone().mul_scalar(scale);
    let f = network(input.clone(), mix.time);
    let combine = |(p, q): (f64, f64)| input.clone().mul_scalar(p).add(f.clone().mul_scalar(q));
    if !grid.clip {
        return (combine(mix.image()), combine(mix.noise()));
    }
    let image = combine(mix.image()).clamp(-1.0, 1.0);
    let noise = x
        .clone()
        .sub(image.clone().mul_scalar(node.a))
        .div_scalar(node.b);
    (image, noise)
}

/// β of the step between two nodes: 1 − ᾱ/ᾱ₋.
fn beta(here: &Node, next: &Node) -> f64 {
    1.0 - (here.a * here.a) / (next.a * next.a)
}

/// Standard deviation of the posterior between two nodes: √(β·(1−ᾱ₋)/(1−ᾱ)).
fn ancestral(here: &Node, next: &Node) -> f64 {
    (beta(here, next) * next.b * next.b / (here.b * here.b))
        .max(0.0)
        .sqrt()
}

/// Heun's step. Flow integrates x over t, whose slope is ε − x₀; the others integrate x/a over
/// σ = b/a, whose slope is ε.
fn heun(
    straight: bool,
    x: Tensor<4>,
    [here, next]: [&Node; 2],
    (image, noise): (Tensor<4>, Tensor<4>),
    (image_ahead, noise_ahead): (Tensor<4>, Tensor<4>),
) -> Tensor<4> {
    if straight {
        let slope = noise
            .sub(image)
            .add(noise_ahead.sub(image_ahead))
            .mul_scalar(0.5);
        return x.add(slope.mul_scalar(next.b - here.b));
    }
    let slope = noise.add(noise_ahead).mul_scalar(0.5);
    let change = next.b / next.a - here.b / here.a;
    x.div_scalar(here.a)
        .add(slope.mul_scalar(change))
        .mul_scalar(next.a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{Framework, NoiseSchedule, Prediction};

    /// A network that knows the answer: data is the single point 0.6.
    fn oracle(process: &Process, sampler: Sampler, steps: usize) -> f32 {
        let device = Device::flex();
        let grid = grid(process, sampler, steps).unwrap();
        let noise = Tensor::full([1, 1, 1, 1], 1.3, &device);
        let mut mixes = grid.nodes.iter().filter_map(|n| n.mix).collect::<Vec<_>>();
        mixes.dedup();
        let network = |input: Tensor<4>, time: f64| {
            let m = mixes.iter().find(|m| m.time == time).unwrap();
            // ε from input and x₀ = 0.6, then the target.
            let eps = input.sub_scalar(0.6 * m.a).div_scalar(m.b);
            eps.mul_scalar(m.d).add_scalar(0.6 * m.c)
        };
        sample(
            &grid,
            noise,
            network,
            |_| Tensor::full([1, 1, 1, 1], 0.2, &device),
            |_, _| (),
        )
        .into_scalar()
    }

    #[test]
    fn a_perfect_network_leads_every_sampler_to_the_data() {
        let ddpm = Process::new(
            Framework::Ddpm,
            NoiseSchedule::Linear,
            1000,
            Prediction::Eps,
        );
        for (process, sampler) in [
            (&ddpm, Sampler::Ddpm),
            (&ddpm, Sampler::Ddim),
            (&ddpm, Sampler::Euler),
            (&ddpm, Sampler::Heun),
            (&Process::Flow, Sampler::Euler),
            (&Process::Flow, Sampler::Heun),
            (&Process::Edm, Sampler::Euler),
            (&Process::Edm, Sampler::Heun),
        ] {
            for steps in [1, 2, 20] {
                let x = oracle(process, sampler, steps);
                assert!(
                    (x - 0.6).abs() < 2e-3,
                    "{sampler:?} with {steps} steps gives {x}"
                );
            }
        }
    }

    #[test]
    fn karras_levels_are_those_of_the_paper() {
        // Karras et al. 2022, eq. 5 with S = 3: 80, ((80^(1/7) + 0.002^(1/7)) / 2)^7, 0.002.
        let grid = grid(&Process::Edm, Sampler::Auto, 3).unwrap();
        let sigma: Vec<f64> = grid.nodes.iter().map(|n| n.b).collect();
        let middle = ((80.0f64.powf(1.0 / 7.0) + 0.002f64.powf(1.0 / 7.0)) / 2.0).powi(7);
        for (ours, expected) in sigma.iter().zip([80.0, middle, 0.002, 0.0]) {
            assert!((ours - expected).abs() < 1e-9, "{sigma:?}");
        }
        assert!((middle - 2.515_2).abs() < 1e-3, "{middle}");
    }

    #[test]
    fn strided_steps_are_rounded_half_up() {
        // 999·i/6 = 999, 832.5, 666, 499.5, 333, 166.5, 0, by hand.
        let process = Process::new(
            Framework::Ddpm,
            NoiseSchedule::Linear,
            1000,
            Prediction::Eps,
        );
        for (steps, expected) in [
            (1, vec![999.0]),
            (2, vec![999.0, 0.0]),
            (7, vec![999.0, 833.0, 666.0, 500.0, 333.0, 167.0, 0.0]),
        ] {
            let grid = grid(&process, Sampler::Ddim, steps).unwrap();
            let times: Vec<f64> = grid
                .nodes
                .iter()
                .filter_map(|n| n.mix)
                .map(|m| m.time)
                .collect();
            assert_eq!(times, expected);
        }
    }

    #[test]
    fn clipping_holds_for_every_sampler_of_ddpm() {
        // A network that answers ε = 0 claims x₀ = x/√ᾱ = 1.3/√ᾱ, beyond 1 everywhere.
        let device = Device::flex();
        let process = Process::new(
            Framework::Ddpm,
            NoiseSchedule::Linear,
            1000,
            Prediction::Eps,
        );
        for sampler in [Sampler::Ddpm, Sampler::Ddim, Sampler::Euler, Sampler::Heun] {
            for (clip, expected) in [(true, 1.0), (false, 1.3 / 4.035_8e-5f32.sqrt())] {
                let grid = Grid {
                    clip,
                    ..grid(&process, sampler, 1).unwrap()
                };
                let noise = Tensor::full([1, 1, 1, 1], 1.3, &device);
                let x: f32 = sample(
                    &grid,
                    noise,
                    |x, _| x.zeros_like(),
                    |_| Tensor::zeros([1, 1, 1, 1], &device),
                    |_, _| (),
                )
                .into_scalar();
                assert!(
                    (x / expected - 1.0).abs() < 1e-4,
                    "{sampler:?}: {x}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn foreign_samplers_are_refused() {
        assert!(grid(&Process::Flow, Sampler::Ddim, 10).is_err());
        assert!(grid(&Process::Edm, Sampler::Heun, 0).is_err());
    }
}
