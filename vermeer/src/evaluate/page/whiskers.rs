//! Values as dots and their intervals as lines, on one axis.

use super::axis::{Axis, confidence, interval, number, percent};
use crate::evaluate::Measured;
use crate::report::{escape, push};

/// Height of a row in pixels: its label and its line.
const ROW: usize = 44;

/// Height of the axis in pixels.
const FOOT: usize = 26;

/// Letters of a location that are shown.
const LETTERS: usize = 24;

/// Draws the values of one metric; nothing for a single value without an interval, or when no
/// value is finite.
pub(super) fn whiskers(page: &mut String, title: &str, values: &[&Measured]) {
    if values.len() < 2 && values.iter().all(|value| value.interval.is_none()) {
        return;
    }
    let ends = |value: &&Measured| {
        let (low, high) = value
            .interval
            .map_or((value.value, value.value), |it| (it.low, it.high));
        [low, value.value, high]
    };
    let Some(axis) = Axis::over(values.iter().flat_map(ends)) else {
        return;
    };
    let at = |value: f64| percent(axis.share(value));
    let bottom = values.len() * ROW;
    let height = bottom + FOOT;
    push(
        page,
        format_args!(
            "<figure>\n<svg class=\"chart\" role=\"img\" aria-label=\"{}: values and intervals\" \
             style=\"height: {height}px\">\n",
            escape(title)
        ),
    );
    for (mark, label) in axis.marks() {
        let x = at(mark);
        push(
            page,
            format_args!(
                "<line class=\"mesh\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{bottom}\"/>\
                 <text class=\"mark\" x=\"{x:.2}%\" y=\"{}\">{label}</text>\n",
                bottom + 17
            ),
        );
    }
    let several = values
        .windows(2)
        .any(|pair| pair[0].passport.generated.location != pair[1].passport.generated.location);
    for (row, value) in values.iter().enumerate() {
        let top = row * ROW;
        let location = &value.passport.generated.location;
        let label = match several {
            true => format!("{} · {}", value.name, end_of(location)),
            false => value.name.clone(),
        };
        push(
            page,
            format_args!(
                "<g class=\"c0\"><title>{}</title><text class=\"label\" x=\"0\" y=\"{}\">{}</text>",
                escape(&sentence(value)),
                top + 15,
                escape(&label)
            ),
        );
        mark(page, value, top + 30, &at);
        page.push_str("</g>\n");
    }
    page.push_str(
        "</svg>\n<figcaption>Dots are values, lines their intervals. Compare values of one \
         protocol only.</figcaption>\n</figure>\n",
    );
}

/// The line and the dot of a value, at the height `y`.
fn mark(page: &mut String, value: &Measured, y: usize, at: &dyn Fn(f64) -> f64) {
    if let Some(range) = value.interval
        && range.low.is_finite()
        && range.high.is_finite()
    {
        let (low, high) = (at(range.low), at(range.high));
        push(
            page,
            format_args!(
                "<line class=\"whisker\" x1=\"{low:.2}%\" x2=\"{high:.2}%\" y1=\"{y}\" y2=\"{y}\"/>"
            ),
        );
        for end in [low, high] {
            push(
                page,
                format_args!(
                    "<line class=\"whisker\" x1=\"{end:.2}%\" x2=\"{end:.2}%\" y1=\"{}\" \
                     y2=\"{}\"/>",
                    y - 5,
                    y + 5
                ),
            );
        }
    }
    if value.value.is_finite() {
        push(
            page,
            format_args!(
                "<circle class=\"dot\" cx=\"{:.2}%\" cy=\"{y}\" r=\"5\"/>",
                at(value.value)
            ),
        );
    }
}

/// What a row shows, in words.
fn sentence(value: &Measured) -> String {
    let range = value.interval.map_or(String::new(), |range| {
        format!(", {} interval {}", confidence(&range), interval(&range))
    });
    let location = &value.passport.generated.location;
    format!(
        "{} of {location}: {}{range}",
        value.name,
        number(value.value)
    )
}

/// The last letters of a location, which tell it from others.
fn end_of(location: &str) -> String {
    let letters = location.chars().count();
    if letters <= LETTERS {
        return location.to_owned();
    }
    let end: String = location.chars().skip(letters - LETTERS + 1).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::{Interval, Score, metric};

    use super::*;
    use crate::evaluate::Passport;

    fn value(location: &str, value: f64, half: Option<f64>) -> Measured {
        let mut score = Score::plain("fd_vermeer", value);
        if let Some(half) = half {
            score = score.with(Interval::around(value, half), "draws");
        }
        let mut passport = Passport::default();
        passport.generated.location = location.to_owned();
        Measured::new(metric("fid").unwrap(), score, passport)
    }

    #[test]
    fn dots_and_lines_are_where_the_values_are() {
        let (a, b) = (value("a", 5.0, Some(5.0)), value("b", 10.0, None));
        let mut page = String::new();
        whiskers(&mut page, "distance", &[&a, &b]);
        // By hand: the axis goes from 0 to 10 between 8 % and 92 % of the width.
        assert!(
            page.contains("x1=\"8.00%\" x2=\"92.00%\" y1=\"30\" y2=\"30\""),
            "{page}"
        );
        assert!(page.contains("cx=\"50.00%\" cy=\"30\""), "{page}");
        assert!(page.contains("cx=\"92.00%\" cy=\"74\""), "{page}");
        assert!(
            page.contains("fd_vermeer of a: 5, 95 % interval 0 to 10"),
            "{page}"
        );
        assert!(page.contains("fd_vermeer · b"), "{page}");
    }

    #[test]
    fn what_has_nothing_to_show_is_left_out() {
        for values in [vec![], vec![value("a", 1.0, None)]] {
            let mut page = String::new();
            whiskers(&mut page, "x", &values.iter().collect::<Vec<_>>());
            assert_eq!(page, "");
        }
        let odd = value("a", f64::INFINITY, None);
        let mut page = String::new();
        whiskers(&mut page, "x", &[&odd, &odd]);
        assert_eq!(page, "");
        whiskers(&mut page, "x", &[&odd, &value("a", 1.0, None)]);
        assert_eq!(page.matches("<circle").count(), 1);
    }

    #[test]
    fn long_locations_are_cut_at_their_beginning() {
        assert_eq!(end_of("runs/a"), "runs/a");
        let cut = end_of("a/very/long/way/to/the/folder/of/ümläute");
        assert_eq!(cut.chars().count(), LETTERS);
        assert!(cut.starts_with('…') && cut.ends_with("ümläute"));
    }
}
