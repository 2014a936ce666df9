//! A diffusion model in use: sampling, and the walk back from images to noise.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::likelihood::log_likelihood;
use super::{Denoiser, DiffusionConfig, DiffusionNetwork};
use crate::diffusion::{Framework, Grid, Process, Sampler, grid, invert, sample};
use crate::nn::host;
use crate::random::{Purpose, latents, stream};
use crate::registry::{DataSpec, Info};
use crate::task::{
    Answer, BLOCK, Conditions, Likelihood, Pipeline, Progress, Request, SampleOptions, Task,
    in_blocks, of_latents, of_shape, rows_in_blocks, unsupported,
};
use crate::{Error, Result};

/// Options a request may carry.
const OPTIONS: &[&str] = &["class", "steps", "sampler", "guidance", "eta"];

/// Steps of a walk without noise in the place of the model's own ancestral sampler, at most.
const STILL_STEPS: usize = 100;

/// A diffusion model in use.
pub(super) struct DiffusionPipeline {
    pub(super) net: Denoiser,
    pub(super) process: Process,
    pub(super) config: DiffusionConfig,
    pub(super) spec: DataSpec,
    pub(super) device: Device,
    info: &'static Info,
}

impl DiffusionPipeline {
    /// A model of the family that `info` describes.
    pub(super) fn new(
        net: Denoiser,
        config: &DiffusionConfig,
        spec: &DataSpec,
        device: &Device,
        info: &'static Info,
    ) -> Self {
        Self {
            net,
            process: config.process(),
            config: config.clone(),
            spec: spec.clone(),
            device: device.clone(),
            info,
        }
    }

    /// The settings of the model, overlaid with those of the request.
    fn grid(&self, options: &SampleOptions) -> Result<Grid> {
        options.only(self.info.id, OPTIONS)?;
        let sampler = match &options.sampler {
            Some(name) => name.parse()?,
            None => self.config.sampler,
        };
        let eta = options.eta.map_or(self.config.eta, f64::from);
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::settings(
                format!("eta = {eta}"),
                "eta lies between 0 (no fresh noise) and 1",
            ));
        }
        let grid = grid(
            &self.process,
            sampler,
            options.steps.unwrap_or(self.config.steps),
        )?;
        if options.eta.is_some_and(|eta| eta != 0.0) && grid.sampler != Sampler::Ddim {
            let remedy = match self.config.framework {
                Framework::Ddpm => "add --sampler ddim, or leave --eta out",
                Framework::Flow | Framework::Edm => "leave --eta out",
            };
            return Err(Error::settings("eta belongs to the ddim sampler", remedy));
        }
        let clip = grid.clip && self.config.clip;
        Ok(Grid {
            eta,
            variance: self.config.variance,
            clip,
            ..grid
        })
    }

    /// The options of a walk without fresh noise: `ddim` takes the place of a model's own `ddpm`,
    /// with fewer steps, and the model's own eta is left out.
    fn still(&self, options: &SampleOptions) -> Result<SampleOptions> {
        let asked = match &options.sampler {
            Some(name) => Some(name.parse::<Sampler>()?),
            None => None,
        };
        if asked == Some(Sampler::Ddpm) || options.eta.is_some_and(|eta| eta != 0.0) {
            return Err(Error::settings(
                "this walk must not add noise, since images are to follow from their latents",
                "use --sampler ddim without --eta",
            ));
        }
        let mut still = SampleOptions {
            eta: Some(0.0),
            ..options.clone()
        };
        if asked.is_none() && self.config.sampler == Sampler::Ddpm {
            still.sampler = Some("ddim".to_owned());
            still.steps = options.steps.or(Some(self.config.steps.min(STILL_STEPS)));
        }
        Ok(still)
    }

    /// The class of each sample: the one asked for, or drawn from the sample's own stream.
    fn classes(&self, numbers: &[u64], options: &SampleOptions) -> Result<Option<Vec<i32>>> {
        let known: &[String] = match self.config.conditional {
            true => &self.spec.classes,
            false => &[],
        };
        let classes = options.classes(numbers, known)?;
        Ok(classes.map(|classes| classes.iter().map(|class| *class as i32).collect()))
    }

    /// What the network is told of given images: their classes, or "no class" where they have none
    /// and the network has learned that.
    pub(super) fn told(&self, conditions: &Conditions, count: usize) -> Result<Option<Vec<i32>>> {
        if !self.config.conditional {
            return Ok(None);
        }
        let none = self.spec.classes.len() as i32;
        if conditions.labels.is_none() && self.config.label_dropout > 0.0 {
            return Ok(Some(vec![none; count]));
        }
        let labels = conditions.labels(count, &self.spec.classes)?;
        Ok(Some(labels.iter().map(|label| *label as i32).collect()))
    }

    /// The network as samplers ask it, for rows of these classes.
    fn network(
        &self,
        classes: Option<Vec<i32>>,
        options: &SampleOptions,
    ) -> Result<impl Fn(Tensor<4>, f64) -> Tensor<4>> {
        let guidance = options.guidance.map_or(self.config.guidance, f64::from);
        if guidance != 0.0 && classes.is_none() {
            return Err(Error::settings(
                "guidance needs a conditional model",
                "leave --guidance out, or train with model.conditional = true",
            ));
        }
        if guidance != 0.0 && self.config.label_dropout == 0.0 {
            return Err(Error::settings(
                "guidance needs a network that knows images without their class",
                "leave --guidance out, or train with model.label_dropout = 0.1",
            ));
        }
        let none = self.spec.classes.len() as i32;
        Ok(move |x: Tensor<4>, time: f64| {
            let rows = x.dims()[0];
            match &classes {
                None => self.net.forward(x, &vec![time; rows], None),
                Some(classes) if guidance == 0.0 => {
                    let labels = Tensor::<1, Int>::from_data(&classes[..], &self.device);
                    self.net.forward(x, &vec![time; rows], Some(labels))
                }
                Some(classes) => self.net.guided(x, time, classes, none, guidance),
            }
        })
    }

    /// Walks the start `noise` of one block to signed images.
    fn walk(
        &self,
        noise: Tensor<4>,
        numbers: &[u64],
        options: &SampleOptions,
        progress: Progress,
    ) -> Result<Tensor<4>> {
        let grid = self.grid(options)?;
        let rows = noise.dims()[0];
        let network = self.network(self.classes(numbers, options)?, options)?;
        let [c, h, w] = self.spec.shape();
        let fresh = |step: usize| {
            let mut values = vec![0.0; rows * c * h * w];
            for (number, row) in numbers.iter().zip(values.chunks_exact_mut(c * h * w)) {
                stream(options.seed, Purpose::Sampler, step as u64, *number).fill_normal(row);
            }
            Tensor::<1>::from_floats(&values[..], &self.device).reshape([rows, c, h, w])
        };
        Ok(sample(&grid, noise, network, fresh, |done, steps| {
            progress(done, steps)
        }))
    }

    /// Walks given images back to their noise and, where `again` says so, from there to images
    /// anew; with the sampler, steps and guidance of the model.
    fn back(
        &self,
        images: &ImageBatch,
        conditions: &Conditions,
        again: bool,
        progress: Progress,
    ) -> Result<Tensor<4>> {
        let x = of_shape(images, self.spec.shape(), Range::Signed, &self.device)?;
        let count = x.dims()[0];
        let told = self.told(conditions, count)?;
        let options = self.still(&SampleOptions {
            // Where no class is told there is nothing to guide to.
            guidance: conditions.labels.is_none().then_some(0.0),
            ..SampleOptions::default()
        })?;
        let grid = self.grid(&options)?;
        let (mut done, blocks) = (0, count.div_ceil(BLOCK));
        let parts = if again { 2 } else { 1 };
        rows_in_blocks(x, |x| {
            let first = done * BLOCK;
            let before = done * parts;
            done += 1;
            // What stands in the padding is cut off again.
            let classes = told.as_ref().map(|told| {
                let mut block = told[first..count.min(first + BLOCK)].to_vec();
                block.resize(BLOCK, 0);
                block
            });
            let network = self.network(classes, &options)?;
            let z = invert(&grid, x, &network, |done, steps| {
                progress(before * steps + done, blocks * parts * steps);
            });
            if !again {
                return Ok(z);
            }
            let fresh = |_| z.zeros_like();
            Ok(sample(&grid, z.clone(), &network, fresh, |done, steps| {
                progress((before + 1) * steps + done, blocks * parts * steps);
            }))
        })
    }

    fn start(&self, numbers: &[u64], seed: u64) -> Tensor<4> {
        let [c, h, w] = self.spec.shape();
        let z = latents(seed, numbers, c * h * w);
        Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), c, h, w])
    }

    /// Signed samples as unit images. The published 28×28 network does not see a constant added
    /// to its input, so the brightness of its samples drifts by several units; each one is
    /// brought to the full range by its own minimum and maximum, as its authors show them.
    fn finish(&self, x: Tensor<4>) -> Result<ImageBatch> {
        let x = match self.config.network {
            DiffusionNetwork::Unet => x,
            DiffusionNetwork::Pulfer28 => {
                let [n, c, h, w] = x.dims();
                let flat = x.reshape([n, c * h * w]);
                let low = flat.clone().min_dim(1);
                let span = flat.clone().max_dim(1).sub(low.clone()).clamp_min(1e-6);
                let unit = flat.sub(low).div(span);
                unit.mul_scalar(2.0).sub_scalar(1.0).reshape([n, c, h, w])
            }
        };
        let x = x.clamp(-1.0, 1.0);
        Ok(ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit))
    }
}

impl Pipeline for DiffusionPipeline {
    fn tasks(&self) -> &'static [Task] {
        self.info.tasks
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        match request {
            Request::Generate { numbers, options } => {
                let blocks: std::collections::BTreeSet<_> =
                    numbers.iter().map(|n| n / BLOCK as u64).collect();
                let mut walked = 0;
                let x = in_blocks(numbers, |block| {
                    let before = walked;
                    walked += 1;
                    let part: Progress =
                        &mut |done, steps| progress(before * steps + done, blocks.len() * steps);
                    self.walk(self.start(block, options.seed), block, options, part)
                })?;
                Ok(Answer::Images(self.finish(x)?))
            }
            Request::Reconstruct { images, conditions } => {
                let x = self.back(images, conditions, true, progress)?;
                Ok(Answer::Images(self.finish(x)?))
            }
            Request::Encode { images, conditions } => {
                let z = self.back(images, conditions, false, progress)?;
                let size: usize = self.spec.shape().iter().product();
                let codes = host(z).chunks_exact(size).map(<[f32]>::to_vec).collect();
                Ok(Answer::Codes(codes))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                let class = self
                    .classes(&[*from], options)?
                    .map(|classes| classes[0] as u32);
                // The frames differ by their start alone, so the walk must not add noise.
                let options = SampleOptions {
                    class,
                    ..self.still(options)?
                };
                let path = crate::nn::slerp(self.start(&[*from, *to], options.seed), *frames);
                let numbers = [*from; BLOCK];
                let (mut walked, blocks) = (0, frames.div_ceil(BLOCK));
                let x = rows_in_blocks(path, |x| {
                    let before = walked;
                    walked += 1;
                    let part: Progress =
                        &mut |done, steps| progress(before * steps + done, blocks * steps);
                    self.walk(x, &numbers, &options, part)
                })?;
                Ok(Answer::Images(self.finish(x)?))
            }
            _ => Err(unsupported(self.info.id, request.task(), self.tasks())),
        }
    }

    fn told(&self) -> bool {
        self.config.conditional
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.spec.shape().iter().product())
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        if self.grid(options)?.adds_noise() {
            return Err(Error::settings(
                "this sampler adds noise, so that images do not follow from their latents",
                "use the ddim sampler with eta = 0",
            ));
        }
        let [c, h, w] = self.spec.shape();
        let start = of_latents(latents, [numbers.len(), c * h * w], &self.device)?;
        let start = start.reshape([numbers.len(), c, h, w]);
        let mut blocks = numbers.chunks(BLOCK);
        let x = rows_in_blocks(start, |x| {
            // What stands in the padding is cut off again.
            let mut block = blocks.next().unwrap_or_default().to_vec();
            block.resize(BLOCK, 0);
            self.walk(x, &block, options, &mut |_, _| {})
        })?;
        self.finish(x)
    }

    fn likelihood(&self) -> Option<Likelihood> {
        (self.config.framework == Framework::Ddpm).then_some(Likelihood::Variational)
    }

    /// The variational bound of the ancestral sampler of all steps (Ho et al., 2020), for bytes:
    /// pixels between two bytes are rounded. A draw takes `model.steps` network passes: where they
    /// are fewer than the model's steps, terms are drawn, which leaves the bound's expectation as
    /// it is. Guidance has no part in it.
    fn log_likelihood(
        &self,
        images: &ImageBatch,
        conditions: &Conditions,
        draws: usize,
        seed: u64,
    ) -> Result<Vec<f64>> {
        log_likelihood(self, images, conditions, draws, seed)
    }
}
