//! A trained VAE in use.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::{Vae, VaeNet};
use crate::Result;
use crate::registry::{DataSpec, Family};
use crate::task::{
    self, Answer, Conditions, Pipeline, Progress, Request, SampleOptions, Task, in_blocks,
    of_latents, of_shape, rows_in_blocks, unsupported,
};

/// The options a VAE knows.
const OPTIONS: &[&str] = &["truncation"];

/// A trained VAE with what it is used with.
pub(super) struct VaePipeline {
    pub(super) net: VaeNet,
    pub(super) spec: DataSpec,
    pub(super) device: Device,
}

impl VaePipeline {
    fn checked(&self, images: &ImageBatch) -> Result<Tensor<4>> {
        of_shape(images, self.spec.shape(), Range::Unit, &self.device)
    }
}

/// The codes of samples, `[n, latent]`, drawn from the prior and truncated.
pub(crate) fn sampled(
    numbers: &[u64],
    latent: usize,
    options: &SampleOptions,
    device: &Device,
) -> Tensor<2> {
    let z = crate::random::latents(options.seed, numbers, latent);
    let z = Tensor::<1>::from_floats(&z[..], device).reshape([numbers.len(), latent]);
    truncated(z, options)
}

/// Codes nearer to the mean of the prior, where that is asked for.
pub(crate) fn truncated(z: Tensor<2>, options: &SampleOptions) -> Tensor<2> {
    match options.truncation {
        Some(factor) => z.mul_scalar(factor),
        None => z,
    }
}

impl Pipeline for VaePipeline {
    fn tasks(&self) -> &'static [Task] {
        Vae::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        let unit = |x: Tensor<4>| Ok(Answer::Images(ImageBatch::new(x, Range::Unit)?));
        let latent = self.net.config().latent;
        match request {
            Request::Generate { numbers, options } => {
                options.only(Vae::INFO.id, OPTIONS)?;
                let mut done = 0;
                let x = in_blocks(numbers, |block| {
                    done += block.len();
                    let z = sampled(block, latent, options, &self.device);
                    let x = self.net.expected(z);
                    progress(done, numbers.len().max(done));
                    Ok(x)
                })?;
                unit(x)
            }
            Request::Reconstruct { images, .. } => {
                let x = self.checked(images)?;
                unit(rows_in_blocks(x, |x| {
                    Ok(self.net.expected(self.net.encode(x).0))
                })?)
            }
            Request::Encode { images, .. } => {
                let mu = rows_in_blocks(self.checked(images)?, |x| Ok(self.net.encode(x).0))?;
                Ok(Answer::Codes(codes(mu)))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                options.only(Vae::INFO.id, OPTIONS)?;
                let ends = sampled(&[*from, *to], latent, options, &self.device);
                let path = crate::nn::slerp(ends, *frames);
                unit(rows_in_blocks(path, |z| Ok(self.net.expected(z)))?)
            }
            _ => Err(unsupported(Vae::INFO.id, request.task(), self.tasks())),
        }
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.net.config().latent)
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        options.only(Vae::INFO.id, OPTIONS)?;
        let size = [numbers.len(), self.net.config().latent];
        let z = truncated(of_latents(latents, size, &self.device)?, options);
        let x = rows_in_blocks(z, |z| Ok(self.net.expected(z)))?;
        Ok(ImageBatch::new(x, Range::Unit)?)
    }

    fn image_of(
        &self,
        latents: Tensor<2>,
        _numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Tensor<4>> {
        options.only(Vae::INFO.id, OPTIONS)?;
        rows_in_blocks(truncated(latents, options), |z| Ok(self.net.expected(z)))
    }

    fn likelihood(&self) -> Option<task::Likelihood> {
        Some(task::Likelihood::ImportanceWeighted)
    }

    fn log_likelihood(
        &self,
        images: &ImageBatch,
        _conditions: &Conditions,
        draws: usize,
        seed: u64,
    ) -> Result<Vec<f64>> {
        let x = self.checked(images)?;
        Ok(self.net.log_likelihood_given(x, None, draws, seed))
    }
}

/// The rows of `[n, size]` on the host.
pub(crate) fn codes(mu: Tensor<2>) -> Vec<Vec<f32>> {
    let size = mu.dims()[1];
    let values = crate::nn::host(mu);
    values.chunks(size).map(<[f32]>::to_vec).collect()
}
