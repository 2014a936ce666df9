//! Bilinear interpolation of channels-last `f32` images to another size, as PyTorch's
//! `interpolate(mode="bilinear", align_corners=False)`.

use crate::Isa;
use crate::pixelwise::{Map, map};

/// Where the pixels of a result lie between those of its source, along one axis.
struct Axis {
    from: usize,
    /// Of each pixel of the result the pixel of the source before it, and how far it lies behind
    /// that, in pixels.
    places: Vec<(usize, f32)>,
}

impl Axis {
    /// # Panics
    /// When there are no pixels to interpolate.
    fn new(from: usize, to: usize) -> Self {
        assert!(
            from > 0 || to == 0,
            "an image without pixels has no colours"
        );
        let scale = from as f64 / to.max(1) as f64;
        let place = |i: usize| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let before = (at as usize).min(from - 1);
            (before, (at - before as f64) as f32)
        };
        Self {
            from,
            places: (0..to).map(place).collect(),
        }
    }

    /// The pixels of the source a result's is mixed from, and how much of each.
    #[inline(always)]
    fn of(&self, i: usize) -> [(usize, f32); 2] {
        let (before, share) = self.places[i];
        let behind = (before + 1).min(self.from - 1);
        [(before, 1.0 - share), (behind, share)]
    }

    /// For each pixel of the source those of the result it is mixed into, and how much of it.
    fn inverse(&self) -> Vec<Vec<(usize, f32)>> {
        let mut all = vec![vec![]; self.from];
        for i in 0..self.places.len() {
            for (pixel, share) in self.of(i) {
                all[pixel].push((i, share));
            }
        }
        all
    }
}

/// `[n, h, w, c] → [n, height, width, c]`.
///
/// # Panics
/// When an image without pixels is enlarged.
pub fn bilinear(isa: Isa, x: &[f32], [h, w, c]: [usize; 3], to: [usize; 2]) -> Vec<f32> {
    struct Mix<'a> {
        x: &'a [f32],
        from: [usize; 3],
        to: [usize; 2],
        rows: Axis,
        cols: Axis,
    }
    impl Map for Mix<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let ([h, w, c], [height, width]) = (self.from, self.to);
            for (i, y) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (row, col) = (pixel / width, pixel % width);
                let (image, row) = (row / height, row % height);
                let [above, below] = self.rows.of(row);
                let [left, right] = self.cols.of(col);
                let at = |row: usize, col: usize| &self.x[((image * h + row) * w + col) * c..][..c];
                let corners = [
                    at(above.0, left.0),
                    at(above.0, right.0),
                    at(below.0, left.0),
                    at(below.0, right.0),
                ];
                for (k, y) in y.iter_mut().enumerate() {
                    let [a, b, c, d] = corners.map(|corner| corner[k]);
                    let upper = left.1 * a + right.1 * b;
                    let lower = left.1 * c + right.1 * d;
                    *y = above.1 * upper + below.1 * lower;
                }
            }
        }
    }
    let images = x.len() / (h * w * c).max(1);
    let mix = Mix {
        x,
        from: [h, w, c],
        to,
        rows: Axis::new(h, to[0]),
        cols: Axis::new(w, to[1]),
    };
    map(isa, images * to[0] * to[1] * c, c, &mix)
}

/// The gradient of [`bilinear`] to its `n` images of `h × w`, from that to its result of `from`.
pub fn bilinear_backward(
    isa: Isa,
    y: &[f32],
    n: usize,
    [h, w, c]: [usize; 3],
    from: [usize; 2],
) -> Vec<f32> {
    struct Collect<'a> {
        y: &'a [f32],
        to: [usize; 3],
        from: [usize; 2],
        rows: Vec<Vec<(usize, f32)>>,
        cols: Vec<Vec<(usize, f32)>>,
    }
    impl Map for Collect<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let ([h, w, c], [height, width]) = (self.to, self.from);
            for (i, sums) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (row, col) = (pixel / w, pixel % w);
                let (image, row) = (row / h, row % h);
                sums.fill(0.0);
                for (y, down) in &self.rows[row] {
                    for (x, across) in &self.cols[col] {
                        let at = ((image * height + y) * width + x) * c;
                        let share = down * across;
                        for (sum, y) in sums.iter_mut().zip(&self.y[at..at + c]) {
                            *sum += share * y;
                        }
                    }
                }
            }
        }
        fn work(&self, c: usize) -> usize {
            let [h, w, _] = self.to;
            8 * c
                * (self.from[0] * self.from[1])
                    .div_ceil((h * w).max(1))
                    .max(1)
        }
    }
    let collect = Collect {
        y,
        to: [h, w, c],
        from,
        rows: Axis::new(h, from[0]).inverse(),
        cols: Axis::new(w, from[1]).inverse(),
    };
    map(isa, n * h * w * c, c, &collect)
}
