//! The real images that runs are compared on, and the size at which that is done.

use std::path::PathBuf;
use std::sync::Arc;

use vermeer::data::{self, OpenOptions, Preprocess, Source, Split, Subset};
use vermeer::evaluate::at_one_size;
use vermeer::random::permutation;
use vermeer::train::Settings;
use vermeer::{Error, Result};

use super::contender::Contender;

/// What all runs are measured against.
pub(super) struct Ground {
    /// Where the images come from.
    pub(super) location: String,
    /// Training images, as they are stored.
    pub(super) train: Arc<dyn Source>,
    /// Images that no run learnt from, as they are stored.
    pub(super) heldout: Option<Arc<dyn Source>>,
    /// How every image is brought to the size of the comparison.
    pub(super) rule: Preprocess,
    /// Height and width of the first training image.
    pub(super) stored: [usize; 2],
    /// What has to be known besides.
    pub(super) remarks: Vec<String>,
}

impl Ground {
    /// The images at `location`, or those that the first run learnt from. Held-out images are the
    /// test part, else the validation part, else those that all runs alike kept for validation.
    ///
    /// # Errors
    /// [`Error::Settings`] for runs that learnt from different images where no location is said,
    /// and where the first run does not know its own; those of [`data::open`].
    pub(super) fn open(
        location: Option<&str>,
        size: Option<usize>,
        contenders: &[Contender],
    ) -> Result<Self> {
        let Some(first) = contenders.first() else {
            return Err(Error::settings("there is no run", "name at least one"));
        };
        let mut remarks = Vec::new();
        let other = first_of_other_data(contenders);
        let (location, labels, split) = match location {
            Some(location) => {
                if let Some(other) = other {
                    remarks.push(format!(
                        "{} and {} learnt from different images.",
                        first.name, other.name
                    ));
                }
                (location.to_owned(), None, Split::Train)
            }
            None => {
                if let Some(other) = other {
                    return Err(Error::settings(
                        format!(
                            "{} and {} learnt from different images",
                            first.name, other.name
                        ),
                        "name the images that all of them should be like with --data",
                    ));
                }
                let settings = Settings::read(&first.run.config_path())?;
                if settings.data.source.is_empty() {
                    return Err(Error::settings(
                        format!("{} does not know what it learnt from", first.name),
                        "name the images with --data",
                    ));
                }
                let data = settings.data;
                (data.source, data.labels, data.split)
            }
        };
        let open = |split: Split| data::open(&location, &options(split, &labels));
        let mut train = open(split).map_err(|error| match error {
            Error::Settings { message, .. } => {
                Error::settings(message, "name the images with --data")
            }
            other => other,
        })?;
        let part = |wanted: Split| -> Result<Option<Arc<dyn Source>>> {
            match open(wanted) {
                Ok(part) if part.describe().split == wanted => Ok(Some(part)),
                Ok(_) | Err(Error::Settings { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let mut heldout = None;
        if split == Split::Train {
            heldout = match part(Split::Test)? {
                Some(test) => Some(test),
                None => part(Split::Validation)?,
            };
        }
        if heldout.is_none()
            && let Some((fraction, seed)) = common_split(contenders, &location)
        {
            let (learnt, kept) = data::split(train, fraction, seed);
            train = learnt;
            heldout = Some(kept).filter(|kept| !kept.is_empty());
        }

        // Folders list images by class, so the first ones would be of few classes.
        let heldout = heldout.map(|part| -> Arc<dyn Source> {
            let order = permutation(0, u64::MAX, part.len());
            let split = part.describe().split;
            Arc::new(Subset::new(part, order, split))
        });

        let image = train.get(0)?.image;
        let mut rule = first.usage.preprocess.clone();
        rule.flip = false;
        if let Some(side) = size {
            rule.height = side;
            rule.width = side;
        }
        Ok(Self {
            location,
            train,
            heldout,
            rule,
            stored: [image.height(), image.width()],
            remarks,
        })
    }

    /// Real images at the size of the comparison.
    pub(super) fn at_size(&self, source: &Arc<dyn Source>) -> Arc<dyn Source> {
        at_one_size(Arc::clone(source), None, None, &self.rule)
    }
}

/// The first run that is known to have learnt from other images than the first of all.
fn first_of_other_data(contenders: &[Contender]) -> Option<&Contender> {
    let digests: Vec<&String> = contenders
        .iter()
        .filter_map(|contender| contender.record.data_digest.as_ref())
        .collect();
    let first = digests.first()?;
    contenders.iter().find(|contender| {
        let own = contender.record.data_digest.as_ref();
        own.is_some_and(|own| own != *first)
    })
}

/// The share and the seed by which every run kept the same images of `location` for validation;
/// `None` where one learnt from another place or kept others.
fn common_split(contenders: &[Contender], location: &str) -> Option<(f64, u64)> {
    let mut common = None;
    for contender in contenders {
        let settings = Settings::read(&contender.run.config_path()).ok()?;
        let own = (settings.data.validation, settings.seed);
        if settings.data.source != location || *common.get_or_insert(own) != own {
            return None;
        }
    }
    common.filter(|(fraction, _)| *fraction > 0.0)
}

fn options(split: Split, labels: &Option<PathBuf>) -> OpenOptions {
    OpenOptions {
        split,
        labels: labels.clone(),
        ..OpenOptions::default()
    }
}
