//! Keyed randomness: every draw is a function of (seed, purpose, step, index).
//!
//! The generator is ChaCha with 8 rounds, whose 256-bit key holds the four numbers. A draw
//! therefore does not depend on batch size, thread count or the order of evaluation, and a
//! resumed run repeats the draws of a run that never stopped.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// What a stream of random numbers is for. Streams of different purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial value of a parameter; the index is a digest of its path.
    Init = 1,
    /// Order of the samples of an epoch; the step is the epoch.
    Shuffle = 2,
    /// Horizontal flips of training images.
    Flip = 3,
    /// Procedural images; the index is the number of the image.
    World = 4,
    /// Latent vectors of samples; the index is the number of the sample.
    Latent = 5,
    /// Noise added during training (reparameterisation, diffusion); the index is the slot in the batch.
    Noise = 6,
    /// Diffusion times drawn during training.
    Time = 7,
    /// Bernoulli binarisation of pixels.
    Binarise = 8,
    /// Labels dropped for classifier-free guidance.
    DropLabel = 9,
    /// Directions of finite differences.
    Direction = 10,
    /// Noise added while sampling; the step is the sampler's step.
    Sampler = 11,
    /// Split of a source into training and validation parts.
    Split = 12,
    /// Classes chosen for samples when none are asked for.
    Class = 13,
    /// Validation: noise that is the same at every evaluation.
    Validate = 14,
    /// Start vectors of power iterations; the index is a digest of the parameter's path.
    Power = 15,
    /// Latents of the importance-weighted bound; the step is the draw.
    Importance = 16,
    /// Bernoulli binarisation of validation pixels.
    ValidateBinarise = 17,
    /// What spoils the images a denoiser learns from.
    Corrupt = 18,
    /// Units left out by dropout; the index is the slot in the batch.
    Dropout = 19,
    /// Values of pixels that an autoregressive model draws: the step is the position, the index
    /// the number of the sample.
    Pixel = 20,
    /// Attributes chosen for samples when none are asked for.
    Attribute = 21,
    /// Noise that a generator adds to its layers.
    Layer = 22,
    /// Augmentations of what a discriminator sees.
    Augment = 23,
    /// Where the styles of two latents are mixed.
    Mix = 24,
    /// Images that take the place of dead codes.
    Restart = 25,
}

/// A stream of random numbers for one key.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

/// The stream of one key: the same four numbers give the same draws on every machine.
pub fn stream(seed: u64, purpose: Purpose, step: u64, index: u64) -> Stream {
    let mut key = [0u8; 32];
    for (slot, word) in key
        .chunks_exact_mut(8)
        .zip([seed, purpose as u64, step, index])
    {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Stream(ChaCha8Rng::from_seed(key))
}

impl Stream {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in [0, 1), a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A whole number in `0..n`, by multiplication; the bias is below n / 2⁶⁴.
    ///
    /// # Panics
    /// When `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below(0) has no value to return");
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f32 {
        StandardNormal.sample(&mut self.0)
    }

    /// Fills the slice with standard normal numbers.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|x| *x = self.normal());
    }

    /// Fills the slice with numbers in [0, 1).
    pub fn fill_uniform(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|x| *x = self.uniform());
    }
}

/// The order in which an epoch visits `n` samples: a Fisher–Yates shuffle keyed by (seed, epoch).
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut random = stream(seed, Purpose::Shuffle, epoch, 0);
    for i in (1..n).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

/// `rows × size` standard normal numbers of a training step, each row from its own stream.
pub fn normals(seed: u64, purpose: Purpose, step: u64, rows: usize, size: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * size];
    for (row, values) in out.chunks_exact_mut(size).enumerate() {
        stream(seed, purpose, step, row as u64).fill_normal(values);
    }
    out
}

/// Standard normal latents of the samples with these numbers, `size` each.
pub fn latents(seed: u64, numbers: &[u64], size: usize) -> Vec<f32> {
    let mut out = vec![0.0; numbers.len() * size];
    for (number, values) in numbers.iter().zip(out.chunks_exact_mut(size)) {
        stream(seed, Purpose::Latent, 0, *number).fill_normal(values);
    }
    out
}

/// A 64-bit digest of a text (FNV-1a), which turns a parameter's path into an index.
pub fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_key_gives_the_published_keystream() {
        // ChaCha8, 256-bit key and nonce of zeros: first block of TC1 in
        // draft-strombergson-chacha-test-vectors-01.
        let mut s = stream(0, Purpose::Init, 0, 0);
        s.0 = ChaCha8Rng::from_seed([0; 32]);
        assert_eq!(
            s.bits(),
            u64::from_le_bytes([0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6])
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = stream(1, Purpose::Noise, 2, 3).bits();
        assert_eq!(base, stream(1, Purpose::Noise, 2, 3).bits());
        for other in [
            stream(2, Purpose::Noise, 2, 3),
            stream(1, Purpose::Time, 2, 3),
            stream(1, Purpose::Noise, 3, 3),
            stream(1, Purpose::Noise, 2, 4),
        ] {
            assert_ne!(base, other.clone().bits());
        }
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut p = permutation(7, 3, 1000);
        assert_ne!(p, permutation(7, 4, 1000));
        p.sort_unstable();
        assert!(p.into_iter().eq(0..1000));
    }

    #[test]
    fn normal_has_the_moments_of_the_standard_normal() {
        let mut x = vec![0.0; 200_000];
        stream(5, Purpose::Noise, 0, 0).fill_normal(&mut x);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n - mean * mean;
        // Five standard errors: 5/sqrt(n) for the mean, 5*sqrt(2/n) for the variance.
        assert!(
            mean.abs() < 0.0112 && (var - 1.0).abs() < 0.0159,
            "{mean} {var}"
        );
    }

    #[test]
    fn digest_is_fnv_1a() {
        // Published FNV-1a 64-bit test vectors (draft-eastlake-fnv).
        assert_eq!(digest(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest("foobar"), 0x8594_4171_f739_67e8);
    }
}
