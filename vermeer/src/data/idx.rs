//! IDX files, as MNIST and its relatives come, plain or gzipped.
//!
//! | magic number | content | header after it |
//! |---|---|---|
//! | 2051 | unsigned bytes `[N, H, W]`: grey images | N, H, W as big-endian `u32` |
//! | 2049 | unsigned bytes `[N]`: labels | N as big-endian `u32` |
//!
//! Labels are found by the name of the images: `images` and `idx3` become `labels` and `idx1`,
//! with or without `.gz`. `train` in a name means the training split, `t10k` or `test` the test
//! split. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use vermeer_image::{Limits, Pixels};

use super::labels::numbered;
use super::memory::MemorySource;
use super::source::{Description, OpenOptions, Split};
use crate::error::{Error, Result};

/// Deflate makes at most 1032 bytes of one (RFC 1951: 258 bytes from two bits).
const MAX_INFLATION: u64 = 1032;

/// What a file is expected to hold.
#[derive(Clone, Copy)]
enum Content {
    Images,
    Labels,
}

impl Content {
    fn magic(self) -> u32 {
        match self {
            Self::Images => 2051,
            Self::Labels => 2049,
        }
    }
}

/// The bytes of one file with their sizes: `[N, H, W]` or `[N]`.
struct Array {
    sizes: Vec<usize>,
    bytes: Vec<u8>,
}

/// Whether a file of this name is taken for IDX images.
pub(super) fn is_image_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.starts_with('.') && name.contains("images") && name.contains("idx3")
}

/// Opens one file of images with the labels beside it, or those of [`OpenOptions::labels`].
///
/// # Errors
/// [`Error::Data`] for a wrong magic number, sizes that do not fit the file, and labels of another
/// count; [`Error::Settings`] for a split that the file is not.
pub fn open_file(path: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let split = match (split_of(path), options.split) {
        (None, wanted) => wanted.of_unsplit(path)?,
        // Naming a file says which part is meant; only a split asked for by name can contradict.
        (Some(split), Split::Train | Split::All) => split,
        (Some(split), wanted) if split == wanted => split,
        (Some(split), wanted) => return Err(wanted.absent(path, &[split])),
    };
    let labels = match &options.labels {
        Some(labels) => Some(labels.clone()),
        None => labels_beside(path),
    };
    load(path, split, &[(path.to_path_buf(), labels)], &[], options)
}

/// Opens the files of images in a folder.
///
/// # Errors
/// As [`open_file`]; also [`Error::Settings`] when two files are the same split.
pub fn open_folder(folder: &Path, options: &OpenOptions) -> Result<MemorySource> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        // Of a file and its gzipped copy the plain one is read.
        let copy = name.strip_suffix(".gz").map(|plain| folder.join(plain));
        if is_image_file(&name) && copy.is_none_or(|plain| !plain.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    if let [file] = files.as_slice()
        && split_of(file).is_none()
    {
        return open_file(file, options);
    }
    if files.iter().any(|file| split_of(file).is_none()) {
        return Err(Error::settings(
            format!(
                "{}: the names of the files do not tell the split",
                folder.display()
            ),
            "give one of the files instead of the folder",
        ));
    }
    let present: Vec<Split> = Split::PARTS
        .into_iter()
        .filter(|part| files.iter().any(|file| split_of(file) == Some(*part)))
        .collect();
    let mut parts = Vec::new();
    let mut others = Vec::new();
    for part in &present {
        let mut of_part = files.iter().filter(|file| split_of(file) == Some(*part));
        let (Some(file), None) = (of_part.next(), of_part.next()) else {
            return Err(Error::settings(
                format!("{}: several files are the {part} split", folder.display()),
                "give one of the files instead of the folder",
            ));
        };
        let labels = labels_beside(file);
        if options.split.takes(*part) {
            parts.push((file.clone(), labels));
        } else {
            others.extend(labels);
        }
    }
    if parts.is_empty() {
        return Err(options.split.absent(folder, &present));
    }
    if let Some(labels) = &options.labels {
        let [(_, slot)] = parts.as_mut_slice() else {
            return Err(Error::settings(
                format!("{}: one file of labels for two splits", labels.display()),
                "ask for one split",
            ));
        };
        *slot = Some(labels.clone());
    }
    load(folder, options.split, &parts, &others, options)
}

/// Reads files of images with their labels one after another. Labels of the splits that are not
/// asked for (`others`) are read to give all splits the same classes.
fn load(
    location: &Path,
    split: Split,
    parts: &[(PathBuf, Option<PathBuf>)],
    others: &[PathBuf],
    options: &OpenOptions,
) -> Result<MemorySource> {
    let mut shape = None;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    let mut unlabelled = 0;
    for (path, labels_path) in parts {
        let images = read(path, Content::Images, &options.limits)?;
        let (count, sides) = (images.sizes[0], [images.sizes[1], images.sizes[2], 1]);
        if *shape.get_or_insert(sides) != sides {
            return Err(Error::data(
                path,
                "the images have another size than those of the other split",
                "open one split at a time",
            ));
        }
        match labels_path {
            None => unlabelled += 1,
            Some(labels_path) => {
                let these = read(labels_path, Content::Labels, &options.limits)?;
                if these.sizes[0] != count {
                    return Err(Error::data(
                        labels_path,
                        format!(
                            "{} labels for the {count} images of {}",
                            these.sizes[0],
                            path.display()
                        ),
                        "use the files that belong together",
                    ));
                }
                labels.extend(these.bytes.iter().map(|label| u32::from(*label)));
            }
        }
        if pixels.is_empty() {
            pixels = images.bytes;
        } else {
            pixels.extend_from_slice(&images.bytes);
        }
    }
    if unlabelled > 0 && unlabelled < parts.len() {
        return Err(Error::data(
            location,
            "one split has labels and another has none",
            "open one split at a time, or add the missing file of labels",
        ));
    }
    let labels = (unlabelled == 0).then_some(labels);
    let mut known = labels.clone().unwrap_or_default();
    if labels.is_some() {
        for path in others {
            let other = read(path, Content::Labels, &options.limits)?;
            known.extend(other.bytes.iter().map(|label| u32::from(*label)));
        }
    }
    let description = Description {
        format: "idx".to_string(),
        location: location.display().to_string(),
        split,
        classes: numbered(known.into_iter()),
        attributes: Vec::new(),
    };
    let shape = shape.unwrap_or_default();
    MemorySource::new(description, shape, Pixels::U8(pixels), labels, Vec::new())
}

/// The split that a file's name tells.
fn split_of(path: &Path) -> Option<Split> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    if name.contains("train") {
        Some(Split::Train)
    } else if name.contains("t10k") || name.contains("test") {
        Some(Split::Test)
    } else {
        None
    }
}

/// The file of labels that belongs to a file of images.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    if !name.contains("images") {
        return None;
    }
    let name = name.replace("images", "labels").replace("idx3", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    [name.clone(), plain.to_string(), format!("{plain}.gz")]
        .into_iter()
        .map(|name| images.with_file_name(name))
        .find(|path| path.is_file())
}

/// Reads one file. What its header announces is compared with the size of the file before
/// anything is reserved, and never more than that is read.
fn read(path: &Path, content: Content, limits: &Limits) -> Result<Array> {
    let refuse = |reason: String| {
        Err(Error::data(
            path,
            reason,
            "copy or download the file again and compare its checksum",
        ))
    };
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::data(
            path,
            "the file ends too early",
            "copy or download the file again and compare its checksum",
        ),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::data(
            path,
            format!("the gzip stream is damaged ({error})"),
            "copy or download the file again and compare its checksum",
        ),
        _ => Error::io(path, error),
    };

    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let stored = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut file = BufReader::new(file);
    let gzipped = file.fill_buf().map_err(broken)?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn Read> = if gzipped {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };

    let mut number = || -> Result<u32> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(broken)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let magic = number()?;
    if magic != content.magic() {
        let what = |magic| match magic {
            2051 => " (images)",
            2049 => " (labels)",
            _ => "",
        };
        return Err(Error::data(
            path,
            format!(
                "the magic number is {magic}{} where {}{} is expected",
                what(magic),
                content.magic(),
                what(content.magic())
            ),
            "give an IDX file of unsigned bytes: images as [N, H, W], labels as [N]",
        ));
    }
    let dimensions = match content {
        Content::Images => 3,
        Content::Labels => 1,
    };
    let mut sizes = Vec::new();
    for _ in 0..dimensions {
        sizes.push(number()?);
    }
    let header = 4 + 4 * sizes.len() as u64;
    let announced = sizes
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(*size)));
    let text = sizes.iter().map(u32::to_string).collect::<Vec<_>>();
    let text = text.join(" x ");
    let announced = match announced {
        None | Some(0) => return refuse(format!("the header announces {text} bytes")),
        Some(announced) => announced,
    };
    if sizes[1..].iter().any(|side| *side > limits.max_side) {
        return refuse(format!(
            "the header announces {text} bytes; sides of at most {} are read",
            limits.max_side
        ));
    }
    let most = if gzipped {
        stored.saturating_mul(MAX_INFLATION)
    } else {
        stored.saturating_sub(header)
    };
    if announced > most.min(limits.max_decoded_bytes) {
        return refuse(format!(
            "the header announces {text} = {announced} bytes; the file's {stored} bytes cannot \
             hold them, or they exceed the limit of {}",
            limits.max_decoded_bytes
        ));
    }
    // One byte more than announced shows what is left over, and lets gzip check its sum.
    let mut bytes = Vec::new();
    reader
        .take(announced + 1)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    if bytes.len() as u64 != announced {
        let than = if (bytes.len() as u64) < announced {
            format!("there are {}", bytes.len())
        } else {
            "there are more".to_string()
        };
        return refuse(format!(
            "the header announces {text} = {announced} bytes; {than}"
        ));
    }
    Ok(Array {
        sizes: sizes.into_iter().map(|size| size as usize).collect(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::source::Source;
    use super::*;

    /// An IDX file: magic number, sizes, bytes.
    fn idx(magic: u32, sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let numbers = std::iter::once(&magic).chain(sizes);
        let mut file: Vec<u8> = numbers.flat_map(|n| n.to_be_bytes()).collect();
        file.extend_from_slice(bytes);
        file
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three training images of 1x2 as gzip, two test images plain, with labels.
    fn mnist() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes);
        let train = idx(2051, &[3, 1, 2], &[0, 51, 102, 153, 204, 255]);
        write("train-images-idx3-ubyte.gz", gz(&train)).unwrap();
        write(
            "train-labels-idx1-ubyte.gz",
            gz(&idx(2049, &[3], &[4, 0, 1])),
        )
        .unwrap();
        let test = idx(2051, &[2, 1, 2], &[1, 2, 3, 4]);
        write("t10k-images-idx3-ubyte", test).unwrap();
        write("t10k-labels-idx1-ubyte", idx(2049, &[2], &[9, 8])).unwrap();
        folder
    }

    fn options(split: Split) -> OpenOptions {
        OpenOptions {
            split,
            ..OpenOptions::default()
        }
    }

    fn labels(source: &MemorySource) -> Vec<Option<u32>> {
        (0..source.len()).map(|i| source.label(i)).collect()
    }

    #[test]
    fn folders_give_splits_with_the_same_classes() {
        let folder = mnist();
        let open = |split| open_folder(folder.path(), &options(split));
        let train = open(Split::Train).unwrap();
        assert_eq!(labels(&train), [Some(4), Some(0), Some(1)]);
        let bytes = train.get(1).unwrap().image;
        assert!(matches!(bytes.pixels(), Pixels::U8(v) if v == &[102, 153]));
        assert_eq!((bytes.width(), bytes.height(), bytes.channels()), (2, 1, 1));
        let test = open(Split::Test).unwrap();
        assert_eq!(labels(&test), [Some(9), Some(8)]);
        assert_eq!(train.describe().classes, test.describe().classes);
        assert_eq!(test.describe().classes.len(), 10);
        assert_eq!(open(Split::All).unwrap().len(), 5);
        assert_eq!(open(Split::Validation).err().unwrap().exit_code(), 2);
    }

    #[test]
    fn a_file_finds_its_labels_and_knows_its_split() {
        let folder = mnist();
        let path = folder.path().join("t10k-images-idx3-ubyte");
        let source = open_file(&path, &options(Split::Train)).unwrap();
        assert_eq!(labels(&source), [Some(9), Some(8)]);
        assert_eq!(source.describe().split, Split::Test);
        assert!(open_file(&path, &options(Split::Test)).is_ok());
        assert!(open_file(&path, &options(Split::Validation)).is_err());

        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
        let source = open_file(&path, &options(Split::Test)).unwrap();
        assert_eq!(labels(&source), [None, None]);
    }

    #[test]
    fn files_that_are_wrong_say_how() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.idx3");
        let mut damaged = gz(&idx(2051, &[1, 2, 2], &[1, 2, 3, 4]));
        let sum = damaged.len() - 8;
        damaged[sum] ^= 1;
        let huge = u32::MAX;
        for (bytes, part) in [
            (idx(2049, &[1], &[1]), "2049 (labels) where 2051 (images)"),
            (idx(2052, &[1, 2, 2], &[0; 4]), "magic number is 2052 where"),
            (idx(2051, &[2, 2, 2], &[0; 7]), "2 x 2 x 2 = 8 bytes"),
            (idx(2051, &[1, 2, 2], &[0; 5]), "there are more"),
            (gz(&idx(2051, &[1, 2, 2], &[0; 5])), "there are more"),
            (gz(&idx(2051, &[1, 2, 2], &[0; 3])), "there are 3"),
            (idx(2051, &[0, 2, 2], &[]), "0 x 2 x 2"),
            (idx(2051, &[huge, huge, huge], &[]), "the header announces"),
            (gz(&idx(2051, &[huge, 28, 28], &[])), "cannot hold them"),
            (idx(2051, &[1], &[]), "ends too early"),
            (damaged, "damaged"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = open_file(&path, &options(Split::Train)).err().unwrap();
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert!(error.to_string().contains("images.idx3"), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn another_count_of_labels_is_refused_and_both_files_are_named() {
        let folder = mnist();
        let labels = folder.path().join("t10k-labels-idx1-ubyte");
        fs::write(&labels, idx(2049, &[3], &[1, 2, 3])).unwrap();
        let error = open_folder(folder.path(), &options(Split::Test))
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(text.contains("3 labels for the 2 images"), "{text}");
        assert!(text.contains("t10k-labels-idx1-ubyte"), "{text}");
        assert!(text.contains("t10k-images-idx3-ubyte"), "{text}");
        assert_eq!(error.exit_code(), 4);
    }
}
