//! Convolutions by minimal filtering (Winograd, 1980; Lavin and Gray, 2016).
//!
//! `Y = Aᵀ [(G g Gᵀ) ∘ (Bᵀ d B)] A` gives `m × m` results from `m + r − 1` squared source pixels
//! `d` and a filter `g` of `r × r`. Summed over the source's channels, the part in brackets is one
//! matrix product for each of the `(m + r − 1)²` places: F(4×4, 3×3) takes 36 products where the
//! definition takes 144, F(2×2, 3×3) 16 where it takes 36, F(4×4, 2×2) 25 where it takes 64.
//!
//! A kernel of 4×4 that moves by two is the sum of four of 2×2 that move by one, each over every
//! second pixel of every second row; its gradient to the input is one of 2×2 for each remainder.
//! The tiles lie on a grid that starts at the phase's first pixel.

#![allow(
    unsafe_code,
    reason = "source pixels are read through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

mod filter;
mod weight;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::Work;
use super::gather::Plane;
use super::geometry::{Edge, Phase};
use super::panel::{Panel, Strides, split};
use super::tail::Finish;
use crate::Isa;
use crate::memory::{SharedMut, in_parts, scratch, written};
use crate::simd::{Kernel, Simd};
use filter::{Columns, SIDE, Source};
pub(super) use filter::{Filter, Four, FourOfTwo, Two};
pub(super) use weight::weight_gradient;

/// Tiles of `all` that are transformed before they are multiplied: a multiple of every product's
/// rows, and more where the weights do not stay in the cache and are better read seldom.
fn tiles(weights: usize, all: usize) -> usize {
    const CACHED: usize = 1 << 20;
    const ROWS: usize = 12;
    match weights <= CACHED {
        true => ROWS,
        false => {
            let even = all.div_ceil(rayon::current_num_threads());
            even.next_multiple_of(ROWS).clamp(2 * ROWS, 8 * ROWS)
        }
    }
}

/// Numbers between the places of a buffer, so that they do not share the sets of a cache.
const GAP: usize = 16;

/// Taps that read neighbours on a part of the source's pixels: every `source_step`-th from
/// `corner` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lattice {
    /// Where the first tap reads, `(dy, dx)`.
    pub(super) corner: [isize; 2],
    /// Index of each tap in the kernel, row by row.
    pub(super) taps: Vec<usize>,
}

impl Lattice {
    /// The lattices of a phase if each is a square of `side` taps: one for a kernel that moves by
    /// one, four for a kernel of twice that size that moves by two.
    pub(super) fn all(phase: &Phase, side: usize) -> Option<Vec<Self>> {
        let [sy, sx] = phase.source_step.map(|step| step as isize);
        let mut lattices = vec![];
        for (y, x) in (0..sy).flat_map(|y| (0..sx).map(move |x| (y, x))) {
            let mut taps: Vec<_> = phase
                .taps
                .iter()
                .filter(|tap| tap.dy.rem_euclid(sy) == y && tap.dx.rem_euclid(sx) == x)
                .collect();
            taps.sort_by_key(|tap| (tap.dy, tap.dx));
            let corner = taps.first().map(|tap| [tap.dy, tap.dx])?;
            let square = taps.len() == side * side
                && taps.iter().enumerate().all(|(i, tap)| {
                    tap.dy == corner[0] + (i / side) as isize * sy
                        && tap.dx == corner[1] + (i % side) as isize * sx
                });
            if !square {
                return None;
            }
            let taps = taps.into_iter().map(|tap| tap.index).collect();
            lattices.push(Self { corner, taps });
        }
        Some(lattices)
    }
}

/// A buffer of `[place][tile][channel]`.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    /// Numbers of a tile, a multiple of the lanes.
    pub(super) tile: usize,
    /// Numbers of a place.
    pub(super) place: usize,
}

impl Buffer {
    /// A buffer for `tiles` tiles.
    pub(super) fn new(tile: usize, tiles: usize) -> Self {
        let place = tiles * tile + GAP;
        Self { tile, place }
    }

    pub(super) fn len<F: Filter>(&self) -> usize {
        F::SIDE * F::SIDE * self.place
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
            rows: phase.rows.div_ceil(F::STEP),
            cols: phase.cols.div_ceil(F::STEP),
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
        (image, [row * F::STEP, col * F::STEP])
    }
}

/// Pointers to `side` squared pixels of an image, every `step`-th from `first` on; outside, to
/// what its edge says.
#[inline(always)]
pub(super) fn pixels(
    data: *const f32,
    plane: &Plane,
    image: usize,
    first: [isize; 2],
    step: [usize; 2],
    side: usize,
    (edge, zeros): (Edge, &[f32]),
) -> [[*const f32; SIDE]; SIDE] {
    let size = plane.size;
    let image = data.wrapping_add(image * size[0] * size[1] * plane.pitch + plane.first);
    let mut all = [[zeros.as_ptr(); SIDE]; SIDE];
    let beyond = edge != Edge::Zeros;
    for y in 0..side {
        let mut row = first[0] + (y * step[0]) as isize;
        if beyond {
            row = edge.within(row, size[0]) as isize;
        }
        for x in 0..side {
            let mut col = first[1] + (x * step[1]) as isize;
            if beyond {
                col = edge.within(col, size[1]) as isize;
            }
            // Numbers below zero are large ones without a sign.
            let (row, col) = (row as usize, col as usize);
            if row < size[0] && col < size[1] {
                all[y][x] = image.wrapping_add((row * size[1] + col) * plane.pitch);
            }
        }
    }
    all
}

/// `T · pixels · Tᵀ` of every channel, the first place at `into`.
#[inline(always)]
pub(super) unsafe fn transform<S: Simd, F: Filter, T: Columns>(
    pixels: &[[*const f32; SIDE]; SIDE],
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
unsafe fn lanes<S: Simd, F: Filter, T: Columns, const WHOLE: bool>(
    pixels: &[[*const f32; SIDE]; SIDE],
    first: usize,
    count: usize,
    into: *mut f32,
    buffer: Buffer,
) {
    // SAFETY: see above.
    unsafe {
        let none = S::splat(0.0);
        let mut between = [[none; SIDE]; SIDE];
        for x in 0..T::FROM {
            let mut column = [none; SIDE];
            for y in 0..T::FROM {
                let at = pixels[y][x].add(first);
                column[y] = match WHOLE {
                    true => S::load(at),
                    false => S::load_part(at, count),
                };
            }
            let column = T::of::<S>(column);
            for y in 0..F::SIDE {
                between[y][x] = column[y];
            }
        }
        for y in 0..F::SIDE {
            let row = T::of::<S>(between[y]);
            for x in 0..F::SIDE {
                let place = y * F::SIDE + x;
                S::store(into.add(place * buffer.place + first), row[x]);
            }
        }
    }
}

/// A product of two matrices: `rows` rows of `a`, `V` vectors of `b`.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) depth: usize,
    /// Numbers between the rows of `a`, and between its columns.
    pub(super) a: [usize; 2],
    /// Numbers between the rows of `b`.
    pub(super) b: usize,
    /// Numbers between the rows of the result.
    pub(super) m: usize,
    /// Whether the product is added to what the result holds.
    pub(super) add: bool,
}

impl Product {
    /// All `rows` of the product, a few at a time.
    #[inline(always)]
    pub(super) unsafe fn compute<S: Simd>(
        self,
        vectors: usize,
        rows: usize,
        a: *const f32,
        b: *const f32,
        m: *mut f32,
    ) {
        // SAFETY: the caller's pointers reach as far as the numbers say. The tiles fill 32
        // registers of AVX-512 and 16 of the other sets.
        unsafe {
            match (S::PANEL, vectors) {
                (_, 1) => self.all::<S, 12, 1>(rows, a, b, m),
                (4, 2) => self.all::<S, 12, 2>(rows, a, b, m),
                (_, 2) => self.all::<S, 6, 2>(rows, a, b, m),
                (_, 3) => self.all::<S, 6, 3>(rows, a, b, m),
                _ => self.all::<S, 6, 4>(rows, a, b, m),
            }
        }
    }

    #[inline(always)]
    unsafe fn all<S: Simd, const R: usize, const V: usize>(
        self,
        rows: usize,
        a: *const f32,
        b: *const f32,
        m: *mut f32,
    ) {
        // SAFETY: see above; rows past the last are the last one again and are not written.
        unsafe {
            for first in (0..rows).step_by(R) {
                let rows = R.min(rows - first);
                let mut row = [a; R];
                for r in 0..R {
                    row[r] = a.add((first + r.min(rows - 1)) * self.a[0]);
                }
                let mut sums = [[S::splat(0.0); V]; R];
                for d in 0..self.depth {
                    let mut wide = [S::splat(0.0); V];
                    for v in 0..V {
                        wide[v] = S::load(b.add(d * self.b + v * S::LANES));
                    }
                    for r in 0..R {
                        let x = S::splat(*row[r].add(d * self.a[1]));
                        for v in 0..V {
                            sums[r][v] = S::fma(wide[v], x, sums[r][v]);
                        }
                    }
                }
                for r in 0..rows {
                    for v in 0..V {
                        let at = m.add((first + r) * self.m + v * S::LANES);
                        let sum = match self.add {
                            true => S::add(S::load(at), sums[r][v]),
                            false => sums[r][v],
                        };
                        S::store(at, sum);
                    }
                }
            }
        }
    }
}

/// Transformed weights: panel by panel, `[place][lattice, source channel][lane]`.
pub(super) struct Filters {
    panels: Vec<Panel>,
    data: Vec<f32>,
}

/// Transforms some weights of one panel.
struct Pack<'a, F> {
    weight: &'a [f32],
    lattices: &'a [Lattice],
    strides: Strides,
    depth: usize,
    panel: &'a Panel,
    /// Of the rows `[lattice, source channel]`.
    rows: Range<usize>,
    to: &'a SharedMut<'a>,
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Pack<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (width, side) = (self.panel.vectors * S::LANES, F::TAPS);
        let all = self.lattices.len() * self.depth;
        let mut taps = [[0.0f32; 16]; 9];
        for row in self.rows.clone() {
            let (lattice, d) = (&self.lattices[row / self.depth], row % self.depth);
            for v in 0..self.panel.vectors {
                let first = v * S::LANES;
                let lanes = S::LANES.min(self.panel.valid - first);
                let start = self.strides.base
                    + (self.panel.first + first) * self.strides.lane
                    + d * self.strides.depth;
                for (tap, index) in taps.iter_mut().zip(&lattice.taps) {
                    for lane in 0..lanes {
                        tap[lane] = self.weight[start + lane * self.strides.lane + index];
                    }
                }
                // SAFETY: every panel has its own part of the data, with room for all places.
                unsafe {
                    for y in 0..F::SIDE {
                        let mut half = [S::splat(0.0); 3];
                        for x in 0..side {
                            for i in 0..side {
                                let tap = S::load(taps[i * side + x].as_ptr());
                                half[x] = S::fma(S::splat(F::G[y][i]), tap, half[x]);
                            }
                        }
                        for x in 0..F::SIDE {
                            let mut sum = S::splat(0.0);
                            for i in 0..side {
                                sum = S::fma(S::splat(F::G[x][i]), half[i], sum);
                            }
                            let place = y * F::SIDE + x;
                            let at = self.panel.at + (place * all + row) * width + first;
                            S::store(self.to.pointer().add(at), sum);
                        }
                    }
                }
            }
        }
    }
}

impl Filters {
    /// The weights of some lattices for a result of `channels` from `depth` channels.
    pub(super) fn pack<F: Filter>(
        isa: Isa,
        (weight, strides): (&[f32], Strides),
        lattices: &[Lattice],
        channels: usize,
        depth: usize,
    ) -> Self {
        let (lanes, most) = isa.shape();
        let mut panels = split(channels, lanes, most);
        let mut len = 0;
        for panel in &mut panels {
            panel.at = len;
            len += F::SIDE * F::SIDE * lattices.len() * depth * panel.vectors * lanes;
        }
        const ROWS: usize = 32;
        let rows = lattices.len() * depth;
        let items: Vec<_> = panels
            .iter()
            .flat_map(|panel| (0..rows).step_by(ROWS).map(move |row| (panel, row)))
            .collect();
        let fill = |to: &SharedMut<'_>| {
            items.into_par_iter().for_each(|(panel, row)| {
                isa.run(Pack::<F> {
                    weight,
                    lattices,
                    strides,
                    depth,
                    panel,
                    rows: row..(row + ROWS).min(rows),
                    to,
                    filter: PhantomData,
                });
            });
        };
        // SAFETY: the items cover all rows of all panels, and each writes all places and lanes.
        let data = unsafe { written(len, fill) };
        Self { panels, data }
    }
}

/// The sum by `F` for a phase that consists of `lattices`.
pub(super) fn winograd<F: Filter>(work: &Work<'_>, lattices: &[Lattice], filters: &Filters) {
    let Work {
        isa,
        n,
        phase,
        source: (source, source_plane),
        result: (result, result_plane),
        ..
    } = *work;
    let (lanes, _) = isa.shape();
    let (channels, depth) = (result_plane.channels, source_plane.channels);
    let grid = Grid::new::<F>(phase);
    if grid.tiles() == 0 {
        return;
    }
    let task = Task {
        phase,
        lattices,
        grid,
        tiles: tiles(filters.data.len(), n * grid.tiles()),
        source: source.as_ptr() as usize,
        source_plane,
        filters,
        finish: &work.finish(),
        edge: work.edge,
        zeros: &vec![0.0f32; depth + lanes],
        result,
        result_plane,
    };
    let products = F::SIDE * F::SIDE * lattices.len() * depth * channels;
    let parts = in_parts(n * grid.tiles(), task.tiles, products);
    // Threads without tiles take some of the panels.
    let threads = rayon::current_num_threads();
    let shares = threads.div_ceil(parts.len().max(1));
    let share = filters.panels.len().div_ceil(shares).max(1);
    let items: Vec<_> = parts
        .into_iter()
        .flat_map(|part| {
            filters
                .panels
                .chunks(share)
                .map(move |panels| (part, panels))
        })
        .collect();
    items.into_par_iter().for_each(|((from, to), panels)| {
        let [source, result] = task.buffers(isa);
        let lens = [source.len::<F>() + lanes, result.len::<F>()];
        scratch(lens[0] + lens[1], |numbers| {
            let (transformed, products) = numbers.split_at_mut(lens[0]);
            isa.run(Tiles::<F> {
                task: &task,
                tiles: from..to,
                panels,
                transformed,
                products,
                filter: PhantomData,
            });
        });
    });
}

struct Task<'a> {
    phase: &'a Phase,
    lattices: &'a [Lattice],
    grid: Grid,
    /// Tiles that are transformed before they are multiplied.
    tiles: usize,
    /// Address of the source, kept as a number so that threads may share it.
    source: usize,
    source_plane: Plane,
    filters: &'a Filters,
    finish: &'a Finish,
    edge: Edge,
    zeros: &'a [f32],
    result: &'a SharedMut<'a>,
    result_plane: Plane,
}

struct Tiles<'a, F> {
    task: &'a Task<'a>,
    tiles: Range<usize>,
    panels: &'a [Panel],
    /// The source's tiles, with room behind the last for the zeros of a last vector.
    transformed: &'a mut [f32],
    products: &'a mut [f32],
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Tiles<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let task = self.task;
        let channels = task.source_plane.channels;
        let depth = task.lattices.len() * channels;
        let [source, result] = task.buffers_of(S::LANES, S::PANEL);
        let (transformed, products) = (self.transformed, self.products);
        for first in self.tiles.clone().step_by(task.tiles) {
            let tiles = task.tiles.min(self.tiles.end - first);
            for t in 0..tiles {
                let (image, pixel) = task.grid.tile::<F>(first + t);
                for (l, lattice) in task.lattices.iter().enumerate() {
                    let step = task.phase.source_step;
                    let from = [0, 1].map(|i| (pixel[i] * step[i]) as isize + lattice.corner[i]);
                    let data = task.source as *const f32;
                    let plane = &task.source_plane;
                    let outside = (task.edge, task.zeros);
                    let pixels = pixels(data, plane, image, from, step, F::SIDE, outside);
                    // SAFETY: the pointers are of pixels or of zeros as many. A vector that is
                    // not full writes zeros into the next lattice or tile, which come after.
                    unsafe {
                        let at = t * source.tile + l * channels;
                        let into = transformed.as_mut_ptr().add(at);
                        transform::<S, F, Source<F>>(&pixels, channels, into, source);
                    }
                }
            }
            for panel in self.panels {
                let width = panel.vectors * S::LANES;
                let product = Product {
                    depth,
                    a: [source.tile, 1],
                    b: width,
                    m: result.tile,
                    add: false,
                };
                for place in 0..F::SIDE * F::SIDE {
                    // SAFETY: a panel holds `depth` rows for every place, the buffers the tiles.
                    unsafe {
                        product.compute::<S>(
                            panel.vectors,
                            tiles,
                            transformed.as_ptr().add(place * source.place),
                            task.filters
                                .data
                                .as_ptr()
                                .add(panel.at + place * depth * width),
                            products.as_mut_ptr().add(place * result.place),
                        );
                    }
                }
                for t in 0..tiles {
                    // SAFETY: tile number `first + t` exists.
                    unsafe { task.write::<S, F>(panel, first + t, t, products, result) };
                }
            }
        }
    }
}

impl Task<'_> {
    fn buffers(&self, isa: Isa) -> [Buffer; 2] {
        let (lanes, most) = isa.shape();
        self.buffers_of(lanes, most)
    }

    /// The buffers of the source's tiles and of a panel's products.
    #[inline(always)]
    fn buffers_of(&self, lanes: usize, most: usize) -> [Buffer; 2] {
        let depth = self.lattices.len() * self.source_plane.channels;
        [depth.next_multiple_of(lanes), most * lanes].map(|tile| Buffer::new(tile, self.tiles))
    }

    /// The result of a tile for a panel of channels.
    #[inline(always)]
    unsafe fn write<S: Simd, F: Filter>(
        &self,
        panel: &Panel,
        tile: usize,
        t: usize,
        products: &[f32],
        buffer: Buffer,
    ) {
        let (image, [row, col]) = self.grid.tile::<F>(tile);
        let (phase, plane) = (self.phase, &self.result_plane);
        let rows = F::STEP.min(phase.rows - row);
        let cols = F::STEP.min(phase.cols - col);
        let y = image * plane.size[0] + phase.first[0] + row * phase.step[0];
        let first = y * plane.size[1] + phase.first[1] + col * phase.step[1];
        let (down, right) = (phase.step[0] * plane.size[1], phase.step[1]);
        // SAFETY: the pixels lie in the result and no other tile has them.
        unsafe {
            let none = S::splat(0.0);
            let pixel = self.result.pointer().add(first * plane.pitch + plane.first);
            for v in 0..panel.vectors {
                let lane = v * S::LANES;
                let from = products.as_ptr().add(t * buffer.tile + lane);
                let mut between = [[none; SIDE]; SIDE];
                for x in 0..F::SIDE {
                    let mut column = [none; SIDE];
                    for y in 0..F::SIDE {
                        column[y] = S::load(from.add((y * F::SIDE + x) * buffer.place));
                    }
                    let column = F::result::<S>(column);
                    for y in 0..F::STEP {
                        between[y][x] = column[y];
                    }
                }
                let channel = panel.first + lane;
                let bias = S::load(self.finish.bias.as_ptr().add(channel));
                let left = panel.valid - lane;
                for y in 0..rows {
                    let row = F::result::<S>(between[y]);
                    for x in 0..cols {
                        let at =
                            pixel.add((y * down + x * right) * plane.pitch + panel.first + lane);
                        let value = S::add(row[x], bias);
                        let value = self.finish.apply::<S>(value, channel, at, left);
                        match left >= S::LANES {
                            true => S::store(at, value),
                            false => S::store_part(at, left, value),
                        }
                    }
                }
            }
        }
    }
}
