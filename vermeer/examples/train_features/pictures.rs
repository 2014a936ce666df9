//! The pictures that the feature network is trained on: figures of the worlds, moved, recoloured,
//! put before other grounds and spoilt, with everything about them known.

use std::f32::consts::TAU;
use std::sync::Arc;

use vermeer::data::{self, OpenOptions, Sample, Source, Split};
use vermeer::image::features::WorldNet;
use vermeer::image::{Image, ResizeRule};
use vermeer::random::Stream;

use crate::damage;

/// Kinds of ground: plain, gradient, stripes, clouds, checks, dots.
pub(crate) const GROUNDS: usize = 6;

/// Cells of the thumbnail along a side.
const CELLS: usize = 4;

/// Numbers of [`Example::values`].
pub(crate) const VALUES: usize = 7 + 3 * CELLS * CELLS;

/// Sides at which pictures are drawn and spoilt, before they are brought to the network's.
const SIDES: [usize; 4] = [28, 32, 48, 64];

/// One picture.
pub(crate) struct Example {
    /// `[3, 64, 64]`, in [0, 1].
    pub(crate) pixels: Vec<f32>,
    /// The figure, counted over all worlds.
    pub(crate) class: usize,
    /// The kind of its ground.
    pub(crate) ground: usize,
    /// How it was spoilt, and how much, from 0 to 1.
    pub(crate) kind: usize,
    pub(crate) level: f32,
    /// Of the figure before the damage: centre, size and the two parts of its direction; of the
    /// picture: contrast, sharpness, and the colours of 4×4 cells.
    pub(crate) values: Vec<f32>,
}

/// Three planes of unit numbers and the figure's share of each pixel.
struct Picture {
    side: usize,
    rgb: Vec<f32>,
    mask: Vec<f32>,
}

/// The worlds at every side.
pub(crate) struct Worlds {
    /// World, number of its first class, source.
    sources: Vec<(World, usize, Arc<dyn Source>)>,
    classes: usize,
}

#[derive(Clone, Copy)]
enum World {
    Glyphs,
    Shapes,
}

impl Worlds {
    pub(crate) fn open(split: Split, seed: u64) -> vermeer::Result<Self> {
        let options = OpenOptions {
            split,
            ..OpenOptions::default()
        };
        let (mut sources, mut classes) = (vec![], 0);
        for (world, name) in [(World::Glyphs, "glyphs"), (World::Shapes, "shapes")] {
            let mut of_world = 0;
            for side in SIDES {
                let location = format!("world:{name}?count=1000000000&size={side}&seed={seed}");
                let source = data::open(&location, &options)?;
                of_world = source.describe().classes.len();
                sources.push((world, classes, source));
            }
            classes += of_world;
        }
        Ok(Self { sources, classes })
    }

    /// Classes of all worlds together.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// Draws one picture.
    pub(crate) fn example(&self, random: &mut Stream) -> vermeer::Result<Example> {
        let which = random.below(self.sources.len() as u64) as usize;
        let (world, first, source) = &self.sources[which];
        let sample = source.get(random.below(source.len() as u64) as usize)?;
        let class = first + sample.label.unwrap_or(0) as usize;
        let picture = moved(figure(*world, &sample), random);
        let mut values = geometry(&picture);
        let (mut rgb, ground) = match random.below(10) {
            0..4 => (picture.rgb.clone(), 0),
            _ => recomposed(&picture, random),
        };
        if random.below(10) < 3 {
            rgb = grey(&rgb);
        }
        let side = picture.side;
        let (kind, level) = damage::spoil(&mut rgb, side, random);
        let pixels = brought_to_size(&rgb, side)?;
        values.extend(look(&pixels));
        Ok(Example {
            pixels,
            class,
            ground,
            kind,
            level,
            values,
        })
    }
}

/// A number drawn evenly from `[low, high)`.
pub(crate) fn between(random: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * random.uniform()
}

/// The picture of a world with the figure told from the ground.
fn figure(world: World, sample: &Sample) -> Picture {
    let side = sample.image.width();
    let planes = sample.image.to_unit_chw();
    let area = side * side;
    match world {
        // Light ink with some noise on black.
        World::Glyphs => Picture {
            side,
            mask: planes
                .iter()
                .map(|v| ((v - 0.15) / 0.6).clamp(0.0, 1.0))
                .collect(),
            rgb: planes.repeat(3),
        },
        // Ink whose strongest channel is 0.95 on a grey ground, the last attribute.
        World::Shapes => {
            let ground = sample.attributes.last().copied().unwrap_or(0.0);
            let share = |i: usize| {
                let most = planes[i].max(planes[area + i]).max(planes[2 * area + i]);
                ((most - ground) / (0.95 - ground)).clamp(0.0, 1.0)
            };
            Picture {
                side,
                mask: (0..area).map(share).collect(),
                rgb: planes,
            }
        }
    }
}

/// The plane seen through `from`, which gives the place of each pixel in it; beyond its edge a
/// plane goes on as it ends. Between pixels it is linear.
pub(crate) fn warped(
    plane: &[f32],
    side: usize,
    from: &dyn Fn(f32, f32) -> (f32, f32),
) -> Vec<f32> {
    let last = (side - 1) as f32;
    let mut out = Vec::with_capacity(plane.len());
    for row in 0..side {
        for column in 0..side {
            let (x, y) = from(column as f32, row as f32);
            let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
            let (left, top) = (x as usize, y as usize);
            let (right, bottom) = ((left + 1).min(side - 1), (top + 1).min(side - 1));
            let (u, v) = (x - left as f32, y - top as f32);
            let at = |row: usize, column: usize| plane[row * side + column];
            let above = at(top, left) * (1.0 - u) + at(top, right) * u;
            let below = at(bottom, left) * (1.0 - u) + at(bottom, right) * u;
            out.push(above * (1.0 - v) + below * v);
        }
    }
    out
}

/// Three of four pictures are zoomed, shifted, and half of them mirrored.
fn moved(picture: Picture, random: &mut Stream) -> Picture {
    if random.below(4) == 0 {
        return picture;
    }
    let side = picture.side;
    let middle = (side - 1) as f32 / 2.0;
    let zoom = between(random, 0.75, 1.35);
    let shift = [0, 1].map(|_| between(random, -0.1, 0.1) * side as f32);
    let mirror = if random.below(2) == 0 { -1.0 } else { 1.0 };
    let from = move |x: f32, y: f32| {
        (
            middle + mirror * (x - middle - shift[0]) / zoom,
            middle + (y - middle - shift[1]) / zoom,
        )
    };
    let planes = picture.rgb.chunks_exact(side * side);
    Picture {
        side,
        rgb: planes
            .flat_map(|plane| warped(plane, side, &from))
            .collect(),
        mask: warped(&picture.mask, side, &from),
    }
}

/// The figure in new colours before a new ground, and the kind of the ground.
fn recomposed(picture: &Picture, random: &mut Stream) -> (Vec<f32>, usize) {
    let side = picture.side;
    let kind = random.below(GROUNDS as u64) as usize;
    let (low, mut ink) = (colour(random), colour(random));
    let gap: f32 = low.iter().zip(ink).map(|(a, b)| (a - b).abs()).sum();
    if gap < 0.6 {
        ink = low.map(|x| (x + 0.5) % 1.0);
    }
    let strength = between(random, 0.25, 0.7);
    let other = colour(random);
    let high = [0, 1, 2].map(|c| low[c] + (other[c] - low[c]) * strength);
    let outer = texture(kind, side, random);
    // One ink in four has a texture as well.
    let inner = match random.below(4) {
        0 => {
            let kind = 1 + random.below(GROUNDS as u64 - 1) as usize;
            texture(kind, side, random)
        }
        _ => vec![0.0; side * side],
    };
    let mut rgb = Vec::with_capacity(3 * side * side);
    for ((low, high), ink) in low.into_iter().zip(high).zip(ink) {
        for ((share, outer), inner) in picture.mask.iter().zip(&outer).zip(&inner) {
            let ground = low + (high - low) * outer;
            let figure = ink * (1.0 - 0.5 * inner);
            rgb.push(ground + (figure - ground) * share);
        }
    }
    (rgb, kind)
}

fn colour(random: &mut Stream) -> [f32; 3] {
    [0, 1, 2].map(|_| random.uniform())
}

/// A plane of unit numbers; the kinds are those of [`GROUNDS`].
fn texture(kind: usize, side: usize, random: &mut Stream) -> Vec<f32> {
    let angle = between(random, 0.0, TAU);
    let (sin, cos) = angle.sin_cos();
    let phase = between(random, 0.0, TAU);
    let period = between(random, 5.0, side as f32 / 3.0);
    let waves: Vec<[f32; 4]> = (0..6)
        .map(|i| {
            let strength = 1.0 / (1.0 + i as f32);
            let frequency = TAU * (0.7 + i as f32 * 0.9) / side as f32;
            let turn = between(random, 0.0, TAU);
            let phase = between(random, 0.0, TAU);
            [
                strength,
                frequency * turn.cos(),
                frequency * turn.sin(),
                phase,
            ]
        })
        .collect();
    let value = |x: f32, y: f32| {
        let along = x * cos + y * sin;
        let across = y * cos - x * sin;
        match kind {
            0 => 0.0,
            1 => 0.5 + (along - (cos + sin) * side as f32 / 2.0) / (1.5 * side as f32),
            2 => 0.5 + 0.5 * (TAU * along / period + phase).sin(),
            3 => {
                let sum: f32 = waves
                    .iter()
                    .map(|[strength, fx, fy, phase]| strength * (fx * x + fy * y + phase).cos())
                    .sum();
                0.5 + 0.35 * sum
            }
            4 => {
                let cell = |t: f32| (t / period + phase).floor() as i64;
                ((cell(along) + cell(across)).rem_euclid(2)) as f32
            }
            _ => {
                let part = |t: f32| (t / period + phase).rem_euclid(1.0) - 0.5;
                let distance = part(along).hypot(part(across));
                ((0.32 - distance) * period + 0.5).clamp(0.0, 1.0)
            }
        }
    };
    let pixels = (0..side * side).map(|i| value((i % side) as f32, (i / side) as f32));
    pixels.map(|x| x.clamp(0.0, 1.0)).collect()
}

/// Brightness by BT.601 in all three planes.
fn grey(rgb: &[f32]) -> Vec<f32> {
    let area = rgb.len() / 3;
    let luma = |i: usize| 0.299 * rgb[i] + 0.587 * rgb[area + i] + 0.114 * rgb[2 * area + i];
    let plane: Vec<f32> = (0..area).map(luma).collect();
    plane.repeat(3)
}

/// Rounded to bytes and brought to the network's side as an image that is looked at later.
fn brought_to_size(rgb: &[f32], side: usize) -> vermeer::Result<Vec<f32>> {
    let image = Image::from_unit_chw(rgb, 3, side, side)?;
    let bytes: Vec<f32> = image.to_unit_chw().iter().map(|x| x * 255.0).collect();
    let to = WorldNet::SIDE;
    let bytes = match side == to {
        true => bytes,
        false => ResizeRule::PilBicubic.apply(&bytes, [3, side, side], [to, to]),
    };
    Ok(bytes.into_iter().map(|x| x / 255.0).collect())
}

/// Centre and size of the figure as shares of the side, and the direction it is long in.
fn geometry(picture: &Picture) -> Vec<f32> {
    let side = picture.side as f32;
    // The sums of 1, x, y, x², y², xy over the figure.
    let mut sums = [0.0f32; 6];
    for (i, share) in picture.mask.iter().enumerate() {
        let x = ((i % picture.side) as f32 + 0.5) / side;
        let y = ((i / picture.side) as f32 + 0.5) / side;
        for (sum, term) in sums.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]) {
            *sum += share * term;
        }
    }
    let [area, x, y, xx, yy, xy] = sums;
    let area = area.max(1.0);
    let (x, y) = (x / area, y / area);
    let size = area.sqrt() / side;
    let (long, slanted) = (xx / area - x * x - yy / area + y * y, xy / area - x * y);
    vec![x, y, size, long * 10.0, slanted * 10.0]
}

/// Contrast, sharpness and the mean colours of the cells of a picture `[3, 64, 64]`.
fn look(pixels: &[f32]) -> Vec<f32> {
    let side = WorldNet::SIDE;
    let area = side * side;
    let n = pixels.len() as f32;
    let mean = pixels.iter().sum::<f32>() / n;
    let contrast = (pixels.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
    let steps = pixels
        .chunks_exact(side)
        .flat_map(|row| row.windows(2))
        .map(|pair| (pair[1] - pair[0]).abs());
    let sharpness = (steps.sum::<f32>() / n + 1e-4).ln();
    let mut cells = vec![0.0f32; 3 * CELLS * CELLS];
    let cell = side / CELLS;
    for (i, value) in pixels.iter().enumerate() {
        let (c, row, column) = (i / area, i % area / side, i % side);
        cells[(c * CELLS + row / cell) * CELLS + column / cell] += value / (cell * cell) as f32;
    }
    let mut look = vec![contrast, sharpness];
    look.extend(cells);
    look
}
