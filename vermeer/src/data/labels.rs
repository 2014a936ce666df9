//! Labels that stand beside the images: a CSV table, or the `dataset.json` of StyleGAN.

use std::collections::HashMap;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::natural;
use crate::error::{Error, Result};

/// The largest file of labels that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// Class numbers from here on are names rather than indices: a table of classes that long would
/// say nothing.
const MAX_CLASSES: u32 = 1 << 16;

/// What is known about one image.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Label {
    /// Its class.
    Class(u32),
    /// A vector, as pose-conditional data sets have.
    Vector(Vec<f32>),
}

/// Labels by file.
#[derive(Debug)]
pub(super) struct LabelTable {
    path: PathBuf,
    exact: HashMap<String, Label>,
    /// The label of a file name in whatever folder; none where two rows disagree.
    by_name: HashMap<String, Option<Label>>,
    /// Names of the classes, by label.
    pub(super) classes: Vec<String>,
    /// The length of every vector; 0 where labels are classes.
    pub(super) attributes: usize,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    labels: Option<Vec<(String, Label)>>,
}

impl LabelTable {
    /// Reads a CSV with a header row, a column `file`, `filename` or `file_name` and a column
    /// `label` or `class`. Labels that are all small whole numbers are taken as they are; others
    /// are names, numbered in natural order.
    pub(super) fn from_csv(path: &Path) -> Result<Self> {
        let size = fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        check_size(path, size)?;
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::data(path, "the table is not UTF-8", "save it as UTF-8"))?;
        let mut rows = records(&text)
            .ok_or_else(|| Error::data(path, "a quoted field does not end", "close the quotes"))?
            .into_iter();
        let header: Vec<String> = rows.next().unwrap_or_default();
        let column = |names: &[&str]| {
            header
                .iter()
                .position(|title| names.contains(&title.trim().to_lowercase().as_str()))
                .ok_or_else(|| {
                    Error::data(
                        path,
                        format!(
                            "no column is named {}; there are: {}",
                            names.join(" or "),
                            header.join(", ")
                        ),
                        "name the columns file and label in the first row",
                    )
                })
        };
        let (file, label) = (
            column(&["file", "filename", "file_name"])?,
            column(&["label", "class"])?,
        );
        let mut pairs = Vec::new();
        for (number, row) in rows.enumerate() {
            match (row.get(file), row.get(label)) {
                (Some(file), Some(label)) if !label.trim().is_empty() => {
                    pairs.push((file.trim().to_string(), label.trim().to_string()));
                }
                _ => {
                    return Err(Error::data(
                        path,
                        format!("record {} has no file or no label", number + 2),
                        "complete the row or remove it",
                    ));
                }
            }
        }
        let numbers: Option<Vec<u32>> = pairs
            .iter()
            .map(|(_, label)| label.parse::<u32>().ok().filter(|n| *n < MAX_CLASSES))
            .collect();
        let (classes, labels) = match numbers {
            Some(numbers) => (numbered(numbers.iter().copied()), numbers),
            None => {
                let mut names: Vec<String> = pairs.iter().map(|(_, label)| label.clone()).collect();
                names.sort_by_cached_key(|name| natural::key(name));
                names.dedup();
                let labels = {
                    let index: HashMap<&str, u32> = names
                        .iter()
                        .zip(0..)
                        .map(|(name, index)| (name.as_str(), index))
                        .collect();
                    let of = |(_, label): &(String, String)| index[label.as_str()];
                    pairs.iter().map(of).collect::<Vec<u32>>()
                };
                (names, labels)
            }
        };
        let rows = pairs
            .into_iter()
            .zip(labels)
            .map(|((file, _), label)| (file, Label::Class(label)));
        Self::new(path, rows, classes, 0)
    }

    /// Reads `{"labels": [["folder/name.png", 6], …]}`, where a label is a class or a vector.
    /// The answer is none when the labels are absent or null. `path` names the file in errors.
    pub(super) fn from_dataset_json(path: &Path, bytes: &[u8]) -> Result<Option<Self>> {
        let remedy = "write {\"labels\": [[\"file\", class], …]}, or null without labels";
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|e| Error::data(path, format!("dataset.json: {e}"), remedy))?;
        let Some(rows) = manifest.labels else {
            return Ok(None);
        };
        let attributes = match rows.first() {
            Some((_, Label::Vector(values))) => values.len(),
            _ => 0,
        };
        for (file, label) in &rows {
            let fits = match label {
                Label::Class(class) => attributes == 0 && *class < MAX_CLASSES,
                Label::Vector(values) => values.len() == attributes && attributes > 0,
            };
            if !fits {
                return Err(Error::data(
                    path,
                    format!("dataset.json: the label of {file} is unlike the others or too large"),
                    remedy,
                ));
            }
        }
        let classes = numbered(rows.iter().filter_map(|(_, label)| match label {
            Label::Class(class) => Some(*class),
            Label::Vector(_) => None,
        }));
        Self::new(path, rows, classes, attributes).map(Some)
    }

    fn new(
        path: &Path,
        rows: impl IntoIterator<Item = (String, Label)>,
        classes: Vec<String>,
        attributes: usize,
    ) -> Result<Self> {
        let mut exact = HashMap::new();
        let mut by_name: HashMap<String, Option<Label>> = HashMap::new();
        for (file, label) in rows {
            let file = file.replace('\\', "/");
            let file = file.trim_start_matches("./");
            by_name
                .entry(file_name(file).to_string())
                .and_modify(|known| {
                    if known.as_ref() != Some(&label) {
                        *known = None;
                    }
                })
                .or_insert_with(|| Some(label.clone()));
            if let Some(other) = exact.insert(file.to_string(), label.clone())
                && other != label
            {
                return Err(Error::data(
                    path,
                    format!("{file} has two labels"),
                    "keep one row for each file",
                ));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            exact,
            by_name,
            classes,
            attributes,
        })
    }

    /// The label of an image: the row of one of these paths, or the only label that rows give to
    /// its file name.
    ///
    /// # Errors
    /// [`Error::Data`] when there is none.
    pub(super) fn find(&self, paths: &[&str]) -> Result<&Label> {
        let name = paths.first().map_or("", |path| file_name(path));
        paths
            .iter()
            .find_map(|path| self.exact.get(*path))
            .or_else(|| self.by_name.get(name).and_then(Option::as_ref))
            .ok_or_else(|| {
                Error::data(
                    &self.path,
                    format!("no row gives {} a label", paths.first().unwrap_or(&"")),
                    "add a row for it, or take the image out of the set",
                )
            })
    }
}

/// Class names for labels that are numbers: every number up to the largest.
pub(super) fn numbered(labels: impl Iterator<Item = u32>) -> Vec<String> {
    match labels.max() {
        Some(largest) => (0..=largest).map(|class| class.to_string()).collect(),
        None => Vec::new(),
    }
}

/// Refuses a file of labels that is larger than [`MAX_BYTES`].
pub(super) fn check_size(path: &Path, size: u64) -> Result<()> {
    if size > MAX_BYTES {
        return Err(Error::data(
            path,
            format!("{size} bytes of labels; at most {MAX_BYTES} are read"),
            "split the data set",
        ));
    }
    Ok(())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The records of a CSV text (RFC 4180), without blank lines; none when a quote stays open.
fn records(text: &str) -> Option<Vec<Vec<String>>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .chars()
        .peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => row.push(mem::take(&mut field)),
            ('\r', false) => {}
            ('\n', false) => {
                row.push(mem::take(&mut field));
                rows.push(mem::take(&mut row));
            }
            _ => field.push(c),
        }
    }
    row.push(field);
    rows.push(row);
    rows.retain(|row| row.iter().any(|field| !field.trim().is_empty()));
    (!quoted).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<LabelTable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        fs::write(&path, text).unwrap();
        LabelTable::from_csv(&path)
    }

    #[test]
    fn records_follow_rfc_4180() {
        // The quoting rules 5 to 7 of RFC 4180, section 2.
        let text = "\u{feff}a,\"b,1\"\r\n\r\n\"c\"\"d\",\"e\nf\"";
        assert_eq!(
            records(text).unwrap(),
            [
                vec!["a".to_string(), "b,1".to_string()],
                vec!["c\"d".to_string(), "e\nf".to_string()]
            ]
        );
        assert!(records("a,\"b").is_none());
    }

    #[test]
    fn names_are_numbered_in_natural_order_and_numbers_stay() {
        let table = csv("Label,File\ns10,x/1.png\ns2,2.png\n").unwrap();
        assert_eq!(table.classes, ["s2", "s10"]);
        assert_eq!(table.find(&["x/1.png"]).unwrap(), &Label::Class(1));
        assert_eq!(table.find(&["y/2.png"]).unwrap(), &Label::Class(0));

        let table = csv("file_name,class\na.png,3\nb.png,1\n").unwrap();
        assert_eq!(table.classes, ["0", "1", "2", "3"]);
        assert_eq!(table.find(&["a.png"]).unwrap(), &Label::Class(3));
    }

    #[test]
    fn mistakes_in_a_table_are_named() {
        for (text, part) in [
            ("name,label\na.png,1\n", "file or filename or file_name"),
            ("file,value\na.png,1\n", "label or class"),
            ("file,label\na.png,1\nb.png\n", "record 3"),
            ("file,label\na.png,1\na.png,2\n", "a.png has two labels"),
            ("file,label\n\"a.png,1\n", "quoted"),
            ("", "no column"),
        ] {
            let error = csv(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
        let table = csv("file,label\nx/a.png,1\ny/a.png,2\n").unwrap();
        assert!(table.find(&["y/a.png"]).is_ok());
        assert!(table.find(&["z/a.png"]).is_err());
    }

    #[test]
    fn dataset_json_holds_classes_or_vectors_or_nothing() {
        let read = |text: &str| LabelTable::from_dataset_json(Path::new("z"), text.as_bytes());
        let table = read(r#"{"labels": [["0/a.png", 6], ["0/b.png", 2]], "x": 1}"#)
            .unwrap()
            .unwrap();
        assert_eq!(table.classes.len(), 7);
        assert_eq!(table.find(&["0/b.png"]).unwrap(), &Label::Class(2));
        let table = read(r#"{"labels": [["a.png", [0.5, 1]]]}"#)
            .unwrap()
            .unwrap();
        assert_eq!(table.attributes, 2);
        assert_eq!(
            table.find(&["a.png"]).unwrap(),
            &Label::Vector(vec![0.5, 1.0])
        );
        assert!(read(r#"{"labels": null}"#).unwrap().is_none());
        assert!(read("{}").unwrap().is_none());
        assert!(read(r#"{"labels": [["a.png", 6], ["b.png", [1.0]]]}"#).is_err());
        assert!(read(r#"{"labels": [["a.png", 4000000000]]}"#).is_err());
        assert!(read("[").is_err());
    }
}
