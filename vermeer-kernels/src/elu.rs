//! The exponential linear unit, `x` where positive, else `eˣ − 1`: of numbers, and of numbers and
//! their negatives side by side.

use crate::Isa;
use crate::activation::exp;
use crate::pixelwise::{Map, map};

/// elu of every number, to 3e-7.
pub fn elu(isa: Isa, x: &[f32]) -> Vec<f32> {
    struct Elu<'a>(&'a [f32]);
    impl Map for Elu<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let x = &self.0[from..from + result.len()];
            for (y, x) in result.iter_mut().zip(x) {
                let below = exp(-x.abs()) - 1.0;
                *y = if *x > 0.0 { *x } else { below };
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * c
        }
    }
    map(isa, x.len(), 1, &Elu(x))
}

/// The gradient of [`elu`] at `x` of that to its result.
///
/// # Panics
/// When the two do not have the same length.
pub fn elu_backward(isa: Isa, gradient: &[f32], x: &[f32]) -> Vec<f32> {
    struct Back<'a>(&'a [f32], &'a [f32]);
    impl Map for Back<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let part = from..from + result.len();
            let (gradient, x) = (&self.0[part.clone()], &self.1[part]);
            for ((y, g), x) in result.iter_mut().zip(gradient).zip(x) {
                let slope = exp(-x.abs());
                *y = if *x > 0.0 { *g } else { g * slope };
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * c
        }
    }
    assert_eq!(gradient.len(), x.len(), "a gradient for each number");
    map(isa, x.len(), 1, &Back(gradient, x))
}

/// elu of `x` and of `−x`, with one exponential for both: `[pixels, width] → [pixels, 2 · width]`.
///
/// # Panics
/// When `x` is not whole pixels.
pub fn both_elu(isa: Isa, x: &[f32], width: usize) -> Vec<f32> {
    struct Both<'a>(&'a [f32], usize);
    impl Map for Both<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(x, width) = *self;
            let x = &x[from / 2..(from + result.len()) / 2];
            let pixels = x
                .chunks_exact(width)
                .zip(result.chunks_exact_mut(2 * width));
            for (pixel, result) in pixels {
                let (of_x, of_minus_x) = result.split_at_mut(width);
                let numbers = pixel.iter().zip(of_x).zip(of_minus_x);
                for ((x, of_x), of_minus_x) in numbers {
                    let below = exp(-x.abs()) - 1.0;
                    *of_x = if *x > 0.0 { *x } else { below };
                    *of_minus_x = if *x > 0.0 { below } else { -x };
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            8 * c
        }
    }
    expect(x, width);
    map(isa, 2 * x.len(), 2 * width, &Both(x, width))
}

/// The gradient of [`both_elu`] at `x` `[pixels, width]` of that to its result.
///
/// # Panics
/// As [`both_elu`], and when the gradient is not twice as many numbers.
pub fn both_elu_backward(isa: Isa, gradient: &[f32], x: &[f32], width: usize) -> Vec<f32> {
    struct Back<'a>(&'a [f32], &'a [f32], usize);
    impl Map for Back<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(gradient, x, width) = *self;
            let gradient = &gradient[2 * from..2 * (from + result.len())];
            let x = &x[from..from + result.len()];
            let pixels = x
                .chunks_exact(width)
                .zip(gradient.chunks_exact(2 * width))
                .zip(result.chunks_exact_mut(width));
            for ((pixel, gradient), result) in pixels {
                let (to_x, to_minus_x) = gradient.split_at(width);
                let numbers = pixel.iter().zip(to_x).zip(to_minus_x).zip(result);
                for (((x, to_x), to_minus_x), result) in numbers {
                    let slope = exp(-x.abs());
                    let (above, below) = (to_x - to_minus_x * slope, to_x * slope - to_minus_x);
                    *result = if *x > 0.0 { above } else { below };
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            16 * c
        }
    }
    expect(x, width);
    assert_eq!(gradient.len(), 2 * x.len(), "two gradients for each number");
    map(isa, x.len(), width, &Back(gradient, x, width))
}

fn expect(x: &[f32], width: usize) {
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "{} numbers are not pixels of {width}",
        x.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// elu and its slope, which is 1 at zero, in f64.
    fn wide(x: f64) -> (f64, f64) {
        match x > 0.0 {
            true => (x, 1.0),
            false => (x.exp_m1(), x.exp()),
        }
    }

    #[test]
    fn units_and_gradients_are_those_of_f64() {
        let (pixels, width) = (23, 5);
        let mut x: Vec<f32> = (0..pixels * width)
            .map(|i| (i as f32 * 0.7).sin() * 4.0)
            .collect();
        x[3] = 0.0;
        x[40] = -100.0;
        x[41] = 100.0;
        let gradient: Vec<f32> = (0..2 * x.len()).map(|i| (i as f32 * 1.3).cos()).collect();
        for isa in Isa::available() {
            let one = elu(isa, &x);
            let one_back = elu_backward(isa, &gradient[..x.len()], &x);
            let both = both_elu(isa, &x, width);
            let both_back = both_elu_backward(isa, &gradient, &x, width);
            for (at, x) in x.iter().enumerate() {
                let (value, slope) = wide(f64::from(*x));
                let (minus, minus_slope) = wide(-f64::from(*x));
                let first = at / width * 2 * width + at % width;
                let second = first + width;
                let g = |index: usize| f64::from(gradient[index]);
                for (found, expected) in [
                    (one[at], value),
                    (one_back[at], g(at) * slope),
                    (both[first], value),
                    (both[second], minus),
                    (both_back[at], g(first) * slope - g(second) * minus_slope),
                ] {
                    let gap = (f64::from(found) - expected).abs();
                    assert!(gap < 1e-6, "{}: {x} gives {found}", isa.name());
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let isa = Isa::current();
        assert!(elu(isa, &[f32::NAN])[0].is_nan());
        assert!(both_elu(isa, &[f32::NAN], 1).iter().all(|y| y.is_nan()));
        assert!(elu_backward(isa, &[1.0], &[f32::NAN])[0].is_nan());
    }
}
