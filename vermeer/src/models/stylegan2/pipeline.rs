//! The networks in use: samples and their styles from the generator, features from the
//! discriminator.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::StyleGan2;
use super::discriminator::StyleDiscriminator;
use super::synthesis::StyleGenerator;
use crate::nn::host;
use crate::random::{Purpose, latents, stream};
use crate::registry::{DataSpec, Family};
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_latents, of_shape,
    rows_in_blocks, unsupported,
};
use crate::train::game::one_hot;
use crate::{Error, Result};

/// What is left to do without a discriminator.
const WITHOUT_DISCRIMINATOR: &[Task] = &[Task::Generate, Task::Interpolate];

/// The noise of the samples with these numbers, `[n, noise_size]`.
pub(super) fn sample_noise(
    generator: &StyleGenerator,
    seed: u64,
    numbers: &[u64],
    device: &Device,
) -> Tensor<2> {
    let size = generator.synthesis.noise_size();
    let mut noise = vec![0.0; numbers.len() * size];
    for (number, values) in numbers.iter().zip(noise.chunks_exact_mut(size)) {
        stream(seed, Purpose::Layer, 0, *number).fill_normal(values);
    }
    Tensor::<1>::from_floats(&noise[..], device).reshape([numbers.len(), size])
}

/// A generator and, where there is one, its discriminator, without gradients.
pub struct StyleGan2Pipeline {
    generator: StyleGenerator,
    discriminator: Option<StyleDiscriminator>,
    spec: DataSpec,
    device: Device,
}

impl StyleGan2Pipeline {
    /// Networks in use.
    pub fn new(
        generator: StyleGenerator,
        discriminator: Option<StyleDiscriminator>,
        spec: &DataSpec,
        device: &Device,
    ) -> Self {
        Self {
            generator,
            discriminator,
            spec: spec.clone(),
            device: device.clone(),
        }
    }

    /// Refuses options that mean nothing here.
    fn checked(&self, options: &SampleOptions) -> Result<()> {
        let known: &[&str] = match self.generator.classes() {
            0 => &["truncation"],
            _ => &["class", "truncation"],
        };
        options.only(StyleGan2::INFO.id, known)?;
        match options.truncation {
            Some(psi) if !(0.0..=1.0).contains(&psi) => Err(Error::settings(
                format!("a truncation of {psi}"),
                "it lies between 0 (every sample the mean one) and 1 (no truncation)",
            )),
            _ => Ok(()),
        }
    }

    /// The classes of the samples as one-hot rows, for a network that is told classes.
    fn classes(&self, numbers: &[u64], options: &SampleOptions) -> Result<Option<Tensor<2>>> {
        let count = self.generator.classes();
        if count == 0 {
            return Ok(None);
        }
        let labels = options.classes(numbers, &self.spec.classes)?;
        Ok(labels.map(|labels| one_hot(&labels, count, &self.device)))
    }

    /// Truncated styles of latents and classes.
    fn mapped(
        &self,
        z: Tensor<2>,
        classes: Option<Tensor<2>>,
        options: &SampleOptions,
    ) -> Tensor<2> {
        let mapping = &self.generator.mapping;
        let styles = mapping.forward(z, classes);
        match options.truncation {
            Some(psi) => mapping.truncated(styles, psi),
            None => styles,
        }
    }

    /// Truncated styles of the samples with these numbers, `[n, style]`.
    fn of_numbers(&self, numbers: &[u64], options: &SampleOptions) -> Result<Tensor<2>> {
        let latent = self.generator.latent();
        let z = latents(options.seed, numbers, latent);
        let z = Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), latent]);
        Ok(self.mapped(z, self.classes(numbers, options)?, options))
    }

    /// Signed images of styles and the noise of the samples with these numbers.
    fn images(&self, styles: Tensor<2>, numbers: &[u64], seed: u64) -> Tensor<4> {
        let noise = sample_noise(&self.generator, seed, numbers, &self.device);
        self.signed(styles, noise)
    }

    fn signed(&self, styles: Tensor<2>, noise: Tensor<2>) -> Tensor<4> {
        self.generator.images(styles, noise).clamp(-1.0, 1.0)
    }

    /// Truncated styles `[n, style]` of rows of latents, with the class of the samples of these
    /// numbers.
    fn mapped_rows(
        &self,
        z: Tensor<2>,
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Tensor<2>> {
        let latent = self.generator.latent();
        let count = self.generator.classes();
        let rows = match self.classes(numbers, options)? {
            Some(classes) => Tensor::cat(vec![z, classes], 1), // [n, latent + classes]
            None => z,
        };
        rows_in_blocks(rows, |rows: Tensor<2>| {
            let z = rows.clone().narrow(1, 0, latent);
            let classes = (count > 0).then(|| rows.narrow(1, latent, count));
            Ok(self.mapped(z, classes, options))
        })
    }

    /// Signed images of rows of styles, each with the noise of the sample of its number; not cut.
    fn free_rows(&self, styles: Tensor<2>, numbers: &[u64], seed: u64) -> Result<Tensor<4>> {
        let style = self.generator.style();
        let noise = sample_noise(&self.generator, seed, numbers, &styles.device());
        let size = noise.dims()[1];
        let rows = Tensor::cat(vec![styles, noise], 1);
        rows_in_blocks(rows, |rows: Tensor<2>| {
            let styles = rows.clone().narrow(1, 0, style);
            Ok(self.generator.images(styles, rows.narrow(1, style, size)))
        })
    }

    /// Images of rows of styles, each with the noise of the sample of its number.
    fn in_rows(&self, styles: Tensor<2>, numbers: &[u64], seed: u64) -> Result<ImageBatch> {
        unit(self.free_rows(styles, numbers, seed)?.clamp(-1.0, 1.0))
    }

    fn encode(&self, images: &ImageBatch) -> Result<Answer> {
        let Some(discriminator) = &self.discriminator else {
            return Err(unsupported(StyleGan2::INFO.id, Task::Encode, self.tasks()));
        };
        let x = of_shape(images, self.spec.shape(), Range::Signed, &self.device)?;
        let codes = rows_in_blocks(x, |x: Tensor<4>| Ok(discriminator.features(x)))?;
        let size = codes.dims()[1];
        let codes = host(codes);
        Ok(Answer::Codes(
            codes.chunks(size).map(<[f32]>::to_vec).collect(),
        ))
    }

    /// `frames` images on the straight line between the styles of two samples, all with the class
    /// and the noise of the first.
    fn interpolate(
        &self,
        [from, to]: [u64; 2],
        frames: usize,
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        let latent = self.generator.latent();
        let z = latents(options.seed, &[from, to], latent);
        let z = of_latents(&z, [2, latent], &self.device)?;
        let ends = self.mapped_rows(z, &[from, from], options)?;
        let style = self.generator.style();
        let first = ends.clone().narrow(0, 0, 1);
        let way = ends.narrow(0, 1, 1).sub(first.clone());
        let last = frames.saturating_sub(1).max(1) as f32;
        let shares: Vec<f32> = (0..frames).map(|frame| frame as f32 / last).collect();
        let shares = Tensor::<1>::from_floats(&shares[..], &self.device).reshape([frames, 1]);
        let path = shares.mul(way).add(first); // [frames, style]
        let path = path.reshape([frames, style]);
        self.in_rows(path, &vec![from; frames], options.seed)
    }
}

fn unit(x: Tensor<4>) -> Result<ImageBatch> {
    Ok(ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit))
}

impl Pipeline for StyleGan2Pipeline {
    fn tasks(&self) -> &'static [Task] {
        match self.discriminator {
            Some(_) => StyleGan2::INFO.tasks,
            None => WITHOUT_DISCRIMINATOR,
        }
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        match request {
            Request::Generate { numbers, options } => {
                self.checked(options)?;
                let mut done = 0;
                let x = in_blocks(numbers, |block| {
                    done += block.len();
                    let styles = self.of_numbers(block, options)?;
                    let x = self.images(styles, block, options.seed);
                    progress(done, numbers.len().max(done));
                    Ok(x)
                })?;
                Ok(Answer::Images(unit(x)?))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                self.checked(options)?;
                let images = self.interpolate([*from, *to], *frames, options)?;
                Ok(Answer::Images(images))
            }
            Request::Encode { images, .. } => self.encode(images),
            _ => Err(unsupported(
                StyleGan2::INFO.id,
                request.task(),
                self.tasks(),
            )),
        }
    }

    fn style_dims(&self) -> Option<usize> {
        Some(self.generator.style())
    }

    fn styles(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Vec<f32>> {
        self.checked(options)?;
        let size = [numbers.len(), self.generator.latent()];
        let z = of_latents(latents, size, &self.device)?;
        Ok(host(self.mapped_rows(z, numbers, options)?))
    }

    fn synthesise(&self, styles: &[f32], numbers: &[u64], seed: u64) -> Result<ImageBatch> {
        let size = [numbers.len(), self.generator.style()];
        let styles = of_latents(styles, size, &self.device)?;
        self.in_rows(styles, numbers, seed)
    }

    fn styled_image_of(&self, styles: Tensor<2>, numbers: &[u64], seed: u64) -> Result<Tensor<4>> {
        let x = self.free_rows(styles, numbers, seed)?; // signed
        Ok(x.add_scalar(1.0).mul_scalar(0.5))
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.generator.latent())
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        self.checked(options)?;
        let size = [numbers.len(), self.generator.latent()];
        let z = of_latents(latents, size, &self.device)?;
        let styles = self.mapped_rows(z, numbers, options)?;
        self.in_rows(styles, numbers, options.seed)
    }
}
