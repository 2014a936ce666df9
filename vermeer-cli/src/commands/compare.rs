//! `vermeer compare`: several runs under one protocol.

mod contender;
mod ground;
mod measured;
mod samples;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use vermeer::evaluate::{
    ExtractOptions, FeatureCache, NetworkChoice, RunOptions, RunRow, RunSets, RunTable, RunsPage,
    Set, Subject, extractor, runs_page,
};
use vermeer::run::shell_word;
use vermeer::{Error, Result};
use vermeer_image::Image;
use vermeer_image::features::Extractor;
use vermeer_image::metrics::metric;

use self::contender::Contender;
use self::ground::Ground;
use crate::commands::typed;
use crate::outputs::Outputs;
use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer compare runs/fashion-vae runs/fashion-dcgan         2,048 samples of each, in compare/
  vermeer compare runs/fashion-* -n 10000 --network judge --out results/fashion
  vermeer compare runs/a runs/b --data photos/ --size 32      against other images, at 32x32
  vermeer compare runs/a runs/b --likelihood-images 0 --json

Every run is sampled once: after Ctrl-C the same command goes on where it stopped, and with one run
more and --overwrite only that one is sampled. `compare.html` shows and explains everything.";

/// Held-out images that memorisation and the judge's mistakes are told by, at most.
const HELDOUT: usize = 5000;

/// Images of each row that the page shows.
const SHOWN: usize = 36;

/// Compare runs under one protocol: quality, diversity, likelihood, copies, cost.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folders of the runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The images they should be like; those that the first run learnt from when absent.
    #[arg(long, value_name = "LOCATION")]
    data: Option<String>,
    /// Height and width at which images are compared; those of the first run when absent.
    #[arg(long, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(4..=2048))]
    size: Option<usize>,
    /// Samples of each run.
    #[arg(short = 'n', long, default_value_t = 2048, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: usize,
    /// Seed of samples, of draws of images and of tests.
    #[arg(long, default_value_t = 2020)]
    seed: u32,
    /// The network that looks at images.
    #[arg(long, value_enum, default_value_t = Network::Vermeer)]
    network: Network,
    /// Held-out images whose likelihood is computed; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    likelihood_images: usize,
    /// Importance draws for each of them, where the likelihood is bounded by some.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    draws: usize,
    /// Folder for the table, the page, the samples and what is kept on the way.
    #[arg(short, long, default_value = "compare", value_name = "DIR")]
    out: PathBuf,
    /// Keep features in this folder, and take them from it when images and network are the same.
    #[arg(long, value_name = "FOLDER", env = "VERMEER_CACHE")]
    cache: Option<PathBuf>,
    /// Samples computed at a time.
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65536))]
    batch: usize,
    /// Where to compute; `vermeer doctor` lists what this build knows.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Compute values of too few images too, and go on although many held-out images are training
    /// images.
    #[arg(long)]
    force: bool,
    /// Replace a comparison that exists, and samples of other settings; equal samples are kept.
    #[arg(long)]
    overwrite: bool,
    /// Print the comparison as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    /// The embedded network of Vermeer, 128 features of any image.
    Vermeer,
    /// The embedded judge of garments: grey, 28x28, with ten classes.
    Judge,
}

/// What every row is measured with.
struct Bench<'a> {
    args: &'a Args,
    ground: &'a Ground,
    extractor: &'a Extractor,
    extraction: &'a ExtractOptions,
    device: &'a Device,
    terminal: &'a Terminal,
    /// The sum of everything but the samples that a row depends on.
    protocol: String,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let names = ["compare.html", "compare.json", "compare.md"].map(str::to_owned);
        let outputs = Outputs::new(&self.out, names.to_vec(), self.overwrite)?;
        let device = vermeer::device::parse(&self.device)?;
        let contenders = contender::all(&self.runs, &device, terminal)?;
        let ground = Ground::open(self.data.as_deref(), self.size, &contenders)?;
        self.check_floors(&ground)?;
        let choice = match self.network {
            Network::Vermeer => NetworkChoice::Vermeer,
            Network::Judge => NetworkChoice::Judge,
        };
        let extractor = extractor(&choice, &device)?;
        let stop = stop::flag()?;
        let passing = self.out.join("features");
        let extraction = ExtractOptions {
            cache: FeatureCache::Folder(self.cache.clone().unwrap_or_else(|| passing.clone())),
            batch: None,
            stop: Arc::clone(&stop),
        };
        let bench = Bench {
            args: &self,
            ground: &ground,
            extractor: &extractor,
            extraction: &extraction,
            device: &device,
            terminal,
            protocol: self.protocol(&ground, &extractor, &device)?,
        };
        let (rows, sheets) = match bench.rows(&contenders) {
            Err(_) if stop.load(Ordering::Relaxed) => return Err(self.interrupted()),
            found => found?,
        };

        let table = RunTable::new(&rows);
        let remarks = self.remarks(&ground, &extractor, &device);
        let command = command_line();
        let page = runs_page(&RunsPage {
            title: match contenders.len() {
                1 => format!("{} under one protocol", contenders[0].name),
                count => format!("{count} runs under one protocol"),
            },
            command: &command,
            remarks: &remarks,
            rows: &rows,
            table: &table,
            sheets: &sheets,
        })?;
        let found = self.found(&rows, &table, &remarks);
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| Error::Failed(format!("compare.json: {error}")))?;
        outputs.write("compare.html", page.as_bytes())?;
        outputs.write("compare.json", format!("{text}\n").as_bytes())?;
        let markdown = markdown(&table, &rows, &remarks, &command);
        outputs.write("compare.md", markdown.as_bytes())?;
        outputs.publish()?;
        if self.cache.is_none() && passing.is_dir() {
            std::fs::remove_dir_all(&passing).map_err(|error| Error::io(&passing, error))?;
        }

        if self.json {
            return terminal.json(&found);
        }
        let mut lines = vec![table.to_text(), String::new()];
        lines.extend(remarks);
        lines.extend(notes(&rows));
        lines.push(self.out.join("compare.html").display().to_string());
        terminal.result(&lines.join("\n"))
    }

    /// Refuses numbers of images that mean nothing before anything is sampled.
    fn check_floors(&self, ground: &Ground) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let fewest = self.count.min(ground.train.len());
        for id in ["fid", "pr", "prdc"] {
            if let Some(metric) = metric(id) {
                metric.check_floor(fewest).map_err(|error| {
                    Error::settings(
                        error.to_string(),
                        "use more samples (-n) or images (--data), or say --force",
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Everything but the samples that a measured row depends on.
    fn protocol(&self, ground: &Ground, extractor: &Extractor, device: &Device) -> Result<String> {
        let heldout = ground.heldout.as_ref().map(|source| source.digest());
        let text = format!(
            "{} {} {} {:?} {:?} {} {} {} {} {} {}",
            env!("CARGO_PKG_VERSION"),
            vermeer::device::name(device),
            ground.train.digest()?,
            heldout.transpose()?,
            ground.rule,
            extractor.identity(),
            self.count,
            self.seed,
            self.likelihood_images,
            self.draws,
            self.force,
        );
        Ok(vermeer::sha256_hex(text.as_bytes()))
    }

    fn interrupted(&self) -> Error {
        Error::Unfinished(format!(
            "stopped; samples and rows that are finished are kept in {}",
            self.out.display()
        ))
    }

    /// What has to be known of all rows, in sentences.
    fn remarks(&self, ground: &Ground, extractor: &Extractor, device: &Device) -> Vec<String> {
        let rule = &ground.rule;
        let mut remarks = vec![
            format!(
                "{} samples of each run, seed {}, against the {} training images of {}; \
                 precision, recall and coverage against {} of these.",
                self.count,
                self.seed,
                ground.train.len(),
                ground.location,
                self.count.min(ground.train.len())
            ),
            format!(
                "Every image is brought to {}x{}, {} channel(s), as the first run prepares its \
                 own; padding that another run added is taken off first.",
                rule.height, rule.width, rule.channels
            ),
            format!(
                "The network {} looks at them ({}). Made with Vermeer {} on {}.",
                extractor.name(),
                extractor.resize(),
                env!("CARGO_PKG_VERSION"),
                vermeer::device::name(device)
            ),
        ];
        remarks.push(match &ground.heldout {
            Some(heldout) => format!(
                "The row of real images holds {} of {} held-out images: what a perfect model \
                 would reach.",
                self.count.min(heldout.len()),
                heldout.len()
            ),
            None => "There are no images that no run learnt from, so there is no row of real \
                     images, no likelihood and no test for copies."
                .to_owned(),
        });
        remarks.extend(ground.remarks.iter().cloned());
        remarks
    }

    /// Everything for machines.
    fn found(&self, rows: &[RunRow], table: &RunTable, remarks: &[String]) -> Value {
        let file = |name: &str| self.out.join(name).display().to_string();
        json!({
            "rows": rows,
            "columns": table.columns,
            "names": table.names,
            "samples": self.count,
            "seed": self.seed,
            "remarks": remarks,
            "version": env!("CARGO_PKG_VERSION"),
            "page": file("compare.html"),
            "markdown": file("compare.md"),
        })
    }
}

impl Bench<'_> {
    /// The row of every run and that of real images, each with images to show.
    fn rows(&self, contenders: &[Contender]) -> Result<(Vec<RunRow>, Vec<Vec<Image>>)> {
        let ground = self.ground;
        let seed = u64::from(self.args.seed);
        // All samples first: who stops has them.
        let sampled = contenders
            .iter()
            .map(|contender| samples::make(contender, self))
            .collect::<Result<Vec<_>>>()?;

        let train = Subject::of_source(ground.at_size(&ground.train), None, seed)?;
        let equal = self.args.count.min(ground.train.len());
        let equal = Subject::of_source(ground.at_size(&ground.train), Some(equal), seed)?;
        let drawn = |most: usize| -> Result<Option<Subject>> {
            let Some(heldout) = &ground.heldout else {
                return Ok(None);
            };
            let count = most.min(heldout.len());
            Subject::of_source(ground.at_size(heldout), Some(count), seed).map(Some)
        };
        let (heldout, real) = (drawn(HELDOUT)?, drawn(self.args.count)?);
        let mut train_set = self.look(&train)?;
        let mut equal_set = self.look(&equal)?;
        // Both sides were brought to one size.
        train_set.prepared = true;
        equal_set.prepared = true;
        let sets = RunSets {
            train: &train,
            train_set: &train_set,
            equal_set: &equal_set,
            heldout: heldout.as_ref(),
        };
        let options = RunOptions {
            seed: self.args.seed,
            force: self.args.force,
        };
        let (mut rows, mut sheets) = (Vec::new(), Vec::new());
        for (contender, sampled) in contenders.iter().zip(&sampled) {
            let subject = samples::subject(contender, sampled, ground)?;
            sheets.push(shown(&subject)?);
            let row = measured::run(contender, sampled, &subject, &sets, &options, self)?;
            rows.push(row);
        }
        if let Some(real) = real {
            sheets.push(shown(&real)?);
            rows.push(measured::real(&real, &sets, &options, self)?);
        }
        Ok((rows, sheets))
    }

    fn look(&self, subject: &Subject) -> Result<Set> {
        let progress = self.terminal.progress("real images");
        Set::of(
            subject,
            self.extractor,
            self.extraction,
            &mut |done, all| progress.at(done, all),
        )
    }

    fn stop(&self) -> &AtomicBool {
        &self.extraction.stop
    }
}

/// The first images, for the page.
fn shown(subject: &Subject) -> Result<Vec<Image>> {
    let count = (subject.len() as usize).min(SHOWN);
    let places: Vec<usize> = (0..count).collect();
    let images = subject.get(&places)?;
    Ok(images.into_iter().map(|(image, _)| image).collect())
}

/// Why values lack, with the name of the row.
fn notes(rows: &[RunRow]) -> Vec<String> {
    rows.iter()
        .flat_map(|row| {
            row.notes
                .iter()
                .map(move |note| format!("{}: {note}", row.name))
        })
        .collect()
}

/// The table with what has to be known beside it.
fn markdown(table: &RunTable, rows: &[RunRow], remarks: &[String], command: &str) -> String {
    let mut text = format!("    {command}\n\n{}\n\n", table.to_markdown());
    text.push_str(
        "Bold: the best of a column among the runs, and those whose interval meets its \
         interval.\n\n",
    );
    for remark in remarks.iter().cloned().chain(notes(rows)) {
        text.push_str(&format!("- {remark}\n"));
    }
    text.push_str("\nWhat each column says:\n\n");
    for column in &table.columns {
        text.push_str(&format!("- `{}`: {}\n", column.name, column.meaning));
    }
    text
}

fn command_line() -> String {
    let words = typed();
    let words = words.iter().skip(1).map(|word| shell_word(Path::new(word)));
    let words: Vec<String> = std::iter::once("vermeer".to_owned()).chain(words).collect();
    words.join(" ")
}
