//! The library against numbers from outside, and its promises for every entry of its lists.
//!
//! - `twins_*`: each family against its PyTorch twin, from the files in `testdata/twins`.
//! - `tables`: schedules, samplers and likelihoods against the same files.
//! - `conformance`: what every family of `FAMILIES` promises, on the device that
//!   `VERMEER_TEST_DEVICE` names (`flex` where it is not set).
//! - `imports`: published weights against reference outputs, where `VERMEER_SHARED` names a
//!   folder that holds `checkpoints/`.

// An unwrap that fails is a test that fails; what was left out is told on standard error.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod conformance;
mod generated;
mod imports;
mod tables;
mod twin;
mod twins_dcgan;
mod twins_diffusion;
mod twins_vae;
