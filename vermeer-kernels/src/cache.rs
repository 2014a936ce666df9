//! Packed weights of networks in use, kept until the next use of any after the weights are gone.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use burn::tensor::Bytes;
use burn_flex::FlexTensor;

use crate::Isa;
use crate::conv::{Geometry, Packed};
use crate::flex::Rows;

/// Positions of a result from which on packing costs little beside computing, so that the memory
/// is saved instead.
const MANY: usize = 4096;

struct Entry {
    /// The storage of the weights. While it is alive nobody has written to it: with this
    /// reference beside, a change in place moves the numbers to another storage.
    of: Weak<Bytes>,
    /// Where they start in it.
    start: usize,
    packed: Arc<Packed>,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(vec![]);

/// The weights and what they are packed for `g`, for a network that is not trained.
pub(crate) fn packed(
    isa: Isa,
    g: &Geometry,
    weight: FlexTensor,
    transposed: bool,
) -> (Rows, Arc<Packed>) {
    let (storage, start) = (weight.data_arc(), weight.layout().start_offset());
    let pixels = if transposed { g.input } else { g.output };
    let whole = weight.is_contiguous();
    let keep = whole && g.n * pixels[0] * pixels[1] < MANY;
    let entries = || ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = |entries: &[Entry]| {
        let of = |entry: &&Entry| {
            whole
                && Weak::as_ptr(&entry.of) == Arc::as_ptr(&storage)
                && entry.start == start
                && entry.packed.serve(isa, g, transposed)
        };
        entries
            .iter()
            .find(of)
            .map(|entry| Arc::clone(&entry.packed))
    };
    {
        let mut entries = entries();
        entries.retain(|entry| entry.of.strong_count() > 0);
        if let Some(packed) = found(&entries) {
            return (Rows::new(weight), packed);
        }
    }
    let weight = Rows::new(weight);
    let packed = Arc::new(Packed::new(isa, g, weight.slice(), transposed));
    if keep {
        let mut entries = entries();
        // Another thread may have been faster.
        if let Some(packed) = found(&entries) {
            return (weight, packed);
        }
        entries.push(Entry {
            of: Arc::downgrade(&storage),
            start,
            packed: Arc::clone(&packed),
        });
    }
    (weight, packed)
}
