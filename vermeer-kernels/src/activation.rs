//! Activations, number by number. The functions are `#[inline(always)]` and free of branches, so
//! that the compiler puts them into vectors where they are used.

/// What is applied to each number of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else this · `x`.
    LeakyRelu(f32),
    /// The same with one slope for each channel, given beside.
    Prelu,
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`, exact to 2e-7 of the largest value.
    Gelu,
    /// `tanh x`.
    Tanh,
    /// `σ(x) = 1 / (1 + e⁻ˣ)`.
    Sigmoid,
}

/// `number` where `z` is positive or no number, `slope · number` elsewhere, 0 for a slope of 0.
#[inline(always)]
pub(crate) fn leaky(z: f32, number: f32, slope: f32) -> f32 {
    let below = if slope == 0.0 { 0.0 } else { slope * number };
    if z <= 0.0 { below } else { number }
}

/// eˣ to 3e-7 of its value for −87 ≤ x ≤ 88, beyond which x is taken as the bound: the
/// polynomial of Cephes' `expf`, written so that the compiler puts it into vectors.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(shifted.to_bits() << 23);
    (p * r * r + r + 1.0) * power
}

/// σ(x); 0 below −88, where it is less than 1e-38.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let value = 1.0 / (1.0 + exp(-x));
    if x < -88.0 { 0.0 } else { value }
}

/// x · σ(x).
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// tanh x, by its series where that is exact and by eˣ elsewhere.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let square = x * x;
    // Padé's approximation of order 7 over 6.
    let top = x * (135_135.0 + square * (17_325.0 + square * (378.0 + square)));
    let bottom = 135_135.0 + square * (62_370.0 + square * (3_150.0 + square * 28.0));
    let near = top / bottom;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if square < 1.0 { near } else { far.copysign(x) }
}

/// x · Φ(x), with the error function of Abramowitz and Stegun 7.1.26.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let tail = 0.5 * series * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_the_exponential() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found / expected - 1.0).abs() < 3e-7,
                "{x}: {found} {expected}"
            );
        }
        assert_eq!(exp(-1e9), exp(-87.0));
    }

    #[test]
    fn activations_are_those_of_f64() {
        // Φ by the trapezoidal rule, whose error for a smooth function that vanishes at both
        // ends is far below the bound.
        let phi = |x: f64| {
            let steps = 4000;
            let width = (x + 12.0) / f64::from(steps);
            let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let inner: f64 = (1..steps)
                .map(|i| density(-12.0 + f64::from(i) * width))
                .sum();
            width * (inner + 0.5 * (density(-12.0) + density(x)))
        };
        for i in -900..900 {
            let x = i as f32 * 0.01;
            let wide = f64::from(x);
            for (name, found, expected) in [
                ("sigmoid", sigmoid(x), 1.0 / (1.0 + (-wide).exp())),
                ("silu", silu(x), wide / (1.0 + (-wide).exp())),
                ("tanh", tanh(x), wide.tanh()),
                ("gelu", gelu(x), wide * phi(wide)),
            ] {
                let gap = (f64::from(found) - expected).abs();
                let bound = 4e-7 * expected.abs().max(1.0);
                assert!(gap < bound, "{name}({x}) = {found}, not {expected}");
            }
        }
        assert_eq!((tanh(-50.0), tanh(50.0), tanh(0.0)), (-1.0, 1.0, 0.0));
        let far = f32::MAX;
        assert_eq!((sigmoid(-far), sigmoid(far)), (0.0, 1.0));
        assert_eq!((silu(-far), silu(far)), (0.0, far));
        assert_eq!((gelu(-far), gelu(far)), (0.0, far));
        for f in [sigmoid, silu, tanh, gelu] {
            assert!(f(f32::NAN).is_nan());
        }
        // As in PyTorch, −∞ · 0.
        assert!(silu(f32::NEG_INFINITY).is_nan());
    }
}
