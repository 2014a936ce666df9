//! Named tensors on the host, and the safetensors files that hold them.
//!
//! A file is eight bytes of header length, a JSON header and the values, little-endian. The
//! header is written here, because the `safetensors` crate writes its free texts in an order that
//! changes from process to process; reading is that crate's work, which checks every offset.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::run::commit::replace_file;

/// The header entry that holds free texts instead of a tensor.
const METADATA: &str = "__metadata__";

/// Values of one tensor in row-major order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedTensor {
    /// The length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The values, as many as the product of the shape.
    pub data: Vec<f32>,
}

/// Tensors by name, sorted.
pub type TensorMap = BTreeMap<String, NamedTensor>;

/// Writes tensors and free texts as a safetensors file, in one step.
///
/// The same content gives the same bytes: tensors and texts are sorted by name.
///
/// # Errors
/// When the disk refuses.
///
/// # Panics
/// When a shape does not fit its data.
pub fn write_safetensors(
    path: &Path,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    replace_file(path, &encode(tensors, metadata))
}

/// Reads a safetensors file: its tensors and its free texts.
///
/// Values of f16, bf16 and f64 become f32, and so do whole numbers of i64 that f32 holds exactly
/// (PyTorch counts batches in them).
///
/// # Errors
/// When the file cannot be read, is damaged, or holds values of another type or beyond f32.
pub fn read_safetensors(path: &Path) -> Result<(TensorMap, BTreeMap<String, String>)> {
    decode(
        &fs::read(path).map_err(|source| Error::io(path, source))?,
        path,
    )
}

/// The bytes of a safetensors file. See [`write_safetensors`].
pub(super) fn encode(tensors: &TensorMap, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        assert_ne!(
            name, METADATA,
            "a tensor cannot have the name of the free texts"
        );
        let count: usize = tensor.shape.iter().product();
        assert_eq!(
            count,
            tensor.data.len(),
            "{name}: {:?} does not fit its data",
            tensor.shape
        );
        let start = end;
        end += 4 * count;
        header.insert(
            name.clone(),
            json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] }),
        );
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // Spaces up to the next eight bytes keep the values aligned.
    text.resize(text.len().next_multiple_of(8), b' ');

    let mut bytes = Vec::with_capacity(8 + text.len() + end);
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&text);
    for tensor in tensors.values() {
        let start = bytes.len();
        bytes.resize(start + 4 * tensor.data.len(), 0);
        let slots = bytes[start..].as_chunks_mut::<4>().0;
        for (slot, value) in slots.iter_mut().zip(&tensor.data) {
            *slot = value.to_le_bytes();
        }
    }
    bytes
}

/// The content of a safetensors file's bytes; `path` is what errors name.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<(TensorMap, BTreeMap<String, String>)> {
    let damaged = |reason: String| {
        Error::checkpoint(
            path,
            reason,
            "export the weights again, or use another copy of the file",
        )
    };
    let malformed =
        |error: SafeTensorError| damaged(format!("is no complete safetensors file: {error}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.iter() {
        let data = floats(view.dtype(), view.data())
            .map_err(|reason| damaged(format!("tensor {name} holds {reason}")))?;
        tensors.insert(
            name.to_owned(),
            NamedTensor {
                shape: view.shape().to_vec(),
                data,
            },
        );
    }
    let metadata = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    Ok((tensors, metadata))
}

/// Values as f32, or what they are instead.
fn floats(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, String> {
    match dtype {
        Dtype::F32 => Ok(words(bytes, f32::from_le_bytes)),
        Dtype::F16 => Ok(words(bytes, |word| f16::from_le_bytes(word).to_f32())),
        Dtype::BF16 => Ok(words(bytes, |word| bf16::from_le_bytes(word).to_f32())),
        Dtype::F64 => {
            let wide = words(bytes, f64::from_le_bytes);
            let fits = |value: &f64| !value.is_finite() || (*value as f32).is_finite();
            match wide.iter().find(|value| !fits(value)) {
                Some(value) => Err(format!("{value}, which f32 cannot")),
                None => Ok(wide.iter().map(|&value| value as f32).collect()),
            }
        }
        Dtype::I64 => {
            let whole = words(bytes, i64::from_le_bytes);
            match whole.iter().find(|value| value.unsigned_abs() > 1 << 24) {
                Some(value) => Err(format!("{value}, which f32 cannot exactly")),
                None => Ok(whole.iter().map(|&value| value as f32).collect()),
            }
        }
        other => Err(format!(
            "values of type {other:?}, not F32, F16, BF16, F64 or I64"
        )),
    }
}

fn words<const N: usize, T>(bytes: &[u8], value: fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&word| value(word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> TensorMap {
        TensorMap::from([
            (
                "b.weight".to_owned(),
                NamedTensor {
                    shape: vec![2, 1],
                    data: vec![1.0, -0.0],
                },
            ),
            (
                "a.steps".to_owned(),
                NamedTensor {
                    shape: vec![],
                    data: vec![f32::NAN],
                },
            ),
            (
                "c.none".to_owned(),
                NamedTensor {
                    shape: vec![0, 3],
                    data: vec![],
                },
            ),
        ])
    }

    /// A file of one tensor `x`, laid out by hand.
    fn file(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!(
            "{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{}]}}}}",
            data.len()
        );
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            data,
        ]
        .concat()
    }

    #[test]
    fn the_layout_is_that_of_the_format() {
        let tensors = TensorMap::from([(
            "x".to_owned(),
            NamedTensor {
                shape: vec![2],
                data: vec![1.0, -2.0],
            },
        )]);
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let mut header = concat!(
            "{\"__metadata__\":{\"k\":\"v\"},",
            "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
        )
        .to_owned();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let data = [0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0];
        let expected = [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &data,
        ]
        .concat();
        assert_eq!(encode(&tensors, &metadata), expected);
    }

    #[test]
    fn bits_shapes_and_texts_survive_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let metadata: BTreeMap<_, _> = (0..9)
            .map(|i| (format!("key {i}"), format!("\"text\"\n{i}")))
            .collect();
        write_safetensors(&path, &example(), &metadata).unwrap();
        let (tensors, texts) = read_safetensors(&path).unwrap();
        assert_eq!(texts, metadata);
        assert_eq!(tensors.len(), 3);
        for (name, tensor) in example() {
            assert_eq!(tensors[&name].shape, tensor.shape);
            let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&tensors[&name].data), bits(&tensor.data), "{name}");
        }
    }

    #[test]
    fn other_number_types_become_f32() {
        // IEEE 754: 0x3e00 is 1.5 in half precision, 0x0001 its smallest number 2^-24;
        // 0xc020 is -2.5 in bfloat16.
        for (dtype, shape, data, expected) in [
            (
                "F16",
                "[2]",
                vec![0x00, 0x3e, 0x01, 0x00],
                vec![1.5, 2f32.powi(-24)],
            ),
            ("BF16", "[1]", vec![0x20, 0xc0], vec![-2.5]),
            ("F64", "[]", 0.1f64.to_le_bytes().to_vec(), vec![0.1]),
            (
                "F64",
                "[]",
                f64::INFINITY.to_le_bytes().to_vec(),
                vec![f32::INFINITY],
            ),
            ("I64", "[]", 937i64.to_le_bytes().to_vec(), vec![937.0]),
        ] {
            let (tensors, _) = decode(&file(dtype, shape, &data), Path::new("f")).unwrap();
            assert_eq!(tensors["x"].data, expected, "{dtype}");
        }
    }

    #[test]
    fn what_f32_cannot_hold_and_damaged_files_are_refused() {
        let good = file("F32", "[1]", &[0; 4]);
        let cases = [
            file("F64", "[1]", &1e300f64.to_le_bytes()),
            file("I64", "[1]", &((1i64 << 24) + 1).to_le_bytes()),
            file("I32", "[1]", &[0; 4]),
            file("F32", "[2]", &[0; 4]),
            good[..good.len() - 1].to_vec(),
            [&good[..], &[0]].concat(),
            vec![0xff; 64],
            vec![],
        ];
        for bytes in cases {
            let error = decode(&bytes, Path::new("w.safetensors")).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains("w.safetensors"), "{error}");
        }
        decode(&good, Path::new("f")).unwrap();
    }

    #[test]
    #[should_panic(expected = "does not fit its data")]
    fn a_shape_that_does_not_fit_is_a_bug() {
        let tensor = NamedTensor {
            shape: vec![3],
            data: vec![0.0],
        };
        encode(
            &TensorMap::from([("x".to_owned(), tensor)]),
            &BTreeMap::new(),
        );
    }
}
