//! LPIPS, the learned perceptual distance of two images (Zhang et al., 2018, "The Unreasonable
//! Effectiveness of Deep Features as a Perceptual Metric"), version 0.1.
//!
//! Both images in \[-1, 1\] are shifted and scaled channel by channel and go through a frozen
//! network. At each of its taps l, with maps of `H × W` pixels and C channels,
//!
//! ```text
//! û = u / (‖u‖₂ + 1e-10)                               over the channels of a pixel
//! d_l = 1/(H W) Σ_pixels Σ_c w_lc (û_a − û_b)²         d = Σ_l d_l
//! ```
//!
//! where `w_l` are the published linear heads. 0 means equal, and more is further apart. AlexNet is
//! the network for evaluation, VGG16 for training losses and perceptual path length.
//!
//! Checked against lpips 0.1.4.

use std::fmt;

use burn::module::{Param, ParamId};
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::Conv2d;

use crate::features::frozen::standardise;
use crate::features::{AlexNet, SqueezeNet, Vgg16, Weights};
use crate::{ImageBatch, ImageError, Range, Result};

/// What is taken off images in \[-1, 1\], and what divides them then.
const SCALING: [[f32; 3]; 2] = [[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]];

/// Added to the length of a pixel's features.
const EPSILON: f32 = 1e-10;

/// The network whose features are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backbone {
    /// AlexNet, five taps.
    Alex,
    /// VGG16, five taps.
    Vgg,
    /// SqueezeNet 1.1, seven taps.
    Squeeze,
}

impl Backbone {
    /// Every network.
    pub const ALL: [Self; 3] = [Self::Alex, Self::Vgg, Self::Squeeze];

    /// The name that the lpips package gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alex => "alex",
            Self::Vgg => "vgg",
            Self::Squeeze => "squeeze",
        }
    }

    /// Rows and columns that images have at least.
    pub fn least_side(self) -> usize {
        match self {
            Self::Alex => AlexNet::LEAST_SIDE,
            Self::Vgg => Vgg16::LEAST_SIDE,
            Self::Squeeze => SqueezeNet::LEAST_SIDE,
        }
    }

    /// Channels of the taps.
    fn channels(self) -> &'static [usize] {
        match self {
            Self::Alex => &AlexNet::CHANNELS,
            Self::Vgg => &Vgg16::CHANNELS,
            Self::Squeeze => &SqueezeNet::CHANNELS,
        }
    }
}

impl fmt::Display for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The distance, with the weights of a network and of its heads.
#[derive(Clone, Debug)]
pub struct Lpips {
    backbone: Backbone,
    net: Net,
    /// `[1, channels, 1, 1]` each.
    heads: Vec<Conv2d>,
}

#[derive(Clone, Debug)]
enum Net {
    Alex(AlexNet),
    Vgg(Vgg16),
    Squeeze(Box<SqueezeNet>),
}

impl Lpips {
    /// The distance with a network's weights, named as torchvision or LPIPS names them, and the
    /// weights of the heads (`lin0.model.1.weight` …). Where the heads' file holds them a second
    /// time (`lins.0.model.1.weight` …), both are equal; where it holds the scaling
    /// (`scaling_layer.*`), it is that of version 0.1.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when a tensor is missing, has another shape, holds a value that is
    /// not finite, or is not one of these.
    pub fn load(
        backbone: Backbone,
        network: Weights,
        mut heads: Weights,
        device: &Device,
    ) -> Result<Self> {
        expect_scaling(&mut heads)?;
        let mut layers = Vec::with_capacity(backbone.channels().len());
        for (i, channels) in backbone.channels().iter().enumerate() {
            let name = format!("lin{i}.model.1.weight");
            heads.leave_out_copy(&format!("lins.{i}.model.1.weight"), &name)?;
            let weight: Tensor<4> = heads.tensor(&name, [1, *channels, 1, 1], device)?;
            layers.push(Conv2d {
                weight: Param::initialized(ParamId::new(), weight),
                bias: None,
                options: ConvOptions::default(),
            });
        }
        heads.finish()?;
        let net = match backbone {
            Backbone::Alex => Net::Alex(AlexNet::load(network, device)?),
            Backbone::Vgg => Net::Vgg(Vgg16::load(network, device)?),
            Backbone::Squeeze => Net::Squeeze(Box::new(SqueezeNet::load(network, device)?)),
        };
        Ok(Self {
            backbone,
            net,
            heads: layers,
        })
    }

    /// The distance with the weights of one file that holds the network (`net.*`) beside the
    /// heads: the state of the lpips package's module.
    ///
    /// # Errors
    /// As [`Lpips::load`].
    pub fn load_whole(backbone: Backbone, mut weights: Weights, device: &Device) -> Result<Self> {
        let network = weights.part(|name| name.starts_with("net."));
        Self::load(backbone, network, weights, device)
    }

    /// The network whose features are compared.
    pub fn backbone(&self) -> Backbone {
        self.backbone
    }

    /// The distance of every image of `a` from its partner in `b`. The images come in any range;
    /// grey ones are repeated to three channels.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the two do not hold as many images of the same size, or these
    /// are smaller than [`Backbone::least_side`].
    pub fn distance(&self, a: &ImageBatch, b: &ImageBatch) -> Result<Vec<f32>> {
        let layers = self.layers(a, b)?;
        Ok(layers.iter().map(|layers| layers.iter().sum()).collect())
    }

    /// The summands of [`Lpips::distance`]: for every pair one number for each tap.
    ///
    /// # Errors
    /// As [`Lpips::distance`].
    pub fn layers(&self, a: &ImageBatch, b: &ImageBatch) -> Result<Vec<Vec<f32>>> {
        let ([n, _, h, w], [n_b, _, h_b, w_b]) = (a.dims(), b.dims());
        if [n, h, w] != [n_b, h_b, w_b] {
            return Err(ImageError::Shape(format!(
                "LPIPS compares image by image: {n} of {w}×{h} pixels and {n_b} of {w_b}×{h_b}"
            )));
        }
        let (a, b) = (self.net.taps(scaled(a))?, self.net.taps(scaled(b))?);
        let mut values: Vec<Vec<f32>> = vec![vec![]; n];
        for ((a, b), head) in a.into_iter().zip(b).zip(&self.heads) {
            let change = unit(a).sub(unit(b)).square().permute([0, 3, 1, 2]);
            let map = head.forward(change); // [n, 1, h, w]
            let [_, _, h, w] = map.dims();
            let map = map.try_to_vec_as::<f32>().map_err(|error| {
                ImageError::Shape(format!("distances cannot be read back: {error}"))
            })?;
            for (row, pixels) in values.iter_mut().zip(map.chunks(h * w)) {
                let sum: f64 = pixels.iter().map(|pixel| f64::from(*pixel)).sum();
                row.push((sum / (h * w) as f64) as f32);
            }
        }
        Ok(values)
    }
}

impl Net {
    fn taps(&self, x: Tensor<4>) -> Result<Vec<Tensor<4>>> {
        match self {
            Self::Alex(net) => net.taps(x),
            Self::Vgg(net) => net.taps(x),
            Self::Squeeze(net) => net.taps(x),
        }
    }
}

/// Takes the scaling out of the heads' file, if it is there.
fn expect_scaling(heads: &mut Weights) -> Result<()> {
    for (name, expected) in ["scaling_layer.shift", "scaling_layer.scale"]
        .into_iter()
        .zip(SCALING)
    {
        if heads.contains(name) && heads.take(name, &[1, 3, 1, 1])? != expected {
            return Err(heads.refusal(format!("its {name} is not that of version 0.1")));
        }
    }
    Ok(())
}

/// RGB images as the networks want them.
fn scaled(images: &ImageBatch) -> Tensor<4> {
    let x = images.clone().to_range(Range::Signed).into_tensor();
    let x = match x.dims()[1] {
        1 => x.repeat_dim(1, 3),
        _ => x,
    };
    let [shift, scale] = SCALING;
    standardise(x, shift, scale)
}

/// The features of every pixel at length one: `[n, c, h, w] → [n, h, w, c]`.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let x = x.permute([0, 2, 3, 1]);
    let length = x.clone().square().sum_dim(3).sqrt(); // [n, h, w, 1]
    x.div(length.add_scalar(EPSILON))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

    /// Numbers between -0.05 and 0.05 in an order without pattern.
    fn numbers(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919) % 1013) as f32 / 10_130.0 - 0.05)
            .collect()
    }

    /// AlexNet under the names of the lpips package, with its heads.
    fn whole() -> Tensors {
        let mut tensors = Tensors::new();
        let layers = [(1, 0, 11), (2, 3, 5), (3, 6, 3), (4, 8, 3), (5, 10, 3)];
        let mut c = 3;
        for ((slice, layer, kernel), k) in layers.into_iter().zip(AlexNet::CHANNELS) {
            let name = format!("net.slice{slice}.{layer}");
            let shape = vec![k, c, kernel, kernel];
            let weight = numbers(shape.iter().product());
            tensors.insert(format!("{name}.weight"), (shape, weight));
            tensors.insert(format!("{name}.bias"), (vec![k], numbers(k)));
            let head = (vec![1, k, 1, 1], vec![0.5; k]);
            for lin in [format!("lin{}", slice - 1), format!("lins.{}", slice - 1)] {
                tensors.insert(format!("{lin}.model.1.weight"), head.clone());
            }
            c = k;
        }
        for (name, row) in ["shift", "scale"].into_iter().zip(SCALING) {
            let name = format!("scaling_layer.{name}");
            tensors.insert(name, (vec![1, 3, 1, 1], row.to_vec()));
        }
        tensors
    }

    fn load(tensors: Tensors) -> Result<Lpips> {
        Lpips::load_whole(
            Backbone::Alex,
            Weights::new("made here", tensors),
            &Device::flex(),
        )
    }

    fn batch(values: Vec<f32>, shape: [usize; 4], range: Range) -> ImageBatch {
        let x = Tensor::from_data(TensorData::new(values, shape), &Device::flex());
        ImageBatch::new(x, range).unwrap()
    }

    /// A grey image of 33 rows and 31 columns in the unit range.
    fn grey(turn: usize) -> Vec<f32> {
        (0..33 * 31)
            .map(|i| ((i * (3 + turn)) % 29) as f32 / 28.0)
            .collect()
    }

    #[test]
    fn the_features_of_a_pixel_get_length_one() {
        // 3, 4 → 0.6, 0.8, by hand; no features stay none.
        let x: Tensor<4> = Tensor::from_data(
            TensorData::new(vec![3.0f32, 0.0, 4.0, 0.0], [1, 2, 1, 2]),
            &Device::flex(),
        );
        let y = unit(x).try_to_vec_as::<f32>().unwrap();
        for (found, expected) in y.iter().zip([0.6, 0.8, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{y:?}");
        }
    }

    #[test]
    fn a_distance_is_that_of_the_package_whatever_the_range_the_channels_and_the_order() {
        let lpips = load(whole()).unwrap();
        let shape = [1, 1, 33, 31];
        let a = batch(grey(0), shape, Range::Unit);
        let b = batch(grey(2), shape, Range::Unit);
        let distance = lpips.distance(&a, &b).unwrap()[0];
        assert_eq!(lpips.distance(&a, &a).unwrap(), [0.0]);
        // lpips 0.1.4 in float64, with the same weights and images.
        let expected = [
            0.557_253_34,
            0.881_843_85,
            0.529_159_86,
            0.084_987_68,
            0.002_736_394,
        ];
        let layers = lpips.layers(&a, &b).unwrap();
        assert_eq!(layers[0].len(), expected.len());
        for (found, expected) in layers[0].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{layers:?}");
        }
        assert!((distance - 2.055_981).abs() < 3e-5, "{distance}");
        let colour = batch(
            [grey(0), grey(0), grey(0)].concat(),
            [1, 3, 33, 31],
            Range::Unit,
        );
        let bytes = b.clone().to_range(Range::Bytes);
        for other in [
            lpips.distance(&b, &a).unwrap(),
            lpips.distance(&colour, &b).unwrap(),
            lpips.distance(&a, &bytes).unwrap(),
        ] {
            assert!((other[0] - distance).abs() < 1e-4 * distance, "{other:?}");
        }
    }

    #[test]
    fn images_that_cannot_be_compared_are_refused() {
        let lpips = load(whole()).unwrap();
        let a = batch(grey(0), [1, 1, 33, 31], Range::Unit);
        let turned = batch(grey(0), [1, 1, 31, 33], Range::Unit);
        assert!(lpips.distance(&a, &turned).is_err());
        let small = batch(vec![0.5; 30 * 40], [1, 1, 30, 40], Range::Unit);
        assert!(lpips.distance(&small, &small).is_err());
    }

    #[test]
    fn other_weights_are_refused() {
        for (name, change) in [
            ("scaling_layer.shift", 1.0),
            ("lins.2.model.1.weight", 1.0),
            ("net.slice6.12.bias", 0.0),
            ("lin5.model.1.weight", 0.0),
        ] {
            let mut tensors = whole();
            let (_, values) = tensors
                .entry(name.to_owned())
                .or_insert_with(|| (vec![1], vec![0.0]));
            values[0] += change;
            assert!(load(tensors).is_err(), "{name}");
        }
        let mut without = whole();
        without.remove("lin0.model.1.weight");
        assert!(load(without).is_ok(), "the copy serves");
    }
}
