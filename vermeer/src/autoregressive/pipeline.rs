//! The use of an autoregressive network: samples, completions and exact likelihoods.

use burn::prelude::*;
use rayon::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::sample::not_finite;
use super::{Autoregressive, Known, Sampling, Stepper, quantise, sample, shown, total_probability};
use crate::nn::{host, load};
use crate::registry::DataSpec;
use crate::run::TensorMap;
use crate::task::{
    Answer, BLOCK, Conditions, Likelihood, Pipeline, Progress, Request, SampleOptions, Task,
    of_shape, unsupported,
};
use crate::{Error, Result};

/// Images a thread draws side by side, at most.
const SIDE_BY_SIDE: usize = 16;

/// What the options of a family that draws values one after the other say of the temperature.
///
/// # Errors
/// [`Error::Settings`] for options it does not know, and a temperature that is not above zero.
pub(crate) fn temperature(family: &str, conditional: bool, options: &SampleOptions) -> Result<f64> {
    let known: &[&str] = match conditional {
        true => &["class", "temperature"],
        false => &["temperature"],
    };
    options.only(family, known)?;
    let temperature = options.temperature.unwrap_or(1.0);
    match temperature.is_finite() && temperature > 0.0 {
        true => Ok(f64::from(temperature)),
        false => Err(Error::settings(
            format!("a temperature of {temperature}"),
            "it must be larger than zero; 1 leaves the distributions as they are",
        )),
    }
}

/// The values of samples, `[n, c, h, w]`, drawn on all threads, each with a stepper of its own
/// that is told the labels of its samples.
///
/// # Errors
/// [`Error::Failed`] where outputs are not finite.
pub(crate) fn sample_on_threads(
    stepper: impl Fn(usize, Option<&[u32]>) -> Box<dyn Stepper> + Sync,
    ask: &Sampling,
    labels: Option<&[u32]>,
    progress: Progress,
) -> Result<Vec<u16>> {
    let [channels, height, width] = ask.shape;
    let (pixels, size) = (height * width, channels * height * width);
    let count = ask.numbers.len();
    let threads = rayon::current_num_threads();
    let many = count.div_ceil(threads).clamp(1, SIDE_BY_SIDE);
    let starts: Vec<usize> = (0..count).step_by(many).collect();
    let mut values = Vec::with_capacity(count * size);
    for together in starts.chunks(threads) {
        let drawn: Result<Vec<Vec<u16>>> = together
            .par_iter()
            .map(|start| {
                let rows = *start..(start + many).min(count);
                let ask = Sampling {
                    numbers: &ask.numbers[rows.clone()],
                    known: ask.known.map(|known| Known {
                        values: &known.values[rows.start * size..rows.end * size],
                        mask: &known.mask[rows.start * pixels..rows.end * pixels],
                    }),
                    ..*ask
                };
                let labels = labels.map(|labels| &labels[rows.clone()]);
                let drawn = sample(&mut *stepper(rows.len(), labels), &ask).finite();
                drawn.map(|sampled| sampled.values)
            })
            .collect();
        values.extend(drawn?.into_iter().flatten());
        progress(values.len() / size, count);
    }
    Ok(values)
}

/// An autoregressive network in use.
#[derive(Debug)]
pub struct AutoregressivePipeline<N: Autoregressive> {
    net: N,
    spec: DataSpec,
    device: Device,
}

impl<N: Autoregressive> AutoregressivePipeline<N> {
    /// The tasks it answers.
    pub const TASKS: &'static [Task] = &[Task::Generate, Task::Inpaint];

    /// A pipeline of a network without gradients on `device`.
    pub fn new(net: N, spec: DataSpec, device: Device) -> Self {
        Self { net, spec, device }
    }

    /// The pipeline of `net` on `device` with the parameters of a run.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the parameters are not those of the network.
    pub fn load(net: N, parameters: &TensorMap, device: &Device) -> Result<Self> {
        let spec = net.spec().clone();
        let net = load(net, parameters, "model.safetensors".as_ref())?;
        Ok(Self::new(net.valid(), spec, device.clone()))
    }

    /// What the options say of temperature and classes; without a class, the images' own are taken
    /// where there are images.
    fn asked(
        &self,
        numbers: &[u64],
        options: &SampleOptions,
        conditions: Option<&Conditions>,
    ) -> Result<(f64, Option<Vec<u32>>)> {
        let conditional = self.net.conditional();
        let temperature = temperature(N::ID, conditional, options)?;
        let classes = &self.spec.classes;
        let labels = match (conditional, conditions) {
            (false, _) => None,
            (true, Some(own)) if options.class.is_none() => {
                Some(own.labels(numbers.len(), classes)?.to_vec())
            }
            (true, _) => options.classes(numbers, classes)?,
        };
        Ok((temperature, labels))
    }

    /// The values of samples, `[n, c, h, w]`, drawn on all threads.
    fn draw(
        &self,
        numbers: &[u64],
        options: &SampleOptions,
        known: Option<(Known, &Conditions)>,
        progress: Progress,
    ) -> Result<Vec<u16>> {
        let conditions = known.map(|(_, conditions)| conditions);
        let (temperature, labels) = self.asked(numbers, options, conditions)?;
        let ask = Sampling {
            shape: self.spec.shape(),
            levels: self.net.levels(),
            seed: options.seed,
            numbers,
            temperature,
            known: known.map(|(known, _)| known),
        };
        let stepper = |n: usize, labels: Option<&[u32]>| self.net.stepper(n, labels);
        sample_on_threads(stepper, &ask, labels.as_deref(), progress)
    }

    /// Unit pixels as images.
    fn images(&self, pixels: &[f32]) -> Result<Answer> {
        let [channels, height, width] = self.spec.shape();
        let count = pixels.len() / (channels * height * width);
        let x = Tensor::<1>::from_floats(pixels, &self.device)
            .reshape([count, channels, height, width]);
        Ok(Answer::Images(ImageBatch::new(x, Range::Unit)?))
    }

    /// The pixels of images of the model's shape, on the host.
    fn pixels(&self, images: &ImageBatch) -> Result<Vec<f32>> {
        let x = of_shape(images, self.spec.shape(), Range::Unit, &self.device)?;
        Ok(host(x))
    }
}

impl<N: Autoregressive> Pipeline for AutoregressivePipeline<N> {
    fn tasks(&self) -> &'static [Task] {
        Self::TASKS
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        let levels = self.net.levels();
        match request {
            Request::Generate { numbers, options } => {
                let values = self.draw(numbers, options, None, progress)?;
                let pixels: Vec<f32> = values.iter().map(|v| shown(*v, levels)).collect();
                self.images(&pixels)
            }
            Request::Inpaint {
                images,
                known,
                conditions,
                numbers,
                options,
            } => {
                let given = self.pixels(images)?;
                let [channels, height, width] = self.spec.shape();
                let (pixels, size) = (height * width, channels * height * width);
                let count = given.len() / size;
                if numbers.len() != count || known.len() != count * pixels {
                    return Err(Error::settings(
                        format!(
                            "{count} images come with {} numbers and a mask of {} pixels",
                            numbers.len(),
                            known.len()
                        ),
                        "give each image a number and a mask of its size",
                    ));
                }
                let values: Vec<u16> = given.iter().map(|p| quantise(*p, levels)).collect();
                let mask = Known {
                    values: &values,
                    mask: known,
                };
                let drawn = self.draw(numbers, options, Some((mask, conditions)), progress)?;
                let completed: Vec<f32> = given
                    .iter()
                    .zip(&drawn)
                    .enumerate()
                    .map(|(index, (pixel, value))| {
                        let place = index / size * pixels + index % pixels;
                        if known[place] {
                            *pixel
                        } else {
                            shown(*value, levels)
                        }
                    })
                    .collect();
                self.images(&completed)
            }
            _ => Err(unsupported(N::ID, request.task(), self.tasks())),
        }
    }

    fn likelihood(&self) -> Option<Likelihood> {
        Some(Likelihood::Exact)
    }

    fn total_probability(&self, class: Option<u32>) -> Result<f64> {
        total_probability(&self.net, class, &self.device)
    }

    /// −log p of the images' highest bits; grey images of a model of two levels are cut at a half.
    fn log_likelihood(
        &self,
        images: &ImageBatch,
        conditions: &Conditions,
        _draws: usize,
        _seed: u64,
    ) -> Result<Vec<f64>> {
        let levels = self.net.levels();
        let [channels, height, width] = self.spec.shape();
        let size = channels * height * width;
        let mut values: Vec<f32> = self
            .pixels(images)?
            .iter()
            .map(|pixel| f32::from(quantise(*pixel, levels)))
            .collect();
        let count = values.len() / size;
        let mut labels = match self.net.conditional() {
            true => Some(conditions.labels(count, &self.spec.classes)?.to_vec()),
            false => None,
        };
        // Blocks of one size, so that an image's number does not depend on the others.
        let padded = count.div_ceil(BLOCK) * BLOCK;
        values.resize(padded * size, 0.0);
        if let Some(labels) = &mut labels {
            labels.resize(padded, 0);
        }
        let mut log_p = Vec::with_capacity(padded);
        for (block, values) in values.chunks_exact(BLOCK * size).enumerate() {
            let x = Tensor::<1>::from_floats(values, &self.device)
                .reshape([BLOCK, channels, height, width]);
            let rows = block * BLOCK..(block + 1) * BLOCK;
            let labels = labels.as_ref().map(|labels| &labels[rows]);
            let nats = host(self.net.negative_log_likelihood(x, labels));
            log_p.extend(nats.iter().map(|nats| -f64::from(*nats)));
        }
        log_p.truncate(count);
        match log_p.iter().all(|log_p| log_p.is_finite()) {
            true => Ok(log_p),
            false => Err(not_finite()),
        }
    }
}
