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

use racklet_api::text::push_shown;
use racklet_linux::clock;

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

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes >> 10),
        // One decimal, rounded down.
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & (MIB - 1)) * 10) >> 20),
    }
}

/// Unix seconds as people read them.
pub(crate) fn utc(unix: u64) -> String {
    // Days to year, month, day: https://howardhinnant.github.io/date_algorithms.html, from 0000-03-01.
    let (days, second) = (unix / 86_400 + 719_468, unix % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
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
    fn sizes_and_times_read_well() {
        assert_eq!(
            [size(12), size(2048), size(5 * 1024 * 1024 + 700_000)],
            ["12 B", "2 KiB", "5.6 MiB"]
        );
        assert_eq!(
            [
                seconds(Duration::from_millis(1540)),
                seconds(Duration::from_secs(75))
            ],
            ["1.5 s", "75 s"]
        );
    }

    #[test]
    fn dates_read_as_dates() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_790_000_000, "2026-09-21 14:13:20 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(unix), text);
        }
    }
}
