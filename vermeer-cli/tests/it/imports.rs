//! Published weights become runs, and files that would run code are refused.

use std::fs;

use crate::place::{Place, shared};

/// `os.system("echo hi")` as Python 3.11 pickles it, protocol 4.
const HOSTILE: &[u8] = b"\x80\x04\x95\"\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06\
    system\x94\x93\x94\x8c\x07echo hi\x94\x85\x94R\x94.";

#[test]
fn a_pickle_that_would_run_code_is_refused_by_name() {
    let place = Place::new();
    place.file("hostile.pth", HOSTILE);
    let before = place.everything();
    let said = place
        .vermeer(&["models", "import", "hostile.pth", "-o", "runs/hostile"])
        .ended(4);
    for part in ["hostile.pth", "posix", "system", "help:"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(!said.out.contains("hi"));
    assert_eq!(place.everything(), before);
}

#[test]
fn weights_that_no_family_knows_leave_no_run() {
    let place = Place::new();
    place.file("torn.pth", b"PK\x03\x04 and no more");
    // A safetensors file of one number by hand: length of the header, header, value.
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let bytes = [
        &(header.len() as u64).to_le_bytes()[..],
        header,
        &1.0f32.to_le_bytes(),
    ]
    .concat();
    place.file("other.safetensors", bytes);
    let before = place.everything();
    for (file, parts) in [
        ("torn.pth", &["torn.pth"][..]),
        (
            "other.safetensors",
            &["no family", "vae:", "dcgan:", "diffusion:"],
        ),
    ] {
        let said = place
            .vermeer(&["models", "import", file, "-o", "runs/x"])
            .ended(4);
        for part in parts {
            assert!(said.err.contains(part), "{file}, {part}: {}", said.err);
        }
        assert_eq!(place.everything(), before);
    }
    place
        .vermeer(&[
            "models",
            "import",
            "other.safetensors",
            "-o",
            "runs/x",
            "--family",
            "vaee",
        ])
        .ended(2);
    let said = place
        .vermeer(&["models", "import", "none.pth", "-o", "runs/x"])
        .ended(2);
    assert!(said.err.contains("none.pth"), "{}", said.err);
}

#[test]
fn published_weights_become_runs_that_sample() {
    let Some(shared) = shared() else { return };
    let place = Place::new();
    let file = |name: &str| {
        shared
            .join("checkpoints")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    for (run, family, files) in [
        ("runs/vae", "vae", vec![file("vae_mnist/vae_epoch_25.pth")]),
        (
            "runs/dcgan",
            "dcgan",
            vec![
                file("dcgan_mnist/discriminator.pth"),
                file("dcgan_mnist/generator.pth"),
            ],
        ),
        (
            "runs/ddpm",
            "diffusion",
            vec![file("ddpm_mnist/ddpm_mnist.pt")],
        ),
    ] {
        let mut words = vec!["models", "import"];
        words.extend(files.iter().map(String::as_str));
        words.extend(["-o", run, "--json"]);
        let said = place.vermeer(&words).ended(0).json();
        assert_eq!(said["family"], family);
        assert_eq!(
            (&said["images"]["height"], &said["images"]["channels"]),
            (&28.into(), &1.into())
        );
        let show = place
            .vermeer(&["runs", "show", run, "--json"])
            .ended(0)
            .json();
        assert_eq!(
            (&show["record"]["status"], &show["checkpoints"]["latest"]),
            (&"imported".into(), &0.into())
        );
        let steps: &[&str] = if family == "diffusion" {
            &["--steps", "2"]
        } else {
            &[]
        };
        place
            .vermeer(&[&["sample", run, "-n", "4"][..], steps].concat())
            .ended(0);
        let grid = place.path(run).join("outputs/sample/grid.png");
        assert!(fs::read(grid).unwrap().starts_with(b"\x89PNG"), "{run}");
        // A run is never written over, not even by the same weights.
        place.vermeer(&words).ended(2);
    }
}
