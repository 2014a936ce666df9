//! Writes zip files whose members are stored as they are, one after the other.

use std::io::{Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::{Error, Result};

/// A zip in the making. Equal members make equal files, for the date is fixed.
pub struct ZipFile<W: Write + Seek>(ZipWriter<W>);

impl<W: Write + Seek> ZipFile<W> {
    /// Starts a zip in `inner`.
    pub fn new(inner: W) -> Self {
        Self(ZipWriter::new(inner))
    }

    /// Starts a member whose bytes follow by [`ZipFile::append`].
    ///
    /// # Errors
    /// [`Error::Failed`] when it cannot be written.
    pub fn start(&mut self, name: &str) -> Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        self.0.start_file(name, options).map_err(failed)
    }

    /// Adds bytes to the member that was started.
    ///
    /// # Errors
    /// [`Error::Failed`] when they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(failed)
    }

    /// A whole member.
    ///
    /// # Errors
    /// [`Error::Failed`] when it cannot be written.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.start(name)?;
        self.append(bytes)
    }

    /// Ends the zip.
    ///
    /// # Errors
    /// [`Error::Failed`] when it cannot be written.
    pub fn finish(self) -> Result<W> {
        self.0.finish().map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(format!("an archive cannot be written: {error}"))
}
