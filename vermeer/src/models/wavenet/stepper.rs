//! A WaveNet one sub-pixel at a time, on the host. Each layer keeps as many of its past inputs as its
//! dilation looks back.

use burn::nn::Embedding;
use burn::prelude::*;
use vermeer_kernels::dense::Dense;
use vermeer_kernels::gate::gate_into;
use vermeer_kernels::nn::Conv2d;

use super::WaveNetNet;
use crate::autoregressive::{Position, Stepper, check_labels, class_rows, dense, relu};
use crate::nn::host;

/// A 1×1 convolution.
fn pointwise(conv: &Conv2d) -> Dense {
    dense(conv.weight.val(), conv.bias.as_ref().map(|bias| bias.val()))
}

/// 1×1 convolutions of the same features as one matrix, their outputs side by side.
fn joined(first: &Conv2d, second: &Conv2d) -> Dense {
    let weights = vec![first.weight.val(), second.weight.val()];
    let biases = first.bias.as_ref().zip(second.bias.as_ref());
    let bias = biases.map(|(first, second)| Tensor::cat(vec![first.val(), second.val()], 0));
    dense(Tensor::cat(weights, 0), bias)
}

/// A table of vectors.
struct Table {
    values: Vec<f32>,
    width: usize,
}

impl Table {
    fn new(embedding: &Embedding) -> Self {
        Self {
            values: host(embedding.weight.val()),
            width: embedding.weight.dims()[1],
        }
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// Adds a row to a vector.
    fn add(&self, index: usize, to: &mut [f32]) {
        let sums = to.iter_mut().zip(self.row(index));
        sums.for_each(|(sum, value)| *sum += value);
    }
}

struct Layer {
    gates: Dense,
    /// What the class adds to filter and gate, `[n, 2 · width]`.
    class: Option<Vec<f32>>,
    /// To the features of the next layer, where there is one, and to the skip sum.
    onward: Dense,
    is_last: bool,
    /// The last `dilation` inputs of each image, `[dilation, n, width]`.
    past: Vec<f32>,
    dilation: usize,
}

pub(super) struct WaveNetStepper {
    n: usize,
    width: usize,
    skip: usize,
    channels: usize,
    columns: usize,
    value: Table,
    row: Option<Table>,
    column: Option<Table>,
    channel: Option<Table>,
    layers: Vec<Layer>,
    head: Dense,
    out: Dense,
    /// The values before the position at hand.
    before: Vec<usize>,
    /// The last position whose skip sum is computed.
    done: Option<Position>,
    /// `[n, width]`.
    h: Vec<f32>,
    /// `[n, skip]`.
    sum: Vec<f32>,
    /// `[n, 2 · width]`: the input before and the one at hand.
    inputs: Vec<f32>,
    /// `[n, 2 · width]`: filter and gate.
    gates: Vec<f32>,
    /// `[n, width]`.
    z: Vec<f32>,
    /// Features of the next layer and of the skip sum.
    both: Vec<f32>,
    /// `[n, skip]`.
    last: Vec<f32>,
}

impl WaveNetStepper {
    pub(super) fn new(net: &WaveNetNet, n: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, n);
        let (width, skip) = (net.config.width, net.config.skip);
        let layers = net.layers.iter().map(|layer| {
            let told = layer.class.as_ref().zip(labels);
            let class = told.map(|(table, labels)| class_rows(table.weight.val(), labels));
            let dilation = layer.gates.dilation;
            Layer {
                gates: dense(layer.gates.weight.val(), Some(layer.gates.bias.val())),
                class,
                onward: match &layer.residual {
                    Some(residual) => joined(residual, &layer.skip),
                    None => pointwise(&layer.skip),
                },
                is_last: layer.residual.is_none(),
                past: vec![0.0; dilation * n * width],
                dilation,
            }
        });
        let layers: Vec<Layer> = layers.collect();
        Self {
            n,
            width,
            skip,
            channels: net.spec.channels,
            columns: net.spec.width,
            value: Table::new(&net.value),
            row: net.row.as_ref().map(Table::new),
            column: net.column.as_ref().map(Table::new),
            channel: net.channel.as_ref().map(Table::new),
            layers,
            head: pointwise(&net.head),
            out: pointwise(&net.out),
            before: vec![net.config.levels; n],
            done: None,
            h: vec![0.0; n * width],
            sum: vec![0.0; n * skip],
            inputs: vec![0.0; n * 2 * width],
            gates: vec![0.0; n * 2 * width],
            z: vec![0.0; n * width],
            both: vec![],
            last: vec![0.0; n * skip],
        }
    }

    /// Computes the skip sum of a position, once.
    fn advance(&mut self, at: Position) {
        if self.done == Some(at) {
            return;
        }
        self.done = Some(at);
        let (n, width, skip) = (self.n, self.width, self.skip);
        for (h, value) in self.h.chunks_exact_mut(width).zip(&self.before) {
            h.copy_from_slice(self.value.row(*value));
            let places = [
                (&self.row, at.y),
                (&self.column, at.x),
                (&self.channel, at.channel),
            ];
            for (table, index) in places {
                if let Some(table) = table {
                    table.add(index, h);
                }
            }
        }
        let t = (at.y * self.columns + at.x) * self.channels + at.channel;
        self.sum.fill(0.0);
        for layer in &mut self.layers {
            let slot = t % layer.dilation * n * width;
            let past = &mut layer.past[slot..slot + n * width];
            for (image, inputs) in self.inputs.chunks_exact_mut(2 * width).enumerate() {
                let own = image * width..(image + 1) * width;
                inputs[..width].copy_from_slice(&past[own.clone()]);
                inputs[width..].copy_from_slice(&self.h[own]);
            }
            past.copy_from_slice(&self.h);
            layer.gates.forward(&self.inputs, n, &mut self.gates);
            if let Some(class) = &layer.class {
                let sums = self.gates.iter_mut().zip(class);
                sums.for_each(|(sum, class)| *sum += class);
            }
            gate_into(&self.gates, width, &mut self.z);
            let onward = if layer.is_last { 0 } else { width };
            self.both.clear();
            self.both.resize(n * (onward + skip), 0.0);
            layer.onward.forward(&self.z, n, &mut self.both);
            for (image, both) in self.both.chunks_exact(onward + skip).enumerate() {
                let (next, skipped) = both.split_at(onward);
                let h = self.h[image * width..].iter_mut().zip(next);
                h.for_each(|(h, next)| *h += next);
                let sum = self.sum[image * skip..].iter_mut().zip(skipped);
                sum.for_each(|(sum, skipped)| *sum += skipped);
            }
        }
    }
}

/// max(x, 0) of every number.
fn rectify(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = relu(*value));
}

impl Stepper for WaveNetStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        self.advance(at);
        rectify(&mut self.sum);
        self.head.forward(&self.sum, self.n, &mut self.last);
        rectify(&mut self.last);
        self.out.forward(&self.last, self.n, out);
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        self.advance(at);
        for (before, value) in self.before.iter_mut().zip(values) {
            *before = usize::from(*value);
        }
    }
}
