//! Images in an `.npz`, as MedMNIST and the tools of others store them.
//!
//! | arrays | who writes them |
//! |---|---|
//! | `train_images`, `val_images`, `test_images` and `…_labels` | MedMNIST |
//! | `images`, `labels` | many |
//! | `arr_0`, `arr_1` for labels | guided-diffusion, and `np.savez` without names |
//! | `data` | pythae |
//!
//! Images are `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` with C up to 4, of 8 or 16 bit or
//! floats in `[0, 1]`. Labels are whole numbers `[N]` or `[N, 1]`; more columns are attributes.

use std::path::Path;

use vermeer_image::Pixels;

use super::archive::Archive;
use super::labels::numbered;
use super::memory::MemorySource;
use super::npy::{self, Array};
use super::source::{Description, OpenOptions, Split};
use crate::error::{Error, Result};

/// Names of images and labels in files without splits.
const NAMES: [(&str, &[&str]); 3] = [
    ("images", &["labels", "label"]),
    ("arr_0", &["arr_1"]),
    ("data", &["labels", "label"]),
];

/// The largest class number plus one.
const MAX_CLASSES: i64 = 1 << 16;

const REMEDY: &str = "store images as [N, H, W, C] bytes and labels as [N] whole numbers, \
                      not pickled";

/// An `.npz` with what is needed to read from it.
struct Reader<'a> {
    archive: Archive,
    options: &'a OpenOptions,
}

/// Images of one size, `[N, H, W, C]`.
struct Images {
    shape: [usize; 3],
    count: usize,
    pixels: Pixels,
}

/// What an array of labels holds.
enum Labels {
    Classes(Vec<u32>),
    /// The number of columns and the values row by row.
    Attributes(usize, Vec<f32>),
}

impl Labels {
    fn count(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.len(),
            Self::Attributes(columns, values) => values.len() / columns,
        }
    }
}

/// The arrays of these names in double precision, each with its shape.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Data`] when it is no `.npz`, lacks an array
/// or holds a damaged or very large one.
pub(crate) fn doubles(path: &Path, names: &[&str]) -> Result<Vec<(Vec<usize>, Vec<f64>)>> {
    /// 8,192 features squared.
    const LARGEST: u64 = 8 * 8192 * 8192 + (1 << 16);
    let archive = Archive::open(path)?;
    let wrong = |reason: String| Error::data(path, reason, "give a complete .npz of plain numbers");
    names
        .iter()
        .map(|name| {
            let file = format!("{name}.npy");
            let index = archive.names().iter().position(|entry| *entry == file);
            let index = index.ok_or_else(|| wrong(format!("it holds no array {name}")))?;
            let array = Array::parse(archive.read(index, LARGEST)?)
                .map_err(|reason| wrong(format!("{name}: {reason}")))?;
            let values = array.doubles();
            Ok((array.shape, values))
        })
        .collect()
}

/// The names of the arrays.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Data`] when it is no `.npz`.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let archive = Archive::open(path)?;
    let names = archive.names().iter();
    Ok(names
        .filter_map(|name| name.strip_suffix(".npy").map(str::to_owned))
        .collect())
}

/// The texts of an array of unicode strings.
///
/// # Errors
/// As [`doubles`].
pub(crate) fn texts(path: &Path, name: &str) -> Result<Vec<String>> {
    const LARGEST: u64 = 1 << 30;
    let archive = Archive::open(path)?;
    let wrong = |reason: String| Error::data(path, reason, "give a complete .npz");
    let file = format!("{name}.npy");
    let index = archive.names().iter().position(|entry| *entry == file);
    let index = index.ok_or_else(|| wrong(format!("it holds no array {name}")))?;
    npy::texts(archive.read(index, LARGEST)?).map_err(|reason| wrong(format!("{name}: {reason}")))
}

/// Opens an `.npz`. Its images are held in memory.
///
/// # Errors
/// [`Error::Data`] when there are no images under a known name, or arrays that are damaged, of
/// another layout, of different counts, or larger than the limit; [`Error::Settings`] for a split
/// that is not there.
pub fn open_file(path: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let reader = Reader {
        archive: Archive::open(path)?,
        options,
    };
    let parts = reader.parts()?;
    let present: Vec<Split> = parts.iter().filter_map(|(split, ..)| *split).collect();
    let split = match present.as_slice() {
        [] => options.split.of_unsplit(path)?,
        some if options.split == Split::All || some.contains(&options.split) => options.split,
        some => return Err(options.split.absent(path, some)),
    };

    let mut shape = None;
    let mut pixels: Option<Pixels> = None;
    let mut classes = Vec::new();
    let mut known = Vec::new();
    let mut attributes = Vec::new();
    let mut columns = 0;
    let mut unlabelled = false;
    for (part, images, labels) in parts {
        // Labels of other splits are read to give all splits the same classes.
        let labels = labels.map(|index| reader.labels(index)).transpose()?;
        if let Some(Labels::Classes(labels)) = &labels {
            known.extend_from_slice(labels);
        }
        if part.is_some_and(|part| !split.takes(part)) {
            continue;
        }
        let name = &reader.archive.names()[images];
        let refuse = |reason: String| Err(Error::data(path, format!("{name}: {reason}"), REMEDY));
        let images = reader.images(images)?;
        if let Some(labels) = &labels
            && labels.count() != images.count
        {
            return refuse(format!(
                "{} labels for {} images",
                labels.count(),
                images.count
            ));
        }
        if *shape.get_or_insert(images.shape) != images.shape {
            return refuse("its images have another size than those of the other splits".into());
        }
        pixels = match joined(pixels, images.pixels) {
            Some(pixels) => Some(pixels),
            None => return refuse("its depth differs from that of the other splits".into()),
        };
        match labels {
            None => unlabelled = true,
            Some(Labels::Classes(labels)) => classes.extend(labels),
            Some(Labels::Attributes(of_part, values)) => {
                columns = of_part;
                attributes.extend(values);
            }
        }
    }
    if unlabelled && !(classes.is_empty() && attributes.is_empty()) {
        return Err(Error::data(
            path,
            "one split has labels and another has none",
            "open one split at a time, or add the missing labels",
        ));
    }
    let labels = (!unlabelled && columns == 0).then_some(classes);
    let description = Description {
        format: "npz".to_string(),
        location: path.display().to_string(),
        split,
        classes: match &labels {
            Some(_) => numbered(known.into_iter()),
            None => Vec::new(),
        },
        attributes: (0..columns).map(|i| format!("label_{i}")).collect(),
    };
    let pixels = pixels.unwrap_or(Pixels::U8(Vec::new()));
    let shape = shape.unwrap_or_default();
    MemorySource::new(description, shape, pixels, labels, attributes)
}

/// A split, where there are any, with the places of its images and labels in the archive.
type Part = (Option<Split>, usize, Option<usize>);

impl Reader<'_> {
    /// The place of an array.
    fn find(&self, array: &str) -> Option<usize> {
        let names = self.archive.names().iter();
        names
            .map(|name| name.strip_suffix(".npy"))
            .position(|name| name == Some(array))
    }

    /// What there is to read.
    fn parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (split, prefix) in Split::PARTS.into_iter().zip(["train", "val", "test"]) {
            if let Some(images) = self.find(&format!("{prefix}_images")) {
                let labels = self.find(&format!("{prefix}_labels"));
                parts.push((Some(split), images, labels));
            }
        }
        if parts.is_empty() {
            for (images, labels) in NAMES {
                if let Some(images) = self.find(images) {
                    let labels = labels.iter().find_map(|labels| self.find(labels));
                    return Ok(vec![(None, images, labels)]);
                }
            }
            return Err(Error::data(
                self.archive.path(),
                format!(
                    "no array is known to hold images; there are: {}",
                    self.archive.names().join(", ")
                ),
                "name the arrays images and labels, or train_images, train_labels, …",
            ));
        }
        Ok(parts)
    }

    fn refuse<T>(&self, index: usize, reason: impl AsRef<str>) -> Result<T> {
        let name = &self.archive.names()[index];
        Err(Error::data(
            self.archive.path(),
            format!("{name}: {}", reason.as_ref()),
            REMEDY,
        ))
    }

    fn array(&self, index: usize) -> Result<Array> {
        let limit = self.options.limits.max_decoded_bytes;
        match Array::parse(self.archive.read(index, limit)?) {
            Ok(array) => Ok(array),
            Err(reason) => self.refuse(index, reason),
        }
    }

    fn images(&self, index: usize) -> Result<Images> {
        let array = self.array(index)?;
        let few = |channels: usize| (1..=4).contains(&channels);
        let first = self.archive.names()[index] == "data.npy";
        let (count, height, width, channels, planar) = match array.shape[..] {
            [n, h, w] => (n, h, w, 1, false),
            [n, c, h, w] if few(c) && (first || !few(w)) => (n, h, w, c, true),
            [n, h, w, c] if few(c) => (n, h, w, c, false),
            _ => {
                let reason = format!("its shape {:?} is not that of images", array.shape);
                return self.refuse(index, reason);
            }
        };
        let most = self.options.limits.max_side as usize;
        if count == 0 || height.min(width) == 0 || height.max(width) > most {
            let reason = format!(
                "its shape is {:?}; sides from 1 to {most} are read",
                array.shape
            );
            return self.refuse(index, reason);
        }
        let mut pixels = match array.into_pixels() {
            Ok(pixels) => pixels,
            Err(reason) => return self.refuse(index, reason),
        };
        if planar && channels > 1 {
            let plane = height * width;
            pixels = match pixels {
                Pixels::U8(values) => Pixels::U8(interleave(&values, channels, plane)),
                Pixels::U16(values) => Pixels::U16(interleave(&values, channels, plane)),
                Pixels::F32(values) => Pixels::F32(interleave(&values, channels, plane)),
            };
        }
        Ok(Images {
            shape: [height, width, channels],
            count,
            pixels,
        })
    }

    fn labels(&self, index: usize) -> Result<Labels> {
        let array = self.array(index)?;
        match array.shape[..] {
            [_] | [_, 1] => {
                let Some(numbers) = array.integers() else {
                    return self.refuse(index, "its labels are not whole numbers");
                };
                let outside = numbers.iter().find(|n| !(0..MAX_CLASSES).contains(*n));
                if let Some(number) = outside {
                    return self.refuse(index, format!("the label {number} is no class"));
                }
                let labels = numbers.into_iter().map(|number| number as u32);
                Ok(Labels::Classes(labels.collect()))
            }
            [_, columns] if columns > 1 => Ok(Labels::Attributes(columns, array.floats())),
            _ => self.refuse(
                index,
                format!("its shape {:?} is not that of labels", array.shape),
            ),
        }
    }
}

/// Makes `[N, H, W, C]` of `[N, C, H, W]`, where H times W is `plane`.
fn interleave<T: Copy>(values: &[T], channels: usize, plane: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact(channels * plane) {
        for pixel in 0..plane {
            out.extend((0..channels).map(|channel| image[channel * plane + pixel]));
        }
    }
    out
}

/// Images after others of the same depth; none when the depths differ.
fn joined(before: Option<Pixels>, after: Pixels) -> Option<Pixels> {
    fn both<T: Copy>(mut one: Vec<T>, two: &[T]) -> Vec<T> {
        one.extend_from_slice(two);
        one
    }
    match (before, after) {
        (None, after) => Some(after),
        (Some(Pixels::U8(one)), Pixels::U8(two)) => Some(Pixels::U8(both(one, &two))),
        (Some(Pixels::U16(one)), Pixels::U16(two)) => Some(Pixels::U16(both(one, &two))),
        (Some(Pixels::F32(one)), Pixels::F32(two)) => Some(Pixels::F32(both(one, &two))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::npy;
    use super::super::source::Source;
    use super::*;

    fn bytes(shape: &str, data: &[u8]) -> Vec<u8> {
        npy::write("'|u1'", shape, data)
    }

    fn open(arrays: &[(&str, Vec<u8>)], split: Split) -> Result<MemorySource> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.npz");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in arrays {
            let options = SimpleFileOptions::default();
            writer.start_file(format!("{name}.npy"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        let options = OpenOptions {
            split,
            ..OpenOptions::default()
        };
        open_file(&path, &options)
    }

    fn first(source: &MemorySource, index: usize) -> Vec<u8> {
        match source.get(index).unwrap().image.pixels() {
            Pixels::U8(bytes) => bytes.clone(),
            _ => panic!("the test writes bytes"),
        }
    }

    #[test]
    fn medmnist_has_three_splits_with_the_same_classes() {
        let arrays = [
            ("train_images", bytes("(2, 1, 2)", &[1, 2, 3, 4])),
            ("train_labels", bytes("(2, 1)", &[0, 1])),
            ("val_images", bytes("(1, 1, 2)", &[5, 6])),
            ("val_labels", bytes("(1, 1)", &[2])),
            ("test_images", bytes("(1, 1, 2)", &[7, 8])),
            ("test_labels", bytes("(1, 1)", &[0])),
        ];
        let train = open(&arrays, Split::Train).unwrap();
        assert_eq!((train.len(), train.label(1)), (2, Some(1)));
        assert_eq!(train.describe().classes, ["0", "1", "2"]);
        assert_eq!(first(&train, 1), [3, 4]);
        let validation = open(&arrays, Split::Validation).unwrap();
        assert_eq!(
            (first(&validation, 0), validation.label(0)),
            (vec![5, 6], Some(2))
        );
        let all = open(&arrays, Split::All).unwrap();
        assert_eq!((all.len(), first(&all, 3)), (4, vec![7, 8]));
        assert!(open(&arrays[..4], Split::Test).is_err());
    }

    #[test]
    fn channels_may_stand_last_or_first() {
        let data: Vec<u8> = (0..30).collect();
        let last = open(&[("arr_0", bytes("(1, 2, 5, 3)", &data))], Split::All).unwrap();
        assert_eq!(first(&last, 0)[..4], [0, 1, 2, 3]);
        let planes = open(&[("images", bytes("(1, 3, 2, 5)", &data))], Split::All).unwrap();
        assert_eq!(first(&planes, 0)[..4], [0, 10, 20, 1]);
        let image = planes.get(0).unwrap().image;
        assert_eq!((image.width(), image.height(), image.channels()), (5, 2, 3));
        let grey = open(&[("data", bytes("(1, 1, 10, 3)", &data))], Split::All).unwrap();
        assert_eq!(grey.get(0).unwrap().image.height(), 10);
        assert_eq!(grey.label(0), None);
    }

    #[test]
    fn more_columns_of_labels_are_attributes() {
        let arrays = [
            ("images", bytes("(2, 1, 1)", &[9, 9])),
            ("labels", bytes("(2, 3)", &[0, 1, 0, 1, 1, 0])),
        ];
        let sample = open(&arrays, Split::Train).unwrap().get(1).unwrap();
        assert_eq!(
            (sample.label, sample.attributes),
            (None, vec![1.0, 1.0, 0.0])
        );
    }

    #[test]
    fn arrays_that_do_not_fit_are_named() {
        let images = || ("images", bytes("(2, 1, 1)", &[9, 9]));
        for (arrays, part) in [
            (vec![("x", bytes("(1,)", &[0]))], "x.npy"),
            (
                vec![("images", bytes("(2, 2)", &[0; 4]))],
                "images.npy: its shape",
            ),
            (
                vec![("images", bytes("(0, 2, 2)", &[]))],
                "images.npy: its shape",
            ),
            (vec![("images", b"text".to_vec())], "images.npy"),
            (
                vec![images(), ("labels", bytes("(3,)", &[0; 3]))],
                "3 labels for 2 images",
            ),
            (
                vec![images(), ("labels", npy::write("'|i1'", "(2,)", &[0, 255]))],
                "the label -1",
            ),
            (
                vec![images(), ("labels", npy::write("'|b1'", "(2,)", &[0, 1]))],
                "whole numbers",
            ),
        ] {
            let error = open(&arrays, Split::Train).err().unwrap();
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert_eq!(error.exit_code(), 4);
        }
    }
}
