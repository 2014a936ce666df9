//! Vermeer trains, judges and applies generative models of images.
//!
//! The parts, from data to use:
//!
//! - [`data`]: images from folders, archives and procedural worlds, and a loader whose batches
//!   depend on nothing but seed and step.
//! - [`registry`]: the list of model families and the traits that make one; [`models`] holds
//!   the families themselves.
//! - [`train`]: settings, the loop every family shares, health.
//! - [`run`](mod@run): a run on disk, its checkpoints and what it measured.
//! - [`pipeline`] and [`task`]: a trained model and what it can be asked.
//! - [`evaluate`]: how good images and models are.
//! - [`import`]: weights published for PyTorch.
//! - [`published`]: the weights that metrics are defined by, downloaded when asked for.
//!
//! Every random draw is keyed ([`random`]), so a result depends on settings and data and not on
//! batch size, threads or interruptions.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod autoregressive;
pub mod card;
pub mod codes;
pub mod curve;
pub mod data;
pub mod device;
pub mod diffusion;
mod error;
pub mod evaluate;
pub mod import;
pub mod latent;
pub mod loss;
pub mod models;
pub mod nn;
pub mod optim;
pub mod pipeline;
pub mod published;
pub mod random;
pub mod registry;
pub mod report;
pub mod run;
pub mod task;
pub mod train;

pub use error::{Error, Result, SourceText};
pub use vermeer_image as image;

/// The SHA-256 of bytes in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
