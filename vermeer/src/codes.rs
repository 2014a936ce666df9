//! Codes of images in a file: what `vermeer encode` writes and probes, editors and other tools read.
//!
//! | name | `.npz` | `.safetensors` |
//! |---|---|---|
//! | `features` | f32 `[n, size]` | f32 `[n, size]` |
//! | `labels` | i64 `[n]`, where every image has one | f32 `[n]` |
//! | `names` | unicode `[n]` | JSON in the header |
//! | `classes` | unicode, by label | JSON in the header |
//! | `told` | i64 `[1]`, where the model was told classes or attributes | in the header |

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::data::{NpzWriter, npz_doubles, npz_names, npz_texts};
use crate::run::{NamedTensor, TensorMap, read_safetensors, write_safetensors};
use crate::{Error, Result};

/// Codes and what is known of their images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codes {
    /// The numbers, `[n, size]`.
    pub values: Vec<f32>,
    /// Numbers in a code.
    pub size: usize,
    /// The name of each image.
    pub names: Vec<String>,
    /// The class of each image, where all have one.
    pub labels: Option<Vec<u32>>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Whether the model was told classes or attributes while it encoded, so that the codes may
    /// repeat them.
    pub told: bool,
}

/// The format of a file of codes, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFormat {
    /// NumPy's.
    Npz,
    /// Tensors with a JSON header.
    Safetensors,
}

impl CodeFormat {
    /// The format that the ending of a path names.
    ///
    /// # Errors
    /// [`Error::Settings`] for any other ending.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        match ending.to_ascii_lowercase().as_str() {
            "npz" => Ok(Self::Npz),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(Error::settings(
                format!("{}: the ending names no format of codes", path.display()),
                "use .npz or .safetensors",
            )),
        }
    }
}

impl Codes {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.size).unwrap_or_default()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Writes a file whose name is not yet given to anything; the format follows its ending.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown ending, [`Error::Io`] or [`Error::Failed`] when the disk
    /// refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        match CodeFormat::of(path)? {
            CodeFormat::Npz => {
                let file = File::create(path).map_err(|error| Error::io(path, error))?;
                let mut npz = NpzWriter::new(file);
                npz.floats("features", &[self.len(), self.size], &self.values)?;
                npz.texts("names", &self.names)?;
                if let Some(labels) = &self.labels {
                    let labels: Vec<i64> = labels.iter().map(|label| i64::from(*label)).collect();
                    npz.integers("labels", &[labels.len()], &labels)?;
                    npz.texts("classes", &self.classes)?;
                }
                if self.told {
                    npz.integers("told", &[1], &[1])?;
                }
                let file = npz.finish()?;
                file.sync_all().map_err(|error| Error::io(path, error))
            }
            CodeFormat::Safetensors => {
                let mut tensors = TensorMap::new();
                let mut put = |name: &str, shape: Vec<usize>, data: Vec<f32>| {
                    tensors.insert(name.to_owned(), NamedTensor { shape, data });
                };
                put("features", vec![self.len(), self.size], self.values.clone());
                if let Some(labels) = &self.labels {
                    let values = labels.iter().map(|label| *label as f32).collect();
                    put("labels", vec![labels.len()], values);
                }
                let json = |texts: &[String]| serde_json::Value::from(texts).to_string();
                let mut about = BTreeMap::from([
                    ("names".to_owned(), json(&self.names)),
                    ("classes".to_owned(), json(&self.classes)),
                ]);
                if self.told {
                    about.insert("told".to_owned(), "1".to_owned());
                }
                write_safetensors(path, &tensors, &about)
            }
        }
    }

    /// Reads a file of codes, those of other tools too, as far as they hold `features` and
    /// perhaps `labels`.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown ending, [`Error::Data`] when the file holds no codes or
    /// labels that are not whole numbers.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::data(
                path,
                reason,
                "make it with `vermeer encode`, or store features [n, size] and labels [n]",
            )
        };
        let (shape, values, labels, texts, told) = match CodeFormat::of(path)? {
            CodeFormat::Npz => {
                let (shape, values) = npz_doubles(path, &["features"])?.swap_remove(0);
                let arrays = npz_names(path)?;
                let has = |name: &str| arrays.iter().any(|array| array == name);
                let labels = match has("labels") {
                    true => Some(npz_doubles(path, &["labels"])?.swap_remove(0).1),
                    false => None,
                };
                let values = values.into_iter().map(|value| value as f32).collect();
                let names = npz_texts(path, "names").unwrap_or_default();
                let classes = npz_texts(path, "classes").unwrap_or_default();
                (shape, values, labels, [names, classes], has("told"))
            }
            CodeFormat::Safetensors => {
                let (mut tensors, about) = read_safetensors(path)?;
                let features = tensors
                    .remove("features")
                    .ok_or_else(|| wrong("it holds no features"))?;
                let labels = tensors.remove("labels");
                let labels = labels.map(|t| t.data.into_iter().map(f64::from).collect());
                let list = |key: &str| -> Vec<String> {
                    let text = about.get(key).map(String::as_str).unwrap_or_default();
                    serde_json::from_str(text).unwrap_or_default()
                };
                let texts = [list("names"), list("classes")];
                let told = about.contains_key("told");
                (features.shape, features.data, labels, texts, told)
            }
        };
        let [count, size] = shape[..] else {
            return Err(wrong("its features are no table [n, size]"));
        };
        if count * size != values.len() || values.iter().any(|v: &f32| !v.is_finite()) {
            return Err(wrong("its features are not complete and finite"));
        }
        let labels = match labels {
            Some(labels) => Some(whole(&labels, count).ok_or_else(|| {
                wrong("its labels are not one whole number, zero or larger, for each row")
            })?),
            None => None,
        };
        let [names, mut classes] = texts;
        if let Some(largest) = labels.iter().flatten().max() {
            for label in classes.len()..=*largest as usize {
                classes.push(label.to_string());
            }
        }
        Ok(Self {
            values,
            size,
            names: match names.len() == count {
                true => names,
                false => (0..count).map(|row| row.to_string()).collect(),
            },
            labels,
            classes,
            told,
        })
    }
}

/// Labels as whole numbers, if there are `count` of them and they are small enough for classes.
fn whole(values: &[f64], count: usize) -> Option<Vec<u32>> {
    const MOST_CLASSES: f64 = 1e6;
    let label = |value: &f64| {
        let fits = value.fract() == 0.0 && (0.0..MOST_CLASSES).contains(value);
        fits.then_some(*value as u32)
    };
    (values.len() == count)
        .then(|| values.iter().map(label).collect())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_from_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let mut codes = Codes {
            values: vec![0.5, -1.0, 2.0, 3.5, 0.0, 1e-9],
            size: 2,
            names: ["a/1.png", "ß", ""].map(str::to_owned).to_vec(),
            labels: Some(vec![1, 0, 1]),
            classes: ["cat", "dog"].map(str::to_owned).to_vec(),
            told: true,
        };
        for name in ["a.npz", "a.safetensors"] {
            let path = folder.path().join(name);
            codes.write(&path).unwrap();
            assert_eq!(Codes::read(&path).unwrap(), codes, "{name}");
        }
        codes.labels = None;
        codes.classes.clear();
        for name in ["b.npz", "b.safetensors"] {
            let path = folder.path().join(name);
            codes.write(&path).unwrap();
            assert_eq!(Codes::read(&path).unwrap(), codes, "{name}");
        }
        assert_eq!(codes.len(), 3);
        let error = codes.write(&folder.path().join("a.pt")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn labels_are_whole_numbers() {
        assert_eq!(whole(&[0.0, 2.0], 2), Some(vec![0, 2]));
        for (labels, count) in [
            (vec![0.5], 1),
            (vec![-1.0], 1),
            (vec![1.0], 2),
            (vec![1e9], 1),
        ] {
            assert_eq!(whole(&labels, count), None);
        }
    }
}
