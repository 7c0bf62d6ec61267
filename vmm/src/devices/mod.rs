// SPDX-License-Identifier: Apache-2.0
//! The devices of a microVM: state machines over guest memory, queues and ports.

pub mod balloon;
pub mod block;
pub mod net;
pub mod rng;
pub mod serial;
pub mod vsock;

#[cfg(test)]
mod tests {
    use std::io;

    use racklet_api::vmm::Mac;
    use racklet_linux::tap::Offloads;
    use vm_memory::{Bytes, GuestAddress};

    use super::block::Block;
    use super::net::{Net, Tap};
    use crate::memory::Memory;
    use crate::testing::{Both, Driver, allocations, start, test_memory};
    use crate::virtio::{Device, Turn};

    type Parts<'a> = &'a [(u64, u32, bool)];

    /// Does as many rounds of a driver that offers one request on this queue as a guest does in a blink; the first few may allocate.
    fn allocations_in_rounds(device: Box<dyn Device>, queue: usize, request: Parts<'_>) -> u64 {
        let memory: Memory = test_memory();
        let mut t = Both::new(device, &memory);
        let mut drivers = [0x1000, 0x5000].map(|at| Driver::at(&memory, 128, at));
        let features = match t.get(8) {
            1 => 1 << 15, // a card's frames over several buffers
            2 => 1 << 13, // a disk's discards
            _ => 0,
        };
        let [receive, transmit] = &drivers;
        start(features, &[receive, transmit], |offset, value| {
            t.set(offset, value)
        });
        // A read of the disk's first sector is all zeros; so is a frame.
        memory.write_slice(&[0; 64], GuestAddress(0x9000)).unwrap();
        // A discard of the first eight sectors, twice.
        memory.write_obj(11_u32, GuestAddress(0x8f00)).unwrap();
        for at in [0x8f48, 0x8f58] {
            memory.write_obj(8_u32, GuestAddress(at)).unwrap();
        }
        let mut counted = 0;
        for round in 0..200 {
            drivers[queue].offer(&memory, request);
            let count = allocations(|| {
                while t.engine.notify(queue) == Turn::More {}
                while t.engine.more() == Turn::More {}
            });
            assert!(drivers[queue].collect(&memory).is_some());
            counted += if round < 20 { 0 } else { count };
        }
        counted
    }

    /// A wire on which a small frame waits whenever somebody looks, and that takes all there are.
    struct Busy(bool);

    impl Tap for Busy {
        fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize> {
            self.0 = !self.0;
            if self.0 {
                frame.resize(72, 0);
                Ok(72)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }

        fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
            Ok(frame.len())
        }

        fn set_offloads(&mut self, _: Offloads) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn neither_a_disks_request_nor_a_frame_in_either_direction_allocates() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let disk = || {
            let file = file.try_clone().unwrap();
            Box::new(Block::new(file, 1 << 20, false, "d"))
        };
        let read = [
            (0x9000, 16, false),
            (0xa000, 4096, true),
            (0xc000, 4096, true),
            (0xe000, 1, true),
        ];
        assert_eq!(allocations_in_rounds(disk(), 0, &read), 0, "a read");
        let discard = [(0x8f00, 16, false), (0x8f40, 32, false), (0xe000, 1, true)];
        assert_eq!(allocations_in_rounds(disk(), 0, &discard), 0, "a discard");
        let card = || Box::new(Net::new(Busy(false), Mac([2; 6]), 1500));
        let (buffer, frame) = ([(0xa000, 2048, true)], [(0x9000, 1514, false)]);
        assert_eq!(allocations_in_rounds(card(), 0, &buffer), 0, "received");
        assert_eq!(allocations_in_rounds(card(), 1, &frame), 0, "sent");
    }
}
