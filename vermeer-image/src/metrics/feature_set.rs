//! Features of a set of images: one row of numbers for each image, in memory or in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{ImageError, Result};

/// `n` rows of `d` finite 32-bit values.
///
/// Rows in a file are read when they are asked for, so that a set of any size needs the memory of
/// what is looked at.
#[derive(Debug)]
pub struct Features {
    len: usize,
    dims: usize,
    store: Store,
    /// Set from outside when no more rows are wanted.
    stop: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<f32>),
    /// Little-endian values from `offset` on.
    File {
        path: PathBuf,
        file: Mutex<File>,
        offset: u64,
    },
}

impl Features {
    /// Rows in memory, one after the other.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when the values are not whole rows of at least one value, or one of
    /// them is not finite.
    pub fn new(values: Vec<f32>, dims: usize) -> Result<Self> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            return Err(ImageError::Shape(format!(
                "{} values are not rows of {dims} features",
                values.len()
            )));
        }
        check(&values, dims, 0)?;
        Ok(Self {
            len: values.len() / dims,
            dims,
            store: Store::Memory(values),
            stop: None,
        })
    }

    /// The same rows, which are given until `stop` is set: then reading them is an error. Metrics
    /// read rows again and again, so they come to an end soon.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }

    /// Refuses once `stop` is set.
    fn go_on(&self) -> Result<()> {
        match self
            .stop
            .as_ref()
            .is_some_and(|stop| stop.load(Ordering::Relaxed))
        {
            true => Err(ImageError::Shape(
                "interrupted; nothing was written".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Rows in a file: `len` times `dims` little-endian 32-bit floats from the byte `offset` on.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the file cannot be read, [`ImageError::Refused`] when it is too
    /// short.
    pub fn open(path: &Path, offset: u64, len: usize, dims: usize) -> Result<Self> {
        let failed = |error| ImageError::io(path, error);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let wanted = (len as u64)
            .checked_mul(4 * dims as u64)
            .and_then(|bytes| bytes.checked_add(offset));
        if dims == 0 || wanted.is_none_or(|wanted| wanted > bytes) {
            return Err(ImageError::refused(
                path.display().to_string(),
                format!("{bytes} bytes do not hold {len} rows of {dims} features"),
                "delete the file, so that it is made again",
            ));
        }
        Ok(Self {
            len,
            dims,
            store: Store::File {
                path: path.to_owned(),
                file: Mutex::new(file),
                offset,
            },
            stop: None,
        })
    }

    /// The number of rows, which is the number of images.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of values in a row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The values of these rows, one row after the other.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the file cannot be read, [`ImageError::Shape`] when a value in it is
    /// not finite.
    ///
    /// # Panics
    /// When there are not so many rows.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        assert!(
            rows.start <= rows.end && rows.end <= self.len,
            "rows {rows:?} of {}",
            self.len
        );
        self.go_on()?;
        match &self.store {
            Store::Memory(values) => {
                Ok(values[rows.start * self.dims..rows.end * self.dims].to_vec())
            }
            Store::File { path, file, offset } => {
                let mut bytes = vec![0; rows.len() * self.dims * 4];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(
                    offset + (rows.start * self.dims * 4) as u64,
                ))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|error| ImageError::io(path, error))?;
                drop(file);
                let values: Vec<f32> = bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect();
                check(&values, self.dims, rows.start)?;
                Ok(values)
            }
        }
    }

    /// The values of these rows in double precision.
    ///
    /// # Errors
    /// As [`Features::rows`].
    pub(crate) fn doubles(&self, rows: Range<usize>) -> Result<Vec<f64>> {
        Ok(self.rows(rows)?.into_iter().map(f64::from).collect())
    }

    /// These rows in this order, in memory.
    ///
    /// # Errors
    /// As [`Features::rows`].
    ///
    /// # Panics
    /// When there are not so many rows.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        self.go_on()?;
        let mut values = Vec::with_capacity(rows.len() * self.dims);
        for row in rows {
            match &self.store {
                Store::Memory(all) => {
                    values.extend_from_slice(&all[row * self.dims..(row + 1) * self.dims]);
                }
                Store::File { .. } => values.extend(self.rows(*row..row + 1)?),
            }
        }
        Ok(Self {
            len: rows.len(),
            dims: self.dims,
            store: Store::Memory(values),
            stop: self.stop.clone(),
        })
    }

    /// Refuses sets whose rows are not of one length.
    pub(crate) fn same_dims(&self, other: &Self) -> Result<()> {
        if self.dims == other.dims {
            return Ok(());
        }
        Err(ImageError::Shape(format!(
            "features of {} and of {} values cannot be compared; take both from one network",
            self.dims, other.dims
        )))
    }

    /// Refuses fewer than `least` rows, for what `what` needs.
    pub(crate) fn at_least(&self, least: usize, what: &str) -> Result<()> {
        if self.len >= least {
            return Ok(());
        }
        Err(ImageError::Shape(format!(
            "{what} needs at least {least} images, here are {}; give more images",
            self.len
        )))
    }
}

/// Refuses values that are not finite.
fn check(values: &[f32], dims: usize, first_row: usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ImageError::Shape(format!(
            "feature {} of image {} is {}; the network or its weights are broken",
            at % dims,
            first_row + at / dims,
            values[at]
        ))),
    }
}

/// The range of each of at most `parts` consecutive parts of `0..len`, as even as they can be: part
/// `i` is `i·len/parts .. (i+1)·len/parts`.
pub(crate) fn parts(len: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts)
        .map(|i| i * len / parts..(i + 1) * len / parts)
        .filter(|range| !range.is_empty())
        .collect()
}

/// Consecutive ranges of at most `size` rows.
pub(crate) fn chunks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(size)
        .map(move |from| from..(from + size).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_given_until_they_are_not_wanted() {
        let stop = Arc::new(AtomicBool::new(false));
        let features = Features::new(vec![1.0, 2.0], 1)
            .unwrap()
            .until(Arc::clone(&stop));
        let part = features.select(&[1]).unwrap();
        assert_eq!(part.rows(0..1).unwrap(), [2.0]);
        stop.store(true, Ordering::Relaxed);
        assert!(features.rows(0..1).is_err() && features.select(&[0]).is_err());
        assert!(part.rows(0..1).is_err());
    }

    #[test]
    fn rows_come_from_memory_and_from_a_file() {
        let values: Vec<f32> = (0..12).map(|i| i as f32 / 4.0).collect();
        let memory = Features::new(values.clone(), 3).unwrap();
        let file = std::env::temp_dir().join(format!("vermeer-features-{}", std::process::id()));
        let bytes: Vec<u8> = [9u8, 9]
            .into_iter()
            .chain(values.iter().flat_map(|v| v.to_le_bytes()))
            .collect();
        std::fs::write(&file, bytes).unwrap();
        let stored = Features::open(&file, 2, 4, 3).unwrap();
        for set in [&memory, &stored] {
            assert_eq!((set.len(), set.dims()), (4, 3));
            assert_eq!(set.rows(1..3).unwrap(), values[3..9]);
            let picked = set.select(&[3, 0]).unwrap();
            assert_eq!(
                picked.rows(0..2).unwrap(),
                [&values[9..12], &values[..3]].concat()
            );
        }
        assert!(Features::open(&file, 2, 5, 3).is_err());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn broken_values_are_refused() {
        assert!(Features::new(vec![0.0; 5], 2).is_err());
        assert!(Features::new(vec![0.0, f32::NAN], 1).is_err());
    }

    #[test]
    fn parts_are_even_and_whole() {
        assert_eq!(parts(1003, 10)[9], 902..1003);
        assert_eq!(parts(2, 4), [0..1, 1..2]);
    }
}
