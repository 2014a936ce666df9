//! Antialiased resizing and cropping.

mod exact;

pub use exact::{ResizeRule, pil_bicubic, tf1_bilinear, torch_bilinear, torch_bilinear_antialias};

use std::fmt;
use std::str::FromStr;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{
    F32, F32x2, F32x3, F32x4, InnerPixel, U8, U8x2, U8x3, U8x4, U16, U16x2, U16x3, U16x4,
};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// The kernel of a resize. All but [`Nearest`](Self::Nearest) widen with the reduction, as
/// Pillow's do, so that a reduced picture has no aliasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The pixel under the centre.
    Nearest,
    /// A triangle, two pixels wide.
    #[default]
    Bilinear,
    /// Catmull-Rom's cubic (a = -0.5), four pixels wide.
    Bicubic,
    /// A sinc windowed by a sinc, six pixels wide.
    Lanczos3,
}

impl Filter {
    /// Every filter, in the order of their cost.
    pub const ALL: [Self; 4] = [Self::Nearest, Self::Bilinear, Self::Bicubic, Self::Lanczos3];

    /// The name in settings files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos3 => "lanczos3",
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Filter {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|filter| filter.name() == name)
            .ok_or_else(|| {
                ImageError::Shape(format!(
                    "there is no filter \"{name}\"; choose nearest, bilinear, bicubic or lanczos3"
                ))
            })
    }
}

/// The picture at another size, with the same channels and depth. Colours are weighted by their
/// alpha, so that transparent pixels do not bleed.
///
/// # Errors
/// [`ImageError::Shape`] when a side is zero or does not fit 32 bits.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image> {
    let (from, to) = (
        image.sides()?,
        (u32::try_from(width), u32::try_from(height)),
    );
    let (Ok(to_width @ 1..), Ok(to_height @ 1..)) = to else {
        return Err(ImageError::Shape(format!(
            "an image cannot be resized to {width}x{height} pixels"
        )));
    };
    let to = (to_width, to_height);
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(true);
    let pixels = match (image.pixels(), image.channels()) {
        (Pixels::U8(samples), 1) => Pixels::U8(scale::<U8>(samples, from, to, &options)?),
        (Pixels::U8(samples), 2) => Pixels::U8(scale::<U8x2>(samples, from, to, &options)?),
        (Pixels::U8(samples), 3) => Pixels::U8(scale::<U8x3>(samples, from, to, &options)?),
        (Pixels::U8(samples), _) => Pixels::U8(scale::<U8x4>(samples, from, to, &options)?),
        (Pixels::U16(samples), 1) => Pixels::U16(scale::<U16>(samples, from, to, &options)?),
        (Pixels::U16(samples), 2) => Pixels::U16(scale::<U16x2>(samples, from, to, &options)?),
        (Pixels::U16(samples), 3) => Pixels::U16(scale::<U16x3>(samples, from, to, &options)?),
        (Pixels::U16(samples), _) => Pixels::U16(scale::<U16x4>(samples, from, to, &options)?),
        (Pixels::F32(samples), 1) => Pixels::F32(scale::<F32>(samples, from, to, &options)?),
        (Pixels::F32(samples), 2) => Pixels::F32(scale::<F32x2>(samples, from, to, &options)?),
        (Pixels::F32(samples), 3) => Pixels::F32(scale::<F32x3>(samples, from, to, &options)?),
        (Pixels::F32(samples), _) => Pixels::F32(scale::<F32x4>(samples, from, to, &options)?),
    };
    Image::new(width, height, image.channels(), pixels)
}

/// Resizes samples of pixel type `P` between sizes given as (width, height).
fn scale<P: PixelTrait + InnerPixel>(
    samples: &[<P as InnerPixel>::Component],
    from: (u32, u32),
    to: (u32, u32),
    options: &ResizeOptions,
) -> Result<Vec<<P as InnerPixel>::Component>> {
    let failed = |error: &dyn fmt::Display| ImageError::Shape(format!("resizing failed: {error}"));
    let mut source = vec![P::empty(); from.0 as usize * from.1 as usize];
    P::components_mut(&mut source).copy_from_slice(samples);
    let source = TypedImageRef::new(from.0, from.1, &source).map_err(|e| failed(&e))?;
    let mut target = TypedImage::<P>::new(to.0, to.1);
    Resizer::new()
        .resize_typed(&source, &mut target, options)
        .map_err(|e| failed(&e))?;
    Ok(P::components(target.pixels()).to_vec())
}

/// The part of the picture whose top left pixel is (`left`, `top`).
///
/// # Errors
/// [`ImageError::Shape`] when the part is empty or leaves the picture.
pub fn crop(image: &Image, left: usize, top: usize, width: usize, height: usize) -> Result<Image> {
    let inside = |start: usize, length: usize, whole: usize| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
    };
    if !inside(left, width, image.width()) || !inside(top, height, image.height()) {
        return Err(ImageError::Shape(format!(
            "{width}x{height} pixels at ({left}, {top}) are not inside an image of {}x{}",
            image.width(),
            image.height()
        )));
    }
    Ok(image.gather(width, height, |x, y| (left + x, top + y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6x4 grey pixels, 60 + (37 x + 53 y + 11 x y) mod 128.
    fn ramp() -> Vec<u8> {
        (0..24)
            .map(|i| (i % 6, i / 6))
            .map(|(x, y)| (60 + (x * 37 + y * 53 + x * y * 11) % 128) as u8)
            .collect()
    }

    fn bytes(width: usize, height: usize, channels: usize, samples: Vec<u8>) -> Image {
        Image::new(width, height, channels, Pixels::U8(samples)).unwrap()
    }

    fn samples(image: Image) -> Vec<u8> {
        match image.into_pixels() {
            Pixels::U8(samples) => samples,
            other => panic!("not bytes: {other:?}"),
        }
    }

    fn distance(a: &[u8], b: &[u8]) -> u8 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b)).max().unwrap()
    }

    #[test]
    fn bytes_agree_with_pillow() {
        // Image.resize of Pillow 13.0.0; it works in the other order of axes and rounds between.
        let image = bytes(6, 4, 1, ramp());
        let reduced: [(Filter, [u8; 6]); 4] = [
            (Filter::Nearest, [161, 129, 97, 161, 173, 185]),
            (Filter::Bilinear, [111, 128, 120, 129, 129, 131]),
            (Filter::Bicubic, [109, 130, 119, 131, 128, 132]),
            (Filter::Lanczos3, [107, 131, 118, 132, 128, 133]),
        ];
        for (filter, expected) in reduced {
            let ours = samples(resize(&image, 3, 2, filter).unwrap());
            assert!(distance(&ours, &expected) <= 1, "{filter}: {ours:?}");
        }
        #[rustfmt::skip]
        let stretched: [(Filter, [u8; 20]); 4] = [
            (Filter::Nearest, [60, 134, 171, 117, 113, 81, 129, 97, 166, 156, 87, 77, 166, 156, 87, 77, 91, 103, 173, 185]),
            (Filter::Bilinear, [74, 126, 137, 103, 114, 117, 139, 120, 136, 121, 127, 115, 133, 129, 124, 120, 117, 130, 146, 159]),
            (Filter::Bicubic, [68, 130, 139, 99, 115, 114, 144, 121, 142, 118, 127, 113, 134, 130, 121, 117, 116, 131, 146, 161]),
            (Filter::Lanczos3, [63, 135, 138, 95, 113, 115, 144, 124, 150, 110, 128, 114, 131, 129, 124, 117, 117, 135, 143, 162]),
        ];
        for (filter, expected) in stretched {
            let ours = samples(resize(&image, 4, 5, filter).unwrap());
            assert!(distance(&ours, &expected) <= 1, "{filter}: {ours:?}");
        }
    }

    #[test]
    fn floats_and_words_agree_with_pillow() {
        // The same pixels in mode "F" of Pillow 13.0.0, reduced to 3x2.
        for (filter, expected) in [
            (
                Filter::Bilinear,
                [111.612, 127.714, 120.306, 128.878, 128.5, 131.388],
            ),
            (
                Filter::Bicubic,
                [108.891, 129.554, 118.916, 130.669, 127.999, 132.5],
            ),
            (
                Filter::Lanczos3,
                [107.43, 130.93, 117.661, 131.901, 127.65, 133.583],
            ),
        ] {
            let floats = Pixels::F32(ramp().into_iter().map(f32::from).collect());
            let floats = resize(&Image::new(6, 4, 1, floats).unwrap(), 3, 2, filter).unwrap();
            let words = Pixels::U16(ramp().into_iter().map(|v| u16::from(v) * 257).collect());
            let words = resize(&Image::new(6, 4, 1, words).unwrap(), 3, 2, filter).unwrap();
            let (Pixels::F32(floats), Pixels::U16(words)) = (floats.pixels(), words.pixels())
            else {
                panic!("the depth changed");
            };
            for ((&float, &word), expected) in floats.iter().zip(words).zip(expected) {
                assert!((float - expected).abs() < 2e-3, "{filter}: {floats:?}");
                assert!(
                    (f32::from(word) / 257.0 - expected).abs() < 2e-2,
                    "{filter}: {words:?}"
                );
            }
        }
    }

    #[test]
    fn transparent_pixels_do_not_bleed() {
        // Image.resize of Pillow 13.0.0, mode RGBA, bilinear: green without alpha leaves no trace.
        let (red, clear) = ([255, 0, 0, 255], [0, 255, 0, 0]);
        let image = bytes(4, 1, 4, [red, red, clear, clear].concat());
        let ours = samples(resize(&image, 2, 1, Filter::Bilinear).unwrap());
        let expected = [255, 0, 0, 219, 255, 0, 0, 36];
        assert!(distance(&ours, &expected) <= 1, "{ours:?}");
    }

    #[test]
    fn sizes_are_checked_and_equal_sizes_copy() {
        let image = bytes(6, 4, 1, ramp());
        for filter in Filter::ALL {
            assert_eq!(resize(&image, 6, 4, filter).unwrap(), image);
            assert!(resize(&image, 0, 4, filter).is_err());
            assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        }
        assert!("box".parse::<Filter>().is_err());
    }

    #[test]
    fn crop_takes_the_part() {
        let image = bytes(3, 2, 1, vec![1, 2, 3, 4, 5, 6]);
        let part = crop(&image, 1, 0, 2, 2).unwrap();
        assert_eq!(samples(part), [2, 3, 5, 6]);
        for (left, top, width, height) in [
            (2, 0, 2, 1),
            (0, 0, 0, 1),
            (0, 2, 1, 1),
            (usize::MAX, 0, 2, 1),
        ] {
            assert!(crop(&image, left, top, width, height).is_err());
        }
    }
}
