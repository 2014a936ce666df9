//! What is measured: images of a data set, samples of a run, or statistics of images.

use std::path::Path;
use std::sync::Arc;

use burn::prelude::Device;
use vermeer_image::Image;

use super::passport::Side;
use super::statistics::{Statistics, is_statistics, read_statistics};
use crate::data::{self, OpenOptions, Source, Split};
use crate::pipeline::{self, Model, Which};
use crate::random::permutation;
use crate::run::RunDir;
use crate::task::{Request, SampleOptions};
use crate::{Error, Result};

/// Samples that a run makes at a time.
const SAMPLES: usize = 64;

/// What is measured.
pub enum Subject {
    /// Some images of a data set, in the order of its files or, if not all are taken, drawn from
    /// it.
    Source {
        /// The data set.
        source: Arc<dyn Source>,
        /// Numbers of the images taken.
        images: Vec<usize>,
        /// The seed of the draw, when not all are taken.
        drawn: Option<u64>,
    },
    /// Samples of a trained model, made when they are needed.
    Run(Box<RunImages>),
    /// Mean and covariance of features.
    Statistics(Box<Statistics>),
}

/// The samples of a run.
pub struct RunImages {
    /// The model.
    pub model: Model,
    /// The folder of the run.
    pub location: String,
    /// How many samples.
    pub count: usize,
    /// How they are drawn.
    pub options: SampleOptions,
}

/// Which model of a run is sampled, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunChoice {
    /// The checkpoint.
    pub which: Which,
    /// How samples are drawn; the seed is that of draws from data sets too.
    pub options: SampleOptions,
}

impl RunChoice {
    /// The last checkpoint, sampled as the model's settings say.
    pub fn seeded(seed: u64) -> Self {
        Self {
            which: Which::Latest,
            options: SampleOptions {
                seed,
                ..SampleOptions::default()
            },
        }
    }
}

impl Subject {
    /// Opens a folder or file of images, a world, a file of statistics (`.npz` with `mu` and
    /// `sigma`, or Vermeer's own), or a run, of which `count` samples are made (10,000 when that is
    /// not said). Of a data set, `count` images are drawn by the seed.
    ///
    /// # Errors
    /// Those of the readers; [`Error::Settings`] when the data set has fewer images than asked for.
    pub fn open(
        location: &str,
        split: Split,
        count: Option<usize>,
        choice: &RunChoice,
        device: &Device,
    ) -> Result<Self> {
        let path = Path::new(location);
        if path.join("run.json").is_file() {
            let model = pipeline::open(&RunDir::open(path)?, choice.which, device)?;
            return Ok(Self::Run(Box::new(RunImages {
                model,
                location: location.to_owned(),
                count: count.unwrap_or(10_000),
                options: choice.options.clone(),
            })));
        }
        if path.is_file() && is_statistics(path)? {
            return Ok(Self::Statistics(Box::new(read_statistics(path)?)));
        }
        let options = OpenOptions {
            split,
            ..OpenOptions::default()
        };
        Self::of_source(data::open(location, &options)?, count, choice.options.seed)
    }

    /// `count` images of a data set, drawn by `seed`; all of them when that is not said.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are not so many.
    pub fn of_source(source: Arc<dyn Source>, count: Option<usize>, seed: u64) -> Result<Self> {
        let all = source.len();
        let count = count.unwrap_or(all);
        if count > all {
            return Err(Error::settings(
                format!(
                    "{} has {all} images, not {count}",
                    source.describe().location
                ),
                format!("ask for at most {all}"),
            ));
        }
        let (images, drawn) = if count == all {
            ((0..all).collect(), None)
        } else {
            let mut drawn: Vec<usize> = permutation(seed, 0, all)[..count]
                .iter()
                .map(|index| *index as usize)
                .collect();
            drawn.sort_unstable();
            (drawn, Some(seed))
        };
        Ok(Self::Source {
            source,
            images,
            drawn,
        })
    }

    /// The number of images.
    pub fn len(&self) -> u64 {
        match self {
            Self::Source { images, .. } => images.len() as u64,
            Self::Run(run) => run.count as u64,
            Self::Statistics(statistics) => statistics.moments.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they are.
    pub fn location(&self) -> &str {
        match self {
            Self::Source { source, .. } => &source.describe().location,
            Self::Run(run) => &run.location,
            Self::Statistics(statistics) => &statistics.location,
        }
    }

    /// What the passport says of them.
    ///
    /// # Errors
    /// Those of [`Source::digest`].
    pub fn side(&self) -> Result<Side> {
        Ok(match self {
            Self::Source {
                source,
                images,
                drawn,
            } => {
                let about = source.describe();
                Side {
                    location: about.location.clone(),
                    split: match drawn {
                        Some(seed) => format!("{}, drawn by seed {seed}", about.split),
                        None => about.split.to_string(),
                    },
                    images: images.len() as u64,
                    digest: self.digest()?,
                }
            }
            Self::Run(run) => Side {
                location: run.location.clone(),
                split: run.told(),
                images: run.count as u64,
                digest: self.digest()?,
            },
            Self::Statistics(statistics) => statistics.side.clone().unwrap_or_else(|| Side {
                location: statistics.location.clone(),
                split: "statistics".to_owned(),
                images: match statistics.counted {
                    true => statistics.moments.len(),
                    false => 0,
                },
                digest: statistics.digest.clone(),
            }),
        })
    }

    /// A sum that changes with the images.
    ///
    /// # Errors
    /// Those of [`Source::digest`].
    pub fn digest(&self) -> Result<String> {
        let text = match self {
            Self::Source { source, drawn, .. } => match drawn {
                None => return source.digest(),
                Some(seed) => format!("{} drawn {} by {seed}", source.digest()?, self.len()),
            },
            Self::Run(run) => format!(
                "samples {} of {} by {:?}",
                run.count, run.model.digest, run.options
            ),
            Self::Statistics(statistics) => return Ok(statistics.digest.clone()),
        };
        Ok(crate::sha256_hex(text.as_bytes()))
    }

    /// The images at these places of the order, with their names. A sample of a run is named by
    /// its seed and number, as `vermeer sample` names its file.
    ///
    /// # Errors
    /// As [`Subject::images`].
    ///
    /// # Panics
    /// When there are not so many images.
    pub fn get(&self, places: &[usize]) -> Result<Vec<(Image, String)>> {
        use rayon::prelude::*;
        match self {
            Self::Source { source, images, .. } => places
                .par_iter()
                .map(|place| {
                    let sample = source.get(images[*place])?;
                    Ok((sample.image, sample.name))
                })
                .collect(),
            Self::Run(run) => {
                let numbers: Vec<u64> = places.iter().map(|place| *place as u64).collect();
                let mut found = Vec::with_capacity(places.len());
                for part in numbers.chunks(SAMPLES) {
                    let named = run.samples(part)?.into_iter().zip(part);
                    let name = |n: &u64| format!("seed{}-{n:06}", run.options.seed);
                    found.extend(named.map(|(image, number)| (image, name(number))));
                }
                Ok(found)
            }
            Self::Statistics(statistics) => Err(no_images(&statistics.location)),
        }
    }

    /// Hands on every image in its order, `batch` at a time.
    ///
    /// # Errors
    /// Those of the reader or the model, and whatever `take` returns; [`Error::Settings`] for
    /// statistics, which hold no images.
    pub fn images(
        &self,
        batch: usize,
        take: &mut dyn FnMut(Vec<Image>) -> Result<()>,
    ) -> Result<()> {
        use rayon::prelude::*;
        match self {
            Self::Source { source, images, .. } => {
                for part in images.chunks(batch) {
                    let read: Vec<Result<Image>> = part
                        .par_iter()
                        .map(|index| Ok(source.get(*index)?.image))
                        .collect();
                    // In order, so that the first that fails is the one that is told.
                    take(read.into_iter().collect::<Result<Vec<Image>>>()?)?;
                }
                Ok(())
            }
            Self::Run(run) => {
                let numbers: Vec<u64> = (0..run.count as u64).collect();
                for part in numbers.chunks(batch.clamp(1, SAMPLES)) {
                    take(run.samples(part)?)?;
                }
                Ok(())
            }
            Self::Statistics(statistics) => Err(no_images(&statistics.location)),
        }
    }
}

impl RunImages {
    /// Step, seed, and what was chosen otherwise than in the model's settings.
    fn told(&self) -> String {
        let SampleOptions {
            seed,
            class,
            attributes,
            truncation,
            temperature,
            steps,
            sampler,
            guidance,
            eta,
        } = &self.options;
        let mut told = format!("samples of step {}, seed {seed}", self.model.step);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                told.push_str(&format!(", {name} {value}"));
            }
        };
        add("class", class.map(|class| class.to_string()));
        let named = |(name, value): &(String, f32)| format!("{name}={value}");
        let attributes: Vec<String> = attributes.iter().map(named).collect();
        add(
            "attributes",
            (!attributes.is_empty()).then(|| attributes.join(" ")),
        );
        add("truncation", truncation.map(|psi| psi.to_string()));
        add("temperature", temperature.map(|t| t.to_string()));
        add("sampler", sampler.clone());
        add("steps", steps.map(|steps| steps.to_string()));
        add("guidance", guidance.map(|guidance| guidance.to_string()));
        add("eta", eta.map(|eta| eta.to_string()));
        told
    }

    /// The samples with these numbers.
    fn samples(&self, numbers: &[u64]) -> Result<Vec<Image>> {
        let request = Request::Generate {
            numbers,
            options: &self.options,
        };
        let answer = self.model.pipeline.answer(&request, &mut |_, _| {})?;
        Ok(answer.into_images()?.to_images()?)
    }
}

fn no_images(location: &str) -> Error {
    Error::settings(
        format!("{location} holds statistics and no images"),
        "give the folder of the images",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_their_number_in_the_subject() {
        let source = data::open("world:glyphs?count=9&size=16", &OpenOptions::default()).unwrap();
        let third = source.get(7).unwrap();
        let subject = Subject::Source {
            source,
            images: vec![2, 5, 7],
            drawn: Some(1),
        };
        let found = subject.get(&[2, 0]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], (third.image, third.name));
    }
}
