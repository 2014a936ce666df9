//! Adam and AdamW.

use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_kernels::adam;
use vermeer_kernels::update::AdamUpdate;

use crate::nn::{Gradients, Named, Path};
use crate::run::{NamedTensor, TensorMap};
use crate::{Error, Result};

/// Settings of [`Adam`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, 1e-8 (Burn's own Adam uses 1e-5).
    pub epsilon: f64,
    /// Decoupled weight decay (AdamW); zero is plain Adam.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019).
///
/// ```text
/// m ← β₁m + (1 − β₁)g       v ← β₂v + (1 − β₂)g²
/// θ ← θ − lr·λ·θ
/// θ ← θ − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    first: Named,
    second: Named,
    step: u64,
}

impl Adam {
    /// An optimizer without history.
    pub fn new(config: AdamConfig) -> Self {
        Self {
            config,
            first: Named::new(),
            second: Named::new(),
            step: 0,
        }
    }

    /// Number of updates made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments of every parameter that has had a gradient.
    pub fn moments(&self) -> impl Iterator<Item = (&String, &Tensor<1>)> {
        self.first.iter().chain(&self.second)
    }

    /// One update of every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, module: M, gradients: &Gradients, learning_rate: f64) -> M {
        self.step += 1;
        let mut mapper = Update {
            adam: self,
            gradients: gradients.named(),
            learning_rate,
            path: Path::default(),
        };
        module.map(&mut mapper)
    }

    /// The moments as tensors named `<prefix>first.<path>` and `<prefix>second.<path>`, and the
    /// number of steps as `<prefix>step` (two halves of 24 bits, exact in f32).
    pub fn save(&self, prefix: &str, into: &mut TensorMap) {
        for (name, moments) in [("first", &self.first), ("second", &self.second)] {
            for (path, tensor) in moments {
                let data = crate::nn::host(tensor.clone());
                let shape = vec![data.len()];
                into.insert(
                    format!("{prefix}{name}.{path}"),
                    NamedTensor { shape, data },
                );
            }
        }
        let halves = vec![(self.step >> 24) as f32, (self.step & 0xff_ffff) as f32];
        into.insert(
            format!("{prefix}step"),
            NamedTensor {
                shape: vec![2],
                data: halves,
            },
        );
    }

    /// Takes back what [`Adam::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the step count or a second moment is missing.
    pub fn restore(&mut self, prefix: &str, from: &TensorMap, device: &Device) -> Result<()> {
        let device = device.clone().without_autodiff();
        let missing = |what: String| {
            Error::checkpoint(
                "optimizer.safetensors",
                format!("{what} is missing"),
                "resume from an older checkpoint",
            )
        };
        let step = from
            .get(&format!("{prefix}step"))
            .ok_or_else(|| missing(format!("{prefix}step")))?;
        let [high, low] = step.data[..] else {
            return Err(missing(format!("{prefix}step")));
        };
        self.step = ((high as u64) << 24) | low as u64;
        self.first.clear();
        self.second.clear();
        let (first, second) = (format!("{prefix}first."), format!("{prefix}second."));
        for (name, tensor) in from {
            let target = match (name.strip_prefix(&first), name.strip_prefix(&second)) {
                (Some(path), _) => self.first.entry(path.to_string()),
                (_, Some(path)) => self.second.entry(path.to_string()),
                _ => continue,
            };
            let data = TensorData::new(tensor.data.clone(), [tensor.data.len()]);
            target.insert_entry(Tensor::from_data(data, &device));
        }
        match self
            .first
            .keys()
            .find(|path| !self.second.contains_key(*path))
        {
            Some(path) => Err(missing(format!("{second}{path}"))),
            None => Ok(()),
        }
    }
}

struct Update<'a> {
    adam: &'a mut Adam,
    gradients: &'a Named,
    learning_rate: f64,
    path: Path,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.text();
        let Some(g) = self.gradients.get(&path) else {
            return param;
        };
        let AdamConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.adam.config;
        let (lr, t) = (self.learning_rate, self.adam.step as i32);
        let zeros = |moment: Option<Tensor<1>>| moment.unwrap_or_else(|| g.zeros_like());
        let moments = [
            zeros(self.adam.first.remove(&path)),
            zeros(self.adam.second.remove(&path)),
        ];
        let update = AdamUpdate {
            beta1,
            beta2,
            epsilon: epsilon as f32,
            keep: (1.0 - lr * weight_decay) as f32,
            rate: (lr / (1.0 - beta1.powi(t))) as f32,
            correction: (1.0 - beta2.powi(t)) as f32,
        };
        let old = param.val().inner().reshape([-1]);
        let [new, first, second] = adam(old, moments, g.clone(), update);
        self.adam.first.insert(path.clone(), first);
        self.adam.second.insert(path, second);
        crate::nn::assign(param, new)
    }
}
