//! From an image to its features: which network looks at it, and how it is brought to its size.

use burn::prelude::*;
use burn::tensor::TensorData;

use crate::error::{ImageError, Result};
use crate::features::{
    Inception, JUDGE_SHA256, Judge, Tap, Vgg16Fc2, WORLD_NET_SHA256, Weights, WorldNet,
};
use crate::image::{Image, Pixels};
use crate::{ResizeRule, crop};

/// Whose way of bringing images to the Inception is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// TensorFlow's graph and torch-fidelity 0.4.0: TF1 bilinear, (x - 128) / 128.
    #[default]
    TorchFidelity,
    /// pytorch-fid 0.3.0: bilinear of PyTorch without antialiasing, 2x - 1 of x in \[0, 1\].
    PytorchFid,
    /// clean-fid: PIL's antialiased bicubic in floats, (x - 128) / 128.
    CleanFid,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TorchFidelity, Self::PytorchFid, Self::CleanFid];

    /// What it adds to the names of values.
    fn suffix(self) -> &'static str {
        match self {
            Self::TorchFidelity => "",
            Self::PytorchFid => "_pytorch-fid",
            Self::CleanFid => "_clean-fid",
        }
    }

    fn resize(self) -> ResizeRule {
        match self {
            Self::TorchFidelity => ResizeRule::Tf1Bilinear,
            Self::PytorchFid => ResizeRule::TorchBilinear,
            Self::CleanFid => ResizeRule::PilBicubic,
        }
    }
}

/// A frozen network with everything that decides its features.
#[derive(Debug)]
pub struct Extractor {
    name: String,
    sha256: String,
    published: bool,
    network: Network,
    rule: Option<ResizeRule>,
    device: Device,
}

#[derive(Debug)]
enum Network {
    World(Box<WorldNet>),
    Judge(Box<Judge>),
    Inception {
        network: Box<Inception>,
        protocol: Protocol,
        tap: Tap,
        logits: bool,
    },
    Vgg16(Box<Vgg16Fc2>),
    /// Pixels at this side, grey or RGB.
    Pixels {
        side: usize,
        channels: usize,
    },
}

/// An image as a network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared(Vec<f32>);

/// What a network says of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// [`Extractor::dims`] values for each image, one image after the other.
    pub features: Vec<f32>,
    /// [`Extractor::classes`] logits for each image; empty where there are none.
    pub logits: Vec<f32>,
}

/// First hexadecimal digits of the sum of the published file of the 2015 Inception, which stand in
/// its name.
const PUBLISHED_INCEPTION: &str = "6726825d";

impl Extractor {
    /// The embedded network that Vermeer trained on its own worlds.
    ///
    /// # Errors
    /// Those of [`WorldNet::embedded`].
    pub fn world(device: &Device) -> Result<Self> {
        Ok(Self {
            name: "vermeer".to_owned(),
            sha256: WORLD_NET_SHA256.to_owned(),
            published: false,
            network: Network::World(Box::new(WorldNet::embedded(device)?)),
            rule: Some(ResizeRule::PilBicubic),
            device: device.clone(),
        })
    }

    /// The embedded judge of grey 28×28 images: the 128 values before its ten logits.
    ///
    /// # Errors
    /// Those of [`Judge::embedded`].
    pub fn judge(device: &Device) -> Result<Self> {
        Ok(Self {
            name: "judge".to_owned(),
            sha256: JUDGE_SHA256.to_owned(),
            published: false,
            network: Network::Judge(Box::new(Judge::embedded(device)?)),
            rule: None,
            device: device.clone(),
        })
    }

    /// The 2015 Inception with weights from a file whose SHA-256 is `file_sha256`; features are
    /// those of `tap`, and logits are computed where `logits` asks for them.
    ///
    /// # Errors
    /// Those of [`Inception::load`]; [`ImageError::Shape`] for a tap of logits.
    pub fn inception(
        weights: Weights,
        file_sha256: &str,
        tap: Tap,
        logits: bool,
        protocol: Protocol,
        device: &Device,
    ) -> Result<Self> {
        if matches!(tap, Tap::Logits | Tap::LogitsUnbiased) {
            return Err(ImageError::Shape(
                "features are taken from a pooling layer: 64, 192, 768 or 2048".to_owned(),
            ));
        }
        let sha256 = weights.sha256();
        let published = file_sha256.starts_with(PUBLISHED_INCEPTION) && tap == Tap::Pool2048;
        Ok(Self {
            name: match tap {
                Tap::Pool64 => format!("inception64{}", protocol.suffix()),
                Tap::Pool192 => format!("inception192{}", protocol.suffix()),
                Tap::Pool768 => format!("inception768{}", protocol.suffix()),
                _ => format!("inception{}", protocol.suffix()),
            },
            sha256,
            published,
            network: Network::Inception {
                network: Box::new(Inception::load(weights, device)?),
                protocol,
                tap,
                logits,
            },
            rule: Some(protocol.resize()),
            device: device.clone(),
        })
    }

    /// VGG16's second hidden layer, as precision and recall are published with it.
    ///
    /// # Errors
    /// Those of [`Vgg16Fc2::load`].
    pub fn vgg16(weights: Weights, device: &Device) -> Result<Self> {
        Ok(Self {
            name: "vgg16".to_owned(),
            sha256: weights.sha256(),
            published: false,
            network: Network::Vgg16(Box::new(Vgg16Fc2::load(weights, device)?)),
            rule: Some(ResizeRule::Tf1Bilinear),
            device: device.clone(),
        })
    }

    /// The pixels themselves, in \[0, 1\], brought to `side` × `side`.
    pub fn pixels(side: usize, channels: usize, device: &Device) -> Self {
        Self {
            name: "pixels".to_owned(),
            sha256: String::new(),
            published: false,
            network: Network::Pixels { side, channels },
            rule: Some(ResizeRule::PilBicubic),
            device: device.clone(),
        }
    }

    /// The network's name, as it stands in the names of values.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its weights; empty for pixels, which have none.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What its way of looking adds to the published names of values.
    pub fn suffix(&self) -> &'static str {
        match self.network {
            Network::Inception { protocol, .. } => protocol.suffix(),
            _ => "",
        }
    }

    /// Whether this is the published Inception with its last pooling layer, so that distances of
    /// its features may be called FID and KID.
    pub fn is_published(&self) -> bool {
        self.published
    }

    /// How images are brought to the network's size, in words.
    pub fn resize(&self) -> String {
        let side = self.side();
        match self.rule {
            Some(rule) => format!("{rule} to {side}x{side}"),
            None => "cut from 32x32 to 28x28, else pil-bicubic to 28x28".to_owned(),
        }
    }

    /// How bytes become its input, in words.
    pub fn input(&self) -> &'static str {
        match self.network {
            Network::World(_) | Network::Judge(_) | Network::Pixels { .. } => "x / 255",
            Network::Inception {
                protocol: Protocol::PytorchFid,
                ..
            } => "2 x / 255 - 1",
            Network::Inception { .. } => "(x - 128) / 128",
            Network::Vgg16(_) => "ImageNet mean and deviation",
        }
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Everything that decides the features, in one line: name, sum of the weights, resize, input
    /// and number of features.
    pub fn identity(&self) -> String {
        let sum = self.sha256.get(..16).unwrap_or(&self.sha256);
        let (resize, input) = (self.resize(), self.input());
        format!(
            "{} {sum} ({resize}; {input}; {} features)",
            self.name,
            self.dims()
        )
    }

    /// The number of features of an image.
    pub fn dims(&self) -> usize {
        match &self.network {
            Network::World(_) => WorldNet::DIMS,
            Network::Judge(_) => 128,
            Network::Inception { tap, .. } => tap.dims(),
            Network::Vgg16(_) => Vgg16Fc2::DIMS,
            Network::Pixels { side, channels } => side * side * channels,
        }
    }

    /// The number of logits of an image; 0 for a network that classifies nothing.
    pub fn classes(&self) -> usize {
        match &self.network {
            Network::Judge(_) => 10,
            Network::Inception { logits: true, .. } => Tap::LogitsUnbiased.dims(),
            _ => 0,
        }
    }

    /// Images that are computed at a time; features do not depend on it.
    pub fn batch(&self) -> usize {
        match self.network {
            Network::Inception { .. } | Network::Vgg16(_) => 16,
            Network::World(_) => 64,
            Network::Judge(_) | Network::Pixels { .. } => 256,
        }
    }

    fn side(&self) -> usize {
        match &self.network {
            Network::World(_) => WorldNet::SIDE,
            Network::Judge(_) => 28,
            Network::Inception { .. } => Inception::SIDE,
            Network::Vgg16(_) => Vgg16Fc2::SIDE,
            Network::Pixels { side, .. } => *side,
        }
    }

    fn channels(&self) -> usize {
        match self.network {
            Network::Judge(_) => 1,
            Network::Pixels { channels, .. } => channels,
            _ => 3,
        }
    }

    /// An image as the network takes it. Alpha is dropped and deeper samples are rounded to bytes,
    /// as the reference implementations do; grey is repeated.
    ///
    /// # Errors
    /// Those of the resize.
    pub fn prepare(&self, image: &Image) -> Result<Prepared> {
        let image = without_alpha(image)?.with_channels(self.channels(), [0; 3])?;
        let image = image.to_8_bit();
        let (side, channels) = (self.side(), self.channels());
        let size = [image.height(), image.width()];
        let rule = match self.rule {
            Some(rule) => rule,
            None => {
                let image = match size {
                    [28, 28] => image,
                    [32, 32] => crop(&image, 2, 2, 28, 28)?,
                    _ => {
                        let planes = planes_of_bytes(&image);
                        let shape = [1, size[0], size[1]];
                        let mut values = ResizeRule::PilBicubic.apply(&planes, shape, [28, 28]);
                        values.iter_mut().for_each(|x| *x /= 255.0);
                        return Ok(Prepared(values));
                    }
                };
                return Ok(Prepared(image.to_unit_chw()));
            }
        };
        let mut values: Vec<f32> = planes_of_bytes(&image);
        if size != [side, side] {
            values = rule.apply(&values, [channels, size[0], size[1]], [side, side]);
        }
        let scale: fn(f32) -> f32 = match self.network {
            Network::Inception {
                protocol: Protocol::PytorchFid,
                ..
            } => |x| 2.0 * (x / 255.0) - 1.0,
            Network::Inception { .. } => |x| (x - 128.0) / 128.0,
            // It scales the images itself.
            Network::Vgg16(_) => |x| x,
            _ => |x| x / 255.0,
        };
        values.iter_mut().for_each(|x| *x = scale(*x));
        Ok(Prepared(values))
    }

    /// What the network says of prepared images. It looks at [`Extractor::batch`] of them at a
    /// time, and at blanks in place of those that lack, so that an image's values do not depend on
    /// how many others there are.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the device does not give its values back.
    pub fn extract(&self, images: &[Prepared]) -> Result<Extracted> {
        let mut all = Extracted::default();
        for part in images.chunks(self.batch()) {
            let mut found = self.extract_batch(part)?;
            found.features.truncate(part.len() * self.dims());
            found.logits.truncate(part.len() * self.classes());
            all.features.append(&mut found.features);
            all.logits.append(&mut found.logits);
        }
        Ok(all)
    }

    fn extract_batch(&self, images: &[Prepared]) -> Result<Extracted> {
        let mut values: Vec<f32> = images.iter().flat_map(|image| &image.0).copied().collect();
        if let Network::Pixels { .. } = self.network {
            return Ok(Extracted {
                features: values,
                logits: vec![],
            });
        }
        let (side, channels, n) = (self.side(), self.channels(), self.batch());
        values.resize(n * channels * side * side, 0.0);
        let data = TensorData::new(values, [n, channels, side, side]);
        let x = Tensor::<4>::from_data(data, &self.device);
        let (features, logits) = match &self.network {
            Network::World(network) => (network.features(x), None),
            Network::Judge(judge) => {
                let features = judge.features(x);
                let logits = judge.logits_of(features.clone());
                (features, Some(logits))
            }
            Network::Inception {
                network,
                tap,
                logits,
                ..
            } => {
                let taps = match logits {
                    true => vec![*tap, Tap::LogitsUnbiased],
                    false => vec![*tap],
                };
                let mut found = network.forward(x, &taps)?.into_iter();
                let features = found.next().ok_or_else(no_result)?;
                (features, found.next())
            }
            Network::Vgg16(network) => (network.features(x)?, None),
            Network::Pixels { .. } => return Err(no_result()),
        };
        Ok(Extracted {
            features: host(features)?,
            logits: logits.map(host).transpose()?.unwrap_or_default(),
        })
    }
}

fn no_result() -> ImageError {
    ImageError::Shape("the network gave no features".to_owned())
}

fn host(tensor: Tensor<2>) -> Result<Vec<f32>> {
    tensor
        .try_to_vec_as::<f32>()
        .map_err(|error| ImageError::Shape(format!("features cannot be read: {error}")))
}

/// The image without its alpha: colours stay as they are stored.
fn without_alpha(image: &Image) -> Result<Image> {
    if !image.has_alpha() {
        return Ok(image.clone());
    }
    fn kept<T: Copy>(samples: &[T], channels: usize) -> Vec<T> {
        samples
            .chunks_exact(channels)
            .flat_map(|pixel| &pixel[..channels - 1])
            .copied()
            .collect()
    }
    let channels = image.channels();
    let pixels = match image.pixels() {
        Pixels::U8(samples) => Pixels::U8(kept(samples, channels)),
        Pixels::U16(samples) => Pixels::U16(kept(samples, channels)),
        Pixels::F32(samples) => Pixels::F32(kept(samples, channels)),
    };
    Image::new(image.width(), image.height(), channels - 1, pixels)
}

/// The bytes of an 8-bit image as floats 0..=255, one channel after the other.
fn planes_of_bytes(image: &Image) -> Vec<f32> {
    let Pixels::U8(samples) = image.pixels() else {
        return image.to_unit_chw().iter().map(|x| x * 255.0).collect();
    };
    let channels = image.channels();
    (0..channels)
        .flat_map(|c| samples.iter().skip(c).step_by(channels))
        .map(|byte| f32::from(*byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageBatch, Range};

    #[test]
    fn pixels_are_features_too_and_alpha_is_dropped() {
        let samples = vec![10, 20, 30, 0, 40, 50, 60, 255, 1, 2, 3, 9, 7, 8, 9, 128];
        let image = Image::new(2, 2, 4, Pixels::U8(samples)).unwrap();
        let extractor = Extractor::pixels(2, 3, &Device::flex());
        let prepared = extractor.prepare(&image).unwrap();
        let found = extractor.extract(&[prepared]).unwrap();
        let bytes: Vec<u8> = found
            .features
            .iter()
            .map(|x| (x * 255.0).round() as u8)
            .collect();
        assert_eq!(bytes, [10, 40, 1, 7, 20, 50, 2, 8, 30, 60, 3, 9]);
        assert_eq!(extractor.dims(), 12);
    }

    #[test]
    fn the_judge_says_the_same_through_an_extractor() {
        let device = Device::flex();
        let samples: Vec<u8> = (0..784u32).map(|i| (i * 37 % 251) as u8).collect();
        let image = Image::new(28, 28, 1, Pixels::U8(samples)).unwrap();
        let extractor = Extractor::judge(&device).unwrap();
        let prepared = extractor.prepare(&image).unwrap();
        let found = extractor.extract(std::slice::from_ref(&prepared)).unwrap();
        assert_eq!((found.features.len(), found.logits.len()), (128, 10));
        let batch = ImageBatch::from_images(&[image], Range::Unit, &device).unwrap();
        let judge = Judge::embedded(&device).unwrap();
        let logits = judge.logits(batch.into_tensor());
        // Products of another number of rows are rounded in another order.
        for (ours, alone) in found.logits.iter().zip(host(logits).unwrap()) {
            assert!((ours - alone).abs() < 1e-4, "{ours}, not {alone}");
        }
        let others = vec![prepared.clone(); 300];
        let many = extractor.extract(&others).unwrap();
        assert_eq!(many.logits[..10], found.logits);
        assert_eq!(many.logits[2990..], found.logits);
    }
}
