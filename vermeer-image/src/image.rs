//! A picture on the host: size, channels and interleaved samples.

use std::fmt;

use crate::error::{ImageError, Result};

/// Weights of red, green and blue in the luma of ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Samples in rows from top to bottom, pixels from left to right, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Bytes, 0..=255.
    U8(Vec<u8>),
    /// 16-bit samples, 0..=65535.
    U16(Vec<u16>),
    /// Floats; an ordinary picture fills the unit range \[0, 1\], a measurement may go beyond.
    F32(Vec<f32>),
}

impl Pixels {
    /// The number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
            Self::F32(samples) => samples.len(),
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How one sample is stored.
    pub fn depth(&self) -> Depth {
        match self {
            Self::U8(_) => Depth::Bits8,
            Self::U16(_) => Depth::Bits16,
            Self::F32(_) => Depth::Float32,
        }
    }
}

/// How one sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// A byte.
    Bits8,
    /// A 16-bit unsigned integer.
    Bits16,
    /// A 32-bit float.
    Float32,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bits8 => "8-bit",
            Self::Bits16 => "16-bit",
            Self::Float32 => "32-bit float",
        })
    }
}

/// A stored sample and its value in the unit range.
pub(crate) trait Sample: Copy {
    /// The value as a fraction of the largest one.
    fn to_unit(self) -> f32;
    /// The nearest sample; integers clamp to \[0, 1\] first.
    fn from_unit(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 255.0
    }

    fn from_unit(value: f32) -> Self {
        (value.clamp(0.0, 1.0) * 255.0).round() as Self
    }
}

impl Sample for u16 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 65535.0
    }

    fn from_unit(value: f32) -> Self {
        (value.clamp(0.0, 1.0) * 65535.0).round() as Self
    }
}

impl Sample for f32 {
    fn to_unit(self) -> f32 {
        self
    }

    fn from_unit(value: f32) -> Self {
        value
    }
}

/// A picture: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha) channels. Alpha is not
/// multiplied into the colours.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Pixels,
}

impl Image {
    /// A picture of the given size.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when a side is zero, the channels are not 1 to 4, or there are not
    /// exactly `width * height * channels` samples.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Pixels) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(ImageError::Shape(format!(
                "an image of {width}x{height} pixels is empty"
            )));
        }
        if !(1..=4).contains(&channels) {
            return Err(ImageError::Shape(format!(
                "an image has 1 to 4 channels, not {channels}"
            )));
        }
        let samples = width
            .checked_mul(height)
            .and_then(|n| n.checked_mul(channels));
        if samples != Some(pixels.len()) {
            return Err(ImageError::Shape(format!(
                "{} samples are not an image of {width}x{height} pixels and {channels} channels",
                pixels.len()
            )));
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Whether the last channel is alpha.
    pub fn has_alpha(&self) -> bool {
        self.channels.is_multiple_of(2)
    }

    /// The samples.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// The samples, taken out of the picture.
    pub fn into_pixels(self) -> Pixels {
        self.pixels
    }

    /// How one sample is stored.
    pub fn depth(&self) -> Depth {
        self.pixels.depth()
    }

    /// The samples as floats `[channels, height, width]`: bytes divided by 255, 16-bit samples by
    /// 65535, floats as they are.
    pub fn to_unit_chw(&self) -> Vec<f32> {
        match &self.pixels {
            Pixels::U8(samples) => planes(samples, self.channels),
            Pixels::U16(samples) => planes(samples, self.channels),
            Pixels::F32(samples) => planes(samples, self.channels),
        }
    }

    /// An 8-bit picture from floats `[channels, height, width]`: each sample is
    /// `round(clamp(x, 0, 1) * 255)`.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the sizes do not fit, or a value is NaN.
    pub fn from_unit_chw(
        data: &[f32],
        channels: usize,
        height: usize,
        width: usize,
    ) -> Result<Self> {
        if let Some(at) = data.iter().position(|value| value.is_nan()) {
            return Err(ImageError::Shape(format!("value {at} of the image is NaN")));
        }
        let area = width.saturating_mul(height);
        if data.len() != area.saturating_mul(channels) {
            return Err(ImageError::Shape(format!(
                "{} values are not {channels} channels of {width}x{height} pixels",
                data.len()
            )));
        }
        let mut samples = Vec::with_capacity(data.len());
        for pixel in 0..area {
            samples.extend((0..channels).map(|c| u8::from_unit(data[c * area + pixel])));
        }
        Self::new(width, height, channels, Pixels::U8(samples))
    }

    /// The picture with 1 or 3 channels and the same depth. Alpha is composited over `background`
    /// (an 8-bit RGB colour); colour becomes grey by the luma of BT.601, grey becomes colour by
    /// repetition.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when `channels` is neither 1 nor 3.
    pub fn with_channels(&self, channels: usize, background: [u8; 3]) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(ImageError::Shape(format!(
                "an image is made grey (1 channel) or RGB (3 channels), not {channels}"
            )));
        }
        let under = background.map(u8::to_unit);
        let pixels = match &self.pixels {
            Pixels::U8(samples) => Pixels::U8(recolour(samples, self.channels, channels, under)),
            Pixels::U16(samples) => Pixels::U16(recolour(samples, self.channels, channels, under)),
            Pixels::F32(samples) => Pixels::F32(recolour(samples, self.channels, channels, under)),
        };
        Self::new(self.width, self.height, channels, pixels)
    }

    /// The picture with 8 bits per sample: the unit range is clamped and rounded.
    pub fn to_8_bit(&self) -> Self {
        let samples = match &self.pixels {
            Pixels::U8(samples) => samples.clone(),
            Pixels::U16(samples) => samples.iter().map(|s| u8::from_unit(s.to_unit())).collect(),
            Pixels::F32(samples) => samples.iter().map(|&s| u8::from_unit(s)).collect(),
        };
        Self {
            pixels: Pixels::U8(samples),
            ..*self
        }
    }

    /// A picture of another size whose pixel at (x, y) is this one's pixel at `source(x, y)`.
    /// Both sizes are at least 1 and `source` stays inside, which the callers guarantee.
    pub(crate) fn gather(
        &self,
        width: usize,
        height: usize,
        source: impl Fn(usize, usize) -> (usize, usize),
    ) -> Self {
        let pick = |x, y| {
            let (from_x, from_y) = source(x, y);
            (from_y * self.width + from_x) * self.channels
        };
        let pixels = match &self.pixels {
            Pixels::U8(samples) => {
                Pixels::U8(pixels_at(samples, self.channels, width, height, pick))
            }
            Pixels::U16(samples) => {
                Pixels::U16(pixels_at(samples, self.channels, width, height, pick))
            }
            Pixels::F32(samples) => {
                Pixels::F32(pixels_at(samples, self.channels, width, height, pick))
            }
        };
        Self {
            width,
            height,
            channels: self.channels,
            pixels,
        }
    }

    /// The sides as 32-bit numbers, which codecs and the resizer want.
    pub(crate) fn sides(&self) -> Result<(u32, u32)> {
        match (u32::try_from(self.width), u32::try_from(self.height)) {
            (Ok(width), Ok(height)) => Ok((width, height)),
            _ => Err(ImageError::Shape(format!(
                "a side of {}x{} pixels does not fit 32 bits",
                self.width, self.height
            ))),
        }
    }
}

/// Interleaved samples as unit floats, one channel after the other.
fn planes<T: Sample>(samples: &[T], channels: usize) -> Vec<f32> {
    let area = samples.len() / channels;
    let mut out = vec![0.0; samples.len()];
    for (at, pixel) in samples.chunks_exact(channels).enumerate() {
        for (channel, sample) in pixel.iter().enumerate() {
            out[channel * area + at] = sample.to_unit();
        }
    }
    out
}

/// The pixels that start at `start(x, y)` in `samples`, in the order of the new picture.
fn pixels_at<T: Copy>(
    samples: &[T],
    channels: usize,
    width: usize,
    height: usize,
    start: impl Fn(usize, usize) -> usize,
) -> Vec<T> {
    let mut out = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        for x in 0..width {
            let at = start(x, y);
            out.extend_from_slice(&samples[at..at + channels]);
        }
    }
    out
}

/// Samples with `to` channels (1 or 3) over the unit colour `under`.
fn recolour<T: Sample>(samples: &[T], from: usize, to: usize, under: [f32; 3]) -> Vec<T> {
    let mut out = Vec::with_capacity(samples.len() / from * to);
    for pixel in samples.chunks_exact(from) {
        match (from, to) {
            (1, 3) => out.extend([pixel[0]; 3]),
            (2, 1) => out.push(T::from_unit(over(pixel[0], pixel[1], luma(under)))),
            (2, 3) => out.extend(under.map(|b| T::from_unit(over(pixel[0], pixel[1], b)))),
            (3, 1) => out.push(T::from_unit(luma([0, 1, 2].map(|c| pixel[c].to_unit())))),
            (4, 1) => out.push(T::from_unit(luma(
                [0, 1, 2].map(|c| over(pixel[c], pixel[3], under[c])),
            ))),
            (4, 3) => {
                out.extend([0, 1, 2].map(|c| T::from_unit(over(pixel[c], pixel[3], under[c]))))
            }
            _ => out.extend_from_slice(pixel),
        }
    }
    out
}

/// A colour with alpha over an opaque one, in the unit range.
fn over<T: Sample>(colour: T, alpha: T, under: f32) -> f32 {
    let alpha = alpha.to_unit();
    colour.to_unit() * alpha + under * (1.0 - alpha)
}

/// The luma of a unit colour.
fn luma(rgb: [f32; 3]) -> f32 {
    rgb.iter()
        .zip(LUMA)
        .map(|(value, weight)| value * weight)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(width: usize, height: usize, channels: usize, samples: &[u8]) -> Image {
        Image::new(width, height, channels, Pixels::U8(samples.to_vec())).unwrap()
    }

    #[test]
    fn sizes_are_checked() {
        for (width, height, channels, samples) in [
            (0, 1, 1, 0),
            (1, 1, 5, 5),
            (2, 2, 3, 11),
            (usize::MAX, 2, 1, 4),
        ] {
            assert!(Image::new(width, height, channels, Pixels::U8(vec![0; samples])).is_err());
        }
    }

    #[test]
    fn planes_and_back() {
        let image = bytes(2, 1, 3, &[0, 51, 255, 102, 153, 204]);
        let planes = image.to_unit_chw();
        assert_eq!(planes, [0.0, 0.4, 0.2, 0.6, 1.0, 0.8]);
        assert_eq!(Image::from_unit_chw(&planes, 3, 1, 2).unwrap(), image);
        let wide = Image::new(1, 1, 1, Pixels::U16(vec![65535])).unwrap();
        assert_eq!(wide.to_unit_chw(), [1.0]);
        assert_eq!(wide.to_8_bit(), bytes(1, 1, 1, &[255]));
    }

    #[test]
    fn unit_values_round_and_clamp() {
        let data = [-1.0, 0.5, 2.0, 0.001];
        let image = Image::from_unit_chw(&data, 1, 2, 2).unwrap();
        assert_eq!(image.pixels(), &Pixels::U8(vec![0, 128, 255, 0]));
        assert!(Image::from_unit_chw(&[f32::NAN], 1, 1, 1).is_err());
        assert!(Image::from_unit_chw(&data, 3, 1, 1).is_err());
    }

    #[test]
    fn channels_follow_alpha_and_luma() {
        // 0.299 * 255 = 76.2, 0.587 * 255 = 149.7, 0.114 * 255 = 29.07: BT.601.
        let rgb = bytes(3, 1, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]);
        let grey = rgb.with_channels(1, [0; 3]).unwrap();
        assert_eq!(grey.pixels(), &Pixels::U8(vec![76, 150, 29]));
        // A fifth of 100 and four fifths of the background.
        let rgba = bytes(1, 1, 4, &[100, 100, 100, 51]);
        let flat = rgba.with_channels(3, [0, 50, 250]).unwrap();
        assert_eq!(flat.pixels(), &Pixels::U8(vec![20, 60, 220]));
        let grey_alpha = bytes(1, 1, 2, &[200, 0]);
        let flat = grey_alpha.with_channels(3, [1, 2, 3]).unwrap();
        assert_eq!(flat.pixels(), &Pixels::U8(vec![1, 2, 3]));
        let deep = Image::new(1, 1, 1, Pixels::U16(vec![40000])).unwrap();
        let deep = deep.with_channels(3, [0; 3]).unwrap();
        assert_eq!(deep.pixels(), &Pixels::U16(vec![40000; 3]));
        assert!(rgb.with_channels(2, [0; 3]).is_err());
    }
}
