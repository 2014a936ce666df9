//! Encoding, and pictures written to files.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use ::image::ExtendedColorType;
use ::image::codecs::bmp::BmpEncoder;
use ::image::codecs::jpeg::JpegEncoder;
use ::image::codecs::webp::WebPEncoder;
use ::png::{BitDepth, ColorType, Compression, Encoder};
use ::tiff::TiffResult;
use ::tiff::encoder::{TiffEncoder, TiffValue, colortype};
use ::tiff::tags::ExtraSamples;

use crate::atomic::write_atomic;
use crate::error::{ImageError, Result};
use crate::format::Format;
use crate::image::{Image, Pixels, Sample};

/// Quality of JPEG files, of 100.
const JPEG_QUALITY: u8 = 95;

/// A PNG of 8 or 16 bits; a float picture is stored with 16, its unit range clamped and rounded.
/// The same picture always gives the same bytes.
///
/// # Errors
/// [`ImageError::Shape`] when a float is NaN or a side does not fit 32 bits.
pub fn encode_png(image: &Image) -> Result<Vec<u8>> {
    let (width, height) = image.sides()?;
    let (depth, data) = match image.pixels() {
        Pixels::U8(samples) => (BitDepth::Eight, Cow::Borrowed(samples.as_slice())),
        Pixels::U16(samples) => (BitDepth::Sixteen, Cow::Owned(big_endian(samples))),
        Pixels::F32(samples) => {
            if samples.iter().any(|sample| sample.is_nan()) {
                return Err(ImageError::Shape(
                    "a picture with NaN cannot be stored as PNG".to_owned(),
                ));
            }
            let samples: Vec<u16> = samples.iter().map(|&s| u16::from_unit(s)).collect();
            (BitDepth::Sixteen, Cow::Owned(big_endian(&samples)))
        }
    };
    let mut out: Vec<u8> = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    encoder.set_color(png_color(image.channels()));
    encoder.set_depth(depth);
    // This level has a compressor of its own, so the bytes do not depend on how flate2 is built.
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(|e| failed(Format::Png, e))?;
    writer
        .write_image_data(&data)
        .map_err(|e| failed(Format::Png, e))?;
    writer.finish().map_err(|e| failed(Format::Png, e))?;
    Ok(out)
}

/// The picture in the given format. PNG, TIFF and PNM keep 16 bits, TIFF keeps floats, WebP is
/// lossless, JPEG has quality 95.
///
/// # Errors
/// [`ImageError::Shape`] when the format cannot hold the depth or channels of the picture; nothing
/// is converted silently. GIF is written by [`encode_gif`](crate::encode_gif).
pub fn encode(image: &Image, format: Format) -> Result<Vec<u8>> {
    let (width, height) = image.sides()?;
    let mut out: Vec<u8> = Vec::new();
    match (format, image.pixels(), image.channels()) {
        (Format::Png, _, _) => return encode_png(image),
        (Format::Tiff, _, _) => {
            tiff(image, width, height, &mut out).map_err(|e| failed(format, e))?;
        }
        (Format::Jpeg, Pixels::U8(samples), 1 | 3) => {
            JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)
                .encode(samples, width, height, color_8_bit(image.channels()))
                .map_err(|e| failed(format, e))?;
        }
        (Format::WebP, Pixels::U8(samples), _) => {
            WebPEncoder::new_lossless(&mut out)
                .encode(samples, width, height, color_8_bit(image.channels()))
                .map_err(|e| failed(format, e))?;
        }
        (Format::Bmp, Pixels::U8(samples), 1 | 3 | 4) => {
            BmpEncoder::new(&mut out)
                .encode(samples, width, height, color_8_bit(image.channels()))
                .map_err(|e| failed(format, e))?;
        }
        (Format::Pnm, Pixels::U8(samples), 1 | 3) => {
            out.extend(pnm_header(image, 255));
            out.extend_from_slice(samples);
        }
        (Format::Pnm, Pixels::U16(samples), 1 | 3) => {
            out.extend(pnm_header(image, 65535));
            out.extend(big_endian(samples));
        }
        (Format::Gif, _, _) => {
            return Err(ImageError::Shape(
                "GIF is written for animations only; store a picture as PNG".to_owned(),
            ));
        }
        _ => {
            return Err(ImageError::Shape(format!(
                "{format} cannot hold a {} picture with {} channels; write PNG or TIFF, or convert \
                 it first",
                image.depth(),
                image.channels()
            )));
        }
    }
    Ok(out)
}

/// Writes the picture in the format of the path's extension: png, jpg, webp, tiff, bmp, ppm
/// (colour) or pgm (grey). The file appears whole or not at all.
///
/// # Errors
/// [`ImageError::Shape`] when the extension is unknown or its format cannot hold the picture,
/// [`ImageError::Io`] when the file cannot be written.
pub fn write(image: &Image, path: &Path) -> Result<()> {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let extension = extension.to_ascii_lowercase();
    let format = match (extension.as_str(), Format::from_extension(&extension)) {
        ("pgm", _) if image.channels() != 1 => None,
        ("ppm", _) if image.channels() != 3 => None,
        ("pbm" | "pam", _) => None,
        (_, format) => format,
    };
    let Some(format) = format else {
        return Err(ImageError::Shape(format!(
            "{}: this name does not say how to store a picture of {} channels; end it in .png, \
             .jpg, .webp, .tiff, .bmp, .ppm (colour) or .pgm (grey)",
            path.display(),
            image.channels()
        )));
    };
    let bytes = encode(image, format)
        .map_err(|error| ImageError::Shape(format!("{}: {error}", path.display())))?;
    write_atomic(path, &bytes)
}

/// A TIFF of one uncompressed page.
fn tiff(image: &Image, width: u32, height: u32, out: &mut Vec<u8>) -> TiffResult<()> {
    let size = (width, height);
    match (image.pixels(), image.channels()) {
        (Pixels::U8(samples), 1 | 2) => page::<colortype::Gray8>(samples, size, image, out),
        (Pixels::U8(samples), 3) => page::<colortype::RGB8>(samples, size, image, out),
        (Pixels::U8(samples), _) => page::<colortype::RGBA8>(samples, size, image, out),
        (Pixels::U16(samples), 1 | 2) => page::<colortype::Gray16>(samples, size, image, out),
        (Pixels::U16(samples), 3) => page::<colortype::RGB16>(samples, size, image, out),
        (Pixels::U16(samples), _) => page::<colortype::RGBA16>(samples, size, image, out),
        (Pixels::F32(samples), 1 | 2) => page::<colortype::Gray32Float>(samples, size, image, out),
        (Pixels::F32(samples), 3) => page::<colortype::RGB32Float>(samples, size, image, out),
        (Pixels::F32(samples), _) => page::<colortype::RGBA32Float>(samples, size, image, out),
    }
}

/// A TIFF page of colour type `C`; the alpha of grey pictures is an extra sample.
fn page<C: colortype::ColorType>(
    samples: &[C::Inner],
    (width, height): (u32, u32),
    image: &Image,
    out: &mut Vec<u8>,
) -> TiffResult<()>
where
    [C::Inner]: TiffValue,
{
    let mut encoder = TiffEncoder::new(Cursor::new(out))?;
    let mut page = encoder.new_image::<C>(width, height)?;
    if image.channels() == 2 {
        page.extra_samples(&[ExtraSamples::UnassociatedAlpha])?;
    }
    page.write_data(samples)
}

/// The header of a binary PGM or PPM.
fn pnm_header(image: &Image, largest: u32) -> Vec<u8> {
    let magic = if image.channels() == 1 { "P5" } else { "P6" };
    format!("{magic}\n{} {}\n{largest}\n", image.width(), image.height()).into_bytes()
}

/// The samples as bytes, the high one first.
fn big_endian(samples: &[u16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_be_bytes()).collect()
}

/// The PNG colour type of a number of channels.
pub(crate) fn png_color(channels: usize) -> ColorType {
    match channels {
        1 => ColorType::Grayscale,
        2 => ColorType::GrayscaleAlpha,
        3 => ColorType::Rgb,
        _ => ColorType::Rgba,
    }
}

/// The colour type of the `image` crate for a number of 8-bit channels.
fn color_8_bit(channels: usize) -> ExtendedColorType {
    match channels {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    }
}

/// An encoder's refusal.
fn failed(format: Format, error: impl std::fmt::Display) -> ImageError {
    ImageError::Shape(format!("cannot store this picture as {format}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::tests::Folder;
    use crate::decode::{Limits, decode_file, safe_decode};

    fn image(channels: usize) -> Image {
        let samples = (0..6 * channels as u8).map(|i| i * 9).collect();
        Image::new(3, 2, channels, Pixels::U8(samples)).unwrap()
    }

    #[test]
    fn png_keeps_channels_and_depth_and_repeats_its_bytes() {
        for channels in 1..=4 {
            let bytes = image(channels);
            let words = (0..6 * channels as u16).map(|i| i * 2700).collect();
            let words = Image::new(3, 2, channels, Pixels::U16(words)).unwrap();
            for image in [bytes, words] {
                let png = encode_png(&image).unwrap();
                assert_eq!(png, encode_png(&image).unwrap());
                let decoded = safe_decode(&png, "a.png", &Limits::cli()).unwrap();
                assert_eq!(decoded.image, image);
            }
        }
        let floats = Image::new(2, 1, 1, Pixels::F32(vec![0.5, 7.0])).unwrap();
        let png = encode_png(&floats).unwrap();
        let decoded = safe_decode(&png, "a.png", &Limits::cli()).unwrap();
        assert_eq!(decoded.image.pixels(), &Pixels::U16(vec![32768, 65535]));
        let nan = Image::new(1, 1, 1, Pixels::F32(vec![f32::NAN])).unwrap();
        assert!(encode_png(&nan).is_err());
    }

    #[test]
    fn files_are_written_by_extension() {
        let folder = Folder::new("extension");
        for (name, channels) in [
            ("a.png", 4),
            ("b.webp", 3),
            ("c.tiff", 2),
            ("d.bmp", 3),
            ("e.ppm", 3),
            ("f.PGM", 1),
        ] {
            let path = folder.path().join(name);
            write(&image(channels), &path).unwrap();
            let decoded = decode_file(&path, &Limits::cli()).unwrap();
            assert_eq!(decoded.image, image(channels), "{name}");
            assert!(decoded.facts.extension_matches);
        }
        let grey = Image::new(16, 16, 1, Pixels::U8(vec![100; 256])).unwrap();
        let path = folder.path().join("g.jpg");
        write(&grey, &path).unwrap();
        assert_eq!(decode_file(&path, &Limits::cli()).unwrap().image, grey);
        for (name, channels) in [
            ("a.jpg", 4),
            ("a.pgm", 3),
            ("a.bmp", 2),
            ("a.gif", 3),
            ("a", 1),
        ] {
            let error = write(&image(channels), &folder.path().join(name)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(
            folder.entries(),
            [
                "a.png", "b.webp", "c.tiff", "d.bmp", "e.ppm", "f.PGM", "g.jpg"
            ]
        );
    }
}
