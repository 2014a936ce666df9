//! Splitting work, and results that several threads write.

#![allow(unsafe_code, reason = "threads write to disjoint parts of one result")]

use std::marker::PhantomData;

/// A result whose parts are written by several threads; each number by one of them.
pub(crate) struct SharedMut<'a> {
    pointer: *mut f32,
    len: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: writers take disjoint parts, which is the duty of those who call `pointer` and `part`.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self {
            pointer: data.as_mut_ptr(),
            len: data.len(),
            borrowed: PhantomData,
        }
    }

    pub(crate) fn pointer(&self) -> *mut f32 {
        self.pointer
    }

    /// The numbers `from..from + len`.
    ///
    /// # Safety
    /// No two parts that are in use at the same time may overlap.
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint")]
    pub(crate) unsafe fn part(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from + len <= self.len, "a part lies in its whole");
        // SAFETY: inside the borrowed slice; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(from), len) }
    }
}

/// `0..items` cut into ranges for the threads, each a multiple of `unit` but the last; `work` is
/// the number of products an item takes, and a range is worth a thread's while.
pub(crate) fn in_parts(items: usize, unit: usize, work: usize) -> Vec<(usize, usize)> {
    const SMALLEST: usize = 1 << 17;
    let worth = SMALLEST.div_ceil(work.max(1));
    let even = items.div_ceil(4 * rayon::current_num_threads()).max(1);
    let size = even.max(worth).next_multiple_of(unit);
    (0..items)
        .step_by(size)
        .map(|from| (from, (from + size).min(items)))
        .collect()
}
