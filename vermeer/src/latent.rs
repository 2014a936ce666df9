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

/// Styles of which [`Space::usual`] takes mean and deviations.
const STYLES: u64 = 1000;

/// What the vectors of a space are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Latents, which are standard normal where images are samples.
    Latents,
    /// Styles, to which a network maps latents first: StyleGAN's w. Their distribution is known by
    /// drawing from it.
    Styles,
    /// Codes of images in a family that draws none, so there are no samples.
    Codes,
}

/// Vectors that a model makes images of.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    pipeline: &'a dyn Pipeline,
    kind: Kind,
    size: usize,
}

/// How the numbers of a space are distributed, each by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Usual {
    /// The mean of each number.
    pub mean: Vec<f32>,
    /// The standard deviation of each number.
    pub deviation: Vec<f32>,
}

impl Usual {
    /// For each of `values` what number `place` of a vector is so many deviations from its mean.
    pub fn values(&self, place: usize, values: &[f32]) -> Vec<f32> {
        let (mean, deviation) = (self.mean[place], self.deviation[place]);
        values.iter().map(|v| mean + v * deviation).collect()
    }
}

impl<'a> Space<'a> {
    /// The space to move in of a model: its styles where it has them, else its latents, else its
    /// codes.
    ///
    /// # Errors
    /// [`Error::Settings`] for a family whose images are made of none of these.
    pub fn of(pipeline: &'a dyn Pipeline) -> Result<Self> {
        let sizes = [
            (Kind::Styles, pipeline.style_dims()),
            (Kind::Latents, pipeline.latent_dims()),
            (Kind::Codes, pipeline.code_dims()),
        ];
        let known = |(kind, size): (Kind, Option<usize>)| Some((kind, size.filter(|n| *n > 0)?));
        match sizes.into_iter().find_map(known) {
            Some((kind, size)) => Ok(Self {
                pipeline,
                kind,
                size,
            }),
            None => Err(Error::settings(
                "this family makes images of no latents, so there is nothing to move in",
                "choose a run of a family that does, such as vae, dcgan or diffusion",
            )),
        }
    }

    /// What its vectors are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of the space, as files of directions give it.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Latents => "z",
            Kind::Styles => "w",
            Kind::Codes => "code",
        }
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
        self.kind != Kind::Styles
            && tasks.contains(&Task::Encode)
            && tasks.contains(&Task::Reconstruct)
    }

    /// The vectors of the samples with these numbers, `[n, size]`: latents by the seed of
    /// `choices`, styles by the first of them that the model accepts; see [`choices`].
    ///
    /// # Errors
    /// [`Error::Settings`] in a space without samples; those of [`Pipeline::styles`].
    pub fn draw(&self, numbers: &[u64], choices: &[SampleOptions]) -> Result<Vec<f32>> {
        match self.kind {
            Kind::Latents => Ok(random::latents(seed(choices), numbers, self.size)),
            Kind::Styles => {
                let size = self.pipeline.latent_dims().unwrap_or_default();
                first_accepted(choices, |options| {
                    let latents = random::latents(options.seed, numbers, size);
                    self.pipeline.styles(&latents, numbers, options)
                })
            }
            Kind::Codes => Err(Error::settings(
                "this family has codes of images and no samples",
                "name an image to begin with, or choose a run of a family with samples, such as vae",
            )),
        }
    }

    /// How the numbers are distributed: latents are standard normal, and of styles a thousand are
    /// drawn. Codes have no distribution of their own; for them it is 0 and 1, so that their numbers
    /// are meant as they are.
    ///
    /// # Errors
    /// Those of [`Space::draw`].
    pub fn usual(&self, choices: &[SampleOptions]) -> Result<Usual> {
        if self.kind != Kind::Styles {
            return Ok(Usual {
                mean: vec![0.0; self.size],
                deviation: vec![1.0; self.size],
            });
        }
        let numbers: Vec<u64> = (0..STYLES).collect();
        let styles = self.draw(&numbers, choices)?;
        let mean = principal::mean(&styles, self.size);
        let variances = traversal::variances(&styles, self.size);
        Ok(Usual {
            mean: mean.into_iter().map(|x| x as f32).collect(),
            deviation: variances.into_iter().map(|v| v.sqrt() as f32).collect(),
        })
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

    /// The images of vectors `[n, size]`, by the first of `choices` that the model accepts; see
    /// [`choices`]. Where there are classes all have that of the sample `number`; styles hold
    /// their class, and have the noise of that sample.
    ///
    /// # Errors
    /// Those of [`Pipeline::decode`] with the last of the choices, or of [`Pipeline::synthesise`].
    pub fn images(
        &self,
        vectors: &[f32],
        number: u64,
        choices: &[SampleOptions],
    ) -> Result<ImageBatch> {
        let numbers = vec![number; vectors.len() / self.size];
        if self.kind == Kind::Styles {
            return self.pipeline.synthesise(vectors, &numbers, seed(choices));
        }
        first_accepted(choices, |options| {
            self.pipeline.decode(vectors, &numbers, options)
        })
    }

    /// As [`Space::images`], of a tensor and with its gradients, `[n, c, h, w]` in unit range; those
    /// of styles are not cut to it.
    ///
    /// # Errors
    /// Those of [`Pipeline::image_of`] with the last of the choices, or of
    /// [`Pipeline::styled_image_of`].
    pub fn tracked_images(
        &self,
        vectors: Tensor<2>,
        number: u64,
        choices: &[SampleOptions],
    ) -> Result<Tensor<4>> {
        let numbers = vec![number; vectors.dims()[0]];
        if self.kind == Kind::Styles {
            return self
                .pipeline
                .styled_image_of(vectors, &numbers, seed(choices));
        }
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

/// The seed of choices, which is that of the options they were made of.
fn seed(choices: &[SampleOptions]) -> u64 {
    choices.last().map_or(0, |options| options.seed)
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
pub(crate) mod tests;
