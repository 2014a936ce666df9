//! Evaluation: images of a folder, an archive or a run, through a frozen network, to numbers that
//! say what they are.
//!
//! [`Subject`] is what is measured, [`extract`] takes its features through an
//! [`Extractor`](vermeer_image::features::Extractor) to a file, and [`measure`] computes the
//! metrics of [`METRICS`](vermeer_image::metrics::METRICS) on them. Each value is a [`Measured`]:
//! a score with its [`Passport`], which says everything the value depends on. Images are compared
//! with their originals by [`pairs`](pairs()), a model's latent space is walked by
//! [`path_lengths`], and [`page`](page()) shows what was found.

mod artifacts;
mod comparison;
mod downstream;
mod extract;
mod likelihood;
mod measure;
mod memorization;
mod modes;
mod networks;
mod page;
mod pairs;
mod passport;
mod path_length;
mod perceptual;
mod pictures;
mod runs;
mod statistics;
mod subject;

pub use artifacts::{ArtifactsReport, artifacts};
pub use comparison::as_seen_by;
pub use downstream::{Cas, CasOptions, ClassAccuracy, Stages, cas};
pub use extract::{ExtractOptions, Extraction, FeatureCache, extract, extract_all};
pub use likelihood::{PixelKind, Protocol, log_likelihoods};
pub use measure::{Difference, Measured, Set, difference, measure};
pub use memorization::{
    MemorizationOptions, MemorizationReport, MemorizationSets, SpaceReport, TrainDuplicates,
    WorstPair, memorization,
};
pub use modes::{Mode, ModesOptions, ModesReport, ModesSets, modes};
pub use networks::{NetworkChoice, extractor, weights};
pub use page::{
    Histogram, NearPair, Nearness, NeighbourPair, Page, RunsPage, SizeCurve, nearness, page,
    runs_page, size_curve,
};
pub use pairs::{
    DifferenceMap, ImagePair, MapFile, PairScore, PairScores, PairTable, PairedImages, pairs,
    write_differences,
};
pub use passport::{Passport, Side};
pub use path_length::{path_lengths, run_path_options};
pub use perceptual::{LpipsNetwork, Perceptual};
pub use runs::{
    BitsPerDim, CopiesFound, LikelihoodOptions, ModesFound, RunCell, RunColumn, RunOptions, RunRow,
    RunSets, RunTable, at_one_size, bits_per_dim, measure_samples, trained_parameters, unpadded,
};
pub use statistics::{Statistics, read_statistics, write_statistics};
pub use subject::{RunChoice, RunImages, Subject};
