//! Bilinear resizing between the two neighbours of a position, in f32.

use crate::resize::exact::assert_sizes;

/// The source of one output row or column.
struct Neighbours {
    low: usize,
    high: usize,
    /// How far the position is on the way from `low` to `high`.
    share: f32,
}

/// The neighbours of every output position along an axis.
fn neighbours(from: usize, to: usize, position: impl Fn(usize, f32) -> f32) -> Vec<Neighbours> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let position = position(i, scale);
            let low = (position as usize).min(from - 1);
            Neighbours {
                low,
                high: (low + 1).min(from - 1),
                share: position - low as f32,
            }
        })
        .collect()
}

/// Mixes two columns, then two rows; `mix` takes the lower and the higher one and the share.
pub(super) fn two_neighbours(
    samples: &[f32],
    [channels, height, width]: [usize; 3],
    [to_height, to_width]: [usize; 2],
    position: impl Fn(usize, f32) -> f32,
    mix: impl Fn(f32, f32, f32) -> f32,
) -> Vec<f32> {
    assert_sizes(samples, [channels, height, width], [to_height, to_width]);
    let columns = neighbours(width, to_width, &position);
    let rows = neighbours(height, to_height, &position);
    let mut wide = vec![0.0f32; height * to_width];
    let mut out = Vec::with_capacity(channels * to_height * to_width);
    for plane in samples.chunks_exact(height * width) {
        let lines = wide.chunks_exact_mut(to_width);
        for (row, line) in plane.chunks_exact(width).zip(lines) {
            for (value, at) in line.iter_mut().zip(&columns) {
                *value = mix(row[at.low], row[at.high], at.share);
            }
        }
        for at in &rows {
            let low = &wide[at.low * to_width..][..to_width];
            let high = &wide[at.high * to_width..][..to_width];
            let pairs = low.iter().zip(high);
            out.extend(pairs.map(|(&low, &high)| mix(low, high, at.share)));
        }
    }
    out
}
