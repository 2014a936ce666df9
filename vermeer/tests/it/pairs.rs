//! Metrics of pairs on folders and files, with values by hand.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use tempfile::TempDir;
use vermeer::Error;
use vermeer::data::Split;
use vermeer::evaluate::{PairTable, PairedImages, pairs};
use vermeer_image::metrics::{Metric, PairOptions, metric};
use vermeer_image::{Image, Pixels, write};

/// An empty folder for images.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Writes one row of pixels, with the folders above the file.
    fn row(&self, name: &str, channels: usize, samples: &[u8]) {
        let width = samples.len() / channels;
        self.image(name, width, channels, samples);
    }

    fn image(&self, name: &str, width: usize, channels: usize, samples: &[u8]) {
        let path: PathBuf = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let height = samples.len() / channels / width;
        let image = Image::new(width, height, channels, Pixels::U8(samples.to_vec())).unwrap();
        write(&image, &path).unwrap();
    }

    fn measure(
        &self,
        a: &str,
        b: &str,
        ids: &[&str],
        options: PairOptions,
    ) -> Result<PairTable, Error> {
        let metrics: Vec<&'static Metric> = ids.iter().map(|id| metric(id).unwrap()).collect();
        let images = PairedImages::open(&self.path(a), &self.path(b), [Split::All; 2])?;
        let stop = AtomicBool::new(false);
        pairs(&images, &metrics, options, None, &stop, &mut |_, _| {})
    }
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
}

#[test]
fn folders_pair_by_name_whatever_the_ending_and_the_order() {
    let place = Place::new();
    place.row("restored/x.png", 1, &[10, 20]);
    place.row("restored/y.png", 1, &[0, 5]);
    place.row("sharp/test/y.pgm", 1, &[0, 0]);
    place.row("sharp/test/x.png", 1, &[9, 22]);
    let ids = ["mse", "mae", "psnr"];
    let table = place
        .measure("restored", "sharp", &ids, PairOptions::default())
        .unwrap();
    assert_eq!((table.pairs, table.paired_by), (2, "file names"));
    // Squares (1 + 4)/2 and (0 + 25)/2, sizes (1 + 2)/2 and (0 + 5)/2; the intervals by
    // t₁ = 12.7062047 (scipy 1.17.1: t.ppf(.975, 1)).
    let [mse, mae, psnr] = &table.scores[..] else {
        panic!("three metrics");
    };
    assert_eq!(mse.mean.name, "mse_grey");
    assert_eq!((mse.each[0].value, mse.each[1].value), (2.5, 12.5));
    assert_eq!((mse.mean.value, mae.mean.value), (7.5, 2.0));
    assert_close(mse.mean.interval.unwrap().half_width(), 63.531_023_7);
    assert_eq!(mse.worst.pair, "y");
    // 10 log10(65025 / 2.5) = 44.15140352 and 37.16170348: the mean of the decibels.
    assert_eq!(psnr.mean.name, "psnr_db_grey");
    assert_close(psnr.mean.value, 40.656_553_5);
    assert_close(psnr.mean.interval.unwrap().half_width(), 44.406_279_9);
    assert_eq!(psnr.worst.pair, "y");
    assert_eq!(psnr.mean.passport.generated.images, 2);
    assert!(
        psnr.mean.citation.contains("sharp"),
        "{}",
        psnr.mean.citation
    );
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!(json["scores"][0]["value"], 7.5);
    assert_eq!(json["scores"][0]["each"][1]["pair"], "y");
}

#[test]
fn two_pictures_are_a_pair() {
    let place = Place::new();
    place.row("a.png", 3, &[255, 0, 0, 0, 0, 0]);
    place.row("b.png", 3, &[0, 0, 0, 0, 0, 0]);
    let table = place
        .measure("a.png", "b.png", &["mae", "psnr"], PairOptions::default())
        .unwrap();
    assert_eq!(table.scores[0].mean.name, "mae_rgb");
    assert_close(table.scores[0].mean.value, 42.5);
    assert_eq!(table.scores[0].mean.interval, None);
    // Luma: 65.481 of red in one of two pixels.
    let y = PairOptions {
        luma: true,
        ..PairOptions::default()
    };
    let table = place.measure("a.png", "b.png", &["mae"], y).unwrap();
    assert_eq!(table.scores[0].mean.name, "mae_y");
    assert_close(table.scores[0].mean.value, 32.740_5);
    // Equal ones: no error, an infinite ratio, and JSON all the same.
    let table = place
        .measure("b.png", "b.png", &["mse", "psnr"], PairOptions::default())
        .unwrap();
    assert_eq!(table.scores[0].mean.value, 0.0);
    assert_eq!(table.scores[1].mean.value, f64::INFINITY);
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!(json["scores"][1]["value"], "inf");
    assert_eq!(json["scores"][1]["each"][0]["value"], "inf");
}

#[test]
fn opaque_alpha_is_left_out_and_said() {
    let place = Place::new();
    place.row("a/x.png", 4, &[10, 20, 30, 255]);
    place.row("b/x.png", 3, &[10, 20, 36]);
    let table = place
        .measure("a", "b", &["mse"], PairOptions::default())
        .unwrap();
    assert_close(table.scores[0].mean.value, 12.0);
    let notes = &table.scores[0].mean.notes;
    assert!(notes.iter().any(|note| note.contains("alpha")), "{notes:?}");
}

#[test]
fn what_cannot_be_compared_is_named_with_the_remedy() {
    let place = Place::new();
    place.row("one/x.png", 1, &[1, 2]);
    place.row("two/x.png", 1, &[1, 2]);
    place.row("two/y.png", 1, &[1, 2]);
    place.row("long/x.png", 1, &[1, 2, 3]);
    place.row("colour/x.png", 3, &[1, 2, 3, 4, 5, 6]);
    place.row("clear/x.png", 2, &[1, 255, 2, 0]);
    place.row("other/z.png", 1, &[1, 2]);
    let options = PairOptions::default();
    for (a, b, id, parts) in [
        ("one", "two", "mse", ["y of", "two has 2"]),
        ("one", "other", "mse", ["x of", "z of"]),
        ("one", "long", "mse", ["x.png has 2x1", "x.png has 3x1"]),
        (
            "one",
            "colour",
            "mse",
            ["one/x.png is grey", "colour/x.png is in colour"],
        ),
        ("clear", "one", "mse", ["clear/x.png", "transparent"]),
        ("one/x.png", "two", "mse", ["one/x.png", "is a picture"]),
        ("one", "one", "ssim", ["ssim of", "x.png"]),
        ("one", "one", "fid", ["fid", "no metric of pairs"]),
        ("one", "one", "lpips", ["lpips", "network"]),
    ] {
        let error = place.measure(a, b, &[id], options).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.remedy().is_some(), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    let missing = place.measure("one", "nowhere", &["mse"], options);
    assert_eq!(missing.unwrap_err().exit_code(), 2);
}

#[test]
fn worlds_pair_by_their_order() {
    let world = "world:glyphs?count=3&size=32&seed=1&channels=1";
    let images = PairedImages::open(world, world, [Split::Train; 2]).unwrap();
    assert_eq!(
        (images.len(), images.by(), images.name(2)),
        (3, "order", "000002")
    );
    let metrics = [metric("ssim").unwrap(), metric("mse").unwrap()];
    let stop = AtomicBool::new(false);
    let table = pairs(
        &images,
        &metrics,
        PairOptions::default(),
        None,
        &stop,
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(table.scores[0].mean.name, "ssim_grey_valid11");
    assert_close(table.scores[0].mean.value, 1.0);
    assert_eq!(table.scores[1].mean.value, 0.0);
    let more = "world:glyphs?count=4&size=32&seed=1&channels=1";
    let error = PairedImages::open(world, more, [Split::Train; 2])
        .err()
        .unwrap();
    assert!(error.to_string().contains("3 images"), "{error}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let stopped = pairs(
        &images,
        &metrics,
        PairOptions::default(),
        None,
        &stop,
        &mut |_, _| {},
    );
    assert_eq!(stopped.unwrap_err().exit_code(), 1);
}
