//! How far a piece of work has come: a bar on a terminal, a line now and then elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::Terminal;

/// Time between two lines where there is no bar.
const PAUSE: Duration = Duration::from_secs(5);

/// Work that can be watched, from several threads. The bar goes away when this is dropped.
pub(crate) struct Progress {
    what: &'static str,
    terminal: Terminal,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    /// When the last line was written.
    Lines(Mutex<Instant>),
    Nothing,
}

impl Progress {
    pub(crate) fn new(terminal: &Terminal, what: &'static str) -> Self {
        let shown = if terminal.is_watched() {
            Shown::Bar(
                bar("{msg} {wide_bar} {human_pos}/{human_len} {eta} left").with_message(what),
            )
        } else if terminal.is_quiet() {
            Shown::Nothing
        } else {
            Shown::Lines(Mutex::new(Instant::now()))
        };
        Self {
            what,
            terminal: *terminal,
            shown,
        }
    }

    /// Says that `done` of `all` is done.
    pub(crate) fn at(&self, done: usize, all: usize) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            }
            Shown::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= PAUSE {
                    *last = Instant::now();
                    self.terminal
                        .note(&format!("{}: {done} of {all}", self.what));
                }
            }
            Shown::Nothing => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A bar on standard error. A template with a mistake in it gives the plain bar.
pub(crate) fn bar(template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// A time in the two largest of its units.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (59.6, "1 min 0 s"),
            (192.0, "3 min 12 s"),
            (7320.0, "2 h 2 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(f64::NAN), "0 s");
    }
}
