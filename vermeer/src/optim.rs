//! Optimisation: Adam with decoupled weight decay, averaged weights, learning-rate schedules.
//!
//! State is kept by parameter path, so that it survives in a checkpoint.

mod adam;
mod average;
mod learner;
mod schedule;

pub use adam::{Adam, AdamConfig};
pub use average::Average;
pub use learner::{Learner, part};
pub use schedule::{LearningRate, Shape};
