//! A training as people see it: a bar on a terminal, lines elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use vermeer::run::Verdict;
use vermeer::train::Scalars;
use vermeer::train::events::{Event, Sink};

use crate::progress::{bar, duration};
use crate::terminal::{Terminal, printable};

/// Values shown beside the step.
const SHOWN: usize = 3;

/// Listens to a training and shows how it goes.
pub(crate) struct TrainingView {
    terminal: Terminal,
    /// Set once there is a terminal to draw on; shared with the thread that waits for Ctrl-C.
    bar: Arc<OnceLock<ProgressBar>>,
    /// The step this process began at.
    first: u64,
    steps: u64,
    images_per_step: usize,
    verdict: Verdict,
}

impl TrainingView {
    /// Shows a training that `stop` will end.
    pub(crate) fn new(terminal: &Terminal, stop: Arc<AtomicBool>) -> Self {
        let bar = Arc::new(OnceLock::new());
        let (terminal, shown) = (*terminal, Arc::downgrade(&bar));
        // A step may take long, and who pressed Ctrl-C wants to know at once that it was heard.
        thread::spawn(move || {
            while let Some(bar) = shown.upgrade() {
                if stop.load(Ordering::Relaxed) {
                    return say(
                        &terminal,
                        bar.get(),
                        "stopping after this step; Ctrl-C again leaves at once, without a checkpoint",
                    );
                }
                drop(bar);
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self {
            terminal,
            bar,
            first: 0,
            steps: 0,
            images_per_step: 0,
            verdict: Verdict::Ok,
        }
    }

    fn say(&self, text: &str) {
        say(&self.terminal, self.bar.get(), text);
    }

    fn step(&mut self, step: u64, scalars: &Scalars, elapsed: Duration, logged: bool) {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let made = step.saturating_sub(self.first).max(1) as f64;
        let speed = made * self.images_per_step as f64 / seconds;
        let left = duration(self.steps.saturating_sub(step) as f64 * seconds / made);
        let pace = format!("{speed:.0} images/s  {left} left");
        if let Some(bar) = self.bar.get() {
            bar.set_position(step);
            bar.set_message(format!("{}  {pace}", values(scalars)));
        } else if logged {
            self.say(&format!(
                "step {step}/{}  {}  {pace}",
                self.steps,
                values(scalars)
            ));
        }
    }
}

impl Sink for TrainingView {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started {
                run,
                step,
                steps,
                images_per_step,
            } => {
                (self.first, self.steps, self.images_per_step) = (*step, *steps, *images_per_step);
                let from = if *step > 0 {
                    format!(" from step {step}")
                } else {
                    String::new()
                };
                self.say(&format!(
                    "training {}{from}, {steps} steps of {images_per_step} images",
                    run.display()
                ));
                if self.terminal.is_watched() {
                    let bar = bar("{wide_bar} {pos}/{len}  {msg}");
                    bar.set_length(*steps);
                    bar.set_position(*step);
                    self.bar.set(bar).expect("a training starts once");
                }
            }
            Event::Step {
                step,
                scalars,
                elapsed,
                logged,
                ..
            } => self.step(*step, scalars, *elapsed, *logged),
            Event::Validated {
                step,
                scalars,
                best,
            } => {
                let best = if *best { ", the best so far" } else { "" };
                self.say(&format!(
                    "step {step}: validation {}{best}",
                    values(scalars)
                ));
            }
            Event::Examined { step, health } => {
                if health.verdict != self.verdict {
                    self.verdict = health.verdict;
                    self.say(&format!("step {step}: health is {}", word(health.verdict)));
                    health
                        .reasons()
                        .iter()
                        .for_each(|reason| self.say(&format!("  {reason}")));
                }
            }
            Event::Pictured { step, path } => self.say(&format!("step {step}: {}", path.display())),
            Event::Saved { step } => {
                // On a terminal the bar says enough.
                if self.bar.get().is_none() {
                    self.say(&format!("step {step}: checkpoint"));
                }
            }
            Event::Warning(text) => match self.bar.get() {
                Some(bar) => bar.println(printable(&format!("warning: {text}"))),
                None => self.terminal.warn(text),
            },
        }
    }
}

impl Drop for TrainingView {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// Says a line without disturbing the bar.
fn say(terminal: &Terminal, bar: Option<&ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.println(printable(text)),
        None => terminal.note(text),
    }
}

/// How a verdict is called.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Watch => "watch",
        Verdict::Bad => "bad",
    }
}

/// A value with four decimals, or with four digits where those would hide it.
pub(crate) fn number(value: f64) -> String {
    match value != 0.0 && value.abs() < 1e-3 {
        true => format!("{value:.3e}"),
        false => format!("{value:.4}"),
    }
}

/// The first values of a step or an evaluation.
fn values(scalars: &Scalars) -> String {
    let shown: Vec<String> = scalars
        .iter()
        .take(SHOWN)
        .map(|(name, value)| format!("{name} {}", number(*value)))
        .collect();
    shown.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_keep_their_digits() {
        for (value, text) in [
            (0.0, "0.0000"),
            (1e-5, "1.000e-5"),
            (0.25, "0.2500"),
            (-3e-4, "-3.000e-4"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_first_values_are_shown() {
        let scalars = vec![
            ("loss", 1.0),
            ("kl", 0.25),
            ("reconstruction", 0.75),
            ("gradient_norm", 9.0),
        ];
        assert_eq!(
            values(&scalars),
            "loss 1.0000  kl 0.2500  reconstruction 0.7500"
        );
    }
}
