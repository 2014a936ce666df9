//! The transformer one place at a time: keys and values of earlier places are kept.

use vermeer_kernels::dense::Dense;
use vermeer_kernels::nn::Linear;

use super::transformer::{Block, EPSILON, HEADS, LayerNorm, TransformerNet};
use crate::autoregressive::{Autoregressive, Position, Stepper, check_labels, class_rows};
use crate::nn::host;

/// Scale and shift of a normalisation.
struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Norm {
    fn new(of: &LayerNorm) -> Self {
        Self {
            gamma: host(of.gamma.val()),
            beta: host(of.beta.val()),
        }
    }

    /// The rows of `x` normalised into `out`.
    fn forward(&self, x: &[f32], out: &mut [f32]) {
        let size = self.gamma.len();
        for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
            let mean = x.iter().sum::<f32>() / size as f32;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / size as f32;
            let scale = 1.0 / (variance + EPSILON).sqrt();
            for (i, out) in out.iter_mut().enumerate() {
                *out = (x[i] - mean) * scale * self.gamma[i] + self.beta[i];
            }
        }
    }
}

fn dense(of: &Linear) -> Dense {
    let [inputs, outputs] = of.weight.dims();
    let bias = of.bias.as_ref().map(|bias| host(bias.val()));
    Dense::new(&host(of.weight.val()), inputs, outputs, bias.as_deref())
}

/// A block with what it keeps of earlier places.
struct Step {
    norm1: Norm,
    qkv: Dense,
    mix: Dense,
    norm2: Norm,
    up: Dense,
    down: Dense,
    /// `[n, l, width]`.
    keys: Vec<f32>,
    /// `[n, l, width]`.
    values: Vec<f32>,
}

impl Step {
    fn new(block: &Block, kept: usize) -> Self {
        Self {
            norm1: Norm::new(&block.norm1),
            qkv: dense(&block.qkv),
            mix: dense(&block.mix),
            norm2: Norm::new(&block.norm2),
            up: dense(&block.up),
            down: dense(&block.down),
            keys: vec![0.0; kept],
            values: vec![0.0; kept],
        }
    }

    /// Adds to `h` `[n, width]` what the block makes of it at `place` of `length`.
    fn forward(&mut self, h: &mut [f32], n: usize, place: usize, length: usize) {
        let width = h.len() / n;
        let mut x = vec![0.0f32; n * width];
        self.norm1.forward(h, &mut x);
        let mut qkv = vec![0.0f32; n * 3 * width];
        self.qkv.forward(&x, n, &mut qkv);
        for (row, qkv) in qkv.chunks_exact(3 * width).enumerate() {
            let at = (row * length + place) * width;
            self.keys[at..][..width].copy_from_slice(&qkv[width..2 * width]);
            self.values[at..][..width].copy_from_slice(&qkv[2 * width..]);
            let kept = row * length * width..(row * length + place + 1) * width;
            attend(
                &qkv[..width],
                &self.keys[kept.clone()],
                &self.values[kept],
                &mut x[row * width..][..width],
            );
        }
        let mut mixed = vec![0.0f32; n * width];
        self.mix.forward(&x, n, &mut mixed);
        add(h, &mixed);
        self.norm2.forward(h, &mut x);
        let mut inner = vec![0.0f32; n * self.up.outputs()];
        self.up.forward(&x, n, &mut inner);
        inner.iter_mut().for_each(|x| *x = gelu(*x));
        self.down.forward(&inner, n, &mut mixed);
        add(h, &mixed);
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}

/// What one place sees, `[width]`: values `[places, width]` weighed by how its query meets their
/// keys, head by head.
fn attend(query: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
    let width = query.len();
    let size = width / HEADS;
    let scale = 1.0 / (size as f32).sqrt();
    let mut weights = vec![0.0f32; keys.len() / width];
    for head in 0..HEADS {
        let own = head * size..(head + 1) * size;
        for (weight, key) in weights.iter_mut().zip(keys.chunks_exact(width)) {
            let pairs = query[own.clone()].iter().zip(&key[own.clone()]);
            *weight = pairs.map(|(q, k)| q * k).sum::<f32>() * scale;
        }
        let largest = weights.iter().fold(f32::NEG_INFINITY, |m, w| m.max(*w));
        weights
            .iter_mut()
            .for_each(|weight| *weight = (*weight - largest).exp());
        let total: f32 = weights.iter().sum();
        let out = &mut out[own.clone()];
        out.fill(0.0);
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            for (out, value) in out.iter_mut().zip(&value[own.clone()]) {
                *out += weight / total * value;
            }
        }
    }
}

fn gelu(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// A [`TransformerNet`] with its caches, for `n` maps.
pub(super) struct TransformerStepper {
    n: usize,
    /// Columns of the map.
    columns: usize,
    /// Places of the map.
    length: usize,
    /// `[K, width]`.
    codes: Vec<f32>,
    /// `[l, width]`.
    positions: Vec<f32>,
    /// What each map's class adds, `[n, width]`; zeros without classes.
    classes: Vec<f32>,
    steps: Vec<Step>,
    norm: Norm,
    out: Dense,
    /// The codes of the place before, `[n]`; none at the first place.
    before: Option<Vec<u16>>,
    /// The features of the last place computed, `[n, width]`.
    last: Vec<f32>,
    /// Places computed.
    done: usize,
}

impl TransformerStepper {
    pub(super) fn new(net: &TransformerNet, n: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, n);
        let map = net.spec();
        let length = map.height * map.width;
        let positions = host(net.positions.weight.val());
        let width = positions.len() / length;
        let told = net.classes.as_ref().zip(labels);
        let classes = told.map_or_else(
            || vec![0.0; n * width],
            |(table, labels)| class_rows(table.weight.val(), labels),
        );
        let blocks = net.blocks.iter();
        Self {
            n,
            columns: map.width,
            length,
            codes: host(net.codes.weight.val()),
            positions,
            classes,
            steps: blocks
                .map(|block| Step::new(block, n * length * width))
                .collect(),
            norm: Norm::new(&net.norm),
            out: dense(&net.out),
            before: None,
            last: vec![0.0; n * width],
            done: 0,
        }
    }

    /// Computes the features of a place, whose earlier codes are known.
    fn advance(&mut self, at: Position) {
        let place = at.y * self.columns + at.x;
        debug_assert!(place <= self.done, "in order");
        if place < self.done || self.n == 0 {
            return;
        }
        let width = self.positions.len() / self.length;
        let mut h = self.classes.clone();
        for (row, h) in h.chunks_exact_mut(width).enumerate() {
            add(h, &self.positions[place * width..][..width]);
            if let Some(before) = &self.before {
                add(h, &self.codes[usize::from(before[row]) * width..][..width]);
            }
        }
        for step in &mut self.steps {
            step.forward(&mut h, self.n, place, self.length);
        }
        self.last = h;
        self.done = place + 1;
    }
}

impl Stepper for TransformerStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        self.advance(at);
        let mut x = vec![0.0f32; self.last.len()];
        self.norm.forward(&self.last, &mut x);
        self.out.forward(&x, self.n, out);
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        self.advance(at);
        self.before = Some(values.to_vec());
    }
}
