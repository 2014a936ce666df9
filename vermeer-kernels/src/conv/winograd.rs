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
use std::mem::MaybeUninit;
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
use filter::{By, Filter, FourOfTwo, LONGEST, Line, Lines, One, Points, SIDE, Source, TAPS, Toom};

/// Tiles of `all` that are transformed before they are multiplied: a multiple of every product's
/// rows, and as many as there is room for where the weights are transformed on the way.
fn tiles(on_the_way: bool, all: usize) -> usize {
    const FEWEST: usize = 12;
    const MOST: usize = 96;
    match on_the_way {
        false => FEWEST,
        true => {
            let even = all.div_ceil(all.div_ceil(MOST).max(1));
            even.next_multiple_of(FEWEST).max(FEWEST)
        }
    }
}

/// The filters that serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// F(2×2, 3×3).
    Two,
    /// F(4×4, 3×3).
    Four,
    /// F(4×4, 2×2).
    FourOfTwo,
    /// F(2×2, 5×5).
    TwoOfFive,
    /// F(4, 3) along a row.
    Row3,
    /// F(4, 3) along a column.
    Column3,
    /// F(4, 7) along a row.
    Row7,
    /// F(4, 7) along a column.
    Column7,
}

/// `$do` with `$F` as the filter of a kind.
macro_rules! by_kind {
    ($kind:expr, $F:ident => $do:expr) => {
        match $kind {
            Kind::Two => {
                type $F = By<Toom<2, 3>, Toom<2, 3>>;
                $do
            }
            Kind::Four => {
                type $F = By<Toom<4, 3>, Toom<4, 3>>;
                $do
            }
            Kind::FourOfTwo => {
                type $F = By<FourOfTwo, FourOfTwo>;
                $do
            }
            Kind::TwoOfFive => {
                type $F = By<Toom<2, 5>, Toom<2, 5>>;
                $do
            }
            Kind::Row3 => {
                type $F = By<One, Toom<4, 3>>;
                $do
            }
            Kind::Column3 => {
                type $F = By<Toom<4, 3>, One>;
                $do
            }
            Kind::Row7 => {
                type $F = By<One, Toom<4, 7>>;
                $do
            }
            Kind::Column7 => {
                type $F = By<Toom<4, 7>, One>;
                $do
            }
        }
    };
}

impl Kind {
    /// Whether weights of so many channels of the source times those of the result are better
    /// read transformed, time after time, than as they are: F(4×4, 2×2) makes six numbers of one.
    pub(super) fn pays(self, weights: usize) -> bool {
        self != Self::FourOfTwo || weights <= 1 << 14
    }

    /// The kind that serves a phase, and the phase's lattices, with tiles of two or of four.
    pub(super) fn of(phase: &Phase, two: bool) -> Option<(Self, Vec<Lattice>)> {
        let kinds: &[(Self, [usize; 2])] = match two {
            true => &[(Self::Two, [3, 3])],
            false => &[
                (Self::Four, [3, 3]),
                (Self::FourOfTwo, [2, 2]),
                (Self::TwoOfFive, [5, 5]),
                (Self::Row3, [1, 3]),
                (Self::Column3, [3, 1]),
                (Self::Row7, [1, 7]),
                (Self::Column7, [7, 1]),
            ],
        };
        let of = |(kind, taps): &(Self, [usize; 2])| Some((*kind, Lattice::all(phase, *taps)?));
        kinds.iter().find_map(of)
    }
}

/// The gradient to the weights of one group, laid out `[k, c, taps]`.
pub(super) fn weight_gradient(
    isa: Isa,
    n: usize,
    (phase, kind, lattices): (&Phase, Kind, &[Lattice]),
    input: (&[f32], Plane),
    output: (&[f32], Plane),
    gradient: &mut [f32],
) {
    let of = (phase, lattices);
    by_kind!(kind, F => weight::weight_gradient::<F>(isa, n, of, input, output, gradient));
}

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
    /// The lattices of a phase if each has `rows × cols` neighbouring taps: one for a kernel that
    /// moves by one, four for a kernel of twice that size that moves by two.
    fn all(phase: &Phase, [rows, cols]: [usize; 2]) -> Option<Vec<Self>> {
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
            let dense = taps.len() == rows * cols
                && taps.iter().enumerate().all(|(i, tap)| {
                    tap.dy == corner[0] + (i / cols) as isize * sy
                        && tap.dx == corner[1] + (i % cols) as isize * sx
                });
            if !dense {
                return None;
            }
            let taps = taps.into_iter().map(|tap| tap.index).collect();
            lattices.push(Self { corner, taps });
        }
        Some(lattices)
    }
}

/// Numbers between the largest parts of a buffer, so that they do not share the sets of a cache.
const GAP: usize = 16;

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
        if vectors > FEW {
            return Self::by_place::<F>(tiles, vectors, lanes);
        }
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
    plane: &Plane,
    image: usize,
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
struct Between(MaybeUninit<[[[f32; 16]; SIDE]; SIDE]>);

impl Between {
    #[inline(always)]
    fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    unsafe fn set<S: Simd>(&mut self, y: usize, x: usize, v: S::V) {
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
    unsafe fn row<S: Simd>(&self, y: usize, count: usize) -> Line<S> {
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

/// Where the rows or columns of a matrix lie: `inner` numbers apart, after every `len` of them
/// `outer` numbers from where the last `len` began.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) len: usize,
    pub(super) inner: usize,
    pub(super) outer: usize,
}

impl Axis {
    /// All of them `step` numbers apart.
    pub(super) fn even(step: usize) -> Self {
        Self {
            len: usize::MAX,
            inner: step,
            outer: 0,
        }
    }

    #[inline(always)]
    fn at(&self, i: usize) -> usize {
        i / self.len * self.outer + i % self.len * self.inner
    }
}

/// A product of two matrices, `a` of `rows × depth` and `b` of `depth` rows of some vectors.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) depth: usize,
    /// The rows of `a`, and its columns.
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    /// Numbers between the rows of `b`, and between the vectors of a row.
    pub(super) b: [usize; 2],
    /// Numbers between the rows of the result, and between the vectors of a row.
    pub(super) m: [usize; 2],
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
        // SAFETY: the caller's pointers reach as far as the numbers say. Six rows are enough to
        // keep the multipliers busy; more would not leave a register for each row's address.
        unsafe {
            match vectors {
                1 => self.all::<S, 6, 1>(rows, a, b, m),
                2 => self.all::<S, 6, 2>(rows, a, b, m),
                3 => self.all::<S, 6, 3>(rows, a, b, m),
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
        let Axis { len, inner, outer } = self.columns;
        // SAFETY: see above; rows past the last are the last one again and are not written.
        unsafe {
            for first in (0..rows).step_by(R) {
                let rows = R.min(rows - first);
                let mut row = [a; R];
                for r in 0..R {
                    row[r] = a.add(self.rows.at(first + r.min(rows - 1)));
                }
                let mut sums = [[S::splat(0.0); V]; R];
                let mut b = b;
                let mut left = self.depth;
                while left > 0 {
                    let count = left.min(len);
                    for d in 0..count {
                        let mut wide = [S::splat(0.0); V];
                        for v in 0..V {
                            wide[v] = S::load(b.add(v * self.b[1]));
                        }
                        for r in 0..R {
                            let x = S::splat(*row[r].add(d * inner));
                            for v in 0..V {
                                sums[r][v] = S::fma(wide[v], x, sums[r][v]);
                            }
                        }
                        b = b.add(self.b[0]);
                    }
                    for r in 0..R {
                        row[r] = row[r].wrapping_add(outer);
                    }
                    left -= count;
                }
                for r in 0..rows {
                    for v in 0..V {
                        let at = m.add((first + r) * self.m[0] + v * self.m[1]);
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

/// Numbers from one place's rows of weights to the next one's.
#[inline(always)]
fn place_len(rows: usize, width: usize) -> usize {
    rows * width + GAP
}

/// Rows of weights that a lattice has: those of several begin with a vector of their own each,
/// filled up with zeros.
fn rows(lattices: &[Lattice], channels: usize, lanes: usize) -> usize {
    match lattices.len() {
        1 => channels,
        _ => channels.next_multiple_of(lanes),
    }
}

/// Transformed weights: panel by panel, `[place][lattice, source channel][lane]`; or none, if they
/// are transformed on the way.
pub(super) struct Filters {
    kind: Kind,
    lattices: Vec<Lattice>,
    panels: Vec<Panel>,
    data: Vec<f32>,
    on_the_way: bool,
}

/// Rows of weights that are transformed one after the other.
const ROWS: usize = 32;

/// Transforms some weights of one panel.
struct Pack<'a, F> {
    weight: &'a [f32],
    lattices: &'a [Lattice],
    strides: Strides,
    depth: usize,
    /// Rows of a lattice, at least `depth`.
    each: usize,
    panel: &'a Panel,
    /// At most [`ROWS`] of the rows `[lattice, source channel]`.
    rows: Range<usize>,
    /// Where the panel's weights go, of how many rows, the first of them being which.
    to: *mut f32,
    all: usize,
    first: usize,
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Pack<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.panel.vectors * S::LANES;
        let all = self.all;
        for v in 0..self.panel.vectors {
            let first = v * S::LANES;
            for row in self.rows.clone() {
                let mut taps = [[0.0f32; 16]; TAPS];
                self.collect::<S>(first, row, &mut taps);
                // SAFETY: every panel has its own part of the data, with room for all places.
                unsafe {
                    for y in 0..F::Y::SIDE {
                        let mut half = [S::splat(0.0); LONGEST];
                        for x in 0..F::X::TAPS {
                            for i in 0..F::Y::TAPS {
                                let tap = S::load(taps[i * F::X::TAPS + x].as_ptr());
                                half[x] = S::fma(S::splat(F::Y::G[y][i]), tap, half[x]);
                            }
                        }
                        for x in 0..F::X::SIDE {
                            let mut sum = S::splat(0.0);
                            for i in 0..F::X::TAPS {
                                sum = S::fma(S::splat(F::X::G[x][i]), half[i], sum);
                            }
                            let place = y * F::X::SIDE + x;
                            let row = place * place_len(all, width) + (row - self.first) * width;
                            S::store(self.to.add(row + first), sum);
                        }
                    }
                }
            }
        }
        if self.rows.end == self.first + all {
            for place in 0..F::PLACES {
                let end = place * place_len(all, width) + all * width;
                for lane in (0..GAP).step_by(S::LANES) {
                    // SAFETY: a gap lies behind the rows of every place.
                    unsafe { S::store(self.to.add(end + lane), S::splat(0.0)) };
                }
            }
        }
    }
}

impl<F: Filter> Pack<'_, F> {
    /// Sets the lanes from `first` on of a row's taps.
    #[inline(always)]
    fn collect<S: Simd>(&self, first: usize, row: usize, taps: &mut [[f32; 16]; TAPS]) {
        let Strides { base, lane, depth } = self.strides;
        let (lattice, d) = (&self.lattices[row / self.each], row % self.each);
        if d >= self.depth {
            return;
        }
        let count = S::LANES.min(self.panel.valid - first);
        let start = base + (self.panel.first + first) * lane + d * depth;
        for (tap, index) in taps.iter_mut().zip(&lattice.taps) {
            let last = start + index + (count - 1) * lane;
            assert!(last < self.weight.len() && lane < 1 << 27);
            // SAFETY: the last lane lies in the weight, and so do those before.
            unsafe {
                let from = self.weight.as_ptr().add(start + index);
                S::store(tap.as_mut_ptr(), S::gather(from, lane, count));
            }
        }
    }
}

impl Filters {
    /// The weights of some lattices for a result of `channels` from `depth` channels.
    ///
    /// More than `most_kept` numbers are transformed on the way, a few rows at a time.
    pub(super) fn pack(
        isa: Isa,
        (kind, lattices): (Kind, Vec<Lattice>),
        weight: (&[f32], Strides),
        channels: usize,
        depth: usize,
        most_kept: usize,
    ) -> Self {
        let (lanes, panel_width) = isa.shape();
        let mut panels = split(channels, lanes, panel_width);
        let rows = lattices.len() * rows(&lattices, depth, lanes);
        let mut len = 0;
        for panel in &mut panels {
            panel.at = len;
            let places = by_kind!(kind, F => F::PLACES);
            len += places * place_len(rows, panel.vectors * lanes);
        }
        let mut filters = Self {
            kind,
            lattices,
            panels,
            data: vec![],
            on_the_way: len > most_kept,
        };
        if !filters.on_the_way {
            filters.data = by_kind!(kind, F => filters.packed::<F>(isa, weight, depth, len));
        }
        filters
    }

    /// All weights, `len` numbers.
    fn packed<F: Filter>(
        &self,
        isa: Isa,
        (weight, strides): (&[f32], Strides),
        depth: usize,
        len: usize,
    ) -> Vec<f32> {
        let each = rows(&self.lattices, depth, isa.shape().0);
        let all = self.lattices.len() * each;
        let parts = |panel| (0..all).step_by(ROWS).map(move |row| (panel, row));
        let items: Vec<_> = self.panels.iter().flat_map(parts).collect();
        let fill = |to: &SharedMut<'_>| {
            items.into_par_iter().for_each(|(panel, row)| {
                isa.run(Pack::<F> {
                    weight,
                    lattices: &self.lattices,
                    strides,
                    depth,
                    each,
                    panel,
                    rows: row..(row + ROWS).min(all),
                    // SAFETY: the panel's part lies in the data.
                    to: unsafe { to.pointer().add(panel.at) },
                    all,
                    first: 0,
                    filter: PhantomData,
                });
            });
        };
        // SAFETY: the items cover all rows of all panels, and each writes all places and lanes.
        unsafe { written(len, fill) }
    }
}

/// The sum for a phase by filtering.
pub(super) fn winograd(work: &Work<'_>, filters: &Filters) {
    by_kind!(filters.kind, F => winograd_by::<F>(work, filters));
}

fn winograd_by<F: Filter>(work: &Work<'_>, filters: &Filters) {
    let lattices = &filters.lattices[..];
    let Work {
        isa,
        n,
        phase,
        source: (source, source_plane),
        result: (result, result_plane),
        ..
    } = *work;
    let (lanes, most) = isa.shape();
    let (channels, depth) = (result_plane.channels, source_plane.channels);
    let grid = Grid::new::<F>(phase);
    if grid.tiles() == 0 {
        return;
    }
    let task = Task {
        phase,
        lattices,
        grid,
        tiles: tiles(filters.on_the_way, n * grid.tiles()),
        source: source as usize,
        source_plane,
        filters,
        weight: work.weight,
        finish: &work.finish(),
        edge: work.edge,
        zeros: &vec![0.0f32; depth + lanes],
        result,
        result_plane,
    };
    let products = F::PLACES * lattices.len() * depth * channels;
    let all = n * grid.tiles();
    let (threads, panels) = (rayon::current_num_threads(), filters.panels.len());
    // What is transformed on the way is shared by the threads; tiles are, where there are enough.
    let parts = match filters.on_the_way {
        true => {
            let size = all.div_ceil(threads.div_ceil(panels)).next_multiple_of(12);
            let part = |from: usize| (from, (from + size).min(all));
            (0..all).step_by(size).map(part).collect()
        }
        false => in_parts(all, task.tiles, products),
    };
    let shares = threads.div_ceil(parts.len().max(1));
    let share = panels.div_ceil(shares).max(1);
    let of = |part| filters.panels.chunks(share).map(move |some| (part, some));
    let items: Vec<_> = parts.into_iter().flat_map(of).collect();
    items.into_par_iter().for_each(|((from, to), panels)| {
        let [source, result] = task.buffers::<F>(lanes, most).map(|buffer| buffer.len);
        let rows = match filters.on_the_way {
            true => F::PLACES * place_len(ROWS, most * lanes),
            false => 0,
        };
        scratch(source + result + rows, |numbers| {
            let (transformed, numbers) = numbers.split_at_mut(source);
            let (products, weights) = numbers.split_at_mut(result);
            isa.run(Tiles::<F> {
                task: &task,
                tiles: from..to,
                panels,
                transformed,
                products,
                weights,
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
    weight: (&'a [f32], Strides),
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
    /// The source's tiles.
    transformed: &'a mut [f32],
    products: &'a mut [f32],
    /// Room for some rows of weights of a panel, if they are transformed on the way.
    weights: &'a mut [f32],
    filter: PhantomData<F>,
}

impl<F: Filter> Kernel for Tiles<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let task = self.task;
        let channels = task.source_plane.channels;
        let [source, result] = task.buffers::<F>(S::LANES, S::PANEL);
        let each = rows(task.lattices, channels, S::LANES);
        let depth = task.lattices.len() * each;
        let (transformed, products, weights) = (self.transformed, self.products, self.weights);
        let mut pixels = [[task.zeros.as_ptr(); SIDE]; SIDE];
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
                    self::pixels(
                        data,
                        plane,
                        image,
                        from,
                        step,
                        [F::Y::SIDE, F::X::SIDE],
                        outside,
                        &mut pixels,
                    );
                    // SAFETY: the pointers are of pixels or of zeros as many; the buffer has room
                    // for the vectors of every lattice.
                    unsafe {
                        let at = t * source.tile + l * (each / S::LANES) * source.vector;
                        let into = transformed.as_mut_ptr().add(at);
                        transform::<S, F, Source>(&pixels, channels, into, source);
                    }
                }
            }
            for panel in self.panels {
                let width = panel.vectors * S::LANES;
                let step = match task.filters.on_the_way {
                    true => ROWS,
                    false => depth.max(1),
                };
                for row in (0..depth).step_by(step) {
                    let rows = row..(row + step).min(depth);
                    // SAFETY: a panel holds `depth` rows for every place, or there is room for
                    // `ROWS` of them; the buffers hold the tiles.
                    unsafe {
                        let (weights, all) = match task.filters.on_the_way {
                            true => {
                                let to = weights.as_mut_ptr();
                                task.pack::<F>(panel, rows.clone(), each, to).run::<S>();
                                (to.cast_const(), ROWS)
                            }
                            false => (task.filters.data.as_ptr().add(panel.at), depth),
                        };
                        let product = Product {
                            depth: rows.len(),
                            rows: Axis::even(source.tile),
                            columns: Axis {
                                len: S::LANES,
                                inner: 1,
                                outer: source.vector,
                            },
                            b: [width, S::LANES],
                            m: [result.tile, result.vector],
                            add: row > 0,
                        };
                        let from = transformed.as_ptr().add(row / S::LANES * source.vector);
                        for place in 0..F::PLACES {
                            product.compute::<S>(
                                panel.vectors,
                                tiles,
                                from.add(place * source.place),
                                weights.add(place * place_len(all, width)),
                                products.as_mut_ptr().add(place * result.place),
                            );
                        }
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
    /// What transforms some rows of a panel's weights.
    #[inline(always)]
    fn pack<'a, F: Filter>(
        &'a self,
        panel: &'a Panel,
        rows: Range<usize>,
        each: usize,
        to: *mut f32,
    ) -> Pack<'a, F> {
        Pack {
            weight: self.weight.0,
            lattices: self.lattices,
            strides: self.weight.1,
            depth: self.source_plane.channels,
            each,
            panel,
            first: rows.start,
            rows,
            to,
            all: ROWS,
            filter: PhantomData,
        }
    }

    /// The buffers of the source's tiles and of a panel's products.
    #[inline(always)]
    fn buffers<F: Filter>(&self, lanes: usize, most: usize) -> [Buffer; 2] {
        let vectors = self.lattices.len() * self.source_plane.channels.div_ceil(lanes);
        [vectors, most].map(|vectors| Buffer::new::<F>(self.tiles, vectors, lanes))
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
        let rows = F::Y::STEP.min(phase.rows - row);
        let cols = F::X::STEP.min(phase.cols - col);
        let y = image * plane.size[0] + phase.first[0] + row * phase.step[0];
        let first = y * plane.size[1] + phase.first[1] + col * phase.step[1];
        let (down, right) = (phase.step[0] * plane.size[1], phase.step[1]);
        // SAFETY: the pixels lie in the result and no other tile has them.
        unsafe {
            let pixel = self.result.pointer().add(first * plane.pitch + plane.first);
            for v in 0..panel.vectors {
                let lane = v * S::LANES;
                let from = products.as_ptr().add(t * buffer.tile + v * buffer.vector);
                let mut between = Between::new();
                for x in 0..F::X::SIDE {
                    let mut column = [S::splat(0.0); SIDE];
                    for y in 0..F::Y::SIDE {
                        column[y] = S::load(from.add((y * F::X::SIDE + x) * buffer.place));
                    }
                    let column = F::Y::result::<S>(column);
                    for y in 0..F::Y::STEP {
                        between.set::<S>(y, x, column[y]);
                    }
                }
                let channel = panel.first + lane;
                let bias = S::load(self.finish.bias.as_ptr().add(channel));
                let left = panel.valid - lane;
                for y in 0..rows {
                    let row = F::X::result::<S>(between.row::<S>(y, F::X::SIDE));
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
