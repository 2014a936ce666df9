//! The command line: global flags and the list of commands.

use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use vermeer::{Error, Result};

use crate::commands::{
    compare, completions, data, demo, denoise, directions, doctor, edit, encode, eval, inpaint,
    interpolate, map, models, reconstruct, runs, sample, train, traverse,
};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer demo                                        see everything work, in minutes
  vermeer data inspect photos/                        look for bad files before training
  vermeer train --data photos/ --model diffusion      train, with everything else chosen for you
  vermeer sample runs/diffusion-photos -n 64 --grid   see what it learned

Exit codes: 0 done; 1 failed; 2 misuse; 3 a check said no; 4 corrupt, hostile or empty input;
75 stopped, resumable; 130 interrupted twice.";

/// Trains, judges and applies generative models of images.
#[derive(Parser)]
#[command(name = "vermeer", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Say nothing but results, warnings and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Threads that compute; all processors when absent. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

// What a command does is said at its arguments.
#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(train::Args),
    Sample(sample::Args),
    Reconstruct(reconstruct::Args),
    Interpolate(interpolate::Args),
    Encode(encode::Args),
    Denoise(denoise::Args),
    Inpaint(inpaint::Args),
    Edit(edit::Args),
    Directions(directions::Args),
    Traverse(traverse::Args),
    Map(map::Args),
    Eval(Box<eval::Args>),
    Compare(Box<compare::Args>),
    #[command(subcommand)]
    Data(data::Command),
    #[command(subcommand)]
    Models(models::Command),
    #[command(subcommand)]
    Runs(runs::Command),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Cli {
    /// Whether only results, warnings and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// Whatever the command returns.
    pub(crate) fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .map_err(|error| {
                    Error::Failed(format!("cannot start {threads} threads: {error}"))
                })?;
        }
        let done = match self.command {
            Command::Demo(args) => args.run(terminal),
            Command::Train(args) => args.run(terminal),
            Command::Sample(args) => args.run(terminal),
            Command::Reconstruct(args) => args.run(terminal),
            Command::Interpolate(args) => args.run(terminal),
            Command::Encode(args) => args.run(terminal),
            Command::Denoise(args) => args.run(terminal),
            Command::Inpaint(args) => args.run(terminal),
            Command::Edit(args) => args.run(terminal),
            Command::Directions(args) => args.run(terminal),
            Command::Traverse(args) => args.run(terminal),
            Command::Map(args) => args.run(terminal),
            Command::Eval(args) => args.run(terminal),
            Command::Compare(args) => args.run(terminal),
            Command::Data(command) => return command.run(terminal),
            Command::Models(command) => command.run(terminal),
            Command::Runs(command) => command.run(terminal),
            Command::Doctor(args) => args.run(terminal),
            Command::Completions(args) => args.run(terminal),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use vermeer_image::metrics::METRICS;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_examples() {
        let mut pending = vec![Cli::command()];
        while let Some(command) = pending.pop() {
            let name = command.get_name().to_owned();
            assert!(
                command.get_about().is_some(),
                "{name} does not say what it does"
            );
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{name} has no examples");
            for argument in command.get_arguments() {
                let documented = argument.get_help().is_some();
                assert!(documented, "{name}: {} has no help", argument.get_id());
            }
            pending.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn the_help_of_eval_names_every_metric() {
        let mut command = Cli::command();
        let eval = command.find_subcommand_mut("eval").unwrap();
        let help = eval.render_long_help().to_string();
        let names = help
            .split_once("Metrics (")
            .unwrap()
            .1
            .split_once(')')
            .unwrap()
            .0;
        let names: Vec<&str> = names.split_whitespace().collect();
        let expected: Vec<&str> = METRICS.iter().map(|metric| metric.id).collect();
        assert_eq!(names, expected);
    }
}
