//! The images of a source after preprocessing, kept in memory as far as a budget goes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use vermeer_image::ImageError;

use super::preprocess::Preprocess;
use super::source::Source;
use crate::error::{Error, Result};

/// Preprocessed images by number. What was made once is kept until the budget is used up, so that
/// small sets are decoded once; what is kept never changes what is returned.
pub(super) struct Prepared {
    source: Arc<dyn Source>,
    preprocess: Preprocess,
    kept: Vec<OnceLock<Kept>>,
    /// Bytes that may still be kept.
    left: AtomicUsize,
}

/// One image with its attributes.
struct Kept {
    pixels: Kind,
    attributes: Box<[f32]>,
}

/// Pixels `[C, H, W]`.
enum Kind {
    /// Its bytes, where dividing them by 255 gives the floats exactly.
    Bytes(Box<[u8]>),
    Floats(Box<[f32]>),
}

impl Prepared {
    /// Prepares `source`; at most `budget` bytes of images are kept.
    pub(super) fn new(source: Arc<dyn Source>, preprocess: Preprocess, budget: usize) -> Self {
        let mut kept = Vec::new();
        if budget > 0 {
            kept.resize_with(source.len(), OnceLock::new);
        }
        Self {
            source,
            preprocess,
            kept,
            left: AtomicUsize::new(budget),
        }
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.source.len()
    }

    /// Channels, height and width of every image.
    pub(super) fn shape(&self) -> [usize; 3] {
        let Preprocess {
            channels,
            height,
            width,
            ..
        } = self.preprocess;
        [channels, height, width]
    }

    /// Whether training images are mirrored at random.
    pub(super) fn flips(&self) -> bool {
        self.preprocess.flip
    }

    /// The label of an image.
    pub(super) fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    /// Appends an image in the unit range `[C, H, W]`, mirrored if so asked, and its attributes.
    ///
    /// # Errors
    /// What [`Source::get`] and [`Preprocess::apply`] return, with the name of the image.
    pub(super) fn append(
        &self,
        index: usize,
        mirror: bool,
        out: &mut Vec<f32>,
        attributes: &mut Vec<f32>,
    ) -> Result<()> {
        let start = out.len();
        match self.kept.get(index).and_then(OnceLock::get) {
            Some(kept) => {
                match &kept.pixels {
                    Kind::Bytes(bytes) => {
                        out.extend(bytes.iter().map(|byte| f32::from(*byte) / 255.0));
                    }
                    Kind::Floats(values) => out.extend_from_slice(values),
                }
                attributes.extend_from_slice(&kept.attributes);
            }
            None => {
                let (unit, own) = self.make(index)?;
                out.extend_from_slice(&unit);
                attributes.extend_from_slice(&own);
                self.keep(index, unit, own);
            }
        }
        if mirror {
            for row in out[start..].chunks_exact_mut(self.preprocess.width) {
                row.reverse();
            }
        }
        Ok(())
    }

    fn make(&self, index: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let sample = self.source.get(index)?;
        let unit = self
            .preprocess
            .apply(&sample.image)
            .map_err(|error| match error {
                Error::Image(ImageError::Shape(reason)) => Error::data(
                    sample.name,
                    reason,
                    "run `vermeer data inspect`, which lists every image that does not fit",
                ),
                other => other,
            })?;
        Ok((unit, sample.attributes))
    }

    fn keep(&self, index: usize, unit: Vec<f32>, attributes: Vec<f32>) {
        let Some(cell) = self.kept.get(index) else {
            return;
        };
        let bytes: Option<Box<[u8]>> = unit.iter().map(|value| exact_byte(*value)).collect();
        let (pixels, size) = match bytes {
            Some(bytes) => {
                let size = bytes.len();
                (Kind::Bytes(bytes), size)
            }
            None => {
                let size = size_of_val(&unit[..]);
                (Kind::Floats(unit.into_boxed_slice()), size)
            }
        };
        let size = size + size_of_val(&attributes[..]);
        let kept = Kept {
            pixels,
            attributes: attributes.into_boxed_slice(),
        };
        let take = |left: usize| left.checked_sub(size);
        let taken = self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, take);
        // Two threads may have made the same image; the second one gives its share back.
        if taken.is_ok() && cell.set(kept).is_err() {
            self.left.fetch_add(size, Ordering::Relaxed);
        }
    }
}

/// The byte that gives exactly this value when divided by 255.
fn exact_byte(value: f32) -> Option<u8> {
    let byte = (value * 255.0).round() as u8;
    ((f32::from(byte) / 255.0).to_bits() == value.to_bits()).then_some(byte)
}

#[cfg(test)]
mod tests {
    use vermeer_image::{Filter, Image, Pixels};

    use super::super::preprocess::Fit;
    use super::super::source::{Description, Sample};
    use super::*;

    /// Two images of 3x1 that count how often they are read; the third is broken.
    struct Counting {
        description: Description,
        reads: AtomicUsize,
        deep: bool,
    }

    impl Source for Counting {
        fn describe(&self) -> &Description {
            &self.description
        }

        fn len(&self) -> usize {
            3
        }

        fn get(&self, index: usize) -> Result<Sample> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let pixels = match (index, self.deep) {
                (2, _) => Pixels::F32(vec![0.0, 7.0, 0.0]),
                (_, true) => Pixels::U16(vec![1, 2, 65535]),
                (_, false) => Pixels::U8(vec![1, 2, 255]),
            };
            Ok(Sample {
                image: Image::new(3, 1, 1, pixels)?,
                label: None,
                attributes: vec![index as f32],
                name: format!("image {index}"),
            })
        }

        fn label(&self, _: usize) -> Option<u32> {
            None
        }

        fn digest(&self) -> Result<String> {
            Ok(String::new())
        }
    }

    fn prepared(deep: bool, budget: usize) -> (Arc<Counting>, Prepared) {
        let source = Arc::new(Counting {
            description: Description::default(),
            reads: AtomicUsize::new(0),
            deep,
        });
        let preprocess = Preprocess {
            height: 1,
            width: 3,
            channels: 1,
            fit: Fit::Crop,
            filter: Filter::Bilinear,
            background: [0; 3],
            flip: false,
        };
        let prepared = Prepared::new(source.clone(), preprocess, budget);
        (source, prepared)
    }

    #[test]
    fn images_are_read_once_as_far_as_the_budget_goes() {
        // Three bytes for each 8-bit image, twelve for each 16-bit image, four for its attribute.
        for (deep, budget, reads) in [
            (false, 14, 2),
            (false, 13, 3),
            (false, 0, 4),
            (true, 32, 2),
            (true, 31, 3),
        ] {
            let (source, prepared) = prepared(deep, budget);
            let (mut out, mut attributes) = (Vec::new(), Vec::new());
            for index in [0, 1, 0, 1] {
                prepared
                    .append(index, index == 1, &mut out, &mut attributes)
                    .unwrap();
            }
            assert_eq!(attributes, [0.0, 1.0, 0.0, 1.0]);
            let least = if deep { 1.0 / 65535.0 } else { 1.0 / 255.0 };
            assert_eq!(out[0], least);
            assert_eq!(out[..6], out[6..]);
            assert_eq!([out[0], out[1], out[2]], [out[5], out[4], out[3]]);
            assert_eq!(source.reads.load(Ordering::Relaxed), reads, "{budget}");
        }
    }

    #[test]
    fn an_image_that_does_not_fit_is_named() {
        let (_, prepared) = prepared(false, 100);
        let error = prepared
            .append(2, false, &mut Vec::new(), &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains("image 2"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn every_byte_is_exact_and_other_values_are_not() {
        for byte in 0..=255u8 {
            assert_eq!(exact_byte(f32::from(byte) / 255.0), Some(byte));
        }
        for value in [1.0 / 65535.0, 0.5, -0.0, f32::NAN] {
            assert_eq!(exact_byte(value), None);
        }
    }
}
