//! Pictures as the pair metrics read them: planes of f64 values on the scale 0..=255.
//!
//! A protocol is a few calls: [`Planes::rgb`] or [`Planes::luma`], then [`Planes::quantise`] for
//! the 8-bit one, then [`Planes::shave`] for the border that super-resolution leaves out. Pictures
//! of 16 bits or floats keep their fractions unless `quantise` is called. For the luma of 8-bit
//! colours call `quantise` before [`Planes::into_luma`]; after it, it rounds the luma itself, as
//! MATLAB's `rgb2ycbcr` does on bytes.

use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// Weights of red, green and blue, each on 0..=255, in the luma of MATLAB's `rgb2ycbcr`
/// (ITU-R BT.601 with head and foot room), times 255.
const LUMA: [f64; 3] = [65.481, 128.553, 24.966];

/// The luma of black; white has 235.
const LUMA_OF_BLACK: f64 = 16.0;

/// Values `[channels, height, width]`.
///
/// A picture has one plane (grey, or luma) or three (RGB), and 255 is full scale whatever it was
/// stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// The number of planes.
    pub channels: usize,
    /// The height in pixels.
    pub height: usize,
    /// The width in pixels.
    pub width: usize,
    /// The values, one plane after the other, rows from top to bottom.
    pub values: Vec<f64>,
}

impl Planes {
    /// Planes from values `[channels, height, width]`.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when there are not `channels * height * width` values, or none.
    pub fn new(channels: usize, height: usize, width: usize, values: Vec<f64>) -> Result<Self> {
        let count = channels
            .checked_mul(height)
            .and_then(|n| n.checked_mul(width));
        if values.is_empty() || count != Some(values.len()) {
            return Err(ImageError::Shape(format!(
                "{} values are not {channels} planes of {width}x{height} pixels",
                values.len()
            )));
        }
        Ok(Self {
            channels,
            height,
            width,
            values,
        })
    }

    /// The colours of a picture: three planes, or one of a grey picture.
    ///
    /// Bytes stay as they are, 16-bit samples are divided by 257, floats are multiplied by 255;
    /// nothing is rounded or clipped. Alpha is dropped where every pixel is opaque.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when a pixel is not opaque, since its colour depends on what is put
    /// under it, or when a float is not finite.
    pub fn rgb(image: &Image) -> Result<Self> {
        let samples: Vec<f64> = match image.pixels() {
            Pixels::U8(samples) => samples.iter().map(|&v| f64::from(v)).collect(),
            Pixels::U16(samples) => samples.iter().map(|&v| f64::from(v) / 257.0).collect(),
            Pixels::F32(samples) => samples.iter().map(|&v| f64::from(v) * 255.0).collect(),
        };
        if let Some(at) = samples.iter().position(|value| !value.is_finite()) {
            return Err(ImageError::Shape(format!(
                "sample {at} of a picture of {}x{} pixels is not finite",
                image.width(),
                image.height()
            )));
        }
        let stored = image.channels();
        if image.has_alpha() {
            let mut alphas = samples.iter().skip(stored - 1).step_by(stored);
            if let Some(pixel) = alphas.position(|&alpha| alpha != 255.0) {
                return Err(ImageError::Shape(format!(
                    "pixel {pixel} of a picture is not opaque, and there is no rule for what lies \
                     under it; put the picture on a background first"
                )));
            }
        }
        let channels = stored - usize::from(image.has_alpha());
        let area = image.width() * image.height();
        let mut values = vec![0.0; channels * area];
        for (at, pixel) in samples.chunks_exact(stored).enumerate() {
            for (channel, &value) in pixel.iter().take(channels).enumerate() {
                values[channel * area + at] = value;
            }
        }
        Self::new(channels, image.height(), image.width(), values)
    }

    /// The luma of a picture, one plane: Y = (65.481 R + 128.553 G + 24.966 B) / 255 + 16 as in
    /// MATLAB's `rgb2ycbcr`, not rounded. A grey picture keeps its own levels; see
    /// [`grey_as_rgb`](Self::grey_as_rgb) for the other rule.
    ///
    /// # Errors
    /// Those of [`rgb`](Self::rgb).
    pub fn luma(image: &Image) -> Result<Self> {
        Ok(Self::rgb(image)?.into_luma())
    }

    /// Three equal planes where there is one, as if a grey picture were stored in colour: it can
    /// then be compared with a colour picture, and its luma lies within 16..=235.
    #[must_use]
    pub fn grey_as_rgb(mut self) -> Self {
        if self.channels == 1 {
            self.values = self.values.repeat(3);
            self.channels = 3;
        }
        self
    }

    /// The luma of three planes, as [`luma`](Self::luma) defines it; anything else as it is.
    #[must_use]
    pub fn into_luma(mut self) -> Self {
        if self.channels == 3 {
            let (red, green, blue) = (self.plane(0), self.plane(1), self.plane(2));
            self.values = red
                .iter()
                .zip(green)
                .zip(blue)
                .map(|((&red, &green), &blue)| {
                    (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue) / 255.0 + LUMA_OF_BLACK
                })
                .collect();
            self.channels = 1;
        }
        self
    }

    /// Rounds to whole levels and clips to 0..=255, as writing an 8-bit file does. Halves are
    /// rounded up (MATLAB's `uint8`, torchvision's `save_image`); numpy's `round` takes a half to
    /// the even neighbour.
    pub fn quantise(&mut self) {
        for value in &mut self.values {
            *value = value.clamp(0.0, 255.0).round();
        }
    }

    /// The planes without `border` pixels on each of the four sides.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when no pixel remains.
    pub fn shave(&self, border: usize) -> Result<Self> {
        let both = border.saturating_mul(2);
        if self.width <= both || self.height <= both {
            return Err(ImageError::Shape(format!(
                "nothing remains of {}x{} pixels without {border} on each side; shave less",
                self.width, self.height
            )));
        }
        let (height, width) = (self.height - both, self.width - both);
        let values = (0..self.channels)
            .flat_map(|channel| {
                let rows = self.plane(channel).chunks_exact(self.width);
                rows.skip(border).take(height)
            })
            .flat_map(|row| &row[border..border + width])
            .copied()
            .collect();
        Self::new(self.channels, height, width, values)
    }

    /// The values of one plane.
    pub(super) fn plane(&self, channel: usize) -> &[f64] {
        let area = self.height * self.width;
        &self.values[channel * area..(channel + 1) * area]
    }
}

/// Fails unless two pictures can be compared value by value.
pub(super) fn check_pair(a: &Planes, b: &Planes) -> Result<()> {
    for planes in [a, b] {
        if planes.values.len() != planes.channels * planes.height * planes.width {
            return Err(ImageError::Shape(format!(
                "{} values are not {} planes of {}x{} pixels",
                planes.values.len(),
                planes.channels,
                planes.width,
                planes.height
            )));
        }
    }
    if (a.height, a.width) != (b.height, b.width) {
        return Err(ImageError::Shape(format!(
            "{}x{} pixels cannot be compared with {}x{}; resize or crop one of the pictures",
            a.width, a.height, b.width, b.height
        )));
    }
    if a.channels != b.channels {
        return Err(ImageError::Shape(format!(
            "a picture of {} channels cannot be compared with one of {}; store both as \
             grey or both in colour",
            a.channels, b.channels
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, pixels: Pixels) -> Image {
        Image::new(pixels.len() / channels, 1, channels, pixels).unwrap()
    }

    #[test]
    fn luma_is_that_of_matlab() {
        // rgb2ycbcr of MATLAB: black 16, white 235, red 81.481, green 144.553, blue 40.966.
        let colours = vec![0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255];
        let luma = Planes::luma(&image(3, Pixels::U8(colours))).unwrap();
        assert_eq!((luma.channels, luma.height, luma.width), (1, 1, 5));
        let expected = [16.0, 235.0, 81.481, 144.553, 40.966];
        for (ours, expected) in luma.values.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-12, "{ours}, not {expected}");
        }
        let grey = image(1, Pixels::U8(vec![0, 255]));
        assert_eq!(Planes::luma(&grey).unwrap().values, [0.0, 255.0]);
        let repeated = Planes::rgb(&grey).unwrap().grey_as_rgb().into_luma();
        assert_eq!(repeated.channels, 1);
        assert!((repeated.values[1] - 235.0).abs() < 1e-12);
    }

    #[test]
    fn every_depth_is_on_the_same_scale() {
        let bytes = Planes::rgb(&image(1, Pixels::U8(vec![0, 128, 255]))).unwrap();
        let words = Planes::rgb(&image(1, Pixels::U16(vec![0, 32896, 65535]))).unwrap();
        assert_eq!(words, bytes);
        let floats = Planes::rgb(&image(1, Pixels::F32(vec![-1.0, 0.5, 2.0]))).unwrap();
        assert_eq!(floats.values, [-255.0, 127.5, 510.0]);
        let mut rounded = floats;
        rounded.quantise();
        assert_eq!(rounded.values, bytes.values);
        assert!(Planes::rgb(&image(1, Pixels::F32(vec![f32::NAN]))).is_err());
    }

    #[test]
    fn colours_become_planes_and_alpha_must_be_opaque() {
        let opaque = image(4, Pixels::U8(vec![1, 2, 3, 255, 4, 5, 6, 255]));
        let planes = Planes::rgb(&opaque).unwrap();
        assert_eq!(planes.values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(planes.channels, 3);
        for clear in [
            image(4, Pixels::U8(vec![1, 2, 3, 254])),
            image(2, Pixels::U16(vec![1, 65534])),
            image(2, Pixels::F32(vec![0.0, 0.999])),
        ] {
            let error = Planes::rgb(&clear).unwrap_err().to_string();
            assert!(error.contains("opaque"), "{error}");
        }
    }

    #[test]
    fn shave_takes_every_side() {
        let values = (0..24).map(f64::from).collect();
        let planes = Planes::new(2, 3, 4, values).unwrap();
        let inner = planes.shave(1).unwrap();
        assert_eq!((inner.channels, inner.height, inner.width), (2, 1, 2));
        assert_eq!(inner.values, [5.0, 6.0, 17.0, 18.0]);
        assert_eq!(planes.shave(0).unwrap(), planes);
        assert!(planes.shave(2).is_err());
        assert!(planes.shave(usize::MAX).is_err());
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let planes = |channels, height, width| {
            Planes::new(
                channels,
                height,
                width,
                vec![0.0; channels * height * width],
            )
            .unwrap()
        };
        assert!(check_pair(&planes(1, 2, 3), &planes(1, 2, 3)).is_ok());
        assert!(check_pair(&planes(1, 2, 3), &planes(1, 3, 2)).is_err());
        assert!(check_pair(&planes(1, 2, 3), &planes(3, 2, 3)).is_err());
        let mut short = planes(1, 2, 3);
        short.values.pop();
        assert!(check_pair(&short, &short).is_err());
        assert!(Planes::new(1, 2, 3, vec![0.0; 5]).is_err());
        assert!(Planes::new(0, 2, 3, Vec::new()).is_err());
    }
}
