//! One writer per run: a lock of the operating system on `.lock`, which dies with its holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use fs4::fs_std::FileExt;

use crate::error::{Error, Result};

/// The right to write into a run, held until it is dropped or the process ends, however it ends.
///
/// The file `.lock` holds the process number and host of its last holder as text. It stays when
/// the lock is released: removing it would let two processes lock two files of the same name.
#[derive(Debug)]
#[must_use = "the run is free again as soon as this is dropped"]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// When another process holds it, naming that process and its host, or when the file cannot
    /// be written.
    pub(super) fn acquire(run: &Path) -> Result<Self> {
        let path = run.join(".lock");
        let io = |source| Error::io(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        // Who only asks whether the run is held, holds it for a moment.
        let mut attempts = 3;
        while !file.try_lock_exclusive().map_err(io)? {
            attempts -= 1;
            if attempts > 0 {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            let mut holder = String::new();
            // A holder that has not written its line yet is named only as what it is.
            if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                holder = "another process".to_owned();
            }
            return Err(Error::settings(
                format!("{} is being written by {}", run.display(), holder.trim()),
                "wait until it is done, stop it with Ctrl-C, or train under another name",
            ));
        }
        file.set_len(0).map_err(io)?;
        writeln!(file, "process {} on {}", std::process::id(), host_name()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// Whether a process holds the lock of a run; nothing is written.
pub(super) fn is_held(run: &Path) -> bool {
    // A run without the file, or one that may not be read, tells nothing.
    File::open(run.join(".lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// This machine's name, or `localhost` where the system does not tell.
pub(super) fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_learns_who_the_first_is() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(run.path()).unwrap();
        let error = RunLock::acquire(run.path()).unwrap_err();
        let holder = format!("process {} on {}", std::process::id(), host_name());
        assert!(error.to_string().contains(&holder), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(is_held(run.path()));
        drop(first);
        assert!(!is_held(run.path()));
        let _again = RunLock::acquire(run.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_dead_process_does_not_lock() {
        let run = tempfile::tempdir().unwrap();
        fs::write(
            run.path().join(".lock"),
            "process 999999999 on a-machine-with-a-long-name\n",
        )
        .unwrap();
        let _lock = RunLock::acquire(run.path()).unwrap();
        let text = fs::read_to_string(run.path().join(".lock")).unwrap();
        assert_eq!(
            text,
            format!("process {} on {}\n", std::process::id(), host_name())
        );
    }
}
