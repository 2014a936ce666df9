//! What joins the branches and the sizes of a network, for channels-last `f32` images: sums,
//! concatenations of channels, enlargement, and channels as pixels.

use rayon::prelude::*;

use crate::Isa;
use crate::pixelwise::{Map, map};

/// `a + factor · b` of every number.
///
/// # Panics
/// When the two are not of one size.
pub fn add(isa: Isa, a: &[f32], b: &[f32], factor: f32) -> Vec<f32> {
    struct Add<'a>(&'a [f32], &'a [f32], f32);
    impl Map for Add<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let part = from..from + result.len();
            let (a, b) = (&self.0[part.clone()], &self.1[part]);
            for ((y, a), b) in result.iter_mut().zip(a).zip(b) {
                *y = a + self.2 * b;
            }
        }
    }
    assert_eq!(a.len(), b.len(), "a sum is of images of one size");
    map(isa, a.len(), 1, &Add(a, b, factor))
}

/// `factor · x` of every number.
pub fn scale(isa: Isa, x: &[f32], factor: f32) -> Vec<f32> {
    struct Scale<'a>(&'a [f32], f32);
    impl Map for Scale<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let x = &self.0[from..from + result.len()];
            for (y, x) in result.iter_mut().zip(x) {
                *y = self.1 * x;
            }
        }
    }
    map(isa, x.len(), 1, &Scale(x, factor))
}

/// Copies `x` `[n, h, w, c]` to the channels from `first` on of `images` `[n, h, w, pitch]`.
///
/// # Panics
/// When the two do not have the same pixels, or the channels do not lie in the images.
pub fn put(x: &[f32], c: usize, images: &mut [f32], [first, pitch]: [usize; 2]) {
    assert!(
        c > 0 && first + c <= pitch && x.len() / c * pitch == images.len(),
        "{} numbers of {c} channels do not fit {} of {pitch} from {first} on",
        x.len(),
        images.len()
    );
    const PIXELS: usize = 1024;
    let parts = images.par_chunks_mut(PIXELS * pitch);
    parts.zip(x.par_chunks(PIXELS * c)).for_each(|(images, x)| {
        for (pixel, x) in images.chunks_exact_mut(pitch).zip(x.chunks_exact(c)) {
            pixel[first..first + c].copy_from_slice(x);
        }
    });
}

/// `x` `[n, pixels, c]` plus `each` `[n, c]` at every pixel.
///
/// # Panics
/// When `x` does not consist of as many images as `each` has rows.
pub fn add_to_pixels(isa: Isa, x: &[f32], each: &[f32], c: usize) -> Vec<f32> {
    struct Add<'a> {
        x: &'a [f32],
        each: &'a [f32],
        c: usize,
        /// Numbers of an image.
        size: usize,
    }
    impl Map for Add<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let x = &self.x[from..from + result.len()];
            let pixels = result.chunks_exact_mut(self.c).zip(x.chunks_exact(self.c));
            for (i, (y, x)) in pixels.enumerate() {
                let image = (from + i * self.c) / self.size;
                let each = &self.each[image * self.c..][..self.c];
                for ((y, x), each) in y.iter_mut().zip(x).zip(each) {
                    *y = x + each;
                }
            }
        }
    }
    let images = each.len() / c.max(1);
    let size = x.len() / images.max(1);
    assert!(
        size * images == x.len() && size.is_multiple_of(c.max(1)),
        "{} numbers are not {images} images of {c} channels",
        x.len()
    );
    map(isa, x.len(), c, &Add { x, each, c, size })
}

/// The sum over the pixels of each channel of each of `n` images, `[n, c]`.
pub fn sum_of_pixels(isa: Isa, x: &[f32], n: usize, c: usize) -> Vec<f32> {
    /// The images, the numbers of one and its channels.
    struct Images<'a>(&'a [f32], [usize; 2]);
    impl Map for Images<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            // A part is cut between images, which are `[c]` in the result.
            let Self(x, [size, c]) = *self;
            let images = x[from / c * size..].chunks_exact(size);
            for (sums, image) in result.chunks_exact_mut(c).zip(images) {
                sums.fill(0.0);
                for pixel in image.chunks_exact(c) {
                    for (sum, x) in sums.iter_mut().zip(pixel) {
                        *sum += x;
                    }
                }
            }
        }
        fn work(&self, _: usize) -> usize {
            4 * self.1[0]
        }
    }
    let size = x.len() / n.max(1);
    if size == 0 {
        return vec![0.0; n * c];
    }
    map(isa, n * c, c, &Images(x, [size, c]))
}

/// `[n, h, w, a]` and `[n, h, w, b]` to `[n, h, w, a + b]`.
///
/// # Panics
/// When the two do not have the same number of pixels.
pub fn concat(isa: Isa, [a, b]: [&[f32]; 2], [from_a, from_b]: [usize; 2]) -> Vec<f32> {
    struct Concat<'a>([&'a [f32]; 2], [usize; 2]);
    impl Map for Concat<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self([a, b], [from_a, from_b]) = *self;
            let c = from_a + from_b;
            let (first, last) = (from / c, (from + result.len()) / c);
            let a = a[first * from_a..last * from_a].chunks_exact(from_a);
            let b = b[first * from_b..last * from_b].chunks_exact(from_b);
            for (y, (a, b)) in result.chunks_exact_mut(c).zip(a.zip(b)) {
                y[..from_a].copy_from_slice(a);
                y[from_a..].copy_from_slice(b);
            }
        }
    }
    let c = from_a + from_b;
    assert!(
        from_a > 0 && from_b > 0 && a.len() * from_b == b.len() * from_a,
        "{} numbers of {from_a} channels and {} of {from_b} do not have the same pixels",
        a.len(),
        b.len()
    );
    map(isa, a.len() + b.len(), c, &Concat([a, b], [from_a, from_b]))
}

/// The channels `first..first + count` of `[n, h, w, c]`.
pub fn channels(isa: Isa, x: &[f32], c: usize, first: usize, count: usize) -> Vec<f32> {
    struct Part<'a>(&'a [f32], [usize; 3]);
    impl Map for Part<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(x, [c, first, count]) = *self;
            let x = x[from / count * c..].chunks_exact(c);
            for (y, x) in result.chunks_exact_mut(count).zip(x) {
                y.copy_from_slice(&x[first..first + count]);
            }
        }
    }
    assert!(
        count > 0 && first + count <= c,
        "{first} and {count} more channels are not part of {c}"
    );
    map(isa, x.len() / c * count, count, &Part(x, [c, first, count]))
}

/// `[n, h, w, c] → [n, factor · h, factor · w, c]`, every pixel repeated.
pub fn enlarge(isa: Isa, x: &[f32], [h, w, c]: [usize; 3], factor: usize) -> Vec<f32> {
    struct Enlarge<'a>(&'a [f32], [usize; 3], usize);
    impl Map for Enlarge<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(x, [h, w, c], factor) = *self;
            for (i, y) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (row, col) = (pixel / (w * factor), pixel % (w * factor));
                let (image, row) = (row / (h * factor), row % (h * factor));
                let at = ((image * h + row / factor) * w + col / factor) * c;
                y.copy_from_slice(&x[at..at + c]);
            }
        }
    }
    let len = x.len() * factor * factor;
    map(isa, len, c, &Enlarge(x, [h, w, c], factor))
}

/// The gradient of [`enlarge`] to its images of `h × w`: the sum over each pixel's copies.
pub fn enlarge_backward(isa: Isa, y: &[f32], [h, w, c]: [usize; 3], factor: usize) -> Vec<f32> {
    struct Sum<'a>(&'a [f32], [usize; 3], usize);
    impl Map for Sum<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(y, [h, w, c], factor) = *self;
            for (i, sums) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (row, col) = (pixel / w, pixel % w);
                let (image, row) = (row / h, row % h);
                sums.fill(0.0);
                for dy in 0..factor {
                    let row = (image * h + row) * factor + dy;
                    for dx in 0..factor {
                        let at = (row * w * factor + col * factor + dx) * c;
                        for (sum, y) in sums.iter_mut().zip(&y[at..at + c]) {
                            *sum += y;
                        }
                    }
                }
            }
        }
    }
    let len = y.len() / (factor * factor).max(1);
    map(isa, len, c, &Sum(y, [h, w, c], factor))
}

/// Channels to pixels, as PyTorch's `pixel_shuffle`: `[n, h, w, c·r²] → [n, r·h, r·w, c]`.
pub fn shuffle(isa: Isa, x: &[f32], [h, w, c]: [usize; 3], r: usize) -> Vec<f32> {
    struct Shuffle<'a>(&'a [f32], [usize; 3], usize);
    impl Map for Shuffle<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(x, [h, w, c], r) = *self;
            for (i, y) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (row, col) = (pixel / (w * r), pixel % (w * r));
                let (image, row) = (row / (h * r), row % (h * r));
                let at = ((image * h + row / r) * w + col / r) * c * r * r;
                let part = row % r * r + col % r;
                let x = x[at..at + c * r * r].iter().skip(part).step_by(r * r);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = *x;
                }
            }
        }
    }
    map(isa, x.len(), c, &Shuffle(x, [h, w, c], r))
}

/// The inverse of [`shuffle`], as PyTorch's `pixel_unshuffle`:
/// `[n, r·h, r·w, c] → [n, h, w, c·r²]`.
pub fn unshuffle(isa: Isa, x: &[f32], [h, w, c]: [usize; 3], r: usize) -> Vec<f32> {
    struct Unshuffle<'a>(&'a [f32], [usize; 3], usize);
    impl Map for Unshuffle<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let Self(x, [h, w, c], r) = *self;
            let channels = c * r * r;
            for (i, y) in result.chunks_exact_mut(channels).enumerate() {
                let pixel = from / channels + i;
                let (row, col) = (pixel / w, pixel % w);
                let (image, row) = (row / h, row % h);
                for (j, y) in y.iter_mut().enumerate() {
                    let (channel, dy, dx) = (j / (r * r), j / r % r, j % r);
                    let row = (image * h + row) * r + dy;
                    *y = x[(row * w * r + col * r + dx) * c + channel];
                }
            }
        }
    }
    map(isa, x.len(), c * r * r, &Unshuffle(x, [h, w, c], r))
}
