//! A run before it starts: settings resolved, data opened, everything checked.

use std::sync::Arc;
use std::time::Instant;

use burn::prelude::Device;
use rayon::prelude::*;
use serde::Serialize;
use vermeer_image::{Filter, Limits};

use super::{Settings, Size};
use crate::data::{self, Fit, Loader, OpenOptions, Preprocess, Source, Split, Subset};
use crate::optim::AdamConfig;
use crate::random::permutation;
use crate::registry::{AnyFamily, DataSpec, Step, Trainer, TrainerContext};
use crate::{Error, Result};

/// Everything a run needs, checked.
#[derive(Clone)]
pub struct Plan {
    /// Settings with every default written out.
    pub settings: Settings,
    /// The family.
    pub family: &'static dyn AnyFamily,
    /// Shape and classes of the images.
    pub spec: DataSpec,
    /// What is done to an image before the model sees it.
    pub preprocess: Preprocess,
    /// Images to learn from.
    pub train: Arc<dyn Source>,
    /// Images to evaluate on; may be empty.
    pub validation: Arc<dyn Source>,
    /// Digest of the data.
    pub data_digest: String,
    /// The device, without gradients.
    pub device: Device,
    /// What was chosen for the user, in sentences.
    pub notes: Vec<String>,
}

/// What a run will need, measured on a few steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// Trained parameters.
    pub parameters: usize,
    /// Seconds of one optimisation step.
    pub seconds_per_step: f64,
    /// Minutes of the whole run, without evaluation and pictures.
    pub minutes: f64,
    /// Peak memory of the process so far in MiB, where the system tells.
    pub peak_memory_mib: Option<f64>,
}

impl Plan {
    /// Resolves settings and opens the data.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings that do not fit each other or the data,
    /// [`Error::Data`] for data that cannot be read.
    pub fn new(settings: Settings, device: &Device) -> Result<Self> {
        let (family, mut settings) = settings.resolved()?;
        if settings.data.source.is_empty() {
            return Err(Error::settings(
                "no data are named",
                "add --data PATH (a folder of images, IDX or CIFAR files, a zip, an npz) or --data world:glyphs",
            ));
        }
        let mut notes = vec![];
        let open = |split| {
            let options = OpenOptions {
                split,
                labels: settings.data.labels.clone(),
                limits: Limits::cli(),
            };
            data::open(&settings.data.source, &options)
        };
        let whole = open(settings.data.split)?;
        if whole.is_empty() {
            return Err(Error::data(
                &settings.data.source,
                "there are no images",
                "name a folder or file that holds images",
            ));
        }
        let mut data_digest = whole.digest()?;
        let own_part = match settings.data.split {
            Split::Train => match open(Split::Validation) {
                Ok(part) if part.describe().split == Split::Validation => Some(part),
                // The source has no such part; damage of one it has is an error.
                Ok(_) | Err(Error::Settings { .. }) => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        let (train, validation) = match own_part {
            Some(part) => {
                notes.push(format!(
                    "{} validation images come from the source's own validation part",
                    part.len()
                ));
                let both = format!("{data_digest} {}", part.digest()?);
                data_digest = crate::sha256_hex(both.as_bytes());
                (whole, part)
            }
            None => data::split(whole, settings.data.validation, settings.seed),
        };

        // Sources list images by class; the first validation images must be some of each.
        let order = permutation(settings.seed, VALIDATION_ORDER, validation.len());
        let validation: Arc<dyn Source> =
            Arc::new(Subset::new(validation, order, Split::Validation));

        let survey = Survey::of(&train, &validation)?;
        let (height, width) = survey.typical();
        let size = match settings.data.size {
            Some(size) => size.sides(),
            None => {
                let (height, width) = capped(height, width);
                family.natural_size(&settings.model, height, width)?
            }
        };
        let near = height <= size.0
            && width <= size.1
            && size.0 - height <= NEAR
            && size.1 - width <= NEAR;
        let fit = settings.data.fit.unwrap_or(match survey.uniform() && near {
            true => Fit::Pad,
            false => Fit::Crop,
        });
        let channels = match (settings.data.channels, survey.widest) {
            (Some(channels), _) => channels,
            (None, widest) if widest >= 3 => 3,
            (None, _) => 1,
        };
        if size != (height, width) || !survey.uniform() {
            let found = match survey.uniform() {
                true => format!("images are {height} high and {width} wide"),
                false => format!("image sizes differ, around {height} high and {width} wide"),
            };
            let how = match fit {
                Fit::Crop if survey.uniform() && height * size.1 == width * size.0 => "scaled",
                Fit::Crop => "scaled and cropped",
                Fit::Stretch => "stretched",
                Fit::Pad => "padded",
            };
            notes.push(format!(
                "{found}; they are {how} to {} high and {} wide (data.size, data.fit)",
                size.0, size.1
            ));
        }
        notes.push(format!(
            "{} images to train on, {} to validate on, {} channel(s)",
            train.len(),
            validation.len(),
            channels
        ));
        settings.data.size = Some(if size.0 == size.1 {
            Size::Square(size.0)
        } else {
            Size::Sides([size.0, size.1])
        });
        settings.data.fit = Some(fit);
        settings.data.channels = Some(channels);
        let spec = DataSpec {
            channels,
            height: size.0,
            width: size.1,
            classes: train.describe().classes.clone(),
            attributes: train.describe().attributes.clone(),
        };
        family.check(&settings.model, &spec)?;
        let told = settings
            .model
            .get("conditional")
            .and_then(toml::Value::as_bool);
        if told == Some(true) {
            for part in [&train, &validation] {
                if let Some(index) = (0..part.len()).find(|i| part.label(*i).is_none()) {
                    let name = part.get(index)?.name;
                    return Err(Error::data(
                        name,
                        "the image has no label",
                        "give every image a label, or set model.conditional = false",
                    ));
                }
            }
        }
        let preprocess = Preprocess {
            height: size.0,
            width: size.1,
            channels,
            fit,
            filter: Filter::Bicubic,
            background: settings.data.background,
            flip: settings.data.flip,
        };
        if settings.name.is_empty() {
            settings.name = settings.family.clone();
        }
        Ok(Self {
            settings,
            family,
            spec,
            preprocess,
            train,
            validation,
            data_digest,
            device: device.clone(),
            notes,
        })
    }

    /// A trainer at its random start.
    ///
    /// # Errors
    /// [`Error::Settings`] when settings and images do not fit.
    pub fn trainer(&self) -> Result<Box<dyn Trainer>> {
        let (train, defaults) = (&self.settings.train, self.family.train_defaults());
        let context = TrainerContext {
            spec: self.spec.clone(),
            seed: self.settings.seed,
            device: self.device.clone().autodiff(),
            adam: AdamConfig {
                beta1: train.beta1.unwrap_or(defaults.beta1),
                beta2: train.beta2.unwrap_or(defaults.beta2),
                epsilon: 1e-8,
                weight_decay: train.weight_decay,
            },
            average_half_life_images: train
                .average_half_life_images
                .unwrap_or(defaults.average_half_life_images),
        };
        self.family.trainer(&self.settings.model, &context)
    }

    /// The loader of training batches, beginning at optimisation step `step`.
    pub fn loader(&self, step: u64) -> Loader {
        let (data, train) = (&self.settings.data, &self.settings.train);
        let start = step * train.accumulate as u64;
        Loader::new(
            self.train.clone(),
            self.preprocess.clone(),
            train.batch_size,
            self.settings.seed,
            data.workers,
            start,
        )
    }

    /// Makes three steps in memory and measures them.
    ///
    /// # Errors
    /// Whatever reading the data or a step returns.
    pub fn estimate(&self) -> Result<Estimate> {
        let mut trainer = self.trainer()?;
        let mut loader = self.loader(0);
        let mut fastest = f64::INFINITY;
        for _ in 0..3 {
            let micro: Vec<_> = (0..self.settings.train.accumulate)
                .map(|_| loader.next())
                .collect::<Result<_>>()?;
            let start = Instant::now();
            trainer.step(&Step {
                micro: &micro,
                learning_rate: 0.0,
                clip_norm: None,
            })?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        Ok(Estimate {
            parameters: trainer.parameters(),
            seconds_per_step: fastest,
            minutes: fastest * self.settings.train.steps as f64 / 60.0,
            peak_memory_mib: peak_memory_mib(),
        })
    }
}

/// The "epoch" whose order validation images have; no training run reaches it.
const VALIDATION_ORDER: u64 = u64::MAX;

/// Images this many pixels smaller than the model's are padded and not enlarged.
const NEAR: usize = 8;

/// The longest side that is chosen without being asked: networks and batches of larger images
/// need memory that should be a decision.
const LONGEST_SIDE: usize = 128;

/// The sides scaled down so that the longer one is at most [`LONGEST_SIDE`].
fn capped(height: usize, width: usize) -> (usize, usize) {
    let longest = height.max(width);
    match longest > LONGEST_SIDE {
        true => (
            (height * LONGEST_SIDE).div_ceil(longest),
            (width * LONGEST_SIDE).div_ceil(longest),
        ),
        false => (height, width),
    }
}

/// Sets of up to this many images are read whole before a run starts, so that a file that cannot
/// be read ends the run before it leaves anything behind.
const CHECKED: usize = 20_000;

/// What the images are like: all of them in small sets, a few in large ones.
struct Survey {
    /// The largest number of channels.
    widest: usize,
    /// Heights and widths, each sorted.
    sides: [Vec<usize>; 2],
}

impl Survey {
    fn of(train: &Arc<dyn Source>, validation: &Arc<dyn Source>) -> Result<Self> {
        let mut survey = Self {
            widest: 0,
            sides: [vec![], vec![]],
        };
        for source in [train, validation] {
            let stride = match source.len() <= CHECKED {
                true => 1,
                false => source.len().div_ceil(64),
            };
            let indices: Vec<usize> = (0..source.len()).step_by(stride).collect();
            // In parallel, but the first failure in the order of the set is the one reported.
            let shapes: Vec<Result<[usize; 3]>> = indices
                .par_iter()
                .map(|index| {
                    let image = source.get(*index)?.image;
                    Ok([image.channels(), image.height(), image.width()])
                })
                .collect();
            for shape in shapes {
                let [channels, height, width] = shape?;
                survey.widest = survey.widest.max(channels);
                survey.sides[0].push(height);
                survey.sides[1].push(width);
            }
        }
        survey
            .sides
            .iter_mut()
            .for_each(|sides| sides.sort_unstable());
        Ok(survey)
    }

    /// Median height and width.
    fn typical(&self) -> (usize, usize) {
        let median = |sides: &[usize]| sides[sides.len() / 2];
        (median(&self.sides[0]), median(&self.sides[1]))
    }

    /// Whether all images have one size.
    fn uniform(&self) -> bool {
        self.sides.iter().all(|sides| sides.first() == sides.last())
    }
}

/// Peak resident memory of this process in MiB, from `/proc/self/status`.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_capped_with_their_ratio() {
        for (sides, expected) in [
            ((28, 28), (28, 28)),
            ((112, 92), (112, 92)),
            ((630, 630), (128, 128)),
            ((1192, 1502), (102, 128)),
            ((400, 100), (128, 32)),
        ] {
            assert_eq!(capped(sides.0, sides.1), expected);
        }
    }
}
