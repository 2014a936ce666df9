//! What a network must do to play.

use burn::module::Module;
use burn::prelude::*;

use crate::nn::{Mode, Spectrum};

/// A network that makes images of noise.
pub trait Generates: Module + 'static {
    /// Numbers in a latent vector.
    fn latent(&self) -> usize;

    /// How many classes it is told of; 0 for a network that is told none.
    fn classes(&self) -> usize {
        0
    }

    /// Signed images `[n, channels, height, width]` of latents `[n, latent]` and, for a network
    /// that is told classes, one-hot rows `[n, classes]`.
    fn images(&self, z: Tensor<2>, classes: Option<Tensor<2>>, mode: Mode) -> Tensor<4>;
}

/// What a discriminator says of images.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// One number per image, `[n]`; larger means "real".
    pub logits: Tensor<1>,
    /// Logits of the classes, `[n, classes]`, of a discriminator that names them.
    pub classes: Option<Tensor<2>>,
}

impl From<Tensor<1>> for Opinion {
    fn from(logits: Tensor<1>) -> Self {
        Self {
            logits,
            classes: None,
        }
    }
}

/// A network that tells real images from others.
pub trait Judges: Module + 'static {
    /// Its opinion of signed images `[n, channels, height, width]`, told their classes as one-hot
    /// rows where there are some; `spectra`, one for each of [`Judges::matrices`] or none,
    /// normalise weights.
    fn opinion(
        &self,
        x: Tensor<4>,
        classes: Option<Tensor<2>>,
        mode: Mode,
        spectra: &[Spectrum],
    ) -> Opinion;

    /// What the layer before the logits makes of signed images whose classes are not told,
    /// `[n, size]`, running statistics in use.
    fn features(&self, x: Tensor<4>, spectra: &[Spectrum]) -> Tensor<2>;

    /// The weights that spectral normalisation divides, as matrices without gradients; none for a
    /// network that has no such thing.
    fn matrices(&self) -> Vec<Tensor<2>>;
}

/// Labels as rows `[n, classes]` with a one in the place of the class.
///
/// # Panics
/// When a label is not below `classes`.
pub fn one_hot(labels: &[u32], classes: usize, device: &Device) -> Tensor<2> {
    let mut rows = vec![0.0f32; labels.len() * classes];
    for (row, label) in rows.chunks_exact_mut(classes).zip(labels) {
        row[*label as usize] = 1.0;
    }
    Tensor::<1>::from_floats(&rows[..], device).reshape([labels.len(), classes])
}
