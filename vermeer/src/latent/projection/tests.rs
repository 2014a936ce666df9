use super::super::tests::{Linear, Styled};
use super::*;
use crate::optim::AdamConfig;
use crate::registry::{FAMILIES, TrainerContext};

#[test]
fn the_latent_of_a_sample_is_found_again() {
    // Four pixels of two numbers: the image tells the latent.
    let model = Linear {
        matrix: vec![0.10, 0.02, -0.05, 0.08, 0.03, 0.04, 0.07, -0.06],
        size: 2,
        classes: false,
    };
    let space = Space::of(&model).unwrap();
    let device = Device::flex();
    let options = ProjectionOptions {
        steps: 200,
        candidates: 16,
        starts: 3,
        prior: 0.0,
        ..ProjectionOptions::default()
    };
    let truth = [0.8f32, -1.3];
    let choices = [SampleOptions::default()];
    let image = space.images(&truth, 0, &choices).unwrap();
    let projector = Projector::new(space, &device, options).unwrap();
    let go = AtomicBool::new(false);
    let mut last = (0, 0);
    let found = projector
        .project(&image, 0, &choices, &go, &mut |done, all| {
            last = (done, all);
        })
        .unwrap();
    assert_eq!(last, (200, 200));
    for (found, truth) in found.latent.iter().zip(truth) {
        assert!((found - truth).abs() < 0.02, "{found} {truth}");
    }
    assert!(found.mse < 1e-5 && found.features < 1e-3, "{found:?}");
    let stopped = projector.project(&image, 0, &choices, &AtomicBool::new(true), &mut |_, _| ());
    assert_eq!(stopped.unwrap_err().exit_code(), 1);
    for wrong in [
        ProjectionOptions {
            steps: 0,
            ..options
        },
        ProjectionOptions {
            candidates: 2,
            ..options
        },
        ProjectionOptions {
            prior: f64::NAN,
            ..options
        },
    ] {
        assert!(Projector::new(space, &device, wrong).is_err());
    }
}

#[test]
fn styles_are_searched_from_their_mean() {
    let model = Styled(Linear {
        matrix: vec![0.05, 0.01, -0.025, 0.04, 0.015, 0.02, 0.035, -0.03],
        size: 2,
        classes: false,
    });
    let space = Space::of(&model).unwrap();
    let device = Device::flex();
    let options = ProjectionOptions {
        steps: 200,
        candidates: 4,
        starts: 1,
        ..ProjectionOptions::default()
    };
    let projector = Projector::new(space, &device, options).unwrap();
    let choices = [SampleOptions::default()];
    let usual = space.usual(&choices).unwrap();
    // One start is the mean alone, and there the length asks for nothing, nor at a deviation.
    let pixels = Tensor::<4>::zeros([1, 1, 1, 4], &device);
    let features = projector.features(pixels.clone());
    let wanted = Wanted { pixels, features };
    let go = AtomicBool::new(false);
    let found = projector.starts(&wanted, 3, &choices, &usual, &go).unwrap();
    assert_eq!(found, usual.mean);
    let length = |row: &[f32]| host(projector.length(projector.tensor(row, 1), &usual))[0];
    let out = |by: f32| [usual.values(0, &[by])[0], usual.values(1, &[by])[0]];
    assert_eq!((length(&usual.mean), length(&out(0.9))), (0.0, 0.0));
    assert!((length(&out(2.0)) - 9.0).abs() < 1e-2);
    // The noise is that of the number.
    let truth = [2.6f32, 0.3];
    let image = space.images(&truth, 3, &choices).unwrap();
    let found = projector
        .project(&image, 3, &choices, &go, &mut |_, _| ())
        .unwrap();
    for (found, truth) in found.latent.iter().zip(truth) {
        assert!((found - truth).abs() < 0.1, "{found} {truth}");
    }
}

#[test]
fn adam_begins_with_a_step_of_its_rate() {
    // m / (1 − β₁) = g and v / (1 − β₂) = g², so the step is the rate with the sign of g.
    let mut z = [1.0f32, 1.0];
    let (mut m, mut v) = (vec![0.0; 2], vec![0.0; 2]);
    adam(&mut z, [&mut m, &mut v], &[0.5, -2.0], 0, 0.25);
    assert!(
        (z[0] - 0.75).abs() < 1e-6 && (z[1] - 1.25).abs() < 1e-6,
        "{z:?}"
    );
    // By hand: m = 0.1 · 0.9 · 0.5 = 0.045, v = 0.001 · 0.999 · 0.25.
    adam(&mut z, [&mut m, &mut v], &[0.0, 0.0], 1, 1.0);
    let step = (0.045 / 0.19) / (0.000_249_75f64 / 0.001_999).sqrt();
    assert!((f64::from(z[0]) - (0.75 - step)).abs() < 1e-5, "{z:?}");
}

#[test]
fn families_that_give_gradients_give_those_of_their_samples() {
    let choices = SampleOptions::default();
    let mut tried = Vec::new();
    for family in FAMILIES {
        let (table, spec) = family.tiny().unwrap();
        let context = TrainerContext {
            spec,
            seed: 1,
            device: Device::flex().autodiff(),
            adam: AdamConfig::default(),
            average_half_life_images: 0.0,
        };
        let trainer = family.trainer(&table, &context).unwrap();
        let pipeline = trainer.pipeline().unwrap();
        let Ok(space) = Space::of(&*pipeline) else {
            continue;
        };
        // At these points no unit is so near its kink that a difference looks across it.
        let seeded = SampleOptions {
            seed: 11,
            ..SampleOptions::default()
        };
        let Ok(z) = space.draw(&[0, 1, 2], std::slice::from_ref(&seeded)) else {
            continue;
        };
        let tensor = |z: &[f32]| {
            let data = TensorData::new(z.to_vec(), [3, space.size()]);
            Tensor::<2>::from_data(data, &Device::flex()).autodiff()
        };
        let latents = tensor(&z).require_grad();
        let Ok(x) = space.tracked_images(latents.clone(), 0, std::slice::from_ref(&choices)) else {
            continue;
        };
        let id = family.info().id;
        tried.push(id);
        let values = host(x.clone().inner());
        let plain = space.images(&z, 0, std::slice::from_ref(&choices)).unwrap();
        let plain = host(plain.to_range(Range::Unit).into_tensor());
        for (a, b) in values.iter().zip(&plain) {
            // Pixels beyond the range have gradients too, where the family says so.
            assert!((a.clamp(0.0, 1.0) - b).abs() < 1e-5, "{id}: {a} {b}");
        }
        let mut tape = x.square().sum().backward();
        let gradient = host(latents.grad_remove(&mut tape).unwrap().inner());
        // Along the gradient the sum changes by its squared length.
        let length: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        assert!(length > 0.0, "{id}");
        // Short enough to cross few of the kinks of leaky units, and long enough for the sum to
        // change by more than the rounding of pixels: an untrained DCGAN hardly sees its latent.
        let norm = length.sqrt();
        let step = (3e-4 / norm).clamp(1e-3, 0.15) / norm;
        let at = |sign: f64| -> f64 {
            let moved: Vec<f32> = z
                .iter()
                .zip(&gradient)
                .map(|(z, g)| (f64::from(*z) + sign * step * f64::from(*g)) as f32)
                .collect();
            let x = space
                .tracked_images(tensor(&moved), 0, std::slice::from_ref(&choices))
                .unwrap();
            let values = host(x.inner());
            values.iter().map(|x| f64::from(*x).powi(2)).sum()
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!(
            (slope / length - 1.0).abs() < 0.03,
            "{id}: {slope} {length}"
        );
    }
    assert!(
        ["vae", "dcgan", "stylegan2"]
            .iter()
            .all(|id| tried.contains(id)),
        "{tried:?}"
    );
}
