//! Putting files in place: a reader sees the old content or the new one, never a part of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// What the name of every unfinished file and folder contains.
const MARK: &str = ".tmp-";

/// Writes a file beside its place, syncs it and renames it over what was there.
///
/// On an error the old content stays and nothing is left beside it.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path);
    let placed = write_synced(&temporary, bytes).and_then(|()| rename(&temporary, path));
    if placed.is_err() {
        // The first error is the one to report; the file may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

/// Appends `bytes` in one call. A crash tears at most the last record; a disk that is full leaves
/// the file as it was, so that what is appended later does not follow half a record.
pub(super) fn append(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // The first error is the one to report.
        let _ = file.set_len(before);
    })
}

/// Writes a new file and waits until the disk has it. The file must not exist.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::io(path, source))
}

/// Renames a file or folder; the error names the place it was meant for.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::io(to, source))
}

/// Waits until the disk has the names in a folder.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|opened| opened.sync_all()) {
        // Some network file systems have no sync for folders and say so with this error.
        Err(source) if source.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced.map_err(|source| Error::io(folder, source)),
    }
}

/// Folders cannot be opened as files here; the file system orders renames itself.
#[cfg(not(unix))]
pub(super) fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

/// A free name beside `path` for something unfinished: `<name>.tmp-<pid>-<count>`.
pub(super) fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{MARK}{}-{count}", std::process::id()));
    path.with_file_name(name)
}

/// Removes what writers that died left unfinished in a folder. A missing folder holds nothing.
///
/// Only the process that holds the run's lock may call this.
pub(super) fn remove_temporaries(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| Error::io(folder, source))?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        if entry.file_name().to_string_lossy().contains(MARK) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder that readers may look for: it vanishes under its name at once.
pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    let temporary = temporary_beside(folder);
    rename(folder, &temporary)?;
    remove(&temporary)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(|source| Error::io(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_folder_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
        assert!(replace_file(&path, b"one").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace_file(&folder.path().join("missing").join("a"), b"one").is_err());
    }

    #[test]
    fn leftovers_are_removed_and_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), b"{}").unwrap();
        fs::write(folder.path().join("run.json.tmp-1-0"), b"{").unwrap();
        fs::create_dir(folder.path().join("step-000000001.tmp-1-1")).unwrap();
        fs::write(folder.path().join("step-000000001.tmp-1-1").join("a"), b"").unwrap();
        remove_temporaries(folder.path()).unwrap();
        remove_temporaries(&folder.path().join("missing")).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["run.json"]);
    }
}
