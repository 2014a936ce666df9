//! The pixels of an image in the order of their states.

use super::Path;

/// The tap that a state goes on from.
pub(super) const BEFORE: usize = 1;

/// The order in which the states of an image are computed, and what each of them sees. What a line
/// sees lies in the line before it, so that the states of a line are computed together.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    /// States that a state sees.
    pub(super) taps: usize,
    /// Pixels, counted row by row, in their order.
    pub(super) pixels: Vec<usize>,
    /// The places in that order where a line begins and ends.
    pub(super) lines: Vec<(usize, usize)>,
    /// The pixels that each place sees, tap by tap.
    sources: Vec<Option<usize>>,
}

impl Sweep {
    /// The sweep along `path` over images of `height × width`.
    pub(super) fn new(path: Path, height: usize, width: usize) -> Self {
        let steps = match path {
            Path::Rows => height,
            Path::FromLeft | Path::FromRight => (height + width).saturating_sub(1),
        };
        let mut pixels: Vec<usize> = Vec::with_capacity(height * width);
        let mut lines: Vec<(usize, usize)> = Vec::with_capacity(steps);
        for step in 0..steps {
            let from = pixels.len();
            match path {
                Path::Rows => pixels.extend(step * width..(step + 1) * width),
                Path::FromLeft | Path::FromRight => {
                    for y in (step + 1).saturating_sub(width)..(step + 1).min(height) {
                        let along = step - y;
                        let x = match path {
                            Path::FromRight => width - 1 - along,
                            Path::Rows | Path::FromLeft => along,
                        };
                        pixels.push(y * width + x);
                    }
                }
            }
            lines.push((from, pixels.len()));
        }
        let taps = path.taps();
        let mut sources: Vec<Option<usize>> = Vec::with_capacity(pixels.len() * taps.len());
        for pixel in &pixels {
            let (y, x) = (pixel / width, pixel % width);
            for (down, right) in taps {
                let y = y.checked_add_signed(*down).filter(|y| *y < height);
                let x = x.checked_add_signed(*right).filter(|x| *x < width);
                sources.push(match (y, x) {
                    (Some(y), Some(x)) => Some(y * width + x),
                    _ => None,
                });
            }
        }
        Self {
            taps: taps.len(),
            pixels,
            lines,
            sources,
        }
    }

    /// The pixels that the state at a place of the order sees, tap by tap; `None` lies outside the
    /// image.
    pub(super) fn sources(&self, place: usize) -> &[Option<usize>] {
        &self.sources[place * self.taps..(place + 1) * self.taps]
    }

    /// Pixels of the longest line.
    pub(super) fn longest(&self) -> usize {
        let lengths = self.lines.iter().map(|(from, to)| to - from);
        lengths.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_of_three_are_written_by_hand() {
        // Pixels 0 1 2 / 3 4 5.
        let rows = Sweep::new(Path::Rows, 2, 3);
        assert_eq!(rows.pixels, [0, 1, 2, 3, 4, 5]);
        assert_eq!(rows.lines, [(0, 3), (3, 6)]);
        assert_eq!(rows.sources(2), [None, None, None]);
        assert_eq!(rows.sources(3), [None, Some(0), Some(1)]);
        assert_eq!(rows.sources(5), [Some(1), Some(2), None]);
        let left = Sweep::new(Path::FromLeft, 2, 3);
        assert_eq!(left.pixels, [0, 1, 3, 2, 4, 5]);
        assert_eq!(left.lines, [(0, 1), (1, 3), (3, 5), (5, 6)]);
        assert_eq!(left.sources(2), [Some(0), None]);
        assert_eq!(left.sources(4), [Some(1), Some(3)]);
        let right = Sweep::new(Path::FromRight, 2, 3);
        assert_eq!(right.pixels, [2, 1, 5, 0, 4, 3]);
        assert_eq!(right.sources(1), [None, Some(2)]);
        assert_eq!(right.sources(4), [Some(1), Some(5)]);
    }

    #[test]
    fn every_state_sees_the_line_before() {
        for path in [Path::Rows, Path::FromLeft, Path::FromRight] {
            for (height, width) in [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3)] {
                let sweep = Sweep::new(path, height, width);
                let mut sorted = sweep.pixels.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..height * width).collect::<Vec<usize>>());
                let mut before: &[usize] = &[];
                for (from, to) in &sweep.lines {
                    for place in *from..*to {
                        let seen = sweep.sources(place).iter().flatten();
                        for pixel in seen {
                            assert!(before.contains(pixel), "{path:?} {height}×{width}");
                        }
                    }
                    before = &sweep.pixels[*from..*to];
                }
            }
        }
    }
}
