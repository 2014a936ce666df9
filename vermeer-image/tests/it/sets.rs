//! Metrics of sets against the packages that define them. `tools/reference/cases_sets.py` made
//! `testdata/metrics/sets.safetensors` and names each package and version.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use vermeer_image::ImageError;
use vermeer_image::metrics::{
    ClassifierOptions, CopyingCells, CopyingOptions, Ends, Features, Interpolation,
    PathLengthOptions, authpct_dgm, authpct_fld, c_t, c_t_global, c_t_in_cells, classifier_test,
    nearest_neighbour_test, path_length, sliced_wasserstein, vendi, vendi_of_order,
};

/// The tensors of the file, as shapes and values.
struct Sets(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Sets {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/metrics");
        let bytes = std::fs::read(folder.join("sets.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, tensor): (String, TensorView<'_>)| {
            let values: Vec<f64> = match tensor.dtype() {
                Dtype::F32 => tensor
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                    .collect(),
                Dtype::F64 => tensor
                    .data()
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                    .collect(),
                other => panic!("{name} holds {other:?}"),
            };
            (name, (tensor.shape().to_vec(), values))
        };
        Self(file.tensors().into_iter().map(read).collect())
    }

    fn output(&self, name: &str) -> &[f64] {
        &self.0[&format!("output/{name}")].1
    }

    fn features(&self, name: &str) -> Features {
        let (shape, values) = &self.0[&format!("input/{name}")];
        Features::new(values.iter().map(|v| *v as f32).collect(), shape[1]).unwrap()
    }

    fn cells(&self) -> CopyingCells {
        let of = |name: &str| -> Vec<usize> {
            let values = &self.0[&format!("input/cells.{name}")].1;
            values.iter().map(|v| *v as usize).collect()
        };
        CopyingCells {
            generated: of("generated"),
            train: of("train"),
            heldout: of("heldout"),
        }
    }
}

/// Whether two numbers agree to a share of the second.
#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    let apart = (found - expected).abs();
    assert!(
        apart <= tolerance * expected.abs(),
        "{found} instead of {expected}, {apart:e} off"
    );
}

#[test]
fn vendi_scores_are_those_of_vendi_score() {
    let sets = Sets::open();
    let train = sets.features("train");
    for (found, name) in [
        (vendi(&train), "vendi.train"),
        (vendi(&sets.features("generated")), "vendi.generated"),
        (vendi_of_order(&train, 2.0), "vendi.train.order2"),
        (
            vendi_of_order(&train, f64::INFINITY),
            "vendi.train.order_infinite",
        ),
        // Fewer images than features.
        (
            vendi(&train.select(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap()),
            "vendi.eight",
        ),
    ] {
        close(found.unwrap(), sets.output(name)[0], 1e-9);
    }
}

#[test]
fn two_sample_tests_are_those_of_scikit_learn() {
    let sets = Sets::open();
    let (generated, real) = (sets.features("generated"), sets.features("train"));

    let found = nearest_neighbour_test(&generated, &real).unwrap();
    let [all, of_real, of_generated, mutual, p_value] = sets.output("one_nn") else {
        panic!("five values");
    };
    close(found.accuracy, *all, 1e-12);
    close(found.real_accuracy, *of_real, 1e-12);
    close(found.generated_accuracy, *of_generated, 1e-12);
    close(found.mutual, *mutual, 1e-12);
    close(found.p_value, *p_value, 1e-8);

    let options = ClassifierOptions {
        ridge: 0.01,
        seed: 7,
    };
    let found = classifier_test(&generated, &real, options).unwrap();
    let [right, judged, loss, p_value, low, high] = sets.output("classifier") else {
        panic!("six values");
    };
    assert_eq!((found.right as f64, found.judged as f64), (*right, *judged));
    close(found.loss, *loss, 1e-8);
    close(found.p_value, *p_value, 1e-9);
    close(found.interval.low, *low, 1e-6);
    close(found.interval.high, *high, 1e-6);
}

#[test]
fn sliced_wasserstein_distances_are_those_of_pot() {
    let sets = Sets::open();
    let generated = sets.features("generated");
    // 300 training images against 300, and 240 held-out ones.
    for (real, name) in [("train", "sliced"), ("heldout", "sliced.unequal")] {
        let found = sliced_wasserstein(&generated, &sets.features(real), 500, 3).unwrap();
        close(found.distance, sets.output(name)[0], 1e-9);
        close(found.standard_error, sets.output(name)[1], 1e-8);
    }
}

#[test]
fn authentic_shares_are_those_of_both_packages() {
    let sets = Sets::open();
    let (generated, train) = (sets.features("generated"), sets.features("train"));
    let found = authpct_dgm(&generated, &train).unwrap();
    close(found.value, sets.output("authpct.dgm")[0], 1e-12);
    let found = authpct_fld(&generated, &train, 0).unwrap();
    close(found.value, sets.output("authpct.fld")[0], 1e-12);
}

#[test]
fn data_copying_is_that_of_its_authors() {
    let sets = Sets::open();
    let generated = sets.features("generated");
    let (train, heldout) = (sets.features("train"), sets.features("heldout"));

    let found = c_t_in_cells(&generated, &train, &heldout, &sets.cells()).unwrap();
    let expected = sets.output("c_t")[0];
    close(found.value, expected, 1e-12);
    for (cell, z) in found.cells.iter().zip(sets.output("c_t.cells")) {
        close(cell.z, *z, 1e-12);
    }
    // Twenty generated images of 300 are not more than twenty.
    let counted = found.cells.iter().filter(|cell| cell.counted).count();
    assert_eq!((found.cells.len(), counted), (3, 2));
    // The clusters are apart enough for any k-means to find the same.
    let own = c_t(&generated, &train, &heldout, CopyingOptions::default()).unwrap();
    close(own.value, expected, 1e-12);

    let global = c_t_global(&generated, &train, &heldout, 64).unwrap();
    close(global.value, sets.output("c_t.global")[0], 1e-12);
    assert!(global.p_value() < 1e-6);
    // Two distances that change places by rounding of the components move the value by 1.1e-4.
    let global = c_t_global(&generated, &train, &heldout, 4).unwrap();
    close(global.value, sets.output("c_t.global.components")[0], 2e-4);
}

#[test]
fn path_lengths_are_those_of_torch_fidelity_and_stylegan() {
    let sets = Sets::open();
    let (starts, ends) = (sets.features("path.start"), sets.features("path.end"));
    let weights = &sets.0["input/path.weights"].1;
    // tanh(W z), in double precision.
    let images = |latents: &[f32]| -> Vec<f64> {
        let image = |z: &[f32]| -> Vec<f64> {
            let rows = weights.chunks_exact(z.len());
            rows.map(|row| {
                row.iter()
                    .zip(z)
                    .map(|(w, z)| w * f64::from(*z))
                    .sum::<f64>()
                    .tanh()
            })
            .collect()
        };
        latents.chunks_exact(6).flat_map(image).collect()
    };
    // torch-fidelity interpolates in 32 bits, which moves its values by up to 3e-7.
    for (name, interpolation, place, tolerance) in [
        ("path.lerp", Interpolation::Lerp, Ends::End, 1e-6),
        ("path.slerp_any", Interpolation::SlerpAny, Ends::End, 1e-6),
        ("path.slerp", Interpolation::Slerp, Ends::End, 1e-7),
        ("path.slerp_full", Interpolation::Slerp, Ends::Full, 1e-7),
    ] {
        let options = PathLengthOptions {
            samples: 400,
            epsilon: 0.01,
            ends: place,
            interpolation,
            batch: 64,
            seed: 2020,
            ..PathLengthOptions::in_z()
        };
        let found = path_length::<ImageError>(
            &options,
            6,
            &mut |pairs| Ok([starts.rows(pairs.clone())?, ends.rows(pairs)?]),
            &mut |at, after| {
                let (at, after) = (images(&at), images(&after));
                let pairs = at.chunks_exact(8).zip(after.chunks_exact(8));
                Ok(pairs
                    .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum())
                    .collect())
            },
            &mut |_, _| {},
        )
        .unwrap();
        // Three of 400 are below the first percentile and three above the last.
        assert_eq!((found.kept, found.distances.len()), (394, 400));
        close(found.value, sets.output(name)[0], tolerance);
        close(found.deviation, sets.output(name)[1], tolerance);
        let interval = found.interval.unwrap();
        assert!(interval.low < found.value && found.value < interval.high);
    }
}
