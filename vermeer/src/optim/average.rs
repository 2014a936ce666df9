//! Averaged weights.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::mix;

use crate::nn::{Named, flatten};
use crate::run::{NamedTensor, TensorMap};

/// An exponential moving average of a model's weights, which generates better images than the
/// last iterate (Polyak and Juditsky, 1992; the half-life in images is Karras et al., 2018).
///
/// The decay of a step of `b` images is 0.5^(b / half-life), and at most (1 + t)/(10 + t) at
/// step t, so that the random start is forgotten early.
#[derive(Clone, Debug)]
pub struct Average {
    half_life_images: f64,
    values: Named,
    step: u64,
}

impl Average {
    /// An average that starts at the weights of `module`.
    pub fn new<M: Module>(half_life_images: f64, module: &M) -> Self {
        Self {
            half_life_images,
            values: flatten(module),
            step: 0,
        }
    }

    /// Moves the average towards the weights of `module` after a step of `images` images.
    pub fn update<M: Module>(&mut self, module: &M, images: usize) {
        self.step += 1;
        let warm = (1.0 + self.step as f64) / (10.0 + self.step as f64);
        let decay = 0.5f64.powf(images as f64 / self.half_life_images).min(warm);
        for (path, new) in flatten(module) {
            let mixed = match self.values.remove(&path) {
                Some(old) => mix(old, new, decay),
                None => new,
            };
            self.values.insert(path, mixed);
        }
    }

    /// The same average, starting anew at the weights of `module`.
    #[must_use]
    pub fn restarted<M: Module>(&self, module: &M) -> Self {
        Self::new(self.half_life_images, module)
    }

    /// The averaged weights as flat tensors by path.
    pub fn values(&self) -> &Named {
        &self.values
    }

    /// Writes the averages, named by `<prefix><path>`, shaped as in `like`.
    pub fn save(&self, prefix: &str, like: &TensorMap, into: &mut TensorMap) {
        for (path, tensor) in &self.values {
            let data = crate::nn::host(tensor.clone());
            let shape = like
                .get(path)
                .map_or_else(|| vec![data.len()], |t| t.shape.clone());
            into.insert(format!("{prefix}{path}"), NamedTensor { shape, data });
        }
    }

    /// Takes back what [`Average::save`] wrote; `step` is the number of updates it had seen.
    pub fn restore(&mut self, prefix: &str, from: &TensorMap, step: u64, device: &Device) {
        let device = device.clone().without_autodiff();
        self.step = step;
        self.values = from
            .iter()
            .filter_map(|(name, tensor)| {
                let path = name.strip_prefix(prefix)?;
                let data = TensorData::new(tensor.data.clone(), [tensor.data.len()]);
                Some((path.to_string(), Tensor::from_data(data, &device)))
            })
            .collect();
    }
}
