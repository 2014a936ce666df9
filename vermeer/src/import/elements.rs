//! Element types of PyTorch storages, and their values as f32.

use burn::tensor::{bf16, f16};
use pytorch_reader::DType;

/// The name of an element type, or `None` for f32.
pub(super) fn other_than_f32(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => None,
        DType::F64 => Some("f64"),
        DType::F16 => Some("f16"),
        DType::BF16 => Some("bf16"),
        DType::I64 => Some("i64"),
        DType::I32 => Some("i32"),
        DType::I16 => Some("i16"),
        DType::I8 => Some("i8"),
        DType::U64 => Some("u64"),
        DType::U32 => Some("u32"),
        DType::U16 => Some("u16"),
        DType::U8 => Some("u8"),
        DType::Bool => Some("bool"),
    }
}

/// Values from their bytes in the machine's order.
///
/// Whole numbers above 2^24 are rounded (PyTorch stores counters among the weights), and f64
/// values beyond f32 become infinite.
pub(super) fn to_f32(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => values::<4>(bytes, f32::from_ne_bytes),
        DType::F64 => values::<8>(bytes, |bytes| f64::from_ne_bytes(bytes) as f32),
        DType::F16 => values::<2>(bytes, |bytes| f16::from_ne_bytes(bytes).to_f32()),
        DType::BF16 => values::<2>(bytes, |bytes| bf16::from_ne_bytes(bytes).to_f32()),
        DType::I64 => values::<8>(bytes, |bytes| i64::from_ne_bytes(bytes) as f32),
        DType::I32 => values::<4>(bytes, |bytes| i32::from_ne_bytes(bytes) as f32),
        DType::I16 => values::<2>(bytes, |bytes| f32::from(i16::from_ne_bytes(bytes))),
        DType::I8 => values::<1>(bytes, |bytes| f32::from(i8::from_ne_bytes(bytes))),
        DType::U64 => values::<8>(bytes, |bytes| u64::from_ne_bytes(bytes) as f32),
        DType::U32 => values::<4>(bytes, |bytes| u32::from_ne_bytes(bytes) as f32),
        DType::U16 => values::<2>(bytes, |bytes| f32::from(u16::from_ne_bytes(bytes))),
        DType::U8 | DType::Bool => values::<1>(bytes, |bytes| f32::from(bytes[0])),
    }
}

fn values<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|element| value(*element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit patterns of IEEE 754: 1.5 and -2 in half precision and in bfloat16.
    #[test]
    fn element_types_convert() {
        let pair = |a: u16, b: u16| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
        let cases: [(DType, Vec<u8>, [f32; 2]); 7] = [
            (DType::F16, pair(0x3e00, 0xc000), [1.5, -2.0]),
            (DType::BF16, pair(0x3fc0, 0xc000), [1.5, -2.0]),
            (DType::I16, pair(3, 0xffff), [3.0, -1.0]),
            (DType::U16, pair(3, 0xffff), [3.0, 65_535.0]),
            (DType::I8, vec![3, 0xff], [3.0, -1.0]),
            (DType::Bool, vec![0, 1], [0.0, 1.0]),
            (
                DType::F64,
                [0.25_f64.to_ne_bytes(), 8.0_f64.to_ne_bytes()].concat(),
                [0.25, 8.0],
            ),
        ];
        for (dtype, bytes, expected) in cases {
            assert_eq!(to_f32(dtype, &bytes), expected, "{dtype:?}");
        }
    }
}
