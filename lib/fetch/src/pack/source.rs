// SPDX-License-Identifier: Apache-2.0
//! The bytes of a pack as they come, and what unpacking them may cost.

use std::io::{self, BufRead};

use ring::digest::Context;

use super::PackError;
use crate::limits::Limits;

/// A stream that knows its offset and the digest of what was read.
pub(super) struct Counted<R> {
    pub(super) source: R,
    pub(super) offset: u64,
    pub(super) digest: Context,
}

impl<R: BufRead> Counted<R> {
    pub(super) fn available(&mut self) -> Result<&[u8], PackError> {
        let bytes = self.source.fill_buf().map_err(PackError::Read)?;
        if bytes.is_empty() {
            return Err(PackError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Steps over `count` bytes of what [`Self::available`] gave last.
    pub(super) fn step(&mut self, count: usize) -> Result<(), PackError> {
        if count > 0 {
            let bytes = self.source.fill_buf().map_err(PackError::Read)?;
            self.digest.update(&bytes[..count]);
            self.source.consume(count);
            self.offset += count as u64;
        }
        Ok(())
    }

    pub(super) fn byte(&mut self) -> Result<u8, PackError> {
        let byte = self.available()?[0];
        self.step(1)?;
        Ok(byte)
    }

    pub(super) fn exact(&mut self, out: &mut [u8]) -> Result<(), PackError> {
        let mut done = 0;
        while done < out.len() {
            let bytes = self.available()?;
            let count = bytes.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&bytes[..count]);
            self.step(count)?;
            done += count;
        }
        Ok(())
    }
}

/// Counts `size` bytes against the bounds before they are made.
pub(super) fn charge(
    limits: &Limits,
    inflated: &mut u64,
    index: usize,
    size: u64,
) -> Result<usize, PackError> {
    if size > limits.object {
        return Err(PackError::Object {
            index,
            stated: size,
            limit: limits.object,
        });
    }
    *inflated += size;
    if *inflated > limits.inflated {
        return Err(PackError::Inflated(limits.inflated));
    }
    usize::try_from(size).map_err(|_| PackError::Entry(index))
}
