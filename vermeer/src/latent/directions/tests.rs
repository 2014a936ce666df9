use super::*;

const COUNT: usize = 40;

/// Latents of 3 numbers, every fourth of a class that lies elsewhere.
fn latents() -> (Vec<f32>, Vec<bool>, Vec<f32>) {
    let members: Vec<bool> = (0..COUNT).map(|i| i % 4 == 0).collect();
    let mut z: Vec<f32> = (0..COUNT * 3)
        .map(|i| ((i * i * 7 + i * 3) % 23) as f32 / 4.0)
        .collect();
    for (row, member) in z.chunks_exact_mut(3).zip(&members) {
        if *member {
            row[0] += 1.5;
            row[1] -= 1.0;
            row[2] += 0.5;
        }
    }
    let size = z
        .chunks_exact(3)
        .enumerate()
        .map(|(i, row)| 0.5 * row[0] - row[2] + (i * 5 % 7) as f32 / 2.0)
        .collect();
    (z, members, size)
}

#[test]
fn directions_are_those_of_numpy() {
    // numpy 2.4 after the formulas of the module: np.cov, np.linalg.solve, np.corrcoef; the first 4
    // of 5 of each kind.
    let (z, members, attribute) = latents();
    let class = Target::Class(&members);
    let attribute = Target::Attribute(&attribute);
    for (target, method, vector, spread, score) in [
        (
            class,
            Method::Means,
            [0.419_464_42, -1.688_613_17, -0.161_332_47],
            1.747_396_066,
            0.833_333_333,
        ),
        (
            class,
            Method::Classifier,
            [0.397_061_33, -1.656_780_88, 0.108_449_46],
            1.707_144_359,
            0.75,
        ),
        (
            attribute,
            Method::Means,
            [1.243_898_05, 0.063_411_70, -1.429_303_59],
            1.895_840_748,
            0.828_367_754,
        ),
        (
            attribute,
            Method::Classifier,
            [1.075_827_24, 0.044_772_49, -1.538_185_78],
            1.877_611_331,
            0.844_614_098,
        ),
    ] {
        let found = toward(&z, 3, target, method).unwrap();
        for (a, b) in found.vector.iter().zip(vector) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "{found:?}");
        }
        assert!((found.spread - spread).abs() < 1e-6, "{found:?}");
        let measured = match target {
            Target::Class(_) => found.accuracy,
            Target::Attribute(_) => found.r_squared,
        };
        assert!((measured.unwrap() - score).abs() < 1e-6, "{found:?}");
        assert!(found.accuracy.is_none() || found.r_squared.is_none());
    }
}

#[test]
fn what_has_no_direction_is_refused() {
    let (z, members, _) = latents();
    let none = vec![false; COUNT];
    let same = vec![1.0; COUNT];
    for (target, method) in [
        (Target::Class(&members[1..]), Method::Means),
        (Target::Class(&none), Method::Means),
        (Target::Attribute(&same), Method::Classifier),
        (Target::Class(&members), Method::Principal),
    ] {
        let error = toward(&z, 3, target, method).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{target:?} {method:?}");
    }
}

#[test]
fn directions_come_back_from_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    assert_eq!(Directions::read(&path).unwrap_err().exit_code(), 2);
    let about = About {
        space: "z".to_owned(),
        method: Method::Classifier,
        data: "world:glyphs".to_owned(),
        images: 40,
        spread: 0.75,
        explained: None,
        accuracy: Some(0.5),
        r_squared: None,
        step: 3,
        checkpoint: "abc".to_owned(),
    };
    let mut directions = Directions::default();
    for (name, vector) in [("kite", vec![1.0, -0.5]), ("a \"b\"", vec![0.0])] {
        let about = about.clone();
        directions
            .0
            .insert(name.to_owned(), Direction { vector, about });
    }
    directions.write(&path).unwrap();
    let read = Directions::read(&path).unwrap();
    assert_eq!(read, directions);
    assert_eq!(read.get("kite", "z", 2).unwrap().vector, [1.0, -0.5]);
    let error = read.get("kit", "z", 2).unwrap_err();
    assert!(error.remedy().unwrap().contains("`kite`"), "{error:?}");
    for (space, size) in [("z", 3), ("w", 2)] {
        assert_eq!(read.get("kite", space, size).unwrap_err().exit_code(), 2);
    }
    // A file of other tensors is no file of directions.
    write_safetensors(
        &path,
        &TensorMap::from([(
            "x".into(),
            NamedTensor {
                shape: vec![1],
                data: vec![0.0],
            },
        )]),
        &BTreeMap::new(),
    )
    .unwrap();
    assert_eq!(Directions::read(&path).unwrap_err().exit_code(), 4);
}
