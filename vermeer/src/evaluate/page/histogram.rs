//! Histograms: how values of images are spread.

use super::axis::{Axis, number, percent};
use crate::report::{escape, push};

/// Bars between two marks of the axis.
const BARS: usize = 10;

/// Height of the tallest bar in pixels.
const HEIGHT: f64 = 160.0;

/// Height of the whole picture in pixels.
const WHOLE: usize = 190;

/// Colours of the style sheet.
const COLOURS: usize = 4;

/// Values of images, in sets that are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What the values are.
    pub title: String,
    /// Their unit.
    pub unit: String,
    /// The sets: what each is called, and its values in any order. Values that are not finite are
    /// counted and not drawn.
    pub series: Vec<(String, Vec<f64>)>,
}

/// Draws a histogram: the share of each set's images in each bar, and a table of their quartiles.
pub(super) fn histogram(page: &mut String, histogram: &Histogram) {
    let title = escape(&histogram.title);
    push(page, format_args!("<h3>{title}</h3>\n"));
    let values = || histogram.series.iter().flat_map(|(_, values)| values);
    let Some(axis) = Axis::over(values().copied()) else {
        page.push_str("<p>There are no values.</p>\n");
        return;
    };
    let shares: Vec<Vec<f64>> = histogram
        .series
        .iter()
        .map(|(_, values)| bars(values, &axis))
        .collect();
    let tallest = shares.iter().flatten().copied().fold(0.0, f64::max);
    push(
        page,
        format_args!(
            "<figure>\n<svg class=\"chart\" role=\"img\" aria-label=\"{title}: a histogram; the \
             table has its quartiles\" style=\"height: {WHOLE}px\">\n"
        ),
    );
    for (mark, label) in axis.marks() {
        let x = percent(axis.share(mark));
        push(
            page,
            format_args!(
                "<line class=\"mesh\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{HEIGHT}\"/>\
                 <text class=\"mark\" x=\"{x:.2}%\" y=\"{}\">{label}</text>\n",
                HEIGHT + 17.0
            ),
        );
    }
    for (at, shares) in shares.iter().enumerate() {
        push(page, format_args!("<g class=\"c{}\">\n", at % COLOURS));
        let count = shares.len() as f64;
        for (bar, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let left = percent(bar as f64 / count);
            let width = percent((bar + 1) as f64 / count) - left;
            let height = HEIGHT * share / tallest;
            push(
                page,
                format_args!(
                    "<rect class=\"bar\" x=\"{left:.2}%\" y=\"{:.1}\" width=\"{width:.2}%\" \
                     height=\"{height:.1}\"/>\n",
                    HEIGHT - height
                ),
            );
        }
        page.push_str("</g>\n");
    }
    let unit = escape(&histogram.unit);
    push(
        page,
        format_args!(
            "</svg>\n<figcaption>Along: {unit}. Up: the share of each set's images; the tallest bar \
             holds {} %.</figcaption>\n</figure>\n",
            number((1000.0 * tallest).round() / 10.0)
        ),
    );
    table(page, histogram);
}

/// The quartiles of each set, with its colour.
fn table(page: &mut String, histogram: &Histogram) {
    push(
        page,
        format_args!(
            "<div class=\"wide\" role=\"region\" aria-label=\"Quartiles\" tabindex=\"0\">\n<table>\n\
             <caption>{}: quartiles, in {}</caption>\n<tr><th scope=\"col\">set</th>\
             <th scope=\"col\">images</th><th scope=\"col\">least</th><th scope=\"col\">a quarter \
             below</th><th scope=\"col\">median</th><th scope=\"col\">a quarter above</th>\
             <th scope=\"col\">greatest</th></tr>\n",
            escape(&histogram.title),
            escape(&histogram.unit)
        ),
    );
    for (at, (name, values)) in histogram.series.iter().enumerate() {
        let (images, name) = (values.len(), escape(name));
        push(
            page,
            format_args!(
                "<tr><th scope=\"row\"><span class=\"swatch c{}\"></span>{name}</th>\
                 <td>{images}</td>",
                at % COLOURS
            ),
        );
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        for p in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let text = quantile(&sorted, p).map_or_else(|| "–".to_owned(), number);
            push(page, format_args!("<td>{text}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n</div>\n");
}

/// The share of the finite values in each bar.
fn bars(values: &[f64], axis: &Axis) -> Vec<f64> {
    let mut counts = vec![0usize; BARS * axis.steps()];
    let bars = counts.len();
    for value in values.iter().filter(|value| value.is_finite()) {
        let bar = (axis.share(*value) * bars as f64) as usize;
        counts[bar.min(bars - 1)] += 1;
    }
    let all = counts.iter().sum::<usize>().max(1) as f64;
    counts.iter().map(|count| *count as f64 / all).collect()
}

/// The value below which a share `p` of ascending values lies, between two of them in proportion
/// (numpy's `quantile`); `None` without values.
fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = p * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let weight = place - below as f64;
    if weight == 0.0 {
        return Some(sorted[below]);
    }
    Some(sorted[below] + weight * (sorted[above.min(last)] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_numpy() {
        // numpy 2.4.6, quantile([1, 2, 3, 4], …) and quantile([5, 1, 9, 2, 7], …).
        let four = [1.0, 2.0, 3.0, 4.0];
        let at = |values: &[f64]| [0.0, 0.25, 0.5, 0.75, 1.0].map(|p| quantile(values, p).unwrap());
        assert_eq!(at(&four), [1.0, 1.75, 2.5, 3.25, 4.0]);
        assert_eq!(at(&[1.0, 2.0, 5.0, 7.0, 9.0]), [1.0, 2.0, 5.0, 7.0, 9.0]);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn bars_hold_shares_and_the_last_one_its_end() {
        // An axis from 0 to 10 in two steps has bars of half a unit.
        let axis = Axis::over([0.0, 10.0]).unwrap();
        let shares = bars(&[0.0, 0.4, 0.5, 10.0, f64::INFINITY], &axis);
        assert_eq!(shares.len(), 20);
        assert_eq!((shares[0], shares[1], shares[19]), (0.5, 0.25, 0.25));
    }

    #[test]
    fn sets_of_different_sizes_have_bars_of_one_height() {
        let set = |values: &[f64]| ("a <set>".to_owned(), values.to_vec());
        let one = Histogram {
            title: "distance & more".to_owned(),
            unit: "features".to_owned(),
            series: vec![set(&[1.0, 3.0]), set(&[1.0, 1.0, 3.0, 3.0])],
        };
        let mut page = String::new();
        histogram(&mut page, &one);
        assert_eq!(page.matches("<rect").count(), 4);
        assert_eq!(page.matches("height=\"160.0\"").count(), 4, "{page}");
        assert!(page.contains("distance &amp; more") && page.contains("a &lt;set&gt;"));
        assert!(page.contains("the tallest bar holds 50 %"), "{page}");
        let mut empty = String::new();
        histogram(&mut empty, &Histogram::default());
        assert!(empty.contains("There are no values"));
    }
}
