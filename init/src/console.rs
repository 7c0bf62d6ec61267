// SPDX-License-Identifier: Apache-2.0
//! What a person sees: one line a step, with the time since the kernel started, who speaks and what happened.
//!
//! ```text
//! [    1.204] network     eth0 up, 10.0.2.15/24 by DHCP from 10.0.2.2
//! [    9.310] repository  failed: connect to git.example: connection refused; next: try again in 4 s
//! ```

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use racklet_linux::clock;
use racklet_tell::text::push_shown;

/// Longest line written, in bytes: errors quote what others sent.
const LONGEST: usize = 1024;

/// Who speaks. Its text is the second column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic(pub &'static str);

impl Topic {
    /// A step that went well, or a fact.
    pub(crate) fn say(self, text: impl Display) {
        line(self.0, &text.to_string());
    }

    /// A step that failed: why, and what happens next.
    pub(crate) fn failed(self, error: impl Display, next: impl Display) {
        line(self.0, &format!("failed: {error}; next: {next}"));
    }
}

fn line(topic: &str, text: &str) {
    let line = format_line(clock::since_boot(), topic, text);
    // Nothing better to do when the console is gone.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn format_line(at: Duration, topic: &str, text: &str) -> String {
    let mut line = format!(
        "[{:5}.{:03}] {topic:<11} ",
        at.as_secs(),
        at.subsec_millis()
    );
    for character in text.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        match character {
            // What others sent must neither break lines nor drive the terminal.
            '\n' | '\r' | '\t' => line.push(' '),
            c => push_shown(&mut line, c),
        }
    }
    line.push('\n');
    line
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} s", duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_stamped() {
        assert_eq!(
            format_line(Duration::from_millis(3214), "network", "eth0 up"),
            "[    3.214] network     eth0 up\n"
        );
    }

    #[test]
    fn what_others_sent_cannot_break_a_line_or_drive_the_terminal() {
        let line = format_line(Duration::ZERO, "x", "a\nb\u{1b}[2Jc");
        assert_eq!(line, "[    0.000] x           a b\\x1b[2Jc\n");
        assert!(format_line(Duration::ZERO, "x", &"y".repeat(100_000)).len() < LONGEST + 8);
    }

    #[test]
    fn times_read_well() {
        assert_eq!(
            [
                seconds(Duration::from_millis(1540)),
                seconds(Duration::from_secs(75))
            ],
            ["1.5 s", "75 s"]
        );
    }
}
