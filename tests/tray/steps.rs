// SPDX-License-Identifier: Apache-2.0
//! Steps that a person waits for: on a terminal one line that changes, elsewhere now and then a line; and what is done stays.

use std::{
    cell::RefCell,
    io::{IsTerminal as _, Write as _, stderr},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Does `work`. `whole` is what it is a part of: when that began and how long it may take.
pub(crate) fn step<T>(
    title: &str,
    whole: Option<(Instant, Duration)>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let (done, wait) = channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || show(title, start, whole, &wait));
        let result = work();
        drop(done);
        result
    });
    let took = start.elapsed().as_secs();
    match &result {
        Ok(_) => say(&format!("  {title}: done in {took} s")),
        Err(_) => say(&format!("  {title}: FAILED after {took} s")),
    }
    result.with_context(|| title.to_owned())
}

fn show(title: &str, start: Instant, whole: Option<(Instant, Duration)>, wait: &Receiver<()>) {
    let terminal = stderr().is_terminal();
    let line = StatusLine::new();
    let every = if terminal {
        Duration::from_millis(200)
    } else {
        LINE_EVERY
    };
    while wait.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let left = whole.map(|(began, expected)| left(began.elapsed(), expected));
        line.show(&format!(
            "  {title}: {} s so far{}",
            start.elapsed().as_secs(),
            left.unwrap_or_default()
        ));
    }
}

/// Of the whole, as far as anybody knows.
fn left(passed: Duration, expected: Duration) -> String {
    match expected.checked_sub(passed) {
        Some(left) if left.as_secs() > 0 => format!(", about {} s left in all", left.as_secs()),
        _ => ", longer in all than expected".to_owned(),
    }
}

/// A line that is always the current one; without a terminal, a new line whenever it changes.
pub(crate) struct StatusLine {
    terminal: bool,
    last: RefCell<String>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        Self {
            terminal: stderr().is_terminal(),
            last: RefCell::default(),
        }
    }

    pub(crate) fn show(&self, text: &str) {
        if self.last.replace(text.to_owned()) == text {
            return;
        }
        if self.terminal {
            // Without wrapping (DECAWM): what is too long for the terminal is cut, and one line is all there is to clear.
            let _ = write!(stderr(), "\r\x1b[K\x1b[?7l{text}\x1b[?7h");
        } else {
            say(text);
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_until_it_took_longer() {
        let seconds = Duration::from_secs;
        assert_eq!(left(seconds(30), seconds(110)), ", about 80 s left in all");
        assert_eq!(
            left(seconds(120), seconds(110)),
            ", longer in all than expected"
        );
    }
}
