//! Images that a training set holds more than once, or nearly so.

use std::collections::BTreeMap;

use serde::Serialize;
use vermeer_image::metrics::{Features, duplicate_groups, duplicates};

use crate::Result;

/// Groups that are told, at most.
const GROUPS: usize = 100;

/// Rows that are read at a time.
const ROWS: usize = 1024;

/// What is there more than once in a training set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrainDuplicates {
    /// Images that equal an earlier one, pixel by pixel as they were looked at.
    pub repeated: usize,
    /// Groups of equal images, by number, the largest first; at most 100 groups.
    pub equal: Vec<Vec<usize>>,
    /// Features no farther apart than this are called nearly equal; `None` where only equal images
    /// were looked for.
    pub near_radius: Option<f64>,
    /// Images that equal another one, or nearly.
    pub near_images: usize,
    /// Groups of them, the largest first; at most 100 groups.
    pub near: Vec<Vec<usize>>,
    /// What was found, in words.
    pub sentence: String,
}

impl TrainDuplicates {
    /// Equal rows of `pixels`, and rows of `features` that are no farther than `radius` apart. Then,
    /// for each row, the first row of its group: itself where it stands alone.
    ///
    /// # Errors
    /// Those of reading the rows and of [`duplicates`].
    pub(super) fn of(
        pixels: &Features,
        features: &Features,
        radius: Option<f64>,
    ) -> Result<(Self, Vec<usize>)> {
        let mut equal = equal_rows(pixels)?;
        let near = match radius {
            None => Vec::new(),
            Some(radius) => duplicate_groups(&duplicates(features, radius)?),
        };
        let mut found = Self {
            repeated: equal.iter().map(|group| group.len() - 1).sum(),
            near_radius: radius,
            near_images: near.iter().map(Vec::len).sum(),
            sentence: String::new(),
            near,
            equal: Vec::new(),
        };
        found.sentence = found.words(pixels.len(), &equal);
        let mut first: Vec<usize> = (0..pixels.len()).collect();
        for group in equal.iter().chain(&found.near) {
            group.iter().for_each(|row| first[*row] = group[0]);
        }
        equal.truncate(GROUPS);
        found.near.truncate(GROUPS);
        found.equal = equal;
        Ok((found, first))
    }

    /// What was found, in words.
    fn words(&self, images: usize, equal: &[Vec<usize>]) -> String {
        let mut words = match equal.first() {
            None => format!("No two of {images} training images are equal"),
            Some(largest) => format!(
                "{} of {images} training images equal an earlier one ({} groups, the largest of {})",
                self.repeated,
                equal.len(),
                largest.len()
            ),
        };
        match (self.near_radius, self.near_images) {
            (None, _) => words.push('.'),
            (Some(_), 0) => words.push_str(", nor nearly."),
            (Some(_), near) => words.push_str(&format!(
                "; {near} equal another one or nearly. What is there often is memorised first."
            )),
        }
        words
    }
}

/// The groups of rows that are equal to the bit, each in ascending order, the largest first.
fn equal_rows(features: &Features) -> Result<Vec<Vec<usize>>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, sum) in row_sums(features)?.into_iter().enumerate() {
        groups.entry(sum).or_default().push(row);
    }
    let mut equal: Vec<Vec<usize>> = groups
        .into_values()
        .filter(|group| group.len() > 1)
        .collect();
    equal.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
    Ok(equal)
}

/// A sum of each row: rows that are equal to the bit have the same.
///
/// # Errors
/// Those of reading the rows.
pub(super) fn row_sums(features: &Features) -> Result<Vec<String>> {
    let mut sums = Vec::with_capacity(features.len());
    for first in (0..features.len()).step_by(ROWS) {
        let rows = features.rows(first..(first + ROWS).min(features.len()))?;
        sums.extend(rows.chunks_exact(features.dims()).map(|row| {
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            crate::sha256_hex(&bytes)
        }));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_and_near_rows_are_told_apart() {
        let set = Features::new(vec![5.0, 1.0, 9.0, 1.0, 5.5, 1.0, 20.0, 9.0], 1).unwrap();
        let (found, first) = TrainDuplicates::of(&set, &set, Some(0.5)).unwrap();
        assert_eq!(first, [0, 1, 2, 1, 0, 1, 6, 2]);
        assert_eq!(found.equal, [vec![1, 3, 5], vec![2, 7]]);
        assert_eq!((found.repeated, found.near_images), (3, 7));
        assert_eq!(found.near, [vec![1, 3, 5], vec![0, 4], vec![2, 7]]);
        assert_eq!(
            found.sentence,
            "3 of 8 training images equal an earlier one (2 groups, the largest of 3); 7 equal \
             another one or nearly. What is there often is memorised first."
        );
        let (equal_only, _) = TrainDuplicates::of(&set, &set, None).unwrap();
        assert_eq!((equal_only.repeated, equal_only.near_images), (3, 0));
        let clean = Features::new(vec![1.0, 2.0, 4.0], 1).unwrap();
        let (found, _) = TrainDuplicates::of(&clean, &clean, Some(0.5)).unwrap();
        assert_eq!(
            found.sentence,
            "No two of 3 training images are equal, nor nearly."
        );
    }
}
