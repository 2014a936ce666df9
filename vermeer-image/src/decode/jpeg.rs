//! JPEG.
//!
//! The pixels come from the `image` crate, whose decoder fills what is missing with grey. The
//! markers are therefore walked here first: they give size and components before anything is
//! decoded, and a file that ends before its end-of-image marker is refused.

use std::io::Cursor;

use ::image::codecs::jpeg::JpegDecoder;

use crate::decode::guard::{Guard, Raw, orientation};
use crate::error::Result;

/// Decodes a JPEG; CMYK and YCCK become RGB, with inverted inks as Adobe writes them.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let frame = match walk(bytes) {
        Walk::Whole(frame) => frame,
        Walk::Corrupt(what) => return Err(guard.corrupt(what)),
        Walk::Truncated(frame) => {
            // An oversized header is the graver fault, so it is named first.
            if let Some(frame) = frame {
                guard.size(frame.width, frame.height)?;
            }
            return Err(guard.truncated());
        }
    };
    guard.size(frame.width, frame.height)?;
    let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(|e| guard.codec(e))?;
    let orientation = orientation(&mut decoder);
    Ok(Raw {
        image: guard.read(decoder)?,
        palette: false,
        cmyk: frame.components == 4,
        orientation,
        frames: 1,
    })
}

/// The frame header of a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    width: u32,
    height: u32,
    components: u8,
}

/// How the walk over the markers ended.
#[derive(Debug, PartialEq, Eq)]
enum Walk {
    /// At the end-of-image marker.
    Whole(Frame),
    /// At the end of the file.
    Truncated(Option<Frame>),
    /// At a marker that cannot be.
    Corrupt(&'static str),
}

/// Walks the markers from the start to the end-of-image marker (ITU-T T.81, annex B). Entropy
/// coded data hold no marker but restarts, since their bytes 0xFF are followed by a zero.
fn walk(bytes: &[u8]) -> Walk {
    let mut frame = None;
    let mut at = 2;
    loop {
        let Some(skip) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&b| b == 0xFF))
        else {
            return Walk::Truncated(frame);
        };
        at += skip;
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else {
            return Walk::Truncated(frame);
        };
        at += 1;
        match marker {
            // Stuffed zero, temporary marker, restarts, start of image: no length follows.
            0x00 | 0x01 | 0xD0..=0xD8 => continue,
            0xD9 => {
                return match frame {
                    Some(frame) => Walk::Whole(frame),
                    None => Walk::Corrupt("it ends without a frame header"),
                };
            }
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else {
            return Walk::Truncated(frame);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return Walk::Corrupt("a marker segment has no length");
        }
        let Some(segment) = bytes.get(at + 2..at + length) else {
            return Walk::Truncated(frame);
        };
        at += length;
        // Start of frame: all of 0xC0..=0xCF but the tables 0xC4 and 0xCC and the reserved 0xC8.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) && frame.is_none()
        {
            let &[_, h1, h0, w1, w0, components, ..] = segment else {
                return Walk::Corrupt("the frame header is too short");
            };
            frame = Some(Frame {
                width: u32::from(u16::from_be_bytes([w1, w0])),
                height: u32::from(u16::from_be_bytes([h1, h0])),
                components,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Decoded, Limits, safe_decode};
    use crate::encode::encode;
    use crate::format::Format;
    use crate::image::{Image, Pixels};

    fn decode(bytes: &[u8]) -> Decoded {
        safe_decode(bytes, "a.jpg", &Limits::cli()).unwrap()
    }

    /// A JPEG of 24x8 pixels whose left third is white, the rest black.
    fn lamp() -> Vec<u8> {
        let row = [[255u8; 8].as_slice(), &[0; 16]].concat();
        let image = Image::new(24, 8, 1, Pixels::U8(row.repeat(8))).unwrap();
        encode(&image, Format::Jpeg).unwrap()
    }

    /// A CMYK JPEG of 4x2 pixels of inks (0, 255, 128, 64), written by Pillow 13.0.0 with
    /// `quality=100, optimize=True`.
    fn cmyk() -> Vec<u8> {
        [
            &b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00\xff\xdb\x00\x43\x00"[..],
            &[1; 64],
            b"\xff\xc0\x00\x14\x08\x00\x02\x00\x04\x04C\x11\x00M\x11\x00Y\x11\x00K\x11\x00",
            b"\xff\xc4\x00\x17\x00\x00\x03\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x00\x04\x09\x0a\x0b\xff\xc4\x00\x14\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x00\x00\x00\x00\x00\x00\x00\xff\xda\x00\x0e\x04C\x00M\x00Y\x00K\x00\x00\x3f\x00",
            b"\xbf\x86\x7f\xe1\xcf\xe1\xff\xd9",
        ]
        .concat()
    }

    #[test]
    fn exif_orientation_is_applied_and_said() {
        // APP1 with one big-endian directory entry: orientation (0x0112), SHORT, 1 value, 6.
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let plain = lamp();
        let segment = [
            &b"\xff\xe1"[..],
            &(exif.len() as u16 + 2).to_be_bytes(),
            exif,
        ]
        .concat();
        let turned = decode(&[&plain[..2], &segment, &plain[2..]].concat());
        assert_eq!(turned.facts.orientation, 6);
        assert_eq!((turned.image.width(), turned.image.height()), (8, 24));
        let values = turned.image.to_unit_chw();
        // Turned clockwise, what was left is on top.
        assert!(values[..8].iter().all(|&v| v > 0.9), "{values:?}");
        assert!(values[23 * 8..].iter().all(|&v| v < 0.1), "{values:?}");
        assert_eq!(decode(&plain).facts.orientation, 1);
    }

    #[test]
    fn cmyk_becomes_rgb() {
        let decoded = decode(&cmyk());
        assert!(decoded.facts.cmyk);
        assert_eq!(decoded.facts.channels, 3);
        let Pixels::U8(samples) = decoded.image.pixels() else {
            panic!("JPEG is 8-bit");
        };
        // Pillow 13.0.0 converts the same file to (191, 0, 95).
        for (value, expected) in samples.iter().zip([191, 0, 95].into_iter().cycle()) {
            assert!(value.abs_diff(expected) <= 2, "{samples:?}");
        }
        assert!(!decode(&lamp()).facts.cmyk);
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = lamp();
        assert!(matches!(
            walk(&whole),
            Walk::Whole(Frame {
                width: 24,
                height: 8,
                components: 1
            })
        ));
        for kept in 2..whole.len() {
            assert!(matches!(walk(&whole[..kept]), Walk::Truncated(_)), "{kept}");
        }
    }

    #[test]
    fn segments_that_cannot_be_are_corrupt() {
        let no_length = b"\xff\xd8\xff\xe0\x00\x01\xff\xd9";
        assert!(matches!(walk(no_length), Walk::Corrupt(_)));
        assert!(matches!(walk(b"\xff\xd8\xff\xd9"), Walk::Corrupt(_)));
    }
}
