//! The cells in which images stand on a sheet.

use vermeer_image::{Filter, Image, Pixels, resize};

use crate::{Error, Result};

/// What lies around an image in its cell, so that its edges are seen.
const GROUND: u8 = 40;

/// An image in the middle of a square RGB cell: a small one enlarged by a whole factor, a large one
/// reduced to fit. Transparent pixels stand on black.
///
/// # Errors
/// [`Error::Image`] when the image cannot be resized.
pub(super) fn cell(image: &Image, side: usize) -> Result<Image> {
    let image = image.with_channels(3, [0; 3])?.to_8_bit();
    let (width, height) = (image.width(), image.height());
    let longest = width.max(height);
    let image = if longest > side {
        let scaled = |length: usize| (length * side / longest).max(1);
        resize(&image, scaled(width), scaled(height), Filter::Bicubic)?
    } else {
        let factor = side / longest;
        resize(&image, width * factor, height * factor, Filter::Nearest)?
    };
    let mut canvas = Canvas::new(side, side, [GROUND; 3]);
    if let Pixels::U8(bytes) = image.pixels() {
        let (left, top) = ((side - image.width()) / 2, (side - image.height()) / 2);
        let length = image.width() * 3;
        for (row, line) in bytes.chunks_exact(length).enumerate() {
            let start = ((top + row) * side + left) * 3;
            canvas.samples[start..start + length].copy_from_slice(line);
        }
    }
    canvas.image()
}

/// A picture that is drawn rectangle by rectangle.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Canvas {
    /// A canvas of one colour.
    pub(super) fn new(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            samples: colour.repeat(width * height),
        }
    }

    /// A canvas that begins as an 8-bit RGB picture.
    pub(super) fn over(image: &Image) -> Result<Self> {
        let image = image.with_channels(3, [0; 3])?.to_8_bit();
        let (width, height) = (image.width(), image.height());
        let Pixels::U8(samples) = image.into_pixels() else {
            return Err(Error::Failed("a picture that was made 8-bit is not".into()));
        };
        Ok(Self {
            width,
            height,
            samples,
        })
    }

    /// Fills the rectangle from (`left`, `top`) to just before (`right`, `bottom`), as far as it
    /// lies inside.
    pub(super) fn fill(&mut self, [left, top, right, bottom]: [usize; 4], colour: [u8; 3]) {
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                let at = (y * self.width + x) * 3;
                self.samples[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// Draws the edge of a rectangle, one pixel wide.
    pub(super) fn frame(&mut self, [left, top, right, bottom]: [usize; 4], colour: [u8; 3]) {
        self.fill([left, top, right, top + 1], colour);
        self.fill([left, bottom.saturating_sub(1), right, bottom], colour);
        self.fill([left, top, left + 1, bottom], colour);
        self.fill([right.saturating_sub(1), top, right, bottom], colour);
    }

    /// The picture.
    ///
    /// # Errors
    /// [`Error::Image`] for a canvas without pixels.
    pub(super) fn image(self) -> Result<Image> {
        let pixels = Pixels::U8(self.samples);
        Ok(Image::new(self.width, self.height, 3, pixels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_the_shape_of_the_image() {
        for (width, height, shown) in [(28, 28, 56 * 56), (3, 1, 63 * 21), (640, 20, 64 * 2)] {
            let white = Pixels::U8(vec![255; width * height]);
            let image = Image::new(width, height, 1, white).unwrap();
            let cell = cell(&image, 64).unwrap();
            assert_eq!((cell.width(), cell.height(), cell.channels()), (64, 64, 3));
            let light = cell.to_unit_chw().into_iter().filter(|v| *v > 0.9).count();
            assert_eq!(light, 3 * shown, "{width}x{height}");
        }
    }

    #[test]
    fn rectangles_stay_inside_the_canvas() {
        let mut canvas = Canvas::new(4, 3, [0; 3]);
        canvas.frame([1, 0, 9, 3], [5, 6, 7]);
        let image = canvas.image().unwrap();
        let red: Vec<u8> = image.to_unit_chw()[..12]
            .iter()
            .map(|v| (v * 255.0).round() as u8)
            .collect();
        assert_eq!(red, [0, 5, 5, 5, 0, 5, 0, 0, 0, 5, 5, 5]);
        let mut over = Canvas::over(&image).unwrap();
        over.fill([0, 0, 1, 1], [9; 3]);
        let Pixels::U8(bytes) = over.image().unwrap().into_pixels() else {
            panic!("not bytes")
        };
        assert_eq!(bytes[..6], [9, 9, 9, 5, 6, 7]);
    }
}
