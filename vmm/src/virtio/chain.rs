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
        let mut raw = [0; 16];
        let outside = Fault::OutsideMemory {
            address: table,
            len: DESCRIPTOR,
        };
        let address = table
            .checked_add(u64::from(index) * DESCRIPTOR)
            .ok_or(outside)?;
        // One copy: the guest cannot change a descriptor between its check and its use.
        memory
            .read_slice(&mut raw, GuestAddress(address))
            .map_err(|_| Fault::OutsideMemory {
                address,
                len: DESCRIPTOR,
            })?;
        let [
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            l0,
            l1,
            l2,
            l3,
            f0,
            f1,
            n0,
            n1,
        ] = raw;
        Ok(Descriptor {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::virtio::driver::{Desc, table, test_memory};

    const TABLE: u64 = 0x1000;
    const OTHER: u64 = 0x2000;

    fn walk(direct: &[Desc], indirect: &[Desc]) -> Result<Chain, Fault> {
        let memory = test_memory();
        table(&memory, TABLE, direct);
        table(&memory, OTHER, indirect);
        Chain::walk(&memory, TABLE, 4, 0)
    }

    fn readable(address: u64, len: u32) -> Desc {
        Desc {
            address,
            len,
            flags: 0,
            next: 0,
        }
    }

    fn writable(address: u64, len: u32) -> Desc {
        Desc {
            flags: WRITE,
            ..readable(address, len)
        }
    }

    fn then(desc: Desc, next: u16) -> Desc {
        Desc {
            flags: desc.flags | NEXT,
            next,
            ..desc
        }
    }

    fn pointer(len: u32) -> Desc {
        Desc {
            flags: INDIRECT,
            ..readable(OTHER, len)
        }
    }

    #[test]
    fn a_plain_chain_gives_its_parts_in_order() {
        let chain = walk(
            &[
                then(readable(0x4000, 16), 2),
                readable(0, 0),
                then(writable(0x5000, 512), 3),
                writable(0x6000, 1),
            ],
            &[],
        )
        .unwrap();
        assert_eq!((chain.readable_len(), chain.writable_len()), (16, 513));
        let seg = |address, len| Segment {
            address: GuestAddress(address),
            len,
        };
        assert_eq!(chain.writable(510, 10), [seg(0x51fe, 2), seg(0x6000, 1)]);
        assert_eq!(chain.writable(513, 1), []);
        assert_eq!(chain.readable(4, 4), [seg(0x4004, 4)]);
    }

    #[test]
    fn an_indirect_chain_is_followed_once() {
        let chain = walk(
            &[pointer(32)],
            &[then(readable(0x4000, 16), 1), writable(0x5000, 1)],
        )
        .unwrap();
        assert_eq!((chain.readable_len(), chain.writable_len()), (16, 1));
    }

    #[test]
    fn overlapping_segments_are_allowed_and_read_once_each() {
        let chain = walk(
            &[
                then(readable(0x4000, 16), 1),
                then(readable(0x4008, 16), 2),
                writable(0x4000, 32),
            ],
            &[],
        )
        .unwrap();
        let memory = test_memory();
        memory
            .write_slice(b"0123456789abcdefghijklmn", GuestAddress(0x4000))
            .unwrap();
        let mut bytes = [0; 40];
        assert_eq!(chain.read(&memory, 0, &mut bytes), 32);
        assert_eq!(&bytes[..32], b"0123456789abcdef89abcdefghijklmn");
    }

    #[test]
    fn malformed_chains_are_refused() {
        let end = 0x10_0000; // the end of the test memory
        let cases: &[(&[Desc], &[Desc], Fault)] = &[
            (&[then(readable(0x4000, 1), 0)], &[], Fault::ChainTooLong),
            (
                &[then(readable(0x4000, 1), 1), then(readable(0x4000, 1), 0)],
                &[],
                Fault::ChainTooLong,
            ),
            (
                &[then(readable(0x4000, 1), 4)],
                &[],
                Fault::NoSuchDescriptor(4),
            ),
            (&[readable(0x4000, 0)], &[], Fault::Empty),
            (
                &[readable(end, 1)],
                &[],
                Fault::OutsideMemory {
                    address: end,
                    len: 1,
                },
            ),
            (
                &[readable(end - 1, 2)],
                &[],
                Fault::OutsideMemory {
                    address: end - 1,
                    len: 2,
                },
            ),
            (
                &[readable(u64::MAX, 2)],
                &[],
                Fault::OutsideMemory {
                    address: u64::MAX,
                    len: 2,
                },
            ),
            (&[readable(0x4000, u32::MAX)], &[], Fault::TooManyBytes),
            (
                &[then(writable(0x4000, 1), 1), readable(0x5000, 1)],
                &[],
                Fault::Direction,
            ),
            (&[pointer(16)], &[pointer(16)], Fault::Nested),
            (
                &[then(pointer(16), 1), readable(0x4000, 1)],
                &[readable(0x4000, 1)],
                Fault::Nested,
            ),
            (
                &[then(readable(0x4000, 1), 1), pointer(16)],
                &[readable(0x4000, 1)],
                Fault::Nested,
            ),
            (&[pointer(0)], &[], Fault::TableLength(0)),
            (&[pointer(17)], &[], Fault::TableLength(17)),
            (&[pointer(16 * 5)], &[], Fault::ChainTooLong),
            (&[pointer(!15)], &[], Fault::ChainTooLong),
            (
                &[pointer(16)],
                &[then(readable(0x4000, 1), 1)],
                Fault::NoSuchDescriptor(1),
            ),
            (
                &[pointer(32)],
                &[then(readable(0x4000, 1), 1), then(readable(0x4000, 1), 0)],
                Fault::ChainTooLong,
            ),
            (
                &[Desc {
                    address: end - 8,
                    ..pointer(16)
                }],
                &[],
                Fault::OutsideMemory {
                    address: end - 8,
                    len: 16,
                },
            ),
            (
                &[Desc {
                    address: u64::MAX - 8,
                    ..pointer(16)
                }],
                &[],
                Fault::OutsideMemory {
                    address: u64::MAX - 8,
                    len: 16,
                },
            ),
        ];
        for (direct, indirect, fault) in cases {
            assert_eq!(
                walk(direct, indirect),
                Err(*fault),
                "{direct:?} {indirect:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_table_of_bytes_escapes_the_bounds(raw in prop::collection::vec(any::<u8>(), 512), head in any::<u16>(), near in any::<bool>()) {
            let memory = test_memory();
            let mut raw = raw;
            if near {
                // Most random addresses are far outside: fold them so that deep chains happen, too.
                for entry in raw.chunks_mut(16) {
                    entry[3..8].fill(0);
                    entry[2] &= 0x0f;
                    entry[10..12].fill(0);
                    entry[13] = 0;
                    entry[14] &= 0x0f;
                    entry[15] = 0;
                }
            }
            memory.write_slice(&raw, GuestAddress(TABLE)).unwrap();
            let head = if near { head % 16 } else { head };
            if let Ok(chain) = Chain::walk(&memory, TABLE, 16, head) {
                prop_assert!(chain.segments() <= 16);
                prop_assert!(u64::from(chain.readable_len()) + u64::from(chain.writable_len()) <= MAX_BYTES);
                for segment in chain.readable.iter().chain(&chain.writable) {
                    prop_assert!(segment.len > 0);
                    prop_assert!(memory.get_slice(segment.address, segment.len as usize).is_ok());
                }
            }
        }

        #[test]
        fn a_part_is_the_same_as_the_slice_of_all_bytes(lens in prop::collection::vec(1u32..50, 1..6), offset in 0u32..300, len in 0u32..300) {
            let mut address = 0;
            let segments: Vec<Segment> = lens.iter().map(|l| {
                address += 100;
                Segment { address: GuestAddress(address), len: *l }
            }).collect();
            let bytes = |s: &[Segment]| s.iter().flat_map(|s| (0..u64::from(s.len)).map(|i| s.address.0 + i)).collect::<Vec<_>>();
            let all = bytes(&segments);
            let from = (offset as usize).min(all.len());
            let to = (from + len as usize).min(all.len());
            prop_assert_eq!(bytes(&part(&segments, offset, len)), &all[from..to]);
        }
    }
}
