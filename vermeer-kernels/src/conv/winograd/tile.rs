//! Tiles of an image on their way through the transformations.

#![allow(
    unsafe_code,
    reason = "numbers are read and written through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use std::mem::MaybeUninit;

use super::filter::{Filter, Line, Lines, Points, SIDE};
use crate::conv::gather::Plane;
use crate::conv::geometry::{Edge, Phase};
use crate::simd::Simd;

/// Numbers between the largest parts of a buffer, so that they do not share the sets of a cache.
pub(super) const GAP: usize = 16;

/// Where the numbers of transformed tiles lie.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    /// Numbers between tiles.
    pub(super) tile: usize,
    /// Numbers between the vectors of a tile's channels.
    pub(super) vector: usize,
    /// Numbers between the places of a tile.
    pub(super) place: usize,
    /// Numbers of all.
    pub(super) len: usize,
}

impl Buffer {
    /// A buffer for tiles of so many vectors: `[tile][vector][place][lane]`, so that a
    /// transformation writes or reads what lies side by side, where there are few vectors.
    #[inline(always)]
    pub(super) fn new<F: Filter>(tiles: usize, vectors: usize, lanes: usize) -> Self {
        const FEW: usize = 8;
        match vectors <= FEW {
            true => Self::by_tile::<F>(tiles, vectors, lanes),
            false => Self::by_place::<F>(tiles, vectors, lanes),
        }
    }

    /// `[tile][vector][place][lane]`.
    #[inline(always)]
    pub(super) fn by_tile<F: Filter>(tiles: usize, vectors: usize, lanes: usize) -> Self {
        let vector = F::PLACES * lanes;
        let tile = vectors * vector + GAP;
        Self {
            tile,
            vector,
            place: lanes,
            len: tiles * tile,
        }
    }

    /// `[place][tile][vector][lane]`, so that the rows of a product lie side by side.
    #[inline(always)]
    fn by_place<F: Filter>(tiles: usize, vectors: usize, lanes: usize) -> Self {
        let tile = vectors * lanes;
        let place = tiles * tile + GAP;
        Self {
            tile,
            vector: lanes,
            place,
            len: F::PLACES * place,
        }
    }
}

/// The tiles of a phase in an image.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Grid {
    pub(super) fn new<F: Filter>(phase: &Phase) -> Self {
        Self {
            rows: phase.rows.div_ceil(F::Y::STEP),
            cols: phase.cols.div_ceil(F::X::STEP),
        }
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows * self.cols
    }

    /// Image and first pixel of tile number `t`.
    #[inline(always)]
    pub(super) fn tile<F: Filter>(&self, t: usize) -> (usize, [usize; 2]) {
        let (image, inside) = (t / self.tiles(), t % self.tiles());
        let (row, col) = (inside / self.cols, inside % self.cols);
        (image, [row * F::Y::STEP, col * F::X::STEP])
    }
}

/// The source pixels of a tile.
pub(super) type Pixels = [[*const f32; SIDE]; SIDE];

/// Writes pointers to `sides` pixels of an image, every `step`-th from `first` on; outside,
/// to what its edge says.
#[inline(always)]
pub(super) fn pixels(
    data: *const f32,
    (plane, image): (&Plane, usize),
    first: [isize; 2],
    step: [usize; 2],
    sides: [usize; 2],
    (edge, zeros): (Edge, &[f32]),
    all: &mut Pixels,
) {
    let size = plane.size;
    let image = data.wrapping_add(image * size[0] * size[1] * plane.pitch + plane.first);
    let beyond = edge != Edge::Zeros;
    for y in 0..sides[0] {
        let mut row = first[0] + (y * step[0]) as isize;
        if beyond {
            row = edge.within(row, size[0]) as isize;
        }
        for x in 0..sides[1] {
            let mut col = first[1] + (x * step[1]) as isize;
            if beyond {
                col = edge.within(col, size[1]) as isize;
            }
            // Numbers below zero are large ones without a sign.
            let (row, col) = (row as usize, col as usize);
            all[y][x] = match row < size[0] && col < size[1] {
                true => image.wrapping_add((row * size[1] + col) * plane.pitch),
                false => zeros.as_ptr(),
            };
        }
    }
}

/// Vectors of a tile between its two transformations. They are written before they are read, and
/// setting them to zero each time would cost a tenth of the transformation.
pub(super) struct Between(MaybeUninit<[[[f32; 16]; SIDE]; SIDE]>);

impl Between {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) unsafe fn set<S: Simd>(&mut self, y: usize, x: usize, v: S::V) {
        debug_assert!(y < SIDE && x < SIDE);
        // SAFETY: no vector is wider than 16 numbers, and the place exists.
        unsafe {
            S::store(
                self.0.as_mut_ptr().cast::<f32>().add((y * SIDE + x) * 16),
                v,
            )
        }
    }

    /// A row of which the first `count` were set.
    #[inline(always)]
    pub(super) unsafe fn row<S: Simd>(&self, y: usize, count: usize) -> Line<S> {
        // SAFETY: as above; only what was set is read.
        unsafe {
            let mut row = [S::splat(0.0); SIDE];
            for x in 0..count {
                row[x] = S::load(self.0.as_ptr().cast::<f32>().add((y * SIDE + x) * 16));
            }
            row
        }
    }
}

/// `T · pixels · Tᵀ` of every channel, the first place at `into`.
#[inline(always)]
pub(super) unsafe fn transform<S: Simd, F: Filter, T: Lines>(
    pixels: &Pixels,
    channels: usize,
    into: *mut f32,
    buffer: Buffer,
) {
    // SAFETY: the pixels have the channels, the buffer has room for them at every place.
    unsafe {
        let whole = channels / S::LANES * S::LANES;
        for first in (0..whole).step_by(S::LANES) {
            lanes::<S, F, T, true>(pixels, first, S::LANES, into, buffer);
        }
        if whole < channels {
            lanes::<S, F, T, false>(pixels, whole, channels - whole, into, buffer);
        }
    }
}

/// [`transform`] of `count` channels from `first` on, a whole vector or a part of one.
#[inline(always)]
unsafe fn lanes<S: Simd, F: Filter, T: Lines, const WHOLE: bool>(
    pixels: &Pixels,
    first: usize,
    count: usize,
    into: *mut f32,
    buffer: Buffer,
) {
    // SAFETY: see above.
    unsafe {
        let mut between = Between::new();
        for x in 0..T::from::<F::X>() {
            let mut column = [S::splat(0.0); SIDE];
            for y in 0..T::from::<F::Y>() {
                let at = pixels[y][x].add(first);
                column[y] = match WHOLE {
                    true => S::load(at),
                    false => S::load_part(at, count),
                };
            }
            let column = T::of::<S, F::Y>(column);
            for y in 0..F::Y::SIDE {
                between.set::<S>(y, x, column[y]);
            }
        }
        for y in 0..F::Y::SIDE {
            let row = T::of::<S, F::X>(between.row::<S>(y, T::from::<F::X>()));
            for x in 0..F::X::SIDE {
                let place = y * F::X::SIDE + x;
                let at = first / S::LANES * buffer.vector + place * buffer.place;
                S::store(into.add(at), row[x]);
            }
        }
    }
}
