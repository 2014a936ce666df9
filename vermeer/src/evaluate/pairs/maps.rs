//! Where images differ from their originals, as pictures.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use vermeer_image::metrics::{Progress, difference, ssim_picture};
use vermeer_image::{ImageError, encode_png};

use super::PairedImages;
use crate::data::NewFolder;
use crate::{Error, Result};

/// The file beside the pictures that says what their colours mean.
const SCALES: &str = "scales.json";

/// What a map shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceMap {
    /// Absolute differences of levels, averaged over channels.
    Absolute,
    /// 1 − SSIM around every pixel: where structure differs.
    Structure,
}

/// A map that was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapFile {
    /// What the pair is called.
    pub pair: String,
    /// The file inside the folder.
    pub file: String,
    /// The difference that has the last colour.
    pub full_scale: f64,
    /// The largest difference of a pixel.
    pub largest: f64,
    /// The mean difference of the pixels.
    pub mean: f64,
}

/// Writes one PNG for each pair into a new folder, under the name of the pair, and `scales.json`
/// with what its colours mean. The folder appears whole or not at all.
///
/// # Errors
/// [`Error::Settings`] when something stands in the folder's place, and, naming the pair, for
/// images that cannot be compared; those of reading and writing; [`Error::Failed`] after `stop`.
pub fn write_differences(
    images: &PairedImages,
    map: DifferenceMap,
    folder: &Path,
    stop: &AtomicBool,
    progress: Progress,
) -> Result<Vec<MapFile>> {
    let new = NewFolder::create(folder)?;
    let mut written = Vec::with_capacity(images.len());
    for index in 0..images.len() {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let pair = images.read(index)?;
        let [image, original] = &pair.images;
        let found = match map {
            DifferenceMap::Absolute => difference(image, original),
            DifferenceMap::Structure => ssim_picture(image, original),
        };
        let found = found.map_err(|error| match error {
            ImageError::Shape(reason) => Error::settings(
                format!("{} and {}: {reason}", pair.names[0], pair.names[1]),
                "correct the pair, or ask for absolute differences",
            ),
            other => other.into(),
        })?;
        let file = format!("{}.png", images.name(index));
        new.write(&file, &encode_png(&found.picture)?)?;
        written.push(MapFile {
            pair: images.name(index).to_owned(),
            file,
            full_scale: found.full_scale,
            largest: found.largest,
            mean: found.mean,
        });
        progress(index + 1, images.len());
    }
    let scales = serde_json::to_vec_pretty(&written)
        .map_err(|error| Error::Failed(format!("{SCALES} cannot be written: {error}")))?;
    new.write(SCALES, &scales)?;
    new.publish()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use vermeer_image::{Image, Limits, Pixels, decode_file, write};

    use super::*;
    use crate::data::Split;

    #[test]
    fn maps_appear_together_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for side in ["a", "b"] {
            std::fs::create_dir(at(side)).unwrap();
        }
        let save = |name: &str, pixels: Vec<u8>| {
            let image = Image::new(pixels.len(), 1, 1, Pixels::U8(pixels)).unwrap();
            write(&image, &at(name)).unwrap();
        };
        save("a/x.png", vec![100, 50]);
        save("b/x.png", vec![70, 50]);
        save("a/y.png", vec![5, 9]);
        save("b/y.png", vec![5, 11]);
        let open = || {
            let [a, b] = ["a", "b"].map(|side| at(side).display().to_string());
            PairedImages::open(&a, &b, [Split::All; 2]).unwrap()
        };
        let draw = |map, out: &Path| {
            let stop = AtomicBool::new(false);
            write_differences(&open(), map, out, &stop, &mut |_, _| {})
        };
        let out = at("maps");
        let written = draw(DifferenceMap::Absolute, &out).unwrap();
        // Differences 30 and 0, then 0 and 2 on a scale of at least 8.
        assert_eq!(written[0].file, "x.png");
        assert_eq!((written[0].full_scale, written[0].mean), (30.0, 15.0));
        assert_eq!((written[1].full_scale, written[1].mean), (8.0, 1.0));
        let map = decode_file(&out.join("x.png"), &Limits::cli())
            .unwrap()
            .image;
        let Pixels::U8(samples) = map.pixels() else {
            panic!("maps are of bytes");
        };
        // The ends of the colours of `metrics::difference`.
        assert_eq!(samples[..], [252, 255, 164, 0, 0, 4]);
        assert!(out.join(SCALES).is_file());

        // The folder is taken; and images too small for a window leave nothing behind.
        assert_eq!(
            draw(DifferenceMap::Absolute, &out).unwrap_err().exit_code(),
            2
        );
        let error = draw(DifferenceMap::Structure, &at("other")).unwrap_err();
        assert!(error.to_string().contains("x.png"), "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 3);
    }
}
