//! The model families, one file each.

pub mod acgan;
pub mod autoencoder;
pub mod cgan;
pub mod cvae;
pub mod dae;
pub mod dcgan;
pub mod ddpm;
pub mod diffusion;
pub mod flow_matching;
pub mod gan;
pub mod gated_pixel_cnn;
pub mod pixel_cnn;
pub mod pixel_cnn_pp;
pub mod pixel_rnn;
pub mod stylegan2;
pub mod vae;
pub mod vq_vae;
pub mod wavenet;
pub mod wgan;

pub use acgan::{Acgan, AcganConfig, AcganTrainer, NamingDiscriminator};
pub use autoencoder::{
    Autoencoder, AutoencoderConfig, AutoencoderNet, AutoencoderNetwork, CodeUnits, Nonlinearity,
    PixelLoss,
};
pub use cgan::{Cgan, CganConfig, CganTrainer, ClassDiscriminator, Condition};
pub use cvae::{Cvae, CvaeConfig, CvaeNet};
pub use dae::{Dae, DaeConfig, DaeLoss, DaeNet, DaeNetwork};
pub use dcgan::{
    ClassGenerator, Dcgan, DcganConfig, DcganNetwork, DcganTrainer, Discriminator,
    DiscriminatorBlock, Generator, GeneratorBlock, Layout,
};
pub use ddpm::{Ddpm, DdpmConfig, DdpmPreset};
pub use diffusion::{
    AllSettings, Denoiser, Diffusion, DiffusionConfig, DiffusionFamily, DiffusionNetwork,
    DiffusionTrainer, Preset, loss_per_image,
};
pub use flow_matching::{FlowMatching, FlowMatchingConfig, FlowMatchingPreset};
pub use gan::{Gan, GanConfig, GanTrainer, MlpDiscriminator, MlpGenerator};
pub use gated_pixel_cnn::{GatedPixelCnn, GatedPixelCnnConfig, GatedPixelCnnNet};
pub use pixel_cnn::{PixelCnn, PixelCnnConfig, PixelCnnNet};
pub use pixel_cnn_pp::{PixelCnnPp, PixelCnnPpConfig, PixelCnnPpNet};
pub use pixel_rnn::{PixelRnn, PixelRnnCell, PixelRnnConfig, PixelRnnNet};
pub use stylegan2::{
    StyleDiscriminator, StyleGan2, StyleGan2Config, StyleGan2Pipeline, StyleGan2Trainer,
    StyleGenerator,
};
pub use vae::{Elbo, Given, KlTerm, Likelihood, Vae, VaeConfig, VaeNet, VaeNetwork, log_mean_exp};
pub use vq_vae::{
    Codebook, Prior, PriorNetwork, Quantised, TransformerNet, VqVae, VqVaeConfig, VqVaeNet,
    VqVaeTrainer,
};
pub use wavenet::{WaveNet, WaveNetConfig, WaveNetNet};
pub use wgan::{Lipschitz, Wgan, WganConfig, WganTrainer};
