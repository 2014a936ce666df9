//! The classes that a conditional network is told.

use burn::prelude::*;

use super::Autoregressive;
use crate::nn::host;

/// Checks that a conditional network comes with the label of each of `n` images, and another one
/// with none.
///
/// # Panics
/// Where labels are missing, not wanted, of another number, or of no class.
pub fn check_labels<N: Autoregressive>(net: &N, labels: Option<&[u32]>, n: usize) {
    assert_eq!(
        labels.is_some(),
        net.conditional(),
        "labels are for a conditional network, which needs them"
    );
    let Some(labels) = labels else { return };
    assert_eq!(labels.len(), n, "each image has one label");
    let classes = net.spec().classes.len();
    assert!(
        labels.iter().all(|label| (*label as usize) < classes),
        "labels are below {classes}, the number of classes"
    );
}

/// The labels of `n` images for a conditional network, `[n]`; none for another one.
///
/// # Panics
/// As [`check_labels`].
pub fn class_numbers<N: Autoregressive>(
    net: &N,
    labels: Option<&[u32]>,
    n: usize,
    device: &Device,
) -> Option<Tensor<1, Int>> {
    check_labels(net, labels, n);
    let labels: Vec<i32> = labels?.iter().map(|label| *label as i32).collect();
    Some(Tensor::<1, Int>::from_data(&labels[..], device))
}

/// Of a table `[classes, size]` the row of each label, `[n, size]`, on the host.
pub fn class_rows(table: Tensor<2>, labels: &[u32]) -> Vec<f32> {
    let [_, size] = table.dims();
    let table = host(table);
    let row = |label: &u32| &table[*label as usize * size..][..size];
    labels.iter().flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::models::PixelCnn;
    use crate::nn::Init;
    use crate::registry::Family;

    #[test]
    fn labels_are_for_conditional_networks() {
        let device = Device::flex();
        let (mut config, spec) = PixelCnn::tiny();
        assert_eq!((config.conditional, spec.classes.len()), (true, 2));
        for conditional in [true, false] {
            config.conditional = conditional;
            let net = config.init(&spec, &Init::new(0, &device));
            let fits = |labels: Option<&[u32]>| {
                let numbers = || class_numbers(&net, labels, 3, &device);
                catch_unwind(AssertUnwindSafe(numbers)).is_ok()
            };
            assert_eq!(fits(Some(&[0, 1, 0])), conditional);
            assert_eq!(fits(None), !conditional);
            assert!(!fits(Some(&[0, 1])), "a label is missing");
            assert!(!fits(Some(&[0, 1, 2])), "there is no class 2");
        }
    }

    #[test]
    fn rows_are_those_of_the_labels() {
        let device = Device::flex();
        let table = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device);
        assert_eq!(
            class_rows(table, &[2, 0, 2]),
            [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]
        );
    }
}
