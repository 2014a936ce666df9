//! The event file that TensorBoard reads: scalars and pictures by step.
//!
//! A file is a row of TFRecords: eight bytes of length, their masked CRC-32C, the payload and its
//! masked CRC-32C, all little-endian. A payload is an `Event` message of TensorFlow's
//! `event.proto`; the first one names the format.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::error::{Error, Result};
use crate::run::commit::{append, replace_file};
use crate::run::lock::host_name;

/// How the name of every event file starts; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";

/// Appends scalars and pictures to the event file of a run.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Continues the newest event file of a run's folder after `step`, or starts one.
    ///
    /// Events of later steps are cut, because their steps are done again, and so is everything
    /// after a damaged record, where TensorBoard stops reading too.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let mut files = event_files(folder)?;
        for path in &files {
            cut(path, step)?;
        }
        let path = files.pop().unwrap_or_else(|| folder.join(file_name()));
        let io = |source| Error::io(&path, source);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io)?;
        let is_new = file.metadata().map_err(io)?.len() == 0;
        let mut writer = Self { file, path };
        if is_new {
            writer.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
        }
        Ok(writer)
    }

    /// Writes a number, as f32.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        self.summary(step, tag, Content::SimpleValue(value as f32))
    }

    /// Writes a picture, given as the bytes of a PNG file.
    ///
    /// # Errors
    /// When the disk refuses.
    ///
    /// # Panics
    /// When the bytes are no PNG file.
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8]) -> Result<()> {
        self.summary(step, tag, Content::Image(Picture::of(png)))
    }

    fn summary(&mut self, step: u64, tag: &str, content: Content) -> Result<()> {
        let value = SummaryValue {
            tag: tag.to_owned(),
            content: Some(content),
        };
        self.write(step, What::Summary(Summary { value: vec![value] }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let event = Event {
            wall_time: now.map_or(0.0, |since| since.as_secs_f64()),
            step: signed(step),
            what: Some(what),
        };
        append(&mut self.file, &frame(&event.encode_to_vec()))
            .map_err(|source| Error::io(&self.path, source))
    }
}

/// `events.out.tfevents.<unix>.<host>.<pid>.0`
fn file_name() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let host: String = host_name().chars().map(plain).collect();
    format!("{PREFIX}{now:010}.{host}.{}.0", std::process::id())
}

/// The event files of a folder, oldest first.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::io(folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Removes the events after `step` and whatever follows a damaged record.
fn cut(path: &Path, step: u64) -> Result<()> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while let Some((payload, after)) = unframe(rest) {
        let Ok(stamp) = Stamp::decode(payload) else {
            break;
        };
        if stamp.step <= signed(step) {
            kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    if kept == bytes {
        Ok(())
    } else {
        replace_file(path, &kept)
    }
}

fn signed(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

/// A payload as a TFRecord.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| masked_crc(bytes).to_le_bytes();
    [&length[..], &sum(&length), payload, &sum(payload)].concat()
}

/// The payload of the first TFRecord and what follows it; none when it is torn or damaged.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != masked_crc(length) {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == masked_crc(payload)).then_some((payload, rest))
}

/// CRC-32C, turned and shifted so that sums of data that hold sums stay sound.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `tensorflow.Event`, the fields used here.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

/// `tensorflow.Event`, the one field that cutting needs.
#[derive(Clone, PartialEq, prost::Message)]
struct Stamp {
    #[prost(int64, tag = "2")]
    step: i64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

/// `tensorflow.Summary.Value`, the fields used here.
#[derive(Clone, PartialEq, prost::Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Content", tags = "2, 4")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "4")]
    Image(Picture),
}

/// `tensorflow.Summary.Image`.
#[derive(Clone, PartialEq, prost::Message)]
struct Picture {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// Channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

impl Picture {
    /// Reads sizes and channels from the header chunk, which every PNG file starts with.
    fn of(png: &[u8]) -> Self {
        assert!(
            png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") && png.len() > 25,
            "a picture for TensorBoard has to be a PNG file"
        );
        let number =
            |at: usize| i32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
        let colorspace = match png[25] {
            0 => 1,
            4 => 2,
            6 => 4,
            _ => 3, // RGB, or a palette of RGB.
        };
        let (width, height) = (number(16), number(20));
        Self {
            height,
            width,
            colorspace,
            encoded_image_string: png.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A grey PNG header of 3 x 2 pixels; the rest of the file is never looked at.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\0\0\0\0";

    fn events(folder: &Path) -> Vec<Event> {
        let files = event_files(folder).unwrap();
        assert_eq!(files.len(), 1);
        let bytes = fs::read(&files[0]).unwrap();
        let mut events = Vec::new();
        let mut rest = &bytes[..];
        while let Some((payload, after)) = unframe(rest) {
            events.push(Event::decode(payload).unwrap());
            rest = after;
        }
        assert!(rest.is_empty());
        events
    }

    #[test]
    fn framing_is_that_of_tfrecord() {
        // crc32c("123456789") = 0xe3069283, the check value of the published parameters; the
        // masks were worked out apart: 0xc78ab0e5 for it and 0x3971f937 for the length.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let expected = [
            &[9, 0, 0, 0, 0, 0, 0, 0][..],
            &[0x37, 0xf9, 0x71, 0x39],
            b"123456789",
            &[0xe5, 0xb0, 0x8a, 0xc7],
        ]
        .concat();
        assert_eq!(frame(b"123456789"), expected);
        assert_eq!(unframe(&expected), Some((&b"123456789"[..], &[][..])));
        for end in 0..expected.len() {
            assert_eq!(unframe(&expected[..end]), None, "torn after {end} bytes");
        }
        for at in 0..expected.len() {
            let mut bad = expected.clone();
            bad[at] ^= 0x10;
            assert_eq!(unframe(&bad), None, "damaged at {at}");
        }
    }

    #[test]
    fn messages_are_those_of_event_proto() {
        // Encoded by hand: field 1 double, field 2 varint, field 5 of one value whose field 1 is
        // the tag and whose field 2 is the float, written although it is zero.
        let value = SummaryValue {
            tag: "a".to_owned(),
            content: Some(Content::SimpleValue(0.0)),
        };
        let what = What::Summary(Summary { value: vec![value] });
        let event = Event {
            wall_time: 1.0,
            step: 300,
            what: Some(what),
        };
        let expected = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f][..],
            &[0x10, 0xac, 0x02],
            &[0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(event.encode_to_vec(), expected);
        assert_eq!(Stamp::decode(&expected[..]).unwrap().step, 300);

        let picture = Picture::of(PNG);
        assert_eq!(
            (picture.width, picture.height, picture.colorspace),
            (3, 2, 1)
        );
        let start = [0x08, 2, 0x10, 3, 0x18, 1, 0x22, PNG.len() as u8];
        assert_eq!(picture.encode_to_vec(), [&start[..], PNG].concat());
    }

    #[test]
    fn a_resumed_run_continues_its_file_from_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::open(folder.path(), 0).unwrap();
        for step in [10, 20, 30] {
            writer.scalar(step, "train/loss", step as f64).unwrap();
        }
        writer.image(20, "samples", PNG).unwrap();
        let path = writer.path.clone();
        // A record torn by a crash.
        writer.file.write_all(&frame(b"torn")[..9]).unwrap();
        drop(writer);

        let mut writer = EventWriter::open(folder.path(), 20).unwrap();
        assert_eq!(writer.path, path);
        writer.scalar(21, "train/loss", 0.5).unwrap();
        let events = events(folder.path());
        let steps: Vec<i64> = events.iter().map(|event| event.step).collect();
        assert_eq!(steps, [0, 10, 20, 20, 21]);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".to_owned()))
        );
        assert!(events.iter().all(|event| event.wall_time > 1.6e9));
        let Some(What::Summary(last)) = &events[4].what else {
            panic!("{:?}", events[4])
        };
        assert_eq!(last.value[0].tag, "train/loss");
        assert_eq!(last.value[0].content, Some(Content::SimpleValue(0.5)));
    }

    #[test]
    fn a_file_without_one_whole_record_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(format!("{PREFIX}1700000000.h.1.0")),
            b"torn",
        )
        .unwrap();
        drop(EventWriter::open(folder.path(), 5).unwrap());
        assert_eq!(events(folder.path()).len(), 1);
    }

    #[test]
    fn the_name_is_one_that_tensorboard_finds() {
        let name = file_name();
        let parts: Vec<&str> = name.split('.').collect();
        assert_eq!(parts[..3], ["events", "out", "tfevents"]);
        assert!(
            parts[3].len() == 10 && parts[3].parse::<u64>().is_ok(),
            "{name}"
        );
        assert!(
            name.ends_with(&format!(".{}.0", std::process::id())),
            "{name}"
        );
    }
}
