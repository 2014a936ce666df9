//! How an error is shown: once, with the place in the settings file and the remedy.

use std::fmt;
use std::io::{self, Write};

use miette::{
    Diagnostic, LabeledSpan, MietteHandler, MietteHandlerOpts, NamedSource, ReportHandler,
    SourceCode,
};
use vermeer::Error;
use vermeer::run::shell_word;

use crate::terminal::printable;

/// Writes the error to standard error.
pub(crate) fn show(error: &Error) {
    // Paths and commands are copied from a message, so lines are not wrapped.
    let handler = MietteHandlerOpts::new().wrap_lines(false).build();
    let text = Rendered(&Shown::new(error), &handler).to_string();
    // When standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// An error as miette shows it.
#[derive(Debug)]
struct Shown {
    message: String,
    help: Option<String>,
    source: Option<(NamedSource<String>, LabeledSpan)>,
}

impl Shown {
    fn new(error: &Error) -> Self {
        let help = match error {
            Error::Stopped { run, .. } => Some(format!(
                "go on with `vermeer train {} --resume`",
                shell_word(run)
            )),
            other => other.remedy().map(str::to_owned),
        };
        let source = match error {
            Error::Settings {
                source_text: Some(place),
                ..
            } => {
                let end = place.span.end.min(place.text.len());
                let span = place.span.start.min(end)..end;
                let label = LabeledSpan::new_with_span(Some("here".to_owned()), span);
                Some((
                    NamedSource::new(printable(&place.name), shown_text(&place.text)),
                    label,
                ))
            }
            _ => None,
        };
        Self {
            message: printable(&error.to_string()).into_owned(),
            help: help.map(|help| printable(&help).into_owned()),
            source,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let (source, _) = self.source.as_ref()?;
        Some(source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, label) = self.source.as_ref()?;
        Some(Box::new(std::iter::once(label.clone())))
    }
}

struct Rendered<'a>(&'a Shown, &'a MietteHandler);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.debug(self.0, f)
    }
}

/// A text without characters that steer a terminal, its other bytes where they were.
fn shown_text(text: &str) -> String {
    let steers = |c: char| c.is_control() && !"\n\r\t".contains(c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use vermeer::SourceText;

    use super::*;

    fn rendered(error: &Error) -> String {
        let handler = MietteHandlerOpts::new()
            .color(false)
            .unicode(true)
            .wrap_lines(false)
            .build();
        Rendered(&Shown::new(error), &handler).to_string()
    }

    #[test]
    fn settings_are_shown_at_their_place_with_the_remedy() {
        let text = "[train]\nstepz = 5\n".to_owned();
        let text = rendered(&Error::Settings {
            message: "a.toml, line 2: unknown field `stepz`".into(),
            remedy: "correct the line".into(),
            source_text: Some(SourceText {
                name: "a.toml".into(),
                text,
                span: 8..13,
            }),
        });
        for part in [
            "unknown field",
            "a.toml:2:1",
            "stepz = 5",
            "help: correct the line",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_span_outside_its_text_is_no_panic() {
        for span in [5..900, 900..901, 3..3] {
            let text = rendered(&Error::Settings {
                message: "x".into(),
                remedy: "y".into(),
                source_text: Some(SourceText {
                    name: "a".into(),
                    text: "abc".into(),
                    span,
                }),
            });
            assert!(text.contains("help: y"), "{text}");
        }
    }

    #[test]
    fn a_stopped_run_names_the_command_that_goes_on() {
        let stopped = |run: &str| {
            rendered(&Error::Stopped {
                run: run.into(),
                step: 7,
            })
        };
        assert!(stopped("runs/a").contains("`vermeer train runs/a --resume`"));
        assert!(stopped("runs/it's a").contains("`vermeer train 'runs/it'\\''s a' --resume`"));
    }
}
