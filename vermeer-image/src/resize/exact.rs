//! The resizes that published metrics put before their networks, in their own arithmetic.
//!
//! | rule | who | source position of output `i`, scale = in / out |
//! |---|---|---|
//! | `tf1-bilinear` | torch-fidelity, TensorFlow 1 | `i · scale`, two neighbours |
//! | `torch-bilinear` | pytorch-fid, `F.interpolate` | `(i + 1/2) · scale − 1/2`, two neighbours |
//! | `pil-bicubic` | clean-fid, Pillow in mode "F" | `(i + 1/2) · scale`, cubic (a = -1/2) window |
//! | `torch-bilinear-antialias` | torchmetrics, `F.interpolate(antialias=True)` | the same, triangle window |
//!
//! A window is as many times wider as the picture shrinks, so it averages what the first two
//! rules skip. All work on one axis after the other, the width first.
//!
//! Libraries have several routes to one picture, which differ in the last bits, by less than
//! 1e-4 of a grey level. Here PyTorch's is that of a processor with fused multiplication and
//! addition; it takes others for at most 128 rows and columns of output together, for three
//! channels on one thread, and for antialiased windows of more than four samples. Pillow's is
//! that of all versions before 13, which resizes the height first where it shrinks much more than
//! the width.

mod neighbours;
mod windows;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::resize::exact::neighbours::two_neighbours;
use crate::resize::exact::windows::{cubic_windows, triangle_windows, windowed};

/// A published way to resize. The module says how they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeRule {
    /// TensorFlow 1 without aligned corners, as torch-fidelity: [`tf1_bilinear`].
    Tf1Bilinear,
    /// PyTorch without antialiasing, as pytorch-fid: [`torch_bilinear`].
    TorchBilinear,
    /// Pillow on float channels, as clean-fid: [`pil_bicubic`].
    PilBicubic,
    /// PyTorch with antialiasing, as torchmetrics: [`torch_bilinear_antialias`].
    TorchBilinearAntialias,
}

impl ResizeRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [
        Self::Tf1Bilinear,
        Self::TorchBilinear,
        Self::PilBicubic,
        Self::TorchBilinearAntialias,
    ];

    /// The name in settings and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tf1Bilinear => "tf1-bilinear",
            Self::TorchBilinear => "torch-bilinear",
            Self::PilBicubic => "pil-bicubic",
            Self::TorchBilinearAntialias => "torch-bilinear-antialias",
        }
    }

    /// Resizes samples `[channels, height, width]` on the scale 0..=255 to `[height, width]`. Only
    /// `pil-bicubic` depends on that scale, to which it clips.
    ///
    /// # Panics
    /// When the samples do not have the shape, or a side is zero.
    pub fn apply(self, samples: &[f32], shape: [usize; 3], to: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Tf1Bilinear => tf1_bilinear(samples, shape, to),
            Self::TorchBilinear => torch_bilinear(samples, shape, to),
            Self::PilBicubic => pil_bicubic(samples, shape, to),
            Self::TorchBilinearAntialias => torch_bilinear_antialias(samples, shape, to),
        }
    }
}

impl fmt::Display for ResizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ResizeRule {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                ImageError::Shape(format!(
                    "there is no resize rule \"{name}\"; choose one of {names}"
                ))
            })
    }
}

/// TensorFlow 1's `resize_bilinear` without aligned corners: samples `[channels, height, width]`
/// to `[height, width]`. Positions and values are computed in f32; the last row and column
/// repeat themselves.
///
/// # Panics
/// When the samples do not have the shape, or a side is zero.
pub fn tf1_bilinear(samples: &[f32], shape: [usize; 3], to: [usize; 2]) -> Vec<f32> {
    let position = |i: usize, scale: f32| i as f32 * scale;
    two_neighbours(samples, shape, to, position, |low, high, share| {
        low + (high - low) * share
    })
}

/// PyTorch's `F.interpolate(mode="bilinear", align_corners=False)`: samples
/// `[channels, height, width]` of any scale to `[height, width]`, in f32.
///
/// # Panics
/// When the samples do not have the shape, or a side is zero.
pub fn torch_bilinear(samples: &[f32], shape: [usize; 3], to: [usize; 2]) -> Vec<f32> {
    let position = |i: usize, scale: f32| fused(scale, i as f32 + 0.5, -0.5).max(0.0);
    two_neighbours(samples, shape, to, position, |low, high, share| {
        fused(low, 1.0 - share, high * share)
    })
}

/// Pillow's bicubic resize of every channel as a float picture, clipped to 0..=255 but not
/// rounded, as clean-fid does: samples `[channels, height, width]` on 0..=255 to
/// `[height, width]`. Weights and sums are in f64, the values between the two axes in f32.
///
/// # Panics
/// When the samples do not have the shape, or a side is zero.
pub fn pil_bicubic(samples: &[f32], shape: [usize; 3], to: [usize; 2]) -> Vec<f32> {
    let mut out = windowed(samples, shape, to, cubic_windows, |sum| sum);
    for value in &mut out {
        *value = value.clamp(0.0, 255.0);
    }
    out
}

/// PyTorch's `F.interpolate(mode="bilinear", align_corners=False, antialias=True)`: samples
/// `[channels, height, width]` of any scale to `[height, width]`, in f32.
///
/// # Panics
/// When the samples do not have the shape, or a side is zero.
pub fn torch_bilinear_antialias(samples: &[f32], shape: [usize; 3], to: [usize; 2]) -> Vec<f32> {
    // Rounding every sum of an exact product makes the fused operation.
    windowed(samples, shape, to, triangle_windows, |sum| {
        f64::from(sum as f32)
    })
}

/// `a * b + c` rounded once. The product of two f32 is exact in f64, and `f32::mul_add` is a slow
/// call where the processor is not known to have the instruction.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

/// Fails unless there is something to resize, and something to resize to.
fn assert_sizes(samples: &[f32], [channels, height, width]: [usize; 3], to: [usize; 2]) {
    assert_eq!(
        samples.len(),
        channels * height * width,
        "samples are not [{channels}, {height}, {width}]"
    );
    assert!(
        !samples.is_empty() && to[0] > 0 && to[1] > 0,
        "[{channels}, {height}, {width}] cannot be resized to {to:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(what: &str, ours: &[f32], expected: &[f32]) {
        assert_eq!(ours.len(), expected.len(), "{what}");
        for (a, b) in ours.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{what}: {ours:?}, not {expected:?}");
        }
    }

    #[test]
    fn doubling_a_pair_by_hand() {
        // Positions 0, 1/2, 1, 3/2 and, with half-pixel centres, -1/4, 1/4, 3/4, 5/4. The cubic
        // kernel is 0.8671875 at 1/4 and -0.0703125 at 5/4, 0.2265625 at 3/4: 100 times their
        // shares of two are -8.82 (clipped), 20.714286, 79.285714, 108.823529.
        for (rule, expected) in [
            (ResizeRule::Tf1Bilinear, [0.0, 50.0, 100.0, 100.0]),
            (ResizeRule::TorchBilinear, [0.0, 25.0, 75.0, 100.0]),
            (ResizeRule::TorchBilinearAntialias, [0.0, 25.0, 75.0, 100.0]),
            (ResizeRule::PilBicubic, [0.0, 20.7143, 79.2857, 108.8235]),
        ] {
            let pair = [0.0, 100.0];
            assert_close(
                rule.name(),
                &rule.apply(&pair, [1, 1, 2], [1, 4]),
                &expected,
            );
            assert_close(
                rule.name(),
                &rule.apply(&pair, [1, 2, 1], [4, 1]),
                &expected,
            );
        }
    }

    #[test]
    fn halving_by_hand() {
        // Every second sample; the means of the middle two of each half; triangle weights 3/7,
        // 3/7, 1/7 at the border.
        let four = [0.0, 7.0, 14.0, 21.0];
        for (rule, expected) in [
            (ResizeRule::Tf1Bilinear, [0.0, 14.0]),
            (ResizeRule::TorchBilinear, [3.5, 17.5]),
            (ResizeRule::TorchBilinearAntialias, [5.0, 16.0]),
        ] {
            assert_close(
                rule.name(),
                &rule.apply(&four, [1, 1, 4], [1, 2]),
                &expected,
            );
            assert_close(
                rule.name(),
                &rule.apply(&four, [1, 4, 1], [2, 1]),
                &expected,
            );
        }
    }

    #[test]
    fn shrinking_agrees_with_pillow() {
        // Image.resize((3, 2), BICUBIC) of Pillow 13.0.0, mode "F", of 6x4 pixels
        // 60 + (37 x + 53 y + 11 x y) mod 128.
        let ramp: Vec<f32> = (0..24u16)
            .map(|i| (i % 6, i / 6))
            .map(|(x, y)| f32::from(60 + (x * 37 + y * 53 + x * y * 11) % 128))
            .collect();
        let expected = [108.891, 129.554, 118.916, 130.669, 127.999, 132.5];
        let ours = pil_bicubic(&ramp, [1, 4, 6], [2, 3]);
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-3, "{ours}, not {expected}");
        }
    }

    #[test]
    fn equal_sizes_copy_and_channels_stay_apart() {
        let samples: Vec<f32> = (0..24u8).map(|i| f32::from(i * 7 % 50)).collect();
        for rule in ResizeRule::ALL {
            let same = rule.apply(&samples, [2, 3, 4], [3, 4]);
            assert_eq!(same, samples, "{rule}");
            let both = rule.apply(&samples, [2, 3, 4], [7, 2]);
            let each = samples.chunks_exact(12);
            let each: Vec<f32> = each
                .flat_map(|plane| rule.apply(plane, [1, 3, 4], [7, 2]))
                .collect();
            assert_eq!(both, each, "{rule}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for rule in ResizeRule::ALL {
            assert_eq!(rule.to_string().parse::<ResizeRule>().unwrap(), rule);
        }
        let error = "bilinear".parse::<ResizeRule>().unwrap_err().to_string();
        assert!(error.contains("tf1-bilinear, torch-bilinear,"), "{error}");
    }
}
