//! `vermeer data`: look at data sets and make them.

mod inspect;
mod make;

use std::process::ExitCode;

use clap::Subcommand;
use vermeer::Result;

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer data inspect photos/             what is in it, and what is the matter with it
  vermeer data make glyphs -o glyphs/      a small data set to try things with";

/// Look at data sets and make them.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Inspect(inspect::Args),
    Make(make::Args),
}

impl Command {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        match self {
            Self::Inspect(args) => args.run(terminal),
            Self::Make(args) => args.run(terminal).map(|()| ExitCode::SUCCESS),
        }
    }
}
