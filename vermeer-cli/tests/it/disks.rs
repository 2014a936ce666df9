//! Disks that are full or read-only, on small ones in memory where mounting is allowed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use vermeer::registry::family;

use crate::place::{Place, everything};

/// A disk that is taken away with this value.
struct Disk(PathBuf);

impl Disk {
    /// A disk of this size, or none where mounting is not allowed, which is said.
    fn new(place: &Place, size: &str) -> Option<Self> {
        let path = place.path("disk");
        fs::create_dir(&path).unwrap();
        if mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size}"),
            "tmpfs",
            path.to_str().unwrap(),
        ]) {
            return Some(Self(path));
        }
        eprintln!("skipped: mounting a small disk is not allowed here");
        None
    }

    fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro", self.0.to_str().unwrap()]));
    }

    /// Fills it except for some bytes.
    fn fill_but(&self, free: usize) {
        let filler = self.0.join("filler");
        let mut size = 16 << 20;
        while size >= 4096 {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&filler)
                .unwrap();
            if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
        let length = fs::metadata(&filler).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&filler).unwrap();
        file.set_len(length - free as u64).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(words: &[&str]) -> bool {
    let status = Command::new("mount")
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_ends_the_training_with_the_reason() {
    let place = Place::new();
    let Some(disk) = Disk::new(&place, "1m") else {
        return;
    };
    place.recipe(family("vae").unwrap(), "tiny", |train| train.steps = 3);
    disk.fill_but(128 << 10);
    // A hidden layer of 1024 makes a checkpoint that does not fit.
    let words = [
        "train",
        "tiny.toml",
        "--runs",
        "disk/runs",
        "--set",
        "model.hidden=[1024]",
    ];
    let said = place.vermeer(&words).ended(1);
    for part in ["disk/runs/tiny", "free"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let left = everything(&disk.0.join("runs/tiny/checkpoints"));
    assert!(left.is_empty(), "{:?}", left.keys());
}

#[test]
fn samples_that_do_not_fit_on_the_disk_leave_nothing_there() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let Some(disk) = Disk::new(&place, "1m") else {
        return;
    };
    disk.fill_but(16 << 10);
    let before = everything(&disk.0);
    let said = place
        .vermeer(&["sample", "runs/tiny", "-n", "64", "--out", "disk/out"])
        .ended(1);
    assert!(
        said.err.contains("disk/out") && said.err.contains("help:"),
        "{}",
        said.err
    );
    assert_eq!(everything(&disk.0), before);
}

#[test]
fn a_read_only_disk_is_named() {
    let place = Place::new();
    place.trained(family("vae").unwrap(), "tiny");
    let Some(disk) = Disk::new(&place, "1m") else {
        return;
    };
    disk.make_read_only();
    for words in [
        &["train", "tiny.toml", "--runs", "disk/runs"][..],
        &["sample", "runs/tiny", "--out", "disk/out"],
        &[
            "data",
            "make",
            "glyphs",
            "-o",
            "disk/glyphs",
            "--count",
            "2",
        ],
        &["demo", "--out", "disk/runs", "--steps", "1"],
    ] {
        let said = place.vermeer(words).ended(1);
        assert!(
            said.err.contains("disk") && said.err.contains("read-only"),
            "{words:?}: {}",
            said.err
        );
    }
    assert!(everything(&disk.0).is_empty());
}
