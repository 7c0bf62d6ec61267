// SPDX-License-Identifier: Apache-2.0
//! Lines for the console: one per event, with the time and who speaks. What repeats is said once.

use std::io::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one line to standard error, which `init` forwards to the console.
pub(crate) fn say(text: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let day = now.as_secs() % 86_400;
    let clean: String = text
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    let line = format!(
        "{:02}:{:02}:{:02}.{:03} hypervisor: {clean}\n",
        day / 3600,
        day / 60 % 60,
        day % 60,
        now.subsec_millis()
    );
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

/// An error with everything that led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !out.ends_with(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        source = error.source();
    }
    out
}
