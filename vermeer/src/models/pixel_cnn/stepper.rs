//! A PixelCNN one sub-pixel at a time, on the host. Of the first layer it keeps the pixels, of each
//! block the features that its masked convolution reads, for the rows within reach.

use std::ops::Range;

use vermeer_kernels::dense::Dense;
use vermeer_kernels::nn::Conv2d;

use super::PixelCnnNet;
use super::masked::{Mask, MaskedConv, features};
use crate::autoregressive::{Position, Stepper, check_labels, class_rows, relu};
use crate::nn::host;

/// The last rows of a layer's features, with zeros to their left and right.
struct Rows {
    rows: usize,
    columns: usize,
    pad: usize,
    n: usize,
    size: usize,
    /// `[rows, pad + columns + pad, n, size]`.
    values: Vec<f32>,
}

impl Rows {
    fn new(reach: usize, columns: usize, n: usize, size: usize) -> Self {
        let rows = reach + 1;
        Self {
            rows,
            columns,
            pad: reach,
            n,
            size,
            values: vec![0.0; rows * (columns + 2 * reach) * n * size],
        }
    }

    /// Where the features of an image's pixel `(y, x)` begin. Rows above the image are those that
    /// have not been written yet, which are zero.
    fn at(&self, y: isize, x: isize, image: usize) -> usize {
        let row = y.rem_euclid(self.rows as isize) as usize;
        let column = (x + self.pad as isize) as usize;
        ((row * (self.columns + 2 * self.pad) + column) * self.n + image) * self.size
    }

    /// For each image, the features of the pixels at `taps` from `(y, x)`, then the first `prefix`
    /// of the pixel itself.
    fn gather(&self, [y, x]: [usize; 2], taps: &[[isize; 2]], prefix: usize, into: &mut Vec<f32>) {
        into.clear();
        let (y, x) = (y as isize, x as isize);
        for image in 0..self.n {
            for [dy, dx] in taps {
                let from = self.at(y + dy, x + dx, image);
                into.extend_from_slice(&self.values[from..from + self.size]);
            }
            let from = self.at(y, x, image);
            into.extend_from_slice(&self.values[from..from + prefix]);
        }
    }
}

/// The features of one colour that a layer computes.
struct Part {
    dense: Dense,
    outputs: Range<usize>,
    /// How many features of the pixel itself they see.
    prefix: usize,
}

/// A layer: one part for each colour.
struct Layer {
    parts: Vec<Part>,
    /// The pixels it reads beside the one at hand.
    taps: Vec<[isize; 2]>,
    outputs: usize,
}

/// Adds the weights of one tap, `[channels, outputs]`, to a matrix.
fn add_tap(
    matrix: &mut Vec<f32>,
    weight: &[f32],
    [inputs, taps, tap]: [usize; 3],
    channels: usize,
    outputs: &Range<usize>,
) {
    for channel in 0..channels {
        for output in outputs.clone() {
            matrix.push(weight[(output * inputs + channel) * taps + tap]);
        }
    }
}

impl Layer {
    fn masked(conv: &MaskedConv, groups: usize) -> Self {
        let [outputs, inputs, reach, columns] = conv.above.dims();
        let (above, left) = (host(conv.above.val()), host(conv.left.val()));
        let centre = conv.centre.as_ref().map(|centre| host(centre.val()));
        let bias = host(conv.bias.val());
        let (many, far) = (reach * columns, reach as isize);
        let over = (0..many).map(|tap| {
            let (row, column) = ((tap / columns) as isize, (tap % columns) as isize);
            [row - far, column - far]
        });
        let beside = (0..reach).map(|tap| [0, tap as isize - far]);
        let part = |group: usize| {
            let own = features(outputs, groups, group);
            let prefix = match &centre {
                Some(_) => conv.mask.prefix(inputs, groups, group),
                None => 0,
            };
            let mut matrix: Vec<f32> = vec![];
            for tap in 0..many {
                add_tap(&mut matrix, &above, [inputs, many, tap], inputs, &own);
            }
            for tap in 0..reach {
                add_tap(&mut matrix, &left, [inputs, reach, tap], inputs, &own);
            }
            if let Some(centre) = &centre {
                add_tap(&mut matrix, centre, [inputs, 1, 0], prefix, &own);
            }
            let rows = (many + reach) * inputs + prefix;
            Part {
                dense: Dense::new(&matrix, rows, own.len(), Some(&bias[own.clone()])),
                outputs: own,
                prefix,
            }
        };
        Self {
            parts: (0..groups).map(part).collect(),
            taps: over.chain(beside).collect(),
            outputs,
        }
    }

    fn pointwise(conv: &Conv2d, groups: usize) -> Self {
        let [outputs, inputs, _, _] = conv.weight.dims();
        let weight = host(conv.weight.val());
        let bias = conv.bias.as_ref().map(|bias| host(bias.val()));
        let part = |group: usize| {
            let own = features(outputs, groups, group);
            let prefix = Mask::B.prefix(inputs, groups, group);
            let mut matrix: Vec<f32> = vec![];
            add_tap(&mut matrix, &weight, [inputs, 1, 0], prefix, &own);
            let bias = bias.as_ref().map(|bias| &bias[own.clone()]);
            Part {
                dense: Dense::new(&matrix, prefix, own.len(), bias),
                outputs: own,
                prefix,
            }
        };
        Self {
            parts: (0..groups).map(part).collect(),
            taps: vec![],
            outputs,
        }
    }

    /// The features of a colour, `[n, those of the colour]`.
    fn compute(&self, group: usize, n: usize, inputs: &[f32], results: &mut Vec<f32>) {
        let part = &self.parts[group];
        results.clear();
        results.resize(n * part.outputs.len(), 0.0);
        part.dense.forward(inputs, n, results);
    }
}

/// For each image, the first `prefix` of `size` features, rectified.
fn rectified(values: &[f32], size: usize, prefix: usize, into: &mut Vec<f32>) {
    into.clear();
    for image in values.chunks_exact(size) {
        into.extend(image[..prefix].iter().map(|value| relu(*value)));
    }
}

/// Writes the features of a colour, `[n, those of the colour]`, to their place in `[n, size]`.
fn place(results: &[f32], outputs: &Range<usize>, size: usize, values: &mut [f32]) {
    let images = results.chunks_exact(outputs.len());
    for (image, results) in values.chunks_exact_mut(size).zip(images) {
        image[outputs.clone()].copy_from_slice(results);
    }
}

struct Block {
    reduce: Layer,
    masked: Layer,
    expand: Layer,
    /// What the class adds behind the masked convolution, `[n, width]`.
    class: Option<Vec<f32>>,
    /// What the masked convolution reads.
    kept: Rows,
    /// What it gives at the pixel at hand, `[n, width]`.
    seen: Vec<f32>,
    /// The block's result at the pixel at hand, `[n, 2 · width]`.
    result: Vec<f32>,
}

pub(super) struct PixelCnnStepper {
    n: usize,
    /// Between two values.
    scale: f32,
    first: Layer,
    blocks: Vec<Block>,
    head: Layer,
    out: Layer,
    pixels: Rows,
    /// The first layer's result at the pixel at hand, `[n, 2 · width]`.
    start: Vec<f32>,
    /// The head's result at the pixel at hand, `[n, head]`.
    last: Vec<f32>,
    /// The last position whose features are computed.
    done: Option<Position>,
    inputs: Vec<f32>,
    results: Vec<f32>,
}

impl PixelCnnStepper {
    pub(super) fn new(net: &PixelCnnNet, n: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, n);
        let (channels, columns) = (net.spec.channels, net.spec.width);
        let first = Layer::masked(&net.first, channels);
        let blocks = net.blocks.iter().map(|block| {
            let masked = Layer::masked(&block.masked, channels);
            let expand = Layer::pointwise(&block.expand, channels);
            let told = block.class.as_ref().zip(labels);
            let class = told.map(|(table, labels)| class_rows(table.weight.val(), labels));
            Block {
                reduce: Layer::pointwise(&block.reduce, channels),
                class,
                kept: Rows::new(1, columns, n, masked.outputs),
                seen: vec![0.0; n * masked.outputs],
                result: vec![0.0; n * expand.outputs],
                masked,
                expand,
            }
        });
        let blocks: Vec<Block> = blocks.collect();
        let head = Layer::pointwise(&net.head, channels);
        Self {
            n,
            scale: net.scale(),
            pixels: Rows::new(super::REACH, columns, n, channels),
            start: vec![0.0; n * first.outputs],
            last: vec![0.0; n * head.outputs],
            first,
            blocks,
            head,
            out: Layer::pointwise(&net.out, channels),
            done: None,
            inputs: vec![],
            results: vec![],
        }
    }

    /// Computes the features of a sub-pixel's colour up to the head, once.
    fn advance(&mut self, at: Position) {
        if self.done == Some(at) {
            return;
        }
        self.done = Some(at);
        let (n, group, pixel) = (self.n, at.channel, [at.y, at.x]);
        let Self {
            first,
            blocks,
            head,
            pixels,
            start,
            last,
            inputs,
            results,
            ..
        } = self;
        pixels.gather(pixel, &first.taps, first.parts[group].prefix, inputs);
        first.compute(group, n, inputs, results);
        place(results, &first.parts[group].outputs, first.outputs, start);
        let mut stream: &[f32] = start;
        let size = first.outputs;
        for block in blocks {
            let Block {
                reduce,
                masked,
                expand,
                class,
                kept,
                seen,
                result,
            } = block;
            rectified(stream, size, reduce.parts[group].prefix, inputs);
            reduce.compute(group, n, inputs, results);
            let own = &reduce.parts[group].outputs;
            for (image, results) in results.chunks_exact(own.len()).enumerate() {
                let from = kept.at(at.y as isize, at.x as isize, image) + own.start;
                let values = kept.values[from..from + own.len()].iter_mut();
                values
                    .zip(results)
                    .for_each(|(kept, new)| *kept = relu(*new));
            }

            kept.gather(pixel, &masked.taps, masked.parts[group].prefix, inputs);
            masked.compute(group, n, inputs, results);
            let own = &masked.parts[group].outputs;
            if let Some(class) = class {
                let images = class.chunks_exact(masked.outputs);
                for (results, class) in results.chunks_exact_mut(own.len()).zip(images) {
                    let added = results.iter_mut().zip(&class[own.clone()]);
                    added.for_each(|(result, class)| *result += class);
                }
            }
            place(results, own, masked.outputs, seen);

            rectified(seen, masked.outputs, expand.parts[group].prefix, inputs);
            expand.compute(group, n, inputs, results);
            let own = &expand.parts[group].outputs;
            let images = stream.chunks_exact(size);
            for (results, stream) in results.chunks_exact_mut(own.len()).zip(images) {
                let added = results.iter_mut().zip(&stream[own.clone()]);
                added.for_each(|(result, stream)| *result += stream);
            }
            place(results, own, size, result);
            stream = result;
        }
        rectified(stream, size, head.parts[group].prefix, inputs);
        head.compute(group, n, inputs, results);
        place(results, &head.parts[group].outputs, head.outputs, last);
    }
}

impl Stepper for PixelCnnStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        self.advance(at);
        let (group, inputs) = (at.channel, &mut self.inputs);
        let prefix = self.out.parts[group].prefix;
        rectified(&self.last, self.head.outputs, prefix, inputs);
        self.out.compute(group, self.n, inputs, &mut self.results);
        out.copy_from_slice(&self.results);
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        self.advance(at);
        for (image, value) in values.iter().enumerate() {
            let to = self.pixels.at(at.y as isize, at.x as isize, image) + at.channel;
            self.pixels.values[to] = f32::from(*value) * self.scale;
        }
    }
}
