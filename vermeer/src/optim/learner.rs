//! A network in training: its weights, its optimizer, its average.

use burn::module::Module;
use burn::prelude::*;

use super::{Adam, AdamConfig, Average};
use crate::Result;
use crate::nn::{self, Gradients};
use crate::registry::TrainState;
use crate::run::TensorMap;

/// A network with its optimizer and, where wanted, its averaged weights.
#[derive(Debug)]
pub struct Learner<M: Module> {
    module: Option<M>,
    adam: Adam,
    average: Option<Average>,
    prefix: &'static str,
}

impl<M: Module> Learner<M> {
    /// A learner whose tensors are named `<prefix><path>` in checkpoints; a half-life of zero
    /// keeps no average.
    pub fn new(module: M, adam: AdamConfig, half_life_images: f64, prefix: &'static str) -> Self {
        let average = (half_life_images > 0.0).then(|| Average::new(half_life_images, &module));
        Self {
            module: Some(module),
            adam: Adam::new(adam),
            average,
            prefix,
        }
    }

    /// The network with gradients.
    pub fn module(&self) -> &M {
        self.module
            .as_ref()
            .expect("the module is only away while it is updated")
    }

    /// One update: clip, Adam, average. Returns the gradient norm before clipping.
    pub fn update(
        &mut self,
        mut gradients: Gradients,
        learning_rate: f64,
        clip: Option<f64>,
        images: usize,
    ) -> f64 {
        let norm = match clip {
            Some(limit) => gradients.clip(limit),
            None => gradients.norm(),
        };
        let module = self
            .module
            .take()
            .expect("the module is only away while it is updated");
        let module = self.adam.step(module, &gradients, learning_rate);
        if let Some(average) = &mut self.average {
            average.update(&module, images);
        }
        self.module = Some(module);
        norm
    }

    /// Replaces the network by what `change` makes of it, such as one with clipped weights.
    pub fn change(&mut self, change: impl FnOnce(M) -> M) {
        if let Some(module) = self.module.take() {
            self.module = Some(change(module));
        }
    }

    /// A copy for use: without gradients, with averaged weights where they are kept.
    pub fn for_use(&self) -> M {
        let module = self.module().valid();
        match &self.average {
            Some(average) => nn::unflatten(module, average.values()),
            None => module,
        }
    }

    /// Number of trained parameters; running statistics and fixed tables are not trained.
    pub fn parameters(&self) -> usize {
        nn::trained_parameters(self.module())
    }

    /// Adds its tensors to a checkpoint.
    pub fn save(&self, state: &mut TrainState) {
        let own = nn::state(&self.module().valid());
        if let Some(average) = &self.average {
            average.save(self.prefix, &own, &mut state.ema);
        }
        self.adam.save(self.prefix, &mut state.optimizer);
        state.model.extend(
            own.into_iter()
                .map(|(path, t)| (format!("{}{path}", self.prefix), t)),
        );
    }

    /// Takes its tensors from a checkpoint.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] when a tensor is missing, unused or of another shape.
    pub fn restore(&mut self, state: &TrainState, device: &Device) -> Result<()> {
        self.start_from(&state.model)?;
        self.adam.restore(self.prefix, &state.optimizer, device)?;
        if let Some(average) = &mut self.average {
            average.restore(self.prefix, &state.ema, self.adam.steps(), device);
        }
        self.check_restored()
    }

    /// Moments and averages belong to the parameters there are, and have their sizes.
    fn check_restored(&self) -> Result<()> {
        let own = nn::flatten(self.module());
        let fits = |path: &String, tensor: &Tensor<1>| {
            own.get(path).is_some_and(|t| t.dims() == tensor.dims())
        };
        let wrong = |file: &str, what: String| {
            let remedy = "resume from an older checkpoint, or start anew with --init-from";
            Err(crate::Error::checkpoint(file, what, remedy))
        };
        if let Some((path, _)) = self.adam.moments().find(|(path, t)| !fits(path, t)) {
            return wrong(
                "optimizer.safetensors",
                format!("the moments of {path} do not fit the network"),
            );
        }
        let Some(average) = &self.average else {
            return Ok(());
        };
        let averaged = average.values();
        if let Some((path, _)) = averaged.iter().find(|(path, t)| !fits(path, t)) {
            return wrong(
                "ema.safetensors",
                format!("{path} does not fit the network"),
            );
        }
        match own.keys().find(|path| !averaged.contains_key(*path)) {
            Some(path) => wrong("ema.safetensors", format!("{path} is missing")),
            None => Ok(()),
        }
    }

    /// Takes weights, leaving optimizer and average as new.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] when a tensor is missing, unused or of another shape.
    pub fn start_from(&mut self, weights: &TensorMap) -> Result<()> {
        let own = part(weights, self.prefix);
        let module = self
            .module
            .take()
            .expect("the module is only away while it is updated");
        let module = nn::load(module, &own, "model.safetensors".as_ref())?;
        if let Some(average) = &mut self.average {
            *average = average.restarted(&module);
        }
        self.module = Some(module);
        Ok(())
    }
}

/// The tensors whose names start with `prefix`, without it.
pub fn part(tensors: &TensorMap, prefix: &str) -> TensorMap {
    tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())))
        .collect()
}
