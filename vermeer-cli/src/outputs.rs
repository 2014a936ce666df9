//! Files that appear together when all of them are finished, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use tempfile::TempDir;
use vermeer::{Error, Result};

/// Files in the making. They lie in a hidden folder, which goes away when this is dropped, until
/// [`Outputs::publish`] moves them to their place.
pub(crate) struct Outputs {
    folder: PathBuf,
    names: BTreeSet<String>,
    overwrite: bool,
    hidden: Hidden,
}

/// Where files lie until they are published.
enum Hidden {
    /// Goes away with its owner.
    Passing(TempDir),
    /// Stays when work is interrupted, for the same command to go on; held by a lock.
    Kept {
        folder: PathBuf,
        stays: bool,
        /// Unlocked when it is dropped.
        _lock: File,
    },
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Self::Kept {
            folder,
            stays: false,
            ..
        } = self
        {
            // An empty folder that stays is no harm.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

impl Hidden {
    fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept { folder, .. } => folder,
        }
    }
}

impl Outputs {
    /// Prepares files of these names in `folder`, which need not exist.
    ///
    /// # Errors
    /// [`Error::Settings`] when one of them exists and may not be overwritten, [`Error::Io`] when
    /// nothing can be written there.
    pub(crate) fn new(folder: &Path, names: Vec<String>, overwrite: bool) -> Result<Self> {
        let names = BTreeSet::from_iter(names);
        let nearest = place(folder, &names, overwrite)?;
        let hidden = tempfile::Builder::new()
            .prefix(".vermeer-")
            .tempdir_in(nearest)
            .map_err(|error| Error::io(nearest, error))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            names,
            overwrite,
            hidden: Hidden::Passing(hidden),
        })
    }

    /// As [`Outputs::new`], with files that stay hidden after [`Outputs::suspend`] or when the
    /// process is killed. Work of the same `key` finds them again by [`Outputs::finished`].
    ///
    /// # Errors
    /// As [`Outputs::new`]; [`Error::Settings`] when another process does the same work.
    pub(crate) fn resumable(
        folder: &Path,
        names: Vec<String>,
        overwrite: bool,
        key: &str,
    ) -> Result<Self> {
        let names = BTreeSet::from_iter(names);
        let nearest = place(folder, &names, overwrite)?;
        let hidden = nearest.join(format!(".vermeer-{key}"));
        let lock = hidden.join(".lock");
        fs::create_dir_all(&hidden).map_err(|error| Error::io(&hidden, error))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| Error::io(&lock, error))?;
        if !file
            .try_lock_exclusive()
            .map_err(|error| Error::io(&lock, error))?
        {
            return Err(Error::settings(
                format!(
                    "another process is making the same files for {}",
                    folder.display()
                ),
                "wait until it is done, or name another folder with --out",
            ));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            names,
            overwrite,
            hidden: Hidden::Kept {
                folder: hidden,
                stays: false,
                _lock: file,
            },
        })
    }

    /// Leaves what is finished, if anything is, for the same work to go on from.
    pub(crate) fn suspend(mut self) {
        if let Hidden::Kept { folder, stays, .. } = &mut self.hidden {
            // The lock lies there in any case.
            let held = fs::read_dir(&*folder).map_or(0, Iterator::count);
            *stays = held > 1;
        }
    }

    /// Where files lie until they are published.
    pub(crate) fn hidden(&self) -> &Path {
        self.hidden.path()
    }

    /// The bytes of a file that was finished before, if it was.
    ///
    /// # Errors
    /// [`Error::Io`] when it is there and cannot be read.
    pub(crate) fn finished(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.hidden.path().join(name);
        match path.exists() {
            true => Ok(Some(
                fs::read(&path).map_err(|error| Error::io(&path, error))?,
            )),
            false => Ok(None),
        }
    }

    /// Prepares one file.
    ///
    /// # Errors
    /// As [`Outputs::new`]; [`Error::Settings`] when the path names no file.
    pub(crate) fn one(path: &Path, overwrite: bool) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::settings(
                format!("{} names no file", path.display()),
                "name a file",
            ));
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::new(folder, vec![name.to_string_lossy().into_owned()], overwrite)
    }

    /// Writes the file of this name, or writes it anew.
    ///
    /// # Errors
    /// [`Error::Io`], naming the place where the file was to stand.
    ///
    /// # Panics
    /// When the name was not announced.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        assert!(self.names.contains(name), "{name} was not announced");
        let io = |error| Error::io(self.folder.join(name), error);
        self.write_with(name, |file| file.write_all(bytes).map_err(io))
    }

    /// Writes the file of this name by parts.
    ///
    /// # Errors
    /// Whatever `fill` returns; [`Error::Io`], naming the place where the file was to stand.
    ///
    /// # Panics
    /// When the name was not announced.
    pub(crate) fn write_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        assert!(self.names.contains(name), "{name} was not announced");
        self.store(name, fill)
    }

    /// Has the file of this name written at a path by `write`.
    ///
    /// # Errors
    /// Whatever `write` returns.
    ///
    /// # Panics
    /// When the name was not announced.
    pub(crate) fn place(&self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        assert!(self.names.contains(name), "{name} was not announced");
        write(&self.hidden.path().join(name))
    }

    /// Keeps something that work which goes on will want, and that is not published.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let io = |error| Error::io(self.folder.join(name), error);
        self.store(name, |file| file.write_all(bytes).map_err(io))
    }

    fn store(&self, name: &str, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        let io = |error| Error::io(self.folder.join(name), error);
        // A name is only given to a whole file, which work that goes on relies on.
        let part = self.hidden.path().join(format!("{name}.part"));
        let mut file = File::create(&part).map_err(io)?;
        fill(&mut file)?;
        file.sync_all().map_err(io)?;
        fs::rename(&part, self.hidden.path().join(name)).map_err(io)
    }

    /// Writes the one file that was announced, and moves it to its place.
    ///
    /// # Errors
    /// As [`Outputs::write`] and [`Outputs::publish`].
    pub(crate) fn publish_one(self, bytes: &[u8]) -> Result<()> {
        for name in &self.names {
            self.write(name, bytes)?;
        }
        self.publish()
    }

    /// Moves every file to its place.
    ///
    /// # Errors
    /// [`Error::Settings`] when something was put there meanwhile, [`Error::Io`] when a file
    /// cannot be moved; the ones moved before it are taken back.
    pub(crate) fn publish(self) -> Result<()> {
        refuse_taken(&self.folder, &self.names, self.overwrite)?;
        if !self.folder.as_os_str().is_empty() {
            fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        }
        let places: Vec<PathBuf> = self
            .names
            .iter()
            .map(|name| self.folder.join(name))
            .collect();
        for (count, (name, place)) in self.names.iter().zip(&places).enumerate() {
            if let Err(error) = fs::rename(self.hidden.path().join(name), place) {
                for moved in &places[..count] {
                    // The first error is the one to report.
                    let _ = fs::remove_file(moved);
                }
                return Err(Error::io(place, error));
            }
        }
        Ok(())
    }
}

/// The nearest folder above `folder` that exists, if nothing stands in the way of the files.
fn place<'a>(folder: &'a Path, names: &BTreeSet<String>, overwrite: bool) -> Result<&'a Path> {
    refuse_taken(folder, names, overwrite)?;
    let nearest = folder
        .ancestors()
        .find(|place| place.exists())
        .unwrap_or(Path::new("."));
    match nearest.is_dir() {
        true => Ok(nearest),
        false => Err(Error::settings(
            format!(
                "{} is a file, so nothing can be written below it",
                nearest.display()
            ),
            "name a folder with --out",
        )),
    }
}

fn refuse_taken(folder: &Path, names: &BTreeSet<String>, overwrite: bool) -> Result<()> {
    match names
        .iter()
        .map(|name| folder.join(name))
        .find(|place| place.symlink_metadata().is_ok())
    {
        Some(place) if !overwrite => Err(Error::settings(
            format!("{} exists already", place.display()),
            "write somewhere else, or replace it with --overwrite",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn files_appear_together() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        let outputs = Outputs::new(&folder, names(&["1", "2"]), false).unwrap();
        outputs.write("1", b"one").unwrap();
        outputs.write("2", b"two").unwrap();
        assert!(!folder.exists());
        outputs.publish().unwrap();
        assert_eq!(fs::read(folder.join("2")).unwrap(), b"two");
        assert_eq!((entries(place.path()), entries(&folder)), (1, 2));
    }

    #[test]
    fn a_file_is_no_folder() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = Outputs::new(&file.join("below"), names(&["1"]), false)
            .err()
            .unwrap();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(entries(place.path()), 1);
    }

    #[test]
    fn work_that_fails_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(&place.path().join("a"), names(&["1"]), false).unwrap();
        outputs.write("1", b"one").unwrap();
        drop(outputs);
        assert_eq!(entries(place.path()), 0);
    }

    #[test]
    fn interrupted_work_goes_on_and_one_process_does_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a");
        let open = || Outputs::resumable(&folder, names(&["1", "2"]), false, "key");
        let outputs = open().unwrap();
        outputs.write("1", b"one").unwrap();
        assert_eq!(open().err().unwrap().exit_code(), 2);
        outputs.suspend();
        let outputs = open().unwrap();
        assert_eq!(outputs.finished("1").unwrap(), Some(b"one".to_vec()));
        assert_eq!(outputs.finished("2").unwrap(), None);
        outputs.write("2", b"two").unwrap();
        outputs.publish().unwrap();
        assert_eq!(fs::read(folder.join("1")).unwrap(), b"one");
        assert_eq!((entries(place.path()), entries(&folder)), (1, 2));
    }

    #[test]
    fn what_exists_is_replaced_only_on_request() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("1");
        fs::write(&file, b"old").unwrap();
        assert_eq!(Outputs::one(&file, false).err().unwrap().exit_code(), 2);
        let outputs = Outputs::one(&file, true).unwrap();
        outputs.publish_one(b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(entries(place.path()), 1);
    }
}
