// SPDX-License-Identifier: Apache-2.0
//! How frames follow each other on a reliable stream: one byte of kind, two of length (little-endian), then that many bytes.
//!
//! What a kind means is for the protocol above to say ([`crate::console`]).

use core::fmt;

/// The most bytes behind a frame's head. Bounds what either end keeps for one that is not whole yet.
pub const LONGEST: usize = 1024;
/// Bytes of a frame's head.
pub const HEAD: usize = 3;

/// A frame as it lies in somebody's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: u8,
    /// At most [`LONGEST`] bytes.
    pub body: &'a [u8],
}

/// Its head claims more than [`LONGEST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong(
    /// The bytes that it claims.
    pub u16,
);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes; {LONGEST} are allowed", self.0)
    }
}

impl core::error::Error for TooLong {}

impl<'a> Frame<'a> {
    /// The first frame in `bytes` and how many bytes it takes; none while it is not whole.
    ///
    /// # Errors
    /// [`TooLong`], as soon as the head is there.
    // untrusted: console_frames
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, TooLong> {
        let Some((&[kind, low, high], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u16::from_le_bytes([low, high]);
        if usize::from(length) > LONGEST {
            return Err(TooLong(length));
        }
        let length = usize::from(length);
        Ok(rest
            .get(..length)
            .map(|body| (Self { kind, body }, HEAD + length)))
    }
}

/// Writes a frame into `out` and gives how many bytes of it that took; none when it is longer than [`LONGEST`] or than `out`.
pub fn write(kind: u8, parts: &[&[u8]], out: &mut [u8]) -> Option<usize> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let head = u16::try_from(length)
        .ok()
        .filter(|_| length <= LONGEST)?
        .to_le_bytes();
    let out = out.get_mut(..HEAD + length)?;
    let (to_head, mut to) = out.split_at_mut(HEAD);
    to_head.copy_from_slice(&[kind, head[0], head[1]]);
    for part in parts {
        let (here, rest) = to.split_at_mut(part.len());
        here.copy_from_slice(part);
        to = rest;
    }
    Some(HEAD + length)
}
