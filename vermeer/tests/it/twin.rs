//! A file of `testdata/twins`: what the PyTorch twin of a family computes in float64, and how
//! close the library has to come. `tools/reference/README.md` says what such a file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::prelude::*;
use serde_json::Value;
use vermeer::optim::part;
use vermeer::run::{NamedTensor, TensorMap, read_safetensors};

/// Relative tolerance of outputs, losses and gradients. PyTorch in float32 is at most 7.5e-6
/// away from the stored values.
pub(crate) const CLOSE: f64 = 1e-4;

/// Relative tolerance of parameters and running statistics after three optimizer steps. PyTorch
/// in float32 is at most 1.6e-4 away (`qkv.bias`, a third of which has no gradient but rounding).
pub(crate) const AFTER_STEPS: f64 = 1e-3;

/// The same distance as a share of the way the reference went. The scales of normalisation go
/// less than 1e-3 of their norm in three steps, so without this a step left out (a third of the
/// way) would not show there. PyTorch in float32 is at most 0.08 away, again in `qkv.bias`.
const OF_THE_WAY: f64 = 0.25;

/// Gradients smaller than this share of the network's largest carry no digits in float32.
const FLOOR: f64 = 1e-4;

/// One fixture.
pub(crate) struct Twin {
    case: String,
    tensors: TensorMap,
    /// What the twin was made with.
    pub(crate) settings: Value,
}

impl Twin {
    pub(crate) fn open(case: &str) -> Self {
        let (tensors, texts) = read_safetensors(&file(case)).unwrap();
        let settings = serde_json::from_str(&texts["settings"]).unwrap();
        Self {
            case: case.to_owned(),
            tensors,
            settings,
        }
    }

    pub(crate) fn named(&self, name: &str) -> &NamedTensor {
        let Some(tensor) = self.tensors.get(name) else {
            panic!("{} holds no {name}", self.case);
        };
        tensor
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        on_device(self.named(name), device)
    }

    /// The tensors whose names start with `prefix`, without it.
    pub(crate) fn group(&self, prefix: &str) -> TensorMap {
        part(&self.tensors, prefix)
    }

    /// A whole number of the settings.
    pub(crate) fn size(&self, pointer: &str) -> usize {
        whole(self.settings.pointer(pointer).unwrap())
    }

    /// A number of the settings.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.settings.pointer(pointer).unwrap().as_f64().unwrap()
    }

    /// Fails unless `ours` is within `tolerance` of the stored tensor `name`.
    pub(crate) fn assert_close(&self, name: &str, ours: &[f32], tolerance: f64) {
        let what = format!("{}: {name}", self.case);
        assert_close(&what, ours, &self.named(name).data, tolerance);
    }

    /// Checks the gradients of one network, ‖g − r‖ ≤ tolerance · max(‖r‖, floor), where the floor
    /// is 1e-4 of the largest ‖r‖; returns and prints the paths of those under the floor.
    pub(crate) fn check_gradients(
        &self,
        ours: &BTreeMap<String, Vec<f32>>,
        reference: &TensorMap,
        tolerance: f64,
    ) -> BTreeSet<String> {
        assert!(
            ours.keys().eq(reference.keys()),
            "{}: {:?}",
            self.case,
            ours.keys()
        );
        let largest = reference
            .values()
            .map(|r| norm(&r.data))
            .fold(0.0, f64::max);
        assert!(
            largest > 0.0,
            "{}: the reference has no gradients",
            self.case
        );
        let mut under = BTreeSet::new();
        for (path, r) in reference {
            let (size, floor) = (norm(&r.data), FLOOR * largest);
            let apart = distance(&ours[path], &r.data);
            let allowed = tolerance * size.max(floor);
            assert!(
                apart <= allowed,
                "{}: gradient of {path} is {apart:e} away, {allowed:e} are allowed",
                self.case
            );
            if size < floor {
                eprintln!("{}: left out of the three steps: {path}", self.case);
                under.insert(path.clone());
            }
        }
        under
    }

    /// Checks parameters and running statistics after three steps from `start`, without those
    /// `left_out`.
    pub(crate) fn check_parameters(
        &self,
        ours: &TensorMap,
        reference: &TensorMap,
        start: &TensorMap,
        left_out: &BTreeSet<String>,
    ) {
        assert!(
            ours.keys().eq(reference.keys()),
            "{}: {:?}",
            self.case,
            ours.keys()
        );
        for (path, r) in reference
            .iter()
            .filter(|(path, _)| !left_out.contains(*path))
        {
            let what = format!("{}: {path} after three steps", self.case);
            assert_close(&what, &ours[path].data, &r.data, AFTER_STEPS);
            let way = distance(&start[path].data, &r.data);
            let apart = distance(&ours[path].data, &r.data);
            assert!(
                apart <= OF_THE_WAY * way,
                "{what}: {apart:e} away, having gone {way:e}"
            );
        }
    }
}

/// The file of a case.
pub(crate) fn file(case: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/twins");
    folder.join(format!("{case}.safetensors"))
}

/// A whole number of JSON.
pub(crate) fn whole(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// A stored tensor on a device.
pub(crate) fn on_device<const D: usize>(named: &NamedTensor, device: &Device) -> Tensor<D> {
    let shape: [usize; D] = named.shape[..].try_into().unwrap();
    Tensor::<1>::from_floats(&named.data[..], device).reshape(shape)
}

/// The values of a tensor on the host.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_to_vec_as::<f32>().unwrap()
}

/// The Euclidean norm.
pub(crate) fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// The Euclidean distance of two tensors of the same size; not a number where one of them is not.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "tensors of different sizes are compared");
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt()
}

/// Fails unless ‖ours − reference‖ ≤ tolerance · ‖reference‖.
pub(crate) fn assert_close(what: &str, ours: &[f32], reference: &[f32], tolerance: f64) {
    let (apart, size) = (distance(ours, reference), norm(reference));
    assert!(
        apart <= tolerance * size,
        "{what}: {apart:e} away from a tensor of norm {size:e}"
    );
}

/// Flat gradients or other named tensors on the host.
pub(crate) fn on_host(named: &vermeer::nn::Named) -> BTreeMap<String, Vec<f32>> {
    named
        .iter()
        .map(|(path, tensor)| (path.clone(), values(tensor.clone())))
        .collect()
}
