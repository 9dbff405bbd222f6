//! `Counting`: the system's allocator, which counts what is asked of it while somebody wants to know.

#![allow(unsafe_code)] // an allocator cannot be written without; every call goes on to the system's as it came

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts in all threads between [`start`] and [`stop`]; otherwise costs a read of a flag.
pub(crate) struct Counting;

static WANTED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Allocated {
    /// New pieces, and pieces that had to grow.
    pub(crate) calls: u64,
    /// Their bytes; of a piece that grew, those that were added.
    pub(crate) bytes: u64,
}

/// Starts to count from zero.
pub(crate) fn start() {
    CALLS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    WANTED.store(true, Relaxed);
}

/// Stops counting, and says how much there was.
pub(crate) fn stop() -> Allocated {
    WANTED.store(false, Relaxed);
    Allocated { calls: CALLS.load(Relaxed), bytes: BYTES.load(Relaxed) }
}

fn count(bytes: usize) {
    if WANTED.load(Relaxed) {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: the caller's promises are exactly those that `System` asks for, and nothing is done with the pieces.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(piece, layout, size) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        unsafe { System.dealloc(piece, layout) }
    }
}
