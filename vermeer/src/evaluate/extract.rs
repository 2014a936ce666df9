//! Features of images, computed once and kept in a file.

use std::fs;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use tempfile::NamedTempFile;
use vermeer_image::Image;
use vermeer_image::features::{Extractor, Prepared};
use vermeer_image::metrics::Features;

use super::subject::Subject;
use crate::{Error, Result};

/// Changes when features of the same images and network may differ from those kept.
const VERSION: u32 = 2;

/// Where features are kept between evaluations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureCache {
    /// Nowhere: a temporary file holds them while they are needed.
    Off,
    /// In this folder, under names that follow from images and network.
    Folder(PathBuf),
}

/// Images that are read at a time, when that is not said: they are held in memory as they are.
const READ_AT_A_TIME: usize = 64;

/// How features are taken.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Where features are kept.
    pub cache: FeatureCache,
    /// Images that are read at a time; features do not depend on it.
    pub batch: Option<usize>,
    /// Set from outside to come to an end.
    pub stop: Arc<AtomicBool>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            cache: FeatureCache::Off,
            batch: None,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }
}

/// Features of a set of images.
#[derive(Debug)]
pub struct Extraction {
    /// One row for each image.
    pub features: Features,
    /// A classifier's logits, where the network has them.
    pub logits: Option<Features>,
    /// Whether they were kept from before.
    pub cached: bool,
    /// Holds the file until the features are no longer needed.
    _temporary: Option<NamedTempFile>,
}

/// The features of all images of a subject, in their order.
///
/// Images are read `batch` at a time (a good number when that is not said) and features go to a
/// file, so that memory does not grow with the number of images. `progress` is called with the
/// images done and those to do.
///
/// # Errors
/// Those of reading the images and of the network; [`Error::Io`] when the file cannot be written;
/// [`Error::Failed`] after `stop`, with nothing kept.
pub fn extract(
    subject: &Subject,
    extractor: &Extractor,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Extraction> {
    let mut found = extract_all(subject, &[extractor], options, progress)?;
    found
        .pop()
        .ok_or_else(|| Error::Failed("no network was asked".into()))
}

/// As [`extract`], by several networks that look at each image while it is there.
///
/// # Errors
/// As [`extract`].
pub fn extract_all(
    subject: &Subject,
    extractors: &[&Extractor],
    options: &ExtractOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Extraction>> {
    let n = subject.len() as usize;
    let digest = match &options.cache {
        FeatureCache::Off => String::new(),
        FeatureCache::Folder(_) => subject.digest()?,
    };
    let mut kept = Vec::with_capacity(extractors.len());
    let mut missing = Vec::new();
    for (at, extractor) in extractors.iter().enumerate() {
        let place = match &options.cache {
            FeatureCache::Off => None,
            FeatureCache::Folder(folder) => {
                fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
                Some(folder.join(format!("{}.features", key(&digest, n, extractor))))
            }
        };
        let found = place.as_deref().filter(|path| path.is_file());
        let found =
            found.and_then(|path| open(path, n, extractor, (true, None), &options.stop).ok());
        if found.is_none() {
            missing.push((at, Unfinished::new(extractor, place)?));
        }
        kept.push(found);
    }
    if !missing.is_empty() {
        let batch = options.batch.unwrap_or(READ_AT_A_TIME);
        let mut done = 0;
        subject.images(batch, &mut |images| {
            for (_, unfinished) in &mut missing {
                unfinished.add(&images, &options.stop)?;
            }
            done += images.len();
            progress(done, n);
            Ok(())
        })?;
    }
    for (at, unfinished) in missing {
        kept[at] = Some(unfinished.finish(n, &options.stop)?);
    }
    progress(n, n);
    Ok(kept.into_iter().flatten().collect())
}

/// Features on their way to a file.
struct Unfinished<'a> {
    extractor: &'a Extractor,
    place: Option<PathBuf>,
    /// Images that wait until the network has as many as it looks at together.
    waiting: Vec<Prepared>,
    features: BufWriter<NamedTempFile>,
    /// Logits come behind the features in the end; until then they lie beside them.
    logits: BufWriter<NamedTempFile>,
}

impl<'a> Unfinished<'a> {
    fn new(extractor: &'a Extractor, place: Option<PathBuf>) -> Result<Self> {
        let folder = match place.as_deref().and_then(Path::parent) {
            Some(folder) => folder.to_owned(),
            None => std::env::temp_dir(),
        };
        let file = || {
            tempfile::Builder::new()
                .prefix(".vermeer-")
                .tempfile_in(&folder)
                .map(BufWriter::new)
                .map_err(|error| Error::io(&folder, error))
        };
        Ok(Self {
            extractor,
            place,
            waiting: Vec::new(),
            features: file()?,
            logits: file()?,
        })
    }

    fn add(&mut self, images: &[Image], stop: &AtomicBool) -> Result<()> {
        let prepared: vermeer_image::Result<Vec<Prepared>> = images
            .par_iter()
            .map(|image| self.extractor.prepare(image))
            .collect();
        self.waiting.append(&mut prepared?);
        let batch = self.extractor.batch();
        while self.waiting.len() >= batch {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Failed("interrupted; nothing was written".into()));
            }
            let rest = self.waiting.split_off(batch);
            let full = std::mem::replace(&mut self.waiting, rest);
            self.look(&full)?;
        }
        Ok(())
    }

    fn look(&mut self, images: &[Prepared]) -> Result<()> {
        let found = self.extractor.extract(images)?;
        put(&mut self.features, &found.features)?;
        put(&mut self.logits, &found.logits)
    }

    fn finish(mut self, n: usize, stop: &Arc<AtomicBool>) -> Result<Extraction> {
        let last = std::mem::take(&mut self.waiting);
        self.look(&last)?;
        let mut logits = flushed(self.logits)?;
        let place = logits.path().to_owned();
        let mut features = self.features;
        logits
            .rewind()
            .and_then(|()| std::io::copy(&mut logits, &mut features))
            .map_err(|error| Error::io(place, error))?;
        let file = flushed(features)?;
        let Some(place) = self.place else {
            let path = file.path().to_owned();
            return open(&path, n, self.extractor, (false, Some(file)), stop);
        };
        file.as_file()
            .sync_all()
            .map_err(|error| Error::io(&place, error))?;
        file.persist(&place)
            .map_err(|error| Error::io(&place, error.error))?;
        open(&place, n, self.extractor, (false, None), stop)
    }
}

fn flushed(file: BufWriter<NamedTempFile>) -> Result<NamedTempFile> {
    let place = file.get_ref().path().to_owned();
    file.into_inner()
        .map_err(|error| Error::io(place, error.into_error()))
}

/// Reads features and the logits behind them; the file has exactly their size.
fn open(
    path: &Path,
    n: usize,
    extractor: &Extractor,
    (cached, temporary): (bool, Option<NamedTempFile>),
    stop: &Arc<AtomicBool>,
) -> Result<Extraction> {
    let (dims, classes) = (extractor.dims(), extractor.classes());
    let bytes = fs::metadata(path)
        .map_err(|error| Error::io(path, error))?
        .len();
    let first = 4 * (n * dims) as u64;
    if bytes != first + 4 * (n * classes) as u64 {
        return Err(Error::data(
            path,
            "these features are of another number of images",
            "delete the file, so that it is made again",
        ));
    }
    Ok(Extraction {
        features: Features::open(path, 0, n, dims)?.until(Arc::clone(stop)),
        logits: match classes {
            0 => None,
            classes => Some(Features::open(path, first, n, classes)?.until(Arc::clone(stop))),
        },
        cached,
        _temporary: temporary,
    })
}

/// The name of the features: they follow from the images and from what looks at them.
fn key(digest: &str, n: usize, extractor: &Extractor) -> String {
    let (network, classes) = (extractor.identity(), extractor.classes());
    let (device, program) = (
        crate::device::name(extractor.device()),
        env!("CARGO_PKG_VERSION"),
    );
    let text = format!("{VERSION}\n{program}\n{device}\n{digest}\n{n}\n{network}\n{classes}");
    crate::sha256_hex(text.as_bytes())
}

fn put(out: &mut BufWriter<NamedTempFile>, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let written = out.write_all(&bytes);
    written.map_err(|error| Error::io(out.get_ref().path(), error))
}
