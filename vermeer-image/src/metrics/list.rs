//! The list of metrics: what each is called, means, and does not mean.

use crate::error::{ImageError, Result};
use crate::metrics::Interval;
use crate::metrics::pair_scores::{self, PairInput};
use crate::metrics::set_scores::{self, SetInput};

/// Called with the work done and the whole work, in units of the metric's choice.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// What an interval is over when only the real images are drawn anew.
pub const OF_REAL: &str = "draws of the real images, the generated ones fixed";

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Smaller values.
    Lower,
    /// Larger values.
    Higher,
    /// Neither: the value describes.
    Neither,
}

/// A value of a metric, under the name of its protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The protocol: two values are comparable only if it is the same.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Where the value of another draw of as many images may lie.
    pub interval: Option<Interval>,
    /// What the interval is over, such as "draws of the generated images".
    pub interval_over: &'static str,
    /// What has to be known to read the value, one sentence each.
    pub notes: Vec<String>,
}

impl Score {
    /// A value without an interval.
    pub fn plain(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            interval: None,
            interval_over: "",
            notes: vec![],
        }
    }

    /// With an interval over something.
    #[must_use]
    pub fn with(self, interval: Interval, over: &'static str) -> Self {
        Self {
            interval: Some(interval),
            interval_over: over,
            ..self
        }
    }

    /// With a sentence that has to be known.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
}

/// What a metric looks at.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Features of a set, and of a real one where it needs that.
    Set {
        /// Whether it needs real images.
        needs_real: bool,
        /// Computes it.
        measure: fn(&SetInput, Progress) -> Result<Vec<Score>>,
    },
    /// Pairs of an image and its original.
    Pair {
        /// Computes it for one pair.
        measure: fn(&PairInput) -> Result<f64>,
    },
    /// A generator: it is sampled along paths. Computed by
    /// [`path_length`](crate::metrics::path_length).
    Generator,
}

/// A metric.
pub struct Metric {
    /// Its name on the command line.
    pub id: &'static str,
    /// Other names it is known by.
    pub aliases: &'static [&'static str],
    /// What it is, in full words.
    pub title: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The values it can take, and their unit.
    pub range: &'static str,
    /// Fewer images than this on a side mean nothing.
    pub floor: usize,
    /// What a value says, in a sentence.
    pub meaning: &'static str,
    /// What it does not say.
    pub caveat: &'static str,
    /// Where it is defined.
    pub source: &'static str,
    /// What it looks at, and how it is computed.
    pub kind: Kind,
}

/// Every metric, in the order in which they are listed to users.
pub static METRICS: &[Metric] = &[
    Metric {
        id: "fid",
        aliases: &["fd"],
        title: "Fréchet distance between features",
        better: Better::Lower,
        range: "0 and above, squared units of the features",
        floor: 2048,
        meaning: "The features of generated and real images are summed up as two normal \
                  distributions; this is the distance between them. 0 is equality.",
        caveat: "Too large for few images, by about c / n: compare equal numbers, or the \
                 extrapolated value. Sees neither copies nor what the network does not see.",
        source: "Heusel et al., 2017; extrapolation after Chong and Forsyth, 2020",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::frechet,
        },
    },
    Metric {
        id: "kid",
        aliases: &["kd"],
        title: "Kernel distance between features",
        better: Better::Lower,
        range: "about 0 and above; slightly negative values are possible and mean 0",
        floor: 100,
        meaning: "How well a cubic kernel tells generated from real features. Right on average \
                  with any number of images.",
        caveat: "Some print it times 1,000. The deviation of its subsets is no error: read the \
                 interval of the value over all pairs.",
        source: "Bińkowski et al., 2018",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::kernel,
        },
    },
    Metric {
        id: "is",
        aliases: &["isc", "inception-score"],
        title: "Inception Score",
        better: Better::Higher,
        range: "1 to the number of classes",
        floor: 1000,
        meaning: "How sure a classifier is of each image, and how many classes it finds in all.",
        caveat: "Knows nothing of the real images: blind to copies, to missing variety inside a \
                 class, and to whatever the classifier was not trained on.",
        source: "Salimans et al., 2016",
        kind: Kind::Set {
            needs_real: false,
            measure: set_scores::inception,
        },
    },
    Metric {
        id: "pr",
        aliases: &["prc", "precision-recall"],
        title: "Improved precision and recall",
        better: Better::Higher,
        range: "0 to 1 each",
        floor: 1000,
        meaning: "Precision: the share of generated images that look real. Recall: the share of \
                  real images the generator could have made.",
        caveat: "Both grow with k and with the number of images, and one outlier has a large \
                 ball: compare equal k, features and numbers.",
        source: "Kynkäänniemi et al., 2019",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::precision_and_recall,
        },
    },
    Metric {
        id: "prdc",
        aliases: &["density-coverage"],
        title: "Precision, recall, density and coverage",
        better: Better::Higher,
        range: "0 to 1; density can exceed 1",
        floor: 1000,
        meaning: "Density: how densely generated images lie where real ones are. Coverage: the \
                  share of real images that have a generated one near them.",
        caveat: "Values depend on k, features and numbers; two halves of one real set reach a \
                 density of 1 and a coverage below 1.",
        source: "Naeem et al., 2020",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::density_and_coverage,
        },
    },
    Metric {
        id: "vendi",
        aliases: &["vendi-score"],
        title: "Vendi score",
        better: Better::Higher,
        range: "1 to the number of images",
        floor: 100,
        meaning: "The effective number of different images: 1 if all look the same to the \
                  network.",
        caveat: "Noise is varied too: read it beside a distance, and against the real images' \
                 own value.",
        source: "Friedman and Dieng, 2023",
        kind: Kind::Set {
            needs_real: false,
            measure: set_scores::vendi_score,
        },
    },
    Metric {
        id: "c2st",
        aliases: &["two-sample"],
        title: "Classifier two-sample test",
        better: Better::Neither,
        range: "0 to 1; 0.5 is best, less means copies or missing modes",
        floor: 200,
        meaning: "How often a classifier tells generated from real: a logistic regression that \
                  learnt from half of the images, and the nearest other image.",
        caveat: "A test: with many images it finds differences nobody sees. The first classifier \
                 is linear in the features.",
        source: "Lopez-Paz and Oquab, 2017",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::two_sample,
        },
    },
    Metric {
        id: "swd",
        aliases: &["sliced-wasserstein"],
        title: "Sliced Wasserstein distance between features",
        better: Better::Lower,
        range: "0 and above, units of the features",
        floor: 1000,
        meaning: "The distance between the two distributions along random directions, on \
                  average: no normal distribution is assumed.",
        caveat: "Too large for few images. Depends on the scale of the features.",
        source: "Bonneel et al., 2015",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::wasserstein,
        },
    },
    Metric {
        id: "authpct",
        aliases: &["authenticity"],
        title: "Authenticity",
        better: Better::Neither,
        range: "0 to 100 %",
        floor: 100,
        meaning: "The share of generated images that are farther from their nearest training \
                  image than that one is from its nearest other training image.",
        caveat: "Fresh real images do not reach a fixed value (40 to 80 % by dimension): compare \
                 with held-out images. `vermeer eval memorization` tests it.",
        source: "Alaa et al., 2022, as computed by dgm-eval",
        kind: Kind::Set {
            needs_real: true,
            measure: set_scores::authenticity,
        },
    },
    Metric {
        id: "ppl",
        aliases: &["path-length"],
        title: "Perceptual path length",
        better: Better::Lower,
        range: "0 and above",
        floor: 100,
        meaning: "How fast images change along paths between latent vectors: small if the way \
                  from one image to another is smooth.",
        caveat: "Depends on the network, on the space of the paths, on epsilon and on rounding: \
                 all stand in its name.",
        source: "Karras et al., 2019",
        kind: Kind::Generator,
    },
    Metric {
        id: "psnr",
        aliases: &[],
        title: "Peak signal-to-noise ratio",
        better: Better::Higher,
        range: "decibels; infinite for equal images",
        floor: 1,
        meaning: "The mean squared error against the original on a logarithmic scale.",
        caveat: "Prefers blur to detail in a wrong place. RGB and Y, shaved and not, differ by \
                 up to 2 dB.",
        source: "10 log10(255² / MSE), mean of the images' decibels",
        kind: Kind::Pair {
            measure: pair_scores::psnr,
        },
    },
    Metric {
        id: "ssim",
        aliases: &[],
        title: "Structural similarity",
        better: Better::Higher,
        range: "-1 to 1; 1 for equal images",
        floor: 1,
        meaning: "How alike brightness, contrast and structure are in windows of 11 pixels.",
        caveat: "Windows, borders and covariances differ between implementations by up to 0.03.",
        source: "Wang et al., 2004: Gaussian window, valid region",
        kind: Kind::Pair {
            measure: pair_scores::structural,
        },
    },
    Metric {
        id: "ms-ssim",
        aliases: &["msssim"],
        title: "Structural similarity over five scales",
        better: Better::Higher,
        range: "0 to 1; 1 for equal images",
        floor: 1,
        meaning: "As SSIM, with contrast and structure at five sizes.",
        caveat: "Needs images of at least 176 pixels a side.",
        source: "Wang et al., 2003",
        kind: Kind::Pair {
            measure: pair_scores::multi_scale,
        },
    },
    Metric {
        id: "lpips",
        aliases: &[],
        title: "Learned perceptual distance",
        better: Better::Lower,
        range: "0 and above; 0 for equal images",
        floor: 1,
        meaning: "How different two images look to a network whose layers were weighted by \
                  people's judgements.",
        caveat: "The backbones give different values; alex is the one for evaluation.",
        source: "Zhang et al., 2018, version 0.1",
        kind: Kind::Pair {
            measure: pair_scores::perceptual,
        },
    },
    Metric {
        id: "mse",
        aliases: &[],
        title: "Mean squared error",
        better: Better::Lower,
        range: "0 to 65025, squared grey levels",
        floor: 1,
        meaning: "The mean squared difference to the original.",
        caveat: "Says nothing of where the differences are.",
        source: "mean of (a - b)² over pixels and channels, 0..=255",
        kind: Kind::Pair {
            measure: pair_scores::squared_error,
        },
    },
    Metric {
        id: "mae",
        aliases: &["l1"],
        title: "Mean absolute error",
        better: Better::Lower,
        range: "0 to 255 grey levels",
        floor: 1,
        meaning: "The mean absolute difference to the original.",
        caveat: "Says nothing of where the differences are.",
        source: "mean of |a - b| over pixels and channels, 0..=255",
        kind: Kind::Pair {
            measure: pair_scores::absolute_error,
        },
    },
];

/// The metric of that name or alias.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS
        .iter()
        .find(|metric| metric.id == name || metric.aliases.contains(&name))
}

impl Metric {
    /// Refuses numbers of images that mean nothing.
    ///
    /// # Errors
    /// [`ImageError::Shape`] with the reason and what to use instead.
    pub fn check_floor(&self, images: usize) -> Result<()> {
        if images >= self.floor {
            return Ok(());
        }
        let why = match self.id {
            "fid" => {
                "; the covariance of fewer is mostly noise. `kid` is right on average with any \
                 number"
            }
            _ => "",
        };
        Err(ImageError::Shape(format!(
            "{} of {images} images means nothing: at least {} are needed{why}. --force computes it \
             all the same where that is possible",
            self.id, self.floor
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_unique() {
        let mut names: Vec<&str> = METRICS
            .iter()
            .flat_map(|metric| metric.aliases.iter().copied().chain([metric.id]))
            .collect();
        assert_eq!(metric("isc").unwrap().id, "is");
        assert!(metric("nothing").is_none());
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn too_few_images_are_refused_with_a_way_out() {
        let error = metric("fid").unwrap().check_floor(200).unwrap_err();
        assert!(error.to_string().contains("kid"), "{error}");
        assert!(metric("fid").unwrap().check_floor(2048).is_ok());
    }
}
