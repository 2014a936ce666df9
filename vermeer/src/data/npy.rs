//! One array of NumPy's `.npy` format, versions 1 to 3, in C order and little-endian.
//!
//! The header is read here rather than evaluated as Python, so that a hostile one costs nothing:
//! what it announces must equal the bytes that are there. Source: NEP 1 and
//! `numpy/lib/format.py`.

use vermeer_image::Pixels;

/// A longer header than this belongs to no plain array.
const MAX_HEADER: usize = 64 << 10;

/// The kind of a number; the size is in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }
}

/// An array of numbers.
#[derive(Debug)]
pub(super) struct Array {
    /// The sizes, slowest first.
    pub(super) shape: Vec<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

impl Array {
    /// Reads the bytes of a `.npy` file.
    ///
    /// # Errors
    /// The reason why they are not an array of numbers that can be read here.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        Self::parse_as(bytes, kind)
    }

    /// As [`Array::parse`], with items whose kind `kind` reads from the header.
    fn parse_as(
        mut bytes: Vec<u8>,
        kind: fn(&str) -> Result<Kind, String>,
    ) -> Result<Self, String> {
        let broken = || "the npy header is damaged".to_string();
        if !bytes.starts_with(b"\x93NUMPY") {
            return Err("it does not begin like an npy file".to_string());
        }
        let byte = |index: usize| bytes.get(index).map(|byte| usize::from(*byte));
        let start = match byte(6) {
            Some(1) => 10,
            Some(2 | 3) => 12,
            _ => return Err("its npy version is not 1, 2 or 3".to_string()),
        };
        let mut length = 0;
        for index in (8..start).rev() {
            length = (length << 8) | byte(index).ok_or_else(broken)?;
        }
        if length > MAX_HEADER {
            return Err(format!("its npy header is {length} bytes long"));
        }
        let header = bytes.get(start..start + length).ok_or_else(broken)?;
        let header = str::from_utf8(header).map_err(|_| broken())?;

        let descr = value(header, "descr").ok_or_else(broken)?;
        let kind = kind(descr)?;
        let order = value(header, "fortran_order").ok_or_else(broken)?;
        if !order.starts_with("False") {
            return Err("it is in Fortran order".to_string());
        }
        let shape = value(header, "shape")
            .and_then(|text| text.strip_prefix('(')?.split_once(')'))
            .and_then(|(sizes, _)| {
                let sizes = sizes.split(',').map(str::trim);
                sizes
                    .filter(|size| !size.is_empty())
                    .map(|size| size.parse().ok())
                    .collect::<Option<Vec<usize>>>()
            })
            .ok_or_else(broken)?;

        let announced = shape
            .iter()
            .try_fold(kind.size(), |product, size| product.checked_mul(*size));
        let held = bytes.len() - start - length;
        if announced != Some(held) {
            return Err(format!(
                "its header announces {shape:?} numbers of {} bytes, which are not the {held} \
                 bytes there are",
                kind.size()
            ));
        }
        bytes.drain(..start + length);
        Ok(Self { shape, kind, bytes })
    }

    /// The numbers, where all are whole.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let signed = match self.kind {
            Kind::Unsigned(_) => false,
            Kind::Signed(_) => true,
            Kind::Bool | Kind::Float(_) => return None,
        };
        let number = |bytes: &[u8]| {
            let negative = signed && bytes.last().is_some_and(|byte| *byte >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            i64::from_le_bytes(wide)
        };
        let items = self.bytes.chunks_exact(self.kind.size());
        Some(items.map(number).collect())
    }

    /// The numbers as floats; doubles are rounded.
    pub(super) fn floats(&self) -> Vec<f32> {
        match self.kind {
            Kind::Float(4) => self
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
            Kind::Float(_) => self
                .bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes) as f32)
                .collect(),
            Kind::Bool => self.bytes.iter().map(|byte| f32::from(*byte)).collect(),
            Kind::Unsigned(_) | Kind::Signed(_) => {
                let numbers = self.integers().unwrap_or_default();
                numbers.into_iter().map(|number| number as f32).collect()
            }
        }
    }

    /// The numbers in double precision.
    pub(super) fn doubles(&self) -> Vec<f64> {
        match self.kind {
            Kind::Float(8) => self
                .bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect(),
            _ => self.floats().into_iter().map(f64::from).collect(),
        }
    }

    /// The numbers as pixels: bytes, 16-bit numbers, or floats in `[0, 1]`.
    ///
    /// # Errors
    /// The reason why they are no pixels.
    pub(super) fn into_pixels(self) -> Result<Pixels, String> {
        match self.kind {
            Kind::Unsigned(1) => Ok(Pixels::U8(self.bytes)),
            Kind::Unsigned(2) => {
                let pairs = self.bytes.as_chunks::<2>().0.iter();
                Ok(Pixels::U16(
                    pairs.map(|bytes| u16::from_le_bytes(*bytes)).collect(),
                ))
            }
            Kind::Float(_) => {
                let values = self.floats();
                match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                    Some(value) => Err(format!("it holds the pixel {value}, outside [0, 1]")),
                    None => Ok(Pixels::F32(values)),
                }
            }
            kind => Err(format!(
                "pixels are 8 or 16 bit unsigned or floats, not {kind:?}"
            )),
        }
    }
}

/// The text after `'key':` in a header.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(format!("'{key}'").as_str())?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// The texts of a `.npy` file of unicode strings.
///
/// # Errors
/// The reason why they are no such strings.
pub(super) fn texts(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    fn letters(descr: &str) -> Result<Kind, String> {
        let count = descr
            .strip_prefix("'<U")
            .and_then(|rest| rest.split_once('\''))
            .and_then(|(count, _)| count.parse::<usize>().ok())
            .filter(|count| (1..1 << 20).contains(count));
        count
            .map(|count| Kind::Unsigned(4 * count))
            .ok_or_else(|| "it holds no unicode strings".to_string())
    }
    let array = Array::parse_as(bytes, letters)?;
    let text = |item: &[u8]| -> Option<String> {
        let letters = item.chunks_exact(4).map(|letter| {
            let mut code = [0; 4];
            code.copy_from_slice(letter);
            u32::from_le_bytes(code)
        });
        letters
            .take_while(|letter| *letter != 0)
            .map(char::from_u32)
            .collect()
    };
    let items = array.bytes.chunks_exact(array.kind.size());
    items
        .map(text)
        .collect::<Option<Vec<String>>>()
        .ok_or_else(|| "it holds letters that are no unicode".to_string())
}

/// Reads a type such as `'<f4'`.
fn kind(descr: &str) -> Result<Kind, String> {
    let text = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .map(|(text, _)| text);
    match text {
        Some("|b1") => Ok(Kind::Bool),
        Some("|u1") => Ok(Kind::Unsigned(1)),
        Some("<u2") => Ok(Kind::Unsigned(2)),
        Some("<u4") => Ok(Kind::Unsigned(4)),
        Some("<u8") => Ok(Kind::Unsigned(8)),
        Some("|i1") => Ok(Kind::Signed(1)),
        Some("<i2") => Ok(Kind::Signed(2)),
        Some("<i4") => Ok(Kind::Signed(4)),
        Some("<i8") => Ok(Kind::Signed(8)),
        Some("<f4") => Ok(Kind::Float(4)),
        Some("<f8") => Ok(Kind::Float(8)),
        Some(other) => Err(format!("its type is {other:?}, which is not read here")),
        None => Err("its records are not plain numbers".to_string()),
    }
}

/// The bytes of a `.npy` file of version 1: `descr` and `shape` as Python writes them.
pub(crate) fn write(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind_are_read() {
        let read = |descr: &str, data: &[u8]| {
            let array = Array::parse(write(descr, "(2,)", data)).unwrap();
            assert_eq!(array.shape, [2]);
            (array.integers(), array.floats())
        };
        // Two's complement and IEEE 754, low byte first: fffe is -2, 3fc00000 is 1.5 and
        // c000000000000000 is -2.
        for (descr, data, integers, floats) in [
            ("'|u1'", vec![1, 255], Some(vec![1, 255]), [1.0, 255.0]),
            ("'|i1'", vec![1, 255], Some(vec![1, -1]), [1.0, -1.0]),
            (
                "'<u2'",
                vec![0, 1, 255, 255],
                Some(vec![256, 65535]),
                [256.0, 65535.0],
            ),
            (
                "'<i2'",
                vec![0, 1, 254, 255],
                Some(vec![256, -2]),
                [256.0, -2.0],
            ),
            ("'|b1'", vec![1, 0], None, [1.0, 0.0]),
            (
                "'<f4'",
                vec![0, 0, 0xc0, 0x3f, 0, 0, 0, 0],
                None,
                [1.5, 0.0],
            ),
            (
                "'<f8'",
                [vec![0u8; 7], vec![0xc0], vec![0; 8]].concat(),
                None,
                [-2.0, 0.0],
            ),
        ] {
            assert_eq!(read(descr, &data), (integers, floats.to_vec()), "{descr}");
        }
    }

    #[test]
    fn an_array_written_by_numpy_is_read() {
        // numpy 2.4.6: np.save(f, np.arange(6, dtype=np.uint8).reshape(1, 2, 3)).
        let mut bytes = b"\x93NUMPY\x01\x00v\x00".to_vec();
        let dictionary = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }";
        bytes.extend(format!("{dictionary:<117}\n").as_bytes());
        bytes.extend([0, 1, 2, 3, 4, 5]);
        let array = Array::parse(bytes).unwrap();
        assert_eq!(array.shape, [1, 2, 3]);
        assert!(matches!(array.into_pixels(), Ok(Pixels::U8(v)) if v == [0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let huge = format!("({0}, {0})", usize::MAX);
        for (bytes, part) in [
            (b"PK\x03\x04".to_vec(), "begin"),
            (b"\x93NUMPY\x04\x00".to_vec(), "version"),
            (b"\x93NUMPY\x01\x00v\x00{".to_vec(), "damaged"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "bytes long"),
            (write("'|u1'", "(3,)", &[0; 2]), "2 bytes there are"),
            (write("'|u1'", "(3,)", &[0; 4]), "4 bytes there are"),
            (write("'|u1'", &huge, &[]), "0 bytes there are"),
            (write("'|u1'", "(-1,)", &[]), "damaged"),
            (write("'>f4'", "(1,)", &[0; 4]), ">f4"),
            (write("'|O'", "(1,)", &[0; 4]), "|O"),
            (write("[('a', '<f4')]", "(1,)", &[0; 4]), "plain numbers"),
        ] {
            let reason = Array::parse(bytes).unwrap_err();
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }

    #[test]
    fn float_pixels_stay_in_the_unit_range() {
        let pixels = |value: f32| {
            let bytes = write("'<f4'", "(1,)", &value.to_le_bytes());
            Array::parse(bytes).unwrap().into_pixels()
        };
        assert!(matches!(pixels(0.25), Ok(Pixels::F32(v)) if v == [0.25]));
        assert!(pixels(1.5).is_err());
        assert!(pixels(f32::NAN).is_err());
    }
}
