//! Published resizes, to the last bit: against torch-fidelity 0.4.0 (`tf1-bilinear`), PyTorch
//! 2.11.0 (`torch-*`) and Pillow 13.0.0 (`pil-bicubic`), of synthetic pictures that
//! `tools/reference/cases_pairs.py` makes, and of the published ones.

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vermeer_image::ResizeRule;

use crate::pairs::synthetic;
use crate::shared;

/// The samples `[channels, height, width]` of a tensor of bytes, and its shape.
fn samples(file: &SafeTensors<'_>, name: &str) -> (Vec<f32>, [usize; 3]) {
    let view = file.tensor(name).unwrap();
    let samples = view.data().iter().map(|&byte| f32::from(byte)).collect();
    (samples, view.shape().try_into().unwrap())
}

/// The f32 values of a tensor.
fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// The SHA-256 of the little-endian values.
fn sha256(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Sha256::digest(&bytes).to_vec()
}

/// Fails unless some rows of a picture are within `tolerance` of the stored ones,
/// `[channels, rows, width]`.
#[track_caller]
fn assert_rows(
    what: &str,
    picture: &[f32],
    [height, width]: [usize; 2],
    rows: &[usize],
    stored: &[f32],
    tolerance: f32,
) {
    let ours: Vec<f32> = picture
        .chunks_exact(height * width)
        .flat_map(|plane| {
            rows.iter()
                .flat_map(move |row| &plane[row * width..(row + 1) * width])
        })
        .copied()
        .collect();
    assert_eq!(ours.len(), stored.len(), "{what}");
    for (at, (a, b)) in ours.iter().zip(stored).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}: {a}, not {b}, at {at}");
    }
}

#[test]
fn synthetic_resizes() {
    let bytes = synthetic();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, to) in [
        ("up", [75, 60]),
        ("down", [70, 60]),
        ("thumbnail", [299, 299]),
    ] {
        let (samples, shape) = samples(&file, &format!("input/{name}"));
        for rule in ResizeRule::ALL {
            let what = format!("{name}.{rule}");
            let ours = rule.apply(&samples, shape, to);
            let stored = floats(&file, &format!("output/{what}.rows"));
            let rows = [0, to[0] / 2, to[0] - 1];
            assert_rows(&what, &ours, to, &rows, &stored, 1e-4);
            // PyTorch unrolls windows of more than four samples, which rounds in other places.
            if (name, rule) != ("down", ResizeRule::TorchBilinearAntialias) {
                let sum = file.tensor(&format!("output/{what}.sha256")).unwrap();
                assert_eq!(sha256(&ours), sum.data(), "{what}");
            }
        }
    }
}

#[test]
fn published_resizes() {
    let Some(bytes) = shared::bytes("reference/metric-fixtures/resize.safetensors") else {
        return;
    };
    let Some(metrics) = shared::metrics() else {
        return;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rows: Vec<usize> = file
        .tensor("rows")
        .unwrap()
        .data()
        .chunks_exact(8)
        .map(|bytes| usize::try_from(i64::from_le_bytes(bytes.try_into().unwrap())).unwrap())
        .collect();
    let to = [299, 299];
    for image in ["cifar_32x32", "kitti_375x500"] {
        let (bytes, shape) = samples(&file, &format!("{image}.input_u8"));
        let unit: Vec<f32> = bytes.iter().map(|byte| byte / 255.0).collect();
        for (rule, method, input, tolerance) in [
            (ResizeRule::Tf1Bilinear, "tf1_bilinear", &bytes, 1e-3),
            // pytorch-fid resizes values in [0, 1].
            (
                ResizeRule::TorchBilinear,
                "interpolate_bilinear",
                &unit,
                1e-3 / 255.0,
            ),
            (ResizeRule::PilBicubic, "clean_bicubic", &bytes, 1e-3),
        ] {
            let what = format!("{image}.{method}");
            let ours = rule.apply(input, shape, to);
            let stored = floats(&file, &format!("{what}.rows"));
            assert_rows(&what, &ours, to, &rows, &stored, tolerance);
            assert_statistics(&what, &ours, &metrics["resize"][&what]);
        }
    }
}

/// Fails unless the channel means, the mean square and the weighted sum have the nine published
/// digits, and the checksum is the published one.
#[track_caller]
fn assert_statistics(what: &str, picture: &[f32], expected: &Value) {
    let near = |value: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!(
            (value / expected - 1.0).abs() < 1e-8,
            "{what}: {value}, not {expected}"
        );
    };
    let count = picture.len() as f64;
    for (plane, mean) in picture
        .chunks_exact(picture.len() / 3)
        .zip(expected["mean_per_channel"].as_array().unwrap())
    {
        let sum: f64 = plane.iter().map(|&value| f64::from(value)).sum();
        near(3.0 * sum / count, mean);
    }
    let square: f64 = picture.iter().map(|&value| f64::from(value).powi(2)).sum();
    near(square / count, &expected["mean_square"]);
    let weighted: f64 = picture
        .iter()
        .zip(0u64..)
        .map(|(&value, at)| f64::from(value) * ((at * 2_654_435_761) % 1000) as f64)
        .sum();
    near(weighted, &expected["sum_with_index_weights"]);
    let sum: String = sha256(picture)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        sum, expected["sha256_of_little_endian_float32_CHW"],
        "{what}"
    );
}
