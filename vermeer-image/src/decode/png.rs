//! PNG and the first frame of APNG.

use std::io::{self, Cursor};

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use crate::decode::guard::{Guard, Raw, exif_orientation, words};
use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// Decodes a PNG; palettes, transparent colours and depths under 8 bits are expanded.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    // The limit also covers chunks and rows, which a tiny budget must leave room for.
    let limits = Limits {
        bytes: guard.budget().max(1 << 20),
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(|e| failed(guard, e))?;
    let (width, height) = (header.width, header.height);
    guard.size(width, height)?;

    let mut reader = decoder.read_info().map_err(|e| failed(guard, e))?;
    let info = reader.info();
    let palette = info.color_type == ColorType::Indexed;
    let orientation = exif_orientation(info.exif_metadata.as_deref());
    let frames = info
        .animation_control
        .map_or(1, |control| control.num_frames.max(1));
    guard.frames(frames)?;

    let (color, depth) = reader.output_color_type();
    let size = reader
        .output_buffer_size()
        .map_or(u64::MAX, |size| size as u64);
    let mut buffer = guard.buffer(size)?;
    let frame = reader
        .next_frame(&mut buffer)
        .map_err(|e| failed(guard, e))?;
    if (frame.width, frame.height) != (width, height) {
        return Err(guard.corrupt("its first frame does not fill the canvas"));
    }
    // Only the end chunk tells a whole file from one cut after its last row.
    reader.finish().map_err(|e| failed(guard, e))?;

    let pixels = match depth {
        BitDepth::Sixteen => Pixels::U16(words(&buffer, u16::from_be_bytes)),
        _ => Pixels::U8(buffer),
    };
    Ok(Raw {
        image: Image::new(width as usize, height as usize, color.samples(), pixels)?,
        palette,
        cmyk: false,
        orientation,
        frames,
    })
}

/// The refusal that a decoding error amounts to.
fn failed(guard: &Guard<'_>, error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            guard.truncated()
        }
        DecodingError::LimitsExceeded => guard.over_budget(),
        other => guard.corrupt(other),
    }
}

#[cfg(test)]
mod tests {
    use ::png::Encoder;

    use super::*;
    use crate::decode::{Decoded, Limits as Bounds, safe_decode};
    use crate::image::Depth;

    /// A PNG written by the `png` crate after `prepare` has set its kind.
    fn encode(
        width: u32,
        height: u32,
        data: &[u8],
        prepare: impl Fn(&mut Encoder<'_, &mut Vec<u8>>),
    ) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        let mut encoder = Encoder::new(&mut out, width, height);
        prepare(&mut encoder);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        out
    }

    fn decode(bytes: &[u8]) -> Decoded {
        safe_decode(bytes, "a.png", &Bounds::cli()).unwrap()
    }

    /// CRC-32 of ISO 3309, as PNG wants it.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ if c & 1 == 1 { 0xEDB8_8320 } else { 0 }
            })
        })
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let body = [&kind[..], data].concat();
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], &body, &crc(&body).to_be_bytes()].concat()
    }

    #[test]
    fn palette_becomes_rgb_and_with_transparency_rgba() {
        let colours = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9];
        let indices = [0b0001_1011];
        let plain = decode(&encode(4, 1, &indices, |e| {
            e.set_color(ColorType::Indexed);
            e.set_depth(BitDepth::Two);
            e.set_palette(colours.to_vec());
        }));
        assert!(plain.facts.palette && !plain.facts.alpha);
        assert_eq!(plain.image.pixels(), &Pixels::U8(colours.to_vec()));

        let clear = decode(&encode(4, 1, &indices, |e| {
            e.set_color(ColorType::Indexed);
            e.set_depth(BitDepth::Two);
            e.set_palette(colours.to_vec());
            e.set_trns(vec![0, 128]);
        }));
        assert!(clear.facts.palette && clear.facts.alpha);
        let expected = [255, 0, 0, 0, 0, 255, 0, 128, 0, 0, 255, 255, 9, 9, 9, 255];
        assert_eq!(clear.image.pixels(), &Pixels::U8(expected.to_vec()));
    }

    #[test]
    fn transparent_grey_has_alpha() {
        let image = decode(&encode(2, 1, &[7, 8], |e| {
            e.set_color(ColorType::Grayscale);
            e.set_depth(BitDepth::Eight);
            e.set_trns(vec![0, 8]);
        }));
        assert!(image.facts.alpha && !image.facts.palette);
        assert_eq!(image.image.pixels(), &Pixels::U8(vec![7, 255, 8, 0]));
    }

    #[test]
    fn sixteen_bits_are_kept_and_one_bit_is_widened() {
        let deep = decode(&encode(2, 1, &[0x12, 0x34, 0xFF, 0xFF], |e| {
            e.set_color(ColorType::Grayscale);
            e.set_depth(BitDepth::Sixteen);
        }));
        assert_eq!(deep.facts.depth, Depth::Bits16);
        assert_eq!(deep.image.pixels(), &Pixels::U16(vec![0x1234, 0xFFFF]));
        let flat = decode(&encode(3, 1, &[0b1010_0000], |e| {
            e.set_color(ColorType::Grayscale);
            e.set_depth(BitDepth::One);
        }));
        assert_eq!(flat.image.pixels(), &Pixels::U8(vec![255, 0, 255]));
    }

    #[test]
    fn header_bomb_is_refused_before_it_costs_anything() {
        let mut header = Vec::new();
        header.extend(60_000u32.to_be_bytes());
        header.extend(60_000u32.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        let bomb = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &header),
            chunk(b"IDAT", &[]),
            chunk(b"IEND", &[]),
        ]
        .concat();
        let error = safe_decode(&bomb, "bomb.png", &Bounds::cli())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("60000x60000") && error.contains("max_side"),
            "{error}"
        );
    }

    #[test]
    fn a_file_without_its_end_chunk_is_truncated() {
        let whole = encode(2, 1, &[7, 8], |e| e.set_color(ColorType::Grayscale));
        let cut = &whole[..whole.len() - 12];
        let error = safe_decode(cut, "cut.png", &Bounds::cli())
            .unwrap_err()
            .to_string();
        assert!(error.contains("truncated"), "{error}");
    }

    #[test]
    fn a_flipped_byte_is_corrupt() {
        let mut bytes = encode(2, 1, &[7, 8], |e| e.set_color(ColorType::Grayscale));
        let at = bytes.windows(4).position(|w| w == b"IDAT").unwrap() + 6;
        bytes[at] ^= 0x10;
        let error = safe_decode(&bytes, "flip.png", &Bounds::cli())
            .unwrap_err()
            .to_string();
        assert!(error.contains("corrupt"), "{error}");
    }
}
