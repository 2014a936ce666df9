//! 3×3 convolutions of stride 1 by minimal filtering (Winograd, 1980; Lavin and Gray, 2016).
//!
//! `Y = Aᵀ [(G g Gᵀ) ∘ (Bᵀ d B)] A` gives `m × m` results from `m + 2` squared source pixels `d`
//! and a filter `g`. Summed over the source's channels, the part in brackets is one matrix product
//! for each of the `(m + 2)²` places: F(4×4) takes 36 products where the definition takes 144,
//! F(2×2) 16 where it takes 36. The tiles lie on a grid that starts at the result's first pixel.

#![allow(
    unsafe_code,
    reason = "source pixels are read through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use std::marker::PhantomData;

use rayon::prelude::*;

use super::Work;
use super::gather::Plane;
use super::geometry::Phase;
use super::panel::{Panel, Strides, split};
use crate::Isa;
use crate::memory::{SharedMut, in_parts};
use crate::simd::{Kernel, Simd};

/// The largest side of a source tile, in pixels.
pub(super) const SIDE: usize = 6;
/// Tiles that are transformed before they are multiplied; a multiple of every product's rows.
pub(super) const TILES: usize = 24;
/// Numbers between the places of a buffer, so that they do not share the sets of a cache.
const GAP: usize = 16;

/// The matrices of F(m×m, 3×3).
pub(super) trait Filter: Copy + Sync {
    /// Side of a source tile, `m + 2`.
    const SIDE: usize;
    /// Side of a result tile, `m`.
    const STEP: usize;
    /// `G`, of which the first `SIDE` rows count.
    const G: [[f32; 3]; SIDE];

    /// `Bᵀ d`.
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE];
    /// `Aᵀ m`, `STEP` numbers.
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE];
    /// `A y` of `STEP` numbers.
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE];
}

/// F(4×4, 3×3) with the points 0, ±1, ±2.
#[derive(Clone, Copy)]
pub(super) struct Four;

impl Filter for Four {
    const SIDE: usize = 6;
    const STEP: usize = 4;
    const G: [[f32; 3]; SIDE] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let [two, four, minus_four, minus_five] =
                [2.0, 4.0, -4.0, -5.0].map(|x| S::splat(x));
            let even = S::fma(minus_four, d[2], d[4]);
            let odd = S::fma(minus_four, d[1], d[3]);
            let even_two = S::sub(d[4], d[2]);
            let odd_two = S::mul(two, S::sub(d[3], d[1]));
            [
                S::fma(four, d[0], S::fma(minus_five, d[2], d[4])),
                S::add(even, odd),
                S::sub(even, odd),
                S::add(even_two, odd_two),
                S::sub(even_two, odd_two),
                S::fma(four, d[1], S::fma(minus_five, d[3], d[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| S::splat(x));
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_two, odd_two) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let none = S::splat(0.0);
            [
                S::add(m[0], S::add(even, even_two)),
                S::fma(two, odd_two, odd),
                S::fma(four, even_two, even),
                S::add(m[5], S::fma(eight, odd_two, odd)),
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| S::splat(x));
            let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
            let even_two = S::fma(four, y[2], y[0]);
            let odd_two = S::fma(eight, y[3], S::mul(two, y[1]));
            [
                y[0],
                S::add(even, odd),
                S::sub(even, odd),
                S::add(even_two, odd_two),
                S::sub(even_two, odd_two),
                y[3],
            ]
        }
    }
}

/// F(2×2, 3×3) with the points 0, ±1.
#[derive(Clone, Copy)]
pub(super) struct Two;

impl Filter for Two {
    const SIDE: usize = 4;
    const STEP: usize = 2;
    const G: [[f32; 3]; SIDE] = [
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
        [0.0; 3],
        [0.0; 3],
    ];

    #[inline(always)]
    unsafe fn source<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
        // SAFETY: the caller promises the instruction set, here and below.
        unsafe {
            let none = S::splat(0.0);
            [
                S::sub(d[0], d[2]),
                S::add(d[1], d[2]),
                S::sub(d[2], d[1]),
                S::sub(d[3], d[1]),
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn result<S: Simd>(m: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let none = S::splat(0.0);
            [
                S::add(m[0], S::add(m[1], m[2])),
                S::add(S::sub(m[1], m[2]), m[3]),
                none,
                none,
                none,
                none,
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread<S: Simd>(y: [S::V; SIDE]) -> [S::V; SIDE] {
        unsafe {
            let none = S::splat(0.0);
            [
                y[0],
                S::add(y[0], y[1]),
                S::sub(y[0], y[1]),
                y[1],
                none,
                none,
            ]
        }
    }
}

/// Where the taps of a 3×3 phase of stride 1 begin: the smallest `(dy, dx)`.
pub(super) fn corner(phase: &Phase) -> [isize; 2] {
    let least = |of: fn(&super::geometry::Tap) -> isize| phase.taps.iter().map(of).min();
    let corner = [least(|tap| tap.dy), least(|tap| tap.dx)];
    corner.map(|least| least.expect("a 3×3 kernel has taps"))
}

/// The index of each tap, row by row from the corner.
pub(super) fn order(phase: &Phase) -> [usize; 9] {
    let [y, x] = corner(phase);
    let mut order = [0; 9];
    for tap in &phase.taps {
        order[((tap.dy - y) * 3 + tap.dx - x) as usize] = tap.index;
    }
    order
}

/// A buffer of `[place][tile][channel]`.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    /// Numbers of a tile: the channels, and zeros up to a whole vector.
    pub(super) tile: usize,
    /// Numbers of a place.
    pub(super) place: usize,
}

impl Buffer {
    pub(super) fn new(channels: usize, lanes: usize) -> Self {
        let tile = channels.next_multiple_of(lanes);
        let place = TILES * tile + GAP;
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

/// Pointers to `side` squared pixels of an image from `first` on, to zeros outside.
#[inline(always)]
pub(super) fn pixels(
    data: *const f32,
    plane: &Plane,
    image: usize,
    first: [isize; 2],
    side: usize,
    zeros: &[f32],
) -> [[*const f32; SIDE]; SIDE] {
    let image = data.wrapping_add(image * plane.size[0] * plane.size[1] * plane.pitch + plane.first);
    let mut all = [[zeros.as_ptr(); SIDE]; SIDE];
    for y in 0..side {
        let row = (first[0] + y as isize) as usize;
        for x in 0..side {
            let col = (first[1] + x as isize) as usize;
            if row < plane.size[0] && col < plane.size[1] {
                all[y][x] = image.wrapping_add((row * plane.size[1] + col) * plane.pitch);
            }
        }
    }
    all
}

/// `T · pixels · Tᵀ` of every channel into tile number `t` of `into`, with `T` given by its
/// product with a column of `from` numbers.
#[inline(always)]
pub(super) unsafe fn transform<S: Simd, F: Filter>(
    pixels: &[[*const f32; SIDE]; SIDE],
    from: usize,
    channels: usize,
    into: *mut f32,
    buffer: Buffer,
    t: usize,
    of: impl Fn([S::V; SIDE]) -> [S::V; SIDE],
) {
    // SAFETY: the pixels have the channels, the buffer has tile `t` of every place.
    unsafe {
        let none = S::splat(0.0);
        for first in (0..channels).step_by(S::LANES) {
            let left = channels - first;
            let mut between = [[none; SIDE]; SIDE];
            for x in 0..from {
                let mut column = [none; SIDE];
                for y in 0..from {
                    let at = pixels[y][x].add(first);
                    column[y] = match left >= S::LANES {
                        true => S::load(at),
                        false => S::load_part(at, left),
                    };
                }
                let column = of(column);
                for y in 0..F::SIDE {
                    between[y][x] = column[y];
                }
            }
            for y in 0..F::SIDE {
                let row = of(between[y]);
                for x in 0..F::SIDE {
                    let place = y * F::SIDE + x;
                    let at = place * buffer.place + t * buffer.tile + first;
                    S::store(into.add(at), row[x]);
                }
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
                (_, 3) => self.all::<S, 8, 3>(rows, a, b, m),
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
                let a: [*const f32; R] =
                    std::array::from_fn(|r| a.add((first + r.min(rows - 1)) * self.a[0]));
                let mut sums = [[S::splat(0.0); V]; R];
                for d in 0..self.depth {
                    let wide: [S::V; V] =
                        std::array::from_fn(|v| S::load(b.add(d * self.b + v * S::LANES)));
                    for r in 0..R {
                        let x = S::splat(*a[r].add(d * self.a[1]));
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

/// Transformed weights: panel by panel, `[place][source channel][lane]`.
pub(crate) struct Filters {
    panels: Vec<Panel>,
    data: Vec<f32>,
}

/// Weights of a phase, where they lie, and which panels they go to.
struct Pack<'a, F> {
    weight: &'a [f32],
    order: [usize; 9],
    strides: Strides,
    depth: usize,
    panel: &'a Panel,
    to: &'a SharedMut<'a>,
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Pack<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.panel.vectors * S::LANES;
        for d in 0..self.depth {
            for v in 0..self.panel.vectors {
                let first = v * S::LANES;
                let lanes = S::LANES.min(self.panel.valid - first);
                let start = self.strides.base
                    + (self.panel.first + first) * self.strides.lane
                    + d * self.strides.depth;
                let mut taps = [[0.0f32; 16]; 9];
                for lane in 0..lanes {
                    let at = start + lane * self.strides.lane;
                    for (tap, index) in taps.iter_mut().zip(self.order) {
                        tap[lane] = self.weight[at + index];
                    }
                }
                // SAFETY: every panel has its own part of the data, with room for all places.
                unsafe {
                    let g = |y: usize, x: usize| S::load(taps[y * 3 + x].as_ptr());
                    let dot = |row: [f32; 3], column: [S::V; 3]| {
                        let sum = S::mul(S::splat(row[0]), column[0]);
                        let sum = S::fma(S::splat(row[1]), column[1], sum);
                        S::fma(S::splat(row[2]), column[2], sum)
                    };
                    for y in 0..F::SIDE {
                        let row: [S::V; 3] =
                            std::array::from_fn(|x| dot(F::G[y], [g(0, x), g(1, x), g(2, x)]));
                        for x in 0..F::SIDE {
                            let place = y * F::SIDE + x;
                            let at = self.panel.at + (place * self.depth + d) * width + first;
                            S::store(self.to.pointer().add(at), dot(F::G[x], row));
                        }
                    }
                }
            }
        }
    }
}

impl Filters {
    /// The weights of `phase` for a result of `channels` from `depth` channels.
    pub(super) fn pack<F: Filter>(
        isa: Isa,
        weight: &[f32],
        phase: &Phase,
        strides: Strides,
        channels: usize,
        depth: usize,
    ) -> Self {
        let (lanes, most) = isa.shape();
        let mut panels = split(channels, lanes, most);
        let mut len = 0;
        for panel in &mut panels {
            panel.at = len;
            len += F::SIDE * F::SIDE * depth * panel.vectors * lanes;
        }
        let mut data = vec![0.0; len];
        let to = SharedMut::new(&mut data);
        let order = order(phase);
        panels.par_iter().for_each(|panel| {
            isa.run(Pack::<F> {
                weight,
                order,
                strides,
                depth,
                panel,
                to: &to,
                filter: PhantomData,
            });
        });
        Self { panels, data }
    }
}

/// The sum by `F`, for a phase with the nine taps of a 3×3 kernel of stride 1.
pub(super) fn winograd<F: Filter>(isa: Isa, n: usize, work: &Work<'_>) {
    let Work {
        phase,
        source: (source, source_plane),
        weight: (weight, strides),
        bias,
        result: (result, result_plane),
    } = *work;
    let (lanes, most) = isa.shape();
    let (channels, depth) = (result_plane.channels, source_plane.channels);
    let filters = Filters::pack::<F>(isa, weight, phase, strides, channels, depth);
    let mut biases = bias.map_or_else(
        || vec![0.0; channels],
        |bias| bias[result_plane.first..][..channels].to_vec(),
    );
    biases.resize(channels + lanes * most, 0.0);
    let grid = Grid::new::<F>(phase);
    let task = Task {
        phase,
        corner: corner(phase),
        grid,
        source: source.as_ptr() as usize,
        source_plane,
        filters: &filters,
        bias: &biases,
        zeros: &vec![0.0f32; depth + lanes],
        result,
        result_plane,
    };
    let work = F::SIDE * F::SIDE * depth * channels;
    in_parts(n * grid.tiles(), TILES, work)
        .into_par_iter()
        .for_each(|(from, to)| {
            isa.run(Tiles::<F> {
                task: &task,
                from,
                to,
                filter: PhantomData,
            });
        });
}

struct Task<'a> {
    phase: &'a Phase,
    corner: [isize; 2],
    grid: Grid,
    /// Address of the source, kept as a number so that threads may share it.
    source: usize,
    source_plane: Plane,
    filters: &'a Filters,
    /// One for each channel of the result, and zeros behind for the last panel.
    bias: &'a [f32],
    zeros: &'a [f32],
    result: &'a SharedMut<'a>,
    result_plane: Plane,
}

struct Tiles<'a, F> {
    task: &'a Task<'a>,
    from: usize,
    to: usize,
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Tiles<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let task = self.task;
        let depth = task.source_plane.channels;
        let source = Buffer::new(depth, S::LANES);
        let result = Buffer::new(S::PANEL * S::LANES, S::LANES);
        let mut transformed = vec![0.0f32; source.len::<F>()];
        let mut products = vec![0.0f32; result.len::<F>()];
        for first in (self.from..self.to).step_by(TILES) {
            let tiles = TILES.min(self.to - first);
            for t in 0..tiles {
                let (image, pixel) = task.grid.tile::<F>(first + t);
                let from = [0, 1].map(|axis| pixel[axis] as isize + task.corner[axis]);
                let data = task.source as *const f32;
                let plane = &task.source_plane;
                let pixels = pixels(data, plane, image, from, F::SIDE, task.zeros);
                // SAFETY: the pointers are of pixels or of zeros as many; the buffer holds
                // `TILES` tiles of every place.
                unsafe {
                    let into = transformed.as_mut_ptr();
                    transform::<S, F>(&pixels, F::SIDE, depth, into, source, t, |d| {
                        F::source::<S>(d)
                    });
                }
            }
            for panel in &task.filters.panels {
                let width = panel.vectors * S::LANES;
                let product = Product {
                    depth,
                    a: [source.tile, 1],
                    b: width,
                    m: result.tile,
                    add: false,
                };
                for place in 0..F::SIDE * F::SIDE {
                    // SAFETY: a panel holds `depth` rows for every place, the buffers `TILES`.
                    unsafe {
                        product.compute::<S>(
                            panel.vectors,
                            tiles,
                            transformed.as_ptr().add(place * source.place),
                            task.filters.data.as_ptr().add(panel.at + place * depth * width),
                            products.as_mut_ptr().add(place * result.place),
                        );
                    }
                }
                for t in 0..tiles {
                    // SAFETY: tile number `first + t` exists.
                    unsafe { task.write::<S, F>(panel, first + t, t, &products, result) };
                }
            }
        }
    }
}

impl Task<'_> {
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
        let plane = &self.result_plane;
        let rows = F::STEP.min(self.phase.rows - row);
        let cols = F::STEP.min(self.phase.cols - col);
        let first = (image * plane.size[0] + row) * plane.size[1] + col;
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
                let bias = S::load(self.bias.as_ptr().add(panel.first + lane));
                let left = panel.valid - lane;
                for y in 0..rows {
                    let row = F::result::<S>(between[y]);
                    for x in 0..cols {
                        let at = pixel.add((y * plane.size[1] + x) * plane.pitch + panel.first + lane);
                        let value = S::add(row[x], bias);
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
