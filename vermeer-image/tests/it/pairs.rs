//! Metrics of pairs, against scikit-image 0.26.0: of synthetic pictures that
//! `tools/reference/cases_pairs.py` makes, and of the published ones.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use vermeer_image::metrics::{Planes, mae, ms_ssim, ms_ssim_factors, mse, psnr_db, ssim, ssim_map};
use vermeer_image::{Image, Pixels};

use crate::shared;

/// The bytes of `testdata/metrics/pairs.safetensors`.
pub(crate) fn synthetic() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/metrics/pairs.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The two pictures `<name>.a` and `<name>.b`, bytes `[height, width]` or `[height, width, 3]`.
fn pair(file: &SafeTensors<'_>, name: &str) -> [Image; 2] {
    ["a", "b"].map(|side| {
        let view = file.tensor(&format!("{name}.{side}")).unwrap();
        let shape = view.shape();
        let channels = shape.get(2).copied().unwrap_or(1);
        Image::new(
            shape[1],
            shape[0],
            channels,
            Pixels::U8(view.data().to_vec()),
        )
        .unwrap()
    })
}

/// The f64 values of a result.
fn results(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let view = file.tensor(&format!("output/{name}")).unwrap();
    view.data()
        .chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[track_caller]
fn near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{what}: {value} is {:.2e} from {expected}",
        value - expected
    );
}

/// Both are computed in f64; what differs is the order of sums.
const CLOSE: f64 = 1e-9;

#[test]
fn synthetic_pairs() {
    let bytes = synthetic();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let planes =
        |name: &str| pair(&file, &format!("input/{name}")).map(|i| Planes::rgb(&i).unwrap());
    let colour_y = pair(&file, "input/colour").map(|image| Planes::luma(&image).unwrap());
    let rounded = colour_y.clone().map(|mut planes| {
        planes.quantise();
        planes
    });
    let shaved = colour_y.clone().map(|planes| planes.shave(4).unwrap());
    for (name, [a, b]) in [
        ("grey", planes("grey")),
        ("colour", planes("colour")),
        ("colour_y", colour_y),
        ("colour_y_rounded", rounded),
        ("colour_y_shaved4", shaved),
    ] {
        for (what, ours) in [
            ("mse", mse(&a, &b).unwrap()),
            ("mae", mae(&a, &b).unwrap()),
            ("psnr_db", psnr_db(&a, &b).unwrap()),
            ("ssim", ssim(&a, &b).unwrap()),
        ] {
            let what = format!("{name}.{what}");
            near(&what, ours, results(&file, &what)[0], CLOSE);
        }
    }
}

#[test]
fn synthetic_similarity_map() {
    let bytes = synthetic();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let [a, b] = pair(&file, "input/colour").map(|image| Planes::rgb(&image).unwrap());
    let ours = ssim_map(&a, &b).unwrap();
    let map = file.tensor("output/colour.ssim_map").unwrap();
    assert_eq!(map.shape(), [ours.channels, ours.height, ours.width]);
    for (value, stored) in ours.values.iter().zip(map.data().chunks_exact(4)) {
        let stored = f32::from_le_bytes(stored.try_into().unwrap());
        // The map is stored in f32.
        near("map", *value, f64::from(stored), 1e-7);
    }
}

#[test]
fn synthetic_scales() {
    // With an enormous K1 scikit-image's SSIM is the contrast term alone.
    let bytes = synthetic();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let [a, b] = pair(&file, "input/grey").map(|image| Planes::rgb(&image).unwrap());
    let factors = ms_ssim_factors(&a, &b).unwrap();
    for (ours, stored) in factors.iter().zip(results(&file, "grey.ms_ssim_factors")) {
        near("factor", *ours, stored, CLOSE);
    }
    let ours = ms_ssim(&a, &b).unwrap();
    near("grey", ours, results(&file, "grey.ms_ssim")[0], CLOSE);

    // Three channels: (a, b), (255 - b, 255 - b), (a, (a + b) / 2).
    let negative: Vec<f64> = b.values.iter().map(|b| 255.0 - b).collect();
    let middle: Vec<f64> = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    let left = [a.values.clone(), negative.clone(), a.values.clone()].concat();
    let right = [b.values.clone(), negative, middle].concat();
    let [left, right] =
        [left, right].map(|values| Planes::new(3, a.height, a.width, values).unwrap());
    let ours = ms_ssim(&left, &right).unwrap();
    near("mixed", ours, results(&file, "mixed.ms_ssim")[0], CLOSE);
}

#[test]
fn published_pairs() {
    let Some(bytes) = shared::bytes("reference/metric-fixtures/image_pairs.safetensors") else {
        return;
    };
    let Some(metrics) = shared::metrics() else {
        return;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pairs = metrics["image_pairs"].as_object().unwrap();
    assert_eq!(pairs.len(), 3);
    for (name, expected) in pairs {
        let value = |key: &str| expected[key].as_f64().unwrap();
        let images = pair(&file, name);
        let [a, b] = [&images[0], &images[1]].map(|image| Planes::rgb(image).unwrap());
        // 1e-4 dB and 1e-5 are asked for; the file has nine digits.
        near(name, psnr_db(&a, &b).unwrap(), value("psnr"), 1e-7);
        near(name, mse(&a, &b).unwrap(), value("mse"), 1e-6);
        near(name, ssim(&a, &b).unwrap(), value("ssim_wang2004"), 1e-8);
        near(
            name,
            ms_ssim(&a, &b).unwrap(),
            value("ms_ssim_float64_numpy"),
            1e-8,
        );
        let factors = ms_ssim_factors(&a, &b).unwrap();
        let expected_factors = expected["ms_ssim_factors"].as_array().unwrap();
        assert_eq!(expected_factors.len(), factors.len());
        for (ours, stored) in factors.iter().zip(expected_factors) {
            near(name, *ours, stored.as_f64().unwrap(), 1e-8);
        }
        if expected.get("psnr_y").is_some_and(Value::is_number) {
            let [a, b] = [&images[0], &images[1]].map(|image| Planes::luma(image).unwrap());
            near(name, psnr_db(&a, &b).unwrap(), value("psnr_y"), 1e-7);
            near(name, ssim(&a, &b).unwrap(), value("ssim_y"), 1e-8);
        } else {
            assert_eq!(a.channels, 1, "{name}");
        }
    }
}
