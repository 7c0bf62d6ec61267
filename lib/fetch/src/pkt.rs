// SPDX-License-Identifier: Apache-2.0
//! Git's pkt-lines over a stream, and the side band that carries a pack in them.
//!
//! Formats: Documentation/gitprotocol-common.txt and gitprotocol-v2.txt of Git. One line of at most 65,516 bytes is held at a time.

use std::io::{self, BufRead, Read};

use gix_packetline::{PacketLineRef, decode::PacketLineOrWantedSize};
use racklet_tell::text;

/// Why a line cannot be had. As an I/O error it goes through the readers of a pack.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("read a line")]
    Read(#[source] io::Error),
    #[error("a line of Git's answer is not proper: {0}")]
    Improper(&'static str),
    #[error("the server says: {0}")]
    Server(String),
}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Read(error) => error,
            other => Self::other(other),
        }
    }
}

/// Longest line, its four digits not counted (gitprotocol-common.txt).
const MAX_DATA: u16 = 65516;

/// One line, or one of the lines that only mark a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Data(&'a [u8]),
    Flush,
    Delimiter,
    End,
}

impl<'a> Line<'a> {
    /// The line as text without its line end.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Line::Data(data) => std::str::from_utf8(data.strip_suffix(b"\n").unwrap_or(data)).ok(),
            _ => None,
        }
    }
}

pub(crate) struct Lines<R> {
    inner: R,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            line: Vec::new(),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next line. Git's `ERR` lines become errors.
    pub(crate) fn next(&mut self) -> Result<Line<'_>, LineError> {
        let mut prefix = [0; 4];
        self.inner
            .read_exact(&mut prefix)
            .map_err(LineError::Read)?;
        let length = match gix_packetline::decode::hex_prefix(&prefix) {
            Ok(PacketLineOrWantedSize::Line(PacketLineRef::Flush)) => return Ok(Line::Flush),
            Ok(PacketLineOrWantedSize::Line(PacketLineRef::Delimiter)) => {
                return Ok(Line::Delimiter);
            }
            Ok(PacketLineOrWantedSize::Line(_)) => return Ok(Line::End),
            Ok(PacketLineOrWantedSize::Wanted(length)) if (1..=MAX_DATA).contains(&length) => {
                length
            }
            _ => {
                return Err(LineError::Improper(
                    "its length is not four hexadecimal digits within bounds",
                ));
            }
        };
        self.line.resize(length.into(), 0);
        self.inner
            .read_exact(&mut self.line)
            .map_err(LineError::Read)?;
        if let Some(words) = self.line.strip_prefix(b"ERR ") {
            return Err(LineError::Server(printable(words)));
        }
        Ok(Line::Data(&self.line))
    }
}

/// A server's words, fit for a console.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let shown: String = text::line(&String::from_utf8_lossy(bytes))
        .chars()
        .take(300)
        .collect();
    shown.trim().to_owned()
}

/// What comes in band 1 of the side band: the pack.
pub(crate) struct SideBand<R> {
    lines: Lines<R>,
    start: usize,
    ended: bool,
}

impl<R: Read> SideBand<R> {
    pub(crate) fn new(lines: Lines<R>) -> Self {
        Self {
            lines,
            start: usize::MAX,
            ended: false,
        }
    }

    /// What the lines come from.
    pub(crate) fn inner_mut(&mut self) -> &mut R {
        &mut self.lines.inner
    }

    /// The lines behind the pack's end.
    pub(crate) fn into_lines(self) -> Lines<R> {
        self.lines
    }
}

// untrusted: git_side_band
impl<R: Read> BufRead for SideBand<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.start >= self.lines.line.len() {
            match self.lines.next()? {
                Line::Data([1, ..]) => self.start = 1,
                // Band 2 is progress for people; an empty band 1 keeps the connection alive.
                Line::Data([2, ..]) => self.lines.line.clear(),
                Line::Data([3, words @ ..]) => {
                    return Err(LineError::Server(printable(words)).into());
                }
                Line::Data(_) => {
                    return Err(LineError::Improper("it belongs to no band").into());
                }
                Line::Flush => self.ended = true,
                Line::Delimiter | Line::End => {
                    return Err(LineError::Improper("the pack ends without a flush").into());
                }
            }
        }
        Ok(if self.ended {
            &[]
        } else {
            &self.lines.line[self.start..]
        })
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

impl<R: Read> Read for SideBand<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Adds `text` and a line end as one line to a request.
pub(crate) fn put(request: &mut Vec<u8>, text: &str) {
    request.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn band(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        SideBand::new(Lines::new(bytes)).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn the_pack_is_what_band_one_carries() {
        assert_eq!(
            band(b"0007\x01ab0005\x01000a\x02hello0006\x01c0000").unwrap(),
            b"abc"
        );
    }

    #[test]
    fn a_server_that_gives_up_is_quoted() {
        let error = band(b"0007\x01ab000a\x03fatal0000").unwrap_err();
        assert!(error.to_string().contains("fatal"), "{error}");
        let error = Lines::new(&b"000cERR gone"[..]).next().unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn bad_lengths_are_refused() {
        for bytes in [
            &b"fff5"[..],
            b"0003",
            b"0004",
            b"00zz",
            b"-001",
            b"ffff",
            b"+005a",
            b"0000",
        ] {
            assert_eq!(band(bytes).is_err(), bytes != b"0000", "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"00",
            b"0009\x01ab",
            b"0007\x01ab",
            b"0007\x04ab0000",
            b"0007\x01ab0001",
        ] {
            assert!(band(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_side_band_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = band(&bytes);
        }
    }
}
