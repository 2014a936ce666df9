//! Batches for training and evaluation.
//!
//! Sample number `g = step * batch + j` of a training is image `g mod N` of epoch `g / N`, whose
//! order is [`permutation`]`(seed, epoch, N)`; whether it is mirrored is drawn for `g` alone. A
//! batch is therefore a function of its step: it does not depend on the number of threads, and a
//! resumed training reads what one that never stopped would have read.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::prepared::Prepared;
use super::preprocess::Preprocess;
use super::source::Source;
use crate::error::{Error, Result};
use crate::random::{Purpose, permutation, stream};

/// Bytes of preprocessed images that a loader keeps in memory.
pub const CACHE_BYTES: usize = 1 << 30;

/// Batches a thread makes before they are asked for.
const AHEAD: usize = 1;

/// Orders of epochs that are remembered: those of the steps that threads work on at a time.
const EPOCHS: usize = 4;

/// Images and labels of one step, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// The number of the batch, from 0.
    pub step: u64,
    /// The images `[B, C, H, W]`, in `[0, 1]`.
    pub images: Vec<f32>,
    /// The labels `[B]`, where every image has one.
    pub labels: Option<Vec<u32>>,
    /// The attributes `[B, A]`, where the source has some.
    pub attributes: Option<Vec<f32>>,
    /// The number of images B.
    pub batch: usize,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

/// Training batches, made ahead on threads that end with the loader.
pub struct Loader {
    feed: Arc<Feed>,
    /// One for each thread; thread `k` of `n` makes the steps `first + k`, `first + k + n`, …
    lanes: Vec<Receiver<Result<HostBatch>>>,
    threads: Vec<JoinHandle<()>>,
    first: u64,
    step: u64,
}

/// What every thread of a loader shares.
struct Feed {
    images: Prepared,
    batch: usize,
    seed: u64,
    orders: Mutex<Vec<(u64, Arc<[u32]>)>>,
}

impl Loader {
    /// Starts `workers` threads that make batches of `batch` images from step `start_step` on.
    /// Without threads, batches are made when they are asked for.
    ///
    /// # Panics
    /// When `batch` is zero or `source` is empty.
    pub fn new(
        source: Arc<dyn Source>,
        preprocess: Preprocess,
        batch: usize,
        seed: u64,
        workers: usize,
        start_step: u64,
    ) -> Self {
        assert!(batch > 0, "a batch has at least one image");
        assert!(!source.is_empty(), "there are no images to learn from");
        let feed = Arc::new(Feed {
            images: Prepared::new(source, preprocess, CACHE_BYTES),
            batch,
            seed,
            orders: Mutex::new(Vec::new()),
        });
        let mut lanes = Vec::with_capacity(workers);
        let mut threads = Vec::with_capacity(workers);
        for worker in 0..workers as u64 {
            let (sender, receiver) = sync_channel(AHEAD);
            let feed = Arc::clone(&feed);
            let work = move || {
                let mut step = start_step + worker;
                while sender.send(feed.batch_at(step)).is_ok() {
                    step += workers as u64;
                }
            };
            // A thread that cannot start leaves its lane closed, which `next` reports.
            let name = format!("loader-{worker}");
            threads.extend(thread::Builder::new().name(name).spawn(work));
            lanes.push(receiver);
        }
        Self {
            feed,
            lanes,
            threads,
            first: start_step,
            step: start_step,
        }
    }

    /// The batch of the next step. After an error, which belongs to its step, the step after it
    /// follows.
    ///
    /// # Errors
    /// What reading, decoding and preprocessing return, with the name of the image;
    /// [`Error::Failed`] when a thread ended or could not be started.
    #[allow(
        clippy::should_implement_trait,
        reason = "the stream has no end, so that an iterator's None would have no meaning"
    )]
    pub fn next(&mut self) -> Result<HostBatch> {
        let step = self.step;
        self.step += 1;
        let threads = self.lanes.len() as u64;
        if threads == 0 {
            return self.feed.batch_at(step);
        }
        let lane = ((step - self.first) % threads) as usize;
        self.lanes[lane].recv().unwrap_or_else(|_| {
            Err(Error::Failed(
                "a thread that reads images has ended or could not be started".to_string(),
            ))
        })
    }

    /// The batch of any step, made on the calling thread. It equals what [`Loader::next`] delivers
    /// for this step.
    ///
    /// # Errors
    /// What reading, decoding and preprocessing return, with the name of the image.
    pub fn batch_at(&self, step: u64) -> Result<HostBatch> {
        self.feed.batch_at(step)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Threads end when they find their lane closed.
        self.lanes.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Feed {
    fn batch_at(&self, step: u64) -> Result<HostBatch> {
        let size = self.images.len() as u64;
        let shape = self.images.shape();
        let mut images = Vec::with_capacity(self.batch * shape.iter().product::<usize>());
        let mut labels = Vec::with_capacity(self.batch);
        let mut attributes = Vec::new();
        let first = step * self.batch as u64;
        let mut epoch = first / size;
        let mut order = self.order(epoch);
        for number in first..first + self.batch as u64 {
            if number / size != epoch {
                epoch = number / size;
                order = self.order(epoch);
            }
            let index = order[(number % size) as usize] as usize;
            let mirror =
                self.images.flips() && stream(self.seed, Purpose::Flip, 0, number).uniform() < 0.5;
            self.images
                .append(index, mirror, &mut images, &mut attributes)?;
            labels.extend(self.images.label(index));
        }
        Ok(HostBatch {
            step,
            images,
            labels: (labels.len() == self.batch).then_some(labels),
            attributes: (!attributes.is_empty()).then_some(attributes),
            batch: self.batch,
            shape,
        })
    }

    /// The order of an epoch, which is made once for all threads.
    fn order(&self, epoch: u64) -> Arc<[u32]> {
        // A list that a panic interrupted is whole: it is changed in single steps.
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(known, _)| *known == epoch) {
            return Arc::clone(order);
        }
        let order: Arc<[u32]> = permutation(self.seed, epoch, self.images.len()).into();
        if orders.len() == EPOCHS {
            orders.remove(0);
        }
        orders.push((epoch, Arc::clone(&order)));
        order
    }
}

/// Every image of a source once, in its order, never mirrored. The last batch may be smaller.
pub struct Epoch {
    images: Prepared,
    batch: usize,
    next: usize,
    step: u64,
}

/// The batches of one pass over `source`, made on the calling thread as they are asked for.
///
/// # Panics
/// When `batch` is zero.
pub fn epoch(source: Arc<dyn Source>, preprocess: Preprocess, batch: usize) -> Epoch {
    assert!(batch > 0, "a batch has at least one image");
    Epoch {
        images: Prepared::new(source, preprocess, 0),
        batch,
        next: 0,
        step: 0,
    }
}

impl Iterator for Epoch {
    type Item = Result<HostBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next;
        let end = self.images.len().min(start + self.batch);
        if start == end {
            return None;
        }
        let step = self.step;
        self.next = end;
        self.step += 1;
        let mut images = Vec::new();
        let mut labels = Vec::new();
        let mut attributes = Vec::new();
        for index in start..end {
            let read = self
                .images
                .append(index, false, &mut images, &mut attributes);
            if let Err(error) = read {
                return Some(Err(error));
            }
            labels.extend(self.images.label(index));
        }
        Some(Ok(HostBatch {
            step,
            images,
            labels: (labels.len() == end - start).then_some(labels),
            attributes: (!attributes.is_empty()).then_some(attributes),
            batch: end - start,
            shape: self.images.shape(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vermeer_image::{Filter, Pixels};

    use super::super::folder::FolderSource;
    use super::super::memory::MemorySource;
    use super::super::preprocess::Fit;
    use super::super::source::{Description, OpenOptions};
    use super::*;

    /// Images of 2x1 whose bytes are their number and 255, labelled by their number.
    fn source(count: u8) -> Arc<dyn Source> {
        let description = Description {
            classes: (0..count).map(|i| i.to_string()).collect(),
            ..Description::default()
        };
        let pixels = (0..count).flat_map(|i| [i, 255]).collect();
        let labels = (0..count).map(u32::from).collect();
        let source = MemorySource::new(
            description,
            [1, 2, 1],
            Pixels::U8(pixels),
            Some(labels),
            vec![],
        );
        Arc::new(source.unwrap())
    }

    fn preprocess(flip: bool) -> Preprocess {
        Preprocess {
            height: 1,
            width: 2,
            channels: 1,
            fit: Fit::Crop,
            filter: Filter::Bilinear,
            background: [0; 3],
            flip,
        }
    }

    fn loader(workers: usize, batch: usize, start: u64) -> Loader {
        Loader::new(source(7), preprocess(true), batch, 3, workers, start)
    }

    #[test]
    fn batches_come_in_order_whatever_the_number_of_threads() {
        let expected: Vec<_> = (5..45)
            .map(|step| loader(0, 4, 0).batch_at(step).unwrap())
            .collect();
        for workers in [0, 1, 2, 5] {
            let mut loader = loader(workers, 4, 5);
            for batch in &expected {
                assert_eq!(&loader.next().unwrap(), batch, "{workers} threads");
            }
        }
    }

    #[test]
    fn an_epoch_shows_every_image_once_and_the_sample_stream_ignores_the_batch_size() {
        let stream = |batch: usize, steps: u64| {
            let loader = loader(0, batch, 0);
            let batches = (0..steps).map(|step| loader.batch_at(step).unwrap());
            let (mut images, mut labels) = (vec![], vec![]);
            for batch in batches {
                images.extend(batch.images);
                labels.extend(batch.labels.unwrap());
            }
            (images, labels)
        };
        let (images, labels) = stream(1, 28);
        for epoch in labels.chunks(7) {
            let mut seen = epoch.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(labels[..7], labels[7..14]);
        assert_eq!((images, labels), stream(28, 1));
    }

    #[test]
    fn images_carry_their_labels_and_are_mirrored_half_of_the_time() {
        let batch = loader(0, 700, 0).batch_at(0).unwrap();
        assert_eq!((batch.batch, batch.shape), (700, [1, 1, 2]));
        let labels = batch.labels.unwrap();
        let mut mirrored = 0;
        for (pixels, label) in batch.images.chunks_exact(2).zip(labels) {
            let value = label as f32 / 255.0;
            if pixels[0] == 1.0 {
                mirrored += 1;
                assert_eq!(pixels, [1.0, value]);
            } else {
                assert_eq!(pixels, [value, 1.0]);
            }
        }
        // Five standard deviations of a fair coin: 5 * sqrt(700) / 2.
        assert!((284..=416).contains(&mirrored), "{mirrored}");
        let plain = Loader::new(source(7), preprocess(false), 700, 3, 0, 0);
        let plain = plain.batch_at(0).unwrap();
        assert!(plain.images.chunks_exact(2).all(|pixels| pixels[1] == 1.0));
    }

    #[test]
    fn an_error_comes_at_its_step_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(
                folder.path().join(format!("{name}.pgm")),
                b"P5 2 1 255\n\x00\xff",
            )
            .unwrap();
        }
        fs::write(folder.path().join("c.pgm"), b"broken").unwrap();
        let source = FolderSource::open(folder.path(), &OpenOptions::default()).unwrap();
        let broken = permutation(9, 0, 4).iter().position(|i| *i == 2).unwrap();
        let mut loader = Loader::new(Arc::new(source), preprocess(false), 1, 9, 2, 0);
        for step in 0..4 {
            let batch = loader.next();
            if step == broken {
                let error = batch.unwrap_err();
                assert!(error.to_string().contains("c.pgm"), "{error}");
                assert_eq!(error.exit_code(), 4);
            } else {
                assert_eq!(batch.unwrap().step, step as u64);
            }
        }
    }

    #[test]
    fn dropping_a_loader_ends_its_threads() {
        let source = source(7);
        let mut loader = Loader::new(source.clone(), preprocess(false), 2, 0, 3, 0);
        loader.next().unwrap();
        drop(loader);
        // Threads hold the source; when it has one owner, they are gone.
        assert_eq!(Arc::strong_count(&source), 1);
    }

    #[test]
    fn one_pass_is_sequential_and_ends_with_what_is_left() {
        let batches: Vec<_> = epoch(source(7), preprocess(true), 3)
            .map(|batch| batch.unwrap())
            .collect();
        let sizes: Vec<_> = batches
            .iter()
            .map(|batch| (batch.step, batch.batch))
            .collect();
        assert_eq!(sizes, [(0, 3), (1, 3), (2, 1)]);
        let labels: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.labels.clone().unwrap())
            .collect();
        assert_eq!(labels, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(batches[2].images, [6.0 / 255.0, 1.0]);
    }
}
