//! Metrics of fixed features, against torch-fidelity 0.4.0, scipy 1.17.1 and prdc (e320c1d).

use safetensors::SafeTensors;
use vermeer_image::metrics::{
    Features, FrechetReference, Moments, Splits, Subsets, density_coverage, frechet_distance,
    frechet_distance_all_eigenvalues, inception_score, kernel_distance, kernel_distance_of_subsets,
    precision_recall,
};

use crate::shared;

struct Fixtures {
    bytes: Vec<u8>,
    expected: serde_json::Value,
}

impl Fixtures {
    fn read() -> Option<Self> {
        Some(Self {
            bytes: shared::bytes("reference/metric-fixtures/features.safetensors")?,
            expected: shared::metrics()?,
        })
    }

    fn features(&self, name: &str) -> Features {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Features::new(values.collect(), view.shape()[1]).unwrap()
    }

    fn value(&self, path: &str) -> f64 {
        self.expected
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap()
    }
}

#[track_caller]
fn near(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{value} is {:.2e} from {expected}",
        value - expected
    );
}

#[test]
fn frechet_distances() {
    let Some(fixtures) = Fixtures::read() else {
        return;
    };
    let moments = |name| Moments::of(&fixtures.features(name)).unwrap();
    let (real, fake) = (moments("real"), moments("fake"));
    let (low_a, low_b) = (moments("low_rank_a"), moments("low_rank_b"));
    // 1e-6 relative.
    let full = fixtures.value("/features/fid/real_fake/scipy_sqrtm");
    let low = fixtures.value("/features/fid/low_rank/singular_values_of_centred_features");
    for (a, b, expected) in [
        (&real, &fake, full),
        (&fake, &real, full),
        (&low_a, &low_b, low),
    ] {
        near(frechet_distance(a, b).unwrap(), expected, 1e-6 * expected);
        let reference = FrechetReference::new(a).unwrap();
        near(reference.distance(b).unwrap(), expected, 1e-6 * expected);
    }
    near(
        frechet_distance_all_eigenvalues(&real, &fake).unwrap(),
        full,
        1e-6 * full,
    );
    let torch_fidelity = fixtures.value("/features/fid/low_rank/torch_fidelity");
    let all = frechet_distance_all_eigenvalues(&low_a, &low_b).unwrap();
    near(all, torch_fidelity, 1e-6 * torch_fidelity);
    near(frechet_distance(&real, &real).unwrap(), 0.0, 1e-10);
}

#[test]
fn kernel_distances() {
    let Some(fixtures) = Fixtures::read() else {
        return;
    };
    let (real, fake) = (fixtures.features("real"), fixtures.features("fake"));
    let nothing = &mut |_: usize, _: usize| {};
    let subsets = kernel_distance_of_subsets(&fake, &real, Subsets::default(), nothing).unwrap();
    let kid = "/features/kid";
    near(
        subsets.mean,
        fixtures.value(&format!("{kid}/same_subsets_float64_mean")),
        1e-9,
    );
    near(
        subsets.deviation,
        fixtures.value(&format!("{kid}/same_subsets_float64_std")),
        1e-9,
    );
    near(
        subsets.mean,
        fixtures.value(&format!("{kid}/torch_fidelity_mean")),
        1e-6,
    );
    let all = kernel_distance(&fake, &real, 0, nothing).unwrap();
    near(
        all.unbiased,
        fixtures.value(&format!("{kid}/full_real_fake/unbiased")),
        1e-9,
    );
    near(
        all.biased,
        fixtures.value(&format!("{kid}/full_real_fake/biased")),
        1e-9,
    );
    let (a, b) = (
        fixtures.features("low_rank_a"),
        fixtures.features("low_rank_b"),
    );
    let low = kernel_distance(&a, &b, 0, nothing).unwrap();
    near(
        low.unbiased,
        fixtures.value(&format!("{kid}/full_low_rank/unbiased")),
        1e-9,
    );
    near(
        low.biased,
        fixtures.value(&format!("{kid}/full_low_rank/biased")),
        1e-9,
    );
}

#[test]
fn inception_scores() {
    let Some(fixtures) = Fixtures::read() else {
        return;
    };
    let logits = fixtures.features("logits");
    for (name, count, shuffle) in [
        ("shuffled_seed_2020", 10, Some(2020)),
        ("not_shuffled", 10, None),
        ("one_split", 1, None),
    ] {
        let score = inception_score(&logits, Splits { count, shuffle }).unwrap();
        let path = format!("/features/inception_score/{name}");
        near(score.mean, fixtures.value(&format!("{path}/mean")), 1e-6);
        near(
            score.deviation,
            fixtures.value(&format!("{path}/std")),
            1e-6,
        );
    }
}

#[test]
fn precision_recall_density_and_coverage_count_exactly() {
    let Some(fixtures) = Fixtures::read() else {
        return;
    };
    let (real, fake) = (fixtures.features("real"), fixtures.features("fake"));
    let found = precision_recall(&fake, &real, 3).unwrap();
    assert_eq!((found.generated_inside, found.generated), (1680, 2500));
    assert_eq!((found.real_inside, found.real), (1576, 3000));
    let (low_a, low_b) = (
        fixtures.features("low_rank_a"),
        fixtures.features("low_rank_b"),
    );
    let low = precision_recall(&low_b, &low_a, 3).unwrap();
    assert_eq!((low.generated_inside, low.real_inside), (39, 93));
    for (generated, real, name) in [
        (&fake, &real, "prdc_k5"),
        (&low_b, &low_a, "prdc_k5_low_rank"),
    ] {
        let found = density_coverage(generated, real, 5).unwrap();
        let value = |what: &str| fixtures.value(&format!("/features/{name}/{what}"));
        near(found.precision_recall.precision(), value("precision"), 1e-9);
        near(found.precision_recall.recall(), value("recall"), 1e-9);
        near(found.density, value("density"), 1e-9);
        near(found.coverage(), value("coverage"), 1e-9);
    }
}
