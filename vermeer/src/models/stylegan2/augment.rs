//! Augmentation of what the discriminator sees (Karras et al., 2020, "Training Generative
//! Adversarial Networks with Limited Data").
//!
//! Real and generated images are changed alike, each change with probability p, so that the
//! discriminator never sees a plain image often enough to learn it by heart. Every change can be
//! told from its absence in the distribution of images as long as p is well below 1, so that the
//! generator learns the plain distribution. All of them are linear in the pixels, and gradients
//! flow through them.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// A change of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// Mirrored, left to right.
    Flip,
    /// Turned by a multiple of 90°.
    Turn,
    /// Moved by up to an eighth of its side in whole pixels, continued by reflection.
    Move,
    /// Enlarged or made smaller about its middle by 2^N(0, 0.2²), bilinear, continued by
    /// reflection.
    Zoom,
    /// Made brighter or darker by N(0, 0.2²), in signed pixels.
    Brightness,
    /// Times 2^N(0, 0.5²).
    Contrast,
}

impl Transform {
    /// All of them.
    pub const ALL: [Transform; 6] = [
        Transform::Flip,
        Transform::Turn,
        Transform::Move,
        Transform::Zoom,
        Transform::Brightness,
        Transform::Contrast,
    ];
}

/// What is done to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Whether it is mirrored.
    pub flip: bool,
    /// Quarter turns, 0 to 3.
    pub turns: u8,
    /// Pixels to the right and down.
    pub shift: [i64; 2],
    /// What its size is multiplied by.
    pub zoom: f64,
    /// Added to its pixels.
    pub brightness: f64,
    /// What its pixels are multiplied by, after that.
    pub contrast: f64,
}

impl Change {
    /// No change.
    pub const NONE: Change = Change {
        flip: false,
        turns: 0,
        shift: [0; 2],
        zoom: 1.0,
        brightness: 0.0,
        contrast: 1.0,
    };

    /// A change of an image of `side`×`side`: each of `of` with `probability`. The same numbers
    /// are drawn for any probability, so that a larger one keeps what a smaller one does.
    pub fn draw(random: &mut Stream, of: &[Transform], probability: f32, side: usize) -> Self {
        let mut change = Self::NONE;
        let most = (side / 8) as u64;
        for transform in Transform::ALL {
            let chosen = random.uniform() < probability && of.contains(&transform);
            match transform {
                Transform::Flip => {
                    let flip = random.below(2) == 1;
                    change.flip = chosen && flip;
                }
                Transform::Turn => {
                    let turns = random.below(4) as u8;
                    change.turns = if chosen { turns } else { 0 };
                }
                Transform::Move => {
                    let shift = [0; 2].map(|_: i64| {
                        let drawn = random.below(2 * most + 1) as i64;
                        drawn - most as i64
                    });
                    change.shift = if chosen { shift } else { [0; 2] };
                }
                Transform::Zoom => {
                    let octaves = 0.2 * f64::from(random.normal());
                    change.zoom = if chosen { octaves.exp2() } else { 1.0 };
                }
                Transform::Brightness => {
                    let more = 0.2 * f64::from(random.normal());
                    change.brightness = if chosen { more } else { 0.0 };
                }
                Transform::Contrast => {
                    let octaves = 0.5 * f64::from(random.normal());
                    change.contrast = if chosen { octaves.exp2() } else { 1.0 };
                }
            }
        }
        change
    }

    /// The place in the source, from its middle, of a place in the result.
    fn source(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let x = x / self.zoom - self.shift[0] as f64;
        let y = y / self.zoom - self.shift[1] as f64;
        let (x, y) = match self.turns % 4 {
            0 => (x, y),
            1 => (-y, x),
            2 => (-x, -y),
            _ => (y, -x),
        };
        match self.flip {
            true => [-x, y],
            false => [x, y],
        }
    }

    /// The four pixels that each pixel of the result is mixed from, and how much of each:
    /// `[4, side · side]`.
    fn corners(&self, side: usize) -> (Vec<i64>, Vec<f32>) {
        let middle = 0.5 * (side - 1) as f64;
        let pixels = side * side;
        let (mut index, mut share) = (vec![0; 4 * pixels], vec![0.0; 4 * pixels]);
        for pixel in 0..pixels {
            let (row, col) = (pixel / side, pixel % side);
            let [x, y] = self.source([col as f64 - middle, row as f64 - middle]);
            let [left, right] = neighbours(x + middle, side);
            let [above, below] = neighbours(y + middle, side);
            let all = [(above, left), (above, right), (below, left), (below, right)];
            for (corner, ((row, down), (col, across))) in all.into_iter().enumerate() {
                index[corner * pixels + pixel] = (row * side + col) as i64;
                share[corner * pixels + pixel] = (down * across) as f32;
            }
        }
        (index, share)
    }
}

/// The pixels on both sides of a place on an axis that is reflected at its first and last pixel,
/// and the share of each.
fn neighbours(place: f64, side: usize) -> [(usize, f64); 2] {
    let last = (side - 1) as f64;
    let within = place.rem_euclid(2.0 * last);
    let place = if within > last {
        2.0 * last - within
    } else {
        within
    };
    let before = (place as usize).min(side - 1);
    let share = place - before as f64;
    [(before, 1.0 - share), ((before + 1).min(side - 1), share)]
}

/// What is done to the images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation(pub Vec<Change>);

impl Augmentation {
    /// Nothing, for any number of images.
    pub fn none() -> Self {
        Self(vec![])
    }

    /// The images `[n, c, side, side]`, changed; gradients flow through.
    ///
    /// # Panics
    /// When there are changes, but not one for each image, or the images are not square.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        if self.0.iter().all(|change| *change == Change::NONE) {
            return x;
        }
        let [n, c, side, width] = x.dims();
        assert_eq!(
            [self.0.len(), side],
            [n, width],
            "one change for each image"
        );
        let device = x.device();
        let pixels = side * side;
        let (mut index, mut share) = (vec![], vec![]);
        for change in &self.0 {
            let (places, shares) = change.corners(side);
            index.extend(places);
            share.extend(shares);
        }
        let index = Tensor::<1, Int>::from_ints(&index[..], &device)
            .reshape([n, 1, 4 * pixels])
            .repeat_dim(1, c)
            .reshape([n * c, 4 * pixels]);
        let share = Tensor::<1>::from_floats(&share[..], &device).reshape([n, 1, 4, pixels]);
        let corners = x.reshape([n * c, pixels]).gather(1, index); // [n · c, 4 · pixels]
        let mixed = corners
            .reshape([n, c, 4, pixels])
            .mul(share)
            .sum_dim(2)
            .reshape([n, c, side, side]);
        let column = |value: &dyn Fn(&Change) -> f64| {
            let all: Vec<f32> = self.0.iter().map(|change| value(change) as f32).collect();
            Tensor::<1>::from_floats(&all[..], &device).reshape([n, 1, 1, 1])
        };
        mixed
            .mul(column(&|change: &Change| change.contrast))
            .add(column(&|change: &Change| {
                change.brightness * change.contrast
            }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::host;
    use crate::random::{Purpose, stream};

    /// An 8×8 image whose pixels tell their places.
    fn picture() -> Vec<f32> {
        (0..64).map(|i| i as f32 / 64.0).collect()
    }

    fn changed(change: Change) -> Vec<f32> {
        let x = Tensor::<1>::from_floats(&picture()[..], &Device::flex());
        host(Augmentation(vec![change]).apply(x.reshape([1, 1, 8, 8])))
    }

    /// The pixel of the result at (x, y) is that of the source at the place the closure gives.
    fn assert_places(change: Change, source: impl Fn(usize, usize) -> (usize, usize)) {
        let (found, picture) = (changed(change), picture());
        for y in 0..8 {
            for x in 0..8 {
                let (sx, sy) = source(x, y);
                let (a, b) = (found[8 * y + x], picture[8 * sy + sx]);
                assert!(
                    (a - b).abs() < 1e-6,
                    "{change:?} at ({x}, {y}): {a}, not {b}"
                );
            }
        }
    }

    #[test]
    fn flips_turns_and_moves_keep_every_pixel() {
        let none = Change::NONE;
        assert_places(Change { flip: true, ..none }, |x, y| (7 - x, y));
        assert_places(Change { turns: 1, ..none }, |x, y| (7 - y, x));
        assert_places(Change { turns: 2, ..none }, |x, y| (7 - x, 7 - y));
        assert_places(Change { turns: 3, ..none }, |x, y| (y, 7 - x));
        // To the right by one: the new first column is the reflected second one.
        let shift = [1, 0];
        assert_places(Change { shift, ..none }, |x, y| {
            (if x == 0 { 1 } else { x - 1 }, y)
        });
    }

    #[test]
    fn zoom_and_colours_are_hand_computed() {
        let none = Change::NONE;
        // At twice the size pixel 4 lies a quarter of a pixel behind the middle, 3.5.
        let found = changed(Change { zoom: 2.0, ..none });
        let expected = (8.0 * 3.75 + 3.75) / 64.0;
        assert!((found[8 * 4 + 4] - expected).abs() < 1e-6);
        let found = changed(Change {
            brightness: 0.5,
            contrast: 2.0,
            ..none
        });
        assert!((found[3] - 2.0 * (3.0 / 64.0 + 0.5)).abs() < 1e-6);
    }

    #[test]
    fn a_larger_probability_keeps_what_a_smaller_one_does() {
        let draw = |p: f32, of: &[Transform], i: u64| {
            Change::draw(&mut stream(1, Purpose::Augment, 0, i), of, p, 16)
        };
        let mut turned = 0;
        for i in 0..400 {
            assert_eq!(draw(0.0, &Transform::ALL, i), Change::NONE);
            let (some, more) = (draw(0.3, &Transform::ALL, i), draw(0.6, &Transform::ALL, i));
            assert!(some.turns == 0 || some.turns == more.turns);
            assert!(some.zoom == 1.0 || some.zoom == more.zoom);
            let alone = draw(0.6, &[Transform::Turn], i);
            assert_eq!((alone.turns, alone.zoom), (more.turns, 1.0));
            turned += usize::from(more.turns != 0);
        }
        // 400 · 0.6 · 3/4 = 180, standard deviation 10.
        assert!((130..230).contains(&turned), "{turned}");
    }
}
