//! What worlds draw with: one figure over a plain ground, softened at its edge, with pixel noise.

use crate::random::Stream;

/// One figure over a plain ground.
pub(super) struct Drawing {
    /// The figure's share of each pixel, `[H*W]`, in `[0, 1]`.
    pub(super) coverage: Vec<f32>,
    /// Colour of the figure, RGB in `[0, 1]`.
    pub(super) ink: [f32; 3],
    /// Colour of the ground, RGB in `[0, 1]`.
    pub(super) ground: [f32; 3],
    /// Standard deviation of the pixel noise.
    pub(super) noise: f32,
    /// What was drawn, in the order of [`super::world::Scene::attributes`].
    pub(super) attributes: Vec<f32>,
}

impl Drawing {
    /// The pixels, `[C, H, W]` for 1 or 3 channels; in unit range except for the noise, which
    /// leaves it where the colours are close to black or white.
    pub(super) fn unit(&self, channels: usize, random: &mut Stream) -> Vec<f32> {
        let colours = match channels {
            1 => vec![(luma(self.ink), luma(self.ground))],
            _ => self.ink.into_iter().zip(self.ground).collect(),
        };
        let mut unit = Vec::with_capacity(channels * self.coverage.len());
        for (ink, ground) in colours {
            for share in &self.coverage {
                let mut value = ground + (ink - ground) * share;
                if self.noise > 0.0 {
                    value += self.noise * random.normal();
                }
                unit.push(value);
            }
        }
        unit
    }
}

/// The share of every pixel that a figure covers, `[size*size]` in `[0, 1]`, from the signed distance
/// of the pixel's centre to the figure's edge (negative inside). Coordinates and distances are
/// shares of the image's side, y pointing down; the edge is softened over one pixel.
pub(super) fn coverage(size: usize, distance: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let side = size as f32;
    let mut shares = Vec::with_capacity(size * size);
    for row in 0..size {
        let y = (row as f32 + 0.5) / side;
        for column in 0..size {
            let x = (column as f32 + 0.5) / side;
            shares.push((0.5 - distance(x, y) * side).clamp(0.0, 1.0));
        }
    }
    shares
}

/// The distance from a point to a line segment.
pub(super) fn to_segment(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (px, py) = (p.0 - a.0, p.1 - a.1);
    let square = dx * dx + dy * dy;
    let t = if square > 0.0 {
        ((px * dx + py * dy) / square).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (px - t * dx).hypot(py - t * dy)
}

/// A number drawn evenly from `[low, high)`.
pub(super) fn between(random: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * random.uniform()
}

/// RGB in `[0, 1]` of a colour given by hue (0 and 1 are red), saturation and value in `[0, 1]`.
pub(super) fn rgb(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue * 6.0).rem_euclid(6.0);
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// Brightness of a colour by BT.601.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_to_a_segment_by_hand() {
        let (a, b) = ((0.0, 0.0), (4.0, 0.0));
        for (point, expected) in [
            ((2.0, 3.0), 3.0),
            ((7.0, 4.0), 5.0),
            ((-3.0, 4.0), 5.0),
            ((1.0, 0.0), 0.0),
        ] {
            assert_eq!(to_segment(point, a, b), expected);
        }
    }

    #[test]
    fn hues_are_those_of_the_colour_wheel() {
        for (hue, expected) in [
            (0.0, [1.0, 0.0, 0.0]),
            (1.0 / 6.0, [1.0, 1.0, 0.0]),
            (2.0 / 6.0, [0.0, 1.0, 0.0]),
            (0.5, [0.0, 1.0, 1.0]),
            (4.0 / 6.0, [0.0, 0.0, 1.0]),
            (5.0 / 6.0, [1.0, 0.0, 1.0]),
        ] {
            for (got, want) in rgb(hue, 1.0, 1.0).into_iter().zip(expected) {
                assert!((got - want).abs() < 1e-5, "{hue}: {got} for {want}");
            }
        }
        assert_eq!(rgb(0.3, 0.0, 0.5), [0.5; 3]);
    }
}
