//! Two mean spectra and their difference as a picture, with the peaks marked.

use vermeer_image::metrics::{Peak, Spectrum};
use vermeer_image::{Filter, Grid, Image, Pixels, resize};

use crate::Result;
use crate::evaluate::pictures::Canvas;

/// Small spectra are enlarged by a whole factor up to about this side, in pixels.
const COMFORTABLE: usize = 224;

/// Decibels of one unit of a spectrum, which is the natural logarithm of a power.
const DECIBELS: f64 = 10.0 / std::f64::consts::LN_10;

/// The full scale of the difference, at least, so that noise stays dark.
const SMALLEST_DB: f64 = 6.0;

/// The frame around a peak.
const MARK: [u8; 3] = [90, 255, 120];

/// Real spectrum, generated spectrum and the difference, side by side. The middle of each is
/// frequency 0, its edges half a cycle per pixel. The first two share one scale of greys; where the
/// generated spectrum has more power the difference is orange, where it has less it is blue, black
/// is equality. Frames mark the peaks and their negatives. The picture is 8-bit RGB.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) when the spectra have different sizes.
pub(super) fn panels(real: &Spectrum, generated: &Spectrum, peaks: &[Peak]) -> Result<Image> {
    let (ours, theirs) = (generated.log_power(), real.log_power());
    let both = || ours.iter().chain(theirs);
    let low = both().copied().fold(f64::INFINITY, f64::min);
    let high = both().copied().fold(f64::NEG_INFINITY, f64::max);
    let grey = |value: f64| {
        let level = (255.0 * (value - low) / (high - low).max(1e-9)).round() as u8;
        [level; 3]
    };
    let difference: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs) * DECIBELS)
        .collect();
    let scale = difference
        .iter()
        .fold(SMALLEST_DB, |most, value| most.max(value.abs()));
    let cells = [
        panel(real, |at| grey(theirs[at]), &[])?,
        panel(generated, |at| grey(ours[at]), peaks)?,
        panel(real, |at| tint(difference[at] / scale), peaks)?,
    ];
    let labels = [
        "real".to_owned(),
        "generated".to_owned(),
        format!("difference, +-{scale:.0} dB"),
    ];
    Ok(Grid::default()
        .with_columns(3)
        .with_padding(4)
        .draw(&cells, Some(&labels))?)
}

/// One spectrum with frequency 0 in the middle, and frames around peaks.
fn panel(spectrum: &Spectrum, colour: impl Fn(usize) -> [u8; 3], peaks: &[Peak]) -> Result<Image> {
    let (width, height) = (spectrum.width(), spectrum.height());
    let mut samples = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            // The middle pixel shows frequency 0.
            let (u, v) = (
                (x + width - width / 2) % width,
                (y + height - height / 2) % height,
            );
            samples.extend(colour(v * width + u));
        }
    }
    let small = Image::new(width, height, 3, Pixels::U8(samples))?;
    let factor = (COMFORTABLE / width.max(height)).max(1);
    let large = resize(&small, width * factor, height * factor, Filter::Nearest)?;
    let mut canvas = Canvas::over(&large)?;
    let reach = 2 * factor.max(2);
    for peak in peaks {
        for sign in [1.0, -1.0] {
            let x = place(sign * peak.x, width) * factor + factor / 2;
            let y = place(sign * peak.y, height) * factor + factor / 2;
            canvas.frame(
                [
                    x.saturating_sub(reach),
                    y.saturating_sub(reach),
                    x + reach + 1,
                    y + reach + 1,
                ],
                MARK,
            );
        }
    }
    canvas.image()
}

/// Where a frequency in cycles per pixel lies along a side of so many pixels.
fn place(frequency: f64, size: usize) -> usize {
    let steps = (frequency * size as f64).round() as isize + (size / 2) as isize;
    steps.rem_euclid(size as isize) as usize
}

/// The colour of a share of the scale, from -1 to 1.
fn tint(share: f64) -> [u8; 3] {
    let strength = share.abs().min(1.0);
    let level = |most: f64| (most * strength).round() as u8;
    if share > 0.0 {
        [level(255.0), level(150.0), level(40.0)]
    } else {
        [level(40.0), level(150.0), level(255.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grey images of 16×16: noise, and noise with a checkerboard of ±20 levels.
    fn spectra() -> (Spectrum, Spectrum) {
        let mut random = vermeer_image::metrics::NumpyRandom::new(3);
        let mut spectrum = |strength: usize| {
            let images: Vec<Image> = (0..4)
                .map(|_| {
                    let samples = (0..256)
                        .map(|at| (80 + random.below(64) + strength * ((at + at / 16) % 2)) as u8)
                        .collect();
                    Image::new(16, 16, 1, Pixels::U8(samples)).unwrap()
                })
                .collect();
            Spectrum::of(&images).unwrap()
        };
        (spectrum(0), spectrum(40))
    }

    #[test]
    fn frequencies_lie_around_the_middle() {
        for (frequency, size, expected) in [
            (0.0, 16, 8),
            (0.25, 16, 12),
            (-0.25, 16, 4),
            (0.5, 16, 0),
            (-0.5, 16, 0),
            (0.0, 5, 2),
            (0.4, 5, 4),
        ] {
            assert_eq!(place(frequency, size), expected, "{frequency} of {size}");
        }
    }

    #[test]
    fn a_checkerboard_stands_in_the_corner_and_is_framed() {
        let (real, generated) = spectra();
        let peak = Peak {
            x: 0.5,
            y: 0.5,
            rise_db: 20.0,
            z: 20.0,
        };
        let picture = panels(&real, &generated, &[peak]).unwrap();
        // Three panels of 16 times 14 pixels, and a strip of 9 for the labels.
        let side = 16 * 14;
        assert_eq!(
            (picture.width(), picture.height()),
            (3 * (side + 4) + 4, side + 9 + 8)
        );
        let Pixels::U8(bytes) = picture.pixels() else {
            panic!("not bytes")
        };
        let pixel = |x: usize, y: usize| {
            let at = (y * picture.width() + x) * 3;
            [bytes[at], bytes[at + 1], bytes[at + 2]]
        };
        // The corner of the difference has the full scale, and the frame ends beyond it.
        let left = 4 + 2 * (side + 4);
        assert_eq!(pixel(left + 7, 4 + 7), [255, 150, 40]);
        assert_eq!(pixel(left + 7 + 28, 4 + 7), MARK);
        assert_ne!(pixel(4 + 7 + 28, 4 + 7), MARK);
        assert_eq!(tint(-1.0), [40, 150, 255]);
        assert_eq!(tint(0.0), [0; 3]);
    }
}
