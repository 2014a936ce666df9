//! `--fail-if`: a bound on a value, for scripts.

use std::fmt;
use std::str::FromStr;

use vermeer::evaluate::Measured;
use vermeer::{Error, Result};
use vermeer_image::metrics::{Metric, metric};

/// A value that must not come true, such as `fid>28.5`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Threshold {
    name: String,
    sign: Sign,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Sign {
    const ALL: [(&'static str, Self); 4] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
    ];
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Sign::ALL.iter().find(|(_, sign)| *sign == self.sign);
        let sign = sign.map_or("", |(text, _)| text);
        write!(f, "{}{sign}{}", self.name, self.bound)
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no condition such as fid>28.5 or ssim<0.9");
        let (name, sign, bound) = Sign::ALL
            .iter()
            .find_map(|(sign, kind)| text.split_once(sign).map(|(a, b)| (a, *kind, b)))
            .ok_or_else(wrong)?;
        let bound: f64 = bound.trim().parse().map_err(|_| wrong())?;
        let name = name.trim();
        if name.is_empty() || bound.is_nan() {
            return Err(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            sign,
            bound,
        })
    }
}

impl Threshold {
    /// The value this is about: that of its name, or else the first of the metric of that name.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is none.
    fn value<'a>(&self, values: &'a [Measured]) -> Result<&'a Measured> {
        let of_metric = || {
            let id = metric(&self.name)?.id;
            values.iter().find(|value| value.metric == id)
        };
        let named = values.iter().find(|value| value.name == self.name);
        named.or_else(of_metric).ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
            Error::settings(
                format!("--fail-if {self}: there is no such value"),
                format!("name one of {}", names.join(", ")),
            )
        })
    }

    /// Refuses a name that none of the metrics asked for can have.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the metrics.
    pub(super) fn check_name(&self, asked: &[&Metric]) -> Result<()> {
        let may_be = |asked: &&Metric| {
            let named = metric(&self.name).is_some_and(|named| named.id == asked.id);
            // Values have longer names, such as fd_vermeer_infinity.
            named || self.name.contains('_')
        };
        if asked.iter().any(may_be) {
            return Ok(());
        }
        let ids: Vec<&str> = asked.iter().map(|metric| metric.id).collect();
        Err(Error::settings(
            format!("--fail-if {self}: there is no such value"),
            format!("name one of {}, or a value of theirs", ids.join(", ")),
        ))
    }

    /// Whether the condition is true; of a value that is no number it is.
    fn is_met(&self, value: f64) -> bool {
        value.is_nan()
            || match self.sign {
                Sign::Above => value > self.bound,
                Sign::AtLeast => value >= self.bound,
                Sign::Below => value < self.bound,
                Sign::AtMost => value <= self.bound,
            }
    }
}

/// Ends with an error when a condition is true.
///
/// # Errors
/// [`Error::Threshold`] naming all of them, [`Error::Settings`] for a value that is not there.
pub(super) fn check(thresholds: &[Threshold], values: &[Measured]) -> Result<()> {
    let mut met = Vec::new();
    for threshold in thresholds {
        let found = threshold.value(values)?;
        if threshold.is_met(found.value) {
            met.push(format!("{threshold} ({} is {})", found.name, found.value));
        }
    }
    match met.is_empty() {
        true => Ok(()),
        false => Err(Error::Threshold(met.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use vermeer::evaluate::Passport;
    use vermeer_image::metrics::Score;

    use super::*;

    #[test]
    fn conditions_are_read_and_hold() {
        let score = Score::plain("fd_vermeer", 28.5);
        let fid = metric("fid").unwrap();
        let values = [Measured::new(fid, score, Passport::default())];
        for (text, code) in [
            ("fid>28.5", None),
            ("fid >= 28.5", Some(3)),
            ("fd_vermeer<30", Some(3)),
            ("fd<=28.4", None),
            ("kid>0", Some(2)),
        ] {
            let threshold: Threshold = text.parse().unwrap();
            let found = check(&[threshold], &values).err();
            assert_eq!(found.map(|error| error.exit_code()), code, "{text}");
        }
        for text in ["fid", "fid>", ">3", "fid>x", "fid>nan"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
