//! What a location holds: every image with its split and class, whether it can be read or not.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use vermeer_image::{Decoded, Facts, Image, Limits, decode_file, safe_decode};

use crate::data::archive::Archive;
use crate::data::folder::{FolderSource, is_image};
use crate::data::make::class_folders;
use crate::data::natural;
use crate::data::source::{Description, OpenOptions, Sample, Source, Split, open};
use crate::data::stylegan::StyleganSource;
use crate::error::{Error, Result};

/// The images of a location, split by split.
pub(super) struct Holdings {
    pub(super) location: String,
    pub(super) items: Vec<Item>,
    parts: Vec<Part>,
    limits: Limits,
    /// Whether labels come from a file that was named.
    pub(super) labels_given: bool,
}

/// One image.
pub(super) struct Item {
    /// The path below the location, its folders separated by `/`, or the place in a split.
    pub(super) name: String,
    /// None in a set without splits.
    pub(super) split: Option<Split>,
    pub(super) class: Option<String>,
    part: usize,
    index: usize,
}

/// What is read from one split.
enum Part {
    Folder(FolderSource),
    Zip(Box<Zip>),
    /// Arrays and worlds, whose images are no files.
    Other(Arc<dyn Source>),
}

/// A zip, once as a source of labels and once as the files it holds.
struct Zip {
    source: StyleganSource,
    archive: Archive,
    /// The places in the archive, by index in the source.
    entries: Vec<usize>,
}

impl Holdings {
    /// Lists the images of a location without decoding them. With [`Split::All`] the splits of a
    /// set are told apart.
    ///
    /// # Errors
    /// Those of [`open`].
    pub(super) fn open(location: &str, options: &OpenOptions) -> Result<Self> {
        let parts = splits(location, options)?;
        let mut items = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let source = part.source();
            let Description { split, classes, .. } = source.describe();
            let split = (*split != Split::All).then_some(*split);
            for (index, name) in part.names(location, split).into_iter().enumerate() {
                let label = source.label(index);
                items.push(Item {
                    name,
                    split,
                    class: label.and_then(|label| classes.get(label as usize).cloned()),
                    part: number,
                    index,
                });
            }
        }
        Ok(Self {
            location: location.to_string(),
            items,
            parts,
            limits: options.limits,
            labels_given: options.labels.is_some(),
        })
    }

    /// What the set is.
    pub(super) fn describe(&self) -> &Description {
        self.parts[0].source().describe()
    }

    /// Decodes one image; of a file, with what the decoder met.
    pub(super) fn read(&self, item: &Item) -> Result<(Image, Option<Facts>)> {
        let Decoded { image, facts } = match &self.parts[item.part] {
            Part::Folder(source) => decode_file(source.path(item.index), &self.limits)?,
            Part::Zip(zip) => {
                let entry = zip.entries[item.index];
                let bytes = zip.archive.read(entry, self.limits.max_file_bytes)?;
                safe_decode(&bytes, &item.name, &self.limits)?
            }
            Part::Other(source) => return Ok((source.get(item.index)?.image, None)),
        };
        Ok((image, Some(facts)))
    }

    /// Decodes one image, with its label and attributes.
    pub(super) fn sample(&self, item: &Item) -> Result<Sample> {
        self.parts[item.part].source().get(item.index)
    }

    /// Where a copy of an image goes, without extension; of a file, its own place.
    pub(super) fn place(&self, item: &Item) -> String {
        match &self.parts[item.part] {
            Part::Folder(_) => without_extension(&item.name).to_string(),
            Part::Zip(_) => {
                // The names in a zip may lead anywhere.
                let name = item.name.replace(['\\', ':'], "_");
                let inside = |part: &&str| !matches!(*part, "" | "." | "..");
                let parts: Vec<&str> = name.split('/').filter(inside).collect();
                without_extension(&parts.join("/")).to_string()
            }
            Part::Other(source) => {
                let folders = class_folders(&source.describe().classes);
                let class = source.label(item.index).map(|label| label as usize);
                let split = item.split.map(|split| split.to_string());
                [split.as_ref(), class.and_then(|class| folders.get(class))]
                    .into_iter()
                    .flatten()
                    .map(|folder| format!("{folder}/"))
                    .chain([format!("{:06}", item.index)])
                    .collect()
            }
        }
    }

    /// The files of a folder that are not among its images, counted by extension.
    pub(super) fn passed_over(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        if let Some(Part::Folder(_)) = self.parts.first() {
            let known: HashSet<&str> = self.items.iter().map(|item| item.name.as_str()).collect();
            count_others(Path::new(&self.location), "", &known, &mut counts)?;
        }
        Ok(counts)
    }
}

impl Part {
    fn open(location: &str, options: &OpenOptions) -> Result<Self> {
        let source = open(location, options)?;
        let description = source.describe();
        match description.format.as_str() {
            "folder" | "folder-per-class" => Ok(Self::Folder(FolderSource::open(
                Path::new(location),
                options,
            )?)),
            "zip" => {
                let path = Path::new(&description.location);
                let source = StyleganSource::open(path, options)?;
                let archive = Archive::open(path)?;
                let entries = images(archive.names());
                if entries.len() != source.len() {
                    return Err(Error::data(
                        path,
                        "the zip changed while it was read",
                        "inspect it again when nothing writes to it",
                    ));
                }
                Ok(Self::Zip(Box::new(Zip {
                    source,
                    archive,
                    entries,
                })))
            }
            _ => Ok(Self::Other(source)),
        }
    }

    fn source(&self) -> &dyn Source {
        match self {
            Self::Folder(source) => source,
            Self::Zip(zip) => &zip.source,
            Self::Other(source) => source.as_ref(),
        }
    }

    /// The names of the images, in their order.
    fn names(&self, location: &str, split: Option<Split>) -> Vec<String> {
        match self {
            Self::Folder(source) => {
                let root = Path::new(location);
                let name = |index| {
                    let path = source.path(index);
                    let below = path.strip_prefix(root).unwrap_or(path).components();
                    let parts: Vec<_> = below
                        .map(|part| part.as_os_str().to_string_lossy())
                        .collect();
                    parts.join("/")
                };
                (0..source.len()).map(name).collect()
            }
            Self::Zip(zip) => {
                let name = |entry: &usize| zip.archive.names()[*entry].clone();
                zip.entries.iter().map(name).collect()
            }
            Self::Other(source) => {
                let split = split.map_or("image".to_string(), |split| split.to_string());
                let names = (0..source.len()).map(|index| format!("{split}[{index}]"));
                names.collect()
            }
        }
    }
}

/// Opens a location split by split where all of it is asked for and its splits make up the whole,
/// and at once elsewhere.
fn splits(location: &str, options: &OpenOptions) -> Result<Vec<Part>> {
    let whole = Part::open(location, options)?;
    if options.split != Split::All {
        return Ok(vec![whole]);
    }
    let mut parts = Vec::new();
    for split in Split::PARTS {
        let options = OpenOptions {
            split,
            ..options.clone()
        };
        match Part::open(location, &options) {
            // A set without splits answers the request for its training split with everything.
            Ok(part) if part.source().describe().split == split => parts.push(part),
            Ok(_) | Err(Error::Settings { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let found: usize = parts.iter().map(|part| part.source().len()).sum();
    Ok(if found == whole.source().len() {
        parts
    } else {
        vec![whole]
    })
}

/// The places of the images among the names of a zip, in the order of [`StyleganSource`].
fn images(names: &[String]) -> Vec<usize> {
    let mut entries: Vec<usize> = (0..names.len())
        .filter(|entry| {
            let name = &names[*entry];
            let file = name.rsplit('/').next().unwrap_or_default();
            is_image(file) && !name.starts_with("__MACOSX/")
        })
        .collect();
    entries.sort_by_cached_key(|entry| natural::key(&names[*entry]));
    entries
}

/// The name of a file without the extension of its last part.
fn without_extension(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => stem,
        _ => name,
    }
}

/// Counts the files below a folder that are not known, by extension. Hidden files are left out, and
/// linked folders too, since their links may lead back.
fn count_others(
    folder: &Path,
    prefix: &str,
    known: &HashSet<&str>,
    counts: &mut BTreeMap<String, usize>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            count_others(&path, &format!("{name}/"), known, counts)?;
        } else if kind.is_file() && !known.contains(name.as_str()) {
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            let extension = extension.map_or("without extension".to_string(), |e| format!(".{e}"));
            *counts.entry(extension).or_insert(0) += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use vermeer_image::{Pixels, encode_png};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn png(value: u8) -> Vec<u8> {
        encode_png(&Image::new(1, 1, 1, Pixels::U8(vec![value])).unwrap()).unwrap()
    }

    fn all() -> OpenOptions {
        OpenOptions {
            split: Split::All,
            ..OpenOptions::default()
        }
    }

    #[test]
    fn folders_are_listed_split_by_split_with_their_classes() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "train/a/1.png",
            "train/b/2.PNG",
            "test/a/3.png",
            "test/notes.TXT",
            "read.me",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, png(1)).unwrap();
        }
        let holdings = Holdings::open(root.path().to_str().unwrap(), &all()).unwrap();
        let listed: Vec<_> = holdings
            .items
            .iter()
            .map(|item| (item.name.as_str(), item.split, item.class.as_deref()))
            .collect();
        let (train, test) = (Some(Split::Train), Some(Split::Test));
        assert_eq!(
            listed,
            [
                ("train/a/1.png", train, Some("a")),
                ("train/b/2.PNG", train, Some("b")),
                ("test/a/3.png", test, Some("a")),
            ]
        );
        let passed_over: Vec<_> = holdings.passed_over().unwrap().into_iter().collect();
        assert_eq!(
            passed_over,
            [(".me".to_string(), 1), (".txt".to_string(), 1)]
        );
        assert_eq!(holdings.place(&holdings.items[1]), "train/b/2");
    }

    #[test]
    fn entries_of_a_zip_are_those_of_its_source_and_stay_inside_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (value, name) in [
            "b/10.png",
            "b/9.png",
            "../up.png",
            "__MACOSX/a.png",
            "c.txt",
        ]
        .into_iter()
        .enumerate()
        {
            writer
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(&png(value as u8)).unwrap();
        }
        writer.finish().unwrap();
        let holdings = Holdings::open(path.to_str().unwrap(), &all()).unwrap();
        assert_eq!(holdings.items.len(), 3);
        for item in &holdings.items {
            let sample = holdings.sample(item).unwrap();
            assert_eq!(sample.name, item.name);
            assert_eq!(sample.image, holdings.read(item).unwrap().0);
        }
        let mut places: Vec<_> = holdings
            .items
            .iter()
            .map(|item| holdings.place(item))
            .collect();
        places.sort();
        assert_eq!(places, ["b/10", "b/9", "up"]);
    }

    #[test]
    fn worlds_have_three_splits_and_places_by_class() {
        let holdings = Holdings::open("world:shapes?count=9&size=8", &all()).unwrap();
        assert_eq!(holdings.items.len(), 27);
        let item = &holdings.items[13];
        let found = (item.name.as_str(), item.split);
        assert_eq!(found, ("validation[4]", Some(Split::Validation)));
        let class = item.class.as_deref().unwrap();
        assert_eq!(holdings.place(item), format!("validation/{class}/000004"));
        let (_, facts) = holdings.read(item).unwrap();
        assert!(facts.is_none());
    }
}
