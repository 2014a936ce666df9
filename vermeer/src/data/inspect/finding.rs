//! What one image of a data set turns out to be.

use sha2::{Digest, Sha256};
use vermeer_image::{Depth, Facts, Format, Image, Pixels};

use super::reason::Reason;
use crate::data::make::fits_png;
use crate::error::Result;

/// The result of looking at one image.
pub(super) struct Finding {
    /// None when it cannot be read.
    pub(super) picture: Option<Picture>,
    pub(super) reasons: Vec<Reason>,
}

/// What is compared between images.
pub(super) struct Picture {
    /// Width and height in pixels.
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
    pub(super) depth: Depth,
    /// The format of the file; none for what is no file of its own.
    pub(super) format: Option<Format>,
    /// A sha256 of the size, the depth and the pixels.
    pub(super) digest: [u8; 32],
}

impl Finding {
    /// Looks at an image, or at the reason why there is none.
    pub(super) fn new(read: Result<(Image, Option<Facts>)>) -> Self {
        let (image, facts) = match read {
            Ok(read) => read,
            Err(error) => {
                return Self {
                    picture: None,
                    reasons: vec![Reason::of_error(&error)],
                };
            }
        };
        let mut reasons = Vec::new();
        if let Some(facts) = &facts {
            if !facts.extension_matches {
                let format = facts.format.to_string();
                reasons.push(Reason::ExtensionMismatch { format });
            }
            if facts.cmyk {
                reasons.push(Reason::Cmyk);
            }
            if facts.orientation > 1 {
                let orientation = facts.orientation;
                reasons.push(Reason::Rotated { orientation });
            }
            if facts.frames > 1 {
                let frames = facts.frames;
                reasons.push(Reason::Animated { frames });
            }
            if facts.palette {
                reasons.push(Reason::Palette);
            }
        }
        if image.has_alpha() {
            reasons.push(Reason::Alpha);
        }
        match image.depth() {
            Depth::Bits8 => {}
            Depth::Bits16 => reasons.push(Reason::SixteenBit),
            Depth::Float32 => reasons.push(Reason::Float {
                unit: fits_png(&image),
            }),
        }
        let picture = Picture {
            size: [image.width(), image.height()],
            channels: image.channels(),
            depth: image.depth(),
            format: facts.map(|facts| facts.format),
            digest: digest(&image),
        };
        Self {
            picture: Some(picture),
            reasons,
        }
    }

    /// Whether a clean copy leaves the image out.
    pub(super) fn drops(&self) -> bool {
        self.reasons.iter().any(Reason::drops)
    }
}

impl Picture {
    /// Whether it has colour channels.
    pub(super) fn colour(&self) -> bool {
        self.channels >= 3
    }

    /// Its channels in words.
    pub(super) fn channel_names(&self) -> &'static str {
        match self.channels {
            1 => "grey",
            2 => "grey+alpha",
            3 => "RGB",
            _ => "RGBA",
        }
    }
}

/// A sha256 of the size, the depth and the pixels.
fn digest(image: &Image) -> [u8; 32] {
    let mut sum = Sha256::new();
    for side in [image.width(), image.height(), image.channels()] {
        sum.update((side as u64).to_le_bytes());
    }
    match image.pixels() {
        Pixels::U8(values) => {
            sum.update([1u8]);
            sum.update(values);
        }
        Pixels::U16(values) => {
            sum.update([2u8]);
            values
                .iter()
                .for_each(|value| sum.update(value.to_le_bytes()));
        }
        Pixels::F32(values) => {
            sum.update([4u8]);
            values
                .iter()
                .for_each(|value| sum.update(value.to_le_bytes()));
        }
    }
    sum.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pixels_of_another_shape_or_depth_are_not_equal() {
        let image = |width, height, channels, pixels| {
            digest(&Image::new(width, height, channels, pixels).unwrap())
        };
        let base = image(2, 3, 1, Pixels::U8(vec![7; 6]));
        assert_eq!(base, image(2, 3, 1, Pixels::U8(vec![7; 6])));
        for other in [
            image(3, 2, 1, Pixels::U8(vec![7; 6])),
            image(2, 1, 3, Pixels::U8(vec![7; 6])),
            image(2, 3, 1, Pixels::U16(vec![7; 6])),
            image(2, 3, 1, Pixels::F32(vec![7.0; 6])),
            image(2, 3, 1, Pixels::U8(vec![8; 6])),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn properties_of_pixels_are_named() {
        for (channels, pixels, expected) in [
            (1, Pixels::U8(vec![0]), vec![]),
            (2, Pixels::U8(vec![0; 2]), vec![Reason::Alpha]),
            (1, Pixels::U16(vec![0]), vec![Reason::SixteenBit]),
            (
                1,
                Pixels::F32(vec![1.0]),
                vec![Reason::Float { unit: true }],
            ),
            (
                1,
                Pixels::F32(vec![1.1]),
                vec![Reason::Float { unit: false }],
            ),
        ] {
            let image = Image::new(1, 1, channels, pixels).unwrap();
            assert_eq!(Finding::new(Ok((image, None))).reasons, expected);
        }
    }
}
