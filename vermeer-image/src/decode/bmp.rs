//! Windows bitmaps.

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;

use crate::decode::guard::{Guard, Raw};
use crate::error::Result;
use crate::image::{Image, Pixels};

/// Decodes a BMP. The format's only way to store grey is a palette that is a grey ramp; such a
/// picture comes back with one channel.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|e| guard.codec(e))?;
    let palette = decoder.get_palette();
    let indexed = palette.is_some();
    let grey = palette.is_some_and(|colours| colours.iter().all(|&[r, g, b]| r == g && g == b));
    let image = guard.read(decoder)?;
    Ok(Raw {
        palette: indexed && !grey,
        ..Raw::plain(if grey { first_channel(image)? } else { image })
    })
}

/// The first channel of a picture.
fn first_channel(image: Image) -> Result<Image> {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let Pixels::U8(samples) = image.into_pixels() else {
        unreachable!("a BMP has 8-bit samples");
    };
    let samples = samples.into_iter().step_by(channels).collect();
    Image::new(width, height, 1, Pixels::U8(samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Decoded, Limits, safe_decode};
    use crate::encode::encode;
    use crate::format::Format;

    fn decode(bytes: &[u8]) -> Decoded {
        safe_decode(bytes, "a.bmp", &Limits::cli()).unwrap()
    }

    /// A picture of 2x1 pixels, 8 bits per pixel, two colours (blue, green, red, unused).
    fn indexed(colours: [[u8; 4]; 2], indices: [u8; 2]) -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        for field in [66u32, 0, 62, 40, 2, 1, (8 << 16) | 1, 0, 4, 0, 0, 2, 0] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(colours.concat());
        bytes.extend(indices);
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn palettes_are_expanded_and_said() {
        let decoded = decode(&indexed([[1, 2, 3, 0], [4, 5, 6, 0]], [1, 0]));
        assert!(decoded.facts.palette);
        assert_eq!(decoded.image.pixels(), &Pixels::U8(vec![6, 5, 4, 3, 2, 1]));
    }

    #[test]
    fn a_grey_ramp_is_grey() {
        let decoded = decode(&indexed([[7, 7, 7, 0], [9, 9, 9, 0]], [1, 0]));
        assert!(!decoded.facts.palette);
        assert_eq!(decoded.image.channels(), 1);
        assert_eq!(decoded.image.pixels(), &Pixels::U8(vec![9, 7]));
    }

    #[test]
    fn pictures_come_back_exactly() {
        for channels in [1, 3, 4] {
            let samples: Vec<u8> = (0..6 * channels as u8).map(|i| i * 7 + 3).collect();
            let image = Image::new(3, 2, channels, Pixels::U8(samples)).unwrap();
            assert_eq!(decode(&encode(&image, Format::Bmp).unwrap()).image, image);
        }
    }
}
