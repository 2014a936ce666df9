//! The limits of one decoding, the buffers it may have, and the refusals it makes.

use std::error::Error;
use std::fmt::Display;
use std::io;

use ::image::metadata::Orientation;
use ::image::{ImageDecoder, ImageError as CodecError};

use crate::decode::Limits;
use crate::error::{ImageError, Result};
use crate::format::Format;
use crate::image::{Image, Pixels};

/// What a format's decoder found, before the orientation is applied.
pub(super) struct Raw {
    pub(super) image: Image,
    pub(super) palette: bool,
    pub(super) cmyk: bool,
    /// EXIF orientation, 1 to 8.
    pub(super) orientation: u8,
    pub(super) frames: u32,
}

impl Raw {
    /// A single picture without any peculiarity.
    pub(super) fn plain(image: Image) -> Self {
        Self {
            image,
            palette: false,
            cmyk: false,
            orientation: 1,
            frames: 1,
        }
    }
}

/// The limits of one decoding with the name and format its messages need.
pub(super) struct Guard<'a> {
    pub(super) name: &'a str,
    pub(super) format: Format,
    pub(super) limits: &'a Limits,
}

impl Guard<'_> {
    /// A refusal of this file.
    pub(super) fn refuse(&self, reason: impl Display, remedy: impl Into<String>) -> ImageError {
        ImageError::refused(self.name, format!("this {} {reason}", self.format), remedy)
    }

    /// The refusal of a file whose bytes break the rules of its format.
    pub(super) fn corrupt(&self, what: impl Display) -> ImageError {
        self.refuse(
            format_args!("is corrupt: {what}"),
            "fetch or export the file again, or remove it",
        )
    }

    /// The refusal of a file that ends before its format says so.
    pub(super) fn truncated(&self) -> ImageError {
        self.refuse(
            "is truncated: the file ends too early",
            "fetch or export the file again, or remove it",
        )
    }

    /// The refusal of a kind of picture that the format allows and this crate does not read.
    pub(super) fn unsupported(&self, what: impl Display) -> ImageError {
        self.refuse(
            format_args!("is of a kind that is not read: {what}"),
            "convert it to an 8-bit or 16-bit PNG",
        )
    }

    /// The refusal of a file whose decoding asks for more memory than allowed.
    pub(super) fn over_budget(&self) -> ImageError {
        self.refuse(
            "needs more memory than the limit max_decoded_bytes",
            "use a smaller picture or raise that limit",
        )
    }

    /// The refusal that a decoder's error amounts to.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) -> ImageError {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            if let Some(failure) = inner.downcast_ref::<io::Error>()
                && failure.kind() == io::ErrorKind::UnexpectedEof
            {
                return self.truncated();
            }
            cause = inner.source();
        }
        self.corrupt(error)
    }

    /// The refusal that an error of the `image` crate amounts to.
    pub(super) fn codec(&self, error: CodecError) -> ImageError {
        match error {
            CodecError::Unsupported(what) => self.unsupported(what),
            CodecError::Limits(_) => self.over_budget(),
            CodecError::IoError(source) => self.failed(&source),
            other => self.failed(&other),
        }
    }

    /// Checks the declared size before anything of that size exists.
    pub(super) fn size(&self, width: u32, height: u32) -> Result<()> {
        let remedy = "use a smaller picture or raise that limit";
        if width == 0 || height == 0 {
            return Err(self.corrupt(format_args!("it declares {width}x{height} pixels")));
        }
        let longest = width.max(height);
        if longest > self.limits.max_side {
            return Err(self.refuse(
                format_args!(
                    "declares {width}x{height} pixels; a side is over the limit max_side = {}",
                    self.limits.max_side
                ),
                remedy,
            ));
        }
        if u64::from(width) * u64::from(height) > self.limits.max_pixels {
            return Err(self.refuse(
                format_args!(
                    "declares {width}x{height} pixels, over the limit max_pixels = {}",
                    self.limits.max_pixels
                ),
                remedy,
            ));
        }
        Ok(())
    }

    /// Checks the number of frames.
    pub(super) fn frames(&self, frames: u32) -> Result<()> {
        if frames > self.limits.max_frames {
            return Err(self.refuse(
                format_args!(
                    "has {frames} frames or more, over the limit max_frames = {}",
                    self.limits.max_frames
                ),
                "split it or raise that limit",
            ));
        }
        Ok(())
    }

    /// Checks the bytes of the decoded picture.
    pub(super) fn decoded_bytes(&self, bytes: u64) -> Result<()> {
        if bytes > self.limits.max_decoded_bytes {
            return Err(self.refuse(
                format_args!(
                    "needs {bytes} bytes decoded, over the limit max_decoded_bytes = {}",
                    self.limits.max_decoded_bytes
                ),
                "use a smaller picture or raise that limit",
            ));
        }
        Ok(())
    }

    /// The byte budget as a size of memory.
    pub(super) fn budget(&self) -> usize {
        usize::try_from(self.limits.max_decoded_bytes).unwrap_or(usize::MAX)
    }

    /// A zeroed buffer within the budget.
    pub(super) fn buffer(&self, bytes: u64) -> Result<Vec<u8>> {
        self.decoded_bytes(bytes)?;
        let mut buffer = Vec::new();
        let length = usize::try_from(bytes)
            .ok()
            .filter(|&length| buffer.try_reserve_exact(length).is_ok());
        let Some(length) = length else {
            return Err(self.refuse(
                format_args!("needs {bytes} bytes decoded, more than this machine can give"),
                "use a smaller picture or free some memory",
            ));
        };
        buffer.resize(length, 0);
        Ok(buffer)
    }

    /// The picture of a decoder of the `image` crate, with every check on the way.
    pub(super) fn read(&self, mut decoder: impl ImageDecoder) -> Result<Image> {
        let (width, height) = decoder.dimensions();
        self.size(width, height)?;
        self.frames(1)?;
        let mut buffer = self.buffer(decoder.total_bytes())?;
        let mut limits = ::image::Limits::no_limits();
        limits.max_image_width = Some(self.limits.max_side);
        limits.max_image_height = Some(self.limits.max_side);
        limits.max_alloc = Some(self.limits.max_decoded_bytes);
        decoder.set_limits(limits).map_err(|e| self.codec(e))?;
        let color = decoder.color_type();
        decoder.read_image(&mut buffer).map_err(|e| self.codec(e))?;
        let channels = usize::from(color.channel_count());
        let pixels = match usize::from(color.bytes_per_pixel()) / channels {
            1 => Pixels::U8(buffer),
            2 => Pixels::U16(words(&buffer, u16::from_ne_bytes)),
            _ => Pixels::F32(words(&buffer, f32::from_ne_bytes)),
        };
        Image::new(width as usize, height as usize, channels, pixels)
    }
}

/// The EXIF orientation that a decoder of the `image` crate reports, 1 where there is none.
pub(super) fn orientation(decoder: &mut impl ImageDecoder) -> u8 {
    decoder.orientation().map_or(1, Orientation::to_exif)
}

/// The orientation in a raw EXIF block, 1 where there is none.
pub(super) fn exif_orientation(exif: Option<&[u8]>) -> u8 {
    exif.and_then(Orientation::from_exif_chunk)
        .map_or(1, Orientation::to_exif)
}

/// Samples of `N` bytes each.
pub(super) fn words<const N: usize, T>(bytes: &[u8], sample: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&b| sample(b))
        .collect()
}
