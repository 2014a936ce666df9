//! Contact sheets: many pictures on one, with labels if wanted.

use std::borrow::Cow;

use crate::error::{ImageError, Result};
use crate::font;
use crate::image::{Image, Pixels};

/// Pixels from the start of one letter to the start of the next.
const ADVANCE: usize = font::WIDTH + 1;

/// Height of the strip under each picture that holds its label, with a free row above and below.
const STRIP: usize = font::HEIGHT + 2;

/// How pictures are laid out: from left to right, then down, with padding around each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pictures in a row; 0 stands for the square root of their number, rounded up.
    pub columns: usize,
    /// Pixels between pictures and around them.
    pub padding: usize,
    /// The grey level of the padding.
    pub background: u8,
}

impl Default for Grid {
    /// A square of pictures, two black pixels apart.
    fn default() -> Self {
        Self {
            columns: 0,
            padding: 2,
            background: 0,
        }
    }
}

impl Grid {
    /// The layout with this many pictures in a row; 0 stands for a square.
    pub fn with_columns(self, columns: usize) -> Self {
        Self { columns, ..self }
    }

    /// The layout with this many pixels between pictures.
    pub fn with_padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// The layout with this grey level between pictures.
    pub fn with_background(self, background: u8) -> Self {
        Self { background, ..self }
    }

    /// The pictures on one 8-bit sheet of the same channels. A label stands centred under its
    /// picture and is cut where it is wider; letters beyond printable ASCII become question marks.
    ///
    /// # Errors
    /// [`ImageError::Shape`] without pictures, with pictures of different sizes or channels, or
    /// with another number of labels.
    pub fn draw(&self, images: &[Image], labels: Option<&[String]>) -> Result<Image> {
        let Some(first) = images.first() else {
            return Err(ImageError::Shape(
                "a grid needs at least one image".to_owned(),
            ));
        };
        let size = |image: &Image| (image.width(), image.height(), image.channels());
        if let Some(at) = images.iter().position(|image| size(image) != size(first)) {
            let ((w0, h0, c0), (w, h, c)) = (size(first), size(&images[at]));
            return Err(ImageError::Shape(format!(
                "the images of a grid have one size and one number of channels; image 0 has \
                 {w0}x{h0}x{c0}, image {at} has {w}x{h}x{c}"
            )));
        }
        if let Some(labels) = labels
            && labels.len() != images.len()
        {
            return Err(ImageError::Shape(format!(
                "{} labels do not fit {} images",
                labels.len(),
                images.len()
            )));
        }
        let columns = match self.columns {
            0 => (images.len() as f64).sqrt().ceil() as usize,
            columns => columns.min(images.len()),
        };
        let strip = if labels.is_some() { STRIP } else { 0 };
        let cell = (
            first.width() + self.padding,
            first.height() + strip + self.padding,
        );
        let mut sheet = Sheet::new(
            columns * cell.0 + self.padding,
            images.len().div_ceil(columns) * cell.1 + self.padding,
            first.channels(),
            self.background,
        );
        for (at, image) in images.iter().enumerate() {
            let left = self.padding + (at % columns) * cell.0;
            let top = self.padding + (at / columns) * cell.1;
            sheet.paste(image, left, top);
            if let Some(labels) = labels {
                sheet.label(&labels[at], left, top + first.height() + 1, first.width());
            }
        }
        Image::new(
            sheet.width,
            sheet.height,
            sheet.channels,
            Pixels::U8(sheet.samples),
        )
    }
}

/// The pictures on one black sheet; see [`Grid::draw`], which this calls.
///
/// # Errors
/// Those of [`Grid::draw`].
pub fn grid(
    images: &[Image],
    columns: Option<usize>,
    padding: usize,
    labels: Option<&[String]>,
) -> Result<Image> {
    Grid::default()
        .with_columns(columns.unwrap_or(0))
        .with_padding(padding)
        .draw(images, labels)
}

/// An 8-bit sheet that is being drawn.
struct Sheet {
    width: usize,
    height: usize,
    channels: usize,
    samples: Vec<u8>,
    ink: u8,
}

impl Sheet {
    /// An opaque sheet of one grey level, whose ink is the opposite of it.
    fn new(width: usize, height: usize, channels: usize, background: u8) -> Self {
        let mut samples = vec![background; width * height * channels];
        if channels.is_multiple_of(2) {
            for alpha in samples.iter_mut().skip(channels - 1).step_by(channels) {
                *alpha = 255;
            }
        }
        Self {
            width,
            height,
            channels,
            samples,
            ink: if background < 128 { 255 } else { 0 },
        }
    }

    /// Copies a picture, as bytes, to where it lies inside the sheet.
    fn paste(&mut self, image: &Image, left: usize, top: usize) {
        let image = match image.pixels() {
            Pixels::U8(_) => Cow::Borrowed(image),
            _ => Cow::Owned(image.to_8_bit()),
        };
        let Pixels::U8(samples) = image.pixels() else {
            unreachable!("the picture was made 8-bit");
        };
        let length = image.width() * self.channels;
        for (row, samples) in samples.chunks_exact(length).enumerate() {
            let start = ((top + row) * self.width + left) * self.channels;
            self.samples[start..start + length].copy_from_slice(samples);
        }
    }

    /// Writes as much of the text as fits into `room` pixels, centred.
    fn label(&mut self, text: &str, left: usize, top: usize, room: usize) {
        let letters = text.chars().count().min((room + 1) / ADVANCE);
        let used = (letters * ADVANCE).saturating_sub(1);
        let left = left + (room - used) / 2;
        for (at, letter) in text.chars().take(letters).enumerate() {
            for (row, bits) in font::glyph(letter).into_iter().enumerate() {
                for column in 0..font::WIDTH {
                    if (bits >> (font::WIDTH - 1 - column)) & 1 == 1 {
                        self.dot(left + at * ADVANCE + column, top + row);
                    }
                }
            }
        }
    }

    /// Inks the colours of one pixel.
    fn dot(&mut self, x: usize, y: usize) {
        let start = (y * self.width + x) * self.channels;
        let colours = if self.channels < 3 { 1 } else { 3 };
        self.samples[start..start + colours].fill(self.ink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, channels: usize, level: u8) -> Image {
        let samples = vec![level; width * height * channels];
        Image::new(width, height, channels, Pixels::U8(samples)).unwrap()
    }

    fn bytes(image: &Image) -> &[u8] {
        match image.pixels() {
            Pixels::U8(samples) => samples,
            other => panic!("not bytes: {other:?}"),
        }
    }

    #[test]
    fn three_pictures_make_a_square_with_padding() {
        let images = [flat(2, 1, 1, 10), flat(2, 1, 1, 20), flat(2, 1, 1, 30)];
        let sheet = grid(&images, None, 1, None).unwrap();
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0,
            0, 10, 10, 0, 20, 20, 0,
            0, 0, 0, 0, 0, 0, 0,
            0, 30, 30, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!((sheet.width(), sheet.height()), (7, 5));
        assert_eq!(bytes(&sheet), expected);
    }

    #[test]
    fn sizes_follow_columns_padding_and_labels() {
        // Columns, padding, labels: width and height for five pictures of 8x6 pixels.
        for (columns, padding, labelled, size) in [
            (None, 2, false, (32, 18)),
            (Some(5), 0, false, (40, 6)),
            (Some(9), 1, false, (46, 8)),
            (Some(1), 2, true, (12, 87)),
        ] {
            let images = vec![flat(8, 6, 3, 50); 5];
            let labels = vec!["x".to_owned(); 5];
            let sheet = grid(&images, columns, padding, labelled.then_some(&labels[..])).unwrap();
            assert_eq!((sheet.width(), sheet.height()), size, "{columns:?}");
            assert_eq!(sheet.channels(), 3);
        }
    }

    #[test]
    fn labels_are_written_under_the_picture() {
        let labels = ["I".to_owned()];
        let sheet = Grid::default()
            .with_padding(0)
            .with_background(255)
            .draw(&[flat(7, 1, 1, 9)], Some(&labels))
            .unwrap();
        assert_eq!((sheet.width(), sheet.height()), (7, 10));
        #[rustfmt::skip]
        let expected = "\
            ooooooo\
            .......\
            ..###..\
            ...#...\
            ...#...\
            ...#...\
            ...#...\
            ...#...\
            ..###..\
            .......";
        let drawn: String = bytes(&sheet)
            .iter()
            .map(|level| match level {
                9 => 'o',
                0 => '#',
                _ => '.',
            })
            .collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn long_labels_are_cut_and_alpha_is_opaque() {
        let labels = ["a long label".to_owned()];
        for width in [1, 4, 5, 13] {
            let sheet = grid(&[flat(width, 3, 2, 9)], None, 1, Some(&labels)).unwrap();
            assert_eq!(sheet.width(), width + 2);
            assert_eq!(bytes(&sheet)[..2], [0, 255]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let images = [flat(2, 2, 1, 0), flat(2, 2, 3, 0)];
        assert!(grid(&[], None, 2, None).is_err());
        assert!(grid(&images, None, 2, None).is_err());
        assert!(grid(&images[..1], None, 2, Some(&[])).is_err());
    }
}
