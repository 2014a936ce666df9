//! Tests of chance that several honesty checks share: rank sums, hypergeometric tails, and the
//! corrections for making many tests at once.

/// Which of many p-values are discoveries, so that at most the share `rate` of the discoveries is
/// false on average (Benjamini and Hochberg, 1995): the i smallest for the largest i with
/// p₍ᵢ₎ ≤ i·rate/n. It holds for independent p-values and for those that depend positively, as
/// p-values against one common set of held-out images do (Bates et al., 2023).
///
/// Returns the largest p-value that is a discovery, `None` without any.
pub(crate) fn benjamini_hochberg(p_values: &[f64], rate: f64) -> Option<f64> {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    sorted
        .into_iter()
        .enumerate()
        .rev()
        .find(|(i, p)| *p <= (i + 1) as f64 * rate / n)
        .map(|(_, p)| p)
}

/// Which of many p-values reject, so that with probability 1 - `level` none does so wrongly
/// (Holm, 1979): in ascending order while p₍ᵢ₎ ≤ level/(n - i + 1).
pub(crate) fn holm(p_values: &[f64], level: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut rejected = vec![false; p_values.len()];
    for (rank, &at) in order.iter().enumerate() {
        if p_values[at] > level / (p_values.len() - rank) as f64 {
            break;
        }
        rejected[at] = true;
    }
    rejected
}

/// ln 0!, ln 1!, … ln n!.
pub(crate) fn log_factorials(n: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(n + 1);
    let mut sum = 0.0;
    out.push(sum);
    for i in 1..=n {
        sum += (i as f64).ln();
        out.push(sum);
    }
    out
}

/// The probability that of `b_total` draws without replacement from `a_total + b_total` balls, of
/// which `a + b` are marked, at most `b` are marked: Fisher's exact test, one-sided, of a share of
/// `b` in `b_total` being smaller than one of `a` in `a_total`. `factorials` come from
/// [`log_factorials`] of at least `a_total + b_total`.
pub(crate) fn fisher_less(
    [a, a_total]: [usize; 2],
    [b, b_total]: [usize; 2],
    factorials: &[f64],
) -> f64 {
    let choose = |n: usize, k: usize| factorials[n] - factorials[k] - factorials[n - k];
    let marked = a + b;
    let all = choose(a_total + b_total, marked);
    (marked.saturating_sub(a_total)..=b)
        .map(|x| (choose(b_total, x) + choose(a_total, marked - x) - all).exp())
        .sum::<f64>()
        .min(1.0)
}

/// The sum of ranks of one set among two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RankSum {
    /// The share of pairs in which the value of `a` is below that of `b`, ties counting half.
    pub(crate) below: f64,
    /// How many standard deviations the share is above one half, with the correction for ties and
    /// that for continuity; 0 when all values are equal.
    pub(crate) z: f64,
}

/// Whether the values of `a` are below those of `b` (Mann and Whitney, 1947); both are not empty
/// and hold no NaN.
pub(crate) fn rank_sum(a: &[f64], b: &[f64]) -> RankSum {
    let mut all: Vec<(f64, bool)> = a
        .iter()
        .map(|v| (*v, true))
        .chain(b.iter().map(|v| (*v, false)))
        .collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    // Pairs (a, b) with a > b, ties counting half.
    let (mut above, mut b_before, mut ties) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|x, y| x.0 == y.0) {
        let of_a = equal.iter().filter(|(_, from_a)| *from_a).count() as f64;
        let size = equal.len() as f64;
        let of_b = size - of_a;
        above += of_a * (b_before + 0.5 * of_b);
        b_before += of_b;
        ties += size * (size * size - 1.0);
    }
    let (m, n) = (a.len() as f64, b.len() as f64);
    let total = m + n;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)).max(1.0));
    let below = m * n - above;
    let z = if variance > 0.0 {
        (below - 0.5 * m * n - 0.5) / variance.sqrt()
    } else {
        0.0
    };
    RankSum {
        below: below / (m * n),
        z,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discoveries_are_those_of_the_step_up_rule() {
        // scipy 1.17.1, false_discovery_control: adjusted 0.03 0.06 0.06 0.03 0.24 0.9.
        let p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.9];
        assert_eq!(benjamini_hochberg(&p, 0.05), Some(0.01));
        assert_eq!(benjamini_hochberg(&p, 0.07), Some(0.04));
        assert_eq!(benjamini_hochberg(&p, 0.02), None);
        assert_eq!(benjamini_hochberg(&[], 0.05), None);
    }

    #[test]
    fn holm_stops_at_the_first_that_is_too_large() {
        // By hand: 0.01 ≤ 0.05/4, 0.02 > 0.05/3, and so 0.024 ≤ 0.05/2 is not looked at.
        assert_eq!(
            holm(&[0.024, 0.01, 0.02, 0.5], 0.05),
            [false, true, false, false]
        );
        assert_eq!(holm(&[0.01, 0.015], 0.05), [true, true]);
    }

    #[test]
    fn fisher_is_that_of_scipy() {
        // scipy 1.17.1, fisher_exact([[b, rest], [a, rest]], "less").
        let factorials = log_factorials(10_000);
        for (a, b, expected) in [
            ([20, 40], [3, 17], 0.021_395_263_530_310_602),
            ([11, 500], [0, 500], 0.000_461_880_831_384_247_43),
            ([75, 5000], [40, 5000], 0.000_663_020_089_011_748_8),
            ([8, 10], [9, 10], 0.894_736_842_105_263_2),
        ] {
            let p = fisher_less(a, b, &factorials);
            assert!((p / expected - 1.0).abs() < 1e-8, "{p}, not {expected}");
        }
    }

    #[test]
    fn rank_sums_are_those_of_scipy() {
        // scipy 1.17.1, mannwhitneyu(a, b, "less", method="asymptotic"): statistic 6, p 0.0355034.
        let a = [1.0, 2.0, 2.0, 3.5, 0.5];
        let b = [2.0, 4.0, 5.0, 1.0, 6.0, 7.0, 3.5];
        let found = rank_sum(&a, &b);
        assert!((found.below - 29.0 / 35.0).abs() < 1e-15);
        assert!((found.z - 1.805_433_974_626_238).abs() < 1e-9, "{found:?}");
        assert_eq!(rank_sum(&[1.0, 1.0], &[1.0]).z, 0.0);
    }
}
