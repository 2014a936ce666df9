//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{ImageError, Result};

/// Numbers the temporary files of this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Writes a file that appears whole or not at all: the bytes go to a temporary file in the same
/// folder, are synced, and the file is renamed. A write that fails leaves nothing behind.
///
/// # Errors
/// [`ImageError::Io`] with the path and the operating system's reason.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| ImageError::io(path, source);
    let Some(name) = path.file_name() else {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path does not name a file",
        )));
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut temporary = name.to_os_string();
    temporary.push(format!(".tmp-{}-{serial}", process::id()));
    let temporary = folder.join(temporary);
    fill(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| remove(&temporary))
        .map_err(failed)?;
    // The file is whole already; where a folder cannot be synced, only a power cut before the
    // next sync could bring the old file back.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// A new file with the given bytes, synced.
fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a temporary file of a failed write, whose own error is the one to report.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::*;

    /// An empty folder of its own that is removed at the end.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vermeer-image-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        /// The names inside, sorted.
        pub(crate) fn entries(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn failed_writes_leave_nothing_behind() {
        let folder = Folder::new("atomic");
        let file = folder.path().join("a");
        write_atomic(&file, b"old").unwrap();
        write_atomic(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // A folder stands where the file should go, so the rename fails after the bytes are out.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(matches!(
            write_atomic(&taken, b"x"),
            Err(ImageError::Io { .. })
        ));
        assert!(write_atomic(&folder.path().join("no/such/folder"), b"x").is_err());
        assert_eq!(folder.entries(), ["a", "taken"]);
    }
}
