//! The network one position at a time. The caches hold the features of a row and the states and
//! memories of two rows for each layer; the sweep from the right follows when a row is finished,
//! so that its work is shared by the pixels of the row.

use std::ops::Range;

use burn::prelude::*;
use vermeer_kernels::dense::Dense;
use vermeer_kernels::nn::Conv2d;
use vermeer_kernels::recurrent::{gru_into, lstm_into};

use super::net::{PixelRnnNet, STEM_COLUMNS, STEM_ROWS};
use super::recurrence::Recurrence;
use super::{PixelRnnCell, PixelRnnConfig};
use crate::autoregressive::{Position, Stepper, check_labels, class_rows, outputs_of, relu};
use crate::nn::host;

/// The tap `tap` of a weight `[k, c, 1, taps]` as a matrix of `c` inputs and `k` outputs.
fn tap(weight: &[f32], [k, c, taps]: [usize; 3], tap: usize, bias: Option<&[f32]>) -> Dense {
    let mut matrix = vec![0.0; c * k];
    for (input, row) in matrix.chunks_exact_mut(k).enumerate() {
        for (output, value) in row.iter_mut().enumerate() {
            *value = weight[(output * c + input) * taps + tap];
        }
    }
    Dense::new(&matrix, c, k, bias)
}

fn bias(layer: &Conv2d) -> Vec<f32> {
    match &layer.bias {
        Some(bias) => host(bias.val()),
        None => vec![],
    }
}

/// A pointwise layer with its masked weight.
fn pointwise(weight: Tensor<4>, layer: &Conv2d) -> Dense {
    let [k, c, _, _] = weight.dims();
    tap(&host(weight), [k, c, 1], 0, Some(&bias(layer)))
}

/// Two rows of numbers, `[width, n · size]` each; row `y` takes the place of row `y − 2`.
struct Rows {
    data: [Vec<f32>; 2],
    width: usize,
    size: usize,
}

impl Rows {
    fn new(width: usize, size: usize) -> Self {
        Self {
            data: [vec![0.0; width * size], vec![0.0; width * size]],
            width,
            size,
        }
    }

    fn part(&self, x: usize) -> Range<usize> {
        x * self.size..(x + 1) * self.size
    }

    fn at(&self, y: usize, x: usize) -> &[f32] {
        &self.data[y % 2][self.part(x)]
    }

    fn at_mut(&mut self, y: usize, x: usize) -> &mut [f32] {
        let part = self.part(x);
        &mut self.data[y % 2][part]
    }

    /// The numbers `up` rows above and `right` columns to the right, inside the image.
    fn near(&self, y: usize, x: usize, (up, right): (usize, isize)) -> Option<&[f32]> {
        let x = x.checked_add_signed(right).filter(|x| *x < self.width)?;
        Some(self.at(y.checked_sub(up)?, x))
    }
}

/// One direction of a layer, in columns that are counted from where it starts.
struct Direction {
    cell: PixelRnnCell,
    hidden: usize,
    /// Of the own pixel, with the bias.
    own: Dense,
    /// Of the pixel beside, for rows.
    beside: Option<Dense>,
    /// Of the states before, and where they are.
    states: Vec<((usize, isize), Dense)>,
    state: Rows,
    memory: Rows,
}

impl Direction {
    fn new(net: &Recurrence, n: usize, width: usize) -> Self {
        let weight = net.input_weight();
        let [k, c, _, taps] = weight.dims();
        let (weight, of_bias) = (host(weight), bias(&net.input));
        let beside = (taps > 1).then(|| tap(&weight, [k, c, taps], 0, None));
        let places: &[(usize, isize)] = match net.cell {
            PixelRnnCell::RowLstm | PixelRnnCell::RowGru => &[(1, -1), (1, 0), (1, 1)],
            PixelRnnCell::DiagonalBilstm => &[(1, 0), (0, -1)],
        };
        let above = host(net.state.weight.val());
        let size = [k, net.hidden, places.len()];
        let states = places.iter().enumerate();
        Self {
            cell: net.cell,
            hidden: net.hidden,
            own: tap(&weight, [k, c, taps], taps - 1, Some(&of_bias)),
            beside,
            states: states
                .map(|(i, place)| (*place, tap(&above, size, i, None)))
                .collect(),
            state: Rows::new(width, n * net.hidden),
            memory: Rows::new(width, n * net.hidden),
        }
    }

    /// Computes the state at a pixel of the features `own`, with those of the pixel on the left
    /// where there is one.
    fn step(&mut self, n: usize, (y, x): (usize, usize), own: &[f32], left: Option<&[f32]>) {
        let gates = match self.cell {
            PixelRnnCell::RowLstm | PixelRnnCell::DiagonalBilstm => 4,
            PixelRnnCell::RowGru => 3,
        };
        let mut a = vec![0.0; n * gates * self.hidden];
        self.own.forward(own, n, &mut a);
        if let (Some(beside), Some(left)) = (&self.beside, left) {
            beside.add_to(left, n, &mut a);
        }
        let mut b = match self.cell {
            PixelRnnCell::RowGru => vec![0.0; a.len()],
            PixelRnnCell::RowLstm | PixelRnnCell::DiagonalBilstm => std::mem::take(&mut a),
        };
        for (place, dense) in &self.states {
            if let Some(state) = self.state.near(y, x, *place) {
                dense.add_to(state, n, &mut b);
            }
        }
        match self.cell {
            PixelRnnCell::RowGru => self.gru((y, x), &mut a, &b),
            PixelRnnCell::RowLstm => self.lstm((y, x), &mut b, (1, 0)),
            PixelRnnCell::DiagonalBilstm => self.lstm((y, x), &mut b, (0, -1)),
        }
    }

    /// A memory that goes on from the one at the place `from`.
    fn lstm(&mut self, (y, x): (usize, usize), gates: &mut [f32], from: (usize, isize)) {
        let mut memory = match self.memory.near(y, x, from) {
            Some(before) => before.to_vec(),
            None => vec![0.0; self.memory.size],
        };
        lstm_into(gates, &mut memory, self.state.at_mut(y, x), self.hidden);
        self.memory.at_mut(y, x).copy_from_slice(&memory);
    }

    fn gru(&mut self, (y, x): (usize, usize), a: &mut [f32], b: &[f32]) {
        let mut state = match self.state.near(y, x, (1, 0)) {
            Some(before) => before.to_vec(),
            None => vec![0.0; self.state.size],
        };
        gru_into(a, b, &mut state, self.hidden);
        self.state.at_mut(y, x).copy_from_slice(&state);
    }
}

/// A layer with the features of the row it reads, `[width, n · 2 · hidden]`.
struct HostLayer {
    directions: Vec<Direction>,
    up: Dense,
    row: Vec<f32>,
}

impl HostLayer {
    /// The sum of the states that a pixel may see, `[n, hidden]`: its own from the left, and that
    /// above it from the right.
    fn states(&mut self, n: usize, width: usize, (y, x): (usize, usize)) -> Vec<f32> {
        let size = self.row.len() / width;
        let own = &self.row[x * size..(x + 1) * size];
        let left = (x > 0).then(|| &self.row[(x - 1) * size..x * size]);
        let mut directions = self.directions.iter_mut();
        let Some(first) = directions.next() else {
            return vec![];
        };
        first.step(n, (y, x), own, left);
        let mut sum = first.state.at(y, x).to_vec();
        for other in directions {
            if let Some(state) = other.state.near(y, width - 1 - x, (1, 0)) {
                for (sum, state) in sum.iter_mut().zip(state) {
                    *sum += state;
                }
            }
        }
        sum
    }

    /// The sweep from the right over a finished row.
    fn finish(&mut self, n: usize, width: usize, y: usize) {
        let size = self.row.len() / width;
        for direction in self.directions.iter_mut().skip(1) {
            for from_right in 0..width {
                let x = width - 1 - from_right;
                let own = &self.row[x * size..(x + 1) * size];
                direction.step(n, (y, from_right), own, None);
            }
        }
    }
}

/// The stepper of the family.
pub(super) struct PixelRnnStepper {
    n: usize,
    /// Channels, height, width.
    shape: [usize; 3],
    features: usize,
    scale: f32,
    /// What is known, `[height, width, n, channels]`, scaled; zero where nothing is.
    pixels: Vec<f32>,
    stem: Dense,
    /// What the class adds to the first features, `[n, features]`.
    of_class: Option<Vec<f32>>,
    layers: Vec<HostLayer>,
    head: Vec<Dense>,
    /// The last layer, for each channel.
    last: Vec<Dense>,
    /// The last features at `fresh`, `[n, features]`.
    reached: Vec<f32>,
    fresh: Option<Position>,
}

impl PixelRnnStepper {
    /// The stepper of `net` for `n` images.
    pub(super) fn new(net: &PixelRnnNet, n: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, n);
        let shape = net.spec.shape();
        let [channels, height, width] = shape;
        let PixelRnnConfig { hidden, levels, .. } = net.config;
        let features = 2 * hidden;
        let stem = host(net.stem_weight());
        let inputs = channels * STEM_ROWS * STEM_COLUMNS;
        let layers = net.layers.iter().map(|layer| HostLayer {
            directions: layer
                .directions
                .iter()
                .map(|direction| Direction::new(direction, n, width))
                .collect(),
            up: pointwise(net.pointwise_weight(&layer.up), &layer.up),
            row: vec![0.0; width * n * features],
        });
        let told = net.label.as_ref().zip(labels);
        let of_class = told.map(|(table, labels)| class_rows(table.weight.val(), labels));
        let (mut head, mut last) = (vec![], vec![]);
        for (i, layer) in net.head.iter().enumerate() {
            let weight = net.pointwise_weight(layer);
            if i + 1 < net.head.len() {
                head.push(pointwise(weight, layer));
                continue;
            }
            let k = outputs_of(levels);
            let [_, c, _, _] = weight.dims();
            let (weight, of_bias) = (host(weight), bias(layer));
            let parts = weight.chunks_exact(k * c).zip(of_bias.chunks_exact(k));
            last = parts
                .map(|(weight, of_bias)| tap(weight, [k, c, 1], 0, Some(of_bias)))
                .collect();
        }
        Self {
            n,
            shape,
            features,
            scale: net.scale(),
            pixels: vec![0.0; height * width * n * channels],
            stem: tap(&stem, [features, inputs, 1], 0, Some(&bias(&net.stem))),
            of_class,
            layers: layers.collect(),
            head,
            last,
            reached: vec![0.0; n * features],
            fresh: None,
        }
    }

    /// What the first convolution sees of each image, `[n, channels · rows · columns]`.
    fn seen(&self, at: Position) -> Vec<f32> {
        let [channels, _, width] = self.shape;
        let taps = STEM_ROWS * STEM_COLUMNS;
        let mut seen = vec![0.0; self.n * channels * taps];
        for place in 0..taps {
            let up = STEM_ROWS - 1 - place / STEM_COLUMNS;
            let right = (place % STEM_COLUMNS) as isize - (STEM_COLUMNS / 2) as isize;
            let x = at.x.checked_add_signed(right).filter(|x| *x < width);
            let (Some(y), Some(x)) = (at.y.checked_sub(up), x) else {
                continue;
            };
            let size = self.n * channels;
            let pixel = &self.pixels[(y * width + x) * size..(y * width + x + 1) * size];
            // Image by image, channel by channel: the order of the patches.
            for (index, value) in pixel.iter().enumerate() {
                seen[index * taps + place] = *value;
            }
        }
        seen
    }

    /// Computes the features of the pixel with what is known of it so far.
    fn advance(&mut self, at: Position) {
        let (n, [_, _, width]) = (self.n, self.shape);
        let seen = self.seen(at);
        let mut x = std::mem::take(&mut self.reached);
        self.stem.forward(&seen, n, &mut x);
        if let Some(of_class) = &self.of_class {
            for (x, of_class) in x.iter_mut().zip(of_class) {
                *x += of_class;
            }
        }
        let size = n * self.features;
        let mut more = vec![0.0; size];
        for layer in &mut self.layers {
            layer.row[at.x * size..(at.x + 1) * size].copy_from_slice(&x);
            let states = layer.states(n, width, (at.y, at.x));
            layer.up.forward(&states, n, &mut more);
            for (x, more) in x.iter_mut().zip(&more) {
                *x += more;
            }
        }
        self.reached = x;
        self.fresh = Some(at);
    }
}

impl Stepper for PixelRnnStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        if self.fresh != Some(at) {
            self.advance(at);
        }
        let mut x = self.reached.clone();
        for layer in &self.head {
            let mut y = vec![0.0; x.len() / layer.inputs() * layer.outputs()];
            layer.forward(&x, self.n, &mut y);
            y.iter_mut().for_each(|v| *v = relu(*v));
            x = y;
        }
        self.last[at.channel].forward(&x, self.n, out);
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        let [channels, _, width] = self.shape;
        let whole = at.channel + 1 == channels;
        if whole && self.fresh != Some(at) {
            self.advance(at);
        }
        let start = (at.y * width + at.x) * self.n * channels + at.channel;
        let places = self.pixels[start..].iter_mut().step_by(channels);
        for (place, value) in places.zip(values) {
            *place = f32::from(*value) * self.scale;
        }
        if whole && at.x + 1 == width {
            for layer in &mut self.layers {
                layer.finish(self.n, width, at.y);
            }
        }
    }
}
