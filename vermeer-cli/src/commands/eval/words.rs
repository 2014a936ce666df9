//! What is measured and on what, from the words of a command line.

use vermeer::registry::suggest;
use vermeer::{Error, Result};
use vermeer_image::metrics::{Kind, METRICS, Metric, metric};

/// Metrics and the images they look at.
pub(super) struct Request {
    /// What is judged.
    pub first: String,
    /// What it should be like.
    pub second: Option<String>,
    metrics: Vec<&'static Metric>,
}

impl Request {
    /// From words: names of metrics (also several with commas), then one or two locations.
    /// `flagged` are metrics that were asked for by flags.
    ///
    /// # Errors
    /// [`Error::Settings`] without a metric, and for any other number of locations.
    pub(super) fn new(words: &[String], flagged: &[&str]) -> Result<Self> {
        let of_word =
            |word: &str| -> Option<Vec<&'static Metric>> { word.split(',').map(metric).collect() };
        let mut metrics: Vec<&'static Metric> =
            flagged.iter().filter_map(|id| metric(id)).collect();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first()
            && let Some(named) = of_word(word)
        {
            metrics.extend(named);
            rest = after;
        }
        let mut seen = Vec::new();
        metrics.retain(|metric| {
            let first_time = !seen.contains(&metric.id);
            seen.push(metric.id);
            first_time
        });
        let ids: Vec<&str> = METRICS.iter().map(|metric| metric.id).collect();
        let known = ids.join(", ");
        if metrics.is_empty() {
            let text = match rest.first() {
                Some(word) => format!("{word:?} is no metric{}", suggest(word, &ids)),
                None => "nothing to measure was named".to_owned(),
            };
            return Err(Error::settings(
                text,
                format!("name one or more of {known}"),
            ));
        }
        let (first, second) = match rest {
            [first] => (first.clone(), None),
            [first, second] => (first.clone(), Some(second.clone())),
            [] => {
                return Err(Error::settings(
                    "the images to judge were not named",
                    "name them behind the metric: vermeer eval fid samples/ photos/",
                ));
            }
            [first, _, third, ..] => {
                return Err(Error::settings(
                    format!(
                        "{first:?} is no metric{}, and {third:?} is one location too many",
                        suggest(first, &ids)
                    ),
                    format!(
                        "the metrics are {known}; then come what is judged and what it should be like"
                    ),
                ));
            }
        };
        Ok(Self {
            first,
            second,
            metrics,
        })
    }

    /// The metrics of sets.
    pub(super) fn of_sets(&self) -> Vec<&'static Metric> {
        self.of(|kind| matches!(kind, Kind::Set { .. }))
    }

    /// The metrics of pairs.
    pub(super) fn of_pairs(&self) -> Vec<&'static Metric> {
        self.of(|kind| matches!(kind, Kind::Pair { .. }))
    }

    /// The metrics of generators.
    pub(super) fn of_generators(&self) -> Vec<&'static Metric> {
        self.of(|kind| matches!(kind, Kind::Generator))
    }

    fn of(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<&'static Metric> {
        let wanted = self.metrics.iter().filter(|metric| wanted(&metric.kind));
        wanted.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &str) -> Result<Request> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Request::new(&words, &[])
    }

    #[test]
    fn metrics_come_first() {
        let found = request("fid kid,isc psnr fid a b").unwrap();
        let ids = |metrics: Vec<&Metric>| -> Vec<&str> { metrics.iter().map(|m| m.id).collect() };
        assert_eq!(ids(found.of_sets()), ["fid", "kid", "is"]);
        assert_eq!(ids(found.of_pairs()), ["psnr"]);
        assert_eq!(
            (found.first.as_str(), found.second.as_deref()),
            ("a", Some("b"))
        );
        // A folder with the name of a metric.
        assert_eq!(request("is ./is").unwrap().first, "./is");
    }

    #[test]
    fn mistakes_name_the_word() {
        for (words, part) in [
            ("fdi a", "\"fdi\" is no metric"),
            ("fid fdi a b", "\"fdi\" is no metric"),
            ("fid kid", "not named"),
        ] {
            let error = request(words).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        let flagged = Request::new(&["a".into()], &["fid"]).unwrap();
        assert_eq!(flagged.of_sets()[0].id, "fid");
    }
}
