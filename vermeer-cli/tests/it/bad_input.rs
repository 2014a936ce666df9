//! Bad input: a clear error with file and remedy, the designed exit code, and nothing left behind.

use vermeer_image::{Image, Pixels, encode_png};

use crate::place::Place;

/// A PNG whose header claims 60,000 × 60,000 pixels of RGBA, 14.4 GB; sums by zlib's CRC-32.
const BOMB: [u8; 68] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0xea, 0x60, 0x00, 0x00, 0xea, 0x60, 0x08, 0x06, 0x00, 0x00, 0x00, 0x80, 0xd2, 0x75,
    0x42, 0x00, 0x00, 0x00, 0x0b, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x60, 0x40, 0x05, 0x00,
    0x00, 0x10, 0x00, 0x01, 0x39, 0xbd, 0x8f, 0x65, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44,
    0xae, 0x42, 0x60, 0x82,
];

/// IDX bytes: the magic number, sizes, zeros.
fn idx(magic: u32, sizes: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [&[magic][..], sizes]
        .concat()
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    let count: u32 = sizes.iter().product();
    bytes.resize(bytes.len() + count as usize, 0);
    bytes
}

fn png() -> Vec<u8> {
    let samples = (0..32 * 32).map(|i| (i * 7 % 251) as u8).collect();
    encode_png(&Image::new(32, 32, 1, Pixels::U8(samples)).unwrap()).unwrap()
}

#[test]
fn bad_data_are_named_and_leave_nothing() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    place.file("torn/a.png", &png()[..100]);
    place.file("bomb/a.png", BOMB);
    place.file("text/a.png", "this is a letter and no picture");
    place.file("magic/train-images-idx3-ubyte", idx(2052, &[3, 28, 28]));
    place.file("count/train-images-idx3-ubyte", idx(2051, &[3, 28, 28]));
    place.file("count/train-labels-idx1-ubyte", idx(2049, &[2]));
    let before = place.everything();
    for (folder, code, parts) in [
        (
            "empty",
            4,
            &["empty", "holds no images", "put images into it"][..],
        ),
        ("torn", 4, &["a.png", "truncated", "help:"]),
        ("bomb", 4, &["a.png", "60000", "help:"]),
        ("text", 4, &["a.png", "text", "help:"]),
        (
            "magic",
            4,
            &["train-images-idx3-ubyte", "2052", "2051", "help:"],
        ),
        (
            "count",
            4,
            &["train-labels-idx1-ubyte", "2 labels", "3 images", "help:"],
        ),
        (
            "missing",
            2,
            &["missing", "no such file or folder", "check the path"],
        ),
        ("world:gliphs", 2, &["gliphs", "glyphs, shapes"]),
    ] {
        let said = place
            .vermeer(&["train", "--data", folder, "--model", "vae"])
            .ended(code);
        for part in parts {
            assert!(said.err.contains(part), "{folder}, {part}: {}", said.err);
        }
        assert!(said.out.is_empty(), "{folder}: {}", said.out);
        assert_eq!(place.everything(), before, "{folder}");
    }
}

#[test]
fn bad_settings_are_named_and_leave_nothing() {
    let place = Place::new();
    place.file(
        "key.toml",
        "family = \"vae\"\n\n[train]\nsteps = 5\nbatchsize = 3\n",
    );
    place.file(
        "model.toml",
        "family = \"vae\"\n[data]\nsource = \"world:glyphs\"\n[model]\nlatnt = 3\n",
    );
    place.file("kind.toml", "family = \"vae\"\nseed = \"one\"\n");
    place.file("torn.toml", "family = \"vae\n");
    place.file("family.toml", "family = \"dcgn\"\n");
    let before = place.everything();
    let world = ["--data", "world:glyphs?count=64"];
    for (words, parts) in [
        (
            &["train", "key.toml"][..],
            &["key.toml", "line 5", "batchsize", "batch_size"][..],
        ),
        (
            &["train", "model.toml"],
            &["model.toml", "line 5", "latnt", "latent"],
        ),
        (&["train", "kind.toml"], &["kind.toml", "line 2", "help:"]),
        (&["train", "torn.toml"], &["torn.toml", "help:"]),
        (&["train", "family.toml"], &["dcgn", "`dcgan`"]),
        (&["train", "no.toml"], &["no.toml", "no such recipe or run"]),
        (
            &["train", world[0], world[1], "--model", "vaee"],
            &["vaee", "`vae`"],
        ),
        (
            &["train", world[0], world[1]],
            &["no model family", "--model vae"],
        ),
        (&["train", "--model", "vae"], &["no data", "--data"]),
        (
            &[
                "train",
                world[0],
                world[1],
                "--model",
                "vae",
                "--set",
                "train.stepz=3",
            ],
            &["train.stepz", "unknown"],
        ),
        (
            &[
                "train",
                world[0],
                world[1],
                "--model",
                "vae",
                "--set",
                "data.size=10",
            ],
            &["10×10", "divisible by 4"],
        ),
        (
            &[
                "train",
                world[0],
                world[1],
                "--model",
                "vae",
                "--set",
                "train.batch_size=0",
            ],
            &["train.batch_size", "at least 1"],
        ),
        (
            &[
                "train", world[0], world[1], "--model", "vae", "--device", "quantum",
            ],
            &["quantum", "flex"],
        ),
        (
            &[
                "train", world[0], world[1], "--model", "vae", "--name", "../up",
            ],
            &["../up", "name of a run"],
        ),
        (&["sample", "runs/none"], &["runs/none", "no run.json"]),
        (&["runs", "show", "key.toml"], &["key.toml", "no run.json"]),
        (
            &["models", "describe", "difusion"],
            &["difusion", "`diffusion`"],
        ),
    ] {
        let said = place.vermeer(words).ended(2);
        for part in parts {
            assert!(said.err.contains(part), "{words:?}, {part}: {}", said.err);
        }
        assert!(said.out.is_empty(), "{words:?}: {}", said.out);
        assert_eq!(place.everything(), before, "{words:?}");
    }
}

#[test]
fn a_folder_of_images_is_no_recipe_and_the_remedy_says_so() {
    let place = Place::new();
    place.file("photos/a.png", png());
    let said = place.vermeer(&["train", "photos"]).ended(2);
    assert!(
        said.err.contains("vermeer train --data photos --model vae"),
        "{}",
        said.err
    );
}
