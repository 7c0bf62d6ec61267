// SPDX-License-Identifier: Apache-2.0
//! Descriptor chains: the one place where what a guest describes is followed and judged.
//!
//! Segments of a chain may overlap each other: a driver legitimately gives the same page twice (`readv` of a guest program
//! with the same buffer twice, the zero page in a write). It is harmless because a device copies each header once
//! and never reads back what it wrote.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::Fault;
use crate::memory::{Memory, Segment};

/// Most bytes of one chain. A block request of 128 segments of 64 KiB is 8 MiB; the largest network frame is 64 KiB.
pub(super) const MAX_BYTES: u64 = 1 << 26;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: u64 = 16;

/// A request: what the device may read and what it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &Memory, table: u64, index: u16) -> Result<Descriptor, Fault> {
        let outside = |address| Fault::OutsideMemory {
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
    // untrusted: virtio_chain
    pub fn walk(memory: &Memory, table: u64, size: u16, head: u16) -> Result<Chain, Fault> {
        let mut chain = Chain {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut bytes = 0;
        let (mut table, mut entries) = (table, size);
        let mut index = head;
        let mut indirect = false;
        // A direct chain has at most `size` descriptors, an indirect one adds its single pointer.
        for _ in 0..=size {
            if index >= entries {
                return Err(Fault::NoSuchDescriptor(index));
            }
            let descriptor = Descriptor::read(memory, table, index)?;
            if descriptor.flags & INDIRECT != 0 {
                if indirect || descriptor.flags & NEXT != 0 || chain.segments() != 0 {
                    return Err(Fault::Nested);
                }
                let len = u64::from(descriptor.len);
                if len == 0 || len % DESCRIPTOR != 0 {
                    return Err(Fault::TableLength(descriptor.len));
                }
                (table, indirect, index) = (descriptor.address, true, 0);
                entries = u16::try_from(len / DESCRIPTOR)
                    .ok()
                    .filter(|n| *n <= size)
                    .ok_or(Fault::ChainTooLong)?;
                continue;
            }
            chain.push(memory, &descriptor, &mut bytes)?;
            if chain.segments() > usize::from(size) {
                return Err(Fault::ChainTooLong);
            }
            if descriptor.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
        Err(Fault::ChainTooLong)
    }

    fn push(
        &mut self,
        memory: &Memory,
        descriptor: &Descriptor,
        bytes: &mut u64,
    ) -> Result<(), Fault> {
        let len = u64::from(descriptor.len);
        if len == 0 {
            return Err(Fault::Empty);
        }
        *bytes += len;
        if *bytes > MAX_BYTES {
            return Err(Fault::TooManyBytes);
        }
        let outside = Fault::OutsideMemory {
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
        if descriptor.flags & WRITE != 0 {
            self.writable.push(segment);
        } else if self.writable.is_empty() {
            self.readable.push(segment);
        } else {
            return Err(Fault::Direction);
        }
        Ok(())
    }

    fn segments(&self) -> usize {
        self.readable.len() + self.writable.len()
    }

    /// Index that gives the chain back to the driver.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u32 {
        total(&self.readable)
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        total(&self.writable)
    }

    /// The parts of guest memory behind `len` readable bytes from `offset`; shorter when the chain is.
    #[must_use]
    pub fn readable(&self, offset: u32, len: u32) -> Vec<Segment> {
        part(&self.readable, offset, len)
    }

    /// The parts of guest memory behind `len` writable bytes from `offset`; shorter when the chain is.
    #[must_use]
    pub fn writable(&self, offset: u32, len: u32) -> Vec<Segment> {
        part(&self.writable, offset, len)
    }

    /// Copies readable bytes from `offset` into `to`, and says how many there were.
    pub fn read(&self, memory: &Memory, offset: u32, to: &mut [u8]) -> usize {
        let len = u32::try_from(to.len()).unwrap_or(u32::MAX);
        let mut done = 0;
        for segment in self.readable(offset, len) {
            let piece = &mut to[done..done + segment.len as usize];
            memory
                .read_slice(piece, segment.address)
                .expect("the segment was checked when the chain was walked");
            done += piece.len();
        }
        done
    }

    /// Copies `from` into writable bytes from `offset`, and says how many fitted.
    pub fn write(&self, memory: &Memory, offset: u32, from: &[u8]) -> usize {
        let len = u32::try_from(from.len()).unwrap_or(u32::MAX);
        let mut done = 0;
        for segment in self.writable(offset, len) {
            let piece = &from[done..done + segment.len as usize];
            memory
                .write_slice(piece, segment.address)
                .expect("the segment was checked when the chain was walked");
            done += piece.len();
        }
        done
    }
}

fn total(segments: &[Segment]) -> u32 {
    // Bounded by MAX_BYTES, which fits.
    segments.iter().map(|s| s.len).sum()
}

fn part(segments: &[Segment], offset: u32, len: u32) -> Vec<Segment> {
    let (mut skip, mut left) = (offset, len);
    let mut parts = Vec::with_capacity(segments.len());
    for segment in segments {
        if skip >= segment.len {
            skip -= segment.len;
            continue;
        }
        if left == 0 {
            break;
        }
        let len = (segment.len - skip).min(left);
        parts.push(Segment {
            address: GuestAddress(segment.address.0 + u64::from(skip)),
            len,
        });
        skip = 0;
        left -= len;
    }
    parts
}

#[cfg(test)]
mod tests;
