//! The library against numbers from outside, and its promises for every entry of its lists.
//!
//! - `twins_*`: each family against its PyTorch twin, from the files in `testdata/twins`.
//! - `tables`: schedules, samplers and likelihoods against the same files.
//! - `conformance`: what every family of `FAMILIES` promises, on the device that
//!   `VERMEER_TEST_DEVICE` names (`flex` where it is not set).
//! - `honesty`: copies, lost classes, constants and checkerboards are found, healthy samples are not.
//! - `imports`: published weights against reference outputs, where `VERMEER_SHARED` names a
//!   folder that holds `checkpoints/`.
//! - `evaluation`: whole evaluations, also against torch-fidelity on published photographs.
//! - `pairs`: images against their originals, by hand.
//! - `networks`: frozen networks with published weights, there too.

// An unwrap that fails is a test that fails; what was left out is told on standard error.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod conformance;
mod diffusion;
mod evaluation;
mod generated;
mod honesty;
mod imports;
mod imports_autoencoder;
mod imports_cvae;
mod imports_gan;
mod imports_gated_pixel_cnn;
mod networks;
mod pairs;
mod tables;
mod twin;
mod twin_autoregressive;
mod twins_autoencoder;
mod twins_bound;
mod twins_cvae;
mod twins_dae;
mod twins_dcgan;
mod twins_diffusion;
mod twins_gans;
mod twins_gated_pixel_cnn;
mod twins_pixel_cnn;
mod twins_pixel_cnn_pp;
mod twins_pixel_rnn;
mod twins_stylegan2;
mod twins_vae;
mod twins_vq_vae;
mod twins_wavenet;
