// SPDX-License-Identifier: Apache-2.0
//! A clock that stands still until a test says what time it is, on its own thread.

use std::cell::Cell;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// In place of [`crate::rate::now`].
pub(crate) fn test_clock() -> u64 {
    NOW.get()
}

/// From now on it is this time, in nanoseconds.
pub(crate) fn set_clock(now: u64) {
    NOW.set(now);
}
