//! The networks of a game in use: samples from the generator, features from the discriminator.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::{Generates, Judges, iterate, one_hot, spectra};
use crate::Result;
use crate::nn::{Mode, load};
use crate::optim::part;
use crate::random::latents;
use crate::registry::{DataSpec, Info};
use crate::run::TensorMap;
use crate::task::{
    Answer, Pipeline, Progress, Request, SampleOptions, Task, in_blocks, of_latents, of_shape,
    rows_in_blocks, unsupported,
};

/// What is left to do without a discriminator.
const WITHOUT_DISCRIMINATOR: &[Task] = &[Task::Generate, Task::Interpolate];

/// Power iterations that find the largest singular values anew for use, since checkpoints keep the
/// vectors of training with the optimizer.
const ITERATIONS: usize = 30;

/// A generator and, where there is one, its discriminator, without gradients.
pub struct GamePipeline<G: Generates, D: Judges> {
    info: &'static Info,
    generator: G,
    discriminator: Option<D>,
    spectral_norm: bool,
    spec: DataSpec,
    device: Device,
}

impl<G: Generates, D: Judges> GamePipeline<G, D> {
    /// Networks in use.
    pub fn new(
        info: &'static Info,
        generator: G,
        discriminator: Option<D>,
        spectral_norm: bool,
        spec: &DataSpec,
        device: &Device,
    ) -> Self {
        Self {
            info,
            generator,
            discriminator,
            spectral_norm,
            spec: spec.clone(),
            device: device.clone(),
        }
    }

    /// Blank networks filled with the weights named `generator.` and, where there are some,
    /// `discriminator.`.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] when the weights do not fit.
    pub fn load(
        info: &'static Info,
        generator: G,
        discriminator: D,
        spectral_norm: bool,
        spec: &DataSpec,
        weights: &TensorMap,
        device: &Device,
    ) -> Result<Box<dyn Pipeline>> {
        let origin = std::path::Path::new("model.safetensors");
        let generator = load(generator, &part(weights, "generator."), origin)?;
        let own = part(weights, "discriminator.");
        let discriminator = match own.is_empty() {
            true => None,
            false => Some(load(discriminator, &own, origin)?.valid()),
        };
        let generator = generator.valid();
        Ok(Box::new(Self::new(
            info,
            generator,
            discriminator,
            spectral_norm,
            spec,
            device,
        )))
    }

    /// Refuses options that mean nothing here.
    fn checked(&self, options: &SampleOptions) -> Result<()> {
        let known: &[&str] = match self.generator.classes() {
            0 => &["truncation"],
            _ => &["class", "truncation"],
        };
        options.only(self.info.id, known)
    }

    /// The class of each of the samples, for a generator that is told classes.
    fn labels(&self, numbers: &[u64], options: &SampleOptions) -> Result<Option<Tensor<2>>> {
        let count = self.generator.classes();
        if count == 0 {
            return Ok(None);
        }
        let labels = options.classes(numbers, &self.spec.classes)?;
        Ok(labels.map(|labels| one_hot(&labels, count, &self.device)))
    }

    /// Latents of the samples `[n, latent]`, before truncation.
    fn z(&self, numbers: &[u64], seed: u64) -> Tensor<2> {
        let latent = self.generator.latent();
        let z = latents(seed, numbers, latent);
        Tensor::<1>::from_floats(&z[..], &self.device).reshape([numbers.len(), latent])
    }

    /// Images of latents as they were drawn.
    fn images(
        &self,
        z: Tensor<2>,
        classes: Option<Tensor<2>>,
        options: &SampleOptions,
    ) -> Tensor<4> {
        let z = match options.truncation {
            Some(psi) => z.mul_scalar(psi),
            None => z,
        };
        self.generator.images(z, classes, Mode::Use)
    }

    /// Images of rows of latents, each with the class in its row.
    fn in_rows(
        &self,
        z: Tensor<2>,
        classes: Option<Tensor<2>>,
        options: &SampleOptions,
    ) -> Result<Tensor<4>> {
        let (latent, count) = (self.generator.latent(), self.generator.classes());
        let rows = match classes {
            Some(classes) => Tensor::cat(vec![z, classes], 1), // [n, latent + classes]
            None => z,
        };
        rows_in_blocks(rows, |rows: Tensor<2>| {
            let z = rows.clone().narrow(1, 0, latent);
            let classes = (count > 0).then(|| rows.narrow(1, latent, count));
            Ok(self.images(z, classes, options))
        })
    }

    fn encode(&self, images: &ImageBatch) -> Result<Answer> {
        let Some(discriminator) = &self.discriminator else {
            return Err(unsupported(self.info.id, Task::Encode, self.tasks()));
        };
        let x = of_shape(images, self.spec.shape(), Range::Signed, &self.device)?;
        let mut found = vec![];
        if self.spectral_norm {
            found = spectra(discriminator, 0, &self.device);
            for _ in 0..ITERATIONS {
                iterate(discriminator, &mut found);
            }
        }
        let codes = rows_in_blocks(x, |x: Tensor<4>| Ok(discriminator.features(x, &found)))?;
        let size = codes.dims()[1];
        let codes = crate::nn::host(codes);
        Ok(Answer::Codes(
            codes.chunks(size).map(<[f32]>::to_vec).collect(),
        ))
    }
}

fn unit(x: Tensor<4>) -> Result<ImageBatch> {
    Ok(ImageBatch::new(x, Range::Signed)?.to_range(Range::Unit))
}

impl<G: Generates, D: Judges> Pipeline for GamePipeline<G, D> {
    fn tasks(&self) -> &'static [Task] {
        match self.discriminator {
            Some(_) => self.info.tasks,
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
                    let classes = self.labels(block, options)?;
                    let x = self.images(self.z(block, options.seed), classes, options);
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
                let path = crate::nn::slerp(self.z(&[*from, *to], options.seed), *frames);
                // Every frame has the class of the first sample.
                let classes = self.labels(&vec![*from; *frames], options)?;
                Ok(Answer::Images(unit(self.in_rows(path, classes, options)?)?))
            }
            Request::Encode { images, .. } => self.encode(images),
            _ => Err(unsupported(self.info.id, request.task(), self.tasks())),
        }
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
        let classes = self.labels(numbers, options)?;
        unit(self.in_rows(z, classes, options)?)
    }

    fn image_of(
        &self,
        latents: Tensor<2>,
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Tensor<4>> {
        self.checked(options)?;
        let classes = self.labels(numbers, options)?;
        let x = self.in_rows(latents, classes, options)?; // signed
        Ok(x.add_scalar(1.0).mul_scalar(0.5))
    }
}
