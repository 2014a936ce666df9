//! Rows side by side: columns with their protocols, and which values are best.

use serde::{Serialize, Serializer};
use vermeer_image::metrics::{Better, Interval, metric};

use super::RunRow;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunCell {
    /// The value.
    pub value: f64,
    /// Where the value of another draw of as many images may lie.
    pub interval: Option<Interval>,
    /// As people read it.
    pub text: String,
    /// Values of one kind are compared with each other.
    #[serde(skip)]
    kind: String,
    /// Whether no other run is better by more than the intervals.
    pub best: bool,
}

/// The values of one protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunColumn {
    /// The protocol, or what is counted.
    pub name: String,
    /// Which way is better.
    #[serde(serialize_with = "word")]
    pub better: Better,
    /// What a value says.
    pub meaning: String,
    /// One for each row; `None` where a row has no value.
    pub cells: Vec<Option<RunCell>>,
}

/// Runs and their values side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunTable {
    /// The names of the rows.
    pub names: Vec<String>,
    /// The columns.
    pub columns: Vec<RunColumn>,
}

impl RunTable {
    /// The table of these rows. The best values of a column are marked among runs, real images left
    /// out: the best one, and those whose interval meets its interval. Where only one run has a
    /// value, nothing is marked.
    pub fn new(rows: &[RunRow]) -> Self {
        let mut columns = measured(rows);
        columns.push(modes(rows));
        columns.push(likelihood(rows));
        columns.push(copies(rows));
        columns.extend(costs(rows));
        columns.retain(|column| column.cells.iter().any(Option::is_some));
        let runs: Vec<bool> = rows.iter().map(RunRow::is_run).collect();
        for column in &mut columns {
            mark(column, &runs);
        }
        Self {
            names: rows.iter().map(|row| row.name.clone()).collect(),
            columns,
        }
    }

    /// The table with aligned columns; the best values have a star.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> = vec![String::new(); self.names.len() + 1];
        let mut add = |cells: Vec<String>, right: bool| {
            let width = cells.iter().map(|cell| cell.chars().count()).max();
            let width = width.unwrap_or(0);
            for (line, cell) in lines.iter_mut().zip(cells) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let padded = match right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                };
                line.push_str(&padded);
            }
        };
        let names = std::iter::once("run".to_owned()).chain(self.names.iter().cloned());
        add(names.collect(), false);
        for column in &self.columns {
            let cells = column.cells.iter().map(|cell| match cell {
                // A place for the star keeps numbers in line.
                Some(cell) if cell.best => format!("{}*", cell.text),
                Some(cell) => format!("{} ", cell.text),
                None => "- ".to_owned(),
            });
            let heading = format!("{} ", column.heading());
            add(std::iter::once(heading).chain(cells).collect(), true);
        }
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n")
    }

    /// The table in Markdown; the best values are bold.
    pub fn to_markdown(&self) -> String {
        let mut heading = "| run |".to_owned();
        let mut rule = "|---|".to_owned();
        for column in &self.columns {
            heading.push_str(&format!(" {} |", plain(&column.heading())));
            rule.push_str("---:|");
        }
        let mut lines = vec![heading, rule];
        for (row, name) in self.names.iter().enumerate() {
            let mut line = format!("| {} |", plain(name));
            for column in &self.columns {
                let cell = column.cells.get(row).and_then(Option::as_ref);
                let text = match cell {
                    Some(cell) if cell.best => format!(" **{}** |", plain(&cell.text)),
                    Some(cell) => format!(" {} |", plain(&cell.text)),
                    None => " – |".to_owned(),
                };
                line.push_str(&text);
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

impl RunColumn {
    fn of(
        rows: &[RunRow],
        (name, better): (&str, Better),
        meaning: &str,
        cell: impl Fn(&RunRow) -> Option<RunCell>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            better,
            meaning: meaning.to_owned(),
            cells: rows.iter().map(cell).collect(),
        }
    }

    /// The name, with an arrow towards what is better.
    pub fn heading(&self) -> String {
        match self.better {
            Better::Lower => format!("{} ↓", self.name),
            Better::Higher => format!("{} ↑", self.name),
            Better::Neither => self.name.clone(),
        }
    }
}

impl RunCell {
    fn new(value: f64, text: String) -> Self {
        Self {
            value,
            interval: None,
            text,
            kind: String::new(),
            best: false,
        }
    }
}

/// A column for each protocol of the metrics, in the order in which they were measured.
fn measured(rows: &[RunRow]) -> Vec<RunColumn> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for value in rows.iter().flat_map(|row| &row.values) {
        if !names.iter().any(|(name, _)| *name == value.name) {
            names.push((value.name.as_str(), value.metric.as_str()));
        }
    }
    let column = |(name, id): (&str, &str)| {
        let about = metric(id);
        let meaning = about.map_or(String::new(), |about| {
            format!("{}. {} {}", about.title, about.meaning, about.caveat)
        });
        let better = about.map_or(Better::Neither, |about| about.better);
        RunColumn::of(rows, (name, better), &meaning, |row| {
            let value = row.values.iter().find(|value| value.name == name)?;
            let spread = value.interval.map_or(String::new(), |interval| {
                format!(" ±{}", number(interval.half_width(), 2))
            });
            let text = format!("{}{spread}", number(value.value, 4));
            Some(RunCell {
                interval: value.interval,
                ..RunCell::new(value.value, text)
            })
        })
    };
    names.into_iter().map(column).collect()
}

fn modes(rows: &[RunRow]) -> RunColumn {
    RunColumn::of(
        rows,
        ("modes found", Better::Higher),
        "How many classes or clusters of the training images are made at least half as often as \
         they are there, by intervals that hold for all of them at once. Unsure ones take more \
         samples. Clusters are those of the network's features.",
        |row| {
            let modes = row.modes.as_ref()?;
            let unsure = match modes.unsure {
                0 => String::new(),
                unsure => format!(" ({unsure} unsure)"),
            };
            let text = format!("{} of {}{unsure}", modes.found, modes.of);
            Some(RunCell {
                kind: modes.of.to_string(),
                ..RunCell::new(modes.found as f64, text)
            })
        },
    )
}

fn likelihood(rows: &[RunRow]) -> RunColumn {
    RunColumn::of(
        rows,
        ("bits per dimension", Better::Lower),
        "The negative log-likelihood of held-out images for each pixel and channel, where the \
         family has one. The word beside the value says what was done to the pixels and how the \
         value was computed: exact, or an upper bound by importance draws (iwae) or by a \
         diffusion's chain (vlb); `given` where the model is told the class or attributes. Only \
         values of one kind of pixels and one preparation of images are compared. A likelihood says little of how samples look.",
        |row| {
            let found = row.likelihood.as_ref()?;
            Some(RunCell {
                interval: found.interval,
                kind: found.kind.clone(),
                ..RunCell::new(
                    found.mean,
                    format!("{} {}", number(found.mean, 4), found.protocol),
                )
            })
        },
    )
}

fn copies(rows: &[RunRow]) -> RunColumn {
    RunColumn::of(
        rows,
        ("copies", Better::Lower),
        "Whether samples are nearer to training images than held-out images are, in pixels or in \
         features: none, suspected (more than chance, no single one can be named), found, or \
         widespread (a tenth and more). The share is that of the samples named as copies at a \
         false discovery rate of 5 %.",
        |row| {
            let found = row.copies.as_ref()?;
            let text = format!("{} {} %", found.word(), number(100.0 * found.rate, 3));
            Some(RunCell {
                interval: Some(found.interval),
                ..RunCell::new(found.rate, text)
            })
        },
    )
}

/// What runs cost.
fn costs(rows: &[RunRow]) -> [RunColumn; 3] {
    [
        RunColumn::of(
            rows,
            ("s per 1000 samples", Better::Lower),
            "Seconds in which 1,000 samples were made, on the device and with the threads of this \
             comparison.",
            |row| {
                let seconds = row.seconds_per_1000?;
                Some(RunCell::new(seconds, number(seconds, 3)))
            },
        ),
        RunColumn::of(
            rows,
            ("parameters", Better::Neither),
            "How many parameters were trained, those of every network together: of a GAN the \
             discriminator's too, which takes no part in sampling.",
            |row| {
                let parameters = row.parameters?;
                Some(RunCell::new(parameters as f64, grouped(parameters)))
            },
        ),
        RunColumn::of(
            rows,
            ("training minutes", Better::Neither),
            "Minutes of training on the machine that trained, evaluation and pictures during \
             training included. Older and imported runs do not know them.",
            |row| {
                let minutes = row.train_minutes?;
                Some(RunCell::new(minutes, number(minutes, 3)))
            },
        ),
    ]
}

/// Marks the best cells of each kind among the rows that `runs` names.
fn mark(column: &mut RunColumn, runs: &[bool]) {
    if column.better == Better::Neither {
        return;
    }
    let ends = |cell: &RunCell| {
        cell.interval
            .map_or((cell.value, cell.value), |it| (it.low, it.high))
    };
    let lower = column.better == Better::Lower;
    let candidates: Vec<usize> = column
        .cells
        .iter()
        .enumerate()
        .filter(|(row, cell)| {
            let finite = matches!(cell, Some(cell) if cell.value.is_finite());
            finite && runs.get(*row) == Some(&true)
        })
        .map(|(row, _)| row)
        .collect();
    let known: Vec<(usize, RunCell)> = candidates
        .iter()
        .filter_map(|row| Some((*row, column.cells[*row].clone()?)))
        .collect();
    for (row, cell) in &known {
        let others: Vec<&RunCell> = known
            .iter()
            .filter(|(other, of)| other != row && of.kind == cell.kind)
            .map(|(_, of)| of)
            .collect();
        let Some(best) = others.iter().copied().min_by(|a, b| match lower {
            true => a.value.total_cmp(&b.value),
            false => b.value.total_cmp(&a.value),
        }) else {
            continue;
        };
        let at_least = match lower {
            true => cell.value <= best.value,
            false => cell.value >= best.value,
        };
        let ((low, high), (best_low, best_high)) = (ends(cell), ends(best));
        let meets = low <= best_high && high >= best_low;
        if let Some(own) = &mut column.cells[*row] {
            own.best = at_least || meets;
        }
    }
}

/// Significant digits, without an exponent where that is readable.
fn number(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A number with its thousands apart.
fn grouped(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text that breaks no table of Markdown.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn word<S: Serializer>(better: &Better, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match better {
        Better::Lower => "lower",
        Better::Higher => "higher",
        Better::Neither => "neither",
    })
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::Score;

    use super::*;
    use crate::evaluate::{BitsPerDim, Measured, ModesFound, Passport};

    fn distance(value: f64, half: f64) -> Measured {
        let score = Score::plain("fd_judge", value).with(Interval::around(value, half), "draws");
        Measured::new(metric("fid").unwrap(), score, Passport::default())
    }

    fn bits(mean: f64, pixels: &str) -> BitsPerDim {
        BitsPerDim {
            protocol: format!("{pixels}_exact"),
            pixels: pixels.to_owned(),
            kind: pixels.to_owned(),
            mean,
            interval: None,
            nats: 1.0,
            dimensions: 784,
            images: 10,
            seed: 0,
        }
    }

    fn rows() -> Vec<RunRow> {
        let run = |name: &str, value: f64, bits: BitsPerDim| RunRow {
            name: name.to_owned(),
            family: "vae".to_owned(),
            values: vec![distance(value, 1.0)],
            modes: Some(ModesFound {
                found: 9,
                of: 10,
                unsure: 1,
                lost: vec![],
                sentence: String::new(),
                citation: String::new(),
            }),
            likelihood: Some(bits),
            parameters: Some(1_234_567),
            ..RunRow::default()
        };
        let real = RunRow {
            name: "real images".to_owned(),
            values: vec![distance(0.5, 0.25)],
            ..RunRow::default()
        };
        vec![
            run("a", 10.0, bits(0.2, "dynamic")),
            run("b", 11.5, bits(0.1, "dynamic")),
            run("c", 14.0, bits(0.05, "grey")),
            real,
        ]
    }

    fn best(table: &RunTable, name: &str) -> Vec<bool> {
        let column = table.columns.iter().find(|column| column.name == name);
        let cells = &column.unwrap().cells;
        let is_best = |cell: &Option<RunCell>| cell.as_ref().is_some_and(|cell| cell.best);
        cells.iter().map(is_best).collect()
    }

    #[test]
    fn values_that_meet_the_best_are_marked_alike_and_real_images_never() {
        let table = RunTable::new(&rows());
        // By hand: 9 to 11 and 10.5 to 12.5 meet, 13 to 15 does not.
        assert_eq!(best(&table, "fd_judge"), [true, true, false, false]);
        // Bits of other pixels are not compared, and a value alone is not the best of anything.
        assert_eq!(
            best(&table, "bits per dimension"),
            [false, true, false, false]
        );
        assert_eq!(best(&table, "modes found"), [true, true, true, false]);
        assert_eq!(best(&table, "parameters"), [false; 4]);
        // What no row has is no column.
        assert!(table.columns.iter().all(|column| column.name != "copies"));
    }

    #[test]
    fn texts_are_aligned_and_markdown_is_bold() {
        let table = RunTable::new(&rows());
        let text = table.to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("run          ") && lines[0].contains("fd_judge ↓"));
        assert!(lines[1].contains("10.00 ±1.0*") && lines[3].contains("14.00 ±1.0 "));
        let end = |line: &str, part: &str| {
            let at = line.find(part).unwrap();
            line[..at].chars().count() + part.chars().count()
        };
        assert_eq!(end(lines[1], "±1.0"), end(lines[3], "±1.0"));
        let markdown = table.to_markdown();
        assert!(markdown.starts_with("| run | fd_judge ↓ |"), "{markdown}");
        assert!(markdown.contains("| a | **10.00 ±1.0** | **9 of 10 (1 unsure)** |"));
        assert!(markdown.contains("| real images | 0.5000 ±0.25 | – |"));
        assert!(markdown.contains("1,234,567"));
    }

    #[test]
    fn numbers_have_their_digits() {
        for (value, digits, text) in [
            (12.3456, 4, "12.35"),
            (0.081_234, 2, "0.081"),
            (123_456.0, 3, "123456"),
            (0.000_001, 3, "1.0e-6"),
            (0.0, 3, "0"),
        ] {
            assert_eq!(number(value, digits), text);
        }
        assert_eq!(
            [grouped(7), grouped(1000), grouped(1_234_567)],
            ["7", "1,000", "1,234,567"]
        );
    }
}
