//! Duplicates inside a set: images that are there more than once, or nearly so.
//!
//! They come before every question of memorisation, since an image that is there often is the first
//! that a model memorises.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::Features;
use crate::metrics::neighbours::{Neighbour, nearest};

/// A row's nearest others that are looked at, at most.
const MOST: usize = 64;

/// Two training images that are nearly or exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The row of the first image.
    pub first: usize,
    /// The row of the second image, larger than `first`.
    pub second: usize,
    /// The distance between them.
    pub distance: f64,
}

/// The pairs of rows that are no farther apart than `radius`, nearest first; a radius of 0 finds
/// equal rows. For each row at most 64 partners are looked at.
///
/// # Errors
/// [`ImageError::Shape`] for a radius that is negative or NaN; those of [`nearest`].
pub fn duplicates(train: &Features, radius: f64) -> Result<Vec<Duplicate>> {
    if radius.is_nan() || radius < 0.0 {
        return Err(ImageError::Shape(format!(
            "duplicates are looked for within a radius of at least 0, not {radius}"
        )));
    }
    if train.len() < 2 {
        return Ok(Vec::new());
    }
    let most = MOST.min(train.len() - 1);
    let mut k = most.min(4);
    let found = loop {
        let found = nearest(train, train, k, true)?;
        let full = |row: &Vec<Neighbour>| row.last().is_some_and(|n| n.distance <= radius);
        if k == most || !found.iter().any(full) {
            break found;
        }
        k = (4 * k).min(most);
    };
    let mut pairs: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (row, neighbours) in found.iter().enumerate() {
        for other in neighbours.iter().filter(|n| n.distance <= radius) {
            let pair = (row.min(other.index), row.max(other.index));
            pairs.insert(pair, other.distance);
        }
    }
    let mut out: Vec<Duplicate> = pairs
        .into_iter()
        .map(|((first, second), distance)| Duplicate {
            first,
            second,
            distance,
        })
        .collect();
    out.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    Ok(out)
}

/// The groups of rows that are joined by pairs, each in ascending order, the largest first.
pub fn duplicate_groups(pairs: &[Duplicate]) -> Vec<Vec<usize>> {
    fn root(parents: &BTreeMap<usize, usize>, mut row: usize) -> usize {
        while let Some(&parent) = parents.get(&row) {
            if parent == row {
                break;
            }
            row = parent;
        }
        row
    }
    let mut parents: BTreeMap<usize, usize> = BTreeMap::new();
    for pair in pairs {
        parents.entry(pair.first).or_insert(pair.first);
        parents.entry(pair.second).or_insert(pair.second);
        let (a, b) = (root(&parents, pair.first), root(&parents, pair.second));
        parents.insert(a.max(b), a.min(b));
        // Shorter paths for those to come.
        parents.insert(pair.first, a.min(b));
        parents.insert(pair.second, a.min(b));
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &row in parents.keys() {
        groups.entry(root(&parents, row)).or_default().push(row);
    }
    let mut out: Vec<Vec<usize>> = groups.into_values().collect();
    out.sort_by_key(|group| std::cmp::Reverse(group.len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_groups_on_a_line() {
        let set = Features::new(vec![5.0, 1.0, 9.0, 1.0, 5.5, 1.0, 20.0, 9.25], 1).unwrap();
        let pairs = |radius: f64| -> Vec<(usize, usize, f64)> {
            let found = duplicates(&set, radius).unwrap();
            found
                .iter()
                .map(|d| (d.first, d.second, d.distance))
                .collect()
        };
        assert_eq!(pairs(0.0), [(1, 3, 0.0), (1, 5, 0.0), (3, 5, 0.0)]);
        assert_eq!(pairs(0.5)[3..], [(2, 7, 0.25), (0, 4, 0.5)]);
        let groups = duplicate_groups(&duplicates(&set, 0.5).unwrap());
        assert_eq!(groups, [vec![1, 3, 5], vec![0, 4], vec![2, 7]]);
    }

    #[test]
    fn many_equal_rows_are_one_group() {
        let mut values = vec![3.0; 30];
        values.extend([7.0, 8.0, 9.0]);
        let set = Features::new(values, 1).unwrap();
        let pairs = duplicates(&set, 0.0).unwrap();
        assert_eq!(pairs.len(), 30 * 29 / 2);
        assert_eq!(duplicate_groups(&pairs), [(0..30).collect::<Vec<usize>>()]);
    }

    #[test]
    fn chains_are_joined_whatever_their_order() {
        let pair = |first, second| Duplicate {
            first,
            second,
            distance: 0.0,
        };
        let groups =
            duplicate_groups(&[pair(4, 9), pair(2, 3), pair(1, 4), pair(3, 9), pair(7, 8)]);
        assert_eq!(groups, [vec![1, 2, 3, 4, 9], vec![7, 8]]);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let set = Features::new(vec![1.0, 2.0], 1).unwrap();
        assert!(duplicates(&set, -1.0).is_err());
        assert!(duplicates(&set, f64::NAN).is_err());
        assert!(duplicates(&set, f64::INFINITY).unwrap().len() == 1);
        let one = Features::new(vec![1.0], 1).unwrap();
        assert!(duplicates(&one, 1.0).unwrap().is_empty());
    }
}
