//! `vermeer data make`: a world as a folder of files.

use std::path::PathBuf;

use vermeer::data::make::make;
use vermeer::data::world::PREFIX;
use vermeer::data::{self, OpenOptions, Split};
use vermeer::{Error, Result};

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer data make glyphs -o glyphs/                         2000 characters in ten classes
  vermeer data make shapes -o shapes/ --count 500 --size 64   coloured shapes, attributes known
  vermeer data make glyphs -o test/ --split test              images that train has not
  vermeer data make fashion/ -o png/                          any data set as PNG files";

/// Write a world, or any other data set, as a folder of PNG files.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of a world (glyphs, shapes), or the location of a data set.
    world: String,
    /// The new folder.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Number of images of a world.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Side of a world's images in pixels.
    #[arg(long, value_name = "PIXELS")]
    size: Option<u64>,
    /// Seed of a world.
    #[arg(long)]
    seed: Option<u64>,
    /// Channels of a world's images: 1 for grey, 3 for RGB.
    #[arg(long, value_name = "1|3")]
    channels: Option<u64>,
    /// Split to write: train, validation, test or all.
    #[arg(long, default_value = "train")]
    split: Split,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let options = OpenOptions {
            split: self.split,
            ..OpenOptions::default()
        };
        let source = data::open(&self.location()?, &options)?;
        let progress = terminal.progress("images");
        make(source.as_ref(), &self.out, &|done, all| {
            progress.at(done, all)
        })?;
        drop(progress);
        terminal.note(&format!(
            "{} images of {}",
            source.len(),
            source.describe().location
        ));
        terminal.result(&self.out.display().to_string())
    }

    /// The location with the parameters that were typed.
    ///
    /// # Errors
    /// [`Error::Settings`] when they are given for something that is no world.
    fn location(&self) -> Result<String> {
        let given = [
            ("count", self.count),
            ("size", self.size),
            ("seed", self.seed),
            ("channels", self.channels),
        ];
        let given: Vec<String> = given
            .iter()
            .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
            .collect();
        // A bare word is the name of a world unless a folder or file is called so.
        let is_path =
            self.world.contains(['/', '\\', '.']) || std::path::Path::new(&self.world).exists();
        if is_path && !self.world.starts_with(PREFIX) && !given.is_empty() {
            return Err(Error::settings(
                format!(
                    "{} is no world, so it takes no {}",
                    self.world,
                    given.join(" ")
                ),
                "leave --count, --size, --seed and --channels out; they are for worlds",
            ));
        }
        let mut location = match self.world.starts_with(PREFIX) || is_path {
            true => self.world.clone(),
            false => format!("{PREFIX}{}", self.world),
        };
        if !given.is_empty() {
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str(&given.join("&"));
        }
        Ok(location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_parameters_of_the_world() {
        let location = |world: &str, count, seed| {
            let (world, out) = (world.to_owned(), PathBuf::new());
            Args {
                world,
                out,
                count,
                size: None,
                seed,
                channels: None,
                split: Split::Train,
            }
            .location()
        };
        assert!(location("./folder", Some(5), None).is_err());
        for (world, count, seed, expected) in [
            ("glyphs", None, None, "world:glyphs"),
            ("glyphs", Some(5), Some(7), "world:glyphs?count=5&seed=7"),
            (
                "world:shapes?size=16",
                Some(5),
                None,
                "world:shapes?size=16&count=5",
            ),
            ("./folder", None, None, "./folder"),
        ] {
            assert_eq!(location(world, count, seed).unwrap(), expected);
        }
    }
}
