//! Spherical interpolation between latents.

use burn::prelude::*;

/// `frames` latents on the great circle from row 0 to row 1 of `ends` `[2, …]`, both included.
///
/// Gaussian latents of high dimension lie near a sphere; a straight line would cut through its
/// inside, where the model has seen nothing (White, 2016). Lengths are interpolated linearly;
/// nearly parallel ends fall back to the straight line.
///
/// # Panics
/// When `frames` is below 2 or `ends` does not have two rows.
pub fn slerp<const D: usize>(ends: Tensor<D>, frames: usize) -> Tensor<D> {
    let mut dims = ends.dims();
    assert!(
        frames >= 2 && dims[0] == 2,
        "interpolation needs two ends and two frames"
    );
    let device = ends.device();
    let values = super::host(ends);
    let size = values.len() / 2;
    let (a, b) = values.split_at(size);
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let (na, nb) = (norm(a), norm(b));
    let dot: f64 = a
        .iter()
        .zip(b)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum();
    let angle = (dot / (na * nb).max(1e-12)).clamp(-1.0, 1.0).acos();
    let mut out = Vec::with_capacity(frames * size);
    for frame in 0..frames {
        let t = frame as f64 / (frames - 1) as f64;
        let (wa, wb) = match angle.sin() > 1e-4 {
            true => {
                let length = (1.0 - t) * na + t * nb;
                let (sa, sb) = (((1.0 - t) * angle).sin(), (t * angle).sin());
                (
                    sa / angle.sin() * length / na,
                    sb / angle.sin() * length / nb,
                )
            }
            false => (1.0 - t, t),
        };
        out.extend(
            a.iter()
                .zip(b)
                .map(|(x, y)| (wa * f64::from(*x) + wb * f64::from(*y)) as f32),
        );
    }
    dims[0] = frames;
    Tensor::<1>::from_floats(&out[..], &device).reshape(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{TensorData, Tolerance};

    #[test]
    fn a_quarter_circle_passes_its_middle() {
        let ends = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &Device::flex());
        let r = 0.5f32.sqrt();
        slerp(ends, 3).into_data().assert_approx_eq::<f32>(
            &TensorData::from([[1.0, 0.0], [r, r], [0.0, 1.0]]),
            Tolerance::rel_abs(1e-6, 1e-6),
        );
    }
}
