//! Modes as a picture: a row for each, its shares as bars and real images of it beside them.

use vermeer_image::metrics::Presence;
use vermeer_image::{Grid, Image};

use super::Mode;
use crate::Result;
use crate::evaluate::pictures::{Canvas, cell};
use crate::evaluate::subject::Subject;

/// The side of a cell in pixels.
const CELL: usize = 64;

/// Real images beside the bars of a mode.
const EXAMPLES: usize = 8;

/// Rows of the picture, at most.
const ROWS: usize = 24;

/// Behind the bars.
const GROUND: [u8; 3] = [40; 3];

/// The bar of the real share.
const REAL: [u8; 3] = [170; 3];

/// The line of an interval.
const LINE: [u8; 3] = [255; 3];

/// Real images of each mode, by number.
pub(super) struct Shown(Vec<Vec<usize>>);

impl Shown {
    /// The first images of each of `modes` modes, of which each image belongs to one.
    pub(super) fn of(mode_of_image: &[usize], modes: usize) -> Self {
        let mut shown = vec![Vec::new(); modes];
        for (image, mode) in mode_of_image.iter().enumerate() {
            if shown[*mode].len() < EXAMPLES {
                shown[*mode].push(image);
            }
        }
        Self(shown)
    }
}

/// The modes, those that are missing or rare first, then by how much rarer they are than real: for
/// each its real share in grey and its generated share in the colour of the verdict with its
/// interval as a line, then images of it from `real`. The verdict stands under the bars, the mode's
/// name under the first image. The picture is 8-bit RGB and shows 24 modes at most.
///
/// # Errors
/// Those of [`pictures`] and of drawing.
pub(super) fn rows(modes: &[Mode], shown: &Shown, real: &Subject) -> Result<Image> {
    let part = |mode: &Mode| mode.generated / mode.real.max(1e-9);
    let mut order: Vec<usize> = (0..modes.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&modes[*a], &modes[*b]);
        rank(a.presence)
            .cmp(&rank(b.presence))
            .then(part(a).total_cmp(&part(b)))
    });
    order.truncate(ROWS);
    let tallest = order
        .iter()
        .map(|at| modes[*at].real.max(modes[*at].generated))
        .fold(1e-9, f64::max);
    let (mut cells, mut labels) = (Vec::new(), Vec::new());
    for at in order {
        let (mode, numbers) = (&modes[at], &shown.0[at]);
        cells.push(bars(mode, tallest)?);
        labels.push(word(mode.presence).to_owned());
        for (image, _) in real.get(numbers)? {
            cells.push(cell(&image, CELL)?);
        }
        for _ in numbers.len()..EXAMPLES {
            cells.push(Canvas::new(CELL, CELL, [0; 3]).image()?);
        }
        labels.push(mode.name.clone());
        labels.extend(std::iter::repeat_n(String::new(), EXAMPLES - 1));
    }
    let sheet = Grid::default()
        .with_columns(1 + EXAMPLES)
        .with_padding(3)
        .draw(&cells, Some(&labels))?;
    Ok(sheet)
}

/// Two bars: the real share and the generated one with its interval.
fn bars(mode: &Mode, tallest: f64) -> Result<Image> {
    let mut canvas = Canvas::new(CELL, CELL, GROUND);
    let top = |share: f64| {
        let height = (share / tallest).clamp(0.0, 1.0) * (CELL - 4) as f64;
        CELL - 2 - height.round() as usize
    };
    let bottom = CELL - 2;
    canvas.fill([8, top(mode.real), 28, bottom], REAL);
    let colour = colour(mode.presence);
    canvas.fill([36, top(mode.generated), 56, bottom], colour);
    let (low, high) = (top(mode.interval.low), top(mode.interval.high));
    canvas.fill([45, high, 47, (low + 1).min(CELL)], LINE);
    canvas.fill([42, high, 50, high + 1], LINE);
    canvas.image()
}

/// Missing modes come first.
fn rank(presence: Presence) -> u8 {
    match presence {
        Presence::Missing => 0,
        Presence::Rare => 1,
        Presence::Unsure => 2,
        Presence::Present => 3,
    }
}

/// Colours that colour-blind people can tell apart (Okabe and Ito, 2008).
fn colour(presence: Presence) -> [u8; 3] {
    match presence {
        Presence::Missing => [213, 94, 0],
        Presence::Rare => [230, 159, 0],
        Presence::Unsure => [86, 180, 233],
        Presence::Present => [0, 158, 115],
    }
}

/// The verdict in a word.
pub(super) fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Missing => "missing",
        Presence::Rare => "rare",
        Presence::Unsure => "unsure",
        Presence::Present => "present",
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::Pixels;
    use vermeer_image::metrics::Interval;

    use super::*;
    use crate::data::{OpenOptions, open};

    fn mode(real: f64, generated: f64, presence: Presence) -> Mode {
        Mode {
            name: "x".to_owned(),
            real,
            generated,
            interval: Interval {
                low: 0.0,
                high: generated,
                confidence: 0.95,
            },
            presence,
            p: None,
        }
    }

    /// The colours of an image, pixel by pixel.
    fn colours(image: &Image) -> Vec<[u8; 3]> {
        let Pixels::U8(bytes) = image.pixels() else {
            panic!("not bytes")
        };
        bytes.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
    }

    #[test]
    fn bars_are_as_high_as_the_shares() {
        let drawn = bars(&mode(0.4, 0.2, Presence::Rare), 0.4).unwrap();
        let pixels = colours(&drawn);
        let height = |x: usize, colour: [u8; 3]| {
            (0..CELL).filter(|y| pixels[y * CELL + x] == colour).count()
        };
        assert_eq!(height(10, REAL), 60);
        assert_eq!(height(37, [230, 159, 0]), 30);
        assert_eq!(height(46, LINE), 31);
    }

    #[test]
    fn the_first_images_of_each_mode_are_shown() {
        let modes: Vec<usize> = (0..30).map(|image| image % 2).collect();
        let shown = Shown::of(&modes, 3);
        assert_eq!(shown.0[1], [1, 3, 5, 7, 9, 11, 13, 15]);
        assert!(shown.0[2].is_empty());
    }

    #[test]
    fn lost_modes_come_first() {
        let source = open("world:glyphs?count=10&size=64", &OpenOptions::default()).unwrap();
        let real = Subject::of_source(source, None, 0).unwrap();
        let modes = [
            mode(0.5, 0.5, Presence::Present),
            mode(0.5, 0.0, Presence::Missing),
        ];
        let shown = Shown(vec![vec![0], vec![3]]);
        let sheet = rows(&modes, &shown, &real).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (9 * 67 + 3, 2 * 76 + 3));
        let first = cell(&real.get(&[3]).unwrap()[0].0, CELL).unwrap();
        let (sheet_pixels, expected) = (colours(&sheet), colours(&first));
        for y in 0..CELL {
            let start = (3 + y) * sheet.width() + 3 + 67;
            assert_eq!(
                sheet_pixels[start..start + CELL],
                expected[y * CELL..(y + 1) * CELL]
            );
        }
    }
}
