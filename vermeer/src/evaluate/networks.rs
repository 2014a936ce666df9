//! Which frozen network looks at images, and where its weights come from.

use std::path::{Path, PathBuf};

use burn::prelude::Device;
use vermeer_image::features::{Extractor, Protocol, Tap, Weights};

use crate::{Error, Result, import};

/// A network for features.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkChoice {
    /// The embedded network that was trained on Vermeer's own worlds.
    Vermeer,
    /// The embedded judge of grey 28×28 images, trained on Fashion-MNIST.
    Judge,
    /// The 2015 Inception with weights from a file.
    Inception {
        /// `.pth` or `.safetensors`.
        weights: PathBuf,
        /// The pooling layer whose values are the features.
        tap: Tap,
        /// How images are brought to it.
        protocol: Protocol,
        /// Whether logits are computed too.
        logits: bool,
    },
    /// VGG16's second hidden layer with weights from a file.
    Vgg16 {
        /// `.pth` or `.safetensors`.
        weights: PathBuf,
    },
    /// The pixels themselves.
    Pixels {
        /// Height and width they are brought to.
        side: usize,
        /// 1 or 3.
        channels: usize,
    },
}

/// The network, ready to look at images.
///
/// # Errors
/// Those of reading the weights; [`Error::Image`] when they are not those of the network.
pub fn extractor(choice: &NetworkChoice, device: &Device) -> Result<Extractor> {
    Ok(match choice {
        NetworkChoice::Vermeer => Extractor::world(device)?,
        NetworkChoice::Judge => Extractor::judge(device)?,
        NetworkChoice::Inception {
            weights: path,
            tap,
            protocol,
            logits,
        } => {
            let (weights, sum) = weights(path)?;
            Extractor::inception(weights, &sum, *tap, *logits, *protocol, device)?
        }
        NetworkChoice::Vgg16 { weights: path } => Extractor::vgg16(weights(path)?.0, device)?,
        NetworkChoice::Pixels { side, channels } => Extractor::pixels(*side, *channels, device),
    })
}

/// The tensors of a file of weights, and the SHA-256 of the file.
///
/// # Errors
/// Those of [`import::read`].
pub fn weights(path: &Path) -> Result<(Weights, String)> {
    use sha2::{Digest, Sha256};
    let mut sum = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    std::io::copy(&mut file, &mut sum).map_err(|error| Error::io(path, error))?;
    let tensors = import::read(path)?.tensors;
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.shape, tensor.data)))
        .collect();
    Ok((
        Weights::new(path.display().to_string(), tensors),
        format!("{:x}", sum.finalize()),
    ))
}
