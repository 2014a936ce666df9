//! The network one position at a time, on the host.
//!
//! The stream that sees the rows above is computed a row at a time, when its row begins; the other
//! one pixel by pixel. A scale of half the size is reached at every second row and column only.

use vermeer_kernels::dense::Dense;

use super::PixelCnnPpNet;
use super::layers::{Block, Causal, Enlarging, Rows, Span, elu, product};
use super::mixture::PixelMixture;
use super::streams::{Down, Gated, Up};
use crate::autoregressive::{Position, Stepper, check_labels};
use crate::loss::logistic_mixture::signed;

/// The step to half the size, and the rows it looks at.
#[derive(Debug)]
struct Shrinking {
    layer: Causal,
    large: Rows,
}

/// A scale of a stream on the way down.
#[derive(Debug)]
struct DownScale {
    shrink: Option<Shrinking>,
    blocks: Vec<Block>,
}

/// A scale of a stream on the way up.
#[derive(Debug)]
struct UpScale {
    enlarge: Option<Enlarging>,
    blocks: Vec<Block>,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sight {
    Above,
    Before,
}

/// One of the two streams.
#[derive(Debug)]
struct Stream {
    /// Columns of the image.
    columns: usize,
    down: Vec<DownScale>,
    /// From the smallest scale on.
    up: Vec<UpScale>,
}

impl Stream {
    fn new(
        net: &PixelCnnPpNet,
        sight: Sight,
        columns: usize,
        images: usize,
        labels: Option<&[u32]>,
    ) -> Self {
        let scales = net.down.len();
        let blocks = |layers: &[Gated], scale: usize| -> Vec<Block> {
            let make = |layer: &Gated| Block::new(layer, columns >> scale, images, labels);
            layers.iter().map(make).collect()
        };
        let down = |(scale, stage): (usize, &Down)| {
            let (layers, shrink) = match sight {
                Sight::Above => (&stage.above, stage.shrink.as_ref().map(|s| &s.above)),
                Sight::Before => (&stage.before, stage.shrink.as_ref().map(|s| &s.before)),
            };
            DownScale {
                shrink: shrink.map(|layer| Shrinking {
                    layer: Causal::new(layer),
                    large: Rows::new(columns >> (scale - 1), images, layer.weight.dims()[1]),
                }),
                blocks: blocks(layers, scale),
            }
        };
        let up = |(step, stage): (usize, &Up)| {
            let (layers, enlarge) = match sight {
                Sight::Above => (&stage.above, stage.enlarge.as_ref().map(|e| &e.above)),
                Sight::Before => (&stage.before, stage.enlarge.as_ref().map(|e| &e.before)),
            };
            let scale = scales - 1 - step;
            UpScale {
                enlarge: enlarge.map(|layer| Enlarging::new(layer, columns >> scale, images)),
                blocks: blocks(layers, scale),
            }
        };
        Self {
            columns,
            down: net.down.iter().enumerate().map(down).collect(),
            up: net.up.iter().enumerate().map(up).collect(),
        }
    }

    /// Row `y` of the image, or one pixel of it, as a span of a scale.
    fn span(&self, scale: usize, y: usize, x: Option<usize>) -> Span {
        Span {
            y: y >> scale,
            first: x.map_or(0, |x| x >> scale),
            count: x.map_or(self.columns >> scale, |_| 1),
        }
    }

    /// The last features of row `y`, or of one pixel of it, from its first ones; the stream that
    /// also sees its row is told what the other one saw.
    fn advance(
        &mut self,
        y: usize,
        x: Option<usize>,
        start: Vec<f32>,
        above: Option<&Self>,
    ) -> Vec<f32> {
        let scales = self.down.len();
        let mut features = start;
        let mut seen: Vec<Vec<Vec<f32>>> = vec![];
        for scale in 0..scales {
            let at = self.span(scale, y, x);
            let stage = &mut self.down[scale];
            if let Some(shrink) = &stage.shrink {
                // Row and column of the larger scale are even here.
                let columns = (at.first..at.first + at.count).map(|column| 2 * column);
                features = shrink.layer.at(&shrink.large, 2 * at.y, columns);
            }
            let mut kept = vec![features.clone()];
            for (index, block) in stage.blocks.iter_mut().enumerate() {
                let told = above.map(|above| above.down[scale].blocks[index].seen(at));
                features = block.advance(at, &features, told);
                kept.push(features.clone());
            }
            seen.push(kept);
            if let Some(shrink) = self.down.get_mut(scale + 1).and_then(|s| s.shrink.as_mut()) {
                shrink.large.keep(at, &features);
            }
            let halves = at.y.is_multiple_of(2) && (x.is_none() || at.first.is_multiple_of(2));
            if !halves {
                break;
            }
        }
        for (scale, mut kept) in seen.into_iter().enumerate().rev() {
            let (step, at) = (scales - 1 - scale, self.span(scale, y, x));
            let stage = &mut self.up[step];
            match &stage.enlarge {
                Some(enlarge) => features = enlarge.at(at),
                // The way up starts from the last features of the smallest scale.
                None => kept.truncate(kept.len() - 1),
            }
            for (index, block) in stage.blocks.iter_mut().enumerate() {
                let skip = kept.pop().unwrap_or_default();
                let told = match above {
                    None => skip,
                    Some(above) => {
                        joined(above.up[step].blocks[index].seen(at), &skip, block.width)
                    }
                };
                features = block.advance(at, &features, Some(&told));
            }
            if let Some(enlarge) = self.up.get_mut(step + 1).and_then(|s| s.enlarge.as_mut()) {
                enlarge.small.keep(at, &features);
            }
        }
        features
    }
}

/// Rows of `width` numbers of both, one behind the other.
fn joined(a: &[f32], b: &[f32], width: usize) -> Vec<f32> {
    let rows = a.chunks_exact(width).zip(b.chunks_exact(width));
    rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect()
}

/// The stepper of a [`PixelCnnPpNet`].
#[derive(Debug)]
pub(super) struct PixelStepper {
    images: usize,
    channels: usize,
    columns: usize,
    width: usize,
    /// Signed values and a channel of ones.
    pixels: Rows,
    start_above: Causal,
    start_row: Causal,
    start_left: Causal,
    above: Stream,
    before: Stream,
    out: Dense,
    /// The pixel whose mixtures are at hand, `[y, x]`.
    arrived: Option<[usize; 2]>,
    mixtures: Vec<PixelMixture>,
}

impl PixelStepper {
    /// A stepper of `images` images.
    pub(super) fn new(net: &PixelCnnPpNet, images: usize, labels: Option<&[u32]>) -> Self {
        check_labels(net, labels, images);
        let [channels, _, columns] = net.spec.shape();
        let stream = |sight: Sight| Stream::new(net, sight, columns, images, labels);
        Self {
            images,
            channels,
            columns,
            width: net.start_above.weight.dims()[0],
            pixels: Rows::new(columns, images, channels + 1),
            start_above: Causal::new(&net.start_above),
            start_row: Causal::new(&net.start_row),
            start_left: Causal::new(&net.start_left),
            above: stream(Sight::Above),
            before: stream(Sight::Before),
            out: product(&net.out),
            arrived: None,
            mixtures: vec![],
        }
    }

    /// Computes the mixtures of a pixel, if they are not at hand.
    fn arrive(&mut self, y: usize, x: usize) {
        if self.arrived == Some([y, x]) {
            return;
        }
        let size = self.images * self.width;
        if x == 0 {
            let start = match y.checked_sub(1) {
                Some(y) => self.start_above.at(&self.pixels, y, 0..self.columns),
                None => vec![0.0; self.columns * size],
            };
            self.above.advance(y, None, start, None);
        }
        let mut start = vec![0.0; size];
        if let Some(y) = y.checked_sub(1) {
            start = self.start_row.at(&self.pixels, y, x..x + 1);
        }
        if let Some(x) = x.checked_sub(1) {
            let left = self.start_left.at(&self.pixels, y, x..x + 1);
            for (value, left) in start.iter_mut().zip(left) {
                *value += left;
            }
        }
        let mut features = self.before.advance(y, Some(x), start, Some(&self.above));
        elu(&mut features);
        let mut parameters = vec![0.0; self.images * self.out.outputs()];
        self.out.forward(&features, self.images, &mut parameters);
        let of_image = |parameters: &[f32]| PixelMixture::new(parameters, self.channels);
        let each = parameters.chunks_exact(self.out.outputs());
        self.mixtures = each.map(of_image).collect();
        self.arrived = Some([y, x]);
    }
}

impl Stepper for PixelStepper {
    fn outputs(&mut self, at: Position, out: &mut [f32]) {
        self.arrive(at.y, at.x);
        for (mixture, out) in self.mixtures.iter().zip(out.chunks_exact_mut(256)) {
            mixture.levels(out);
        }
    }

    fn put(&mut self, at: Position, values: &[u16]) {
        self.arrive(at.y, at.x);
        let size = self.channels + 1;
        let start = self.pixels.place(at.y, at.x + 1);
        let pixels = &mut self.pixels.values[start..start + self.images * size];
        let rows = pixels.chunks_exact_mut(size).zip(&mut self.mixtures);
        for ((pixel, mixture), value) in rows.zip(values) {
            mixture.put(*value);
            pixel[at.channel] = signed(*value) as f32;
            pixel[self.channels] = 1.0;
        }
    }
}
