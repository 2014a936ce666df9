//! Images and their originals, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use vermeer_image::{Image, Limits, Pixels, decode_file};

use crate::data::folder::{FolderSource, is_image};
use crate::data::{self, OpenOptions, Source, Split};
use crate::evaluate::Side;
use crate::{Error, Result};

/// Images without a partner that an error names.
const NAMED: usize = 5;

/// Two sets of images whose images belong together one by one, or two pictures.
///
/// Files of folders and zips belong together by their names without the ending: by the path inside
/// the folder, or, where that fits no other, by the file name alone. Images without names (IDX,
/// CIFAR, `.npz`, worlds) belong together by their order.
pub struct PairedImages {
    sides: [Images; 2],
    pairs: Vec<Pair>,
    by: &'static str,
}

/// One side.
struct Images {
    location: String,
    place: Place,
}

enum Place {
    Picture(PathBuf),
    Set {
        source: Arc<dyn Source>,
        /// The names of the images without their endings, where they have names.
        names: Option<Vec<String>>,
    },
}

/// The numbers of an image and of its original.
struct Pair {
    name: String,
    at: [usize; 2],
}

/// An image and its original, ready to be compared: of one size, both grey or both RGB.
#[derive(Clone, Debug)]
pub struct ImagePair {
    /// The image that is judged, then what it should be.
    pub images: [Image; 2],
    /// Their names.
    pub names: [String; 2],
    /// Whether they are grey.
    pub grey: bool,
    /// Whether one of them had alpha, opaque everywhere.
    pub alpha: bool,
}

impl PairedImages {
    /// Opens two sets of images, or two picture files, and finds what belongs together. `splits`
    /// are the parts of each to take.
    ///
    /// # Errors
    /// Those of the readers; [`Error::Settings`] when an image has no partner or several, when
    /// sets without names have different lengths, and for a picture beside a set.
    pub fn open(a: &str, b: &str, splits: [Split; 2]) -> Result<Self> {
        let sides = [Images::open(a, splits[0])?, Images::open(b, splits[1])?];
        let (pairs, by) = match [&sides[0].place, &sides[1].place] {
            [Place::Picture(picture), Place::Picture(_)] => {
                let name = picture.with_extension("");
                let name = name.file_name().unwrap_or_default().to_string_lossy();
                let pair = Pair {
                    name: name.into_owned(),
                    at: [0, 0],
                };
                (vec![pair], "two pictures")
            }
            [
                Place::Set {
                    names: Some(of_a), ..
                },
                Place::Set {
                    names: Some(of_b), ..
                },
            ] => (by_names([a, b], [of_a, of_b])?, "file names"),
            [
                Place::Set { source: of_a, .. },
                Place::Set { source: of_b, .. },
            ] => (by_order([a, b], [of_a.len(), of_b.len()])?, "order"),
            _ => {
                return Err(Error::settings(
                    format!("one of {a} and {b} is a picture and the other a set of images"),
                    "give two pictures, or two folders whose files have the same names",
                ));
            }
        };
        Ok(Self { sides, pairs, by })
    }

    /// The number of pairs, at least 1.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none, which [`PairedImages::open`] refuses.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// What a pair is called: the path of its first file without the ending, or its number.
    ///
    /// # Panics
    /// When `index` is not below [`PairedImages::len`].
    pub fn name(&self, index: usize) -> &str {
        &self.pairs[index].name
    }

    /// By what images belong together: file names, order, or that they are two pictures.
    pub fn by(&self) -> &'static str {
        self.by
    }

    /// What a passport says of the images, and of the originals.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read.
    pub fn passports(&self) -> Result<[Side; 2]> {
        let [a, b] = &self.sides;
        Ok([a.passport()?, b.passport()?])
    }

    /// Reads a pair. Alpha that is opaque everywhere is left out.
    ///
    /// # Errors
    /// Those of reading the images; [`Error::Settings`], naming both, for alpha that is not opaque,
    /// other sizes, and a grey image beside one in colour.
    ///
    /// # Panics
    /// When `index` is not below [`PairedImages::len`].
    pub fn read(&self, index: usize) -> Result<ImagePair> {
        let [a, b] = &self.sides;
        let [at_a, at_b] = self.pairs[index].at;
        let ((a, name_a), (b, name_b)) = (a.get(at_a)?, b.get(at_b)?);
        let alpha = a.has_alpha() || b.has_alpha();
        let (a, b) = (opaque(a, &name_a)?, opaque(b, &name_b)?);
        let size = |image: &Image| [image.width(), image.height()];
        if size(&a) != size(&b) {
            let ([width_a, height_a], [width_b, height_b]) = (size(&a), size(&b));
            return Err(Error::settings(
                format!(
                    "{name_a} has {width_a}x{height_a} pixels and {name_b} has {width_b}x{height_b}"
                ),
                "resize or crop one of them: images are compared pixel by pixel",
            ));
        }
        if a.channels() != b.channels() {
            let kind = |image: &Image| match image.channels() {
                1 => "grey",
                _ => "in colour",
            };
            return Err(Error::settings(
                format!("{name_a} is {} and {name_b} is {}", kind(&a), kind(&b)),
                "store both grey or both in colour: a value of one against the other depends on \
                 how grey is read",
            ));
        }
        Ok(ImagePair {
            grey: a.channels() == 1,
            images: [a, b],
            names: [name_a, name_b],
            alpha,
        })
    }
}

impl Images {
    fn open(location: &str, split: Split) -> Result<Self> {
        let path = Path::new(location);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let place = match path.is_file() && is_image(&file) {
            true => Place::Picture(path.to_path_buf()),
            false => {
                let options = OpenOptions {
                    split,
                    ..OpenOptions::default()
                };
                let source = data::open(location, &options)?;
                let names = names(path, source.as_ref(), &options)?;
                Place::Set { source, names }
            }
        };
        Ok(Self {
            location: location.to_owned(),
            place,
        })
    }

    /// An image and its name in messages.
    fn get(&self, index: usize) -> Result<(Image, String)> {
        match &self.place {
            Place::Picture(path) => Ok((
                decode_file(path, &Limits::cli())?.image,
                path.display().to_string(),
            )),
            Place::Set { source, names } => {
                let sample = source.get(index)?;
                let folder = Path::new(&self.location);
                let name = match folder.is_dir() && names.is_some() {
                    true => folder.join(&sample.name).display().to_string(),
                    false => sample.name,
                };
                Ok((sample.image, name))
            }
        }
    }

    fn passport(&self) -> Result<Side> {
        Ok(match &self.place {
            Place::Picture(path) => {
                let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
                Side {
                    location: self.location.clone(),
                    split: "one picture".to_owned(),
                    images: 1,
                    digest: crate::sha256_hex(&bytes),
                }
            }
            Place::Set { source, .. } => Side {
                location: self.location.clone(),
                split: source.describe().split.to_string(),
                images: source.len() as u64,
                digest: source.digest()?,
            },
        })
    }
}

/// The names of the images of a folder or a zip, without their endings.
fn names(path: &Path, source: &dyn Source, options: &OpenOptions) -> Result<Option<Vec<String>>> {
    let files: Vec<PathBuf> = match source.describe().format.as_str() {
        "folder" | "folder-per-class" => {
            let folder = FolderSource::open(path, options)?;
            (0..folder.len())
                .map(|index| {
                    let file = folder.path(index);
                    file.strip_prefix(path).unwrap_or(file).to_path_buf()
                })
                .collect()
        }
        // A zip tells its names with its images.
        "zip" => (0..source.len())
            .into_par_iter()
            .map(|index| Ok(PathBuf::from(source.get(index)?.name)))
            .collect::<Result<_>>()?,
        _ => return Ok(None),
    };
    let name = |file: &PathBuf| -> String {
        let bare = file.with_extension("");
        // Names in a zip may lead anywhere; what leads upwards is left out.
        let parts: Vec<String> = bare
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        parts.join("/")
    };
    Ok(Some(files.iter().map(name).collect()))
}

/// Pairs of equal names, in the order of the first side.
fn by_names(locations: [&str; 2], names: [&[String]; 2]) -> Result<Vec<Pair>> {
    let whole = |name: &String| name.clone();
    let last = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
    for (location, names) in locations.iter().zip(names) {
        if let Some(name) = repeated(names, whole) {
            return Err(Error::settings(
                format!("{location} holds several files called {name}, apart from their endings"),
                "give every image a name of its own",
            ));
        }
    }
    if let Some(pairs) = equal(names, whole) {
        return Ok(pairs);
    }
    let unique = names.iter().all(|names| repeated(names, last).is_none());
    if unique && let Some(pairs) = equal(names, last) {
        return Ok(pairs);
    }
    let [a, b] = names;
    let [set_a, set_b] = names.map(|names| names.iter().collect::<BTreeSet<&String>>());
    let alone = |names: &[String], others: &BTreeSet<&String>, location: &str| -> Vec<String> {
        names
            .iter()
            .filter(|name| !others.contains(name))
            .map(|name| format!("{name} of {location}"))
            .collect()
    };
    let mut without = alone(a, &set_b, locations[0]);
    without.extend(alone(b, &set_a, locations[1]));
    let more = match without.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    without.truncate(NAMED);
    Err(Error::settings(
        format!(
            "{} has {} images and {} has {}; without a partner are {}{more}",
            locations[0],
            a.len(),
            locations[1],
            b.len(),
            without.join(", ")
        ),
        "give partners the same file name (their endings may differ), and take out what has none",
    ))
}

/// The pairs of equal keys, if every image has exactly one partner.
fn equal(names: [&[String]; 2], key: fn(&String) -> String) -> Option<Vec<Pair>> {
    let [a, b] = names;
    let at: BTreeMap<String, usize> = b
        .iter()
        .enumerate()
        .map(|(index, name)| (key(name), index))
        .collect();
    if a.len() != b.len() || at.len() != b.len() {
        return None;
    }
    a.iter()
        .enumerate()
        .map(|(index, name)| {
            let name = key(name);
            let partner = at.get(&name).copied()?;
            Some(Pair {
                name,
                at: [index, partner],
            })
        })
        .collect()
}

/// A key that two names share.
fn repeated(names: &[String], key: fn(&String) -> String) -> Option<String> {
    let mut seen = BTreeSet::new();
    names
        .iter()
        .map(key)
        .find(|name| !seen.insert(name.clone()))
}

/// Pairs of equal numbers.
fn by_order(locations: [&str; 2], counts: [usize; 2]) -> Result<Vec<Pair>> {
    let [a, b] = counts;
    if a != b {
        return Err(Error::settings(
            format!(
                "{} has {a} images and {} has {b}, and their order is all that pairs them",
                locations[0], locations[1]
            ),
            "give sets of one length, or folders whose files have the same names",
        ));
    }
    Ok((0..a)
        .map(|index| Pair {
            name: format!("{index:06}"),
            at: [index, index],
        })
        .collect())
}

/// The image without its alpha, which is opaque everywhere.
fn opaque(image: Image, name: &str) -> Result<Image> {
    if !image.has_alpha() {
        return Ok(image);
    }
    let channels = image.channels();
    let clear = match image.pixels() {
        Pixels::U8(samples) => alphas(samples, channels).any(|alpha| *alpha != u8::MAX),
        Pixels::U16(samples) => alphas(samples, channels).any(|alpha| *alpha != u16::MAX),
        Pixels::F32(samples) => alphas(samples, channels).any(|alpha| *alpha != 1.0),
    };
    if clear {
        return Err(Error::settings(
            format!("{name} is transparent in places, and what lies under it is not known"),
            "put it on a background first, and its partner on the same",
        ));
    }
    // Over an opaque pixel the background does not matter.
    Ok(image.with_channels(channels - 1, [0; 3])?)
}

/// Every alpha of interleaved samples.
fn alphas<T>(samples: &[T], channels: usize) -> impl Iterator<Item = &T> {
    samples.iter().skip(channels - 1).step_by(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(a: &[&str], b: &[&str]) -> Result<Vec<(String, [usize; 2])>> {
        let [a, b] = [a, b]
            .map(|names| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() });
        let pairs = by_names(["left", "right"], [&a, &b])?;
        Ok(pairs.into_iter().map(|pair| (pair.name, pair.at)).collect())
    }

    #[test]
    fn paths_pair_first_and_file_names_where_they_do_not() {
        let named = |names: &[&str], at: &[[usize; 2]]| -> Vec<(String, [usize; 2])> {
            let names = names.iter().map(|name| (*name).to_owned());
            names.zip(at.iter().copied()).collect()
        };
        assert_eq!(
            paired(&["x", "y"], &["y", "x"]).unwrap(),
            named(&["x", "y"], &[[0, 1], [1, 0]])
        );
        // The same file name in two folders is two images.
        assert_eq!(
            paired(&["1/x", "2/x"], &["2/x", "1/x"]).unwrap(),
            named(&["1/x", "2/x"], &[[0, 1], [1, 0]])
        );
        assert_eq!(
            paired(&["x", "y"], &["test/a/y", "test/b/x"]).unwrap(),
            named(&["x", "y"], &[[0, 1], [1, 0]])
        );
    }

    #[test]
    fn what_has_no_partner_is_named() {
        for (a, b, parts) in [
            (
                vec!["x", "y"],
                vec!["y"],
                vec!["left has 2", "right has 1", "x of left"],
            ),
            (vec!["x"], vec!["z"], vec!["x of left", "z of right"]),
            (
                vec!["1", "2", "3", "4", "5", "6", "7"],
                vec!["x"],
                vec!["5 of left and 3 more"],
            ),
            (vec!["x", "x"], vec!["x", "y"], vec!["left holds several"]),
            // Two partners by their file names are none.
            (vec!["x"], vec!["1/x", "2/x"], vec!["1/x of right"]),
        ] {
            let error = paired(&a, &b).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.remedy().is_some());
            for part in parts {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
        assert_eq!(by_order(["a", "b"], [3, 4]).err().unwrap().exit_code(), 2);
        assert_eq!(by_order(["a", "b"], [3, 3]).unwrap().len(), 3);
    }

    #[test]
    fn only_opaque_alpha_is_left_out() {
        let image = |channels: usize, samples: Vec<u8>| {
            Image::new(samples.len() / channels, 1, channels, Pixels::U8(samples)).unwrap()
        };
        let kept = opaque(image(4, vec![1, 2, 3, 255, 4, 5, 6, 255]), "x").unwrap();
        assert_eq!(kept, image(3, vec![1, 2, 3, 4, 5, 6]));
        let grey = opaque(image(2, vec![7, 255]), "x").unwrap();
        assert_eq!(grey, image(1, vec![7]));
        let error = opaque(image(4, vec![1, 2, 3, 255, 4, 5, 6, 254]), "x.png").unwrap_err();
        assert!(error.to_string().contains("x.png"), "{error}");
        let words = Image::new(1, 1, 2, Pixels::U16(vec![12345, 65535])).unwrap();
        assert_eq!(
            opaque(words, "x").unwrap().pixels(),
            &Pixels::U16(vec![12345])
        );
    }
}
