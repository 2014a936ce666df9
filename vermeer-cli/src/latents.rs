//! Latents of images and samples, for the commands that move in their space.

use std::sync::atomic::Ordering;

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use vermeer::latent::directions::Direction;
use vermeer::latent::projection::{ProjectionOptions, Projector};
use vermeer::latent::{Space, choices};
use vermeer::pipeline::Model;
use vermeer::task::{Answer, Conditions, Request, SampleOptions, Task, unsupported};
use vermeer::{Error, Result};
use vermeer_image::Image;

use crate::choice::ChoiceArgs;
use crate::inputs::Inputs;
use crate::stop;
use crate::terminal::Terminal;

/// Images encoded at a time.
const BATCH: usize = 64;

// A doc comment here would become the description of every command that takes these arguments.
#[derive(clap::Args)]
pub(crate) struct StartArgs {
    /// Numbers of samples to begin with, such as 0,3,9.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub(crate) sample: Vec<u64>,
    /// Seed of the samples' latents.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Look for the latent of an image even where the model has an encoder.
    #[arg(long)]
    project: bool,
    /// Steps of that search, which is made wherever a model has no encoder.
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    project_steps: usize,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// A place in the space of latents.
pub(crate) struct Start {
    /// What lies there: the name of an image, or the number of a sample.
    pub(crate) name: String,
    /// Its numbers.
    pub(crate) vector: Vec<f32>,
    /// The number of the sample whose class its images have where none is chosen.
    pub(crate) number: u64,
    /// How its images are made.
    pub(crate) choices: Vec<SampleOptions>,
    /// The image that was given.
    pub(crate) given: Option<Image>,
    /// How the vector was come by: encoded, projected or sample.
    pub(crate) how: &'static str,
    /// The error of what was found by a search, of unit pixels.
    pub(crate) mse: Option<f64>,
}

impl StartArgs {
    /// Where the images lie in the space of the model, and then where the samples do.
    ///
    /// # Errors
    /// Those of reading, encoding and projecting; [`Error::Failed`] after Ctrl-C.
    pub(crate) fn starts(
        &self,
        inputs: &Inputs,
        model: &Model,
        device: &Device,
        terminal: &Terminal,
    ) -> Result<Vec<Start>> {
        let space = Space::of(&*model.pipeline)?;
        let options = self.choice.options(self.seed, &model.usage.spec)?;
        let mut starts = match self.project || !space.has_codes() {
            true if inputs.len() > 0 => {
                self.projected(inputs, model, &options, device, terminal)?
            }
            true => Vec::new(),
            false => encoded(inputs, model, &options, device, terminal)?,
        };
        for number in &self.sample {
            let choices = vec![options.clone()];
            starts.push(Start {
                name: format!("sample {number}"),
                vector: space.draw(&[*number], &choices)?,
                number: *number,
                choices,
                given: None,
                how: "sample",
                mse: None,
            });
        }
        Ok(starts)
    }

    fn projected(
        &self,
        inputs: &Inputs,
        model: &Model,
        options: &SampleOptions,
        device: &Device,
        terminal: &Terminal,
    ) -> Result<Vec<Start>> {
        let search = ProjectionOptions {
            steps: self.project_steps,
            ..ProjectionOptions::default()
        };
        let projector = Projector::new(Space::of(&*model.pipeline)?, device, search)?;
        let [channels, height, width] = model.pipeline.shape();
        let stop = stop::flag()?;
        let progress = terminal.progress("steps");
        let mut starts = Vec::with_capacity(inputs.len());
        for index in 0..inputs.len() {
            let given = inputs.prepare(index..index + 1, model, options.class, device)?;
            let choices = choices(options, &given.conditions, 0, &model.usage.spec);
            let found = projector.project(
                &given.images,
                index as u64,
                &choices,
                &stop,
                &mut |done, all| progress.at(index * all + done, inputs.len() * all),
            )?;
            starts.push(Start {
                name: given.names.concat(),
                vector: found.latent,
                number: index as u64,
                choices,
                given: Some(Image::from_unit_chw(
                    &given.values,
                    channels,
                    height,
                    width,
                )?),
                how: "projected",
                mse: Some(found.mse),
            });
        }
        Ok(starts)
    }
}

fn encoded(
    inputs: &Inputs,
    model: &Model,
    options: &SampleOptions,
    device: &Device,
    terminal: &Terminal,
) -> Result<Vec<Start>> {
    let coded = Coded::of(inputs, model, options.class, inputs.len(), device, terminal)?;
    let spec = &model.usage.spec;
    let rows = coded.values.chunks_exact(coded.size.max(1));
    let starts = rows.zip(coded.pictures).enumerate();
    Ok(starts
        .map(|(row, (vector, picture))| Start {
            name: coded.names[row].clone(),
            vector: vector.to_vec(),
            number: row as u64,
            choices: choices(options, &coded.conditions, row, spec),
            given: Some(picture),
            how: "encoded",
            mse: None,
        })
        .collect())
}

/// Codes of images, with what is known of them.
#[derive(Default)]
pub(crate) struct Coded {
    /// `[n, size]`.
    pub(crate) values: Vec<f32>,
    /// Numbers in a code.
    pub(crate) size: usize,
    /// The name of each image.
    pub(crate) names: Vec<String>,
    /// The first images, as the model sees them.
    pub(crate) pictures: Vec<Image>,
    /// What the model is told: labels and attributes where all images have those that it knows.
    pub(crate) conditions: Conditions,
    /// The label of each image in its own data set, where all have one.
    pub(crate) labels: Option<Vec<u32>>,
    /// Names of the classes of the data set, by label.
    pub(crate) classes: Vec<String>,
}

impl Coded {
    /// The codes of images and, of the first of them, `pictures`; `class` is what a conditional
    /// model is told of images without a label.
    ///
    /// # Errors
    /// [`Error::Settings`] for a model that does not encode; those of reading the images;
    /// [`Error::Failed`] after Ctrl-C.
    pub(crate) fn of(
        inputs: &Inputs,
        model: &Model,
        class: Option<u32>,
        pictures: usize,
        device: &Device,
        terminal: &Terminal,
    ) -> Result<Self> {
        let tasks = model.pipeline.tasks();
        if !tasks.contains(&Task::Encode) {
            return Err(unsupported(&model.usage.family, Task::Encode, tasks));
        }
        let [channels, height, width] = model.pipeline.shape();
        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        let mut coded = Self::default();
        let (mut own, mut told, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..inputs.len()).step_by(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let part = first..(first + BATCH).min(inputs.len());
            for index in part.clone() {
                if let Some((label, classes)) = inputs.label(index)
                    && let Some(name) = classes.get(label as usize)
                {
                    // Another set may number the same names otherwise.
                    for class in classes {
                        if !coded.classes.contains(class) {
                            coded.classes.push(class.clone());
                        }
                    }
                    let place = coded.classes.iter().position(|class| class == name);
                    own.extend(place.map(|place| place as u32));
                }
            }
            let given = inputs.prepare(part, model, class, device)?;
            let request = Request::Encode {
                images: &given.images,
                conditions: &given.conditions,
            };
            let Answer::Codes(rows) = model.pipeline.answer(&request, &mut |_, _| ())? else {
                return Err(Error::Failed("the model answered with images".into()));
            };
            coded.size = rows.first().map_or(0, Vec::len);
            coded.values.extend(rows.into_iter().flatten());
            for values in given.values.chunks_exact(channels * height * width) {
                if coded.pictures.len() < pictures {
                    let picture = Image::from_unit_chw(values, channels, height, width)?;
                    coded.pictures.push(picture);
                }
            }
            told.extend(given.conditions.labels.unwrap_or_default());
            attributes.extend(given.conditions.attributes.unwrap_or_default());
            coded.names.extend(given.names);
            progress.at(coded.names.len(), inputs.len());
        }
        let count = inputs.len();
        let wanted = model.usage.spec.attributes.len();
        coded.labels = (own.len() == count && count > 0).then_some(own);
        coded.conditions = Conditions {
            labels: (told.len() == count).then_some(told),
            attributes: (wanted > 0 && attributes.len() == count * wanted).then_some(attributes),
        };
        Ok(coded)
    }
}

/// Says that a direction was found in another checkpoint than the one it is used with.
pub(crate) fn note_age(name: &str, direction: &Direction, model: &Model, terminal: &Terminal) {
    if direction.about.checkpoint != model.digest {
        terminal.warn(&format!(
            "{name} was found in the checkpoint of step {}, and the one of step {} is used; \
             `vermeer directions` finds it again",
            direction.about.step, model.step
        ));
    }
}

/// A number that is one, for clap.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number such as 1.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_are_numbers() {
        assert_eq!(finite("-1.5"), Ok(-1.5));
        for text in ["", "x", "nan", "inf"] {
            assert!(finite(text).is_err(), "{text}");
        }
    }
}
