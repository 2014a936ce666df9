//! Gates: `tanh(a) · σ(b)` of PixelCNN and WaveNet and `a · σ(b)` of PixelCNN++, where `a` and `b`
//! are the two halves of a pixel's channels.

use crate::Isa;
use crate::activation::{sigmoid, tanh};
use crate::pixelwise::{Map, map};
use crate::simd::{Kernel, Simd};

/// What the first half goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// `tanh(a) · σ(b)`.
    Tanh,
    /// `a · σ(b)`.
    Linear,
}

/// The first half's factor.
#[inline(always)]
fn factor<const LINEAR: bool>(a: f32) -> f32 {
    if LINEAR { a } else { tanh(a) }
}

/// One pixel after another.
#[inline(always)]
fn gate_pixels<const LINEAR: bool>(x: &[f32], width: usize, out: &mut [f32]) {
    let pixels = x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width));
    for (pixel, out) in pixels {
        let (a, b) = pixel.split_at(width);
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = factor::<LINEAR>(*a) * sigmoid(*b);
        }
    }
}

/// `[pixels, 2 · width] → [pixels, width]`.
///
/// # Panics
/// When `x` is not whole pixels.
pub fn gate(isa: Isa, first: First, x: &[f32], width: usize) -> Vec<f32> {
    struct Gate<'a, const LINEAR: bool>(&'a [f32], usize);
    impl<const LINEAR: bool> Map for Gate<'_, LINEAR> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let x = &self.0[2 * from..2 * (from + result.len())];
            gate_pixels::<LINEAR>(x, self.1, result);
        }
        fn work(&self, c: usize) -> usize {
            32 * c
        }
    }
    expect(x, width);
    let len = x.len() / 2;
    match first {
        First::Tanh => map(isa, len, width, &Gate::<false>(x, width)),
        First::Linear => map(isa, len, width, &Gate::<true>(x, width)),
    }
}

/// The gradient of [`gate`] at `x`, `[pixels, 2 · width]`, of that to its result.
///
/// # Panics
/// As [`gate`], and when the gradient is not half as many numbers.
pub fn gate_backward(
    isa: Isa,
    first: First,
    gradient: &[f32],
    x: &[f32],
    width: usize,
) -> Vec<f32> {
    struct Back<'a, const LINEAR: bool>(&'a [f32], &'a [f32], usize);
    impl<const LINEAR: bool> Map for Back<'_, LINEAR> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(gradient, x, width) = *self;
            let gradient = &gradient[from / 2..(from + result.len()) / 2];
            let x = &x[from..from + result.len()];
            let pixels = x
                .chunks_exact(2 * width)
                .zip(gradient.chunks_exact(width))
                .zip(result.chunks_exact_mut(2 * width));
            for ((pixel, gradient), result) in pixels {
                let (a, b) = pixel.split_at(width);
                let (to_a, to_b) = result.split_at_mut(width);
                let numbers = a.iter().zip(b).zip(gradient).zip(to_a).zip(to_b);
                for ((((a, b), g), to_a), to_b) in numbers {
                    let (t, s) = (factor::<LINEAR>(*a), sigmoid(*b));
                    let slope = if LINEAR { 1.0 } else { 1.0 - t * t };
                    *to_a = g * s * slope;
                    *to_b = g * t * s * (1.0 - s);
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * c
        }
    }
    expect(x, width);
    assert_eq!(2 * gradient.len(), x.len(), "a gradient for each gate");
    let (len, c) = (x.len(), 2 * width);
    match first {
        First::Tanh => map(isa, len, c, &Back::<false>(gradient, x, width)),
        First::Linear => map(isa, len, c, &Back::<true>(gradient, x, width)),
    }
}

/// As [`gate`] with [`First::Tanh`], into `out` and on this thread.
///
/// # Panics
/// As [`gate`], and when `out` is not half as many numbers.
pub fn gate_into(x: &[f32], width: usize, out: &mut [f32]) {
    struct Gate<'a>(&'a [f32], usize, &'a mut [f32]);
    impl Kernel for Gate<'_> {
        #[inline(always)]
        #[allow(
            unsafe_code,
            reason = "the trait's methods are unsafe; this one is not"
        )]
        unsafe fn run<S: Simd>(self) {
            gate_pixels::<false>(self.0, self.1, self.2);
        }
    }
    expect(x, width);
    assert_eq!(2 * out.len(), x.len(), "two numbers for each gate");
    Isa::current().run(Gate(x, width, out));
}

fn expect(x: &[f32], width: usize) {
    assert!(
        width > 0 && x.len().is_multiple_of(2 * width),
        "{} numbers are not pixels of twice {width}",
        x.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_and_gradients_are_those_of_f64() {
        let (pixels, width) = (7, 5);
        let x: Vec<f32> = (0..pixels * 2 * width)
            .map(|i| (i as f32 * 0.7).sin() * 3.0)
            .collect();
        let gradient: Vec<f32> = (0..pixels * width)
            .map(|i| (i as f32 * 1.3).cos())
            .collect();
        let cases = |isa: Isa| [(isa, First::Tanh), (isa, First::Linear)];
        for (isa, half) in Isa::available().flat_map(cases) {
            let y = gate(isa, half, &x, width);
            let back = gate_backward(isa, half, &gradient, &x, width);
            let mut into = vec![0.0; y.len()];
            gate_into(&x, width, &mut into);
            for (at, y) in y.iter().enumerate() {
                let first = at / width * 2 * width + at % width;
                let second = first + width;
                let a = f64::from(x[first]);
                let (t, slope) = match half {
                    First::Tanh => (a.tanh(), 1.0 - a.tanh() * a.tanh()),
                    First::Linear => (a, 1.0),
                };
                let s = 1.0 / (1.0 + (-f64::from(x[second])).exp());
                let g = f64::from(gradient[at]);
                for (found, expected) in [
                    (*y, t * s),
                    (into[at], a.tanh() * s),
                    (back[first], g * s * slope),
                    (back[second], g * t * s * (1.0 - s)),
                ] {
                    assert!((f64::from(found) - expected).abs() < 2e-6, "{}", isa.name());
                }
            }
        }
    }
}
