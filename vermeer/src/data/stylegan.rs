//! A zip of images with a `dataset.json`, as the tools of StyleGAN and EDM write it.
//!
//! Every file with an image's extension is an image; the folders inside mean nothing. Labels are
//! those of `dataset.json`, `{"labels": [["00000/img00000000.png", 6], …]}`; without it, or with
//! null, there are none. Vectors in place of classes become attributes. Nothing is unpacked to
//! disk. Source: NVlabs/stylegan3, `dataset_tool.py` and `training/dataset.py`.

use std::path::Path;

use vermeer_image::{Limits, safe_decode};

use super::archive::Archive;
use super::folder::is_image;
use super::labels::{Label, LabelTable, MAX_BYTES};
use super::natural;
use super::source::{Description, Fingerprint, OpenOptions, Sample, Source, file_sum};
use crate::error::{Error, Result};

/// The images of a zip, read and decoded when they are asked for.
pub struct StyleganSource {
    description: Description,
    archive: Archive,
    entries: Vec<Entry>,
    limits: Limits,
}

struct Entry {
    /// The place in the archive's directory.
    index: usize,
    name: String,
    label: Option<u32>,
    attributes: Vec<f32>,
}

impl StyleganSource {
    /// Reads the directory of a zip and its labels.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is no zip, holds no images, or has labels for some of them
    /// only; [`Error::Settings`] for a validation or test split, which a zip has not.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let split = options.split.of_unsplit(path)?;
        let archive = Archive::open(path)?;
        let mut entries = Vec::new();
        let mut manifest = None;
        for (index, name) in archive.names().iter().enumerate() {
            let file = name.rsplit('/').next().unwrap_or_default();
            if name == "dataset.json" {
                manifest = Some(index);
            } else if is_image(file) && !name.starts_with("__MACOSX/") {
                entries.push(Entry {
                    index,
                    name: name.clone(),
                    label: None,
                    attributes: Vec::new(),
                });
            }
        }
        if entries.is_empty() {
            return Err(Error::data(
                path,
                "the zip holds no images",
                "give a zip of images as dataset_tool.py writes it, or a folder",
            ));
        }
        entries.sort_by_cached_key(|entry| natural::key(&entry.name));

        let table = match manifest {
            None => None,
            Some(index) => {
                let bytes = archive.read(index, MAX_BYTES)?;
                LabelTable::from_dataset_json(path, &bytes)?
            }
        };
        if let Some(table) = &table {
            for entry in &mut entries {
                match table.find(&[entry.name.as_str()])? {
                    Label::Class(class) => entry.label = Some(*class),
                    Label::Vector(values) => entry.attributes.clone_from(values),
                }
            }
        }
        let (classes, attributes) =
            table.map_or((Vec::new(), 0), |table| (table.classes, table.attributes));
        Ok(Self {
            description: Description {
                format: "zip".to_string(),
                location: path.display().to_string(),
                split,
                classes,
                attributes: (0..attributes).map(|i| format!("label_{i}")).collect(),
            },
            archive,
            entries,
            limits: options.limits,
        })
    }
}

impl Source for StyleganSource {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let entry = &self.entries[index];
        let bytes = self.archive.read(entry.index, self.limits.max_file_bytes)?;
        let place = format!("{}/{}", self.archive.path().display(), entry.name);
        Ok(Sample {
            image: safe_decode(&bytes, &place, &self.limits)?.image,
            label: entry.label,
            attributes: entry.attributes.clone(),
            name: entry.name.clone(),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.entries[index].label
    }

    /// Covers the bytes of the zip.
    fn digest(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::default();
        fingerprint.field(&file_sum(self.archive.path())?);
        Ok(fingerprint.text())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use vermeer_image::{Image, Pixels, encode_png};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::source::Split;
    use super::*;

    fn png(value: u8) -> Vec<u8> {
        let image = Image::new(2, 1, 1, Pixels::U8(vec![value, 255])).unwrap();
        encode_png(&image).unwrap()
    }

    fn open(entries: &[(&str, Vec<u8>)], options: &OpenOptions) -> Result<StyleganSource> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in entries {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        // The archive stays readable through its open file when the folder goes.
        StyleganSource::open(&path, options)
    }

    #[test]
    fn images_have_the_labels_of_dataset_json() {
        let labels = br#"{"labels": [["00000/img10.png", 1], ["00000/img2.png", 0]]}"#;
        let entries = [
            ("00000/img10.png", png(10)),
            ("00000/img2.png", png(2)),
            ("__MACOSX/._img2.png", vec![0]),
            ("dataset.json", labels.to_vec()),
        ];
        let source = open(&entries, &OpenOptions::default()).unwrap();
        assert_eq!(source.len(), 2);
        let sample = source.get(0).unwrap();
        assert_eq!(
            (sample.name.as_str(), sample.label),
            ("00000/img2.png", Some(0))
        );
        assert!(matches!(sample.image.pixels(), Pixels::U8(v) if v == &[2, 255]));
        assert_eq!(source.label(1), Some(1));
        assert_eq!(source.describe().classes, ["0", "1"]);
    }

    #[test]
    fn labels_are_optional_and_may_be_vectors() {
        let source = open(&[("a.png", png(1))], &OpenOptions::default()).unwrap();
        assert_eq!(source.label(0), None);
        let labels = br#"{"labels": [["a.png", [0.5, 2]]]}"#.to_vec();
        let entries = [("a.png", png(1)), ("dataset.json", labels)];
        let source = open(&entries, &OpenOptions::default()).unwrap();
        assert_eq!(source.get(0).unwrap().attributes, [0.5, 2.0]);
        assert_eq!(source.describe().attributes, ["label_0", "label_1"]);
    }

    #[test]
    fn zips_that_are_no_data_set_are_refused() {
        let options = OpenOptions::default();
        for (entries, part) in [
            (vec![("a.txt", vec![1])], "no images"),
            (
                vec![
                    ("a.png", png(1)),
                    ("dataset.json", br#"{"labels": []}"#.to_vec()),
                ],
                "a.png",
            ),
        ] {
            let error = open(&entries, &options).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
        let split = OpenOptions {
            split: Split::Test,
            ..options
        };
        let error = open(&[("a.png", png(1))], &split).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn broken_and_oversized_images_are_named() {
        let entries = [("a.png", b"text".to_vec()), ("b.png", png(3))];
        let source = open(&entries, &OpenOptions::default()).unwrap();
        let error = source.get(0).unwrap_err();
        assert!(error.to_string().contains("set.zip/a.png"), "{error}");
        assert_eq!(error.exit_code(), 4);

        let mut options = OpenOptions::default();
        options.limits.max_file_bytes = 8;
        let error = open(&entries, &options).unwrap().get(1).unwrap_err();
        assert!(error.to_string().contains("8 bytes"), "{error}");
    }
}
