//! Weights of one phase, packed as the kernels read them.

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
        let mut panels = split(channels, lanes, most);
        let mut data = vec![];
        for panel in &mut panels {
            panel.at = data.len();
            let width = panel.vectors * lanes;
            data.resize(panel.at + phase.taps.len() * depth * width, 0.0);
            let mut at = panel.at;
            for tap in &phase.taps {
                for d in 0..depth {
                    let row =
                        strides.base + panel.first * strides.lane + d * strides.depth + tap.index;
                    for lane in 0..panel.valid {
                        data[at + lane] = weight[row + lane * strides.lane];
                    }
                    at += width;
                }
            }
        }
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
