//! The files PyTorch writes, and where the pickles lie in them.
//!
//! Since 1.6 `torch.save` writes a zip archive: `NAME/data.pkl` and one member per storage.
//! Before, it wrote a stream: the pickles of a magic number, a protocol number, facts about
//! the machine, the object, and the storage keys, followed by the raw storages. Other tools
//! write a bare pickle. Tensors older than PyTorch 0.1.10 come in a tar archive, which is
//! refused.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions, ZipWriter};

use super::allow::{self, Verdict};
use super::pickle::{self, Call, Scan};
use crate::{Error, Result};

/// Largest pickle read. It describes the tensors (about 160 bytes each) and holds what was
/// saved beside them; the values of the tensors lie outside.
const MAX_PICKLE: u64 = 32 << 20;

/// The magic number of the stream, 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The same number as protocols 0 and 1 write it.
const MAGIC_TEXT: &[u8] = b"119547037146038801333356";

/// How far into the file the magic number may end.
const MAGIC_WITHIN: usize = 64;

/// Pickles in a stream: four before the storage keys, and the keys.
const STREAM_PICKLES: usize = 5;

const DAMAGED: &str = "fetch the file again and compare its checksum; \
                       .pth, .pt and .ckpt files of torch.save and .safetensors files are read";

/// The pickles of a checkpoint.
pub(super) enum Pickles {
    /// Members of a zip archive, by their index in it.
    Members(Vec<(usize, Scan)>),
    /// Pickles that follow one another from the start of the file.
    Stream(Vec<Scan>),
}

impl Pickles {
    /// Finds and scans every pickle of the file at `path`; nothing is built.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Checkpoint`] when it is no
    /// checkpoint, is damaged, or holds a pickle of more than 32 MiB.
    pub(super) fn find(path: &Path) -> Result<Self> {
        let refused = |reason: String| Error::checkpoint(path, reason, DAMAGED);
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        let mut header = Vec::new();
        let mut start = Read::by_ref(&mut file).take(512);
        start
            .read_to_end(&mut header)
            .map_err(|error| Error::io(path, error))?;
        file.rewind().map_err(|error| Error::io(path, error))?;
        if header.is_empty() {
            return Err(refused("the file is empty".to_owned()));
        }
        if header.get(257..262) == Some(&b"ustar"[..]) {
            return Err(Error::checkpoint(
                path,
                "it is a tar archive of PyTorch before 0.1.10",
                "load it in PyTorch and save its state dict again",
            ));
        }
        if header.starts_with(b"PK\x03\x04") || header.starts_with(b"PK\x05\x06") {
            return Self::in_archive(file).map_err(refused);
        }
        let start = &header[..header.len().min(MAGIC_WITHIN)];
        let holds = |magic: &[u8]| start.windows(magic.len()).any(|bytes| bytes == magic);
        let count = if holds(MAGIC) || holds(MAGIC_TEXT) {
            STREAM_PICKLES
        } else {
            1
        };
        let mut reader = BufReader::new(file);
        let mut scans = Vec::with_capacity(count);
        for _ in 0..count {
            let scan = pickle::scan(&mut reader, MAX_PICKLE)
                .map_err(|reason| refused(format!("it is not a PyTorch checkpoint: {reason}")))?;
            scans.push(scan);
        }
        Ok(Self::Stream(scans))
    }

    fn in_archive(file: File) -> std::result::Result<Self, String> {
        let damaged = |error: ZipError| format!("the zip archive cannot be read: {error}");
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let mut members = Vec::new();
        for index in 0..archive.len() {
            let name = match archive.name_for_index(index) {
                Some(name) => name.map_err(damaged)?.into_owned(),
                None => continue,
            };
            if name != "data.pkl" && !name.ends_with("/data.pkl") {
                continue;
            }
            // The reader of the tensors checks the sum again, and knows that PyTorch may
            // leave it out.
            let options = ZipReadOptions::new().ignore_crc32(true);
            let member = archive
                .by_index_with_options(index, options)
                .map_err(damaged)?;
            let scan = pickle::scan(BufReader::new(member), MAX_PICKLE)
                .map_err(|reason| format!("{name:?} in the zip archive is no pickle: {reason}"))?;
            members.push((index, scan));
        }
        if members.is_empty() {
            return Err("it is a zip archive without data.pkl, not a checkpoint".to_owned());
        }
        Ok(Self::Members(members))
    }

    /// What the pickles name, one scan each.
    pub(super) fn scans(&self) -> impl Iterator<Item = &Scan> {
        let (members, stream): (&[(usize, Scan)], &[Scan]) = match self {
            Self::Members(members) => (members.as_slice(), &[]),
            Self::Stream(scans) => (&[], scans.as_slice()),
        };
        members.iter().map(|(_, scan)| scan).chain(stream)
    }

    /// A copy of the file at `path` in which every instance of a data class is a dictionary,
    /// or `None` when it has no such instance. Tensors and storages are copied as they are.
    ///
    /// The reader of the tensors knows dictionaries, not their subclasses, and refuses to
    /// fill an object that it does not know.
    ///
    /// # Errors
    /// [`Error::Io`] when the copy cannot be written; [`Error::Checkpoint`] when the file
    /// changed since it was scanned or unpacks to more than [`most_bytes`] of its length.
    pub(super) fn with_plain_dictionaries(&self, path: &Path) -> Result<Option<NamedTempFile>> {
        if !self.scans().any(|scan| renamed(scan).next().is_some()) {
            return Ok(None);
        }
        let copy = || -> io::Result<NamedTempFile> {
            let file = File::open(path)?;
            let mut copy = NamedTempFile::new()?;
            match self {
                Self::Members(members) => copy_archive(file, members, copy.as_file_mut())?,
                Self::Stream(scans) => copy_stream(file, scans, copy.as_file_mut())?,
            }
            Ok(copy)
        };
        match copy() {
            Ok(copy) => Ok(Some(copy)),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::Unsupported => Error::checkpoint(path, error.to_string(), DAMAGED),
                _ => Error::io(path, error),
            }),
        }
    }
}

/// Most bytes that the tensors of a checkpoint of `file_bytes` may unpack to: sixteen times
/// its length and 64 MiB. Weights hardly compress; a file that claims more means to fill the
/// memory.
pub(super) fn most_bytes(file_bytes: u64) -> u64 {
    file_bytes.saturating_mul(16).saturating_add(64 << 20)
}

fn copy_archive(file: File, members: &[(usize, Scan)], copy: &mut File) -> io::Result<()> {
    let mut left = most_bytes(file.metadata()?.len());
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let mut writer = ZipWriter::new(BufWriter::new(copy));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    for index in 0..archive.len() {
        // A sum of zero means that PyTorch was asked to leave it out.
        let unchecked = archive.by_index_raw(index)?.crc32() == 0;
        let options_read = ZipReadOptions::new().ignore_crc32(unchecked);
        let mut member = archive.by_index_with_options(index, options_read)?;
        if member.is_dir() {
            continue;
        }
        writer.start_file(member.name()?.into_owned(), options)?;
        let scan = members.iter().find(|(at, _)| *at == index);
        let read = if let Some((_, scan)) = scan {
            let bytes = exactly(&mut member, scan.length)?;
            writer.write_all(&edited(&bytes, scan))?;
            scan.length
        } else {
            io::copy(&mut (&mut member).take(left.saturating_add(1)), &mut writer)?
        };
        left = left.checked_sub(read).ok_or_else(|| {
            invalid("the zip archive unpacks to more than sixteen times its length")
        })?;
    }
    writer.finish()?.flush()
}

fn copy_stream(file: File, scans: &[Scan], copy: &mut File) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut writer = BufWriter::new(copy);
    for scan in scans {
        let bytes = exactly(&mut reader, scan.length)?;
        writer.write_all(&edited(&bytes, scan))?;
    }
    io::copy(&mut reader, &mut writer)?;
    writer.flush()
}

/// The calls of `scan` that make an instance of a data class or of a special dictionary.
fn renamed(scan: &Scan) -> impl Iterator<Item = &Call> {
    scan.calls.iter().filter(move |call| {
        matches!(
            allow::judge(&scan.globals[call.global]),
            Verdict::Mapping | Verdict::Ignored
        )
    })
}

/// The pickle with each such call replaced: drop the class and its arguments, push `{}`.
fn edited(bytes: &[u8], scan: &Scan) -> Vec<u8> {
    const NEWOBJ_EX: u8 = 0x92; // takes keywords as well
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut from = 0;
    for call in renamed(scan) {
        let at = call.position as usize; // below MAX_PICKLE
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(if call.opcode == NEWOBJ_EX {
            b"000}"
        } else {
            b"00}"
        });
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

fn exactly(reader: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(invalid("the file changed while it was read"))
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python 3.11: `AttributeDict(width=32)` in protocol 2, with the class of that module.
    #[test]
    fn instances_of_data_classes_become_dictionaries() {
        let bytes = b"\x80\x02cpytorch_lightning.utilities.parsing\nAttributeDict\nq\x00)\x81q\x01\
            X\x05\x00\x00\x00widthq\x02K s.";
        let scan = pickle::scan(&bytes[..], MAX_PICKLE).unwrap();
        let plain = b"\x80\x02cpytorch_lightning.utilities.parsing\nAttributeDict\nq\x00)00}q\x01\
            X\x05\x00\x00\x00widthq\x02K s.";
        assert_eq!(edited(bytes, &scan), plain);
    }

    #[test]
    fn files_that_are_no_checkpoint_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], &str); 4] = [
            (b"", "empty"),
            (b"Hello", "not a PyTorch checkpoint"),
            (b"PK\x03\x04 and no more", "zip archive cannot be read"),
            (&tar, "tar archive"),
        ];
        for (bytes, reason) in cases {
            let path = folder.path().join("file.pth");
            std::fs::write(&path, bytes).unwrap();
            let error = Pickles::find(&path).err().unwrap();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.exit_code(), 4);
            assert!(error.remedy().is_some());
        }
        let missing = Pickles::find(&folder.path().join("none.pth"));
        assert_eq!(missing.err().unwrap().exit_code(), 1);
    }
}
