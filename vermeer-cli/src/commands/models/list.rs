//! `vermeer models list`.

use vermeer::Result;
use vermeer::registry::{FAMILIES, Info};

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models list
  vermeer models list --json";

/// List the model families.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let families: Vec<&Info> = FAMILIES.iter().map(|family| family.info()).collect();
        if self.json {
            return terminal.json(&families);
        }
        let described: Vec<String> = families.iter().map(|info| entry(info)).collect();
        terminal.result(&described.join("\n"))
    }
}

fn entry(info: &Info) -> String {
    let tasks: Vec<&str> = info.tasks.iter().map(|task| task.name()).collect();
    format!(
        "{:<16} {}\n{:17}{}\n{:17}sizes: {}; tasks: {}",
        info.id,
        info.title,
        "",
        info.summary,
        "",
        info.sizes,
        tasks.join(", ")
    )
}
