//! Normalisation against its definition in `f64`.

use vermeer_kernels::group_norm::{GroupNormalisation, group_norm, group_norm_backward};
use vermeer_kernels::norm::{self, Channels, Normalisation};
use vermeer_kernels::{Activation, Isa};

use crate::numbers::{Numbers, distance};

/// `y` and the derivatives of `Σ gradient · y` by definition, mean and variance from `x` where
/// `of_batch`.
struct Naive<'a> {
    x: &'a [f64],
    mean: Vec<f64>,
    variance: Vec<f64>,
    gamma: &'a [f64],
    beta: &'a [f64],
    options: Normalisation,
}

fn moments(x: &[f64], c: usize) -> (Vec<f64>, Vec<f64>) {
    let pixels = (x.len() / c) as f64;
    let mean: Vec<f64> = (0..c)
        .map(|i| x.iter().skip(i).step_by(c).sum::<f64>() / pixels)
        .collect();
    let variance = (0..c)
        .map(|i| {
            let squares = x.iter().skip(i).step_by(c).map(|x| (x - mean[i]).powi(2));
            squares.sum::<f64>() / pixels
        })
        .collect();
    (mean, variance)
}

impl Naive<'_> {
    fn value(&self) -> Vec<f64> {
        let c = self.gamma.len();
        let (mean, variance) = match self.options.of_batch {
            true => moments(self.x, c),
            false => (self.mean.clone(), self.variance.clone()),
        };
        let one = |(i, x): (usize, &f64)| {
            let i = i % c;
            let root = (variance[i] + f64::from(self.options.epsilon)).sqrt();
            let z = (x - mean[i]) / root * self.gamma[i] + self.beta[i];
            if z > 0.0 {
                z
            } else {
                f64::from(self.options.slope) * z
            }
        };
        self.x.iter().enumerate().map(one).collect()
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn normalisation_and_its_gradients_are_right() {
    let mut random = Numbers(4);
    for (pixels, c) in [(1, 3), (6, 1), (50, 20), (1500, 7), (700, 64)] {
        for (slope, of_batch) in [(1.0, true), (0.0, true), (0.2, false), (0.2, true)] {
            let options = Normalisation {
                epsilon: 1e-5,
                slope,
                of_batch,
            };
            let x = random.signed(pixels * c);
            let gradient = random.signed(pixels * c);
            let (gamma, beta) = (random.signed(c), random.signed(c));
            let (x64, g64) = (wide(&x), wide(&gradient));
            let (mut mean64, mut variance64) = moments(&x64, c);
            if !of_batch {
                mean64.iter_mut().for_each(|m| *m += 0.25);
                variance64.iter_mut().for_each(|v| *v += 0.5);
            }
            let (gamma64, beta64) = (wide(&gamma), wide(&beta));
            let naive = |x: &[f64], gamma: &[f64], beta: &[f64]| {
                let naive = Naive {
                    x,
                    mean: mean64.clone(),
                    variance: variance64.clone(),
                    gamma,
                    beta,
                    options,
                };
                naive.value()
            };
            let loss = |y: Vec<f64>| -> f64 { y.iter().zip(&g64).map(|(y, g)| y * g).sum() };
            for isa in Isa::available() {
                let (mean, variance) = norm::moments(isa, &x, c);
                if of_batch {
                    assert!(distance(&mean, &mean64) < 1e-5);
                    assert!(pixels == 1 || distance(&variance, &variance64) < 1e-6);
                }
                let (mean, variance) = match of_batch {
                    true => (mean, variance),
                    false => (
                        mean64.iter().map(|x| *x as f32).collect(),
                        variance64.iter().map(|x| *x as f32).collect(),
                    ),
                };
                let with = Channels {
                    mean: &mean,
                    variance: &variance,
                    gamma: &gamma,
                    beta: &beta,
                };
                let y = norm::normalise(isa, &x, with, options);
                assert!(distance(&y, &naive(&x64, &gamma64, &beta64)) < 1e-5);
                let (dx, dgamma, dbeta) =
                    norm::normalise_backward(isa, &gradient, &x, with, options);
                if pixels < 3 {
                    continue; // the variance of so few is zero or stiff: no finite difference
                }
                // Central differences at a few places.
                let h = 1e-6;
                let difference = |which: usize, at: usize| {
                    let moved = |h: f64| {
                        let mut all = [x64.clone(), gamma64.clone(), beta64.clone()];
                        all[which][at] += h;
                        loss(naive(&all[0], &all[1], &all[2]))
                    };
                    (moved(h) - moved(-h)) / (2.0 * h)
                };
                let places: Vec<usize> = (0..8).map(|_| random.between(0, x.len() - 1)).collect();
                let found: Vec<f32> = places.iter().map(|i| dx[*i]).collect();
                let expected: Vec<f64> = places.iter().map(|i| difference(0, *i)).collect();
                let gap = distance(&found, &expected);
                assert!(gap < 1e-4, "{} {pixels}×{c} dx: {gap:e}", isa.name());
                for (which, found) in [(1, &dgamma), (2, &dbeta)] {
                    let expected: Vec<f64> = (0..c).map(|i| difference(which, i)).collect();
                    let gap = distance(found, &expected);
                    assert!(
                        gap < 1e-4,
                        "{} {pixels}×{c} of {which}: {gap:e}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn leaky_relu_and_sums_are_right() {
    let mut random = Numbers(5);
    let x = random.signed(3 * 1000);
    for isa in Isa::available() {
        let y = norm::leaky_relu(isa, &x, 0.2);
        let dx = norm::leaky_relu_backward(isa, &x, &x, 0.2);
        assert!(
            x.iter()
                .zip(&y)
                .all(|(x, y)| *y == if *x > 0.0 { *x } else { 0.2 * x })
        );
        assert_eq!(y, dx);
        let sums = norm::channel_sum(isa, &x, 3);
        let expected: Vec<f64> = (0..3)
            .map(|i| x.iter().skip(i).step_by(3).map(|x| f64::from(*x)).sum())
            .collect();
        assert!(distance(&sums, &expected) < 1e-5);
    }
}

#[test]
fn relu_keeps_what_is_no_number_and_drops_infinities_below() {
    let x = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -1.0, 2.0];
    for isa in Isa::available() {
        let y = norm::leaky_relu(isa, &x, 0.0);
        assert!(
            y[0].is_nan() && y[1..] == [0.0, f32::INFINITY, 0.0, 2.0],
            "{y:?}"
        );
        let dx = norm::leaky_relu_backward(isa, &[f32::INFINITY; 5], &x, 0.0);
        assert!(
            dx[0] == f32::INFINITY && dx[1] == 0.0 && dx[3] == 0.0,
            "{dx:?}"
        );
    }
}

#[test]
fn group_normalisation_and_its_gradients_are_right() {
    let mut random = Numbers(6);
    for (images, pixels, c, groups, activation) in [
        (2, 30, 12, 3, Activation::Silu),
        (1, 700, 5, 1, Activation::Identity),
        (2, 20, 6, 6, Activation::LeakyRelu(0.2)),
        (1, 40, 8, 2, Activation::Relu),
    ] {
        let options = GroupNormalisation {
            groups,
            epsilon: 1e-5,
            activation,
        };
        let naive = |x: &[f64], gamma: &[f64], beta: &[f64]| -> Vec<f64> {
            let per = c / groups;
            let mut y = x.to_vec();
            for image in 0..images {
                for group in 0..groups {
                    let places: Vec<usize> = (0..pixels)
                        .flat_map(|p| (0..per).map(move |i| (p, group * per + i)))
                        .map(|(p, i)| (image * pixels + p) * c + i)
                        .collect();
                    let count = places.len() as f64;
                    let mean = places.iter().map(|i| x[*i]).sum::<f64>() / count;
                    let squares = places.iter().map(|i| (x[*i] - mean).powi(2));
                    let root = (squares.sum::<f64>() / count + f64::from(1e-5f32)).sqrt();
                    for i in places {
                        let z = (x[i] - mean) / root * gamma[i % c] + beta[i % c];
                        y[i] = match activation {
                            Activation::Silu => z / (1.0 + (-z).exp()),
                            Activation::LeakyRelu(slope) => z.max(f64::from(slope) * z),
                            Activation::Relu => z.max(0.0),
                            _ => z,
                        };
                    }
                }
            }
            y
        };
        let x = random.signed(images * pixels * c);
        let gradient = random.signed(x.len());
        let (gamma, beta) = (random.signed(c), random.signed(c));
        let all = [wide(&x), wide(&gamma), wide(&beta)];
        let difference = |which: usize, at: usize| {
            let moved = |h: f64| -> f64 {
                let mut all = all.clone();
                all[which][at] += h;
                let y = naive(&all[0], &all[1], &all[2]);
                y.iter()
                    .zip(&gradient)
                    .map(|(y, g)| y * f64::from(*g))
                    .sum()
            };
            (moved(1e-6) - moved(-1e-6)) / 2e-6
        };
        let places: Vec<usize> = (0..8).map(|_| random.between(0, x.len() - 1)).collect();
        let expected: [Vec<f64>; 3] = [
            places.iter().map(|i| difference(0, *i)).collect(),
            (0..c).map(|i| difference(1, i)).collect(),
            (0..c).map(|i| difference(2, i)).collect(),
        ];
        for isa in Isa::available() {
            let y = group_norm(isa, &x, images, [&gamma, &beta], options);
            assert!(distance(&y, &naive(&all[0], &all[1], &all[2])) < 1e-6);
            let (dx, dgamma, dbeta) =
                group_norm_backward(isa, &gradient, &x, images, [&gamma, &beta], options);
            let dx: Vec<f32> = places.iter().map(|i| dx[*i]).collect();
            for (found, expected) in [dx, dgamma, dbeta].iter().zip(&expected) {
                let gap = distance(found, expected);
                assert!(gap < 1e-4, "{} {images}×{pixels}×{c}: {gap:e}", isa.name());
            }
        }
    }
}
