//! Writing a data set as a folder of PNG files that every tool can read.
//!
//! Labelled images go into a folder for each class, others side by side. `labels.csv` lists every
//! file with its class and attributes: columns `file`, `label` (where there are classes) and one
//! for each attribute.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use vermeer_image::{Image, Pixels, encode_png};

use super::natural;
use super::new_folder::NewFolder;
use super::source::{Description, Sample, Source};
use crate::error::{Error, Result};

/// Called after each image with the number of images done and of all; from several threads.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Writes every image of `source` into the new folder `out`. Opened again, the folder holds the same
/// images, and the same labels if there is an image of every class; floats become 16 bits deep.
///
/// # Errors
/// [`Error::Settings`] when `out` exists and is not empty; [`Error::Data`] for floats outside
/// \[0, 1\]; what [`Source::get`] and the disk report. After an error there is no folder.
pub fn make(source: &dyn Source, out: &Path, progress: Progress<'_>) -> Result<()> {
    let folder = NewFolder::create(out)?;
    let description = source.describe();
    let folders = class_folders(&description.classes);
    let count = source.len();
    let done = AtomicUsize::new(0);
    let rows: Vec<Result<String>> = (0..count)
        .into_par_iter()
        .map(|index| {
            let Sample {
                image,
                label,
                attributes,
                name,
            } = source.get(index)?;
            if !fits_png(&image) {
                return Err(Error::data(
                    &description.location,
                    format!("{name} holds values outside [0, 1], which no PNG can hold"),
                    "scale the values to the unit range",
                ));
            }
            let file = match label.and_then(|label| folders.get(label as usize)) {
                Some(class) => format!("{class}/{index:06}.png"),
                None => format!("{index:06}.png"),
            };
            folder.write(&file, &encode_png(&image)?)?;
            let row = row(description, &file, label, &attributes);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
            Ok(row)
        })
        .collect();
    let rows = rows.into_iter().collect::<Result<Vec<String>>>()?;
    if !(description.classes.is_empty() && description.attributes.is_empty()) {
        folder.write("labels.csv", table(description, &rows).as_bytes())?;
    }
    folder.publish()
}

/// One line of the table of files: the file, its class and its attributes.
pub(super) fn row(
    description: &Description,
    file: &str,
    label: Option<u32>,
    attributes: &[f32],
) -> String {
    let mut row = field(file).into_owned();
    if !description.classes.is_empty() {
        let class = label.and_then(|label| description.classes.get(label as usize));
        row.push(',');
        row.push_str(&field(class.map_or("", String::as_str)));
    }
    for value in attributes {
        let _ = write!(row, ",{value}");
    }
    row
}

/// The table of files with its header.
pub(super) fn table(description: &Description, rows: &[String]) -> String {
    let label = (!description.classes.is_empty()).then_some("label");
    let columns: Vec<Cow<'_, str>> = ["file"]
        .into_iter()
        .chain(label)
        .chain(description.attributes.iter().map(String::as_str))
        .map(field)
        .collect();
    let mut text = columns.join(",");
    for row in rows {
        text.push('\n');
        text.push_str(row);
    }
    text.push('\n');
    text
}

/// A field of a table, quoted where it must be (RFC 4180).
fn field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a PNG can hold the values of an image.
pub(super) fn fits_png(image: &Image) -> bool {
    match image.pixels() {
        Pixels::U8(_) | Pixels::U16(_) => true,
        Pixels::F32(values) => values.iter().all(|value| (0.0..=1.0).contains(value)),
    }
}

/// A folder name for each class. Where the names alone would sort in another order than the
/// labels, their number precedes them, so that reading the folder gives the same labels.
pub(super) fn class_folders(classes: &[String]) -> Vec<String> {
    let plain: Vec<String> = classes.iter().map(|name| folder_name(name)).collect();
    // A file system may take names for equal that differ in case.
    let keys: Vec<_> = plain
        .iter()
        .map(|name| natural::key(&name.to_lowercase()))
        .collect();
    let ordered = plain.iter().map(|name| natural::key(name)).is_sorted();
    if ordered && keys.windows(2).all(|pair| pair[0] < pair[1]) {
        return plain;
    }
    let digits = classes.len().saturating_sub(1).to_string().len();
    let numbered = plain.iter().enumerate();
    numbered
        .map(|(label, name)| format!("{label:0digits$}-{name}"))
        .collect()
}

/// The name of a class with only what every file system takes.
fn folder_name(class: &str) -> String {
    let kept =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '+' | '(' | ')');
    let name: String = class
        .chars()
        .map(|c| if kept(c) { c } else { '_' })
        .collect();
    let name = name.trim_end_matches(['.', ' ']);
    // Names that start with a dot are hidden, and passed over when a folder is read.
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_string(),
        None => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::super::MemorySource;
    use super::super::source::{OpenOptions, Split, open};
    use super::super::world::World;
    use super::*;

    fn quiet(_: usize, _: usize) {}

    fn names(classes: &[&str]) -> Vec<String> {
        let classes: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
        class_folders(&classes)
    }

    #[test]
    fn a_world_comes_back_from_its_folder() {
        let place = tempfile::tempdir().unwrap();
        for (name, channels) in [("glyphs", 1), ("shapes", 3)] {
            let world =
                World::parse(&format!("world:{name}?count=20&size=8"), Split::Train).unwrap();
            let out = place.path().join(name);
            let calls = Mutex::new(Vec::new());
            let note = |done: usize, all: usize| calls.lock().unwrap().push((done, all));
            make(&world, &out, &note).unwrap();
            let mut calls = calls.into_inner().unwrap();
            calls.sort_unstable();
            assert_eq!(calls.last(), Some(&(20, 20)));
            assert_eq!(calls.len(), 20);

            let read = open(out.to_str().unwrap(), &OpenOptions::default()).unwrap();
            assert_eq!(read.len(), 20);
            assert_eq!(read.describe().classes, world.describe().classes);
            for index in 0..20 {
                let sample = read.get(index).unwrap();
                let file = sample.name.rsplit('/').next().unwrap();
                let number: usize = file.trim_end_matches(".png").parse().unwrap();
                let original = world.get(number).unwrap();
                assert_eq!(sample.image, original.image);
                assert_eq!(sample.label, original.label);
                assert_eq!(sample.image.channels(), channels);
            }
        }
    }

    #[test]
    fn the_table_lists_files_classes_and_attributes() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let description = Description {
            classes: vec!["a, b".to_string(), "c/d".to_string()],
            attributes: vec!["x".to_string(), "say \"y\"".to_string()],
            ..Description::default()
        };
        let pixels = Pixels::F32(vec![0.0, 1.0]);
        let values = vec![0.1, 2.0, -3.5, 1e-7];
        let source =
            MemorySource::new(description, [1, 1, 1], pixels, Some(vec![1, 0]), values).unwrap();
        make(&source, &out, &quiet).unwrap();
        assert_eq!(
            fs::read_to_string(out.join("labels.csv")).unwrap(),
            "file,label,x,\"say \"\"y\"\"\"\n\
             c_d/000000.png,c/d,0.1,2\n\
             a_ b/000001.png,\"a, b\",-3.5,0.0000001\n"
        );
        let deep = open(out.to_str().unwrap(), &OpenOptions::default()).unwrap();
        assert_eq!(
            deep.get(0).unwrap().image.pixels(),
            &Pixels::U16(vec![65535])
        );
    }

    #[test]
    fn values_a_png_cannot_hold_leave_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let pixels = Pixels::F32(vec![0.5, 1.5]);
        let description = Description::default();
        let source = MemorySource::new(description, [1, 1, 1], pixels, None, vec![]).unwrap();
        let error = make(&source, &out, &quiet).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn class_folders_sort_like_their_labels() {
        assert_eq!(names(&["0", "1", "2", "10"]), ["0", "1", "2", "10"]);
        assert_eq!(names(&["dog", "cat"]), ["0-dog", "1-cat"]);
        assert_eq!(names(&["a/b", "a_b"]), ["0-a_b", "1-a_b"]);
        assert_eq!(names(&["A", "a"]), ["0-A", "1-a"]);
        assert_eq!(names(&["..", "x."]), ["_", "x"]);
        let many: Vec<String> = (0..11).rev().map(|i| i.to_string()).collect();
        assert_eq!(class_folders(&many)[..2], ["00-10", "01-9"]);
    }
}
