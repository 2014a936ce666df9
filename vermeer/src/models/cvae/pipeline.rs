//! A trained conditional VAE in use.

use burn::prelude::*;
use vermeer_image::{ImageBatch, Range};

use super::{Condition, Cvae, CvaeNet};
use crate::models::vae::{Given, codes, sampled, truncated};
use crate::nn::{host, slerp};
use crate::random::{Purpose, stream};
use crate::registry::{DataSpec, Family};
use crate::task::{
    self, Answer, Conditions, Pipeline, Progress, Request, SampleOptions, Task, in_blocks,
    of_latents, of_shape, rows_in_blocks, unsupported,
};
use crate::{Error, Result};

/// A trained conditional VAE with what it is used with.
pub(super) struct CvaePipeline {
    pub(super) net: CvaeNet,
    pub(super) spec: DataSpec,
    pub(super) device: Device,
}

impl CvaePipeline {
    /// Refuses options that this model does not know.
    fn only_known(&self, options: &SampleOptions) -> Result<()> {
        let known: &[&str] = match self.net.condition() {
            Condition::Class => &["truncation", "class"],
            Condition::Attributes => &["truncation", "attribute"],
            Condition::Top | Condition::Left | Condition::Quarter => &["truncation"],
        };
        options.only(Cvae::INFO.id, known)
    }

    fn checked(&self, images: &ImageBatch) -> Result<Tensor<4>> {
        of_shape(images, self.spec.shape(), Range::Unit, &self.device)
    }

    /// What the samples `numbers` are told: as asked for, the rest drawn by number.
    fn given_for(&self, numbers: &[u64], options: &SampleOptions) -> Result<Given> {
        match self.net.condition() {
            Condition::Class => {
                let classes = options.classes(numbers, &self.spec.classes)?;
                Ok(self
                    .net
                    .given_classes(&classes.unwrap_or_default(), &self.device))
            }
            Condition::Attributes => {
                let asked = self.asked(options)?;
                let count = self.spec.attributes.len();
                let mut values = vec![0.0; numbers.len() * count];
                for (number, row) in numbers.iter().zip(values.chunks_exact_mut(count.max(1))) {
                    stream(options.seed, Purpose::Attribute, 0, *number).fill_normal(row);
                    for (place, value) in &asked {
                        row[*place] = *value;
                    }
                }
                Ok(self.net.given_attributes(&values, &self.device))
            }
            Condition::Top | Condition::Left | Condition::Quarter => {
                Err(unsupported(Cvae::INFO.id, Task::Generate, self.tasks()))
            }
        }
    }

    /// The places and standardised values of the attributes asked for.
    fn asked(&self, options: &SampleOptions) -> Result<Vec<(usize, f32)>> {
        let (mean, spread) = self.net.attribute_scale();
        let mut asked = Vec::with_capacity(options.attributes.len());
        for (name, value) in &options.attributes {
            let Some(place) = self.spec.attributes.iter().position(|own| own == name) else {
                return Err(Error::settings(
                    format!("there is no attribute {name}"),
                    format!("attributes are {}", self.spec.attributes.join(", ")),
                ));
            };
            asked.push((place, (value - mean[place]) / spread[place]));
        }
        Ok(asked)
    }

    /// The mean codes of images under their conditions, `[n, latent]`.
    fn encoded(&self, x: Tensor<4>, given: &Given) -> Result<Tensor<2>> {
        let [n, channels, height, width] = x.dims();
        let pixels = channels * height * width;
        let size = given.condition.dims()[1];
        let both = Tensor::cat(vec![x.reshape([n, pixels]), given.condition.clone()], 1);
        rows_in_blocks(both, |rows| {
            let count = rows.dims()[0];
            let x = rows.clone().narrow(1, 0, pixels);
            let told = given.with(rows.narrow(1, pixels, size));
            let x = x.reshape([count, channels, height, width]);
            Ok(self.net.encode(x, &told).0)
        })
    }

    /// The images of codes under their conditions.
    fn decoded(&self, z: Tensor<2>, given: &Given) -> Result<Tensor<4>> {
        let [latent, size] = [z.dims()[1], given.condition.dims()[1]];
        let both = Tensor::cat(vec![z, given.condition.clone()], 1);
        rows_in_blocks(both, |rows| {
            let z = rows.clone().narrow(1, 0, latent);
            let told = given.with(rows.narrow(1, latent, size));
            Ok(self.net.expected(z, &told))
        })
    }

    /// Fails unless the pixels said to be known are those this model was trained to be told.
    fn check_mask(&self, known: &[bool], images: usize) -> Result<()> {
        let Some([rows, columns]) = self.net.condition().part(&self.spec) else {
            return Err(unsupported(Cvae::INFO.id, Task::Inpaint, self.tasks()));
        };
        let (height, width) = (self.spec.height, self.spec.width);
        let fits = known.iter().enumerate().all(|(at, known)| {
            let (y, x) = (at / width % height, at % width);
            *known == (y < rows && x < columns)
        });
        match fits && known.len() == images * height * width {
            true => Ok(()),
            false => Err(Error::settings(
                format!(
                    "this model completes images of which the {} is known",
                    self.net.condition().in_words()
                ),
                format!(
                    "the known pixels must be the first {columns} of each of the upper {rows} rows"
                ),
            )),
        }
    }
}

impl Pipeline for CvaePipeline {
    /// A model that is told a part of the image completes images, and makes none without one.
    fn tasks(&self) -> &'static [Task] {
        match self.net.condition() {
            Condition::Class | Condition::Attributes => Cvae::INFO.tasks,
            Condition::Top | Condition::Left | Condition::Quarter => {
                &[Task::Reconstruct, Task::Encode, Task::Inpaint]
            }
        }
    }

    fn shape(&self) -> [usize; 3] {
        self.spec.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        if !self.tasks().contains(&request.task()) {
            return Err(unsupported(Cvae::INFO.id, request.task(), self.tasks()));
        }
        let unit = |x: Tensor<4>| Ok(Answer::Images(ImageBatch::new(x, Range::Unit)?));
        let latent = self.net.latent();
        match request {
            Request::Generate { numbers, options } => {
                self.only_known(options)?;
                let mut done = 0;
                let x = in_blocks(numbers, |block| {
                    done += block.len();
                    let z = sampled(block, latent, options, &self.device);
                    let x = self.net.expected(z, &self.given_for(block, options)?);
                    progress(done, numbers.len().max(done));
                    Ok(x)
                })?;
                unit(x)
            }
            Request::Reconstruct { images, conditions } => {
                let x = self.checked(images)?;
                let given = self.net.given(&x, conditions)?;
                unit(self.decoded(self.encoded(x, &given)?, &given)?)
            }
            Request::Encode { images, conditions } => {
                let x = self.checked(images)?;
                let given = self.net.given(&x, conditions)?;
                Ok(Answer::Codes(codes(self.encoded(x, &given)?)))
            }
            Request::Interpolate {
                from,
                to,
                frames,
                options,
            } => {
                self.only_known(options)?;
                let numbers = [*from, *to];
                let ends = sampled(&numbers, latent, options, &self.device);
                let told = self.given_for(&numbers, options)?;
                let path = slerp(ends, *frames);
                let told = told.with(straight(told.condition.clone(), *frames));
                unit(self.decoded(path, &told)?)
            }
            Request::Inpaint {
                images,
                known,
                numbers,
                options,
                ..
            } => {
                self.only_known(options)?;
                let x = self.checked(images)?;
                self.check_mask(known, x.dims()[0])?;
                if numbers.len() != x.dims()[0] {
                    return Err(Error::settings(
                        format!("{} images have {} numbers", x.dims()[0], numbers.len()),
                        "give one number for each image",
                    ));
                }
                let given = self.net.given(&x, &Conditions::default())?;
                let z = sampled(numbers, latent, options, &self.device);
                unit(self.decoded(z, &given)?)
            }
            _ => Err(unsupported(Cvae::INFO.id, request.task(), self.tasks())),
        }
    }

    fn latent_dims(&self) -> Option<usize> {
        match self.net.condition() {
            Condition::Class | Condition::Attributes => Some(self.net.latent()),
            Condition::Top | Condition::Left | Condition::Quarter => None,
        }
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        self.only_known(options)?;
        let given = self.given_for(numbers, options)?;
        let z = of_latents(latents, [numbers.len(), self.net.latent()], &self.device)?;
        let x = self.decoded(truncated(z, options), &given)?;
        Ok(ImageBatch::new(x, Range::Unit)?)
    }

    fn modelled(&self) -> usize {
        let [channels, height, width] = self.spec.shape();
        let [rows, columns] = self.net.condition().part(&self.spec).unwrap_or([0, 0]);
        channels * (height * width - rows * columns)
    }

    fn told(&self) -> bool {
        matches!(
            self.net.condition(),
            Condition::Class | Condition::Attributes
        )
    }

    fn image_of(
        &self,
        latents: Tensor<2>,
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Tensor<4>> {
        self.only_known(options)?;
        let given = self.given_for(numbers, options)?;
        self.decoded(truncated(latents, options), &given)
    }

    fn likelihood(&self) -> Option<task::Likelihood> {
        Some(task::Likelihood::ImportanceWeighted)
    }

    fn log_likelihood(
        &self,
        images: &ImageBatch,
        conditions: &Conditions,
        draws: usize,
        seed: u64,
    ) -> Result<Vec<f64>> {
        let x = self.checked(images)?;
        let given = self.net.given(&x, conditions)?;
        Ok(self.net.log_likelihood(x, &given, draws, seed))
    }
}

/// `frames` conditions on the straight line between the two rows of `ends`, both included.
fn straight(ends: Tensor<2>, frames: usize) -> Tensor<2> {
    let (size, device) = (ends.dims()[1], ends.device());
    let values = host(ends);
    let (from, to) = values.split_at(size);
    let mut out = Vec::with_capacity(frames * size);
    for frame in 0..frames {
        let t = frame as f32 / (frames.max(2) - 1) as f32;
        out.extend(from.iter().zip(to).map(|(a, b)| (1.0 - t) * a + t * b));
    }
    Tensor::<1>::from_floats(&out[..], &device).reshape([frames, size])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::cvae::CvaeConfig;
    use crate::nn::Init;

    fn pipeline(condition: Condition) -> CvaePipeline {
        let (config, spec) = Cvae::tiny();
        let spec = DataSpec {
            attributes: vec!["hue".into(), "size".into()],
            ..spec
        };
        let config = CvaeConfig {
            condition,
            ..config
        };
        let device = Device::flex();
        CvaePipeline {
            net: config.init(&spec, &Init::new(3, &device)),
            spec,
            device,
        }
    }

    fn generated(pipeline: &CvaePipeline, options: &SampleOptions) -> Vec<f32> {
        let request = Request::Generate {
            numbers: &[4, 9],
            options,
        };
        let answer = pipeline.answer(&request, &mut |_, _| ()).unwrap();
        host(answer.into_images().unwrap().into_tensor())
    }

    #[test]
    fn a_class_can_be_asked_for() {
        let pipeline = pipeline(Condition::Class);
        let of = |class: u32| SampleOptions {
            class: Some(class),
            ..SampleOptions::default()
        };
        assert_ne!(generated(&pipeline, &of(0)), generated(&pipeline, &of(1)));
        let request = Request::Generate {
            numbers: &[0],
            options: &of(2),
        };
        assert!(pipeline.answer(&request, &mut |_, _| ()).is_err());
        // Latents under the classes of their samples give the samples.
        let numbers = [4, 9];
        let options = SampleOptions::default();
        let latents = crate::random::latents(0, &numbers, 4);
        let decoded = pipeline.decode(&latents, &numbers, &options).unwrap();
        let decoded = host(decoded.into_tensor());
        let apart = |(a, b): (&f32, &f32)| (a - b).abs();
        let samples = generated(&pipeline, &options);
        assert!(decoded.iter().zip(&samples).map(apart).fold(0.0, f32::max) < 1e-5);
    }

    #[test]
    fn attributes_can_be_asked_for_by_name() {
        let pipeline = pipeline(Condition::Attributes);
        let of = |name: &str, value: f32| SampleOptions {
            attributes: vec![(name.into(), value)],
            ..SampleOptions::default()
        };
        let (small, large) = (of("size", -1.0), of("size", 1.0));
        assert_ne!(generated(&pipeline, &small), generated(&pipeline, &large));
        let request = Request::Generate {
            numbers: &[0],
            options: &of("weight", 1.0),
        };
        let error = pipeline.answer(&request, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("weight"), "{error}");
    }

    #[test]
    fn a_known_part_is_kept_and_no_other_pixel_is_looked_at() {
        let pipeline = pipeline(Condition::Quarter);
        assert_eq!(
            pipeline.tasks(),
            [Task::Reconstruct, Task::Encode, Task::Inpaint]
        );
        let known: Vec<bool> = (0..2 * 12 * 8)
            .map(|at| at / 8 % 12 < 6 && at % 8 < 4)
            .collect();
        let options = SampleOptions::default();
        let completed = |unknown: f32, known: &[bool]| {
            let pixels: Vec<f32> = known
                .iter()
                .map(|known| if *known { 0.25 } else { unknown })
                .collect();
            let x = Tensor::<1>::from_floats(&pixels[..], &Device::flex());
            let images = ImageBatch::new(x.reshape([2, 1, 12, 8]), Range::Unit).unwrap();
            let request = Request::Inpaint {
                images: &images,
                known,
                conditions: &Conditions::default(),
                numbers: &[1, 2],
                options: &options,
            };
            let answer = pipeline.answer(&request, &mut |_, _| ())?;
            Ok::<Vec<f32>, Error>(host(answer.into_images()?.into_tensor()))
        };
        let images = completed(0.0, &known).unwrap();
        assert_eq!(images, completed(1.0, &known).unwrap());
        for (pixel, known) in images.iter().zip(&known) {
            assert!(!known || *pixel == 0.25, "{pixel}");
        }
        assert_ne!(images[..96], images[96..], "two samples are the same");
        let other: Vec<bool> = known.iter().map(|known| !known).collect();
        assert_eq!(completed(0.0, &other).unwrap_err().exit_code(), 2);
    }
}
