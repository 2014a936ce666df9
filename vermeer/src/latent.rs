//! Control over what a model makes: directions in the space of its latents, the latents of given
//! images, and pictures of the space.
//!
//! [`Space`] is where this happens; [`directions`] finds and keeps what attributes and classes do
//! there, [`principal`] what varies most and [`sensitivity`] what changes images most,
//! [`projection`] finds the latent of an image for a generator without an encoder, [`traversal`]
//! and [`map`] make pictures.

pub mod directions;
pub mod map;
pub mod principal;
pub mod projection;
pub mod sensitivity;
pub mod traversal;

use burn::Tensor;
use vermeer_image::ImageBatch;

use crate::random;
use crate::registry::DataSpec;
use crate::task::{Answer, Conditions, Pipeline, Request, SampleOptions, Task};
use crate::{Error, Result};

/// Vectors that a model makes images of: its latents, which are standard normal where images are
/// samples.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    pipeline: &'a dyn Pipeline,
    size: usize,
}

impl<'a> Space<'a> {
    /// The space of the latents of a model.
    ///
    /// # Errors
    /// [`Error::Settings`] for a family whose images are made of no latents.
    pub fn of(pipeline: &'a dyn Pipeline) -> Result<Self> {
        match pipeline.latent_dims() {
            Some(size) if size > 0 => Ok(Self { pipeline, size }),
            _ => Err(Error::settings(
                "this family makes images of no latents, so there is nothing to move in",
                "choose a run of a family that does, such as vae, dcgan or diffusion",
            )),
        }
    }

    /// The name of the space, as files of directions give it.
    pub fn name(&self) -> &'static str {
        "z"
    }

    /// How many numbers a vector has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Channels, height and width of the images.
    pub fn shape(&self) -> [usize; 3] {
        self.pipeline.shape()
    }

    /// Whether the model's codes of images are vectors of this space. A family that encodes but
    /// does not reconstruct, such as a GAN, gives features, of which it makes no images.
    pub fn has_codes(&self) -> bool {
        let tasks = self.pipeline.tasks();
        tasks.contains(&Task::Encode) && tasks.contains(&Task::Reconstruct)
    }

    /// The vectors of the samples with these numbers, `[n, size]`.
    pub fn draw(&self, numbers: &[u64], seed: u64) -> Vec<f32> {
        random::latents(seed, numbers, self.size)
    }

    /// The codes of images, `[n, size]`.
    ///
    /// # Errors
    /// [`Error::Settings`] where codes are no vectors of this space; those of the model.
    pub fn codes(&self, images: &ImageBatch, conditions: &Conditions) -> Result<Vec<f32>> {
        if !self.has_codes() {
            return Err(Error::settings(
                "this model does not encode images into what it makes them of",
                "project the image instead, or choose a run of a family with an encoder, such as vae",
            ));
        }
        let request = Request::Encode { images, conditions };
        let Answer::Codes(rows) = self.pipeline.answer(&request, &mut |_, _| ())? else {
            return Err(Error::Failed("the model answered with images".into()));
        };
        match rows.iter().all(|row| row.len() == self.size) {
            true => Ok(rows.concat()),
            false => Err(Error::Failed(format!(
                "codes have {} numbers, latents {}",
                rows.first().map_or(0, Vec::len),
                self.size
            ))),
        }
    }

    /// The images of vectors `[n, size]`, all with the class that the sample `number` has where
    /// there are classes, by the first of `choices` that the model accepts; see [`choices`].
    ///
    /// # Errors
    /// Those of [`Pipeline::decode`] with the last of the choices.
    pub fn images(
        &self,
        vectors: &[f32],
        number: u64,
        choices: &[SampleOptions],
    ) -> Result<ImageBatch> {
        let numbers = vec![number; vectors.len() / self.size];
        first_accepted(choices, |options| {
            self.pipeline.decode(vectors, &numbers, options)
        })
    }

    /// As [`Space::images`], of a tensor and with its gradients, unit range `[n, c, h, w]`.
    ///
    /// # Errors
    /// Those of [`Pipeline::image_of`] with the last of the choices.
    pub fn tracked_images(
        &self,
        vectors: Tensor<2>,
        number: u64,
        choices: &[SampleOptions],
    ) -> Result<Tensor<4>> {
        let numbers = vec![number; vectors.dims()[0]];
        first_accepted(choices, |options| {
            self.pipeline.image_of(vectors.clone(), &numbers, options)
        })
    }
}

/// How an image is to be made anew of its vector: as `options` say and, where they leave it open,
/// with its own class or its own attributes. A model that knows neither takes the last choice.
pub fn choices(
    options: &SampleOptions,
    conditions: &Conditions,
    row: usize,
    spec: &DataSpec,
) -> Vec<SampleOptions> {
    let mut choices = Vec::new();
    let label = conditions
        .labels
        .as_ref()
        .and_then(|labels| labels.get(row));
    if let Some(label) = label
        && options.class.is_none()
    {
        choices.push(SampleOptions {
            class: Some(*label),
            ..options.clone()
        });
    }
    let count = spec.attributes.len();
    let values = conditions.attributes.as_ref().and_then(|values| {
        let from = row * count;
        values.get(from..from + count)
    });
    if let Some(values) = values
        && count > 0
        && options.attributes.is_empty()
    {
        let named = spec.attributes.iter().cloned().zip(values.iter().copied());
        choices.push(SampleOptions {
            attributes: named.collect(),
            ..options.clone()
        });
    }
    choices.push(options.clone());
    choices
}

/// What `make` gives for the first choice whose settings are accepted.
fn first_accepted<T>(
    choices: &[SampleOptions],
    mut make: impl FnMut(&SampleOptions) -> Result<T>,
) -> Result<T> {
    let Some((last, others)) = choices.split_last() else {
        return make(&SampleOptions::default());
    };
    for options in others {
        match make(options) {
            // A model that knows no classes refuses one.
            Err(Error::Settings { .. }) => {}
            made => return made,
        }
    }
    make(last)
}

/// `at + strength · direction`, for each of the strengths: `[strengths, size]`.
pub fn moved(at: &[f32], direction: &[f32], strengths: &[f32]) -> Vec<f32> {
    let row = |strength: &f32| {
        let strength = *strength;
        at.iter().zip(direction).map(move |(x, d)| x + strength * d)
    };
    strengths.iter().flat_map(row).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::prelude::*;
    use burn::tensor::TensorData;
    use vermeer_image::Range;

    use super::*;
    use crate::task::{Progress, unsupported};

    /// Images of 1 × `pixels`: pixel i is ½ + (row i of the matrix) · z. It tells classes where
    /// `classes` says so: class k makes the images k tenths brighter.
    pub(crate) struct Linear {
        pub(crate) matrix: Vec<f32>,
        pub(crate) size: usize,
        pub(crate) classes: bool,
    }

    impl Linear {
        fn shift(&self, options: &SampleOptions) -> Result<f32> {
            let known: &[&str] = match self.classes {
                true => &["class"],
                false => &[],
            };
            options.only("linear", known)?;
            Ok(0.1 * options.class.unwrap_or(0) as f32)
        }
    }

    impl Pipeline for Linear {
        fn tasks(&self) -> &'static [Task] {
            &[Task::Encode]
        }

        fn shape(&self) -> [usize; 3] {
            [1, 1, self.matrix.len() / self.size]
        }

        fn answer(&self, request: &Request, _: Progress) -> Result<Answer> {
            Err(unsupported("linear", request.task(), self.tasks()))
        }

        fn latent_dims(&self) -> Option<usize> {
            Some(self.size)
        }

        fn decode(
            &self,
            latents: &[f32],
            numbers: &[u64],
            options: &SampleOptions,
        ) -> Result<ImageBatch> {
            let shape = [latents.len() / self.size, self.size];
            let data = TensorData::new(latents.to_vec(), shape);
            let z = Tensor::<2>::from_data(data, &Device::flex());
            let x = self.image_of(z, numbers, options)?;
            Ok(ImageBatch::new(x.clamp(0.0, 1.0), Range::Unit)?)
        }

        fn image_of(
            &self,
            latents: Tensor<2>,
            _: &[u64],
            options: &SampleOptions,
        ) -> Result<Tensor<4>> {
            let shift = 0.5 + self.shift(options)?;
            let [n, size] = latents.dims();
            let pixels = self.matrix.len() / size;
            let data = TensorData::new(self.matrix.clone(), [pixels, size]);
            let matrix = Tensor::<2>::from_data(data, &Device::flex());
            let x = latents.matmul(matrix.transpose()).add_scalar(shift);
            Ok(x.reshape([n, 1, 1, pixels]))
        }
    }

    fn spec(attributes: &[&str]) -> DataSpec {
        DataSpec {
            channels: 1,
            height: 1,
            width: 2,
            classes: ["a", "b"].map(str::to_owned).to_vec(),
            attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn moves_are_straight() {
        let moved = moved(&[1.0, 2.0], &[0.5, -1.0], &[-2.0, 0.0, 3.0]);
        assert_eq!(moved, [0.0, 4.0, 1.0, 2.0, 2.5, -1.0]);
    }

    #[test]
    fn what_is_known_of_an_image_is_tried_before_what_is_not() {
        let conditions = Conditions {
            labels: Some(vec![1, 0]),
            attributes: Some(vec![0.5, 0.25]),
        };
        let options = SampleOptions::default();
        let found = choices(&options, &conditions, 1, &spec(&["size"]));
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].class, Some(0));
        assert_eq!(found[1].attributes, [("size".to_owned(), 0.25)]);
        assert_eq!(found[2], options);
        let asked = SampleOptions {
            class: Some(1),
            ..SampleOptions::default()
        };
        let none = Conditions::default();
        assert_eq!(choices(&asked, &none, 0, &spec(&[])), [asked]);
    }

    #[test]
    fn a_model_without_classes_leaves_them_out() {
        let first = |classes: bool| -> f32 {
            let model = Linear {
                matrix: vec![0.1, 0.0],
                size: 1,
                classes,
            };
            let space = Space::of(&model).unwrap();
            assert_eq!((space.size(), space.shape()), (1, [1, 1, 2]));
            assert!(!space.has_codes());
            let conditions = Conditions {
                labels: Some(vec![1]),
                attributes: None,
            };
            let choices = choices(&SampleOptions::default(), &conditions, 0, &spec(&[]));
            let images = space.images(&[1.0], 0, &choices).unwrap();
            crate::nn::host(images.into_tensor())[0]
        };
        assert!((first(false) - 0.6).abs() < 1e-6);
        assert!((first(true) - 0.7).abs() < 1e-6);
    }
}
