//! The metrics of `vermeer eval`: from images to values.

use std::path::PathBuf;

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use vermeer::data::Split;
use vermeer::evaluate::{
    self, Difference, DifferenceMap, ExtractOptions, FeatureCache, LpipsNetwork, Measured,
    PairTable, PairedImages, Perceptual, RunChoice, Set, Subject,
};
use vermeer::run::shell_word;
use vermeer::{Error, Result};
use vermeer_image::features::Extractor;
use vermeer_image::metrics::{
    Backbone, Ends, Interpolation, Kind, Metric, PairOptions, PathLengthOptions, SetOptions, metric,
};

use super::network::NetworkArgs;
use super::page;
use super::sampling::{self, SamplingArgs};
use super::table;
use super::threshold::{self, Threshold};
use super::words::Request;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

/// Samples of a run, or pairs of them, when the number is not said.
const SAMPLES: usize = 10_000;

// What to measure and how.
#[derive(clap::Args)]
pub(super) struct MeasureArgs {
    /// Metrics (fid kid is pr prdc vendi c2st swd authpct ppl psnr ssim ms-ssim lpips mse mae), then
    /// what is judged, then what it should be like.
    #[arg(value_name = "METRIC… A [B]")]
    words: Vec<String>,
    /// What is judged, as torch-fidelity says it; for precision and recall too, where versions of
    /// torch-fidelity before 2026 took it to be the real side.
    #[arg(long, value_name = "A")]
    input1: Option<String>,
    /// What it should be like, as torch-fidelity says it.
    #[arg(long, value_name = "B", requires = "input1")]
    input2: Option<String>,
    /// As the word fid.
    #[arg(short = 'f', long)]
    fid: bool,
    /// As the word kid.
    #[arg(short = 'k', long)]
    kid: bool,
    /// As the word is.
    #[arg(short = 'i', long)]
    isc: bool,
    /// As the word pr.
    #[arg(short = 'r', long)]
    prc: bool,
    /// As the word ppl.
    #[arg(short = 'p', long)]
    ppl: bool,
    /// Other images, judged against B too: is A better than they are by more than chance?
    #[arg(long, value_name = "C")]
    versus: Option<String>,
    /// Keep statistics, as pytorch-fid says it: `vermeer eval stats` does.
    #[arg(long, hide = true)]
    save_stats: bool,
    /// Loader processes of pytorch-fid: `--threads` is what there is here.
    #[arg(long, hide = true, value_name = "N")]
    num_workers: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    sets: SetArgs,
    #[command(flatten)]
    pairs: PairArgs,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    output: OutputArgs,
}

// Which images are taken.
#[derive(clap::Args)]
#[command(next_help_heading = "Images")]
struct Choice {
    /// Split of A: train, validation, test or all, which is usual.
    #[arg(long)]
    split: Option<Split>,
    /// Split of B: train, which is usual, validation, test or all.
    #[arg(long)]
    real_split: Option<Split>,
    /// Number of images of A, drawn from all; of a run, how many samples it makes (10,000).
    #[arg(short = 'n', long, alias = "input1-model-num-samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: Option<usize>,
    /// Number of images of B, drawn from all.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    real_count: Option<usize>,
    /// Seed of draws, samples, subsets and orders.
    #[arg(long, default_value_t = 2020, alias = "rng-seed")]
    seed: u32,
    /// Images that are read at a time; values do not depend on it.
    #[arg(short, long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch_size: Option<usize>,
    /// Keep features in this folder, and take them from it when images and network are the same.
    #[arg(
        long,
        value_name = "FOLDER",
        env = "VERMEER_CACHE",
        alias = "cache-root"
    )]
    cache: Option<PathBuf>,
    /// Take and keep no features, whatever VERMEER_CACHE says.
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// As `--device cuda:N`.
    #[arg(
        short = 'g',
        long,
        hide = true,
        value_name = "N",
        conflicts_with = "device"
    )]
    gpu: Option<usize>,
    /// As `--device auto`.
    #[arg(short = 'c', long, hide = true, conflicts_with_all = ["device", "gpu"])]
    cpu: bool,
    /// Compute values of too few images, and compare what cannot be compared.
    #[arg(long)]
    force: bool,
}

// What the metrics of sets leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Metrics of sets")]
struct SetArgs {
    /// Parts the images are dealt into for the Inception Score.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    isc_splits: usize,
    /// Subsets of the published KID.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    kid_subsets: usize,
    /// Images in each subset of KID.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    kid_subset_size: usize,
    /// Neighbours of precision and recall.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    prc_neighborhood: usize,
    /// Neighbours of density and coverage.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    prdc_neighborhood: usize,
    /// Directions of the sliced Wasserstein distance.
    #[arg(long, value_name = "N", default_value_t = vermeer_image::metrics::PROJECTIONS, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    swd_projections: usize,
}

// What the metrics of pairs leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Metrics of pairs")]
struct PairArgs {
    /// Compare brightness (Y of BT.601, 16 to 235), as super-resolution does, instead of colours.
    #[arg(long)]
    luma: bool,
    /// Leave out so many pixels at each border.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    shave: usize,
    /// Compare 16-bit and float images as they are, instead of rounded to bytes.
    #[arg(long)]
    float: bool,
    /// Backbone of LPIPS.
    #[arg(long, value_enum, default_value = "alex")]
    lpips_net: LpipsNet,
    /// Weights of LPIPS: .pth or .safetensors of its backbone, or of the whole.
    #[arg(long, value_name = "FILE")]
    lpips_weights: Option<PathBuf>,
    /// Weights of LPIPS' linear heads, where they are a file of their own.
    #[arg(long, value_name = "FILE", requires = "lpips_weights")]
    lpips_heads: Option<PathBuf>,
    /// Write a picture of the differences of each pair into this new folder.
    #[arg(long, value_name = "FOLDER")]
    maps: Option<PathBuf>,
    /// What the pictures of --maps show.
    #[arg(long, value_enum, default_value = "levels", requires = "maps")]
    map_of: MapOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MapOf {
    /// Differences of grey levels or colours.
    Levels,
    /// Differences of structure: 1 - SSIM around each pixel.
    Structure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LpipsNet {
    Alex,
    Vgg,
    Squeeze,
}

// What path lengths leave open.
#[derive(clap::Args)]
#[command(next_help_heading = "Perceptual path length")]
struct PathArgs {
    /// The step between the two images.
    #[arg(long, value_name = "E", default_value_t = 1e-4)]
    ppl_epsilon: f64,
    /// Where on a path the step is made.
    #[arg(long, value_enum, default_value = "end")]
    ppl_ends: PathEnds,
    /// How to go from one latent vector to another.
    #[arg(
        long,
        value_enum,
        default_value = "slerp-any",
        alias = "ppl-z-interp-mode"
    )]
    ppl_interpolation: PathInterpolation,
    /// Round images to bytes before they are compared, as torch-fidelity does.
    #[arg(long)]
    ppl_bytes: bool,
    /// Cut out the middle of faces, as StyleGAN did for FFHQ.
    #[arg(long)]
    ppl_crop: bool,
    /// Percentage of the smallest distances that is left out.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    ppl_discard_percentile_lower: f64,
    /// Percentile above which distances are left out.
    #[arg(long, value_name = "P", default_value_t = 99.0)]
    ppl_discard_percentile_higher: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PathEnds {
    /// At the first latent.
    End,
    /// Anywhere.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PathInterpolation {
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
struct OutputArgs {
    /// Print the values with their passports as JSON.
    #[arg(short, long)]
    json: bool,
    /// Write one page with pictures, curves and what each number means.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Replace a report that is there.
    #[arg(long, requires = "report")]
    overwrite: bool,
    /// End with exit code 3 when this comes true, such as 'fid>28.5'; several times.
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Threshold>,
}

/// Everything that was found.
#[derive(Default)]
struct Found {
    values: Vec<Measured>,
    differences: Vec<Difference>,
    pairs: Option<PairTable>,
    /// The sets the report shows, with the network that looked at them.
    sets: Option<page::Sets>,
}

impl MeasureArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<()> {
        let request = self.request()?;
        let sets = request.of_sets();
        let pairs = request.of_pairs();
        let generators = request.of_generators();
        self.check(&request)?;
        let page = self.output.report.as_deref();
        let page = page.map(|path| Outputs::one(path, self.output.overwrite));
        let page = page.transpose()?;
        let device = self.choice.device()?;
        let options = ExtractOptions {
            cache: match &self.choice.cache {
                Some(folder) if !self.choice.no_cache => FeatureCache::Folder(folder.clone()),
                _ => FeatureCache::Off,
            },
            batch: self.choice.batch_size,
            stop: stop::flag()?,
        };
        let mut found = Found::default();
        if !sets.is_empty() {
            self.sets(&request, &sets, &options, &device, terminal, &mut found)?;
        }
        if !pairs.is_empty() {
            self.pairs(&request, &pairs, &options, &device, terminal, &mut found)?;
        }
        for metric in generators {
            self.path_length(metric, &request, &options, &device, terminal, &mut found)?;
        }
        self.tell(&found, terminal)?;
        let judged = threshold::check(&self.output.fail_if, &found.values);
        self.maps(&request, &options, terminal)?;
        if let Some(page) = page {
            let command = command_line();
            let progress = terminal.progress("pictures of the report");
            let text = page::page(
                &page::Contents {
                    title: format!("{} evaluated", request.first),
                    command: &command,
                    values: &found.values,
                    differences: &found.differences,
                    sets: found.sets.as_ref(),
                    maps: self.maps_for_page(&request, !pairs.is_empty())?,
                    seed: self.choice.seed,
                },
                &mut |done, all| progress.at(done, all),
            )?;
            page.publish_one(text.as_bytes())?;
            drop(progress);
            if let Some(path) = &self.output.report {
                terminal.note(&format!("the report is {}", path.display()));
            }
        }
        judged
    }

    /// Refuses what can be refused before any image is looked at.
    fn check(&self, request: &Request) -> Result<()> {
        let (sets, pairs) = (request.of_sets(), request.of_pairs());
        let generators = request.of_generators();
        if self.save_stats || self.num_workers.is_some() {
            return Err(Error::settings(
                "--save-stats and --num-workers are of pytorch-fid",
                "keep statistics with `vermeer eval stats IMAGES --out FILE.npz`, and choose the \
                 number of --threads",
            ));
        }
        let of_sets = [
            (self.versus.is_some(), "--versus"),
            (
                self.network.is_said(),
                "--network, --weights, --dims and --protocol",
            ),
            (
                !self.sets.is_usual(),
                "--isc-…, --kid-…, --prc-…, --prdc-… and --swd-…",
            ),
        ];
        let of_pairs = [
            (self.pairs.is_said(), "--luma, --shave, --float and --maps"),
            (false, ""),
            (false, ""),
        ];
        let of_generators = [
            (!self.paths.is_usual(), "--ppl-…"),
            (false, ""),
            (false, ""),
        ];
        for (kind, none, options) in [
            ("metrics of sets", sets.is_empty(), of_sets),
            ("metrics of pairs", pairs.is_empty(), of_pairs),
            ("the path length", generators.is_empty(), of_generators),
        ] {
            if let Some((_, option)) = options.iter().find(|(said, _)| none && *said) {
                return Err(Error::settings(
                    format!("{option}: of {kind}, and none was asked for"),
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

    fn request(&self) -> Result<Request> {
        let flags = [
            (self.fid, "fid"),
            (self.kid, "kid"),
            (self.isc, "is"),
            (self.prc, "pr"),
            (self.ppl, "ppl"),
        ];
        let flagged: Vec<&str> = flags
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, id)| *id)
            .collect();
        let inputs = self.input1.iter().chain(&self.input2);
        let of_words = |word: &String| word.split(',').all(|name| metric(name).is_some());
        if let (Some(first), Some(word)) =
            (&self.input1, self.words.iter().find(|word| !of_words(word)))
        {
            return Err(Error::settings(
                format!("{word} and --input1 {first} are both said to be judged"),
                "name both sets as words, or both with --input1 and --input2",
            ));
        }
        let words: Vec<String> = self.words.iter().chain(inputs).cloned().collect();
        Request::new(&words, &flagged)
    }

    /// Metrics of sets.
    fn sets(
        &self,
        request: &Request,
        metrics: &[&'static Metric],
        options: &ExtractOptions,
        device: &Device,
        terminal: &Terminal,
        found: &mut Found,
    ) -> Result<()> {
        let logits = metrics.iter().any(|metric| metric.id == "is");
        let extractors = self.network.extractors(logits, device)?;
        let choice = &self.choice;
        let seed = u64::from(choice.seed);
        let judged = |location: &str| {
            let split = (choice.split, Split::All);
            let count = choice.count;
            self.sampling
                .open(location, split, count, seed, device, terminal)
        };
        let first = judged(&request.first)?;
        let others = self.versus.as_deref().map(judged).transpose()?;
        let real = |location: &str| {
            let split = (choice.real_split, Split::Train);
            let how = RunChoice::seeded(seed);
            sampling::open(location, split, choice.real_count, &how, device)
        };
        let second = request.second.as_deref().map(real).transpose()?;
        for subject in [Some(&first), others.as_ref()].into_iter().flatten() {
            check_floors(metrics, subject, second.as_ref(), choice.force)?;
        }
        let with_logits = extractors.iter().all(|extractor| extractor.classes() > 0);
        if logits && !with_logits {
            return Err(Error::settings(
                "the Inception Score needs a network that classifies",
                "choose --network inception --weights FILE, or --network judge",
            ));
        }
        check_statistics(metrics, [Some(&first), second.as_ref(), others.as_ref()])?;
        let looked_at: Vec<&Extractor> = extractors.iter().collect();
        let look = |subject: &Subject, what: &'static str| -> Result<Vec<Set>> {
            let progress = terminal.progress(what);
            Set::of_all(subject, &looked_at, options, &mut |done, all| {
                progress.at(done, all);
            })
        };
        let real = second.as_ref().map(|subject| look(subject, "real images"));
        let real = real.transpose()?;
        let generated = look(&first, "images")?;
        let others = others.as_ref().map(|subject| look(subject, "other images"));
        let others = others.transpose()?;
        let stopped = || options.stop.load(std::sync::atomic::Ordering::Relaxed);
        let set_options = self.sets.options(choice.seed);
        for (at, extractor) in extractors.iter().enumerate() {
            let real = real.as_ref().map(|sets| &sets[at]);
            let measure = |metric: &Metric, set: &Set| {
                let progress = terminal.progress("steps of a metric");
                evaluate::measure(
                    metric,
                    set,
                    real,
                    extractor,
                    &set_options,
                    choice.force,
                    &mut |done, all| progress.at(done, all),
                )
            };
            for metric in metrics {
                if stopped() {
                    return Err(Error::Failed("interrupted; nothing was written".into()));
                }
                let values = measure(metric, &generated[at])?;
                if let Some(others) = &others {
                    let other_values = measure(metric, &others[at])?;
                    for (a, b) in values.iter().zip(&other_values) {
                        match evaluate::difference(a, b, choice.force) {
                            Ok(Some(difference)) => found.differences.push(difference),
                            Ok(None) => terminal.note(&format!(
                                "{}: without an interval over draws of the judged images, so \
                                 nothing is said of chance",
                                a.name
                            )),
                            Err(error) => terminal.warn(&error.to_string()),
                        }
                    }
                    found.values.extend(values);
                    found.values.extend(other_values);
                } else {
                    found.values.extend(values);
                }
            }
        }
        let set = |sets: Vec<Set>| sets.into_iter().next();
        if let (Some(extractor), Some(generated)) = (extractors.first(), set(generated)) {
            found.sets = Some(page::Sets {
                network: extractor.name().to_owned(),
                generated: (first, generated),
                real: second.zip(real.and_then(set)),
            });
        }
        Ok(())
    }

    fn paired(&self, request: &Request) -> Result<PairedImages> {
        let second = request.second.as_deref().ok_or_else(|| {
            Error::settings(
                "metrics of pairs compare images with their originals, and these were not named",
                "name both: vermeer eval psnr restored/ originals/",
            )
        })?;
        // Pairs lie side by side, so both are of one split where only one is said.
        let first = self.choice.split.unwrap_or(Split::All);
        let splits = [first, self.choice.real_split.unwrap_or(first)];
        PairedImages::open(&request.first, second, splits)
    }

    /// Metrics of pairs.
    fn pairs(
        &self,
        request: &Request,
        metrics: &[&'static Metric],
        options: &ExtractOptions,
        device: &Device,
        terminal: &Terminal,
        found: &mut Found,
    ) -> Result<()> {
        let images = self.paired(request)?;
        let lpips = match metrics.iter().any(|metric| metric.id == "lpips") {
            true => self.lpips(self.pairs.lpips_net, device)?,
            false => None,
        };
        let progress = terminal.progress("pairs");
        let pair_options = PairOptions {
            luma: self.pairs.luma,
            shave: self.pairs.shave,
            float: self.pairs.float,
        };
        let table = evaluate::pairs(
            &images,
            metrics,
            pair_options,
            lpips.as_ref(),
            &options.stop,
            &mut |done, all| progress.at(done, all),
        )?;
        let means = table.scores.iter().map(|scores| scores.mean.clone());
        found.values.extend(means);
        found.pairs = Some(table);
        Ok(())
    }

    /// Pictures of where pairs differ.
    fn maps(&self, request: &Request, options: &ExtractOptions, terminal: &Terminal) -> Result<()> {
        let Some(folder) = &self.pairs.maps else {
            return Ok(());
        };
        let progress = terminal.progress("maps");
        let written = evaluate::write_differences(
            &self.paired(request)?,
            match self.pairs.map_of {
                MapOf::Levels => DifferenceMap::Absolute,
                MapOf::Structure => DifferenceMap::Structure,
            },
            folder,
            &options.stop,
            &mut |done, all| progress.at(done, all),
        )?;
        drop(progress);
        terminal.note(&format!("{} maps in {}", written.len(), folder.display()));
        Ok(())
    }

    fn lpips(&self, net: LpipsNet, device: &Device) -> Result<Option<LpipsNetwork>> {
        let backbone = match net {
            LpipsNet::Alex => Backbone::Alex,
            LpipsNet::Vgg => Backbone::Vgg,
            LpipsNet::Squeeze => Backbone::Squeeze,
        };
        let (network, heads) = (&self.pairs.lpips_weights, &self.pairs.lpips_heads);
        let Some(network) = network else {
            return Ok(None);
        };
        LpipsNetwork::open(backbone, network, heads.as_deref(), device).map(Some)
    }

    /// The path length of a run.
    fn path_length(
        &self,
        metric: &Metric,
        request: &Request,
        options: &ExtractOptions,
        device: &Device,
        terminal: &Terminal,
        found: &mut Found,
    ) -> Result<()> {
        let choice = &self.choice;
        let seed = u64::from(choice.seed);
        let split = (choice.split, Split::All);
        let subject =
            self.sampling
                .open(&request.first, split, choice.count, seed, device, terminal)?;
        let Subject::Run(run) = subject else {
            return Err(Error::settings(
                format!(
                    "{} is no run, and {} walks between a model's samples",
                    request.first, metric.id
                ),
                "name the folder of a run",
            ));
        };
        let perceptual = match self.lpips(self.pairs.lpips_net, device)? {
            Some(network) => Perceptual::Lpips(network),
            None => Perceptual::world(device)?,
        };
        let paths = PathLengthOptions {
            samples: choice.count.unwrap_or(SAMPLES),
            seed: choice.seed,
            ..self.paths.options()
        };
        let progress = terminal.progress("paths");
        found.values.extend(evaluate::path_lengths(
            &run,
            &perceptual,
            &paths,
            choice.force,
            &options.stop,
            &mut |done, all| progress.at(done, all),
        )?);
        Ok(())
    }

    fn tell(&self, found: &Found, terminal: &Terminal) -> Result<()> {
        if self.output.json {
            return terminal.json(&json!({
                "command": command_line(),
                "version": env!("CARGO_PKG_VERSION"),
                "values": found.values,
                "differences": found.differences,
                "pairs": found.pairs,
            }));
        }
        terminal.result(&table::values(&found.values))?;
        if let Some(pairs) = &found.pairs {
            for scores in &pairs.scores {
                terminal.result(&format!(
                    "worst of {} pairs by {}: {} with {}",
                    pairs.pairs,
                    scores.mean.metric,
                    scores.worst.pair,
                    table::number(scores.worst.value)
                ))?;
            }
        }
        if !found.differences.is_empty() {
            terminal.result(&table::differences(&found.differences))?;
        }
        Ok(())
    }

    /// The maps of the first pairs, for the report.
    fn maps_for_page(
        &self,
        request: &Request,
        wanted: bool,
    ) -> Result<Vec<(String, vermeer_image::Image)>> {
        match wanted {
            true => page::maps(&self.paired(request)?),
            false => Ok(Vec::new()),
        }
    }
}

impl SetArgs {
    fn is_usual(&self) -> bool {
        let (ours, usual) = (self.options(0), SetOptions::default());
        SetOptions { seed: 0, ..ours } == SetOptions { seed: 0, ..usual }
    }

    fn options(&self, seed: u32) -> SetOptions {
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
    fn is_said(&self) -> bool {
        self.luma || self.shave > 0 || self.float || self.maps.is_some()
    }
}

impl PathArgs {
    fn is_usual(&self) -> bool {
        self.options() == evaluate::run_path_options()
    }

    fn options(&self) -> PathLengthOptions {
        PathLengthOptions {
            epsilon: self.ppl_epsilon,
            ends: match self.ppl_ends {
                PathEnds::End => Ends::End,
                PathEnds::Full => Ends::Full,
            },
            interpolation: match self.ppl_interpolation {
                PathInterpolation::Lerp => Interpolation::Lerp,
                PathInterpolation::SlerpUnit => Interpolation::Slerp,
                PathInterpolation::SlerpAny => Interpolation::SlerpAny,
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

/// Refuses too few images before any of them is looked at.
fn check_floors(
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
fn check_statistics(metrics: &[&Metric], subjects: [Option<&Subject>; 3]) -> Result<()> {
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

impl Choice {
    fn device(&self) -> Result<Device> {
        match self.gpu {
            Some(number) => vermeer::device::parse(&format!("cuda:{number}")),
            None => vermeer::device::parse(&self.device),
        }
    }
}

/// The command as it was given.
fn command_line() -> String {
    let words = std::env::args_os()
        .skip(1)
        .map(|word| shell_word(std::path::Path::new(&word)));
    let words: Vec<String> = std::iter::once("vermeer".to_owned()).chain(words).collect();
    words.join(" ")
}
