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
mod gradient;
mod kind;
mod product;
mod tile;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::Work;
use super::gather::Plane;
use super::geometry::{Edge, Phase};
use super::panel::{Panel, Strides};
use super::tail::Finish;
use crate::Isa;
use crate::memory::{SharedMut, in_parts, scratch};
use crate::simd::{Kernel, Simd};
use filter::{Filter, Points, SIDE, Source};
use kind::by_kind;
pub(super) use kind::{Kind, Lattice};
use product::{Axis, Product};
use tile::{Between, Buffer, Grid, pixels, transform};
pub(super) use weights::Filters;
use weights::{Pack, ROWS, place_len, rows};

/// Tiles of `all` that are transformed before they are multiplied: a multiple of every product's
/// rows, and as many as there is room for where the weights are transformed on the way.
fn tiles(on_the_way: bool, all: usize) -> usize {
    const FEWEST: usize = 12;
    const MOST: usize = 96;
    match on_the_way {
        false => FEWEST,
        true => {
            let even = all.div_ceil(all.div_ceil(MOST));
            even.next_multiple_of(FEWEST)
        }
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
    by_kind!(kind, F => gradient::weight_gradient::<F>(isa, n, of, input, output, gradient));
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
    if n * grid.tiles() == 0 {
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
                        (plane, image),
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
        let source = match self.filters.on_the_way {
            // Of a few rows of weights at a time only these vectors are read.
            true => Buffer::by_tile::<F>(self.tiles, vectors, lanes),
            false => Buffer::new::<F>(self.tiles, vectors, lanes),
        };
        [source, Buffer::new::<F>(self.tiles, most, lanes)]
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
