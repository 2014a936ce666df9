//! A folder of files that appears whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// A folder in the making. Until [`NewFolder::publish`] its files lie in a hidden folder beside
/// the place where it will stand, which goes away when this value is dropped.
pub(crate) struct NewFolder {
    out: PathBuf,
    parent: PathBuf,
    /// Private to this user, as temporary folders are; `staged` inside it has the usual rights.
    hidden: TempDir,
}

impl NewFolder {
    /// Prepares a folder at `out`, creating the folders above it.
    ///
    /// # Errors
    /// [`Error::Settings`] when `out` is a file, or a folder that is not empty; [`Error::Io`] when
    /// nothing can be written there.
    pub(crate) fn create(out: &Path) -> Result<Self> {
        let Some(name) = out.file_name() else {
            return Err(Error::settings(
                format!(
                    "{}: no folder can be created under this name",
                    out.display()
                ),
                "name a new folder",
            ));
        };
        refuse_if_taken(out)?;
        let parent = match out.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(|e| Error::io(&parent, e))?;
        let mut prefix = OsStr::new(".").to_os_string();
        prefix.push(name);
        prefix.push("-");
        let hidden = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&parent)
            .map_err(|e| Error::io(&parent, e))?;
        let folder = Self {
            out: out.to_path_buf(),
            parent,
            hidden,
        };
        let staged = folder.staged();
        fs::create_dir(&staged).map_err(|e| Error::io(staged, e))?;
        Ok(folder)
    }

    fn staged(&self) -> PathBuf {
        self.hidden.path().join("staged")
    }

    /// Writes one file; `name` is relative, its folders separated by `/`. Several threads may
    /// write at once.
    ///
    /// # Errors
    /// [`Error::Io`], naming the place where the file was to stand.
    ///
    /// # Panics
    /// When `name` leaves the folder, or was written before.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let inside = |part: &str| !matches!(part, "" | "." | "..");
        assert!(name.split('/').all(inside), "'{name}' leaves its folder");
        let path = self.staged().join(name);
        let write = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| {
            assert!(
                error.kind() != io::ErrorKind::AlreadyExists,
                "'{name}' is written twice"
            );
            Error::io(self.out.join(name), error)
        })
    }

    /// Moves the folder to its place.
    ///
    /// # Errors
    /// [`Error::Settings`] when something was put there meanwhile, [`Error::Io`] when it cannot be
    /// moved.
    pub(crate) fn publish(self) -> Result<()> {
        refuse_if_taken(&self.out)?;
        let failed = |e| Error::io(&self.out, e);
        sync_folder(&self.staged()).map_err(failed)?;
        // An empty folder makes way; renaming onto it is not possible everywhere.
        if self.out.is_dir() {
            fs::remove_dir(&self.out).map_err(failed)?;
        }
        fs::rename(self.staged(), &self.out).map_err(failed)?;
        sync_folder(&self.parent).map_err(failed)
    }
}

/// Refuses a place where something stands already; an empty folder may stay.
fn refuse_if_taken(out: &Path) -> Result<()> {
    let taken = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => true,
        Err(error) => return Err(Error::io(out, error)),
    };
    if taken {
        return Err(Error::settings(
            format!("{}: exists already and is not empty", out.display()),
            "choose another folder, or remove what is there",
        ));
    }
    Ok(())
}

/// Makes the names in a folder durable, where the system can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_folder_appears_when_it_is_published() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("deep/er/out");
        let folder = NewFolder::create(&out).unwrap();
        folder.write("a/b.txt", b"1").unwrap();
        folder.write("c.txt", b"2").unwrap();
        assert!(!out.exists());
        folder.publish().unwrap();
        assert_eq!(fs::read(out.join("a/b.txt")).unwrap(), b"1");
        assert_eq!(entries(&place.path().join("deep/er")), 1);
    }

    #[test]
    fn nothing_is_left_of_a_folder_that_was_dropped() {
        let place = tempfile::tempdir().unwrap();
        let folder = NewFolder::create(&place.path().join("out")).unwrap();
        folder.write("a.txt", b"1").unwrap();
        drop(folder);
        assert_eq!(entries(place.path()), 0);
    }

    #[test]
    fn what_stands_there_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        fs::create_dir(&out).unwrap();
        NewFolder::create(&out).unwrap().publish().unwrap();
        fs::write(out.join("precious"), b"1").unwrap();
        for taken in [out.clone(), out.join("precious")] {
            let error = NewFolder::create(&taken).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().contains("exists already"), "{error}");
        }
        assert_eq!(entries(&out), 1);
    }
}
