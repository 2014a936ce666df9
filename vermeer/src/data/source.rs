//! What a data set is: a numbered list of labelled images that can be read in any order.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vermeer_image::{Image, Limits};

use super::amat;
use super::cifar;
use super::folder::{self, FolderSource};
use super::idx;
use super::npz;
use super::stylegan::StyleganSource;
use super::world::{self, World};
use crate::error::{Error, Result};

/// One image and what is known about it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The image as it is stored: any size, 1 to 4 channels, its own bit depth.
    pub image: Image,
    /// The class, an index into [`Description::classes`].
    pub label: Option<u32>,
    /// The values of [`Description::attributes`], in that order.
    pub attributes: Vec<f32>,
    /// The file, or the place inside a file.
    pub name: String,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What models learn from. A data set without splits is taken whole.
    #[default]
    Train,
    /// What decides when to stop.
    #[serde(alias = "val", alias = "valid")]
    Validation,
    /// What results are reported on.
    Test,
    /// Everything, in the order train, validation, test.
    All,
}

impl Split {
    /// The splits that data sets keep apart.
    pub(super) const PARTS: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Whether asking for `self` takes a part that belongs to `part`.
    pub(super) fn takes(self, part: Self) -> bool {
        self == Self::All || self == part
    }

    /// The split to report for a data set that has none: everything for those who train or ask
    /// for all of it.
    ///
    /// # Errors
    /// [`Error::Settings`] for a validation or test split.
    pub(super) fn of_unsplit(self, location: &Path) -> Result<Self> {
        match self {
            Self::Train | Self::All => Ok(Self::All),
            Self::Validation | Self::Test => Err(self.absent(location, &[])),
        }
    }

    /// The error of a data set that lacks this split.
    pub(super) fn absent(self, location: &Path, present: &[Self]) -> Error {
        let remedy = if present.is_empty() {
            "the set is not split; use --split all".to_string()
        } else {
            let names: Vec<_> = present.iter().map(Self::to_string).collect();
            format!("choose from {}", names.join(", "))
        };
        Error::settings(
            format!("{}: there is no {self} split", location.display()),
            remedy,
        )
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::All => "all",
        })
    }
}

impl FromStr for Split {
    type Err = Error;

    /// Reads `train`, `validation` (also `val`, `valid`), `test` and `all`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "train" => Ok(Self::Train),
            "validation" | "valid" | "val" => Ok(Self::Validation),
            "test" => Ok(Self::Test),
            "all" => Ok(Self::All),
            _ => Err(Error::settings(
                format!("there is no split '{text}'"),
                "choose from train, validation, test, all",
            )),
        }
    }
}

/// What a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The format: `folder`, `idx`, `cifar-10`, …
    pub format: String,
    /// The path or name that was opened.
    pub location: String,
    /// The part that was taken; [`Split::All`] for a set without splits.
    pub split: Split,
    /// Names of the classes, by label; empty without labels.
    pub classes: Vec<String>,
    /// Names of the attributes every sample has.
    pub attributes: Vec<String>,
}

/// A numbered list of images. Reading is deterministic and may happen on several threads at once.
pub trait Source: Send + Sync {
    /// What the source is.
    fn describe(&self) -> &Description;

    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there is no image; only a [`super::Subset`] can be empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one image.
    ///
    /// # Errors
    /// An error that names the file when it cannot be read or decoded.
    ///
    /// # Panics
    /// When `index` is not below [`Source::len`].
    fn get(&self, index: usize) -> Result<Sample>;

    /// The label of one image, without decoding it.
    ///
    /// # Panics
    /// When `index` is not below [`Source::len`].
    fn label(&self, index: usize) -> Option<u32>;

    /// A sha256 in hexadecimal that changes when the images, labels or their order change, but not
    /// when they move to another place. The implementation says what exactly it covers.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read.
    fn digest(&self) -> Result<String>;
}

/// How a source is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The part to take.
    pub split: Split,
    /// A file of labels: CSV with the columns `file` and `label` for folders, IDX for IDX images.
    pub labels: Option<PathBuf>,
    /// What the decoders accept.
    pub limits: Limits,
}

impl Default for OpenOptions {
    /// The training split, labels as the format has them, the limits of the command line.
    fn default() -> Self {
        Self {
            split: Split::Train,
            labels: None,
            limits: Limits::cli(),
        }
    }
}

impl OpenOptions {
    /// Refuses a file of labels for a format that has its own.
    fn refuse_labels(&self, location: &str) -> Result<()> {
        match &self.labels {
            None => Ok(()),
            Some(labels) => Err(Error::settings(
                format!("{}: {location} takes no file of labels", labels.display()),
                "leave --labels out; only folders of images and IDX files take one",
            )),
        }
    }
}

/// Opens a data set: a folder of images (flat or a folder per class), IDX or CIFAR files or the
/// folder that holds them, a zip with `dataset.json`, an `.npz`, or a world such as
/// `world:glyphs?count=2000&size=32&seed=0&channels=1`.
///
/// # Errors
/// [`Error::Settings`] for a path that does not exist, a split the set does not have and labels it
/// does not take; [`Error::Data`] for a set that is empty, corrupt or of an unknown format.
pub fn open(location: &str, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    if location.starts_with(world::PREFIX) {
        options.refuse_labels(location)?;
        return Ok(Arc::new(World::parse(location, options.split)?));
    }
    let path = Path::new(location);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => open_folder(path, options),
        Ok(_) => open_file(path, options),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::settings(
            format!("{location}: there is no such file or folder"),
            "check the path, or use a world such as world:glyphs",
        )),
        Err(error) => Err(Error::io(path, error)),
    }
}

fn open_folder(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    let location = path.display().to_string();
    let mut files = Vec::new();
    let mut folders = false;
    for entry in fs::read_dir(path).map_err(|error| Error::io(path, error))? {
        let entry = entry.map_err(|error| Error::io(path, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            folders = true;
        } else {
            files.push(name);
        }
    }
    let any = |test: fn(&str) -> bool| files.iter().any(|name| test(name));

    if any(idx::is_image_file) {
        return Ok(Arc::new(idx::open_folder(path, options)?));
    }
    if !any(folder::is_image) {
        for batches in ["cifar-10-batches-bin", "cifar-100-binary"] {
            if path.join(batches).is_dir() {
                options.refuse_labels(&location)?;
                return Ok(Arc::new(cifar::open_folder(&path.join(batches), options)?));
            }
        }
        if any(amat::is_amat) {
            options.refuse_labels(&location)?;
            return Ok(Arc::new(amat::open_folder(path, options)?));
        }
        if any(cifar::is_batch) {
            options.refuse_labels(&location)?;
            return Ok(Arc::new(cifar::open_folder(path, options)?));
        }
        let archives: Vec<_> = files.iter().filter(|name| is_archive(name)).collect();
        if let ([archive], false) = (archives.as_slice(), folders) {
            return open_file(&path.join(archive), options);
        }
    }
    Ok(Arc::new(FolderSource::open(path, options)?))
}

/// Whether a file of this name can hold a whole data set.
fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".npz") || name.ends_with(".zip")
}

fn open_file(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    let location = path.display().to_string();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    if name.ends_with(".zip") {
        options.refuse_labels(&location)?;
        return Ok(Arc::new(StyleganSource::open(path, options)?));
    }
    if name.ends_with(".npz") {
        options.refuse_labels(&location)?;
        return Ok(Arc::new(npz::open_file(path, options)?));
    }
    if amat::is_amat(&name) {
        options.refuse_labels(&location)?;
        return Ok(Arc::new(amat::open_file(path, options)?));
    }
    if cifar::is_batch(&name) {
        options.refuse_labels(&location)?;
        return Ok(Arc::new(cifar::open_file(path, options)?));
    }
    if folder::is_image(&name) {
        return Err(Error::settings(
            format!("{location}: one image is not a data set"),
            "give the folder that holds it",
        ));
    }
    if name.contains("idx") || name.ends_with(".gz") {
        return Ok(Arc::new(idx::open_file(path, options)?));
    }
    Err(Error::data(
        path,
        "this is no data set that is known here",
        "give a folder of images, IDX files, CIFAR .bin files, a .zip or an .npz",
    ))
}

/// A sha256 over a list of fields, each preceded by its length, so that no two lists agree.
#[derive(Clone, Default)]
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds one field.
    pub(super) fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a label, or its absence.
    pub(super) fn label(&mut self, label: Option<u32>) {
        match label {
            Some(label) => self.field(&label.to_le_bytes()),
            None => self.field(&[]),
        }
    }

    /// The sum in hexadecimal.
    pub(super) fn text(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

/// The sha256 of a file's bytes.
pub(super) fn file_sum(path: &Path) -> Result<Vec<u8>> {
    let mut file = fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let mut sum = Sha256::new();
    io::copy(&mut file, &mut sum).map_err(|error| Error::io(path, error))?;
    Ok(sum.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_in_the_spellings_of_others() {
        for (text, split) in [
            ("train", Split::Train),
            ("val", Split::Validation),
            ("valid", Split::Validation),
            ("validation", Split::Validation),
            ("test", Split::Test),
            ("all", Split::All),
        ] {
            assert_eq!(text.parse::<Split>().unwrap(), split);
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
        assert_eq!("dev".parse::<Split>().unwrap_err().exit_code(), 2);
        assert_eq!(
            serde_json::to_string(&Split::Validation).unwrap(),
            "\"validation\""
        );
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_string()
        };
        for (location, code, part) in [
            ("no/such/place".to_string(), 2, "no/such/place"),
            ("world:nowhere".to_string(), 2, "nowhere"),
            (file("notes.txt", b"hello"), 4, "notes.txt"),
            (file("one.png", b"x"), 2, "one.png"),
            (file("bad.zip", b"x"), 4, "bad.zip"),
            (file("bad.npz", b"x"), 4, "bad.npz"),
            (file("bad.bin", b"x"), 4, "bad.bin"),
            (file("bad-idx3-ubyte", b"x"), 4, "bad-idx3-ubyte"),
        ] {
            let error = open(&location, &OpenOptions::default()).err().unwrap();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.remedy().is_some(), "{error}");
        }
    }

    #[test]
    fn worlds_take_no_file_of_labels() {
        let options = OpenOptions {
            labels: Some("labels.csv".into()),
            ..OpenOptions::default()
        };
        let error = open("world:glyphs", &options).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn fields_cannot_run_into_each_other() {
        let sum = |fields: [&str; 2]| {
            let mut fingerprint = Fingerprint::default();
            for field in fields {
                fingerprint.field(field.as_bytes());
            }
            fingerprint.text()
        };
        assert_ne!(sum(["ab", "c"]), sum(["a", "bc"]));
        // Sixteen zero bytes (the lengths of two empty fields) through coreutils' sha256sum.
        assert_eq!(
            sum(["", ""]),
            "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"
        );
    }
}
