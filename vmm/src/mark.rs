// SPDX-License-Identifier: Apache-2.0
//! When something happened first, since the monitor's start.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rate;

/// Set once, by any thread.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

impl Mark {
    /// It happens. Only the first time counts, and only that one asks for the time.
    pub(crate) fn set(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let now = rate::now().max(1);
            // Where another thread was first, it was.
            let _ = (self.0).compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Microseconds from the start to then, if it has happened.
    pub(crate) fn micros(&self) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(nanos / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_time_counts() {
        let mark = Mark::default();
        assert_eq!(mark.micros(), None);
        mark.set();
        let first = mark.micros();
        assert!(first.is_some());
        while rate::now() / 1000 <= first.unwrap() {
            std::thread::yield_now();
        }
        mark.set();
        assert_eq!(mark.micros(), first);
    }
}
