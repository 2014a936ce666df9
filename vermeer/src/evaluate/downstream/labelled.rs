//! Labelled images of one shape in memory, one byte for each value.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use burn::prelude::*;
use burn::tensor::TensorData;
use rayon::prelude::*;
use vermeer_image::{Image, resize};

use super::check;
use crate::data::{Fit, Preprocess, Source};
use crate::evaluate::RunImages;
use crate::task::{BLOCK, Request, SampleOptions};
use crate::{Error, Result};

/// Images that are read or sampled at a time.
const AT_ONCE: usize = 256;

/// Images with their classes.
#[derive(Clone, Debug)]
pub(super) struct Labelled {
    /// Channels, height, width.
    pub(super) shape: [usize; 3],
    /// The bytes of the images, `[n, channels, height, width]`.
    pub(super) images: Vec<u8>,
    /// The class of each image.
    pub(super) labels: Vec<u32>,
}

impl Labelled {
    fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            images: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// These images in the unit range, `[n, channels, height, width]`, some of them mirrored.
    pub(super) fn tensor(
        &self,
        numbers: &[usize],
        mirrored: impl Fn(usize) -> bool,
        device: &Device,
    ) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let size = channels * height * width;
        let mut values: Vec<f32> = Vec::with_capacity(numbers.len() * size);
        for number in numbers {
            let start = values.len();
            let bytes = &self.images[number * size..(number + 1) * size];
            values.extend(bytes.iter().map(|byte| f32::from(*byte) / 255.0));
            if mirrored(*number) {
                for row in values[start..].chunks_exact_mut(width) {
                    row.reverse();
                }
            }
        }
        let shape = [numbers.len(), channels, height, width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// The classes of these images as a tensor takes them.
    pub(super) fn labels_of(&self, numbers: &[usize]) -> Vec<i32> {
        numbers
            .iter()
            .map(|number| self.labels[*number] as i32)
            .collect()
    }
}

/// What is done to every image.
#[derive(Clone, Debug)]
pub(super) struct Preparation {
    /// What a model would see.
    pub(super) rule: Preprocess,
    /// Channels, height and width of what a classifier sees.
    pub(super) shape: [usize; 3],
}

impl Preparation {
    /// As the rule says, and then reduced so that no side is longer than `longest`.
    pub(super) fn new(rule: Preprocess, longest: usize) -> Self {
        let side = rule.height.max(rule.width).max(1);
        let reduced = |length: usize| match side > longest {
            true => (length * longest).div_ceil(side),
            false => length,
        };
        let shape = [rule.channels, reduced(rule.height), reduced(rule.width)];
        Self { rule, shape }
    }

    /// What names of values say of the classifier.
    pub(super) fn protocol(&self, epochs: usize) -> String {
        let [channels, height, width] = self.shape;
        format!("lenet{height}x{width}x{channels}_{epochs}ep")
    }

    /// What is done to images, in words.
    pub(super) fn words(&self) -> String {
        let Preprocess {
            height,
            width,
            filter,
            ..
        } = self.rule;
        let fit = match self.rule.fit {
            Fit::Crop => "scaled and cut",
            Fit::Stretch => "stretched",
            Fit::Pad => "padded",
        };
        let [_, rows, columns] = self.shape;
        let then = match [rows, columns] == [height, width] {
            true => String::new(),
            false => format!(", then reduced to {columns}x{rows}"),
        };
        format!("{fit} to {width}x{height} ({filter}){then}")
    }

    /// The bytes `[channels, height, width]` of an image.
    fn bytes(&self, image: &Image) -> Result<Vec<u8>> {
        let unit = self.rule.apply(image)?;
        let [channels, height, width] = self.shape;
        let unit = match [height, width] == [self.rule.height, self.rule.width] {
            true => unit,
            false => {
                let image =
                    Image::from_unit_chw(&unit, channels, self.rule.height, self.rule.width)?;
                resize(&image, width, height, self.rule.filter)?.to_unit_chw()
            }
        };
        Ok(unit
            .into_iter()
            .map(|value| (value * 255.0).round() as u8)
            .collect())
    }
}

/// The images of a data set with these numbers. `classes` holds the class for each label of the
/// set. `progress` is called with the images done and those to do.
///
/// # Errors
/// [`Error::Data`] for an image without a label; those of reading and preparing the images;
/// [`Error::Failed`] after `stop`.
pub(super) fn of_source(
    source: &dyn Source,
    numbers: &[usize],
    classes: &[u32],
    preparation: &Preparation,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Labelled> {
    let mut all = Labelled::new(preparation.shape);
    for part in numbers.chunks(AT_ONCE) {
        check(stop)?;
        let read = part
            .par_iter()
            .map(|number| -> Result<(Vec<u8>, u32)> {
                let sample = source.get(*number)?;
                let label = sample.label.and_then(|label| classes.get(label as usize));
                match label {
                    Some(label) => Ok((preparation.bytes(&sample.image)?, *label)),
                    None => Err(Error::data(
                        sample.name,
                        "the image has no label",
                        "give every image a label: a folder for each class, or a file of labels",
                    )),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        for (image, label) in read {
            all.images.extend(image);
            all.labels.push(label);
        }
        progress(all.len(), numbers.len());
    }
    Ok(all)
}

/// Samples of a run, `counts[c]` of the class `c`, which the run knows as its class `classes[c]`.
///
/// # Errors
/// [`Error::Settings`] for a run that cannot be asked for a class; those of the model;
/// [`Error::Failed`] after `stop`.
pub(super) fn of_run(
    run: &RunImages,
    counts: &[usize],
    classes: &[u32],
    preparation: &Preparation,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Labelled> {
    let total: usize = counts.iter().sum();
    let mut all = Labelled::new(preparation.shape);
    for ((class, known), numbers) in classes.iter().enumerate().zip(numbers(counts)) {
        let options = SampleOptions {
            class: Some(*known),
            ..run.options.clone()
        };
        let numbers: Vec<u64> = numbers.collect();
        for part in numbers.chunks(AT_ONCE) {
            check(stop)?;
            let request = Request::Generate {
                numbers: part,
                options: &options,
            };
            let answer = run.model.pipeline.answer(&request, &mut |_, _| {});
            for image in answer.map_err(of_class)?.into_images()?.to_images()? {
                all.images.extend(preparation.bytes(&image)?);
                all.labels.push(class as u32);
            }
            progress(all.len(), total);
        }
    }
    Ok(all)
}

/// The numbers of the samples of each class: all different, and starting with a block, since
/// samples are computed in blocks.
fn numbers(counts: &[usize]) -> Vec<Range<u64>> {
    let mut next: u64 = 0;
    counts
        .iter()
        .map(|count| {
            let first = next;
            next = (first + *count as u64).next_multiple_of(BLOCK as u64);
            first..first + *count as u64
        })
        .collect()
}

/// What to do where a model does not know classes.
fn of_class(error: Error) -> Error {
    match error {
        Error::Settings { message, .. } => Error::settings(
            message,
            "use a run that can be asked for a class (family diffusion with model.conditional = \
             true), or a folder of samples with a folder for each class",
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use vermeer_image::{Filter, Pixels};

    use super::*;
    use crate::data::{Description, MemorySource};

    fn preparation(height: usize, width: usize) -> Preparation {
        let rule = Preprocess {
            height,
            width,
            channels: 1,
            fit: Fit::Pad,
            filter: Filter::Bicubic,
            background: [0; 3],
            flip: false,
        };
        Preparation::new(rule, 64)
    }

    #[test]
    fn images_and_classes_stay_together() {
        let description = Description {
            classes: vec!["dog".to_owned(), "cat".to_owned()],
            ..Description::default()
        };
        let pixels = Pixels::U8(vec![0, 51, 102, 153, 204, 255]);
        let source =
            MemorySource::new(description, [1, 2, 1], pixels, Some(vec![0, 1, 1]), vec![]).unwrap();
        let stop = AtomicBool::new(false);
        let mut done = vec![];
        let read = of_source(
            &source,
            &[2, 0],
            &[7, 3],
            &preparation(1, 2),
            &stop,
            &mut |at, all| done.push((at, all)),
        )
        .unwrap();
        assert_eq!(read.images, [204, 255, 0, 51]);
        assert_eq!((read.labels_of(&[0, 1]), read.len()), (vec![3, 7], 2));
        assert_eq!(done, [(2, 2)]);
        let x = read.tensor(&[1, 0], |number| number == 0, &Device::flex());
        assert_eq!(x.dims(), [2, 1, 1, 2]);
        let values = x.try_to_vec_as::<f32>().unwrap();
        for (found, expected) in values.iter().zip([0.0, 0.2, 1.0, 0.8]) {
            assert!((found - expected).abs() < 1e-6, "{values:?}");
        }
        stop.store(true, Ordering::Relaxed);
        let stopped = of_source(
            &source,
            &[0],
            &[0, 1],
            &preparation(1, 2),
            &stop,
            &mut |_, _| {},
        );
        assert_eq!(stopped.unwrap_err().exit_code(), 1);
    }

    #[test]
    fn large_images_are_reduced() {
        let large = preparation(100, 200);
        assert_eq!(large.shape, [1, 32, 64]);
        assert_eq!(large.protocol(5), "lenet32x64x1_5ep");
        assert_eq!(
            large.words(),
            "padded to 200x100 (bicubic), then reduced to 64x32"
        );
        let grey = Image::new(200, 100, 1, Pixels::U8(vec![77; 20_000])).unwrap();
        assert_eq!(large.bytes(&grey).unwrap(), vec![77; 32 * 64]);
        assert_eq!(preparation(28, 28).words(), "padded to 28x28 (bicubic)");
    }

    #[test]
    fn images_without_labels_are_named() {
        let pixels = Pixels::U8(vec![1, 2]);
        let source =
            MemorySource::new(Description::default(), [1, 2, 1], pixels, None, vec![]).unwrap();
        let stop = AtomicBool::new(false);
        let error = of_source(
            &source,
            &[0],
            &[],
            &preparation(1, 2),
            &stop,
            &mut |_, _| {},
        )
        .unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("no label"), "{error}");
    }

    #[test]
    fn classes_have_samples_of_their_own_from_the_start_of_a_block() {
        assert_eq!(numbers(&[3, 0, 8, 1]), [0..3, 8..8, 8..16, 16..17]);
    }
}
