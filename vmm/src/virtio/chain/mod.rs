// SPDX-License-Identifier: Apache-2.0
//! Descriptor chains: the one place where what a guest describes is followed and judged.
//!
//! Segments of a chain may overlap each other: a driver legitimately gives the same page twice (`readv` of a guest program
//! with the same buffer twice, the zero page in a write). It is harmless because a device copies each header once
//! and never reads back what it wrote.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::Flaw;
use crate::memory::{Memory, Segment};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: u64 = 16;

/// A request: what the device may read and what it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    /// Those to read, then those to write.
    segments: Vec<Segment>,
    /// How many of them are to read.
    readable: usize,
}

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &Memory, table: u64, index: u16) -> Result<Descriptor, Flaw> {
        let outside = |address| Flaw::OutsideMemory {
            address,
            len: DESCRIPTOR,
        };
        let address = table
            .checked_add(u64::from(index) * DESCRIPTOR)
            .ok_or(outside(table))?;
        // One copy: the guest cannot change a descriptor between its check and its use.
        let words = memory.read_obj::<[u16; 8]>(GuestAddress(address));
        let [a0, a1, a2, a3, l0, l1, flags, next] =
            words.map_err(|_| outside(address))?.map(u16::from_le);
        let word = |low, high| u32::from(low) | u32::from(high) << 16;
        Ok(Descriptor {
            address: u64::from(word(a0, a1)) | u64::from(word(a2, a3)) << 32,
            len: word(l0, l1),
            flags,
            next,
        })
    }
}

impl Chain {
    /// Follows the chain that begins at `head` of the table at `table`, which has `size` entries.
    pub fn walk(memory: &Memory, table: u64, size: u16, head: u16) -> Result<Chain, Flaw> {
        Chain::walk_into(Vec::new(), memory, table, size, head)
    }

    /// The same with a list to fill, so that requests that follow each other do not allocate.
    // untrusted: virtio_chain
    pub(super) fn walk_into(
        mut segments: Vec<Segment>,
        memory: &Memory,
        table: u64,
        size: u16,
        head: u16,
    ) -> Result<Chain, Flaw> {
        segments.clear();
        let mut chain = Chain {
            head,
            segments,
            readable: 0,
        };
        let (mut table, mut entries) = (table, size);
        let mut index = head;
        let mut indirect = false;
        // A direct chain has at most `size` descriptors, an indirect one adds its single pointer.
        for _ in 0..=size {
            if index >= entries {
                return Err(Flaw::NoSuchDescriptor(index));
            }
            let descriptor = Descriptor::read(memory, table, index)?;
            if descriptor.flags & INDIRECT != 0 {
                if indirect || descriptor.flags & NEXT != 0 || !chain.segments.is_empty() {
                    return Err(Flaw::Nested);
                }
                let len = u64::from(descriptor.len);
                if len == 0 || len % DESCRIPTOR != 0 {
                    return Err(Flaw::TableLength(descriptor.len));
                }
                (table, indirect, index) = (descriptor.address, true, 0);
                entries = u16::try_from(len / DESCRIPTOR)
                    .ok()
                    .filter(|n| *n <= size)
                    .ok_or(Flaw::ChainTooLong)?;
                continue;
            }
            chain.push(memory, &descriptor)?;
            if chain.segments.len() > usize::from(size) {
                return Err(Flaw::ChainTooLong);
            }
            if descriptor.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
        Err(Flaw::ChainTooLong)
    }

    fn push(&mut self, memory: &Memory, descriptor: &Descriptor) -> Result<(), Flaw> {
        let len = u64::from(descriptor.len);
        if len == 0 {
            return Err(Flaw::Empty);
        }
        let outside = Flaw::OutsideMemory {
            address: descriptor.address,
            len,
        };
        let address = GuestAddress(descriptor.address);
        // A segment lies within one region, so that it has one address in this process.
        memory
            .get_slice(address, usize::try_from(len).map_err(|_| outside)?)
            .map_err(|_| outside)?;
        let segment = Segment {
            address,
            len: descriptor.len,
        };
        if descriptor.flags & WRITE == 0 {
            if self.readable < self.segments.len() {
                return Err(Flaw::Direction);
            }
            self.readable += 1;
        }
        self.segments.push(segment);
        Ok(())
    }

    /// The list of its segments, to be filled again.
    pub(super) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    /// Index that gives the chain back to the driver.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes the device may read. A driver may describe the same memory many times over: a device has a bound of its own.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        total(&self.segments[..self.readable])
    }

    /// Bytes the device may write; the same holds.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        total(&self.segments[self.readable..])
    }

    /// The parts of guest memory behind `len` readable bytes from `offset`; shorter when the chain is.
    #[must_use]
    pub fn readable(&self, offset: u64, len: u64) -> Parts<'_> {
        Parts {
            segments: self.segments[..self.readable].iter(),
            skip: offset,
            left: len,
        }
    }

    /// The parts of guest memory behind `len` writable bytes from `offset`; shorter when the chain is.
    #[must_use]
    pub fn writable(&self, offset: u64, len: u64) -> Parts<'_> {
        Parts {
            segments: self.segments[self.readable..].iter(),
            skip: offset,
            left: len,
        }
    }

    /// Copies readable bytes from `offset` into `to`, and says how many there were.
    pub fn read(&self, memory: &Memory, offset: u64, to: &mut [u8]) -> usize {
        let mut done = 0;
        for segment in self.readable(offset, to.len() as u64) {
            let piece = &mut to[done..done + segment.len as usize];
            memory
                .read_slice(piece, segment.address)
                .expect("the segment was checked when the chain was walked");
            done += piece.len();
        }
        done
    }

    /// Copies `from` into writable bytes from `offset`, and says how many fitted.
    pub fn write(&self, memory: &Memory, offset: u64, from: &[u8]) -> usize {
        let mut done = 0;
        for segment in self.writable(offset, from.len() as u64) {
            let piece = &from[done..done + segment.len as usize];
            memory
                .write_slice(piece, segment.address)
                .expect("the segment was checked when the chain was walked");
            done += piece.len();
        }
        done
    }
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|s| u64::from(s.len)).sum()
}

/// Segments of a part of a chain, in order.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    segments: std::slice::Iter<'a, Segment>,
    skip: u64,
    left: u64,
}

impl Iterator for Parts<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        while self.left > 0 {
            let segment = self.segments.next()?;
            let len = u64::from(segment.len);
            if self.skip >= len {
                self.skip -= len;
                continue;
            }
            let take = (len - self.skip).min(self.left);
            let part = Segment {
                address: GuestAddress(segment.address.0 + self.skip),
                len: u32::try_from(take).expect("a part of a segment, whose length is 32 bits"),
            };
            self.skip = 0;
            self.left -= take;
            return Some(part);
        }
        None
    }
}

#[cfg(test)]
mod tests;
