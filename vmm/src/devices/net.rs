// SPDX-License-Identifier: Apache-2.0
//! A network card (virtio 1.2, 5.1) on a tap device, with checksum and segmentation offloads passed through.
//!
//! Frames are copied once through a buffer of ours: no pointer of the guest is given to the tap device, and a frame is
//! seen whole or not at all.

use std::io;

use racklet_api::vmm::Mac;
use racklet_linux::tap::Offloads;

use crate::memory::Memory;
use crate::virtio::{Chain, Device, Fault, Queue};

const QUEUE: u16 = 256;
const RX: usize = 0;
const TX: usize = 1;
/// `struct virtio_net_hdr_v1`, in front of every frame, towards the tap as well.
const HEADER: usize = 12;
/// The largest frame with its header: 64 KiB of IP packet, Ethernet and VLAN.
const FRAME: usize = HEADER + 65_536 + 18;
/// Most frames moved per wake-up and direction, so that a flood does not starve the other devices.
const BATCH: usize = 128;

const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
const F_MRG_RXBUF: u64 = 1 << 15;

/// Token of [`Device::host_event`]: frames wait at the tap.
pub const TAP_READY: u32 = 0;
/// Token of [`Device::host_event`]: the batch was full, go on.
pub const MORE: u32 = 1;

/// The host's side of a card: one frame with its virtio header per call, never blocking.
pub trait Tap: Send {
    /// Takes a frame; `WouldBlock` when none waits.
    fn read(&mut self, frame: &mut [u8]) -> io::Result<usize>;
    /// Gives a frame.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize>;
    /// Says what may be given.
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()>;
    /// Asks for a [`Device::host_event`] with [`MORE`] soon.
    fn again(&mut self);
}

/// A network card.
pub struct Net<T> {
    tap: T,
    config: [u8; 12],
    features: u64,
    /// The tap was told the features that the driver accepted.
    told: bool,
    /// A frame that has no room in the guest yet: its bytes in `buffer`.
    held: usize,
    buffer: Box<[u8]>,
}

impl<T: Tap> Net<T> {
    /// A card with its hardware address and the largest packet it carries.
    pub fn new(tap: T, mac: Mac, mtu: u16) -> Net<T> {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&mac.0);
        config[10..].copy_from_slice(&mtu.to_le_bytes());
        Net {
            tap,
            config,
            features: 0,
            told: false,
            held: 0,
            buffer: vec![0; FRAME].into(),
        }
    }

    /// On the event loop only: the one system call of this device that a vCPU's thread may not make.
    fn tell(&mut self) {
        if !self.told {
            self.told = true;
            let has = |f| self.features & f != 0;
            let offloads = Offloads {
                checksum: has(F_GUEST_CSUM),
                tso4: has(F_GUEST_TSO4),
                tso6: has(F_GUEST_TSO6),
            };
            // Without offloads every frame is whole and checked: slower, and right.
            let _ = self.tap.set_offloads(offloads);
        }
    }

    fn transmit(&mut self, queue: &mut Queue, memory: &Memory) -> Result<(), Fault> {
        let mut frame = [0; FRAME_ON_STACK];
        for _ in 0..BATCH {
            let Some(chain) = queue.pop(memory)? else {
                return Ok(());
            };
            let len = chain.readable_len() as usize;
            if len <= HEADER || len > FRAME {
                return Err(Fault::Malformed("frame of a possible length"));
            }
            if len <= frame.len() {
                chain.read(memory, 0, &mut frame[..len]);
                self.send(&frame[..len]);
            } else {
                let mut large = vec![0; len];
                chain.read(memory, 0, &mut large);
                self.send(&large);
            }
            queue.push(memory, &chain, 0)?;
        }
        self.tap.again();
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) {
        // A frame that the tap does not take (device down, header it refuses) is lost, as on a wire.
        let _ = self.tap.write(frame);
    }

    fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<(), Fault> {
        for _ in 0..BATCH {
            if self.held == 0 {
                match self.tap.read(&mut self.buffer) {
                    Ok(len) if len > HEADER => self.held = len,
                    Ok(_) => continue,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    // Nothing waits, or the tap is gone: either way nothing comes.
                    Err(_) => return Ok(()),
                }
            }
            if !self.deliver(queue, memory)? {
                return Ok(());
            }
            self.held = 0;
        }
        self.tap.again();
        Ok(())
    }

    /// Puts the held frame into the guest's buffers; false when there is not enough room yet.
    fn deliver(&mut self, queue: &mut Queue, memory: &Memory) -> Result<bool, Fault> {
        let start = queue.clone();
        let mut chains: Vec<Chain> = Vec::with_capacity(1);
        let mut room = 0;
        while room < self.held {
            let Some(chain) = queue.pop(memory)? else {
                // Take nothing: the buffers stay available until there are enough.
                *queue = start;
                return Ok(false);
            };
            let len = chain.writable_len() as usize;
            if len < HEADER {
                return Err(Fault::Malformed("room for a header"));
            }
            room += len;
            chains.push(chain);
            if self.features & F_MRG_RXBUF == 0 && room < self.held {
                // Too small for this frame and never larger: drop the frame, keep the buffer.
                *queue = start;
                return Ok(true);
            }
        }
        let count = u16::try_from(chains.len()).expect("a queue has at most 256 entries");
        self.buffer[10..12].copy_from_slice(&count.to_le_bytes());
        let mut done = 0;
        for chain in &chains {
            let written = chain.write(memory, 0, &self.buffer[done..self.held]);
            done += written;
            queue.add_used(
                memory,
                chain.head(),
                u32::try_from(written).expect("at most 64 KiB"),
            )?;
        }
        queue.publish(memory)?;
        Ok(true)
    }
}

/// Ordinary frames are sent from the stack; larger ones (segmentation offload) are allocated.
const FRAME_ON_STACK: usize = 2048;

impl<T: Tap> Device for Net<T> {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        let guest = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_MRG_RXBUF;
        guest | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_MAC | F_MTU
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE, QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn reset(&mut self) {
        self.features = 0;
        self.told = false;
        self.held = 0;
    }

    fn notify(&mut self, queue: usize, queues: &mut [Queue], memory: &Memory) -> Result<(), Fault> {
        self.tell();
        match queue {
            RX => self.receive(&mut queues[RX], memory),
            _ => self.transmit(&mut queues[TX], memory),
        }
    }

    fn host_event(
        &mut self,
        token: u32,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<(), Fault> {
        self.tell();
        self.receive(&mut queues[RX], memory)?;
        if token == MORE {
            self.transmit(&mut queues[TX], memory)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::virtio::driver::{Driver, test_memory};

    #[derive(Default)]
    struct Wire {
        incoming: VecDeque<Vec<u8>>,
        sent: Vec<Vec<u8>>,
        offloads: Option<Offloads>,
        again: usize,
    }

    #[derive(Clone, Default)]
    struct TestTap(Arc<Mutex<Wire>>);

    impl Tap for TestTap {
        fn read(&mut self, frame: &mut [u8]) -> io::Result<usize> {
            let next = self
                .0
                .lock()
                .unwrap()
                .incoming
                .pop_front()
                .ok_or(io::ErrorKind::WouldBlock)?;
            frame[..next.len()].copy_from_slice(&next);
            Ok(next.len())
        }
        fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().sent.push(frame.to_vec());
            Ok(frame.len())
        }
        fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
            self.0.lock().unwrap().offloads = Some(offloads);
            Ok(())
        }
        fn again(&mut self) {
            self.0.lock().unwrap().again += 1;
        }
    }

    struct Rig {
        memory: Memory,
        rx: Driver,
        tx: Driver,
        queues: [Queue; 2],
        wire: TestTap,
        card: Net<TestTap>,
    }

    fn rig(features: u64) -> Rig {
        let memory = test_memory();
        let (rx, tx) = (
            Driver::at(&memory, 8, 0x1000),
            Driver::at(&memory, 8, 0x5000),
        );
        let queues = [rx.queue(&memory), tx.queue(&memory)];
        let wire = TestTap::default();
        let mut card = Net::new(wire.clone(), Mac([2, 0, 0, 0, 0, 1]), 1500);
        card.activate(features);
        Rig {
            memory,
            rx,
            tx,
            queues,
            wire,
            card,
        }
    }

    fn frame(len: usize) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        frame.extend((0..=250).cycle().take(len));
        frame
    }

    #[test]
    fn a_frame_goes_out_whole() {
        let mut rig = rig(0);
        let bytes = frame(100);
        rig.memory
            .write_slice(&bytes[..12], GuestAddress(0x10000))
            .unwrap();
        rig.memory
            .write_slice(&bytes[12..], GuestAddress(0x11000))
            .unwrap();
        rig.tx
            .offer(&rig.memory, &[(0x10000, 12, false), (0x11000, 100, false)]);
        rig.card.notify(TX, &mut rig.queues, &rig.memory).unwrap();
        assert_eq!(rig.wire.0.lock().unwrap().sent, [bytes]);
        assert_eq!(rig.tx.collect(&rig.memory), Some((0, 0)));
    }

    #[test]
    fn a_frame_waits_for_room_and_is_spread_over_buffers() {
        let mut rig = rig(F_MRG_RXBUF | F_GUEST_CSUM);
        rig.wire.0.lock().unwrap().incoming.push_back(frame(200));
        rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
        rig.card
            .host_event(TAP_READY, &mut rig.queues, &rig.memory)
            .unwrap();
        assert_eq!(
            rig.rx.collect(&rig.memory),
            None,
            "128 bytes are not enough"
        );
        rig.rx.offer(&rig.memory, &[(0x11000, 128, true)]);
        rig.card.notify(RX, &mut rig.queues, &rig.memory).unwrap();
        assert_eq!(rig.rx.collect(&rig.memory), Some((0, 128)));
        assert_eq!(rig.rx.collect(&rig.memory), Some((1, 84)));
        let mut bytes = [0; 212];
        rig.memory
            .read_slice(&mut bytes[..128], GuestAddress(0x10000))
            .unwrap();
        rig.memory
            .read_slice(&mut bytes[128..], GuestAddress(0x11000))
            .unwrap();
        assert_eq!(bytes[10..12], [2, 0], "two buffers");
        assert_eq!(bytes[12..], frame(200)[12..]);
        let offloads = rig.wire.0.lock().unwrap().offloads;
        assert_eq!(
            offloads,
            Some(Offloads {
                checksum: true,
                tso4: false,
                tso6: false
            })
        );
    }

    #[test]
    fn without_merging_a_frame_that_does_not_fit_is_dropped_and_the_next_delivered() {
        let mut rig = rig(0);
        rig.wire
            .0
            .lock()
            .unwrap()
            .incoming
            .extend([frame(200), frame(50)]);
        rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
        rig.card
            .host_event(TAP_READY, &mut rig.queues, &rig.memory)
            .unwrap();
        assert_eq!(rig.rx.collect(&rig.memory), Some((0, 62)));
    }

    #[test]
    fn a_flood_yields_after_a_batch() {
        let mut rig = rig(0);
        rig.wire
            .0
            .lock()
            .unwrap()
            .incoming
            .extend((0..BATCH + 1).map(|_| frame(2000)));
        rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
        rig.card
            .host_event(TAP_READY, &mut rig.queues, &rig.memory)
            .unwrap();
        let wire = rig.wire.0.lock().unwrap();
        assert_eq!((wire.incoming.len(), wire.again), (1, 1));
    }

    #[test]
    fn impossible_frames_are_faults() {
        for len in [12, 1, u32::try_from(FRAME).unwrap() + 1] {
            let mut rig = rig(0);
            rig.tx.offer(&rig.memory, &[(0x10000, len, false)]);
            assert!(
                rig.card.notify(TX, &mut rig.queues, &rig.memory).is_err(),
                "{len}"
            );
            assert!(rig.wire.0.lock().unwrap().sent.is_empty());
        }
    }

    proptest! {
        #[test]
        fn every_frame_arrives_as_it_was(len in 1usize..3000, rooms in prop::collection::vec(12u32..1000, 1..8)) {
            let mut rig = rig(F_MRG_RXBUF);
            rig.wire.0.lock().unwrap().incoming.push_back(frame(len));
            for (i, room) in rooms.iter().enumerate() {
                rig.rx.offer(&rig.memory, &[(0x10000 + 0x1000 * i as u64, *room, true)]);
            }
            rig.card.host_event(TAP_READY, &mut rig.queues, &rig.memory).unwrap();
            let mut bytes = Vec::new();
            while let Some((head, len)) = rig.rx.collect(&rig.memory) {
                let mut part = vec![0; len as usize];
                rig.memory.read_slice(&mut part, GuestAddress(0x10000 + 0x1000 * u64::from(head))).unwrap();
                bytes.extend(part);
            }
            if rooms.iter().sum::<u32>() as usize >= len + HEADER {
                prop_assert_eq!(&bytes[HEADER..], &frame(len)[HEADER..]);
            } else {
                prop_assert!(bytes.is_empty());
            }
        }
    }
}
