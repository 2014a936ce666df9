//! Pooling of channels-last `f32` images.

use crate::Isa;
use crate::pixelwise::{Map, map};

/// How a window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Its step over the image.
    pub stride: [usize; 2],
    /// Rows and columns around the image, less than the window's.
    pub padding: [usize; 2],
    /// What is taken of a window.
    pub take: Take,
}

/// What is taken of the pixels of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The largest number; what lies around the image does not count.
    Largest,
    /// The mean, with zeros around the image (PyTorch's `count_include_pad`).
    Mean,
}

impl Window {
    /// Height and width of the result: `(in + 2p − k)/s + 1`.
    ///
    /// # Panics
    /// When the window is larger than the padded image, or padding leaves windows without pixels.
    pub fn output(&self, input: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|i| {
            let (size, kernel, padding) = (input[i], self.kernel[i], self.padding[i]);
            let room = (size + 2 * padding).checked_sub(kernel);
            let fits = kernel > 0 && self.stride[i] > 0 && 2 * padding <= kernel && size > 0;
            match room.filter(|_| fits) {
                Some(room) => room / self.stride[i] + 1,
                None => panic!("{self:?} does not fit an image of {input:?} pixels"),
            }
        })
    }
}

/// `[n, h, w, c] → [n, oh, ow, c]`.
///
/// # Panics
/// As [`Window::output`].
pub fn pool(isa: Isa, x: &[f32], n: usize, [h, w, c]: [usize; 3], window: Window) -> Vec<f32> {
    struct Pool<'a> {
        x: &'a [f32],
        size: [usize; 3],
        output: [usize; 2],
        window: Window,
    }
    impl Map for Pool<'_> {
        #[inline(always)]
        fn write(&self, from: usize, result: &mut [f32]) {
            let ([h, w, c], [oh, ow]) = (self.size, self.output);
            let Window {
                kernel,
                stride,
                padding,
                take,
            } = self.window;
            let count = (kernel[0] * kernel[1]) as f32;
            for (i, y) in result.chunks_exact_mut(c).enumerate() {
                let pixel = from / c + i;
                let (image, row, col) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
                // The part of the window that lies in the image.
                let (top, left) = (row * stride[0], col * stride[1]);
                let rows = top.saturating_sub(padding[0])..(top + kernel[0] - padding[0]).min(h);
                let cols = left.saturating_sub(padding[1])..(left + kernel[1] - padding[1]).min(w);
                y.fill(match take {
                    Take::Largest => f32::NEG_INFINITY,
                    Take::Mean => 0.0,
                });
                for row in rows {
                    for col in cols.clone() {
                        let x = &self.x[((image * h + row) * w + col) * c..][..c];
                        match take {
                            Take::Largest => {
                                for (y, x) in y.iter_mut().zip(x) {
                                    // A number that is none stays one.
                                    *y = if *x > *y || x.is_nan() { *x } else { *y };
                                }
                            }
                            Take::Mean => {
                                for (y, x) in y.iter_mut().zip(x) {
                                    *y += x;
                                }
                            }
                        }
                    }
                }
                if take == Take::Mean {
                    y.iter_mut().for_each(|y| *y /= count);
                }
            }
        }

        fn work(&self, c: usize) -> usize {
            4 * c * self.window.kernel[0] * self.window.kernel[1]
        }
    }
    assert_eq!(x.len(), n * h * w * c, "the pixels of {n} images");
    let output = window.output([h, w]);
    let of = Pool {
        x,
        size: [h, w, c],
        output,
        window,
    };
    map(isa, n * output[0] * output[1] * c, c, &of)
}
