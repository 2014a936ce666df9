//! The health of a training run: measured signs, stated thresholds, one verdict.

use serde::Serialize;

pub use crate::run::Verdict;

/// When a sign is worth watching and when it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Small values are the trouble.
    Below {
        /// Values below this are worth watching.
        watch: f64,
        /// Values below this are bad.
        bad: f64,
    },
    /// Large values are the trouble.
    Above {
        /// Values above this are worth watching.
        watch: f64,
        /// Values above this are bad.
        bad: f64,
    },
}

impl Limit {
    fn judge(self, value: f64) -> Verdict {
        let (watch, bad) = match self {
            Limit::Below { watch, bad } => (value < watch, value < bad),
            Limit::Above { watch, bad } => (value > watch, value > bad),
        };
        match (watch, bad) {
            (_, true) => Verdict::Bad,
            _ if value.is_nan() => Verdict::Bad,
            (true, _) => Verdict::Watch,
            _ => Verdict::Ok,
        }
    }

    fn text(self) -> String {
        match self {
            Limit::Below { watch, bad } => format!("watched below {watch:.3}, bad below {bad:.3}"),
            Limit::Above { watch, bad } => format!("watched above {watch:.3}, bad above {bad:.3}"),
        }
    }
}

/// One measured sign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sign {
    /// What was measured.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What the value says.
    pub verdict: Verdict,
    /// Value, thresholds, meaning and remedy in one sentence.
    pub why: String,
}

/// The signs of one moment and the worst of their verdicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// The worst verdict.
    pub verdict: Verdict,
    /// Every sign.
    pub signs: Vec<Sign>,
}

impl Health {
    /// Judges measured values: (name, value, thresholds, meaning and remedy).
    pub fn judge(measured: Vec<(&'static str, f64, Limit, &'static str)>) -> Self {
        let signs: Vec<Sign> = measured
            .into_iter()
            .map(|(name, value, limit, meaning)| Sign {
                name,
                value,
                verdict: limit.judge(value),
                why: format!("{name} is {value:.4} ({}): {meaning}", limit.text()),
            })
            .collect();
        let rank = |v: &Verdict| match v {
            Verdict::Ok => 0,
            Verdict::Watch => 1,
            Verdict::Bad => 2,
        };
        let verdict = signs
            .iter()
            .map(|s| s.verdict)
            .max_by_key(rank)
            .unwrap_or(Verdict::Ok);
        Self { verdict, signs }
    }

    /// The reasons of a verdict that is not ok.
    pub fn reasons(&self) -> Vec<String> {
        self.signs
            .iter()
            .filter(|s| s.verdict != Verdict::Ok)
            .map(|s| s.why.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_sign_decides() {
        let below = Limit::Below {
            watch: 0.5,
            bad: 0.25,
        };
        let above = Limit::Above {
            watch: 0.97,
            bad: 0.999,
        };
        for (spread, accuracy, verdict) in [
            (0.9, 0.6, Verdict::Ok),
            (0.4, 0.6, Verdict::Watch),
            (0.9, 0.98, Verdict::Watch),
            (0.1, 0.6, Verdict::Bad),
            (0.4, 1.0, Verdict::Bad),
            (f64::NAN, 0.6, Verdict::Bad),
        ] {
            let health = Health::judge(vec![
                ("spread", spread, below, "x"),
                ("accuracy", accuracy, above, "y"),
            ]);
            assert_eq!(health.verdict, verdict, "{spread} {accuracy}");
            assert_eq!(health.reasons().is_empty(), verdict == Verdict::Ok);
        }
    }
}
