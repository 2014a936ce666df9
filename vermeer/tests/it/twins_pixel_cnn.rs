//! The `pixel-cnn` family against `tools/reference/twin_pixel_cnn.py`.

use serde_json::json;
use vermeer::models::PixelCnnConfig;
use vermeer::nn::Init;
use vermeer::registry::DataSpec;

use crate::twin::{Twin, whole};
use crate::twin_autoregressive;

#[test]
fn binary() {
    check("pixel-cnn-binary");
}

#[test]
fn colour() {
    check("pixel-cnn-colour");
}

/// In training convolutions of this width are filtered.
#[test]
fn wide() {
    check("pixel-cnn-wide");
}

fn check(case: &str) {
    let init = |twin: &Twin, init: &Init| {
        let (config, spec) = settings(twin);
        config.init(&spec, init)
    };
    twin_autoregressive::check(case, init, str::to_owned);
}

fn settings(twin: &Twin) -> (PixelCnnConfig, DataSpec) {
    let model = &twin.settings["model"];
    let classes = model.get("classes").map_or(0, whole);
    let config = json!({
        "width": model["width"],
        "blocks": model["blocks"],
        "head": model["head"],
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
