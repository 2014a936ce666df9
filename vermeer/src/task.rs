//! What a trained model can be asked, and what it answers.

use std::collections::btree_map::{BTreeMap, Entry};

use serde::{Deserialize, Serialize};
use vermeer_image::ImageBatch;

use crate::data::HostBatch;
use crate::random::{Purpose, stream};
use crate::{Error, Result};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Images from nothing but a seed (and a class, where the model knows classes).
    Generate,
    /// The model's version of given images.
    Reconstruct,
    /// The codes of given images.
    Encode,
    /// Images on a path between two samples.
    Interpolate,
    /// Given images without what spoiled them.
    Denoise,
    /// Given images of which a part is known, with the rest made up.
    Inpaint,
}

/// Every task, in the order in which they are listed to users.
pub static TASKS: &[Task] = &[
    Task::Generate,
    Task::Reconstruct,
    Task::Encode,
    Task::Interpolate,
    Task::Denoise,
    Task::Inpaint,
];

impl Task {
    /// The name in kebab-case, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Task::Generate => "generate",
            Task::Reconstruct => "reconstruct",
            Task::Encode => "encode",
            Task::Interpolate => "interpolate",
            Task::Denoise => "denoise",
            Task::Inpaint => "inpaint",
        }
    }
}

/// Samples are computed in blocks of this many, aligned to the sample's number.
///
/// Matrix products take other paths for other row counts, so a sample computed alone would
/// differ in its last bits from the same sample computed among 64. In blocks of one size, and
/// with sample `i` always in row `i % BLOCK`, it cannot.
pub const BLOCK: usize = 8;

/// How samples are drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleOptions {
    /// Seed of the latents; sample `i` of a seed is always the same image.
    pub seed: u64,
    /// Class of every sample, where the model knows classes; `None` draws classes.
    pub class: Option<u32>,
    /// Values of named attributes of every sample, where the model knows attributes; those that
    /// are not named are drawn.
    pub attributes: Vec<(String, f32)>,
    /// Latents are drawn nearer to their mean by this factor, 0 to 1; `None` leaves them.
    pub truncation: Option<f32>,
    /// Divides the logits of an autoregressive model; `None` is 1.
    pub temperature: Option<f32>,
    /// Steps of an iterative sampler; `None` takes the model's setting.
    pub steps: Option<usize>,
    /// Name of the sampler; `None` takes the model's setting.
    pub sampler: Option<String>,
    /// Strength of classifier-free guidance; `None` takes the model's setting.
    pub guidance: Option<f32>,
    /// Share of fresh noise in DDIM steps, 0 to 1; `None` takes the model's setting.
    pub eta: Option<f32>,
}

impl SampleOptions {
    /// Refuses every option a family does not know: all but the seed and those in `known`, by
    /// their names on the command line.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the option; for a truncation that is not between 0 and 1 too.
    pub fn only(&self, family: &str, known: &[&str]) -> Result<()> {
        let given = [
            ("class", self.class.is_some()),
            ("attribute", !self.attributes.is_empty()),
            ("truncation", self.truncation.is_some()),
            ("temperature", self.temperature.is_some()),
            ("steps", self.steps.is_some()),
            ("sampler", self.sampler.is_some()),
            ("guidance", self.guidance.is_some()),
            ("eta", self.eta.is_some()),
        ];
        let unknown = given
            .iter()
            .find(|(option, given)| *given && !known.contains(option));
        match (unknown, self.truncation) {
            (Some((option, _)), _) => Err(Error::settings(
                format!("family {family} has no {option} to choose"),
                format!("leave {option} out"),
            )),
            (None, Some(psi)) if !(0.0..=1.0).contains(&psi) => Err(Error::settings(
                format!("a truncation of {psi}"),
                "it lies between 0 (every sample the mean one) and 1 (no truncation)",
            )),
            _ => Ok(()),
        }
    }

    /// The class of each of the samples `numbers`: the one asked for, or drawn from the sample's
    /// own stream; `None` for a model without classes.
    ///
    /// # Errors
    /// [`Error::Settings`] for a class the model does not know.
    pub fn classes(&self, numbers: &[u64], known: &[String]) -> Result<Option<Vec<u32>>> {
        let count = known.len() as u64;
        match self.class {
            None if count == 0 => Ok(None),
            None => {
                let draw = |number: &u64| {
                    stream(self.seed, Purpose::Class, 0, *number).below(count) as u32
                };
                Ok(Some(numbers.iter().map(draw).collect()))
            }
            Some(_) if count == 0 => Err(Error::settings(
                "the model does not know classes",
                "leave --class out, or train a conditional model on labelled images",
            )),
            Some(class) if u64::from(class) >= count => Err(Error::settings(
                format!("there is no class {class}"),
                format!("classes are {}", known.join(", ")),
            )),
            Some(class) => Ok(Some(vec![class; numbers.len()])),
        }
    }
}

/// What is known of given images besides their pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The class of each image.
    pub labels: Option<Vec<u32>>,
    /// The attributes of each image, `[n, attributes]`.
    pub attributes: Option<Vec<f32>>,
}

impl Conditions {
    /// What a batch knows of its images.
    pub fn of(batch: &HostBatch) -> Self {
        Self {
            labels: batch.labels.clone(),
            attributes: batch.attributes.clone(),
        }
    }

    /// Keeps what is known of the first `count` of `of` images.
    pub fn keep(&mut self, count: usize, of: usize) {
        if let Some(labels) = &mut self.labels {
            labels.truncate(count);
        }
        if let Some(attributes) = &mut self.attributes {
            attributes.truncate(attributes.len() / of.max(1) * count);
        }
    }

    /// The label of each of `count` images, which must be one of `classes`.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are no labels, another number of them, or one without a class.
    pub fn labels(&self, count: usize, classes: &[String]) -> Result<&[u32]> {
        let Some(labels) = &self.labels else {
            return Err(Error::settings(
                "this model needs the class of each image",
                "give labelled images, or name their class",
            ));
        };
        let wrong = |label: &&u32| **label as usize >= classes.len();
        match labels.iter().find(wrong) {
            _ if labels.len() != count => Err(Error::settings(
                format!("{count} images have {} labels", labels.len()),
                "give one label for each image",
            )),
            Some(label) => Err(Error::settings(
                format!("there is no class {label}"),
                format!("classes are {}", classes.join(", ")),
            )),
            None => Ok(labels),
        }
    }
}

/// Called with the work done and the whole work of a request, in units of its choice.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// A request to a [`Pipeline`].
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// The samples with these numbers.
    Generate {
        /// Numbers of the samples; a sample depends on its number and the options only.
        numbers: &'a [u64],
        /// How they are drawn.
        options: &'a SampleOptions,
    },
    /// Reconstructions of images in unit range and of the model's shape.
    Reconstruct {
        /// The images.
        images: &'a ImageBatch,
        /// What a conditional model is told of them.
        conditions: &'a Conditions,
    },
    /// Codes of images in unit range and of the model's shape.
    Encode {
        /// The images.
        images: &'a ImageBatch,
        /// What a conditional model is told of them.
        conditions: &'a Conditions,
    },
    /// `frames` images from sample `from` to sample `to`, both included.
    Interpolate {
        /// Number of the first sample.
        from: u64,
        /// Number of the last sample.
        to: u64,
        /// Number of images, at least 2.
        frames: usize,
        /// How the end points are drawn.
        options: &'a SampleOptions,
    },
    /// Clean versions of spoiled images in unit range and of the model's shape.
    Denoise(&'a ImageBatch),
    /// Images whose known pixels are kept and whose other pixels are drawn.
    Inpaint {
        /// The images, in unit range and of the model's shape; what stands in unknown pixels is
        /// not looked at.
        images: &'a ImageBatch,
        /// Which pixels are known, `[n, height, width]`.
        known: &'a [bool],
        /// What a conditional model is told of them, unless a class is asked for.
        conditions: &'a Conditions,
        /// The number of each sample; a completion depends on image, mask, number and options only.
        numbers: &'a [u64],
        /// How they are drawn.
        options: &'a SampleOptions,
    },
}

impl Request<'_> {
    /// The task the request belongs to.
    pub fn task(&self) -> Task {
        match self {
            Request::Generate { .. } => Task::Generate,
            Request::Reconstruct { .. } => Task::Reconstruct,
            Request::Encode { .. } => Task::Encode,
            Request::Interpolate { .. } => Task::Interpolate,
            Request::Denoise(_) => Task::Denoise,
            Request::Inpaint { .. } => Task::Inpaint,
        }
    }
}

/// An answer of a [`Pipeline`].
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one answer exists at a time, and is taken apart at once"
)]
pub enum Answer {
    /// Images in unit range.
    Images(ImageBatch),
    /// One vector of numbers for each image.
    Codes(Vec<Vec<f32>>),
}

impl Answer {
    /// The images of an answer that holds images.
    ///
    /// # Errors
    /// [`Error::Failed`] when the answer holds codes.
    pub fn into_images(self) -> Result<ImageBatch> {
        match self {
            Answer::Images(images) => Ok(images),
            Answer::Codes(_) => Err(Error::Failed(
                "the model answered with codes, not images".into(),
            )),
        }
    }
}

/// What a family knows of the probability of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// A lower bound by importance samples of a code, tighter with more of them.
    ImportanceWeighted,
    /// A lower bound by the variational chain of a diffusion; draws average its noise.
    Variational,
    /// The probability itself; there is nothing to draw.
    Exact,
}

impl Likelihood {
    /// The end of a protocol's name, such as `iwae5000`.
    pub fn protocol(self, draws: usize) -> String {
        match self {
            Self::ImportanceWeighted => format!("iwae{draws}"),
            Self::Variational => format!("vlb{draws}"),
            Self::Exact => "exact".to_owned(),
        }
    }
}

/// A model ready for use: weights, preprocessing and the tasks it answers.
pub trait Pipeline: Send {
    /// The tasks it answers.
    fn tasks(&self) -> &'static [Task];

    /// Shape of its images: channels, height, width.
    fn shape(&self) -> [usize; 3];

    /// Answers a request; an iterative sampler reports its steps to `progress`.
    ///
    /// # Errors
    /// [`Error::Settings`] for a task, class or sampler the model does not know,
    /// [`Error::Image`] for images of another shape.
    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer>;

    /// How many numbers the latent of a sample has; `None` for a family whose images are made of
    /// no latents.
    fn latent_dims(&self) -> Option<usize> {
        None
    }

    /// How many numbers a code of an image has, for a family that makes images of codes but has no
    /// prior to draw them from; `None` for others.
    fn code_dims(&self) -> Option<usize> {
        None
    }

    /// The images of `latents`, [`Pipeline::latent_dims`] numbers each, or of codes,
    /// [`Pipeline::code_dims`] numbers each. `numbers` are those of the samples whose class they
    /// have, where there are classes: with the latents of these samples the images are the samples.
    ///
    /// # Errors
    /// [`Error::Settings`] for a family without latents, for other numbers of values, and for a
    /// sampler that adds noise, since its images do not follow from their latents.
    fn decode(
        &self,
        _latents: &[f32],
        _numbers: &[u64],
        _options: &SampleOptions,
    ) -> Result<ImageBatch> {
        Err(Error::settings(
            "this family makes images of no latents",
            "choose a run of a family that does, such as vae, dcgan or diffusion",
        ))
    }

    /// As [`Pipeline::decode`], with the gradients that `latents` `[n, latent_dims]` have: images in
    /// unit range, `[n, c, h, w]`. Weights are constants.
    ///
    /// # Errors
    /// As [`Pipeline::decode`]; [`Error::Settings`] for a family that gives no gradients.
    fn image_of(
        &self,
        _latents: burn::Tensor<2>,
        _numbers: &[u64],
        _options: &SampleOptions,
    ) -> Result<burn::Tensor<4>> {
        Err(Error::settings(
            "this family gives no gradients of its images by their latents",
            "an image's latent can be searched for in vae, cvae and the GANs",
        ))
    }

    /// How many numbers a style has, for a family that maps latents to an intermediate space first
    /// (StyleGAN's w); `None` for others.
    fn style_dims(&self) -> Option<usize> {
        None
    }

    /// The styles of `latents`, [`Pipeline::latent_dims`] numbers each:
    /// [`Pipeline::style_dims`] numbers each, truncated as `options` say. `numbers` are those of the
    /// samples whose class they have, where there are classes.
    ///
    /// # Errors
    /// [`Error::Settings`] for a family without styles, for another number of values, and for
    /// options it does not know.
    fn styles(
        &self,
        _latents: &[f32],
        _numbers: &[u64],
        _options: &SampleOptions,
    ) -> Result<Vec<f32>> {
        Err(no_styles())
    }

    /// The images of styles, one for each number: with the styles of these samples and their seed
    /// the images are the samples.
    ///
    /// # Errors
    /// [`Error::Settings`] for a family without styles, and for another number of values.
    fn synthesise(&self, _styles: &[f32], _numbers: &[u64], _seed: u64) -> Result<ImageBatch> {
        Err(no_styles())
    }

    /// As [`Pipeline::synthesise`], with the gradients that `styles` `[n, style_dims]` have: images
    /// `[n, c, h, w]` in unit range but not cut to it, so that pixels beyond it have gradients too.
    /// Weights and the noise of the samples are constants.
    ///
    /// # Errors
    /// As [`Pipeline::synthesise`].
    fn styled_image_of(
        &self,
        _styles: burn::Tensor<2>,
        _numbers: &[u64],
        _seed: u64,
    ) -> Result<burn::Tensor<4>> {
        Err(no_styles())
    }

    /// Whether the model is told the class or attributes of an image while it encodes it, so that
    /// its codes may repeat them.
    fn told(&self) -> bool {
        false
    }

    /// What [`Pipeline::log_likelihood`] gives, where the family defines it.
    fn likelihood(&self) -> Option<Likelihood> {
        None
    }

    /// The log-likelihood of each image in nats, exact or a lower bound as
    /// [`Pipeline::likelihood`] says; a bound is taken over `draws` draws.
    ///
    /// # Errors
    /// [`Error::Settings`] where the family has none, or needs labels and is given none.
    fn log_likelihood(
        &self,
        _images: &ImageBatch,
        _conditions: &Conditions,
        _draws: usize,
        _seed: u64,
    ) -> Result<Vec<f64>> {
        Err(Error::settings(
            "this family has no likelihood",
            "likelihoods are defined for autoencoders with a prior, autoregressive models and diffusion",
        ))
    }

    /// How many numbers of an image the likelihood is of: all its pixels and channels, unless some
    /// are given.
    fn modelled(&self) -> usize {
        self.shape().iter().product()
    }

    /// The sum of the probabilities of all images there are, of one class where the model knows
    /// classes: 1 for a likelihood that is normalised.
    ///
    /// # Errors
    /// [`Error::Settings`] where the likelihood is not exact, or for more than 2²⁰ images.
    fn total_probability(&self, _class: Option<u32>) -> Result<f64> {
        Err(Error::settings(
            "only an exact likelihood can be summed over all images",
            "choose an autoregressive model of very small images",
        ))
    }
}

fn no_styles() -> Error {
    Error::settings(
        "this family has no space of styles",
        "choose a run of family stylegan2, or work on the latents",
    )
}

/// The tensor of `images` on `device` and in `range`, if they have the model's shape.
///
/// # Errors
/// [`Error::Settings`] naming both shapes.
pub fn of_shape(
    images: &ImageBatch,
    shape: [usize; 3],
    range: vermeer_image::Range,
    device: &burn::prelude::Device,
) -> Result<burn::Tensor<4>> {
    let tensor = images.clone().to_range(range).into_tensor();
    let [_, channels, height, width] = tensor.dims();
    if [channels, height, width] != shape {
        return Err(Error::settings(
            format!(
                "the model works on {shape:?} (channels, height, width), the images are {:?}",
                [channels, height, width]
            ),
            "apply the preprocessing recorded in the run to the images first",
        ));
    }
    Ok(tensor.to_device(device))
}

/// The error for a task a family does not answer.
pub fn unsupported(family: &str, task: Task, tasks: &[Task]) -> Error {
    let known: Vec<_> = tasks.iter().map(|t| t.name()).collect();
    Error::settings(
        format!("family {family} does not answer {}", task.name()),
        format!("it answers {}", known.join(", ")),
    )
}

/// Calls `compute` for each aligned block of [`BLOCK`] sample numbers that holds one of
/// `numbers`, and gathers the rows asked for, in their order.
///
/// # Errors
/// Whatever `compute` returns.
pub fn in_blocks<const D: usize>(
    numbers: &[u64],
    mut compute: impl FnMut(&[u64]) -> Result<burn::Tensor<D>>,
) -> Result<burn::Tensor<D>> {
    let mut blocks: BTreeMap<u64, burn::Tensor<D>> = BTreeMap::new();
    let mut rows = Vec::with_capacity(numbers.len());
    for number in numbers {
        let block = number / BLOCK as u64;
        let samples = match blocks.entry(block) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let first = block * BLOCK as u64;
                let lanes: Vec<u64> = (first..first + BLOCK as u64).collect();
                place.insert(compute(&lanes)?)
            }
        };
        let row = (number % BLOCK as u64) as usize;
        rows.push(samples.clone().narrow(0, row, 1));
    }
    Ok(burn::Tensor::cat(rows, 0))
}

/// Latents of `size` numbers as a tensor, if there is one for each of `count` samples.
///
/// # Errors
/// [`Error::Settings`] for another number of values.
pub fn of_latents(
    latents: &[f32],
    [count, size]: [usize; 2],
    device: &burn::prelude::Device,
) -> Result<burn::Tensor<2>> {
    if latents.len() != count * size || count == 0 {
        return Err(Error::settings(
            format!(
                "{count} latents have {} numbers, here are {}",
                count * size,
                latents.len()
            ),
            "give one latent for each sample",
        ));
    }
    Ok(burn::Tensor::<1>::from_floats(latents, device).reshape([count, size]))
}

/// Calls `compute` for each block of [`BLOCK`] rows of `x`, the last one padded with zeros,
/// and joins the results without the padding.
///
/// # Errors
/// Whatever `compute` returns.
pub fn rows_in_blocks<const D: usize, const E: usize>(
    x: burn::Tensor<D>,
    mut compute: impl FnMut(burn::Tensor<D>) -> Result<burn::Tensor<E>>,
) -> Result<burn::Tensor<E>> {
    let count = x.dims()[0];
    let mut out = Vec::new();
    for start in (0..count).step_by(BLOCK) {
        let rows = BLOCK.min(count - start);
        let part = x.clone().narrow(0, start, rows);
        let block = match rows == BLOCK {
            true => part,
            false => {
                let mut dims = part.dims();
                dims[0] = BLOCK - rows;
                let zeros = burn::Tensor::zeros(dims, &part.device());
                burn::Tensor::cat(vec![part, zeros], 0)
            }
        };
        out.push(compute(block)?.narrow(0, 0, rows));
    }
    Ok(burn::Tensor::cat(out, 0))
}
