//! Splitting work, results that several threads write, and memory that is used again.

#![allow(unsafe_code, reason = "threads write to disjoint parts of one result")]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Once;

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

/// `len` numbers that `fill` writes, without zeros before.
///
/// # Safety
/// `fill` must write every number.
pub(crate) unsafe fn written(len: usize, fill: impl FnOnce(&SharedMut<'_>)) -> Vec<f32> {
    keep_pages();
    let mut numbers = Vec::with_capacity(len);
    fill(&SharedMut {
        pointer: numbers.as_mut_ptr(),
        len,
        borrowed: PhantomData,
    });
    // SAFETY: there is room for them, and the caller promises that they are written.
    unsafe { numbers.set_len(len) };
    numbers
}

/// Lends `len` numbers of this thread to `f`; they hold whatever the last use left.
pub(crate) fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static NUMBERS: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    }
    NUMBERS.with_borrow_mut(|numbers| {
        if numbers.len() < len {
            numbers.resize(len, 0.0);
        }
        f(&mut numbers[..len])
    })
}

/// Tells glibc to keep freed memory for the next result: by default large results go back to the
/// system when they are freed, and every page of the next one is faulted in and cleared anew.
fn keep_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: Once = Once::new();
        // Results of the main thread come from the heap whatever their size, and it keeps up to
        // 256 MiB at its end.
        // SAFETY: `mallopt` sets two numbers of the allocator.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
        });
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
