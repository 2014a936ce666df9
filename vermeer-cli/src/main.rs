//! The `vermeer` command: trains, judges and applies generative models of images.
//!
//! Results go to standard output, everything else to standard error. The process ends with 0
//! when the work is done, 1 when it failed, 2 on misuse, 3 when a check said no, 4 on corrupt,
//! hostile or empty input, 75 when it was stopped and can be resumed, 130 when it was
//! interrupted twice.

mod checkpoint;
mod choice;
mod cli;
mod commands;
mod failure;
mod generation;
mod inputs;
mod latents;
mod outputs;
mod pairs;
mod picture;
mod progress;
mod stop;
mod terminal;
mod training_view;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let terminal = Terminal::new(cli.is_quiet());
    match cli.run(&terminal) {
        Ok(code) => code,
        Err(error) => {
            failure::show(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
