// SPDX-License-Identifier: Apache-2.0
//! How a console line looks: `[    0.123] boot: …`, the kernel's own form, so that one glance follows the whole boot.

use core::{
    fmt::{self, Write as _},
    time::Duration,
};

/// A line: when, counted from the start of the bootloader, and what.
pub struct Line<'a>(pub Duration, pub fmt::Arguments<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            OneLine(f),
            "[{:5}.{:03}] boot: {}",
            self.0.as_secs(),
            self.0.subsec_millis(),
            self.1
        )?;
        f.write_str("\n")
    }
}

/// Reasons quote what was read from the disk: nothing in it may end the line or move the cursor.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '\n' => self.0.write_str("; "),
            ' '..='~' => self.0.write_char(c),
            _ => self.0.write_char('?'),
        })
    }
}
