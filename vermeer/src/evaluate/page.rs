//! The page of an evaluation: one HTML file with every number, what it means and what it does not.
//!
//! It needs nothing beside it and loads nothing: charts are inline SVG, pictures are data URIs, and
//! there are no scripts. It reads well in light and dark and on narrow screens; every chart has a
//! table with its numbers. The same input gives the same text.

mod axis;
mod histogram;
mod nearness;
mod numbers;
mod pictures;
mod runs;
mod size_curve;
mod whiskers;

use vermeer_image::Image;

use super::{Difference, Measured};
use crate::error::Result;
use crate::report::{escape, head, push};

pub use histogram::Histogram;
pub use nearness::{NearPair, Nearness, nearness};
pub use pictures::NeighbourPair;
pub use runs::{RunsPage, runs_page};
pub use size_curve::{SizeCurve, size_curve};

/// What the page shows. Parts that are empty are left out.
#[derive(Clone, Debug, Default)]
pub struct Page<'a> {
    /// The heading and the name of the page.
    pub title: String,
    /// The command line that made it.
    pub command: &'a str,
    /// Sentences that open the page, such as verdicts and warnings.
    pub remarks: &'a [String],
    /// The values.
    pub measured: &'a [Measured],
    /// Comparisons of two sets against one reference.
    pub differences: &'a [Difference],
    /// Some of the generated images; the first 64 are shown.
    pub generated: &'a [Image],
    /// Some of the real images; the first 64 are shown.
    pub real: Option<&'a [Image]>,
    /// Generated images beside their nearest real ones, nearest first.
    pub neighbours: &'a [NeighbourPair],
    /// How values of images are spread.
    pub histograms: &'a [Histogram],
    /// Values against the number of images.
    pub curves: &'a [SizeCurve],
    /// Named pictures, such as maps of differences and spectra.
    pub maps: &'a [(String, Image)],
}

/// Follows the style of every report.
const STYLE: &str = "
:root { --c0: #0072b2; --c1: #c65400; --c2: #008560; --c3: #b0578c; }
@media (prefers-color-scheme: dark) {
  :root { --c0: #56b4e9; --c1: #f0a35e; --c2: #3fc9a1; --c3: #e0a0c5; }
}
.c0 { color: var(--c0); } .c1 { color: var(--c1); }
.c2 { color: var(--c2); } .c3 { color: var(--c3); }
h3 { margin: 2rem 0 .5rem; }
h4 { margin: 1.5rem 0 .3rem; font-size: 1rem; overflow-wrap: anywhere; }
h4 data { font-size: 1.3rem; margin-left: .6rem; }
p { margin: .4rem 0; }
caption { text-align: left; opacity: .8; padding-bottom: .3rem; }
.wide { overflow-x: auto; }
.wide table { min-width: 44rem; }
.wide td, th { overflow-wrap: normal; }
.caveat, .forced { border-left: .25rem solid var(--c1); padding-left: .7rem; }
.facts { opacity: .8; }
article { border-top: 1px solid var(--line); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--ground); padding: .5rem .7rem;
  margin: .4rem 0; user-select: all; }
details { margin: .4rem 0 1.5rem; }
summary { cursor: pointer; }
figure .chart { display: block; width: 100%; max-width: 44rem; overflow: hidden; }
.chart text { fill: CanvasText; font-size: 13px; stroke: Canvas; stroke-width: 4px;
  paint-order: stroke; }
.chart .mark { text-anchor: middle; font-size: 12px; opacity: .8; }
.mesh { stroke: #8886; }
.whisker, .curve { stroke: currentColor; stroke-width: 2; }
.dashed { stroke-dasharray: 5 4; }
.dot { fill: currentColor; }
.bar { fill: currentColor; fill-opacity: .25; stroke: currentColor; }
.c1 .bar { stroke-dasharray: 4 2; } .c2 .bar { stroke-dasharray: 1 2; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em;
  background: currentColor; }
.tiles { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .4rem; }
.tiles img { width: 5.5rem; height: auto; background: var(--ground); vertical-align: top; }
.pixels img { image-rendering: pixelated; }
.pairs { gap: 1rem; }
.pairs li { width: 11.5rem; }
.pairs img { margin-right: .25rem; }
.pairs p { font-size: .85rem; overflow-wrap: anywhere; }
";

/// The page as one HTML document.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) when a picture cannot be encoded.
pub fn page(page: &Page<'_>) -> Result<String> {
    let mut out = head(&page.title, STYLE);
    for remark in page.remarks {
        push(&mut out, format_args!("<p>{}</p>\n", escape(remark)));
    }
    if !page.measured.is_empty() {
        out.push_str(
            "<p>Each value stands under the name of its protocol, with its interval where it has \
             one. Two values can be compared when their passports agree in everything but the \
             images that were judged.</p>\n",
        );
    }
    if !page.command.is_empty() {
        let command = escape(page.command);
        push(
            &mut out,
            format_args!("<p>Made by:</p>\n<pre>{command}</pre>\n"),
        );
    }
    numbers::overview(&mut out, page.measured);
    numbers::differences(&mut out, page.differences);
    let real = page.real.unwrap_or_default();
    if !page.generated.is_empty() || !real.is_empty() {
        out.push_str("<h2>Images</h2>\n");
        pictures::grid(&mut out, "generated", page.generated)?;
        pictures::grid(&mut out, "real", real)?;
    }
    numbers::metrics(&mut out, page.measured);
    if !page.curves.is_empty() {
        out.push_str("<h2>Against the number of images</h2>\n");
        for curve in page.curves {
            size_curve::draw(&mut out, curve);
        }
    }
    if !page.histograms.is_empty() {
        out.push_str("<h2>Distributions</h2>\n");
        for one in page.histograms {
            histogram::histogram(&mut out, one);
        }
    }
    pictures::neighbours(&mut out, page.neighbours)?;
    pictures::maps(&mut out, page.maps)?;
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vermeer_image::Pixels;
    use vermeer_image::metrics::{Interval, Score, metric};

    use super::*;
    use crate::evaluate::{Passport, Side};

    fn side(location: &str, images: u64) -> Side {
        Side {
            location: location.to_owned(),
            split: "all".to_owned(),
            images,
            digest: format!("{location}-0123456789abcdef"),
        }
    }

    fn measured(id: &str, score: Score) -> Measured {
        let passport = Passport {
            generated: side("samples <b>", 5000),
            real: Some(side("photos & more", 1000)),
            network: "vermeer".to_owned(),
            network_sha256: "ab12cd34ef56ab78".to_owned(),
            seed: 2020,
            ..Passport::default()
        };
        Measured::new(metric(id).unwrap(), score, passport)
    }

    fn values() -> Vec<Measured> {
        let around = |value: f64, half: f64| Interval::around(value, half);
        let mut foreign = measured("fid", Score::plain("own <script>", 0.001_234_567));
        foreign.metric = "<unknown>".to_owned();
        vec![
            measured(
                "fid",
                Score::plain("fd_vermeer", 12.345_678)
                    .with(around(12.345_678, 0.5), "draws of the <generated> images")
                    .note("biased by about +1 & more"),
            ),
            measured(
                "kid",
                Score::plain("kd_vermeer_all_pairs", 0.004_321_9).with(around(0.004, 0.001), "x"),
            ),
            measured(
                "fid",
                Score::plain("fd_vermeer_infinity", 11.25).with(around(11.25, 0.75), "draws"),
            ),
            measured("psnr", Score::plain("psnr_rgb", f64::INFINITY)),
            foreign,
        ]
    }

    fn image(level: u8) -> Image {
        Image::new(2, 1, 1, Pixels::U8(vec![level, 255])).unwrap()
    }

    fn example() -> String {
        let values = values();
        let differences = [Difference {
            name: "fd_vermeer".to_owned(),
            difference: -2.5,
            interval: Interval::around(-2.5, 1.0),
            beyond_chance: true,
            verdict: "a<b is better than c by more than chance".to_owned(),
        }];
        let (generated, real) = ([image(0), image(9)], [image(7)]);
        let neighbours = [NeighbourPair {
            sample: image(0),
            sample_name: "sample <4>".to_owned(),
            neighbour: image(1),
            neighbour_name: "photos/\"a\".png".to_owned(),
            distance: 0.25,
        }];
        let histograms = [Histogram {
            title: "distance <1".to_owned(),
            unit: "a & b".to_owned(),
            series: vec![
                ("generated".to_owned(), vec![1.0, 2.0, f64::NAN]),
                ("<real>".to_owned(), vec![2.0, 4.0]),
            ],
        }];
        let curves = [SizeCurve {
            name: "fd_<vermeer>".to_owned(),
            points: vec![(1250, 15.0), (5000, 12.3)],
            extrapolated: Some(11.25),
        }];
        let maps = [("difference of <a> and b".to_owned(), image(3))];
        page(&Page {
            title: "fid of <samples> & \"photos\"".to_owned(),
            command: "vermeer eval fid 'a b' <photos> --report out.html",
            remarks: &["3 of 10 classes are <missing>".to_owned()],
            measured: &values,
            differences: &differences,
            generated: &generated,
            real: Some(&real),
            neighbours: &neighbours,
            histograms: &histograms,
            curves: &curves,
            maps: &maps,
        })
        .unwrap()
    }

    /// Fails at the first tag that closes another one than the last that is open.
    fn check_nesting(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        for piece in page.split('<').skip(1) {
            let (tag, _) = piece.split_once('>').unwrap();
            let name = tag
                .trim_start_matches('/')
                .split([' ', '\n', '/'])
                .next()
                .unwrap();
            let empty = ["!DOCTYPE", "meta", "img", "br"].contains(&name);
            if empty || tag.ends_with('/') {
                continue;
            }
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}> in {open:?}");
            } else {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?} are never closed");
    }

    #[test]
    fn every_part_is_there_and_well_nested() {
        let page = example();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        for heading in [
            "Values",
            "Differences",
            "Images",
            "What the values say",
            "Against the number of images",
            "Distributions",
            "Nearest neighbours",
            "Maps",
        ] {
            assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
        }
        check_nesting(&page);
        assert_eq!(page, example());
    }

    #[test]
    fn each_number_stands_with_what_it_means() {
        let page = example();
        for number in [
            "<data value=\"12.345678\">12.3457</data>",
            "<data value=\"11.25\">11.25</data>",
            "<data value=\"0.0043219\">0.0043219</data>",
            "<data value=\"inf\">infinite</data>",
            "<data value=\"-2.5\">-2.5</data>",
            "95 % interval 11.8457 to 12.8457, over draws of the &lt;generated&gt; images.",
            "No interval.",
        ] {
            assert!(page.contains(number), "{number}");
        }
        for value in values() {
            assert!(
                page.contains(&escape(&value.citation)),
                "{}",
                value.citation
            );
            for note in &value.notes {
                assert!(page.contains(&escape(note)), "{note}");
            }
            if let Some(about) = metric(&value.metric) {
                for text in [about.title, about.meaning, about.caveat, about.source] {
                    assert!(page.contains(&escape(text)), "{text}");
                }
            }
        }
        // Values of one metric stand in one section.
        assert_eq!(page.matches("<section ").count(), 4);
        assert_eq!(page.matches("<details>").count(), 5);
        assert_eq!(page.matches("<summary>Passport</summary>").count(), 5);
    }

    #[test]
    fn too_few_images_are_said_to_be_so() {
        // The floor of fid is 2,048 images, that of kid 100.
        let page = example();
        assert_eq!(page.matches("Of 1000 images this means nothing").count(), 2);
        assert!(page.contains("at least 2048 are needed"));
    }

    #[test]
    fn nothing_is_loaded_and_texts_are_escaped() {
        let page = example();
        for tag in [
            "http:", "https:", "<link", "<script", "<iframe", "@import", "url(", "<b>",
        ] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert_eq!(
            page.matches("src=\"").count(),
            page.matches("src=\"data:image/png;base64,").count()
        );
        // Two generated, one real, two of a pair, one map.
        assert_eq!(page.matches("<img alt=\"").count(), 6);
        let title = "fid of &lt;samples&gt; &amp; &quot;photos&quot;";
        assert!(page.contains(&format!("<h1>{title}</h1>")));
        assert!(page.contains("vermeer eval fid &#39;a b&#39; &lt;photos&gt; --report out.html"));
        assert!(page.contains("3 of 10 classes are &lt;missing&gt;"));
        assert!(page.contains("alt=\"photos/&quot;a&quot;.png\""));
    }

    #[test]
    fn links_lead_to_places_of_the_page() {
        let page = example();
        let after = |mark: &str| -> Vec<String> {
            page.split(mark)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned())
                .collect()
        };
        let ids = after(" id=\"");
        let unique: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        let targets = after("href=\"#");
        assert_eq!(targets.len(), 5);
        assert!(targets.iter().all(|target| unique.contains(target)));
    }

    #[test]
    fn an_empty_page_has_its_heading_only() {
        let page = page(&Page {
            title: "x".to_owned(),
            ..Page::default()
        })
        .unwrap();
        assert!(page.contains("<h1>x</h1>\n</body>"));
        check_nesting(&page);
    }
}
