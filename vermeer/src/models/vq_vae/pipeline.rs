//! A trained VQ-VAE in use.

use std::collections::BTreeMap;

use burn::prelude::*;
use rayon::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::{Prior, VqVae, VqVaeNet};
use crate::autoregressive::{Sampling, sample};
use crate::models::vae::codes;
use crate::registry::{DataSpec, Family};
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_shape, rows_in_blocks,
    unsupported,
};
use crate::{Error, Result};

/// Code maps a thread draws side by side, at most.
const SIDE_BY_SIDE: usize = 16;

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

    /// What the options say of temperature and classes.
    fn asked(&self, numbers: &[u64], options: &SampleOptions) -> Result<(f64, Option<Vec<u32>>)> {
        let conditional = self.net.config.conditional;
        let known: &[&str] = match conditional {
            true => &["class", "temperature"],
            false => &["temperature"],
        };
        options.only(VqVae::INFO.id, known)?;
        let temperature = options.temperature.unwrap_or(1.0);
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::settings(
                format!("a temperature of {temperature}"),
                "it must be larger than zero; 1 leaves the distributions as they are",
            ));
        }
        let labels = match conditional {
            true => options.classes(numbers, &self.spec.classes)?,
            false => None,
        };
        Ok((f64::from(temperature), labels))
    }

    /// The code maps of samples by their numbers, drawn on all threads.
    fn draw(
        &self,
        numbers: &[u64],
        options: &SampleOptions,
        progress: Progress,
    ) -> Result<BTreeMap<u64, Vec<u16>>> {
        let (temperature, labels) = self.asked(numbers, options)?;
        let map = self.net.config.map(&self.spec);
        let (prior, levels) = (&self.prior, self.net.config.codes);
        let threads = rayon::current_num_threads();
        let many = numbers.len().div_ceil(threads).clamp(1, SIDE_BY_SIDE);
        let starts: Vec<usize> = (0..numbers.len()).step_by(many).collect();
        let mut maps = BTreeMap::new();
        for together in starts.chunks(threads) {
            let drawn: Result<Vec<Vec<u16>>> = together
                .par_iter()
                .map(|start| {
                    let rows = *start..(start + many).min(numbers.len());
                    let labels = labels.as_ref().map(|labels| &labels[rows.clone()]);
                    let ask = Sampling {
                        shape: map.shape(),
                        levels,
                        seed: options.seed,
                        numbers: &numbers[rows.clone()],
                        temperature,
                        known: None,
                    };
                    let mut stepper = prior.stepper(rows.len(), labels);
                    let drawn = sample(&mut *stepper, &ask).finite();
                    drawn.map(|sampled| sampled.values)
                })
                .collect();
            let drawn = drawn?;
            let mut done = 0;
            for (start, values) in together.iter().zip(&drawn) {
                let own = values.chunks_exact(map.height * map.width);
                for (number, values) in numbers[*start..].iter().zip(own) {
                    maps.insert(*number, values.to_vec());
                }
                done = (start + many).min(numbers.len());
            }
            progress(done, numbers.len());
        }
        Ok(maps)
    }

    fn generate(
        &self,
        numbers: &[u64],
        options: &SampleOptions,
        progress: Progress,
    ) -> Result<Tensor<4>> {
        let maps = self.draw(numbers, options, progress)?;
        let map = self.net.config.map(&self.spec);
        let blank = vec![0; map.height * map.width];
        in_blocks(numbers, |block| {
            // Samples of the block that nobody asked for are not drawn.
            let codes: Vec<u16> = block
                .iter()
                .flat_map(|number| maps.get(number).unwrap_or(&blank).iter().copied())
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
