//! Transformed weights.

#![allow(
    unsafe_code,
    reason = "numbers are read and written through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::filter::{Filter, LONGEST, Points, TAPS};
use super::kind::{Kind, Lattice, by_kind};
use super::tile::GAP;
use crate::Isa;
use crate::conv::panel::{Panel, Strides, split};
use crate::memory::{SharedMut, written};
use crate::simd::{Kernel, Simd};

/// Numbers from one place's rows of weights to the next one's.
#[inline(always)]
pub(super) fn place_len(rows: usize, width: usize) -> usize {
    rows * width + GAP
}

/// Rows of weights that a lattice has: those of several begin with a vector of their own each,
/// filled up with zeros.
pub(super) fn rows(lattices: &[Lattice], channels: usize, lanes: usize) -> usize {
    match lattices.len() {
        1 => channels,
        _ => channels.next_multiple_of(lanes),
    }
}

/// Transformed weights: panel by panel, `[place][lattice, source channel][lane]`; or none, if they
/// are transformed on the way.
pub(in crate::conv) struct Filters {
    pub(super) kind: Kind,
    pub(super) lattices: Vec<Lattice>,
    pub(super) panels: Vec<Panel>,
    pub(super) data: Vec<f32>,
    pub(super) on_the_way: bool,
}

/// Rows of weights that are transformed one after the other.
pub(super) const ROWS: usize = 32;

/// Transforms some weights of one panel.
pub(super) struct Pack<'a, F> {
    pub(super) weight: &'a [f32],
    pub(super) lattices: &'a [Lattice],
    pub(super) strides: Strides,
    pub(super) depth: usize,
    /// Rows of a lattice, at least `depth`.
    pub(super) each: usize,
    pub(super) panel: &'a Panel,
    /// At most [`ROWS`] of the rows `[lattice, source channel]`.
    pub(super) rows: Range<usize>,
    /// Where the panel's weights go, of how many rows, the first of them being which.
    pub(super) to: *mut f32,
    pub(super) all: usize,
    pub(super) first: usize,
    pub(super) filter: PhantomData<F>,
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
    pub(in crate::conv) fn pack(
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
