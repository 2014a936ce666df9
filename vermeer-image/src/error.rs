//! The error of this crate: whose fault it was, and what to do.

use std::path::PathBuf;

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Bytes that are hostile, corrupt or not supported.
    #[error("{name}: {reason}; {remedy}")]
    Refused {
        /// The file, or the name the caller gave to the bytes.
        name: String,
        /// The rule that was broken.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Sizes, channels or values given by the caller that do not fit.
    #[error("{0}")]
    Shape(String),
}

/// The result of this crate's functions.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

impl ImageError {
    /// A refusal of the bytes called `name`.
    pub fn refused(
        name: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Refused {
            name: name.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// A failed operation on the file `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
