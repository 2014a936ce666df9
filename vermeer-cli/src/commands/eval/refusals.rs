//! What `vermeer eval` refuses before any image is looked at.

use vermeer::evaluate::Subject;
use vermeer::{Error, Result};
use vermeer_image::metrics::{Kind, Metric};

use super::options::MeasureArgs;
use super::words::Request;

impl MeasureArgs {
    /// Refuses options of pytorch-fid that have another form here.
    pub(super) fn refuse_other_tools(&self) -> Result<()> {
        if self.save_stats {
            return Err(Error::settings(
                "--save-stats is of pytorch-fid",
                "keep statistics with `vermeer eval stats IMAGES --out FILE.npz`",
            ));
        }
        if self.num_workers.is_some() {
            return Err(Error::settings(
                "--num-workers is of pytorch-fid",
                "leave it out, or choose the number of --threads",
            ));
        }
        Ok(())
    }

    /// Refuses what can be refused before any image is looked at.
    pub(super) fn check(&self, request: &Request) -> Result<()> {
        let (sets, pairs) = (request.of_sets(), request.of_pairs());
        let generators = request.of_generators();
        let no = [sets.is_empty(), pairs.is_empty(), generators.is_empty()];
        for (none, kind, said, options) in [
            (no[0], "metrics of sets", self.versus.is_some(), "--versus"),
            (
                no[0],
                "metrics of sets",
                self.network.is_said(),
                "--network, --weights, --dims and --protocol",
            ),
            (
                no[0],
                "metrics of sets",
                !self.sets.is_usual(),
                "--isc-…, --kid-…, --prc-…, --prdc-… and --swd-…",
            ),
            (
                no[1],
                "metrics of pairs",
                self.pairs.is_said(),
                "--luma, --shave, --float and --maps",
            ),
            (no[2], "the path length", !self.paths.is_usual(), "--ppl-…"),
        ] {
            if none && said {
                return Err(Error::settings(
                    format!("{options}: of {kind}, and none was asked for"),
                    "leave the option out, or name such a metric",
                ));
            }
        }
        let takes_lpips = pairs.iter().any(|metric| metric.id == "lpips");
        if self.pairs.lpips_weights.is_some() && !takes_lpips && generators.is_empty() {
            return Err(Error::settings(
                "--lpips-weights: of lpips and ppl, and neither was asked for",
                "leave the option out, or name such a metric",
            ));
        }
        if takes_lpips && self.pairs.lpips_weights.is_none() {
            return Err(Error::settings(
                "lpips needs a network, which is not part of Vermeer",
                "give the published weights with --lpips-weights; `vermeer models fetch` gets them",
            ));
        }
        if sets.is_empty() && generators.is_empty() && self.choice.count.is_some() {
            return Err(Error::settings(
                "-n draws images, and pairs are taken whole",
                "leave out -n",
            ));
        }
        if request.second.is_none() {
            let needs = |metric: &&&Metric| {
                matches!(
                    metric.kind,
                    Kind::Set {
                        needs_real: true,
                        ..
                    } | Kind::Pair { .. }
                )
            };
            if let Some(metric) = sets.iter().chain(&pairs).find(needs) {
                return Err(Error::settings(
                    format!(
                        "{} compares two sets of images, and one was given",
                        metric.id
                    ),
                    format!("give both: vermeer eval {} GENERATED REAL", metric.id),
                ));
            }
        }
        if let Some(report) = &self.output.report
            && !report
                .extension()
                .is_some_and(|end| end == "html" || end == "htm")
        {
            return Err(Error::settings(
                format!("{}: a report is a page of HTML", report.display()),
                "let its name end with .html",
            ));
        }
        let run = std::path::Path::new(&request.first).join("run.json");
        if let (Some(metric), false) = (generators.first(), run.is_file()) {
            return Err(Error::settings(
                format!(
                    "{} is no run, and {} walks between a model's samples",
                    request.first, metric.id
                ),
                "name the folder of a run",
            ));
        }
        if let Some(folder) = self.pairs.maps.as_deref().filter(|folder| folder.exists()) {
            return Err(Error::settings(
                format!("{} is there already", folder.display()),
                "choose a new folder with --maps",
            ));
        }
        let asked: Vec<&Metric> = sets.into_iter().chain(pairs).chain(generators).collect();
        self.output
            .fail_if
            .iter()
            .try_for_each(|threshold| threshold.check_name(&asked))
    }
}

/// Refuses too few images before any of them is looked at.
pub(super) fn check_floors(
    metrics: &[&Metric],
    first: &Subject,
    second: Option<&Subject>,
    force: bool,
) -> Result<()> {
    let count = |subject: &Subject| match subject {
        Subject::Statistics(statistics) if !statistics.counted => usize::MAX,
        other => usize::try_from(other.len()).unwrap_or(usize::MAX),
    };
    if force {
        return Ok(());
    }
    for metric in metrics {
        let needs_real = matches!(
            metric.kind,
            Kind::Set {
                needs_real: true,
                ..
            }
        );
        let second = second.filter(|_| needs_real).map_or(usize::MAX, count);
        let fewest = second.min(count(first));
        metric.check_floor(fewest).map_err(|error| {
            Error::settings(error.to_string(), "use more images, or say --force")
        })?;
    }
    Ok(())
}

/// Refuses statistics for metrics that look at images.
pub(super) fn check_statistics(metrics: &[&Metric], subjects: [Option<&Subject>; 3]) -> Result<()> {
    let statistics = subjects
        .into_iter()
        .flatten()
        .find_map(|subject| match subject {
            Subject::Statistics(statistics) => Some(&statistics.location),
            _ => None,
        });
    let other = metrics.iter().find(|metric| metric.id != "fid");
    match statistics.zip(other) {
        None => Ok(()),
        Some((location, metric)) => Err(Error::settings(
            format!(
                "{location} holds a mean and a covariance, and {} looks at images",
                metric.id
            ),
            "name the images, or ask for fid alone",
        )),
    }
}
