//! Worlds: procedural data sets whose every image is known exactly, for demos and tests.
//!
//! A world is named by a text such as `world:glyphs?count=2000&size=32&seed=0&channels=1`;
//! parameters that are left out take their defaults. Image `i` depends on the seed, the size, the
//! number of channels and `i` alone, never on the count or on the images drawn before it.
//!
//! | parameter | meaning | default | values |
//! |---|---|---|---|
//! | `count` | images in a split | 2000 | 1 to 4,294,967,295 |
//! | `size` | side in pixels | 32 | 8 to 2048 |
//! | `seed` | key of every draw | 0 | any `u64` |
//! | `channels` | 1 grey, 3 RGB | 1 (`glyphs`), 3 (`shapes`) | 1, 3 |

use std::fmt::Write as _;
use std::ops::Range;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use vermeer_image::Image;

use super::drawing::Drawing;
use super::source::{Description, Sample, Source, Split};
use super::{glyphs, shapes};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream, stream};

/// What a location starts with when it names a world.
pub const PREFIX: &str = "world:";

/// Raised whenever a scene draws another image for the same key, so that digests change with it.
const EDITION: u32 = 1;

/// The parameters of a location, in the order in which they are written.
const PARAMETERS: [&str; 4] = ["count", "size", "seed", "channels"];

/// Every world. A new one is its file and its line here.
static SCENES: [&Scene; 2] = [&glyphs::SCENE, &shapes::SCENE];

/// One kind of world: what it draws and what it tells about its drawings.
pub(super) struct Scene {
    /// The name after `world:`.
    pub(super) name: &'static str,
    /// Class names in alphabetical order, so that class folders sort into the same labels.
    pub(super) classes: fn() -> Vec<&'static str>,
    /// Names of the values of [`Drawing::attributes`].
    pub(super) attributes: &'static [&'static str],
    /// Channels when the location does not say.
    pub(super) channels: usize,
    /// Draws one image of a class: class, side in pixels, channels, the image's own stream.
    pub(super) draw: fn(usize, usize, usize, &mut Stream) -> Drawing,
}

/// A procedural data set. Every class is as frequent as the others: each run of as many
/// successive images as there are classes holds every class once, in a shuffled order.
pub struct World {
    scene: &'static Scene,
    count: usize,
    size: usize,
    seed: u64,
    channels: usize,
    /// The splits it holds: train, validation and test are 0, 1 and 2.
    parts: Range<u64>,
    description: Description,
}

impl World {
    /// Reads a location such as `world:shapes?count=500&seed=3`.
    ///
    /// The splits are disjoint, `count` images each; all of them are the three, one after the
    /// other.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown world or parameter (the known ones are listed), for a
    /// parameter given twice and for a value out of its range.
    pub fn parse(location: &str, split: Split) -> Result<Self> {
        let rest = location.strip_prefix(PREFIX).unwrap_or(location);
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        let scene = *SCENES
            .iter()
            .find(|scene| scene.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
                Error::settings(
                    format!("{location}: there is no world '{name}'"),
                    format!("choose one of {}", known.join(", ")),
                )
            })?;

        let mut values: [Option<&str>; 4] = [None; 4];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = PARAMETERS
                .iter()
                .position(|known| *known == key)
                .ok_or_else(|| {
                    Error::settings(
                        format!("{location}: a world has no parameter '{key}'"),
                        format!("choose from {}", PARAMETERS.join(", ")),
                    )
                })?;
            if values[slot].replace(value).is_some() {
                return Err(Error::settings(
                    format!("{location}: '{key}' is given twice"),
                    "name each parameter once",
                ));
            }
        }
        let [count, size, seed, channels] = values;
        let count = number(location, "count", count, 2000, 1, u64::from(u32::MAX))? as usize;
        let size = number(location, "size", size, 32, 8, 2048)? as usize;
        let seed = number(location, "seed", seed, 0, 0, u64::MAX)?;
        let channels =
            number(location, "channels", channels, scene.channels as u64, 1, 3)? as usize;
        if channels == 2 {
            return Err(Error::settings(
                format!("{location}: channels is 2"),
                "use 1 for grey or 3 for RGB",
            ));
        }

        let classes = (scene.classes)();
        let parts = match split {
            Split::Train => 0..1,
            Split::Validation => 1..2,
            Split::Test => 2..3,
            Split::All => 0..3,
        };
        let description = Description {
            format: "world".to_string(),
            location: format!(
                "{PREFIX}{name}?count={count}&size={size}&seed={seed}&channels={channels}"
            ),
            split,
            classes: classes.into_iter().map(str::to_string).collect(),
            attributes: scene
                .attributes
                .iter()
                .map(|name| name.to_string())
                .collect(),
        };
        Ok(Self {
            scene,
            count,
            size,
            seed,
            channels,
            parts,
            description,
        })
    }

    /// The number of the image at `index`.
    fn number(&self, index: usize) -> u64 {
        assert!(
            index < self.len(),
            "image {index} of a world of {}",
            self.len()
        );
        let part = self.parts.start + (index / self.count) as u64;
        // Every split starts a new round of the classes, 2^32 images after the one before.
        let classes = self.description.classes.len() as u64;
        (part << 32) / classes * classes + (index % self.count) as u64
    }

    /// The class of the image with this number.
    fn class(&self, number: u64) -> usize {
        let mut order: Vec<usize> = (0..self.description.classes.len()).collect();
        let classes = order.len() as u64;
        // Step 0 belongs to the images, step 1 to the order of their classes.
        let mut random = stream(self.seed, Purpose::World, 1, number / classes);
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        order[(number % classes) as usize]
    }
}

impl Source for World {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.count * (self.parts.end - self.parts.start) as usize
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let number = self.number(index);
        let class = self.class(number);
        let mut random = stream(self.seed, Purpose::World, 0, number);
        let drawing = (self.scene.draw)(class, self.size, self.channels, &mut random);
        let unit = drawing.unit(self.channels, &mut random);
        Ok(Sample {
            image: Image::from_unit_chw(&unit, self.channels, self.size, self.size)?,
            label: Some(class as u32),
            attributes: drawing.attributes,
            name: format!("{}-{index:06}", self.description.classes[class]),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.class(self.number(index)) as u32)
    }

    /// Covers the location with every parameter, the split and the edition of the drawings.
    fn digest(&self) -> Result<String> {
        let Description {
            location, split, ..
        } = &self.description;
        let mut hasher = Sha256::new();
        let images = self.len();
        hasher.update(format!("world edition {EDITION}\n{location}\n{split}\n"));
        if *split == Split::All {
            hasher.update(format!("{images} images\n"));
        }
        Ok(format!("{:x}", hasher.finalize()))
    }
}

/// Reads one parameter of a location.
fn number(
    location: &str,
    key: &str,
    text: Option<&str>,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64> {
    let Some(text) = text else { return Ok(default) };
    match u64::from_str(text) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => {
            let mut remedy = String::from("use a whole number");
            if most < u64::MAX {
                let _ = write!(remedy, " from {least} to {most}");
            }
            Err(Error::settings(
                format!("{location}: {key} is '{text}'"),
                remedy,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vermeer_image::Pixels;

    fn world(location: &str) -> World {
        World::parse(location, Split::Train).unwrap()
    }

    #[test]
    fn all_of_a_world_are_its_three_splits() {
        let open = |split| World::parse("world:shapes?count=5&size=8", split).unwrap();
        let all = open(Split::All);
        assert_eq!(all.len(), 15);
        for (part, split) in Split::PARTS.into_iter().enumerate() {
            let split = open(split);
            assert_eq!(split.len(), 5);
            for index in 0..5 {
                let (one, whole) = (
                    split.get(index).unwrap(),
                    all.get(5 * part + index).unwrap(),
                );
                assert_eq!(one.image.to_unit_chw(), whole.image.to_unit_chw());
                assert_eq!(split.label(index), all.label(5 * part + index));
            }
        }
    }

    #[test]
    fn parameters_left_out_take_their_defaults() {
        for (given, resolved) in [
            (
                "world:glyphs",
                "world:glyphs?count=2000&size=32&seed=0&channels=1",
            ),
            (
                "world:shapes?",
                "world:shapes?count=2000&size=32&seed=0&channels=3",
            ),
            (
                "world:glyphs?seed=7&count=5",
                "world:glyphs?count=5&size=32&seed=7&channels=1",
            ),
            (
                "world:shapes?channels=1&size=64",
                "world:shapes?count=2000&size=64&seed=0&channels=1",
            ),
        ] {
            assert_eq!(world(given).describe().location, resolved);
        }
    }

    #[test]
    fn mistakes_are_named_with_what_is_known() {
        for (given, expected) in [
            ("world:gliphs", "glyphs, shapes"),
            ("world:glyphs?colour=1", "count, size, seed, channels"),
            ("world:glyphs?size=4", "from 8 to 2048"),
            ("world:glyphs?seed=-1", "whole number"),
            ("world:glyphs?count", "from 1 to 4294967295"),
            ("world:glyphs?channels=2", "3 for RGB"),
            ("world:glyphs?size=32&size=64", "once"),
        ] {
            let error = World::parse(given, Split::All).err().unwrap();
            assert!(
                matches!(error, Error::Settings { .. }),
                "{given}: {error:?}"
            );
            assert!(
                error.remedy().unwrap().contains(expected),
                "{given}: {:?}",
                error.remedy()
            );
        }
    }

    #[test]
    fn images_depend_on_seed_and_number_only() {
        for name in ["glyphs", "shapes"] {
            let bytes = |query: &str, index: usize| {
                let sample = world(&format!("world:{name}?{query}")).get(index).unwrap();
                match sample.image.pixels() {
                    Pixels::U8(bytes) => bytes.clone(),
                    _ => panic!("worlds are 8 bits deep"),
                }
            };
            let base = bytes("count=20&size=16&seed=3", 11);
            assert_eq!(base, bytes("count=20&size=16&seed=3", 11));
            assert_eq!(base, bytes("count=12&size=16&seed=3", 11));
            assert_ne!(base, bytes("count=20&size=16&seed=4", 11));
            assert_ne!(base, bytes("count=20&size=16&seed=3", 12));
        }
    }

    #[test]
    fn classes_are_balanced_shuffled_and_equal_to_the_labels() {
        for name in ["glyphs", "shapes"] {
            let world = world(&format!("world:{name}?count=70&size=8&seed=1"));
            let classes = world.describe().classes.len();
            let labels: Vec<_> = (0..70).map(|i| world.label(i).unwrap()).collect();
            for round in labels.chunks_exact(classes) {
                let mut seen = round.to_vec();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..classes as u32));
            }
            assert_ne!(labels[..classes], labels[classes..2 * classes]);
            for index in [0, 13, 69] {
                let sample = world.get(index).unwrap();
                assert_eq!(sample.label, Some(labels[index]));
                assert_eq!(sample.attributes.len(), world.describe().attributes.len());
            }
        }
    }

    #[test]
    fn class_names_are_sorted() {
        for scene in SCENES {
            assert!((scene.classes)().is_sorted(), "{}", scene.name);
        }
    }

    #[test]
    fn splits_and_parameters_change_the_digest() {
        let digest =
            |location: &str, split| World::parse(location, split).unwrap().digest().unwrap();
        let base = digest("world:glyphs", Split::Train);
        assert_eq!(base, digest("world:glyphs?size=32", Split::Train));
        assert_ne!(base, digest("world:glyphs?size=33", Split::Train));
        assert_ne!(base, digest("world:glyphs", Split::Test));
        let pixels = |split| {
            World::parse("world:glyphs", split)
                .unwrap()
                .get(0)
                .unwrap()
                .image
                .to_unit_chw()
        };
        assert_ne!(pixels(Split::Train), pixels(Split::Test));
        assert_ne!(pixels(Split::Validation), pixels(Split::Test));
    }
}
