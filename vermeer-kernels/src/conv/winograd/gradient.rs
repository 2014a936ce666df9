//! The gradient of a convolution to its weight by minimal filtering.
//!
//! The transpose of the forward pass: `Gᵀ [Σ (A y Aᵀ) ∘ (Bᵀ d B)] G` over all tiles, which is for
//! each place a product of a matrix `[source channels, tiles]` with one `[tiles, channels]`.

#![allow(
    unsafe_code,
    reason = "source pixels are read through computed pointers"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "a lane or a row indexes several arrays"
)]

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::filter::{Filter, LONGEST, Points, SIDE, Source, Spread, TAPS};
use super::kind::Lattice;
use super::product::{Axis, Product};
use super::tile::{Buffer, Grid, Pixels, pixels, transform};
use crate::Isa;
use crate::conv::gather::Plane;
use crate::conv::geometry::{Edge, Phase};
use crate::conv::panel::{Panel, split};
use crate::memory::{SharedMut, scratch};
use crate::simd::{Kernel, Simd};

/// Tiles that are transformed before they are multiplied.
const TILES: usize = 24;
/// Source channels of an item, whose sums stay in the cache.
const CHANNELS: usize = 32;
/// Items that keep the threads busy; their number must not depend on how many there are.
const ITEMS: usize = 16;

/// Writes the gradient of one group, laid out `[k, c, taps]`.
pub(super) fn weight_gradient<F: Filter>(
    isa: Isa,
    n: usize,
    (phase, lattices): (&Phase, &[Lattice]),
    (input, input_plane): (&[f32], Plane),
    (output, output_plane): (&[f32], Plane),
    gradient: &mut [f32],
) {
    let (lanes, most) = isa.shape();
    let (c, k) = (input_plane.channels, output_plane.channels);
    let panels = split(k, lanes, most);
    let grid = Grid::new::<F>(phase);
    let tiles = n * grid.tiles();
    let blocks = c.div_ceil(CHANNELS);
    let products = panels.len() * blocks;
    // Where there are few products, each is cut into parts that are added afterwards.
    let parts = ITEMS
        .div_ceil(products.max(1))
        .min(tiles.div_ceil(4 * TILES))
        .max(1);
    let per = tiles.div_ceil(parts).next_multiple_of(TILES);
    let task = Task {
        phase,
        grid,
        input: input.as_ptr() as usize,
        input_plane,
        output: output.as_ptr() as usize,
        output_plane,
        taps: phase.taps.len(),
        zeros: &vec![0.0f32; c.max(k) + lanes],
    };
    let mut sums = vec![0.0f32; (parts - 1) * gradient.len()];
    let size = gradient.len();
    let places: Vec<SharedMut<'_>> = std::iter::once(&mut *gradient)
        .chain(sums.chunks_mut(size.max(1)))
        .map(SharedMut::new)
        .collect();
    (0..products * parts).into_par_iter().for_each(|item| {
        let (part, item) = (item / products, item % products);
        let (panel, block) = (item / blocks, item % blocks);
        let channels = block * CHANNELS..((block + 1) * CHANNELS).min(c);
        let [source, result] = buffers::<F>(lanes, panels[panel].vectors);
        let sums = F::PLACES * channels.len() * panels[panel].vectors * lanes;
        scratch(source.len + result.len + sums, |numbers| {
            isa.run(Sums::<F> {
                task: &task,
                lattices,
                panel: &panels[panel],
                channels,
                tiles: part * per..((part + 1) * per).min(tiles),
                gradient: &places[part],
                numbers,
                filter: PhantomData,
            })
        });
    });
    drop(places);
    for part in sums.chunks(size.max(1)) {
        for (total, part) in gradient.iter_mut().zip(part) {
            *total += part;
        }
    }
}

struct Task<'a> {
    phase: &'a Phase,
    grid: Grid,
    /// Addresses, kept as numbers so that threads may share them.
    input: usize,
    input_plane: Plane,
    output: usize,
    output_plane: Plane,
    /// Weights of a filter in one channel.
    taps: usize,
    zeros: &'a [f32],
}

/// The weights between some source channels and a panel, from some tiles.
struct Sums<'a, F> {
    task: &'a Task<'a>,
    /// One after the other by one thread, because their weights lie in the same lines of memory.
    lattices: &'a [Lattice],
    panel: &'a Panel,
    channels: Range<usize>,
    tiles: Range<usize>,
    gradient: &'a SharedMut<'a>,
    /// Room for the two buffers and the sums.
    numbers: &'a mut [f32],
    filter: PhantomData<F>,
}

/// The buffers of the source's tiles and of the result's for a panel of `vectors`.
#[inline(always)]
fn buffers<F: Filter>(lanes: usize, vectors: usize) -> [Buffer; 2] {
    [CHANNELS.div_ceil(lanes), vectors].map(|vectors| Buffer::new::<F>(TILES, vectors, lanes))
}

impl<F: Filter> Kernel for Sums<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let channels = self.channels.len();
        let width = self.panel.vectors * S::LANES;
        let [source, result] = buffers::<F>(S::LANES, self.panel.vectors);
        let numbers = std::mem::take(&mut self.numbers);
        let (transformed, numbers) = numbers.split_at_mut(source.len);
        let (spread, sums) = numbers.split_at_mut(result.len);
        let mut pixels = [[self.task.zeros.as_ptr(); SIDE]; SIDE];
        for lattice in self.lattices {
            sums.fill(0.0);
            for first in self.tiles.clone().step_by(TILES) {
                let tiles = TILES.min(self.tiles.end - first);
                for t in 0..tiles {
                    // SAFETY: the pointers are of pixels with the channels or of zeros as many; the
                    // buffers hold `TILES` tiles of every place.
                    unsafe {
                        let into = transformed.as_mut_ptr().add(t * source.tile);
                        self.source(lattice, first + t, &mut pixels);
                        transform::<S, F, Source>(&pixels, channels, into, source);
                        let into = spread.as_mut_ptr().add(t * result.tile);
                        self.output(first + t, &mut pixels);
                        transform::<S, F, Spread>(&pixels, self.panel.valid, into, result);
                    }
                }
                let product = Product {
                    depth: tiles,
                    rows: Axis {
                        len: S::LANES,
                        inner: 1,
                        outer: source.vector,
                    },
                    columns: Axis::even(source.tile),
                    b: [result.tile, result.vector],
                    m: [width, S::LANES],
                    add: true,
                };
                for place in 0..F::PLACES {
                    // SAFETY: the buffers hold the tiles, the sums a row for every channel.
                    unsafe {
                        product.compute::<S>(
                            self.panel.vectors,
                            channels,
                            transformed.as_ptr().add(place * source.place),
                            spread.as_ptr().add(place * result.place),
                            sums.as_mut_ptr().add(place * channels * width),
                        );
                    }
                }
            }
            // SAFETY: no other item of this part has these weights.
            unsafe { self.write::<S>(lattice, sums, width) };
        }
    }
}

impl<F: Filter> Sums<'_, F> {
    /// Writes the source pixels of a tile.
    #[inline(always)]
    fn source(&self, lattice: &Lattice, tile: usize, into: &mut Pixels) {
        let task = self.task;
        let (image, pixel) = task.grid.tile::<F>(tile);
        let step = task.phase.source_step;
        let from = [0, 1].map(|i| (pixel[i] * step[i]) as isize + lattice.corner[i]);
        let plane = Plane {
            first: task.input_plane.first + self.channels.start,
            ..task.input_plane
        };
        let data = task.input as *const f32;
        let outside = (Edge::Zeros, task.zeros);
        pixels(
            data,
            (&plane, image),
            from,
            step,
            [F::Y::SIDE, F::X::SIDE],
            outside,
            into,
        );
    }

    /// Writes the result's pixels of a tile.
    #[inline(always)]
    fn output(&self, tile: usize, into: &mut Pixels) {
        let task = self.task;
        let (image, pixel) = task.grid.tile::<F>(tile);
        let plane = Plane {
            first: task.output_plane.first + self.panel.first,
            ..task.output_plane
        };
        let data = task.output as *const f32;
        let from = pixel.map(|first| first as isize);
        let outside = (Edge::Zeros, task.zeros);
        pixels(
            data,
            (&plane, image),
            from,
            [1, 1],
            [F::Y::STEP, F::X::STEP],
            outside,
            into,
        );
    }

    /// `Gᵀ sums G` to the gradient.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, lattice: &Lattice, sums: &[f32], width: usize) {
        let (task, channels) = (self.task, self.channels.len());
        let c = task.input_plane.channels;
        for channel in 0..channels {
            for v in 0..self.panel.vectors {
                let lane = v * S::LANES;
                let mut taps = [[0.0f32; 16]; TAPS];
                // SAFETY: the sums have a row for every channel of every place.
                unsafe {
                    let mut half = [[S::splat(0.0); SIDE]; LONGEST];
                    for x in 0..F::X::SIDE {
                        for y in 0..F::Y::SIDE {
                            let place = y * F::X::SIDE + x;
                            let at = (place * channels + channel) * width + lane;
                            let sum = S::load(sums.as_ptr().add(at));
                            for i in 0..F::Y::TAPS {
                                half[i][x] = S::fma(S::splat(F::Y::G[y][i]), sum, half[i][x]);
                            }
                        }
                    }
                    for i in 0..F::Y::TAPS {
                        for j in 0..F::X::TAPS {
                            let mut tap = S::splat(0.0);
                            for x in 0..F::X::SIDE {
                                tap = S::fma(S::splat(F::X::G[x][j]), half[i][x], tap);
                            }
                            S::store(taps[i * F::X::TAPS + j].as_mut_ptr(), tap);
                        }
                    }
                }
                let valid = S::LANES.min(self.panel.valid - lane);
                for i in 0..valid {
                    let k = self.panel.first + lane + i;
                    let at = (k * c + self.channels.start + channel) * task.taps;
                    for (tap, index) in taps.iter().zip(&lattice.taps) {
                        // SAFETY: every weight belongs to one item.
                        unsafe { *self.gradient.pointer().add(at + index) = tap[i] };
                    }
                }
            }
        }
    }
}
