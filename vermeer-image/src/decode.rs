//! Decoding of untrusted bytes.
//!
//! The checks come in a fixed order, each before the cost it guards: the size of the file, the
//! signature, the sides, pixels and frames that the header declares, the bytes of the decoded
//! picture, and only then the memory and the decoding itself, which runs inside `catch_unwind`.
//! A file that ends before its format says so is refused, never half decoded.

mod bmp;
mod gif;
mod guard;
mod jpeg;
mod png;
mod pnm;
mod tiff;
mod webp;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::decode::guard::{Guard, Raw};
use crate::error::{ImageError, Result};
use crate::format::Format;
use crate::image::{Depth, Image, Pixels};

/// What a file may cost. A decoder can use a small multiple of the decoded bytes while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_file_bytes: u64,
    /// The longest side, in pixels.
    pub max_side: u32,
    /// The largest area, in pixels.
    pub max_pixels: u64,
    /// The largest decoded picture, in bytes.
    pub max_decoded_bytes: u64,
    /// The largest number of frames or pages.
    pub max_frames: u32,
}

impl Limits {
    /// Limits for files that the user named: 2 GiB, sides of 32,768, a gigapixel, 4 GiB decoded.
    pub fn cli() -> Self {
        Self {
            max_file_bytes: 2 << 30,
            max_side: 32_768,
            max_pixels: 1_000_000_000,
            max_decoded_bytes: 4 << 30,
            max_frames: 1000,
        }
    }

    /// Limits for uploads: 64 MiB, sides of 32,768, 64 megapixels, 512 MiB decoded.
    pub fn server() -> Self {
        Self {
            max_file_bytes: 64 << 20,
            max_side: 32_768,
            max_pixels: 64_000_000,
            max_decoded_bytes: 512 << 20,
            max_frames: 1000,
        }
    }
}

/// What a file was before it became an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The format, by signature.
    pub format: Format,
    /// Whether pixels were indices into a palette; a palette that is a plain grey ramp, as BMP
    /// uses for grey pictures, does not count.
    pub palette: bool,
    /// Whether the picture has an alpha channel or a transparent colour.
    pub alpha: bool,
    /// Whether the file held CMYK or YCCK, which was converted to RGB without a colour profile.
    pub cmyk: bool,
    /// The depth of the decoded picture; 1, 2 and 4 bits are widened to 8.
    pub depth: Depth,
    /// The channels of the decoded picture.
    pub channels: usize,
    /// The EXIF orientation, 1 to 8; it has been applied to the picture.
    pub orientation: u8,
    /// The number of frames or pages; the picture is the first.
    pub frames: u32,
    /// Whether the extension of the name fits the format; a name without extension fits.
    pub extension_matches: bool,
}

/// A decoded picture and what its file was.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The picture, upright, palette expanded, first frame.
    pub image: Image,
    /// What was met on the way.
    pub facts: Facts,
}

/// Decodes untrusted bytes under `limits`; `name` is the file name for messages and for the
/// comparison of extension and signature.
///
/// # Errors
/// [`ImageError::Refused`] for bytes that are empty, no picture, over a limit, truncated, corrupt
/// or of a kind that is not read; the message names the rule and the remedy.
pub fn safe_decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Decoded> {
    check_file_size(bytes.len() as u64, name, limits)?;
    let Some(format) = Format::from_magic(bytes) else {
        return Err(ImageError::refused(
            name,
            format!(
                "{} and is no PNG, JPEG, WebP, TIFF, BMP, PNM or GIF picture",
                describe_start(bytes)
            ),
            "convert it to one of these formats or remove it",
        ));
    };
    let guard = Guard {
        name,
        format,
        limits,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Png => png::decode(bytes, &guard),
        Format::Jpeg => jpeg::decode(bytes, &guard),
        Format::WebP => webp::decode(bytes, &guard),
        Format::Tiff => tiff::decode(bytes, &guard),
        Format::Bmp => bmp::decode(bytes, &guard),
        Format::Pnm => pnm::decode(bytes, &guard),
        Format::Gif => gif::decode(bytes, &guard),
    }));
    let Ok(raw) = outcome else {
        return Err(guard.corrupt("the decoder gave up on it"));
    };
    let Raw {
        image,
        palette,
        cmyk,
        orientation,
        frames,
    } = raw?;
    if let Pixels::F32(samples) = image.pixels()
        && samples.iter().any(|sample| !sample.is_finite())
    {
        return Err(guard.refuse(
            "holds values that are NaN or infinite",
            "replace them before using the picture",
        ));
    }
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    let facts = Facts {
        format,
        palette,
        alpha: image.has_alpha(),
        cmyk,
        depth: image.depth(),
        channels: image.channels(),
        orientation,
        frames,
        extension_matches: extension.is_none_or(|e| Format::from_extension(e) == Some(format)),
    };
    Ok(Decoded {
        image: upright(image, orientation),
        facts,
    })
}

/// Reads and decodes a file under `limits`; no more than the size limit is ever read.
///
/// # Errors
/// [`ImageError::Io`] when the file cannot be read, otherwise those of [`safe_decode`].
pub fn decode_file(path: &Path, limits: &Limits) -> Result<Decoded> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| ImageError::io(path, e))?;
    let size = file.metadata().map_err(|e| ImageError::io(path, e))?.len();
    // A size of zero says nothing about a pipe or a device; what is read decides.
    if size > 0 {
        check_file_size(size, &name, limits)?;
    }
    let mut bytes = Vec::new();
    file.take(limits.max_file_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| ImageError::io(path, e))?;
    safe_decode(&bytes, &name, limits)
}

/// Refuses files that are empty or larger than the limit.
fn check_file_size(size: u64, name: &str, limits: &Limits) -> Result<()> {
    if size == 0 {
        return Err(ImageError::refused(
            name,
            "the file is empty",
            "fetch it again or remove it",
        ));
    }
    if size > limits.max_file_bytes {
        return Err(ImageError::refused(
            name,
            format!(
                "the file has {size} bytes, over the limit max_file_bytes = {}",
                limits.max_file_bytes
            ),
            "use a smaller file or raise that limit",
        ));
    }
    Ok(())
}

/// What the first bytes of an unknown file look like.
fn describe_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(32)];
    if start
        .iter()
        .all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace())
    {
        "holds text".to_owned()
    } else {
        let hex: Vec<String> = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("starts with the bytes {}", hex.join(" "))
    }
}

/// The picture as the EXIF orientation says it should be seen.
fn upright(image: Image, orientation: u8) -> Image {
    let (w, h) = (image.width(), image.height());
    match orientation {
        2 => image.gather(w, h, |x, y| (w - 1 - x, y)),
        3 => image.gather(w, h, |x, y| (w - 1 - x, h - 1 - y)),
        4 => image.gather(w, h, |x, y| (x, h - 1 - y)),
        5 => image.gather(h, w, |x, y| (y, x)),
        6 => image.gather(h, w, |x, y| (y, h - 1 - x)),
        7 => image.gather(h, w, |x, y| (w - 1 - y, h - 1 - x)),
        8 => image.gather(h, w, |x, y| (w - 1 - y, x)),
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{encode, encode_png};

    fn grey(width: usize, height: usize, samples: &[u8]) -> Image {
        Image::new(width, height, 1, Pixels::U8(samples.to_vec())).unwrap()
    }

    fn refusal(bytes: &[u8], name: &str, limits: &Limits) -> String {
        match safe_decode(bytes, name, limits) {
            Err(error @ ImageError::Refused { .. }) => error.to_string(),
            other => panic!("{name} was not refused: {other:?}"),
        }
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        let limits = Limits::cli();
        for (bytes, name, rule) in [
            (&b""[..], "empty.png", "empty"),
            (b"just some words\n", "text.png", "holds text"),
            (b"\x00\x01\x02\x03", "noise.jpg", "00 01 02 03"),
            (b"\x89PNG\r\n\x1a\n", "stub.png", "ends too early"),
            (b"GIF89a", "stub.gif", "ends too early"),
            (b"BM", "stub.bmp", "ends too early"),
            (b"P5\n4 4\n255\nabc", "stub.pgm", "PNM"),
            (b"II*\0", "stub.tif", "ends too early"),
            (b"RIFF\x20\0\0\0WEBPVP8L", "stub.webp", "ends too early"),
        ] {
            let message = refusal(bytes, name, &limits);
            assert!(message.starts_with(name), "{message}");
            assert!(message.contains(rule), "{message}");
            assert!(message.contains("; "), "no remedy: {message}");
        }
    }

    #[test]
    fn every_limit_is_named() {
        let wide = encode_png(&grey(5, 2, &[7; 10])).unwrap();
        let free = Limits::cli();
        for (limits, rule) in [
            (
                Limits {
                    max_file_bytes: 20,
                    ..free
                },
                "max_file_bytes = 20",
            ),
            (
                Limits {
                    max_side: 4,
                    ..free
                },
                "max_side = 4",
            ),
            (
                Limits {
                    max_pixels: 9,
                    ..free
                },
                "max_pixels = 9",
            ),
            (
                Limits {
                    max_decoded_bytes: 9,
                    ..free
                },
                "max_decoded_bytes = 9",
            ),
            (
                Limits {
                    max_frames: 0,
                    ..free
                },
                "max_frames = 0",
            ),
        ] {
            let message = refusal(&wide, "wide.png", &limits);
            assert!(message.contains(rule), "{message}");
        }
        assert!(safe_decode(&wide, "wide.png", &free).is_ok());
    }

    #[test]
    fn truncation_is_found_in_every_format() {
        let noise: Vec<u8> = (0..48 * 48 * 3)
            .map(|i| (i * i * 31 / 7 % 251) as u8)
            .collect();
        let image = Image::new(48, 48, 3, Pixels::U8(noise)).unwrap();
        for format in [
            Format::Png,
            Format::Jpeg,
            Format::WebP,
            Format::Tiff,
            Format::Bmp,
            Format::Pnm,
        ] {
            let whole = encode(&image, format).unwrap();
            let limits = Limits::cli();
            let decoded = safe_decode(&whole, "whole", &limits).unwrap();
            assert_eq!(decoded.facts.format, format);
            assert_eq!((decoded.image.width(), decoded.image.height()), (48, 48));
            for kept in [whole.len() / 3, whole.len() - 12] {
                refusal(&whole[..kept], "cut", &limits);
            }
        }
    }

    #[test]
    fn extension_is_compared_with_the_signature() {
        let bytes = encode_png(&grey(1, 1, &[9])).unwrap();
        for (name, matches) in [
            ("a.png", true),
            ("a.PNG", true),
            ("a", true),
            ("a.jpg", false),
        ] {
            let facts = safe_decode(&bytes, name, &Limits::cli()).unwrap().facts;
            assert_eq!(facts.extension_matches, matches, "{name}");
        }
    }

    #[test]
    fn orientations_turn_the_picture_upright() {
        // The letter-like picture 1 2 / 3 4 / 5 6 and its eight views, turned by hand after the
        // EXIF 2.3 definition of tag 0x0112.
        let image = grey(2, 3, &[1, 2, 3, 4, 5, 6]);
        for (orientation, width, expected) in [
            (1, 2, [1, 2, 3, 4, 5, 6]),
            (2, 2, [2, 1, 4, 3, 6, 5]),
            (3, 2, [6, 5, 4, 3, 2, 1]),
            (4, 2, [5, 6, 3, 4, 1, 2]),
            (5, 3, [1, 3, 5, 2, 4, 6]),
            (6, 3, [5, 3, 1, 6, 4, 2]),
            (7, 3, [6, 4, 2, 5, 3, 1]),
            (8, 3, [2, 4, 6, 1, 3, 5]),
        ] {
            let seen = upright(image.clone(), orientation);
            assert_eq!(seen.width(), width);
            assert_eq!(
                seen.pixels(),
                &Pixels::U8(expected.to_vec()),
                "{orientation}"
            );
        }
    }

    #[test]
    fn missing_file_is_an_io_error() {
        let error = decode_file(Path::new("no/such/file.png"), &Limits::cli());
        assert!(matches!(error, Err(ImageError::Io { .. })));
    }
}
