//! `vermeer models`: the model families, and weights from elsewhere.

mod describe;
mod fetch;
mod import;
mod list;

use clap::Subcommand;
use vermeer::Result;

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models list                                    what can be trained
  vermeer models describe diffusion                      every setting with its default
  vermeer models import generator.pth -o runs/imported   PyTorch weights as a run
  vermeer models fetch inception                         published weights for evaluation";

/// List model families, describe them, import published weights, and fetch those of metrics.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    List(list::Args),
    Describe(describe::Args),
    Import(import::Args),
    Fetch(fetch::Args),
}

impl Command {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        match self {
            Self::List(args) => args.run(terminal),
            Self::Describe(args) => args.run(terminal),
            Self::Import(args) => args.run(terminal),
            Self::Fetch(args) => args.run(terminal),
        }
    }
}
