// SPDX-License-Identifier: Apache-2.0
//! Cuts a command's output into lines of bounded length.

use racklet_api::vmm::{MAX_OUTPUT, OutputStream, WorkloadLine};

/// What is left of one stream between reads.
pub(crate) struct Lines {
    stream: OutputStream,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: OutputStream) -> Lines {
        Lines {
            stream,
            rest: Vec::new(),
        }
    }

    /// Takes more bytes; gives what has become whole.
    pub(crate) fn add(&mut self, bytes: &[u8], time_ms: u64) -> Vec<WorkloadLine> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                lines.push(self.cut(time_ms, false));
                continue;
            }
            // A character is kept whole: cut before the byte that begins one.
            let full = self.rest.len() >= MAX_OUTPUT;
            let boundary = *byte & 0xc0 != 0x80 || self.rest.len() >= MAX_OUTPUT + 3;
            if full && boundary {
                lines.push(self.cut(time_ms, true));
            }
            self.rest.push(*byte);
        }
        lines
    }

    /// What is left when the stream ends.
    pub(crate) fn end(&mut self, time_ms: u64) -> Option<WorkloadLine> {
        (!self.rest.is_empty()).then(|| self.cut(time_ms, false))
    }

    fn cut(&mut self, time_ms: u64, partial: bool) -> WorkloadLine {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
        WorkloadLine {
            time_ms,
            stream: self.stream,
            line,
            partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[WorkloadLine]) -> Vec<(&str, bool)> {
        lines.iter().map(|l| (l.line.as_str(), l.partial)).collect()
    }

    #[test]
    fn lines_are_whole_however_they_were_read() {
        let mut lines = Lines::new(OutputStream::Stdout);
        assert_eq!(text(&lines.add(b"one\ntw", 1)), [("one", false)]);
        assert_eq!(text(&lines.add(b"o\n\n", 1)), [("two", false), ("", false)]);
        lines.add(b"end", 1);
        assert_eq!(lines.end(2).map(|l| l.line).as_deref(), Some("end"));
        assert_eq!(lines.end(2), None);
    }

    #[test]
    fn long_lines_are_cut_between_characters_and_nonsense_is_replaced() {
        let mut lines = Lines::new(OutputStream::Stderr);
        let long = "ü".repeat(MAX_OUTPUT) + "\n";
        let cut = lines.add(long.as_bytes(), 1);
        assert_eq!(cut.len(), 2);
        assert!(cut[0].partial && !cut[1].partial);
        assert_eq!(cut[0].line.clone() + &cut[1].line + "\n", long);
        let cut = lines.add(&[0x80; 3 * MAX_OUTPUT], 1);
        assert!(cut.len() >= 2, "bytes that are no text are bounded, too");
        assert_eq!(lines.add(b"\xff\n", 1).len(), 1);
    }
}
