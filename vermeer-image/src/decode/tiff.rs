//! The first page of TIFF and BigTIFF.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use crate::decode::guard::{Guard, Raw};
use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// The decoder of a file in memory.
type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes grey (with alpha or without), RGB, RGBA and CMYK of 8 or 16 bits, the first three also
/// as 32-bit float, and grey of 1, 2 and 4 bits. CMYK becomes RGB without a colour profile.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let failed = |error| failed(guard, error);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions().map_err(failed)?;
    guard.size(width, height)?;
    let frames = pages(&mut decoder, guard)?;
    let orientation = match decoder.find_tag_unsigned::<u8>(Tag::Orientation) {
        Ok(Some(orientation @ 1..=8)) => orientation,
        _ => 1,
    };
    let color = decoder.colortype().map_err(failed)?;
    let channels = match color {
        ColorType::Gray(1 | 2 | 4 | 8 | 16 | 32) => 1,
        ColorType::Multiband {
            bit_depth: 8 | 16 | 32,
            num_samples: 2,
        } => 2,
        ColorType::RGB(8 | 16 | 32) => 3,
        ColorType::RGBA(8 | 16 | 32) | ColorType::CMYK(8 | 16) => 4,
        other => return Err(guard.unsupported(format_args!("{other:?} TIFF"))),
    };
    let (width, height) = (width as usize, height as usize);
    let area = width as u64 * height as u64;
    let bits = color.bit_depth();
    let size = area * channels as u64 * u64::from(bits.div_ceil(8));
    guard.decoded_bytes(size)?;

    let mut limits = Limits::unlimited();
    limits.decoding_buffer_size = guard.budget();
    limits.intermediate_buffer_size = guard.budget();
    limits.ifd_value_size = 1 << 20;
    let mut decoder = decoder.with_limits(limits);
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(failed)?;
    let planes = layout.planes;
    let pixels = match samples {
        DecodingResult::U8(packed) if bits < 8 => Pixels::U8(unpack(&packed, width, bits)),
        DecodingResult::U8(samples) => Pixels::U8(interleave(samples, planes)),
        DecodingResult::U16(samples) => Pixels::U16(interleave(samples, planes)),
        DecodingResult::F32(samples) => Pixels::F32(interleave(samples, planes)),
        _ => {
            return Err(guard.unsupported("samples that are neither 8 or 16 bits nor 32-bit float"));
        }
    };
    if pixels.len() as u64 != area * channels as u64 {
        return Err(guard.unsupported("channels beyond colour and alpha"));
    }
    let cmyk = matches!(color, ColorType::CMYK(_));
    let (channels, pixels) = match pixels {
        Pixels::U8(inks) if cmyk => (3, Pixels::U8(to_rgb(&inks, 255))),
        Pixels::U16(inks) if cmyk => (3, Pixels::U16(to_rgb(&inks, 65535))),
        pixels => (channels, pixels),
    };
    Ok(Raw {
        image: Image::new(width, height, channels, pixels)?,
        palette: false,
        cmyk,
        orientation,
        frames,
    })
}

/// The number of pages. A chain of directories that never ends runs into the limit.
fn pages(decoder: &mut Tiff<'_>, guard: &Guard<'_>) -> Result<u32> {
    let mut pages = 0;
    let mut directory = decoder.ifd_pointer();
    while let Some(at) = directory {
        pages += 1;
        guard.frames(pages)?;
        directory = decoder
            .read_directory(at)
            .map_err(|e| failed(guard, e))?
            .next();
    }
    Ok(pages.max(1))
}

/// Samples of 1, 2 or 4 bits, widened to the range of a byte; rows start at whole bytes.
fn unpack(packed: &[u8], width: usize, bits: u8) -> Vec<u8> {
    let per_byte = 8 / usize::from(bits);
    let largest = (1u8 << bits) - 1;
    packed
        .chunks_exact(width.div_ceil(per_byte))
        .flat_map(|row| {
            (0..width).map(move |x| {
                let shift = 8 - bits * (x % per_byte + 1) as u8;
                ((row[x / per_byte] >> shift) & largest) * (255 / largest)
            })
        })
        .collect()
}

/// Samples stored one plane after the other, interleaved.
fn interleave<T: Copy>(samples: Vec<T>, planes: usize) -> Vec<T> {
    if planes < 2 {
        return samples;
    }
    let area = samples.len() / planes;
    let mut out = Vec::with_capacity(samples.len());
    for at in 0..area {
        out.extend((0..planes).map(|plane| samples[plane * area + at]));
    }
    out
}

/// Inks as light: each colour is what its ink and black let through.
fn to_rgb<T: Copy + Into<u32> + TryFrom<u32> + Default>(inks: &[T], full: u32) -> Vec<T> {
    let mut out = Vec::with_capacity(inks.len() / 4 * 3);
    for &[c, m, y, k] in inks.as_chunks::<4>().0 {
        let through = |ink: T| {
            let (ink, black): (u32, u32) = (ink.into(), k.into());
            let light = u64::from(full - ink) * u64::from(full - black);
            // At most `full`, which fits the sample.
            T::try_from(((light + u64::from(full) / 2) / u64::from(full)) as u32)
                .unwrap_or_default()
        };
        out.extend([through(c), through(m), through(y)]);
    }
    out
}

/// The refusal that a decoding error amounts to.
fn failed(guard: &Guard<'_>, error: TiffError) -> ImageError {
    match error {
        TiffError::UnsupportedError(what) => guard.unsupported(what),
        TiffError::LimitsExceeded => guard.over_budget(),
        TiffError::IoError(source) => guard.failed(&source),
        other => guard.failed(&other),
    }
}

#[cfg(test)]
mod tests {
    use ::tiff::encoder::{TiffEncoder, colortype};

    use super::*;
    use crate::decode::{Decoded, Limits as Bounds, safe_decode};
    use crate::encode::encode;
    use crate::format::Format;
    use crate::image::Depth;

    fn decode(bytes: &[u8]) -> Decoded {
        safe_decode(bytes, "a.tif", &Bounds::cli()).unwrap()
    }

    #[test]
    fn depths_are_kept() {
        for channels in 1..=4 {
            let n = 6 * channels;
            for pixels in [
                Pixels::U8((0..n).map(|i| i as u8 * 10).collect()),
                Pixels::U16((0..n).map(|i| i as u16 * 2500).collect()),
                Pixels::F32((0..n).map(|i| i as f32 / 16.0).collect()),
            ] {
                let image = Image::new(3, 2, channels, pixels).unwrap();
                let decoded = decode(&encode(&image, Format::Tiff).unwrap());
                assert_eq!(decoded.image, image);
                assert_eq!(decoded.facts.depth, image.depth());
                assert_eq!(decoded.facts.channels, channels);
            }
        }
    }

    #[test]
    fn inks_become_light_and_pages_are_counted() {
        let mut file = Cursor::new(Vec::<u8>::new());
        {
            let mut encoder = TiffEncoder::new(&mut file).unwrap();
            let inks = [0, 255, 128, 64];
            encoder
                .write_image::<colortype::CMYK8>(1, 1, &inks)
                .unwrap();
            encoder.write_image::<colortype::Gray8>(1, 1, &[7]).unwrap();
        }
        let decoded = decode(&file.into_inner());
        assert!(decoded.facts.cmyk);
        assert_eq!(decoded.facts.frames, 2);
        // 255 * 191 / 255, 0 * 191 / 255, 127 * 191 / 255.
        assert_eq!(decoded.image.pixels(), &Pixels::U8(vec![191, 0, 95]));
    }

    #[test]
    fn orientation_is_read() {
        let mut file = Cursor::new(Vec::<u8>::new());
        {
            let mut encoder = TiffEncoder::new(&mut file).unwrap();
            let mut page = encoder.new_image::<colortype::Gray8>(2, 1).unwrap();
            page.encoder().write_tag(Tag::Orientation, 3u16).unwrap();
            page.write_data(&[1, 2]).unwrap();
        }
        let decoded = decode(&file.into_inner());
        assert_eq!(decoded.facts.orientation, 3);
        assert_eq!(decoded.image.pixels(), &Pixels::U8(vec![2, 1]));
    }

    #[test]
    fn few_bits_are_widened() {
        assert_eq!(
            unpack(&[0b1010_0000, 0b0100_0000], 3, 1),
            [255, 0, 255, 0, 255, 0]
        );
        assert_eq!(unpack(&[0b0001_1011], 4, 2), [0, 85, 170, 255]);
        assert_eq!(unpack(&[0x1F, 0xA0], 3, 4), [17, 255, 170]);
    }

    #[test]
    fn planes_are_interleaved() {
        assert_eq!(interleave(vec![1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
        assert_eq!(interleave(vec![1, 2, 3], 1), [1, 2, 3]);
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        let pixels = Pixels::F32(vec![0.5, f32::NAN]);
        let image = Image::new(2, 1, 1, pixels).unwrap();
        assert_eq!(image.depth(), Depth::Float32);
        let bytes = encode(&image, Format::Tiff).unwrap();
        let error = safe_decode(&bytes, "nan.tif", &Bounds::cli())
            .unwrap_err()
            .to_string();
        assert!(error.contains("NaN"), "{error}");
    }
}
