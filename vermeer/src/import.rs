//! Weights written by other programs: what a file holds, read without running anything in it.
//!
//! PyTorch checkpoints are pickles, and a pickle is a program. [`read`] lists the names a
//! pickle would look up, refuses a file that names anything but the builders of tensors and
//! plain data, and then lets a reader that executes nothing fetch the tensors. Which tensor
//! belongs to which parameter is decided by the model family, not here.

mod allow;
mod container;
mod elements;
mod input;
mod naming;
mod pickle;
mod pytorch;

pub use naming::from_pytorch;
pub use pytorch::{Imported, read};
