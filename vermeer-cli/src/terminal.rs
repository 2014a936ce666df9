//! What reaches a person: results on standard output, everything else on standard error.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use vermeer::{Error, Result};
use vermeer_image::{Image, Limits, decode_file};

use crate::picture;
use crate::progress::Progress;

/// The two streams and how talkative they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    quiet: bool,
}

impl Terminal {
    /// With `quiet` only results, warnings and errors are said.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Writes a result and a line end to standard output.
    ///
    /// # Errors
    /// [`Error::Io`] when the stream refuses, unless its reader went away.
    pub(crate) fn result(&self, text: &str) -> Result<()> {
        self.bytes(format!("{}\n", printable(text)).as_bytes())
    }

    /// Writes a result for machines to standard output.
    ///
    /// # Errors
    /// As [`Terminal::result`].
    pub(crate) fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(|error| {
            Error::Failed(format!("the result cannot be written as JSON: {error}"))
        })?;
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to standard output as they are.
    ///
    /// # Errors
    /// As [`Terminal::result`].
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = io::stdout().lock();
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            // `vermeer runs list | head -1` has what it wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Error::io("standard output", error)),
        }
    }

    /// Says what is going on.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// Says what went wrong without ending the work.
    pub(crate) fn warn(&self, text: &str) {
        say(&format!("warning: {text}"));
    }

    /// Whether there is a person in front of a terminal that wants to be told.
    pub(crate) fn is_watched(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Whether to keep silent about progress.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A measure of work whose units are called `what`.
    pub(crate) fn progress(&self, what: &'static str) -> Progress {
        Progress::new(self, what)
    }

    /// Shows a picture in a terminal; elsewhere the files have to do.
    pub(crate) fn picture(&self, image: &Image) {
        if self.is_watched() {
            picture::show(image);
        }
    }

    /// Shows the picture in a file, if it can be read.
    pub(crate) fn picture_file(&self, path: &Path) {
        if self.is_watched()
            && let Ok(decoded) = decode_file(path, &Limits::cli())
        {
            picture::show(&decoded.image);
        }
    }
}

fn say(text: &str) {
    // When standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// The text without characters that steer a terminal: names come from files of others.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\tb\nß 日"), "a\tb\nß 日");
        assert_eq!(
            printable("\u{1b}[2Jx\r\u{7f}\u{9b}"),
            "\\u{1b}[2Jx\\r\\u{7f}\\u{9b}"
        );
    }
}
