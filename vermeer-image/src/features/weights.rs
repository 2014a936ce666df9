//! Weights of a network that is not trained here: named tensors from a file, handed out by name
//! and shape.
//!
//! Nothing is guessed: a tensor that is missing, has another shape or is left over is an error.
//! Batch normalisation is folded into the convolution before it. With its scale γ, shift β,
//! running mean μ, running variance v and ε, and the convolution's weight W and bias b,
//!
//! ```text
//! W' = W · γ / √(v + ε)        b' = (b − μ) · γ / √(v + ε) + β
//! ```
//!
//! in f64 for every channel, rounded once to f32.

use std::collections::BTreeMap;

use burn::module::{Param, ParamId};
use burn::prelude::*;
use sha2::{Digest, Sha256};
use vermeer_kernels::ConvOptions;
use vermeer_kernels::nn::Conv2d;

use crate::{ImageError, Result};

const REMEDY: &str = "give the weights of the network that was asked for";

/// PyTorch counts batches of its normalisations in tensors of this name; they take no part in
/// what a network computes.
const COUNTS: &str = "num_batches_tracked";

/// Tensors by name: the length of each axis, and the values row by row.
#[derive(Clone, Debug)]
pub struct Weights {
    source: String,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// A convolution and the batch normalisation after it, by name.
pub(super) struct NormedConv<'a> {
    pub(super) conv: &'a str,
    pub(super) norm: &'a str,
    /// Whether the convolution has a bias of its own.
    pub(super) bias: bool,
    pub(super) epsilon: f64,
}

impl Weights {
    /// The tensors of `source`, which errors name: a path, or what stands for one.
    pub fn new(
        source: impl Into<String>,
        tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ) -> Self {
        Self {
            source: source.into(),
            tensors,
        }
    }

    /// Where the tensors come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the tensors, sorted by name: the same for the same weights in any file format.
    ///
    /// Of each tensor it reads the length of the name and the name, the number of axes and their
    /// lengths, then the values; lengths are u64 and values f32, little-endian. Counts of batches
    /// (`num_batches_tracked`) are left out.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let length = |n: usize| (n as u64).to_le_bytes();
        for (name, (shape, values)) in &self.tensors {
            if is_count(name) {
                continue;
            }
            hash.update(length(name.len()));
            hash.update(name.as_bytes());
            hash.update(length(shape.len()));
            for axis in shape {
                hash.update(length(*axis));
            }
            for part in values.chunks(1 << 14) {
                let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
                hash.update(bytes);
            }
        }
        let sum = hash.finalize();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes out the values of the tensor `name`, row by row.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when there is no such tensor, or it has another shape than
    /// `shape`, or it holds a value that is not finite.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some((found, values)) = self.tensors.remove(name) else {
            return Err(self.refusal(format!(
                "it has no tensor {name} of shape {shape:?} for this network"
            )));
        };
        if found != shape || values.len() != shape.iter().product::<usize>() {
            return Err(self.refusal(format!(
                "its tensor {name} has the shape {found:?} and {} values, this network needs {shape:?}",
                values.len()
            )));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.refusal(format!("its tensor {name} holds {value}"))),
            None => Ok(values),
        }
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Ends the loading of a network.
    ///
    /// # Errors
    /// [`ImageError::Refused`] with the names of tensors that the network did not take, apart
    /// from counts of batches.
    pub fn finish(self) -> Result<()> {
        const NAMED: usize = 5;
        let left: Vec<&str> = self
            .tensors
            .keys()
            .filter(|name| !is_count(name))
            .map(String::as_str)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let more = match left.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = left[..left.len().min(NAMED)].join(", ");
        Err(self.refusal(format!(
            "it holds tensors that this network does not have: {named}{more}"
        )))
    }

    /// A refusal of the whole file.
    pub(crate) fn refusal(&self, reason: impl Into<String>) -> ImageError {
        ImageError::refused(&self.source, reason, REMEDY)
    }

    /// Takes out the tensors whose names are wanted.
    pub(crate) fn part(&mut self, wanted: impl Fn(&str) -> bool) -> Self {
        let all = std::mem::take(&mut self.tensors);
        let (part, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(name, _)| wanted(name));
        self.tensors = rest;
        Self::new(self.source.clone(), part)
    }

    /// The same tensors under other names.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when two tensors get the same name.
    pub(super) fn renamed(self, rename: impl Fn(&str) -> String) -> Result<Self> {
        let mut renamed = Self::new(self.source, BTreeMap::new());
        for (name, tensor) in self.tensors {
            let new = rename(&name);
            if renamed.tensors.insert(new.clone(), tensor).is_some() {
                return Err(renamed.refusal(format!("it holds the tensor {new} twice")));
            }
        }
        Ok(renamed)
    }

    /// The tensors of a torchvision network under torchvision's names, whether they come so
    /// (`features.10.weight`) or as LPIPS calls them (`net.slice3.10.weight`).
    ///
    /// # Errors
    /// [`ImageError::Refused`] when a tensor comes under both names.
    pub(super) fn torchvision(self) -> Result<Self> {
        self.renamed(|name| {
            let inner = name.strip_prefix("net.").unwrap_or(name);
            let slice = inner.strip_prefix("slice");
            match slice.and_then(|rest| rest.split_once('.')) {
                Some((_, layer)) => format!("features.{layer}"),
                None => name.to_owned(),
            }
        })
    }

    /// Leaves out the tensor `copy`, which repeats the tensor `of`; where only the copy is there,
    /// it takes that name.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when the two differ.
    pub(crate) fn leave_out_copy(&mut self, copy: &str, of: &str) -> Result<()> {
        let Some(tensor) = self.tensors.remove(copy) else {
            return Ok(());
        };
        match self.tensors.get(of) {
            None => {
                self.tensors.insert(of.to_owned(), tensor);
                Ok(())
            }
            Some(first) if *first == tensor => Ok(()),
            Some(_) => Err(self.refusal(format!("its tensors {of} and {copy} differ"))),
        }
    }

    /// Takes out a tensor, on the device.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        device: &Device,
    ) -> Result<Tensor<D>> {
        let values = self.take(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// A convolution with a bias; its weight has the shape `[k, c, kh, kw]`.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(super) fn conv(
        &mut self,
        name: &str,
        shape: [usize; 4],
        options: ConvOptions,
        device: &Device,
    ) -> Result<Conv2d> {
        let weight = self.tensor(&format!("{name}.weight"), shape, device)?;
        let bias = self.tensor(&format!("{name}.bias"), [shape[0]], device)?;
        Ok(Conv2d {
            weight: param(weight),
            bias: Some(Param::initialized(ParamId::new(), bias)),
            options,
        })
    }

    /// A linear layer with a bias over whole images `[c, h, w]`, as the convolution it is: its
    /// weight `[k, c · h · w]` is read as `[k, c, h, w]`.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(super) fn linear(
        &mut self,
        name: &str,
        [k, c, h, w]: [usize; 4],
        device: &Device,
    ) -> Result<Conv2d> {
        let weight = self.tensor(&format!("{name}.weight"), [k, c * h * w], device)?;
        let bias = self.tensor(&format!("{name}.bias"), [k], device)?;
        Ok(Conv2d {
            weight: param(weight.reshape([k, c, h, w])),
            bias: Some(Param::initialized(ParamId::new(), bias)),
            options: ConvOptions::default(),
        })
    }

    /// A convolution with the batch normalisation after it folded in.
    ///
    /// # Errors
    /// As [`Weights::take`], and when a variance with epsilon is not positive.
    pub(super) fn normed_conv(
        &mut self,
        of: &NormedConv<'_>,
        shape: [usize; 4],
        options: ConvOptions,
        device: &Device,
    ) -> Result<Conv2d> {
        let k = shape[0];
        let mut weight = self.take(&format!("{}.weight", of.conv), &shape)?;
        let mut bias = match of.bias {
            true => self.take(&format!("{}.bias", of.conv), &[k])?,
            false => vec![0.0; k],
        };
        let mut row = |name: &str| self.take(&format!("{}.{name}", of.norm), &[k]);
        let (gamma, beta) = (row("weight")?, row("bias")?);
        let (mean, variance) = (row("running_mean")?, row("running_var")?);
        if variance.iter().any(|v| f64::from(*v) + of.epsilon <= 0.0) {
            return Err(self.refusal(format!("{}.running_var is not positive", of.norm)));
        }
        let filter = shape[1..].iter().product::<usize>().max(1);
        for (i, weights) in weight.chunks_mut(filter).enumerate() {
            let scale = f64::from(gamma[i]) / (f64::from(variance[i]) + of.epsilon).sqrt();
            for value in weights {
                *value = (f64::from(*value) * scale) as f32;
            }
            let centred = f64::from(bias[i]) - f64::from(mean[i]);
            bias[i] = (centred * scale + f64::from(beta[i])) as f32;
        }
        let weight = Tensor::from_data(TensorData::new(weight, shape), device);
        let bias: Tensor<1> = Tensor::from_data(TensorData::new(bias, [k]), device);
        Ok(Conv2d {
            weight: param(weight),
            bias: Some(Param::initialized(ParamId::new(), bias)),
            options,
        })
    }
}

/// A weight as a layer holds it.
pub(super) fn param(weight: Tensor<4>) -> Param<Tensor<4>> {
    Param::initialized(ParamId::new(), weight)
}

/// A convolution of step one whose result has the size of its input.
pub(super) fn same([kh, kw]: [usize; 2]) -> ConvOptions {
    ConvOptions {
        padding: [kh / 2, kw / 2],
        ..ConvOptions::default()
    }
}

fn is_count(name: &str) -> bool {
    name.rsplit('.').next() == Some(COUNTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, shape and values.
    type Row<'a> = (&'a str, &'a [usize], &'a [f32]);

    fn weights(tensors: &[Row<'_>]) -> Weights {
        let tensors = tensors
            .iter()
            .map(|(name, shape, values)| ((*name).to_owned(), (shape.to_vec(), values.to_vec())))
            .collect();
        Weights::new("made by hand", tensors)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn a_sum_is_of_names_shapes_and_values() {
        // Python 3.11, hashlib and struct, over the bytes that the documentation lists.
        let sum = "e9d604391c2f2dc98c76658a2ca25ad8ca1f8e880e19a598bfaec77d3d560cfb";
        let both: [Row<'_>; 2] = [("b.c", &[1, 1], &[0.5]), ("a", &[2], &[1.0, -2.0])];
        assert_eq!(weights(&both).sha256(), sum);
        let counted: [Row<'_>; 3] = [both[0], both[1], ("a.num_batches_tracked", &[], &[7.0])];
        assert_eq!(weights(&counted).sha256(), sum);
        let moved: [Row<'_>; 2] = [both[0], ("a", &[1, 2], &[1.0, -2.0])];
        assert_ne!(weights(&moved).sha256(), sum);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let all: [Row<'_>; 4] = [
            ("a", &[2], &[1.0, 2.0]),
            ("n.num_batches_tracked", &[], &[3.0]),
            ("bad", &[1], &[f32::NAN]),
            ("short", &[3], &[1.0]),
        ];
        let mut held = weights(&all);
        for (name, shape) in [("b", [2]), ("bad", [1]), ("short", [3])] {
            let message = held.take(name, &shape).unwrap_err().to_string();
            assert!(message.contains("made by hand"), "{message}");
            assert!(message.contains(name), "{message}");
        }
        let message = held.clone().finish().unwrap_err().to_string();
        assert!(message.contains("does not have: a;"), "{message}");
        let message = held.clone().take("a", &[1, 2]).unwrap_err().to_string();
        assert!(
            message.contains("[2]") && message.contains("[1, 2]"),
            "{message}"
        );
        assert_eq!(held.take("a", &[2]).unwrap(), [1.0, 2.0]);
        held.finish().unwrap();
    }

    #[test]
    fn names_of_lpips_become_those_of_torchvision() {
        let held = weights(&[
            ("net.slice2.3.squeeze.weight", &[1], &[1.0]),
            ("features.0.bias", &[1], &[2.0]),
            ("classifier.0.bias", &[1], &[3.0]),
        ]);
        let held = held.torchvision().unwrap();
        let names: Vec<&str> = held.tensors.keys().map(String::as_str).collect();
        let expected = [
            "classifier.0.bias",
            "features.0.bias",
            "features.3.squeeze.weight",
        ];
        assert_eq!(names, expected);
        let twice = weights(&[
            ("net.slice1.0.bias", &[1], &[1.0]),
            ("features.0.bias", &[1], &[1.0]),
        ]);
        assert!(twice.torchvision().is_err());
    }

    #[test]
    fn copies_are_left_out_and_differences_refused() {
        let mut held = weights(&[
            ("x", &[1], &[1.0]),
            ("copy", &[1], &[1.0]),
            ("other", &[1], &[2.0]),
            ("alone", &[1], &[3.0]),
        ]);
        held.leave_out_copy("copy", "x").unwrap();
        held.leave_out_copy("absent", "x").unwrap();
        held.leave_out_copy("alone", "y").unwrap();
        assert_eq!(held.take("y", &[1]).unwrap(), [3.0]);
        assert!(held.leave_out_copy("other", "x").is_err());
    }

    #[test]
    fn normalisation_folds_into_the_convolution() {
        // γ / √(v + ε) is 2 / √(3 + 1) = 1 and 3 / √(0 + 1) = 3;
        // biases (10 − 4) · 1 + 0.5 and (20 − 1) · 3 − 7, by hand.
        let mut held = weights(&[
            ("c.weight", &[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
            ("c.bias", &[2], &[10.0, 20.0]),
            ("n.weight", &[2], &[2.0, 3.0]),
            ("n.bias", &[2], &[0.5, -7.0]),
            ("n.running_mean", &[2], &[4.0, 1.0]),
            ("n.running_var", &[2], &[3.0, 0.0]),
        ]);
        let of = NormedConv {
            conv: "c",
            norm: "n",
            bias: true,
            epsilon: 1.0,
        };
        let options = ConvOptions::default();
        let device = Device::flex();
        let negative = NormedConv { epsilon: 0.0, ..of };
        assert!(
            held.clone()
                .normed_conv(&negative, [2, 1, 1, 2], options, &device)
                .is_err()
        );
        let conv = held
            .normed_conv(&of, [2, 1, 1, 2], options, &device)
            .unwrap();
        assert_eq!(values(conv.weight.val()), [1.0, 2.0, 9.0, 12.0]);
        assert_eq!(values(conv.bias.unwrap().val()), [6.5, 50.0]);
        held.finish().unwrap();
    }

    #[test]
    fn a_linear_layer_reads_channels_then_rows_then_columns() {
        // PyTorch flattens [c, h, w] so: 1·1 + 2·10 + 3·100 + 4·1000 + 0.5, by hand.
        let mut held = weights(&[
            ("f.weight", &[1, 4], &[1.0, 10.0, 100.0, 1000.0]),
            ("f.bias", &[1], &[0.5]),
        ]);
        let device = Device::flex();
        let layer = held.linear("f", [1, 2, 1, 2], &device).unwrap();
        let x: Tensor<4> = Tensor::from_data(
            TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0], [1, 2, 1, 2]),
            &device,
        );
        let y = layer.forward(x);
        assert_eq!(y.dims(), [1, 1, 1, 1]);
        assert_eq!(values(y), [4321.5]);
    }
}
