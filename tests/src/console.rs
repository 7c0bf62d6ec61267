// SPDX-License-Identifier: Apache-2.0
//! A machine's serial console as a growing file: wait for what it should say, notice what it must never say.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{Process, tail},
    until::until,
};

/// Reads a console log from where it stopped last time.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    text: String,
    offset: u64,
    /// Everything before this has been waited for already.
    seen: usize,
}

impl Console {
    /// A console that is written to `path`, which need not be there yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            text: String::new(),
            offset: 0,
            seen: 0,
        }
    }

    /// The first complete line after those found before that contains `what`, if it is there by now.
    pub fn find(&mut self, what: &str) -> Option<String> {
        self.read();
        let complete = self.text.rfind('\n').map_or(0, |end| end + 1);
        let at = self.text[self.seen.min(complete)..complete].find(what)? + self.seen;
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = at + self.text[at..].find('\n')?;
        self.seen = end + 1;
        Some(self.text[start..end].trim_end().to_owned())
    }

    /// Whether all of `lines` are there by now, in any order; what is found next comes after the last of them.
    ///
    /// For what several programs of a tray say, each at its own pace.
    pub fn find_all(&mut self, lines: &[&str]) -> bool {
        let from = self.seen;
        let mut last = from;
        for line in lines {
            self.seen = from;
            if self.find(line).is_none() {
                self.seen = from;
                return false;
            }
            last = last.max(self.seen);
        }
        self.seen = last;
        true
    }

    /// Waits until it says `what`, and gives the line; what the machine said before it ended counts.
    ///
    /// # Errors
    /// When it does not within `bound`, or the machine is off: with the end of the console.
    pub fn wait_for(
        &mut self,
        machine: &mut Process,
        what: &str,
        bound: Duration,
    ) -> Result<String> {
        let found = until(&format!("the console says {what:?}"), bound, || {
            if let Some(line) = self.find(what) {
                return Ok(Some(line));
            }
            machine.check()?;
            Ok(None)
        });
        found.with_context(|| tail(&self.path, 25))
    }

    /// Whether it has said `what` at any time so far.
    pub fn said(&mut self, what: &str) -> bool {
        self.read();
        self.text.contains(what)
    }

    /// Everything so far.
    pub fn text(&mut self) -> &str {
        self.read();
        &self.text
    }

    /// Looks only at what is said from now on.
    pub fn skip(&mut self) {
        self.read();
        self.seen = self.text.len();
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) {
        // Not there yet is the same as silent.
        let Ok(mut file) = File::open(&self.path) else {
            return;
        };
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.offset)).is_ok() && file.read_to_end(&mut bytes).is_ok() {
            self.offset += bytes.len() as u64;
            // A character cut in two by this read shows as two marks; consoles are ASCII where it matters.
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::OpenOptions, io::Write as _};

    #[test]
    fn lines_are_found_once_in_order_and_only_when_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let mut console = Console::new(&path);
        assert_eq!(console.find("up"), None);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"1 eth0 up\r\n2 eth1 up\r\n3 eth2 u")
            .unwrap();
        assert_eq!(console.find("up").as_deref(), Some("1 eth0 up"));
        assert_eq!(console.find("up").as_deref(), Some("2 eth1 up"));
        assert_eq!(console.find("up"), None);
        assert_eq!(console.find("eth2"), None);
        file.write_all(b"p\n").unwrap();
        assert_eq!(console.find("up").as_deref(), Some("3 eth2 up"));
        assert!(console.said("eth0"));
    }

    #[test]
    fn lines_in_any_order_are_found_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        std::fs::write(&path, "b\na\nc\na\n").unwrap();
        let mut console = Console::new(&path);
        assert!(!console.find_all(&["a", "d"]));
        assert_eq!(console.find("b").as_deref(), Some("b"), "nothing was taken");
        let mut console = Console::new(&path);
        assert!(console.find_all(&["a", "b"]));
        assert_eq!(console.find("b"), None);
        assert!(console.find_all(&["c", "a"]));
    }
}
