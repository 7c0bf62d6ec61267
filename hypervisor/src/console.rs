// SPDX-License-Identifier: Apache-2.0
//! Lines for the console: one per event. What repeats is said once.

use std::io::Write;
use std::sync::Mutex;

/// Writes one line to standard error. `init` puts time and name before it, on the console and in the log.
pub(crate) fn say(text: &str) {
    let mut line = racklet_tell::text::line(text);
    line.push('\n');
    // A console that is gone is no reason to stop.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says something again only when it differs from the last time.
#[derive(Default)]
pub(crate) struct Once(Mutex<String>);

impl Once {
    pub(crate) fn say(&self, text: &str) {
        let mut last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last != text {
            say(text);
            text.clone_into(&mut last);
        }
    }

    /// The trouble is over: the next one is news.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }
}
