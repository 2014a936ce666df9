//! What is done to an image before a model sees it: channels, size, unit range.

use serde::{Deserialize, Serialize};
use vermeer_image::{Depth, Filter, Image, ImageError, Pixels, crop, resize};

use crate::error::{Error, Result};

/// How an image of another size is brought to the size of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Scaled until it covers the size, then cut around the centre.
    #[default]
    Crop,
    /// Scaled to the size, whatever becomes of the proportions.
    Stretch,
    /// Centred on the background; scaled down if it is larger, and never up.
    Pad,
}

/// How images become the input of a model. A run records it, and whoever uses the model applies
/// the same again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// 1 (grey, by the luma of BT.601) or 3 (RGB).
    pub channels: usize,
    /// What happens to images of another size.
    pub fit: Fit,
    /// How images are scaled. An image that has the size already is never resampled.
    pub filter: Filter,
    /// The RGB colour under transparent pixels and around padded images.
    pub background: [u8; 3],
    /// Whether training images are mirrored at random; [`Preprocess::apply`] never does.
    pub flip: bool,
}

impl Preprocess {
    /// The image as unit floats `[C, H, W]`. Values are in `[0, 1]`; where a filter overshoots
    /// them in a float image they are cut off.
    ///
    /// # Errors
    /// [`Error::Settings`] for a size of zero; [`Error::Image`] for channels other than 1 and 3
    /// and for a float image with values outside `[0, 1]`.
    pub fn apply(&self, image: &Image) -> Result<Vec<f32>> {
        if self.width.min(self.height) == 0 {
            return Err(Error::settings(
                format!("images cannot be {}x{} pixels", self.width, self.height),
                "choose a height and a width of at least 1",
            ));
        }
        if let Pixels::F32(values) = image.pixels()
            && let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value))
        {
            return Err(Error::Image(ImageError::Shape(format!(
                "a float image holds the value {value}, outside [0, 1]"
            ))));
        }
        // Transparent pixels take the background before they are mixed with their neighbours.
        let mut image = image.with_channels(self.channels, self.background)?;
        let (width, height) = self.scaled(image.width(), image.height());
        if (width, height) != (image.width(), image.height()) {
            image = resize(&image, width, height, self.filter)?;
        }
        if width > self.width || height > self.height {
            let (left, top) = ((width - self.width) / 2, (height - self.height) / 2);
            image = crop(&image, left, top, self.width, self.height)?;
        }
        let mut unit = image.to_unit_chw();
        if image.depth() == Depth::Float32 {
            unit.iter_mut()
                .for_each(|value| *value = value.clamp(0.0, 1.0));
        }
        if width < self.width || height < self.height {
            unit = self.padded(&unit, width, height)?;
        }
        Ok(unit)
    }

    /// The width and height to which an image is scaled before it is cut or padded.
    fn scaled(&self, width: usize, height: usize) -> (usize, usize) {
        let across = self.width as f64 / width as f64;
        let down = self.height as f64 / height as f64;
        let times = |side: usize, ratio: f64| (side as f64 * ratio).round() as usize;
        match self.fit {
            Fit::Stretch => (self.width, self.height),
            Fit::Crop => {
                let ratio = across.max(down);
                (
                    times(width, ratio).max(self.width),
                    times(height, ratio).max(self.height),
                )
            }
            Fit::Pad => {
                let ratio = across.min(down).min(1.0);
                (
                    times(width, ratio).clamp(1, self.width),
                    times(height, ratio).clamp(1, self.height),
                )
            }
        }
    }

    /// A smaller image `[C, height, width]` in the middle of the background.
    fn padded(&self, unit: &[f32], width: usize, height: usize) -> Result<Vec<f32>> {
        // A transparent pixel shows the background in the channels that are asked for.
        let background = Image::new(1, 1, 4, Pixels::U8(vec![0; 4]))?
            .with_channels(self.channels, self.background)?
            .to_unit_chw();
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let mut out = Vec::with_capacity(self.channels * self.height * self.width);
        for (plane, value) in unit.chunks_exact(width * height).zip(background) {
            let start = out.len();
            out.resize(start + self.width * self.height, value);
            for (row, pixels) in plane.chunks_exact(width).enumerate() {
                let at = start + (top + row) * self.width + left;
                out[at..at + width].copy_from_slice(pixels);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preprocess(width: usize, height: usize, fit: Fit) -> Preprocess {
        Preprocess {
            height,
            width,
            channels: 1,
            fit,
            filter: Filter::Lanczos3,
            background: [0, 0, 0],
            flip: false,
        }
    }

    fn grey(width: usize, height: usize, bytes: &[u8]) -> Image {
        Image::new(width, height, 1, Pixels::U8(bytes.to_vec())).unwrap()
    }

    fn unit(bytes: &[u8]) -> Vec<f32> {
        bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect()
    }

    #[test]
    fn what_fits_is_not_resampled() {
        let image = grey(4, 2, &[1, 2, 3, 4, 5, 6, 7, 8]);
        for (width, height, fit, expected) in [
            (4, 2, Fit::Stretch, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            (4, 2, Fit::Crop, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            (4, 2, Fit::Pad, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            // The short side fits: only the long one is cut, on both ends alike.
            (2, 2, Fit::Crop, vec![2, 3, 6, 7]),
            (
                5,
                4,
                Fit::Pad,
                vec![0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0],
            ),
        ] {
            let got = preprocess(width, height, fit).apply(&image).unwrap();
            assert_eq!(got, unit(&expected), "{width}x{height} {fit:?}");
        }
    }

    #[test]
    fn sizes_follow_the_rule() {
        // Hand-worked: from 40x30 the ratios to 16x16 are 0.4 and 0.533.
        for (fit, expected) in [
            (Fit::Stretch, (16, 16)),
            (Fit::Crop, (21, 16)),
            (Fit::Pad, (16, 12)),
        ] {
            assert_eq!(preprocess(16, 16, fit).scaled(40, 30), expected, "{fit:?}");
        }
        // A line never vanishes, and nothing is enlarged to be padded.
        assert_eq!(preprocess(16, 16, Fit::Pad).scaled(1000, 1), (16, 1));
        assert_eq!(preprocess(16, 16, Fit::Pad).scaled(3, 2), (3, 2));
    }

    #[test]
    fn a_plain_image_stays_plain_at_every_size_and_fit() {
        for fit in [Fit::Crop, Fit::Stretch] {
            for (width, height) in [(1, 1), (3, 7), (64, 5)] {
                let image = grey(width, height, &vec![100; width * height]);
                let got = preprocess(9, 6, fit).apply(&image).unwrap();
                assert_eq!(got, unit(&[100; 54]));
            }
        }
    }

    #[test]
    fn the_background_fills_transparent_pixels_and_margins() {
        let image = Image::new(1, 1, 4, Pixels::U8(vec![255, 0, 0, 0])).unwrap();
        let mut rule = preprocess(3, 1, Fit::Pad);
        rule.channels = 3;
        rule.background = [0, 0, 255];
        assert_eq!(
            rule.apply(&image).unwrap(),
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
        );
        // 0.114 * 255 rounds to 29 (BT.601).
        rule.channels = 1;
        assert_eq!(rule.apply(&image).unwrap(), unit(&[29, 29, 29]));
    }

    #[test]
    fn floats_stay_in_the_unit_range_or_are_refused() {
        let step = |high: f32| {
            let pixels = vec![0.0, 0.0, 0.0, 0.0, high, high, high, high];
            Image::new(8, 1, 1, Pixels::F32(pixels)).unwrap()
        };
        let rule = preprocess(24, 3, Fit::Stretch);
        let got = rule.apply(&step(1.0)).unwrap();
        assert!(got.iter().all(|value| (0.0..=1.0).contains(value)));
        let error = rule.apply(&step(1.5)).unwrap_err();
        assert!(error.to_string().contains("1.5"), "{error}");
    }

    #[test]
    fn it_is_recorded_under_names_and_unknown_keys_are_refused() {
        let rule = preprocess(28, 28, Fit::Pad);
        let text = toml::to_string(&rule).unwrap();
        assert!(text.contains("fit = \"pad\"") && text.contains("filter = \"lanczos3\""));
        assert_eq!(toml::from_str::<Preprocess>(&text).unwrap(), rule);
        assert!(toml::from_str::<Preprocess>(&format!("{text}mirror = true\n")).is_err());
    }
}
