//! Values of whole evaluations: two folders of photographs against torch-fidelity, statistics that
//! add up, and values that do not depend on how the images are read.

use std::path::Path;

use burn::prelude::Device;
use vermeer::data::{self, OpenOptions, Split};
use vermeer::evaluate::{
    ExtractOptions, FeatureCache, RunChoice, Set, Subject, extract_all, measure, read_statistics,
    write_statistics,
};
use vermeer_image::features::{Extractor, Protocol, Tap, Weights};
use vermeer_image::metrics::{
    FrechetReference, Moments, NumpyRandom, SetOptions, Spread, frechet_distance, frechet_spread,
    metric,
};

use crate::networks::{formula, shared};

/// 500 CIFAR-10 images from this one on.
fn photographs(from: usize) -> Option<Subject> {
    let file = shared("data/cifar10/data_batch_1_records_0000-1999.bin")?;
    let options = OpenOptions {
        split: Split::All,
        ..OpenOptions::default()
    };
    Some(Subject::Source {
        source: data::open(file.to_str().unwrap(), &options).unwrap(),
        images: (from..from + 500).collect(),
        drawn: Some(from as u64),
    })
}

/// The values of `metrics.json` for two folders of CIFAR-10 images: torch-fidelity 0.4.0 with formula
/// weights, kid_subset_size 100. Exact distances in double precision stand beside its own.
#[test]
fn two_folders_are_those_of_torch_fidelity() {
    let (Some(a), Some(b)) = (photographs(0), photographs(500)) else {
        return;
    };
    let list = shared("reference/metric-fixtures/inception_tensors.csv").unwrap();
    let device = Device::flex();
    let tensors = formula::weights_of_csv(&list);
    let inception = |tap, logits| {
        let weights = Weights::new("formula", tensors.clone());
        Extractor::inception(weights, "", tap, logits, Protocol::TorchFidelity, &device).unwrap()
    };
    let extractors = [
        inception(Tap::Pool2048, true),
        inception(Tap::Pool64, false),
        inception(Tap::Pool192, false),
    ];
    let extractors: Vec<&Extractor> = extractors.iter().collect();
    let options = ExtractOptions::default();
    let of = |subject| Set::of_all(subject, &extractors, &options, &mut |_, _| {}).unwrap();
    let (a, b) = (of(&a), of(&b));
    let set_options = SetOptions {
        subsets: [100, 100],
        ..SetOptions::default()
    };
    let value = |id: &str, network: usize, name: &str| -> f64 {
        let found = measure(
            metric(id).unwrap(),
            &a[network],
            Some(&b[network]),
            extractors[network],
            &set_options,
            true,
            &mut |_, _| {},
        )
        .unwrap();
        let names: Vec<&str> = found.iter().map(|value| value.name.as_str()).collect();
        let found = found.iter().find(|value| value.name == name);
        found
            .unwrap_or_else(|| panic!("{name} is not among {names:?}"))
            .value
    };
    #[track_caller]
    fn near(found: f64, expected: f64, tolerance: f64) {
        let apart = (found - expected).abs();
        assert!(
            apart <= tolerance,
            "{found} instead of {expected}, {apart:.2e} off"
        );
    }
    let fid = value("fid", 0, "fd_inception");
    near(fid, 0.361_846_089, 1e-4 * 0.361_846_089);
    // torch-fidelity's own sum has rounding errors in it that no other library has alike.
    let its_own = value("fid", 0, "fd_inception_all_eigenvalues");
    near(its_own, 0.361_722_609, 1e-3 * 0.361_722_609);
    near(
        value("fid", 1, "fd_inception64"),
        0.025_216_669_4,
        1e-4 * 0.025_216_669_4,
    );
    near(
        value("fid", 2, "fd_inception192"),
        0.078_166_451_9,
        1e-4 * 0.078_166_451_9,
    );
    near(
        value("is", 0, "is_inception"),
        1.108_758_47,
        1e-4 * 1.108_758_47,
    );
    near(
        value("kid", 0, "kd_inception_100x100"),
        0.000_779_935_117,
        1e-6,
    );
    near(
        value("kid", 0, "kd_inception_all_pairs"),
        -0.001_576_648_99,
        1e-6,
    );
    near(value("pr", 0, "precision_k3_inception"), 0.874, 1e-9);
    near(value("pr", 0, "recall_k3_inception"), 0.858, 1e-9);
}

fn glyphs(location: &str, images: Vec<usize>) -> Subject {
    let options = OpenOptions {
        split: Split::All,
        ..OpenOptions::default()
    };
    Subject::Source {
        source: data::open(location, &options).unwrap(),
        images,
        drawn: Some(0),
    }
}

#[test]
fn order_and_batches_do_not_change_a_distance() {
    let device = Device::flex();
    let world = Extractor::world(&device).unwrap();
    let n = 300;
    let moments = |images: Vec<usize>, batch: usize| {
        let options = ExtractOptions {
            batch: Some(batch),
            ..ExtractOptions::default()
        };
        let subject = glyphs("world:glyphs?count=1000", images);
        Set::of(&subject, &world, &options, &mut |_, _| {})
            .unwrap()
            .moments()
            .unwrap()
    };
    let real = moments((n..2 * n).collect(), 256);
    let distance = |images, batch| frechet_distance(&moments(images, batch), &real).unwrap();
    let one = distance((0..n).collect(), 256);
    assert!(one > 0.0);
    for (images, batch) in [
        ((0..n).rev().collect(), 256),
        ((0..n).map(|i| i * 7 % n).collect(), 64),
        ((0..n).collect::<Vec<usize>>(), 1),
        ((0..n).collect(), 33),
    ] {
        let other = distance(images, batch);
        assert!((one - other).abs() <= 1e-9 * one, "{one} and {other}");
    }
}

#[test]
fn eight_shards_add_up_to_the_whole() {
    let device = Device::flex();
    let world = Extractor::world(&device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = ExtractOptions::default();
    let set = |images| {
        Set::of(
            &glyphs("world:glyphs?count=1000", images),
            &world,
            &options,
            &mut |_, _| {},
        )
        .unwrap()
    };
    let whole = set((0..400).collect()).moments().unwrap();
    let mut sum = Moments::new(whole.dims());
    for shard in 0..8 {
        let shard_set = set((50 * shard..50 * shard + 50).collect());
        let path = folder.path().join(format!("{shard}.stats"));
        let moments = shard_set.moments().unwrap();
        write_statistics(&path, &moments, &shard_set.side, &world.identity()).unwrap();
        sum.merge(&read_statistics(&path).unwrap().moments);
    }
    assert_eq!(sum.len(), 400);
    let scale = whole
        .covariance()
        .unwrap()
        .iter()
        .fold(0.0f64, |a, b| a.max(b.abs()));
    for (a, b) in sum
        .covariance()
        .unwrap()
        .iter()
        .zip(whole.covariance().unwrap())
    {
        assert!((a - b).abs() <= 1e-9 * scale, "{a} and {b}");
    }
    let real = set((400..800).collect()).moments().unwrap();
    let [a, b] = [&sum, &whole].map(|moments| frechet_distance(moments, &real).unwrap());
    assert!((a - b).abs() <= 1e-9 * b, "{a} and {b}");
}

#[test]
fn features_are_kept_by_content() {
    let device = Device::flex();
    let (world, pixels) = (
        Extractor::world(&device).unwrap(),
        Extractor::pixels(8, 3, &device),
    );
    let folder = tempfile::tempdir().unwrap();
    let options = ExtractOptions {
        cache: FeatureCache::Folder(folder.path().to_owned()),
        ..ExtractOptions::default()
    };
    let extract = |location: &str, count: usize| {
        let subject = Subject::open(
            location,
            Split::All,
            Some(count),
            &RunChoice::seeded(3),
            &device,
        )
        .unwrap();
        extract_all(&subject, &[&world, &pixels], &options, &mut |_, _| {}).unwrap()
    };
    let first = extract("world:glyphs?count=1000", 20);
    assert!(first.iter().all(|found| !found.cached));
    let again = extract("world:glyphs?count=1000", 20);
    for (a, b) in first.iter().zip(&again) {
        assert!(b.cached);
        let rows = |features: &vermeer_image::metrics::Features| features.rows(0..20).unwrap();
        assert_eq!(rows(&a.features), rows(&b.features));
    }
    assert!(
        extract("world:shapes?count=1000", 20)
            .iter()
            .all(|found| !found.cached)
    );
    assert!(
        extract("world:glyphs?count=1000", 21)
            .iter()
            .all(|found| !found.cached)
    );
    let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!(left(folder.path()), 6);
}

/// Of Fashion-MNIST 29,040 images are the reference and the other 40,960 the pool: twenty disjoint
/// draws of 2,048, and five of 8,192.
#[test]
#[ignore = "features of 70,000 images, some minutes"]
fn extrapolated_intervals_cover_the_pool() {
    let Some(fashion) = shared("data/fashion_mnist") else {
        return;
    };
    let device = Device::flex();
    let world = Extractor::world(&device).unwrap();
    let subject = Subject::open(
        fashion.to_str().unwrap(),
        Split::All,
        None,
        &RunChoice::default(),
        &device,
    )
    .unwrap();
    let options = ExtractOptions::default();
    let set = Set::of(&subject, &world, &options, &mut |_, _| {}).unwrap();
    let features = set.extraction.unwrap().features;
    assert_eq!(features.len(), 70_000);
    // The order of the files has the splits in it.
    let order = NumpyRandom::new(2020).permutation(70_000);
    let (fixed, pool) = order.split_at(29_040);
    let fixed = Moments::of(&features.select(fixed).unwrap()).unwrap();
    let reference = FrechetReference::new(&fixed).unwrap();
    let spread = |images: &[usize]| {
        let images = features.select(images).unwrap();
        let order: Vec<usize> = (0..images.len()).collect();
        frechet_spread(&reference, &images, &order, &mut |_, _| {}).unwrap()
    };
    let whole = spread(pool).extrapolated;
    let small: Vec<_> = pool.chunks_exact(2048).map(spread).collect();
    let large: Vec<_> = pool.chunks_exact(8192).map(spread).collect();
    let covered = small
        .iter()
        .filter(|spread| {
            let interval = spread.extrapolated_interval;
            interval.low <= whole && whole <= interval.high
        })
        .count();
    let width = |spreads: &[Spread]| {
        let mut widths: Vec<f64> = spreads
            .iter()
            .map(|spread| 2.0 * spread.extrapolated_interval.half_width())
            .collect();
        widths.sort_by(f64::total_cmp);
        let middle = widths.len() / 2;
        0.5 * (widths[middle] + widths[(widths.len() - 1) / 2])
    };
    let ratio = width(&large) / width(&small);
    let biased = small.iter().map(|spread| spread.distance).sum::<f64>() / small.len() as f64;
    eprintln!(
        "pool {whole:.5}; {covered} of {} intervals cover it; median width {:.5} at 2,048, {:.5} at \
         8,192, ratio {ratio:.3}; mean of the published form at 2,048: {biased:.5}",
        small.len(),
        width(&small),
        width(&large)
    );
    assert_eq!(small.len(), 20);
    assert!(covered >= 17, "{covered}");
    assert!(ratio <= 0.6, "{ratio}");
}
