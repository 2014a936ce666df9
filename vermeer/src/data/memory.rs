//! Images of one size and depth that are held in memory, as IDX, CIFAR and `.npz` files are.

use std::path::Path;

use vermeer_image::{Image, Pixels};

use super::source::{Description, Fingerprint, Sample, Source};
use crate::error::{Error, Result};

/// Images of one size and depth, side by side in memory.
pub struct MemorySource {
    description: Description,
    name: String,
    /// Height, width, channels.
    shape: [usize; 3],
    count: usize,
    pixels: Pixels,
    labels: Option<Vec<u32>>,
    attributes: Vec<f32>,
}

impl MemorySource {
    /// Takes `pixels` `[N, H, W, C]` of images of the `shape` (H, W, C), their labels, and for each
    /// the values of `description.attributes` `[N, A]`.
    ///
    /// # Errors
    /// [`Error::Data`], naming `description.location`, when there is no image, when lengths do not
    /// fit each other, or when a label has no name in `description.classes`.
    pub fn new(
        description: Description,
        shape: [usize; 3],
        pixels: Pixels,
        labels: Option<Vec<u32>>,
        attributes: Vec<f32>,
    ) -> Result<Self> {
        let refuse = |reason: String| {
            Err(Error::data(
                &description.location,
                reason,
                "check that the files belong together and are complete",
            ))
        };
        let values = pixels.len();
        let [height, width, channels] = shape;
        let each = height * width * channels;
        if each == 0 || values == 0 {
            return refuse("there are no images".to_string());
        }
        if !values.is_multiple_of(each) {
            return refuse(format!(
                "{values} pixel values are no whole number of images of {height}x{width}x{channels}"
            ));
        }
        let count = values / each;
        if let Some(labels) = &labels {
            if labels.len() != count {
                return refuse(format!("{count} images have {} labels", labels.len()));
            }
            let classes = description.classes.len();
            if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
                return refuse(format!(
                    "label {label} is outside the {classes} classes of the set"
                ));
            }
        }
        if attributes.len() != count * description.attributes.len() {
            return refuse(format!(
                "{count} images have {} values of {} attributes",
                attributes.len(),
                description.attributes.len()
            ));
        }
        let name = Path::new(&description.location)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            description,
            name,
            shape,
            count,
            pixels,
            labels,
            attributes,
        })
    }
}

impl Source for MemorySource {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let [height, width, channels] = self.shape;
        let each = height * width * channels;
        let range = index * each..(index + 1) * each;
        let pixels = match &self.pixels {
            Pixels::U8(values) => Pixels::U8(values[range].to_vec()),
            Pixels::U16(values) => Pixels::U16(values[range].to_vec()),
            Pixels::F32(values) => Pixels::F32(values[range].to_vec()),
        };
        let attributes = self.description.attributes.len();
        Ok(Sample {
            image: Image::new(width, height, channels, pixels)?,
            label: self.label(index),
            attributes: self.attributes[index * attributes..(index + 1) * attributes].to_vec(),
            name: format!("{}[{index}]", self.name),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        assert!(index < self.count, "image {index} of {}", self.count);
        self.labels.as_ref().map(|labels| labels[index])
    }

    /// Covers the shape, the pixels, the labels and the attributes.
    fn digest(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::default();
        for side in self.shape {
            fingerprint.field(&(side as u64).to_le_bytes());
        }
        match &self.pixels {
            Pixels::U8(values) => fingerprint.field(values),
            Pixels::U16(values) => fingerprint.field(&bytes(values, |v| v.to_le_bytes())),
            Pixels::F32(values) => fingerprint.field(&bytes(values, |v| v.to_le_bytes())),
        }
        for index in 0..self.count {
            fingerprint.label(self.label(index));
        }
        fingerprint.field(&bytes(&self.attributes, |v| v.to_le_bytes()));
        Ok(fingerprint.text())
    }
}

/// The little-endian bytes of some numbers.
fn bytes<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(classes: usize) -> Description {
        Description {
            location: "set/some.npz".to_string(),
            classes: (0..classes).map(|class| class.to_string()).collect(),
            ..Description::default()
        }
    }

    #[test]
    fn images_are_cut_out_in_order() {
        let pixels = Pixels::U16(vec![0, 65535, 1, 2, 65535, 0]);
        let source =
            MemorySource::new(description(2), [1, 3, 1], pixels, Some(vec![1, 0]), vec![]).unwrap();
        assert_eq!(source.len(), 2);
        let sample = source.get(1).unwrap();
        assert_eq!(
            (sample.label, sample.name.as_str()),
            (Some(0), "some.npz[1]")
        );
        assert_eq!((sample.image.width(), sample.image.height()), (3, 1));
        assert!(matches!(sample.image.pixels(), Pixels::U16(v) if v == &[2, 65535, 0]));
    }

    #[test]
    fn lengths_that_do_not_fit_are_named() {
        let grey = |n: usize| Pixels::U8(vec![0; n]);
        for (pixels, labels, attributes, part) in [
            (grey(0), None, vec![], "no images"),
            (grey(7), None, vec![], "7 pixel values"),
            (grey(8), Some(vec![0]), vec![], "2 images have 1 labels"),
            (grey(8), Some(vec![0, 2]), vec![], "label 2"),
            (grey(8), None, vec![1.0], "attributes"),
        ] {
            let error = MemorySource::new(description(2), [2, 2, 1], pixels, labels, attributes)
                .err()
                .unwrap();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn the_digest_follows_pixels_shape_and_labels() {
        let digest = |shape, pixel, label| {
            MemorySource::new(
                description(9),
                shape,
                Pixels::U8(vec![pixel; 8]),
                Some(vec![label; 2]),
                vec![],
            )
            .unwrap()
            .digest()
            .unwrap()
        };
        let base = digest([2, 2, 1], 7, 1);
        assert_eq!(base, digest([2, 2, 1], 7, 1));
        assert_ne!(base, digest([4, 1, 1], 7, 1));
        assert_ne!(base, digest([2, 2, 1], 8, 1));
        assert_ne!(base, digest([2, 2, 1], 7, 2));
    }
}
