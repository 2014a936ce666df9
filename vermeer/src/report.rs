//! The report of a run: one HTML file with its settings, curves, health and pictures.
//!
//! The file needs nothing beside it and loads nothing: curves are inline SVG, pictures are data
//! URIs, and a content security policy says so to the browser. It reads well in light and dark.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::curve::{Scale, Series, curves_svg};
use crate::error::Result;
use crate::run::{Verdict, VerdictLine, replace_file};

/// What a report shows. Parts that are empty are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportInput {
    /// The heading and the name of the page.
    pub title: String,
    /// Sentences that open the report: what was trained, and what to think of it.
    pub summary: Vec<String>,
    /// How the run went: family, device, steps, minutes, version.
    pub facts: Vec<(String, String)>,
    /// What it was trained on.
    pub data: Vec<(String, String)>,
    /// Pictures of samples.
    pub samples: Vec<Picture>,
    /// How the samples developed, as an animation.
    pub development: Option<Picture>,
    /// Curves over steps.
    pub charts: Vec<Chart>,
    /// Judgements in the order of their steps.
    pub health: Vec<VerdictLine>,
    /// Every setting by its full name.
    pub settings: Vec<(String, String)>,
}

/// Curves that share a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What the values are, with their unit.
    pub title: String,
    /// How values become heights.
    pub scale: Scale,
    /// The curves.
    pub series: Vec<Series>,
}

/// A picture inside the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    caption: String,
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Picture {
    /// A PNG or APNG file.
    pub fn png(caption: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            caption: caption.into(),
            media_type: "image/png",
            bytes,
        }
    }

    /// A GIF file.
    pub fn gif(caption: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            caption: caption.into(),
            media_type: "image/gif",
            bytes,
        }
    }
}

/// Writes the report of a run, in one step.
///
/// # Errors
/// When a curve cannot be drawn or the disk refuses.
pub fn write_report(input: &ReportInput, path: &Path) -> Result<()> {
    replace_file(path, render(input)?.as_bytes())
}

/// Shared by every report. Pictures of few pixels are shown large, with sharp edges.
const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --ground: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
h1 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption { opacity: .8; }
figure img { min-width: min(100%, 24rem); max-width: 100%; height: auto;
  image-rendering: pixelated; background: var(--ground); }
figure svg { max-width: 100%; height: auto; }
.verdict { display: inline-block; padding: 0 .6rem; border-radius: .3rem; color: #fff; }
.ok { background: #1a7f45; } .watch { background: #96640a; } .bad { background: #b3261e; }
";

/// The beginning of a report, up to its heading. `more_style` follows the style of every report.
pub(crate) fn head(title: &str, more_style: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}{more_style}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n"
    )
}

fn render(input: &ReportInput) -> Result<String> {
    let mut page = head(&input.title, "");
    for sentence in &input.summary {
        push(&mut page, format_args!("<p>{}</p>\n", escape(sentence)));
    }
    table(&mut page, "Run", &input.facts);
    if !input.samples.is_empty() || input.development.is_some() {
        page.push_str("<h2>Samples</h2>\n");
        for picture in input.samples.iter().chain(&input.development) {
            figure(&mut page, picture);
        }
    }
    health(&mut page, &input.health);
    if !input.charts.is_empty() {
        page.push_str("<h2>Curves</h2>\n");
        for chart in &input.charts {
            let svg = curves_svg(&chart.series, &chart.title, chart.scale)?;
            push(&mut page, format_args!("<figure>\n{svg}</figure>\n"));
        }
    }
    table(&mut page, "Data", &input.data);
    table(&mut page, "Settings", &input.settings);
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn table(page: &mut String, heading: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    push(page, format_args!("<h2>{heading}</h2>\n<table>\n"));
    for (name, value) in rows {
        let (name, value) = (escape(name), escape(value));
        push(
            page,
            format_args!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n"),
        );
    }
    page.push_str("</table>\n");
}

/// The last judgement, and a row for each that differs from the one before.
fn health(page: &mut String, verdicts: &[VerdictLine]) {
    let Some(last) = verdicts.last() else { return };
    push(
        page,
        format_args!(
            "<h2>Health</h2>\n<p>At the end: {}</p>\n",
            badge(last.verdict)
        ),
    );
    page.push_str(
        "<table>\n<tr><th scope=\"col\">from step</th><th scope=\"col\">verdict</th>\
         <th scope=\"col\">why</th></tr>\n",
    );
    let mut before: Option<&VerdictLine> = None;
    for line in verdicts {
        if before.is_none_or(|old| (old.verdict, &old.why) != (line.verdict, &line.why)) {
            let (badge, why) = (badge(line.verdict), escape(&line.why.join("; ")));
            let step = line.step;
            push(
                page,
                format_args!("<tr><td>{step}</td><td>{badge}</td><td>{why}</td></tr>\n"),
            );
        }
        before = Some(line);
    }
    page.push_str("</table>\n");
}

fn badge(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "<span class=\"verdict ok\">ok</span>",
        Verdict::Watch => "<span class=\"verdict watch\">watch</span>",
        Verdict::Bad => "<span class=\"verdict bad\">bad</span>",
    }
}

fn figure(page: &mut String, picture: &Picture) {
    let caption = escape(&picture.caption);
    page.push_str("<figure>\n");
    image(page, &picture.caption, picture.media_type, &picture.bytes);
    push(
        page,
        format_args!("\n<figcaption>{caption}</figcaption>\n</figure>\n"),
    );
}

/// A picture with its bytes, and the text that stands for it where it cannot be seen.
pub(crate) fn image(page: &mut String, text: &str, media_type: &str, bytes: &[u8]) {
    let text = escape(text);
    push(
        page,
        format_args!("<img alt=\"{text}\" src=\"data:{media_type};base64,"),
    );
    STANDARD.encode_string(bytes, page);
    page.push_str("\">");
}

/// Writes a formatted text.
pub(crate) fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = page.write_fmt(text);
}

/// A text as HTML shows it, in an element or in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn verdict(step: u64, verdict: Verdict, why: &[&str]) -> VerdictLine {
        let why = why.iter().map(|&reason| reason.to_owned()).collect();
        VerdictLine {
            step,
            name: "health".to_owned(),
            verdict,
            why,
        }
    }

    fn example() -> ReportInput {
        ReportInput {
            title: "glyphs <script>alert('\"&')</script>".to_owned(),
            summary: vec!["A model & its samples.".to_owned()],
            facts: vec![pair("family", "vae")],
            data: vec![pair("source", "world:glyphs?count=2000&size=32")],
            samples: vec![Picture::png("64 \"samples\"", b"\x89PNG".to_vec())],
            development: Some(Picture::gif("how they came to be", b"GIF89a".to_vec())),
            charts: vec![Chart {
                title: "loss, nats".to_owned(),
                scale: Scale::Log,
                series: vec![Series {
                    name: "train".to_owned(),
                    points: vec![(1.0, 9.0), (2.0, 3.0)],
                }],
            }],
            health: vec![
                verdict(10, Verdict::Ok, &[]),
                verdict(20, Verdict::Ok, &[]),
                verdict(30, Verdict::Bad, &["the spread is < 0.1"]),
            ],
            settings: vec![pair("train.steps", "100")],
        }
    }

    #[test]
    fn a_report_is_whole_and_loads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_report(&example(), &path).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        for heading in ["Run", "Samples", "Health", "Curves", "Data", "Settings"] {
            assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
        }
        for tag in ["<link", "<script", "<iframe", "@import", "url("] {
            assert!(!page.contains(tag), "{tag}");
        }
        // The one address is the name of SVG itself, which is never fetched.
        assert_eq!(
            page.matches("http://").count(),
            page.matches("www.w3.org/2000/svg").count()
        );
        assert_eq!(
            page.matches("src=\"").count(),
            page.matches("src=\"data:image/").count()
        );
        assert_eq!(
            page.matches("<figure>").count(),
            page.matches("</figure>").count()
        );
        // RFC 4648 by hand: 89 50 4e 47.
        assert!(page.contains("data:image/png;base64,iVBORw==\""));
        assert!(page.contains("data:image/gif;base64,R0lGODlh\""));
    }

    #[test]
    fn texts_are_escaped() {
        let page = render(&example()).unwrap();
        let title = "glyphs &lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;";
        assert!(page.contains(&format!("<title>{title}</title>")));
        assert!(page.contains(&format!("<h1>{title}</h1>")));
        assert!(page.contains("count=2000&amp;size=32"));
        assert!(page.contains("alt=\"64 &quot;samples&quot;\""));
        assert!(page.contains("the spread is &lt; 0.1"));
    }

    #[test]
    fn health_shows_changes_only() {
        let page = render(&example()).unwrap();
        assert!(page.contains("At the end: <span class=\"verdict bad\">"));
        assert!(page.contains("<td>10</td>") && page.contains("<td>30</td>"));
        assert!(!page.contains("<td>20</td>"));
    }

    #[test]
    fn empty_parts_are_left_out() {
        let input = ReportInput {
            title: "x".to_owned(),
            ..ReportInput::default()
        };
        let page = render(&input).unwrap();
        assert!(!page.contains("<h2>") && !page.contains("<figure>"));
    }
}
