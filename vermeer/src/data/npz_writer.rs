//! Writes `.npz` files: NumPy arrays in a zip, not compressed, one after the other.

use std::io::{Seek, Write};

use super::npy_bytes;
use super::zip_writer::ZipFile;
use crate::Result;

/// An `.npz` in the making. Equal arrays make equal files, for the date is fixed.
pub struct NpzWriter<W: Write + Seek> {
    archive: ZipFile<W>,
}

impl<W: Write + Seek> NpzWriter<W> {
    /// Starts an archive in `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            archive: ZipFile::new(inner),
        }
    }

    /// Starts an array whose values follow by [`NpzWriter::append`]; `descr` is NumPy's name of
    /// the type, such as `<f4`.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when it cannot be written.
    pub fn start(&mut self, name: &str, descr: &str, shape: &[usize]) -> Result<()> {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        let shape = match &sizes[..] {
            [one] => format!("({one},)"),
            _ => format!("({})", sizes.join(", ")),
        };
        self.archive.start(&format!("{name}.npy"))?;
        self.append(&npy_bytes(&format!("'{descr}'"), &shape, &[]))
    }

    /// Adds bytes to the array that was started.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.archive.append(bytes)
    }

    /// An array of f32.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when it cannot be written.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        self.start(name, "<f4", shape)?;
        self.append(&bytes(values, |v| v.to_le_bytes()))
    }

    /// An array of f64.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when it cannot be written.
    pub fn doubles(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Result<()> {
        self.start(name, "<f8", shape)?;
        self.append(&bytes(values, |v| v.to_le_bytes()))
    }

    /// An array of i64.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when it cannot be written.
    pub fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) -> Result<()> {
        self.start(name, "<i8", shape)?;
        self.append(&bytes(values, |v| v.to_le_bytes()))
    }

    /// Texts as NumPy's unicode strings of one length, `[n]`.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when they cannot be written.
    pub fn texts(&mut self, name: &str, values: &[String]) -> Result<()> {
        let longest = values.iter().map(|text| text.chars().count()).max();
        let length = longest.unwrap_or_default().max(1);
        self.start(name, &format!("<U{length}"), &[values.len()])?;
        for text in values {
            let mut letters: Vec<u32> = text.chars().map(u32::from).collect();
            letters.resize(length, 0);
            self.append(&bytes(&letters, |v| v.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] when it cannot be written.
    pub fn finish(self) -> Result<W> {
        self.archive.finish()
    }
}

fn bytes<T: Copy, const N: usize>(values: &[T], each: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| each(*value)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    #[test]
    fn arrays_have_the_header_of_numpy() {
        let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
        writer.floats("a", &[2, 1], &[1.0, -2.0]).unwrap();
        writer.integers("b", &[1], &[7]).unwrap();
        writer
            .texts("c", &["é".to_owned(), "ab".to_owned()])
            .unwrap();
        let file = writer.finish().unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            archive
                .by_name(name)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        let a = read("a.npy");
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
        assert_eq!(&a[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(&a[10..10 + header.len()], header.as_bytes());
        assert_eq!(
            a[10 + header.len()..],
            [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat()
        );
        let b = read("b.npy");
        assert!(b.ends_with(&7i64.to_le_bytes()));
        assert!(String::from_utf8_lossy(&b).contains("'shape': (1,)"));
        let c = read("c.npy");
        assert!(String::from_utf8_lossy(&c).contains("'<U2'"));
        let letters = [0xe9u32, 0, u32::from('a'), u32::from('b')];
        let expected: Vec<u8> = letters.iter().flat_map(|l| l.to_le_bytes()).collect();
        assert!(c.ends_with(&expected));
    }
}
