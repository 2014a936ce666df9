//! A trained VQ-VAE in use.

use std::collections::BTreeMap;

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::{Prior, VqVae, VqVaeNet};
use crate::Result;
use crate::autoregressive::{Sampling, sample_on_threads, temperature};
use crate::models::vae::codes;
use crate::registry::{DataSpec, Family};
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_shape, rows_in_blocks,
    unsupported,
};

/// A trained VQ-VAE with what it is used with.
pub(super) struct VqVaePipeline {
    pub(super) net: VqVaeNet,
    pub(super) prior: Prior,
    pub(super) spec: DataSpec,
    pub(super) device: Device,
}

impl VqVaePipeline {
    fn checked(&self, images: &ImageBatch) -> Result<Tensor<4>> {
        of_shape(images, self.spec.shape(), Range::Unit, &self.device)
    }

    fn generate(
        &self,
        numbers: &[u64],
        options: &SampleOptions,
        progress: Progress,
    ) -> Result<Tensor<4>> {
        let (config, map) = (&self.net.config, self.net.config.map(&self.spec));
        let temperature = temperature(VqVae::INFO.id, config.conditional, options)?;
        let labels = match config.conditional {
            true => options.classes(numbers, &self.spec.classes)?,
            false => None,
        };
        let ask = Sampling {
            shape: map.shape(),
            levels: config.codes,
            seed: options.seed,
            numbers,
            temperature,
            known: None,
        };
        let stepper = |n: usize, labels: Option<&[u32]>| self.prior.stepper(n, labels);
        let drawn = sample_on_threads(stepper, &ask, labels.as_deref(), progress)?;
        let size = map.height * map.width;
        let maps: BTreeMap<u64, &[u16]> = numbers
            .iter()
            .copied()
            .zip(drawn.chunks_exact(size))
            .collect();
        let blank = vec![0; size];
        in_blocks(numbers, |block| {
            // Samples of the block that nobody asked for are not drawn.
            let codes: Vec<u16> = block
                .iter()
                .flat_map(|number| maps.get(number).copied().unwrap_or(&blank).iter().copied())
                .collect();
            let shape = [block.len(), map.height, map.width];
            Ok(self.net.decode(self.net.codes_of(&codes, shape)))
        })
    }
}

impl Pipeline for VqVaePipeline {
    fn tasks(&self) -> &'static [Task] {
        VqVae::INFO.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        let unit = |x: Tensor<4>| {
            Ok(Answer::Images(ImageBatch::new(
                x.clamp(0.0, 1.0),
                Range::Unit,
            )?))
        };
        match request {
            Request::Generate { numbers, options } => {
                unit(self.generate(numbers, options, progress)?)
            }
            Request::Reconstruct { images, .. } => {
                let x = self.checked(images)?;
                unit(rows_in_blocks(x, |x| Ok(self.net.reconstruct(x)))?)
            }
            Request::Encode { images, .. } => {
                let quantised = rows_in_blocks(self.checked(images)?, |x| {
                    Ok(self.net.quantise(self.net.encode(x)).nearest)
                })?;
                Ok(Answer::Codes(codes(quantised.flatten::<2>(1, 3))))
            }
            _ => Err(unsupported(VqVae::INFO.id, request.task(), self.tasks())),
        }
    }
}
