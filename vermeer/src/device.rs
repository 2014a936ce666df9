//! Devices by name: the only place where backends are named.

use burn::prelude::Device;

use crate::{Error, Result};

/// The device a name stands for, without gradients.
///
/// `auto` is the processor: it is always there and its results are reproducible to the bit.
/// `flex` and `cpu` mean the same. The other names need the build feature of their own name.
///
/// # Errors
/// [`Error::Device`] for a name that is unknown or not compiled in.
pub fn parse(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => {
            let index: usize = index.parse().map_err(|_| {
                Error::Device(format!("device {name:?}: {index:?} is not a whole number"))
            })?;
            (kind, Some(index))
        }
        None => (name, None),
    };
    match kind {
        "auto" | "flex" | "cpu" if index.is_none() => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(graphics_card(index))),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(graphics_card(index))),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(graphics_card(index))),
        #[cfg(feature = "webgpu")]
        "webgpu" => Ok(Device::webgpu(graphics_card(index))),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index.unwrap_or(0))),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(index.unwrap_or(0))),
        _ => Err(Error::Device(format!(
            "device {name:?} is not known to this build; it knows {}",
            known().join(", ")
        ))),
    }
}

/// A device in words: `flex` for the processor, else what the backend calls it.
pub fn name(device: &Device) -> String {
    match device.clone().without_autodiff() == Device::flex() {
        true => "flex".to_owned(),
        false => format!("{device:?}"),
    }
}

/// The device names this build accepts, the processor first.
pub fn known() -> Vec<&'static str> {
    let mut names = vec!["auto", "flex"];
    for (name, compiled) in [
        ("wgpu", cfg!(feature = "wgpu")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("metal", cfg!(feature = "metal")),
        ("webgpu", cfg!(feature = "webgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
    ] {
        if compiled {
            names.push(name);
        }
    }
    names
}

#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "webgpu"
))]
fn graphics_card(index: Option<usize>) -> burn::tensor::DeviceKind {
    match index {
        Some(index) => burn::tensor::DeviceKind::DiscreteGpu(index),
        None => burn::tensor::DeviceKind::DefaultDevice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_devices_are_named_with_the_known_ones() {
        let text = parse("quantum").unwrap_err().to_string();
        assert!(text.contains("quantum") && text.contains("flex"), "{text}");
        assert!(parse("flex").is_ok() && parse("auto").is_ok());
    }
}
