//! The order in which a Diagonal BiLSTM visits the pixels, one diagonal after the other.

use burn::prelude::*;

/// A diagonal: one pixel in each of `len` rows from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The uppermost row.
    pub(super) first: usize,
    /// Rows.
    pub(super) len: usize,
}

impl Line {
    /// The row below the last.
    pub(super) fn end(self) -> usize {
        self.first + self.len
    }
}

/// A sweep over the diagonals of an image, from the left or from the right.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    /// The diagonals, each one step further than the one before.
    pub(super) lines: Vec<Line>,
    /// The pixel, counted row by row, of each place of the joined diagonals.
    order: Vec<usize>,
    height: usize,
    width: usize,
    from_right: bool,
}

impl Sweep {
    /// The sweep over images of `height × width`.
    pub(super) fn new(height: usize, width: usize, from_right: bool) -> Self {
        let line = |step: usize| {
            let first = (step + 1).saturating_sub(width);
            Line {
                first,
                len: step.min(height - 1) + 1 - first,
            }
        };
        let lines: Vec<Line> = (0..height + width - 1).map(line).collect();
        let mut order = Vec::with_capacity(height * width);
        for (step, line) in lines.iter().enumerate() {
            for y in line.first..line.end() {
                let along = step - y;
                let x = if from_right { width - 1 - along } else { along };
                order.push(y * width + x);
            }
        }
        Self {
            lines,
            order,
            height,
            width,
            from_right,
        }
    }

    /// The diagonals of `x` `[n, c, h, w]`, each `[n, c, 1, len]`.
    pub(super) fn cut(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let [n, c, _, _] = x.dims();
        let order = self.order.iter().map(|pixel| *pixel as i64);
        let flat = x.reshape([n, c, 1, self.height * self.width]);
        let flat = select(flat, &order.collect::<Vec<i64>>());
        let lens: Vec<usize> = self.lines.iter().map(|line| line.len).collect();
        split(flat, &lens)
    }

    /// The image `[n, c, h, w]` of diagonals. That of a sweep from the right is moved down by a
    /// row, which leaves the first one zero: what it saw to the right is then known.
    pub(super) fn join(&self, mut lines: Vec<Tensor<4>>) -> Tensor<4> {
        let [n, c, _, _] = lines[0].dims();
        let pixels = self.height * self.width;
        lines.push(Tensor::zeros([n, c, 1, 1], &lines[0].device()));
        let mut places = vec![pixels as i64; pixels];
        let down = if self.from_right { self.width } else { 0 };
        for (place, pixel) in self.order.iter().enumerate() {
            if pixel + down < pixels {
                places[pixel + down] = place as i64;
            }
        }
        select(Tensor::cat(lines, 3), &places).reshape([n, c, self.height, self.width])
    }
}

fn select(x: Tensor<4>, places: &[i64]) -> Tensor<4> {
    let places = Tensor::<1, Int>::from_ints(places, &x.device());
    x.select(3, places)
}

/// Cuts `[n, c, 1, Σ lens]` into parts, by halves: the gradient of a cut is as large as what is
/// cut, so that cutting off one part after the other would take the square of the work.
fn split(x: Tensor<4>, lens: &[usize]) -> Vec<Tensor<4>> {
    if lens.len() < 2 {
        return vec![x];
    }
    let (left, right) = lens.split_at(lens.len() / 2);
    let middle: usize = left.iter().sum();
    let rest: usize = right.iter().sum();
    let mut parts = split(x.clone().narrow(3, 0, middle), left);
    parts.extend(split(x.narrow(3, middle, rest), right));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;

    #[test]
    fn diagonals_of_two_rows_are_written_by_hand() {
        let sweep = Sweep::new(2, 3, false);
        let spans: Vec<(usize, usize)> = sweep.lines.iter().map(|l| (l.first, l.len)).collect();
        assert_eq!(spans, [(0, 1), (0, 2), (0, 2), (1, 1)]);
        // Pixels 0 1 2 / 3 4 5.
        assert_eq!(sweep.order, [0, 1, 3, 2, 4, 5]);
        assert_eq!(Sweep::new(2, 3, true).order, [2, 1, 5, 0, 4, 3]);
    }

    #[test]
    fn joining_undoes_cutting_and_moves_the_other_side_down() {
        let device = Device::flex();
        for (height, width) in [(2, 3), (4, 2), (3, 3), (1, 4), (4, 1)] {
            let values: Vec<f32> = (0..2 * height * width).map(|v| v as f32 + 1.0).collect();
            let x = Tensor::<1>::from_floats(&values[..], &device);
            let x = x.reshape([1, 2, height, width]);
            let sweep = Sweep::new(height, width, false);
            assert_eq!(host(sweep.join(sweep.cut(x.clone()))), values);
            let sweep = Sweep::new(height, width, true);
            let moved = host(sweep.join(sweep.cut(x)));
            let plane = height * width;
            for (place, found) in moved.iter().enumerate() {
                let expected = match place % plane < width {
                    true => 0.0,
                    false => values[place - width],
                };
                assert_eq!(*found, expected, "{height}×{width} at {place}");
            }
        }
    }
}
