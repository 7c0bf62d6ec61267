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
    /// Gives a whole frame; one that is not taken is lost.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize>;
    /// Says what may be given.
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()>;
    /// Asks for a [`Device::host_event`] with [`MORE`] soon.
    fn again(&mut self);
}

/// A card with one pair of queues. A frame that has come and has no room in the guest is held: one at most.
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
mod tests;
