//! Artefacts: checkerboards, seams and lost sharpness of samples, against real images.
//!
//! Mean spectra of both are compared by [`artifacts`](vermeer_image::metrics::artifacts()), whose
//! module says what counts as a peak, what it sees and how often it errs. Images are looked at as
//! they are: a resize would add a spectrum of its own, so sizes have to be equal. Where a run is
//! judged, real images are prepared as the run's own were.

mod panels;

use std::sync::atomic::Ordering;

use serde::Serialize;
use vermeer_image::Image;
use vermeer_image::metrics::{ArtifactReport, Sharpness, Spectrum, artifacts as compare};

use self::panels::panels;
use super::comparison::{as_seen_by, passport};
use super::extract::ExtractOptions;
use super::passport::Passport;
use super::subject::Subject;
use crate::{Error, Result};

/// Images that are read at a time.
const BATCH: usize = 256;

/// What [`artifacts`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArtifactsReport {
    /// Peaks, pattern and sharpness, with the verdict in words.
    #[serde(flatten)]
    pub found: ArtifactReport,
    /// What it was computed from.
    pub passport: Passport,
    /// One line to put beside it.
    pub citation: String,
    /// Both spectra and their difference.
    #[serde(skip)]
    pub picture: Image,
}

impl ArtifactsReport {
    /// Whether the samples share a pattern, are blurred or are noisy.
    pub fn is_found(&self) -> bool {
        let sharpness = self.found.sharpness;
        !self.found.peaks.is_empty() || matches!(sharpness, Sharpness::Blurred | Sharpness::Noisy)
    }
}

/// Peaks of the samples' spectrum and its sharpness, against real images; healthy samples have a
/// peak with a probability of at most `level`, such as 0.01. Of the options only `batch` and `stop`
/// are looked at.
///
/// # Errors
/// [`Error::Settings`] for images of different sizes; [`Error::Image`] for fewer than 30 of either,
/// sides below 16 pixels and transparent pixels; those of reading them; [`Error::Failed`] after
/// `stop`.
pub fn artifacts(
    samples: &Subject,
    real: &Subject,
    level: f64,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ArtifactsReport> {
    let seen = as_seen_by(samples, real);
    let shown = seen.as_ref().unwrap_or(real);
    let sizes = [size(samples)?, size(shown)?];
    if sizes[0] != sizes[1] {
        let text = |(width, height): (usize, usize)| format!("{width}x{height}");
        return Err(Error::settings(
            format!(
                "images of {} ({}) and of {} ({}) cannot be compared: a resize changes the spectrum",
                samples.location(),
                text(sizes[0]),
                shown.location(),
                text(sizes[1])
            ),
            "bring both to one size in the same way, or give the run instead of its samples: then \
             real images are prepared as the run's own were",
        ));
    }
    let all = (samples.len() + shown.len()) as usize;
    let mut done = 0;
    let mut take = |subject: &Subject| -> Result<Spectrum> {
        let (width, height) = sizes[0];
        let mut spectrum = Spectrum::new(width, height)?;
        subject.images(options.batch.unwrap_or(BATCH), &mut |images| {
            for image in &images {
                if options.stop.load(Ordering::Relaxed) {
                    return Err(Error::Failed("interrupted; nothing was written".into()));
                }
                spectrum.add(image).map_err(|error| {
                    Error::settings(
                        format!("{}: {error}", subject.location()),
                        "give opaque images of one size",
                    )
                })?;
            }
            done += images.len();
            progress(done, all);
            Ok(())
        })?;
        Ok(spectrum)
    };
    let (of_real, of_samples) = (take(shown)?, take(samples)?);
    let found = compare(&of_real, &of_samples, level)?;
    let sides = [&samples.side()?, &shown.side()?];
    let protocol = format!("spectrum, level {level}");
    let passport = passport(protocol, sides, None, seen.is_some(), 0);
    Ok(ArtifactsReport {
        picture: panels(&of_real, &of_samples, &found.peaks)?,
        found,
        citation: passport.citation(),
        passport,
    })
}

/// Width and height of a subject's first image.
fn size(subject: &Subject) -> Result<(usize, usize)> {
    let first = match subject.is_empty() {
        true => None,
        false => subject.get(&[0])?.pop(),
    };
    match first {
        Some((image, _)) => Ok((image.width(), image.height())),
        None => Err(Error::settings(
            format!("{}: there are no images", subject.location()),
            "name a folder of images or a run",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vermeer_image::Pixels;
    use vermeer_image::metrics::{NumpyRandom, Pattern};

    use super::*;
    use crate::data::{Description, MemorySource};

    /// Noise of 64 grey levels over a checkerboard, from numpy's RandomState(seed).
    fn noise(seed: u32, side: usize, strength: usize) -> Subject {
        let mut random = NumpyRandom::new(seed);
        let bytes: Vec<u8> = (0..40 * side * side)
            .map(|at| (at % side, at / side))
            .map(|(x, y)| (80 + random.below(64) + strength * ((x + y) % 2)) as u8)
            .collect();
        let about = Description {
            location: "noise".to_owned(),
            ..Description::default()
        };
        let source =
            MemorySource::new(about, [side, side, 1], Pixels::U8(bytes), None, vec![]).unwrap();
        Subject::of_source(Arc::new(source), None, 0).unwrap()
    }

    fn of(samples: &Subject, real: &Subject) -> Result<ArtifactsReport> {
        let options = ExtractOptions::default();
        artifacts(samples, real, 0.01, &options, &mut |_, _| {})
    }

    #[test]
    fn a_checkerboard_is_found_and_noise_is_not() {
        let real = noise(1, 16, 0);
        let healthy = of(&noise(2, 16, 0), &real).unwrap();
        assert!(!healthy.is_found(), "{}", healthy.found.sentence);
        let board = of(&noise(2, 16, 32), &real).unwrap();
        assert!(board.is_found());
        assert_eq!(
            board.found.pattern,
            Some(Pattern::Checkerboard { period: 2 })
        );
        let json = serde_json::to_value(&board).unwrap();
        assert_eq!(json["peaks"][0]["x"], 0.5);
        assert_eq!(json["passport"]["protocol"], "spectrum, level 0.01");
    }

    #[test]
    fn sizes_have_to_be_equal() {
        let error = of(&noise(1, 16, 0), &noise(1, 18, 0)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("16x16") && error.to_string().contains("18x18"));
    }
}
