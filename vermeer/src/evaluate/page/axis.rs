//! Numbers as people read them, and the axes of charts.
//!
//! Charts give places along their width in percent, so that they become narrower with the page
//! while their texts keep their size.

use vermeer_image::metrics::Interval;

/// Values beyond this have no place on an axis, whose arithmetic would run out of range.
const GREATEST: f64 = 1e60;

/// Values closer to zero than this count as zero.
const LEAST: f64 = 1e-60;

/// About how many steps an axis has.
const STEPS: f64 = 4.0;

/// Percent of the width on each side of an axis: room for half a label.
const MARGIN: f64 = 8.0;

/// An axis between two round numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// The ends, in steps.
    first: f64,
    last: f64,
    step: f64,
    /// The power of ten of the step.
    exponent: i32,
}

impl Axis {
    /// An axis that holds all these values; `None` when none of them is a finite number below
    /// 1e60.
    pub(super) fn over(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            if value.abs() <= GREATEST {
                let value = if value.abs() < LEAST { 0.0 } else { value };
                low = low.min(value);
                high = high.max(value);
            }
        }
        if low > high {
            return None;
        }
        if high - low <= 1e-9 * low.abs().max(high.abs()) {
            let room = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
            low -= room;
            high += room;
        }
        let rough = (high - low) / STEPS;
        let mut exponent = rough.log10().floor() as i32;
        let share = rough / 10f64.powi(exponent);
        let multiple = if share <= 1.0 {
            1.0
        } else if share <= 2.0 {
            2.0
        } else if share <= 5.0 {
            5.0
        } else {
            exponent += 1;
            1.0
        };
        let step = multiple * 10f64.powi(exponent);
        Some(Self {
            first: (low / step).floor(),
            last: (high / step).ceil(),
            step,
            exponent,
        })
    }

    /// The number of steps.
    pub(super) fn steps(&self) -> usize {
        (self.last - self.first) as usize
    }

    /// The place of a value, as a share of the axis.
    pub(super) fn share(&self, value: f64) -> f64 {
        ((value / self.step - self.first) / (self.last - self.first)).clamp(0.0, 1.0)
    }

    /// The round numbers and what they are called.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        (0..=self.steps())
            .map(|i| {
                let steps = self.first + i as f64;
                (steps * self.step, self.label(steps))
            })
            .collect()
    }

    /// A round number in as many digits as tell it from the next.
    fn label(&self, steps: f64) -> String {
        let value = steps * self.step;
        let largest = self.first.abs().max(self.last.abs()) * self.step;
        if self.exponent >= -6 && largest < 1e7 {
            let decimals = (-self.exponent).max(0) as usize;
            return format!("{value:.decimals$}");
        }
        if steps == 0.0 {
            return "0".to_owned();
        }
        let digits = (value.abs().log10().floor() as i32 - self.exponent).clamp(0, 12) as usize;
        format!("{value:.digits$e}")
    }
}

/// A share of an axis as a place along the width, in percent.
pub(super) fn percent(share: f64) -> f64 {
    MARGIN + (100.0 - 2.0 * MARGIN) * share
}

/// A value in six digits.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        return "not a number".to_owned();
    }
    if value.is_infinite() {
        let sign = if value < 0.0 { "minus " } else { "" };
        return format!("{sign}infinite");
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e9).contains(&value.abs()) {
        return format!("{value:.5e}");
    }
    let decimals = (5 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// An interval in words, such as `1.2 to 1.4`.
pub(super) fn interval(interval: &Interval) -> String {
    format!("{} to {}", number(interval.low), number(interval.high))
}

/// A confidence, such as `95 %`.
pub(super) fn confidence(interval: &Interval) -> String {
    format!("{} %", number(100.0 * interval.confidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::over(values.iter().copied()).unwrap();
        axis.marks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn axes_have_round_marks_around_the_values() {
        // By hand: a quarter of the span is 2.275, 0.0012 and 0.5; the steps are 5, 0.002 and 0.5.
        assert_eq!(labels(&[0.9, 10.0]), ["0", "5", "10"]);
        assert_eq!(
            labels(&[0.0011, 0.0059]),
            ["0.000", "0.002", "0.004", "0.006"]
        );
        assert_eq!(labels(&[-1.0, 1.0]), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels(&[2e7, 2.4e7])[1], "2.1e7");
        assert_eq!(labels(&[0.0, 4e-9])[1], "1e-9");
        let axis = Axis::over([0.0, 10.0]).unwrap();
        assert_eq!(
            (axis.steps(), axis.share(2.5), axis.share(99.0)),
            (2, 0.25, 1.0)
        );
        assert_eq!(percent(0.5), 50.0);
    }

    #[test]
    fn single_and_odd_values_have_an_axis_or_none() {
        assert!(Axis::over([]).is_none());
        assert!(Axis::over([f64::NAN, f64::INFINITY, 1e300]).is_none());
        for values in [
            [0.0, 0.0],
            [5.0, 5.0],
            [-1e-200, 1e-300],
            [1e17, 1e17 + 32.0],
        ] {
            let axis = Axis::over(values).unwrap();
            assert!((1..=20).contains(&axis.steps()), "{axis:?}");
            assert!(axis.share(values[0]).is_finite());
        }
    }

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (12.345_678, "12.3457"),
            (0.001_234_567_8, "0.00123457"),
            (-0.000_01, "-1.00000e-5"),
            (28.5, "28.5"),
            (120_000.0, "120000"),
            (0.0, "0"),
            (f64::INFINITY, "infinite"),
        ] {
            assert_eq!(number(value), text);
        }
        let range = Interval::around(2.0, 0.5);
        assert_eq!(interval(&range), "1.5 to 2.5");
        assert_eq!(confidence(&range), "95 %");
    }
}
