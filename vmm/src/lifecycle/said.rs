// SPDX-License-Identifier: Apache-2.0
//! What a Linux kernel says of its own end, found in its console output: all that is to be seen from outside of a power-off without
//! ACPI (the processors halt), and the name of what a reset stands for.
//!
//! Only root in the guest can write such a line itself, and ends nothing but its own guest with it.

/// Longest part of a console line that is looked at.
const LOOK: usize = 300;
/// Longest panic line that is given on, in characters.
const SHOW: usize = 200;

/// What the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It panicked: its line, as text that drives no terminal.
    Panic(String),
    /// It restarts: the reset line is pulled next (`kernel/reboot.c`, `kernel_restart`).
    Restarting,
    /// It switches the machine off, or halts it because it does not know how to switch it off (`kernel_power_off`, `kernel_halt`).
    PoweringOff,
}

/// Looks for such lines, however the output is cut.
#[derive(Debug, Default)]
pub struct Words {
    line: Vec<u8>,
}

impl Words {
    /// Looks at more output; gives what lines that have become whole say.
    pub fn look(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut found = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < LOOK {
                    self.line.push(*byte);
                }
                continue;
            }
            found.extend(said(String::from_utf8_lossy(&self.line).trim_end()));
            self.line.clear();
        }
        found
    }
}

/// A kernel's line begins at its time stamp, which may stand behind what a program left of a line.
fn said(line: &str) -> Option<Said> {
    let stamped = line.match_indices('[').map(|(at, _)| &line[at..]);
    std::iter::once(line)
        .chain(stamped.filter(|rest| is_stamped(rest)))
        .find_map(words)
}

/// Whatever the kernel puts in brackets before its words (the time, `CONFIG_PRINTK_CALLER`) is passed over.
fn words(line: &str) -> Option<Said> {
    let mut text = line;
    while let Some((_, rest)) = text
        .strip_prefix('[')
        .and_then(|stamped| stamped.split_once(']'))
    {
        text = rest.trim_start();
    }
    if text.starts_with("Kernel panic - not syncing") {
        return Some(Said::Panic(
            racklet_tell::text::line(text).chars().take(SHOW).collect(),
        ));
    }
    // kernel/reboot.c; behind the last one there may be the command given to reboot(2).
    match text.strip_prefix("reboot: ")? {
        "System halted" | "Power down" | "Power off not available: System halted instead" => {
            Some(Said::PoweringOff)
        }
        other if other.starts_with("Restarting system") => Some(Said::Restarting),
        _ => None,
    }
}

/// Whether this begins with `[    3.141592]`.
fn is_stamped(text: &str) -> bool {
    let inside = text
        .strip_prefix('[')
        .and_then(|stamped| stamped.split_once(']'));
    inside.is_some_and(|(time, _)| {
        let time = time.trim_start();
        time.contains('.') && time.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_says_of_its_end_is_found_however_the_output_is_cut() {
        let text = b"[    1.0] hello\n[    2.0][    T1] Kernel panic - not syncing: \x1b[31mVFS\r\nmore\n\
                     [    3.1] reboot: Restarting system\r\n[    3.2] reboot: System halted\n[ 4.5] reboot: Power down\n\
                     half a l[    4.[    4.6] reboot: Power off not available: System halted instead\n";
        let expected = [
            Said::Panic(r"Kernel panic - not syncing: \x1b[31mVFS".to_owned()),
            Said::Restarting,
            Said::PoweringOff,
            Said::PoweringOff,
            Said::PoweringOff,
        ];
        for cut in 0..text.len() {
            let mut words = Words::default();
            let mut found = words.look(&text[..cut]);
            found.extend(words.look(&text[cut..]));
            assert_eq!(found, expected, "{cut}");
        }
    }

    #[test]
    fn a_program_that_only_speaks_of_such_lines_ends_nothing() {
        let text = "he said: Kernel panic - not syncing\nsee reboot: System halted\nreboot: System halted?\n[reboot: Power down\n";
        let mut words = Words::default();
        assert_eq!(words.look(text.as_bytes()), []);
        assert_eq!(words.look(&vec![b'x'; 100_000]), []);
    }
}
