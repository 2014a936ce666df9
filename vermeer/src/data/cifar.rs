//! The binary files of CIFAR-10 and CIFAR-100: records of labels and 32x32 RGB planes.
//!
//! | set | record | names of the classes |
//! |---|---|---|
//! | CIFAR-10 | label, 1024 red, 1024 green, 1024 blue bytes: 3073 | `batches.meta.txt` |
//! | CIFAR-100 | coarse label, fine label, 3072 bytes as above: 3074 | `fine_label_names.txt` |
//!
//! Any `.bin` whose size is a whole number of records is read, so that parts of the sets work too.
//! `test` in a file's name means the test split, anything else the training split. The label of
//! CIFAR-100 is the fine one; the coarse one is the attribute `coarse`. Source: A. Krizhevsky,
//! "Learning Multiple Layers of Features from Tiny Images" (2009), and the page of the data set.

use std::fs;
use std::path::{Path, PathBuf};

use vermeer_image::Pixels;

use super::labels::numbered;
use super::memory::MemorySource;
use super::natural;
use super::source::{Description, OpenOptions, Split};
use crate::error::{Error, Result};

/// Bytes of an image: three planes of 32x32.
const IMAGE: usize = 3072;

/// Whether a file of this name is taken for CIFAR records.
pub(super) fn is_batch(name: &str) -> bool {
    !name.starts_with('.') && name.to_ascii_lowercase().ends_with(".bin")
}

/// Opens one file of records.
///
/// # Errors
/// [`Error::Data`] when the size is no whole number of records or a label has no name;
/// [`Error::Settings`] for the validation split, or the test split of a file that is not.
pub fn open_file(path: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let split = split_of(path);
    if !matches!(options.split, Split::Train | Split::All) && options.split != split {
        return Err(options.split.absent(path, &[split]));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    load(path, folder, split, &[path.to_path_buf()], options)
}

/// Opens all files of records in a folder, in natural order of their names.
///
/// # Errors
/// As [`open_file`]; also [`Error::Data`] when the files are of two kinds.
pub fn open_folder(folder: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        if is_batch(&entry.file_name().to_string_lossy()) {
            files.push(entry.path());
        }
    }
    files.sort_by_cached_key(|file| natural::key(&file.to_string_lossy()));
    let present: Vec<Split> = Split::PARTS
        .into_iter()
        .filter(|part| files.iter().any(|file| split_of(file) == *part))
        .collect();
    let mut chosen = Vec::new();
    for part in present.iter().filter(|part| options.split.takes(**part)) {
        let of_part = files.iter().filter(|file| split_of(file) == *part);
        chosen.extend(of_part.cloned());
    }
    if chosen.is_empty() {
        return Err(options.split.absent(folder, &present));
    }
    load(folder, folder, options.split, &chosen, options)
}

/// Reads files of records one after another; names of classes are looked for in `folder`.
fn load(
    location: &Path,
    folder: &Path,
    split: Split,
    files: &[PathBuf],
    options: &OpenOptions,
) -> Result<MemorySource> {
    let mut records = Vec::new();
    let mut size = None;
    for file in files {
        let stored = fs::metadata(file).map_err(|e| Error::io(file, e))?.len();
        if stored > options.limits.max_decoded_bytes {
            return Err(Error::data(
                file,
                format!(
                    "{stored} bytes; at most {} are read",
                    options.limits.max_decoded_bytes
                ),
                "raise the limit, or give a part of the file",
            ));
        }
        let bytes = fs::read(file).map_err(|e| Error::io(file, e))?;
        let of_file = record_size(bytes.len(), folder).ok_or_else(|| {
            Error::data(
                file,
                format!(
                    "{} bytes are no whole number of records of 3073 (CIFAR-10) or 3074 \
                     (CIFAR-100) bytes",
                    bytes.len()
                ),
                "copy or download the file again and compare its checksum",
            )
        })?;
        if *size.get_or_insert(of_file) != of_file {
            return Err(Error::data(
                file,
                "CIFAR-10 and CIFAR-100 records lie in one folder",
                "give one of the files instead of the folder",
            ));
        }
        records.extend_from_slice(&bytes);
    }
    let size = size.unwrap_or(1 + IMAGE);

    let mut pixels = Vec::with_capacity(records.len());
    let mut labels = Vec::new();
    let mut coarse = Vec::new();
    for record in records.chunks_exact(size) {
        let (head, planes) = record.split_at(size - IMAGE);
        labels.extend(head.last().map(|label| u32::from(*label)));
        if let [group, _] = head {
            coarse.push(f32::from(*group));
        }
        let (red, rest) = planes.split_at(IMAGE / 3);
        let (green, blue) = rest.split_at(IMAGE / 3);
        for ((red, green), blue) in red.iter().zip(green).zip(blue) {
            pixels.extend([*red, *green, *blue]);
        }
    }
    let (format, names, attributes) = match coarse.is_empty() {
        true => ("cifar-10", "batches.meta.txt", vec![]),
        false => (
            "cifar-100",
            "fine_label_names.txt",
            vec!["coarse".to_string()],
        ),
    };
    let classes = match class_names(&folder.join(names))? {
        Some(classes) => classes,
        None => numbered(labels.iter().copied()),
    };
    let description = Description {
        format: format.to_string(),
        location: location.display().to_string(),
        split,
        classes,
        attributes,
    };
    MemorySource::new(
        description,
        [32, 32, 3],
        Pixels::U8(pixels),
        Some(labels),
        coarse,
    )
}

/// The bytes of one record of a file. Where both sizes fit, the names beside it decide.
fn record_size(bytes: usize, folder: &Path) -> Option<usize> {
    let fits = |size: usize| bytes > 0 && bytes.is_multiple_of(size);
    match (fits(1 + IMAGE), fits(2 + IMAGE)) {
        (true, true) if folder.join("fine_label_names.txt").is_file() => Some(2 + IMAGE),
        (true, _) => Some(1 + IMAGE),
        (false, true) => Some(2 + IMAGE),
        (false, false) => None,
    }
}

/// The lines of a file of class names, where there is one.
fn class_names(path: &Path) -> Result<Option<Vec<String>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(Some(names.map(str::to_string).collect()))
}

/// The split that a file's name tells.
fn split_of(path: &Path) -> Split {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.to_ascii_lowercase().contains("test") {
        true => Split::Test,
        false => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    /// A record of `head` with red 1, green 2 and blue 3, except for the first red byte.
    fn record(head: &[u8], first: u8) -> Vec<u8> {
        let mut bytes = head.to_vec();
        for plane in 1..=3 {
            bytes.extend([plane; 1024]);
        }
        bytes[head.len()] = first;
        bytes
    }

    fn options(split: Split) -> OpenOptions {
        OpenOptions {
            split,
            ..OpenOptions::default()
        }
    }

    fn first_bytes(source: &MemorySource) -> Vec<u8> {
        let images = (0..source.len()).map(|i| source.get(i).unwrap().image);
        images
            .map(|image| match image.pixels() {
                Pixels::U8(bytes) => bytes[0],
                _ => panic!("CIFAR is 8 bits deep"),
            })
            .collect()
    }

    #[test]
    fn planes_become_pixels_and_files_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| {
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        write("data_batch_10.bin", record(&[0], 30));
        let two = [record(&[1], 10), record(&[0], 20)].concat();
        write("data_batch_2.bin", two);
        write("test_batch.bin", record(&[1], 40));
        write("batches.meta.txt", b"airplane\nautomobile\n\n".to_vec());

        let open = |split| open_folder(folder.path(), &options(split));
        let train = open(Split::Train).unwrap();
        assert_eq!(first_bytes(&train), [10, 20, 30]);
        assert_eq!(train.label(0), Some(1));
        assert_eq!(train.describe().classes, ["airplane", "automobile"]);
        assert_eq!(train.describe().format, "cifar-10");
        let image = train.get(2).unwrap().image;
        assert!(matches!(image.pixels(), Pixels::U8(v) if v[..6] == [30, 2, 3, 1, 2, 3]));
        assert_eq!(first_bytes(&open(Split::All).unwrap()), [10, 20, 30, 40]);
        assert_eq!(first_bytes(&open(Split::Test).unwrap()), [40]);
        assert!(open(Split::Validation).is_err());

        let file = folder.path().join("test_batch.bin");
        let source = open_file(&file, &options(Split::Train)).unwrap();
        assert_eq!(source.describe().split, Split::Test);
    }

    #[test]
    fn cifar_100_has_fine_labels_and_coarse_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("train.bin");
        fs::write(&file, record(&[4, 30], 9)).unwrap();
        let source = open_file(&file, &options(Split::Train)).unwrap();
        assert_eq!(source.describe().format, "cifar-100");
        let sample = source.get(0).unwrap();
        assert_eq!((sample.label, sample.attributes), (Some(30), vec![4.0]));
    }

    #[test]
    fn odd_sizes_and_labels_without_a_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.bin");
        for (bytes, part) in [(vec![0u8; 3072], "3072 bytes"), (vec![], "0 bytes")] {
            fs::write(&file, bytes).unwrap();
            let error = open_file(&file, &options(Split::All)).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
        fs::write(&file, record(&[2], 0)).unwrap();
        fs::write(folder.path().join("batches.meta.txt"), "cat\ndog\n").unwrap();
        let error = open_file(&file, &options(Split::All)).err().unwrap();
        assert!(error.to_string().contains("label 2"), "{error}");
    }
}
