//! Building blocks of the networks: layers drawn eagerly from a keyed generator, batch
//! normalisation with an explicit mode, and the parameters of a module by path.

mod batch_norm;
mod init;
mod params;
mod slerp;
mod spectral;

pub use batch_norm::{BatchNorm, Mode};
pub use init::{Init, Law};
pub use params::{
    Gradients, Named, flatten, load, pytorch_names, state, trained_parameters, unflatten,
};
pub(crate) use params::{Path, assign, host};
pub use slerp::slerp;
pub use spectral::{Spectrum, convolve, matrix};
