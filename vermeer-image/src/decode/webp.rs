//! WebP and the first frame of animated WebP.
//!
//! The `image` crate decodes it without limits of its own. The chunks are therefore walked here
//! first: each lies inside the file, and every bitstream's declared size is checked.

use std::io::Cursor;

use ::image::codecs::webp::WebPDecoder;

use crate::decode::guard::{Guard, Raw, orientation};
use crate::error::Result;

/// Decodes a WebP to RGB or RGBA.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let Some(declared) = little_endian(bytes, 4) else {
        return Err(guard.truncated());
    };
    let Some(body) = (declared as usize)
        .checked_add(8)
        .and_then(|end| bytes.get(12..end))
    else {
        return Err(guard.truncated());
    };
    let mut frames = 0;
    walk(body, guard, &mut frames)?;
    let frames = frames.max(1);
    guard.frames(frames)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| guard.codec(e))?;
    let orientation = orientation(&mut decoder);
    Ok(Raw {
        image: guard.read(decoder)?,
        palette: false,
        cmyk: false,
        orientation,
        frames,
    })
}

/// Walks RIFF chunks, counts animation frames and checks the size of each lossy bitstream. The
/// sizes of lossless bitstreams and of the canvas are checked by the decoder's own header.
fn walk(mut rest: &[u8], guard: &Guard<'_>, frames: &mut u32) -> Result<()> {
    while let Some((kind, tail)) = rest.split_first_chunk::<4>() {
        let Some(size) = little_endian(tail, 0) else {
            return Err(guard.truncated());
        };
        let size = size as usize;
        let Some(data) = size.checked_add(4).and_then(|end| tail.get(4..end)) else {
            return Err(guard.truncated());
        };
        match kind {
            b"ANMF" => {
                *frames += 1;
                guard.frames(*frames)?;
                walk(data.get(16..).unwrap_or_default(), guard, frames)?;
            }
            // Frame tag (3 bytes), start code (3), 14 bits of width and of height (RFC 6386, 9.1).
            b"VP8 " => {
                let Some(&[_, _, _, _, _, _, w0, w1, h0, h1]) = data.first_chunk::<10>() else {
                    return Err(guard.truncated());
                };
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
                guard.size(side(w0, w1), side(h0, h1))?;
            }
            _ => {}
        }
        // Chunks are padded to an even size; the last one's padding may be missing.
        rest = tail.get(4 + size + size % 2..).unwrap_or_default();
    }
    Ok(())
}

/// The 32-bit number at `at`.
fn little_endian(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use crate::decode::{Limits, safe_decode};
    use crate::encode::encode;
    use crate::format::Format;
    use crate::image::{Image, Pixels};

    #[test]
    fn lossless_pictures_come_back_exactly() {
        for channels in [3, 4] {
            let samples: Vec<u8> = (0..6 * channels as u8).map(|i| i * 9 + 1).collect();
            let image = Image::new(3, 2, channels, Pixels::U8(samples)).unwrap();
            let bytes = encode(&image, Format::WebP).unwrap();
            let decoded = safe_decode(&bytes, "a.webp", &Limits::cli()).unwrap();
            assert_eq!(decoded.image, image);
            assert_eq!(decoded.facts.alpha, channels == 4);
        }
    }

    #[test]
    fn chunks_that_leave_the_file_are_refused() {
        // An extended header, then metadata that claims 4 GiB.
        let mut bytes = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(b"EXIF\xf0\xff\xff\xff");
        bytes[4] = (bytes.len() - 8) as u8;
        let error = safe_decode(&bytes, "a.webp", &Limits::cli())
            .unwrap_err()
            .to_string();
        assert!(error.contains("truncated"), "{error}");
    }

    #[test]
    fn a_lossy_bitstream_over_the_limit_is_refused() {
        let mut bytes = b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0".to_vec();
        bytes.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f]);
        let error = safe_decode(&bytes, "a.webp", &Limits::server())
            .unwrap_err()
            .to_string();
        assert!(error.contains("max_pixels"), "{error}");
    }
}
