//! Metrics: how far generated images are from real ones, and how alike two images are.
//!
//! Metrics of sets compare [`Features`] of two folders of images, metrics of pairs compare an image
//! with its original. [`METRICS`] lists them, with what each number means and what it does not.
//! Every value leaves with its interval where it has one; the caller adds what was compared and
//! how.

pub mod interval;
pub mod neighbours;

mod artifacts;
mod authenticity;
mod closeness;
mod cluster_modes;
mod data_copying;
mod density_coverage;
mod difference;
mod duplicates;
mod feature_set;
mod frechet;
mod inception_score;
mod k_means;
mod kernel_distance;
pub mod linear;
mod list;
mod lpips;
mod memorization;
mod modes;
mod moments;
mod ms_ssim;
mod numpy_random;
mod pair_scores;
mod path_length;
mod pixel_error;
mod planes;
mod precision_recall;
mod probe;
mod psnr;
mod set_scores;
mod significance;
mod sliced_wasserstein;
mod spectral_peaks;
mod spectrum;
mod ssim;
mod two_sample;
mod vendi;

pub use artifacts::{ArtifactReport, LEAST_IMAGES, RingDifference, Sharpness, artifacts};
pub use authenticity::{Authenticity, authpct_dgm, authpct_fld};
pub use closeness::{Closeness, NEIGHBOURS, TrainingSet};
pub use cluster_modes::{ClusterReport, ClusterShare, cluster_modes, clusters_for, compare_counts};
pub use data_copying::{
    CopyingCell, CopyingCells, CopyingOptions, DataCopying, c_t, c_t_global, c_t_in_cells,
};
pub use density_coverage::{DensityCoverage, density_coverage};
pub use difference::{Difference, difference, ssim_picture};
pub use duplicates::{Duplicate, duplicate_groups, duplicates};
pub use feature_set::Features;
pub use frechet::{
    BLOCKS, FrechetReference, Spread, frechet_distance, frechet_distance_all_eigenvalues,
    frechet_spread,
};
pub use inception_score::{InceptionScore, Splits, inception_score};
pub use interval::Interval;
pub use k_means::{KMeans, k_means};
pub use kernel_distance::{
    KernelDistance, SubsetDistance, Subsets, kernel_distance, kernel_distance_of_subsets,
};
pub use list::{Better, Kind, METRICS, Metric, OF_REAL, Progress, Score, metric};
pub use lpips::{Backbone, Lpips};
pub use memorization::{Copying, CopyingReport, CopyingTest, SampleCopy, Statistic};
pub use modes::{ClassReport, ClassShare, Presence, class_modes};
pub use moments::Moments;
pub use ms_ssim::{ms_ssim, ms_ssim_factors};
pub use numpy_random::NumpyRandom;
pub use pair_scores::{PairInput, PairOptions};
pub use path_length::{Ends, Interpolation, PathLength, PathLengthOptions, face_crop, path_length};
pub use pixel_error::{mae, mse};
pub use planes::Planes;
pub use precision_recall::{PrecisionRecall, precision_recall};
pub use probe::{Accuracy, Probe, ProbeOptions, probe};
pub use psnr::psnr_db;
pub use set_scores::{SetInput, SetOptions};
pub use sliced_wasserstein::{PROJECTIONS, SlicedWasserstein, sliced_wasserstein};
pub use spectral_peaks::{Pattern, Peak};
pub use spectrum::{SMALLEST_SIDE, Spectrum};
pub use ssim::{ssim, ssim_map};
pub use two_sample::{
    ClassifierOptions, ClassifierTest, NearestNeighbourTest, classifier_test,
    nearest_neighbour_test,
};
pub use vendi::{vendi, vendi_of_order};
