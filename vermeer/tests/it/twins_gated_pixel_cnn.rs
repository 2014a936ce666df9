//! The `gated-pixel-cnn` family against `tools/reference/twin_gated_pixel_cnn.py`.

use serde_json::json;
use vermeer::models::GatedPixelCnnConfig;
use vermeer::nn::Init;
use vermeer::registry::DataSpec;

use crate::twin::Twin;
use crate::twin_autoregressive;

#[test]
fn binary() {
    check("gated-pixel-cnn-binary");
}

#[test]
fn grey() {
    check("gated-pixel-cnn-grey");
}

#[test]
fn colour() {
    check("gated-pixel-cnn-colour");
}

/// Convolutions of this width are filtered.
#[test]
fn wide() {
    check("gated-pixel-cnn-wide");
}

fn check(case: &str) {
    let init = |twin: &Twin, init: &Init| {
        let (config, spec) = settings(twin);
        config.init(&spec, init)
    };
    twin_autoregressive::check(case, init, twin_name);
}

fn settings(twin: &Twin) -> (GatedPixelCnnConfig, DataSpec) {
    let model = &twin.settings["model"];
    let classes = twin.size("/model/classes");
    let config = json!({
        "width": model["width"],
        "first_kernel": model["first_kernel"],
        "kernel": model["kernel"],
        "dilations": model["dilations"],
        "levels": model["levels"],
        "conditional": classes > 0,
    });
    let spec = DataSpec {
        channels: twin.size("/model/channels"),
        height: twin.size("/size/0"),
        width: twin.size("/size/1"),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    };
    (serde_json::from_value(config).unwrap(), spec)
}

/// The twin's name of one of our tensors: its classes are an embedding.
fn twin_name(name: &str) -> String {
    match name.ends_with(".classes") {
        true => format!("{name}.weight"),
        false => name.to_owned(),
    }
}
