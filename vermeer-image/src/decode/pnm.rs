//! Netpbm pictures: PBM, PGM, PPM and PAM.

use std::io::Cursor;

use ::image::codecs::pnm::PnmDecoder;

use crate::decode::guard::{Guard, Raw};
use crate::error::Result;

/// Decodes a Netpbm picture; a maximum that is not 255 or 65535 is scaled to it.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(|e| guard.codec(e))?;
    guard.read(decoder).map(Raw::plain)
}

#[cfg(test)]
mod tests {
    use crate::decode::{Limits, safe_decode};
    use crate::image::{Image, Pixels};

    #[test]
    fn binary_and_ascii_pictures_are_read() {
        // Written by hand after the Netpbm manual pages.
        for (bytes, width, channels, pixels) in [
            (
                &b"P5\n# a comment\n2 1\n255\n\x07\x09"[..],
                2,
                1,
                Pixels::U8(vec![7, 9]),
            ),
            (b"P5 1 1 65535 \x12\x34", 1, 1, Pixels::U16(vec![0x1234])),
            (b"P6 1 1 255 \x01\x02\x03", 1, 3, Pixels::U8(vec![1, 2, 3])),
            (b"P2\n2 1\n15\n0 15\n", 2, 1, Pixels::U8(vec![0, 255])),
            (b"P4\n3 1\n\xa0", 3, 1, Pixels::U8(vec![0, 255, 0])),
        ] {
            let decoded = safe_decode(bytes, "a.pnm", &Limits::cli()).unwrap();
            assert_eq!(
                decoded.image,
                Image::new(width, 1, channels, pixels).unwrap()
            );
        }
    }

    #[test]
    fn a_header_bomb_is_refused() {
        let error = safe_decode(b"P5 30000 40000 255 ", "a.pgm", &Limits::cli()).unwrap_err();
        assert!(error.to_string().contains("max_side"), "{error}");
    }
}
