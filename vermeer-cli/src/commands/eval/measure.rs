//! The metrics of `vermeer eval`: from images to values.

use burn::prelude::Device;
use serde_json::json;
use vermeer::data::Split;
use vermeer::evaluate::{
    self, Difference, DifferenceMap, ExtractOptions, FeatureCache, LpipsNetwork, Measured,
    PairTable, PairedImages, Perceptual, RunChoice, Set, Subject,
};
use vermeer::run::shell_word;
use vermeer::{Error, Result};
use vermeer_image::features::Extractor;
use vermeer_image::metrics::{Backbone, Metric, PairOptions, PathLengthOptions, metric};

use super::options::{LpipsNet, MapOf, MeasureArgs};
use super::page;
use super::refusals::{check_floors, check_statistics};
use super::sampling;
use super::table;
use super::threshold;
use super::words::Request;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

/// Samples of a run, or pairs of them, when the number is not said.
const SAMPLES: usize = 10_000;

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
        self.refuse_other_tools()?;
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
        // A run's samples have the size, the padding and the ground of what it learnt from.
        let seen = second
            .as_ref()
            .and_then(|second| evaluate::as_seen_by(&first, second));
        let prepared = seen.is_some();
        let second = seen.or(second);
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
        let mut real = real.transpose()?;
        for set in real.iter_mut().flatten() {
            set.prepared = prepared;
        }
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
                .map_err(|error| match stopped() {
                    true => Error::Failed("interrupted; nothing was written".into()),
                    false => error,
                })
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

/// The command as it was given.
fn command_line() -> String {
    let words = std::env::args_os()
        .skip(1)
        .map(|word| shell_word(std::path::Path::new(&word)));
    let words: Vec<String> = std::iter::once("vermeer".to_owned()).chain(words).collect();
    words.join(" ")
}
