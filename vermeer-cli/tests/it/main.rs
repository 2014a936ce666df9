//! What the `vermeer` command promises, tried on the command itself.
//!
//! Data are drawn by the worlds, so the tests need no other files. Those that look at published
//! data or weights find them in the folder that `VERMEER_SHARED` names, and say so when they skip.
#![allow(clippy::unwrap_used, reason = "what fails in a test may end it")]
#![allow(clippy::print_stderr, reason = "a test that skips says why")]

mod applying;
mod bad_input;
mod checkpoints;
mod command_line;
mod compare;
mod data;
mod evaluation;
mod honesty;
mod imports;
mod outputs;
mod place;
mod sampling;

#[cfg(target_os = "linux")]
mod disks;
#[cfg(unix)]
mod interruption;
mod latent;
