//! What an inspection found, as values, as JSON and as text.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::Hash;

use serde::Serialize;

use super::finding::{Finding, Picture};
use super::holdings::Holdings;
use super::reason::{PROBLEMS, Reason};
use crate::data::source::Split;
use crate::error::Result;

/// The most names that the text lists of one kind.
const LISTED: usize = 20;

/// Everything an inspection found. Counts are of images, the largest first, unless said.
#[derive(Serialize)]
pub struct Report {
    /// What was inspected.
    pub location: String,
    /// Its format, as [`crate::data::Description::format`] has it.
    pub format: String,
    /// All images, readable or not.
    pub images: usize,
    /// The images that can be read.
    pub readable: usize,
    /// The splits in the order train, validation, test; empty for a set without splits.
    pub splits: Vec<Count>,
    /// The classes in the order of their labels; empty without labels.
    pub classes: Vec<Count>,
    /// The size of the smallest class as a share of the largest.
    pub balance: Option<f64>,
    /// The sizes of the readable images.
    pub sizes: Vec<SizeCount>,
    /// Their channels.
    pub channels: Vec<Count>,
    /// Their bit depths.
    pub depths: Vec<Count>,
    /// Their file formats; empty for images that are no files.
    pub formats: Vec<Count>,
    /// Files that were not taken for images, by extension.
    pub passed_over: Vec<Count>,
    /// How many images have each problem, the gravest problem first.
    pub problems: Vec<Count>,
    /// Every image with a problem, in the order of the set.
    pub offenders: Vec<Offender>,
    #[serde(skip)]
    pub(super) holdings: Holdings,
    /// One for each item of the holdings.
    #[serde(skip)]
    pub(super) findings: Vec<Finding>,
}

/// How often something occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What occurs.
    pub name: String,
    /// How often.
    pub count: usize,
}

/// How many images have a size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// The width in pixels.
    pub width: usize,
    /// The height in pixels.
    pub height: usize,
    /// How many images have it.
    pub count: usize,
}

/// An image with something the matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// The path below the location, or the place in a split.
    pub file: String,
    /// The split; none in a set without splits.
    pub split: Option<Split>,
    /// The class; none without labels.
    pub class: Option<String>,
    /// What is the matter, the gravest first.
    pub reasons: Vec<Reason>,
}

impl Report {
    pub(super) fn new(holdings: Holdings, findings: Vec<Finding>) -> Result<Self> {
        let pictures = || {
            findings
                .iter()
                .filter_map(|finding| finding.picture.as_ref())
        };
        let named = |name: &dyn Fn(&Picture) -> String| counts(tally(pictures().map(name)));

        let mut splits = Vec::new();
        for split in Split::PARTS {
            let count = holdings
                .items
                .iter()
                .filter(|item| item.split == Some(split))
                .count();
            if count > 0 {
                let name = split.to_string();
                splits.push(Count { name, count });
            }
        }
        let mut per_class: HashMap<&str, usize> = HashMap::new();
        for class in holdings
            .items
            .iter()
            .filter_map(|item| item.class.as_deref())
        {
            *per_class.entry(class).or_insert(0) += 1;
        }
        let mut classes = Vec::new();
        for name in &holdings.describe().classes {
            let count = per_class.get(name.as_str()).copied().unwrap_or(0);
            let name = name.clone();
            classes.push(Count { name, count });
        }
        let smallest = classes.iter().map(|class| class.count).min();
        let largest = classes.iter().map(|class| class.count).max();
        let balance = match (smallest, largest) {
            (Some(smallest), Some(largest)) if largest > 0 => {
                Some(smallest as f64 / largest as f64)
            }
            _ => None,
        };

        let mut offenders = Vec::new();
        let mut per_problem = [0; PROBLEMS.len()];
        for (item, finding) in holdings.items.iter().zip(&findings) {
            if finding.reasons.is_empty() {
                continue;
            }
            let mut reasons = finding.reasons.clone();
            reasons.sort_by_key(Reason::rank);
            for reason in &reasons {
                per_problem[reason.rank()] += 1;
            }
            offenders.push(Offender {
                file: item.name.clone(),
                split: item.split,
                class: item.class.clone(),
                reasons,
            });
        }
        let problems = PROBLEMS
            .iter()
            .zip(per_problem)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| Count {
                name: name.to_string(),
                count,
            })
            .collect();

        Ok(Self {
            location: holdings.location.clone(),
            format: holdings.describe().format.clone(),
            images: findings.len(),
            readable: pictures().count(),
            splits,
            classes,
            balance,
            sizes: tally(pictures().map(|picture| picture.size))
                .into_iter()
                .map(|([width, height], count)| SizeCount {
                    width,
                    height,
                    count,
                })
                .collect(),
            channels: named(&|picture| picture.channel_names().to_string()),
            depths: named(&|picture| picture.depth.to_string()),
            formats: counts(tally(
                pictures()
                    .filter_map(|picture| picture.format)
                    .map(|format| format.to_string()),
            )),
            passed_over: counts(sorted(holdings.passed_over()?)),
            problems,
            offenders,
            holdings,
            findings,
        })
    }

    /// Whether no image has a problem.
    pub fn is_clean(&self) -> bool {
        self.offenders.is_empty()
    }

    /// The report for people. Of each problem it lists the first images; the JSON has all.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let unreadable = self.images - self.readable;
        let readable = match unreadable {
            0 => "all readable".to_string(),
            _ => format!("{unreadable} unreadable"),
        };
        let _ = writeln!(
            text,
            "{}: {}, {} images, {readable}",
            self.location, self.format, self.images
        );
        let sizes: Vec<Count> = self
            .sizes
            .iter()
            .map(|size| Count {
                name: format!("{}x{}", size.width, size.height),
                count: size.count,
            })
            .collect();
        for (title, counts) in [
            ("splits", &self.splits),
            ("classes", &self.classes),
            ("sizes", &sizes),
            ("channels", &self.channels),
            ("depths", &self.depths),
            ("formats", &self.formats),
            ("passed over", &self.passed_over),
        ] {
            if !counts.is_empty() {
                let _ = writeln!(text, "  {title:<12} {}", enumerate(counts));
            }
        }
        if let Some(balance) = self.balance {
            let _ = writeln!(
                text,
                "  {:<12} {balance:.2} (smallest class / largest)",
                "balance"
            );
        }
        if self.is_clean() {
            text.push_str("no problems\n");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "{} ({})", problem.name, problem.count);
            let mut listed = 0;
            for offender in &self.offenders {
                let of_problem = |reason: &&Reason| reason.problem() == problem.name;
                let Some(reason) = offender.reasons.iter().find(of_problem) else {
                    continue;
                };
                if listed == LISTED {
                    let _ = writeln!(text, "  ... and {} more", problem.count - LISTED);
                    break;
                }
                listed += 1;
                let detail = reason.detail();
                let colon = if detail.is_empty() { "" } else { ": " };
                let _ = writeln!(text, "  {}{colon}{detail}", offender.file);
            }
        }
        text
    }
}

/// How often each value occurs, the most frequent first; of equals, the first to occur.
pub(super) fn tally<T: Clone + Eq + Hash>(values: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut places: HashMap<T, usize> = HashMap::new();
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        let place = *places.entry(value.clone()).or_insert_with(|| {
            counts.push((value, 0));
            counts.len() - 1
        });
        counts[place].1 += 1;
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// Counts by name, the largest first.
fn sorted(counts: BTreeMap<String, usize>) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn counts(tallied: Vec<(String, usize)>) -> Vec<Count> {
    let counts = tallied
        .into_iter()
        .map(|(name, count)| Count { name, count });
    counts.collect()
}

/// Counts on one line: the first of many, and how many are left.
fn enumerate(counts: &[Count]) -> String {
    let listed: Vec<String> = counts
        .iter()
        .take(LISTED)
        .map(|count| format!("{} {}", count.name, count.count))
        .collect();
    let mut line = listed.join(", ");
    if counts.len() > LISTED {
        let _ = write!(line, ", ... and {} more", counts.len() - LISTED);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_are_sorted_and_stable() {
        let tallied = tally(["b", "a", "c", "a", "b"].into_iter());
        assert_eq!(tallied, [("b", 2), ("a", 2), ("c", 1)]);
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let counts: Vec<Count> = (0..23)
            .map(|i| Count {
                name: format!("n{i}"),
                count: i,
            })
            .collect();
        let line = enumerate(&counts);
        assert!(line.starts_with("n0 0, n1 1"), "{line}");
        assert!(line.ends_with("n19 19, ... and 3 more"), "{line}");
    }
}
