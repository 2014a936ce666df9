//! A zip that is read in place: nothing is unpacked to disk, and no entry is trusted on its size.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::{Error, Result};

/// A zip and the names of its entries. Entries may be read on several threads; unpacking happens
/// under a lock.
pub(super) struct Archive {
    path: PathBuf,
    zip: Mutex<ZipArchive<BufReader<File>>>,
    names: Vec<String>,
}

impl Archive {
    /// Reads the directory of a zip.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is no zip or a name is not text.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| refused(path, e))?;
        let mut names = Vec::with_capacity(zip.len());
        for name in zip.file_names() {
            names.push(name.map_err(|e| refused(path, e))?.into_owned());
        }
        Ok(Self {
            path: path.to_path_buf(),
            zip: Mutex::new(zip),
            names,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the entries, folders included, in the order of the directory.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Unpacks the entry at a place in [`Archive::names`].
    ///
    /// # Errors
    /// [`Error::Data`] when it is damaged, encrypted, packed in another way than stored or
    /// deflated, or larger than `limit` bytes; no more than that is read.
    pub(super) fn read(&self, index: usize, limit: u64) -> Result<Vec<u8>> {
        let name = &self.names[index];
        // Every read seeks first, so a thread that panicked leaves nothing half done.
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = zip.by_index(index).map_err(|e| refused(&self.path, e))?;
        let announced = entry.size();
        let mut bytes = Vec::new();
        if announced <= limit {
            let mut limited = entry.take(limit.saturating_add(1));
            limited.read_to_end(&mut bytes).map_err(|e| {
                Error::data(
                    &self.path,
                    format!("{name} cannot be unpacked ({e})"),
                    "copy or download the file again and compare its checksum",
                )
            })?;
        }
        if announced > limit || bytes.len() as u64 > limit {
            return Err(Error::data(
                &self.path,
                format!("{name} is larger than the {limit} bytes that are read"),
                "raise the limit, or take the entry out",
            ));
        }
        Ok(bytes)
    }
}

/// What a zip error means for a file that was given as a data set.
fn refused(path: &Path, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) if source.raw_os_error().is_some() => Error::io(path, source),
        error => Error::data(
            path,
            format!("the zip cannot be read ({error})"),
            "give a complete zip whose entries are stored or deflated and not encrypted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn entries_are_read_up_to_the_limit_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default();
        writer
            .start_file(
                "zeros",
                options.compression_method(zip::CompressionMethod::Deflated),
            )
            .unwrap();
        writer.write_all(&[0; 100_000]).unwrap();
        writer
            .start_file(
                "text",
                options.compression_method(zip::CompressionMethod::Stored),
            )
            .unwrap();
        writer.write_all(b"some text").unwrap();
        writer.finish().unwrap();

        let archive = Archive::open(&path).unwrap();
        assert_eq!(archive.names(), ["zeros", "text"]);
        assert_eq!(archive.path(), path);
        assert_eq!(archive.read(0, 100_000).unwrap().len(), 100_000);
        assert_eq!(archive.read(1, 9).unwrap(), b"some text");
        let error = archive.read(0, 99_999).unwrap_err();
        assert!(error.to_string().contains("zeros is larger"), "{error}");

        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(9).position(|part| part == b"some text");
        bytes[place.unwrap()] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Archive::open(&path).unwrap().read(1, 9).unwrap_err();
        assert!(
            error.to_string().contains("text cannot be unpacked"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 4);
    }
}
