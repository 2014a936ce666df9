//! A part of a source, and the split into a part to learn from and one to evaluate on.

use std::sync::Arc;

use super::source::{Description, Fingerprint, Sample, Source, Split};
use crate::error::Result;
use crate::random::{Purpose, stream};

/// Some images of a source, in an order of their own.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<u32>,
    description: Description,
}

impl Subset {
    /// The images of `source` with these numbers; `split` says what the part is.
    ///
    /// # Panics
    /// When a number is not below the length of the source.
    pub fn new(source: Arc<dyn Source>, indices: Vec<u32>, split: Split) -> Self {
        let count = source.len();
        assert!(
            indices.iter().all(|index| (*index as usize) < count),
            "a subset of {count} images names another one"
        );
        let description = Description {
            split,
            ..source.describe().clone()
        };
        Self {
            source,
            indices,
            description,
        }
    }
}

impl Source for Subset {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.source.get(self.indices[index] as usize)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(self.indices[index] as usize)
    }

    /// Covers the digest of the whole source and the numbers of the images.
    fn digest(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::default();
        fingerprint.field(self.source.digest()?.as_bytes());
        for index in &self.indices {
            fingerprint.field(&index.to_le_bytes());
        }
        Ok(fingerprint.text())
    }
}

/// Splits a source into a training and a validation part, drawn for the seed and the number of
/// images alone; both keep the order of the source.
///
/// The validation part is the rounded `fraction` of the images, at least one and never all when
/// there are two images or more. A fraction of zero or less, or NaN, leaves it empty.
pub fn split(
    source: Arc<dyn Source>,
    fraction: f64,
    seed: u64,
) -> (Arc<dyn Source>, Arc<dyn Source>) {
    let count = source.len();
    let share = (count as f64 * fraction).round() as usize;
    let validation = match count {
        0 | 1 => 0,
        _ if fraction > 0.0 => share.clamp(1, count - 1),
        _ => 0,
    };
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut random = stream(seed, Purpose::Split, 0, 0);
    // The first steps of a Fisher-Yates shuffle draw the validation part.
    for place in 0..validation {
        let other = place as u64 + random.below((count - place) as u64);
        order.swap(place, other as usize);
    }
    let mut train = order.split_off(validation);
    train.sort_unstable();
    order.sort_unstable();
    (
        Arc::new(Subset::new(source.clone(), train, Split::Train)),
        Arc::new(Subset::new(source, order, Split::Validation)),
    )
}

#[cfg(test)]
mod tests {
    use vermeer_image::Pixels;

    use super::super::memory::MemorySource;
    use super::*;

    fn source(count: u32) -> Arc<dyn Source> {
        let description = Description {
            classes: (0..count).map(|i| i.to_string()).collect(),
            ..Description::default()
        };
        let pixels = Pixels::U8(vec![7; count as usize]);
        let labels = Some((0..count).collect());
        Arc::new(MemorySource::new(description, [1, 1, 1], pixels, labels, vec![]).unwrap())
    }

    fn labels(source: &Arc<dyn Source>) -> Vec<u32> {
        (0..source.len())
            .map(|i| source.label(i).unwrap())
            .collect()
    }

    #[test]
    fn the_parts_are_disjoint_complete_and_in_order() {
        for (count, fraction, expected) in [
            (100, 0.05, 5),
            (100, 0.0, 0),
            (10, 0.01, 1),
            (2, 0.9, 1),
            (1, 0.5, 0),
            (10, f64::NAN, 0),
        ] {
            let (train, validation) = split(source(count), fraction, 1);
            assert_eq!(validation.len(), expected, "{count} {fraction}");
            assert!(labels(&train).is_sorted() && labels(&validation).is_sorted());
            let mut all = [labels(&train), labels(&validation)].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count));
            assert_eq!(train.describe().split, Split::Train);
            assert_eq!(validation.describe().split, Split::Validation);
        }
    }

    #[test]
    fn the_seed_alone_decides() {
        let draw = |seed| labels(&split(source(100), 0.2, seed).1);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let digest = |seed| split(source(100), 0.2, seed).1.digest().unwrap();
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }

    #[test]
    fn samples_are_those_of_the_source() {
        let subset = Subset::new(source(9), vec![8, 3], Split::Test);
        assert_eq!(subset.get(1).unwrap().label, Some(3));
        assert_eq!(subset.label(0), Some(8));
    }
}
