//! The bytes of a pickle, counted and limited.

use std::io::{self, BufRead, Read};

/// Longest string kept, and longest line read: names of classes are far shorter.
pub(super) const MAX_TEXT: u64 = 4096;

/// A reader that counts, and fails with the reason once the limit is passed.
pub(super) struct Input<R> {
    reader: R,
    limit: u64,
    position: u64,
}

impl<R: BufRead> Input<R> {
    /// Reads from `reader`, at most `limit` bytes.
    pub(super) fn new(reader: R, limit: u64) -> Self {
        Self {
            reader,
            limit,
            position: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Counts `length` bytes about to be read against the limit.
    fn count(&mut self, length: u64) -> Result<(), String> {
        self.position = self
            .position
            .checked_add(length)
            .filter(|&end| end <= self.limit)
            .ok_or_else(|| format!("it is longer than {} bytes", self.limit))?;
        Ok(())
    }

    /// The next `length` bytes.
    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>, String> {
        self.count(length)?;
        let mut bytes = Vec::new();
        let mut part = self.reader.by_ref().take(length);
        part.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 == length {
            Ok(bytes)
        } else {
            Err(early())
        }
    }

    /// Reads past `length` bytes.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), String> {
        self.count(length)?;
        let mut part = self.reader.by_ref().take(length);
        match io::copy(&mut part, &mut io::sink()).map_err(failed)? {
            read if read == length => Ok(()),
            _ => Err(early()),
        }
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.count(1)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(failed)?;
        Ok(byte[0])
    }

    /// An unsigned little-endian number of at most eight bytes.
    pub(super) fn number(&mut self, length: usize) -> Result<u64, String> {
        self.count(length as u64)?;
        let mut bytes = [0; 8];
        self.reader
            .read_exact(&mut bytes[..length])
            .map_err(failed)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A line without its end, of at most [`MAX_TEXT`] bytes.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        let mut part = self.reader.by_ref().take(MAX_TEXT);
        let length = part.read_until(b'\n', &mut line).map_err(failed)?;
        self.count(length as u64)?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            _ if length as u64 == MAX_TEXT => Err(format!("a line exceeds {MAX_TEXT} bytes")),
            _ => Err(early()),
        }
    }

    /// A line that holds a whole number.
    pub(super) fn decimal(&mut self) -> Result<u64, String> {
        let line = self.line()?;
        str::from_utf8(&line)
            .ok()
            .and_then(|digits| digits.trim().parse().ok())
            .ok_or_else(|| "a memo index is not a number".to_owned())
    }
}

fn early() -> String {
    "it ends in the middle".to_owned()
}

fn failed(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => early(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lines_and_strings_are_counted() {
        let mut input = Input::new(&b"\x01\x02\x00\x00\x0012\nab"[..], 10);
        assert_eq!(input.byte(), Ok(1));
        assert_eq!(input.number(4), Ok(2));
        assert_eq!(input.decimal(), Ok(12));
        assert_eq!(input.position(), 8);
        assert_eq!(input.bytes(2), Ok(b"ab".to_vec()));
        assert!(input.byte().unwrap_err().contains("longer than 10 bytes"));
    }

    #[test]
    fn an_early_end_is_told() {
        for length in 0..4 {
            let mut input = Input::new(&b"abc"[..length], 100);
            assert_eq!(input.skip(4), Err("it ends in the middle".to_owned()));
        }
        let mut input = Input::new(&b"no end of line"[..], 100);
        assert_eq!(input.line(), Err("it ends in the middle".to_owned()));
    }
}
