//! Random numbers of `numpy.random.RandomState`, to the bit: the Mersenne Twister MT19937
//! (Matsumoto and Nishimura, 1998). The reference implementations draw their subsets and
//! permutations from it, so equal numbers need equal draws.

const N: usize = 624;
const M: usize = 397;

/// `numpy.random.RandomState(seed)`.
#[derive(Clone, Debug)]
pub struct NumpyRandom {
    state: Vec<u32>,
    next: usize,
    /// The second number of a pair of normal numbers.
    kept: Option<f64>,
}

impl NumpyRandom {
    /// The generator of a seed.
    pub fn new(seed: u32) -> Self {
        let mut state = vec![seed; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32
                .wrapping_mul(before ^ (before >> 30))
                .wrapping_add(i as u32);
        }
        Self {
            state,
            next: N,
            kept: None,
        }
    }

    /// The next 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in \[0, 1) with 53 random bits: `random_sample()`.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.bits() >> 5, self.bits() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A whole number in `0..n`, as the shuffle of RandomState draws it: bits under the mask of
    /// `n - 1` until they are below `n`.
    ///
    /// # Panics
    /// When `n` is zero or does not fit 32 bits.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0 && n <= 1 << 32, "a number below {n} cannot be drawn");
        let largest = (n - 1) as u32;
        if largest == 0 {
            return 0;
        }
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let value = self.bits() & mask;
            if value <= largest {
                return value as usize;
            }
        }
    }

    /// `permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// A standard normal number, by Marsaglia's polar method: `standard_normal()`.
    pub fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let r = a * a + b * b;
            if r < 1.0 && r != 0.0 {
                let f = (-2.0 * r.ln() / r).sqrt();
                self.kept = Some(f * a);
                return f * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_numpy() {
        // numpy 2.4.6: RandomState(2020).permutation(10), RandomState(0).random_sample(2),
        // RandomState(0).standard_normal(3), RandomState(1).tomaxint bits through randint(2**32).
        assert_eq!(
            NumpyRandom::new(2020).permutation(10),
            [2, 4, 9, 1, 5, 7, 6, 3, 8, 0]
        );
        let mut random = NumpyRandom::new(0);
        assert_eq!(random.uniform(), 0.548_813_503_927_324_8);
        assert_eq!(random.uniform(), 0.715_189_366_372_419_5);
        let mut random = NumpyRandom::new(0);
        for expected in [
            1.764_052_345_967_664,
            0.400_157_208_367_223_3,
            0.978_737_984_105_739_2,
        ] {
            assert!((random.normal() - expected).abs() < 1e-15);
        }
        // The published test of MT19937: the ten thousandth number of seed 5489.
        let mut random = NumpyRandom::new(5489);
        let last = (0..10_000).map(|_| random.bits()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
