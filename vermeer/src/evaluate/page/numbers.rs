//! The values of a page: a table of all, and what each one means.

use vermeer_image::metrics::{Better, Metric, metric};

use super::axis::{confidence, interval, number};
use super::whiskers::whiskers;
use crate::evaluate::{Difference, Measured, Side};
use crate::report::{escape, push};

/// The table of all values.
pub(super) fn overview(page: &mut String, measured: &[Measured]) {
    if measured.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Values</h2>\n<div class=\"wide\" role=\"region\" aria-label=\"Values\" tabindex=\"0\">\n\
         <table>\n<caption>Every value under the name of its protocol</caption>\n\
         <tr><th scope=\"col\">name</th><th scope=\"col\">value</th><th scope=\"col\">interval</th>\
         <th scope=\"col\">better</th><th scope=\"col\">images</th>\
         <th scope=\"col\">compared with</th></tr>\n",
    );
    for (at, value) in measured.iter().enumerate() {
        let range = value
            .interval
            .map_or_else(|| "none".to_owned(), |range| interval(&range));
        let real = value
            .passport
            .real
            .as_ref()
            .map_or_else(|| "–".to_owned(), side);
        push(
            page,
            format_args!(
                "<tr><th scope=\"row\"><a href=\"#value-{at}\"><code>{}</code></a></th><td>{}</td>\
                 <td>{range}</td><td>{}</td><td>{}</td><td>{real}</td></tr>\n",
                escape(&value.name),
                data(value.value),
                better(value.better()),
                side(&value.passport.generated),
            ),
        );
    }
    page.push_str("</table>\n</div>\n");
}

/// Whether differences are more than chance.
pub(super) fn differences(page: &mut String, differences: &[Difference]) {
    if differences.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Differences</h2>\n<div class=\"wide\" role=\"region\" aria-label=\"Differences\" \
         tabindex=\"0\">\n<table>\n<caption>The first set less the second, against one \
         reference</caption>\n<tr><th scope=\"col\">name</th><th scope=\"col\">difference</th>\
         <th scope=\"col\">interval</th><th scope=\"col\">verdict</th></tr>\n",
    );
    for one in differences {
        push(
            page,
            format_args!(
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&one.name),
                data(one.difference),
                interval(&one.interval),
                escape(&one.verdict),
            ),
        );
    }
    page.push_str("</table>\n</div>\n");
}

/// Every metric with its meaning, its caveat, a chart, and its values with their passports.
pub(super) fn metrics(page: &mut String, measured: &[Measured]) {
    if measured.is_empty() {
        return;
    }
    page.push_str("<h2>What the values say</h2>\n");
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (at, value) in measured.iter().enumerate() {
        match groups.iter_mut().find(|group| group.0 == value.metric) {
            Some(group) => group.1.push(at),
            None => groups.push((value.metric.as_str(), vec![at])),
        }
    }
    for (group, (id, members)) in groups.into_iter().enumerate() {
        let about = metric(id);
        let title = about.map_or(id, |metric| metric.title);
        push(
            page,
            format_args!(
                "<section aria-labelledby=\"metric-{group}\">\n<h3 id=\"metric-{group}\">{}</h3>\n",
                escape(title)
            ),
        );
        if let Some(about) = about {
            meaning(page, about);
        }
        let values: Vec<&Measured> = members.iter().map(|at| &measured[*at]).collect();
        whiskers(page, title, &values);
        for (at, value) in members.iter().zip(values) {
            entry(page, *at, value, about);
        }
        page.push_str("</section>\n");
    }
}

/// What a metric says, what it does not, and where it comes from.
fn meaning(page: &mut String, about: &Metric) {
    let floor = match about.floor {
        0 | 1 => String::new(),
        floor => format!(" Fewer than {floor} images on a side mean nothing."),
    };
    push(
        page,
        format_args!(
            "<p>{}</p>\n<p class=\"caveat\"><strong>Caveat.</strong> {}</p>\n\
             <p class=\"facts\">Better: {}. Range: {}.{floor} Defined by: {}.</p>\n",
            escape(about.meaning),
            escape(about.caveat),
            better(about.better),
            escape(about.range),
            escape(about.source),
        ),
    );
}

/// A value with its interval, its notes, the line to cite and its passport.
fn entry(page: &mut String, at: usize, value: &Measured, about: Option<&Metric>) {
    push(
        page,
        format_args!(
            "<article id=\"value-{at}\">\n<h4><code>{}</code> {}</h4>\n",
            escape(&value.name),
            data(value.value)
        ),
    );
    let range = match value.interval {
        Some(range) => format!(
            "{} interval {}, over {}.",
            confidence(&range),
            interval(&range),
            escape(&value.interval_over)
        ),
        None => "No interval.".to_owned(),
    };
    push(page, format_args!("<p>{range}</p>\n"));
    let passport = &value.passport;
    let sides = [Some(&passport.generated), passport.real.as_ref()];
    let fewest = sides.into_iter().flatten().map(|side| side.images).min();
    if let (Some(about), Some(fewest)) = (about, fewest)
        && fewest < about.floor as u64
    {
        push(
            page,
            format_args!(
                "<p class=\"forced\"><strong>Of {fewest} images this means nothing:</strong> at \
                 least {} are needed.</p>\n",
                about.floor
            ),
        );
    }
    if !value.notes.is_empty() {
        page.push_str("<ul>\n");
        for note in &value.notes {
            push(page, format_args!("<li>{}</li>\n", escape(note)));
        }
        page.push_str("</ul>\n");
    }
    let brackets = value.interval.map_or_else(String::new, |range| {
        format!(" ({} interval {})", confidence(&range), interval(&range))
    });
    push(
        page,
        format_args!(
            "<p>To cite:</p>\n<pre class=\"cite\">{}{brackets}, {}</pre>\n",
            number(value.value),
            escape(&value.citation)
        ),
    );
    details(page, value);
    page.push_str("</article>\n");
}

/// The passport of a value, folded.
fn details(page: &mut String, value: &Measured) {
    page.push_str("<details>\n<summary>Passport</summary>\n<table>\n");
    let passport = &value.passport;
    let mut rows: Vec<(&str, String)> = vec![
        ("protocol", passport.protocol.clone()),
        ("value in all digits", value.value.to_string()),
        ("images", words(&passport.generated)),
        ("their sum", passport.generated.digest.clone()),
    ];
    if let Some(real) = &passport.real {
        rows.push(("compared with", words(real)));
        rows.push(("their sum", real.digest.clone()));
    }
    rows.extend([
        ("network", passport.network.clone()),
        ("SHA-256 of its weights", passport.network_sha256.clone()),
        ("resize", passport.resize.clone()),
        ("input", passport.input.clone()),
        ("storage", passport.storage.clone()),
        ("seed", passport.seed.to_string()),
        ("version of Vermeer", passport.version.clone()),
    ]);
    for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
        push(
            page,
            format_args!(
                "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>\n",
                escape(text)
            ),
        );
    }
    page.push_str("</table>\n</details>\n");
}

/// One side in words.
fn words(side: &Side) -> String {
    let split = match side.split.as_str() {
        "" => String::new(),
        split => format!(" ({split})"),
    };
    format!("{} of {}{split}", side.images, side.location)
}

/// One side in words, as HTML.
fn side(side: &Side) -> String {
    escape(&words(side))
}

/// A value in few digits for people and in all for programs.
fn data(value: f64) -> String {
    format!("<data value=\"{value}\">{}</data>", number(value))
}

fn better(better: Better) -> &'static str {
    match better {
        Better::Lower => "lower",
        Better::Higher => "higher",
        Better::Neither => "neither",
    }
}
