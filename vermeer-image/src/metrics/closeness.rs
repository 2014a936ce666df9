//! How near an image is to a training set, which memorisation is judged by.

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::Features;
use crate::metrics::neighbours::{Neighbour, nearest};

/// Training images that the ratio looks at: the nearest one and nine more.
pub const NEIGHBOURS: usize = 10;

/// How near an image is to the training set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closeness {
    /// The row of the nearest training image.
    pub nearest: usize,
    /// The distance to it.
    pub distance: f64,
    /// The distance over the mean distance of the next nearest training images, in \[0, 1\]; 0 for
    /// an exact copy.
    pub ratio: f64,
}

impl Closeness {
    /// From the nearest training images of one image, nearest first.
    ///
    /// # Errors
    /// [`ImageError::Shape`] for fewer than two.
    pub fn of(neighbours: &[Neighbour]) -> Result<Self> {
        let [first, others @ ..] = neighbours else {
            return Err(ImageError::Shape("no nearest training image".to_owned()));
        };
        if others.is_empty() {
            return Err(ImageError::Shape(
                "the ratio of distances needs two training images or more".to_owned(),
            ));
        }
        let mean = others.iter().map(|n| n.distance).sum::<f64>() / others.len() as f64;
        Ok(Self {
            nearest: first.index,
            distance: first.distance,
            ratio: if first.distance == 0.0 {
                0.0
            } else {
                first.distance / mean
            },
        })
    }
}

/// How near each image is to the training set, by its [`NEIGHBOURS`] nearest rows.
///
/// # Errors
/// Those of [`nearest`], among them fewer than [`NEIGHBOURS`] training images.
pub fn closeness(images: &Features, train: &Features) -> Result<Vec<Closeness>> {
    nearest(images, train, NEIGHBOURS, false)?
        .iter()
        .map(|neighbours| Closeness::of(neighbours))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_nearest_to_the_next_ones() {
        let neighbour = |distance, index| Neighbour { distance, index };
        let three = [neighbour(1.0, 7), neighbour(2.0, 3), neighbour(6.0, 1)];
        let found = Closeness::of(&three).unwrap();
        assert_eq!((found.nearest, found.distance, found.ratio), (7, 1.0, 0.25));
        let copy = [neighbour(0.0, 2), neighbour(0.0, 4)];
        assert_eq!(Closeness::of(&copy).unwrap().ratio, 0.0);
        assert!(Closeness::of(&three[..1]).is_err());
        assert!(Closeness::of(&[]).is_err());
    }

    #[test]
    fn a_copy_has_its_original_as_the_nearest() {
        let train = Features::new((0..12u8).map(|v| f32::from(v * v)).collect(), 1).unwrap();
        let found = closeness(&Features::new(vec![49.0], 1).unwrap(), &train).unwrap();
        assert_eq!((found[0].nearest, found[0].ratio), (7, 0.0));
        let few = Features::new(vec![1.0; 9], 1).unwrap();
        assert!(closeness(&few, &few).is_err());
    }
}
