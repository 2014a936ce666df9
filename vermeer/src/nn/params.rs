//! The parameters of a module by path: reading, loading, gradients.
//!
//! Burn keys gradients and optimizer state by a random id. Paths such as `encoder.conv1.weight`
//! are what checkpoints keep, so they are the keys here.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::{Gradients as Tape, TensorData};
use vermeer_kernels::sum_of_squares;

use crate::run::{NamedTensor, TensorMap};
use crate::{Error, Result};

/// Flat tensors by parameter path.
pub type Named = BTreeMap<String, Tensor<1>>;

/// The place of a visitor in the tree of a module, as checkpoints name it: field names and
/// indices; the variant of an enum of networks adds nothing.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_string());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.join(".")
    }
}

/// The values of every parameter and running statistic, read back to the host.
pub fn state<M: Module>(module: &M) -> TensorMap {
    let read = |(path, (shape, tensor)): (String, (Vec<usize>, Tensor<1>))| {
        (
            path,
            NamedTensor {
                shape,
                data: host(tensor),
            },
        )
    };
    shaped(module).into_iter().map(read).collect()
}

/// The values of every parameter and running statistic as flat tensors without gradients.
pub fn flatten<M: Module>(module: &M) -> Named {
    shaped(module)
        .into_iter()
        .map(|(path, (_, tensor))| (path, tensor))
        .collect()
}

fn shaped<M: Module>(module: &M) -> BTreeMap<String, (Vec<usize>, Tensor<1>)> {
    struct Reader(Path, BTreeMap<String, (Vec<usize>, Tensor<1>)>);
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.0.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val().inner();
            let shape = tensor.dims().to_vec();
            self.1.insert(self.0.text(), (shape, tensor.reshape([-1])));
        }
    }
    let mut reader = Reader(Path::default(), BTreeMap::new());
    module.visit(&mut reader);
    reader.1
}

/// The module with every parameter and running statistic replaced by `tensors`.
///
/// # Errors
/// [`Error::Checkpoint`] naming `origin` when a tensor is missing, unused, of another shape
/// or not finite.
pub fn load<M: Module>(module: M, tensors: &TensorMap, origin: &std::path::Path) -> Result<M> {
    struct Writer<'a> {
        path: Path,
        tensors: &'a TensorMap,
        used: usize,
        wrong: Vec<String>,
    }
    impl ModuleMapper for Writer<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = self.path.text();
            let Some(tensor) = self.tensors.get(&path) else {
                self.wrong.push(format!("{path} is missing"));
                return param;
            };
            self.used += 1;
            let shape = param.lazy_shape();
            if tensor.shape[..] != shape[..] {
                self.wrong.push(format!(
                    "{path} has shape {:?} where {:?} is needed",
                    tensor.shape,
                    &shape[..]
                ));
                return param;
            }
            if tensor.data.iter().any(|v| !v.is_finite()) {
                self.wrong
                    .push(format!("{path} holds a value that is not finite"));
                return param;
            }
            replace(
                param,
                TensorData::new(tensor.data.clone(), tensor.shape.clone()),
            )
        }
    }
    let mut writer = Writer {
        path: Path::default(),
        tensors,
        used: 0,
        wrong: Vec::new(),
    };
    let module = module.map(&mut writer);
    let (used, mut wrong) = (writer.used, writer.wrong);
    if used < tensors.len() {
        let own = state(&module);
        wrong.extend(
            tensors
                .keys()
                .filter(|k| !own.contains_key(*k))
                .map(|k| format!("{k} is not used by the network")),
        );
    }
    match wrong.is_empty() {
        true => Ok(module),
        false => {
            let more = wrong.len().saturating_sub(5);
            wrong.truncate(5);
            let mut reason = wrong.join("; ");
            if more > 0 {
                reason += &format!("; and {more} more");
            }
            Err(Error::checkpoint(
                origin,
                reason,
                "use the settings the weights were trained with",
            ))
        }
    }
}

/// The module with every parameter and running statistic replaced by flat tensors of the same
/// paths; parameters that `values` lacks stay as they are.
pub fn unflatten<M: Module>(module: M, values: &Named) -> M {
    struct Writer<'a>(Path, &'a Named);
    impl ModuleMapper for Writer<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.0.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.1.get(&self.0.text()) {
                Some(value) => assign(param, value.clone()),
                None => param,
            }
        }
    }
    module.map(&mut Writer(Path::default(), values))
}

/// The number of parameters a module trains, without running statistics and fixed tables.
pub fn trained_parameters<M: Module>(module: &M) -> usize {
    struct Counter(usize);
    impl ModuleVisitor for Counter {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.lazy_shape().num_elements();
            }
        }
    }
    let mut counter = Counter(0);
    module.visit(&mut counter);
    counter.0
}

/// For every tensor of the module: its path here, its name in a PyTorch state dict, and
/// whether the two layouts are transposes of each other (`Linear.weight`).
pub fn pytorch_names<M: Module>(module: &M) -> Vec<(String, String, bool)> {
    struct Namer(Vec<(String, String)>, Vec<(String, String, bool)>);
    impl ModuleVisitor for Namer {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.push((name.to_string(), container.to_string()));
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
            let fields = self
                .0
                .iter()
                .filter(|(_, container)| !container.starts_with("Enum:"));
            let names: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
            let path = names.join(".");
            let (last, container) = match self.0.last() {
                Some((name, container)) => (name.as_str(), container.as_str()),
                None => ("", ""),
            };
            let foreign = match last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
            let mut parts = names;
            parts.pop();
            parts.push(foreign);
            self.1.push((
                path,
                parts.join("."),
                container == "Struct:Linear" && last == "weight",
            ));
        }
    }
    let mut namer = Namer(Vec::new(), Vec::new());
    module.visit(&mut namer);
    namer.1
}

/// The gradients of one backward pass, or the sum of several, by parameter path.
#[derive(Clone, Debug, Default)]
pub struct Gradients(Named);

impl Gradients {
    /// Takes the gradients of the parameters of `module` from a backward pass.
    pub fn take<M: Module>(tape: &mut Tape, module: &M) -> Self {
        struct Reader<'a>(Path, &'a mut Tape, Named);
        impl ModuleVisitor for Reader<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.0.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, container: &str) {
                self.0.exit(container);
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some(grad) = param.val().grad_remove(self.1) {
                    self.2.insert(self.0.text(), grad.inner().reshape([-1]));
                }
            }
        }
        let mut reader = Reader(Path::default(), tape, Named::new());
        module.visit(&mut reader);
        Self(reader.2)
    }

    /// Adds the gradients of another pass.
    pub fn add(&mut self, other: Self) {
        for (path, grad) in other.0 {
            let sum = match self.0.remove(&path) {
                Some(old) => old.add(grad),
                None => grad,
            };
            self.0.insert(path, sum);
        }
    }

    /// Multiplies every gradient by `factor`.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        if factor == 1.0 {
            return self;
        }
        Self(
            self.0
                .into_iter()
                .map(|(path, grad)| (path, grad.mul_scalar(factor)))
                .collect(),
        )
    }

    /// The Euclidean norm over all parameters.
    pub fn norm(&self) -> f64 {
        let sums = self.0.values().map(|g| sum_of_squares(g.clone()));
        match sums.reduce(Tensor::add) {
            Some(total) => f64::from(total.into_scalar::<f32>()).sqrt(),
            None => 0.0,
        }
    }

    /// Scales all gradients so that their common norm is at most `limit`, as
    /// `torch.nn.utils.clip_grad_norm_` does (1e-6 in the denominator); returns the norm before.
    pub fn clip(&mut self, limit: f64) -> f64 {
        let norm = self.norm();
        let factor = limit / (norm + 1e-6);
        if factor < 1.0 {
            *self = std::mem::take(self).scale(factor);
        }
        norm
    }

    /// The flat gradients by path.
    pub fn named(&self) -> &Named {
        &self.0
    }
}

/// Reads a tensor back to the host as f32.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("the data were converted to f32")
}

fn replace<const D: usize>(param: Param<Tensor<D>>, data: TensorData) -> Param<Tensor<D>> {
    param.map(|old| {
        let tensor = Tensor::from_data(data, &old.device());
        match old.is_require_grad() {
            true => tensor.require_grad(),
            false => tensor,
        }
    })
}

pub(crate) fn assign<const D: usize>(param: Param<Tensor<D>>, flat: Tensor<1>) -> Param<Tensor<D>> {
    param.map(|old| {
        let value = flat.reshape(old.dims());
        match old.is_autodiff() {
            true if old.is_require_grad() => Tensor::from_inner(value).require_grad(),
            true => Tensor::from_inner(value),
            false => value,
        }
    })
}
