//! The page of a comparison of runs: the table, samples, what each column says, and passports.

use vermeer_image::Image;

use super::axis::{Axis, percent};
use super::{STYLE, numbers, pictures};
use crate::error::Result;
use crate::evaluate::{Measured, RunCell, RunColumn, RunRow, RunTable};
use crate::report::{escape, head, push};

/// What the page shows.
#[derive(Clone, Debug)]
pub struct RunsPage<'a> {
    /// The heading and the name of the page.
    pub title: String,
    /// The command line that made it.
    pub command: &'a str,
    /// Sentences that open the page: data, size of the images, network, warnings.
    pub remarks: &'a [String],
    /// The rows.
    pub rows: &'a [RunRow],
    /// The table of these rows.
    pub table: &'a RunTable,
    /// Some images for each row, in the order of the rows.
    pub sheets: &'a [Vec<Image>],
}

/// Follows the style of every page of an evaluation.
const MORE_STYLE: &str = "
td.best { font-weight: 700; }
td.best::after { content: ' ★'; color: var(--c1); }
";

/// Height of a bar with its label, and of the axis, in pixels.
const ROW: usize = 40;
const FOOT: usize = 26;

/// The page as one HTML document.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) when a picture cannot be encoded.
pub fn runs_page(page: &RunsPage<'_>) -> Result<String> {
    let mut out = head(&page.title, &format!("{STYLE}{MORE_STYLE}"));
    for remark in page.remarks {
        push(&mut out, format_args!("<p>{}</p>\n", escape(remark)));
    }
    if !page.command.is_empty() {
        let command = escape(page.command);
        push(
            &mut out,
            format_args!("<p>Made by:</p>\n<pre>{command}</pre>\n"),
        );
    }
    overview(&mut out, page.table);
    out.push_str("<h2>Samples</h2>\n");
    for (at, row) in page.rows.iter().enumerate() {
        let images = page.sheets.get(at).map(Vec::as_slice).unwrap_or_default();
        about(&mut out, row);
        let what = match row.is_run() {
            true => escape(&row.name),
            false => "real".to_owned(),
        };
        pictures::grid(&mut out, &what, images)?;
    }
    out.push_str("<h2>What each column says</h2>\n");
    for column in &page.table.columns {
        push(
            &mut out,
            format_args!(
                "<section>\n<h3>{}</h3>\n<p>{}</p>\n",
                escape(&column.heading()),
                escape(&column.meaning)
            ),
        );
        bars(&mut out, &page.table.names, column);
        out.push_str("</section>\n");
    }
    let measured: Vec<Measured> = page
        .rows
        .iter()
        .flat_map(|row| row.values.iter().cloned())
        .collect();
    numbers::metrics(&mut out, &measured);
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

/// The table.
fn overview(out: &mut String, table: &RunTable) {
    out.push_str(
        "<h2>Comparison</h2>\n<div class=\"wide\" role=\"region\" aria-label=\"Comparison\" \
         tabindex=\"0\">\n<table>\n<caption>A star marks the best value of a column among the runs, \
         and those whose interval meets its interval</caption>\n<tr><th scope=\"col\">run</th>",
    );
    for column in &table.columns {
        push(
            out,
            format_args!("<th scope=\"col\">{}</th>", escape(&column.heading())),
        );
    }
    out.push_str("</tr>\n");
    for (row, name) in table.names.iter().enumerate() {
        push(
            out,
            format_args!("<tr><th scope=\"row\">{}</th>", escape(name)),
        );
        for column in &table.columns {
            match column.cells.get(row).and_then(Option::as_ref) {
                Some(cell) => entry(out, cell),
                None => out.push_str("<td>–</td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n</div>\n");
}

fn entry(out: &mut String, cell: &RunCell) {
    let class = match cell.best {
        true => " class=\"best\"",
        false => "",
    };
    push(
        out,
        format_args!(
            "<td{class}><data value=\"{}\">{}</data></td>",
            cell.value,
            escape(&cell.text)
        ),
    );
}

/// What a row is, with its findings in words.
fn about(out: &mut String, row: &RunRow) {
    let what = match row.is_run() {
        true => format!("{}: {}, step {}", row.location, row.family, row.step),
        false => row.location.clone(),
    };
    let mut lines = vec![format!("{what}; {} images", row.samples)];
    if let Some(modes) = &row.modes {
        lines.push(format!("Modes: {}", modes.sentence));
        if !modes.lost.is_empty() {
            lines.push(format!("Lost: {}", modes.lost.join(", ")));
        }
    }
    if let Some(copies) = &row.copies {
        lines.push(format!("Copies: {}", copies.sentence));
    }
    if let Some(found) = &row.likelihood {
        lines.push(format!(
            "Likelihood: {:.4} bits per dimension ({}), {:.3} nats, {} images of {} dimensions, \
             seed {}",
            found.mean, found.protocol, found.nats, found.images, found.dimensions, found.seed
        ));
    }
    lines.extend(row.notes.iter().cloned());
    push(out, format_args!("<h3>{}</h3>\n<ul>\n", escape(&row.name)));
    for line in lines {
        push(out, format_args!("<li>{}</li>\n", escape(&line)));
    }
    out.push_str("</ul>\n");
}

/// A bar for each value, with a line for its interval.
fn bars(out: &mut String, names: &[String], column: &RunColumn) {
    let ends = |cell: &RunCell| {
        let (low, high) = cell
            .interval
            .map_or((cell.value, cell.value), |it| (it.low, it.high));
        [0.0, low, cell.value, high]
    };
    let Some(axis) = Axis::over(column.cells.iter().flatten().flat_map(ends)) else {
        return;
    };
    let at = |value: f64| percent(axis.share(value));
    let shown: Vec<(&String, &RunCell)> = names
        .iter()
        .zip(&column.cells)
        .filter_map(|(name, cell)| Some((name, cell.as_ref()?)))
        .collect();
    let bottom = shown.len() * ROW;
    push(
        out,
        format_args!(
            "<figure>\n<svg class=\"chart\" role=\"img\" aria-label=\"{}: bars\" \
             style=\"height: {}px\">\n",
            escape(&column.name),
            bottom + FOOT
        ),
    );
    for (mark, label) in axis.marks() {
        let x = at(mark);
        push(
            out,
            format_args!(
                "<line class=\"mesh\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{bottom}\"/>\
                 <text class=\"mark\" x=\"{x:.2}%\" y=\"{}\">{label}</text>\n",
                bottom + 17
            ),
        );
    }
    let zero = at(0.0);
    for (row, (name, cell)) in shown.into_iter().enumerate() {
        let top = row * ROW;
        push(
            out,
            format_args!(
                "<g class=\"c0\"><title>{name}: {text}</title><text class=\"label\" x=\"0\" \
                 y=\"{label}\">{name} · {text}</text>",
                name = escape(name),
                text = escape(&cell.text),
                label = top + 15,
            ),
        );
        if cell.value.is_finite() {
            let end = at(cell.value);
            push(
                out,
                format_args!(
                    "<rect class=\"bar\" x=\"{:.2}%\" y=\"{}\" width=\"{:.2}%\" height=\"12\"/>",
                    zero.min(end),
                    top + 21,
                    (end - zero).abs()
                ),
            );
        }
        if let Some(range) = cell.interval
            && range.low.is_finite()
            && range.high.is_finite()
        {
            push(
                out,
                format_args!(
                    "<line class=\"whisker\" x1=\"{:.2}%\" x2=\"{:.2}%\" y1=\"{y}\" y2=\"{y}\"/>",
                    at(range.low),
                    at(range.high),
                    y = top + 27
                ),
            );
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n</figure>\n");
}

#[cfg(test)]
mod tests {
    use vermeer_image::Pixels;
    use vermeer_image::metrics::{Interval, Score, metric};

    use super::*;
    use crate::evaluate::Passport;

    fn row(name: &str, value: f64) -> RunRow {
        let score = Score::plain("fd_judge", value).with(Interval::around(value, 1.0), "draws");
        RunRow {
            name: name.to_owned(),
            location: format!("runs/{name}"),
            family: "vae".to_owned(),
            values: vec![Measured::new(
                metric("fid").unwrap(),
                score,
                Passport::default(),
            )],
            notes: vec!["without modes: <too few>".to_owned()],
            ..RunRow::default()
        }
    }

    #[test]
    fn the_page_holds_every_row_column_and_picture() {
        let rows = [row("a<b", 5.0), row("b", 9.0)];
        let table = RunTable::new(&rows);
        let image = Image::new(2, 2, 1, Pixels::U8(vec![0, 50, 100, 200])).unwrap();
        let page = RunsPage {
            title: "2 runs".to_owned(),
            command: "vermeer compare 'a b'",
            remarks: &["compared at 28x28".to_owned()],
            rows: &rows,
            table: &table,
            sheets: &[vec![image.clone(); 3], vec![image]],
        };
        let text = runs_page(&page).unwrap();
        assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
        assert!(text.contains("<td class=\"best\"><data value=\"5\">5.000 ±1.0</data></td>"));
        assert!(text.contains("<td><data value=\"9\">9.000 ±1.0</data></td>"));
        assert_eq!(text.matches("<img ").count(), 4);
        // The axis goes from 0 to 10 between 8 % and 92 % of the width.
        assert!(text.contains("<rect class=\"bar\" x=\"8.00%\" y=\"21\" width=\"42.00%\""));
        assert!(text.contains("<li>without modes: &lt;too few&gt;</li>"));
        assert!(text.contains("Fréchet distance") && text.contains("a&lt;b"));
        for never in ["<b>", "<script", "https:", "a<b"] {
            assert!(!text.contains(never), "{never}");
        }
        for tag in ["section", "table", "svg", "ul", "figure", "g"] {
            assert_eq!(
                text.matches(&format!("<{tag}>")).count()
                    + text.matches(&format!("<{tag} ")).count(),
                text.matches(&format!("</{tag}>")).count(),
                "{tag}"
            );
        }
    }
}
