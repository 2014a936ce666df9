//! Ways to spoil a picture, each at four levels, that generated pictures show too.

use std::f32::consts::{PI, TAU};

use vermeer::random::Stream;

use crate::pictures::{between, warped};

/// None, noise, blur, quantised blocks, coarse pixels, checkerboard, contrast, colour shift,
/// bending, shuffled patches, a part cut out.
pub(crate) const KINDS: usize = 11;

/// Spoils the planes `[3, side, side]` and says how: the kind, and the level in (0, 1]; two of
/// seven pictures stay as they are, at level 0. The result is in [0, 1].
pub(crate) fn spoil(rgb: &mut Vec<f32>, side: usize, random: &mut Stream) -> (usize, f32) {
    let kind = match random.below(14) {
        0..4 => 0,
        k => k as usize - 3,
    };
    let level = random.below(4) as usize;
    match kind {
        0 => {}
        1 => noise(rgb, [0.03, 0.07, 0.14, 0.25][level], random),
        2 => blur(rgb, side, [0.6, 1.0, 1.6, 2.5][level] * side as f32 / 32.0),
        3 => blocks(rgb, side, [0.05, 0.1, 0.2, 0.35][level]),
        4 => coarse(rgb, side, [2, 3, 4, 6][level]),
        5 => checkerboard(rgb, side, [0.03, 0.06, 0.12, 0.2][level]),
        6 => {
            let factor = match random.below(2) {
                0 => [0.7, 0.5, 0.35, 0.2][level],
                _ => [1.4, 1.8, 2.4, 3.2][level],
            };
            rgb.iter_mut().for_each(|x| *x = 0.5 + (*x - 0.5) * factor);
        }
        7 => shift_colour(rgb, [0.08, 0.16, 0.26, 0.4][level], random),
        8 => bend(rgb, side, [0.015, 0.03, 0.05, 0.08][level], random),
        9 => shuffle(rgb, side, [1, 2, 4, 8][level], random),
        _ => cut_out(rgb, side, [0.15, 0.25, 0.35, 0.5][level], random),
    }
    rgb.iter_mut().for_each(|x| *x = x.clamp(0.0, 1.0));
    match kind {
        0 => (0, 0.0),
        _ => (kind, (level + 1) as f32 / 4.0),
    }
}

fn noise(rgb: &mut [f32], sigma: f32, random: &mut Stream) {
    rgb.iter_mut().for_each(|x| *x += sigma * random.normal());
}

/// A Gaussian along the rows, then along the columns.
fn blur(rgb: &mut [f32], side: usize, sigma: f32) {
    let reach = (3.0 * sigma).ceil() as i64;
    let weights: Vec<f32> = (-reach..=reach)
        .map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp())
        .collect();
    let total: f32 = weights.iter().sum();
    let last = side as i64 - 1;
    for plane in rgb.chunks_exact_mut(side * side) {
        for [along, across] in [[1, side], [side, 1]] {
            let old = plane.to_vec();
            for (i, value) in plane.iter_mut().enumerate() {
                let (place, line) = (i / along % side, i / across % side * across);
                let terms = weights.iter().zip(-reach..).map(|(weight, offset)| {
                    let from = (place as i64 + offset).clamp(0, last) as usize;
                    weight * old[line + from * along]
                });
                *value = terms.sum::<f32>() / total;
            }
        }
    }
}

/// Rounds the cosine transform of blocks of 8×8 pixels, more coarsely where it is finer, as JPEG
/// does.
fn blocks(rgb: &mut [f32], side: usize, step: f32) {
    const N: usize = 8;
    let mut basis = [[0.0f32; N]; N];
    for (k, row) in basis.iter_mut().enumerate() {
        let square: f32 = if k == 0 { 0.125 } else { 0.25 };
        for (x, value) in row.iter_mut().enumerate() {
            *value = square.sqrt() * (PI * k as f32 * (x as f32 + 0.5) / N as f32).cos();
        }
    }
    // The transform of one axis or, backwards, its inverse.
    let along = |block: &[[f32; N]; N], back: bool| {
        let mut out = [[0.0f32; N]; N];
        for (i, line) in block.iter().enumerate() {
            for (k, to) in out.iter_mut().enumerate() {
                // Transposed, so that twice is both axes.
                to[i] = (0..N)
                    .map(|x| match back {
                        true => line[x] * basis[x][k],
                        false => line[x] * basis[k][x],
                    })
                    .sum();
            }
        }
        out
    };
    for plane in rgb.chunks_exact_mut(side * side) {
        for top in (0..side).step_by(N) {
            for left in (0..side).step_by(N) {
                let mut block = [[0.0f32; N]; N];
                for (y, line) in block.iter_mut().enumerate() {
                    for (x, value) in line.iter_mut().enumerate() {
                        let (row, column) = ((top + y).min(side - 1), (left + x).min(side - 1));
                        *value = plane[row * side + column] - 0.5;
                    }
                }
                let mut block = along(&along(&block, false), false);
                for (v, line) in block.iter_mut().enumerate() {
                    for (u, value) in line.iter_mut().enumerate() {
                        let step = step * (1.0 + 0.7 * (u + v) as f32);
                        *value = (*value / step).round() * step;
                    }
                }
                let block = along(&along(&block, true), true);
                for (y, line) in block.iter().enumerate().take(side - top) {
                    for (x, value) in line.iter().enumerate().take(side - left) {
                        plane[(top + y) * side + left + x] = value + 0.5;
                    }
                }
            }
        }
    }
}

/// Squares of `factor` pixels take their mean.
fn coarse(rgb: &mut [f32], side: usize, factor: usize) {
    for plane in rgb.chunks_exact_mut(side * side) {
        for top in (0..side).step_by(factor) {
            for left in (0..side).step_by(factor) {
                let rows = top..(top + factor).min(side);
                let columns = left..(left + factor).min(side);
                let count = (rows.len() * columns.len()) as f32;
                let lines = rows.map(|row| row * side);
                let sum: f32 = lines
                    .clone()
                    .flat_map(|line| &plane[line + columns.start..line + columns.end])
                    .sum();
                for line in lines {
                    plane[line + columns.start..line + columns.end].fill(sum / count);
                }
            }
        }
    }
}

/// Every second pixel lighter, the others darker, as transposed convolutions leave it.
fn checkerboard(rgb: &mut [f32], side: usize, strength: f32) {
    for plane in rgb.chunks_exact_mut(side * side) {
        for (i, value) in plane.iter_mut().enumerate() {
            let light = (i / side + i % side).is_multiple_of(2);
            *value += if light { strength } else { -strength };
        }
    }
}

/// Moves all colours by a vector of length `amount`.
fn shift_colour(rgb: &mut [f32], amount: f32, random: &mut Stream) {
    let mut shift = [0.0; 3];
    random.fill_normal(&mut shift);
    // Without the part that is only brighter or darker.
    let mean = (shift[0] + shift[1] + shift[2]) / 3.0;
    let shift = shift.map(|x| x - mean);
    let length = shift.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
    let area = rgb.len() / 3;
    for (plane, shift) in rgb.chunks_exact_mut(area).zip(shift) {
        plane.iter_mut().for_each(|x| *x += amount * shift / length);
    }
}

/// Displaces pixels along waves, by at most `share` of the side each way.
fn bend(rgb: &mut Vec<f32>, side: usize, share: f32, random: &mut Stream) {
    let size = side as f32;
    let mut wave = || {
        [
            between(random, 1.5, 3.0) * TAU / size,
            between(random, 0.0, TAU),
        ]
    };
    let [along, across] = [wave(), wave()];
    let amount = share * size;
    let from = move |x: f32, y: f32| {
        (
            x + amount * (along[0] * y + along[1]).sin(),
            y + amount * (across[0] * x + across[1]).sin(),
        )
    };
    *rgb = rgb
        .chunks_exact(side * side)
        .flat_map(|plane| warped(plane, side, &from))
        .collect();
}

/// Swaps pairs of the 4×4 patches of the picture.
fn shuffle(rgb: &mut [f32], side: usize, pairs: usize, random: &mut Stream) {
    const PATCHES: usize = 4;
    let patch = side / PATCHES;
    let mut order: Vec<usize> = (0..PATCHES * PATCHES).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    let corner = |n: usize| n / PATCHES * patch * side + n % PATCHES * patch;
    for pair in order.chunks_exact(2).take(pairs) {
        let (a, b) = (corner(pair[0]), corner(pair[1]));
        for plane in rgb.chunks_exact_mut(side * side) {
            for row in 0..patch {
                for column in 0..patch {
                    let offset = row * side + column;
                    plane.swap(a + offset, b + offset);
                }
            }
        }
    }
}

/// Fills a square with one grey.
fn cut_out(rgb: &mut [f32], side: usize, share: f32, random: &mut Stream) {
    let width = ((share * side as f32) as usize).clamp(2, side);
    let [top, left] = [0, 1].map(|_| random.below((side - width + 1) as u64) as usize);
    let grey = random.uniform();
    for plane in rgb.chunks_exact_mut(side * side) {
        for row in plane.chunks_exact_mut(side).skip(top).take(width) {
            row[left..left + width].fill(grey);
        }
    }
}
