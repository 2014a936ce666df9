//! The latent of a given image, for a generator that has no encoder.
//!
//! For an image y the latent z is looked for by Adam on
//!
//! ```text
//! mean (G(z) − y)²  +  perceptual · ‖f(G(z)) − f(y)‖² / ‖f(y)‖²  +  prior · (‖z‖²/d − 1)²
//! ```
//!
//! where f is the embedded feature network and the last term keeps z as long as the latents that
//! the generator has seen: standard normal ones of d numbers have a mean square near 1. The search
//! begins at the best of many samples and goes on from several of them at once, since the objective
//! has more than one minimum; the learning rate falls along half a cosine.
//!
//! Styles w with mean μ and variance σ² are held back only where they go too far:
//!
//! ```text
//! prior · max(0, ‖w − μ‖²/(d σ²) − 1)²
//! ```
//!
//! and their first start is the mean, whose image is the average one, as Karras et al. (2020,
//! *Analyzing and Improving the Image Quality of StyleGAN*, appendix D) begin; they take LPIPS as f,
//! and move the noise of the generator too, which is held constant here.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::activation::relu;
use vermeer_image::features::WorldNet;
use vermeer_image::{ImageBatch, Range};
use vermeer_kernels::bilinear;
use vermeer_kernels::pool::{Take, Window};
use vermeer_kernels::pool2d;

use super::{Kind, Space, Usual};
use crate::nn::host;
use crate::task::{Progress, SampleOptions, of_shape};
use crate::{Error, Result};

/// Samples tried at a time.
const BATCH: usize = 64;
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// How a latent is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectionOptions {
    /// Steps of Adam. Default 300.
    pub steps: usize,
    /// Its learning rate at the start. Default 0.1.
    pub learning_rate: f64,
    /// Samples among which the start is chosen. Default 256.
    pub candidates: usize,
    /// Starts that are followed to the end. Default 4.
    pub starts: usize,
    /// Weight of the distance of features. Default 0.1.
    pub perceptual: f64,
    /// Weight of the length of the latent, or of a style's way from the mean. Default 0.01.
    pub prior: f64,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            steps: 300,
            learning_rate: 0.1,
            candidates: 256,
            starts: 4,
            perceptual: 0.1,
            prior: 0.01,
        }
    }
}

/// The latent of an image, and how near its image is.
#[derive(Clone, Debug, PartialEq)]
pub struct Projected {
    /// The latent.
    pub latent: Vec<f32>,
    /// Mean squared error of unit pixels.
    pub mse: f64,
    /// Squared distance of the features over the squared length of those of the image.
    pub features: f64,
}

/// Looks for latents.
pub struct Projector<'a> {
    space: Space<'a>,
    network: WorldNet,
    device: Device,
    options: ProjectionOptions,
}

/// What a latent is compared with.
struct Wanted {
    /// `[1, c, h, w]`, unit range.
    pixels: Tensor<4>,
    /// `[1, features]`.
    features: Tensor<2>,
}

impl<'a> Projector<'a> {
    /// For a model that computes on `device`.
    ///
    /// # Errors
    /// [`Error::Settings`] for a space without samples to begin at, and for options without steps,
    /// starts or enough candidates.
    pub fn new(space: Space<'a>, device: &Device, options: ProjectionOptions) -> Result<Self> {
        let ProjectionOptions {
            steps,
            learning_rate,
            candidates,
            starts,
            perceptual,
            prior,
        } = options;
        if space.kind() == Kind::Codes {
            return Err(Error::settings(
                "a search begins at samples, and this family has codes of images only",
                "leave the search out: images are encoded",
            ));
        }
        let numbers = [learning_rate, perceptual, prior];
        let sound = numbers.iter().all(|x| x.is_finite() && *x >= 0.0);
        if steps == 0 || starts == 0 || candidates < starts || !sound {
            return Err(Error::settings(
                format!("a latent cannot be looked for with {options:?}"),
                "take a step or more, a start or more, at least as many candidates, and weights of zero or more",
            ));
        }
        Ok(Self {
            space,
            network: WorldNet::embedded(device)?,
            device: device.clone(),
            options,
        })
    }

    /// The latent of one image in unit range and of the model's shape. `number` is that of the
    /// sample whose class the images have where none is chosen; for `choices` see
    /// [`super::choices`]. The candidates are samples of the seed in the choices.
    ///
    /// # Errors
    /// [`Error::Settings`] for an image of another shape or a family that gives no gradients;
    /// [`Error::Failed`] after `stop`, and when no latent with finite numbers is found.
    pub fn project(
        &self,
        image: &ImageBatch,
        number: u64,
        choices: &[SampleOptions],
        stop: &AtomicBool,
        progress: Progress,
    ) -> Result<Projected> {
        let pixels = of_shape(image, self.space.shape(), Range::Unit, &self.device)?;
        let features = self.features(pixels.clone());
        let wanted = Wanted { pixels, features };
        let d = self.space.size();
        let ProjectionOptions { steps, starts, .. } = self.options;
        let usual = self.space.usual(choices)?;
        let mut z = self.starts(&wanted, number, choices, &usual, stop)?;
        let (mut first, mut second) = (vec![0.0f64; z.len()], vec![0.0f64; z.len()]);
        for step in 0..steps {
            go_on(stop)?;
            let latents = self.tensor(&z, starts).autodiff().require_grad();
            let x = self
                .space
                .tracked_images(latents.clone(), number, choices)?;
            let [mse, features] = self.terms(x, &wanted);
            let loss = mse
                .add(features.mul_scalar(self.options.perceptual))
                .add(
                    self.length(latents.clone(), &usual)
                        .mul_scalar(self.options.prior),
                )
                .sum();
            let mut tape = loss.backward();
            let Some(gradient) = latents.grad_remove(&mut tape) else {
                return Err(Error::Failed(
                    "the images do not depend on their latents".into(),
                ));
            };
            let share = step as f64 / steps as f64;
            let rate =
                0.5 * self.options.learning_rate * (1.0 + (std::f64::consts::PI * share).cos());
            let gradient = host(gradient.inner());
            adam(&mut z, [&mut first, &mut second], &gradient, step, rate);
            progress(step + 1, steps);
        }
        let images = self.space.images(&z, number, choices)?;
        let x = images.to_range(Range::Unit).into_tensor();
        let [mse, features] = self.terms(x, &wanted).map(host);
        let far =
            |row: usize| f64::from(mse[row]) + self.options.perceptual * f64::from(features[row]);
        let best = (0..starts)
            .min_by(|a, b| far(*a).total_cmp(&far(*b)))
            .unwrap_or(0);
        let latent = z[best * d..(best + 1) * d].to_vec();
        match latent.iter().all(|x| x.is_finite()) {
            true => Ok(Projected {
                latent,
                mse: f64::from(mse[best]),
                features: f64::from(features[best]),
            }),
            false => Err(Error::Failed(
                "the search for the latent left the finite numbers; try a lower learning rate"
                    .into(),
            )),
        }
    }

    /// How far rows `[n, d]` are from the lengths that the generator has seen, `[n]`.
    fn length(&self, rows: Tensor<2>, usual: &Usual) -> Tensor<1> {
        let n = rows.dims()[0];
        let variances = usual.deviation.iter().map(|s| f64::from(*s).powi(2));
        let variance = variances.sum::<f64>() / self.space.size() as f64;
        let excess = rows
            .sub(self.tensor(&usual.mean, 1))
            .square()
            .mean_dim(1)
            .div_scalar(variance.max(1e-12))
            .sub_scalar(1.0)
            .reshape([n]);
        match self.space.kind() {
            Kind::Styles => relu(excess).square(),
            Kind::Latents | Kind::Codes => excess.square(),
        }
    }

    /// The latents `[starts, d]` of the candidates whose images are nearest; of styles the mean
    /// and, after it, those.
    fn starts(
        &self,
        wanted: &Wanted,
        number: u64,
        choices: &[SampleOptions],
        usual: &Usual,
        stop: &AtomicBool,
    ) -> Result<Vec<f32>> {
        let numbers: Vec<u64> = (0..self.options.candidates as u64).collect();
        let candidates = self.space.draw(&numbers, choices)?;
        let d = self.space.size();
        let mut far = Vec::with_capacity(numbers.len());
        for part in candidates.chunks(BATCH * d) {
            go_on(stop)?;
            let images = self.space.images(part, number, choices)?;
            let x = images.to_range(Range::Unit).into_tensor();
            let [mse, features] = self.terms(x, wanted).map(host);
            let both = mse.iter().zip(&features);
            far.extend(both.map(|(m, f)| f64::from(*m) + self.options.perceptual * f64::from(*f)));
        }
        let mut order: Vec<usize> = (0..far.len()).collect();
        order.sort_by(|a, b| far[*a].total_cmp(&far[*b]));
        let mut starts = match self.space.kind() {
            Kind::Styles => usual.mean.clone(),
            Kind::Latents | Kind::Codes => Vec::new(),
        };
        let left = self.options.starts - starts.len() / d;
        for row in order.into_iter().take(left) {
            starts.extend(&candidates[row * d..(row + 1) * d]);
        }
        Ok(starts)
    }

    fn tensor(&self, z: &[f32], rows: usize) -> Tensor<2> {
        let data = TensorData::new(z.to_vec(), [rows, self.space.size()]);
        Tensor::from_data(data, &self.device)
    }

    /// Mean squared error and distance of features of unit images `[n, c, h, w]`, each `[n]`.
    fn terms(&self, x: Tensor<4>, wanted: &Wanted) -> [Tensor<1>; 2] {
        let [n, c, h, w] = x.dims();
        let apart = x.clone().sub(wanted.pixels.clone()).square();
        let mse = apart.reshape([n, c * h * w]).mean_dim(1).reshape([n]);
        let whole = wanted.features.clone().square().sum_dim(1).clamp_min(1e-12); // [1, 1]
        let apart = self.features(x).sub(wanted.features.clone()).square();
        let features = apart.sum_dim(1).div(whole).reshape([n]);
        [mse, features]
    }

    /// Features `[n, 128]` of unit images `[n, c, h, w]`: blocks of pixels are averaged while an
    /// image has twice the network's size or more, and the rest is bilinear.
    fn features(&self, x: Tensor<4>) -> Tensor<2> {
        let side = WorldNet::SIDE;
        let [_, channels, height, width] = x.dims();
        let factor = (height.min(width) / side).max(1);
        let x = match factor {
            1 => x,
            _ => pool2d(
                x,
                Window {
                    kernel: [factor; 2],
                    stride: [factor; 2],
                    padding: [0; 2],
                    take: Take::Mean,
                },
            ),
        };
        let x = bilinear(x, [side, side]);
        let x = match channels {
            1 => Tensor::cat(vec![x.clone(), x.clone(), x], 1),
            _ => x,
        };
        self.network.features(x)
    }
}

fn go_on(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("interrupted; nothing was written".into())),
        false => Ok(()),
    }
}

/// One step of Adam (Kingma and Ba, 2015) on numbers of the host.
fn adam(
    z: &mut [f32],
    [first, second]: [&mut Vec<f64>; 2],
    gradient: &[f32],
    step: usize,
    rate: f64,
) {
    let [beta1, beta2] = BETAS;
    let power = (step + 1) as i32;
    let (scale1, scale2) = (1.0 - beta1.powi(power), 1.0 - beta2.powi(power));
    let moments = first.iter_mut().zip(second.iter_mut());
    for ((z, (m, v)), g) in z.iter_mut().zip(moments).zip(gradient) {
        let g = f64::from(*g);
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        let step = rate * (*m / scale1) / ((*v / scale2).sqrt() + EPSILON);
        *z = (f64::from(*z) - step) as f32;
    }
}

#[cfg(test)]
mod tests;
