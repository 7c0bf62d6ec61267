// SPDX-License-Identifier: Apache-2.0
//! A driver for tests: lays out tables and rings in guest memory as a guest would.

use vm_memory::{Bytes, GuestAddress};

use crate::memory::Memory;
use crate::virtio::Queue;

/// One MiB from address 0.
pub(crate) fn test_memory() -> Memory {
    crate::memory::map(&[(0, 1 << 20)]).expect("a MiB can be mapped")
}

/// A descriptor as it lies in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desc {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

/// Writes a descriptor table.
pub(crate) fn table(memory: &Memory, at: u64, descriptors: &[Desc]) {
    for (i, d) in descriptors.iter().enumerate() {
        let mut raw = Vec::new();
        raw.extend(d.address.to_le_bytes());
        raw.extend(d.len.to_le_bytes());
        raw.extend(d.flags.to_le_bytes());
        raw.extend(d.next.to_le_bytes());
        memory
            .write_slice(&raw, GuestAddress(at + 16 * i as u64))
            .unwrap();
    }
}

/// The driver's half of one queue.
pub(crate) struct Driver {
    base: u64,
    /// From one ring to the next.
    step: u64,
    size: u16,
    next: u16,
    available: u16,
    seen: u16,
}

impl Driver {
    /// A queue of `size` entries with its rings from 0x1000 on.
    pub(crate) fn new(memory: &Memory, size: u16) -> Driver {
        Driver::at(memory, size, 0x1000)
    }

    /// The same with the rings elsewhere (16 KiB are used).
    pub(crate) fn at(memory: &Memory, size: u16, base: u64) -> Driver {
        memory
            .write_slice(&[0; 0x4000], GuestAddress(base))
            .unwrap();
        Driver {
            base,
            step: 0x1000,
            size,
            next: 0,
            available: 0,
            seen: 0,
        }
    }

    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// A queue of 8 entries whose rings are within 1 KiB.
    pub(crate) fn small(memory: &Memory, base: u64) -> Driver {
        Driver {
            step: 0x100,
            ..Driver::at(memory, 8, base)
        }
    }

    /// Where the rings are: descriptors, available, used.
    pub(crate) fn rings(&self) -> [u64; 3] {
        [0, 1, 2].map(|ring| self.base + ring * self.step)
    }

    /// The device's half, switched on.
    pub(crate) fn queue(&self, memory: &Memory) -> Queue {
        Queue::enabled(memory, self.size, self.rings())
    }

    /// Makes a chain of (address, length, device may write) available.
    pub(crate) fn offer(&mut self, memory: &Memory, parts: &[(u64, u32, bool)]) {
        let head = self.next;
        for (i, (address, len, write)) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let index = self.next;
            self.next = (self.next + 1) % self.size;
            let flags = u16::from(!last) | if *write { 2 } else { 0 };
            let at = self.base + 16 * u64::from(index);
            table(
                memory,
                at,
                &[Desc {
                    address: *address,
                    len: *len,
                    flags,
                    next: self.next,
                }],
            );
        }
        let [_, available, _] = self.rings();
        let slot = available + 4 + 2 * u64::from(self.available % self.size);
        memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.set_available_index(memory, self.available);
    }

    pub(crate) fn set_available_index(&self, memory: &Memory, index: u16) {
        memory
            .write_obj(index.to_le(), GuestAddress(self.rings()[1] + 2))
            .unwrap();
    }

    /// Says when an interrupt is wanted: at used index `at`, or never without event indices.
    pub(crate) fn wish(&self, memory: &Memory, event_index: bool, at: u16) {
        let available = self.rings()[1];
        if event_index {
            memory
                .write_obj(
                    at.to_le(),
                    GuestAddress(available + 4 + 2 * u64::from(self.size)),
                )
                .unwrap();
        } else {
            memory
                .write_obj(1u16.to_le(), GuestAddress(available))
                .unwrap();
        }
    }

    /// The next chain the device gave back: its head and length.
    pub(crate) fn collect(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        let used = self.rings()[2];
        let index: u16 = memory.read_obj(GuestAddress(used + 2)).unwrap();
        if index == self.seen {
            return None;
        }
        let entry = used + 4 + 8 * u64::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        let head: u32 = memory.read_obj(GuestAddress(entry)).unwrap();
        Some((
            u16::try_from(head).unwrap(),
            memory.read_obj(GuestAddress(entry + 4)).unwrap(),
        ))
    }
}
