//! Optimizer updates against their formulas in f64.

use burn::prelude::*;
use vermeer_kernels::update::{self, AdamUpdate};
use vermeer_kernels::{Isa, adam, mix, sum_of_squares};

use crate::numbers::{Numbers, distance};

const OF: AdamUpdate = AdamUpdate {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    keep: 0.98,
    rate: 0.01,
    correction: 0.002,
};

/// More than one part of every thread, and not a multiple of any vector.
const LEN: usize = 40_003;

#[test]
fn adam_is_its_formula() {
    let mut random = Numbers(20);
    let [old, m, g] = [0; 3].map(|_| random.signed(LEN));
    let v: Vec<f32> = random.signed(LEN).iter().map(|x| x * x).collect();
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
    let mut expected = [wide(&old), wide(&m), wide(&v)];
    for (i, g) in g.iter().enumerate() {
        let g = f64::from(*g);
        let [old, m, v] = &mut expected;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        old[i] = 0.98 * old[i] - 0.01 * m[i] / ((v[i] / 0.002).sqrt() + 1e-8);
    }
    for isa in Isa::available() {
        let mut found = [old.clone(), m.clone(), v.clone()];
        let [old, m, v] = &mut found;
        update::adam(isa, OF, old, [m, v], &g);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(distance(found, expected) < 2e-7, "{}", isa.name());
        }
    }
    // On tensors, of which the first is held twice and must stay as it is.
    let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &Device::flex());
    let held = tensor(&old);
    let found = adam(held.clone(), [tensor(&m), tensor(&v)], tensor(&g), OF);
    for (found, expected) in found.into_iter().zip(&expected) {
        let found = found.into_data().try_into_vec::<f32>().expect("f32");
        assert!(distance(&found, expected) < 2e-7);
    }
    assert_eq!(held.into_data().try_into_vec::<f32>().expect("f32"), old);
}

#[test]
fn averages_and_norms_are_their_formulas() {
    let mut random = Numbers(21);
    let (a, b) = (random.signed(LEN), random.signed(LEN));
    let pairs = a.iter().zip(&b);
    let expected: Vec<f64> = pairs
        .map(|(a, b)| 0.9995 * f64::from(*a) + 0.0005 * f64::from(*b))
        .collect();
    let squares: f64 = a.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for isa in Isa::available() {
        let mut found = a.clone();
        update::mix(isa, &mut found, &b, 0.9995);
        assert!(distance(&found, &expected) < 1e-7, "{}", isa.name());
        let found = update::sum_of_squares(isa, &a);
        assert!((found / squares - 1.0).abs() < 1e-7, "{}", isa.name());
    }
    let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &Device::flex());
    let found = mix(tensor(&a), tensor(&b), 0.9995).into_data();
    assert!(distance(&found.try_into_vec::<f32>().expect("f32"), &expected) < 1e-7);
    let found: f32 = sum_of_squares(tensor(&a)).into_scalar();
    assert!((f64::from(found) / squares - 1.0).abs() < 1e-6);
}
