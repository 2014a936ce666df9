//! `vermeer eval`: measurements whose protocol is part of their name.

mod artifacts;
mod cas;
mod compare;
mod finding;
mod judge;
mod measure;
mod memorization;
mod modes;
mod network;
mod nll;
mod options;
mod page;
mod probe;
mod refusals;
mod sampling;
mod stats;
mod table;
mod threshold;
mod words;

use clap::Subcommand;
use vermeer::Result;

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval fid samples/ photos/                        the embedded network: fd_vermeer
  vermeer eval fid kid pr samples/ photos/ --weights inception.pth
  vermeer eval fid runs/fashion-dcgan fashion/ -n 10000 --fail-if 'fid>28.5'
  vermeer eval fid ours/ photos/ --versus theirs/          is ours better by more than chance?
  vermeer eval psnr ssim restored/ originals/              pairs, matched by name
  vermeer eval ppl runs/fashion-dcgan                      paths between latent vectors
  vermeer eval ppl runs/fashion-stylegan2 --ppl-space w    and between styles
  vermeer eval fid samples/ photos/ --report report.html   one page with pictures

A and B are folders, archives, IDX, CIFAR, npz or StyleGAN files, statistics (.npz, .stats), or the
folder of a run, which is sampled. A is what is judged, B what it should be like.
Exit code 3: a --fail-if came true.";

/// Measure how good images are: FID, KID, PSNR, LPIPS and more.
#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    measure: options::MeasureArgs,
}

// What a command does is said at its arguments.
#[derive(Subcommand)]
enum Command {
    Memorization(memorization::Args),
    Modes(modes::Args),
    Artifacts(artifacts::Args),
    Cas(cas::Args),
    Compare(compare::Args),
    Stats(stats::Args),
    Nll(nll::Args),
    Probe(probe::Args),
    Judge(judge::Args),
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        match self.command {
            None => self.measure.run(terminal),
            Some(Command::Memorization(args)) => args.run(terminal),
            Some(Command::Modes(args)) => args.run(terminal),
            Some(Command::Artifacts(args)) => args.run(terminal),
            Some(Command::Cas(args)) => args.run(terminal),
            Some(Command::Compare(args)) => args.run(terminal),
            Some(Command::Stats(args)) => args.run(terminal),
            Some(Command::Nll(args)) => args.run(terminal),
            Some(Command::Probe(args)) => args.run(terminal),
            Some(Command::Judge(args)) => args.run(terminal),
        }
    }
}
