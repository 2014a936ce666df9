//! Burn's `flex` tensors as channels-last slices, and back.

use burn::prelude::Shape;
use burn::tensor::{Bytes, DType};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use crate::memory::{SharedMut, written};

/// Numbers of a tensor `[n, c, h, w]`, channels last.
pub(crate) struct Pixels {
    tensor: FlexTensor,
    start: usize,
    len: usize,
}

impl Pixels {
    /// The numbers where they are, or a copy if they lie otherwise.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let tensor = match lies_channels_last(tensor.layout()) {
            true => tensor,
            false => copy(&tensor),
        };
        let (start, len) = (
            tensor.layout().start_offset(),
            tensor.layout().num_elements(),
        );
        Self { tensor, start, len }
    }

    pub(crate) fn slice(&self) -> &[f32] {
        &self.tensor.storage::<f32>()[self.start..self.start + self.len]
    }
}

/// The shape of a tensor of four dimensions.
pub(crate) fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Numbers of a tensor row by row, the last axis innermost.
pub(crate) struct Rows {
    tensor: FlexTensor,
    start: usize,
    len: usize,
}

impl Rows {
    /// The numbers where they are, or a copy if they lie otherwise.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let tensor = tensor.to_contiguous();
        let (start, len) = (
            tensor.layout().start_offset(),
            tensor.layout().num_elements(),
        );
        Self { tensor, start, len }
    }

    pub(crate) fn slice(&self) -> &[f32] {
        &self.tensor.storage::<f32>()[self.start..self.start + self.len]
    }
}

/// A tensor `[n, c, h, w]` of channels-last numbers.
pub(crate) fn from_pixels(pixels: Vec<f32>, [n, c, h, w]: [usize; 4]) -> FlexTensor {
    from_rows(pixels, Shape::from([n, h, w, c])).permute(&[0, 3, 1, 2])
}

/// A tensor of numbers row by row.
pub(crate) fn from_rows(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let layout = Layout::contiguous(shape.into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// The tensor, if its numbers fill its storage row by row, else such a copy.
pub(crate) fn owned(tensor: FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let whole = tensor.is_contiguous()
        && layout.start_offset() == 0
        && layout.num_elements() == tensor.storage::<f32>().len();
    match whole {
        true => tensor,
        false => {
            let shape = layout.shape().clone();
            from_rows(Rows::new(tensor).slice().to_vec(), shape)
        }
    }
}

fn lies_channels_last(layout: &Layout) -> bool {
    let (shape, strides) = (layout.shape(), layout.strides());
    let mut expected = 1isize;
    [1, 3, 2, 0].into_iter().all(|axis| {
        let size = shape[axis];
        let fits = size <= 1 || strides[axis] == expected;
        expected *= size as isize;
        fits
    }) || layout.num_elements() == 0
}

/// The tensor's numbers, copied to channels last.
#[allow(unsafe_code, reason = "threads write to disjoint parts of one result")]
fn copy(tensor: &FlexTensor) -> FlexTensor {
    const TILE: usize = 16;
    let [n, c, h, w] = dims(tensor);
    let layout = tensor.layout();
    let strides: [isize; 4] = std::array::from_fn(|i| layout.strides()[i]);
    let source = tensor.storage::<f32>();
    // One task is a row of pixels.
    let fill = |shared: &SharedMut<'_>| {
        (0..n * h).into_par_iter().with_min_len(8).for_each(|row| {
            let (i, y) = (row / h, row % h);
            // SAFETY: every row of pixels has its own part.
            let target = unsafe { shared.part(row * w * c, w * c) };
            let start =
                layout.start_offset() as isize + i as isize * strides[0] + y as isize * strides[2];
            for first in (0..c).step_by(TILE) {
                for x in 0..w {
                    let mut from = start + x as isize * strides[3] + first as isize * strides[1];
                    let channels = &mut target[x * c + first..x * c + (first + TILE).min(c)];
                    for value in channels {
                        *value = source[from as usize];
                        from += strides[1];
                    }
                }
            }
        })
    };
    // SAFETY: every row of pixels is written.
    from_pixels(unsafe { written(n * c * h * w, fill) }, [n, c, h, w])
}
