//! A clean copy of an inspected data set.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;
use vermeer_image::{Filter, encode_png, resize};

use super::holdings::Item;
use super::report::Report;
use crate::data::make::{Progress, row, table};
use crate::data::new_folder::NewFolder;
use crate::data::source::{Description, Sample};
use crate::error::{Error, Result};

/// What a clean copy holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// The images written.
    pub images: usize,
    /// Those of them whose size was changed.
    pub resized: usize,
    /// The images left out.
    pub left_out: usize,
}

/// One image of the copy.
struct Written {
    file: String,
    label: Option<u32>,
    attributes: Vec<f32>,
    resized: bool,
}

/// Writes a clean copy of what was inspected into the new folder `out`: PNG files in the folders
/// they were in, upright, without palette, CMYK and alpha (composited over black; grey stays
/// grey), 8 or 16 bits deep as they were, all in the most common size. Left out are images that
/// cannot be read, are truncated, have the pixels of another one, or hold floats outside
/// \[0, 1\]. Images that are no files go into a folder for each split and class. Labels that did
/// not come from folders are written beside: `labels.csv` for arrays, worlds and a file of labels
/// that was named, `dataset.json` for others.
///
/// # Errors
/// [`Error::Settings`] when `out` exists and is not empty, or lies inside what was inspected;
/// [`Error::Data`] when nothing is left; what reading and writing report. After an error there is
/// no folder.
pub fn fix(report: &Report, out: &Path, progress: Progress<'_>) -> Result<Fixed> {
    let holdings = &report.holdings;
    refuse_inside(Path::new(&holdings.location), out)?;
    let kept: Vec<&Item> = holdings
        .items
        .iter()
        .zip(&report.findings)
        .filter(|(_, finding)| !finding.drops())
        .map(|(item, _)| item)
        .collect();
    let (Some(size), false) = (report.sizes.first(), kept.is_empty()) else {
        return Err(Error::data(
            &report.location,
            "no image can be kept",
            "look at the reasons in the report",
        ));
    };
    let folder = NewFolder::create(out)?;
    let mut taken = HashSet::new();
    let files: Vec<String> = kept
        .iter()
        .map(|item| free_name(&mut taken, &holdings.place(item), &item.name))
        .collect();

    let done = AtomicUsize::new(0);
    let written: Vec<Result<Written>> = kept
        .par_iter()
        .zip(files)
        .map(|(item, file)| {
            let Sample {
                image,
                label,
                attributes,
                ..
            } = holdings.sample(item)?;
            let channels = if image.channels() < 3 { 1 } else { 3 };
            let mut image = image.with_channels(channels, [0; 3])?;
            let resized = (image.width(), image.height()) != (size.width, size.height);
            if resized {
                image = resize(&image, size.width, size.height, Filter::Bicubic)?;
            }
            folder.write(&file, &encode_png(&image)?)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, kept.len());
            Ok(Written {
                file,
                label,
                attributes,
                resized,
            })
        })
        .collect();
    let written = written.into_iter().collect::<Result<Vec<Written>>>()?;
    if let Some((name, text)) = label_file(report, &written) {
        folder.write(name, text.as_bytes())?;
    }
    folder.publish()?;
    Ok(Fixed {
        images: written.len(),
        resized: written.iter().filter(|image| image.resized).count(),
        left_out: holdings.items.len() - written.len(),
    })
}

/// The file that holds the labels of the copy, where its folders do not tell them.
fn label_file(report: &Report, written: &[Written]) -> Option<(&'static str, String)> {
    let description = report.holdings.describe();
    let labelled = !(description.classes.is_empty() && description.attributes.is_empty());
    match description.format.as_str() {
        "folder-per-class" => None,
        // Folders inside a zip mean nothing, which only this file says.
        "zip" => Some(("dataset.json", json(labelled, written))),
        _ if !labelled => None,
        "folder" if !report.holdings.labels_given => {
            Some(("dataset.json", json(labelled, written)))
        }
        _ => Some(("labels.csv", csv(description, written))),
    }
}

fn csv(description: &Description, written: &[Written]) -> String {
    let rows: Vec<String> = written
        .iter()
        .map(|image| row(description, &image.file, image.label, &image.attributes))
        .collect();
    table(description, &rows)
}

/// The labels as `dataset.json` has them: classes or vectors by file, or null.
fn json(labelled: bool, written: &[Written]) -> String {
    let labels = labelled.then(|| {
        let pairs = written.iter().map(|image| match image.label {
            Some(label) => serde_json::json!([image.file, label]),
            None => serde_json::json!([image.file, image.attributes]),
        });
        pairs.collect::<Vec<_>>()
    });
    serde_json::json!({ "labels": labels }).to_string()
}

/// A file name for an image whose place is `place`: with the extension of PNG, and where another
/// image has that name already, with its old extension too, or a number.
fn free_name(taken: &mut HashSet<String>, place: &str, name: &str) -> String {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut file = format!("{place}.png");
    let mut next = 1;
    // Some file systems take names for equal that differ in case.
    while !taken.insert(file.to_lowercase()) {
        file = match next {
            1 => format!("{place}.{extension}.png"),
            _ => format!("{place}-{next}.png"),
        };
        next += 1;
    }
    file
}

/// Refuses to write a copy into the folder it is made of.
fn refuse_inside(location: &Path, out: &Path) -> Result<()> {
    let Ok(root) = fs::canonicalize(location) else {
        // A world has no place on disk.
        return Ok(());
    };
    let mut above = std::path::absolute(out).map_err(|e| Error::io(out, e))?;
    let mut below: Vec<OsString> = Vec::new();
    // What does not exist yet has no canonical path; the nearest folder above it has.
    let mut target = loop {
        if let Ok(real) = fs::canonicalize(&above) {
            break real;
        }
        below.extend(above.file_name().map(OsString::from));
        if !above.pop() {
            return Ok(());
        }
    };
    target.extend(below.into_iter().rev());
    if target.starts_with(&root) {
        return Err(Error::settings(
            format!("{}: lies inside the data set it would copy", out.display()),
            "choose a folder beside it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_meet_keep_their_extensions() {
        let mut taken = HashSet::new();
        let mut name = |place, name| free_name(&mut taken, place, name);
        assert_eq!(name("a/b", "a/b.jpg"), "a/b.png");
        assert_eq!(name("a/B", "a/B.PNG"), "a/B.PNG.png");
        assert_eq!(name("a/b", "a/b.jpg"), "a/b.jpg.png");
        assert_eq!(name("a/b", "a/b.jpg"), "a/b-2.png");
        assert_eq!(name("c", "train[1]"), "c.png");
    }

    #[test]
    fn copies_do_not_go_into_their_original() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        fs::create_dir(&data).unwrap();
        for (out, inside) in [
            (data.join("clean"), true),
            (data.join("deep/er/clean"), true),
            (data.join("../data/clean"), true),
            (data.clone(), true),
            (place.path().join("data-clean"), false),
        ] {
            assert_eq!(
                refuse_inside(&data, &out).is_err(),
                inside,
                "{}",
                out.display()
            );
        }
        assert!(refuse_inside(Path::new("world:glyphs"), &data).is_ok());
    }
}
