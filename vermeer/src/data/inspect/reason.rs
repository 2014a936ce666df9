//! What can be the matter with an image.

use serde::Serialize;
use vermeer_image::ImageError;

use crate::error::Error;

/// One thing about an image that its reader should know. Some make it unusable, others only say
/// that it is converted when it is read, or that it is unlike the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Reason {
    /// It cannot be decoded.
    Unreadable {
        /// What the decoder said.
        detail: String,
    },
    /// It ends before its format says so.
    Truncated {
        /// What the decoder said.
        detail: String,
    },
    /// Its pixels are those of another image.
    Duplicate {
        /// The other image: of the test split before validation before training, and the first
        /// of them.
        of: String,
        /// Whether the two are in different splits, which lets a model be tested on what it
        /// learned.
        across_splits: bool,
        /// Whether the two are in different classes.
        across_classes: bool,
    },
    /// Its name claims another format than its bytes.
    ExtensionMismatch {
        /// What the bytes are.
        format: String,
    },
    /// It is CMYK, which is converted to RGB without a colour profile.
    Cmyk,
    /// It is turned by an EXIF tag that some readers ignore.
    Rotated {
        /// The tag, 2 to 8.
        orientation: u8,
    },
    /// It has several frames or pages, of which the first is read.
    Animated {
        /// How many.
        frames: u32,
    },
    /// It has another size than most.
    MixedSize {
        /// Its width and height in pixels.
        size: [usize; 2],
        /// Those of most.
        common: [usize; 2],
    },
    /// It is grey among colour images, or the reverse.
    MixedChannels {
        /// Whether this image is the one with colour.
        colour: bool,
    },
    /// Its pixels are indices into a palette.
    Palette,
    /// It has an alpha channel or a transparent colour.
    Alpha,
    /// It is 16 bits deep.
    SixteenBit,
    /// Its pixels are floats.
    Float {
        /// Whether every value is in \[0, 1\].
        unit: bool,
    },
}

/// The names of all problems, the gravest first.
pub(super) const PROBLEMS: [&str; 13] = [
    "unreadable",
    "truncated",
    "duplicate",
    "extension-mismatch",
    "cmyk",
    "rotated",
    "animated",
    "mixed-size",
    "mixed-channels",
    "palette",
    "alpha",
    "sixteen-bit",
    "float",
];

impl Reason {
    /// The name of the problem, as JSON has it.
    pub fn problem(&self) -> &'static str {
        PROBLEMS[self.rank()]
    }

    /// The place of the problem in the order of gravity.
    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Unreadable { .. } => 0,
            Self::Truncated { .. } => 1,
            Self::Duplicate { .. } => 2,
            Self::ExtensionMismatch { .. } => 3,
            Self::Cmyk => 4,
            Self::Rotated { .. } => 5,
            Self::Animated { .. } => 6,
            Self::MixedSize { .. } => 7,
            Self::MixedChannels { .. } => 8,
            Self::Palette => 9,
            Self::Alpha => 10,
            Self::SixteenBit => 11,
            Self::Float { .. } => 12,
        }
    }

    /// What there is to say beyond the name of the problem; empty where that says it all.
    pub fn detail(&self) -> String {
        match self {
            Self::Unreadable { detail } | Self::Truncated { detail } => detail.clone(),
            Self::Duplicate {
                of,
                across_splits,
                across_classes,
            } => {
                let splits = if *across_splits {
                    ", in another split"
                } else {
                    ""
                };
                let classes = if *across_classes {
                    ", in another class"
                } else {
                    ""
                };
                format!("of {of}{splits}{classes}")
            }
            Self::ExtensionMismatch { format } => format!("is {format}"),
            Self::Rotated { orientation } => format!("EXIF orientation {orientation}"),
            Self::Animated { frames } => format!("{frames} frames"),
            Self::MixedSize { size, common } => {
                format!(
                    "{}x{}, most are {}x{}",
                    size[0], size[1], common[0], common[1]
                )
            }
            Self::MixedChannels { colour: true } => "colour, most are grey".to_string(),
            Self::MixedChannels { colour: false } => "grey, most are colour".to_string(),
            Self::Float { unit: false } => "beyond 0 to 1".to_string(),
            Self::Cmyk | Self::Palette | Self::Alpha | Self::SixteenBit => String::new(),
            Self::Float { unit: true } => String::new(),
        }
    }

    /// Whether a clean copy leaves the image out.
    pub(super) fn drops(&self) -> bool {
        matches!(
            self,
            Self::Unreadable { .. }
                | Self::Truncated { .. }
                | Self::Duplicate { .. }
                | Self::Float { unit: false }
        )
    }

    /// Why an image could not be read, without its name.
    pub(super) fn of_error(error: &Error) -> Self {
        let detail = match error {
            Error::Image(ImageError::Refused { reason, .. }) => reason.clone(),
            Error::Image(ImageError::Io { source, .. }) => source.to_string(),
            Error::Io { source, .. } => source.to_string(),
            Error::Data { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        if detail.contains("truncated") {
            Self::Truncated { detail }
        } else {
            Self::Unreadable { detail }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        let detail = String::new();
        let all = [
            Reason::Unreadable {
                detail: detail.clone(),
            },
            Reason::Truncated {
                detail: detail.clone(),
            },
            Reason::Duplicate {
                of: detail.clone(),
                across_splits: false,
                across_classes: false,
            },
            Reason::ExtensionMismatch { format: detail },
            Reason::Cmyk,
            Reason::Rotated { orientation: 6 },
            Reason::Animated { frames: 2 },
            Reason::MixedSize {
                size: [1, 2],
                common: [3, 4],
            },
            Reason::MixedChannels { colour: true },
            Reason::Palette,
            Reason::Alpha,
            Reason::SixteenBit,
            Reason::Float { unit: true },
        ];
        for (reason, name) in all.iter().zip(PROBLEMS) {
            let json = serde_json::to_value(reason).unwrap();
            assert_eq!(json["problem"], name);
            assert_eq!(reason.problem(), name);
        }
    }

    #[test]
    fn errors_become_reasons_without_the_name() {
        let refused = |reason: &str| Error::from(ImageError::refused("a.png", reason, "fetch it"));
        for (error, problem, detail) in [
            (refused("is truncated: x"), "truncated", "is truncated: x"),
            (
                refused("the file is empty"),
                "unreadable",
                "the file is empty",
            ),
            (Error::data("a.npz", "odd", "even"), "unreadable", "odd"),
        ] {
            let reason = Reason::of_error(&error);
            assert_eq!(
                (reason.problem(), reason.detail().as_str()),
                (problem, detail)
            );
        }
    }
}
