//! From PyTorch's names and layouts to ours.

use burn::module::Module;

use crate::nn::pytorch_names;
use crate::run::{NamedTensor, TensorMap};
use crate::{Error, Result};

/// The tensors of `module` taken from a PyTorch state dict.
///
/// `rename` turns our path of a tensor, already with PyTorch's last word (`weight` for `gamma`),
/// into its name in the file. Linear weights are transposed. `num_batches_tracked` counters are
/// ignored.
///
/// # Errors
/// [`Error::Checkpoint`] naming every missing and every unused tensor.
pub fn from_pytorch<M: Module>(
    module: &M,
    tensors: &TensorMap,
    rename: impl Fn(&str) -> String,
) -> Result<TensorMap> {
    let mut found = TensorMap::new();
    let mut used = std::collections::BTreeSet::new();
    let mut wrong = vec![];
    for (path, foreign, transposed) in pytorch_names(module) {
        let name = rename(&foreign);
        match tensors.get(&name) {
            Some(tensor) => {
                let tensor = if transposed {
                    transpose(tensor)
                } else {
                    tensor.clone()
                };
                found.insert(path, tensor);
                used.insert(name);
            }
            None => wrong.push(format!("{name} is missing")),
        }
    }
    let spare = |name: &&String| !used.contains(*name) && !name.ends_with("num_batches_tracked");
    wrong.extend(
        tensors
            .keys()
            .filter(spare)
            .map(|name| format!("{name} has no place in the network")),
    );
    match wrong.is_empty() {
        true => Ok(found),
        false => Err(Error::checkpoint(
            "weights",
            wrong.join("; "),
            "import only files of networks that `vermeer models describe` lists, with their own settings",
        )),
    }
}

fn transpose(tensor: &NamedTensor) -> NamedTensor {
    let [rows, columns] = tensor.shape[..] else {
        return tensor.clone();
    };
    let mut data = Vec::with_capacity(tensor.data.len());
    for column in 0..columns {
        data.extend((0..rows).map(|row| tensor.data[row * columns + column]));
    }
    NamedTensor {
        shape: vec![columns, rows],
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Init, Law};
    use burn::prelude::Device;

    fn tensor(shape: &[usize], data: &[f32]) -> NamedTensor {
        NamedTensor {
            shape: shape.to_vec(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn linear_weights_are_transposed_and_leftovers_named() {
        let layer = Init::blank(&Device::flex()).linear(3, 2, Law::FanIn);
        let mut file = TensorMap::from([
            (
                "fc.weight".into(),
                tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ),
            ("fc.bias".into(), tensor(&[2], &[7.0, 8.0])),
        ]);
        let own = from_pytorch(&layer, &file, |name| format!("fc.{name}")).unwrap();
        assert_eq!(
            own["weight"],
            tensor(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
        );
        file.insert("fc2.weight".into(), tensor(&[1], &[0.0]));
        file.remove("fc.bias");
        let error = from_pytorch(&layer, &file, |name| format!("fc.{name}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("fc.bias is missing") && error.contains("fc2.weight has no place"),
            "{error}"
        );
    }
}
