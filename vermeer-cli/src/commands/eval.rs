//! `vermeer eval`: measurements whose protocol is part of their name.

mod judge;
mod nll;

use clap::Subcommand;
use vermeer::Result;

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer eval judge runs/fashion-dcgan --data fashion/   do samples look like something?
  vermeer eval nll runs/mnist-vae --data mnist/ --binarise dynamic";

/// Measure how good a model is.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Nll(nll::Args),
    Judge(judge::Args),
}

impl Command {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        match self {
            Self::Nll(args) => args.run(terminal),
            Self::Judge(args) => args.run(terminal),
        }
    }
}
