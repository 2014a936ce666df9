//! `vermeer models fetch`: the weights that published metrics are defined by.

use std::path::{Path, PathBuf};

use serde_json::json;
use vermeer::Result;
use vermeer::published::{PUBLISHED, Published, fetch, find};

use crate::stop;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer models fetch                             what can be fetched
  vermeer models fetch inception                   for FID, KID and Inception Score
  vermeer models fetch alexnet lpips-alex          for LPIPS
  vermeer models fetch vgg16 --out /data/weights   into another folder

A file that is there is checked and not downloaded again. HTTPS_PROXY and NO_PROXY are followed.";

/// Download published weights for evaluation and check their SHA-256; without names, list them.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to fetch, by the names that the list begins with.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Folder of the files.
    #[arg(
        short,
        long,
        value_name = "FOLDER",
        env = "VERMEER_WEIGHTS",
        default_value = "weights"
    )]
    out: PathBuf,
    /// Print the list, or what was fetched, as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        if self.names.is_empty() {
            return list(self.json, terminal);
        }
        // A name that is wrong is noticed before anything is downloaded.
        let chosen: Vec<&Published> = self
            .names
            .iter()
            .map(|name| find(name))
            .collect::<Result<_>>()?;
        let stop = stop::flag()?;
        let mut paths: Vec<PathBuf> = Vec::with_capacity(chosen.len());
        for published in &chosen {
            let progress = terminal.progress("bytes");
            let path = fetch(published, &self.out, &stop, &mut |done, all| {
                progress.at(done as usize, all.unwrap_or(done) as usize);
            })?;
            paths.push(path);
        }
        if self.json {
            let fetched: Vec<serde_json::Value> = chosen
                .iter()
                .zip(&paths)
                .map(|(published, path)| {
                    json!({
                        "id": published.id,
                        "path": path.display().to_string(),
                        "sha256": published.sha256,
                        "url": published.url,
                    })
                })
                .collect();
            return terminal.json(&fetched);
        }
        let paths: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        terminal.result(&paths.join("\n"))?;
        let mut usages: Vec<String> = chosen
            .iter()
            .map(|published| usage(published, &self.out))
            .collect();
        usages.dedup();
        for usage in usages {
            terminal.note(&usage);
        }
        Ok(())
    }
}

fn list(json: bool, terminal: &Terminal) -> Result<()> {
    if json {
        return terminal.json(PUBLISHED);
    }
    let described: Vec<String> = PUBLISHED.iter().map(entry).collect();
    terminal.result(&described.join("\n"))
}

fn entry(published: &Published) -> String {
    format!(
        "{:<15}{}; {}\n{:15}{}\n{:15}{}",
        published.id,
        published.purpose,
        size(published.bytes),
        "",
        published.licence,
        "",
        published.url
    )
}

/// A length for people.
fn size(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) if bytes < 1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        Some(bytes) => format!("{:.1} MB", bytes as f64 / 1e6),
        None => "size unknown".to_owned(),
    }
}

/// The command that takes a file, with the paths that files of this folder have.
fn usage(published: &Published, folder: &Path) -> String {
    PUBLISHED
        .iter()
        .fold(published.usage.to_owned(), |text, other| {
            let path = folder.join(other.file);
            text.replace(&format!("{{{}}}", other.id), &path.display().to_string())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_with_paths() {
        for (id, command) in [
            (
                "inception",
                "vermeer eval fid samples/ photos/ --weights w/pt_inception-2015-12-05-6726825d.pth",
            ),
            (
                "lpips-vgg",
                "vermeer eval lpips restored/ originals/ --lpips-net vgg --lpips-weights w/vgg16-397923af.pth --lpips-heads w/lpips_vgg.pth",
            ),
        ] {
            let shown = usage(find(id).unwrap(), Path::new("w")).replace('\\', "/");
            assert_eq!(shown, command);
        }
    }

    #[test]
    fn lengths_are_short() {
        for (bytes, text) in [
            (Some(6009), "6.0 kB"),
            (Some(95_628_359), "95.6 MB"),
            (None, "size unknown"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
