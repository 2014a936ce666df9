//! The codebook: the codes are running means of the encoder's outputs that chose them.

use burn::module::{Module, RunningState};
use burn::prelude::*;
use burn::tensor::TensorData;

use crate::nn::{Init, host};
use crate::random::{Purpose, Stream, stream};

/// A code used less than this share of an even use is dead.
const DEAD: f64 = 0.05;

/// Added to each count, so that no code is divided by zero (Laplace smoothing).
const EPSILON: f64 = 1e-5;

/// How far apart the copies of a vector are that stands for several codes, over √size.
const COPIES: f32 = 0.01;

/// K codes of D numbers that follow the encoder by exponential moving averages (Razavi et al., 2019,
/// appendix A):
///
/// ```text
/// N_i ← γ N_i + (1 − γ) n_i            n_i vectors chose code i
/// m_i ← γ m_i + (1 − γ) Σ_j z_j        the sum of these vectors
/// e_i = m_i / N̂_i                      N̂_i = (N_i + ε) / (Σ N + K ε) · Σ N,  ε = 1e-5
/// ```
///
/// Both are statistics and no parameters. Before the first batch they are zero, and so are the codes.
#[derive(Module, Debug)]
pub struct Codebook {
    /// N, `[K]`.
    running_count: RunningState<Tensor<1>>,
    /// m, `[K, D]`.
    running_sum: RunningState<Tensor<2>>,
}

/// The vectors of a step and the code each of them chose, on the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    /// Vectors, `[count, D]`.
    pub(super) vectors: Vec<f32>,
    /// Codes, `[count]`.
    pub(super) codes: Vec<u32>,
}

impl Codebook {
    /// A codebook of `codes` codes of `size` numbers.
    pub(super) fn new(codes: usize, size: usize, init: &Init) -> Self {
        Self {
            running_count: RunningState::new(Tensor::zeros([codes], init.device())),
            running_sum: RunningState::new(Tensor::zeros([codes, size], init.device())),
        }
    }

    /// K and D.
    pub(super) fn dims(&self) -> [usize; 2] {
        self.running_sum.value_sync().dims()
    }

    /// The codes, `[K, D]`, without gradients.
    pub fn codes(&self) -> Tensor<2> {
        let count = self.running_count.value_sync().inner(); // [K]
        let sum = self.running_sum.value_sync().inner(); // [K, D]
        let [codes] = count.dims();
        let total = count.clone().sum(); // [1]
        let all = total.clone().add_scalar(codes as f64 * EPSILON);
        let smooth = count
            .add_scalar(EPSILON)
            .mul(total)
            .div(all)
            .clamp_min(1e-12);
        sum.div(smooth.reshape([codes, 1]))
    }

    /// The nearest code to each of the vectors `[count, D]`, `[count]`, without gradients.
    pub fn nearest(&self, vectors: Tensor<2>) -> Tensor<1, Int> {
        let codes = self.codes();
        let [count, _] = vectors.dims();
        let norms = codes.clone().square().sum_dim(1).transpose(); // [1, K]
        // ‖z − e‖² without ‖z‖², which is the same for all codes.
        let far = norms.sub(vectors.inner().matmul(codes.transpose()).mul_scalar(2.0)); // [count, K]
        far.argmin(1).reshape([count])
    }

    /// N on the host, `[K]`.
    pub(super) fn counts(&self) -> Vec<f32> {
        host(self.running_count.value_sync())
    }

    /// Whether it has seen a batch.
    pub(super) fn is_started(&self) -> bool {
        self.counts().iter().any(|count| *count > 0.0)
    }

    /// Places all codes on vectors of the first batch, each as much used as the others would be if
    /// a step of `count` vectors used all evenly.
    pub(super) fn start(&self, vectors: &[f32], count: usize, seed: u64, step: u64) {
        let [codes, size] = self.dims();
        let even = count as f32 / codes as f32;
        let mut averages = Averages::of(self);
        let all: Vec<usize> = (0..codes).collect();
        averages.restart(&all, vectors, size, even, seed, step);
        averages.give(self);
    }

    /// Moves the averages by what a step chose. With `restart` dead codes then take the place of
    /// vectors of this step (Dhariwal et al., 2020), again with an even use; returns how many.
    pub(super) fn learn(&self, chosen: &Chosen, decay: f64, restart: Option<(u64, u64)>) -> usize {
        let [codes, size] = self.dims();
        let mut counts = vec![0.0f64; codes];
        let mut sums = vec![0.0f64; codes * size];
        for (code, vector) in chosen.codes.iter().zip(chosen.vectors.chunks_exact(size)) {
            let code = *code as usize;
            counts[code] += 1.0;
            for (sum, number) in sums[code * size..][..size].iter_mut().zip(vector) {
                *sum += f64::from(*number);
            }
        }
        let mut averages = Averages::of(self);
        blend(&mut averages.counts, &counts, decay);
        blend(&mut averages.sums, &sums, decay);
        let mut restarted = 0;
        if let Some((seed, step)) = restart {
            let total: f64 = averages.counts.iter().map(|n| f64::from(*n)).sum();
            let even = total / codes as f64;
            let dead: Vec<usize> = (0..codes)
                .filter(|code| f64::from(averages.counts[*code]) < DEAD * even)
                .collect();
            let vectors = &chosen.vectors;
            averages.restart(&dead, vectors, size, even as f32, seed, step);
            restarted = dead.len();
        }
        averages.give(self);
        restarted
    }
}

/// N and m on the host.
struct Averages {
    counts: Vec<f32>,
    sums: Vec<f32>,
}

impl Averages {
    fn of(codebook: &Codebook) -> Self {
        Self {
            counts: host(codebook.running_count.value_sync()),
            sums: host(codebook.running_sum.value_sync()),
        }
    }

    /// Places the codes `dead` on vectors in an order drawn for this step. Where there are fewer
    /// vectors than codes, copies of a vector are set a little apart.
    fn restart(
        &mut self,
        dead: &[usize],
        vectors: &[f32],
        size: usize,
        even: f32,
        seed: u64,
        step: u64,
    ) {
        if dead.is_empty() || vectors.is_empty() {
            return;
        }
        let mut random = stream(seed, Purpose::Restart, step, 0);
        let order = shuffled(vectors.len() / size, &mut random);
        let apart = COPIES / (size as f32).sqrt();
        for (turn, code) in dead.iter().enumerate() {
            let vector = &vectors[order[turn % order.len()] * size..][..size];
            self.counts[*code] = even;
            for (sum, number) in self.sums[code * size..][..size].iter_mut().zip(vector) {
                let number = match turn < order.len() {
                    true => *number,
                    false => *number + apart * random.normal(),
                };
                *sum = even * number;
            }
        }
    }

    /// Writes them into the codebook.
    fn give(self, codebook: &Codebook) {
        let [codes, size] = codebook.dims();
        put(&codebook.running_count, self.counts, [codes]);
        put(&codebook.running_sum, self.sums, [codes, size]);
    }
}

/// Writes a statistic where it was.
fn put<const D: usize>(state: &RunningState<Tensor<D>>, values: Vec<f32>, shape: [usize; D]) {
    let device = state.value_sync().device();
    state.update(Tensor::from_data(TensorData::new(values, shape), &device));
    // An update is held back until the next synchronisation.
    state.value_sync();
}

/// γ of the old and 1 − γ of the new.
fn blend(old: &mut [f32], new: &[f64], decay: f64) {
    for (old, new) in old.iter_mut().zip(new) {
        *old = (decay * f64::from(*old) + (1.0 - decay) * new) as f32;
    }
}

/// The numbers `0..count` in a drawn order (Fisher–Yates).
fn shuffled(count: usize, random: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

/// exp of the entropy of the use of codes, from 1 to their number.
pub(super) fn perplexity(counts: &[f32]) -> f64 {
    entropy(counts).exp()
}

/// The entropy of the use of codes, in nats.
pub(super) fn entropy(counts: &[f32]) -> f64 {
    let total: f64 = counts.iter().map(|n| f64::from(*n)).sum();
    counts
        .iter()
        .map(|n| f64::from(*n) / total.max(1e-12))
        .filter(|share| *share > 0.0)
        .map(|share| -share * share.ln())
        .sum()
}

/// The share of codes that are dead.
pub(super) fn dead_share(counts: &[f32]) -> f64 {
    let total: f64 = counts.iter().map(|n| f64::from(*n)).sum();
    let even = total / counts.len() as f64;
    let dead = counts
        .iter()
        .filter(|count| f64::from(**count) <= DEAD * even)
        .count();
    dead as f64 / counts.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codebook(codes: usize, size: usize) -> Codebook {
        Codebook::new(codes, size, &Init::new(1, &Device::flex()))
    }

    #[test]
    fn averages_and_smoothing_are_hand_computed() {
        let book = codebook(2, 1);
        assert_eq!(host(book.codes()), [0.0, 0.0]);
        put(&book.running_count, vec![3.0, 1.0], [2]);
        put(&book.running_sum, vec![6.0, 5.0], [2, 1]);
        let chosen = Chosen {
            vectors: vec![1.0, 3.0, 5.0],
            codes: vec![0, 0, 1],
        };
        book.learn(&chosen, 0.5, None);
        // N = (3 + 2) / 2, (1 + 1) / 2; m = (6 + 4) / 2, (5 + 5) / 2.
        assert_eq!(book.counts(), [2.5, 1.0]);
        assert_eq!(host(book.running_sum.value()), [5.0, 5.0]);
        let total = 3.5;
        let smooth = |n: f64| (n + 1e-5) / (total + 2e-5) * total;
        for (code, expected) in host(book.codes())
            .iter()
            .zip([5.0 / smooth(2.5), 5.0 / smooth(1.0)])
        {
            assert!(
                (f64::from(*code) - expected).abs() < 1e-5,
                "{code} {expected}"
            );
        }
    }

    #[test]
    fn the_nearest_code_is_chosen() {
        let book = codebook(3, 2);
        put(&book.running_count, vec![1.0; 3], [3]);
        put(
            &book.running_sum,
            vec![0.0, 0.0, 2.0, 0.0, 0.0, -1.0],
            [3, 2],
        );
        let device = Device::flex();
        let vectors = Tensor::<1>::from_floats(&[0.1f32, 0.2, 1.4, 0.4, 0.2, -0.7][..], &device);
        let nearest = book.nearest(vectors.reshape([3, 2]));
        let data = nearest.into_data().convert::<i64>();
        assert_eq!(data.try_into_vec::<i64>().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_codebook_starts_on_vectors_of_the_first_batch() {
        let vectors: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let book = codebook(3, 2);
        assert!(!book.is_started());
        book.start(&vectors, 6, 4, 0);
        assert!(book.is_started());
        assert_eq!(book.counts(), [2.0; 3]);
        let codes = host(book.codes());
        let mut firsts: Vec<usize> = codes
            .chunks_exact(2)
            .map(|c| c[0].round() as usize)
            .collect();
        for code in codes.chunks_exact(2) {
            assert!((code[1] - code[0] - 1.0).abs() < 1e-3, "{code:?}");
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 3, "three vectors are taken once each");

        // Five codes of two vectors: copies lie near their vector and apart from each other.
        let book = codebook(5, 2);
        book.start(&vectors[..4], 2, 4, 0);
        let codes = host(book.codes());
        for (i, a) in codes.chunks_exact(2).enumerate() {
            let near = |v: &[f32]| (a[0] - v[0]).abs().max((a[1] - v[1]).abs()) < 0.1;
            assert!(vectors[..4].chunks_exact(2).any(near), "{a:?}");
            assert!(codes.chunks_exact(2).skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn dead_codes_start_anew_where_the_batch_is() {
        let book = codebook(2, 1);
        put(&book.running_count, vec![10.0, 0.01], [2]);
        put(&book.running_sum, vec![10.0, 5.0], [2, 1]);
        let chosen = Chosen {
            vectors: vec![2.0; 10],
            codes: vec![0; 10],
        };
        assert_eq!(book.learn(&chosen, 0.9, Some((1, 7))), 1);
        let counts = book.counts();
        assert!((counts[1] - 5.0).abs() < 0.1, "{counts:?}");
        let codes = host(book.codes());
        assert!((codes[1] - 2.0).abs() < 1e-3, "{codes:?}");
        assert_eq!(book.learn(&chosen, 0.9, Some((1, 8))), 0);
    }

    #[test]
    fn signs_of_use_are_hand_computed() {
        assert!((perplexity(&[1.0, 1.0, 1.0, 1.0]) - 4.0).abs() < 1e-9);
        assert!((perplexity(&[7.0, 0.0]) - 1.0).abs() < 1e-9);
        assert!((perplexity(&[0.0, 0.0]) - 1.0).abs() < 1e-9);
        assert_eq!(dead_share(&[1.0, 1.0, 0.0, 0.01]), 0.5);
        assert_eq!(dead_share(&[0.0, 0.0]), 1.0);
    }
}
