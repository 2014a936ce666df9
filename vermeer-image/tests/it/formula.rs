//! Tensors of fixtures: weights that are a formula, and what a file holds.
//!
//! Value i of a network's tensor k is made from a hash of both, so that a network is checked
//! against its reference without weights that somebody published:
//!
//! ```text
//! h = splitmix64(2³² k + i)      s = 2 ⌊h / 2⁴⁰⌋ / 2²⁴ − 1
//! weight  √(9 / inputs) s        bias, normalisation's shift and mean  0.1 s
//! normalisation's scale  1 + 0.1 s        its variance  1 + 0.5 |s|        head  |s|
//! ```
//!
//! in f64, times the tensor's scale, rounded once to f32.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// Shape and values by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A tensor of a network; its number is its place in the network's list.
pub(crate) struct Formula {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) rule: String,
    pub(crate) scale: f64,
}

impl Formula {
    fn values(&self, k: usize) -> Vec<f32> {
        let inputs: usize = self.shape[1..].iter().product();
        // What is added to the factor times s, and whether its sign is dropped.
        let (base, factor, size) = match self.rule.as_str() {
            "weight" => (0.0, (9.0 / inputs as f64).sqrt(), false),
            "bias" | "bn.bias" | "bn.running_mean" => (0.0, 0.1, false),
            "bn.weight" => (1.0, 0.1, false),
            "bn.running_var" => (1.0, 0.5, true),
            "head" => (0.0, 1.0, true),
            other => panic!("{}: there is no rule {other}", self.name),
        };
        let count: usize = self.shape.iter().product();
        (0..count)
            .map(|i| {
                let s = unit(((k as u64) << 32) | i as u64);
                let s = if size { s.abs() } else { s };
                ((base + factor * s) * self.scale) as f32
            })
            .collect()
    }
}

/// A number in \[-1, 1) by splitmix64 (Steele et al., 2014).
fn unit(x: u64) -> f64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let h = z ^ (z >> 31);
    2.0 * ((h >> 40) as f64 / 16_777_216.0) - 1.0
}

/// The tensors of a network's list.
pub(crate) fn weights(list: &[Formula]) -> Tensors {
    let tensor = |(k, of): (usize, &Formula)| (of.name.clone(), (of.shape.clone(), of.values(k)));
    list.iter().enumerate().map(tensor).collect()
}

/// The tensors of a list `k,key,shape,rule,fan_in,scale,first_value,last_value,…`; the first and
/// last values are checked.
pub(crate) fn weights_of_csv(path: &Path) -> Tensors {
    let text = fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect())
        .collect();
    let list: Vec<Formula> = rows
        .iter()
        .map(|row| Formula {
            name: row[1].to_owned(),
            shape: row[2]
                .split('x')
                .map(|axis| axis.parse().unwrap())
                .collect(),
            rule: row[3].to_owned(),
            scale: row[5].parse().unwrap(),
        })
        .collect();
    let tensors = weights(&list);
    for (k, row) in rows.iter().enumerate() {
        assert_eq!(row[0], k.to_string());
        let (_, values) = &tensors[row[1]];
        let ends = [row[6], row[7]].map(|value| value.parse::<f64>().unwrap() as f32);
        assert_eq!([values[0], values[values.len() - 1]], ends, "{}", row[1]);
    }
    tensors
}

/// The tensors of f32 and of bytes in a safetensors file.
pub(crate) fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::U8 => view.data().iter().map(|b| f32::from(*b)).collect(),
            _ => continue,
        };
        tensors.insert(name, (view.shape().to_vec(), values));
    }
    tensors
}
