//! Folders of images: flat, or with a folder for each class, or with both inside a folder for
//! each split.
//!
//! | layout | splits | labels |
//! |---|---|---|
//! | `*.png` | none | none |
//! | `class/**/*.png`, two classes or more | none | the first folder |
//! | `train/…`, `val/…` (also `valid`, `validation`), `test/…` | by folder | as above, inside them |
//!
//! Folders count as splits when nothing lies outside them, or when `train` and another split
//! are among them; other folders beside those are then not read. A file of labels or a
//! `dataset.json` in the folder takes the place of class folders. Files are in natural order
//! (`s2` before `s10`); hidden files and files whose extension is not an image's are passed over, and
//! so is the sheet `grid.png` that `vermeer sample` writes beside its samples.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vermeer_image::{Limits, decode_file};

use super::labels::{Label, LabelTable, check_size};
use super::natural;
use super::source::{Description, Fingerprint, OpenOptions, Sample, Source, Split, file_sum};
use crate::error::{Error, Result};

/// Extensions of files that are taken for images, in lower case.
pub const EXTENSIONS: [&str; 13] = [
    "png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "pnm", "pbm", "pgm", "ppm", "pam", "gif",
];

/// Folders nested deeper than this are refused.
const MAX_DEPTH: usize = 64;

/// The images of a folder, decoded when they are asked for.
pub struct FolderSource {
    description: Description,
    files: Vec<File>,
    limits: Limits,
}

struct File {
    path: PathBuf,
    /// The path below the opened folder, separated by `/`.
    name: String,
    label: Option<u32>,
    attributes: Vec<f32>,
}

/// An image that was found, before it is known what it belongs to.
struct Found {
    path: PathBuf,
    name: String,
    split: Option<Split>,
}

impl Found {
    /// The path below the folder of the split.
    fn inner(&self) -> &str {
        match self.split {
            Some(_) => self.name.split_once('/').map_or("", |(_, inner)| inner),
            None => &self.name,
        }
    }

    /// The folder of the class.
    fn class(&self) -> Option<&str> {
        self.inner().split_once('/').map(|(class, _)| class)
    }
}

impl FolderSource {
    /// Lists the images of a folder without opening them.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no image, or one without a label in the file of labels;
    /// [`Error::Settings`] for a split that is not there; [`Error::Io`] when a folder cannot be
    /// read.
    pub fn open(root: &Path, options: &OpenOptions) -> Result<Self> {
        let mut found = find(root)?;
        if found.is_empty() {
            return Err(Error::data(
                root,
                "the folder holds no images",
                format!("put images into it ({})", EXTENSIONS.join(", ")),
            ));
        }
        let present = assign_splits(&mut found);
        let split = match present.as_slice() {
            [] => options.split.of_unsplit(root)?,
            some if options.split == Split::All || some.contains(&options.split) => options.split,
            some => return Err(options.split.absent(root, some)),
        };

        let manifest = root.join("dataset.json");
        let mut table = None;
        let mut classes = Vec::new();
        if let Some(labels) = &options.labels {
            table = Some(LabelTable::from_csv(labels)?);
        } else if manifest.is_file() {
            let size = fs::metadata(&manifest).map_err(|e| Error::io(&manifest, e))?;
            check_size(&manifest, size.len())?;
            let bytes = fs::read(&manifest).map_err(|e| Error::io(&manifest, e))?;
            table = LabelTable::from_dataset_json(&manifest, &bytes)?;
        } else {
            classes = class_folders(&found);
        }
        if let Some(table) = &table {
            classes.clone_from(&table.classes);
        }

        let mut files = Vec::with_capacity(found.len());
        for found in found {
            if found.split.is_some_and(|part| !split.takes(part)) {
                continue;
            }
            let mut attributes = Vec::new();
            let label = match &table {
                Some(table) => match table.find(&[found.name.as_str(), found.inner()])? {
                    Label::Class(class) => Some(*class),
                    Label::Vector(values) => {
                        attributes.clone_from(values);
                        None
                    }
                },
                None => found
                    .class()
                    .and_then(|class| classes.iter().position(|known| known == class))
                    .map(|class| class as u32),
            };
            files.push(File {
                path: found.path,
                name: found.name,
                label,
                attributes,
            });
        }
        let format = match (&table, classes.is_empty()) {
            (None, false) => "folder-per-class",
            _ => "folder",
        };
        Ok(Self {
            description: Description {
                format: format.to_string(),
                location: root.display().to_string(),
                split,
                classes,
                attributes: (0..table.map_or(0, |table| table.attributes))
                    .map(|i| format!("label_{i}"))
                    .collect(),
            },
            files,
            limits: options.limits,
        })
    }

    /// The path of one image.
    ///
    /// # Panics
    /// When `index` is not below [`Source::len`].
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].path
    }
}

impl Source for FolderSource {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let file = &self.files[index];
        Ok(Sample {
            image: decode_file(&file.path, &self.limits)?.image,
            label: file.label,
            attributes: file.attributes.clone(),
            name: file.name.clone(),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.files[index].label
    }

    /// Covers the path below the folder, the label and the bytes of every file.
    fn digest(&self) -> Result<String> {
        let sums = self
            .files
            .par_iter()
            .map(|file| file_sum(&file.path))
            .collect::<Result<Vec<_>>>()?;
        let mut fingerprint = Fingerprint::default();
        for (file, sum) in self.files.iter().zip(sums) {
            fingerprint.field(file.name.as_bytes());
            fingerprint.label(file.label);
            for value in &file.attributes {
                fingerprint.field(&value.to_le_bytes());
            }
            fingerprint.field(&sum);
        }
        Ok(fingerprint.text())
    }
}

/// Whether a file of this name is taken for an image.
pub fn is_image(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !name.starts_with('.')
        && extension
            .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Every image below a folder, in natural order of the paths.
fn find(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut visited = HashSet::new();
    let mut pending = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = pending.pop() {
        // Links may lead back up; every folder is read once.
        let real = fs::canonicalize(&folder).map_err(|e| Error::io(&folder, e))?;
        if !visited.insert(real) {
            continue;
        }
        if depth > MAX_DEPTH {
            return Err(Error::data(
                folder,
                format!("folders are nested more than {MAX_DEPTH} deep"),
                "move the images further up",
            ));
        }
        for entry in fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "__MACOSX" {
                continue;
            }
            let mut kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
            if kind.is_symlink() {
                match fs::metadata(&path) {
                    Ok(target) => kind = target.file_type(),
                    // A link to nothing is an image that cannot be read: whoever reads it says so.
                    Err(_) if is_image(&name) => {
                        let name = format!("{prefix}{name}");
                        found.push(Found {
                            path,
                            name,
                            split: None,
                        });
                        continue;
                    }
                    Err(_) => continue,
                }
            }
            let image = is_image(&name);
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                pending.push((path, format!("{name}/"), depth + 1));
            } else if kind.is_file() && image {
                found.push(Found {
                    path,
                    name,
                    split: None,
                });
            }
        }
    }
    found.sort_by_cached_key(|found| natural::key(&found.name));
    leave_out_sheets(&mut found);
    Ok(found)
}

/// Leaves out `grid.png` where it lies beside samples such as `seed0-000017.png`.
fn leave_out_sheets(found: &mut Vec<Found>) {
    let parts = |found: &Found| -> (String, String) {
        let (folder, file) = found.name.rsplit_once('/').unwrap_or(("", &found.name));
        (folder.to_owned(), file.to_owned())
    };
    let is_sample = |file: &str| {
        file.strip_prefix("seed")
            .and_then(|rest| rest.strip_suffix(".png")?.split_once('-'))
            .is_some_and(|(seed, number)| {
                [seed, number]
                    .iter()
                    .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
            })
    };
    let folders: HashSet<String> = found
        .iter()
        .map(parts)
        .filter(|(_, file)| is_sample(file))
        .map(|(folder, _)| folder)
        .collect();
    found.retain(|found| {
        let (folder, file) = parts(found);
        file != "grid.png" || !folders.contains(&folder)
    });
}

/// Finds folders that are splits, drops what lies beside them, and orders the rest by split.
/// The answer lists the splits; it is empty when there are none.
fn assign_splits(found: &mut Vec<Found>) -> Vec<Split> {
    let split = |found: &Found| -> Option<Split> {
        match found.name.split_once('/')?.0.to_lowercase().as_str() {
            "train" => Some(Split::Train),
            "val" | "valid" | "validation" => Some(Split::Validation),
            "test" => Some(Split::Test),
            _ => None,
        }
    };
    let splits: Vec<_> = found.iter().map(split).collect();
    let present: Vec<Split> = Split::PARTS
        .into_iter()
        .filter(|part| splits.contains(&Some(*part)))
        .collect();
    let all_inside = splits.iter().all(Option::is_some);
    let several = present.contains(&Split::Train) && present.len() > 1;
    if !all_inside && !several {
        return Vec::new();
    }
    for (found, split) in found.iter_mut().zip(splits) {
        found.split = split;
    }
    found.retain(|found| found.split.is_some());
    found.sort_by_key(|found| Split::PARTS.iter().position(|p| Some(*p) == found.split));
    present
}

/// The names of the class folders of all splits together, in natural order, so that a class has
/// the same label in each of them. Empty unless every image lies in one of at least two folders.
fn class_folders(found: &[Found]) -> Vec<String> {
    let names: Option<BTreeSet<&str>> = found.iter().map(Found::class).collect();
    let mut names: Vec<String> = names
        .unwrap_or_default()
        .into_iter()
        .map(str::to_string)
        .collect();
    if names.len() < 2 {
        return Vec::new();
    }
    names.sort_by_cached_key(|name| natural::key(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use vermeer_image::{Image, Pixels, encode_png};

    /// A folder with one grey pixel in each named file.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (value, name) in names.iter().enumerate() {
            let image = Image::new(1, 1, 1, Pixels::U8(vec![value as u8])).unwrap();
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, encode_png(&image).unwrap()).unwrap();
        }
        folder
    }

    fn open(folder: &tempfile::TempDir, split: Split) -> Result<FolderSource> {
        let options = OpenOptions {
            split,
            ..OpenOptions::default()
        };
        FolderSource::open(folder.path(), &options)
    }

    fn names(source: &FolderSource) -> Vec<(&str, Option<u32>)> {
        let files = source.files.iter();
        files.map(|f| (f.name.as_str(), f.label)).collect()
    }

    #[test]
    fn flat_folders_are_read_in_natural_order() {
        let folder = folder(&["10.png", "2.PNG", "a.jpeg.png", ".hidden.png"]);
        fs::write(folder.path().join("notes.txt"), "no image").unwrap();
        let source = open(&folder, Split::Train).unwrap();
        assert_eq!(
            names(&source),
            [("2.PNG", None), ("10.png", None), ("a.jpeg.png", None)]
        );
        assert_eq!(source.describe().split, Split::All);
        assert!(source.describe().classes.is_empty());
        assert_eq!(source.get(1).unwrap().image.to_unit_chw(), [0.0]);
        assert_eq!(open(&folder, Split::Test).err().unwrap().exit_code(), 2);
    }

    #[test]
    fn the_sheet_beside_samples_is_no_sample() {
        let samples = folder(&["seed0-000000.png", "seed0-000001.png", "grid.png"]);
        let source = open(&samples, Split::All).unwrap();
        assert_eq!(
            names(&source),
            [("seed0-000000.png", None), ("seed0-000001.png", None)]
        );
        // Anywhere else it is an image like others.
        let others = folder(&["grid.png", "seed.png", "seed-1.png", "seedling-2.png"]);
        assert_eq!(open(&others, Split::All).unwrap().len(), 4);
    }

    #[test]
    fn class_folders_label_what_lies_below_them() {
        let folder = folder(&["s10/1.png", "s2/deep/er/1.png", "s2/0.png"]);
        let source = open(&folder, Split::All).unwrap();
        assert_eq!(
            names(&source),
            [
                ("s2/0.png", Some(0)),
                ("s2/deep/er/1.png", Some(0)),
                ("s10/1.png", Some(1))
            ]
        );
        assert_eq!(source.describe().classes, ["s2", "s10"]);
        assert_eq!(source.describe().format, "folder-per-class");
    }

    #[test]
    fn one_folder_is_not_a_class_and_neither_are_mixed_levels() {
        for layout in [["only/1.png", "only/2.png"], ["a/1.png", "2.png"]] {
            let folder = folder(&layout);
            let source = open(&folder, Split::All).unwrap();
            assert!(names(&source).iter().all(|(_, label)| label.is_none()));
        }
    }

    #[test]
    fn splits_share_their_classes() {
        let folder = folder(&[
            "test/b/1.png",
            "train/a/1.png",
            "train/b/1.png",
            "trainannot/x/1.png",
            "val/b/1.png",
        ]);
        for (split, expected) in [
            (Split::Test, vec![("test/b/1.png", Some(1))]),
            (Split::Validation, vec![("val/b/1.png", Some(1))]),
            (
                Split::All,
                vec![
                    ("train/a/1.png", Some(0)),
                    ("train/b/1.png", Some(1)),
                    ("val/b/1.png", Some(1)),
                    ("test/b/1.png", Some(1)),
                ],
            ),
        ] {
            let source = open(&folder, split).unwrap();
            assert_eq!(names(&source), expected);
            assert_eq!(source.describe().split, split);
        }
    }

    #[test]
    fn a_class_called_train_is_no_split() {
        let folder = folder(&["bus/1.png", "train/1.png"]);
        let source = open(&folder, Split::All).unwrap();
        assert_eq!(source.describe().classes, ["bus", "train"]);
    }

    #[test]
    fn a_table_takes_the_place_of_class_folders() {
        let folder = folder(&["a/1.png", "b/2.png"]);
        let table = folder.path().join("labels.csv");
        fs::write(&table, "file,label\n2.png,cat\na/1.png,dog\n").unwrap();
        let options = OpenOptions {
            labels: Some(table.clone()),
            ..OpenOptions::default()
        };
        let source = FolderSource::open(folder.path(), &options).unwrap();
        assert_eq!(names(&source), [("a/1.png", Some(1)), ("b/2.png", Some(0))]);
        assert_eq!(source.describe().classes, ["cat", "dog"]);

        fs::write(&table, "file,label\n2.png,cat\n").unwrap();
        let error = FolderSource::open(folder.path(), &options).err().unwrap();
        assert!(error.to_string().contains("a/1.png"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn empty_folders_and_broken_files_are_named() {
        let error = open(&folder(&[]), Split::All).err().unwrap();
        assert!(error.to_string().contains("no images"), "{error}");
        assert_eq!(error.exit_code(), 4);

        let folder = folder(&["a.png"]);
        fs::write(folder.path().join("b.png"), "a text file").unwrap();
        let source = open(&folder, Split::All).unwrap();
        assert!(source.get(0).is_ok());
        let error = source.get(1).unwrap_err();
        assert!(error.to_string().contains("b.png"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn digests_follow_bytes_names_and_labels_but_not_the_place() {
        let one = folder(&["a/1.png", "b/2.png"]);
        let same = folder(&["a/1.png", "b/2.png"]);
        let renamed = folder(&["a/1.png", "c/2.png"]);
        let changed = folder(&["b/2.png", "a/1.png"]);
        let digest = |folder| open(folder, Split::All).unwrap().digest().unwrap();
        assert_eq!(digest(&one), digest(&same));
        assert_ne!(digest(&one), digest(&renamed));
        assert_ne!(digest(&one), digest(&changed));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_back_up_end() {
        let folder = folder(&["a/1.png"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
        assert_eq!(open(&folder, Split::All).unwrap().len(), 1);
    }
}
