//! The error of the toolkit: whose fault it was, in which file or setting, and what to do.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use vermeer_image::ImageError;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text of an error is one line; [`Error::remedy`] says what to do about it
/// and [`Error::exit_code`] what a process ends with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Settings, names or requests that cannot be met.
    #[error("{message}")]
    Settings {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
        /// The place in a settings file, where there is one.
        source_text: Option<SourceText>,
    },
    /// Empty, corrupt or hostile input.
    #[error("{path}: {reason}")]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A checkpoint or weight file that does not load or does not fit.
    #[error("{path}: {reason}")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// An image that cannot be read, written or used.
    #[error("{}", without_remedy(.0))]
    Image(#[from] ImageError),
    /// A loss or gradient that is infinite or not a number.
    #[error("step {step}: {term} is not finite; {}", last_good_text(.last_good))]
    NonFinite {
        /// The step.
        step: u64,
        /// The term of the loss, or the parameter.
        term: String,
        /// The step of the last checkpoint before it.
        last_good: Option<u64>,
    },
    /// A device that is unknown, not compiled in, or does not answer.
    #[error("{0}")]
    Device(String),
    /// A condition that was asked about came true.
    #[error("it came true: {0}")]
    Threshold(String),
    /// Anything else that did not succeed.
    #[error("{0}")]
    Failed(String),
    /// A run that was asked to stop, wrote its checkpoint and can go on from there.
    #[error("{run}: stopped after step {step}; the run can be resumed")]
    Stopped {
        /// The folder of the run.
        run: PathBuf,
        /// The last finished step.
        step: u64,
    },
    /// Work that was interrupted and kept what it had done.
    #[error("{0}")]
    Unfinished(String),
}

/// A text that was read, with the place in it that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The file's name, or what stands for it.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// The bytes of the text that are wrong.
    pub span: Range<usize>,
}

impl Error {
    /// An error of [`Error::Data`].
    pub fn data(
        path: impl Into<PathBuf>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Data {
            path: path.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// An error of [`Error::Settings`] without a place in a text.
    pub fn settings(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Settings {
            message: message.into(),
            remedy: remedy.into(),
            source_text: None,
        }
    }

    /// An error of [`Error::Checkpoint`].
    pub fn checkpoint(
        path: impl Into<PathBuf>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Checkpoint {
            path: path.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// An error of [`Error::Io`].
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// The same error with the path of a checkpoint's file taken from `folder`.
    #[must_use]
    pub fn within(self, folder: &std::path::Path) -> Self {
        match self {
            Self::Checkpoint {
                path,
                reason,
                remedy,
            } if path.is_relative() => Self::Checkpoint {
                path: folder.join(path),
                reason,
                remedy,
            },
            other => other,
        }
    }

    /// What a process ends with: 1 failed, 2 misuse, 3 a check said no, 4 bad
    /// input, 75 stopped and resumable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::NonFinite { .. } | Self::Failed(_) => 1,
            Self::Settings { .. } | Self::Device(_) => 2,
            Self::Threshold(_) => 3,
            Self::Data { .. } | Self::Checkpoint { .. } => 4,
            Self::Image(ImageError::Io { .. }) => 1,
            Self::Image(ImageError::Shape(_)) => 2,
            Self::Image(_) => 4,
            Self::Stopped { .. } | Self::Unfinished(_) => 75,
        }
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Settings { remedy, .. }
            | Self::Data { remedy, .. }
            | Self::Checkpoint { remedy, .. }
            | Self::Image(ImageError::Refused { remedy, .. }) => Some(remedy),
            Self::Io { source, .. } | Self::Image(ImageError::Io { source, .. }) => {
                io_remedy(source.kind())
            }
            Self::NonFinite { .. } => Some(
                "start a new run from the last good weights with --init-from, a lower learning rate or train.clip_norm",
            ),
            Self::Device(_) => Some("`vermeer doctor` lists the devices of this build"),
            Self::Stopped { .. } => Some("run the same command with --resume"),
            Self::Unfinished(_) => Some("say the same again to go on from there"),
            Self::Image(_) | Self::Threshold(_) | Self::Failed(_) => None,
        }
    }
}

/// The text of an image error, whose remedy is told apart from it.
fn without_remedy(error: &ImageError) -> String {
    match error {
        ImageError::Refused { name, reason, .. } => format!("{name}: {reason}"),
        other => other.to_string(),
    }
}

/// What is left after a step that was not finite.
fn last_good_text(step: &Option<u64>) -> String {
    match step {
        Some(step) => format!("the last good checkpoint is that of step {step}"),
        None => "there is no checkpoint yet".to_string(),
    }
}

/// What a person can do about a refusal of the operating system.
fn io_remedy(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound => Some("check the path"),
        io::ErrorKind::PermissionDenied => Some("check who may read and write there"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space, or write to another disk")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("write to another disk; this one is read-only"),
        io::ErrorKind::AlreadyExists => Some("choose another name, or remove what is there"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_exit_code() {
        for (error, code) in [
            (Error::io("a", io::ErrorKind::StorageFull.into()), 1),
            (Error::settings("a", "b"), 2),
            (Error::data("a", "b", "c"), 4),
            (Error::checkpoint("a", "b", "c"), 4),
            (Error::from(ImageError::Shape("a".into())), 2),
            (Error::Device("a".into()), 2),
            (Error::Failed("a".into()), 1),
            (Error::Threshold("a".into()), 3),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
        let stopped = Error::Stopped {
            run: "runs/a".into(),
            step: 30,
        };
        assert_eq!(stopped.exit_code(), 75);
        assert_eq!(
            stopped.to_string(),
            "runs/a: stopped after step 30; the run can be resumed"
        );
    }

    #[test]
    fn the_remedy_stands_apart_from_the_text() {
        let error = Error::from(ImageError::Refused {
            name: "a.png".into(),
            reason: "is truncated".into(),
            remedy: "copy it again".into(),
        });
        assert_eq!(error.to_string(), "a.png: is truncated");
        assert_eq!(error.remedy(), Some("copy it again"));
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn a_loss_that_is_not_finite_names_step_term_and_checkpoint() {
        let mut error = Error::NonFinite {
            step: 12,
            term: "kl".into(),
            last_good: Some(10),
        };
        assert_eq!(
            error.to_string(),
            "step 12: kl is not finite; the last good checkpoint is that of step 10"
        );
        if let Error::NonFinite { last_good, .. } = &mut error {
            *last_good = None;
        }
        assert_eq!(
            error.to_string(),
            "step 12: kl is not finite; there is no checkpoint yet"
        );
    }
}
