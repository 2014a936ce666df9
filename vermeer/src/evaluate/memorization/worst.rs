//! The samples that are most like copies, each beside its nearest training image.

use std::collections::BTreeSet;

use serde::Serialize;
use vermeer_image::{Grid, Image};

use super::SpaceReport;
use crate::Result;
use crate::evaluate::pictures::cell;
use crate::evaluate::subject::Subject;

/// The side of a picture on the sheet, in pixels.
const CELL: usize = 64;

/// Pairs in a row of the sheet.
const COLUMNS: usize = 4;

/// A sample and the training image it is nearest to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstPair {
    /// The number of the sample, from 0.
    pub sample: usize,
    /// Its file, or the seed and number that make it again.
    pub sample_name: String,
    /// The number of the training image, from 0.
    pub train: usize,
    /// Its file.
    pub train_name: String,
    /// Where they are near: the name of the network, or `pixels`.
    pub space: String,
    /// The sample's p-value there.
    pub p: f64,
    /// Its distance over that of the next nearest training images.
    pub ratio: f64,
    /// Whether the sample is named as a copy there.
    pub flagged: bool,
}

/// The worst of all spaces, those that are named first, then by p-value and ratio: each sample and
/// each training image once, `most` pairs at most. The sheet shows each sample on the left and its
/// training image on the right, over `p=` its p-value and `#` the number of the training image.
///
/// # Errors
/// Those of [`pictures`] and of drawing.
pub(super) fn worst(
    spaces: &[SpaceReport],
    samples: &Subject,
    train: &Subject,
    most: usize,
) -> Result<(Vec<WorstPair>, Image)> {
    let mut pairs = choose(spaces, most);
    let of_samples: Vec<usize> = pairs.iter().map(|pair| pair.sample).collect();
    let of_train: Vec<usize> = pairs.iter().map(|pair| pair.train).collect();
    let shown = samples
        .get(&of_samples)?
        .into_iter()
        .zip(train.get(&of_train)?);
    let pair_grid = Grid::default().with_columns(2).with_padding(1);
    let (mut cells, mut labels) = (Vec::new(), Vec::new());
    for (pair, ((sample, sample_name), (original, train_name))) in pairs.iter_mut().zip(shown) {
        let both = [cell(&sample, CELL)?, cell(&original, CELL)?];
        cells.push(pair_grid.draw(&both, None)?);
        let word = if pair.flagged { "COPY " } else { "" };
        labels.push(format!("{word}p={:.4} #{}", pair.p, pair.train));
        pair.sample_name = sample_name;
        pair.train_name = train_name;
    }
    let sheet = Grid::default()
        .with_columns(COLUMNS)
        .with_padding(4)
        .draw(&cells, Some(&labels))?;
    Ok((pairs, sheet))
}

/// The pairs to show, without names.
fn choose(spaces: &[SpaceReport], most: usize) -> Vec<WorstPair> {
    let mut all: Vec<WorstPair> = Vec::new();
    for space in spaces {
        for (number, sample) in space.copying.samples.iter().enumerate() {
            all.push(WorstPair {
                sample: number,
                sample_name: String::new(),
                train: sample.closeness.nearest,
                train_name: String::new(),
                space: space.space.clone(),
                p: sample.p,
                ratio: sample.closeness.ratio,
                flagged: sample.flagged,
            });
        }
    }
    all.sort_by(|a, b| {
        b.flagged
            .cmp(&a.flagged)
            .then(a.p.total_cmp(&b.p))
            .then(a.ratio.total_cmp(&b.ratio))
    });
    let (mut samples, mut originals) = (BTreeSet::new(), BTreeSet::new());
    all.retain(|pair| {
        let new = !samples.contains(&pair.sample) && !originals.contains(&pair.train);
        if new {
            samples.insert(pair.sample);
            originals.insert(pair.train);
        }
        new
    });
    all.truncate(most.max(1));
    all
}

#[cfg(test)]
mod tests {
    use vermeer_image::metrics::{Closeness, CopyingTest};

    use super::*;
    use crate::data::{OpenOptions, open};

    fn at(ratio: f64, nearest: usize) -> Closeness {
        Closeness {
            nearest,
            distance: 10.0 * ratio,
            ratio,
        }
    }

    fn space(name: &str, samples: &[Closeness]) -> SpaceReport {
        let heldout: Vec<Closeness> = (0..99).map(|i| at(0.5 + 0.001 * f64::from(i), 0)).collect();
        SpaceReport {
            space: name.to_owned(),
            network: name.to_owned(),
            copying: CopyingTest::default().run(samples, &heldout).unwrap(),
        }
    }

    #[test]
    fn each_sample_and_each_original_are_shown_once() {
        let pixels = [at(0.1, 4), at(0.2, 4), at(0.52, 6), at(0.9, 7)];
        let features = [at(0.3, 4), at(0.7, 5), at(0.51, 2), at(0.9, 7)];
        let spaces = [space("pixels", &pixels), space("judge", &features)];
        let found: Vec<(usize, usize)> = choose(&spaces, 10)
            .iter()
            .map(|pair| (pair.sample, pair.train))
            .collect();
        // Sample 1 is nearest to 4 too, which stands beside sample 0, so its features are shown.
        assert_eq!(found, [(0, 4), (2, 2), (1, 5), (3, 7)]);
        assert_eq!(choose(&spaces, 2).len(), 2);
        assert_eq!(choose(&spaces, 0).len(), 1);
    }

    #[test]
    fn the_sheet_shows_pairs_with_names() {
        let world = || {
            let source = open("world:glyphs?count=10&size=16", &OpenOptions::default()).unwrap();
            Subject::of_source(source, None, 0).unwrap()
        };
        let spaces = [space("pixels", &[at(0.1, 4), at(0.2, 5), at(0.9, 6)])];
        let (pairs, sheet) = worst(&spaces, &world(), &world(), 8).unwrap();
        assert_eq!(pairs.len(), 3);
        assert!(pairs[0].train_name.ends_with("-000004"), "{:?}", pairs[0]);
        assert!(pairs[0].sample_name.ends_with("-000000"));
        // Three pairs of 131 pixels and a strip of 9 for the label, 4 apart.
        assert_eq!((sheet.width(), sheet.height()), (3 * 135 + 4, 66 + 9 + 8));
    }
}
