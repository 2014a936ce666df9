//! Weights of one phase, packed as the kernels read them.

use rayon::prelude::*;

use super::geometry::Phase;

/// Where a weight of `[k, c, tap]` storage lies: a lane is a channel of the result, `depth` one
/// of the source.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) base: usize,
    pub(crate) lane: usize,
    pub(crate) depth: usize,
}

/// Panels of at most `Simd::PANEL` vectors of result channels; in each, tap by tap and source
/// channel by source channel, the lanes side by side and zeros behind the last channel.
pub(crate) struct Panels {
    pub(crate) panels: Vec<Panel>,
    pub(crate) data: Vec<f32>,
}

pub(crate) struct Panel {
    /// First channel of the result.
    pub(crate) first: usize,
    /// Vectors.
    pub(crate) vectors: usize,
    /// Channels, at most `vectors · LANES`.
    pub(crate) valid: usize,
    /// Where its weights begin.
    pub(crate) at: usize,
}

impl Panel {
    /// Writes `[tap][source channel][lane]`, a few source channels at a time, as the weights lie.
    fn fill(
        &self,
        part: &mut [f32],
        width: usize,
        (weight, strides): (&[f32], Strides),
        phase: &Phase,
        depth: usize,
    ) {
        const FEW: usize = 16;
        for first in (0..depth).step_by(FEW) {
            let end = (first + FEW).min(depth);
            for lane in 0..self.valid {
                let start = strides.base + (self.first + lane) * strides.lane;
                for d in first..end {
                    let filter = &weight[start + d * strides.depth..];
                    for (t, tap) in phase.taps.iter().enumerate() {
                        part[(t * depth + d) * width + lane] = filter[tap.index];
                    }
                }
            }
        }
    }
}

/// Cuts `channels` into as few panels of at most `most` vectors of `lanes` as possible, of even
/// width.
pub(crate) fn split(channels: usize, lanes: usize, most: usize) -> Vec<Panel> {
    let all = channels.div_ceil(lanes);
    let count = all.div_ceil(most);
    let mut first = 0;
    (0..count)
        .map(|i| {
            let vectors = all / count + usize::from(i < all % count);
            let valid = (channels - first).min(vectors * lanes);
            let panel = Panel {
                first,
                vectors,
                valid,
                at: 0,
            };
            first += valid;
            panel
        })
        .collect()
}

impl Panels {
    /// Packs the weights that `phase` uses for a result of `channels` from `depth` channels.
    pub(crate) fn pack(
        weight: &[f32],
        phase: &Phase,
        strides: Strides,
        channels: usize,
        depth: usize,
        lanes: usize,
        most: usize,
    ) -> Self {
        let rows = phase.taps.len() * depth;
        let mut panels = split(channels, lanes, most);
        let mut len = 0;
        for panel in &mut panels {
            panel.at = len;
            len += rows * panel.vectors * lanes;
        }
        let mut data = vec![0.0; len];
        let mut rest = &mut data[..];
        let mut parts = vec![];
        for panel in &panels {
            let (part, behind) = rest.split_at_mut(rows * panel.vectors * lanes);
            parts.push((panel, part));
            rest = behind;
        }
        parts.into_par_iter().for_each(|(panel, part)| {
            panel.fill(part, panel.vectors * lanes, (weight, strides), phase, depth);
        });
        Self { panels, data }
    }

    /// Packs them for a result of a few channels: channel by channel, tap by tap, the source
    /// channels side by side.
    pub(crate) fn pack_rows(
        weight: &[f32],
        phase: &Phase,
        strides: Strides,
        channels: usize,
        depth: usize,
    ) -> Vec<f32> {
        let mut data = Vec::with_capacity(phase.taps.len() * depth * channels);
        for lane in 0..channels {
            for tap in &phase.taps {
                let row = strides.base + lane * strides.lane + tap.index;
                data.extend((0..depth).map(|d| weight[row + d * strides.depth]));
            }
        }
        data
    }
}
