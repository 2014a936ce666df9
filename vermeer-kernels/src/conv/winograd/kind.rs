//! Which filter serves which kernel.

use super::filter::{By, FourOfTwo, One, Toom};
use crate::conv::geometry::Phase;

/// The filters that serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::conv) enum Kind {
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

/// One filter along both axes.
pub(super) type Square<const M: usize, const R: usize> = By<Toom<M, R>, Toom<M, R>>;
/// A filter along rows only.
pub(super) type Row<const M: usize, const R: usize> = By<One, Toom<M, R>>;
/// A filter along columns only.
pub(super) type Column<const M: usize, const R: usize> = By<Toom<M, R>, One>;
/// F(4×4, 2×2).
pub(super) type FourByFour = By<FourOfTwo, FourOfTwo>;

/// `$do` with `$F` as the filter of a kind.
macro_rules! by_kind {
    ($kind:expr, $F:ident => $do:expr) => {
        match $kind {
            Kind::Two => {
                type $F = $crate::conv::winograd::kind::Square<2, 3>;
                $do
            }
            Kind::Four => {
                type $F = $crate::conv::winograd::kind::Square<4, 3>;
                $do
            }
            Kind::FourOfTwo => {
                type $F = $crate::conv::winograd::kind::FourByFour;
                $do
            }
            Kind::TwoOfFive => {
                type $F = $crate::conv::winograd::kind::Square<2, 5>;
                $do
            }
            Kind::Row3 => {
                type $F = $crate::conv::winograd::kind::Row<4, 3>;
                $do
            }
            Kind::Column3 => {
                type $F = $crate::conv::winograd::kind::Column<4, 3>;
                $do
            }
            Kind::Row7 => {
                type $F = $crate::conv::winograd::kind::Row<4, 7>;
                $do
            }
            Kind::Column7 => {
                type $F = $crate::conv::winograd::kind::Column<4, 7>;
                $do
            }
        }
    };
}

impl Kind {
    /// Whether weights of so many channels of the source times those of the result are better
    /// read transformed, time after time, than as they are: F(4×4, 2×2) makes six numbers of one.
    pub(in crate::conv) fn pays(self, weights: usize) -> bool {
        self != Self::FourOfTwo || weights <= 1 << 14
    }

    /// The kind that serves a phase, and the phase's lattices, with tiles of two or of four.
    pub(in crate::conv) fn of(phase: &Phase, two: bool) -> Option<(Self, Vec<Lattice>)> {
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

/// Taps that read neighbours on a part of the source's pixels: every `source_step`-th from
/// `corner` on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::conv) struct Lattice {
    /// Where the first tap reads, `(dy, dx)`.
    pub(in crate::conv) corner: [isize; 2],
    /// Index of each tap in the kernel, row by row.
    pub(in crate::conv) taps: Vec<usize>,
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

pub(super) use by_kind;
