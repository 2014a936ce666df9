//! The model families, one file each.

pub mod dcgan;
pub mod diffusion;
pub mod vae;

pub use dcgan::{
    Dcgan, DcganConfig, DcganNetwork, DcganTrainer, Discriminator, Generator, R1_STEP, Spectrum,
    r1_penalty,
};
pub use diffusion::{Denoiser, Diffusion, DiffusionConfig, DiffusionNetwork, loss_per_image};
pub use vae::{Elbo, Likelihood, Vae, VaeConfig, VaeNet, VaeNetwork, log_mean_exp};
