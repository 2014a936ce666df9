//! The file formats this crate reads and writes.

use std::fmt;

/// A picture format. The first bytes of a file decide; its name is only a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Portable Network Graphics, animated ones included.
    Png,
    /// JPEG in a JFIF, EXIF or Adobe wrapper.
    Jpeg,
    /// WebP, lossy, lossless or animated.
    WebP,
    /// TIFF and BigTIFF.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// Netpbm: PBM, PGM, PPM and PAM.
    Pnm,
    /// GIF 87a and 89a.
    Gif,
}

impl Format {
    /// The format whose signature starts `bytes`, if any.
    pub fn from_magic(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Self::Pnm),
            [b'B', b'M', ..] => Some(Self::Bmp),
            _ => None,
        }
    }

    /// The format that a file name extension claims, without its dot and in any case.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" | "apng" => Some(Self::Png),
            "jpg" | "jpeg" | "jpe" | "jfif" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            "tif" | "tiff" => Some(Self::Tiff),
            "bmp" | "dib" => Some(Self::Bmp),
            "pnm" | "pbm" | "pgm" | "ppm" | "pam" => Some(Self::Pnm),
            "gif" => Some(Self::Gif),
            _ => None,
        }
    }

    /// The name of the format as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Pnm => "PNM",
            Self::Gif => "GIF",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_decide() {
        // Signatures of the format specifications.
        for (bytes, format) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], Some(Format::Png)),
            (b"\xff\xd8\xff\xe0", Some(Format::Jpeg)),
            (b"RIFF\x10\0\0\0WEBPVP8L", Some(Format::WebP)),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"II*\0\x08\0\0\0", Some(Format::Tiff)),
            (b"MM\0*\0\0\0\x08", Some(Format::Tiff)),
            (b"GIF89a", Some(Format::Gif)),
            (b"BM\0\0", Some(Format::Bmp)),
            (b"P5\n2 2\n255\n", Some(Format::Pnm)),
            (b"P8 was a plane", None),
            (b"", None),
        ] {
            assert_eq!(Format::from_magic(bytes), format, "{bytes:?}");
        }
    }

    #[test]
    fn extensions_claim() {
        assert_eq!(Format::from_extension("JPeG"), Some(Format::Jpeg));
        assert_eq!(Format::from_extension("pgm"), Some(Format::Pnm));
        assert_eq!(Format::from_extension("txt"), None);
    }
}
