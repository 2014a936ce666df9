//! What a training run tells while it runs.

use std::path::PathBuf;
use std::time::Duration;

use super::Scalars;
use super::health::Health;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The loop begins or goes on.
    Started {
        /// Folder of the run.
        run: PathBuf,
        /// Steps already made.
        step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Images of a step.
        images_per_step: usize,
    },
    /// A step was made.
    Step {
        /// Steps made so far.
        step: u64,
        /// Means over the step's images.
        scalars: Scalars,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Time since the loop began in this process.
        elapsed: Duration,
        /// Whether the values were written to the run's files.
        logged: bool,
    },
    /// The validation images were evaluated.
    Validated {
        /// Steps made so far.
        step: u64,
        /// Means over the validation images.
        scalars: Scalars,
        /// Whether this is the lowest loss so far.
        best: bool,
    },
    /// The run was examined.
    Examined {
        /// Steps made so far.
        step: u64,
        /// Signs and verdict.
        health: Health,
    },
    /// A picture was written.
    Pictured {
        /// Steps made so far.
        step: u64,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps made so far.
        step: u64,
    },
    /// Something went wrong that does not end the run.
    Warning(String),
}

/// Hears of events.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, event: &Event);
}

/// Hears nothing.
pub struct Silent;

impl Sink for Silent {
    fn event(&mut self, _: &Event) {}
}
