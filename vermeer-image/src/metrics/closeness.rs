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

/// Training images that nearness is measured to.
///
/// Groups of equal or nearly equal ones count once beside the nearest: an image that is there ten
/// times would else be as near as its ten nearest, and hide its copies.
#[derive(Debug)]
pub struct TrainingSet<'a> {
    all: &'a Features,
    /// For each row the first row of its group.
    first: &'a [usize],
    /// The rows that are the first of theirs.
    kept: Vec<usize>,
    /// Those rows; `None` where they are all.
    different: Option<Features>,
}

impl<'a> TrainingSet<'a> {
    /// Rows, and for each the first row of its group: itself where it stands alone.
    ///
    /// # Errors
    /// [`ImageError::Shape`] when there are not as many rows as entries; those of
    /// [`Features::select`].
    pub fn new(all: &'a Features, first: &'a [usize]) -> Result<Self> {
        if first.len() != all.len() {
            return Err(ImageError::Shape(format!(
                "{} training images cannot be in the groups of {}",
                all.len(),
                first.len()
            )));
        }
        let kept: Vec<usize> = (0..first.len()).filter(|row| first[*row] == *row).collect();
        let different = match kept.len() == all.len() {
            true => None,
            false => Some(all.select(&kept)?),
        };
        Ok(Self {
            all,
            first,
            kept,
            different,
        })
    }

    /// How near each image is: to the nearest row, and to the next nearest of other groups,
    /// [`NEIGHBOURS`] in all.
    ///
    /// # Errors
    /// Those of [`nearest`], among them fewer than [`NEIGHBOURS`] groups.
    pub fn closeness(&self, images: &Features) -> Result<Vec<Closeness>> {
        let Some(different) = &self.different else {
            return nearest(images, self.all, NEIGHBOURS, false)?
                .iter()
                .map(|found| Closeness::of(found))
                .collect();
        };
        let of_all = nearest(images, self.all, 1, false)?;
        let others = nearest(images, different, NEIGHBOURS, false)?;
        let pairs = of_all.into_iter().zip(others);
        pairs
            .map(|(mut found, others)| {
                let group = found.first().map(|nearest| self.first[nearest.index]);
                let others = others.into_iter().map(|other| Neighbour {
                    index: self.kept[other.index],
                    ..other
                });
                found.extend(others.filter(|other| Some(other.index) != group));
                found.truncate(NEIGHBOURS);
                Closeness::of(&found)
            })
            .collect()
    }
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
        let alone: Vec<usize> = (0..12).collect();
        let image = Features::new(vec![49.0], 1).unwrap();
        let set = TrainingSet::new(&train, &alone).unwrap();
        let found = set.closeness(&image).unwrap();
        assert_eq!((found[0].nearest, found[0].ratio), (7, 0.0));
        let few = Features::new(vec![1.0; 9], 1).unwrap();
        let set = TrainingSet::new(&few, &alone[..9]).unwrap();
        assert!(set.closeness(&few).is_err());
        assert!(TrainingSet::new(&few, &alone).is_err());
    }

    #[test]
    fn what_is_there_often_counts_once_beside_the_nearest() {
        // 0 to 9, then 5 nine times more; 5.5 is 0.5 from 5 and from 6.
        let values: Vec<f32> = (0..10u8).map(f32::from).chain([5.0; 9]).collect();
        let train = Features::new(values, 1).unwrap();
        let first: Vec<usize> = (0..10).chain([5; 9]).collect();
        let image = Features::new(vec![5.25], 1).unwrap();
        let alone: Vec<usize> = (0..19).collect();
        let ratio = |first: &[usize]| {
            let set = TrainingSet::new(&train, first).unwrap();
            let found = set.closeness(&image).unwrap()[0];
            assert_eq!((found.nearest, found.distance), (5, 0.25));
            found.ratio
        };
        // The others are 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25 and 5.25 away: 25.25 / 9.
        assert!((ratio(&first) - 0.25 * 9.0 / 25.25).abs() < 1e-12);
        assert_eq!(ratio(&alone), 1.0);
    }
}
