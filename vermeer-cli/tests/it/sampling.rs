//! A sample is the same image however it is computed.

use std::fs;

use vermeer::registry::{AnyFamily, FAMILIES};
use vermeer::task::Task;

use crate::place::Place;

#[test]
fn sample_17_does_not_depend_on_batch_threads_or_company() {
    let generates = |family: &&&dyn AnyFamily| family.info().tasks.contains(&Task::Generate);
    for family in FAMILIES.iter().filter(generates) {
        let place = Place::new();
        place.trained(*family, "tiny");
        let mut first: Option<Vec<u8>> = None;
        let mut number = 0;
        for batch in ["1", "8", "64"] {
            for threads in ["1", "2"] {
                for (from, count) in [("0", "20"), ("17", "1")] {
                    number += 1;
                    let out = format!("out-{number}");
                    let words = [
                        "sample",
                        "runs/tiny",
                        "-n",
                        count,
                        "--first",
                        from,
                        "--batch",
                        batch,
                        "--threads",
                        threads,
                        "--out",
                        &out,
                    ];
                    let mut command = place.command(&words);
                    assert!(
                        command
                            .env("RAYON_NUM_THREADS", threads)
                            .output()
                            .unwrap()
                            .status
                            .success()
                    );
                    let bytes = fs::read(place.path(&out).join("seed0-000017.png")).unwrap();
                    let id = family.info().id;
                    assert_eq!(
                        *first.get_or_insert_with(|| bytes.clone()),
                        bytes,
                        "{id}, {words:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn seeds_and_numbers_give_other_images() {
    let place = Place::new();
    place.trained(FAMILIES[0], "tiny");
    place
        .vermeer(&["sample", "runs/tiny", "-n", "2", "--out", "a"])
        .ended(0);
    place
        .vermeer(&[
            "sample",
            "runs/tiny",
            "-n",
            "2",
            "--out",
            "b",
            "--seed",
            "1",
        ])
        .ended(0);
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert_ne!(read("a/seed0-000000.png"), read("a/seed0-000001.png"));
    assert_ne!(read("a/seed0-000000.png"), read("b/seed1-000000.png"));
}
