//! Weights of the UvA deep learning tutorial 12. Of its masked kernels the part in front of the pixel
//! is kept; how far apart their taps lie is not in the file.

use burn::prelude::Device;

use super::{GatedPixelCnn, GatedPixelCnnConfig};
use crate::nn::Init;
use crate::registry::{DataSpec, Family};
use crate::run::{NamedTensor, TensorMap};
use crate::{Error, Result};

/// Settings, images and weights from one file of tensors.
pub(super) fn import(
    files: &[TensorMap],
    config: GatedPixelCnnConfig,
) -> Result<(GatedPixelCnnConfig, DataSpec, TensorMap)> {
    let unknown = |reason: &str, remedy: &str| Error::checkpoint("weights", reason, remedy);
    let [tensors] = files else {
        return Err(unknown(
            "a Gated PixelCNN is one file of tensors",
            "name that file alone",
        ));
    };
    let shape = |name: &str| {
        let tensor = tensors.get(name);
        tensor.map(|t| t.shape.clone()).unwrap_or_default()
    };
    let first = shape("conv_vstack.conv.weight");
    let layer = shape("conv_layers.0.conv_vert.conv.weight");
    let out = shape("conv_out.weight");
    let (&[width, channels, first_kernel, _], &[_, _, kernel, _], &[levels, ..]) =
        (&first[..], &layer[..], &out[..])
    else {
        return Err(unknown(
            "these are not the tensors of a known Gated PixelCNN (no conv_vstack, conv_layers and conv_out)",
            "known is the network of the UvA deep learning tutorial 12",
        ));
    };
    if channels != 1 {
        return Err(unknown(
            "the network is one of colour images, whose masks the file does not tell",
            "import a network of grey images",
        ));
    }
    let count = (0..)
        .take_while(|i| tensors.contains_key(&format!("conv_layers.{i}.conv_vert.conv.weight")))
        .count();
    if config.dilations.len() != count {
        return Err(unknown(
            &format!(
                "there are {count} gated layers, and model.dilations has {} numbers",
                config.dilations.len()
            ),
            "name the dilation of each layer: --set model.dilations=[1,2,1]",
        ));
    }
    let config = GatedPixelCnnConfig {
        width,
        first_kernel,
        kernel,
        levels,
        ..config
    };
    let spec = DataSpec {
        channels,
        height: 28,
        width: 28,
        classes: vec![],
        attributes: vec![],
    };
    GatedPixelCnn::check(&config, &spec)?;
    let live: TensorMap = tensors
        .iter()
        .filter(|(name, _)| !name.ends_with(".mask"))
        .map(|(name, tensor)| (name.clone(), in_front(name, tensor)))
        .collect();
    let blank = config.init(&spec, &Init::blank(&Device::flex()));
    let weights = crate::import::from_pytorch(&blank, &live, tutorial_name)?;
    Ok((config, spec, weights))
}

/// The part of a kernel of the tutorial's network that its mask leaves.
fn in_front(name: &str, tensor: &NamedTensor) -> NamedTensor {
    let (&[outputs, inputs, rows, cols], true) = (&tensor.shape[..], name.ends_with("weight"))
    else {
        return tensor.clone();
    };
    let [live_rows, live_cols] = if name.starts_with("conv_vstack") {
        [rows / 2, cols]
    } else if name.starts_with("conv_hstack") {
        [rows, cols / 2]
    } else if name.contains(".conv_vert.") {
        [rows / 2 + 1, cols]
    } else if name.contains(".conv_horiz.") {
        [rows, cols / 2 + 1]
    } else {
        [rows, cols]
    };
    let mut data = Vec::with_capacity(outputs * inputs * live_rows * live_cols);
    for kernel in tensor.data.chunks_exact((rows * cols).max(1)) {
        for row in kernel.chunks_exact(cols).take(live_rows) {
            data.extend_from_slice(&row[..live_cols]);
        }
    }
    NamedTensor {
        shape: vec![outputs, inputs, live_rows, live_cols],
        data,
    }
}

/// The tutorial's name of one of our tensors.
fn tutorial_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["first", "vertical", last] => format!("conv_vstack.conv.{last}"),
        ["first", "horizontal", last] => format!("conv_hstack.conv.{last}"),
        ["layers", i, "vertical", last] => format!("conv_layers.{i}.conv_vert.conv.{last}"),
        ["layers", i, "horizontal", last] => format!("conv_layers.{i}.conv_horiz.conv.{last}"),
        ["layers", i, "across", last] => format!("conv_layers.{i}.conv_vert_to_horiz.{last}"),
        ["layers", i, "mix", last] => format!("conv_layers.{i}.conv_horiz_1x1.{last}"),
        ["out", last] => format!("conv_out.{last}"),
        _ => name.to_owned(),
    }
}
