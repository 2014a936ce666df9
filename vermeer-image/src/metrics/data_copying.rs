//! C_T: are generated images nearer to the training images than new real ones are? (Meehan,
//! Chaudhuri and Dasgupta, 2020)
//!
//! In each cell of the feature space, the distances of m generated and of n held-out images to the
//! nearest training image of the cell are compared by Mann and Whitney's U, the number of pairs in
//! which the generated image is farther, ties counting half:
//!
//! z = (U - (nm/2 - 1/2)) / √(nm(n + m + 1)/12),  C_T = Σ p z / Σ p,
//!
//! p being the share of held-out images in the cell, and the sums going over the cells with more
//! than twenty generated images. Far below 0 means copies of the training set, far above 0 images
//! off the data (underfitting); near 0 is best. The variance is not corrected for ties, as in the
//! authors' code, so many equal distances make z too small.
//!
//! If generated and held-out images come from one distribution, z of a cell varies as a standard
//! normal number, and C_T by √Σp²/Σp, which is [`DataCopying::null_deviation`]:
//! [`DataCopying::p_value`] takes both together. The test sees that distances are too small on the
//! whole; a few copies among many good images pass, so look at single images too.
//!
//! Cells are found by k-means on the training images. Features of more than 64 values are replaced
//! by their first 64 principal components before (dgm-eval and fld, with three cells).
//! Source: `data_copying_tests.py` of casey-meehan/data-copying @ 50db23a, with the threshold of
//! dgm-eval @ d57a6d2.

mod principal;

use crate::error::{ImageError, Result};
use crate::metrics::data_copying::principal::Principal;
use crate::metrics::feature_set::Features;
use crate::metrics::interval::normal_probability;
use crate::metrics::k_means::best_k_means;
use crate::metrics::neighbours::nearest;
use crate::metrics::significance::rank_sum;

/// How many generated images a cell must exceed to count.
const FEW: usize = 20;

/// How the cells are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyingOptions {
    /// Cells of k-means.
    pub cells: usize,
    /// Beginnings of k-means, of which the best result is taken.
    pub restarts: usize,
    /// Seed of the beginnings.
    pub seed: u32,
    /// Principal components that replace longer features.
    pub components: usize,
}

impl Default for CopyingOptions {
    /// Three cells, ten beginnings, the seed 0, 64 components.
    fn default() -> Self {
        Self {
            cells: 3,
            restarts: 10,
            seed: 0,
            components: 64,
        }
    }
}

/// The cell of every image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyingCells {
    /// Of the generated images.
    pub generated: Vec<usize>,
    /// Of the training images.
    pub train: Vec<usize>,
    /// Of the held-out images.
    pub heldout: Vec<usize>,
}

/// The test in one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyingCell {
    /// The standardised statistic; 0 without generated images.
    pub z: f64,
    /// Generated images in the cell.
    pub generated: usize,
    /// Training images.
    pub train: usize,
    /// Held-out images.
    pub heldout: usize,
    /// Whether there are generated images enough for the cell to count.
    pub counted: bool,
}

/// The statistic and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct DataCopying {
    /// C_T: below 0 for copies, above 0 for images off the data.
    pub value: f64,
    /// The deviation of the value if generated and held-out images come from one distribution.
    pub null_deviation: f64,
    /// The cells.
    pub cells: Vec<CopyingCell>,
}

impl DataCopying {
    /// The probability of a value so low if generated and held-out images come from one
    /// distribution: small when training images are copied.
    pub fn p_value(&self) -> f64 {
        normal_probability(self.value / self.null_deviation)
    }
}

/// C_T with cells found by k-means.
///
/// # Errors
/// As [`c_t_in_cells`]; [`ImageError::Shape`] for no cells or restarts, or fewer different training
/// images than cells.
pub fn c_t(
    generated: &Features,
    train: &Features,
    heldout: &Features,
    options: CopyingOptions,
) -> Result<DataCopying> {
    with_components(generated, train, heldout, options.components, |sets| {
        let [generated, train, heldout] = sets;
        let found = best_k_means(train, options.cells, options.restarts, options.seed)?;
        let cells = CopyingCells {
            generated: found.assign(generated)?,
            heldout: found.assign(heldout)?,
            train: found.assignment,
        };
        c_t_in_cells(generated, train, heldout, &cells)
    })
}

/// The test with all images in one cell, which counts however few are generated: the authors' global
/// test. Features of more than `components` values are replaced by as many principal components.
///
/// # Errors
/// [`ImageError::Shape`] for a set without images, features of different lengths, or no components;
/// those of [`Features::rows`].
pub fn c_t_global(
    generated: &Features,
    train: &Features,
    heldout: &Features,
    components: usize,
) -> Result<DataCopying> {
    generated.at_least(1, "C_T")?;
    with_components(generated, train, heldout, components, |sets| {
        let [generated, train, heldout] = sets;
        let cell = CopyingCell {
            z: mann_whitney(generated, train, heldout)?,
            generated: generated.len(),
            train: train.len(),
            heldout: heldout.len(),
            counted: true,
        };
        Ok(DataCopying {
            value: cell.z,
            null_deviation: 1.0,
            cells: vec![cell],
        })
    })
}

/// C_T with given cells, numbered from 0, on the features as they are.
///
/// # Errors
/// [`ImageError::Shape`] when the cells are not those of as many images, a cell has no training or
/// no held-out image, no cell has more than twenty generated images, or features have different
/// lengths; those of [`Features::rows`].
pub fn c_t_in_cells(
    generated: &Features,
    train: &Features,
    heldout: &Features,
    cells: &CopyingCells,
) -> Result<DataCopying> {
    check_sets(generated, train, heldout)?;
    let sides = [
        (generated, &cells.generated),
        (train, &cells.train),
        (heldout, &cells.heldout),
    ];
    for (set, cells) in sides {
        if set.len() != cells.len() {
            return Err(ImageError::Shape(format!(
                "{} images have {} cells",
                set.len(),
                cells.len()
            )));
        }
    }
    let numbers = sides.iter().flat_map(|(_, cells)| cells.iter());
    let count = numbers.max().map_or(0, |last| last + 1);
    let mut found = Vec::with_capacity(count);
    for cell in 0..count {
        let inside = |(set, cells): (&Features, &Vec<usize>)| -> Result<Features> {
            let rows: Vec<usize> = (0..cells.len()).filter(|row| cells[*row] == cell).collect();
            set.select(&rows)
        };
        let [generated, train, heldout] = [inside(sides[0])?, inside(sides[1])?, inside(sides[2])?];
        if train.is_empty() || heldout.is_empty() {
            return Err(ImageError::Shape(format!(
                "cell {cell} of C_T has {} training and {} held-out images; use fewer cells",
                train.len(),
                heldout.len()
            )));
        }
        found.push(CopyingCell {
            z: if generated.is_empty() {
                0.0
            } else {
                mann_whitney(&generated, &train, &heldout)?
            },
            generated: generated.len(),
            train: train.len(),
            heldout: heldout.len(),
            counted: generated.len() > FEW,
        });
    }
    // The share of the held-out images in each cell that counts, and its statistic.
    let counted: Vec<(f64, f64)> = found
        .iter()
        .filter(|cell| cell.counted)
        .map(|cell| (cell.heldout as f64 / heldout.len() as f64, cell.z))
        .collect();
    if counted.is_empty() {
        return Err(ImageError::Shape(format!(
            "no cell of C_T has more than {FEW} generated images; use fewer cells or more images"
        )));
    }
    let all: f64 = counted.iter().map(|(share, _)| share).sum();
    let sum: f64 = counted.iter().map(|(share, z)| share * z).sum();
    let squares: f64 = counted.iter().map(|(share, _)| share * share).sum();
    Ok(DataCopying {
        value: sum / all,
        null_deviation: squares.sqrt() / all,
        cells: found,
    })
}

/// Whether the sets have rows, of one length.
fn check_sets(generated: &Features, train: &Features, heldout: &Features) -> Result<()> {
    generated.same_dims(train)?;
    generated.same_dims(heldout)?;
    train.at_least(1, "C_T (training)")?;
    heldout.at_least(1, "C_T (held out)")
}

/// What `test` says of the sets (generated, training, held out), or of their principal components.
fn with_components(
    generated: &Features,
    train: &Features,
    heldout: &Features,
    components: usize,
    test: impl Fn([&Features; 3]) -> Result<DataCopying>,
) -> Result<DataCopying> {
    check_sets(generated, train, heldout)?;
    if components == 0 {
        return Err(ImageError::Shape(
            "C_T needs at least 1 component".to_owned(),
        ));
    }
    if train.dims() <= components {
        return test([generated, train, heldout]);
    }
    let principal = Principal::of(train, components)?;
    test([
        &principal.project(generated)?,
        &principal.project(train)?,
        &principal.project(heldout)?,
    ])
}

/// The standardised number of pairs in which the generated image is farther from the training
/// images than the held-out one.
fn mann_whitney(generated: &Features, train: &Features, heldout: &Features) -> Result<f64> {
    let distances = |set: &Features| -> Result<Vec<f64>> {
        let found = nearest(set, train, 1, false)?.concat();
        Ok(found.iter().map(|neighbour| neighbour.distance).collect())
    };
    let (of_heldout, of_generated) = (distances(heldout)?, distances(generated)?);
    let (n, m) = (of_heldout.len() as f64, of_generated.len() as f64);
    let farther = n * m * (1.0 - rank_sum(&of_generated, &of_heldout).below);
    let expected = 0.5 * n * m - 0.5;
    Ok((farther - expected) / (n * m * (n + m + 1.0) / 12.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn distances_to_the_training_set_on_a_line() {
        // The nearest training images are 1, 3 and 0 from the generated ones, 2 and 3 from the held
        // out. Of the six pairs one has the generated image farther (3, 2) and one ties (3, 3), so
        // U = 1.5 and z = (1.5 - 2.5)/√(6 · 6/12).
        let (train, heldout) = (line(&[0.0, 100.0]), line(&[102.0, 3.0]));
        let found = c_t_global(&line(&[1.0, 97.0, 0.0]), &train, &heldout, 64).unwrap();
        assert!(
            (found.value + 1.0 / 3.0f64.sqrt()).abs() < 1e-15,
            "{found:?}"
        );
        // scipy 1.17.1, norm.cdf(-1/√3).
        assert!((found.p_value() - 0.281_851_431).abs() < 1e-8);
    }

    /// 24 generated images in each of two cells around 0 and 1000, and 8 and 4 held out.
    fn two_cells() -> ([Features; 3], CopyingCells) {
        let around = |centre: u16, count: u16, apart: u16| {
            (1..=count).map(move |i| f32::from(centre + i * apart))
        };
        let generated: Vec<f32> = around(0, 24, 1).chain(around(1000, 24, 4)).collect();
        let heldout: Vec<f32> = around(0, 8, 4).chain(around(1000, 4, 1)).collect();
        let cells = CopyingCells {
            generated: [vec![0; 24], vec![1; 24]].concat(),
            train: vec![0, 1],
            heldout: [vec![0; 8], vec![1; 4]].concat(),
        };
        let sets = [line(&generated), line(&[0.0, 1000.0]), line(&heldout)];
        (sets, cells)
    }

    #[test]
    fn cells_count_by_their_held_out_images() {
        let ([generated, train, heldout], cells) = two_cells();
        let found = c_t_in_cells(&generated, &train, &heldout, &cells).unwrap();
        // Cell 0: distances 1 to 24 against 4, 8, .. 32. Of 4j, j up to 6, 24 - 4j are farther and
        // one ties: U = Σ (24.5 - 4j) = 63. Cell 1: 4, 8, .. 96 against 1 to 4: all 96 pairs but
        // the tie of 4 and 4, so U = 95.5.
        let z = [
            (63.0 - 95.5) / (24.0f64 * 8.0 * 33.0 / 12.0).sqrt(),
            (95.5 - 47.5) / (24.0f64 * 4.0 * 29.0 / 12.0).sqrt(),
        ];
        for (cell, z) in found.cells.iter().zip(z) {
            assert!((cell.z - z).abs() < 1e-12 && cell.counted, "{cell:?}");
        }
        assert!((found.value - (2.0 * z[0] + z[1]) / 3.0).abs() < 1e-12);
        assert!((found.null_deviation - 5.0f64.sqrt() / 3.0).abs() < 1e-12);
        // k-means finds the same cells.
        let options = CopyingOptions {
            cells: 2,
            ..CopyingOptions::default()
        };
        let same = c_t(&generated, &train, &heldout, options).unwrap();
        assert!((same.value - found.value).abs() < 1e-12);
    }

    #[test]
    fn cells_with_few_generated_images_do_not_count() {
        let ([generated, train, heldout], mut cells) = two_cells();
        // Four of the second cell's images are said to lie in the first: twenty are too few.
        cells.generated[24..28].fill(0);
        let found = c_t_in_cells(&generated, &train, &heldout, &cells).unwrap();
        let counted: Vec<bool> = found.cells.iter().map(|cell| cell.counted).collect();
        assert_eq!(counted, [true, false]);
        assert!((found.value - found.cells[0].z).abs() < 1e-12);
        assert!((found.null_deviation - 1.0).abs() < 1e-12);
        // Without any the others stand.
        cells.generated.fill(0);
        let found = c_t_in_cells(&generated, &train, &heldout, &cells).unwrap();
        assert_eq!((found.cells[1].generated, found.cells[1].z), (0, 0.0));
    }

    #[test]
    fn what_cannot_be_tested_is_an_error() {
        let ([generated, train, heldout], mut cells) = two_cells();
        let few = generated.select(&[0, 1]).unwrap();
        let options = CopyingOptions::default();
        assert!(
            c_t(
                &few,
                &train,
                &heldout,
                CopyingOptions {
                    cells: 1,
                    ..options
                }
            )
            .is_err()
        );
        // Three cells of two training images.
        assert!(c_t(&generated, &train, &heldout, options).is_err());
        assert!(c_t_global(&generated, &train, &line(&[]), 64).is_err());
        assert!(c_t_global(&line(&[]), &train, &heldout, 64).is_err());
        assert!(c_t_global(&generated, &train, &heldout, 0).is_err());
        cells.heldout.fill(0);
        assert!(c_t_in_cells(&generated, &train, &heldout, &cells).is_err());
        cells.heldout.pop();
        assert!(c_t_in_cells(&generated, &train, &heldout, &cells).is_err());
    }
}
