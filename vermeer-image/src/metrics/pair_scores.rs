//! Metrics of pairs of images, by the protocol that is asked for.

use burn::prelude::Device;

use crate::error::{ImageError, Result};
use crate::image::Image;
use crate::metrics::planes::check_pair;
use crate::metrics::{Lpips, Planes, mae, ms_ssim, mse, psnr_db, ssim};
use crate::{ImageBatch, Range};

/// How images of a pair are brought to numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairOptions {
    /// Compare the brightness Y of ITU-R BT.601 in 16 to 235, as super-resolution does, instead of
    /// the channels.
    pub luma: bool,
    /// Pixels left out at each border.
    pub shave: usize,
    /// Compare images of 16 bits and floats as they are, instead of rounded to bytes.
    pub float: bool,
}

impl PairOptions {
    /// What the name of a value says of the protocol, such as `_y_shave4`.
    pub fn suffix(&self) -> String {
        let mut suffix = String::from(if self.luma { "_y" } else { "_rgb" });
        if self.shave > 0 {
            suffix.push_str(&format!("_shave{}", self.shave));
        }
        if self.float {
            suffix.push_str("_float");
        }
        suffix
    }
}

/// An image and its original.
pub struct PairInput<'a> {
    /// The image that is judged.
    pub image: &'a Image,
    /// What it should be.
    pub original: &'a Image,
    /// How they are compared.
    pub options: PairOptions,
    /// The network of the perceptual distance, and where it computes.
    pub lpips: Option<(&'a Lpips, &'a Device)>,
}

impl PairInput<'_> {
    /// Both images as planes of 0..=255.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for alpha that is not opaque, sizes or channels that differ, and a
    /// shave that leaves nothing.
    pub fn planes(&self) -> Result<[Planes; 2]> {
        let read = [Planes::rgb(self.image)?, Planes::rgb(self.original)?];
        // Before the luma: that of a grey image has another scale than that of a coloured one.
        check_pair(&read[0], &read[1])?;
        let planes = |mut planes: Planes| -> Result<Planes> {
            if !self.options.float {
                planes.quantise();
            }
            if self.options.luma {
                planes = planes.into_luma();
            }
            match self.options.shave {
                0 => Ok(planes),
                pixels => planes.shave(pixels),
            }
        };
        let [image, original] = read;
        Ok([planes(image)?, planes(original)?])
    }
}

pub(super) fn psnr(input: &PairInput) -> Result<f64> {
    let [a, b] = input.planes()?;
    psnr_db(&a, &b)
}

pub(super) fn structural(input: &PairInput) -> Result<f64> {
    let [a, b] = input.planes()?;
    ssim(&a, &b)
}

pub(super) fn multi_scale(input: &PairInput) -> Result<f64> {
    let [a, b] = input.planes()?;
    ms_ssim(&a, &b)
}

pub(super) fn squared_error(input: &PairInput) -> Result<f64> {
    let [a, b] = input.planes()?;
    mse(&a, &b)
}

pub(super) fn absolute_error(input: &PairInput) -> Result<f64> {
    let [a, b] = input.planes()?;
    mae(&a, &b)
}

pub(super) fn perceptual(input: &PairInput) -> Result<f64> {
    let (lpips, device) = input.lpips.ok_or_else(|| {
        ImageError::Shape("lpips needs a network: give its weights with --lpips-weights".to_owned())
    })?;
    // Refuses what other metrics refuse: sizes, channels and alpha.
    input.planes()?;
    let batch = |image: &Image| -> Result<ImageBatch> {
        let image = image.with_channels(3, [0; 3])?.to_8_bit();
        ImageBatch::from_images(&[image], Range::Unit, device)
    };
    let distances = lpips.distance(&batch(input.image)?, &batch(input.original)?)?;
    Ok(distances.first().copied().map_or(f64::NAN, f64::from))
}
