//! The doctor of data sets: every image is decoded, compared with the others, and what is the
//! matter is said by file. [`fix()`] writes a clean copy, [`contact_sheet`] draws what there is.
//!
//! | problem | meaning | clean copy |
//! |---|---|---|
//! | `unreadable`, `truncated` | cannot be decoded, or ends too early | left out |
//! | `duplicate` | has the pixels of another image, in its split or another one | left out |
//! | `extension-mismatch` | its name claims another format than its bytes | PNG |
//! | `cmyk`, `palette` | not stored as grey or RGB | RGB |
//! | `rotated` | turned by an EXIF tag | upright |
//! | `animated` | has several frames or pages | the first |
//! | `mixed-size` | has another size than most | resized (bicubic) to that of most |
//! | `mixed-channels` | grey among colour, or the reverse | kept; loading converts it |
//! | `alpha` | has transparent parts | composited over black |
//! | `sixteen-bit` | is 16 bits deep | kept |
//! | `float` | holds floats | 16 bits deep; left out beyond \[0, 1\] |

mod finding;
mod fix;
mod holdings;
mod reason;
mod report;
mod sheet;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::make::Progress;
use super::source::{OpenOptions, Split};
use crate::error::Result;

pub use fix::{Fixed, fix};
pub use reason::Reason;
pub use report::{Count, Offender, Report, SizeCount};
pub use sheet::contact_sheet;

use finding::{Finding, Picture};
use holdings::Holdings;
use report::tally;

/// Decodes every image of a data set, on all processors, and reports what it finds; the report
/// does not depend on their number. `options.split` says which split to look at; with
/// [`Split::All`] the splits are compared with each other. A bad image is an entry of the report
/// and no error.
///
/// # Errors
/// Those of [`super::open`], when the data set as a whole cannot be opened.
pub fn inspect(location: &str, options: &OpenOptions, progress: Progress<'_>) -> Result<Report> {
    let holdings = Holdings::open(location, options)?;
    let count = holdings.items.len();
    let done = AtomicUsize::new(0);
    let mut findings: Vec<Finding> = holdings
        .items
        .par_iter()
        .map(|item| {
            let finding = Finding::new(holdings.read(item));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
            finding
        })
        .collect();
    compare(&holdings, &mut findings);
    Report::new(holdings, findings)
}

/// Adds the reasons that lie in the comparison with other images.
fn compare(holdings: &Holdings, findings: &mut [Finding]) {
    let pictures = || {
        findings
            .iter()
            .filter_map(|finding| finding.picture.as_ref())
    };
    let sizes = tally(pictures().map(|picture| picture.size));
    let colours = tally(pictures().map(Picture::colour));
    let (Some(&(common, _)), Some(&(mostly_colour, _))) = (sizes.first(), colours.first()) else {
        return;
    };
    for finding in findings.iter_mut() {
        let Some(picture) = &finding.picture else {
            continue;
        };
        let (size, colour) = (picture.size, picture.colour());
        if size != common {
            finding.reasons.push(Reason::MixedSize { size, common });
        }
        if colour != mostly_colour {
            finding.reasons.push(Reason::MixedChannels { colour });
        }
    }

    // Of equal images the one to keep is that of the test split: results reported on a shortened
    // test set could not be compared with those of others.
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_key(|place| match holdings.items[*place].split {
        Some(Split::Test) => 0,
        Some(Split::Validation) => 1,
        _ => 2,
    });
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    for place in order {
        let Some(picture) = &findings[place].picture else {
            continue;
        };
        match first.entry(picture.digest) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(entry) => {
                let (item, other) = (&holdings.items[place], &holdings.items[*entry.get()]);
                findings[place].reasons.push(Reason::Duplicate {
                    of: other.name.clone(),
                    across_splits: item.split != other.split,
                    across_classes: item.class != other.class,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;
    use vermeer_image::{Format, Image, Pixels, encode, encode_png};

    use super::*;

    fn quiet(_: usize, _: usize) {}

    fn all() -> OpenOptions {
        OpenOptions {
            split: Split::All,
            ..OpenOptions::default()
        }
    }

    fn look(path: &Path) -> Report {
        inspect(path.to_str().unwrap(), &all(), &quiet).unwrap()
    }

    fn image(width: usize, channels: usize, seed: usize) -> Image {
        let bytes = (0..width * 8 * channels).map(|i| (i * 31 + seed * 7) as u8);
        Image::new(width, 8, channels, Pixels::U8(bytes.collect())).unwrap()
    }

    fn png(seed: usize) -> Vec<u8> {
        encode_png(&image(8, 1, seed)).unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    /// A BMP of 2x1 pixels, 8 bits per pixel and two colours.
    fn palette_bmp() -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        for field in [66u32, 0, 62, 40, 2, 1, 8 << 16 | 1, 0, 4, 0, 0, 2, 0] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend([1, 2, 3, 0, 4, 5, 6, 0, 1, 0, 0, 0]);
        bytes
    }

    /// A JPEG of one block in each of four components, all coefficients zero (ITU-T T.81).
    fn cmyk_jpeg() -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        bytes.extend([1; 64]);
        bytes.extend([0xFF, 0xC0, 0, 20, 8, 0, 8, 0, 8, 4]);
        bytes.extend([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]);
        // One code of one bit: no difference for DC, end of block for AC.
        for class in [0x00, 0x10] {
            bytes.extend([0xFF, 0xC4, 0, 20, class, 1]);
            bytes.extend([0; 16]);
        }
        bytes.extend([0xFF, 0xDA, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
        bytes.extend([0, 0xFF, 0xD9]);
        bytes
    }

    /// A JPEG whose EXIF block (tag 0x0112) asks for a quarter turn.
    fn turned_jpeg() -> Vec<u8> {
        let plain = encode(&image(8, 1, 50), Format::Jpeg).unwrap();
        let mut bytes = plain[..2].to_vec();
        bytes.extend(b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01");
        bytes.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
        bytes.extend(&plain[2..]);
        bytes
    }

    /// A data set with one defect of each kind, and what is to be found.
    fn planted() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
        let deep = Pixels::U16((0..64).map(|i| i * 999).collect());
        let float = Pixels::F32((0..64).map(|i| i as f32 / 64.0).collect());
        let beyond = Pixels::F32((0..64).map(|i| i as f32).collect());
        let deep = Image::new(8, 8, 1, deep).unwrap();
        let float = Image::new(8, 8, 1, float).unwrap();
        let beyond = Image::new(8, 8, 1, beyond).unwrap();
        let cut = png(10)[..60].to_vec();
        vec![
            ("train/a/0.png", png(0), vec!["duplicate"]),
            ("train/a/1.png", png(1), vec![]),
            ("train/a/2.png", png(2), vec![]),
            ("train/a/cut.png", cut, vec!["truncated"]),
            ("train/a/empty.png", vec![], vec!["unreadable"]),
            ("train/a/text.png", b"no image".to_vec(), vec!["unreadable"]),
            ("train/a/wrong.jpg", png(11), vec!["extension-mismatch"]),
            ("train/b/3.png", png(3), vec![]),
            ("train/b/again.png", png(1), vec!["duplicate"]),
            (
                "train/b/clear.png",
                encode_png(&image(8, 2, 12)).unwrap(),
                vec!["alpha"],
            ),
            (
                "train/b/cmyk.jpg",
                cmyk_jpeg(),
                vec!["cmyk", "mixed-channels"],
            ),
            (
                "train/b/colour.png",
                encode_png(&image(8, 3, 13)).unwrap(),
                vec!["mixed-channels"],
            ),
            (
                "train/b/deep.png",
                encode_png(&deep).unwrap(),
                vec!["sixteen-bit"],
            ),
            (
                "train/b/float.tiff",
                encode(&float, Format::Tiff).unwrap(),
                vec!["float"],
            ),
            (
                "train/b/float2.tiff",
                encode(&beyond, Format::Tiff).unwrap(),
                vec!["float"],
            ),
            (
                "train/b/palette.bmp",
                palette_bmp(),
                vec!["mixed-size", "mixed-channels", "palette"],
            ),
            ("train/b/turned.JPG", turned_jpeg(), vec!["rotated"]),
            (
                "train/b/wide.png",
                encode_png(&image(9, 1, 14)).unwrap(),
                vec!["mixed-size"],
            ),
            ("test/a/same.png", png(0), vec![]),
            ("test/b/4.png", png(4), vec![]),
        ]
    }

    fn planted_folder() -> TempDir {
        let files: Vec<_> = planted()
            .into_iter()
            .map(|(name, bytes, _)| (name, bytes))
            .collect();
        folder(&files)
    }

    #[test]
    fn every_planted_defect_is_found_and_nothing_else() {
        let root = planted_folder();
        let report = look(root.path());
        for (name, _, expected) in planted() {
            let offender = report
                .offenders
                .iter()
                .find(|offender| offender.file == name);
            let found: Vec<_> = offender
                .map(|offender| offender.reasons.iter().map(Reason::problem).collect())
                .unwrap_or_default();
            assert_eq!(found, expected, "{name}: {offender:?}");
        }
        assert_eq!((report.images, report.readable), (20, 17));
        let reason = |name: &str| {
            let offender = report.offenders.iter().find(|o| o.file == name).unwrap();
            offender.reasons[0].clone()
        };
        assert_eq!(
            reason("train/a/0.png"),
            Reason::Duplicate {
                of: "test/a/same.png".to_string(),
                across_splits: true,
                across_classes: false,
            }
        );
        assert_eq!(
            reason("train/b/again.png"),
            Reason::Duplicate {
                of: "train/a/1.png".to_string(),
                across_splits: false,
                across_classes: true,
            }
        );
        assert_eq!(
            reason("train/b/turned.JPG"),
            Reason::Rotated { orientation: 6 }
        );
    }

    #[test]
    fn the_report_is_said_in_text_and_json() {
        let root = planted_folder();
        let report = look(root.path());
        let text = report.to_text();
        for part in [
            "folder-per-class, 20 images, 3 unreadable",
            "train 18, test 2",
            "a 8, b 12",
            "8x8 15",
            "balance      0.67",
            "duplicate (2)",
            "train/a/0.png: of test/a/same.png, in another split",
            "train/b/cmyk.jpg: colour, most are grey",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["splits"][0]["name"], "train");
        assert_eq!(json["sizes"][0]["width"], 8);
        assert_eq!(json["offenders"][0]["file"], "train/a/0.png");
        assert_eq!(json["offenders"][0]["split"], "train");
        assert_eq!(json["offenders"][0]["reasons"][0]["problem"], "duplicate");
        assert!(json.get("findings").is_none());
    }

    #[test]
    fn a_clean_copy_has_one_size_and_no_defect_that_can_be_mended() {
        let root = planted_folder();
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("clean");
        let fixed = fix(&look(root.path()), &out, &quiet).unwrap();
        let expected = Fixed {
            images: 14,
            resized: 2,
            left_out: 6,
        };
        assert_eq!(fixed, expected);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);

        let report = look(&out);
        assert_eq!((report.images, report.readable), (14, 14));
        assert_eq!(report.sizes.len(), 1);
        let names: Vec<_> = report
            .problems
            .iter()
            .map(|problem| problem.name.as_str())
            .collect();
        assert_eq!(names, ["mixed-channels", "sixteen-bit"]);
        assert_eq!(report.classes.len(), 2);
        assert!(out.join("train/b/turned.png").is_file());
        // A second copy refuses the place of the first and leaves it as it is.
        let error = fix(&look(root.path()), &out, &quiet).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(look(&out).images, 14);
    }

    #[test]
    fn alpha_is_composited_over_black() {
        let pixels = Pixels::U8([200u8, 51].repeat(64));
        let clear = encode_png(&Image::new(8, 8, 2, pixels).unwrap()).unwrap();
        let root = folder(&[("a.png", clear), ("b.png", png(1))]);
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("clean");
        fix(&look(root.path()), &out, &quiet).unwrap();
        let copy = vermeer_image::decode_file(&out.join("a.png"), &all().limits).unwrap();
        // A fifth (51 of 255) of 200.
        assert_eq!(copy.image.pixels(), &Pixels::U8(vec![40; 64]));
    }

    #[test]
    fn worlds_are_clean_and_balanced_and_are_copied_with_their_attributes() {
        let location = "world:shapes?count=21&size=16&seed=4";
        let report = inspect(location, &all(), &quiet).unwrap();
        assert!(report.is_clean(), "{}", report.to_text());
        assert_eq!((report.images, report.balance), (63, Some(1.0)));
        assert_eq!(report.splits.len(), 3);
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("copy");
        fix(&report, &out, &quiet).unwrap();
        assert_eq!(look(&out).classes, report.classes);
        let table = fs::read_to_string(out.join("labels.csv")).unwrap();
        assert!(table.starts_with("file,label,shape,hue,"), "{table}");
        assert_eq!(table.lines().count(), 64);
    }

    #[test]
    fn labels_that_folders_do_not_tell_are_copied_too() {
        let labels = br#"{"labels": [["a.png", 1], ["b.png", 0]]}"#.to_vec();
        let root = folder(&[
            ("a.png", png(1)),
            ("b.png", png(2)),
            ("dataset.json", labels),
        ]);
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("clean");
        fix(&look(root.path()), &out, &quiet).unwrap();
        let copy = super::super::open(out.to_str().unwrap(), &all()).unwrap();
        assert_eq!((copy.label(0), copy.label(1)), (Some(1), Some(0)));
    }

    #[test]
    fn what_cannot_be_kept_or_opened_is_an_error() {
        let root = folder(&[("a.png", b"text".to_vec())]);
        let report = look(root.path());
        let place = tempfile::tempdir().unwrap();
        let error = fix(&report, &place.path().join("out"), &quiet).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let empty = tempfile::tempdir().unwrap();
        let error = inspect(empty.path().to_str().unwrap(), &all(), &quiet)
            .err()
            .unwrap();
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn the_sheet_shows_every_image_of_a_small_set() {
        let root = planted_folder();
        let report = look(root.path());
        let sheet = contact_sheet(&report).unwrap();
        // 20 images need five columns and four rows.
        assert_eq!(sheet.channels(), 3);
        assert_eq!(sheet.width(), 5 * (112 + 4) + 4);
        assert!(sheet.height() > 4 * (112 + 4));
    }
}
