//! The `wavenet` family against `tools/reference/twin_wavenet.py`.

use serde_json::json;
use vermeer::models::WaveNetConfig;
use vermeer::nn::Init;
use vermeer::registry::DataSpec;

use crate::twin::{Twin, whole};
use crate::twin_autoregressive;

#[test]
fn binary() {
    check("wavenet-binary");
}

#[test]
fn colour() {
    check("wavenet-colour");
}

/// A wider one, without positions.
#[test]
fn wide() {
    check("wavenet-wide");
}

fn check(case: &str) {
    let init = |twin: &Twin, init: &Init| {
        let (config, spec) = settings(twin);
        config.init(&spec, init)
    };
    twin_autoregressive::check(case, init, str::to_owned);
}

fn settings(twin: &Twin) -> (WaveNetConfig, DataSpec) {
    let model = &twin.settings["model"];
    let classes = model.get("classes").map_or(0, whole);
    let config = json!({
        "width": model["width"],
        "skip": model["skip"],
        "dilations": model["dilations"],
        "repeat": 1,
        "positions": model["positions"],
        "levels": model["levels"],
        "conditional": classes > 0,
    });
    let spec = DataSpec {
        channels: twin.size("/model/channels"),
        height: twin.size("/model/image_height"),
        width: twin.size("/model/image_width"),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        attributes: vec![],
    };
    (serde_json::from_value(config).unwrap(), spec)
}
