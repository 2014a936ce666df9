//! Resizing by weighted sums over windows that widen as the picture shrinks.

use crate::resize::exact::assert_sizes;

/// The source of one output row or column: `weights` from `start` on, which sum to 1.
pub(super) struct Window {
    start: usize,
    weights: Vec<f64>,
}

/// Pillow's cubic windows along an axis, in f64.
pub(super) fn cubic_windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    let narrow = 1.0 / stretch;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // A negative position becomes 0.
            let start = (centre - reach + 0.5) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let mut weights: Vec<f64> = (start..end)
                .map(|x| cubic((x as f64 - centre + 0.5) * narrow))
                .collect();
            let sum: f64 = weights.iter().sum();
            for weight in &mut weights {
                *weight /= sum;
            }
            Window { start, weights }
        })
        .collect()
}

/// The cubic convolution kernel of Keys (1981) with a = -1/2.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    } else {
        0.0
    }
}

/// PyTorch's triangle windows along an axis: f32, widened to f64 only where C++ does so, since it
/// adds the constant 0.5 in double precision.
pub(super) fn triangle_windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    let narrow = 1.0 / reach;
    let longest = reach.ceil() as usize * 2 + 1;
    (0..to)
        .map(|i| {
            let centre = (f64::from(scale) * (i as f64 + 0.5)) as f32;
            let start = (f64::from(centre - reach) + 0.5) as usize;
            let end = ((f64::from(centre + reach) + 0.5) as usize).min(from);
            let weights: Vec<f32> = (start..end)
                .take(longest)
                .map(|x| {
                    let distance = f64::from(x as f32 - centre) + 0.5;
                    let x = (distance * f64::from(narrow)) as f32;
                    (1.0 - x.abs()).max(0.0)
                })
                .collect();
            let sum: f32 = weights.iter().sum();
            Window {
                start,
                weights: weights.iter().map(|w| f64::from(w / sum)).collect(),
            }
        })
        .collect()
}

/// Sums columns under their windows, then rows. `round` is applied to every partial sum; the
/// finished ones become f32.
pub(super) fn windowed(
    samples: &[f32],
    [channels, height, width]: [usize; 3],
    [to_height, to_width]: [usize; 2],
    windows: impl Fn(usize, usize) -> Vec<Window>,
    round: impl Fn(f64) -> f64,
) -> Vec<f32> {
    assert_sizes(samples, [channels, height, width], [to_height, to_width]);
    let (columns, rows) = (windows(width, to_width), windows(height, to_height));
    let add = |sum: f64, value: f32, weight: f64| round(sum + f64::from(value) * weight);
    let mut wide = vec![0.0f32; height * to_width];
    let mut sums = vec![0.0f64; to_width];
    let mut out = Vec::with_capacity(channels * to_height * to_width);
    for plane in samples.chunks_exact(height * width) {
        let lines = wide.chunks_exact_mut(to_width);
        for (row, line) in plane.chunks_exact(width).zip(lines) {
            for (value, window) in line.iter_mut().zip(&columns) {
                let under = row[window.start..].iter().zip(&window.weights);
                *value = under.fold(0.0, |sum, (&v, &weight)| add(sum, v, weight)) as f32;
            }
        }
        for window in &rows {
            sums.fill(0.0);
            let lines = wide[window.start * to_width..].chunks_exact(to_width);
            for (line, &weight) in lines.zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(line) {
                    *sum = add(*sum, value, weight);
                }
            }
            out.extend(sums.iter().map(|&sum| sum as f32));
        }
    }
    out
}
