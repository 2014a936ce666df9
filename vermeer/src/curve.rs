//! Curves over training steps, drawn as SVG.
//!
//! Axes and texts take the colour of the text around the picture (`currentColor`), and the ground
//! is transparent, so one picture serves light and dark pages.

use std::ops::Range;

use plotters::prelude::*;

use crate::error::{Error, Result};

/// Width and height of a picture in pixels.
const SIZE: (u32, u32) = (760, 320);
/// Height of a line of the legend.
const LINE: i32 = 20;
/// Stands for the colour of the text around the picture while it is drawn.
const INK: RGBColor = RGBColor(1, 2, 3);
/// [`INK`] as plotters writes it.
const INK_TEXT: &str = "#010203";
/// Colours that colour-blind people can tell apart (Okabe and Ito, 2008), black left out.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(150, 140, 40),
];
/// Points drawn of one series; more than two to a pixel cannot be seen.
const MAX_POINTS: usize = 1400;
/// The greatest height drawn; beyond it the arithmetic of the axis runs out of range.
const GREATEST: f64 = 1e60;

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Step and value, steps ascending.
    pub points: Vec<(f64, f64)>,
}

/// How values become heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences have equal heights.
    #[default]
    Linear,
    /// Equal ratios have equal heights; values that are not positive are left out.
    Log,
}

/// Draws curves with a title and a legend as one `<svg>` element of 760 × 320 pixels.
///
/// Values that are not finite or beyond 1e60 are left out. Long series are thinned so that every peak stays.
/// The same curves give the same text.
///
/// # Errors
/// When the drawing library refuses.
pub fn curves_svg(series: &[Series], title: &str, scale: Scale) -> Result<String> {
    let series: Vec<Series> = series.iter().map(|one| visible(one, scale)).collect();
    let mut text = String::new();
    draw(&series, title, scale, &mut text)
        .map_err(|error| Error::Failed(format!("cannot draw the curves of {title}: {error}")))?;
    Ok(text.replace(INK_TEXT, "currentColor"))
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(series: &[Series], title: &str, scale: Scale, text: &mut String) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let names: Vec<&str> = series.iter().map(|one| one.name.as_str()).collect();
    let places = legend_places(&names);
    let legend_height = places.last().map_or(0, |&(_, y)| y + LINE);
    let (head, body) = root.split_vertically(34 + legend_height);
    head.draw(&Text::new(
        title,
        (16, 10),
        ("sans-serif", 20).into_font().color(&INK),
    ))?;
    for ((&name, &(x, y)), colour) in names.iter().zip(&places).zip(COLOURS.iter().cycle()) {
        let (x, y) = (16 + x, 34 + y);
        head.draw(&PathElement::new(
            vec![(x, y + 7), (x + 18, y + 7)],
            colour.stroke_width(3),
        ))?;
        head.draw(&Text::new(
            name,
            (x + 24, y),
            ("sans-serif", 15).into_font().color(&INK),
        ))?;
    }

    let points = || series.iter().flat_map(|one| &one.points);
    if points().next().is_none() {
        body.draw(&Text::new(
            "no values",
            (16, 16),
            ("sans-serif", 15).into_font().color(&INK),
        ))?;
        return root.present();
    }
    let steps = range(points().map(|point| point.0), 0.0);
    let values = range(points().map(|point| point.1), 0.05);
    let span = values.end - values.start;
    let step_label = |step: &f64| number(*step);
    let value_label = |value: &f64| match scale {
        // What remains of a zero after adding ticks is not worth a label of its own.
        Scale::Linear if value.abs() < 1e-9 * span => number(0.0),
        Scale::Linear => number(*value),
        Scale::Log => number(10f64.powf(*value)),
    };
    let mut chart = ChartBuilder::on(&body)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(steps, values)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&step_label)
        .y_label_formatter(&value_label)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let size = if one.points.len() == 1 { 3 } else { 0 };
        let line = LineSeries::new(one.points.iter().copied(), colour.stroke_width(2));
        chart.draw_series(line.point_size(size))?;
    }
    root.present()
}

/// The points of a series as they are drawn: finite, on the scale, and not too many.
fn visible(series: &Series, scale: Scale) -> Series {
    let points: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|&(step, value)| match scale {
            Scale::Linear => (step, value),
            Scale::Log => (step, value.log10()),
        })
        .filter(|(step, value)| step.is_finite() && value.abs() <= GREATEST)
        .collect();
    Series {
        name: series.name.clone(),
        points: thin(points),
    }
}

/// Keeps the lowest and the highest point of each of many equal stretches, in their order.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(MAX_POINTS / 2);
    let extremes = |chunk: &[(f64, f64)]| {
        let by_value = |&a: &usize, &b: &usize| chunk[a].1.total_cmp(&chunk[b].1);
        let low = (0..chunk.len()).min_by(by_value).unwrap_or(0);
        let high = (0..chunk.len()).max_by(by_value).unwrap_or(0);
        [chunk[low.min(high)], chunk[low.max(high)]]
    };
    points.chunks(stretch).flat_map(extremes).collect()
}

/// From the least to the greatest value, widened by a share of their distance on each side; a
/// single value gets some room around it.
fn range(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low == high {
        let room = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
        return low - room..high + room;
    }
    let room = share * (high - low);
    low - room..high + room
}

/// Where each entry of the legend starts, by an estimate of the width of its letters.
fn legend_places(names: &[&str]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (0, 0);
    names
        .iter()
        .map(|name| {
            let width = 48 + 8 * name.chars().count() as i32;
            if x > 0 && x + width > SIZE.0 as i32 - 32 {
                (x, y) = (0, y + LINE);
            }
            let place = (x, y);
            x += width;
            place
        })
        .collect()
}

/// A number in few characters.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e7).contains(&value.abs()) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        let points = values
            .iter()
            .enumerate()
            .map(|(i, &v)| (i as f64, v))
            .collect();
        Series {
            name: name.to_owned(),
            points,
        }
    }

    #[test]
    fn a_picture_is_one_svg_element_in_the_colours_of_its_page() {
        let curves = [
            series("train", &[3.0, 2.0, 1.5]),
            series("validation", &[3.1, 2.4]),
        ];
        let svg = curves_svg(&curves, "loss <nats> & more", Scale::Linear).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("loss &lt;nats&gt; &amp; more") && svg.contains("validation"));
        assert!(svg.contains("currentColor") && !svg.contains(INK_TEXT));
        assert!(svg.contains("#0072B2") && svg.contains("#D55E00"));
        assert_eq!(
            svg,
            curves_svg(&curves, "loss <nats> & more", Scale::Linear).unwrap()
        );
    }

    #[test]
    fn odd_series_are_drawn_without_what_has_no_place() {
        let odd = [f64::NAN, 0.0, -1.0, f64::INFINITY, 1e-30, 1e300];
        for scale in [Scale::Linear, Scale::Log] {
            for values in [&odd[..], &[], &[5.0], &[0.0, 0.0], &[-2.0], &[1e-30, 1e-30]] {
                let svg = curves_svg(&[series("x", values)], "t", scale).unwrap();
                assert!(
                    !svg.contains("NaN") && !svg.contains("inf"),
                    "{values:?} {scale:?}"
                );
            }
        }
        assert!(
            curves_svg(&[], "t", Scale::Linear)
                .unwrap()
                .contains("no values")
        );
        assert!(
            curves_svg(&[series("x", &[-1.0])], "t", Scale::Log)
                .unwrap()
                .contains("no values")
        );
        assert_eq!(visible(&series("x", &odd), Scale::Log).points.len(), 2);
    }

    #[test]
    fn long_series_are_thinned_and_keep_their_peaks() {
        let mut values = vec![1.0; 100_000];
        values[70_001] = 50.0;
        values[3] = -7.0;
        let points = visible(&series("x", &values), Scale::Linear).points;
        assert!(points.len() <= MAX_POINTS, "{}", points.len());
        assert!(points.contains(&(70_001.0, 50.0)) && points.contains(&(3.0, -7.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn long_legends_go_on_in_the_next_line() {
        let places = legend_places(&["a name of thirty characters, so"; 5]);
        assert_eq!(places[0], (0, 0));
        assert!(
            places.iter().any(|&(x, y)| x == 0 && y == LINE),
            "{places:?}"
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (20_000.0, "20000"),
            (0.1 + 0.2, "0.3"),
            (-2.5, "-2.5"),
            (0.0316, "0.0316"),
            (1e-4, "1.0e-4"),
            (2e7, "2.0e7"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
