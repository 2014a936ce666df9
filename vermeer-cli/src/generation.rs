//! Pictures that a model makes: samples, and the way from one sample to another.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use vermeer::pipeline::Model;
use vermeer::task::{Request, SampleOptions};
use vermeer::{Error, Result};
use vermeer_image::{Image, encode_apng, encode_gif, encode_png, grid};

use crate::progress::Progress;

/// The largest number of pictures on a grid.
pub(crate) const GRID_LIMIT: usize = 256;

/// Makes the samples with these numbers, `batch` at a time, and hands each on as it is finished.
///
/// # Errors
/// Whatever the model or `take` returns; [`Error::Failed`] after `stop`.
pub(crate) fn generate(
    model: &Model,
    numbers: &[u64],
    options: &SampleOptions,
    batch: usize,
    progress: &Progress,
    stop: &AtomicBool,
    mut take: impl FnMut(u64, Image) -> Result<()>,
) -> Result<()> {
    let mut finished = 0;
    for part in numbers.chunks(batch) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let mut report = |done: usize, all: usize| {
            let share = part.len() * done.min(all) / all.max(1);
            progress.at(finished + share, numbers.len());
        };
        let request = Request::Generate {
            numbers: part,
            options,
        };
        let images = model
            .pipeline
            .answer(&request, &mut report)?
            .into_images()?
            .to_images()?;
        for (number, image) in part.iter().zip(images) {
            take(*number, image)?;
        }
        finished += part.len();
        progress.at(finished, numbers.len());
    }
    Ok(())
}

/// The frames from one sample to another.
///
/// # Errors
/// Whatever the model returns.
pub(crate) fn interpolate(
    model: &Model,
    (from, to): (u64, u64),
    frames: usize,
    options: &SampleOptions,
    progress: &Progress,
) -> Result<Vec<Image>> {
    let request = Request::Interpolate {
        from,
        to,
        frames,
        options,
    };
    let answer = model
        .pipeline
        .answer(&request, &mut |done, all| progress.at(done, all))?;
    Ok(answer.into_images()?.to_images()?)
}

/// How several pictures become one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sheet {
    /// Side by side, as PNG.
    Grid,
    /// One after the other, as GIF.
    Gif,
    /// One after the other, as animated PNG.
    Apng,
}

impl Sheet {
    /// What the ending of a file's name asks for.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Grid),
            "gif" => Some(Self::Gif),
            "apng" => Some(Self::Apng),
            _ => None,
        }
    }

    /// The bytes of the file; frames of an animation stand `frame_ms` milliseconds.
    ///
    /// # Errors
    /// When the pictures cannot be stored so.
    pub(crate) fn encode(self, frames: &[Image], frame_ms: u32) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Grid => encode_png(&grid(frames, None, 2, None)?)?,
            Self::Gif => encode_gif(frames, frame_ms)?,
            Self::Apng => encode_apng(frames, frame_ms)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides() {
        for (name, expected) in [
            ("a.png", Some(Sheet::Grid)),
            ("a.b.GIF", Some(Sheet::Gif)),
            ("x/a.apng", Some(Sheet::Apng)),
            ("a.jpg", None),
            ("png", None),
        ] {
            assert_eq!(Sheet::of(Path::new(name)), expected, "{name}");
        }
    }
}
