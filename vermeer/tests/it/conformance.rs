//! What every family of [`FAMILIES`] promises, on the device that `VERMEER_TEST_DEVICE` names.
//!
//! No family is named here. A family with two networks is known by its setting
//! `discriminator_rate`, the learning rate of the second network over that of the first.

use std::collections::BTreeSet;
use std::env;

use burn::prelude::*;
use vermeer::data::HostBatch;
use vermeer::image::{ImageBatch, Range};
use vermeer::optim::AdamConfig;
use vermeer::registry::{AnyFamily, DataSpec, FAMILIES, Step, TrainState, Trainer, TrainerContext};
use vermeer::run::TensorMap;
use vermeer::task::{Answer, Conditions, Pipeline, Request, SampleOptions, TASKS, Task};
use vermeer::train::Scalars;
use vermeer::{Error, device};

use crate::twin::{distance, norm, values};

/// Images of a batch.
const IMAGES: usize = 4;

/// The name of the device the tests run on.
fn device_name() -> String {
    env::var("VERMEER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned())
}

/// Whether the device repeats itself to the bit, as the processor does.
fn exact() -> bool {
    ["flex", "cpu", "auto"].contains(&device_name().as_str())
}

fn device() -> Device {
    device::parse(&device_name()).unwrap()
}

/// A family with the settings and images of its tests.
struct Subject {
    family: &'static dyn AnyFamily,
    table: toml::Table,
    spec: DataSpec,
}

impl Subject {
    fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|family| {
            let (table, spec) = family.tiny().unwrap();
            Self {
                family: *family,
                table,
                spec,
            }
        })
    }

    fn id(&self) -> &'static str {
        self.family.info().id
    }

    /// A new trainer; a half-life of zero images keeps no average.
    fn trainer(&self, half_life_images: f64) -> Box<dyn Trainer> {
        let defaults = self.family.train_defaults();
        let context = TrainerContext {
            spec: self.spec.clone(),
            seed: 7,
            device: device().autodiff(),
            adam: AdamConfig {
                beta1: defaults.beta1,
                beta2: defaults.beta2,
                epsilon: 1e-8,
                weight_decay: 0.0,
            },
            average_half_life_images: half_life_images,
        };
        self.family.trainer(&self.table, &context).unwrap()
    }

    /// The same four images as batch `step`: dark but for the left half of one quarter of the rows,
    /// another quarter in each.
    fn batch(&self, step: u64) -> HostBatch {
        let [channels, height, width] = self.spec.shape();
        let mut images = Vec::with_capacity(IMAGES * channels * height * width);
        for image in 0..IMAGES {
            for pixel in 0..channels * height * width {
                let (y, x) = (pixel / width % height, pixel % width);
                let bright = IMAGES * y / height == image && 2 * x < width;
                images.push(f32::from(u8::from(bright)));
            }
        }
        let classes = self.spec.classes.len();
        let labels =
            (classes > 0).then(|| (0..IMAGES).map(|image| (image % classes) as u32).collect());
        HostBatch {
            step,
            images,
            labels,
            attributes: None,
            batch: IMAGES,
            shape: self.spec.shape(),
        }
    }

    /// The images of [`Subject::batch`] as a request takes them.
    fn images(&self) -> ImageBatch {
        let [channels, height, width] = self.spec.shape();
        let pixels = Tensor::<1>::from_floats(&self.batch(0).images[..], &device());
        ImageBatch::new(
            pixels.reshape([IMAGES, channels, height, width]),
            Range::Unit,
        )
        .unwrap()
    }

    /// Steps `from..to` of two micro-batches each; every scalar must be finite.
    fn train(&self, trainer: &mut dyn Trainer, from: u64, to: u64) {
        for step in from..to {
            let micro = [self.batch(2 * step), self.batch(2 * step + 1)];
            let step = Step {
                micro: &micro,
                learning_rate: 1e-3,
                clip_norm: Some(1.0),
            };
            assert_finite(self.id(), &trainer.step(&step).unwrap());
        }
    }
}

fn assert_finite(id: &str, scalars: &Scalars) {
    assert!(!scalars.is_empty(), "{id} measures nothing");
    for (name, value) in scalars {
        assert!(value.is_finite(), "{id}: {name} is {value}");
    }
}

/// Fails unless two sets of tensors are equal: to the bit on the processor, elsewhere within 1e-4
/// of their norm, since the order of their sums is the driver's.
fn assert_same(what: &str, ours: &TensorMap, other: &TensorMap) {
    assert!(
        ours.keys().eq(other.keys()),
        "{what}: {:?} and {:?}",
        ours.keys(),
        other.keys()
    );
    for (name, a) in ours {
        let b = &other[name];
        assert_eq!(a.shape, b.shape, "{what}: {name}");
        assert_equal(&format!("{what}: {name}"), &a.data, &b.data);
    }
}

fn assert_equal(what: &str, a: &[f32], b: &[f32]) {
    if exact() {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(
            bits(a) == bits(b),
            "{what}: not equal to the bit, {:e} away",
            distance(a, b)
        );
    } else {
        let (apart, size) = (distance(a, b), norm(b).max(1e-3));
        assert!(
            apart <= 1e-4 * size,
            "{what}: {apart:e} away from a tensor of norm {size:e}"
        );
    }
}

fn ask(pipeline: &dyn Pipeline, request: &Request) -> Result<Answer, Error> {
    pipeline.answer(request, &mut |_, _| ())
}

/// The samples with these numbers; of a family that makes none, as many reconstructions.
fn made(subject: &Subject, pipeline: &dyn Pipeline, numbers: &[u64]) -> Tensor<4> {
    let options = SampleOptions::default();
    if pipeline.tasks().contains(&Task::Generate) {
        let request = Request::Generate {
            numbers,
            options: &options,
        };
        return ask(pipeline, &request)
            .unwrap()
            .into_images()
            .unwrap()
            .into_tensor();
    }
    let rows: Vec<Tensor<4>> = numbers
        .iter()
        .map(|number| {
            let images = subject.images().into_tensor();
            images.narrow(0, *number as usize % IMAGES, 1)
        })
        .collect();
    let images = ImageBatch::new(Tensor::cat(rows, 0), Range::Unit).unwrap();
    let request = Request::Reconstruct {
        images: &images,
        conditions: &Conditions::default(),
    };
    ask(pipeline, &request)
        .unwrap()
        .into_images()
        .unwrap()
        .into_tensor()
}

#[test]
fn ids_are_unique_and_in_kebab_case() {
    let mut seen = BTreeSet::new();
    for subject in Subject::all() {
        let id = subject.id();
        let words = id.split('-');
        let plain = |word: &str| {
            word.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        assert!(
            words.clone().all(|word| !word.is_empty() && plain(word)),
            "{id:?}"
        );
        assert!(seen.insert(id), "{id} is listed twice");
    }
    assert!(!seen.is_empty());
}

#[test]
fn settings_survive_a_round_trip_and_unknown_keys_do_not() {
    for subject in Subject::all() {
        let (family, id) = (subject.family, subject.id());
        for table in [toml::Table::new(), subject.table.clone()] {
            let resolved = family.resolve(&table).unwrap();
            assert_eq!(family.resolve(&resolved).unwrap(), resolved, "{id}");
            let text = toml::to_string(&resolved).unwrap();
            assert_eq!(
                text.parse::<toml::Table>().unwrap(),
                resolved,
                "{id} as text"
            );
            for (key, value) in &table {
                assert_eq!(resolved.get(key), Some(value), "{id}: {key}");
            }
        }
        family.check(&subject.table, &subject.spec).unwrap();
        let mut strange = subject.table.clone();
        strange.insert("no_such_key".to_owned(), toml::Value::Integer(1));
        let error = family.resolve(&strange).unwrap_err();
        assert!(error.to_string().contains("no_such_key"), "{id}: {error}");
        assert_eq!(error.exit_code(), 2, "{id}");
    }
}

/// Adam's first moment is a sum of the gradients so far. Layers behind a layer that starts at zero
/// have none at first, so the moments are read after a few steps.
#[test]
fn losses_are_finite_and_every_parameter_has_a_gradient() {
    for subject in Subject::all() {
        let id = subject.id();
        let mut trainer = subject.trainer(0.0);
        subject.train(&mut *trainer, 0, 6);
        assert_finite(id, &trainer.validate(&subject.batch(0)).unwrap());

        let TrainState {
            model, optimizer, ..
        } = trainer.save();
        let mut trained = BTreeSet::new();
        let mut count = 0;
        for (name, moment) in &optimizer {
            // Of `second.first.weight`, the second moment of `first.weight`, nothing is left that
            // names a parameter.
            let path = name.replacen("first.", "", 1);
            if path == *name || !model.contains_key(&path) {
                continue;
            }
            assert!(
                moment.data.iter().all(|m| m.is_finite()),
                "{id}: gradient of {name}"
            );
            assert!(
                moment.data.iter().any(|m| *m != 0.0),
                "{id}: {name} has no gradient"
            );
            count += moment.data.len();
            trained.insert(path);
        }
        let statistic = |name: &&String| {
            let last = name.rsplit('.').next();
            last.is_some_and(|last| last.starts_with("running_"))
        };
        let parameters: BTreeSet<String> = model
            .keys()
            .filter(|name| !statistic(name))
            .cloned()
            .collect();
        assert_eq!(
            trained, parameters,
            "{id}: parameters with a gradient, and all parameters"
        );
        assert_eq!(
            trainer.parameters(),
            count,
            "{id}: number of trained parameters"
        );
    }
}

/// Health is asked of any number of images there are, also of a single one.
#[test]
fn health_is_told_of_any_number_of_images() {
    for subject in Subject::all() {
        let mut trainer = subject.trainer(0.0);
        subject.train(&mut *trainer, 0, 1);
        let whole = subject.batch(0);
        let size = whole.images.len() / whole.batch;
        for count in [1, 2, whole.batch] {
            let batch = HostBatch {
                images: whole.images[..count * size].to_vec(),
                labels: whole.labels.as_ref().map(|l| l[..count].to_vec()),
                attributes: None,
                batch: count,
                ..whole.clone()
            };
            let health = trainer.health(&batch).unwrap();
            assert!(!health.signs.is_empty(), "{}", subject.id());
            for sign in &health.signs {
                assert!(sign.value.is_finite(), "{}: {}", subject.id(), sign.why);
            }
        }
    }
}

/// A loss that must fall: the settings and rates that let it, and its name among the scalars.
struct Objective {
    table: toml::Table,
    learning_rate: f64,
    /// A scalar of the step itself; none where the validation loss is meant.
    scalar: Option<&'static str>,
}

/// The losses of a family. Of two networks one is frozen at a time by a rate of 2e-12, which does
/// not reach the last bit of a weight, while the other one moves by 2e-3.
fn objectives(table: &toml::Table) -> Vec<Objective> {
    if !table.contains_key("discriminator_rate") {
        return vec![Objective {
            table: table.clone(),
            learning_rate: 3e-3,
            scalar: None,
        }];
    }
    let with_rate = |ratio: f64| {
        let mut table = table.clone();
        table.insert("discriminator_rate".to_owned(), toml::Value::Float(ratio));
        table
    };
    vec![
        Objective {
            table: with_rate(1e9),
            learning_rate: 2e-12,
            scalar: Some("discriminator_loss"),
        },
        Objective {
            table: with_rate(1e-9),
            learning_rate: 2e-3,
            scalar: Some("generator_loss"),
        },
    ]
}

/// Sixty steps on four images take a tenth off the validation loss, on fresh noise at each step
/// and the same noise before and after. Of two networks each one's own loss falls as much on one
/// batch with one noise while the other network stays as it is.
#[test]
fn losses_fall_on_four_images() {
    for subject in Subject::all() {
        let id = subject.id();
        for Objective {
            table,
            learning_rate,
            scalar,
        } in objectives(&subject.table)
        {
            let subject = Subject {
                table,
                spec: subject.spec.clone(),
                ..subject
            };
            let mut trainer = subject.trainer(0.0);
            let start = trainer.save().model;
            let fixed = subject.batch(0);
            let validation = |trainer: &dyn Trainer| trainer.validate(&fixed).unwrap()[0].1;
            let mut losses = vec![];
            if scalar.is_none() {
                losses.push(validation(&*trainer));
            }
            for step in 0..60 {
                let micro = [subject.batch(if scalar.is_some() { 0 } else { step })];
                let step = Step {
                    micro: &micro,
                    learning_rate,
                    clip_norm: None,
                };
                let scalars = trainer.step(&step).unwrap();
                assert_finite(id, &scalars);
                if let Some(name) = scalar {
                    losses.push(scalars.iter().find(|(own, _)| *own == name).unwrap().1);
                }
            }
            if scalar.is_none() {
                losses.push(validation(&*trainer));
            }
            let (first, last) = (losses[0], losses[losses.len() - 1]);
            assert!(
                last < 0.9 * first,
                "{id}: {} falls from {first} to {last}",
                scalar.unwrap_or("loss")
            );
            if let Some(name) = scalar {
                assert_one_network_moved(id, name, &start, &trainer.save().model);
            }
        }
    }
}

/// Fails unless the network a loss is named after moved and the other one did not.
fn assert_one_network_moved(id: &str, loss: &str, start: &TensorMap, end: &TensorMap) {
    let network = loss.trim_end_matches("_loss");
    let mut moved = BTreeSet::new();
    for (name, before) in start.iter().filter(|(name, _)| !name.contains("running_")) {
        let way = distance(&before.data, &end[name].data);
        if name.starts_with(network) {
            moved.insert(way > 1e-3);
        } else {
            // Sixty steps of at most five updates, each of at most 2e-12 for an element.
            let most = 60.0 * 5.0 * 2e-12 * (before.data.len() as f64).sqrt();
            assert!(
                way <= 1.01 * most,
                "{id}: {name} is frozen and moved by {way:e}"
            );
        }
    }
    assert_eq!(moved, BTreeSet::from([true]), "{id}: {network} stood still");
}

#[test]
fn a_restored_training_goes_on_as_if_it_had_never_stopped() {
    for subject in Subject::all() {
        let mut straight = subject.trainer(100.0);
        subject.train(&mut *straight, 0, 10);

        let mut first = subject.trainer(100.0);
        subject.train(&mut *first, 0, 5);
        let saved = first.save();
        let mut second = subject.trainer(100.0);
        second.restore(&saved).unwrap();
        compare(&subject, "just restored", &second.save(), &saved);
        subject.train(&mut *second, 5, 10);
        let end = straight.save();
        assert!(
            end.model != saved.model,
            "{}: five steps change nothing",
            subject.id()
        );
        compare(&subject, "ten steps", &second.save(), &end);
    }
}

fn compare(subject: &Subject, what: &str, ours: &TrainState, other: &TrainState) {
    let id = subject.id();
    assert!(!other.ema.is_empty(), "{id} keeps no averaged weights");
    assert_same(&format!("{id}, {what}, model"), &ours.model, &other.model);
    assert_same(&format!("{id}, {what}, ema"), &ours.ema, &other.ema);
    assert_same(
        &format!("{id}, {what}, optimizer"),
        &ours.optimizer,
        &other.optimizer,
    );
}

/// The upper half of each image known, `[IMAGES, height, width]`.
fn top_half(height: usize, width: usize) -> Vec<bool> {
    (0..IMAGES * height * width)
        .map(|pixel| 2 * (pixel / width % height) < height)
        .collect()
}

#[test]
fn declared_tasks_are_answered_and_others_refused() {
    let options = SampleOptions::default();
    for subject in Subject::all() {
        let (id, images) = (subject.id(), subject.images());
        let conditions = Conditions::of(&subject.batch(0));
        let pipeline = subject.trainer(0.0).pipeline().unwrap();
        let [channels, height, width] = subject.spec.shape();
        let known = top_half(height, width);
        assert_eq!(pipeline.shape(), subject.spec.shape(), "{id}");
        assert_eq!(pipeline.tasks(), subject.family.info().tasks, "{id}");
        for task in TASKS {
            let (request, count) = match task {
                Task::Generate => (
                    Request::Generate {
                        numbers: &[3, 0, 11],
                        options: &options,
                    },
                    3,
                ),
                Task::Reconstruct => (
                    Request::Reconstruct {
                        images: &images,
                        conditions: &conditions,
                    },
                    IMAGES,
                ),
                Task::Encode => (
                    Request::Encode {
                        images: &images,
                        conditions: &conditions,
                    },
                    IMAGES,
                ),
                Task::Denoise => (Request::Denoise(&images), IMAGES),
                Task::Inpaint => (
                    Request::Inpaint {
                        images: &images,
                        known: &known,
                        conditions: &conditions,
                        numbers: &[0, 1, 2, 3],
                        options: &options,
                    },
                    IMAGES,
                ),
                Task::Interpolate => (
                    Request::Interpolate {
                        from: 2,
                        to: 9,
                        frames: 5,
                        options: &options,
                    },
                    5,
                ),
            };
            let name = task.name();
            let answer = ask(&*pipeline, &request);
            if !pipeline.tasks().contains(task) {
                assert!(
                    matches!(answer, Err(Error::Settings { .. })),
                    "{id} does not refuse {name}"
                );
                continue;
            }
            match answer.unwrap() {
                Answer::Images(images) => {
                    assert_ne!(*task, Task::Encode, "{id} encodes into images");
                    assert_eq!(images.range(), Range::Unit, "{id}, {name}");
                    assert_eq!(
                        images.dims(),
                        [count, channels, height, width],
                        "{id}, {name}"
                    );
                    let pixels = values(images.into_tensor());
                    assert!(
                        pixels.iter().all(|p| (0.0..=1.0).contains(p)),
                        "{id}, {name}"
                    );
                    if *task == Task::Inpaint {
                        let given = subject.batch(0).images;
                        let at = |place: usize| {
                            place / (channels * height * width) * height * width
                                + place % (height * width)
                        };
                        let kept = |(place, (ours, theirs)): (usize, (&f32, &f32))| {
                            !known[at(place)] || ours.to_bits() == theirs.to_bits()
                        };
                        assert!(
                            pixels.iter().zip(&given).enumerate().all(kept),
                            "{id}: a known pixel was changed"
                        );
                    }
                }
                Answer::Codes(codes) => {
                    assert_eq!(*task, Task::Encode, "{id} answers {name} with codes");
                    assert_eq!(codes.len(), count, "{id}, {name}");
                    let size = codes[0].len();
                    assert!(
                        size > 0 && codes.iter().all(|code| code.len() == size),
                        "{id}, {name}"
                    );
                    assert!(
                        codes.iter().flatten().all(|number| number.is_finite()),
                        "{id}, {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_its_company_or_on_who_loaded_it() {
    let numbers: Vec<u64> = (0..64).collect();
    for subject in Subject::all() {
        let id = subject.id();
        let mut trainer = subject.trainer(100.0);
        subject.train(&mut *trainer, 0, 2);
        let pipeline = trainer.pipeline().unwrap();
        let alone = made(&subject, &*pipeline, &[17]);
        let row = made(&subject, &*pipeline, &numbers).narrow(0, 17, 1);
        assert_equal(
            &format!("{id}, sample 17"),
            &values(alone.clone()),
            &values(row),
        );
        let other = values(made(&subject, &*pipeline, &[18]));
        assert!(
            other != values(alone.clone()),
            "{id}: samples 17 and 18 are the same"
        );

        // As a checkpoint is used: averaged weights over those as trained.
        let TrainState {
            model: mut weights,
            ema,
            ..
        } = trainer.save();
        weights.extend(ema);
        let loaded = subject
            .family
            .pipeline(&subject.table, &subject.spec, &weights, &device())
            .unwrap();
        let again = made(&subject, &*loaded, &[17]);
        assert_equal(
            &format!("{id}, sample 17 of the loaded model"),
            &values(again),
            &values(alone),
        );
    }
}
