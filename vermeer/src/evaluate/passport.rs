//! What a value depends on, so that two values are compared only when they can be.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One side of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// Where the images come from.
    pub location: String,
    /// The part of it.
    pub split: String,
    /// How many images; 0 where statistics do not say it.
    pub images: u64,
    /// Sum of what was read.
    pub digest: String,
}

/// Everything a value depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passport {
    /// The name of the value, which holds its protocol.
    pub protocol: String,
    /// The images that are judged.
    pub generated: Side,
    /// The images they are compared with, where there are any.
    pub real: Option<Side>,
    /// The network that looked at them.
    pub network: String,
    /// The SHA-256 of its weights.
    pub network_sha256: String,
    /// How images were brought to its size.
    pub resize: String,
    /// How bytes became its input.
    pub input: String,
    /// How samples were stored before they were looked at.
    pub storage: String,
    /// Seed of subsets, orders and directions.
    pub seed: u64,
    /// Version of Vermeer.
    pub version: String,
}

impl Passport {
    /// The fields in which two values differ that are to be compared: everything but which images
    /// were judged.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let side =
            |side: &Option<Side>| side.as_ref().map(|side| (side.digest.clone(), side.images));
        let fields: [(&'static str, bool); 10] = [
            ("protocol", self.protocol == other.protocol),
            (
                "number of generated images",
                // An extrapolated value is that of ever more images, whatever it was computed from.
                self.generated.images == other.generated.images
                    || self.protocol.ends_with("_infinity"),
            ),
            ("real images", side(&self.real) == side(&other.real)),
            ("network", self.network == other.network),
            (
                "weights of the network",
                self.network_sha256 == other.network_sha256,
            ),
            ("resize", self.resize == other.resize),
            ("input", self.input == other.input),
            ("storage", self.storage == other.storage),
            ("seed", self.seed == other.seed),
            ("version", self.version == other.version),
        ];
        fields
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(field, _)| field)
            .collect()
    }

    /// Refuses to compare values of different protocols.
    ///
    /// # Errors
    /// [`Error::Settings`] naming every field that differs.
    pub fn comparable(&self, other: &Self) -> Result<()> {
        let differences = self.differences(other);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::settings(
            format!(
                "{} and {} cannot be compared: they differ in {}",
                self.protocol,
                other.protocol,
                differences.join(", ")
            ),
            "compute both in the same way, or say --force",
        ))
    }

    /// What has to stand beside the value in a text, on one line.
    pub fn citation(&self) -> String {
        let real = self.real.as_ref().map_or(String::new(), |real| {
            format!(
                " against {} of {} ({}, {})",
                counted(real.images),
                real.location,
                real.split,
                short(&real.digest)
            )
        });
        let network = match self.network.is_empty() {
            true => String::new(),
            false => format!(
                "; network {} {}, {}, {}",
                self.network,
                short(&self.network_sha256),
                self.resize,
                self.input
            ),
        };
        format!(
            "{}: {} of {} ({}, {}){real}{network}; {}; seed {}; Vermeer {}",
            self.protocol,
            counted(self.generated.images),
            self.generated.location,
            self.generated.split,
            short(&self.generated.digest),
            self.storage,
            self.seed,
            self.version
        )
    }
}

/// A number of images in words.
fn counted(images: u64) -> String {
    match images {
        0 => "an unknown number of images".to_owned(),
        1 => "1 image".to_owned(),
        n => format!("{n} images"),
    }
}

/// The beginning of a sum.
fn short(sum: &str) -> &str {
    match sum {
        "" => "no sum",
        sum => sum.get(..12).unwrap_or(sum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passport() -> Passport {
        let side = |location: &str| Side {
            location: location.to_owned(),
            split: "all".to_owned(),
            images: 5000,
            digest: format!("{location}0123456789abcdef"),
        };
        Passport {
            protocol: "fd_vermeer".to_owned(),
            generated: side("samples"),
            real: Some(side("photos")),
            network: "vermeer".to_owned(),
            network_sha256: "ab12cd34ef56ab78".to_owned(),
            resize: "pil-bicubic to 64x64".to_owned(),
            input: "x / 255".to_owned(),
            storage: "8-bit".to_owned(),
            seed: 2020,
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn any_field_changes_the_citation_and_forbids_the_comparison() {
        let one = passport();
        type Change = fn(&mut Passport);
        let changes: [(Change, bool); 9] = [
            (|p| p.protocol.push('x'), true),
            (|p| p.generated.images = 1, true),
            (|p| p.real.as_mut().unwrap().digest = "zz".repeat(12), true),
            (|p| p.network_sha256.insert(0, '0'), true),
            (|p| p.resize.push('x'), true),
            (|p| p.storage.push('x'), true),
            (|p| p.seed = 1, true),
            (|p| p.version.push('1'), true),
            // Other images are what is compared.
            (|p| p.generated.digest.insert(0, '0'), false),
        ];
        for (change, forbidden) in changes {
            let mut other = passport();
            change(&mut other);
            assert_ne!(one.citation(), other.citation());
            assert_eq!(one.comparable(&other).is_err(), forbidden);
        }
        assert!(one.comparable(&passport()).is_ok());
    }
}
