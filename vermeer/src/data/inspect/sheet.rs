//! A picture of many images of an inspected data set, those with problems first.

use rayon::prelude::*;
use vermeer_image::{Filter, Image, Pixels, grid, resize};

use super::finding::Finding;
use super::reason::Reason;
use super::report::Report;
use crate::error::Result;

/// The most images on a sheet.
const MOST: usize = 64;

/// The side of a cell in pixels: wide enough for a label, small enough for a screen.
const CELL: usize = 112;

/// What lies around an image in its cell, so that its edges are seen.
const GROUND: u8 = 40;

/// Up to 64 images, those with problems first, the gravest before the others, then clean ones
/// taken evenly from the whole set. Under each stands its gravest problem, or its class. What
/// cannot be decoded is a crossed cell. The sheet is 8-bit RGB; images stand on black where they
/// are transparent, small ones are enlarged by a whole factor.
///
/// # Errors
/// What reading the images reports, for those that could be read when they were inspected.
pub fn contact_sheet(report: &Report) -> Result<Image> {
    let chosen = choose(&report.findings, MOST);
    let cells: Vec<Result<Image>> = chosen
        .par_iter()
        .map(|&place| match &report.findings[place].picture {
            Some(_) => {
                let (image, _) = report.holdings.read(&report.holdings.items[place])?;
                cell(&image)
            }
            None => crossed(),
        })
        .collect();
    let cells = cells.into_iter().collect::<Result<Vec<Image>>>()?;
    let labels: Vec<String> = chosen
        .iter()
        .map(|&place| {
            let reasons = &report.findings[place].reasons;
            match reasons.iter().min_by_key(|reason| reason.rank()) {
                Some(gravest) => gravest.problem().to_string(),
                None => report.holdings.items[place]
                    .class
                    .clone()
                    .unwrap_or_default(),
            }
        })
        .collect();
    Ok(grid(&cells, None, 4, Some(&labels))?)
}

/// The images to show: first those with problems, then clean ones evenly.
fn choose(findings: &[Finding], most: usize) -> Vec<usize> {
    let gravest = |place: usize| findings[place].reasons.iter().map(Reason::rank).min();
    let (mut offending, clean): (Vec<usize>, Vec<usize>) =
        (0..findings.len()).partition(|place| gravest(*place).is_some());
    offending.sort_by_key(|place| gravest(*place));
    offending.truncate(most);
    let room = (most - offending.len()).min(clean.len());
    let evenly = (0..room).map(|i| clean[i * clean.len() / room]);
    offending.extend(evenly);
    offending
}

/// An image in the middle of a cell.
fn cell(image: &Image) -> Result<Image> {
    let image = image.with_channels(3, [0; 3])?.to_8_bit();
    let (width, height) = (image.width(), image.height());
    let longest = width.max(height);
    let image = if longest > CELL {
        let scaled = |side: usize| (side * CELL / longest).max(1);
        resize(&image, scaled(width), scaled(height), Filter::Bicubic)?
    } else {
        let factor = CELL / longest;
        resize(&image, width * factor, height * factor, Filter::Nearest)?
    };
    let mut canvas = vec![GROUND; CELL * CELL * 3];
    if let Pixels::U8(bytes) = image.pixels() {
        let left = (CELL - image.width()) / 2;
        let top = (CELL - image.height()) / 2;
        let length = image.width() * 3;
        for (row, line) in bytes.chunks_exact(length).enumerate() {
            let start = ((top + row) * CELL + left) * 3;
            canvas[start..start + length].copy_from_slice(line);
        }
    }
    Ok(Image::new(CELL, CELL, 3, Pixels::U8(canvas))?)
}

/// The cell of an image that cannot be shown.
fn crossed() -> Result<Image> {
    let mut canvas = vec![GROUND; CELL * CELL * 3];
    for row in 0..CELL {
        for column in [row, CELL - 1 - row] {
            let start = (row * CELL + column) * 3;
            canvas[start..start + 3].copy_from_slice(&[200, 60, 60]);
        }
    }
    Ok(Image::new(CELL, CELL, 3, Pixels::U8(canvas))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(reasons: Vec<Vec<Reason>>) -> Vec<Finding> {
        let finding = |reasons| Finding {
            picture: None,
            reasons,
        };
        reasons.into_iter().map(finding).collect()
    }

    #[test]
    fn the_gravest_come_first_and_the_rest_evenly() {
        let mut reasons = vec![vec![]; 9];
        reasons[3] = vec![Reason::Alpha, Reason::Palette];
        reasons[7] = vec![Reason::Alpha, Reason::Cmyk];
        let findings = findings(reasons);
        assert_eq!(choose(&findings, 64), [7, 3, 0, 1, 2, 4, 5, 6, 8]);
        assert_eq!(choose(&findings, 4), [7, 3, 0, 4]);
        assert_eq!(choose(&findings, 1), [7]);
    }

    #[test]
    fn cells_keep_the_shape_of_the_image() {
        for (width, height, shown) in [(28, 28, 112 * 112), (3, 1, 111 * 37), (2240, 20, 112)] {
            let pixels = Pixels::U8(vec![255; width * height]);
            let cell = cell(&Image::new(width, height, 1, pixels).unwrap()).unwrap();
            assert_eq!(
                (cell.width(), cell.height(), cell.channels()),
                (CELL, CELL, 3)
            );
            let light = cell
                .to_unit_chw()
                .iter()
                .filter(|value| **value > 0.9)
                .count();
            assert_eq!(light, 3 * shown, "{width}x{height}");
        }
    }
}
