// SPDX-License-Identifier: Apache-2.0
//! Cuts a command's output into lines of bounded length.

use racklet_api::guest::{MAX_OUTPUT, OutputStream, WorkloadLine};

/// What is left of one stream between reads.
pub struct Lines {
    stream: OutputStream,
    rest: Vec<u8>,
}

impl Lines {
    /// Nothing of this stream has been read.
    #[must_use]
    pub fn new(stream: OutputStream) -> Lines {
        Lines {
            stream,
            rest: Vec::new(),
        }
    }

    /// Takes more bytes; gives what has become whole.
    // untrusted: workload_output
    pub fn add(&mut self, bytes: &[u8], time_ms: u64) -> Vec<WorkloadLine> {
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
    pub fn end(&mut self, time_ms: u64) -> Option<WorkloadLine> {
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
mod tests;
