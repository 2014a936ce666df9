//! The `pixel-rnn` family against `tools/reference/twin_pixel_rnn.py`.

use serde_json::json;
use vermeer::models::PixelRnnConfig;
use vermeer::nn::Init;
use vermeer::registry::DataSpec;

use crate::twin::{Twin, whole};
use crate::twin_autoregressive;

#[test]
fn row_lstm() {
    check("pixel-rnn-row-lstm");
}

#[test]
fn diagonal_bilstm() {
    check("pixel-rnn-diagonal-bilstm");
}

#[test]
fn row_gru() {
    check("pixel-rnn-row-gru");
}

#[test]
fn row_lstm_of_colours_and_classes() {
    check("pixel-rnn-row-lstm-colour");
}

#[test]
fn diagonal_bilstm_of_colours() {
    check("pixel-rnn-diagonal-bilstm-colour");
}

/// In training convolutions of this width are filtered.
#[test]
fn row_lstm_wide() {
    check("pixel-rnn-row-lstm-wide");
}

fn check(case: &str) {
    let init = |twin: &Twin, init: &Init| {
        let (config, spec) = settings(twin);
        config.init(&spec, init)
    };
    twin_autoregressive::check(case, init, str::to_owned);
}

fn settings(twin: &Twin) -> (PixelRnnConfig, DataSpec) {
    let model = &twin.settings["model"];
    let classes = model.get("classes").map_or(0, whole);
    let config = json!({
        "cell": model["cell"],
        "hidden": model["hidden"],
        "layers": model["layers"],
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
