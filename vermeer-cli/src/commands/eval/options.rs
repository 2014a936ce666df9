//! The options of `vermeer eval`.

use std::path::PathBuf;

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use vermeer::Result;
use vermeer::data::Split;
use vermeer::evaluate;
use vermeer_image::metrics::{Ends, Interpolation, PathLengthOptions, SetOptions};

use super::network::NetworkArgs;
use super::sampling::SamplingArgs;
use super::threshold::Threshold;

// What to measure and how.
#[derive(clap::Args)]
pub(super) struct MeasureArgs {
    /// Metrics (fid kid is pr prdc vendi c2st swd authpct ppl psnr ssim ms-ssim lpips mse mae), then
    /// what is judged, then what it should be like.
    #[arg(value_name = "METRIC… A [B]")]
    pub(super) words: Vec<String>,
    /// What is judged, as torch-fidelity says it; for precision and recall too, where versions of
    /// torch-fidelity before 2026 took it to be the real side.
    #[arg(long, value_name = "A")]
    pub(super) input1: Option<String>,
    /// What it should be like, as torch-fidelity says it.
    #[arg(long, value_name = "B", requires = "input1")]
    pub(super) input2: Option<String>,
    /// As the word fid.
    #[arg(short = 'f', long)]
    pub(super) fid: bool,
    /// As the word kid.
    #[arg(short = 'k', long)]
    pub(super) kid: bool,
    /// As the word is.
    #[arg(short = 'i', long)]
    pub(super) isc: bool,
    /// As the word pr.
    #[arg(short = 'r', long)]
    pub(super) prc: bool,
    /// As the word ppl.
    #[arg(short = 'p', long)]
    pub(super) ppl: bool,
    /// Other images, judged against B too: is A better than they are by more than chance?
    #[arg(long, value_name = "C")]
    pub(super) versus: Option<String>,
    /// Keep statistics, as pytorch-fid says it: `vermeer eval stats` does.
    #[arg(long, hide = true)]
    pub(super) save_stats: bool,
    /// Loader processes of pytorch-fid: `--threads` is what there is here.
    #[arg(long, hide = true, value_name = "N")]
    pub(super) num_workers: Option<usize>,
    #[command(flatten)]
    pub(super) choice: Choice,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) sets: SetArgs,
    #[command(flatten)]
    pub(super) pairs: PairArgs,
    #[command(flatten)]
    pub(super) paths: PathArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

// Which images are taken.
#[derive(clap::Args)]
#[command(next_help_heading = "Images")]
pub(super) struct Choice {
    /// Split of A: train, validation, test or all, which is usual.
    #[arg(long)]
    pub(super) split: Option<Split>,
    /// Split of B: train, which is usual, validation, test or all.
    #[arg(long)]
    pub(super) real_split: Option<Split>,
    /// Number of images of A, drawn from all; of a run, how many samples it makes (10,000).
    #[arg(short = 'n', long, alias = "input1-model-num-samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) count: Option<usize>,
    /// Number of images of B, drawn from all.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) real_count: Option<usize>,
    /// Seed of draws, samples, subsets and orders.
    #[arg(long, default_value_t = 2020, alias = "rng-seed")]
    pub(super) seed: u32,
    /// Images that are read at a time; values do not depend on it.
    #[arg(short, long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) batch_size: Option<usize>,
    /// Keep features in this folder, and take them from it when images and network are the same.
    #[arg(
        long,
        value_name = "FOLDER",
        env = "VERMEER_CACHE",
        alias = "cache-root"
    )]
    pub(super) cache: Option<PathBuf>,
    /// Take and keep no features, whatever VERMEER_CACHE says.
    #[arg(long, conflicts_with = "cache")]
    pub(super) no_cache: bool,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    pub(super) device: String,
    /// As `--device cuda:N`.
    #[arg(
        short = 'g',
        long,
        hide = true,
        value_name = "N",
        conflicts_with = "device"
    )]
    pub(super) gpu: Option<usize>,
    /// As `--device auto`.
    #[arg(short = 'c', long, hide = true, conflicts_with_all = ["device", "gpu"])]
    pub(super) cpu: bool,
    /// Compute values of too few images, and compare what cannot be compared.
    #[arg(long)]
    pub(super) force: bool,
}

// What the metrics of sets leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Metrics of sets")]
pub(super) struct SetArgs {
    /// Parts the images are dealt into for the Inception Score.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) isc_splits: usize,
    /// Subsets of the published KID.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) kid_subsets: usize,
    /// Images in each subset of KID.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub(super) kid_subset_size: usize,
    /// Neighbours of precision and recall.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) prc_neighborhood: usize,
    /// Neighbours of density and coverage.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) prdc_neighborhood: usize,
    /// Directions of the sliced Wasserstein distance.
    #[arg(long, value_name = "N", default_value_t = vermeer_image::metrics::PROJECTIONS, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub(super) swd_projections: usize,
}

// What the metrics of pairs leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Metrics of pairs")]
pub(super) struct PairArgs {
    /// Compare brightness (Y of BT.601, 16 to 235), as super-resolution does, instead of colours.
    #[arg(long)]
    pub(super) luma: bool,
    /// Leave out so many pixels at each border.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub(super) shave: usize,
    /// Compare 16-bit and float images as they are, instead of rounded to bytes.
    #[arg(long)]
    pub(super) float: bool,
    /// Backbone of LPIPS.
    #[arg(long, value_enum, default_value = "alex")]
    pub(super) lpips_net: LpipsNet,
    /// Weights of LPIPS: .pth or .safetensors of its backbone, or of the whole.
    #[arg(long, value_name = "FILE")]
    pub(super) lpips_weights: Option<PathBuf>,
    /// Weights of LPIPS' linear heads, where they are a file of their own.
    #[arg(long, value_name = "FILE", requires = "lpips_weights")]
    pub(super) lpips_heads: Option<PathBuf>,
    /// Write a picture of the differences of each pair into this new folder.
    #[arg(long, value_name = "FOLDER")]
    pub(super) maps: Option<PathBuf>,
    /// What the pictures of --maps show.
    #[arg(long, value_enum, default_value = "levels", requires = "maps")]
    pub(super) map_of: MapOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum MapOf {
    /// Differences of grey levels or colours.
    Levels,
    /// Differences of structure: 1 - SSIM around each pixel.
    Structure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LpipsNet {
    Alex,
    Vgg,
    Squeeze,
}

// What path lengths leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Perceptual path length")]
pub(super) struct PathArgs {
    /// The step between the two images.
    #[arg(long, value_name = "E", default_value_t = 1e-4)]
    pub(super) ppl_epsilon: f64,
    /// Where on a path the step is made.
    #[arg(long, value_enum, default_value = "end")]
    pub(super) ppl_ends: PathEnds,
    /// The space of the paths.
    #[arg(long, value_enum, default_value = "z", alias = "space")]
    pub(super) ppl_space: PathSpace,
    /// How to go from one vector to another: slerp-any in z, lerp in w when absent.
    #[arg(long, value_enum, alias = "ppl-z-interp-mode")]
    pub(super) ppl_interpolation: Option<PathInterpolation>,
    /// Round images to bytes before they are compared, as torch-fidelity does.
    #[arg(long)]
    pub(super) ppl_bytes: bool,
    /// Cut out the middle of faces, as StyleGAN did for FFHQ.
    #[arg(long)]
    pub(super) ppl_crop: bool,
    /// Percentage of the smallest distances that is left out.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(super) ppl_discard_percentile_lower: f64,
    /// Percentile above which distances are left out.
    #[arg(long, value_name = "P", default_value_t = 99.0)]
    pub(super) ppl_discard_percentile_higher: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PathEnds {
    /// At the first latent.
    End,
    /// Anywhere.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PathSpace {
    /// Latents.
    Z,
    /// Styles, of a family that has them.
    W,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PathInterpolation {
    /// Straight.
    Lerp,
    /// On the unit sphere, as StyleGAN.
    #[value(alias = "slerp_unit")]
    SlerpUnit,
    /// On a sphere, and from one length to the other.
    #[value(alias = "slerp_any")]
    SlerpAny,
}

// What becomes of the values.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Print the values with their passports as JSON.
    #[arg(short, long)]
    pub(super) json: bool,
    /// Write one page with pictures, curves and what each number means.
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
    /// Replace a report that is there.
    #[arg(long, requires = "report")]
    pub(super) overwrite: bool,
    /// End with exit code 3 when this comes true, such as 'fid>28.5'; several times.
    #[arg(long, value_name = "CONDITION")]
    pub(super) fail_if: Vec<Threshold>,
}

impl SetArgs {
    pub(super) fn is_usual(&self) -> bool {
        let (ours, usual) = (self.options(0), SetOptions::default());
        SetOptions { seed: 0, ..ours } == SetOptions { seed: 0, ..usual }
    }

    pub(super) fn options(&self, seed: u32) -> SetOptions {
        SetOptions {
            seed,
            splits: self.isc_splits,
            subsets: [self.kid_subsets, self.kid_subset_size],
            neighbours: self.prc_neighborhood,
            density_neighbours: self.prdc_neighborhood,
            projections: self.swd_projections,
        }
    }
}

impl PairArgs {
    pub(super) fn is_said(&self) -> bool {
        self.luma || self.shave > 0 || self.float || self.maps.is_some()
    }
}

impl PathArgs {
    pub(super) fn is_usual(&self) -> bool {
        self.options() == evaluate::run_path_options()
    }

    pub(super) fn options(&self) -> PathLengthOptions {
        PathLengthOptions {
            space: match self.ppl_space {
                PathSpace::Z => "z",
                PathSpace::W => "w",
            }
            .to_owned(),
            epsilon: self.ppl_epsilon,
            ends: match self.ppl_ends {
                PathEnds::End => Ends::End,
                PathEnds::Full => Ends::Full,
            },
            interpolation: match (self.ppl_interpolation, self.ppl_space) {
                (Some(PathInterpolation::Lerp), _) | (None, PathSpace::W) => Interpolation::Lerp,
                (Some(PathInterpolation::SlerpUnit), _) => Interpolation::Slerp,
                (Some(PathInterpolation::SlerpAny), _) | (None, PathSpace::Z) => {
                    Interpolation::SlerpAny
                }
            },
            crop: self.ppl_crop,
            quantised: self.ppl_bytes,
            discard: [
                self.ppl_discard_percentile_lower / 100.0,
                self.ppl_discard_percentile_higher / 100.0,
            ],
            ..evaluate::run_path_options()
        }
    }
}

impl Choice {
    pub(super) fn device(&self) -> Result<Device> {
        match self.gpu {
            Some(number) => vermeer::device::parse(&format!("cuda:{number}")),
            None => vermeer::device::parse(&self.device),
        }
    }
}
