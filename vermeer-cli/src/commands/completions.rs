//! `vermeer completions`: what a shell needs to complete commands.

use clap::CommandFactory;
use clap_complete::Shell;
use vermeer::Result;

use crate::cli::Cli;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer completions bash > ~/.local/share/bash-completion/completions/vermeer
  vermeer completions zsh > ~/.zfunc/_vermeer
  vermeer completions fish > ~/.config/fish/completions/vermeer.fish";

/// Print the completion script of a shell.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell that completes.
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "vermeer", &mut script);
        terminal.bytes(&script)
    }
}
