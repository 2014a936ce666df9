//! Images that are given to a model: pictures, folders and other data sets, one after the other.

use std::ops::Range as Places;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData};
use vermeer::data::folder::is_image;
use vermeer::data::{self, OpenOptions, Source, Split};
use vermeer::pipeline::Model;
use vermeer::task::Conditions;
use vermeer::{Error, Result};
use vermeer_image::{Image, ImageBatch, Limits, Range, decode_file};

use crate::stop;
use crate::terminal::Terminal;

/// Images by their place.
pub(crate) struct Inputs {
    parts: Vec<Part>,
    /// The part and the number in it of every image.
    places: Vec<(usize, usize)>,
}

/// Where some of the images come from.
enum Part {
    Picture(PathBuf),
    Set(Arc<dyn Source>),
}

/// Some images, prepared as a model's own were.
pub(crate) struct Prepared {
    /// Unit range, `[n, c, h, w]`.
    pub(crate) images: ImageBatch,
    /// The same on the host.
    pub(crate) values: Vec<f32>,
    /// What is known of them besides.
    pub(crate) conditions: Conditions,
    /// Their names.
    pub(crate) names: Vec<String>,
}

impl Inputs {
    /// Opens what was named; of data sets the `split`, and at most `limit` images in all.
    ///
    /// # Errors
    /// Those of [`data::open`].
    pub(crate) fn open(words: &[String], split: Split, limit: Option<usize>) -> Result<Self> {
        let parts: Vec<Part> = words
            .iter()
            .map(|word| Part::open(word, split))
            .collect::<Result<_>>()?;
        let places = parts
            .iter()
            .enumerate()
            .flat_map(|(part, images)| (0..images.len()).map(move |number| (part, number)))
            .take(limit.unwrap_or(usize::MAX))
            .collect();
        Ok(Self { parts, places })
    }

    /// The number of images.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Prepares all images, `batch` at a time, and hands each part on with its range and a way to
    /// tell how far the part has come. Ends after Ctrl-C.
    ///
    /// # Errors
    /// Those of [`Inputs::prepare`] and of `take`; [`Error::Failed`] after Ctrl-C.
    pub(crate) fn each(
        &self,
        batch: usize,
        (model, class): (&Model, Option<u32>),
        device: &Device,
        terminal: &Terminal,
        mut take: impl FnMut(Places<usize>, Prepared, &mut dyn FnMut(usize, usize)) -> Result<()>,
    ) -> Result<()> {
        let stop = stop::flag()?;
        let progress = terminal.progress("images");
        for first in (0..self.len()).step_by(batch) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let part = first..(first + batch).min(self.len());
            let (count, end) = (part.len(), part.end);
            let given = self.prepare(part.clone(), model, class, device)?;
            let mut report = |done: usize, all: usize| {
                progress.at(first + count * done.min(all) / all.max(1), self.len());
            };
            take(part, given, &mut report)?;
            progress.at(end, self.len());
        }
        Ok(())
    }

    /// One image as it is stored, and its name.
    ///
    /// # Errors
    /// An error that names the file when it cannot be read.
    pub(crate) fn get(&self, index: usize) -> Result<(Image, String)> {
        let (part, number) = self.places[index];
        match &self.parts[part] {
            Part::Picture(path) => Ok((
                decode_file(path, &Limits::cli())?.image,
                path.display().to_string(),
            )),
            Part::Set(source) => source.get(number).map(|sample| (sample.image, sample.name)),
        }
    }

    /// The label of an image in its own set, and the names of that set's classes.
    pub(crate) fn label(&self, index: usize) -> Option<(u32, &[String])> {
        let (part, number) = self.places[index];
        match &self.parts[part] {
            Part::Picture(_) => None,
            Part::Set(source) => source
                .label(number)
                .map(|label| (label, &source.describe().classes[..])),
        }
    }

    /// The images of `range` as `model` takes them, with the class `class` or, without it, their
    /// own labels as far as the model knows their names.
    ///
    /// # Errors
    /// Those of [`Inputs::get`]; [`Error::Settings`] where only some of the images have a class
    /// that the model is told.
    pub(crate) fn prepare(
        &self,
        range: Places<usize>,
        model: &Model,
        class: Option<u32>,
        device: &Device,
    ) -> Result<Prepared> {
        let [channels, height, width] = model.pipeline.shape();
        let count = range.len();
        let known = &model.usage.spec.classes;
        let wanted = model.usage.spec.attributes.len();
        let mut values = Vec::with_capacity(count * channels * height * width);
        let mut names = Vec::with_capacity(count);
        let mut labels = Vec::new();
        let mut attributes = Vec::new();
        for index in range {
            let (part, number) = self.places[index];
            let (image, name) = match &self.parts[part] {
                Part::Picture(_) => self.get(index)?,
                Part::Set(source) => {
                    let sample = source.get(number)?;
                    if source.describe().attributes == model.usage.spec.attributes {
                        attributes.extend(sample.attributes);
                    }
                    (sample.image, sample.name)
                }
            };
            values.extend(model.usage.preprocess.apply(&image)?);
            names.push(name);
            let own = self.label(index).and_then(|(label, names)| {
                let name = names.get(label as usize)?;
                Some(known.iter().position(|class| class == name)? as u32)
            });
            labels.extend(class.or(own));
        }
        let partly = !labels.is_empty() && labels.len() != count;
        if partly && model.pipeline.told() {
            return Err(Error::settings(
                format!(
                    "{} of {count} images have a class the model knows",
                    labels.len()
                ),
                "give all images labels of the model's classes, or one class for all with --class",
            ));
        }
        let shape = [count, channels, height, width];
        let tensor = Tensor::<4>::from_data(TensorData::new(values.clone(), shape), device);
        Ok(Prepared {
            images: ImageBatch::new(tensor, Range::Unit)?,
            values,
            conditions: Conditions {
                labels: (labels.len() == count).then_some(labels),
                attributes: (wanted > 0 && attributes.len() == count * wanted)
                    .then_some(attributes),
            },
            names,
        })
    }
}

impl Part {
    fn open(word: &str, split: Split) -> Result<Self> {
        let path = Path::new(word);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && is_image(&name) {
            return Ok(Self::Picture(path.to_path_buf()));
        }
        let options = OpenOptions {
            split,
            ..OpenOptions::default()
        };
        Ok(Self::Set(data::open(word, &options)?))
    }

    fn len(&self) -> usize {
        match self {
            Self::Picture(_) => 1,
            Self::Set(source) => source.len(),
        }
    }
}

/// The values of images, row by row.
///
/// # Errors
/// [`Error::Failed`] when the device does not give them back.
pub(crate) fn host(images: &ImageBatch) -> Result<Vec<f32>> {
    let data = images.tensor().clone().into_data();
    data.try_into_vec_as()
        .map_err(|error| Error::Failed(format!("the images cannot be read back: {error:?}")))
}
