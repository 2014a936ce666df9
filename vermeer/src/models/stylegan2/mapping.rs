//! From latents to styles: fully connected layers with an equalised learning rate.

use burn::module::{Param, RunningState};
use burn::prelude::*;
use burn::tensor::activation::leaky_relu;

use crate::nn::Init;

/// Slope of leaky ReLU below zero, in every layer of both networks.
pub(super) const SLOPE: f64 = 0.2;

/// What leaky ReLU is multiplied by, so that the mean square of a normal input is kept.
pub(super) const GAIN: f64 = std::f64::consts::SQRT_2;

/// The share of the running mean of styles that a batch replaces.
const MOMENTUM: f64 = 0.005;

/// A fully connected layer with an equalised learning rate (Karras et al., 2018).
///
/// `y = rate/√inputs · W x + rate · b`. W is drawn from N(0, 1/rate²), so that a layer starts as
/// the usual initialisation does while an optimizer that moves every number alike moves each
/// layer in proportion to its scale, times `rate`.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    rate: f64,
}

impl Dense {
    /// A layer that learns `rate` times as fast as others and adds `bias` at first.
    pub fn new(init: &Init, [inputs, outputs]: [usize; 2], rate: f64, bias: f32) -> Self {
        let scale = (1.0 / rate) as f32;
        Self {
            weight: init.param("weight", [outputs, inputs], |random| {
                scale * random.normal()
            }),
            bias: init.constant("bias", [outputs], scale * bias),
            rate,
        }
    }

    /// `[n, inputs] → [n, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [outputs, inputs] = self.weight.dims();
        let gain = self.rate / (inputs as f64).sqrt();
        let bias = self.bias.val().mul_scalar(self.rate);
        x.matmul(self.weight.val().transpose().mul_scalar(gain))
            .add(bias.reshape([1, outputs]))
    }

    /// [`Dense::forward`], then leaky ReLU times √2.
    pub fn forward_leaky(&self, x: Tensor<2>) -> Tensor<2> {
        leaky_relu(self.forward(x), SLOPE).mul_scalar(GAIN)
    }
}

/// Rows of mean square 1: `x / √(mean(x²) + 1e-8)`.
pub fn normalised(x: Tensor<2>) -> Tensor<2> {
    let root = x.clone().square().mean_dim(1).add_scalar(1e-8).sqrt(); // [n, 1]
    x.div(root)
}

/// Latents, and classes where there are some, to styles.
#[derive(Module, Debug)]
pub struct Mapping {
    /// Of one-hot classes, to as many numbers as a style has.
    embedding: Option<Dense>,
    layers: Vec<Dense>,
    /// The mean of the styles of training, `[style]`, which truncation moves towards.
    running_mean: RunningState<Tensor<1>>,
}

impl Mapping {
    /// `depth` layers from `latent` numbers, and one of `classes` where that is not 0, to `style`
    /// numbers; they learn `rate` times as fast as the other networks.
    pub fn new(init: &Init, [latent, style, classes]: [usize; 3], depth: usize, rate: f64) -> Self {
        let embedding =
            (classes > 0).then(|| Dense::new(&init.at("embedding"), [classes, style], 1.0, 0.0));
        let joined = match classes {
            0 => latent,
            _ => latent + style,
        };
        let layer = |i: usize| {
            let inputs = if i == 0 { joined } else { style };
            let place = init.at("layers").at(i);
            Dense::new(&place, [inputs, style], rate, 0.0)
        };
        Self {
            embedding,
            layers: (0..depth).map(layer).collect(),
            running_mean: RunningState::new(Tensor::zeros([style], init.device())),
        }
    }

    /// Styles `[n, style]` of latents `[n, latent]` and, for a conditional network, one-hot rows
    /// `[n, classes]`.
    pub fn forward(&self, z: Tensor<2>, classes: Option<Tensor<2>>) -> Tensor<2> {
        let z = normalised(z);
        let mut x = match (&self.embedding, classes) {
            (Some(embedding), Some(classes)) => {
                let own = normalised(embedding.forward(classes));
                Tensor::cat(vec![z, own], 1) // [n, latent + style]
            }
            _ => z,
        };
        for layer in &self.layers {
            x = layer.forward_leaky(x);
        }
        x
    }

    /// Moves the running mean towards the mean of `styles` `[n, style]`.
    pub fn track(&self, styles: Tensor<2>) {
        let [_, size] = styles.dims();
        let mean = styles.mean_dim(0).reshape([size]);
        let old = self.running_mean.value_sync();
        self.running_mean.update(
            old.mul_scalar(1.0 - MOMENTUM)
                .add(mean.mul_scalar(MOMENTUM))
                .detach(),
        );
        // An update is held back until the next synchronisation; without this line a checkpoint
        // would hold the mean of one step earlier.
        self.running_mean.value_sync();
    }

    /// Styles at `psi` times their distance from the running mean: 1 leaves them as they are, 0
    /// makes all of them the mean.
    pub fn truncated(&self, styles: Tensor<2>, psi: f32) -> Tensor<2> {
        let mean = self.running_mean.value(); // [style]
        let mean = mean.reshape([1, styles.dims()[1]]);
        styles
            .sub(mean.clone())
            .mul_scalar(f64::from(psi))
            .add(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;

    #[test]
    fn truncation_moves_styles_towards_their_running_mean() {
        let device = Device::flex();
        let mapping = Mapping::new(&Init::new(1, &device), [3, 2, 0], 1, 1.0);
        // The mean (2, 4) counts half a hundredth.
        mapping.track(Tensor::from_floats([[1.0, 3.0], [3.0, 5.0]], &device));
        let styles = Tensor::<2>::from_floats([[1.0, -1.0]], &device);
        for (psi, expected) in [
            (1.0, [1.0, -1.0]),
            (0.0, [0.01, 0.02]),
            (0.5, [0.505, -0.49]),
        ] {
            let found = host(mapping.truncated(styles.clone(), psi));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{psi}: {found}");
            }
        }
    }

    #[test]
    fn the_rate_changes_how_a_layer_learns_and_not_what_it_starts_as() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[1.0, -2.0, 0.5]], &device);
        let at = |rate: f64| {
            let layer = Dense::new(&Init::new(3, &device), [3, 2], rate, 1.0);
            host(layer.forward(x.clone()))
        };
        for (a, b) in at(1.0).iter().zip(at(0.01)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}
