//! Fixed binarisations as text: `.amat` files with one image a line, its pixels as zeros and ones
//! between blanks, row by row.
//!
//! The best known are `binarized_mnist_{train,valid,test}.amat` (Larochelle and Murray, 2011),
//! whose likelihoods are the "fixed" ones of the literature. `valid` and `test` in a file's name
//! mean those splits, anything else the training split. Images must be square.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use vermeer_image::Pixels;

use super::memory::MemorySource;
use super::source::{Description, OpenOptions, Split};
use crate::error::{Error, Result};

/// The longest line that is read: 512×512 pixels.
const LONGEST: usize = 2 * 512 * 512;

/// The format in a [`Description`].
pub const FORMAT: &str = "amat";

/// Whether a file of this name holds binarised images.
pub(super) fn is_amat(name: &str) -> bool {
    !name.starts_with('.') && name.to_ascii_lowercase().ends_with(".amat")
}

/// Opens one file.
///
/// # Errors
/// [`Error::Data`] naming the line that is no image, [`Error::Settings`] for a split the file does
/// not hold.
pub fn open_file(path: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let split = split_of(path);
    if !matches!(options.split, Split::All) && options.split != split {
        return Err(options.split.absent(path, &[split]));
    }
    load(path, split, &[path.to_path_buf()])
}

/// Opens the files of a folder, in the order train, validation, test.
///
/// # Errors
/// As [`open_file`].
pub fn open_folder(folder: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        if is_amat(&entry.file_name().to_string_lossy()) {
            files.push(entry.path());
        }
    }
    files.sort();
    let of = |part: Split| files.iter().filter(move |file| split_of(file) == part);
    let present: Vec<Split> = Split::PARTS
        .into_iter()
        .filter(|part| of(*part).next().is_some())
        .collect();
    let chosen: Vec<PathBuf> = present
        .iter()
        .filter(|part| options.split.takes(**part))
        .flat_map(|part| of(*part).cloned())
        .collect();
    match chosen.is_empty() {
        true => Err(options.split.absent(folder, &present)),
        false => load(folder, options.split, &chosen),
    }
}

fn split_of(path: &Path) -> Split {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    match (name.contains("valid"), name.contains("test")) {
        (true, _) => Split::Validation,
        (_, true) => Split::Test,
        _ => Split::Train,
    }
}

fn load(location: &Path, split: Split, files: &[PathBuf]) -> Result<MemorySource> {
    let mut pixels = Vec::new();
    let mut size = None;
    for file in files {
        let reader = BufReader::new(File::open(file).map_err(|e| Error::io(file, e))?);
        for (number, line) in reader.lines().enumerate() {
            let wrong = |reason: &str| {
                Error::data(
                    file,
                    format!("line {}: {reason}", number + 1),
                    "fetch the file again; each line holds one square image of zeros and ones",
                )
            };
            let line = line.map_err(|e| Error::io(file, e))?;
            if line.len() > LONGEST {
                return Err(wrong("it is longer than any image"));
            }
            let before = pixels.len();
            for word in line.split_ascii_whitespace() {
                pixels.push(match word {
                    "0" | "0.0" => 0,
                    "1" | "1.0" => 255,
                    _ => return Err(wrong(&format!("{word:?} is no pixel"))),
                });
            }
            let count = pixels.len() - before;
            let side = count.isqrt();
            if side * side != count || *size.get_or_insert(count) != count {
                return Err(wrong(&format!("{count} pixels are no image of this set")));
            }
        }
    }
    let side = size.unwrap_or_default().isqrt();
    let description = Description {
        format: FORMAT.to_owned(),
        location: location.display().to_string(),
        split,
        classes: vec![],
        attributes: vec![],
    };
    MemorySource::new(
        description,
        [side, side, 1],
        Pixels::U8(pixels),
        None,
        vec![],
    )
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn options(split: Split) -> OpenOptions {
        OpenOptions {
            split,
            ..OpenOptions::default()
        }
    }

    #[test]
    fn files_are_read_by_split() {
        let folder = tempfile::tempdir().unwrap();
        let place = |part: &str| folder.path().join(format!("binarized_mnist_{part}.amat"));
        fs::write(place("train"), "0 1 1 0 \n1 1 1 1\n").unwrap();
        fs::write(place("valid"), "0 0 0 1\n").unwrap();
        fs::write(place("test"), "1.0 0.0 0 0\n").unwrap();
        for (split, first, count) in [
            (Split::Train, [0, 255, 255, 0], 2),
            (Split::Validation, [0, 0, 0, 255], 1),
            (Split::Test, [255, 0, 0, 0], 1),
            (Split::All, [0, 255, 255, 0], 4),
        ] {
            let source = open_folder(folder.path(), &options(split)).unwrap();
            assert_eq!(source.len(), count, "{split}");
            let sample = source.get(0).unwrap();
            assert_eq!(
                *sample.image.pixels(),
                Pixels::U8(first.to_vec()),
                "{split}"
            );
            assert_eq!(sample.image.width(), 2);
        }
        let test = open_file(&place("test"), &options(Split::All)).unwrap();
        assert_eq!((test.len(), test.describe().split), (1, Split::Test));
        assert!(open_file(&place("test"), &options(Split::Train)).is_err());
    }

    #[test]
    fn a_line_that_is_no_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.amat");
        for (text, line) in [
            ("0 1 1 0\n0 1\n", "line 2"),
            ("0 1 2 0\n", "line 1"),
            ("0 1 1\n", "line 1"),
        ] {
            fs::write(&path, text).unwrap();
            let error = open_file(&path, &options(Split::All)).err().unwrap();
            assert!(error.to_string().contains(line), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
        fs::write(&path, "").unwrap();
        assert!(open_file(&path, &options(Split::All)).is_err());
    }
}
