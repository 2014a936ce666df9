//! Numbers that look random and are the same everywhere.

/// A linear congruential generator (Knuth's MMIX constants).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// One of `from..=to`.
    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() as usize) % (to - from + 1)
    }

    /// `n` numbers in [−1, 1).
    pub(crate) fn signed(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0)
            .collect()
    }
}

/// ‖a − b‖ / ‖b‖, or ‖a‖ where b is zero.
pub(crate) fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|x| x.is_finite()));
    let gap: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    if size == 0.0 {
        gap.sqrt()
    } else {
        (gap / size).sqrt()
    }
}
