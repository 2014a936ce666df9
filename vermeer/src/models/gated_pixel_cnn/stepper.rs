//! The network one position at a time.
//!
//! The features of the rows above depend on rows of the image that are finished, so a whole row of
//! them is computed at its first pixel. The features of the row are computed pixel by pixel, of
//! colour images group by group, and those of the pixels to the left are kept.

use vermeer_kernels::dense::Dense;
use vermeer_kernels::gate::gate_into;

use super::GatedPixelCnnNet;
use super::masked::Masked;
use crate::autoregressive::{Autoregressive, Position, Stepper, check_labels, class_rows};
use crate::nn::host;

/// A convolution over finished rows.
struct Above {
    taps: Vec<(isize, isize, Dense)>,
    bias: Vec<f32>,
}

impl Above {
    fn new(of: &Masked) -> Self {
        let bias = of.bias();
        let taps = of.taps().into_iter().map(|tap| {
            let inputs = tap.weight.len() / bias.len();
            (
                tap.dy,
                tap.dx,
                Dense::new(&tap.weight, inputs, bias.len(), None),
            )
        });
        Self {
            taps: taps.collect(),
            bias,
        }
    }

    /// How many rows above are seen.
    fn reach(&self) -> usize {
        let far = self.taps.iter().map(|(dy, _, _)| dy.unsigned_abs());
        far.max().unwrap_or(0)
    }

    /// Adds what is seen of the rows in `source` at row `y` to `out`, `[width, n, outputs]`.
    fn add(&self, source: &Rows, y: usize, out: &mut [f32]) {
        for (dy, dx, dense) in &self.taps {
            let Some(row) = y.checked_add_signed(*dy) else {
                continue;
            };
            // Columns of the result whose source lies in the image.
            let from = (-dx).max(0) as usize;
            let to = source.width.saturating_sub(dx.max(&0).unsigned_abs());
            if from >= to {
                continue;
            }
            let first = from.saturating_add_signed(*dx);
            let count = (to - from) * source.n;
            let x = &source.row(row)[first * source.n * dense.inputs()..][..count * dense.inputs()];
            let out = &mut out[from * source.n * dense.outputs()..][..count * dense.outputs()];
            dense.add_to(x, count, out);
        }
    }
}

/// The last few rows of something, each `[width, n, size]`.
struct Rows {
    kept: usize,
    width: usize,
    n: usize,
    size: usize,
    data: Vec<f32>,
}

impl Rows {
    fn new(kept: usize, width: usize, n: usize, size: usize) -> Self {
        Self {
            kept,
            width,
            n,
            size,
            data: vec![0.0; kept * width * n * size],
        }
    }

    fn row(&self, y: usize) -> &[f32] {
        let len = self.width * self.n * self.size;
        &self.data[y % self.kept * len..][..len]
    }

    fn row_mut(&mut self, y: usize) -> &mut [f32] {
        let len = self.width * self.n * self.size;
        &mut self.data[y % self.kept * len..][..len]
    }
}

/// A convolution along the row, for each group of features of its own: the groups of a result that
/// has `parts` halves are taken from each half.
struct Along {
    /// `[group][tap]`: the distance and the weight.
    groups: Vec<Vec<(isize, Dense)>>,
    /// `[group][outputs of the group]`.
    biases: Vec<Vec<f32>>,
}

impl Along {
    fn new(of: &Masked, groups: usize, parts: usize) -> Self {
        let bias = of.bias();
        let taps = of.taps();
        let of_group = |group: usize| columns(bias.len(), group, groups, parts);
        let weights = |group: usize| -> Vec<(isize, Dense)> {
            let chosen = of_group(group);
            let pack = |tap: &super::masked::Tap| {
                let inputs = tap.weight.len() / bias.len();
                let mut weight = Vec::with_capacity(inputs * chosen.len());
                for row in tap.weight.chunks_exact(bias.len()) {
                    weight.extend(chosen.iter().map(|column| row[*column]));
                }
                (tap.dx, Dense::new(&weight, inputs, chosen.len(), None))
            };
            taps.iter().map(pack).collect()
        };
        Self {
            groups: (0..groups).map(weights).collect(),
            biases: (0..groups)
                .map(|group| of_group(group).iter().map(|c| bias[*c]).collect())
                .collect(),
        }
    }

    /// Adds what a group sees at column `x` of a row `[width, n, inputs]` to `out`,
    /// `[n, outputs of the group]`.
    fn add(&self, group: usize, row: &[f32], x: usize, n: usize, out: &mut [f32]) {
        for (dx, dense) in &self.groups[group] {
            if let Some(column) = x.checked_add_signed(*dx) {
                let size = n * dense.inputs();
                dense.add_to(&row[column * size..][..size], n, out);
            }
        }
    }
}

/// The columns of a group in a result of `outputs` columns with `parts` parts.
fn columns(outputs: usize, group: usize, groups: usize, parts: usize) -> Vec<usize> {
    let (part, size) = (outputs / parts, outputs / parts / groups);
    (0..parts)
        .flat_map(|p| (0..size).map(move |i| p * part + group * size + i))
        .collect()
}

/// A gated layer.
struct Step {
    vertical: Above,
    /// What each image's class adds, `[n, 2 · width]`.
    classes: Option<Vec<f32>>,
    across: Dense,
    horizontal: Along,
    mix: Along,
    /// The features of finished rows that come in.
    v: Rows,
    /// What the rows above give this row, `[width, n, 2 · features]`.
    above: Vec<f32>,
    /// The features of this row that come in, `[width, n, features]`.
    h: Vec<f32>,
    /// The gates of this pixel, `[n, features]`.
    gated: Vec<f32>,
}

/// A [`GatedPixelCnnNet`] with its caches, for `n` images.
pub(super) struct GatedStepper {
    n: usize,
    height: usize,
    width: usize,
    groups: usize,
    features: usize,
    scale: f32,
    /// What stands for each value, `[levels, size]`; nothing where it is a brightness.
    embedding: Option<Vec<f32>>,
    vertical: Above,
    horizontal: Along,
    steps: Vec<Step>,
    out: Along,
    /// The image as the network sees it: −1 to 1, or the vectors of its values.
    image: Rows,
    /// The features behind the last layer, of this pixel, `[n, features]`.
    last: Vec<f32>,
    /// The features of a row before the gate, `[width, n, 2 · features]`.
    row: Vec<f32>,
    /// Groups of pixels whose features are computed.
    done: usize,
}

impl GatedStepper {
    pub(super) fn new(net: &GatedPixelCnnNet, n: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, n);
        let [channels, height, width] = net.spec().shape();
        let features = net.config.width;
        let first = Above::new(&net.first.vertical);
        let table = net.embedding.as_ref().map(|embedding| &embedding.weight);
        let inputs = table.map_or(channels, |weight| weight.dims()[1]);
        let steps = net.layers.iter().map(|layer| {
            let vertical = Above::new(&layer.vertical);
            let told = layer.classes.as_ref().zip(labels);
            let classes = told.map(|(table, labels)| class_rows(table.val(), labels));
            // The bias of the row's own convolution is added with the rows above.
            let mut bias = layer.across.bias();
            for (bias, own) in bias.iter_mut().zip(layer.horizontal.bias()) {
                *bias += own;
            }
            let taps = layer.across.taps();
            Step {
                across: Dense::new(&taps[0].weight, 2 * features, 2 * features, Some(&bias)),
                horizontal: Along::new(&layer.horizontal, channels, 2),
                mix: Along::new(&layer.mix, channels, 1),
                v: Rows::new(vertical.reach() + 1, width, n, features),
                above: vec![0.0; width * n * 2 * features],
                h: vec![0.0; width * n * features],
                gated: vec![0.0; n * features],
                vertical,
                classes,
            }
        });
        Self {
            n,
            height,
            width,
            groups: channels,
            features,
            scale: net.scale(),
            embedding: table.map(|weight| host(weight.val())),
            horizontal: Along::new(&net.first.horizontal, channels, 1),
            steps: steps.collect(),
            out: Along::new(&net.out, channels, 1),
            image: Rows::new(first.reach().max(1) + 1, width, n, inputs),
            vertical: first,
            last: vec![0.0; n * features],
            row: vec![0.0; width * n * 2 * features],
            done: 0,
        }
    }

    /// The features of the rows above, for all pixels of row `y`.
    fn begin_row(&mut self, y: usize) {
        let (n, features) = (self.n, self.features);
        let Some(first) = self.steps.first_mut() else {
            return;
        };
        let v = first.v.row_mut(y);
        for pixel in v.chunks_exact_mut(features) {
            pixel.copy_from_slice(&self.vertical.bias);
        }
        self.vertical.add(&self.image, y, v);
        // The image's row is about to be filled; what stood there lies too far above to be seen.
        self.image.row_mut(y).fill(0.0);
        let pixels = self.width * n;
        for i in 0..self.steps.len() {
            let (before, after) = self.steps.split_at_mut(i + 1);
            let step = &mut before[i];
            for (at, pixel) in self.row.chunks_exact_mut(2 * features).enumerate() {
                pixel.copy_from_slice(&step.vertical.bias);
                if let Some(classes) = &step.classes {
                    let class = &classes[at % n * 2 * features..][..2 * features];
                    for (value, class) in pixel.iter_mut().zip(class) {
                        *value += class;
                    }
                }
            }
            step.vertical.add(&step.v, y, &mut self.row);
            step.across.forward(&self.row, pixels, &mut step.above);
            if let Some(next) = after.first_mut() {
                gate_into(&self.row, features, next.v.row_mut(y));
            }
        }
    }

    /// The features of one group at column `x` of row `y`.
    fn compute(&mut self, y: usize, x: usize, group: usize) {
        let (n, features) = (self.n, self.features);
        let size = features / self.groups;
        let row = self.image.row(y);
        let mut own = vec![0.0f32; n * size];
        repeat(&self.horizontal.biases[group], &mut own);
        self.horizontal.add(group, row, x, n, &mut own);
        let mut both = vec![0.0f32; n * 2 * size];
        let mut gated = vec![0.0f32; n * size];
        for i in 0..self.steps.len() {
            let (before, after) = self.steps.split_at_mut(i + 1);
            let step = &mut before[i];
            let h = &mut step.h[x * n * features..][..n * features];
            put_group(&own, h, group, size);
            let above = &step.above[x * n * 2 * features..][..n * 2 * features];
            for (pixel, above) in both
                .chunks_exact_mut(2 * size)
                .zip(above.chunks_exact(2 * features))
            {
                let (a, b) = pixel.split_at_mut(size);
                a.copy_from_slice(&above[group * size..][..size]);
                b.copy_from_slice(&above[features + group * size..][..size]);
            }
            step.horizontal.add(group, &step.h, x, n, &mut both);
            gate_into(&both, size, &mut gated);
            put_group(&gated, &mut step.gated, group, size);
            // The next features are these plus the mixed gates.
            for pixel in own.chunks_exact_mut(size) {
                for (value, bias) in pixel.iter_mut().zip(&step.mix.biases[group]) {
                    *value += bias;
                }
            }
            step.mix.add(group, &step.gated, 0, n, &mut own);
            if after.is_empty() {
                put_group(&own, &mut self.last, group, size);
            }
        }
    }

    /// Computes features up to a position, whose earlier values are known.
    fn advance(&mut self, at: Position) {
        let index = (at.y * self.width + at.x) * self.groups + at.channel;
        debug_assert!(index <= self.done && at.y < self.height, "in order");
        if index < self.done {
            return;
        }
        if at.x == 0 && at.channel == 0 {
            self.begin_row(at.y);
        }
        self.compute(at.y, at.x, at.channel);
        self.done = index + 1;
    }
}

/// Copies `values` to every row of `out`.
fn repeat(values: &[f32], out: &mut [f32]) {
    for row in out.chunks_exact_mut(values.len()) {
        row.copy_from_slice(values);
    }
}

/// Writes the features `[n, size]` of a group into `[n, features]`.
fn put_group(from: &[f32], to: &mut [f32], group: usize, size: usize) {
    let features = to.len() / (from.len() / size);
    for (from, to) in from.chunks_exact(size).zip(to.chunks_exact_mut(features)) {
        to[group * size..][..size].copy_from_slice(from);
    }
}

impl Stepper for GatedStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        self.advance(at);
        let active: Vec<f32> = self
            .last
            .iter()
            .map(|x| if *x > 0.0 { *x } else { x.exp_m1() })
            .collect();
        repeat(&self.out.biases[at.channel], out);
        self.out.add(at.channel, &active, 0, self.n, out);
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        self.advance(at);
        let (groups, scale) = (self.groups, self.scale);
        let (n, size) = (self.n, self.image.size);
        let start = at.x * n * groups + at.channel;
        let row = self.image.row_mut(at.y);
        if let Some(table) = &self.embedding {
            let pixels = row[at.x * n * size..][..n * size].chunks_exact_mut(size);
            for (pixel, value) in pixels.zip(values) {
                pixel.copy_from_slice(&table[usize::from(*value) * size..][..size]);
            }
            return;
        }
        for (image, value) in values.iter().enumerate() {
            row[start + image * groups] = f32::from(*value) * scale - 1.0;
        }
    }
}
