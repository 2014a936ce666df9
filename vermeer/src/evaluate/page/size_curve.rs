//! A Fréchet distance against the number of images, which shows its bias.
//!
//! The distance of n images is too large by about c / n (Chong and Forsyth, 2020): drawn against
//! 1/n the values lie on a line, and where it meets 1/n = 0 is the distance of ever more images.
//! With fewer images than features they rise above the line.

use vermeer_image::ImageError;
use vermeer_image::metrics::{Features, FrechetReference, Moments, NumpyRandom, Progress};

use super::axis::{Axis, number, percent};
use crate::error::Result;
use crate::report::{escape, push};

/// Parts of the images whose moments are computed; halves are joined from them.
const PARTS: usize = 4;

/// Rows that are read at a time.
const ROWS: usize = 1024;

/// Height of the curve, and of the room above it and below, in pixels.
const HEIGHT: f64 = 180.0;
const ABOVE: f64 = 18.0;
const BELOW: f64 = 28.0;

/// A value against the number of images it was computed from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SizeCurve {
    /// The name of the value, which holds its protocol.
    pub name: String,
    /// Numbers of images, at least 1 each, and the values; in the order of the numbers.
    pub points: Vec<(usize, f64)>,
    /// The value of ever more images.
    pub extrapolated: Option<f64>,
}

/// The mean Fréchet distance of the quarters and of the halves of the generated images, and that
/// of all of them, to the real ones. Parts are drawn at random by `seed`.
///
/// `progress` is called with the distances computed and those to compute.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) for fewer than eight images, for features of another
/// length, and when features cannot be read.
pub fn size_curve(
    name: impl Into<String>,
    generated: &Features,
    real: &Moments,
    extrapolated: Option<f64>,
    seed: u32,
    progress: Progress,
) -> Result<SizeCurve> {
    let n = generated.len();
    if n < 2 * PARTS {
        return Err(ImageError::Shape(format!(
            "a curve over the number of images needs at least {} of them, here are {n}",
            2 * PARTS
        ))
        .into());
    }
    let order = NumpyRandom::new(seed).permutation(n);
    let mut parts: Vec<Moments> = Vec::with_capacity(PARTS);
    for part in 0..PARTS {
        let mut moments = Moments::new(generated.dims());
        for rows in order[part * n / PARTS..(part + 1) * n / PARTS].chunks(ROWS) {
            moments.merge(&Moments::of(&generated.select(rows)?)?);
        }
        parts.push(moments);
    }
    let reference = FrechetReference::new(real)?;
    let all = 2 * PARTS - 1;
    let mut done = 0;
    let mut points = Vec::new();
    loop {
        let mut sum = 0.0;
        for part in &parts {
            sum += reference.distance(part)?;
            done += 1;
            progress(done, all);
        }
        points.push((n / parts.len(), sum / parts.len() as f64));
        if parts.len() == 1 {
            break;
        }
        parts = parts
            .chunks(2)
            .map(|pair| {
                let mut both = pair[0].clone();
                pair[1..].iter().for_each(|other| both.merge(other));
                both
            })
            .collect();
    }
    Ok(SizeCurve {
        name: name.into(),
        points,
        extrapolated,
    })
}

/// Draws a curve and its table; nothing when no point is finite.
pub(super) fn draw(page: &mut String, curve: &SizeCurve) {
    let mut points: Vec<(usize, f64)> = curve
        .points
        .iter()
        .copied()
        .filter(|(images, value)| *images > 0 && value.is_finite())
        .collect();
    points.sort_by_key(|(images, _)| *images);
    let fewest = points.first().map(|(images, _)| *images);
    let values = points.iter().map(|(_, value)| *value);
    let (Some(fewest), Some(axis)) = (fewest, Axis::over(values.chain(curve.extrapolated))) else {
        return;
    };
    let name = escape(&curve.name);
    let x = |images: usize| percent(fewest as f64 / images as f64);
    let y = |value: f64| ABOVE + HEIGHT * (1.0 - axis.share(value));
    let bottom = ABOVE + HEIGHT;
    push(
        page,
        format_args!(
            "<h3><code>{name}</code></h3>\n<figure>\n<svg class=\"chart\" role=\"img\" \
             aria-label=\"{name} against the number of images; the table has the values\" \
             style=\"height: {}px\">\n",
            bottom + BELOW
        ),
    );
    for (mark, label) in axis.marks() {
        let height = y(mark);
        push(
            page,
            format_args!(
                "<line class=\"mesh\" x1=\"0\" x2=\"100%\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
                 <text class=\"label\" x=\"0\" y=\"{:.1}\">{label}</text>\n",
                height - 3.0
            ),
        );
    }
    page.push_str("<g class=\"c0\">\n");
    let ends: Vec<(f64, f64)> = points
        .iter()
        .map(|(images, value)| (x(*images), y(*value)))
        .collect();
    for pair in ends.windows(2) {
        line(page, "curve", pair[0], pair[1]);
    }
    if let (Some(value), Some(last)) = (curve.extrapolated, ends.last()) {
        let end = (percent(0.0), y(value));
        line(page, "curve dashed", *last, end);
        dot(page, end, "∞", bottom);
    }
    for ((images, _), end) in points.iter().zip(&ends) {
        dot(page, *end, &images.to_string(), bottom);
    }
    page.push_str(
        "</g>\n</svg>\n<figcaption>Along: the number of images, at a place in proportion to 1/n, \
         so that the bias makes a straight line; ∞ is the extrapolated value. Parts are \
         averaged.</figcaption>\n</figure>\n",
    );
    table(page, &name, &points, curve.extrapolated);
}

fn line(page: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    push(
        page,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.2}%\" y1=\"{:.1}\" x2=\"{:.2}%\" y2=\"{:.1}\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

/// A point, and the number of its images below the curve.
fn dot(page: &mut String, (x, y): (f64, f64), images: &str, bottom: f64) {
    push(
        page,
        format_args!(
            "<circle class=\"dot\" cx=\"{x:.2}%\" cy=\"{y:.1}\" r=\"4\"/>\
             <text class=\"mark\" x=\"{x:.2}%\" y=\"{:.1}\">{images}</text>\n",
            bottom + 18.0
        ),
    );
}

fn table(page: &mut String, name: &str, points: &[(usize, f64)], extrapolated: Option<f64>) {
    push(
        page,
        format_args!(
            "<table>\n<caption>{name} by number of images</caption>\n<tr><th scope=\"col\">images\
             </th><th scope=\"col\">value</th></tr>\n"
        ),
    );
    for (images, value) in points {
        let value = number(*value);
        push(
            page,
            format_args!("<tr><th scope=\"row\">{images}</th><td>{value}</td></tr>\n"),
        );
    }
    if let Some(value) = extrapolated {
        let value = number(value);
        push(
            page,
            format_args!("<tr><th scope=\"row\">ever more</th><td>{value}</td></tr>\n"),
        );
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_distances_of_numpy() {
        // numpy 2.4.6: x[RandomState(2020).permutation(8)] in quarters, halves and whole; in one
        // dimension the distance is (mean - mean)² + (std - std)² with ddof = 1.
        let generated = [0.0, 1.0, 2.0, 4.0, 7.0, 11.0, 13.0, 16.0].to_vec();
        let generated = Features::new(generated, 1).unwrap();
        let real = Features::new(vec![1.0, 3.0, 5.0, 8.0], 1).unwrap();
        let real = Moments::of(&real).unwrap();
        let mut steps = Vec::new();
        let mut progress = |done: usize, all: usize| steps.push((done, all));
        let curve = size_curve("fd", &generated, &real, Some(12.5), 2020, &mut progress).unwrap();
        let expected = [
            (2, 33.249_635_135_600_24),
            (4, 19.019_127_826_925_78),
            (8, 15.297_858_568_904_315),
        ];
        assert_eq!(curve.points.len(), 3);
        for ((images, value), (expected_images, expected)) in curve.points.iter().zip(expected) {
            assert_eq!(*images, expected_images);
            assert!((value - expected).abs() < 1e-9, "{value}, not {expected}");
        }
        assert_eq!((steps.len(), steps.last()), (7, Some(&(7, 7))));
        let few = Features::new(vec![1.0; 7], 1).unwrap();
        assert!(size_curve("fd", &few, &real, None, 0, &mut |_, _| {}).is_err());
        let none = Features::new(vec![], 1).unwrap();
        assert!(size_curve("fd", &none, &real, None, 0, &mut |_, _| {}).is_err());
    }

    #[test]
    fn a_curve_is_drawn_against_the_inverse() {
        let curve = SizeCurve {
            name: "fd_<x>".to_owned(),
            points: vec![(1000, 20.0), (4000, 12.5), (2000, 15.0)],
            extrapolated: Some(10.0),
        };
        let mut page = String::new();
        draw(&mut page, &curve);
        // By hand: 8 % + 84 % of 1, ½, ¼ and 0.
        for place in ["92.00%", "50.00%", "29.00%", "8.00%"] {
            assert!(page.contains(&format!("cx=\"{place}\"")), "{place}: {page}");
        }
        // The axis goes from 10 to 20: 20 is at the top, 10 at the bottom.
        assert!(page.contains("cx=\"92.00%\" cy=\"18.0\"") && page.contains("cy=\"198.0\""));
        assert!(
            page.contains("x=\"50.00%\" y=\"216.0\">2000</text>"),
            "{page}"
        );
        assert!(page.contains("fd_&lt;x&gt;") && page.contains("<td>12.5</td>"));
        assert_eq!(page.matches("<line class=\"curve").count(), 3);
        let mut empty = String::new();
        draw(&mut empty, &SizeCurve::default());
        assert_eq!(empty, "");
    }
}
