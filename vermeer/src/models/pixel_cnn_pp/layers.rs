//! Layers on the host, a few positions at a time. A causal convolution keeps the last two rows of
//! its input, which is all it will look at again.

use burn::module::Param;
use burn::tensor::Tensor;
use vermeer_kernels::dense::Dense;
use vermeer_kernels::nn::{Conv2d, ConvTranspose2d};

use super::streams::Gated;
use crate::autoregressive::{class_rows, dense};
use crate::nn::host;

/// The numbers of a parameter in rows.
fn numbers<const D: usize>(parameter: &Param<Tensor<D>>) -> Vec<f32> {
    host(parameter.val())
}

/// elu in place.
pub(super) fn elu(values: &mut [f32]) {
    for value in values {
        if *value <= 0.0 {
            *value = value.exp() - 1.0;
        }
    }
}

/// elu of x and of −x, for rows of `width` numbers: rows of twice as many.
fn both_elu(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(2 * x.len());
    for row in x.chunks_exact(width) {
        let start = out.len();
        out.extend_from_slice(row);
        out.extend(row.iter().map(|value| -value));
        elu(&mut out[start..]);
    }
    out
}

/// Positions of a stream that are computed together: neighbours of one row of one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) y: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The last two rows of features `[column, image, channel]`, with a column of zeros on either side.
#[derive(Debug)]
pub(super) struct Rows {
    images: usize,
    channels: usize,
    /// Numbers of a row.
    pitch: usize,
    pub(super) values: Vec<f32>,
}

impl Rows {
    pub(super) fn new(columns: usize, images: usize, channels: usize) -> Self {
        let pitch = (columns + 2) * images * channels;
        Self {
            images,
            channels,
            pitch,
            values: vec![0.0; 2 * pitch],
        }
    }

    /// Where a column starts; those of the image are counted from 1. Row −1 is asked for as row 1
    /// while that is still zero.
    pub(super) fn place(&self, y: usize, column: usize) -> usize {
        y % 2 * self.pitch + column * self.images * self.channels
    }

    /// Keeps the features of a span.
    pub(super) fn keep(&mut self, at: Span, features: &[f32]) {
        let start = self.place(at.y, at.first + 1);
        self.values[start..start + features.len()].copy_from_slice(features);
    }

    /// The features of an image; `up` rows above row `y`.
    pub(super) fn at(&self, y: usize, up: usize, column: usize, image: usize) -> &[f32] {
        let start = self.place(y + up, column) + image * self.channels;
        &self.values[start..start + self.channels]
    }
}

/// A causal convolution.
#[derive(Debug)]
pub(super) struct Causal {
    kernel: [usize; 2],
    dense: Dense,
}

impl Causal {
    pub(super) fn new(layer: &Conv2d) -> Self {
        let [_, _, kh, kw] = layer.weight.dims();
        Self {
            kernel: [kh, kw],
            dense: product(layer),
        }
    }

    /// Its results at row `y` and the given columns, counted from 0, `[column, image, channel]`.
    pub(super) fn at(
        &self,
        rows: &Rows,
        y: usize,
        columns: impl Iterator<Item = usize>,
    ) -> Vec<f32> {
        let [kh, kw] = self.kernel;
        let mut x = vec![];
        for column in columns {
            for image in 0..rows.images {
                for up in (0..kh).rev() {
                    for tap in 0..kw {
                        let column = column + 1 + tap - kw / 2;
                        x.extend_from_slice(rows.at(y, up, column, image));
                    }
                }
            }
        }
        let n = x.len() / self.dense.inputs();
        let mut out = vec![0.0; n * self.dense.outputs()];
        self.dense.forward(&x, n, &mut out);
        out
    }
}

/// A gated block with the inputs of its convolutions.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) width: usize,
    first: Causal,
    skip: Option<Dense>,
    second: Causal,
    /// What the class of each image adds, `[image, 2 · width]`.
    label: Option<Vec<f32>>,
    entered: Rows,
    between: Rows,
    /// Its results of the last span, from column 0 on where that is a row.
    last: Vec<f32>,
}

impl Block {
    pub(super) fn new(
        layer: &Gated,
        columns: usize,
        images: usize,
        labels: Option<&[u32]>,
    ) -> Self {
        let [width, doubled, _, _] = layer.first.weight.dims();
        let skip = layer.skip.as_ref().map(product);
        let told = layer.label.as_ref().zip(labels);
        let label = told.map(|(table, labels)| class_rows(table.weight.val(), labels));
        Self {
            width,
            first: Causal::new(&layer.first),
            skip,
            second: Causal::new(&layer.second),
            label,
            entered: Rows::new(columns, images, doubled),
            between: Rows::new(columns, images, doubled),
            last: vec![],
        }
    }

    /// The block's results of a span, `[column, image, width]`.
    pub(super) fn advance(&mut self, at: Span, x: &[f32], told: Option<&[f32]>) -> Vec<f32> {
        let (width, columns) = (self.width, at.first..at.first + at.count);
        self.entered.keep(at, &both_elu(x, width));
        let mut y = self.first.at(&self.entered, at.y, columns.clone());
        if let (Some(skip), Some(told)) = (&self.skip, told) {
            let told = both_elu(told, skip.inputs() / 2);
            skip.add_to(&told, y.len() / width, &mut y);
        }
        self.between.keep(at, &both_elu(&y, width));
        let mut y = self.second.at(&self.between, at.y, columns);
        if let Some(label) = &self.label {
            for rows in y.chunks_exact_mut(label.len()) {
                for (value, add) in rows.iter_mut().zip(label) {
                    *value += add;
                }
            }
        }
        let mut out = x.to_vec();
        for (row, y) in out.chunks_exact_mut(width).zip(y.chunks_exact(2 * width)) {
            let (values, gates) = y.split_at(width);
            for ((out, value), gate) in row.iter_mut().zip(values).zip(gates) {
                *out += value / (1.0 + (-gate).exp());
            }
        }
        self.last.clone_from(&out);
        out
    }

    /// Its results of a span within the row it computed last.
    pub(super) fn seen(&self, at: Span) -> &[f32] {
        let size = self.entered.images * self.width;
        &self.last[at.first * size..(at.first + at.count) * size]
    }
}

/// A convolution as one product of what lies under its taps.
pub(super) fn product(layer: &Conv2d) -> Dense {
    dense(
        layer.weight.val(),
        layer.bias.as_ref().map(|bias| bias.val()),
    )
}

/// A transposed convolution that doubles the size: of each parity of row and column, the columns it
/// looks at from half of its own, and their weights.
#[derive(Debug)]
pub(super) struct Enlarging {
    phases: Vec<(Vec<usize>, Dense)>,
    /// What it reads.
    pub(super) small: Rows,
}

impl Enlarging {
    pub(super) fn new(layer: &ConvTranspose2d, columns: usize, images: usize) -> Self {
        let [inputs, outputs, kh, kw] = layer.weight.dims();
        let weight = numbers(&layer.weight);
        let bias = layer.bias.as_ref().map(numbers);
        let phase = |index: usize| -> (Vec<usize>, Dense) {
            let (row, parity) = (index / 2, index % 2);
            // Tap `dx` of column `j` lands in column 2j + dx − (kw − 1) / 2.
            let taps: Vec<(usize, usize)> = match (kw, parity) {
                (3, 0) => vec![(0, 1)],
                (3, _) => vec![(0, 2), (1, 0)],
                (_, parity) => vec![(0, parity)],
            };
            let mut matrix = Vec::with_capacity(taps.len() * inputs * outputs);
            for (_, dx) in &taps {
                for input in 0..inputs {
                    let at =
                        |output: usize| weight[((input * outputs + output) * kh + row) * kw + dx];
                    matrix.extend((0..outputs).map(at));
                }
            }
            let dense = Dense::new(&matrix, taps.len() * inputs, outputs, bias.as_deref());
            (taps.iter().map(|(column, _)| *column).collect(), dense)
        };
        Self {
            phases: (0..4).map(phase).collect(),
            small: Rows::new(columns / 2, images, inputs),
        }
    }

    /// Its results of a span, `[column, image, channel]`.
    pub(super) fn at(&self, at: Span) -> Vec<f32> {
        let mut out = vec![];
        for column in at.first..at.first + at.count {
            let (offsets, dense) = &self.phases[at.y % 2 * 2 + column % 2];
            let mut x = Vec::with_capacity(self.small.images * dense.inputs());
            for image in 0..self.small.images {
                for offset in offsets {
                    let column = column / 2 + 1 + offset;
                    x.extend_from_slice(self.small.at(at.y / 2, 0, column, image));
                }
            }
            let start = out.len();
            out.resize(start + self.small.images * dense.outputs(), 0.0);
            dense.forward(&x, self.small.images, &mut out[start..]);
        }
        out
    }
}
