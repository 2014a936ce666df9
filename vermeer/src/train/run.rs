//! The training loop every family shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Map, Value, json};
use vermeer_image::{ImageBatch, Range};

use super::events::{Event, Sink};
use super::health::{Health, Verdict, shared_pattern};
use super::{Plan, Scalars, Settings};
use crate::data::{self, HostBatch, Split, Subset};
use crate::optim::LearningRate;
use crate::registry::{Step, TrainState, Trainer};
use crate::run::{
    Checkpoint, EventWriter, MetricsWriter, RunDir, RunLock, RunRecord, RunStatus, TensorMap,
};
use crate::task::{BLOCK, Conditions, Request, SampleOptions, Task};
use crate::{Error, Result};

/// How a training run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Folder of the run.
    pub run: PathBuf,
    /// Steps made in all.
    pub step: u64,
    /// Lowest validation loss and its step, where the family has one.
    pub best: Option<(u64, f64)>,
    /// Why training ended before its last step, if it did.
    pub stopped_early: Option<String>,
    /// The last health verdict.
    pub health: Option<Health>,
}

/// A run in training: its plan, its folder, its trainer.
pub struct Training {
    plan: Plan,
    run: RunDir,
    record: RunRecord,
    trainer: Box<dyn Trainer>,
    step: u64,
    best: Option<(u64, f64)>,
    /// Evaluations since the lowest validation loss.
    waited: u64,
    /// Examinations with a bad verdict since the last other one.
    bad: u64,
    /// Seconds trained before this process.
    seconds: f64,
    health: Option<Health>,
    examined: Vec<HostBatch>,
    started: Instant,
    _lock: RunLock,
}

impl Training {
    /// Creates `root/<name>` and a trainer at its start, or at the weights of `parent`.
    ///
    /// # Errors
    /// [`Error::Settings`] when the run exists already, [`Error::Io`] when its folder cannot be
    /// written.
    pub fn start(
        plan: Plan,
        root: &Path,
        argv: Vec<String>,
        parent: Option<(String, TensorMap)>,
    ) -> Result<Self> {
        let mut trainer = plan.trainer()?;
        let mut parent_name = None;
        if let Some((name, weights)) = parent {
            trainer.start_from(&weights).map_err(|error| {
                Error::settings(
                    format!("the weights of {name} do not fit these settings: {error}"),
                    "leave [model], data.size and data.channels as the parent run has them",
                )
            })?;
            parent_name = Some(name);
        }
        let examined = examined(&plan)?;
        let run = RunDir::create(root, &plan.settings.name)?;
        let created = (|| {
            let lock = run.lock()?;
            let text = plan.settings.text()?;
            crate::run::replace_file(&run.config_path(), text.as_bytes())?;
            let mut record = RunRecord::new(&plan.settings.name, &plan.settings.family);
            record.argv = argv;
            record.seed = plan.settings.seed;
            record.device = crate::device::name(&plan.device);
            record.config_digest = crate::sha256_hex(text.as_bytes());
            record.data_digest = Some(plan.data_digest.clone());
            record.parent = parent_name;
            record.write(&run)?;
            Ok((lock, record))
        })();
        match created {
            Ok((lock, record)) => {
                let training = Self::assemble(plan, run, record, trainer, examined, lock);
                if training.record.parent.is_some() {
                    // A kill before the first checkpoint must not lose the parent's weights.
                    training.save()?;
                }
                Ok(training)
            }
            Err(error) => {
                run.discard().ok();
                Err(error)
            }
        }
    }

    /// Goes on with a run from its last whole checkpoint.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the keys when the plan is not the run's, [`Error::Checkpoint`]
    /// when no checkpoint can be read.
    pub fn resume(plan: Plan, run: RunDir, sink: &mut dyn Sink) -> Result<Self> {
        let lock = run.lock()?;
        let mut record = RunRecord::read(&run)?;
        let differences = Settings::read(&run.config_path())?.differences(&plan.settings)?;
        if !differences.is_empty() {
            return Err(Error::settings(
                format!(
                    "the settings differ from those of {}: {}",
                    run.path().display(),
                    differences.join(", ")
                ),
                "resume with the run's own settings, or start a new run from its weights with --init-from",
            ));
        }
        if record
            .data_digest
            .as_ref()
            .is_some_and(|digest| *digest != plan.data_digest)
        {
            return Err(Error::settings(
                format!(
                    "the data differ from those {} was trained on",
                    run.path().display()
                ),
                "resume with the same data, or start a new run from its weights with --init-from",
            ));
        }
        let mut trainer = plan.trainer()?;
        let (step, best, [waited, bad]) = match run.checkpoints().list().is_empty() {
            // Killed before its first checkpoint: it begins anew.
            true => (0, None, [0, 0]),
            false => {
                let (checkpoint, warnings) = run.checkpoints().load_latest()?;
                warnings
                    .into_iter()
                    .for_each(|text| sink.event(&Event::Warning(text)));
                let folder = run
                    .path()
                    .join("checkpoints")
                    .join(crate::run::step_name(checkpoint.step));
                trainer
                    .restore(&state_of(&checkpoint))
                    .map_err(|error| error.within(&folder))?;
                let number = |key: &str| checkpoint.state.get(key).and_then(Value::as_u64);
                let loss = checkpoint.state.get("best_loss").and_then(Value::as_f64);
                (
                    checkpoint.step,
                    number("best_step").zip(loss),
                    ["waited", "bad"].map(|key| number(key).unwrap_or(0)),
                )
            }
        };
        // A kill between a checkpoint and its mark as the best leaves the mark to be made.
        if let Some((step, _)) = best
            && run.checkpoints().list().contains(&step)
        {
            run.checkpoints().set_best(step)?;
        }
        let examined = examined(&plan)?;
        record.status = RunStatus::Running;
        record.write(&run)?;
        let mut training = Self::assemble(plan, run, record, trainer, examined, lock);
        (training.step, training.best) = (step, best);
        (training.waited, training.bad) = (waited, bad);
        training.seconds = training.record.train_seconds;
        Ok(training)
    }

    fn assemble(
        plan: Plan,
        run: RunDir,
        record: RunRecord,
        trainer: Box<dyn Trainer>,
        examined: Vec<HostBatch>,
        lock: RunLock,
    ) -> Self {
        Self {
            plan,
            run,
            record,
            trainer,
            step: 0,
            best: None,
            waited: 0,
            bad: 0,
            seconds: 0.0,
            health: None,
            examined,
            started: Instant::now(),
            _lock: lock,
        }
    }

    /// Folder of the run.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// Steps made so far.
    pub fn steps_made(&self) -> u64 {
        self.step
    }

    /// Trains to the last step, or until `stop` is set.
    ///
    /// # Errors
    /// [`Error::Stopped`] after `stop`, with a checkpoint written; [`Error::NonFinite`] when a
    /// value stops being finite; [`Error::Failed`] when the last checkpoint cannot be written.
    pub fn run(mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome> {
        let result = self.train(sink, stop);
        self.record.status = match &result {
            Ok(_) => RunStatus::Finished,
            Err(Error::Stopped { .. }) => RunStatus::Stopped,
            Err(_) => RunStatus::Failed,
        };
        self.record.train_seconds = self.seconds();
        if let Ok(outcome) = &result {
            self.record.ended_early.clone_from(&outcome.stopped_early);
        }
        let recorded = self.record.write(&self.run);
        let outcome = result?;
        recorded?;
        crate::card::write(&self.run, &self.plan, &outcome)?;
        Ok(outcome)
    }

    fn train(&mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome> {
        let settings = self.plan.settings.train.clone();
        let mut writers = Writers {
            metrics: MetricsWriter::open(&self.run.metrics_path(), self.step)?,
            board: EventWriter::open(self.run.path(), self.step)?,
        };
        let mut loader = self.plan.loader(self.step);
        let images_per_step = settings.batch_size * settings.accumulate;
        let rate = LearningRate {
            peak: settings
                .learning_rate
                .unwrap_or(self.plan.family.train_defaults().learning_rate),
            warmup_steps: settings.warmup_steps,
            total_steps: settings.steps,
            shape: settings.schedule,
        };
        sink.event(&Event::Started {
            run: self.run.path().into(),
            step: self.step,
            steps: settings.steps,
            images_per_step,
        });
        self.started = Instant::now();
        let mut stopped_early = self.reason_to_end();
        let mut unsaved = None;
        while self.step < settings.steps && stopped_early.is_none() {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                sink.event(&Event::Saved { step: self.step });
                return Err(Error::Stopped {
                    run: self.run.path().into(),
                    step: self.step,
                });
            }
            let micro: Vec<HostBatch> = (0..settings.accumulate)
                .map(|_| loader.next())
                .collect::<Result<_>>()?;
            let learning_rate = rate.at(self.step);
            let scalars = self.trainer.step(&Step {
                micro: &micro,
                learning_rate,
                clip_norm: settings.clip_norm,
            })?;
            self.step += 1;
            self.check_finite(&scalars)?;
            let last = self.step == settings.steps;
            let due = |every: u64| self.step.is_multiple_of(every) || last;
            let (log, look, show, keep) = (
                due(settings.log_every),
                due(settings.validate_every),
                due(settings.sample_every),
                due(settings.save_every),
            );
            if log {
                let at = (self.step, self.epoch());
                for (name, value) in scalars.iter().chain([&("learning_rate", learning_rate)]) {
                    writers.value(at, "train", name, *value, sink);
                }
            }
            let elapsed = self.started.elapsed();
            sink.event(&Event::Step {
                step: self.step,
                scalars,
                learning_rate,
                elapsed,
                logged: log,
            });
            // Pictures come before the evaluation, which may save the best state: a run that
            // resumes from it lacks nothing of this step.
            if show {
                // A full disk must not end the training that a later checkpoint may still save.
                match self.picture(&mut writers.board) {
                    Ok((paths, pattern)) => {
                        let step = self.step;
                        for path in paths {
                            sink.event(&Event::Pictured { step, path });
                        }
                        if let Some(pattern) = pattern {
                            sink.event(&Event::Warning(format!("step {step}: {pattern}")));
                        }
                    }
                    Err(error) => sink.event(&Event::Warning(error.to_string())),
                }
            }
            if look {
                self.look(&mut writers, sink)?;
                stopped_early = self.reason_to_end();
                if let Some(reason) = &stopped_early {
                    sink.event(&Event::Warning(format!("step {}: {reason}", self.step)));
                }
            }
            if keep || stopped_early.is_some() {
                unsaved = match self.save() {
                    Ok(()) => {
                        self.record.train_seconds = self.seconds();
                        tolerate(self.record.write(&self.run), sink);
                        sink.event(&Event::Saved { step: self.step });
                        None
                    }
                    Err(error) => {
                        sink.event(&Event::Warning(format!(
                            "no checkpoint at step {}: {error}",
                            self.step
                        )));
                        Some(error)
                    }
                };
            }
        }
        if let Some(error) = unsaved {
            return Err(Error::Failed(format!(
                "the last checkpoint could not be written: {error}"
            )));
        }
        Ok(Outcome {
            run: self.run.path().into(),
            step: self.step,
            best: self.best,
            stopped_early,
            health: self.health.clone(),
        })
    }

    fn check_finite(&self, scalars: &Scalars) -> Result<()> {
        match scalars.iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((term, _)) => Err(Error::NonFinite {
                step: self.step,
                term: (*term).to_string(),
                last_good: self.run.checkpoints().latest_step(),
            }),
        }
    }

    /// Epochs begun so far, counted from zero.
    fn epoch(&self) -> u64 {
        let train = &self.plan.settings.train;
        self.step * (train.batch_size * train.accumulate) as u64 / self.plan.train.len() as u64
    }

    /// Why training should end before its last step, if it should.
    fn reason_to_end(&self) -> Option<String> {
        let settings = &self.plan.settings.train;
        if settings.early_stop > 0 && self.waited >= settings.early_stop {
            let text = "ended early: the validation loss did not fall at the last";
            return Some(format!("{text} {} evaluations", self.waited));
        }
        if settings.stop_on_bad > 0 && self.bad >= settings.stop_on_bad {
            let why = self
                .health
                .as_ref()
                .map(|health| health.reasons().join("; "));
            return Some(format!(
                "ended early: the health was bad {} times in a row: {}",
                self.bad,
                why.unwrap_or_default()
            ));
        }
        None
    }

    /// Seconds trained so far, in every process.
    fn seconds(&self) -> f64 {
        self.seconds + self.started.elapsed().as_secs_f64()
    }

    /// Evaluates validation images and health.
    fn look(&mut self, writers: &mut Writers, sink: &mut dyn Sink) -> Result<()> {
        let at = (self.step, self.epoch());
        let scalars = self.validate()?;
        self.check_finite(&scalars)?;
        for (name, value) in &scalars {
            writers.value(at, "validation", name, *value, sink);
        }
        if let Some(batch) = self.examined.first() {
            let health = self.trainer.health(batch)?;
            for sign in &health.signs {
                writers.value(at, "health", sign.name, sign.value, sink);
            }
            let written = writers
                .metrics
                .verdict(self.step, health.verdict, &health.reasons());
            tolerate(written, sink);
            sink.event(&Event::Examined {
                step: self.step,
                health: health.clone(),
            });
            self.bad = match health.verdict {
                Verdict::Bad => self.bad + 1,
                Verdict::Ok | Verdict::Watch => 0,
            };
            self.health = Some(health);
        }
        let loss = scalars.iter().find(|(name, _)| *name == "loss");
        if let Some((_, loss)) = loss {
            if self.best.is_none_or(|(_, lowest)| *loss < lowest) {
                self.keep_best(*loss, sink);
            } else {
                self.waited += 1;
            }
        }
        let best = loss.is_some() && self.waited == 0;
        if !scalars.is_empty() {
            sink.event(&Event::Validated {
                step: self.step,
                scalars,
                best,
            });
        }
        Ok(())
    }

    /// Notes the lowest validation loss and saves its state at once, because BEST names a
    /// checkpoint. A state that cannot be saved is not the best one that can be used.
    fn keep_best(&mut self, loss: f64, sink: &mut dyn Sink) {
        let before = (self.best, self.waited);
        (self.best, self.waited) = (Some((self.step, loss)), 0);
        let saved = self.save();
        if let Err(error) = saved.and_then(|()| self.run.checkpoints().set_best(self.step)) {
            (self.best, self.waited) = before;
            let text = format!("the best state was not saved: {error}");
            sink.event(&Event::Warning(text));
        }
    }

    /// Means over the validation images.
    fn validate(&self) -> Result<Scalars> {
        let settings = &self.plan.settings.train;
        let mut total: Scalars = vec![];
        let mut count = 0.0;
        if self.plan.validation.is_empty() {
            return Ok(total);
        }
        let count_at_most = settings.validation_images.min(self.plan.validation.len());
        let first = (0..count_at_most as u32).collect();
        let source = Subset::new(self.plan.validation.clone(), first, Split::Validation);
        let preprocess = self.plan.preprocess.clone();
        for batch in data::epoch(Arc::new(source), preprocess, settings.batch_size) {
            let batch = batch?;
            let weight = batch.batch as f64;
            for (name, value) in self.trainer.validate(&batch)? {
                match total.iter_mut().find(|(own, _)| *own == name) {
                    Some((_, sum)) => *sum += value * weight,
                    None => total.push((name, value * weight)),
                }
            }
            count += weight;
        }
        total
            .iter_mut()
            .for_each(|(_, sum)| *sum /= f64::max(count, 1.0));
        Ok(total)
    }

    /// Writes a grid of samples, and of reconstructions where the family makes them. Says what
    /// pattern all samples share, if there is one.
    fn picture(&self, board: &mut EventWriter) -> Result<(Vec<PathBuf>, Option<String>)> {
        let count = self.plan.settings.train.samples;
        if count == 0 {
            return Ok((vec![], None));
        }
        let pipeline = self.trainer.pipeline()?;
        let mut paths = vec![];
        let mut samples = None;
        if pipeline.tasks().contains(&Task::Generate) {
            let numbers: Vec<u64> = (0..count as u64).collect();
            let options = SampleOptions {
                seed: self.plan.settings.seed,
                ..Default::default()
            };
            let request = Request::Generate {
                numbers: &numbers,
                options: &options,
            };
            let images = pipeline
                .answer(&request, &mut |_, _| ())?
                .into_images()?
                .to_images()?;
            let grid = vermeer_image::grid(&images, None, 2, None)?;
            let path = self.run.sample_path(self.step);
            let png = vermeer_image::encode_png(&grid)?;
            crate::run::replace_file(&path, &png)?;
            board.image(self.step, "samples", &png)?;
            paths.push(path);
            samples = Some(images);
        }
        if let (true, Some(batch)) = (
            pipeline.tasks().contains(&Task::Reconstruct),
            self.examined.first(),
        ) {
            let shown = batch.batch.min(16);
            let x =
                super::images_to_device(batch, Range::Unit, &self.plan.device).narrow(0, 0, shown);
            let real = ImageBatch::new(x, Range::Unit)?;
            let mut conditions = Conditions::of(batch);
            conditions.keep(shown, batch.batch);
            let again = pipeline
                .answer(
                    &Request::Reconstruct {
                        images: &real,
                        conditions: &conditions,
                    },
                    &mut |_, _| (),
                )?
                .into_images()?;
            let pairs: Vec<_> = real
                .to_images()?
                .into_iter()
                .zip(again.to_images()?)
                .flat_map(|(a, b)| [a, b])
                .collect();
            let png = vermeer_image::encode_png(&vermeer_image::grid(&pairs, Some(8), 2, None)?)?;
            let path = self.run.reconstruction_path(self.step);
            crate::run::replace_file(&path, &png)?;
            board.image(self.step, "reconstructions", &png)?;
            paths.push(path);
        }
        let pattern = match (self.examined.first(), samples) {
            (Some(real), Some(samples)) => shared_pattern(real, &samples)?,
            _ => None,
        };
        Ok((paths, pattern))
    }

    fn save(&self) -> Result<()> {
        let TrainState {
            model,
            ema,
            optimizer,
        } = self.trainer.save();
        let mut files = std::collections::BTreeMap::from([
            ("model".to_string(), model),
            ("optimizer".to_string(), optimizer),
        ]);
        if !ema.is_empty() {
            files.insert("ema".to_string(), ema);
        }
        let mut state = use_state(&self.plan)?;
        state.insert("step".into(), json!(self.step));
        state.insert("waited".into(), json!(self.waited));
        state.insert("bad".into(), json!(self.bad));
        if let Some((step, loss)) = self.best {
            state.insert("best_step".into(), json!(step));
            state.insert("best_loss".into(), json!(loss));
        }
        let keep: Vec<u64> = self.best.iter().map(|(step, _)| *step).collect();
        let checkpoint = Checkpoint {
            step: self.step,
            files,
            state,
        };
        self.run
            .checkpoints()
            .save(&checkpoint, self.plan.settings.train.keep_last, &keep)?;
        Ok(())
    }
}

/// The files that values are written to while a run is trained.
struct Writers {
    metrics: MetricsWriter,
    board: EventWriter,
}

impl Writers {
    /// Writes one value of a step and epoch to both files.
    fn value(
        &mut self,
        (step, epoch): (u64, u64),
        split: &str,
        name: &str,
        value: f64,
        sink: &mut dyn Sink,
    ) {
        tolerate(self.metrics.value(step, epoch, split, name, value), sink);
        let tag = format!("{split}/{name}");
        tolerate(self.board.scalar(step, &tag, value), sink);
    }
}

/// The images health is judged on: some the model does not learn from, where there are enough.
fn examined(plan: &Plan) -> Result<Vec<HostBatch>> {
    let source = match plan.validation.len() < BLOCK {
        true => &plan.train,
        false => &plan.validation,
    };
    let batch = plan.settings.train.batch_size.clamp(BLOCK, 64);
    data::epoch(source.clone(), plan.preprocess.clone(), batch)
        .take(1)
        .collect()
}

/// What a checkpoint must say so that its model can be used: family, images, preprocessing.
fn use_state(plan: &Plan) -> Result<Map<String, Value>> {
    crate::pipeline::Use {
        family: plan.settings.family.clone(),
        model: plan.settings.model.clone(),
        spec: plan.spec.clone(),
        preprocess: plan.preprocess.clone(),
    }
    .to_state()
}

fn state_of(checkpoint: &Checkpoint) -> TrainState {
    let file = |name: &str| checkpoint.files.get(name).cloned().unwrap_or_default();
    TrainState {
        model: file("model"),
        ema: file("ema"),
        optimizer: file("optimizer"),
    }
}

/// A value that could not be written is a warning: the training itself goes on.
fn tolerate(result: Result<()>, sink: &mut dyn Sink) {
    if let Err(error) = result {
        sink.event(&Event::Warning(error.to_string()));
    }
}
