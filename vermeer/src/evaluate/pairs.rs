//! Images against their originals: PSNR, SSIM, LPIPS and plain errors of every pair, their means,
//! and where the pairs differ as pictures.
//!
//! A mean is over the pairs' values (of PSNR: of the decibels), its interval by Student's t over
//! pairs. Grey images are compared as grey, and their levels are their luma; grey beside colour is
//! refused. Alpha that is opaque everywhere is left out, any other is refused.

mod maps;
mod paired_images;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Device;
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use vermeer_image::ImageError;
use vermeer_image::metrics::interval::of_mean;
use vermeer_image::metrics::{
    Better, Kind, Lpips, Metric, PairInput, PairOptions, Progress, Score,
};

use super::measure::Measured;
use super::passport::{Passport, Side};
use super::perceptual::LpipsNetwork;
use crate::{Error, Result};
pub use maps::{DifferenceMap, MapFile, write_differences};
pub use paired_images::{ImagePair, PairedImages};

/// Pairs that are read and measured at a time.
const BATCH: usize = 8;

/// The one metric of pairs that needs a network.
const LPIPS: &str = "lpips";

/// The values of one or more metrics on pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairTable {
    /// Where the images are that are judged.
    pub images: String,
    /// Where their originals are.
    pub originals: String,
    /// The number of pairs.
    pub pairs: usize,
    /// By what images belong together.
    pub paired_by: &'static str,
    /// One entry for each metric.
    pub scores: Vec<PairScores>,
}

/// One metric on pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairScores {
    /// The mean over the pairs.
    #[serde(flatten)]
    pub mean: Measured,
    /// The pair with the worst value.
    pub worst: PairScore,
    /// Every pair, in order.
    pub each: Vec<PairScore>,
}

/// The value of one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairScore {
    /// What the pair is called.
    pub pair: String,
    /// Its value; JSON has no infinity, which is written as a text.
    #[serde(serialize_with = "number")]
    pub value: f64,
}

fn number<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    match value.is_finite() {
        true => to.serialize_f64(*value),
        false => to.serialize_str(&value.to_string()),
    }
}

/// What was noticed while pairs were read.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    grey: usize,
    alpha: usize,
}

/// Measures every pair. `progress` is called with the pairs done and those to do.
///
/// # Errors
/// [`Error::Settings`] for a metric that is not of pairs, for LPIPS without its network, and,
/// naming the pair, for images that cannot be compared or are too small for a metric; those of
/// reading the images; [`Error::Failed`] after `stop`.
pub fn pairs(
    images: &PairedImages,
    metrics: &[&'static Metric],
    options: PairOptions,
    lpips: Option<&LpipsNetwork>,
    stop: &AtomicBool,
    progress: Progress,
) -> Result<PairTable> {
    for metric in metrics {
        check(metric, lpips)?;
    }
    // Networks use all threads themselves.
    let (networked, plain): (Vec<usize>, Vec<usize>) =
        (0..metrics.len()).partition(|column| metrics[*column].id == LPIPS);
    let network = lpips.map(|network| (&network.lpips, &network.device));
    let count = images.len();
    let mut columns: Vec<Vec<f64>> = vec![Vec::with_capacity(count); metrics.len()];
    let mut seen = Seen::default();
    for start in (0..count).step_by(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Failed("interrupted; nothing was written".into()));
        }
        let rows = (start..count.min(start + BATCH))
            .into_par_iter()
            .map(|index| -> Result<(ImagePair, Vec<f64>)> {
                let pair = images.read(index)?;
                let values: Result<Vec<f64>> = plain
                    .iter()
                    .map(|column| measure(metrics[*column], &pair, options, None))
                    .collect();
                Ok((pair, values?))
            })
            .collect::<Vec<_>>();
        // In order, so that the first that fails is the one that is told.
        for row in rows {
            let (pair, values) = row?;
            seen.grey += usize::from(pair.grey);
            seen.alpha += usize::from(pair.alpha);
            for (column, value) in plain.iter().zip(values) {
                columns[*column].push(value);
            }
            for column in &networked {
                columns[*column].push(measure(metrics[*column], &pair, options, network)?);
            }
        }
        progress(count.min(start + BATCH), count);
    }
    let [generated, real] = images.passports()?;
    let scores = metrics
        .iter()
        .zip(columns)
        .map(|(metric, values)| {
            let passport = passport(metric, [&generated, &real], options, lpips);
            scores(metric, images, values, (options, seen), lpips, passport)
        })
        .collect();
    Ok(PairTable {
        images: generated.location,
        originals: real.location,
        pairs: count,
        paired_by: images.by(),
        scores,
    })
}

/// Refuses metrics that cannot be computed on pairs.
fn check(metric: &Metric, lpips: Option<&LpipsNetwork>) -> Result<()> {
    if !matches!(metric.kind, Kind::Pair { .. }) {
        return Err(Error::settings(
            format!("{} is no metric of pairs", metric.id),
            "`vermeer eval --help` says what each metric looks at",
        ));
    }
    if metric.id == LPIPS && lpips.is_none() {
        return Err(Error::settings(
            "lpips needs a network, which is not part of Vermeer",
            "give the published weights with --lpips-weights",
        ));
    }
    Ok(())
}

/// The value of one pair.
fn measure(
    metric: &Metric,
    pair: &ImagePair,
    options: PairOptions,
    lpips: Option<(&Lpips, &Device)>,
) -> Result<f64> {
    let Kind::Pair { measure } = metric.kind else {
        return Err(Error::Failed(format!(
            "{} is no metric of pairs",
            metric.id
        )));
    };
    let [image, original] = &pair.images;
    let input = PairInput {
        image,
        original,
        options,
        lpips,
    };
    let [name, original] = &pair.names;
    match measure(&input) {
        Ok(value) if value.is_nan() => Err(Error::Failed(format!(
            "{} of {name} and {original} is not a number",
            metric.id
        ))),
        Ok(value) => Ok(value),
        Err(ImageError::Shape(reason)) => Err(Error::settings(
            format!("{} of {name} and {original}: {reason}", metric.id),
            format!("correct the pair, or leave {} out", metric.id),
        )),
        Err(other) => Err(other.into()),
    }
}

/// The mean of the values with their worst one.
fn scores(
    metric: &Metric,
    images: &PairedImages,
    values: Vec<f64>,
    (options, seen): (PairOptions, Seen),
    lpips: Option<&LpipsNetwork>,
    passport: Passport,
) -> PairScores {
    let grey = seen.grey == values.len();
    let name = protocol(metric, options, grey, lpips);
    let score = mean(name, &values, metric);
    let score = with_notes(score, metric, options, seen, values.len());
    let each: Vec<PairScore> = values
        .iter()
        .enumerate()
        .map(|(index, value)| PairScore {
            pair: images.name(index).to_owned(),
            value: *value,
        })
        .collect();
    let worst = each
        .iter()
        .max_by(|a, b| match metric.better {
            Better::Higher => b.value.total_cmp(&a.value),
            Better::Lower | Better::Neither => a.value.total_cmp(&b.value),
        })
        .cloned()
        .unwrap_or(PairScore {
            pair: String::new(),
            value: f64::NAN,
        });
    PairScores {
        mean: Measured::new(metric, score, passport),
        worst,
        each,
    }
}

/// The mean over pairs and its interval, where all values are finite.
fn mean(name: String, values: &[f64], metric: &Metric) -> Score {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let score = Score::plain(name, mean(values));
    if finite.len() < values.len() {
        let equal = values.len() - finite.len();
        let score = score.note(format!(
            "{equal} of {} pairs are equal, whose {} is infinite",
            values.len(),
            metric.id
        ));
        return match finite.is_empty() {
            true => score,
            false => score.note(format!("the mean of the others is {:.4}", mean(&finite))),
        };
    }
    match of_mean(values) {
        Some(interval) => score.with(interval, "draws of pairs"),
        None => score,
    }
}

/// The name of a value, with everything it depends on but the images.
fn protocol(
    metric: &Metric,
    options: PairOptions,
    grey: bool,
    lpips: Option<&LpipsNetwork>,
) -> String {
    if let (LPIPS, Some(network)) = (metric.id, lpips) {
        return format!("lpips_{}", network.lpips.backbone());
    }
    let mut planes = options.suffix();
    if grey {
        planes = planes
            .replacen("_rgb", "_grey", 1)
            .replacen("_y", "_grey", 1);
    }
    match metric.id {
        "psnr" => format!("psnr_db{planes}"),
        "ssim" => format!("ssim{planes}_valid11"),
        other => format!("{}{planes}", other.replace('-', "_")),
    }
}

/// Says how grey, alpha and the options were taken.
fn with_notes(
    mut score: Score,
    metric: &Metric,
    options: PairOptions,
    seen: Seen,
    count: usize,
) -> Score {
    let network = metric.id == LPIPS;
    if seen.grey > 0 {
        let how = match (network, options.luma) {
            (true, _) => "they are repeated to three channels",
            (false, true) => "their levels are compared as they are, the others by Y in 16 to 235",
            (false, false) => "they are compared as grey",
        };
        score = score.note(format!("{} of {count} pairs are grey; {how}", seen.grey));
    }
    if seen.alpha > 0 {
        score = score.note(format!(
            "the alpha of {} of {count} pairs is opaque and left out",
            seen.alpha
        ));
    }
    if network && options != PairOptions::default() {
        score =
            score.note("lpips looks at whole images of bytes in colour, whatever else is asked");
    }
    score
}

fn passport(
    metric: &Metric,
    [generated, real]: [&Side; 2],
    options: PairOptions,
    lpips: Option<&LpipsNetwork>,
) -> Passport {
    let network = lpips.filter(|_| metric.id == LPIPS);
    let bytes = network.is_some() || !options.float;
    Passport {
        protocol: String::new(),
        generated: generated.clone(),
        real: Some(real.clone()),
        network: network.map(LpipsNetwork::name).unwrap_or_default(),
        network_sha256: network.map(|n| n.sha256.clone()).unwrap_or_default(),
        resize: "none".to_owned(),
        input: match network {
            Some(_) => "[-1, 1], shifted and scaled as LPIPS 0.1",
            None => "0 to 255",
        }
        .to_owned(),
        storage: match bytes {
            true => "8-bit, opaque alpha dropped",
            false => "as stored, opaque alpha dropped",
        }
        .to_owned(),
        seed: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::metric;

    use super::*;

    #[test]
    fn names_say_the_protocol() {
        let name = |id: &str, options: PairOptions, grey: bool| {
            protocol(metric(id).unwrap(), options, grey, None)
        };
        let plain = PairOptions::default();
        let y = PairOptions {
            luma: true,
            shave: 4,
            float: false,
        };
        assert_eq!(name("psnr", plain, false), "psnr_db_rgb");
        assert_eq!(name("psnr", y, false), "psnr_db_y_shave4");
        assert_eq!(name("ssim", y, false), "ssim_y_shave4_valid11");
        assert_eq!(name("ssim", y, true), "ssim_grey_shave4_valid11");
        assert_eq!(name("ms-ssim", plain, true), "ms_ssim_grey");
    }

    #[test]
    fn means_and_intervals_by_hand() {
        let mse = metric("mse").unwrap();
        // Deviation √50, standard error 5, t₁ = 12.706205 (scipy 1.17.1: t.ppf(.975, 1)).
        let score = mean("x".to_owned(), &[2.5, 12.5], mse);
        assert_eq!(score.value, 7.5);
        assert!((score.interval.unwrap().half_width() - 63.531_024).abs() < 1e-4);
        assert!(mean("x".to_owned(), &[2.5], mse).interval.is_none());
        let score = mean("x".to_owned(), &[20.0, f64::INFINITY, 30.0], mse);
        assert_eq!((score.value, score.interval), (f64::INFINITY, None));
        assert!(score.notes[0].starts_with("1 of 3"), "{:?}", score.notes);
        assert!(score.notes[1].ends_with("25.0000"), "{:?}", score.notes);
    }

    #[test]
    fn metrics_of_other_kinds_are_refused() {
        assert_eq!(
            check(metric("fid").unwrap(), None).unwrap_err().exit_code(),
            2
        );
        let error = check(metric("lpips").unwrap(), None).unwrap_err();
        assert!(error.remedy().unwrap().contains("--lpips-weights"));
        assert!(check(metric("psnr").unwrap(), None).is_ok());
    }

    #[test]
    fn infinity_is_a_text_in_json() {
        let score = |value: f64| PairScore {
            pair: "x".to_owned(),
            value,
        };
        let text = |value| serde_json::to_string(&score(value)).unwrap();
        assert_eq!(text(f64::INFINITY), r#"{"pair":"x","value":"inf"}"#);
        assert_eq!(text(2.5), r#"{"pair":"x","value":2.5}"#);
    }
}
