//! How far apart two images look to a frozen network.

use std::path::Path;

use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_image::features::{WORLD_NET_SHA256, WorldNet};
use vermeer_image::metrics::{Backbone, Lpips};
use vermeer_image::{ImageBatch, Range, ResizeRule};

use super::networks::weights;
use crate::{Error, Result};

/// LPIPS with weights from files, and where it computes.
#[derive(Debug)]
pub struct LpipsNetwork {
    /// The distance.
    pub lpips: Lpips,
    /// SHA-256 of the weights: of network and heads together.
    pub sha256: String,
    /// Where it computes.
    pub device: Device,
}

impl LpipsNetwork {
    /// Reads the weights: one file that holds the network (`net.*`) beside the heads, as the state
    /// of the lpips package's module, or a file of the network and one of the `heads`
    /// (`lin0.model.1.weight` …).
    ///
    /// # Errors
    /// Those of reading the files; [`Error::Image`] when the tensors are not those of the network.
    pub fn open(
        backbone: Backbone,
        network: &Path,
        heads: Option<&Path>,
        device: &Device,
    ) -> Result<Self> {
        let (network, _) = weights(network)?;
        let (lpips, sha256) = match heads {
            None => {
                let sum = network.sha256();
                (Lpips::load_whole(backbone, network, device)?, sum)
            }
            Some(heads) => {
                let (heads, _) = weights(heads)?;
                let sums = format!("{} {}", network.sha256(), heads.sha256());
                let sum = crate::sha256_hex(sums.as_bytes());
                (Lpips::load(backbone, network, heads, device)?, sum)
            }
        };
        Ok(Self {
            lpips,
            sha256,
            device: device.clone(),
        })
    }

    /// The name of network and distance, such as `lpips-alex`.
    pub fn name(&self) -> String {
        format!("lpips-{}", self.lpips.backbone())
    }
}

/// A squared distance of two images as a network sees them.
#[derive(Debug)]
pub enum Perceptual {
    /// LPIPS, which needs weights.
    Lpips(LpipsNetwork),
    /// The squared Euclidean distance of the features of the embedded network.
    World {
        /// The network.
        network: Box<WorldNet>,
        /// Where it computes.
        device: Device,
    },
}

impl Perceptual {
    /// The embedded network, which needs no weights.
    ///
    /// # Errors
    /// Those of [`WorldNet::embedded`].
    pub fn world(device: &Device) -> Result<Self> {
        Ok(Self::World {
            network: Box::new(WorldNet::embedded(device)?),
            device: device.clone(),
        })
    }

    /// The backbone of LPIPS; `None` for the embedded network.
    pub fn backbone(&self) -> Option<Backbone> {
        match self {
            Self::Lpips(network) => Some(network.lpips.backbone()),
            Self::World { .. } => None,
        }
    }

    /// The network's name.
    pub fn name(&self) -> String {
        match self {
            Self::Lpips(network) => network.name(),
            Self::World { .. } => "vermeer".to_owned(),
        }
    }

    /// The SHA-256 of its weights.
    pub fn sha256(&self) -> &str {
        match self {
            Self::Lpips(network) => &network.sha256,
            Self::World { .. } => WORLD_NET_SHA256,
        }
    }

    /// How images are brought to its size, in words.
    pub fn resize(&self) -> String {
        match self {
            Self::Lpips(_) => "none".to_owned(),
            Self::World { .. } => {
                let side = WorldNet::SIDE;
                format!("{} to {side}x{side}", ResizeRule::PilBicubic)
            }
        }
    }

    /// What becomes of their values, in words.
    pub fn input(&self) -> &'static str {
        match self {
            Self::Lpips(_) => "[-1, 1], shifted and scaled as LPIPS 0.1",
            Self::World { .. } => "[0, 1]",
        }
    }

    /// The squared distance of every image of `a` from its partner in `b`. The images come in any
    /// range and are not rounded; grey ones are repeated to three channels.
    ///
    /// # Errors
    /// [`Error::Image`] when the two do not hold as many images of one size, or these are too small
    /// for the network.
    pub fn distances(&self, a: ImageBatch, b: ImageBatch) -> Result<Vec<f64>> {
        match self {
            Self::Lpips(network) => {
                let on_device = |images: ImageBatch| -> Result<ImageBatch> {
                    let unit = images.to_range(Range::Unit).into_tensor();
                    Ok(ImageBatch::new(
                        unit.to_device(&network.device),
                        Range::Unit,
                    )?)
                };
                let found = network.lpips.distance(&on_device(a)?, &on_device(b)?)?;
                Ok(found.into_iter().map(f64::from).collect())
            }
            Self::World { network, device } => {
                let features = |images: ImageBatch| -> Result<Vec<f32>> {
                    host(network.features(world_input(images, device)?))
                };
                let (a, b) = (features(a)?, features(b)?);
                if a.len() != b.len() {
                    return Err(Error::Failed(
                        "a distance needs as many images on both sides".into(),
                    ));
                }
                let rows = a
                    .chunks_exact(WorldNet::DIMS)
                    .zip(b.chunks_exact(WorldNet::DIMS));
                Ok(rows.map(|(a, b)| squared_distance(a, b)).collect())
            }
        }
    }
}

/// Images as the embedded network takes them: RGB of 64×64 in the unit range.
fn world_input(images: ImageBatch, device: &Device) -> Result<Tensor<4>> {
    let side = WorldNet::SIDE;
    let [n, channels, height, width] = images.dims();
    let mut x = images.to_range(Range::Unit).into_tensor();
    if [height, width] != [side, side] {
        // Pillow's rule clips to 0..=255, so the values go there and back.
        let values: Vec<f32> = host(x)?;
        let resized: Vec<f32> = values
            .chunks_exact(channels * height * width)
            .flat_map(|image| {
                let bytes: Vec<f32> = image.iter().map(|value| value * 255.0).collect();
                ResizeRule::PilBicubic.apply(&bytes, [channels, height, width], [side, side])
            })
            .map(|value| value / 255.0)
            .collect();
        x = Tensor::from_data(TensorData::new(resized, [n, channels, side, side]), device);
    }
    let x = x.to_device(device);
    Ok(match channels {
        1 => x.repeat_dim(1, 3),
        _ => x,
    })
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_to_vec_as::<f32>()
        .map_err(|error| Error::Failed(format!("values cannot be read back: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vermeer_image::features::Weights;

    use super::*;

    /// A network that hands the first channel through: its first feature is the mean of 4x − 2 of
    /// red where that is positive, and the others are zero.
    fn handing_through(device: &Device) -> Perceptual {
        let mut tensors = BTreeMap::new();
        for (i, layer) in WorldNet::LAYERS.into_iter().enumerate() {
            let [from, to, _] = layer;
            let mut values = vec![0.0f32; to * from * 9];
            if !WorldNet::is_residual(layer) {
                values[4] = 1.0; // the centre of the first kernel
            }
            tensors.insert(
                format!("layers.{i}.conv.weight"),
                (vec![to, from, 3, 3], values),
            );
            let variance = (1.0 - WorldNet::EPSILON) as f32;
            for (name, value) in [
                ("weight", 1.0f32),
                ("bias", 0.0),
                ("running_mean", 0.0),
                ("running_var", variance),
            ] {
                tensors.insert(
                    format!("layers.{i}.norm.{name}"),
                    (vec![to], vec![value; to]),
                );
            }
        }
        let network = WorldNet::load(Weights::new("made here", tensors), device).unwrap();
        Perceptual::World {
            network: Box::new(network),
            device: device.clone(),
        }
    }

    fn flat(level: f32, [channels, side]: [usize; 2], range: Range, device: &Device) -> ImageBatch {
        let values = vec![level; channels * side * side];
        let shape = [1, channels, side, side];
        ImageBatch::new(
            Tensor::from_data(TensorData::new(values, shape), device),
            range,
        )
        .unwrap()
    }

    #[test]
    fn distances_of_the_embedded_network_by_hand() {
        let device = Device::flex();
        let network = handing_through(&device);
        // Features 4 · 3/4 − 2 = 1 and 4 · 1 − 2 = 2: a squared distance of 1, whatever the size,
        // the channels and the range.
        for shape in [[3, 64], [1, 64], [1, 28], [3, 100]] {
            let a = flat(0.75, shape, Range::Unit, &device);
            let b = flat(1.0, shape, Range::Signed, &device);
            let found = network.distances(a, b).unwrap();
            assert_eq!(found.len(), 1);
            assert!((found[0] - 1.0).abs() < 1e-3, "{shape:?}: {found:?}");
        }
        let same = |level| flat(level, [1, 28], Range::Unit, &device);
        assert_eq!(network.distances(same(0.3), same(0.3)).unwrap(), [0.0]);
        assert_eq!(
            (network.name(), network.resize()),
            ("vermeer".to_owned(), "pil-bicubic to 64x64".to_owned())
        );
    }

    #[test]
    fn weights_that_are_not_there_are_named() {
        let error = LpipsNetwork::open(
            Backbone::Vgg,
            Path::new("no/such/weights.pth"),
            None,
            &Device::flex(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("no/such/weights.pth"), "{error}");
    }
}
