//! Values as a person reads them.

use vermeer::evaluate::{Difference, Measured};
use vermeer_image::metrics::{Better, metric};

/// The values, each with its interval and its notes, and what has to be cited.
pub(super) fn values(values: &[Measured]) -> String {
    // Two sets that are compared have values of one name.
    let label = |value: &Measured| {
        let same = values.iter().filter(|other| other.name == value.name);
        match same.count() {
            1 => value.name.clone(),
            _ => format!("{} of {}", value.name, value.passport.generated.location),
        }
    };
    let labels: Vec<String> = values.iter().map(label).collect();
    let width = width(labels.iter().map(String::as_str));
    let mut lines = Vec::new();
    for (value, label) in values.iter().zip(&labels) {
        let interval = value.interval.map_or(String::new(), |interval| {
            format!(
                "  {:.0} % interval {} to {}",
                100.0 * interval.confidence,
                number(interval.low),
                number(interval.high)
            )
        });
        let better = match value.better() {
            Better::Lower => "  lower is better",
            Better::Higher => "  higher is better",
            Better::Neither => "",
        };
        let number = number(value.value);
        lines.push(format!("{label:<width$}  {number:>12}{interval}{better}"));
        lines.extend(value.notes.iter().map(|note| format!("    {note}")));
    }
    let mut told = Vec::new();
    for value in values {
        if let Some(metric) = metric(&value.metric)
            && !told.contains(&metric.id)
        {
            told.push(metric.id);
            lines.push(format!(
                "{}: {} {}",
                metric.id, metric.meaning, metric.caveat
            ));
        }
    }
    lines.push("To cite:".to_owned());
    let mut cited: Vec<(&str, Vec<&str>)> = Vec::new();
    for value in values {
        // Values of one passport differ in their name alone.
        let name = &value.passport.protocol;
        let rest = value.citation.strip_prefix(name).unwrap_or(&value.citation);
        match cited.iter_mut().find(|(known, _)| *known == rest) {
            Some((_, names)) => names.push(name),
            None => cited.push((rest, vec![name])),
        }
    }
    for (rest, names) in cited {
        lines.push(format!("    {}{rest}", names.join(", ")));
    }
    lines.join("\n")
}

/// Differences between two values, with what follows.
pub(super) fn differences(differences: &[Difference]) -> String {
    let width = width(
        differences
            .iter()
            .map(|difference| difference.name.as_str()),
    );
    let line = |difference: &Difference| {
        format!(
            "{:<width$}  {:>12}  95 % interval {} to {}: {}",
            difference.name,
            number(difference.difference),
            number(difference.interval.low),
            number(difference.interval.high),
            difference.verdict
        )
    };
    let lines: Vec<String> = differences.iter().map(line).collect();
    lines.join("\n")
}

fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0)
}

/// Six significant digits, without an exponent where that is readable.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.5e}");
    }
    let digits = (5 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (12.345_678_9, "12.3457"),
            (-0.000_779_962_5, "-0.000779962"),
            (0.000_01, "1.00000e-5"),
            (0.0, "0"),
            (123_456.7, "123457"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
