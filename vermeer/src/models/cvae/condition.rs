//! What a conditional VAE is told: a class, attributes, or a part of the image itself.

use burn::module::{Module, RunningState};
use burn::prelude::*;
use serde::{Deserialize, Serialize};

use crate::models::vae::Given;
use crate::nn::{Init, host};
use crate::registry::DataSpec;
use crate::{Error, Result};

/// What encoder and decoder are told besides the image and the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The class, one number for each class: 1 for its own and 0 for the others.
    #[default]
    Class,
    /// The attributes, less their mean and over their spread in the training images.
    Attributes,
    /// The upper half of the image; the model makes the lower one.
    Top,
    /// The left half of the image; the model makes the right one.
    Left,
    /// The upper left quarter of the image; the model makes the other three.
    Quarter,
}

impl Condition {
    /// Height and width of the known part, which begins in the upper left corner; `None` where the
    /// condition is no part of the image.
    pub(crate) fn part(self, spec: &DataSpec) -> Option<[usize; 2]> {
        let (height, width) = (spec.height, spec.width);
        match self {
            Condition::Class | Condition::Attributes => None,
            Condition::Top => Some([height.div_ceil(2), width]),
            Condition::Left => Some([height, width.div_ceil(2)]),
            Condition::Quarter => Some([height.div_ceil(2), width.div_ceil(2)]),
        }
    }

    /// How many numbers tell it.
    pub(crate) fn size(self, spec: &DataSpec) -> usize {
        match (self, self.part(spec)) {
            (_, Some([height, width])) => spec.channels * height * width,
            (Condition::Attributes, None) => spec.attributes.len(),
            (_, None) => spec.classes.len(),
        }
    }

    /// Checks that the images have what is told of them.
    ///
    /// # Errors
    /// [`Error::Settings`] naming what they lack.
    pub(crate) fn check(self, spec: &DataSpec) -> Result<()> {
        let wrong = |what: &str, remedy: &str| Err(Error::settings(what, remedy));
        match self {
            Condition::Class if spec.classes.len() < 2 => wrong(
                "model.condition = \"class\" needs images of two classes or more",
                "give labelled images, or set model.condition to another one",
            ),
            Condition::Attributes if spec.attributes.is_empty() => wrong(
                "model.condition = \"attributes\" needs images with attributes",
                "give images with attributes, or set model.condition to another one",
            ),
            Condition::Top | Condition::Left | Condition::Quarter
                if spec.height < 2 || spec.width < 2 =>
            {
                wrong(
                    "images of one row or column have no known part",
                    "set data.size to at least [2, 2]",
                )
            }
            _ => Ok(()),
        }
    }

    /// The known part in words.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Condition::Class => "class",
            Condition::Attributes => "attributes",
            Condition::Top => "upper half",
            Condition::Left => "left half",
            Condition::Quarter => "upper left quarter",
        }
    }
}

/// One row of `classes` numbers for each label, all zero but for a one.
pub(crate) fn one_hot(labels: &[u32], classes: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; labels.len() * classes];
    for (row, label) in values.chunks_exact_mut(classes.max(1)).zip(labels) {
        if let Some(own) = row.get_mut(*label as usize) {
            *own = 1.0;
        }
    }
    Tensor::<1>::from_floats(&values[..], device).reshape([labels.len(), classes])
}

/// What is told of unit images `x` of which the first rows and columns are known: their pixels
/// there. The others are not looked at.
pub(crate) fn known_part(x: Tensor<4>, [rows, columns]: [usize; 2]) -> Given {
    let [n, channels, height, width] = x.dims();
    let modelled: Vec<f32> = (0..height * width)
        .map(|at| f32::from(u8::from(at / width >= rows || at % width >= columns)))
        .collect();
    let modelled = Tensor::<1>::from_floats(&modelled[..], &x.device());
    let part = x.narrow(2, 0, rows).narrow(3, 0, columns);
    Given {
        condition: part.reshape([n, channels * rows * columns]),
        modelled: Some(modelled.reshape([1, 1, height, width])),
    }
}

/// Mean and variance of each attribute over the training images seen so far.
#[derive(Module, Debug)]
pub struct AttributeScale {
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
}

/// A spread below this is that of an attribute with one value.
const SMALLEST_SPREAD: f32 = 1e-6;

impl AttributeScale {
    /// Of `attributes` attributes, mean 0 and variance 1 until images are seen.
    pub(crate) fn new(attributes: usize, init: &Init) -> Self {
        Self {
            running_mean: RunningState::new(Tensor::zeros([attributes], init.device())),
            running_var: RunningState::new(Tensor::ones([attributes], init.device())),
        }
    }

    /// Takes the attributes of batch number `step`, `[n, attributes]`, into the mean over all
    /// batches.
    pub(crate) fn learn(&self, values: &[f32], step: u64) {
        let (mut mean, mut var) = (
            host(self.running_mean.value_sync()),
            host(self.running_var.value_sync()),
        );
        let size = mean.len();
        let count = (values.len() / size.max(1)).max(1) as f64;
        let share = 1.0 / (step as f64 + 1.0);
        for (column, (mean, var)) in mean.iter_mut().zip(&mut var).enumerate() {
            let own = || values.iter().skip(column).step_by(size);
            let batch = own().map(|v| f64::from(*v)).sum::<f64>() / count;
            let spread = own().map(|v| (f64::from(*v) - batch).powi(2)).sum::<f64>() / count;
            // Mean and variance of a mixture of the batches before and this one.
            let shift = batch - f64::from(*mean);
            let mixed = (1.0 - share) * f64::from(*var) + share * spread;
            *var = (mixed + share * (1.0 - share) * shift * shift) as f32;
            *mean = (f64::from(*mean) + share * shift) as f32;
        }
        for (state, values) in [(&self.running_mean, mean), (&self.running_var, var)] {
            let device = state.value().device();
            state.update(Tensor::<1>::from_floats(&values[..], &device));
            // An update is held back until the next synchronisation; without this line a
            // checkpoint would hold the statistics of one step earlier.
            state.value_sync();
        }
    }

    /// Mean and spread of each attribute.
    pub(crate) fn mean_and_spread(&self) -> (Vec<f32>, Vec<f32>) {
        let spread = host(self.running_var.value_sync())
            .into_iter()
            .map(|var| match var.max(0.0).sqrt() {
                spread if spread < SMALLEST_SPREAD => 1.0,
                spread => spread,
            })
            .collect();
        (host(self.running_mean.value_sync()), spread)
    }

    /// Attributes `[n, attributes]` less their mean and over their spread.
    pub(crate) fn standardised(&self, values: &[f32]) -> Vec<f32> {
        let (mean, spread) = self.mean_and_spread();
        let scales = mean.iter().zip(&spread).cycle();
        values
            .iter()
            .zip(scales)
            .map(|(value, (mean, spread))| (value - mean) / spread)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_rows_with_a_one() {
        let rows = one_hot(&[2, 0], 3, &Device::flex());
        assert_eq!(host(rows), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_known_part_is_told_and_not_modelled() {
        let x = [0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6];
        let x = Tensor::<1>::from_floats(&x[..], &Device::flex());
        let given = known_part(x.reshape([1, 1, 2, 3]), [1, 2]);
        assert_eq!(host(given.condition), [0.1, 0.2]);
        let modelled = given.modelled.unwrap();
        assert_eq!(host(modelled), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn attributes_are_standardised_by_all_batches_so_far() {
        // Two batches of two images: first attribute 1, 3 | 5, 7, second always 4.
        let scale = AttributeScale::new(2, &Init::new(0, &Device::flex()));
        scale.learn(&[1.0, 4.0, 3.0, 4.0], 0);
        scale.learn(&[5.0, 4.0, 7.0, 4.0], 1);
        let (mean, spread) = scale.mean_and_spread();
        assert_eq!(mean, [4.0, 4.0]);
        // Variance of 1, 3, 5, 7 is 5; one value has no spread to divide by.
        assert!((spread[0] - 5.0f32.sqrt()).abs() < 1e-6 && spread[1] == 1.0);
        let own = scale.standardised(&[4.0 + 5.0f32.sqrt(), 4.0, 4.0, 5.0]);
        assert!((own[0] - 1.0).abs() < 1e-6, "{own:?}");
        assert_eq!(own[1..], [0.0, 0.0, 1.0]);
    }

    #[test]
    fn parts_begin_in_the_upper_left_corner() {
        let spec = DataSpec {
            channels: 3,
            height: 9,
            width: 4,
            classes: vec![],
            attributes: vec![],
        };
        for (condition, part, size) in [
            (Condition::Top, [5, 4], 60),
            (Condition::Left, [9, 2], 54),
            (Condition::Quarter, [5, 2], 30),
        ] {
            assert_eq!(condition.part(&spec), Some(part), "{condition:?}");
            assert_eq!(condition.size(&spec), size, "{condition:?}");
        }
        assert!(Condition::Class.check(&spec).is_err());
        assert!(Condition::Attributes.check(&spec).is_err());
    }
}
