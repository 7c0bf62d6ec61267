// SPDX-License-Identifier: Apache-2.0
//! Memory by the piece, for TLS alone: its most at any time is a figure that the project is held to.

use core::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicUsize, Ordering},
};

use embedded_alloc::LlffHeap;

/// Bytes. The most that was seen in use is 15 KiB, with eight sessions open and two handshakes under way; a client may send a larger
/// certificate than ours.
const SIZE: usize = 48 << 10;

struct Heap {
    inner: LlffHeap,
    peak: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    inner: LlffHeap::empty(),
    peak: AtomicUsize::new(0),
};

// SAFETY: both methods are `LlffHeap`'s, which fulfils the contract; what is added looks at a counter.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        let place = unsafe { self.inner.alloc(layout) };
        self.peak.fetch_max(self.inner.used(), Ordering::Relaxed);
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, which is the same.
        unsafe { self.inner.dealloc(place, layout) }
    }
}

/// Once, before anything is allocated.
pub(crate) fn start() {
    use core::mem::MaybeUninit;
    static mut MEMORY: [MaybeUninit<u8>; SIZE] = [MaybeUninit::uninit(); SIZE];
    // SAFETY: `board::start` calls this once, and nothing else names MEMORY.
    unsafe { HEAP.inner.init(&raw mut MEMORY as usize, SIZE) }
}

/// The most bytes that were in use at a time since the start.
pub(crate) fn peak() -> usize {
    HEAP.peak.load(Ordering::Relaxed)
}
