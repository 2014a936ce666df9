//! Intervals: how far a value may be from what more images would give.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF, Normal, StudentsT};

/// The confidence of the intervals that are reported.
pub const CONFIDENCE: f64 = 0.95;

/// A range that holds the true value with the given confidence, if its method's assumptions hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The confidence, such as 0.95.
    pub confidence: f64,
}

impl Interval {
    /// `half` to each side of `centre`.
    pub fn around(centre: f64, half: f64) -> Self {
        Self {
            low: centre - half,
            high: centre + half,
            confidence: CONFIDENCE,
        }
    }

    /// Half its width.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.high - self.low)
    }
}

/// The standard error of an estimate from its values without one of g blocks each:
/// √((g - 1)/g Σ (x₋ⱼ - mean)²) (Tukey, 1958).
pub fn jackknife_error(without: &[f64]) -> f64 {
    let g = without.len() as f64;
    let mean = without.iter().sum::<f64>() / g;
    let squares: f64 = without.iter().map(|x| (x - mean) * (x - mean)).sum();
    ((g - 1.0) / g * squares).sqrt()
}

/// The 95 % interval of an estimate from its values without one of g blocks each, by Student's t
/// with g - 1 degrees of freedom.
pub fn jackknife(estimate: f64, without: &[f64]) -> Interval {
    let degrees = without.len() as f64 - 1.0;
    let t = student_quantile(0.5 + 0.5 * CONFIDENCE, degrees);
    Interval::around(estimate, t * jackknife_error(without))
}

/// The 95 % interval of the mean of independent values, by Student's t; `None` for fewer than two.
pub fn of_mean(values: &[f64]) -> Option<Interval> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    let error = (squares / (n - 1.0) / n).sqrt();
    let t = student_quantile(0.5 + 0.5 * CONFIDENCE, n - 1.0);
    Some(Interval::around(mean, t * error))
}

/// The interval of a share of which `count` of `total` were seen (Clopper and Pearson, 1934): at
/// least the confidence, at any share.
pub fn of_share(count: usize, total: usize, confidence: f64) -> Interval {
    let tail = 0.5 * (1.0 - confidence);
    let (k, n) = (count as f64, total as f64);
    let quantile =
        |p: f64, a: f64, b: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    Interval {
        low: if count == 0 {
            0.0
        } else {
            quantile(tail, k, n - k + 1.0)
        },
        high: if count >= total {
            1.0
        } else {
            quantile(1.0 - tail, k + 1.0, n - k)
        },
        confidence,
    }
}

/// The value below which a standard normal number falls with probability `p`.
pub fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// The probability that a standard normal number is below `x`.
pub fn normal_probability(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// The value below which Student's t with these degrees of freedom falls with probability `p`.
pub fn student_quantile(p: f64, degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |t| t.inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // scipy 1.17.1: norm.ppf(.975), t.ppf(.975, 19), t.ppf(.975, 2).
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-9);
        assert!((student_quantile(0.975, 19.0) - 2.093_024_054_408_263).abs() < 1e-6);
        assert!((student_quantile(0.975, 2.0) - 4.302_652_729_911_275).abs() < 1e-6);
    }

    #[test]
    fn shares_have_the_interval_of_clopper_and_pearson() {
        // scipy 1.17.1: binomtest(3, 20).proportion_ci(0.95, "exact") and (0, 10).
        let interval = of_share(3, 20, 0.95);
        assert!(
            (interval.low - 0.032_070_939_7).abs() < 1e-7,
            "{interval:?}"
        );
        assert!((interval.high - 0.378_926_83).abs() < 1e-7, "{interval:?}");
        let none = of_share(0, 10, 0.95);
        assert_eq!(none.low, 0.0);
        assert!((none.high - 0.308_497_10).abs() < 1e-7, "{none:?}");
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        // Values 1 to 5: standard error √(2.5/5).
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let without: Vec<f64> = values.iter().map(|x| (15.0 - x) / 4.0).collect();
        assert!((jackknife_error(&without) - 0.5f64.sqrt()).abs() < 1e-14);
        let interval = of_mean(&values).unwrap();
        let same = jackknife(3.0, &without);
        assert!((interval.low - same.low).abs() < 1e-12);
    }
}
