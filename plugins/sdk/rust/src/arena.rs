//! The memory in which a batch arrives: handed out by moving one number up, and given back as a whole when the batch is
//! answered, instead of piece by piece.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[cfg(target_family = "wasm")]
use crate::bindings::pgstream::host::types::Batch;

/// Bytes that the arena has at most: a thousand rows of some hundred bytes. What does not fit is the system's allocator's,
/// as all is that a handler asks for itself: that may outlive the batch.
const MOST: usize = 1 << 20;

/// What the arena grows by.
const STEP: usize = 1 << 16;

/// An allocator that has a block for what arrives.
struct Arena {
    block: Cell<*mut u8>,
    len: Cell<usize>,
    /// Where the rest of the block begins.
    next: Cell<usize>,
    /// Whether no handler runs, so that what is asked for is the next batch's.
    open: Cell<bool>,
    /// Bytes of the next batch that did not fit.
    lacking: Cell<usize>,
}

#[cfg(target_family = "wasm")]
#[cfg_attr(feature = "arena", global_allocator)]
static ARENA: Arena = Arena::new();

// SAFETY: a component of this world has one thread.
unsafe impl Sync for Arena {}

/// Has a batch answered, and gives its memory back.
#[cfg(target_family = "wasm")]
pub fn answered<R>(batch: Batch, run: impl FnOnce(&Batch) -> R) -> R {
    ARENA.open.set(false);
    let answer = run(&batch);
    if ARENA.holds_all() {
        std::mem::forget(batch);
    } else {
        drop(batch);
    }
    ARENA.renew();
    answer
}

/// How the host asks for the memory of what it hands over. Its namesake in the libc asks the libc, whichever allocator is to
/// free it.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, len: usize) -> *mut u8 {
    use std::alloc::{alloc, realloc};
    if len == 0 {
        return align as *mut u8;
    }
    // SAFETY: what the canonical ABI promises of these numbers is what the allocator asks of a layout.
    let pointer = unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align_unchecked(len, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_len, align), len)
        }
    };
    if pointer.is_null() {
        std::arch::wasm32::unreachable();
    }
    pointer
}

impl Arena {
    const fn new() -> Self {
        Self {
            block: Cell::new(std::ptr::null_mut()),
            len: Cell::new(0),
            next: Cell::new(0),
            open: Cell::new(true),
            lacking: Cell::new(0),
        }
    }

    /// Whether all that was asked for since it was renewed lies in the block.
    fn holds_all(&self) -> bool {
        self.len.get() > 0 && self.lacking.get() == 0
    }

    /// Empties the block for the next batch, and makes it larger if the last did not fit. Nothing in it may be in use.
    fn renew(&self) {
        let (len, lacking) = (self.len.get(), self.lacking.take());
        let wanted = len.saturating_add(lacking).min(MOST).next_multiple_of(STEP);
        if lacking > 0 && wanted > len {
            // SAFETY: the block was made here, with this layout.
            unsafe {
                if len > 0 {
                    System.dealloc(self.block.get(), layout(len));
                }
                self.block.set(System.alloc(layout(wanted)));
            }
            self.len.set(if self.block.get().is_null() { 0 } else { wanted });
        }
        self.next.set(self.block.get() as usize);
        self.open.set(true);
    }

    /// The next piece of the block.
    #[inline]
    fn piece(&self, layout: Layout) -> Option<*mut u8> {
        if !self.open.get() {
            return None;
        }
        let begin = (self.next.get() + layout.align() - 1) & !(layout.align() - 1);
        let offset = begin.wrapping_sub(self.block.get() as usize);
        if layout.size() > self.len.get().saturating_sub(offset) {
            self.lacking.set(self.lacking.get().saturating_add(layout.size()));
            return None;
        }
        self.next.set(begin + layout.size());
        Some(self.block.get().wrapping_add(offset))
    }

    #[inline]
    fn holds(&self, pointer: *mut u8) -> bool {
        (pointer as usize).wrapping_sub(self.block.get() as usize) < self.len.get()
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 16).expect("at most `MOST`")
}

// SAFETY: a piece is aligned, lies in the block, and is handed out once until the block is renewed. All
// else is the system's.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.piece(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.piece(layout) {
            Some(piece) => unsafe {
                piece.write_bytes(0, layout.size());
                piece
            },
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !self.holds(pointer) {
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(pointer) {
            return unsafe { System.realloc(pointer, layout, size) };
        }
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                pointer.copy_to_nonoverlapping(moved, layout.size().min(size));
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Layout = Layout::new::<u64>();
    const BYTE: Layout = Layout::new::<u8>();

    /// As when a batch has arrived that asked for `layout` so many times.
    fn arrived(arena: &Arena, layout: Layout, times: usize) -> Vec<*mut u8> {
        let pieces = (0..times).map(|_| unsafe { arena.alloc(layout) }).collect();
        arena.open.set(false);
        pieces
    }

    /// As when it is answered, with what the host did not find in the block freed one by one.
    fn answered(arena: &Arena, layout: Layout, pieces: Vec<*mut u8>) {
        for piece in pieces {
            unsafe { arena.dealloc(piece, layout) };
        }
        arena.renew();
    }

    #[test]
    fn a_batch_lies_in_one_block_once_its_size_is_known() {
        let arena = Arena::new();
        let pieces = arrived(&arena, WORD, 1000);
        assert!(!arena.holds_all());
        answered(&arena, WORD, pieces);
        assert_eq!(arena.len.get(), STEP);

        let bytes = arrived(&arena, BYTE, 3);
        assert!(arena.holds_all());
        assert_eq!(bytes.iter().map(|&byte| byte as usize - bytes[0] as usize).collect::<Vec<_>>(), [0, 1, 2]);
        arena.open.set(true);
        let words = arrived(&arena, WORD, 1000);
        assert!(arena.holds_all() && words.iter().all(|&word| arena.holds(word) && word.cast::<u64>().is_aligned()));
        answered(&arena, WORD, words);
        assert_eq!(unsafe { arena.alloc(BYTE) }, bytes[0], "the next batch begins where the last did");
    }

    #[test]
    fn what_a_handler_asks_for_outlives_the_batch() {
        let arena = Arena::new();
        answered(&arena, WORD, arrived(&arena, WORD, 1));
        let batch = arrived(&arena, WORD, 1);
        let own = unsafe { arena.alloc(WORD) };
        assert!(arena.holds(batch[0]) && !arena.holds(own));
        let grown = unsafe { arena.realloc(batch[0], WORD, 16) };
        assert!(!arena.holds(grown));
        unsafe {
            System.dealloc(own, WORD);
            System.dealloc(grown, Layout::from_size_align_unchecked(16, 8));
        }
    }

    #[test]
    fn the_block_has_a_bound() {
        let arena = Arena::new();
        let page = Layout::from_size_align(STEP, 8).unwrap();
        for _ in 0..3 {
            answered(&arena, page, arrived(&arena, page, 100));
            assert_eq!(arena.len.get(), MOST);
        }
        let pieces = arrived(&arena, page, 17);
        assert!(pieces[..16].iter().all(|&piece| arena.holds(piece)) && !arena.holds(pieces[16]) && !arena.holds_all());
        answered(&arena, page, pieces);
    }
}
